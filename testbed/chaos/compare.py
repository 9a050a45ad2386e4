"""What a gate's journal holds against what the controller's store holds, record by record, and against what was promised.

Three witnesses: the journal (`journal.db` and files set aside), the store (`controller.db`), and the ledger of every append
that returned. Pure over what the two readers give; neither product code path is asked whether it is right.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from protocol import events
from protocol.events import Event, EventError, Kind

MAX_RANGE = 1_000_000
"""Sequence numbers that one explanation may cover."""
BUSY_S = 5.0

Key = tuple[str, int]
"""Storage epoch and sequence number."""


class What(StrEnum):
    LOST = "lost"
    """In the journal, or pruned from it as acknowledged, and not in the store."""
    DOUBLED = "doubled"
    """The store holds one record more than once."""
    ALTERED = "altered"
    """The store's bytes are not the journal's."""
    FOREIGN = "foreign"
    """In the store, never in the journal."""
    HOLE = "hole"
    """A sequence number that neither holds and no record explains."""
    EPOCH = "epoch"
    """A further storage epoch that does not begin with `log.gap`."""
    CHAIN = "chain"
    """A record of the journal does not carry the hash of the one before."""
    FORGOTTEN = "forgotten"
    """The caller was told that it is durable, and the journal holds it no more, or with other bytes."""


@dataclass(frozen=True, slots=True)
class Difference:
    what: What
    epoch: str
    seq: int


@dataclass(frozen=True, slots=True)
class Held:
    """One row of a journal. `raw` is None where only number and hash are left of a record given up at the size bound."""

    epoch: str
    seq: int
    raw: bytes | None
    hash: str


@dataclass(frozen=True, slots=True)
class Stored:
    """One row of the store, of one gate."""

    epoch: str
    seq: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Promise:
    """An append that returned: from then on the caller counts on it."""

    epoch: str
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Comparison:
    records: int
    """In the journal, whole."""
    stored: int
    promises: int
    explained: int
    """Sequence numbers that are missing in the journal, each named by a record."""
    told: int
    """Records that could not be written at all, by the counts of `log.gap`."""
    differences: Sequence[Difference] = field(default=())

    def count(self, *what: What) -> int:
        return sum(each.what in what for each in self.differences)

    @property
    def lost(self) -> int:
        return self.count(What.LOST, What.FORGOTTEN)

    @property
    def doubled(self) -> int:
        return self.count(What.DOUBLED)

    @property
    def agrees(self) -> bool:
        return not self.differences


def compare(journal: Sequence[Held], stored: Sequence[Stored], promises: Sequence[Promise] = ()) -> Comparison:
    """Of one gate. Nothing may still be under way."""
    held = {(row.epoch, row.seq): row for row in journal}
    whole = {key: row.raw for key, row in held.items() if row.raw is not None}
    parsed = {key: event for key, raw in whole.items() if (event := _parse(raw)) is not None}
    pruned, gaps, told = _explanations(parsed.values())
    first: dict[Key, bytes] = {}
    for row in stored:
        first.setdefault((row.epoch, row.seq), row.raw)

    found = [*_doubled(stored)]
    for key in sorted(whole.keys() | first.keys()):
        ours, theirs = whole.get(key), first.get(key)
        if theirs is None:
            found.append(Difference(What.LOST, *key))
        elif ours is not None:
            found += [Difference(What.ALTERED, *key)] if ours != theirs else []
        elif key in held:
            found += [Difference(What.ALTERED, *key)] if held[key].hash != events.record_hash(theirs) else []
        elif key not in pruned and key not in gaps:
            found.append(Difference(What.FOREIGN, *key))
    explained = 0
    for key in _missing(whole, first):
        if key in pruned:
            explained += 1
            found += [] if key in first else [Difference(What.LOST, *key)]
        elif key in gaps:
            explained += 1
        elif key not in first:
            found.append(Difference(What.HOLE, *key))
    found += _epochs(parsed)
    found += _chains(whole, parsed)
    for promise in promises:
        if not _kept(promise, held, first, pruned):
            found.append(Difference(What.FORGOTTEN, promise.epoch, promise.seq))
    return Comparison(len(whole), len(stored), len(promises), explained, told, tuple(found))


def _parse(raw: bytes) -> Event | None:
    try:
        return events.parse(raw)
    except EventError:
        return None  # then its bytes fit no chain, which is a difference of its own


def _explanations(records: Iterable[Event]) -> tuple[set[Key], set[Key], int]:
    """Keys named by `journal.pruned`, keys named by `log.gap`, and the number that `log.gap` only counts.

    What was pruned had been acknowledged: the store must hold it. A `log.gap` may name an earlier epoch, whose file was damaged.
    """
    pruned: set[Key] = set()
    gaps: set[Key] = set()
    told = 0
    for event in records:
        if event.kind not in {Kind.JOURNAL_PRUNED, Kind.LOG_GAP}:
            continue
        epoch, begin, end = (event.data.get(name) for name in ("epoch", "from", "to"))
        epoch = epoch if isinstance(epoch, str) else event.epoch
        if isinstance(begin, int) and isinstance(end, int) and end - begin < MAX_RANGE:
            (pruned if event.kind == Kind.JOURNAL_PRUNED else gaps).update(
                (epoch, seq) for seq in range(begin, end + 1)
            )
        counts = (event.data.get("dropped"), event.data.get("refused"))
        told += sum(count for count in counts if isinstance(count, int))
    return pruned, gaps, told


def _doubled(stored: Sequence[Stored]) -> Iterator[Difference]:
    """One key twice, or one record under two keys."""
    keys = Counter((row.epoch, row.seq) for row in stored)
    yield from (Difference(What.DOUBLED, *key) for key, count in keys.items() for _ in range(count - 1))
    by_content: dict[bytes, set[Key]] = defaultdict(set)
    for row in stored:
        by_content[row.raw].add((row.epoch, row.seq))
    for several in by_content.values():
        yield from (Difference(What.DOUBLED, *key) for key in sorted(several)[1:])


def _missing(whole: Mapping[Key, bytes], stored: Mapping[Key, bytes]) -> Iterator[Key]:
    """Numbers from 1 to the highest of each epoch that the journal does not hold whole."""
    highest: dict[str, int] = {}
    for epoch, seq in (*whole, *stored):
        highest[epoch] = max(seq, highest.get(epoch, 0))
    for epoch, last in highest.items():
        yield from ((epoch, seq) for seq in range(1, last + 1) if (epoch, seq) not in whole)


def _epochs(parsed: Mapping[Key, Event]) -> Iterator[Difference]:
    begun = [event for (_, seq), event in parsed.items() if seq == 1 and event.kind != Kind.LOG_GAP]
    begun.sort(key=lambda event: event.time)
    yield from (Difference(What.EPOCH, event.epoch, 1) for event in begun[1:])


def _chains(whole: Mapping[Key, bytes], parsed: Mapping[Key, Event]) -> Iterator[Difference]:
    for key in whole:
        epoch, seq = key
        event, before = parsed.get(key), whole.get((epoch, seq - 1))
        if event is None or (event.epoch, event.seq) != key:
            yield Difference(What.CHAIN, *key)
        elif before is not None or seq == 1:
            expected = events.GENESIS if before is None else events.record_hash(before)
            if event.prevhash != expected:
                yield Difference(What.CHAIN, *key)


def _kept(promise: Promise, held: Mapping[Key, Held], stored: Mapping[Key, bytes], pruned: set[Key]) -> bool:
    key = (promise.epoch, promise.seq)
    row = held.get(key)
    if row is not None:
        return promise.hash == (row.hash if row.raw is None else events.record_hash(row.raw))
    return key in pruned and key in stored and events.record_hash(stored[key]) == promise.hash


def untold(journal: Sequence[Held], refused: Sequence[str]) -> int:
    """Of attempts that were refused because no record could be made of them: how many neither stand in the journal as refused
    nor are counted by a `log.gap`."""
    parsed = [event for row in journal if row.raw is not None and (event := _parse(row.raw)) is not None]
    noted = {event.data.get("attempt") for event in parsed if event.kind == Kind.ACCESS_DENIED}
    return max(0, len(set(refused) - noted) - _explanations(parsed)[2])


# Reading, beside running processes.


def read_journals(state: Path) -> list[Held]:
    """Every journal file of a gate's state directory, those set aside included. Raises sqlite3.Error, OSError."""
    found: dict[Key, Held] = {}
    for path in sorted(state.glob("journal*.d*")):
        if path.name != "journal.db" and path.suffix != ".damaged":
            continue
        with closing(_open(path)) as db:
            (epoch,) = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
            for seq, raw, digest in db.execute("SELECT seq, raw, hash FROM records ORDER BY seq"):
                found[epoch, seq] = Held(epoch, seq, None if raw is None else bytes(raw), digest)
    return list(found.values())


