"""Lanes that share an adapter: whose turn it is, in time that only passes when nothing else can happen; and the shared scan."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from random import Random
from typing import Any, TypeVar, cast
from uuid import UUID

import pytest
from bleak import BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, AdvertisementDataCallback

from drivers.ble import BleakCentral, ConnectBudget
from drivers.ble.bumble_backend import backend_for
from drivers.ble.radio import GivenRadio
from drivers.ble.scan import MAX_SIGHTED, MAX_SIGHTINGS, Scan
from drivers.ble.turns import WITHDRAW_SECONDS, Turn, Turns
from drivers.ports import DriverError, LinkError, Sighting
from mdoc import ble
from protocol.clock import SystemClock
from testbed.air import Air, virtual_device
from testbed.phone.ble import PhonePeripheral
from tests.drivers.hostile_phones import silent_from

T = TypeVar("T")


class _Skipping(selectors.DefaultSelector):
    """Does not wait: the time that would have passed is told instead."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and for nothing")
        ready = super().select(0)
        if not ready:
            self.passed += max(0.0, timeout)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    """The virtual air needs no other time than the loop's."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.passed


def in_no_time(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)


def now() -> float:
    return asyncio.get_running_loop().time()


# --- turns ------------------------------------------------------------------------------------------------------------


class Lanes:
    """Tries of several lanes; each notes when its turn came."""

    def __init__(self, seconds: float = 1.5, connections: int = 8) -> None:
        self.turns = Turns(seconds, connections)
        self.order: list[str] = []
        self.at: dict[str, float] = {}

    async def attempt(self, name: str, *, takes: float, again: bool = False, stays: bool = False) -> bool:
        """True: connected. False: had to give way."""
        turn = await self.turns.take(again=again)
        self.order.append(name)
        self.at[name] = now()
        done, _ = await asyncio.wait({turn.over}, timeout=takes)
        turn.pass_on()
        if not stays:
            turn.close()
        return not done


def test_who_comes_first_is_first() -> None:
    async def scenario() -> None:
        lanes = Lanes()
        await asyncio.gather(*(lanes.attempt(name, takes=0.1) for name in "abcd"))
        assert lanes.order == list("abcd")
        assert lanes.at["d"] == pytest.approx(0.3)

    in_no_time(scenario())


def test_a_first_try_goes_before_everybodys_later_tries() -> None:
    async def scenario() -> None:
        lanes = Lanes()
        await asyncio.gather(
            lanes.attempt("holder", takes=0.1),
            lanes.attempt("again", takes=0.1, again=True),
            lanes.attempt("again too", takes=0.1, again=True),
            lanes.attempt("new", takes=0.1),
        )
        assert lanes.order == ["holder", "new", "again", "again too"]

    in_no_time(scenario())


def test_alone_a_try_goes_on() -> None:
    async def scenario() -> None:
        assert await Lanes().attempt("slow", takes=5.0)

    in_no_time(scenario())


@pytest.mark.parametrize("after", [0.0, 0.5, 1.2, 1.4, 4.0])
def test_a_try_gives_way_after_its_turn_once_somebody_waits(after: float) -> None:
    async def scenario() -> None:
        lanes = Lanes()
        slow = asyncio.create_task(lanes.attempt("slow", takes=60.0))
        await asyncio.sleep(after)
        assert await lanes.attempt("other", takes=0.1)
        assert not await slow
        assert lanes.at["other"] == pytest.approx(max(after, 1.5 - WITHDRAW_SECONDS))

    in_no_time(scenario())


def test_a_try_whose_neighbour_has_given_up_goes_on() -> None:
    async def scenario() -> None:
        lanes = Lanes()
        slow = asyncio.create_task(lanes.attempt("slow", takes=3.0))
        await asyncio.sleep(0)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await lanes.attempt("other", takes=0.1)
        assert await slow
        assert lanes.order == ["slow"]

    in_no_time(scenario())


def test_places_are_few_and_a_closed_connection_frees_one() -> None:
    async def scenario() -> None:
        lanes = Lanes(connections=2)
        first = await lanes.turns.take(again=False)
        first.pass_on()
        assert await lanes.attempt("second", takes=0.0, stays=True)
        third = asyncio.create_task(lanes.attempt("third", takes=0.0))
        await asyncio.sleep(10)
        assert not third.done()
        first.close()
        first.close()
        assert await third

    in_no_time(scenario())


def test_no_order_of_coming_leaving_and_closing_loses_a_turn_or_a_place() -> None:
    async def scenario(random: Random) -> None:
        turns = Turns(1.5, 3)
        holding: list[Turn] = []

        async def lane() -> None:
            for _ in range(5):
                await asyncio.sleep(random.random() * 2)
                try:
                    async with asyncio.timeout(random.random() * 4):
                        turn = await turns.take(again=random.random() < 0.5)
                except TimeoutError:
                    continue
                holding.append(turn)
                assert len(holding) == 1
                await asyncio.wait({turn.over}, timeout=random.random() * 3)
                holding.remove(turn)
                if random.random() < 0.7:
                    turn.pass_on()
                    await asyncio.sleep(random.random())
                turn.close()

        await asyncio.gather(*(lane() for _ in range(6)))
        free = [await turns.take(again=False)]
        for _ in range(2):
            free[-1].pass_on()
            free.append(await turns.take(again=False))
        free[-1].pass_on()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(turns.take(again=False), 1.0)

    for seed in range(20):
        in_no_time(scenario(Random(seed)))


# --- the same with phones: how long a hostile one delays a lane -------------------------------------------------------


class Hall:
    def __init__(self) -> None:
        self.air, self.random = Air(0.015, 40_000), Random(5)

    async def adapter(self) -> BleakCentral:
        device = await virtual_device(self.air, "gate", self.random.randbytes)
        central = BleakCentral(GivenRadio(backend_for(device)), SystemClock(), ConnectBudget())
        await central.start()
        return central

    async def phone(self, *, connectable: bool = True, silent: bool = False) -> UUID:
        device: Any = await virtual_device(self.air, "phone", self.random.randbytes)
        phone = PhonePeripheral(device, random_bytes=self.random.randbytes)
        service = UUID(bytes=self.random.randbytes(16), version=4)
        if silent:
            silent_from(phone, "MTU")
        await phone.advertise(service)
        self.air.controller_of(device).connectable = connectable
        return service

    async def session(self, adapter: BleakCentral) -> float:
        """Seconds until a good phone's link is open."""
        service = await self.phone()
        begin = now()
        link = await adapter.connect(service, 20.0)
        taken = now() - begin
        await link.close()
        return taken


