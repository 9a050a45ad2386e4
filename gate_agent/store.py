"""The journal's SQLite file: records, outbox, single-use marks and open grants. Synchronous, for one thread.

WAL with synchronous FULL, so a commit is on the disk before it returns (access-control reference 2c, io-lab 4e). One file holds
one storage epoch: a new file gets a new random epoch, so that a replaced disk can never pass as the old sequence.
`secure_delete` overwrites freed pages: a pruned mark or record is gone from the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from gate_agent import journal_schema, walk, writeahead
from gate_agent.outbox import Outbox
from gate_agent.record import AlreadyUsedError, DamagedError, Entry, OpenGrant, Record
from protocol import events
from protocol.events import Kind
from protocol.statement import Purpose, Statement

__all__ = ["TAIL", "AlreadyUsedError", "DamagedError", "Entry", "OpenGrant", "Record", "Stamp", "Store"]

TAIL = 1000
"""Records checked at start. The whole chain is `chain.verify`'s work: it takes some 20 s per million records."""
OUTCOMES = frozenset({Kind.PASSAGE_COMPLETED, Kind.PASSAGE_NOT_TAKEN, Kind.PASSAGE_UNKNOWN})
"""Kinds that settle a grant."""
_STATED = {Purpose.CHECKPOINT: Kind.JOURNAL_CHECKPOINT, Purpose.GAP: Kind.LOG_GAP, Purpose.PRUNED: Kind.JOURNAL_PRUNED}

Stamp = Callable[[], Mapping[str, Any]]
"""Fields of every record's data: `boot`, `mono`, `clk`."""


