"""The journal's SQLite file: records, outbox, single-use marks and open grants. Synchronous, for one thread.

WAL with synchronous FULL, so a commit is on the disk before it returns (access-control reference 2c, io-lab 4e). One file holds
one storage epoch: a new file gets a new random epoch, so that a replaced disk can never pass as the old sequence.
`secure_delete` overwrites freed pages: a pruned mark is gone from the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from protocol import events
from protocol.events import Kind

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (seq INTEGER PRIMARY KEY, raw BLOB NOT NULL, hash TEXT NOT NULL, acked TEXT);
CREATE TABLE outbox (seq INTEGER PRIMARY KEY);
CREATE TABLE pass_marks (mark BLOB PRIMARY KEY, until REAL NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE open_grants (attempt TEXT PRIMARY KEY, seq INTEGER NOT NULL, lane TEXT NOT NULL, dir TEXT NOT NULL) WITHOUT ROWID;
"""
TAIL = 1000
"""Records checked at start. The whole chain is `chain.verify`'s work: it takes seconds per million records."""
OUTCOMES = frozenset({Kind.PASSAGE_COMPLETED, Kind.PASSAGE_NOT_TAKEN, Kind.PASSAGE_UNKNOWN})
"""Kinds that settle a grant."""


class DamagedError(Exception):
    """The file is no journal, or its chain does not hold. Says what, never content."""


class AlreadyUsedError(Exception):
    """The mark is taken: this QR pass has opened a lane before. Nothing was written."""


class AckMismatchError(Exception):
    """The controller acknowledges a record that this journal does not have: edited, cut off or another gate's."""