def read_store(database: Path, gate: str) -> list[Stored]:
    """One gate's rows. Raises sqlite3.Error."""
    with closing(_open(database)) as db:
        rows = db.execute("SELECT epoch, seq, raw FROM events WHERE gate = ? ORDER BY epoch, seq", (gate,))
        return [Stored(epoch, seq, bytes(raw)) for epoch, seq, raw in rows]


def waiting(state: Path) -> int:
    """Records that the gate still keeps for the controller, those of an earlier epoch included. Raises sqlite3.Error."""
    return _one(state / "journal.db", "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM salvaged)")


def first_waiting(state: Path) -> int:
    """The lowest sequence number of these; 0 without any. Raises sqlite3.Error."""
    return _one(state / "journal.db", "SELECT coalesce(min(seq), 0) FROM outbox")


def count_journal(state: Path) -> int:
    """Rows of the journal in use, a first look before every record is compared. Raises sqlite3.Error."""
    return _one(state / "journal.db", "SELECT count(*) FROM records")


def count_store(database: Path, gate: str) -> int:
    """Raises sqlite3.Error."""
    return _one(database, "SELECT count(*) FROM events WHERE gate = ?", gate)


def _one(path: Path, query: str, *parameters: str) -> int:
    with closing(_open(path)) as db:
        return int(db.execute(query, parameters).fetchone()[0])


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
