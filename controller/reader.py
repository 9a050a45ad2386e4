"""The read side of the controller's database: a connection that cannot write, questions one at a time in a thread of their own.

Each question sees one moment and lets go of it at its end, so that the write-ahead log can be emptied; one that takes too long is
given up.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from controller.query_rows import BusyError, TooLongError
from protocol.clock import Clock

LONGEST_S = 5.0
"""For one question; the pages' own take milliseconds."""
STEPS = 20_000
"""Of SQLite's machine between two looks at the clock: some 2 ms."""
CACHE_KIB = 65536
MAX_WAITING = 64
"""Questions asked and not answered; the next is refused."""
T = TypeVar("T")


class Reader:
    """All calls come from one thread at a time."""

    def __init__(self, path: Path, clock: Clock, longest_s: float = LONGEST_S) -> None:
        """Raises sqlite3.Error, also where there is no database yet."""
        self.clock = clock
        self._longest_s, self._until = longest_s, 0.0
        self.connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            self.connection.execute("PRAGMA query_only = ON")
            self.connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self.connection.execute("PRAGMA temp_store = MEMORY")
        except BaseException:
            self.connection.close()
            raise
        self.connection.set_progress_handler(self._late, STEPS)

    def close(self) -> None:
        self.connection.close()

    def _late(self) -> bool:
        return self.clock.monotonic() > self._until

    @contextmanager
    def moment(self) -> Iterator[None]:
        """What is read inside is of one moment. Raises TooLongError, sqlite3.Error."""
        self._until = self.clock.monotonic() + self._longest_s
        self.connection.execute("BEGIN")
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise TooLongError(
                    "답하는 데 너무 오래 걸립니다. 기간을 줄이십시오", "the answer takes too long; ask for less time"
                ) from error
            raise
        finally:
            self._until = float("inf")
            self.connection.execute("ROLLBACK")

    def rows(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[Any]:
        """Inside `moment`."""
        with closing(self.connection.execute(sql, parameters)) as found:
            return found.fetchall()


class QueryThread:
    """The one thread that asks. As controller.ingest.StoreThread, and a slow question holds up no commit."""

    def __init__(self, most: int = MAX_WAITING) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="query")
        self._most, self._waiting, self._lock = most, 0, Lock()

    async def call(self, work: Callable[[], T]) -> T:
        """Raises BusyError, and what `work` raises. A caller that gives up leaves its question to be answered to nobody."""
        if self._waiting >= self._most:
            raise BusyError("기다리는 질문이 너무 많습니다", "too many questions wait")
        future = self._executor.submit(work)
        with self._lock:
            self._waiting += 1
        future.add_done_callback(self._answered)
        return await asyncio.wrap_future(future)

    def _answered(self, _: Future[Any]) -> None:
        """In the thread, or the caller's where the question was given up before its turn."""
        with self._lock:
            self._waiting -= 1

    def shutdown(self) -> None:
        self._executor.shutdown(wait=True)
