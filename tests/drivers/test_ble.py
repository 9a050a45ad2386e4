"""The reader as central against a phone's GATT server, on every stack: real bleak front end, real ATT, L2CAP and HCI bytes."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

import pytest
from bumble import att

from drivers.ble import BleakCentral, ConnectBudget
from drivers.ports import (
    Approached,
    Carrier,
    DriverError,
    Link,
    LinkEndedError,
    LinkError,
    LinkLostError,
    LinkProtocolError,
    LinkTimeoutError,
    Sighting,
)
from mdoc import ble, limits
from testbed.air import Air, virtual_device
from testbed.phone.ble import PhonePeripheral
from tests.drivers.ble_stacks import STACKS, Stack, open_stack
from tests.drivers.hostile_phones import (
    STEPS,
    TABLE,
    Hostile,
    drops_at,
    endless,
    in_background,
    intercept,
    leave,
    silent_from,
)

GUARD = 5.0
"""Seconds; nothing here takes a tenth of it unless it hangs."""
QUICK = ConnectBudget(attempts=3, attempt_seconds=2.0, pause_seconds=0.01, scan_seconds=0.2)
MAX_CHUNKS = 200
"""Of one message, where a test would otherwise send the real 27,594."""
HURRIED = ConnectBudget(attempts=2, attempt_seconds=0.3, pause_seconds=0.01, scan_seconds=0.2)
"""For phones that never answer."""
AVAILABLE = [
    # the second comes with another module
    name
    for name in STACKS
    if name == "air" or importlib.util.find_spec("tests.drivers.bluez_stack") is not None
]


@dataclass
class PinnedClock:
    at: float = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 11, 24, 8, 30, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.at


class MeasuringPhone(PhonePeripheral):
    """Notes how long the values are that the reader writes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.lengths: list[int] = []
        super().__init__(*args, **kwargs)

    def _on_data(self, connection: Any, value: bytes) -> None:
        self.lengths.append(len(value))
        super()._on_data(connection, value)


@dataclass
class Building:
    """One gate and its air; `phone()` brings another phone, each with another service."""

    air: Air
    stack: Stack
    central: BleakCentral
    clock: PinnedClock
    random: Random = field(default_factory=lambda: Random(7))
    phones: list[PhonePeripheral] = field(default_factory=list)

    def service(self) -> UUID:
        return UUID(bytes=self.random.randbytes(16), version=4)

    async def phone(self, max_mtu: int = 517) -> MeasuringPhone:
        device = await virtual_device(self.air, "phone", self.random.randbytes)
        phone = MeasuringPhone(device, clock=self.clock, random_bytes=self.random.randbytes, max_mtu=max_mtu)
        self.phones.append(phone)
        return phone

    async def session(self, max_mtu: int = 517) -> tuple[Link, MeasuringPhone]:
        phone, service = await self.phone(max_mtu), self.service()
        await phone.advertise(service)
        link = await self.central.connect(service, GUARD)
        await phone.wait_started(GUARD)
        return link, phone


@asynccontextmanager
async def building(stack: str, budget: ConnectBudget = QUICK, air: Air | None = None) -> AsyncIterator[Building]:
    air, clock = air or Air(), PinnedClock()
    async with open_stack(stack, air, clock) as opened:
        central = await opened.central(budget)
        place = Building(air, opened, central, clock)
        try:
            yield place
        finally:
            for phone in place.phones:
                await phone.close()
            await central.stop()


