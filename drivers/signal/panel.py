"""A sign made of parts (lamps, sound, text), so that nobody depends on one sense: the `panel` signal driver.

Each part is kept running by itself. One that is gone is told by name, once, and tried again with growing pauses; the others
go on. The sign as a whole has failed only when every part is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from drivers.ports import DriverError, Message
from drivers.signal.parts import Part, Slot
from drivers.signal.sound import PartReport
from protocol.backoff import Backoff

_log = logging.getLogger(__name__)

START_S = 8.0
"""Longest wait for a part to start."""
STOP_S = 2.0
BACKOFF_BASE_S, BACKOFF_CAP_S = 1.0, 30.0
STABLE_S = 60.0
"""A part that ran this long starts its next back-off from the base."""


class _Kept:
    """One part, and how it fares."""

    def __init__(self, part: Part, random: Random) -> None:
        self.part, self.slot = part, Slot()
        self.backoff = Backoff(BACKOFF_BASE_S, BACKOFF_CAP_S, random)
        self.works = False
        self.problem = ""
        self.first = asyncio.Event()
        """Its first start has ended, one way or the other."""
        self.task: asyncio.Task[None] | None = None


class Panel:
    """drivers.ports.Signal."""

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        report: PartReport,
        random: Random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`report(part, works, why)` is called on each change of a part, and for one whose first start fails. Raises ValueError
        where there are no parts."""
        if not parts:
            raise ValueError("a panel wants one part or more")
        self._kept = [_Kept(part, random) for part in parts]
        self._report, self._sleep = report, sleep
        self._down: set[str] = set()
        """Outlives a restart of the whole sign: what was told is not told again."""

    async def start(self) -> None:
        """Raises DriverError where no part starts."""
        await self.stop()
        for kept in self._kept:
            kept.first.clear()
            kept.slot = Slot()  # what was shown before the sign failed is no longer meant
            kept.task = asyncio.create_task(self._keep(kept))
        await asyncio.gather(*(kept.first.wait() for kept in self._kept))
        try:
            self._some_part_works()
        except DriverError:
            await self.stop()
            raise

    async def stop(self) -> None:
        tasks = [kept.task for kept in self._kept if kept.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for kept in self._kept:
            kept.task, kept.works = None, False

    async def gone(self) -> None:
        """Never: each part that is lost is told of by itself, and all of them with the next message."""
        await asyncio.Event().wait()

    async def show(self, message: Message) -> None:
        """Handed to every part that works; nobody waits for a device. Raises DriverError when every part is gone."""
        for kept in self._kept:
            kept.slot.put(message)
        self._some_part_works()

    def _some_part_works(self) -> None:
        if any(kept.works for kept in self._kept):
            return
        if all(kept.task is None for kept in self._kept):
            raise DriverError("not started")
        raise DriverError("; ".join(f"{kept.part.name}: {kept.problem}" for kept in self._kept))

    async def _keep(self, kept: _Kept) -> None:
        """For ever: start the part, let it work, and after a failure do so again. Ends by cancellation."""
        time = asyncio.get_running_loop().time
        while True:
            began = time()
            try:
                await self._start(kept)
                kept.slot.again()
                await kept.part.work(kept.slot)
            except DriverError as error:
                self._failed(kept, str(error))
            except Exception as error:
                # A part may raise only DriverError; a fault in one must not take the others along.
                _log.exception("%s: unexpected error", kept.part.name)
                self._failed(kept, type(error).__name__)
            finally:
                kept.works = False
                kept.first.set()
                await self._stop(kept.part)
            if time() - began >= STABLE_S:
                kept.backoff.reset()
            await self._sleep(kept.backoff.next())

    async def _start(self, kept: _Kept) -> None:
        try:
            async with asyncio.timeout(START_S):
                await kept.part.start()
        except TimeoutError:
            raise DriverError("it does not start") from None
        kept.works, kept.problem = True, ""
        kept.first.set()
        if kept.part.name in self._down:
            self._down.discard(kept.part.name)
            self._report(kept.part.name, True, "")

    def _failed(self, kept: _Kept, why: str) -> None:
        kept.works, kept.problem = False, why
        if kept.part.name not in self._down:
            self._down.add(kept.part.name)
            self._report(kept.part.name, False, why)

    @staticmethod
    async def _stop(part: Part) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await part.stop()
        except Exception as error:
            # Stopping is best effort: the device may be the thing that failed.
            _log.warning("%s did not stop cleanly: %s", part.name, type(error).__name__)
