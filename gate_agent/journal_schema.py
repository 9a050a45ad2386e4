"""Tables of the journal's file, and the steps from older ones. Version 1: `records.acked` held each record's own time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from gate_agent.record import DamagedError

VERSION = 2
ACK_SLOT_S = 600
"""Seconds of one row of `acks`: when records were acknowledged is known to ten minutes, whatever their number."""

_RECORDS = "CREATE TABLE records (seq INTEGER PRIMARY KEY, raw BLOB, hash TEXT NOT NULL)"
"""`raw` is NULL where only the hash is left of a record that was given up at the size bound."""
_SINCE_2 = (
    "CREATE TABLE acks (slot INTEGER PRIMARY KEY, seq INTEGER NOT NULL)",
    # Which record tells that others are gone.
    "CREATE TABLE explained (seq INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL)",
    # What still waits of earlier epochs, whose files were set aside, in the order in which it is sent.
    "CREATE TABLE salvaged (place INTEGER PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL, raw BLOB NOT NULL, "
    "hash TEXT NOT NULL, UNIQUE (epoch, seq))",
)
_SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    _RECORDS,
    "CREATE TABLE outbox (seq INTEGER PRIMARY KEY)",
    "CREATE TABLE pass_marks (mark BLOB PRIMARY KEY, until REAL NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE open_grants (attempt TEXT PRIMARY KEY, seq INTEGER NOT NULL, lane TEXT NOT NULL, dir TEXT NOT NULL) "
    "WITHOUT ROWID",
    *_SINCE_2,
)
_FROM_1 = (
    "ALTER TABLE records RENAME TO records_1",
    _RECORDS,
    "INSERT INTO records SELECT seq, raw, hash FROM records_1 ORDER BY seq",
    *_SINCE_2,
    "INSERT INTO acks SELECT CAST(strftime('%s', acked) AS INTEGER) / 600, max(seq) FROM records_1 "
    "WHERE acked IS NOT NULL GROUP BY 1",
    "INSERT INTO meta SELECT 'acked', max(seq) FROM records_1 WHERE acked IS NOT NULL HAVING max(seq) IS NOT NULL",
    "DROP TABLE records_1",
)


def prepare(db: sqlite3.Connection, random_bytes: Callable[[int], bytes]) -> None:
    """Make the tables of a new file, with a new epoch, or bring those of an older version up to date, in one transaction.
    Raises DamagedError for a version that is not ours, and sqlite3.Error."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == VERSION:
        return
    if version not in (0, 1):
        raise DamagedError(f"schema version {version}, {VERSION} is expected")
    db.execute("BEGIN IMMEDIATE")
    for statement in _FROM_1 if version else _SCHEMA:
        db.execute(statement)
    if not version:
        db.execute("INSERT INTO meta VALUES ('epoch', ?)", (random_bytes(8).hex(),))
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def number(value: str | None) -> int:
    """A number in `meta`; 0 where there is none. Raises sqlite3.DatabaseError, as SQLite does for a damaged file."""
    if value is not None and not (value.isascii() and value.isdigit()):
        raise sqlite3.DatabaseError("a number is expected in meta")
    return int(value or 0)
