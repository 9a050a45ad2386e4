"""`gwanmun controller`: run the building controller, or give an order through the one that runs.

    gwanmun controller --config FILE                        runs it
    gwanmun controller command --config FILE VERB …         an order, through its API on loopback
    gwanmun controller deletions --config FILE              what retention removed (gwanmun.backup_cli)
    gwanmun controller passages --config FILE …             exact times of passages, for a security officer
    gwanmun controller reads --config FILE                  who read exact times of passages
    gwanmun controller webhooks --config FILE               how far its webhooks are (gwanmun.webhooks_cli)
    gwanmun controller alarms --config FILE …               alarms that are open; acknowledge or clear one

No secret stands on a command line: the API's token is read from the controller's state directory, and a second operator's key
from its file, which the controller never sees.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from controller.commands import DONE, NO_ANSWER
from controller.config import ConfigError
from controller.main import run
from gwanmun import alarms_cli, passages_cli, reads_cli, webhooks_cli
from gwanmun.controller_client import Api, UsageError, connect, refusal
from protocol import command as wire
from protocol.command import ALL, EMERGENCY, OF_THE_GATE, TWO_OPERATORS, CommandVerb, OpenReason
from protocol.emergency import MAX_LEVEL

EXIT_DONE, EXIT_REFUSED, EXIT_USAGE, EXIT_NO_ANSWER = 0, 1, 2, 3
COMMAND, ALARMS, DELETIONS, READS, PASSAGES = "command", "alarms", "deletions", "reads", "passages"

VERBS: Mapping[str, str] = {
    CommandVerb.OPEN_ONCE: "한 사람을 한 번 통과시킴 / let one person through once",
    CommandVerb.FREE: "자유 통행(두 운영자) / open to all (two operators)",
    CommandVerb.END_FREE: "자유 통행 끝 / end of open to all",
    CommandVerb.LOCKDOWN: "봉쇄: 들어올 수 없고 나갈 수 있음 / lockdown: no entry, exit as ever",
    CommandVerb.RELEASE: "봉쇄 해제 / end the lockdown",
    CommandVerb.DISABLE: "사용 중지 / take out of service",
    CommandVerb.ENABLE: "다시 사용 / put back into service",
    CommandVerb.ACKNOWLEDGE: "경보 확인 / acknowledge an alarm",
    CommandVerb.FORGIVE: "다음 사람의 재진입을 한 번 허용 / forgive the next person's anti-passback once",
    CommandVerb.FORGIVE_ZONE: "구역 전체의 재진입 기록을 지움 / forgive anti-passback for the whole zone",
    CommandVerb.REFRESH: "규칙과 신뢰 자료를 다시 읽음 / read rules and trust data anew",
    CommandVerb.REPLAY: "기록을 다시 보냄 / send records again",
    CommandVerb.RESTART: "게이트 프로그램을 다시 시작 / start the gate's program again",
    EMERGENCY: "건물 비상 상태: 구역의 봉쇄 단계 / emergency state of the site: a zone's lockdown level",
}


def main(argv: Sequence[str]) -> int:
    if argv[:1] == [COMMAND]:
        return command(argv[1:])
    if argv[:1] == [DELETIONS]:
        from gwanmun.backup_cli import deletions

        return deletions(argv[1:])
    if argv[:1] == [ALARMS]:
        return alarms_cli.main(argv[1:])
    if argv[:1] == [READS]:
        return reads_cli.main(argv[1:])
    if argv[:1] == [webhooks_cli.WEBHOOKS]:
        return webhooks_cli.main(argv[1:])
    if argv[:1] == [PASSAGES]:
        return passages_cli.main(argv[1:])
    return run(_server_parser().parse_args(argv).config)


def command(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 refused, 2 wrong usage or no controller, 3 nobody knows."""
    options = _command_parser().parse_args(argv)
    try:
        api = connect(options.config, options.url)
        status, answer = _emergency(api, options) if options.word == EMERGENCY else _order(api, options)
    except ConfigError as error:
        print(error.text(), file=sys.stderr)
        return EXIT_USAGE
    except UsageError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if status != 200:
        ko, en = refusal(answer)
        print(f"받아들여지지 않았습니다: {ko}\nnot taken: {en}", file=sys.stderr)
        return EXIT_USAGE
    if options.json:
        print(json.dumps(answer, ensure_ascii=False))
    else:
        _show(answer)
    return {DONE: EXIT_DONE, NO_ANSWER: EXIT_NO_ANSWER}.get(answer["outcome"], EXIT_REFUSED)


def _order(api: Api, options: argparse.Namespace) -> tuple[int, Any]:
    body: dict[str, Any] = {
        "gate": options.gate,
        "lane": options.lane,
        "verb": options.word,
        "operator": options.operator,
        "role": options.role,
        "args": {name: value for name, key in _ARGS.items() if (value := getattr(options, key, None)) is not None},
    }
    if options.word not in TWO_OPERATORS:
        return api.post("/api/v1/commands", body)
    key = _key(options.second_key)
    body["second"] = {"operator": options.second, "role": options.second_role}
    status, answer = api.post("/api/v1/commands", body)
    if status != 202:
        return status, answer
    sealed = wire.seal(wire.from_text(answer["sign"]), key)
    return api.post(f"/api/v1/commands/{answer['id']}/second", {"sealed": sealed})


