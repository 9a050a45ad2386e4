"""`gwanmun guard`: a guard's orders at the gate itself, through the agent's control socket (gate_agent.control)."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gate_agent.control import ALL, MAX_LINE

DEFAULT_SOCKET = Path("/run/gwanmun/gate/control")
TIMEOUT_S = 10.0
EXIT_REFUSED = 1
EXIT_USAGE = 2

VERBS: Mapping[str, str] = {
    "status": "통로의 상태 / states of the lanes",
    "lockdown": "봉쇄: 들어올 수 없고 나갈 수 있음 / lockdown: no entry, exit as ever",
    "release": "봉쇄 해제 / end the lockdown",
    "free": "자유 통행 / open to all",
    "end_free": "자유 통행 끝 / end of open to all",
    "disable": "사용 중지 / take out of service",
    "enable": "다시 사용 / put back into service",
    "acknowledge": "경보 확인 / acknowledge an alarm",
    "reset": "화재 신호가 정상일 때 통로를 되돌림 / reset after a fire, with the line healthy",
    "forgive": "다음 사람의 재진입을 한 번 허용 / forgive the next person's anti-passback once",
    "forgive_zone": "구역 전체의 재진입 기록을 지움 / forgive anti-passback for the whole zone",
    "confirm_clock": "게이트의 시각이 맞음을 확인 / confirm that the gate's time is right",
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="gwanmun guard",
        description="게이트에서 내리는 경비원의 지시 / a guard's orders at the gate itself",
        epilog="종료 코드 / exit status: 0 수행 done, 1 거절 refused, 2 사용법 usage",
    )
    top.add_argument(
        "--socket",
        type=Path,
        default=DEFAULT_SOCKET,
        metavar="PATH",
        help=f"에이전트의 제어 소켓 / the agent's control socket ({DEFAULT_SOCKET})",
    )
    top.add_argument("--json", action="store_true", help="JSON으로 출력 / print JSON")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", title="지시 / orders")
    for verb, summary in VERBS.items():
        sub = verbs.add_parser(verb.replace("_", "-"), help=summary, description=summary)
        sub.set_defaults(word=verb)
        if verb == "status":
            continue
        if verb == "confirm_clock":
            sub.add_argument(
                "--time",
                required=True,
                metavar="TIME",
                help="지금 시각, 예: 2026-11-24T09:00:00+09:00 / the time now, with its offset",
            )
            continue
        if verb == "forgive_zone":
            sub.add_argument("--zone", required=True, metavar="ZONE", help="구역 이름 / name of the zone")
            continue
        sub.add_argument(
            "--lane", default=ALL, metavar="LANE", help="통로 이름(없으면 모두) / name of a lane (left out: every lane)"
        )
        if verb == "lockdown":
            sub.add_argument(
                "--level", type=int, default=1, choices=range(1, 10), metavar="1-9", help="단계 / level, 1 to 9"
            )
    return top


def ask(path: Path, request: Mapping[str, Any]) -> Any:
    """One request and its answer. Raises OSError or ValueError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(TIMEOUT_S)
        client.connect(str(path))
        client.sendall(json.dumps(request).encode() + b"\n")
        with client.makefile("rb") as lines:
            return json.loads(lines.readline(16 * MAX_LINE))


def main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    request: dict[str, Any] = {"verb": arguments.word, "lane": getattr(arguments, "lane", ALL)}
    for name in ("level", "zone", "time"):
        if hasattr(arguments, name):
            request[name] = getattr(arguments, name)
    try:
        answer = ask(arguments.socket, request)
    except (OSError, ValueError) as error:
        sys.stderr.write(
            f"gwanmun: 에이전트에 닿지 않습니다: {arguments.socket} ({error})\n"
            f"gwanmun: the agent cannot be reached at {arguments.socket}: is it running, and are you in its group?\n"
        )
        return EXIT_USAGE
    if arguments.json:
        sys.stdout.write(json.dumps(answer, ensure_ascii=False, indent=1) + "\n")
    else:
        sys.stdout.write(_readable(answer) + "\n")
    if "error" in answer:
        return EXIT_USAGE
    return EXIT_REFUSED if any(why is not None for why in answer.get("results", {}).values()) else 0


def _readable(answer: Mapping[str, Any]) -> str:
    if "error" in answer:
        return f"거절 / not taken: {answer['error']}"
    if "results" in answer:
        return "\n".join(
            f"{lane:<20} {'완료 / done' if why is None else f'거절 / refused: {why}'}"
            for lane, why in answer["results"].items()
        )
    lines = [f"{'통로 lane':<20} {'상태 state':<16} {'지시 orders':<24} 이상 degraded"]
    for lane, each in answer["lanes"].items():
        orders = ", ".join(each["orders"]) or "-"
        lines.append(f"{lane:<20} {each['state']:<16} {orders:<24} {', '.join(each['degraded']) or '-'}")
    lines.append(f"{'이상 degraded':<19} {', '.join(answer['degraded']) or '-'}")
    clock = answer["clock"]
    lines.append(f"{'시계 clock':<20} {clock['quality']:<16} {clock['detail']}")
    return "\n".join(lines)
