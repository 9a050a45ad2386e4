"""One scan shared by everybody who waits for a phone on the same radio, and by those who look for armed ones (walk-up).

A radio has one scanner (BlueZ answers a second StartDiscovery on a bus with InProgress, bumble's devices share one switch), and a
lane whose phone never shows up must not keep the next lane waiting: so one scan looks for all services waited for.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from bleak import BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, AdvertisementDataCallback

from drivers.ports import DriverError, Sighting
from mdoc import ble
from protocol.clock import Clock

STEP_SECONDS = 5.0
"""Starting or stopping a scan takes milliseconds; a radio that needs this long has hung."""
MAX_SIGHTINGS = 256
"""Waiting for one listener; the newest win."""
MAX_SIGHTED = 64
"""Armed phones remembered for `approach`; the one heard longest ago gives way, and is looked for again if need be."""


@dataclass(eq=False, slots=True)
class _Wanted:
    service: str
    peer: str | None
    device: asyncio.Future[BLEDevice]

    def is_met_by(self, device: BLEDevice, advertisement: AdvertisementData) -> bool:
        return self.service in advertisement.service_uuids and self.peer in (None, device.address)


@dataclass(eq=False, slots=True)
class _Listener:
    sightings: deque[Sighting] = field(default_factory=lambda: deque(maxlen=MAX_SIGHTINGS))
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    fault: DriverError | None = None


class Scan:
    """`find` and `sightings` may be used by several tasks and cancelled at any time; the radio scans while somebody waits."""

    def __init__(
        self,
        scanner: Callable[[AdvertisementDataCallback, list[str]], BleakScanner],
        restart_seconds: float,
        clock: Clock,
    ) -> None:
        self._scanner = scanner
        self._restart_seconds = restart_seconds
        self._clock = clock
        self._wanted: list[_Wanted] = []
        self._listeners: list[_Listener] = []
        self._sighted: OrderedDict[str, BLEDevice] = OrderedDict()
        self._changed = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._stopped = False

    async def find(self, service: UUID, peer: str | None = None) -> BLEDevice:
        """The next device heard advertising `service`, of any or of this address; the scan has paused when it is returned.
        Raises DriverError."""
        self._check()
        wanted = _Wanted(str(service), peer, asyncio.get_running_loop().create_future())
        self._wanted.append(wanted)
        self._wake()
        try:
            return await wanted.device
        finally:
            self._wanted.remove(wanted)
            self._changed.set()

    async def sightings(self) -> AsyncGenerator[Sighting, None]:
        """Advertisements of armed phones for as long as it is iterated. Raises DriverError."""
        self._check()
        listener = _Listener()
        self._listeners.append(listener)
        self._wake()
        try:
            while True:
                while not listener.sightings:
                    if listener.fault is not None:
                        raise listener.fault
                    listener.changed.clear()
                    await listener.changed.wait()
                yield listener.sightings.popleft()
        finally:
            self._listeners.remove(listener)
            if not self._listeners:
                self._sighted.clear()
            self._changed.set()

    def sighted(self, peer: str) -> BLEDevice | None:
        """The device of a recent sighting."""
        return self._sighted.get(peer)

    async def stop(self) -> None:
        """For good: everybody who waits gets DriverError."""
        self._stopped = True
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait({self._runner})
        self._fail(DriverError("the radio was stopped"))

    def _check(self) -> None:
        if self._stopped:
            raise DriverError("the radio was stopped")

    def _wake(self) -> None:
        self._changed.set()
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._wanted or self._listeners:
                await self._round()
        except DriverError as error:
            self._fail(error)
        finally:
            self._runner = None

    def _fail(self, error: DriverError) -> None:
        for wanted in self._wanted:
            if not wanted.device.done():
                wanted.device.set_exception(error)
        for listener in self._listeners:
            listener.fault = error
            listener.changed.set()

    async def _round(self) -> None:
        """One scan from start to stop: until one is found, the set of services changes, or it is time to restart.

        Restarting also empties what library and radio remember of passing devices.
        """
        self._changed.clear()
        looked_for = list(self._wanted)
        services = {wanted.service for wanted in looked_for}
        if self._listeners:
            services.add(str(ble.WALK_UP_SERVICE))
        found: dict[_Wanted, BLEDevice] = {}

        def heard(device: BLEDevice, advertisement: AdvertisementData) -> None:
            self._sight(device, advertisement)
            for wanted in looked_for:
                if wanted not in found and wanted.is_met_by(device, advertisement):
                    found[wanted] = device
                    self._changed.set()

        scanner = self._scanner(heard, sorted(services))
        try:
            await _step(scanner.start())
            with suppress(TimeoutError):
                async with asyncio.timeout(self._restart_seconds):
                    await self._changed.wait()
        finally:
            await _step(scanner.stop())
        for wanted, device in found.items():
            if not wanted.device.done():
                wanted.device.set_result(device)
        if found:
            await asyncio.sleep(0)  # lets the finders leave the list before the next round looks at it

    def _sight(self, device: BLEDevice, advertisement: AdvertisementData) -> None:
        if not self._listeners or str(ble.WALK_UP_SERVICE) not in advertisement.service_uuids:
            return
        self._sighted[device.address] = device
        self._sighted.move_to_end(device.address)
        if len(self._sighted) > MAX_SIGHTED:
            self._sighted.popitem(last=False)
        sighting = Sighting(device.address, advertisement.rssi, self._clock.monotonic())
        for listener in self._listeners:
            listener.sightings.append(sighting)
            listener.changed.set()


async def _step(work: Coroutine[Any, Any, None]) -> None:
    try:
        async with asyncio.timeout(STEP_SECONDS):
            await work
    except Exception as error:  # no phone is involved in starting or stopping a scan: whatever fails is the radio
        raise DriverError(f"scan: {type(error).__name__}") from error
