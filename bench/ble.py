"""BLE: a tap in a running building over an air that takes its time, in both roles; what a hostile phone costs other lanes, and a
burst of sessions.

The air is the virtual one. Shaped, every packet takes LATENCY_S and every sender has RATE: an estimate of a phone in a lobby.
"""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from bench.row import Row, quantile
from drivers.ble import BleakCentral
from drivers.ble.bumble_backend import backend_for
from drivers.ble.radio import GivenRadio
from drivers.ports import DriverError, LinkError
from protocol.clock import SystemClock
from testbed.air import Air, AirHub, virtual_device
from testbed.building import Building
from testbed.people import Crowd
from testbed.phone.ble import PhonePeripheral
from testbed.runner import Runner
from testbed.scenario import GRANTED, Attempt, Script

CLOCK = SystemClock()
SEED = 18013
LATENCY_S, RATE = 0.015, 40_000
TAPS = 120
BETWEEN_S = 0.4
PATIENCE_S = 60.0
"""Of a lane in the burst; a gate's lane waits less, and then asks the person to try again."""
LANE_S = 10.0
"""Of a lane beside a hostile phone; one that gets no link in this time counts with all of it."""
QUIET = 15
HOSTILE_FOR_S = (0.0, 0.2, 0.6, 1.0)
"""How long the hostile phone has been at it when the other lane's turn comes, seconds."""
ROUNDS = 3
BURST = 64
REQUEST, RESPONSE = 1200, 4096
"""Bytes."""

Make = Callable[[str], Awaitable[PhonePeripheral]]


def _shaped() -> Air:
    return Air(LATENCY_S, RATE)


# A tap in a building.


async def _taps(directory: Path) -> list[Row]:
    building = Building(directory, CLOCK)
    building.hub = AirHub(building.sockets / "air", _shaped())
    try:
        await building.start()
        runner, crowd = Runner(building), Crowd(building)
        script, phone = Script(building, crowd, runner.decided), crowd.phone()
        found: list[Row] = []
        for role, connects in (("reader as central", False), ("reader as GATT server", True)):
            taps: list[float] = []
            own: list[float] = []
            for _ in range(TAPS):
                act = script.qr_ble(phone, connects=connects)
                result = await runner.present(Attempt("", "", "lane-1", act, GRANTED))
                if not result.expected or result.opened is None:
                    raise RuntimeError(f"QR+BLE, {role}: {result.outcome}")
                stages = result.opened.data["lat_ms"]
                taps.append(float(stages["opened"]))
                own.append(float(stages["ours"]))
                await asyncio.sleep(BETWEEN_S)
            found += _tap_rows(role, taps, own)
        return found
    finally:
        await building.stop()


def _tap_rows(role: str, taps: list[float], own: list[float]) -> list[Row]:
    air = [tap - ours for tap, ours in zip(taps, own, strict=True)]
    name = f"QR+BLE, {role}, shaped air, tap to relay"
    return [
        Row(f"{name} p50 of {TAPS}", quantile(taps, 0.5), "ms"),
        Row(f"{name} p95 of {TAPS}", quantile(taps, 0.95), "ms", None, 1000),
        Row("... of it to the last byte (air, phone, connecting) p95", quantile(air, 0.95), "ms"),
        Row("... of it ours p99", quantile(own, 0.99), "ms", None, 10),
    ]


# Sessions in one process.


class _Hall:
    """One air, some adapters, and phones that come and go."""

    def __init__(self, air: Air) -> None:
        self.air, self.random = air, random.Random(SEED)  # noqa: S311  # repeatable, not secret
        self.adapters: list[BleakCentral] = []

    async def open(self, adapters: int) -> None:
        for _ in range(adapters):
            device = await virtual_device(self.air, "gate", self.random.randbytes)
            central = BleakCentral(GivenRadio(backend_for(device)), CLOCK)
            await central.start()
            self.adapters.append(central)

    async def close(self) -> None:
        for central in self.adapters:
            await central.stop()

    def service(self) -> UUID:
        return UUID(bytes=self.random.randbytes(16), version=4)

    @asynccontextmanager
    async def phone(
        self, service: UUID, misbehave: Callable[[Air, PhonePeripheral], None] | None = None
    ) -> AsyncIterator[PhonePeripheral]:
        device = await virtual_device(self.air, "phone", self.random.randbytes)
        phone = PhonePeripheral(device, random_bytes=self.random.randbytes)
        try:
            await phone.advertise(service)
            if misbehave is not None:
                misbehave(self.air, phone)
            yield phone
        finally:
            await phone.close()
            self.air.lose(self.air.controller_of(device))


