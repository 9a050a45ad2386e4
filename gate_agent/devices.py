"""Keeps one device running: start it, use it, and after a failure start it again with back-off.

A failing device is reported once when it fails and once when it is back; everything else goes on without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from drivers.ports import DriverError
from protocol.backoff import Backoff
from protocol.clock import Clock

_log = logging.getLogger(__name__)

BACKOFF_BASE_S, BACKOFF_CAP_S = 0.5, 30.0
"""A replugged camera is back within a second; a dead one is tried twice a minute."""
STABLE_S = 60.0
"""A device that ran this long starts its next back-off from the base."""
STOP_S = 10.0
"""Longest wait for a device to stop; a stopping driver may have a thread to join (6 s for NFC)."""
MAX_WHY = 200
"""Characters of a driver's message in an event."""


class Startable(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


D = TypeVar("D", bound=Startable)


class Supervised(Generic[D]):
    """`report(available, why)` is called on each change and for a failed first start."""

    def __init__(
        self,
        device: D,
        name: str,
        *,
        clock: Clock,
        backoff: Backoff,
        report: Callable[[str, bool, str], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`name` is the device's id in configuration and events, such as `camera.hall`."""
        self.device, self.name = device, name
        self._clock, self._backoff, self._report, self._sleep = clock, backoff, report, sleep
        self._reported_down = False
        self._failure: asyncio.Future[None] | None = None
        self.available = False

    async def start(self) -> None:
        """First start. A failure is reported, not raised: `run` tries again."""
        try:
            await self._start()
        except DriverError as error:
            self._down(error)

    def failed(self, error: Exception) -> None:
        """A user of the device saw it fail: `run` restarts it."""
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(DriverError(str(error) or type(error).__name__))

    async def run(self, work: Callable[[D], Awaitable[None]] | None = None) -> None:
        """For ever: keep the device started and `work` (its stream of inputs) running. Ends by cancellation."""
        while True:
            began = self._clock.monotonic()
            try:
                if not self.available:
                    await self._start()
                    began = self._clock.monotonic()
                await self._use(work)
            except DriverError as error:
                self._down(error)
            if self._clock.monotonic() - began >= STABLE_S:
                self._backoff.reset()
            await self._stop()
            await self._sleep(self._backoff.next())

    async def stop(self) -> None:
        self.available = False
        await self._stop()

    async def _start(self) -> None:
        try:
            await self.device.start()
        except DriverError:
            raise
        except Exception as error:
            # A driver may raise only DriverError; a fault in one must not take the other lanes along.
            _log.exception("%s: unexpected error at start", self.name)
            raise DriverError(type(error).__name__) from error
        self.available = True
        if self._reported_down:
            self._reported_down = False
            self._report(self.name, True, "")

    async def _use(self, work: Callable[[D], Awaitable[None]] | None) -> None:
        """Until the work or a user of the device fails. Raises DriverError."""
        failure = self._failure = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(work(self.device)) if work is not None else None
        waiting: set[asyncio.Future[None]] = {failure} | ({task} if task is not None else set())
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._failure = None
            if task is not None and not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, DriverError):
                    await task
            elif task is not None and failure.done():
                task.exception()  # both failed at once; one of them is told
        if failure.done():
            await failure
        if task is None:
            return
        try:
            await task
        except DriverError:
            raise
        except Exception as error:
            _log.exception("%s: unexpected error", self.name)
            raise DriverError(type(error).__name__) from error
        raise DriverError("its stream ended")

    def _down(self, error: DriverError) -> None:
        self.available = False
        if not self._reported_down:
            self._reported_down = True
            why = str(error)[:MAX_WHY]
            _log.warning("%s failed: %s", self.name, why)
            self._report(self.name, False, why)

    async def _stop(self) -> None:
        self.available = False
        try:
            async with asyncio.timeout(STOP_S):
                await self.device.stop()
        except Exception as error:
            # Stopping is best effort: the device may be the thing that failed.
            _log.warning("%s did not stop cleanly: %s", self.name, type(error).__name__)
