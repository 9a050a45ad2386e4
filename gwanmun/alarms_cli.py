"""`gwanmun controller alarms`: what is open, and acknowledging or clearing one, through the controller that runs.

gwanmun controller alarms --config FILE                                                      lists
gwanmun controller alarms --config FILE acknowledge ID --operator NAME --role ROLE           somebody has looked
gwanmun controller alarms --config FILE clear ID --operator NAME --role ROLE                 ends one
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controller.config import ConfigError
from gwanmun.controller_client import UsageError, connect, refusal

EXIT_DONE, EXIT_REFUSED, EXIT_USAGE = 0, 1, 2
SEVERITIES = {"critical": "위급 critical", "major": "중대 major", "minor": "경미 minor", "warning": "주의 warning"}
STATES = {
    "raised": "진행 중, 미확인 / going on, not acknowledged",
    "acknowledged": "진행 중, 확인됨 / going on, acknowledged",
    "cleared": "끝남, 미확인 / over, not acknowledged",
    "closed": "닫힘 / closed",
}


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 refused by the controller, 2 wrong usage or no controller."""
    options = _parser().parse_args(argv)
    try:
        api = connect(options.config, options.url)
        if options.verb is None:
            status, answer = api.get("/api/v1/alarms/open")
        else:
            who = {"operator": options.operator, "role": options.role}
            status, answer = api.post(f"/api/v1/alarms/{options.id}/{options.verb}", who)
    except ConfigError as error:
        print(error.text(), file=sys.stderr)
        return EXIT_USAGE
    except UsageError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if status != 200:
        ko, en = refusal(answer)
        print(f"받아들여지지 않았습니다: {ko}\nnot taken: {en}", file=sys.stderr)
        return EXIT_REFUSED
    if options.json:
        print(json.dumps(answer, ensure_ascii=False))
        return EXIT_DONE
    alarms = answer["alarms"] if options.verb is None else [answer["alarm"]]
    for alarm in alarms:
        _show(alarm)
    if not alarms:
        print("열린 경보가 없습니다.\nno alarm is open")
    return EXIT_DONE


def _show(alarm: Mapping[str, Any]) -> None:
    where = " ".join(str(alarm[name]) for name in ("gate", "lane", "detail") if alarm[name]) or "controller"
    count = f" ×{alarm['count']}" if alarm["count"] > 1 else ""
    name, advice = alarm["name"], alarm["advice"]
    print(
        f"{alarm['alarm']}  [{SEVERITIES.get(alarm['severity'], alarm['severity'])}] {name['ko']} / {name['en']}{count}"
    )
    print(f"    {where}  {alarm['raised']}  {STATES.get(alarm['state'], alarm['state'])}")
    print(f"    {advice['ko']} / {advice['en']}")


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="gwanmun controller alarms",
        description="열린 경보를 보고, 확인하거나 해제합니다 / open alarms: see, acknowledge or clear them",
        epilog="종료 코드 / exit status: 0 수행 done, 1 거절 refused, 2 사용법 usage",
    )
    top.add_argument("--config", type=Path, required=True, metavar="FILE", help="controller.toml")
    top.add_argument("--url", metavar="URL", help="관제 서버의 주소(포트가 0일 때) / its address, where its port is 0")
    top.add_argument("--json", action="store_true", help="JSON으로 출력 / print JSON")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", title="없으면 목록 / left out: the list")
    for verb, summary in {
        "acknowledge": "확인: 누군가 살펴봄 / somebody has looked",
        "clear": "해제: 스스로 끝나지 않는 경보를 끝냄 / end an alarm that does not end by itself",
    }.items():
        sub = verbs.add_parser(verb, help=summary, description=summary)
        sub.add_argument("id", type=int, metavar="ID", help="경보 번호 / number of the alarm")
        sub.add_argument("--operator", required=True, metavar="NAME", help="누가 / who")
        sub.add_argument("--role", required=True, metavar="ROLE", help="역할 / their role")
    return top
