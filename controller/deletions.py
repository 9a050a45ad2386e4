"""Proof of deletion: a row for each class and run of retention, in a chain of hashes.

`digest` stands for what was removed: d(0) is 32 zero bytes, d(i) = SHA-256(d(i-1) || h(i)), where h is the SHA-256 of a record's
exact bytes (as in the gate's own journal) or of another row as JSON. Of `reads`, which are a chain themselves, it is the hash
of the last row removed: the first that is left names it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from protocol.clock import rfc3339

GENESIS = "0" * 64
"""`prev` of the first row, and the digest of nothing."""
_COLUMNS = "number, time, what, before, n, digest, prev, hash"


@dataclass(frozen=True, slots=True)
class Deletion:
    number: int
    time: str
    what: str
    """A class of records, or a table."""
    before: str
    """What is older was removed."""
    n: int
    digest: str
    prev: str
    hash: str

    @property
    def expected(self) -> str:
        """`hash` as it has to be."""
        told = [self.number, self.time, self.what, self.before, self.n, self.digest, self.prev]
        return row_hash(told).hex()


class Run:
    """What one run removes of one class: a row that grows until the next one begins. Belongs to the store's thread."""

    def __init__(self, db: Database, what: str, before: str) -> None:
        self._db, self._what, self._before = db, what, before
        self._number: int | None = None
        self.n = 0

    def add(self, hashes: Sequence[bytes], now: datetime, *, chained: bool = False) -> None:
        """Call it in the transaction that removes them. `chained`: what is removed is a chain of its own."""
        last = newest(self._db)
        if last is not None and (last.number, last.what, last.before) == (self._number, self._what, self._before):
            number, n, digest, prev = last.number, last.n, last.digest, last.prev
        else:
            number, prev = (1, GENESIS) if last is None else (last.number + 1, last.hash)
            n, digest = 0, GENESIS
        digest = hashes[-1].hex() if chained else fold(digest, hashes)
        row = Deletion(number, rfc3339(now), self._what, self._before, n + len(hashes), digest, prev, "")
        self._db.execute(
            f"INSERT OR REPLACE INTO deletions ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)",  # noqa: S608  constant
            [number, row.time, row.what, row.before, row.n, digest, prev, row.expected],
        )
        self._number, self.n = number, row.n


def fold(digest: str, hashes: Iterable[bytes]) -> str:
    found = bytes.fromhex(digest)
    for each in hashes:
        found = hashlib.sha256(found + each).digest()
    return found.hex()


def row_hash(row: Sequence[Any]) -> bytes:
    """Of a row that is no record."""
    told = [value.hex() if isinstance(value, bytes) else value for value in row]
    return hashlib.sha256(json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()).digest()


def newest(db: Database) -> Deletion | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM deletions ORDER BY number DESC LIMIT 1").fetchone()  # noqa: S608  constant
    return None if row is None else Deletion(*row)


def every(db: Database) -> Iterable[Deletion]:
    for row in db.execute(f"SELECT {_COLUMNS} FROM deletions ORDER BY number"):  # noqa: S608  constant
        yield Deletion(*row)


def broken(rows: Iterable[Deletion]) -> int | None:
    """The number of the first row that does not follow the one before, or was changed; None: the chain is whole."""
    number, prev = 1, GENESIS
    for row in rows:
        if row.number != number or row.prev != prev or row.hash != row.expected:
            return number
        number, prev = row.number + 1, row.hash
    return None
