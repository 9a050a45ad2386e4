"""BLE central against a phone's GATT server on the virtual air: real bleak front end, real ATT, L2CAP and HCI bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

import pytest
from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.exc import BleakError, BleakGATTProtocolError
from bumble.core import UUID as BUMBLE_UUID
from bumble.core import AdvertisingData
from bumble.gatt import Characteristic, Service

from drivers.ble import BleakCentral, ConnectBudget
from drivers.ble.bumble_backend import backend_for
from drivers.ble.radio import Backend, GivenRadio
from drivers.ports import (
    Carrier,
    DriverError,
    Link,
    LinkEndedError,
    LinkError,
    LinkLostError,
    LinkProtocolError,
    LinkTimeoutError,
)
from mdoc import ble, limits
from testbed.air import Air, virtual_device
from testbed.phone.ble import PhonePeripheral

GUARD = 5.0
"""Seconds; nothing here takes a tenth of it unless it hangs."""
QUICK = ConnectBudget(attempts=3, attempt_seconds=2.0, pause_seconds=0.01, scan_seconds=0.2)


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
    gate: Any
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

    async def find(self, service: UUID, backend: Backend) -> BLEDevice:
        device = await BleakScanner.find_device_by_filter(
            lambda _, data: str(service) in data.service_uuids, GUARD, backend=backend.scanner
        )
        assert device is not None
        return device


@asynccontextmanager
async def building(budget: ConnectBudget = QUICK) -> AsyncIterator[Building]:
    air = Air()
    gate = await virtual_device(air, "gate", Random(1).randbytes)
    clock = PinnedClock()
    central = BleakCentral(GivenRadio(backend_for(gate)), clock, budget)
    await central.start()
    place = Building(air, gate, central, clock)
    try:
        yield place
    finally:
        for phone in place.phones:
            await phone.close()
        await central.stop()


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
async def test_a_session_carries_messages_of_every_size_at_mtu(max_mtu: int) -> None:
    async with building() as place:
        link, phone = await place.session(max_mtu)
        fragment = ble.fragment_size(min(max_mtu, ble.ATT_MTU))
        for size in (1, fragment - 1, fragment, 2 * fragment - 2, 4096):
            await exchange(link, phone, place.random.randbytes(size), place.random.randbytes(size))
        assert max(phone.lengths) == fragment


async def test_the_longest_message_passes() -> None:
    async with building() as place:
        link, phone = await place.session()
        await exchange(link, phone, b"request", place.random.randbytes(limits.MAX_MESSAGE))


async def test_the_link_says_what_carries_it() -> None:
    async with building() as place:
        link, _ = await place.session()
        assert link.carrier is Carrier.BLE


async def test_the_last_byte_is_stamped_when_it_arrives_not_when_it_is_taken() -> None:
    async with building() as place:
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


async def test_closing_tells_the_phone_that_the_session_is_over() -> None:
    async with building() as place:
        await good_session(place)


async def test_closing_twice_and_after_the_phone_is_gone_is_quiet() -> None:
    async with building() as place:
        link, phone = await place.session()
        await phone.vanish()
        await asyncio.gather(link.close(), link.close())
        await link.close()
        with pytest.raises(LinkLostError):
            await link.receive(GUARD)
        with pytest.raises(LinkLostError):
            await link.send(b"late")


async def test_stopping_the_radio_ends_open_sessions_in_good_order() -> None:
    async with building() as place:
        _, phone = await place.session()
        await place.central.stop()
        with pytest.raises(LinkEndedError):
            await phone.receive(GUARD)
        with pytest.raises(DriverError):
            await place.central.connect(place.service(), GUARD)


async def test_two_lanes_serve_their_phones_at_the_same_time() -> None:
    async with building() as place:
        (one, phone_one), (two, phone_two) = await asyncio.gather(place.session(), place.session())
        await asyncio.gather(
            exchange(one, phone_one, b"1" * 3000, b"one" * 3000), exchange(two, phone_two, b"2" * 3000, b"two" * 3000)
        )


async def test_a_lane_whose_phone_never_shows_up_keeps_no_other_waiting() -> None:
    async with building() as place:
        absent = asyncio.create_task(place.central.connect(place.service(), GUARD))
        await good_session(place)
        await good_session(place)
        assert not absent.done()
        absent.cancel()
        with suppress(asyncio.CancelledError):
            await absent


# --- faults, each followed by a session that works --------------------------------------------------------------------


async def ends_at_once(link: Link, phone: PhonePeripheral) -> None:
    await phone.end()


async def ends_in_the_middle_of_a_message(link: Link, phone: PhonePeripheral) -> None:
    await phone.notify(b"\x01half a mess")
    await phone.end()


async def vanishes_before_answering(link: Link, phone: PhonePeripheral) -> None:
    await phone.vanish()


async def vanishes_in_the_middle_of_a_message(link: Link, phone: PhonePeripheral) -> None:
    await phone.notify(b"\x01half a mess")
    await phone.vanish()


async def says_nothing(link: Link, phone: PhonePeripheral) -> None:
    pass


async def says_half(link: Link, phone: PhonePeripheral) -> None:
    await phone.notify(b"\x01half a mess")


async def uses_an_unknown_prefix(link: Link, phone: PhonePeripheral) -> None:
    await phone.notify(b"\x02whatever")


async def sends_a_value_without_a_prefix(link: Link, phone: PhonePeripheral) -> None:
    await phone.notify(b"")


async def sends_a_message_over_the_limit(link: Link, phone: PhonePeripheral) -> None:
    with suppress(LinkError):  # the gate hangs up before the end
        for _ in range(limits.MAX_MESSAGE // 511 + 1):
            await phone.notify(b"\x01" + bytes(511))


Fault = Callable[[Link, PhonePeripheral], Awaitable[None]]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (ends_at_once, LinkEndedError),
        (ends_in_the_middle_of_a_message, LinkEndedError),
        (vanishes_before_answering, LinkLostError),
        (vanishes_in_the_middle_of_a_message, LinkLostError),
        (says_nothing, LinkTimeoutError),
        (says_half, LinkTimeoutError),
        (uses_an_unknown_prefix, LinkProtocolError),
        (sends_a_value_without_a_prefix, LinkProtocolError),
        (sends_a_message_over_the_limit, LinkProtocolError),
    ],
)
async def test_a_phone_that(fault: Fault, error: type[LinkError]) -> None:
    async with building() as place:
        link, phone = await place.session()
        await link.send(b"request")
        assert await phone.receive(GUARD) == b"request"
        await fault(link, phone)
        with pytest.raises(error):
            await link.receive(0.1 if error is LinkTimeoutError else GUARD)
        await link.close()
        await good_session(place)


async def send_for_ever(phone: PhonePeripheral, message: bytes) -> None:
    async with asyncio.timeout(GUARD):
        while True:
            await phone.send(message)


async def test_a_phone_that_floods_gets_what_was_in_turn_through_and_is_hung_up_on() -> None:
    async with building() as place:
        link, phone = await place.session()
        with pytest.raises(LinkError):
            await send_for_ever(phone, b"again")
        assert [await link.receive(GUARD) for _ in range(4)] == [b"again"] * 4
        with pytest.raises(LinkProtocolError, match="out of turn"):
            await link.receive(GUARD)
        await good_session(place)


async def test_a_message_that_came_whole_before_the_end_is_still_delivered() -> None:
    async with building() as place:
        link, phone = await place.session()
        await phone.send(b"response")
        await phone.end()
        assert await link.receive(GUARD) == b"response"
        with pytest.raises(LinkEndedError):
            await link.receive(GUARD)


async def test_an_air_that_loses_everything_is_a_timeout_and_the_link_lives_on() -> None:
    async with building() as place:
        link, phone = await place.session()
        place.air.cut = True
        await phone.send(b"lost")
        with pytest.raises(LinkTimeoutError):
            await link.receive(0.05)
        place.air.cut = False
        await exchange(link, phone, b"request", b"response")


async def test_cancelling_a_receive_loses_no_message() -> None:
    async with building() as place:
        link, phone = await place.session()
        waiting = asyncio.create_task(link.receive(GUARD))
        await asyncio.sleep(0)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        await exchange(link, phone, b"request", b"response")


# --- connecting -------------------------------------------------------------------------------------------------------


async def test_nobody_advertising_is_a_timeout_within_the_budget() -> None:
    async with building() as place:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(LinkTimeoutError):
            await place.central.connect(place.service(), 0.5)  # 0.2 s per scan: two restarts in between
        assert 0.45 < loop.time() - began < GUARD
        await good_session(place)


async def test_a_phone_that_drops_before_start_is_connected_again() -> None:
    async with building() as place:
        phone, service = await place.phone(), place.service()
        dropped: list[Any] = []

        def drop_the_first(connection: Any) -> None:
            if not dropped:
                dropped.append(asyncio.ensure_future(connection.disconnect()))

        phone.device.on("connection", drop_the_first)
        await phone.advertise(service)
        link = await place.central.connect(service, GUARD)
        assert dropped
        await exchange(link, phone, b"request", b"response")


async def test_the_number_of_tries_is_bounded() -> None:
    async with building() as place:
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


async def test_a_phone_lost_after_start_is_not_connected_again() -> None:
    async with building() as place:
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


async def test_a_start_that_cannot_be_written_is_not_tried_again() -> None:
    """The write may have gone out all the same, and the phone's session with it."""
    async with building() as place:
        given = backend_for(place.gate)
        connects: list[Any] = []

        class NoStart(given.client):  # type: ignore[name-defined, misc]  # the class is made per device
            async def connect(self, pair: bool, **kwargs: Any) -> None:
                connects.append(self)
                await super().connect(pair, **kwargs)

            async def write_gatt_char(self, characteristic: Any, data: Any, response: bool) -> None:
                raise BleakError("write failed")

        central = BleakCentral(GivenRadio(Backend(given.scanner, NoStart)), place.clock, QUICK)
        await central.start()
        phone, service = await place.phone(), place.service()
        await phone.advertise(service)
        with pytest.raises(LinkLostError, match="State = start"):
            await central.connect(service, GUARD)
        assert len(connects) == 1
        await central.stop()


