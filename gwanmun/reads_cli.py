"""`gwanmun controller reads`: who read exact times of passages, and whether the log of it is whole.

Reads the database as it is, beside the running controller. Exit status: 0 whole, 1 a row was changed or is missing, 2 wrong
command line or no database.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from controller.config import ConfigError, load_place
from controller.reads import ReadRow, broken, removed, rows

EXIT_WHOLE, EXIT_BROKEN, EXIT_USAGE = 0, 1, 2
LAST = 100
MAX_LAST = 100_000
COLUMNS = ("번호 number", "시각 time", "운영자 operator", "사유 reason", "근거 reference", "질문 query")


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    try:
        database = load_place(options.config).database
    except ConfigError as error:
        print(error.text(), file=sys.stderr)
        return EXIT_USAGE
    shown: deque[ReadRow] = deque(maxlen=options.last)
    count = 0

    def watched(found: Iterator[ReadRow]) -> Iterator[ReadRow]:
        nonlocal count
        for row in found:
            count += 1
            shown.append(row)
            yield row

    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            gone = removed(connection)
            number = broken(watched(rows(connection)), gone)
    except sqlite3.Error as error:
        print(f"데이터베이스를 읽을 수 없습니다: {database}\n{database}: cannot be read: {error}", file=sys.stderr)
        return EXIT_USAGE
    if options.json:
        print(json.dumps({"whole": number is None, "broken": number, "reads": [asdict(row) for row in shown]}))
    else:
        _show(shown, count, gone[0], number)
    return EXIT_WHOLE if number is None else EXIT_BROKEN


def _show(shown: Sequence[ReadRow] | deque[ReadRow], count: int, gone: int, number: int | None) -> None:
    print("\t".join(COLUMNS))
    for row in shown:
        print("\t".join((str(row.number), row.time, row.operator, row.reason, row.reference, row.query)))
    if number is None:
        print(f"열람 {count}건, 빠지거나 바뀐 것 없음. 기한이 지나 지운 것 {gone}건")
        print(f"{count} reads, none missing or changed; {gone} removed after their time")
    else:
        print(
            f"{number}번에서 사슬이 끊겼습니다: 바뀌었거나 빠졌습니다\n"
            f"the chain breaks at {number}: it was changed, or one before it is missing",
            file=sys.stderr,
        )


def _last(text: str) -> int:
    value = int(text)
    if not 1 <= value <= MAX_LAST:
        raise ValueError
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gwanmun controller reads",
        description="누가 정확한 통과 시각을 보았는지 보이고 기록의 사슬을 확인합니다 / "
        "who read exact times of passages, and whether that log is whole",
        epilog="종료 코드 / exit status: 0 온전함 whole, 1 끊김 broken, 2 사용법 usage",
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="controller.toml")
    parser.add_argument("--last", type=_last, default=LAST, metavar="N", help=f"보일 건수 / how many to show ({LAST})")
    parser.add_argument("--json", action="store_true", help="JSON으로 출력 / print JSON")
    return parser
