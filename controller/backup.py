"""A copy of the database while the controller writes; controller.restore is the way back from one. docs/store.md.

No key and no certificate is in it: those are files of their own, and the broker and the gates have others.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import mkstemp
from zoneinfo import ZoneInfo

from sqlite_utils import Database

from controller import checksum, files, integrity
from controller.integrity import beside, read_only
from controller.retention import Removal, Retention
from controller.rollups import Rollups
from controller.schema import STEPS
from controller.site_time import EARLY, LATE, Window

PAGES = 2048
"""Copied between two calls of `progress`: 8 MB."""
MODE = 0o600
MARGIN = 64 << 20
"""Bytes left free: where the controller's own database is on the same disk, it goes on writing."""


class BackupError(Exception):
    """Korean and English, a line each."""

    def __init__(self, korean: str, english: str) -> None:
        super().__init__(f"{korean}\n{english}")


class NoRoomError(BackupError):
    """Nothing was begun."""

    def __init__(self, directory: Path, wanted: int, free: int) -> None:
        wanted, free = -(-wanted >> 20), free >> 20
        super().__init__(
            f"디스크에 자리가 모자랍니다: {directory}: {wanted} MiB가 필요하고 {free} MiB가 비어 있습니다",
            f"{directory} has too little room: {wanted} MiB are needed, {free} MiB are free",
        )


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
    OSError; `target` is there as a whole, with its checksum beside it, or not at all."""
    if not checksum.fits(target):
        raise BackupError(
            f"쓸 수 없는 파일 이름입니다: {target}", f"{target}: no backslash or control character is expected"
        )
    for path in (target, checksum.beside(target)):
        if path.exists():
            raise _exists(path)
    if not database.exists():
        raise BackupError(f"데이터베이스가 없습니다: {database}", f"there is no database {database}")
    # What is left out is kept in a journal as large as that until it is gone.
    must_have_room(target.parent, database, times=1 if detail else 2)
    part = new_part(target)
    try:
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            copy_all(database, copy, progress)
            removed = 0 if detail else _leave_out(copy, time_zone, now)
            summary = summary_of(copy, part, removed)
            must_be_whole(copy, part)
        settle(part)
        _appear(part, target)
    finally:
        away(part)
    files.sync_directory(target.parent)
    return summary


def must_have_room(directory: Path, database: Path, times: int = 1) -> None:
    """For a copy of the database and of what its log holds. Raises NoRoomError, OSError."""
    both = (path for suffix in ("", "-wal") if (path := beside(database, suffix)).exists())
    wanted = times * sum(path.stat().st_size for path in both) + MARGIN
    free = shutil.disk_usage(directory).free
    if free < wanted:
        raise NoRoomError(directory, wanted, free)


def new_part(target: Path) -> Path:
    """An empty file beside it, for its owner alone."""
    descriptor, part = mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.fchmod(descriptor, MODE)
    os.close(descriptor)
    return Path(part)


def copy_all(source: Path, copy: sqlite3.Connection, progress: Progress | None) -> None:
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
    version = version_of(copy)
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


def version_of(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT max(version) FROM schema_version").fetchone()[0] or 0)


def summary_of(copy: sqlite3.Connection, part: Path, removed: int = 0) -> Summary:
    records = int(copy.execute("SELECT count(*) FROM events").fetchone()[0])
    detail = Removal(Database(copy), Retention(), ZoneInfo("UTC")).detail()
    return Summary(version_of(copy), records, detail, removed, part.stat().st_size)


def must_be_whole(db: sqlite3.Connection, path: Path) -> None:
    found = integrity.defects(db, "integrity_check")
    if found:
        raise BackupError(f"손상된 데이터베이스입니다: {path}", f"{path} is damaged: {'; '.join(found)}")


def settle(path: Path) -> None:
    """Its bytes are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _appear(part: Path, target: Path) -> None:
    """The checksum first: a backup without one would not be put back."""
    sums = checksum.beside(target)
    sums_part = new_part(sums)
    try:
        sums_part.write_bytes(checksum.line(part, target.name))
        settle(sums_part)
        _link(sums_part, sums)
        try:
            _link(part, target)
        except BaseException:
            sums.unlink()
            raise
    finally:
        away(sums_part)


def _link(part: Path, target: Path) -> None:
    """Under its name, unless another file has taken that meanwhile."""
    try:
        os.link(part, target)
    except FileExistsError as error:
        raise _exists(target) from error


def _exists(path: Path) -> BackupError:
    return BackupError(f"이미 있는 파일입니다: {path}", f"{path} exists already")


def away(part: Path) -> None:
    """With what SQLite may have put beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(OSError):
            beside(part, suffix).unlink(missing_ok=True)