async def delay(*, same: bool, after: float, **kind: bool) -> float:
    hall = Hall()
    one = await hall.adapter()
    other = one if same else await hall.adapter()
    alone = await hall.session(other)
    hostile = asyncio.create_task(one.connect(await hall.phone(**kind), 60.0))
    await asyncio.sleep(after)
    delayed = await hall.session(other)
    hostile.cancel()
    with suppress(asyncio.CancelledError, LinkError):
        await hostile
    await one.stop()
    await other.stop()
    return delayed - alone


KINDS: list[dict[str, bool]] = [{"connectable": False}, {"silent": True}]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("after", [0.0, 0.05, 0.3, 0.9, 1.6, 5.1])
def test_a_hostile_phone_delays_a_lane_on_the_same_adapter_by_one_turn_at_most(
    kind: dict[str, bool], after: float
) -> None:
    assert in_no_time(delay(same=True, after=after, **kind)) <= 1.5


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_hostile_phone_delays_no_lane_on_another_adapter(kind: dict[str, bool]) -> None:
    # an advertising interval is 30 ms: where in it a lane begins to listen is chance
    assert in_no_time(delay(same=False, after=0.3, **kind)) <= 0.03


# --- the scan ---------------------------------------------------------------------------------------------------------


class FakeScanner:
    """What bleak's would report, when a test says so."""

    def __init__(self) -> None:
        self.scanning = asyncio.Event()
        self.starts = 0
        self._heard: AdvertisementDataCallback | None = None

    def make(self, heard: AdvertisementDataCallback, services: list[str]) -> BleakScanner:
        assert services
        self._heard = heard
        return cast(BleakScanner, self)

    async def start(self) -> None:
        self.scanning.set()
        self.starts += 1

    async def stop(self) -> None:
        self.scanning.clear()

    def advertise(self, address: str, service: UUID, rssi: int = -50) -> None:
        assert self._heard is not None
        data = AdvertisementData(None, {}, {}, [str(service)], None, rssi, ())
        self._heard(BLEDevice(address, None, None), data)


