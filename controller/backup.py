"""A copy of the database while the controller writes, and the way back from one. docs/store.md.

No key and no certificate is in it: those are files of their own, and the broker and the gates have others.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import mkstemp
from zoneinfo import ZoneInfo

from sqlite_utils import Database

from controller import files, integrity
from controller.integrity import MAGIC, beside, read_only, restoring
from controller.retention import Removal, Retention
from controller.rollups import Rollups
from controller.schema import STEPS
from controller.site_time import EARLY, LATE, Window
from controller.store import site_of
from protocol.clock import rfc3339

PAGES = 2048
"""Copied between two calls of `progress`: 8 MB."""
MODE = 0o600


class BackupError(Exception):
    """Korean and English, a line each."""

    def __init__(self, korean: str, english: str) -> None:
        super().__init__(f"{korean}\n{english}")


@dataclass(frozen=True, slots=True)
class Summary:
    version: int
    """Of the schema."""
    records: int
    detail: int
    """Records of these that tell when somebody walked."""
    left_out: int
    size: int
    """Bytes."""


Progress = Callable[[int, int], None]
"""Told pages that are left, and all."""


def back_up(
    database: Path,
    target: Path,
    *,
    time_zone: ZoneInfo,
    now: datetime,
    detail: bool = True,
    progress: Progress | None = None,
) -> Summary:
    """Copy the state of this moment. `detail`: with the exact times at which people passed. Raises BackupError, sqlite3.Error,
    OSError; `target` is there as a whole or not at all."""
    if target.exists():
        raise BackupError(f"이미 있는 파일입니다: {target}", f"{target} exists already")
    if not database.exists():
        raise BackupError(f"데이터베이스가 없습니다: {database}", f"there is no database {database}")
    part = _part(target)
    try:
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            _copy(database, copy, progress)
            removed = 0 if detail else _leave_out(copy, time_zone, now)
            summary = _summary(copy, part, removed)
            _must_be_whole(copy, part)
        _settle(part)
        _appear(part, target)
    finally:
        _away(part)
    files.sync_directory(target.parent)
    return summary


def _part(target: Path) -> Path:
    descriptor, part = mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.fchmod(descriptor, MODE)
    os.close(descriptor)
    return Path(part)


def _copy(source: Path, copy: sqlite3.Connection, progress: Progress | None) -> None:
    """All from one moment: the reader's transaction holds it, so that what is written meanwhile starts nothing over."""
    with closing(read_only(source)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        reader.backup(
            copy, pages=PAGES, progress=lambda _status, left, all_: progress and progress(left, all_), sleep=0
        )
    copy.execute("PRAGMA journal_mode = DELETE")  # one file


def _leave_out(copy: sqlite3.Connection, time_zone: ZoneInfo, now: datetime) -> int:
    """Counted first: marks say that these records are acknowledged, so that nobody sends them again."""
    version = _version(copy)
    if version != len(STEPS):
        raise BackupError(
            "데이터베이스가 이전 판의 것입니다. 관제 서버를 한 번 시작한 뒤에 하십시오",
            "the database is of an older version: start the controller once before this",
        )
    db = Database(copy)
    copy.execute("PRAGMA synchronous = OFF")  # it is not a backup before it is whole
    rollups, window = Rollups(db, time_zone), Window(now - LATE, now + EARLY, now)
    while rollups.step(window).rows:
        pass
    removal = Removal(db, Retention(), time_zone)
    removed = sum(n for _, n in removal.all_detail(now))
    copy.execute("VACUUM")
    return removed


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT max(version) FROM schema_version").fetchone()[0] or 0)


def _summary(copy: sqlite3.Connection, part: Path, removed: int) -> Summary:
    records = int(copy.execute("SELECT count(*) FROM events").fetchone()[0])
    detail = Removal(Database(copy), Retention(), ZoneInfo("UTC")).detail()
    return Summary(_version(copy), records, detail, removed, part.stat().st_size)


def _must_be_whole(db: sqlite3.Connection, path: Path) -> None:
    found = integrity.defects(db, "integrity_check")
    if found:
        raise BackupError(f"손상된 데이터베이스입니다: {path}", f"{path} is damaged: {'; '.join(found)}")


def _settle(path: Path) -> None:
    """Its bytes are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _appear(part: Path, target: Path) -> None:
    """Under its name, unless another file has taken that meanwhile."""
    try:
        os.link(part, target)
    except FileExistsError as error:
        raise BackupError(f"이미 있는 파일입니다: {target}", f"{target} exists already") from error


def _away(part: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(OSError):
            beside(part, suffix).unlink(missing_ok=True)


def restore(source: Path, database: Path, *, site: str, now: datetime) -> Path | None:
    """Put a backup in the database's place. Gives where the old one is kept; None: there was none.

    Call it with the state directory locked. Raises BackupError, sqlite3.Error, OSError: the old database is still there, or
    the controller does not start before this has been done again.
    """
    try:
        with source.open("rb") as file:
            magic = file.read(len(MAGIC))
    except FileNotFoundError as error:
        raise BackupError(f"파일이 없습니다: {source}", f"there is no {source}") from error
    if magic != MAGIC:
        raise BackupError(f"백업이 아닙니다: {source}", f"{source} is no backup")
    part = _part(database)
    try:
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            try:
                _copy(source, copy, None)
                _must_be_ours(copy, source, site)
            except sqlite3.DatabaseError as error:
                raise BackupError(f"읽을 수 없는 백업입니다: {source}", f"{source} cannot be read: {error}") from error
        _settle(part)
        return _put_in_place(part, database, now)
    finally:
        _away(part)


def _must_be_ours(copy: sqlite3.Connection, source: Path, site: str) -> None:
    tables = {name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"schema_version", "events", "chains"} <= tables:
        raise BackupError(f"관제 서버의 백업이 아닙니다: {source}", f"{source} is no backup of a controller")
    version = _version(copy)
    if version > len(STEPS):
        raise BackupError(
            f"더 새로운 판의 백업입니다(형식 {version}, 이 프로그램은 {len(STEPS)}까지)",
            f"the backup is of a newer version (schema {version}; this program knows {len(STEPS)})",
        )
    found = site_of(copy)
    if found not in (None, site):
        raise BackupError(f"다른 청사의 백업입니다: {found}", f"the backup belongs to another site, {found}")
    _must_be_whole(copy, source)


def _put_in_place(part: Path, database: Path, now: datetime) -> Path | None:
    """The old one aside with its log, the new one in. The mark is there meanwhile: no controller starts on half of it."""
    mark = restoring(database)
    mark.write_bytes(b"")
    files.sync_directory(database.parent)
    kept = beside(database, f".before-{rfc3339(now).replace(':', '').replace('-', '')}")
    for suffix in ("", "-wal", "-shm"):
        old = beside(database, suffix)
        if old.exists():
            old.rename(beside(kept, suffix))
    part.rename(database)
    files.sync_directory(database.parent)
    mark.unlink()
    files.sync_directory(database.parent)
    return kept if kept.exists() else None