def _never_accepts(air: Air, phone: PhonePeripheral) -> None:
    air.controller_of(phone.device).connectable = False


def _never_answers(_: Air, phone: PhonePeripheral) -> None:
    phone.device.gatt_server.on_gatt_pdu = lambda *_: None


async def _connect(hall: _Hall, adapter: int) -> float:
    """Milliseconds that a lane waits for its link."""
    service = hall.service()
    async with hall.phone(service):
        begin = time.perf_counter()
        try:
            link = await hall.adapters[adapter].connect(service, LANE_S)
        except LinkError:
            return LANE_S * 1000
        taken = time.perf_counter() - begin
        await link.close()
    return taken * 1000


async def _hostile() -> list[Row]:
    """The longest delay of a lane beside each kind of hostile phone, over the median of a lane on its own."""
    rows: list[Row] = []
    for kind, misbehave in (("never accepts", _never_accepts), ("never answers", _never_answers)):
        worst = [0.0, 0.0]
        hall = _Hall(_shaped())
        await hall.open(2)
        try:
            quiet = quantile([await _connect(hall, 0) for _ in range(QUIET)], 0.5)
            for adapter in range(2):
                for after in HOSTILE_FOR_S * ROUNDS:
                    service = hall.service()
                    async with hall.phone(service, misbehave):
                        victim = asyncio.ensure_future(hall.adapters[0].connect(service, 2 * LANE_S))
                        await asyncio.sleep(after)
                        worst[adapter] = max(worst[adapter], await _connect(hall, adapter) - quiet)
                        victim.cancel()
                        await asyncio.gather(victim, return_exceptions=True)
        finally:
            await hall.close()
        rows += [
            Row(f"hostile phone that {kind}, same adapter: delay of a lane, worst", worst[0], "ms", None, 1500),
            Row(f"hostile phone that {kind}, another adapter: delay of a lane, worst", worst[1], "ms", None, 50),
        ]
    return rows


async def _burst(air: Air, adapters: int, label: str) -> list[Row]:
    hall = _Hall(air)
    await hall.open(adapters)

    async def session(number: int) -> bool:
        service = hall.service()
        async with hall.phone(service) as phone:
            try:
                link = await hall.adapters[number % adapters].connect(service, PATIENCE_S)
                request, response = hall.random.randbytes(REQUEST), hall.random.randbytes(RESPONSE)
                await link.send(request)
                whole = await phone.receive(PATIENCE_S) == request
                await phone.send(response)
                whole = whole and await link.receive(PATIENCE_S) == response
                await link.close()
            except (LinkError, DriverError):
                return False
            return whole

    begin = time.perf_counter()
    well = await asyncio.gather(*map(session, range(BURST)))
    taken = time.perf_counter() - begin
    await hall.close()
    name = f"{BURST} sessions at once, {label} air, {adapters} adapter{'s' if adapters > 1 else ''}"
    return [Row(f"{name}: the last ends", taken, "s"), Row("... of them failed", well.count(False), "", None, 0)]


async def _in_process() -> list[Row]:
    found = await _hostile()
    for adapters in (1, 8):
        found += await _burst(Air(), adapters, "unshaped")
        found += await _burst(_shaped(), adapters, "shaped")
    return found


def rows() -> list[Row]:
    logging.getLogger("bumble").setLevel(logging.CRITICAL)  # its lines name addresses
    found = asyncio.run(_in_process())
    with tempfile.TemporaryDirectory(prefix="gwanmun-bench-") as name:
        found += asyncio.run(_taps(Path(name)))
    return found