def scenario_of(work: Callable[[Scan, FakeScanner], Coroutine[Any, Any, None]]) -> None:
    async def scenario() -> None:
        scanner = FakeScanner()
        scan = Scan(scanner.make, 10.0, SystemClock())
        try:
            await work(scan, scanner)
        finally:
            await scan.stop()

    in_no_time(scenario())


async def next_of(scan: Scan) -> Sighting:
    async with aclosing(scan.sightings()) as sightings:
        return await anext(sightings)


def test_the_radio_scans_only_while_somebody_waits_and_starts_afresh_now_and_then() -> None:
    async def work(scan: Scan, scanner: FakeScanner) -> None:
        assert not scanner.scanning.is_set()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(35.0):
                await next_of(scan)
        assert scanner.starts == 4
        await asyncio.sleep(0.1)
        assert not scanner.scanning.is_set()

    scenario_of(work)


def test_a_listener_that_does_not_keep_up_gets_the_newest() -> None:
    async def work(scan: Scan, scanner: FakeScanner) -> None:
        async with aclosing(scan.sightings()) as sightings:
            waiting = asyncio.ensure_future(anext(sightings))
            await scanner.scanning.wait()
            for number in range(3 * MAX_SIGHTINGS):
                scanner.advertise(
                    f"C0:00:00:00:{number // 256:02X}:{number % 256:02X}", ble.WALK_UP_SERVICE, -number % 90
                )
            await waiting
            got = [await anext(sightings) for _ in range(MAX_SIGHTINGS - 1)]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(sightings), 1.0)
        newest = 3 * MAX_SIGHTINGS - 1
        assert got[-1].peer == f"C0:00:00:00:{newest // 256:02X}:{newest % 256:02X}"
        assert len(scan._sighted) <= MAX_SIGHTED

    scenario_of(work)


def test_nothing_is_remembered_of_phones_once_nobody_listens() -> None:
    async def work(scan: Scan, scanner: FakeScanner) -> None:
        waiting = asyncio.create_task(next_of(scan))
        await scanner.scanning.wait()
        scanner.advertise("C0:00:00:00:00:01", ble.WALK_UP_SERVICE)
        assert (await waiting).peer == "C0:00:00:00:00:01"
        assert scan.sighted("C0:00:00:00:00:01") is None

    scenario_of(work)


def test_other_services_are_no_sightings_and_another_phone_is_not_the_one_looked_for() -> None:
    async def work(scan: Scan, scanner: FakeScanner) -> None:
        listening = asyncio.create_task(next_of(scan))
        finding = asyncio.create_task(scan.find(ble.WALK_UP_SERVICE, "C0:00:00:00:00:02"))
        await asyncio.sleep(0.1)
        await scanner.scanning.wait()
        scanner.advertise("C0:00:00:00:00:02", UUID(int=1))
        await asyncio.sleep(0.1)
        assert not listening.done()
        scanner.advertise("C0:00:00:00:00:01", ble.WALK_UP_SERVICE)
        await listening
        await asyncio.sleep(0.1)
        assert not finding.done()
        await scanner.scanning.wait()
        scanner.advertise("C0:00:00:00:00:02", ble.WALK_UP_SERVICE)
        assert (await finding).address == "C0:00:00:00:00:02"

    scenario_of(work)


def test_a_scan_that_fails_is_told_to_listeners_and_may_be_tried_again() -> None:
    async def work(scan: Scan, scanner: FakeScanner) -> None:
        async def broken() -> None:
            raise OSError("unplugged")

        start, scanner.start = scanner.start, broken  # type: ignore[method-assign]
        for _ in range(2):
            with pytest.raises(DriverError):
                await next_of(scan)
        scanner.start = start  # type: ignore[method-assign]
        waiting = asyncio.create_task(next_of(scan))
        await scanner.scanning.wait()
        scanner.advertise("C0:00:00:00:00:01", ble.WALK_UP_SERVICE)
        await waiting

    scenario_of(work)
