"""Whether the database is whole, before anything is written to it. One that is not is left as it is (docs/store.md).

Before the start: the header, the schema and the chains, and of a database that is not large every page. A large one is read
through beside the running controller.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

LARGE_BYTES = 256 << 20
"""Up to here every page is looked at before the start: within a second or two, also on a slow disk within systemd's patience."""
MAGIC = b"SQLite format 3\0"
FOUND = 5
"""Defects told."""
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class DamagedError(Exception):
    """Korean and English, a line each, with what to do."""

    def __init__(self, path: Path, korean: str, english: str) -> None:
        super().__init__(
            f"저장소가 손상되었습니다: {path}: {korean}. 파일을 그대로 두고 백업을 되돌리십시오(gwanmun restore). "
            "게이트가 그 뒤의 기록을 다시 보냅니다.\n"
            f"{path} is damaged: {english}. Leave the file as it is and put a backup back (gwanmun restore); the gates send "
            "again what came after it."
        )


class UnfinishedError(DamagedError):
    """A restore was cut short."""

    def __init__(self, path: Path) -> None:
        Exception.__init__(
            self,
            f"백업을 되돌리다 멈췄습니다: {path}. gwanmun restore를 다시 실행하십시오.\n"
            f"{path}: a restore was cut short. Run gwanmun restore again.",
        )


def beside(database: Path, suffix: str) -> Path:
    return database.with_name(database.name + suffix)


def restoring(database: Path) -> Path:
    """Is there while a restore moves files about."""
    return beside(database, ".restoring")


def check(database: Path, large: int = LARGE_BYTES) -> bool:
    """Look before the store is opened. False: it is large, and `check_beside` has still to read it. Raises DamagedError,
    sqlite3.Error, OSError."""
    if restoring(database).exists():
        raise UnfinishedError(database)
    size = database.stat().st_size if database.exists() else 0
    if not size:
        log = beside(database, "-wal")
        if log.exists() and log.stat().st_size:
            raise DamagedError(database, "데이터베이스 없이 로그만 있습니다", "there is a log, and no database")
        return True
    with database.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise DamagedError(database, "SQLite 데이터베이스가 아닙니다", "it is no SQLite database")
    try:
        with closing(read_only(database)) as db:
            _look(db, database)
            if size > large:
                return False
            found = defects(db)
    except sqlite3.DatabaseError as error:
        if not _damage(error):
            raise
        found = [str(error)]
    if found:
        raise DamagedError(database, "검사에서 오류가 나왔습니다", "; ".join(found))
    return True


async def check_beside(database: Path) -> list[str]:
    """Read the whole of it, beside whoever writes. Gives what is wrong. Raises sqlite3.Error."""
    db = read_only(database)
    work = asyncio.get_running_loop().run_in_executor(None, _defects_or_damage, db)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        db.interrupt()
        await asyncio.wait([work])
        work.exception()
        raise
    finally:
        db.close()


def read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )


def defects(db: sqlite3.Connection, pragma: str = "quick_check") -> list[str]:
    """`quick_check` or `integrity_check`."""
    rows = [str(row[0]) for row in db.execute(f"PRAGMA {pragma}({FOUND})")]
    return [] if rows == ["ok"] else rows


def _defects_or_damage(db: sqlite3.Connection) -> list[str]:
    try:
        return defects(db)
    except sqlite3.DatabaseError as error:
        if not _damage(error):
            raise
        return [str(error)]


def _damage(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def _look(db: sqlite3.Connection, database: Path) -> None:
    """Raises DamagedError, sqlite3.DatabaseError."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return  # made, and never filled
    if not {"schema_version", "events", "chains"} <= tables:
        raise DamagedError(database, "관제 서버의 표가 없습니다", "the controller's tables are missing")
    bad = db.execute(
        "SELECT count(*) FROM chains WHERE typeof(mark) != 'integer' OR mark < 0 OR length(hash) != 64 OR hash GLOB '*[^0-9a-f]*'"
    ).fetchone()[0]
    if bad:
        raise DamagedError(database, f"사슬 {bad}개를 읽을 수 없습니다", f"{bad} chains cannot be read")
    db.execute("SELECT max(arrival), min(arrival) FROM events").fetchone()
