"""Orders in force at each lane and the newest emergency state, in a file that outlives restart, kill and power cut.

WAL with synchronous FULL: what `save` wrote is on the disk before it returns, and the caller lets it count only then. A file
that is damaged or cut off opens nothing: every lane comes up out of service (entry refused, exit free) until a guard ends that.
Synchronous, for one thread; `KeptModes` is the asynchronous side.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from gate_agent.passage import Orders
from gate_agent.passage.machine import MAX_LEVEL
from protocol import topics

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE modes (
    lane TEXT PRIMARY KEY,
    fire INTEGER NOT NULL, disabled INTEGER NOT NULL, lockdown INTEGER NOT NULL, free INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
"""
MAX_SEQUENCE = 2**63 - 1
NO_LEVELS = "{}"
DAMAGED_ORDERS = Orders(disabled=True)
"""Out of service: entry refused, exit free, fire as ever. What the lane had been ordered is not known any more."""
_PARTS = ("", "-wal", "-shm")
_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"
"""SQLite takes an empty file for a new one, and one of unknown read or write version (bytes 18, 19) for read-only."""
_PLACE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
"""Errors of the disk or of whoever else holds the file. Any other says that the file itself is damaged."""

T = TypeVar("T")


class _DamagedError(Exception):
    """The file does not say what it was made to say."""


