"""A journal that is damaged, or that the controller contradicts: a new one is begun, with what can be salvaged of the old.

The new file is made complete under another name, with a new epoch whose first record, `log.gap`, names the one before. Then the
old file is set aside for inspection and the new one takes its place. Whatever moment the power goes at, one of them is there.

Salvaged are the records that wait for the controller, as far as the chain holds from the oldest of them; they are sent before
those of the new epoch. Marks of passes that may still be shown, open grants and the count of starts come along too.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from gate_agent import walk, writeahead
from gate_agent.gaps import MAX_WHY
from gate_agent.record import DamagedError
from gate_agent.store import TAIL, Store
from protocol.events import Kind, record_hash

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

BATCH = 500
"""Records copied in one transaction."""
NEW = ".new"
SUFFIXES = ("", "-wal", "-shm")
_CHUNK = 1 << 20

Opener = Callable[[Path], Store]
"""Opens or makes the journal at a path."""


@dataclass(frozen=True, slots=True)
class _Old:
    """What a damaged file still tells. `epoch` is None where it tells nothing."""

    epoch: str | None
    first: int
    """Of the records that wait; where none waits, the newest that is acknowledged."""


def set_aside(path: Path, why: str, gap: Mapping[str, Any], now: datetime, opener: Opener) -> None:
    """Begin a new epoch at `path`; `gap` is what its first record says beside `why` and the epoch before.

    Raises OSError where the disk takes nothing; then everything is as before."""
    new = path.with_name(path.name + NEW)
    _remove(new)
    _log.error("journal set aside: %s", why)
    try:
        with _writing(), closing(opener(new)) as store:
            told = _salvage(path, store, now)
            store.begin()
            store.own(Kind.LOG_GAP, {"why": why[:MAX_WHY], **gap, **told}, now)
            store.commit()
        if writeahead.beside(new).exists():
            raise OSError(f"{new.name}: its write-ahead log could not be taken in")
        _sync(new)
    except OSError:
        _remove(new)
        raise
    _move(path, now)
    new.rename(path)
    _sync(path.parent)


@contextmanager
def _writing() -> Iterator[None]:
    """What the new file raises, apart from what is raised by the old one, which is damaged anyway."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(f"the new journal: {error}") from error


def _reading(rows: Iterable[_T]) -> Iterator[_T]:
    """As far as the old file can be read."""
    with suppress(sqlite3.DatabaseError):
        yield from rows


def recover(path: Path, now: datetime) -> None:
    """Before the journal is opened: end what a crash in `set_aside` has left. Raises OSError."""
    new = path.with_name(path.name + NEW)
    if not new.exists():
        return
    if path.exists() or writeahead.beside(new).exists():
        _remove(new)  # not complete, or not needed yet: it is made again where it is
        return
    _move(path, now)
    new.rename(path)
    _sync(path.parent)


def _move(path: Path, now: datetime) -> None:
    """The file first: while it is there, its write-ahead log is too."""
    stamp = now.strftime("%Y%m%dT%H%M%S%f")
    for suffix in SUFFIXES:
        part = path.with_name(path.name + suffix)
        if suffix == "" and part.exists() and part.stat().st_size == 0:
            part.unlink()  # nothing to inspect
            continue
        with suppress(FileNotFoundError):
            part.rename(path.with_name(f"{path.stem}-{stamp}.damaged{suffix}"))