async def test_stopping_the_radio_fails_the_connects_under_way() -> None:
    async with building() as place:
        scanning = asyncio.create_task(place.central.connect(place.service(), GUARD))
        await good_session(place)
        await place.central.stop()
        with pytest.raises(DriverError):
            await scanning


@pytest.mark.parametrize("silent_from", ["connection", "subscription"])
async def test_a_phone_that_stops_answering_costs_one_try_not_the_lane(silent_from: str) -> None:
    async with building(ConnectBudget(attempts=1, attempt_seconds=0.1)) as place:
        phone, service = await place.phone(), place.service()

        def go_silent(*_: Any) -> None:
            place.air.cut = True

        if silent_from == "connection":
            phone.device.on("connection", go_silent)
        else:
            phone._state.on("subscription", go_silent)
        await phone.advertise(service)
        with pytest.raises(LinkLostError):
            await place.central.connect(service, GUARD)
        place.air.cut = False
        await phone.close()
        place.central._budget = QUICK
        await good_session(place)


async def test_a_cancelled_connect_lets_the_phone_go() -> None:
    async with building() as place:
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


@pytest.mark.parametrize(
    "characteristics",
    [
        [],
        [(ble.PERIPHERAL_SERVER.state, "NOTIFY,WRITE_WITHOUT_RESPONSE")],
        [
            (ble.PERIPHERAL_SERVER.state, "NOTIFY,WRITE_WITHOUT_RESPONSE"),
            (ble.PERIPHERAL_SERVER.client_to_server, "WRITE_WITHOUT_RESPONSE"),
            (ble.PERIPHERAL_SERVER.server_to_client, "READ"),
        ],
    ],
    ids=["none", "one", "no notify"],
)
async def test_a_service_that_is_not_18013_5_is_refused_at_once(characteristics: list[tuple[UUID, str]]) -> None:
    async with building() as place:
        device: Any = await virtual_device(place.air, "odd", place.random.randbytes)
        service = place.service()
        table = [
            Characteristic(str(uuid), Characteristic.Properties.from_string(names), Characteristic.READABLE, b"")
            for uuid, names in characteristics
        ]
        device.add_service(Service(str(service), table))
        gone = asyncio.Event()
        device.on("connection", lambda it: it.on("disconnection", lambda _: gone.set()))
        uuids = bytes(BUMBLE_UUID(str(service)))
        await device.start_advertising(
            advertising_data=bytes(
                AdvertisingData([(AdvertisingData.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, uuids)])
            ),
            advertising_interval_min=20,
            advertising_interval_max=20,
        )
        with pytest.raises(LinkProtocolError):
            await place.central.connect(service, GUARD)
        await asyncio.wait_for(gone.wait(), GUARD)
        await good_session(place)


