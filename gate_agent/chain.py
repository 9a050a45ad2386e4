"""Verification of a whole journal file, read-only, beside a running agent (`gwanmun journal verify`)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from gate_agent.store import DamagedError, check_rows


@dataclass(frozen=True, slots=True)
class Report:
    """`problem` is None for a chain that holds from the first record to the last."""

    epoch: str
    records: int
    unacknowledged: int
    last_hash: str
    problem: str | None


def verify(path: Path) -> Report:
    """Check every record of `path`. Raises OSError or sqlite3.Error when the file cannot be read at all."""
    if not path.is_file():
        raise FileNotFoundError(path)
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        row = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        epoch = "" if row is None else row[0]
        waiting = db.execute("SELECT count(*) FROM outbox").fetchone()[0]
        try:
            records, last_hash = check_rows(db, epoch)
        except DamagedError as error:
            return Report(epoch, db.execute("SELECT count(*) FROM records").fetchone()[0], waiting, "", str(error))
        return Report(epoch, records, waiting, last_hash, None)
    finally:
        db.close()
