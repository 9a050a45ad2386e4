"""One pass over the rows of a journal: sequence without holes, hashes and links right. Used at start, for a whole file and for
what can be salvaged of a damaged one; memory does not grow with the journal.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gate_agent.record import DamagedError
from protocol import events
from protocol.events import Event


@dataclass(frozen=True, slots=True)
class Held:
    """One row that stands where it should."""

    seq: int
    hash: str
    event: Event | None
    """None: given up at the size bound; only its hash is left."""
    waits: bool
    """It is in the outbox."""


@dataclass(frozen=True, slots=True)
class Row:
    """As it is in the file: anything may be of any type there."""

    seq: object
    raw: object
    hash: object
    waits: bool = False


def rows(db: sqlite3.Connection, first: int = 0) -> Iterator[Row]:
    """The records from `first` on, in sequence. Raises sqlite3.Error."""
    for seq, raw, hash_, waits in db.execute(
        "SELECT r.seq, r.raw, r.hash, o.seq IS NOT NULL FROM records r LEFT JOIN outbox o ON o.seq = r.seq "
        "WHERE r.seq >= ? ORDER BY r.seq",
        (first,),
    ):
        yield Row(seq, raw, hash_, bool(waits))


def read(row: Row, epoch: str, seq: int, previous: str | None) -> Held:
    """`row` as record `seq`, behind the hash `previous` (None: unknown). Raises DamagedError, which names the record."""
    if row.seq != seq:
        raise DamagedError(f"record {seq} is missing")
    if not (isinstance(row.hash, str) and len(row.hash) == 64):
        raise DamagedError(f"record {seq}: its hash is changed")
    if row.raw is None:
        return Held(seq, row.hash, None, row.waits)
    if not isinstance(row.raw, bytes):
        raise DamagedError(f"record {seq} is not bytes")
    try:
        event = events.parse(row.raw)
    except events.EventError as error:
        raise DamagedError(f"record {seq} is changed: {error}") from error
    if (event.epoch, event.seq) != (epoch, seq):
        raise DamagedError(f"record {seq} is replaced by another, {event.epoch}/{event.seq}")
    if event.hash != row.hash:
        raise DamagedError(f"record {seq} is changed")
    if previous is not None and event.prevhash != previous:
        raise DamagedError(f"record {seq} does not continue the chain")
    return Held(seq, row.hash, event, row.waits)


def walk(found: Iterable[Row], epoch: str, first: int, previous: str | None) -> Iterator[Held]:
    """Each row of `found` as the record that should stand there, from `first` on. Raises DamagedError where one does not."""
    for seq, row in enumerate(found, first):
        held = read(row, epoch, seq, previous)
        previous = held.hash
        yield held


def tail(db: sqlite3.Connection, epoch: str, count: int) -> tuple[int, str]:
    """Walk the newest `count` records. Returns the last sequence number and its hash (0 and GENESIS for an empty journal).

    Raises DamagedError or sqlite3.Error. That a beginning which is gone was removed rightly is `chain.verify`'s work."""
    oldest, newest = db.execute("SELECT (SELECT min(seq) FROM records), (SELECT max(seq) FROM records)").fetchone()
    if newest is None:
        return 0, events.GENESIS
    first = max(oldest, newest - count + 1)
    previous = events.GENESIS if first == 1 else None
    if first > oldest:
        row = db.execute("SELECT hash FROM records WHERE seq = ?", (first - 1,)).fetchone()
        if row is None:
            raise DamagedError(f"record {first - 1} is missing")
        previous = row[0]
    last = deque(walk(rows(db, first), epoch, first, previous), maxlen=1)
    if not last or last[0].seq != newest:
        raise DamagedError(f"record {newest} is missing")
    return last[0].seq, last[0].hash