def _remove(path: Path) -> None:
    for suffix in SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _salvage(path: Path, store: Store, now: datetime) -> dict[str, Any]:
    """Copy what can be. Returns what `log.gap` says of it: `epoch` and `to`, as far as they are known."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)) as old:
            found = _read_old(old)
            if found.epoch is None:
                return _carved(path, store)
            for part in (_salvaged_before, _marks, _grants, _boots):
                with suppress(sqlite3.DatabaseError):
                    part(old, store, now)
            return {"epoch": found.epoch, "to": _records(old, found, store)}
    except sqlite3.Error:
        return _carved(path, store)


def _read_old(old: sqlite3.Connection) -> _Old:
    """Raises sqlite3.Error where not even the smallest tables can be read."""
    values = {}
    with suppress(sqlite3.DatabaseError):
        values = dict(old.execute("SELECT key, value FROM meta").fetchall())
    epoch = values.get("epoch")
    acked = str(values.get("acked", "0"))
    first = int(acked) if acked.isdigit() else 0
    try:
        oldest = old.execute("SELECT min(seq) FROM outbox").fetchone()[0]
    except sqlite3.DatabaseError:
        oldest = None
    held = old.execute("SELECT min(seq) FROM records").fetchone()[0] or 1
    first = max(first, held) if oldest is None else max(held, min(oldest, first + 1))
    return _Old(epoch if isinstance(epoch, str) and epoch else None, first)


def _records(old: sqlite3.Connection, found: _Old, store: Store) -> int:
    """Copies the records that wait, as far as the chain holds. Returns the last that is whole; 0: none."""
    whole = 0

    def waiting() -> Iterator[tuple[str, int, bytes, str]]:
        nonlocal whole
        with suppress(DamagedError, sqlite3.DatabaseError):
            for held in walk.walk(_rows(old, found.first), str(found.epoch), found.first, None):
                whole = held.seq
                if held.waits and held.event is not None:
                    yield (str(found.epoch), held.seq, held.event.raw, held.hash)

    _insert(store, waiting())
    return whole


def _rows(old: sqlite3.Connection, first: int) -> Iterator[walk.Row]:
    """As walk.rows; where the outbox cannot be read, every record may wait."""
    try:
        old.execute("SELECT count(*) FROM outbox").fetchone()
    except sqlite3.DatabaseError:
        for row in old.execute("SELECT seq, raw, hash FROM records WHERE seq >= ? ORDER BY seq", (first,)):
            yield walk.Row(row[0], row[1], row[2], waits=True)
    else:
        yield from walk.rows(old, first)


def _insert(store: Store, rows: Iterator[tuple[str, int, bytes, str]]) -> None:
    while batch := list(islice(rows, BATCH)):
        with _writing():
            store.begin()
            store.db.executemany("INSERT OR IGNORE INTO salvaged (epoch, seq, raw, hash) VALUES (?, ?, ?, ?)", batch)
            store.commit()


def _salvaged_before(old: sqlite3.Connection, store: Store, _now: datetime) -> None:
    """Of epochs before that."""
    rows = old.execute("SELECT epoch, seq, raw, hash FROM salvaged ORDER BY place")
    _insert(store, (row for row in _reading(rows) if isinstance(row[2], bytes) and record_hash(row[2]) == row[3]))


def _marks(old: sqlite3.Connection, store: Store, now: datetime) -> None:
    rows = old.execute("SELECT mark, until FROM pass_marks WHERE until >= ?", (now.timestamp(),))
    found = list(islice(_reading(rows), 10 * TAIL))
    with _writing():
        store.db.executemany("INSERT OR IGNORE INTO pass_marks VALUES (?, ?, 0)", found)


def _grants(old: sqlite3.Connection, store: Store, _now: datetime) -> None:
    found = list(islice(_reading(old.execute("SELECT attempt, lane, dir FROM open_grants")), TAIL))
    with _writing():
        store.db.executemany("INSERT OR IGNORE INTO open_grants VALUES (?, 0, ?, ?)", found)


def _boots(old: sqlite3.Connection, store: Store, _now: datetime) -> None:
    row = old.execute("SELECT value FROM meta WHERE key = 'boots'").fetchone()
    if row is not None and str(row[0]).isdigit():
        with _writing():
            store.db.execute("INSERT OR REPLACE INTO meta VALUES ('boots', ?)", row)


def _carved(path: Path, store: Store) -> dict[str, Any]:
    """Where SQLite reads nothing: the epoch of any record whose bytes are still in the file or its log."""
    form = re.compile(
        rb'"id":"' + re.escape(store.gate.encode()) + rb'/([0-9A-Za-z][0-9A-Za-z._:+-]{0,63})/[0-9]{1,19}"'
    )
    for part in (writeahead.beside(path), path):
        with suppress(FileNotFoundError), part.open("rb") as file:
            before = b""
            while chunk := file.read(_CHUNK):
                found = form.search(before + chunk)
                if found is not None:
                    return {"epoch": found[1].decode("ascii"), "to": 0}
                before = chunk[-256:]
    return {}
