"""`gwanmun controller passages`: exact times of passages, for a security officer, through the controller that runs.

The question is written down before it is answered (`gwanmun controller reads` shows the log). The token is that of officers, read
from the controller's state directory; who may read that file may ask.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controller.config import ConfigError, load_place
from controller.reads import ROLE, ReadReason
from gwanmun.controller_client import UsageError, connect, refusal

EXIT_DONE, EXIT_REFUSED, EXIT_USAGE = 0, 1, 2
COLUMNS = (
    "시각 time",
    "게이트 gate",
    "통로 lane",
    "방향 dir",
    "사건 event",
    "사유 reason",
    "매체 carrier",
    "시도 attempt",
)
SHOWN = ("time", "gate", "lane", "dir", "kind", "reason", "carrier", "attempt")
ASKED = ("operator", "role", "reason", "reference", "since", "until", "gate", "lane", "kind", "after", "limit")
"""Of the command line, what goes into the question."""


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 answered, 1 refused by the controller, 2 wrong usage or no controller."""
    options = _parser().parse_args(argv)
    body = {name: value for name in ASKED if (value := getattr(options, name)) is not None}
    try:
        api = connect(options.config, options.url, load_place(options.config).officer_token)
        status, answer = api.post("/api/v1/passages/query", body)
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
    else:
        _show(answer)
    return EXIT_DONE


def _show(answer: Mapping[str, Any]) -> None:
    print("\t".join(COLUMNS))
    for event in answer["events"]:
        print("\t".join(_plain(event[name]) for name in SHOWN))
    print(f"열람 {answer['read']}번으로 기록했습니다 / written down as read {answer['read']}", file=sys.stderr)
    if answer["next"] is not None:
        print(f"더 있습니다 / there are more: --after {answer['next']}", file=sys.stderr)


def _plain(value: object) -> str:
    """What came from a gate moves no cursor of a terminal."""
    text = "" if value is None else str(value)
    return "".join(each if each.isprintable() else "?" for each in text)


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="gwanmun controller passages",
        description="정확한 통과 시각을 봅니다. 보안 담당관만, 사유를 남기고 / "
        "exact times of passages, for a security officer who gives a reason",
        epilog="종료 코드 / exit status: 0 답함 answered, 1 거절 refused, 2 사용법 usage",
    )
    top.add_argument("--config", type=Path, required=True, metavar="FILE", help="controller.toml")
    top.add_argument("--url", metavar="URL", help="관제 서버의 주소(포트가 0일 때) / its address, where its port is 0")
    top.add_argument("--json", action="store_true", help="JSON으로 출력 / print JSON")
    top.add_argument("--operator", required=True, metavar="NAME", help="누가 보는지 / who looks")
    top.add_argument("--role", default=ROLE, metavar="ROLE", help=f"역할 / their role ({ROLE})")
    top.add_argument("--reason", required=True, choices=[each.value for each in ReadReason], help="사유 / why")
    top.add_argument("--reference", required=True, metavar="TEXT", help="근거 문서 번호 / what the reason is about")
    for name, summary in {
        "since": "여기부터(RFC 3339) / from here on",
        "until": "여기까지, 하루 안 / up to here, a day at most",
    }.items():
        top.add_argument(f"--{name}", required=True, metavar="TIME", help=summary)
    top.add_argument("--gate", metavar="GATE", help="게이트 / gate")
    top.add_argument("--lane", metavar="LANE", help="통로 / lane")
    top.add_argument("--kind", action="append", metavar="NAME", help="사건 이름 / name of an event (docs/events.md)")
    top.add_argument("--after", metavar="CURSOR", help="다음 쪽 / the next page")
    top.add_argument("--limit", type=int, metavar="N", help="한 쪽의 건수 / rows of a page, 1-500 (100)")
    return top
