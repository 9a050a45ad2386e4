"""Verification of a whole journal file, read-only, beside a running agent (`gwanmun journal verify`).

Each record's hash and link, and the gate's signed word for whatever is not there any more: a beginning that was removed, and
records that were given up. What a file alone cannot show is that its end was cut off behind the last checkpoint together with
all mention of it; the controller's acknowledgement shows that (docs/journal.md).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from gate_agent import walk
from gate_agent.journal_schema import VERSION
from gate_agent.record import DamagedError
from gate_agent.walk import Held, Row
from mdoc.cose import PublicKey
from protocol import events, statement
from protocol.events import Event, Kind
from protocol.statement import Purpose, Statement, StatementError

MAX_PROBLEMS = 100
"""A file of which nothing is right is not listed to its end."""
_PURPOSES = {
    Kind.JOURNAL_CHECKPOINT: Purpose.CHECKPOINT,
    Kind.JOURNAL_PRUNED: Purpose.PRUNED,
    Kind.LOG_GAP: Purpose.GAP,
}


class What(StrEnum):
    MISSING = "missing"
    CHANGED = "changed"
    """Its bytes are not those that its hash, or the record behind it, vouches for."""
    REPLACED = "replaced"
    """Another record stands under this number."""
    LINK = "link"
    """The last two do not belong together: one of them is changed."""
    UNEXPLAINED = "unexplained"
    """Gone, and no signed record says why."""
    STATEMENT = "statement"
    """What the gate states here is not signed by it, or is not so."""
    UNREADABLE = "unreadable"
    """SQLite cannot read on from here."""


@dataclass(frozen=True, slots=True)
class Problem:
    what: What
    first: int
    last: int
    detail: str = ""

    def __str__(self) -> str:
        which = f"record {self.first}" if self.first == self.last else f"records {self.first} to {self.last}"
        return f"{which}: {self.what}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True, slots=True)
class Report:
    """`problems` is empty for a chain that holds from the first record to the last."""

    epoch: str
    first: int
    """The oldest record held."""
    last: int
    records: int
    """Held whole."""
    given_up: int
    """Of which only the hash is left."""
    unacknowledged: int
    last_hash: str
    checkpoint: int
    """The newest record that a checkpoint in the file vouches for; 0: none."""
    problems: tuple[Problem, ...]

    @property
    def problem(self) -> str | None:
        return str(self.problems[0]) if self.problems else None


def open_file(path: Path) -> sqlite3.Connection:
    """Read-only. Raises OSError, sqlite3.Error or DamagedError for what is no journal of ours."""
    if not path.is_file():
        raise FileNotFoundError(path)
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version != VERSION:
            raise DamagedError(f"schema version {version}, {VERSION} is expected")
    except BaseException:
        db.close()
        raise
    return db


def verify(path: Path, key: PublicKey | None = None) -> Report:
    """Check every record of `path`; with the gate's public key, also every signature. Raises as `open_file`."""
    with closing(open_file(path)) as db:
        db.execute("BEGIN")  # one moment of a file that is being written
        return _Check(db, key).run()