def _emergency(api: Api, options: argparse.Namespace) -> tuple[int, Any]:
    levels = dict.fromkeys(options.zone, options.level)
    return api.post("/api/v1/emergency", {"levels": levels, "operator": options.operator, "role": options.role})


_ARGS = {
    "reason": "reason",
    "dir": "dir",
    "level": "level",
    "zone": "zone",
    "epoch": "epoch",
    "from": "first",
    "to": "last",
}
"""Argument of the order: attribute of the command line."""


def _show(answer: Mapping[str, Any]) -> None:
    words = {
        "done": "수행됨 / done",
        "refused": "거절됨 / refused",
        "no_answer": "응답 없음: 수행되었는지 알 수 없음 / no answer: nobody knows whether it was done",
        "not_sent": "보내지 못함 / not sent",
    }
    reason = f" ({answer['reason']})" if answer.get("reason") else ""
    print(f"{answer['id']}  {words.get(answer['outcome'], answer['outcome'])}{reason}")
    for lane, why in answer.get("results", {}).items():
        print(f"  {lane:<24} {'수행됨 / done' if why is None else why}")


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Raises UsageError."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(
            f"타원곡선 개인키(PEM)가 있어야 합니다: {path}\n{path}: a PEM elliptic-curve private key is expected"
        )
    return key


def _server_parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="gwanmun controller",
        description="건물 관제 서버를 실행합니다 / run the building controller",
        epilog="지시를 내리려면 / to give an order: gwanmun controller command --help; "
        "지운 것을 보려면 / to see what was removed: gwanmun controller deletions --help; "
        "웹훅 / webhooks: gwanmun controller webhooks --help; "
        "경보를 보려면 / to see alarms: gwanmun controller alarms --help; "
        "정확한 시각(보안 담당관) / exact times (security officer): gwanmun controller passages --help; "
        "정확한 시각을 본 기록 / who read exact times: gwanmun controller reads --help",
    )
    top.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="설정 파일 (TOML) / configuration file (TOML)"
    )
    return top


def _command_parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="gwanmun controller command",
        description="실행 중인 관제 서버를 통해 게이트에 지시합니다 / give an order to a gate through the running controller",
        epilog="종료 코드 / exit status: 0 수행 done, 1 거절 refused, 2 사용법 usage, 3 응답 없음 no answer",
    )
    top.add_argument("--config", type=Path, required=True, metavar="FILE", help="controller.toml")
    top.add_argument("--url", metavar="URL", help="관제 서버의 주소(포트가 0일 때) / its address, where its port is 0")
    top.add_argument("--json", action="store_true", help="JSON으로 출력 / print JSON")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", title="지시 / orders")
    for verb, summary in VERBS.items():
        sub = verbs.add_parser(str(verb).replace("_", "-"), help=summary, description=summary)
        sub.set_defaults(word=str(verb))
        sub.add_argument("--operator", required=True, metavar="NAME", help="지시하는 사람 / who orders")
        sub.add_argument("--role", required=True, metavar="ROLE", help="역할 / their role")
        if verb == EMERGENCY:
            sub.add_argument("--zone", required=True, action="append", metavar="ZONE", help="구역 / zone")
            level = f"단계 / level, 0-{MAX_LEVEL} (0: 해제 / released)"
            sub.add_argument("--level", required=True, type=int, metavar="N", help=level)
            continue
        sub.add_argument("--gate", required=True, metavar="GATE", help="게이트 / gate")
        _own_arguments(sub, CommandVerb(verb))
    return top


def _own_arguments(sub: argparse.ArgumentParser, verb: CommandVerb) -> None:
    if verb in OF_THE_GATE:
        sub.set_defaults(lane=ALL)
    elif verb is CommandVerb.OPEN_ONCE:
        sub.add_argument("--lane", required=True, metavar="LANE", help="통로 / lane")
        sub.add_argument("--reason", required=True, choices=[each.value for each in OpenReason], help="사유 / reason")
        sub.add_argument("--dir", choices=["in", "out"], help="방향 / direction (in)")
    else:
        sub.add_argument("--lane", default=ALL, metavar="LANE", help="통로, 없으면 모두 / lane; left out: all")
    if verb is CommandVerb.LOCKDOWN:
        sub.add_argument("--level", type=int, metavar="N", help=f"단계 / level, 1-{MAX_LEVEL} (1)")
    elif verb is CommandVerb.FORGIVE_ZONE:
        sub.add_argument("--zone", required=True, metavar="ZONE", help="구역 / zone")
    elif verb is CommandVerb.REPLAY:
        sub.add_argument("--epoch", required=True, metavar="EPOCH", help="저장 시대 / storage epoch")
        sub.add_argument("--from", dest="first", required=True, type=int, metavar="N", help="처음 번호 / first number")
        sub.add_argument("--to", dest="last", required=True, type=int, metavar="N", help="마지막 번호 / last number")
    if verb in TWO_OPERATORS:
        sub.add_argument("--second", required=True, metavar="NAME", help="두 번째 운영자 / second operator")
        sub.add_argument("--second-role", required=True, metavar="ROLE", help="그 역할 / their role")
        sub.add_argument(
            "--second-key",
            required=True,
            type=Path,
            metavar="PEM",
            help="그 사람의 개인키 파일 / file of their private key",
        )
