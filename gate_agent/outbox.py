"""Which records wait for the controller's acknowledgement, and what it has acknowledged. Shares the store's connection."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from gate_agent.journal_schema import ACK_SLOT_S, number
from gate_agent.record import AckMismatchError, Record, SalvageMismatchError


class Outbox:
    """Of one open file. Every method may raise sqlite3.Error."""

    def __init__(self, db: sqlite3.Connection, epoch: str) -> None:
        self._db, self._epoch = db, epoch

    def unsent(self, after: int, limit: int) -> list[Record]:
        """At most `limit` records that wait, of sequence numbers over `after`. From the beginning (0), those salvaged of
        earlier epochs come first."""
        found: list[Record] = []
        if after == 0:
            rows = self._db.execute("SELECT epoch, seq, raw, hash FROM salvaged ORDER BY place LIMIT ?", (limit,))
            found = [Record(*row) for row in rows]
        return found + self.own(after, limit - len(found))

    def own(self, after: int, limit: int) -> list[Record]:
        """As `unsent`, of this epoch only."""
        rows = self._db.execute(
            "SELECT seq, raw, hash FROM records WHERE seq IN (SELECT seq FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?) "
            "ORDER BY seq",
            (after, limit),
        )
        return [Record(self._epoch, *row) for row in rows]

    def waiting(self) -> int:
        """How many records wait."""
        count = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM salvaged)"
        return int(self._db.execute(count).fetchone()[0])

    @property
    def oldest(self) -> int | None:
        """The oldest that waits, of this epoch."""
        found = self._db.execute("SELECT min(seq) FROM outbox").fetchone()[0]
        return None if found is None else int(found)

    @property
    def acknowledged(self) -> int:
        """The newest record of this epoch that the controller has acknowledged, with all before it; 0: none."""
        row = self._db.execute("SELECT value FROM meta WHERE key = 'acked'").fetchone()
        return number(None if row is None else str(row[0]))

    def acknowledge(self, epoch: str, seq: int, hash_: str) -> bool:
        """Take record `seq` and all before it from the outbox; records of this epoch stay. False: nothing new.

        An acknowledgement of an epoch that has nothing waiting is an old retained one and changes nothing. Raises
        AckMismatchError where the controller holds another record under this number, or one that was never written here, and
        SalvageMismatchError where it does so of an earlier epoch.
        """
        if epoch != self._epoch:
            return self._acknowledge_salvaged(epoch, seq, hash_)
        row = self._db.execute("SELECT hash FROM records WHERE seq = ?", (seq,)).fetchone()
        if row is None:
            if seq <= self.acknowledged:
                return False  # an old one; the record has been removed since
            raise AckMismatchError(f"record {seq}")
        if row[0] != hash_:
            raise AckMismatchError(f"record {seq}")
        oldest = self.oldest
        if oldest is None or oldest > seq:
            return False
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM outbox WHERE seq <= ?", (seq,))
        if seq > self.acknowledged:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('acked', ?)", (str(seq),))
        self._db.execute("COMMIT")
        return True

    def _acknowledge_salvaged(self, epoch: str, seq: int, hash_: str) -> bool:
        row = self._db.execute("SELECT hash FROM salvaged WHERE epoch = ? AND seq = ?", (epoch, seq)).fetchone()
        if row is not None and row[0] != hash_:
            raise SalvageMismatchError(f"record {seq} of {epoch}")
        gone = self._db.execute("DELETE FROM salvaged WHERE epoch = ? AND seq <= ?", (epoch, seq)).rowcount
        return bool(gone)

    def let_go(self, epoch: str, seq: int) -> tuple[int, int, int]:
        """Within a transaction: what was salvaged of `epoch` up to `seq` waits no longer. Returns its first and last, and how
        many they were."""
        place = (epoch, seq)
        found = self._db.execute(
            "SELECT min(seq), max(seq), count(*) FROM salvaged WHERE epoch = ? AND seq <= ?", place
        ).fetchone()
        self._db.execute("DELETE FROM salvaged WHERE epoch = ? AND seq <= ?", place)
        return int(found[0]), int(found[1]), int(found[2])

    def requeue(self, epoch: str, first: int, last: int, limit: int) -> int:
        """Let what is held of `first` to `last` wait again, at most `limit` records, and what explains the absence of the
        others. Returns how many of these wait now; 0 for an epoch of which nothing waits."""
        if epoch != self._epoch:
            count = "SELECT count(*) FROM salvaged WHERE epoch = ? AND seq BETWEEN ? AND ?"
            return int(self._db.execute(count, (epoch, first, last)).fetchone()[0])
        held = "SELECT seq FROM records WHERE seq BETWEEN ? AND ? AND raw IS NOT NULL ORDER BY seq LIMIT ?"
        told = "SELECT seq FROM explained WHERE first <= ? AND last >= ? ORDER BY last DESC LIMIT ?"
        wanted = [row[0] for row in self._db.execute(held, (first, last, limit))]
        wanted += [row[0] for row in self._db.execute(told, (last, first, limit))]
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT OR IGNORE INTO outbox VALUES (?)", [(seq,) for seq in set(wanted)])
        self._db.execute("COMMIT")
        return len(set(wanted))

    def note_acknowledged(self, now: datetime) -> None:
        """Keep, to ten minutes, that what is acknowledged so far was so at `now`, a time that can be trusted."""
        acked = self.acknowledged
        slot, seq = self._db.execute("SELECT coalesce(max(slot), 0), coalesce(max(seq), 0) FROM acks").fetchone()
        if acked > seq:
            # A clock that was set back never makes records older than they are.
            slot = max(slot, int(now.timestamp()) // ACK_SLOT_S)
            self._db.execute("INSERT OR REPLACE INTO acks VALUES (?, ?)", (slot, acked))

    def acknowledged_before(self, moment: datetime) -> int:
        """The newest record that was acknowledged before `moment`; 0: none."""
        slot = int(moment.timestamp()) // ACK_SLOT_S
        return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM acks WHERE slot < ?", (slot,)).fetchone()[0])