class _Check:
    def __init__(self, db: sqlite3.Connection, key: PublicKey | None) -> None:
        self._db, self._key = db, key
        self._problems: list[Problem] = []
        self._meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
        self._epoch = str(self._meta.get("epoch", ""))
        self._records = self._given_up = self._checkpoint = 0

    def run(self) -> Report:
        waiting = self._db.execute("SELECT count(*) FROM outbox").fetchone()[0]
        first = last = 0
        last_hash = events.GENESIS
        try:
            run: list[Held] = []
            for held in self._linked():
                first, last, last_hash = first or held.seq, held.seq, held.hash
                run = self._look(held, run)
                if len(self._problems) >= MAX_PROBLEMS:
                    break
            else:
                self._explained(run)
                self._cut_off(last)
        except sqlite3.DatabaseError as error:
            self._add(What.UNREADABLE, last + 1, detail=str(error))
        found = tuple(sorted(self._problems, key=lambda each: (each.first, each.last)))
        return Report(
            self._epoch,
            first,
            last,
            self._records,
            self._given_up,
            waiting,
            last_hash,
            self._checkpoint,
            found,
        )

    def _add(self, what: What, first: int, last: int | None = None, detail: str = "") -> None:
        self._problems.append(Problem(what, first, first if last is None else last, detail))

    # The chain.

    def _linked(self) -> Iterator[Held]:
        """Every row that is a record of its own; what is wrong with the others, and between them, is noted."""
        before: Held | None = None
        loose: int | None = None
        """This record does not continue the one before; whether it or that one is changed, the next tells."""
        expected = 1
        for row in walk.rows(self._db):
            if isinstance(row.seq, int) and row.seq > expected:
                if expected > 1:
                    self._add(What.MISSING, expected, row.seq - 1)
                elif not self._beginning(row):
                    self._add(What.UNEXPLAINED, 1, row.seq - 1)
                expected, before = row.seq, None
            held = self._own(row, expected)
            expected += 1
            if held is None:
                before = None
                continue
            joined = before is None or held.event is None or held.event.prevhash == before.hash
            if loose is not None and before is not None:
                self._add(What.CHANGED, loose - 1 if joined else loose)
                loose = None
            elif not joined:
                loose = held.seq
            if held.seq == 1 and held.event is not None and held.event.prevhash != events.GENESIS:
                self._add(What.CHANGED, 1)
            before = held
            yield held
        if loose is not None:
            self._add(What.LINK, loose - 1, loose)

    def _own(self, row: Row, seq: int) -> Held | None:
        try:
            return walk.read(row, self._epoch, seq, None)
        except DamagedError as error:
            what = What.REPLACED if "replaced" in str(error) else What.CHANGED
            self._add(what, seq, detail=str(error).removeprefix(f"record {seq} ").removeprefix(f"record {seq}: "))
            return None

    def _cut_off(self, last: int) -> None:
        """Whatever else in the file speaks of records behind the last one."""
        mentioned = [int(self._meta[name]) for name in ("checkpoint", "acked") if str(self._meta.get(name)).isdigit()]
        for table in ("outbox", "acks", "explained"):
            mentioned += self._db.execute(f"SELECT coalesce(max(seq), 0) FROM {table}").fetchone()  # noqa: S608
        if max(mentioned) > last:
            self._add(What.MISSING, last + 1, max(mentioned))

    # The gate's word.

    def _look(self, held: Held, run: list[Held]) -> list[Held]:
        """`run` is the first and the last of those given up just before `held`; returns the run that goes on."""
        if held.event is None:
            self._given_up += 1
            if run and run[-1].seq == held.seq - 1:
                return [run[0], held]
            self._explained(run)
            return [held, held]
        self._records += 1
        self._explained(run)
        if held.event.kind in _PURPOSES:
            self._statement(held.event)
        return []

    def _statement(self, event: Event) -> None:
        purpose = _PURPOSES[Kind(event.kind)]
        if purpose is Purpose.GAP and "sealed" not in event.data:
            return  # of what was never written
        try:
            found = self._read(event, purpose)
        except StatementError as error:
            self._add(What.STATEMENT, event.seq, detail=str(error))
            return
        if purpose is Purpose.CHECKPOINT:
            if (found.last, found.hash) != (event.seq - 1, event.prevhash):
                self._add(What.STATEMENT, event.seq, detail="not about the record before it")
            else:
                self._checkpoint = found.last

    def _read(self, event: Event, purpose: Purpose) -> Statement:
        """What a record states of this epoch. Raises StatementError."""
        if self._key is None:
            data = event.data
            values: tuple[Any, ...] = (data.get("from"), data.get("to"), data.get("hash"))
            if not (type(values[0]) is int and type(values[1]) is int and isinstance(values[2], str)):
                raise StatementError("from, to and hash are expected")
            return Statement("", event.gate, self._epoch, *values)
        found = statement.from_data(event.data, purpose, self._key)
        if (found.gate, found.epoch) != (event.gate, self._epoch):
            raise StatementError("about another gate or epoch")
        return found

    def _beginning(self, row: Row) -> bool:
        """The records before `row` were removed, and the newest `journal.pruned` says so."""
        if not isinstance(row.seq, int):
            return False
        found = self._stated(row.seq - 1, Purpose.PRUNED)
        if found is None or found.first != 1 or found.last != row.seq - 1:
            return False
        if not isinstance(row.raw, bytes):
            return True
        try:
            return events.parse(row.raw).prevhash == found.hash
        except events.EventError:
            return True  # what is wrong with this one is said of it

    def _explained(self, run: list[Held]) -> None:
        """Records that were given up: a signed `log.gap` names each of them, and the hash of its last."""
        if not run:
            return
        seq, last = run[0].seq, run[-1].seq
        while seq <= last:
            found = self._stated(seq, Purpose.GAP)
            if found is None or found.first > seq or found.last > last:
                self._add(What.UNEXPLAINED, seq, last)
                return
            self._tied(found.first)
            row = self._db.execute("SELECT hash FROM records WHERE seq = ?", (found.last,)).fetchone()
            if row is None or row[0] != found.hash:
                self._add(What.CHANGED, found.last, detail="its hash is not the one that the gate has signed")
            seq = found.last + 1

    def _tied(self, first: int) -> None:
        """The record before those given up is the one that the first of them continued."""
        row = self._db.execute("SELECT hash FROM records WHERE seq = ?", (first - 1,)).fetchone()
        for event, _ in self._statements(first, Purpose.GAP):
            before = event.data.get("before")
            if row is not None and before is not None and row[0] != before:
                self._add(What.CHANGED, first - 1)

    def _stated(self, seq: int, purpose: Purpose) -> Statement | None:
        """What explains that record `seq` is gone."""
        return next((found for _, found in self._statements(seq, purpose)), None)

    def _statements(self, seq: int, purpose: Purpose) -> Iterator[tuple[Event, Statement]]:
        rows = self._db.execute(
            "SELECT r.raw FROM explained e JOIN records r ON r.seq = e.seq WHERE e.first <= ? AND e.last >= ?",
            (seq, seq),
        ).fetchall()
        for (raw,) in rows:
            try:
                event = events.parse(raw)
                if event.kind in _PURPOSES and _PURPOSES[Kind(event.kind)] is purpose:
                    yield event, self._read(event, purpose)
            except (events.EventError, StatementError, TypeError):
                continue
