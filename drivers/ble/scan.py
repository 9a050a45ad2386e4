"""One scan shared by everybody who waits for a phone on the same radio.

A radio has one scanner (BlueZ answers a second StartDiscovery on a bus with InProgress, bumble's devices share one switch), and a
lane whose phone never shows up must not keep the next lane waiting: so one scan looks for all services waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from bleak import BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, AdvertisementDataCallback

from drivers.ports import DriverError

STEP_SECONDS = 5.0
"""Starting or stopping a scan takes milliseconds; a radio that needs this long has hung."""


@dataclass(eq=False, slots=True)
class _Wanted:
    service: str
    device: asyncio.Future[BLEDevice]


class Scan:
    """`find` may be called by several tasks and cancelled at any time; the radio scans only while somebody waits."""

    def __init__(
        self, scanner: Callable[[AdvertisementDataCallback, list[str]], BleakScanner], restart_seconds: float
    ) -> None:
        self._scanner = scanner
        self._restart_seconds = restart_seconds
        self._wanted: list[_Wanted] = []
        self._changed = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._stopped = False

    async def find(self, service: UUID) -> BLEDevice:
        """The next device heard advertising `service`; the scan has paused when it is returned. Raises DriverError."""
        if self._stopped:
            raise DriverError("the radio was stopped")
        wanted = _Wanted(str(service), asyncio.get_running_loop().create_future())
        self._wanted.append(wanted)
        self._changed.set()
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        try:
            return await wanted.device
        finally:
            self._wanted.remove(wanted)
            self._changed.set()

    async def stop(self) -> None:
        """For good: everybody who waits gets DriverError."""
        self._stopped = True
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait({self._runner})
        self._fail(DriverError("the radio was stopped"))

    async def _run(self) -> None:
        try:
            while self._wanted:
                await self._round()
        except DriverError as error:
            self._fail(error)
        finally:
            self._runner = None

    def _fail(self, error: DriverError) -> None:
        for wanted in self._wanted:
            if not wanted.device.done():
                wanted.device.set_exception(error)

    async def _round(self) -> None:
        """One scan from start to stop: until one is found, the set of services changes, or it is time to restart.

        Restarting also empties what library and radio remember of passing devices.
        """
        self._changed.clear()
        services = sorted({wanted.service for wanted in self._wanted})
        found: dict[str, BLEDevice] = {}

        def heard(device: BLEDevice, advertisement: AdvertisementData) -> None:
            for service in advertisement.service_uuids:
                if service in services and service not in found:
                    found[service] = device
                    self._changed.set()

        scanner = self._scanner(heard, services)
        try:
            await _step(scanner.start())
            with suppress(TimeoutError):
                async with asyncio.timeout(self._restart_seconds):
                    await self._changed.wait()
        finally:
            await _step(scanner.stop())
        for wanted in self._wanted:
            device = found.get(wanted.service)
            if device is not None and not wanted.device.done():
                wanted.device.set_result(device)
        if found:
            await asyncio.sleep(0)  # lets the finders leave the list before the next round looks at it


async def _step(work: Coroutine[Any, Any, None]) -> None:
    try:
        async with asyncio.timeout(STEP_SECONDS):
            await work
    except Exception as error:  # no phone is involved in starting or stopping a scan: whatever fails is the radio
        raise DriverError(f"scan: {type(error).__name__}") from error