class Modes:
    """One open file. Every method may raise sqlite3.Error."""

    def __init__(self, path: Path, lanes: Collection[str]) -> None:
        """Open, create, or set a damaged file aside. Raises OSError or sqlite3.Error where the place cannot be written."""
        self._path = path
        self._db: sqlite3.Connection
        self._orders: dict[str, Orders]
        self._sequence: int
        self._levels: dict[str, int]
        self.damaged: str | None = None
        """What was wrong with the file that was found; None: nothing. Say it, once."""
        if self._marker.exists():
            self._replace("a damaged file was being set aside when the power went", lanes)
        elif not path.exists():
            if _beside(path, "-wal").exists():
                self._replace("the file is missing and its log is there", lanes)
            else:
                self._create({}, 0, {})
                self._open()
        else:
            try:
                self._open()
            except _DamagedError as error:
                self._replace(str(error), lanes)
            except sqlite3.DatabaseError as error:
                # Python's own, such as text that is no UTF-8, have no code.
                if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _PLACE:
                    raise
                self._replace(str(error), lanes)

    def close(self) -> None:
        self._db.close()

    def load(self) -> dict[str, Orders]:
        """Orders by lane; a lane that was never ordered anything is not in it."""
        return dict(self._orders)

    @property
    def sequence(self) -> int:
        """Of the newest emergency state that was adopted; 0 for none."""
        return self._sequence

    @property
    def levels(self) -> Mapping[str, int]:
        """By zone, of that state; what a later one changes is told apart from what was ordered here meanwhile."""
        return dict(self._levels)

    def save(self, lane: str, orders: Orders) -> None:
        """On the disk when it returns."""
        self._write({**self._orders, lane: orders}, self._sequence, self._levels)

    def adopt(self, sequence: int, orders: Mapping[str, Orders], levels: Mapping[str, int] | None = None) -> None:
        """An emergency state and what it orders, together or not at all. Raises ValueError for a sequence that is not newer."""
        if not self._sequence < sequence <= MAX_SEQUENCE:
            raise ValueError(f"sequence: more than {self._sequence} is expected")
        self._write({**self._orders, **orders}, sequence, levels or {})

    def _write(self, orders: Mapping[str, Orders], sequence: int, levels: Mapping[str, int]) -> None:
        _check(orders)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            _fill(self._db, orders, sequence, levels)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._orders, self._sequence, self._levels = dict(orders), sequence, dict(levels)
        # The log is emptied at once, so that losing it loses nothing. Where that fails, the next start does it.
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _open(self) -> None:
        """Raises _DamagedError or sqlite3.Error."""
        with self._path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        if not header.startswith(_MAGIC) or not {*header[18:20]} <= {1, 2}:
            raise _DamagedError("the file is no database of this kind")
        db = sqlite3.connect(self._path, isolation_level=None, timeout=0.2, check_same_thread=False)
        try:
            db.execute("PRAGMA synchronous = FULL")
            self._orders, self._sequence, self._levels = _read(db)
            db.execute("PRAGMA journal_mode = WAL")
        except UnicodeDecodeError as error:
            db.close()
            raise _DamagedError("the text in it is no UTF-8") from error
        except BaseException:
            db.close()
            raise
        self._db = db

    # A file is made beside and moved into place whole, so that an unfinished one is never found.

    def _create(self, orders: Mapping[str, Orders], sequence: int, levels: Mapping[str, int]) -> None:
        new = _beside(self._path, ".new")
        for part in ("", "-journal"):
            _beside(new, part).unlink(missing_ok=True)
        with closing(sqlite3.connect(new, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = EXTRA")
            db.execute("BEGIN")
            for statement in _SCHEMA.strip().split(";\n"):
                db.execute(statement)
            _fill(db, orders, sequence, levels)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            db.execute("COMMIT")
        new.replace(self._path)
        _sync_directory(self._path.parent)

    @property
    def _marker(self) -> Path:
        """There while a damaged file is being replaced: a crash in between must not make it a first start."""
        return _beside(self._path, ".replacing")

    def _replace(self, why: str, lanes: Iterable[str]) -> None:
        self._marker.touch()
        _sync_directory(self._path.parent)
        for part in _PARTS:
            found = _beside(self._path, part)
            if found.exists():
                found.replace(
                    _beside(self._path, f".damaged{part}")
                )  # the newest one is kept, for whoever looks into it
        self._create(dict.fromkeys(lanes, DAMAGED_ORDERS), 0, {})
        self._open()
        self._marker.unlink()
        _sync_directory(self._path.parent)
        self.damaged = why


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check(orders: Mapping[str, Orders]) -> None:
    for lane, each in orders.items():
        if not topics.ID.fullmatch(lane) or not 0 <= each.lockdown <= MAX_LEVEL:
            raise ValueError("a lane's name, and a level from 0 to 9, are expected")


def _row(lane: str, orders: Orders) -> tuple[str, int, int, int, int]:
    return lane, int(orders.fire), int(orders.disabled), orders.lockdown, int(orders.free)


def _digest(rows: Iterable[tuple[object, ...]], sequence: int, levels: str) -> str:
    """Over the whole content: a bit that turns in a page, or a row that is gone, is seen."""
    # Without levels as before there were any, so that a file of then is read.
    content = (sorted(rows, key=repr), sequence, levels) if levels != NO_LEVELS else (sorted(rows, key=repr), sequence)
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _fill(db: sqlite3.Connection, orders: Mapping[str, Orders], sequence: int, levels: Mapping[str, int]) -> None:
    rows = [_row(lane, each) for lane, each in orders.items()]
    db.execute("DELETE FROM modes")
    db.executemany("INSERT INTO modes VALUES (?, ?, ?, ?, ?)", rows)
    db.execute("DELETE FROM meta")
    text = json.dumps(dict(sorted(levels.items())))
    meta = [("sequence", sequence), ("levels", text), ("digest", _digest(rows, sequence, text))]
    db.executemany("INSERT INTO meta VALUES (?, ?)", meta)


def _read(db: sqlite3.Connection) -> tuple[dict[str, Orders], int, dict[str, int]]:
    """Raises _DamagedError or sqlite3.Error."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise _DamagedError(f"schema version {version}, {SCHEMA_VERSION} is expected")
    found = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    rows = db.execute("SELECT lane, fire, disabled, lockdown, free FROM modes").fetchall()
    meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
    if found != "ok":
        raise _DamagedError("the integrity check fails")
    sequence, levels = meta.get("sequence"), meta.get("levels", NO_LEVELS)
    if not isinstance(levels, str) or not isinstance(sequence, int):
        raise _DamagedError("sequence and levels are expected")
    if meta.get("digest") != _digest(rows, sequence, levels):
        raise _DamagedError("the content does not match its digest")
    found = {
        lane: Orders(fire=bool(fire), disabled=bool(disabled), lockdown=lockdown, free=bool(free))
        for lane, fire, disabled, lockdown, free in rows
    }
    return found, sequence, json.loads(levels)


class KeptModes:
    """`Modes` in a thread of its own (gate_agent.barrier.OrdersKept). `open` first, `close` at the end."""

    def __init__(self, path: Path, lanes: Collection[str]) -> None:
        self._path, self._lanes = path, tuple(lanes)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="modes")
        self._modes: Modes | None = None

    async def open(self) -> Modes:
        """What is there; read `load`, `sequence` and `damaged` from it, write through this. Raises OSError or sqlite3.Error."""
        self._modes = await self._call(partial(Modes, self._path, self._lanes))
        return self._modes

    async def save(self, lane: str, orders: Orders) -> None:
        """Returns once it is durable. Raises OSError or sqlite3.Error, also for a file that could not be opened."""
        await self._call(lambda: self._opened().save(lane, orders))

    async def adopt(self, sequence: int, orders: Mapping[str, Orders], levels: Mapping[str, int] | None = None) -> None:
        """As `Modes.adopt`. Raises OSError, sqlite3.Error or ValueError."""
        await self._call(lambda: self._opened().adopt(sequence, orders, levels))

    async def emergency(self) -> tuple[int, Mapping[str, int]]:
        """Sequence and levels of the newest emergency state that was adopted. Raises OSError or sqlite3.Error."""

        def work() -> tuple[int, Mapping[str, int]]:
            modes = self._opened()
            return modes.sequence, modes.levels

        return await self._call(work)

    async def close(self) -> None:
        if self._modes is not None:
            await self._call(self._modes.close)
        self._executor.shutdown(wait=False)

    def _opened(self) -> Modes:
        """In the thread. Raises OSError or sqlite3.Error."""
        if self._modes is None:
            self._modes = Modes(self._path, self._lanes)  # the disk was full or read-only at start
        return self._modes

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
