"""The anti-passback file: tags and counts of this gate's zones, and nothing else, so that it can be left out of every backup.

A file of its own (ARCHITECTURE section 2 rule 3), mode 0600, `secure_delete`; after tags are deleted the write-ahead log is
cut to nothing too. WAL with synchronous NORMAL: a commit outlives the process, which is what a restarted agent needs, and
does not hold up the loop for a disk. A power cut may lose the last moments, but it stops the lanes as well, and the other gates
have been told. A damaged file is thrown away: the other gates give back what it held.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from protocol.zone import ORIGIN_BYTES

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE movements (zone TEXT, period INTEGER, tag BLOB, stamp INTEGER, origin BLOB, inward INTEGER NOT NULL,
    PRIMARY KEY (zone, period, tag, stamp, origin, inward)) WITHOUT ROWID;
CREATE TABLE noted (zone TEXT, period INTEGER, tag BLOB, stamp INTEGER,
    PRIMARY KEY (zone, period, tag, stamp)) WITHOUT ROWID;
CREATE TABLE reservations (zone TEXT, period INTEGER, ref BLOB, tag BLOB NOT NULL, until INTEGER NOT NULL,
    own INTEGER NOT NULL, inward INTEGER NOT NULL, PRIMARY KEY (zone, period, ref)) WITHOUT ROWID;
CREATE TABLE floors (zone TEXT, period INTEGER, stamp INTEGER NOT NULL, PRIMARY KEY (zone, period)) WITHOUT ROWID;
CREATE TABLE counts (zone TEXT, origin BLOB, day INTEGER NOT NULL, entered INTEGER NOT NULL, left INTEGER NOT NULL,
    PRIMARY KEY (zone, origin)) WITHOUT ROWID;
"""
_TABLES = ("movements", "noted", "reservations", "floors", "counts")


class ZoneStoreError(Exception):
    """The file cannot be written now."""


class Op(StrEnum):
    """What is done to one row."""

    PUT_MOVEMENT = "INSERT OR IGNORE INTO movements VALUES (?, ?, ?, ?, ?, ?)"
    DELETE_MOVEMENT = (
        "DELETE FROM movements WHERE zone = ? AND period = ? AND tag = ? AND stamp = ? AND origin = ? AND inward = ?"
    )
    DELETE_UP_TO = "DELETE FROM movements WHERE zone = ? AND period = ? AND stamp <= ?"
    PUT_NOTED = "INSERT OR IGNORE INTO noted VALUES (?, ?, ?, ?)"
    PUT_RESERVATION = "INSERT OR REPLACE INTO reservations VALUES (?, ?, ?, ?, ?, ?, ?)"
    DELETE_RESERVATION = "DELETE FROM reservations WHERE zone = ? AND period = ? AND ref = ?"
    PUT_FLOOR = "INSERT OR REPLACE INTO floors VALUES (?, ?, ?)"
    PUT_COUNT = "INSERT OR REPLACE INTO counts VALUES (?, ?, ?, ?, ?)"
    DELETE_COUNT = "DELETE FROM counts WHERE zone = ? AND origin = ?"


Change = tuple[Op, tuple[Any, ...]]


class ZoneStore:
    """One open file, for one thread. `origin` is random and the file's own; `epoch` is greater than at any start before."""

    def __init__(self, path: Path, *, now_ms: int, random_bytes: Callable[[int], bytes]) -> None:
        """Open or create. Raises ZoneStoreError where not even a new file can be made."""
        self._path = path
        self.renewed = False
        """True: what was there was damaged, and is gone."""
        try:
            try:
                self._open(now_ms, random_bytes)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                # Not an OperationalError: "file is not a database", a malformed image, or another program's schema.
                self._db.close()
                for suffix in ("", "-wal", "-shm"):
                    path.with_name(path.name + suffix).unlink(missing_ok=True)
                self.renewed = True
                self._open(now_ms, random_bytes)
        except (sqlite3.Error, OSError) as error:
            raise ZoneStoreError(str(error)) from error

    def _open(self, now_ms: int, random_bytes: Callable[[int], bytes]) -> None:
        # SQLite gives its log and index the mode of the file.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        self._path.chmod(0o600)
        self._db = sqlite3.connect(self._path, isolation_level=None, timeout=0.1)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA secure_delete = ON")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in {0, SCHEMA_VERSION}:
            raise sqlite3.DatabaseError("another schema version")
        if version == 0:
            self._db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.strip().split(";\n"):
                self._db.execute(statement)
            self._db.execute("INSERT INTO meta VALUES ('origin', ?)", (random_bytes(ORIGIN_BYTES),))
            self._db.execute("INSERT INTO meta VALUES ('epoch', 0)")
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._db.execute("COMMIT")
        if self._db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("damaged")
        meta = dict(self._db.execute("SELECT key, value FROM meta"))
        origin, epoch = meta.get("origin"), meta.get("epoch")
        if not isinstance(origin, bytes) or len(origin) != ORIGIN_BYTES or not isinstance(epoch, int):
            raise sqlite3.DatabaseError("whose file this is does not stand in it")
        self.origin = origin
        self.epoch: int = max(epoch + 1, now_ms)
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (self.epoch,))

    def close(self) -> None:
        self._db.close()

    def apply(self, changes: Iterable[Change]) -> None:
        """All of them or none, durable when it returns. Raises ZoneStoreError."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for op, values in changes:
                    self._db.execute(op, values)
                self._db.execute("COMMIT")
            except sqlite3.Error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise ZoneStoreError(str(error)) from error

    def rewrite(self, rows: Iterable[Change]) -> None:
        """Everything anew, after writes that failed. Raises ZoneStoreError."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for table in _TABLES:
                    self._db.execute(f"DELETE FROM {table}")  # noqa: S608  (a constant name)
                for op, values in rows:
                    self._db.execute(op, values)
                self._db.execute("COMMIT")
            except sqlite3.Error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise ZoneStoreError(str(error)) from error

    def keep_only(self, zone: str, periods: Sequence[int]) -> bool:
        """Delete what belongs to other tag periods of `zone`. True: there was some. Raises ZoneStoreError."""
        marks = ", ".join("?" * len(periods))
        gone = 0
        try:
            for table in ("movements", "noted", "reservations", "floors"):
                statement = f"DELETE FROM {table} WHERE zone = ? AND period NOT IN ({marks})"  # noqa: S608
                gone += self._db.execute(statement, (zone, *periods)).rowcount
        except sqlite3.Error as error:
            raise ZoneStoreError(str(error)) from error
        return gone > 0

    def keep_zones(self, zones: Sequence[str]) -> bool:
        """Delete what belongs to zones that this gate is no longer in. True: there was some. Raises ZoneStoreError."""
        marks = ", ".join("?" * len(zones))
        gone = 0
        try:
            for table in _TABLES:
                statement = f"DELETE FROM {table} WHERE zone NOT IN ({marks})"  # noqa: S608
                gone += self._db.execute(statement, tuple(zones)).rowcount
        except sqlite3.Error as error:
            raise ZoneStoreError(str(error)) from error
        return gone > 0

    def truncate(self) -> None:
        """Cut the write-ahead log, so that deleted tags are gone from it too. Raises ZoneStoreError."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise ZoneStoreError(str(error)) from error

    def select(self, columns: str, table: str, zone: str) -> list[tuple[Any, ...]]:
        """Rows of one zone. Raises ZoneStoreError."""
        try:
            found = self._db.execute(f"SELECT {columns} FROM {table} WHERE zone = ?", (zone,))  # noqa: S608
            return found.fetchall()
        except sqlite3.Error as error:
            raise ZoneStoreError(str(error)) from error
