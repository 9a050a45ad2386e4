"""How far a gate's hash chain is whole: the contiguous mark, which never passes a hole and never a record that does not fit.

Records behind a hole are stored at once but not acknowledged. A record whose `prevhash` is not the hash of the record before
it raises an alarm and stops the mark for good: somebody has to look (ARCHITECTURE: tamper evidence).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlite_utils import Database

from protocol import events

ADVANCE_ROWS = 500
"""Records read at a time when a hole has been filled."""
MAX_EPOCHS = 64
"""Storage epochs of one gate: each is a replaced disk. A gate that invents more is set aside."""


@dataclass(frozen=True, slots=True)
class Alarm:
    gate: str
    epoch: str
    seq: int
    what: str
    """`chain`: prevhash is not the hash of the record before; `conflict`: the sequence number was already used."""
    time: str


@dataclass(slots=True)
class Chain:
    gate: str
    epoch: str
    mark: int = 0
    hash: str = events.GENESIS
    """Hash of record `mark`."""
    stopped: bool = False
    beyond: int = 0
    """Records stored behind the mark."""


class Chains:
    """The chains of all gates, in memory as on the disk. `take` gives a working copy; `keep` or `forget` ends the batch."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._kept: dict[tuple[str, str], Chain] = {}
        self._working: dict[tuple[str, str], Chain] = {}
        for gate, epoch, mark, digest, stopped in db.execute(
            "SELECT gate, epoch, mark, hash, stopped FROM chains"
        ).fetchall():
            behind = db.execute(
                "SELECT count(*) FROM events WHERE gate = ? AND epoch = ? AND seq > ?", [gate, epoch, mark]
            ).fetchone()[0]
            self._kept[gate, epoch] = Chain(gate, epoch, mark, digest, bool(stopped), behind)

    def admits(self, event: events.Event) -> bool:
        """False: one epoch too many."""
        if (event.gate, event.epoch) in self._kept or (event.gate, event.epoch) in self._working:
            return True
        return sum(gate == event.gate for gate, _ in {*self._kept, *self._working}) < MAX_EPOCHS

    def take(self, event: events.Event) -> Chain:
        key = (event.gate, event.epoch)
        chain = self._working.get(key)
        if chain is None:
            kept = self._kept.get(key)
            chain = self._working[key] = replace(kept) if kept is not None else Chain(*key)
        return chain

    def existing(self, chain: Chain, event: events.Event) -> bytes | None:
        """The stored bytes under this event's sequence number."""
        if event.seq > chain.mark and not chain.beyond:
            return None  # the usual case costs no query
        row = self._db.conn.execute(
            "SELECT raw FROM events WHERE gate = ? AND epoch = ? AND seq = ?", (chain.gate, chain.epoch, event.seq)
        ).fetchone()
        if row is None:
            return event.raw if event.seq <= chain.mark else None  # acknowledged, and since then removed by retention
        return bytes(row[0])

    def extend(self, chain: Chain, event: events.Event, moment: str) -> list[Alarm]:
        """A new record has been inserted: move the mark as far as the chain is whole."""
        if event.seq != chain.mark + 1 or chain.stopped:
            chain.beyond += 1
            return self._check_neighbours(chain, event, moment)
        if event.prevhash != chain.hash:
            chain.beyond += 1
            chain.stopped = True
            return [Alarm(chain.gate, chain.epoch, event.seq, "chain", moment)]
        chain.mark, chain.hash = event.seq, event.hash
        return self._advance(chain, moment) if chain.beyond else []

    def _advance(self, chain: Chain, moment: str) -> list[Alarm]:
        """A hole has been filled: go on over what had come before."""
        while True:
            rows = self._db.conn.execute(
                "SELECT raw FROM events WHERE gate = ? AND epoch = ? AND seq > ? ORDER BY seq LIMIT ?",
                (chain.gate, chain.epoch, chain.mark, ADVANCE_ROWS),
            ).fetchall()
            for (raw,) in rows:
                event = events.parse(raw)
                if event.seq != chain.mark + 1:
                    return []
                if event.prevhash != chain.hash:
                    chain.stopped = True
                    return [Alarm(chain.gate, chain.epoch, event.seq, "chain", moment)]
                chain.mark, chain.hash = event.seq, event.hash
                chain.beyond -= 1
            if len(rows) < ADVANCE_ROWS:
                return []

    def _check_neighbours(self, chain: Chain, event: events.Event, moment: str) -> list[Alarm]:
        """Beyond a hole the chain is checked as far as its links are there; the mark is stopped when it gets there."""
        alarms = []
        for seq, raw in self._db.conn.execute(
            "SELECT seq, raw FROM events WHERE gate = ? AND epoch = ? AND seq IN (?, ?)",
            (chain.gate, chain.epoch, event.seq - 1, event.seq + 1),
        ).fetchall():
            earlier, later = (events.parse(raw), event) if seq < event.seq else (event, events.parse(raw))
            if later.prevhash != earlier.hash:
                alarms.append(Alarm(chain.gate, chain.epoch, later.seq, "chain", moment))
        return alarms

    def write(self, chains: Iterable[Chain]) -> None:
        self._db.conn.executemany(
            "INSERT OR REPLACE INTO chains (gate, epoch, mark, hash, stopped) VALUES (?,?,?,?,?)",
            [(each.gate, each.epoch, each.mark, each.hash, each.stopped) for each in chains],
        )

    def keep(self) -> None:
        self._kept.update(self._working)
        self._working.clear()

    def forget(self) -> None:
        self._working.clear()