@pytest.fixture(params=AVAILABLE)
def stack(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def place(stack: str) -> AsyncIterator[Building]:
    async with building(stack) as opened:
        yield opened


async def cancelled(task: asyncio.Future[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def exchange(link: Link, phone: PhonePeripheral, request: bytes, response: bytes) -> None:
    """One turn each way, as a session does it."""
    _, received = await asyncio.gather(link.send(request), phone.receive(GUARD))
    assert received == request
    _, answered = await asyncio.gather(phone.send(response), link.receive(GUARD))
    assert answered == response


async def good_session(place: Building) -> None:
    link, phone = await place.session()
    await exchange(link, phone, b"request", b"response")
    await link.close()
    with pytest.raises(LinkEndedError):
        await phone.receive(GUARD)


# --- the way it should go ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_mtu", [23, 185, 247, 517])
async def test_a_session_carries_messages_of_every_size_at_mtu(place: Building, max_mtu: int) -> None:
    link, phone = await place.session(max_mtu)
    fragment = ble.fragment_size(min(max_mtu, ble.ATT_MTU))
    for size in (1, fragment - 1, fragment, 2 * fragment - 2, 4096):
        await exchange(link, phone, place.random.randbytes(size), place.random.randbytes(size))
    assert max(phone.lengths) == fragment


async def test_chunks_shorter_than_they_could_be_are_put_together(place: Building) -> None:
    link, phone = await place.session()
    for chunk in (b"\x01a", b"\x01", b"\x01bc", b"\x00d"):
        await phone.notify(chunk)
    assert await link.receive(GUARD) == b"abcd"


async def test_the_longest_message_passes(place: Building) -> None:
    link, phone = await place.session()
    await exchange(link, phone, b"request", place.random.randbytes(limits.MAX_MESSAGE))


async def test_the_link_says_what_carries_it(place: Building) -> None:
    link, _ = await place.session()
    assert link.carrier is Carrier.BLE


async def test_the_last_byte_is_stamped_when_it_arrives_not_when_it_is_taken(place: Building) -> None:
    place.clock.at = 2000.0
    link, phone = await place.session()
    assert link.last_byte_at == 2000.0
    place.clock.at = 2001.0
    await phone.send(b"first")
    await link.receive(GUARD)
    assert link.last_byte_at == 2001.0
    place.clock.at = 2002.0
    await phone.send(b"second")
    await phone.end()
    await asyncio.wait_for(link_is_over(link), GUARD)
    place.clock.at = 2003.0
    await link.receive(GUARD)
    assert link.last_byte_at == 2002.0


async def link_is_over(link: Link) -> None:
    """State = end has arrived, seen from outside by sending."""
    with suppress(LinkEndedError):
        while True:
            await link.send(b"?")


async def test_closing_tells_the_phone_that_the_session_is_over(place: Building) -> None:
    await good_session(place)


async def test_closing_twice_and_after_the_phone_is_gone_is_quiet(place: Building) -> None:
    link, phone = await place.session()
    await phone.vanish()
    await asyncio.gather(link.close(), link.close())
    await link.close()
    with pytest.raises(LinkLostError):
        await link.receive(GUARD)
    with pytest.raises(LinkLostError):
        await link.send(b"late")


async def test_stopping_the_radio_ends_open_sessions_in_good_order(place: Building) -> None:
    _, phone = await place.session()
    await place.central.stop()
    with pytest.raises(LinkEndedError):
        await phone.receive(GUARD)
    with pytest.raises(DriverError):
        await place.central.connect(place.service(), GUARD)


async def test_two_lanes_serve_their_phones_at_the_same_time(place: Building) -> None:
    (one, phone_one), (two, phone_two) = await asyncio.gather(place.session(), place.session())
    await asyncio.gather(
        exchange(one, phone_one, b"1" * 3000, b"one" * 3000), exchange(two, phone_two, b"2" * 3000, b"two" * 3000)
    )


async def test_a_lane_whose_phone_never_shows_up_keeps_no_other_waiting(place: Building) -> None:
    absent = asyncio.create_task(place.central.connect(place.service(), GUARD))
    await good_session(place)
    await good_session(place)
    assert not absent.done()
    absent.cancel()
    with suppress(asyncio.CancelledError):
        await absent


# --- phones that do harm, each followed by a session that works ---------------------------------------------------------


async def first_message(place: Building, service: UUID) -> bytes:
    link = await place.central.connect(service, 2.0)
    try:
        return await link.receive(0.3)
    finally:
        await link.close()


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.name)
async def test_a_phone_that(stack: str, kind: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ble, "MAX_CHUNKS", MAX_CHUNKS)
    async with building(stack, HURRIED) as place:
        phone, service = await place.phone(), place.service()
        kind.arrange(phone, service)
        await phone.advertise(service)
        kind.on_air(phone, place.air)
        if not kind.errors:
            link = await place.central.connect(service, GUARD)
            await exchange(link, phone, b"request", b"response")
            await link.close()
        elif kind.act is None:
            with pytest.raises(kind.errors):
                await first_message(place, service)
        else:
            link = await place.central.connect(service, GUARD)
            await phone.wait_started(GUARD)
            await kind.act(phone)
            with pytest.raises(kind.errors):
                await link.receive(0.1 if LinkTimeoutError in kind.errors else GUARD)
            await link.close()
        await phone.close()
        place.central._budget = QUICK
        await good_session(place)


async def send_for_ever(phone: PhonePeripheral, message: bytes) -> None:
    async with asyncio.timeout(GUARD):
        while True:
            await phone.send(message)


async def test_a_phone_that_floods_gets_what_was_in_turn_through_and_is_hung_up_on(place: Building) -> None:
    link, phone = await place.session()
    with pytest.raises(LinkError):
        await send_for_ever(phone, b"again")
    assert [await link.receive(GUARD) for _ in range(4)] == [b"again"] * 4
    with pytest.raises(LinkProtocolError, match="out of turn"):
        await link.receive(GUARD)
    await good_session(place)


async def test_a_message_that_came_whole_before_the_end_is_still_delivered(place: Building) -> None:
    link, phone = await place.session()
    await phone.send(b"response")
    await phone.end()
    assert await link.receive(GUARD) == b"response"
    with pytest.raises(LinkEndedError):
        await link.receive(GUARD)


async def test_an_air_that_loses_everything_is_a_timeout_and_the_link_lives_on(place: Building) -> None:
    link, phone = await place.session()
    place.air.cut = True
    await phone.send(b"lost")
    with pytest.raises(LinkTimeoutError):
        await link.receive(0.05)
    place.air.cut = False
    await exchange(link, phone, b"request", b"response")


async def test_cancelling_a_receive_loses_no_message(place: Building) -> None:
    link, phone = await place.session()
    waiting = asyncio.create_task(link.receive(GUARD))
    await asyncio.sleep(0)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    await exchange(link, phone, b"request", b"response")


# --- losing the phone after start: never a second try -----------------------------------------------------------------


async def lost_with_half_the_request(link: Link, phone: MeasuringPhone) -> None:
    written = 0

    def on_request(connection: Any, pdu: Any) -> bool:
        nonlocal written
        written += int(pdu.op_code == att.Opcode.ATT_WRITE_COMMAND)
        if written == 4:
            in_background(leave(connection))
        return written >= 4

    intercept(phone, on_request)
    with suppress(LinkLostError):
        await link.send(bytes(8 * ble.MAX_VALUE))


async def lost_before_the_answer(link: Link, phone: MeasuringPhone) -> None:
    await link.send(b"request")
    await phone.receive(GUARD)
    await phone.vanish()


async def lost_with_half_the_answer(link: Link, phone: MeasuringPhone) -> None:
    await link.send(b"request")
    await phone.receive(GUARD)
    await phone.notify(b"\x01half an ans")
    await phone.vanish()


@pytest.mark.parametrize(
    "lose", [lost_with_half_the_request, lost_before_the_answer, lost_with_half_the_answer], ids=lambda it: it.__name__
)
async def test_a_phone_after_start(place: Building, lose: Callable[[Link, MeasuringPhone], Awaitable[None]]) -> None:
    link, phone = await place.session()
    connections: list[Any] = []
    phone.device.on("connection", connections.append)
    await lose(link, phone)
    with pytest.raises(LinkLostError):
        await link.receive(GUARD)
    await link.close()
    assert connections == []
    await good_session(place)


async def test_a_lane_that_gives_up_early_tells_the_phone(place: Building) -> None:
    link, phone = await place.session()
    sending = asyncio.create_task(phone.send(bytes(limits.MAX_MESSAGE)))
    await asyncio.sleep(0)
    await link.close()
    with pytest.raises(LinkError):
        await phone.receive(GUARD)
    with suppress(LinkError):
        await sending
    await good_session(place)


@pytest.mark.parametrize(("latency", "rate"), [(0.015, 40_000.0), (0.03, 15_000.0)])
async def test_a_session_over_an_air_that_takes_its_time(stack: str, latency: float, rate: float) -> None:
    async with building(stack, ConnectBudget(), Air(latency, rate)) as place:
        link, phone = await place.session(185)
        await exchange(link, phone, place.random.randbytes(1000), place.random.randbytes(4096))
        await link.close()
        with pytest.raises(LinkEndedError):
            await phone.receive(GUARD)


async def test_sessions_one_after_the_other_leave_nothing_behind(place: Building) -> None:
    for _ in range(20):
        await good_session(place)
        await place.phones.pop().close()
    assert not place.central._links


# --- connecting -------------------------------------------------------------------------------------------------------


async def test_nobody_advertising_is_a_timeout_within_the_budget(place: Building) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(LinkTimeoutError):
        await place.central.connect(place.service(), 0.5)  # 0.2 s per scan: two restarts in between
    assert 0.45 < loop.time() - began < GUARD
    await good_session(place)


@pytest.mark.parametrize("step", ["connection", *STEPS])
async def test_a_phone_that_drops_once_before_start_is_connected_again(place: Building, step: str) -> None:
    phone, service = await place.phone(), place.service()
    drops_at(phone, step, times=1)
    await phone.advertise(service)
    link = await place.central.connect(service, GUARD)
    await exchange(link, phone, b"request", b"response")


@pytest.mark.parametrize("step", STEPS)
async def test_a_phone_that_is_silent_once_before_start_is_connected_again(stack: str, step: str) -> None:
    async with building(stack, HURRIED) as place:
        phone, service = await place.phone(), place.service()
        silent_from(phone, step, times=1)
        await phone.advertise(service)
        link = await place.central.connect(service, GUARD)
        await exchange(link, phone, b"request", b"response")


async def test_one_of_two_phones_with_the_same_service_is_taken(place: Building) -> None:
    service = place.service()
    phones = [await place.phone(), await place.phone()]
    for phone in phones:
        await phone.advertise(service)
    link = await place.central.connect(service, GUARD)
    await link.send(b"request")
    (taken,) = [phone for phone in phones if phone.started.is_set()]
    assert await taken.receive(GUARD) == b"request"
    await taken.send(b"response")
    assert await link.receive(GUARD) == b"response"
    await link.close()
    await good_session(place)


async def test_a_phone_that_never_accepts_keeps_a_neighbour_one_turn_and_no_longer(stack: str) -> None:
    """Alone it may keep the adapter for `attempt_seconds`, which here is longer than the test waits."""
    budget = ConnectBudget(attempt_seconds=60.0, pause_seconds=0.01, scan_seconds=0.2, turn_seconds=0.4)
    async with building(stack, budget) as place:
        hostile, service = await place.phone(), place.service()
        await hostile.advertise(service)
        place.air.controller_of(hostile.device).connectable = False
        victim = asyncio.create_task(place.central.connect(service, 60.0))
        await good_session(place)
        await good_session(place)
        assert not victim.done()
        await cancelled(victim)
        await good_session(place)


async def test_a_lane_that_finds_the_adapter_full_waits_for_a_place(stack: str) -> None:
    async with building(stack, replace(QUICK, connections=1)) as place:
        link, _ = await place.session()
        phone, service = await place.phone(), place.service()
        await phone.advertise(service)
        with pytest.raises(LinkTimeoutError):
            await place.central.connect(service, 0.3)
        waiting = asyncio.create_task(place.central.connect(service, GUARD))
        await link.close()
        await exchange(await waiting, phone, b"request", b"response")


async def test_stopping_the_radio_fails_whoever_connects_or_waits_to(stack: str) -> None:
    async with building(stack, replace(QUICK, connections=1, attempt_seconds=60.0, turn_seconds=60.0)) as place:
        hostile, service = await place.phone(), place.service()
        await hostile.advertise(service)
        place.air.controller_of(hostile.device).connectable = False
        connecting = asyncio.create_task(place.central.connect(service, 60.0))
        phone, service = await place.phone(), place.service()
        await phone.advertise(service)
        waiting = asyncio.create_task(place.central.connect(service, 60.0))
        await asyncio.wait({connecting, waiting}, timeout=0.2)
        await place.central.stop()
        for task in (connecting, waiting):
            with pytest.raises(DriverError):
                await asyncio.wait_for(task, GUARD)


async def test_the_number_of_tries_is_bounded(stack: str) -> None:
    async with building(stack, replace(QUICK, attempt_seconds=0.5)) as place:
        await spend_every_try(place)


async def spend_every_try(place: Building) -> None:
    phone, service = await place.phone(), place.service()
    drops: list[Any] = []
    phone.device.on("connection", lambda it: drops.append(asyncio.ensure_future(it.disconnect())))
    await phone.advertise(service)
    with pytest.raises(LinkLostError, match="3 connections"):
        await place.central.connect(service, GUARD)
    assert len(drops) == 3
    assert not phone.started.is_set()
    await phone.close()
    await good_session(place)


async def test_a_phone_lost_after_start_is_not_connected_again(place: Building) -> None:
    phone, service = await place.phone(), place.service()
    connections: list[Any] = []
    phone.device.on("connection", connections.append)
    await phone.advertise(service)
    link = await place.central.connect(service, GUARD)
    await phone.wait_started(GUARD)
    await phone.vanish()
    with pytest.raises(LinkLostError):
        await link.receive(GUARD)
    assert len(connections) == 1


async def test_stopping_the_radio_fails_the_connects_under_way(place: Building) -> None:
    scanning = asyncio.create_task(place.central.connect(place.service(), GUARD))
    await good_session(place)
    await place.central.stop()
    with pytest.raises(DriverError):
        await scanning


async def test_a_cancelled_connect_lets_the_phone_go(place: Building) -> None:
    phone, service = await place.phone(), place.service()
    connected, gone = asyncio.Event(), asyncio.Event()

    def watch(connection: Any) -> None:
        connection.on("disconnection", lambda _: gone.set())
        connected.set()

    phone.device.on("connection", watch)
    await phone.advertise(service)
    attempt = asyncio.create_task(place.central.connect(service, GUARD))
    await asyncio.wait_for(connected.wait(), GUARD)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    await asyncio.wait_for(gone.wait(), GUARD)
    await phone.close()
    await good_session(place)


# --- walking up -------------------------------------------------------------------------------------------------------


async def armed(place: Building, engagement: bytes = b"engagement", max_mtu: int = 517) -> MeasuringPhone:
    phone = await place.phone(max_mtu)
    await phone.arm(engagement)
    return phone


async def sighted(place: Building) -> Sighting:
    async with asyncio.timeout(GUARD), aclosing(heard(place)) as sightings:
        return await anext(sightings)


async def heard(place: Building) -> AsyncGenerator[Sighting, None]:
    async for sighting in place.central.sightings():
        yield sighting


@pytest.mark.parametrize("max_mtu", [23, 517])
@pytest.mark.parametrize("length", [1, 22, 23, 200, 512])
async def test_a_phone_is_walked_up_with_and_its_engagement_read_whole(
    place: Building, max_mtu: int, length: int
) -> None:
    engagement = place.random.randbytes(length)
    phone = await armed(place, engagement, max_mtu)
    approached = await place.central.approach((await sighted(place)).peer, GUARD)
    assert approached.engagement == engagement
    await exchange(approached.link, phone, b"request", b"response")
    await approached.link.close()
    with pytest.raises(LinkEndedError):
        await phone.receive(GUARD)
    await good_session(place)


async def test_a_sighting_tells_how_strongly_and_when_a_phone_is_heard(place: Building) -> None:
    place.air.rssi = lambda _phone, _gate: -71
    await armed(place)
    sighting = await sighted(place)
    assert (sighting.rssi, sighting.at) == (-71, place.clock.at)
    place.air.rssi = lambda _phone, _gate: -42
    async with asyncio.timeout(GUARD), aclosing(heard(place)) as sightings:
        async for sighting in sightings:
            if sighting.rssi == -42:
                break


async def test_everybody_who_listens_hears_every_phone(place: Building) -> None:
    for _ in range(3):
        await armed(place)

    async def three() -> set[str]:
        peers: set[str] = set()
        async with aclosing(heard(place)) as sightings:
            async for sighting in sightings:
                peers.add(sighting.peer)
                if len(peers) == 3:
                    return peers
        raise AssertionError

    async with asyncio.timeout(GUARD):
        one, other = await asyncio.gather(three(), three())
    assert one == other


async def test_a_phone_shown_to_a_lane_is_found_while_another_lane_listens(place: Building) -> None:
    await armed(place)
    listening = asyncio.create_task(listen(place))
    for _ in range(3):
        await good_session(place)
    assert not listening.done()
    await cancelled(listening)
    await good_session(place)


async def listen(place: Building) -> None:
    async for _ in place.central.sightings():
        pass


async def test_a_phone_sighted_at_another_adapter_is_found_by_its_address(place: Building) -> None:
    phone = await armed(place)
    for _ in range(3):
        await armed(place, b"somebody else's")
    peer = str(phone.device.random_address).split("/")[0]
    approached = await place.central.approach(peer, GUARD)
    assert approached.engagement == b"engagement"


async def test_a_phone_that_changed_its_address_is_not_replaced_by_another(place: Building) -> None:
    phone = await armed(place)
    peer = (await sighted(place)).peer
    await phone.rotate()
    await armed(place, b"somebody else's")
    with pytest.raises(LinkTimeoutError):
        await place.central.approach(peer, 0.5)
    assert not any(each.started.is_set() for each in place.phones)
    await good_session(place)


@pytest.mark.parametrize("length", [0, 513, 700])
async def test_an_engagement_that_no_attribute_may_hold_is_refused(place: Building, length: int) -> None:
    phone = await place.phone()
    endless(phone, length)
    await phone.arm(b"?")
    with pytest.raises(LinkProtocolError, match="engagement"):
        await place.central.approach((await sighted(place)).peer, GUARD)
    assert not phone.started.is_set()
    await phone.close()
    await good_session(place)


async def test_an_armed_phone_without_an_engagement_is_refused(place: Building) -> None:
    phone = await place.phone()
    await phone.advertise(ble.WALK_UP_SERVICE)
    with pytest.raises(LinkProtocolError):
        await place.central.approach((await sighted(place)).peer, GUARD)
    await phone.close()
    await good_session(place)


async def test_a_phone_walked_up_with_by_two_lanes_is_used_once(place: Building) -> None:
    phone = await armed(place)
    peer = (await sighted(place)).peer
    results = await asyncio.gather(*(place.central.approach(peer, 1.0) for _ in range(2)), return_exceptions=True)
    (approached,) = [each for each in results if isinstance(each, Approached)]
    assert sum(isinstance(each, LinkError) for each in results) == 1
    await exchange(approached.link, phone, b"request", b"response")


async def test_stopping_the_radio_ends_listening(place: Building) -> None:
    await armed(place)
    listening = asyncio.create_task(listen(place))
    await sighted(place)
    await place.central.stop()
    with pytest.raises(DriverError):
        await asyncio.wait_for(listening, GUARD)
    with pytest.raises(DriverError):
        await anext(place.central.sightings())
    with pytest.raises(DriverError):
        await place.central.approach("C0:00:00:00:00:01", GUARD)
