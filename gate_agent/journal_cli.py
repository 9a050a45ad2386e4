"""`gwanmun journal`: verify a journal, export its records, begin a new one. The first two only read, beside a running agent."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, TextIO

from gate_agent import chain, salvage
from gate_agent.chain import Problem, Report, What
from gate_agent.config import GatePlace, place
from gate_agent.journal import FILE
from gate_agent.keys import public_key
from gate_agent.record import DamagedError
from gate_agent.store import TAIL, Store
from gate_agent.timekeeping import boottime
from mdoc.cose import PublicKey
from policy.situation import ClockQuality
from protocol import events
from protocol.clock import Clock, SystemClock, rfc3339
from protocol.toml import ConfigError

EXIT_PROBLEM, EXIT_UNUSABLE = 1, 2
COLUMNS = ("seq", "time", "type", "lane", "dir", "attempt", "reason", "hash", "data")

_WORDS = {
    What.MISSING: ("없음", "missing"),
    What.CHANGED: ("바뀜", "changed"),
    What.REPLACED: ("다른 기록으로 바뀌었거나 순서가 바뀜", "replaced by another, or reordered"),
    What.LINK: ("둘 중 하나가 바뀜", "one of the two is changed"),
    What.UNEXPLAINED: ("없고, 서명된 설명도 없음", "gone, and no signed record says why"),
    What.STATEMENT: ("게이트의 서명된 진술이 맞지 않음", "what the gate states here does not hold"),
    What.UNREADABLE: ("여기부터 읽을 수 없음", "unreadable from here on"),
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="gwanmun journal",
        description="게이트의 저널을 검사하고 내보냅니다 / verify and export a gate's journal",
        epilog="종료 코드 / exit status: 0 온전함 whole, 1 문제 발견 a problem was found, 2 쓸 수 없음 unusable",
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", title="명령 / commands")
    help_of = {
        "verify": "모든 기록의 사슬과 서명을 검사 / check the chain and the signatures of every record",
        "export": "기록을 표준 출력으로 / records to standard output",
        "set-aside": "에이전트를 멈춘 뒤, 저널을 따로 두고 새로 시작 / with the agent stopped: set it aside and begin a new one",
    }
    verify = verbs.add_parser("verify", help=help_of["verify"], description=help_of["verify"])
    verify.add_argument("file", type=Path, metavar="FILE", help="저널 / the journal")
    verify.add_argument(
        "--key",
        type=Path,
        metavar="PEM",
        help="게이트의 공개키. 없으면 서명은 보지 않음 / the gate's public key; without it signatures are not checked",
    )
    export = verbs.add_parser("export", help=help_of["export"], description=help_of["export"])
    export.add_argument("file", type=Path, metavar="FILE", help="저널 / the journal")
    export.add_argument("--from", dest="first", type=int, default=1, metavar="N", help="처음 번호 / first record")
    export.add_argument("--to", dest="last", type=int, default=2**63 - 1, metavar="N", help="끝 번호 / last record")
    export.add_argument(
        "--format",
        choices=("jsonl", "csv"),
        default="jsonl",
        help="jsonl: 한 줄에 기록 하나, 바이트 그대로 / one record a line, its exact bytes (default)",
    )
    aside = verbs.add_parser("set-aside", help=help_of["set-aside"], description=help_of["set-aside"])
    aside.add_argument("--config", type=Path, required=True, metavar="FILE", help="gate.toml")
    return top


def main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    try:
        if arguments.verb == "verify":
            key = None if arguments.key is None else public_key(arguments.key)
            return verify(arguments.file, key, sys.stdout)
        if arguments.verb == "export":
            sys.stdout.flush()
            return export(arguments.file, arguments.first, arguments.last, arguments.format, sys.stdout.buffer)
        return set_aside(place(arguments.config), SystemClock(), sys.stdout)
    except BrokenPipeError:
        # Whoever read it has had enough. Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ConfigError as error:
        sys.stderr.write(error.text() + "\n")
        return EXIT_UNUSABLE
    except (OSError, sqlite3.Error, DamagedError) as error:
        sys.stderr.write(f"gwanmun: 저널을 쓸 수 없습니다: {error}\ngwanmun: the journal cannot be used: {error}\n")
        return EXIT_UNUSABLE


def verify(path: Path, key: PublicKey | None, out: TextIO) -> int:
    """Raises OSError, sqlite3.Error or DamagedError."""
    report = chain.verify(path, key)
    out.write("\n".join(_lines(report, signed=key is not None)) + "\n")
    return EXIT_PROBLEM if report.problems else 0


def _lines(report: Report, *, signed: bool) -> list[str]:
    lines = [
        f"에포크 epoch              {report.epoch}",
        f"기록 records             {report.first}-{report.last}, {report.records} held, {report.given_up} given up",
        f"미확인 unacknowledged     {report.unacknowledged}",
        f"마지막 해시 last hash       {report.last_hash}",
        f"점검 기록 checkpoint      {report.checkpoint or '-'}{'' if signed else ' (서명은 보지 않음 / signature not checked)'}",
    ]
    if not report.problems:
        return [*lines, "온전합니다. / whole."]
    return [*lines, *map(_line, report.problems)]


def _line(problem: Problem) -> str:
    which = str(problem.first) if problem.first == problem.last else f"{problem.first}-{problem.last}"
    ko, en = _WORDS[problem.what]
    detail = f" [{problem.detail}]" if problem.detail else ""
    return f"기록 {which}: {ko} / record {which}: {en}{detail}"


def export(path: Path, first: int, last: int, form: str, out: BinaryIO) -> int:
    """Records `first` to `last`, in sequence; those given up are left out. Raises as `verify`."""
    with closing(chain.open_file(path)) as db:
        rows = db.execute(
            "SELECT seq, raw, hash FROM records WHERE seq BETWEEN ? AND ? AND raw IS NOT NULL ORDER BY seq",
            (max(0, first), min(last, 2**63 - 1)),
        )
        if form == "jsonl":
            for _seq, raw, _hash in rows:
                out.write(raw + b"\n")
            out.flush()
            return 0
        out.write(_csv(COLUMNS))
        for seq, raw, digest in rows:
            out.write(_csv(_columns(seq, raw, digest)))
        out.flush()
    return 0


def _columns(seq: int, raw: bytes, digest: str) -> Sequence[object]:
    try:
        event = events.parse(raw)
    except events.EventError:
        return (seq, "", "", "", "", "", "", digest, raw.decode("utf-8", "replace"))
    data = event.data
    named = (data.get(name, "") for name in ("lane", "dir", "attempt", "reason"))
    return (seq, event.time, event.kind, *named, digest, json.dumps(data, ensure_ascii=False, separators=(",", ":")))


def _csv(values: Sequence[object]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue().encode()


def set_aside(gate: GatePlace, clock: Clock, out: TextIO) -> int:
    """With the agent stopped. Raises OSError, or sqlite3.OperationalError where something has the journal open."""
    path, now = gate.state_dir / FILE, clock.now()
    if not path.exists():
        raise FileNotFoundError(path)
    owner = path.stat()
    boots = _alone(path) + 1
    stamp = {
        "boot": f"{boots}-{os.urandom(8).hex()}",
        "mono": int(boottime() * 1000),
        "clk": {"q": str(ClockQuality.UNSET)},
    }

    def opened(at: Path) -> Store:
        return Store(
            at, site=gate.site, gate=gate.id, random_bytes=os.urandom, tail=TAIL, stamp=lambda: stamp, reopened=True
        )

    salvage.set_aside(
        path, "set aside by an operator", {"dropped": 0, "refused": 0, "since": rfc3339(now)}, now, opened
    )
    with closing(opened(path)) as store:
        store.count_boot()
        waiting = store.outbox.waiting() - 1
        epoch = store.epoch
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)
    out.write(
        f"새 저널: 에포크 {epoch}, 먼저 보낼 이전 기록 {waiting}건\n"
        f"a new journal: epoch {epoch}, {waiting} earlier records that are sent first\n"
    )
    return 0


def _alone(path: Path) -> int:
    """How many starts this journal has seen, as far as it can be read. Raises sqlite3.OperationalError where it is open."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0.1)) as db:
        try:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("BEGIN EXCLUSIVE")
            row = db.execute("SELECT value FROM meta WHERE key = 'boots'").fetchone()
            db.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
            return 0
        except sqlite3.DatabaseError:
            return 0  # damaged: there is nothing to wait for
    return int(row[0]) if row is not None and str(row[0]).isdigit() else 0
