"""How long records stay, and what goes when the journal has reached its size.

What the controller has acknowledged goes `keep` after that, oldest first, or at the size bound as soon as room is wanted; then
state and health that nobody has acknowledged yet (events.HOUSEKEEPING). A decision, a passage, an alarm that the controller does
not have never goes. Whatever goes is stated by a signed record in the same transaction, and in steps that no append waits for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from gate_agent import writeahead
from gate_agent.record import Entry
from gate_agent.store import Store
from protocol import events
from protocol.events import DECISIONS, HOUSEKEEPING, Kind
from protocol.statement import Purpose

STEP = 500
"""Rows looked at or removed in one transaction: some 3 ms, 30 on a busy disk, of the 250 that a decision has."""
MIB = 1 << 20
GAP_BYTES = 1100
"""What the record costs that states a gap: a run of records that frees less stays, since giving it up would make no room."""
TOMBSTONE_BYTES = 90
COMMIT_BYTES = 64 * 1024
"""More than a commit adds beside its records: pages of indexes, and frames of the write-ahead log."""
YIELDING = HOUSEKEEPING | DECISIONS | {Kind.ACCESS_UNREADABLE}
"""What is counted and no longer written in a full journal: the reserve is for passages, exits, orders, alarms, fire and what
the journal says itself."""
_TYPE = b'"type":"' + events.TYPE_PREFIX.encode()
_HOUSEKEEPING = tuple(kind.encode() + b'"' for kind in sorted(HOUSEKEEPING))


@dataclass(frozen=True, slots=True)
class Limits:
    keep: timedelta = timedelta(days=30)
    """After the acknowledgement."""
    max_bytes: int = 1024 * MIB
    """Of the pages in use and the write-ahead log."""

    @property
    def reserve(self) -> int:
        """Of `max_bytes`, kept for what may not yield."""
        return max(MIB, self.max_bytes // 16)

    @property
    def full(self) -> int:
        return self.max_bytes - self.reserve

    @property
    def roomy(self) -> int:
        """From here on room is made; down to here a full journal stays full, lest it change with every record."""
        return self.full - self.reserve


class Retention:
    """Of one open store; a new one begins to look from the start again."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._looked = 0
        """Up to here there is nothing more to give up."""
        self.full = False
        self._used, self._margin = 0, 0

    def used(self, store: Store) -> int:
        """Bytes."""
        pages, free, page = (
            int(store.db.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * page + writeahead.size(store.path)

    def turned_away(self, entry: Entry, used: int, *, awaited: bool) -> bool:
        """There is no room for this record with `used` bytes in use. A grant that nobody waits for is of somebody who leaves, and
        is written from the reserve."""
        if used > self._limits.max_bytes:
            return True
        leaving = entry.kind is Kind.ACCESS_GRANTED and not awaited
        return self.full and entry.kind in YIELDING and not leaving

    def before_commit(self, store: Store, size: int, now: datetime) -> int:
        """As `look`, before `size` bytes of records are written; far from the bound it does not look."""
        self._margin -= COMMIT_BYTES + 2 * size
        return self._used if self._margin > 0 and not self.full else self.look(store, now)

    def look(self, store: Store, now: datetime) -> int:
        """Make some room where the journal is near its size; set `full`. One step. Returns the bytes in use."""
        used = self.used(store)
        if used > self._limits.roomy and store.signs:
            if writeahead.size(store.path) > self._limits.reserve:
                writeahead.truncate(store.db)
            if self._prune(store, self._removable(store), now, "size") or self._give_up(store, now):
                used = self.used(store)
        self.full = used > (self._limits.roomy if self.full else self._limits.full)
        self._used, self._margin = used, self._limits.roomy - used
        return used

    def age(self, store: Store, now: datetime) -> bool:
        """Remove some of what has been acknowledged for long enough. `now` is to be a time that can be trusted."""
        due = min(store.outbox.acknowledged_before(now - self._limits.keep), self._removable(store))
        return store.signs and self._prune(store, due, now, "age")

    @staticmethod
    def _removable(store: Store) -> int:
        """The newest record that may go, with all before it: acknowledged, and not asked for again."""
        oldest = store.outbox.oldest
        acknowledged = store.outbox.acknowledged
        return acknowledged if oldest is None else min(acknowledged, oldest - 1)

    @staticmethod
    def _prune(store: Store, due: int, now: datetime, why: str) -> bool:
        """Remove at most STEP records from the beginning, up to record `due`, and state it. False: there is nothing to remove."""
        first = store.first
        last = min(due, first + STEP - 1)
        if last < first:
            return False
        digest = store.db.execute("SELECT hash FROM records WHERE seq = ?", (last,)).fetchone()[0]
        store.begin()
        store.db.execute("DELETE FROM records WHERE seq <= ?", (last,))
        store.db.execute("DELETE FROM acks WHERE seq <= ?", (last,))
        # From 1, so that the newest of these records explains all that is gone, also the ones before it.
        record = store.state(Purpose.PRUNED, 1, last, digest, now, why=why)
        store.explain(record, 1, last)
        store.commit()
        return True

    def _give_up(self, store: Store, now: datetime) -> bool:
        """Give up runs of housekeeping among the next STEP records that wait. False: all have been looked at."""
        rows = store.db.execute(
            "SELECT r.seq, r.raw, r.hash FROM records r JOIN outbox o ON o.seq = r.seq WHERE r.seq > ? ORDER BY r.seq LIMIT ?",
            (self._looked, STEP),
        ).fetchall()
        if not rows:
            return False
        runs = _runs([(seq, len(raw), digest) for seq, raw, digest in rows if _is_housekeeping(raw)])
        worthwhile = [run for run in runs if run.bytes > GAP_BYTES + TOMBSTONE_BYTES * len(run.hashes)]
        self._looked = rows[-1][0]
        if runs and runs[-1].last == self._looked:
            cut_off = len(rows) == STEP and runs[-1].first != rows[0][0]
            if cut_off or (len(rows) < STEP and runs[-1] not in worthwhile):
                # It may go on behind this step: it is looked at again, whole.
                self._looked = runs[-1].first - 1
                worthwhile = [run for run in worthwhile if run is not runs[-1]]
        if not worthwhile:
            return True
        raws = {seq: raw for seq, raw, _digest in rows}
        store.begin()
        for run in worthwhile:
            # Rows that only shrink would leave their pages half empty; rows that go give the pages back.
            store.db.execute("DELETE FROM records WHERE seq BETWEEN ? AND ?", (run.first, run.last))
            store.db.executemany("INSERT INTO records VALUES (?, NULL, ?)", enumerate(run.hashes, run.first))
            store.db.execute("DELETE FROM outbox WHERE seq BETWEEN ? AND ?", (run.first, run.last))
            # What stands before the run would else be tied to nothing that stays.
            before = events.parse(raws[run.first]).prevhash
            record = store.state(Purpose.GAP, run.first, run.last, run.hashes[-1], now, before=before, why="size")
            store.explain(record, run.first, run.last)
        store.commit()
        return True


@dataclass(slots=True)
class _Run:
    """Records that follow each other."""

    first: int
    hashes: list[str]
    bytes: int

    @property
    def last(self) -> int:
        return self.first + len(self.hashes) - 1


def _is_housekeeping(raw: bytes) -> bool:
    """Without parsing it: `type` comes before anything of `data` (protocol.events.build)."""
    return raw.startswith(_HOUSEKEEPING, raw.find(_TYPE) + len(_TYPE))


def _runs(found: list[tuple[int, int, str]]) -> list[_Run]:
    """Contiguous runs of (sequence number, bytes, hash)."""
    runs: list[_Run] = []
    for seq, size, digest in found:
        if not runs or runs[-1].last != seq - 1:
            runs.append(_Run(seq, [], 0))
        runs[-1].hashes.append(digest)
        runs[-1].bytes += size
    return runs
