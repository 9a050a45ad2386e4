"""Who looked at exact times of passages, and why: a row is written, in a chain of hashes, before anything is given.

Operators' names are in the table `reads` of the controller's database alone.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlite_utils import Database

from controller.deletions import row_hash
from controller.query_rows import BadQueryError
from protocol.clock import rfc3339

ROLE = "security-officer"
MAX_OPERATOR, MAX_REFERENCE, MAX_QUERY = 64, 80, 1000
GENESIS = "0" * 64
"""`prev` of the first row."""
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories: control characters, also those that turn the direction of writing, and line breaks."""


class ReadReason(StrEnum):
    INCIDENT = "incident"
    COMPLAINT = "complaint"
    AUDIT = "audit"
    COURT_ORDER = "court_order"
    TEST = "test"


class NotPermittedError(BadQueryError):
    """Not a security officer."""


@dataclass(frozen=True, slots=True)
class Officer:
    """Who reads, and why."""

    operator: str
    role: str
    reason: ReadReason
    reference: str
    """What the reason is about, such as a file number."""

    @classmethod
    def of(cls, operator: str, role: str, reason: str, reference: str) -> Officer:
        """Raises BadQueryError, NotPermittedError."""
        if role != ROLE:
            raise NotPermittedError(f"role: {ROLE}만 볼 수 있습니다", f"role: only {ROLE} may see this")
        for name, value, most in (
            ("operator", operator, MAX_OPERATOR),
            ("reference", reference, MAX_REFERENCE),
        ):
            if (
                len(value) > most
                or not value.strip()
                or any(unicodedata.category(each) in _UNPRINTABLE for each in value)
            ):
                raise BadQueryError(
                    f"{name}: {most}자 이하의 한 줄이어야 합니다",
                    f"{name}: one line of at most {most} characters is expected",
                )
        if reason not in set(ReadReason):
            known = ", ".join(ReadReason)
            raise BadQueryError(
                f"reason: 다음 중 하나여야 합니다: {known}", f"reason: one of these is expected: {known}"
            )
        return cls(operator, role, ReadReason(reason), reference)


@dataclass(frozen=True, slots=True)
class ReadRow:
    number: int
    time: str
    operator: str
    role: str
    reason: str
    reference: str
    query: str
    prev: str
    hash: str

    @property
    def expected(self) -> str:
        """`hash` as it has to be."""
        told = [self.number, self.time, self.operator, self.role, self.reason, self.reference, self.query, self.prev]
        return row_hash(told).hex()


_COLUMNS = "number, time, operator, role, reason, reference, query, prev, hash"


class Reads:
    """Every method belongs to the store's thread and may raise sqlite3.Error."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def log(self, officer: Officer, query: str, now: datetime) -> int:
        """Write that `officer` asks `query`; gives the row's number once it is on the disk."""
        with self._db.atomic():
            last = self._db.execute("SELECT number, hash FROM reads ORDER BY number DESC LIMIT 1").fetchone()
            number, prev = last or removed(self._db.conn)
            number += 1
            row = ReadRow(
                number,
                rfc3339(now),
                officer.operator,
                officer.role,
                officer.reason,
                officer.reference,
                query[:MAX_QUERY],
                prev,
                "",
            )
            self._db.execute(
                f"INSERT INTO reads ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)",  # noqa: S608
                (*(getattr(row, name.strip()) for name in _COLUMNS.split(",")[:-1]), row.expected),
            )
        return number


def rows(connection: sqlite3.Connection) -> Iterator[ReadRow]:
    """Every row, the first first. Raises sqlite3.Error."""
    with closing(connection.execute(f"SELECT {_COLUMNS} FROM reads ORDER BY number")) as found:  # noqa: S608
        for row in found:
            yield ReadRow(*row)


def removed(connection: sqlite3.Connection) -> tuple[int, str]:
    """How many rows retention has taken off the beginning, and the hash of the last of them (docs/store.md)."""
    found = connection.execute(
        "SELECT (SELECT coalesce(sum(n), 0) FROM deletions WHERE what = 'reads'), "
        "(SELECT digest FROM deletions WHERE what = 'reads' ORDER BY number DESC LIMIT 1)"
    ).fetchone()
    return found[0], found[1] or GENESIS


def broken(rows: Iterable[ReadRow], before: tuple[int, str] = (0, GENESIS)) -> int | None:
    """The number of the first row that does not follow the one before, or was changed; None: the chain is whole. `before`:
    what `removed` says."""
    number, prev = before
    for row in rows:
        number += 1
        if row.number != number or row.prev != prev or row.hash != row.expected:
            return number
        prev = row.hash
    return None
