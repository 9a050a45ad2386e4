"""A backup put back in place of the controller's database, which must not be running. docs/store.md.

What was there is set aside, not removed. Cut short at any point, no controller starts until the restore has been run again; that
one goes on under the name that the first has chosen, so that the old database and its log stay together.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

from controller import checksum, files
from controller.backup import (
    MODE,
    BackupError,
    Summary,
    away,
    copy_all,
    must_be_whole,
    must_have_room,
    new_part,
    settle,
    summary_of,
    version_of,
)
from controller.checksum import ChecksumError
from controller.integrity import MAGIC, beside, read_only, restoring
from controller.orders import EMERGENCY_KEPT
from controller.schema import STEPS
from controller.store import site_of
from protocol.clock import rfc3339

SUFFIXES = ("", "-wal", "-shm")
_KEPT = re.compile(r"\.before-\d{8}T\d{6}\.\d{3}Z(-\d+)?")


@dataclass(frozen=True, slots=True)
class Restored:
    kept: Path | None
    """The old database; None: there was none."""
    levels: Mapping[str, int] | None
    """By zone, of the emergency state in the backup, which is not in force; None: none was ever ordered."""


def check(source: Path, *, site: str, unsealed: bool = False) -> Summary:
    """Whether `restore` would take it; nothing is changed, and the controller may run. Raises BackupError, OSError."""
    _must_be_a_database(source)
    _must_be_unchanged(source, unsealed)
    try:
        with closing(read_only(source)) as db:
            _must_be_ours(db, source, site)
            return summary_of(db, source)
    except sqlite3.DatabaseError as error:
        raise _unreadable(source, error) from error


def restore(source: Path, database: Path, *, site: str, now: datetime, unsealed: bool = False) -> Restored:
    """Put a backup in the database's place. Call it with the state directory locked. `unsealed`: also one without a checksum.

    Raises BackupError, sqlite3.Error, OSError: the old database is still there, or the controller does not start before this has
    been done again.
    """
    _must_be_a_database(source)
    _must_be_unchanged(source, unsealed)
    _clear_away(database, source)
    must_have_room(database.parent, source)
    part = new_part(database)
    try:
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            try:
                copy_all(source, copy, None)
                _must_be_ours(copy, source, site)
                levels = _without_emergency(copy)
            except (sqlite3.DatabaseError, ValueError) as error:
                raise _unreadable(source, error) from error
        settle(part)
        return Restored(_put_in_place(part, database, now), levels)
    finally:
        away(part)


def _must_be_a_database(source: Path) -> None:
    try:
        with source.open("rb") as file:
            magic = file.read(len(MAGIC))
    except FileNotFoundError as error:
        raise BackupError(f"파일이 없습니다: {source}", f"there is no {source}") from error
    if magic != MAGIC:
        raise BackupError(f"백업이 아닙니다: {source}", f"{source} is no backup")


def _clear_away(database: Path, source: Path) -> None:
    """Copies that killed restores have left half made: they may hold exact times, which nobody would look for there."""
    ours = re.compile(rf"\.{re.escape(database.name)}\.(restoring\.)?[a-z0-9_]{{8}}(-journal|-wal|-shm)?")
    for path in database.parent.iterdir():
        if ours.fullmatch(path.name) and path != source:
            path.unlink()


def _must_be_unchanged(source: Path, unsealed: bool) -> None:
    try:
        checksum.verify(source)
    except FileNotFoundError as error:
        if not unsealed:
            name = checksum.beside(source)
            raise BackupError(
                f"체크섬 파일이 없습니다: {name}. 그래도 되돌리려면 --without-checksum",
                f"there is no checksum {name}; --without-checksum puts it back nevertheless",
            ) from error
    except ChecksumError as error:
        raise BackupError(
            f"백업이 체크섬과 맞지 않습니다: {source}",
            f"{source} is not what its checksum says: it was changed, or that was",
        ) from error


def _unreadable(source: Path, error: Exception) -> BackupError:
    return BackupError(f"읽을 수 없는 백업입니다: {source}", f"{source} cannot be read: {error}")


def _must_be_ours(copy: sqlite3.Connection, source: Path, site: str) -> None:
    tables = {name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"schema_version", "events", "chains"} <= tables:
        raise BackupError(f"관제 서버의 백업이 아닙니다: {source}", f"{source} is no backup of a controller")
    version = version_of(copy)
    if version > len(STEPS):
        raise BackupError(
            f"더 새로운 판의 백업입니다(형식 {version}, 이 프로그램은 {len(STEPS)}까지)",
            f"the backup is of a newer version (schema {version}; this program knows {len(STEPS)})",
        )
    found = site_of(copy)
    if found not in (None, site):
        raise BackupError(f"다른 청사의 백업입니다: {found}", f"the backup belongs to another site, {found}")
    must_be_whole(copy, source)


def _without_emergency(copy: sqlite3.Connection) -> Mapping[str, int] | None:
    """What was in force then may be over, and what came later is not in it: the controller must not issue it as if it were new.
    It learns the newest from the broker (controller.emergency). Raises ValueError, sqlite3.Error."""
    if not copy.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'emergency'").fetchone():
        return None  # of a version that knew of none
    row = copy.execute("SELECT levels FROM emergency WHERE one = ?", [EMERGENCY_KEPT]).fetchone()
    copy.execute("DELETE FROM emergency")
    if row is None:
        return None
    levels = json.loads(row[0])
    if not isinstance(levels, dict) or not all(type(level) is int for level in levels.values()):
        raise ValueError("its emergency state is none")
    return levels


def _put_in_place(part: Path, database: Path, now: datetime) -> Path | None:
    """The old one aside with its log, the new one in. The mark is there meanwhile: no controller starts on half of it."""
    mark = restoring(database)
    kept = _begun(database)
    if kept is None:
        kept = _new_name(database, now)
        files.replace(mark, kept.name.encode(), MODE)
    _set_aside(database, kept)
    part.rename(database)
    files.sync_directory(database.parent)
    mark.unlink()
    files.sync_directory(database.parent)
    return kept if kept.exists() else None


def _begun(database: Path) -> Path | None:
    """Where a restore that was cut short has begun to put the old one."""
    try:
        name = restoring(database).read_text("ascii", "replace")
    except FileNotFoundError:
        return None
    suffix = name.removeprefix(database.name)
    return beside(database, suffix) if suffix != name and _KEPT.fullmatch(suffix) else None


def _new_name(database: Path, now: datetime) -> Path:
    kept = beside(database, f".before-{rfc3339(now).replace(':', '').replace('-', '')}")
    names = (kept if not n else beside(kept, f"-{n}") for n in count())
    return next(name for name in names if not any(beside(name, suffix).exists() for suffix in SUFFIXES))


def _set_aside(database: Path, kept: Path) -> None:
    """The database first, and on the disk before its log follows: where either is there already, what now has the database's
    name is the copy of a restore that was cut short after that."""
    moved = any(beside(kept, suffix).exists() for suffix in SUFFIXES)
    for suffix in SUFFIXES[moved:]:
        old, new = beside(database, suffix), beside(kept, suffix)
        if old.exists() and not new.exists():
            old.rename(new)
            files.sync_directory(database.parent)
