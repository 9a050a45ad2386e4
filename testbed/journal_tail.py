"""Reads a gate's journal beside the running agent: what the demo's terminal shows and the final count is held against."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from protocol import events
from protocol.events import Event

POLL_S = 0.02


class JournalTail:
    """Read-only. The agent owns the file; WAL lets us read while it writes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, after: int = 0) -> list[Event]:
        """Records with a sequence above `after`, in order; empty while there is no journal yet."""
        return list(self._read(after))

    def _read(self, after: int) -> Iterator[Event]:
        try:
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=1.0)) as database:
                rows = database.execute(
                    "SELECT raw FROM records WHERE seq > ? AND raw IS NOT NULL ORDER BY seq", (after,)
                ).fetchall()
        except sqlite3.OperationalError:
            return  # not made yet, or just being made
        for (raw,) in rows:
            yield events.parse(raw)

    def last(self) -> int:
        """Highest sequence, 0 for none."""
        try:
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=1.0)) as database:
                return int(database.execute("SELECT coalesce(max(seq), 0) FROM records").fetchone()[0])
        except sqlite3.OperationalError:
            return 0

    async def wait_for(self, wanted: Callable[[Event], bool], *, after: int, timeout: float) -> Event:
        """The first record above `after` that is wanted. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while True:
                for event in self.read(after):
                    if wanted(event):
                        return event
                    after = event.seq
                await asyncio.sleep(POLL_S)