@dataclass(frozen=True, slots=True)
class Record:
    epoch: str
    seq: int
    raw: bytes
    hash: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What a record is made of. `mark` is a single-use mark and the wall-clock time (aware) until which it counts."""

    kind: Kind
    data: Mapping[str, Any]
    time: datetime
    mark: tuple[bytes, datetime] | None = None


@dataclass(frozen=True, slots=True)
class OpenGrant:
    attempt: str
    seq: int
    lane: str
    direction: str


class Store:
    """One open file. Every method may raise sqlite3.Error; after one, `close` it and open anew."""

    def __init__(
        self, path: Path, *, site: str, gate: str, random_bytes: Callable[[int], bytes], tail: int = TAIL
    ) -> None:
        """Open or create, and check the newest `tail` records. Raises DamagedError."""
        self._site, self._gate = site, gate
        # Autocommit mode: every BEGIN and COMMIT below is written out. No busy wait: this thread is the only writer.
        self._db = sqlite3.connect(path, isolation_level=None, timeout=0.1)
        try:
            self._open(random_bytes, tail)
        except sqlite3.OperationalError:
            self._db.close()
            raise
        except sqlite3.DatabaseError as error:
            # Not an OperationalError: "file is not a database" or "disk image is malformed".
            self._db.close()
            raise DamagedError(str(error)) from error
        except BaseException:
            self._db.close()
            raise

    def _open(self, random_bytes: Callable[[int], bytes], tail: int) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA secure_delete = ON")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.strip().split(";\n"):
                self._db.execute(statement)
            self._db.execute("INSERT INTO meta VALUES ('epoch', ?)", (random_bytes(8).hex(),))
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._db.execute("COMMIT")
        elif version != SCHEMA_VERSION:
            raise DamagedError(f"schema version {version}, {SCHEMA_VERSION} is expected")
        row = self._db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        if row is None:
            raise DamagedError("no storage epoch")
        self.epoch: str = row[0]
        self.seq, self._prevhash = check_rows(self._db, self.epoch, tail)
        self._seq_committed, self._hash_committed = self.seq, self._prevhash

    def close(self) -> None:
        self._db.close()

    # One transaction: begin, add..., commit or rollback.

    def begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def add(self, entry: Entry) -> Record:
        """Chain one record. Raises AlreadyUsedError or events.EventError with nothing written for this entry."""
        if entry.mark is not None:
            taken = self._db.execute("SELECT 1 FROM pass_marks WHERE mark = ?", (entry.mark[0],)).fetchone()
            if taken is not None:
                raise AlreadyUsedError
        seq = self.seq + 1
        raw = events.build(
            site=self._site,
            gate=self._gate,
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
        if entry.kind is Kind.ACCESS_GRANTED:
            grant = (entry.data["attempt"], seq, entry.data["lane"], entry.data["dir"])
        elif entry.kind in OUTCOMES:
            # Whoever leaves freely has no attempt, and no grant to close.
            outcome = (entry.data.get("attempt"),)
        self._db.execute("INSERT INTO records (seq, raw, hash) VALUES (?, ?, ?)", (seq, raw, record.hash))
        self._db.execute("INSERT INTO outbox (seq) VALUES (?)", (seq,))
        if entry.mark is not None:
            self._db.execute("INSERT INTO pass_marks VALUES (?, ?, ?)", (entry.mark[0], entry.mark[1].timestamp(), seq))
        if grant is not None:
            self._db.execute("INSERT INTO open_grants VALUES (?, ?, ?, ?)", grant)
        if outcome is not None:
            self._db.execute("DELETE FROM open_grants WHERE attempt = ?", outcome)
        self.seq, self._prevhash = seq, record.hash
        return record

    def free_mark(self, seq: int) -> None:
        """Give back the mark that record `seq` took: its grant never opened anything."""
        self._db.execute("DELETE FROM pass_marks WHERE seq = ?", (seq,))

    def commit(self) -> None:
        self._db.execute("COMMIT")
        self._seq_committed, self._hash_committed = self.seq, self._prevhash

    def rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self.seq, self._prevhash = self._seq_committed, self._hash_committed

    # Reading and upkeep.

    def open_grants(self, after: int = 0) -> list[OpenGrant]:
        """Grants of records after `after` that have no outcome, oldest first."""
        rows = self._db.execute("SELECT attempt, seq, lane, dir FROM open_grants WHERE seq > ? ORDER BY seq", (after,))
        return [OpenGrant(*row) for row in rows]

    def unsent(self, after: int, limit: int) -> list[Record]:
        """At most `limit` records that wait for the controller's acknowledgement, of sequence numbers over `after`."""
        rows = self._db.execute(
            "SELECT seq, raw, hash FROM records WHERE seq IN (SELECT seq FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?)"
            " ORDER BY seq",
            (after, limit),
        )
        return [Record(self.epoch, *row) for row in rows]

    def trusted_time(self, newest: int = TAIL) -> datetime | None:
        """The earliest that the true time can have been at the newest record that was written with a trusted clock (`clk.q` is
        not `unset`), of the newest `newest`."""
        rows = self._db.execute("SELECT raw FROM records ORDER BY seq DESC LIMIT ?", (newest,))
        for (raw,) in rows:
            event = events.parse(raw)
            clk = event.data.get("clk")
            if isinstance(clk, dict) and clk.get("q") in {"synced", "holdover"}:
                error = clk.get("err_ms")
                bound = timedelta(milliseconds=error if isinstance(error, int) else 0)
                return datetime.fromisoformat(event.time) - bound
        return None

    def waiting(self) -> int:
        """Records in the outbox."""
        return int(self._db.execute("SELECT count(*) FROM outbox").fetchone()[0])

    def acknowledge(self, epoch: str, seq: int, hash_: str, now: datetime) -> bool:
        """Take record `seq` and all before it from the outbox; the records stay. False: nothing new.

        An acknowledgement of another epoch is an old retained one and changes nothing. Raises AckMismatchError where the
        controller holds another record under this number.
        """
        if epoch != self.epoch:
            return False
        row = self._db.execute("SELECT hash FROM records WHERE seq = ?", (seq,)).fetchone()
        if row is None or row[0] != hash_:
            raise AckMismatchError(f"record {seq}")
        first = self._db.execute("SELECT min(seq) FROM outbox").fetchone()[0]
        if first is None or first > seq:
            return False
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("UPDATE records SET acked = ? WHERE seq BETWEEN ? AND ?", (now.isoformat(), first, seq))
        self._db.execute("DELETE FROM outbox WHERE seq <= ?", (seq,))
        self._db.execute("COMMIT")
        return True

    def prune_marks(self, now: datetime) -> int:
        """Forget marks whose time is over, in the file and in its write-ahead log. Returns how many."""
        gone = self._db.execute("DELETE FROM pass_marks WHERE until < ?", (now.timestamp(),)).rowcount
        if gone:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return int(gone)


def check_rows(db: sqlite3.Connection, epoch: str, tail: int | None = None) -> tuple[int, str]:
    """Walk the newest `tail` records (all for None): sequence gapless, hashes and links right.

    Returns the last sequence number and its hash (0 and GENESIS for an empty journal). Raises DamagedError.
    """
    newest = db.execute("SELECT max(seq) FROM records").fetchone()[0]
    if newest is None:
        return 0, events.GENESIS
    first = 1 if tail is None else max(1, newest - tail + 1)
    seq, previous = first - 1, events.GENESIS
    if first > 1:
        row = db.execute("SELECT raw FROM records WHERE seq = ?", (first - 1,)).fetchone()
        if row is None or not isinstance(row[0], bytes):
            raise DamagedError(f"record {first - 1} is missing")
        previous = events.record_hash(row[0])
    for number, raw, hash_ in db.execute("SELECT seq, raw, hash FROM records WHERE seq >= ? ORDER BY seq", (first,)):
        seq += 1
        if number != seq:
            raise DamagedError(f"record {seq} is missing")
        if not isinstance(raw, bytes):
            raise DamagedError(f"record {seq} is not bytes")
        try:
            event = events.parse(raw)
        except events.EventError as error:
            raise DamagedError(f"record {seq}: {error}") from error
        if (event.epoch, event.seq, event.prevhash, event.hash) != (epoch, seq, previous, hash_):
            raise DamagedError(f"record {seq} does not continue the chain")
        previous = hash_
    return seq, previous