def stamped(stamp: Stamp, data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` with what every record has; its own fields win."""
    return {"v": events.SCHEMA, **stamp(), **data}


class Store:
    """One open file. Every method may raise sqlite3.Error; after one, `close` it and open anew."""

    def __init__(
        self,
        path: Path,
        *,
        site: str,
        gate: str,
        random_bytes: Callable[[int], bytes],
        tail: int = TAIL,
        sign: ec.EllipticCurvePrivateKey | None = None,
        stamp: Stamp = dict,
        reopened: bool = False,
    ) -> None:
        """Open or create, and check the newest `tail` records. Raises DamagedError.

        `sign` signs what the gate vouches for (None: nothing is vouched for, so nothing can be removed); `stamp` is for the
        journal's own records. `reopened`: this process had the file open, so that a missing write-ahead log is its own doing.
        """
        self.path = path
        self.gate, self._site, self._sign, self._stamp = gate, site, sign, stamp
        if writeahead.emptied(path):
            raise DamagedError("the file is empty")
        lost = None if reopened else writeahead.lost(path)
        # Autocommit mode: every BEGIN and COMMIT below is written out. No busy wait: this thread is the only writer.
        self._db = sqlite3.connect(path, isolation_level=None, timeout=0.1)
        try:
            self._open(random_bytes, tail, lost)
        except sqlite3.OperationalError:
            writeahead.keep(path, self._db)  # the file may say already that it is in use
            raise
        except sqlite3.DatabaseError as error:
            # Not an OperationalError: "file is not a database" or "disk image is malformed".
            self._db.close()
            raise DamagedError(str(error)) from error
        except BaseException:
            self._db.close()
            raise

    def _open(self, random_bytes: Callable[[int], bytes], tail: int, lost: str | None) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA secure_delete = ON")
        journal_schema.prepare(self._db, random_bytes)
        epoch = self.meta("epoch")
        if epoch is None:
            raise DamagedError("no storage epoch")
        self.epoch = epoch
        if lost is not None and self.meta(writeahead.IN_USE) is not None:
            raise DamagedError(lost)
        self.seq, self._prevhash = walk.tail(self._db, self.epoch, tail)
        self._vouched = self._number("checkpoint")
        self._committed = (self.seq, self._prevhash, self._vouched)
        self._adding: list[Record] = []
        self._added: list[Record] = []
        self.outbox = Outbox(self._db, self.epoch)
        if self.meta(writeahead.IN_USE) is None:
            writeahead.begin(self._db)

    def close(self) -> None:
        """Never raises. The write-ahead log goes with it, unless somebody else reads the file, or a disk that takes nothing more
        leaves the file saying that it is in use."""
        try:
            writeahead.end(self._db)
        except sqlite3.Error:
            writeahead.keep(self.path, self._db)
        else:
            self._db.close()

    @property
    def db(self) -> sqlite3.Connection:
        return self._db

    @property
    def first(self) -> int:
        """The oldest record still held; with none, the next one's number."""
        found = self._db.execute("SELECT min(seq) FROM records").fetchone()[0]
        return self.seq + 1 if found is None else int(found)

    def meta(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _number(self, key: str) -> int:
        return journal_schema.number(self.meta(key))

    # One transaction: begin, add..., commit or rollback.

    def begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def add(self, entry: Entry) -> Record:
        """Chain one record. Raises AlreadyUsedError or events.EventError with nothing written for this entry."""
        if entry.mark is not None and self._taken(entry.mark[0]):
            raise AlreadyUsedError
        seq = self.seq + 1
        raw = events.build(
            site=self._site,
            gate=self.gate,
            epoch=self.epoch,
            seq=seq,
            kind=entry.kind,
            time=entry.time,
            prevhash=self._prevhash,
            data=entry.data,
        )
        record = Record(self.epoch, seq, raw, events.record_hash(raw))
        # Whatever may fail for bad data comes before the first statement that writes.
        grant = outcome = None
        if entry.opens:
            grant = (entry.data["attempt"], seq, entry.data["lane"], entry.data["dir"])
        elif entry.kind in OUTCOMES:
            # Whoever leaves freely has no attempt, and no grant to close.
            outcome = (entry.data.get("attempt"),)
        self._db.execute("INSERT INTO records (seq, raw, hash) VALUES (?, ?, ?)", (seq, raw, record.hash))
        self._db.execute("INSERT INTO outbox (seq) VALUES (?)", (seq,))
        if entry.mark is not None:
            self._mark(*entry.mark, seq)
        if grant is not None:
            self._db.execute("INSERT INTO open_grants VALUES (?, ?, ?, ?)", grant)
        if outcome is not None:
            self._db.execute("DELETE FROM open_grants WHERE attempt = ?", outcome)
        self.seq, self._prevhash = seq, record.hash
        self._adding.append(record)
        return record

    def own(self, kind: Kind, data: Mapping[str, Any], now: datetime) -> Record:
        """A record of the journal's own."""
        return self.add(Entry(kind, stamped(self._stamp, data), now))

    def state(self, purpose: Purpose, first: int, last: int, digest: str, now: datetime, **more: Any) -> Record:
        """A signed statement about `first` to `last`, `digest` being the hash of `last`; only with a key."""
        if self._sign is None:
            raise RuntimeError("nothing is vouched for without a key")
        about = Statement(self._site, self.gate, self.epoch, first, last, digest)
        return self.own(_STATED[purpose], {**about.data(purpose, self._sign), **more}, now)

    @property
    def signs(self) -> bool:
        return self._sign is not None

    @property
    def unvouched(self) -> int:
        """Records since the last checkpoint."""
        return self.seq - self._vouched

    def checkpoint(self, now: datetime) -> None:
        """Within a transaction: the gate vouches for every record before this one."""
        record = self.state(Purpose.CHECKPOINT, min(self.first, self.seq), self.seq, self._prevhash, now)
        self._vouched = record.seq
        self._set("checkpoint", record.seq)

    def explain(self, record: Record, first: int, last: int) -> None:
        """`record` is the gate's word that `first` to `last` are gone."""
        self._db.execute("DELETE FROM explained WHERE first >= ? AND last <= ?", (first, last))
        self._db.execute("INSERT INTO explained VALUES (?, ?, ?)", (record.seq, first, last))

    def free_mark(self, seq: int) -> None:
        """Give back the mark that record `seq` took: its grant never opened anything."""
        if seq:
            self._db.execute("DELETE FROM pass_marks WHERE seq = ?", (seq,))

    def commit(self) -> None:
        self._db.execute("COMMIT")
        self._committed = (self.seq, self._prevhash, self._vouched)
        self._added += self._adding
        self._adding = []

    def rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self.seq, self._prevhash, self._vouched = self._committed
        self._adding = []

    def take_added(self) -> list[Record]:
        """The records that were committed since the last time, in sequence."""
        added, self._added = self._added, []
        return added

    # Reading and upkeep.

    def take_mark(self, mark: bytes, until: datetime) -> None:
        """A mark without a record. Raises AlreadyUsedError."""
        if self._taken(mark):
            raise AlreadyUsedError
        self._mark(mark, until, 0)

    def _taken(self, mark: bytes) -> bool:
        return self._db.execute("SELECT 1 FROM pass_marks WHERE mark = ?", (mark,)).fetchone() is not None

    def _mark(self, mark: bytes, until: datetime, seq: int) -> None:
        self._db.execute("INSERT INTO pass_marks VALUES (?, ?, ?)", (mark, until.timestamp(), seq))

    def _set(self, key: str, value: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, str(value)))

    def count_boot(self) -> int:
        """One more start of an agent with this journal, or with one before it that was set aside."""
        boots = self._number("boots") + 1
        self._set("boots", boots)
        return boots

    def open_grants(self, after: int = -1) -> list[OpenGrant]:
        """Grants of records after `after` that have no outcome, oldest first."""
        rows = self._db.execute("SELECT attempt, seq, lane, dir FROM open_grants WHERE seq > ? ORDER BY seq", (after,))
        return [OpenGrant(*row) for row in rows]

    def trusted_time(self, newest: int = TAIL) -> datetime | None:
        """The earliest that the true time can have been at the newest record that was written with a trusted clock (`clk.q` is
        not `unset`), of the newest `newest`."""
        rows = self._db.execute(
            "SELECT raw FROM records WHERE seq > ? AND raw IS NOT NULL ORDER BY seq DESC", (self.seq - newest,)
        )
        for (raw,) in rows:
            event = events.parse(raw)
            clk = event.data.get("clk")
            if isinstance(clk, dict) and clk.get("q") in {"synced", "holdover"}:
                error = clk.get("err_ms")
                bound = timedelta(milliseconds=error if isinstance(error, int) else 0)
                return datetime.fromisoformat(event.time) - bound
        return None

    def prune_marks(self, now: datetime) -> int:
        """Forget marks whose time is over, in the file and in its write-ahead log. Returns how many."""
        gone = self._db.execute("DELETE FROM pass_marks WHERE until < ?", (now.timestamp(),)).rowcount
        if gone:
            writeahead.truncate(self._db)
        return int(gone)
