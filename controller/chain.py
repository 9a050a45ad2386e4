"""How far a gate's hash chain is whole: the contiguous mark, which never passes a hole that nobody explains.

Records behind a hole are stored at once but not acknowledged. A record whose `prevhash` is not the hash of the record before
it raises an alarm and stops the mark for good: somebody has to look (tamper evidence). Where the gate itself has signed that
records will not come, the mark goes on behind them, with the hash that the statement gives.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from controller.batch import Alarm, Key, Record, Standing, What
from protocol import events, fields
from protocol.ack import Ack
from protocol.events import Kind
from protocol.statement import Purpose

ADVANCE_ROWS = 500
"""Records read at a time when a hole has been filled."""
MAX_EPOCHS = 64
"""Storage epochs of one gate: each is a replaced disk. A gate that invents more is set aside."""


@dataclass(slots=True)
class Chain:
    gate: str
    epoch: str
    mark: int = 0
    hash: str = events.GENESIS
    """Hash of record `mark`."""
    stopped: bool = False
    earlier: str | None = None
    """The epoch before, where the first record of this one names it."""
    ahead: int | None = None
    """The lowest record stored beyond the mark."""
    explained: bool = False
    """There are statements about records beyond the mark."""

    def copy(self) -> Chain:
        """dataclasses.replace takes ten times as long, for every gate of every batch."""
        return Chain(
            self.gate, self.epoch, self.mark, self.hash, self.stopped, self.earlier, self.ahead, self.explained
        )

    @property
    def standing(self) -> Standing:
        return Standing(self.mark, self.ahead, self.stopped)

    @property
    def ack(self) -> Ack:
        return Ack(self.epoch, self.mark, self.hash)


@dataclass(frozen=True, slots=True)
class _Gap:
    first: int
    last: int
    hash: str
    why: str


class Chains:
    """The chains of all gates, in memory as on the disk. `take` gives a working copy; `keep` or `forget` ends the batch."""

    def __init__(self, connection: sqlite3.Connection, flush: Callable[[], None]) -> None:
        """`flush` writes the records of this batch that are not in the table yet: called before the table is looked at."""
        self._connection, self._flush = connection, flush
        self._kept: dict[Key, Chain] = {}
        self._working: dict[Key, Chain] = {}
        self._epochs: dict[str, set[str]] = {}
        """By gate, of kept and working chains."""
        for gate, epoch, mark, digest, stopped, earlier in connection.execute(
            "SELECT gate, epoch, mark, hash, stopped, earlier FROM chains"
        ).fetchall():
            chain = Chain(gate, epoch, mark, digest, bool(stopped), earlier)
            self._look_ahead(chain)
            self._kept[gate, epoch] = chain
            self._epochs.setdefault(gate, set()).add(epoch)

    @property
    def touched(self) -> dict[Key, Chain]:
        """Working copies of this batch."""
        return self._working

    def take(self, gate: str, epoch: str) -> Chain | None:
        """None: one epoch too many."""
        key = (gate, epoch)
        chain = self._working.get(key)
        if chain is not None:
            return chain
        kept = self._kept.get(key)
        if kept is None:
            epochs = self._epochs.setdefault(gate, set())
            if len(epochs) >= MAX_EPOCHS:
                return None
            epochs.add(epoch)
        chain = self._working[key] = Chain(gate, epoch) if kept is None else kept.copy()
        return chain

    def known(self, gate: str, epoch: str) -> bool:
        return epoch in self._epochs.get(gate, ())

    def standing(self, gate: str, epoch: str) -> Standing:
        """Also of a chain that nothing has come of yet."""
        found = self._working.get((gate, epoch)) or self._kept.get((gate, epoch))
        return Standing(0, None, False) if found is None else found.standing

    def standings(self) -> dict[Key, Standing]:
        return {key: chain.standing for key, chain in self._kept.items()}

    def succeeded(self, gate: str, epoch: str) -> bool:
        """Another epoch of the gate names this one as the one before."""
        return any(chain.earlier == epoch for chain in self._others(gate, epoch))

    def order(self, gate: str, current: str | None) -> list[str]:
        """Epochs of a gate, the oldest first, as far as each names the one before. `current`, where it writes now, tells which
        comes last among those that nobody ties together."""
        earlier = {
            epoch: self._working.get((gate, epoch)) or self._kept[gate, epoch] for epoch in self._epochs.get(gate, ())
        }
        lines = {}
        for epoch in earlier:
            line = [epoch]
            while (before := earlier[line[-1]].earlier) in earlier and before not in line:
                line.append(before)
            lines[epoch] = line
        root = lines[current][-1] if current in lines else ""
        return sorted(lines, key=lambda epoch: (lines[epoch][-1] == root, lines[epoch][-1], len(lines[epoch]), epoch))

    def _others(self, gate: str, epoch: str) -> list[Chain]:
        keys = [(gate, other) for other in self._epochs.get(gate, ()) if other != epoch]
        return [self._working.get(key) or self._kept[key] for key in keys]

    def existing(self, chain: Chain, seq: int) -> bytes | None:
        """The stored bytes under this sequence number; empty where they are not held any more, and need not be."""
        if seq > chain.mark and (chain.ahead is None or seq < chain.ahead):
            return None  # the usual case costs no query
        self._flush()
        row = self._connection.execute(
            "SELECT raw FROM events WHERE gate = ? AND epoch = ? AND seq = ?", (chain.gate, chain.epoch, seq)
        ).fetchone()
        if row is not None:
            return bytes(row[0])
        if seq <= chain.mark and self._gap(chain, seq) is None:
            return b""  # acknowledged, and since then removed by retention
        return None

    def extend(self, chain: Chain, record: Record, moment: str) -> list[Alarm]:
        """A new record is stored: move the mark as far as the chain is whole."""
        event = record.event
        alarms = self._check_beginning(chain, record, moment) if event.seq == 1 else []
        if event.seq <= chain.mark:
            return alarms + self._check_neighbours(chain, record, moment)
        if event.seq != chain.mark + 1 or chain.stopped:
            chain.ahead = event.seq if chain.ahead is None else min(chain.ahead, event.seq)
            return alarms + self._check_neighbours(chain, record, moment)
        if event.prevhash != chain.hash:
            chain.ahead, chain.stopped = event.seq, True
            return [*alarms, self._alarm(chain, event.seq, What.CHAIN, moment)]
        chain.mark, chain.hash = event.seq, record.hash
        if chain.ahead is not None or chain.explained:
            alarms += self._advance(chain, moment)
        return alarms

    def explain(self, record: Record, moment: str) -> list[Alarm]:
        """A stored record carries its gate's word that others will not come."""
        statement, purpose = record.statement, record.purpose
        if statement is None or purpose is None or not self.known(statement.gate, statement.epoch):
            return []
        chain = self.take(statement.gate, statement.epoch)
        if chain is None or statement.last <= chain.mark:
            return []  # retention at the gate: what it removes is held here
        self._connection.execute(
            "INSERT OR IGNORE INTO gaps VALUES (?,?,?,?,?,?,?)",
            (chain.gate, chain.epoch, statement.first, statement.last, statement.hash, purpose.value, moment),
        )
        chain.explained = True
        return self._advance(chain, moment)

    def _advance(self, chain: Chain, moment: str) -> list[Alarm]:
        """Go on over what came before, and over what will not come."""
        self._flush()
        alarms: list[Alarm] = []
        while not chain.stopped:
            alarms += self._follow(chain, moment)
            gap = self._gap(chain, chain.mark + 1) if chain.explained and not chain.stopped else None
            if gap is None:
                break
            alarms += self._pass_over(chain, gap, moment)
        return alarms

    def _follow(self, chain: Chain, moment: str) -> list[Alarm]:
        """The mark to the next hole, or to the first record that does not fit."""
        while True:
            rows = self._connection.execute(
                "SELECT raw FROM events WHERE gate = ? AND epoch = ? AND seq > ? ORDER BY seq LIMIT ?",
                (chain.gate, chain.epoch, chain.mark, ADVANCE_ROWS),
            ).fetchall()
            chain.ahead = None
            for (raw,) in rows:
                event = events.parse(raw)
                if event.seq != chain.mark + 1:
                    chain.ahead = event.seq
                    return []
                if event.prevhash != chain.hash:
                    chain.ahead, chain.stopped = event.seq, True
                    return [self._alarm(chain, event.seq, What.CHAIN, moment)]
                chain.mark, chain.hash = event.seq, event.hash
            if len(rows) < ADVANCE_ROWS:
                return []

    def _gap(self, chain: Chain, seq: int) -> _Gap | None:
        """The statement about record `seq` that reaches furthest."""
        row = self._connection.execute(
            "SELECT first, last, hash, why FROM gaps WHERE gate = ? AND epoch = ? AND last >= ? AND first <= ? "
            "ORDER BY last DESC LIMIT 1",
            (chain.gate, chain.epoch, seq, seq),
        ).fetchone()
        return None if row is None else _Gap(*row)

    def _pass_over(self, chain: Chain, gap: _Gap, moment: str) -> list[Alarm]:
        """To the end of what a statement explains. What the gate has pruned was acknowledged once: then we have lost it."""
        alarms: list[Alarm] = []
        last = self._connection.execute(
            "SELECT raw FROM events WHERE gate = ? AND epoch = ? AND seq = ?", (chain.gate, chain.epoch, gap.last)
        ).fetchone()
        if last is not None and events.record_hash(last[0]) != gap.hash:
            chain.stopped = True
            return [self._alarm(chain, gap.last, What.CHAIN, moment)]
        if gap.why == Purpose.PRUNED:
            missing = f"{chain.mark + 1}-{gap.last}"
            alarms.append(Alarm(chain.gate, chain.epoch, chain.mark + 1, What.HOLE, moment, missing))
        if chain.mark == 0 and self._others(chain.gate, chain.epoch):
            alarms.append(self._alarm(chain, 1, What.NEW_EPOCH, moment))
        chain.mark, chain.hash = gap.last, gap.hash
        self._look_ahead(chain)
        return alarms

    def _look_ahead(self, chain: Chain) -> None:
        place = (chain.gate, chain.epoch, chain.mark)
        chain.ahead = self._connection.execute(
            "SELECT min(seq) FROM events WHERE gate = ? AND epoch = ? AND seq > ?", place
        ).fetchone()[0]
        chain.explained = bool(
            self._connection.execute(
                "SELECT EXISTS (SELECT 1 FROM gaps WHERE gate = ? AND epoch = ? AND last > ?)", place
            ).fetchone()[0]
        )

    def _check_neighbours(self, chain: Chain, record: Record, moment: str) -> list[Alarm]:
        """Beside a hole the chain is checked as far as its links are there; the mark is stopped when it gets there."""
        self._flush()
        alarms, seq = [], record.event.seq
        for other, raw in self._connection.execute(
            "SELECT seq, raw FROM events WHERE gate = ? AND epoch = ? AND seq IN (?, ?)",
            (chain.gate, chain.epoch, seq - 1, seq + 1),
        ).fetchall():
            fits = (
                record.event.prevhash == events.record_hash(raw)
                if other < seq
                else events.parse(raw).prevhash == record.hash
            )
            if not fits:
                alarms.append(self._alarm(chain, max(other, seq), What.CHAIN, moment))
        gap = self._gap(chain, seq) if seq <= chain.mark else None
        if gap is not None and gap.last == seq and gap.hash != record.hash:
            alarms.append(self._alarm(chain, seq, What.CHAIN, moment))
        return alarms

    def _check_beginning(self, chain: Chain, record: Record, moment: str) -> list[Alarm]:
        """A gate that begins a new epoch names the one before, or somebody has to look at its disk."""
        event = record.event
        others = {other.epoch for other in self._others(chain.gate, chain.epoch)}
        named = event.data.get("epoch") if event.kind is Kind.LOG_GAP else None
        fits = not others or self.succeeded(chain.gate, chain.epoch)
        if isinstance(named, str) and fields.WORD.fullmatch(named) and named != chain.epoch:
            chain.earlier = named  # whose records may come later
        return [] if fits or chain.earlier in others else [self._alarm(chain, 1, What.NEW_EPOCH, moment)]

    @staticmethod
    def _alarm(chain: Chain, seq: int, what: What, moment: str) -> Alarm:
        return Alarm(chain.gate, chain.epoch, seq, what, moment)

    def write(self) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO chains (gate, epoch, mark, hash, stopped, earlier) VALUES (?,?,?,?,?,?)",
            [
                (each.gate, each.epoch, each.mark, each.hash, each.stopped, each.earlier)
                for each in self._working.values()
            ],
        )

    def keep(self) -> None:
        self._kept.update(self._working)
        self._working.clear()

    def forget(self) -> None:
        for gate, epoch in self._working.keys() - self._kept.keys():
            self._epochs[gate].discard(epoch)
        self._working.clear()
