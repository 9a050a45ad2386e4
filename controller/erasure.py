"""After retention: what was removed is nowhere in the database's files any more. docs/store.md.

The write-ahead log is emptied, then the file is scrubbed (controller.scrub) a part at a time, each under the write lock.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from controller import scrub

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = 8192
"""In one part: 32 MB, some 50 ms during which nothing is written."""
PART_S = 10.0
"""Longest that a part may take."""
READER_MS = 100
"""How long a reader of an old state is waited for; then it is tried again later."""


class ErasureError(Exception):
    """Not now: a reader is in the way, or the scrubbing process has failed. What was removed may still be in the files."""


class Erasure:
    """Every method belongs to the store's thread. Raises ErasureError, sqlite3.Error, OSError."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path

    def part(self, first: int) -> int | None:
        """Scrub the pages from `first` (1) on. Gives the first of the next part; None: that was the last."""
        self.empty_log()
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            log = self._path.with_name(self._path.name + "-wal")
            if log.exists() and log.stat().st_size:
                raise ErasureError("the write-ahead log is in use")
            pages = int(self._connection.execute("PRAGMA page_count").fetchone()[0])
            self._scrub(first)
        finally:
            self._connection.execute("ROLLBACK")
            # Pages in memory still hold what was zeroed, and would bring it back.
            self._connection.execute("PRAGMA shrink_memory")
        return first + PAGES if first + PAGES <= pages else None

    def _scrub(self, first: int) -> None:
        script = [sys.executable, "-I", "-S", scrub.__file__, str(self._path), str(first), str(PAGES)]
        try:
            done = subprocess.run(script, capture_output=True, timeout=PART_S, check=False)  # noqa: S603  own program
        except subprocess.TimeoutExpired as error:
            raise ErasureError(f"pages from {first}: not done in {PART_S:g} s") from error
        if done.returncode:
            raise ErasureError(f"pages from {first}: {done.stderr.decode(errors='replace').strip()[:200]}")

    def empty_log(self) -> None:
        """Everything into the database file, and the log to nothing."""
        with self._waiting(READER_MS):
            busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise ErasureError("a reader holds an older state")

    @contextmanager
    def _waiting(self, milliseconds: int) -> Iterator[None]:
        before = self._connection.execute("PRAGMA busy_timeout").fetchone()[0]
        self._connection.execute(f"PRAGMA busy_timeout = {milliseconds}")
        try:
            yield
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {before}")
