"""Whether a journal's write-ahead log is there: without it, records that were on the disk would be gone in silence.

SQLite takes a missing or blank log for an empty one. So the file says in its own pages, not in the log, that it is in use; while
it is, a log with a header lies beside it. What cannot be seen here is a log that was cut off within: only the controller's
acknowledgement shows that (docs/journal.md).
"""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, suppress
from pathlib import Path

IN_USE = "in_use"
_MAGIC = (bytes.fromhex("377f0682"), bytes.fromhex("377f0683"))
"""The first four bytes of a write-ahead log (SQLite file format, 4.1)."""


def beside(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def size(path: Path) -> int:
    """Bytes of the log of the journal `path`."""
    try:
        return beside(path).stat().st_size
    except FileNotFoundError:
        return 0


def emptied(path: Path) -> bool:
    """The journal `path`, not yet opened, is there and has nothing in it, or only its log is there."""
    return path.stat().st_size == 0 if path.exists() else beside(path).exists()


def lost(path: Path) -> str | None:
    """What is wrong if the journal `path`, not yet opened, turns out to be in use; None: its log is there. Raises OSError."""
    if not path.exists():
        return None
    try:
        with beside(path).open("rb") as log:
            head = log.read(4)
    except FileNotFoundError:
        return "the write-ahead log is missing"
    return None if head in _MAGIC else "the write-ahead log is blank"


def begin(db: sqlite3.Connection) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, '1')", (IN_USE,))
    db.execute("PRAGMA wal_checkpoint(FULL)")  # into the file itself; the log stays, with its header


def end(db: sqlite3.Connection) -> None:
    """Raises sqlite3.Error, also within a transaction that could not be rolled back."""
    if db.in_transaction:
        raise sqlite3.OperationalError("within a transaction")
    db.execute("DELETE FROM meta WHERE key = ?", (IN_USE,))


def keep(path: Path, db: sqlite3.Connection) -> None:
    """Close `db` and leave its log where it is: only a writer that is the last to close takes it in and removes it."""
    with ExitStack() as left:
        with suppress(sqlite3.Error):
            reader = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
            left.callback(reader.close)
            reader.execute("SELECT count(*) FROM meta").fetchone()
        db.close()


def truncate(db: sqlite3.Connection) -> None:
    """Give the log's bytes back, with what was in them.

    The log is blank until something is written: meanwhile the file does not say that it is in use, or whoever is killed just
    then would find it damaged.
    """
    end(db)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    begin(db)
