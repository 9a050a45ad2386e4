"""What the store does for itself: counts what has come, removes what is past its days, leaves nothing of it in the files.

All of it in small steps in the store's thread, between the commits of ingest, which wait for one step at most.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from random import Random

from controller.alarm_kinds import RETENTION
from controller.alarm_rows import Troubles
from controller.erasure import ErasureError
from controller.ingest import RETRY_BASE_S, RETRY_CAP_S, StoreThread
from controller.rollups import ROWS
from controller.site_time import SiteTime
from controller.store import Store
from protocol.backoff import Backoff
from protocol.clock import Clock, rfc3339

TICK_S = 2.0
"""Between looks for records that are not counted yet."""
EVERY_S = 3600.0
"""Between runs of retention. The first is at the start, when all is counted."""
FAILURES, UPKEEP = 20, "upkeep"
"""So many in a row, some minutes, are an alarm, with this for its detail."""
SHARE = 3.0
"""While there is more to do, a step is followed by a pause of so many times its length: ingest comes first."""
_log = logging.getLogger(__name__)


class Upkeep:
    def __init__(
        self,
        store: Store,
        thread: StoreThread,
        *,
        clock: Clock,
        random: Random,
        troubles: Troubles,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`troubles`: where it becomes an alarm that something past its days is still there."""
        self._troubles = troubles
        self._store, self._thread, self._clock, self._sleep = store, thread, clock, sleep
        self._backoff = Backoff(RETRY_BASE_S, RETRY_CAP_S, random)
        self._time: SiteTime | None = None
        self._due = clock.monotonic()
        self._unclean = True
        """Something that was removed may still be in the files; after a start nobody knows."""
        self._page = 1
        """Where erasing goes on: a reader in the way ends it, and it must come to the end some time."""
        self._told = False

    async def run(self) -> None:
        """For ever. A store that cannot write is tried again; one that goes on failing is an alarm."""
        failed: int | None = None
        while True:
            try:
                await self.once()
                if failed is None or failed >= FAILURES:  # also what an earlier run has left
                    await self._troubles.trouble(RETENTION, UPKEEP, holds=False)
                failed = 0
            except (sqlite3.Error, OSError, ErasureError) as error:
                _log.warning("upkeep of the store: %s", error)
                failed = (failed or 0) + 1
                if failed >= FAILURES:
                    with suppress(sqlite3.Error, OSError):
                        await self._troubles.trouble(RETENTION, UPKEEP, holds=True)
                await self._sleep(self._backoff.next())
            else:
                self._backoff.reset()
                await self._sleep(TICK_S)

    async def once(self) -> None:
        """Count everything that is there; where it is time, remove and erase."""
        if self._time is None:
            self._time = SiteTime(self._clock, await self._thread.call(self._store.kept_time))
        await self._count(self._time)
        if self._clock.monotonic() >= self._due:
            await self._remove(self._time)
            self._due = self._clock.monotonic() + EVERY_S
        if self._unclean:
            await self._erase()
            self._unclean = False

    async def _count(self, time: SiteTime) -> None:
        while True:
            began = self._clock.monotonic()
            done = await self._thread.call(partial(self._store.rollups.step, time.window()))
            time.hear({gate: datetime.fromisoformat(each) for gate, each in done.heard.items()})
            if done.rows < ROWS:
                return
            await self._pause(began)

    async def _remove(self, time: SiteTime) -> None:
        now = time.now()
        if time.doubted != self._told:
            self._told = time.doubted
            if self._told:
                _log.error("the clock jumped and no gate confirms it; retention goes by %s", rfc3339(now))
        await self._thread.call(partial(self._store.keep_time, now))
        removed: set[str] = set()
        steps = await self._thread.call(partial(self._store.removal.run, now, self._clock.now))
        while True:
            began = self._clock.monotonic()
            step = await self._thread.call(partial(_next, steps))
            if step is None:
                break
            removed.add(step[0])
            self._unclean, self._page = True, 1
            await self._pause(began)
        if removed:
            head = await self._thread.call(self._store.deletions_head)
            # How many is in the proofs alone: of a quiet night the number says who was there.
            _log.info(
                "retention removed records or rows of %s; head of the proofs %s", ", ".join(sorted(removed)), head
            )
        overdue = await self._thread.call(partial(self._store.removal.overdue, now))
        if overdue:
            _log.warning(
                "%d records are past their days, but lie behind a hole or a break that nobody explains", overdue
            )
        await self._troubles.trouble(RETENTION, "", holds=bool(overdue))

    async def _erase(self) -> None:
        first: int | None = self._page
        while first is not None:
            self._page = first
            began = self._clock.monotonic()
            first = await self._thread.call(partial(self._store.erasure.part, first))
            await self._pause(began)
        self._page = 1

    async def _pause(self, began: float) -> None:
        await self._sleep(SHARE * (self._clock.monotonic() - began))


def _next(steps: Iterator[tuple[str, int]]) -> tuple[str, int] | None:
    return next(steps, None)