# --- the backend, through bleak's own front end -----------------------------------------------------------------------


async def test_a_connect_that_times_out_leaves_no_connection_pending() -> None:
    """bumble's virtual controller used to keep it and connect behind everybody's back when the phone came again."""
    async with building() as place:
        backend = backend_for(place.gate)
        phone, service = await place.phone(), place.service()
        await phone.advertise(service)
        device = await place.find(service, backend)
        await phone.device.stop_advertising()
        with pytest.raises(TimeoutError):
            await BleakClient(device, timeout=0.05, backend=backend.client).connect()
        seen: list[Any] = []
        phone.device.on("connection", seen.append)
        await phone._start_advertising()
        device = await place.find(service, backend)
        assert seen == []
        async with BleakClient(device, backend=backend.client) as client:
            assert client.is_connected
        assert len(seen) == 1


async def test_the_phone_enforces_the_properties_of_its_characteristics() -> None:
    async with building() as place:
        backend = backend_for(place.gate)
        phone, service = await place.phone(), place.service()
        await phone.advertise(service)
        table = ble.PERIPHERAL_SERVER
        async with BleakClient(await place.find(service, backend), backend=backend.client) as client:
            for unreadable in (table.state, table.client_to_server, table.server_to_client):
                with pytest.raises(BleakGATTProtocolError):
                    await client.read_gatt_char(unreadable)
            with pytest.raises(BleakGATTProtocolError):
                await client.write_gatt_char(table.server_to_client, b"\x00", response=True)
            outgoing = client.services.get_characteristic(table.client_to_server)
            assert outgoing is not None
            assert outgoing.max_write_without_response_size == 512
            with pytest.raises(BleakError):
                await client.write_gatt_char(outgoing, bytes(513), response=False)


async def test_losing_the_phone_during_a_request_is_a_bleak_error_not_a_cancellation() -> None:
    async with building() as place:
        backend = backend_for(place.gate)
        phone, service = await place.phone(), place.service()
        await phone.advertise(service)
        client = BleakClient(await place.find(service, backend), backend=backend.client)
        await client.connect()
        place.air.cut = True
        reading = asyncio.create_task(client.read_gatt_char(ble.PERIPHERAL_SERVER.state))
        await asyncio.sleep(0)
        place.air.cut = False
        await phone.vanish()
        with pytest.raises(BleakError):
            await asyncio.wait_for(reading, GUARD)
        assert not client.is_connected
        with pytest.raises(BleakError):
            await client.write_gatt_char(ble.PERIPHERAL_SERVER.state, b"\x01", response=False)


async def test_every_presentation_has_a_fresh_address() -> None:
    async with building() as place:
        backend = backend_for(place.gate)
        seen = set()
        for _ in range(3):
            phone, service = await place.phone(), place.service()
            await phone.advertise(service)
            seen.add((await place.find(service, backend)).address)
        assert len(seen) == 3
