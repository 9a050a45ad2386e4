"""Reader as GATT server against phones in mdoc central client mode on the virtual air: real ATT, L2CAP and HCI bytes.

Up to the last section the tests know nothing of the stack below the gate's server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, cast
from uuid import UUID

import pytest
from bumble import att
from bumble.gatt import GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR as CCCD

from drivers.ble import BleakCentral, ConnectBudget
from drivers.ble.bumble_host import BumbleRadio
from drivers.ble.bumble_server import MAX_UNSERVED, BumbleHost
from drivers.ble.server import MAX_RESERVED, MAX_SESSIONS, GattServer, HostLostError, Notified, ServerLink
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
from protocol.clock import SystemClock
from testbed.air import Air, AirHub, virtual_device
from testbed.phone.ble import PhonePeripheral
from testbed.phone.central import PhoneCentral
from tests.drivers.ble_stacks import STACKS, GivenDevice, open_stack

GUARD = 5.0
"""Seconds; nothing here takes a tenth of it unless it hangs."""
SHORT = 0.15
"""Seconds; for what is not to happen."""
TABLE = ble.CENTRAL_CLIENT


@dataclass
class PinnedClock:
    at: float = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 11, 24, 8, 30, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.at


class Phone(PhoneCentral):
    """Notes how long the values are that it writes and is notified of."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.written: list[int] = []
        self.notified: list[int] = []
        self.heard = asyncio.Event()
        """The first value has been notified."""
        take = self._inbox.on_data

        def measure(value: bytes) -> None:
            self.notified.append(len(value))
            self.heard.set()
            take(value)

        self._inbox.on_data = measure  # type: ignore[method-assign]

    async def write(self, value: bytes) -> None:
        self.written.append(len(value))
        await super().write(value)

    async def raw(self, pdu: bytes) -> None:
        """One ATT PDU as it stands; whatever answer comes is waited for by nobody."""
        self.peer.gatt_client.send_gatt_pdu(pdu)

    def handle(self, characteristic: UUID | None) -> int:
        return int(self.characteristics[characteristic].handle)

    def configuration(self, characteristic: UUID) -> Any:
        """Its Client Characteristic Configuration."""
        return self.characteristics[characteristic].get_descriptor(CCCD)


@dataclass(frozen=True)
class Lane:
    """One `serve` that is waiting for its phone."""

    service: UUID
    ident: bytes
    serving: asyncio.Task[Link]

    async def link(self) -> Link:
        return await asyncio.wait_for(asyncio.shield(self.serving), GUARD)


@dataclass
class Building:
    """One gate and its air; each `phone()` is another one."""

    air: Air
    server: GattServer
    clock: PinnedClock
    random: Random = field(default_factory=lambda: Random(7))
    phones: list[Phone] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)

    def service(self) -> UUID:
        return UUID(bytes=self.random.randbytes(16), version=4)

    async def phone(self, max_mtu: int = 517, leaves: bool = True) -> Phone:
        device = await virtual_device(self.air, "phone", self.random.randbytes)
        phone = Phone(device, clock=self.clock, random_bytes=self.random.randbytes, max_mtu=max_mtu, leaves=leaves)
        self.phones.append(phone)
        return phone

    def lane(self, service: UUID | None = None, timeout: float = GUARD) -> Lane:
        """A lane that begins to wait for the phone of a fresh engagement."""
        service, ident = service or self.service(), self.random.randbytes(ble.IDENT_LENGTH)
        serving = cast("asyncio.Task[Link]", asyncio.create_task(self.server.serve(service, ident, timeout)))
        lane = Lane(service, ident, serving)
        self.lanes.append(lane)
        return lane

    async def begin(self, lane: Lane, max_mtu: int = 517, leaves: bool = True) -> tuple[Link, Phone]:
        phone = await self.phone(max_mtu, leaves)
        await phone.begin(lane.service, lane.ident, GUARD)
        return await lane.link(), phone

    async def session(self, max_mtu: int = 517, leaves: bool = True) -> tuple[Link, Phone]:
        return await self.begin(self.lane(), max_mtu, leaves)

    async def stranger(self, lane: Lane) -> Phone:
        """Connected and with everything discovered, but not subscribed."""
        phone = await self.phone()
        await phone.connect(await asyncio.wait_for(phone.find(lane.service), GUARD))
        await phone.exchange_mtu()
        await phone.discover(lane.service)
        return phone


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def building(stack: str, pool: int = 0) -> AsyncIterator[Building]:
    air, clock = Air(), PinnedClock()
    async with open_stack(stack, air, clock) as gate:
        place = Building(air, await gate.server(pool), clock)
        try:
            yield place
        finally:
            for lane in place.lanes:
                lane.serving.cancel()
            await asyncio.gather(*(lane.serving for lane in place.lanes), return_exceptions=True)
            for phone in place.phones:
                await phone.close()
            await place.server.stop()


async def exchange(link: Link, phone: PhoneCentral, request: bytes, response: bytes) -> None:
    """One turn each way, as a session does it."""
    _, received = await asyncio.gather(link.send(request), phone.receive(GUARD))
    assert received == request
    _, answered = await asyncio.gather(phone.send(response), link.receive(GUARD))
    assert answered == response


async def finish(link: Link, phone: PhoneCentral) -> None:
    await exchange(link, phone, b"request", b"response")
    await link.close()
    with pytest.raises(LinkEndedError):
        await phone.receive(GUARD)


async def good_session(place: Building) -> None:
    await finish(*await place.session())


async def on_air(place: Building, service: UUID) -> bool:
    scanner = await place.phone()
    with suppress(TimeoutError):
        async with asyncio.timeout(SHORT):
            await scanner.find(service)
            return True
    return False


# --- the way it should go ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_mtu", [23, 185, 247, 512, 517])
async def test_a_session_carries_messages_of_every_size_at_mtu(stack: str, max_mtu: int) -> None:
    async with building(stack) as place:
        link, phone = await place.session(max_mtu)
        fragment = ble.fragment_size(min(max_mtu, ble.SERVER_MTU))
        for size in (1, fragment - 1, fragment, 2 * fragment - 2, 4096):
            await exchange(link, phone, place.random.randbytes(size), place.random.randbytes(size))
        assert max(phone.written) == max(phone.notified) == fragment


async def test_the_longest_message_passes_both_ways_in_values_of_509_bytes(stack: str) -> None:
    async with building(stack) as place:
        link, phone = await place.session()
        size = limits.MAX_MESSAGE
        await exchange(link, phone, place.random.randbytes(size), place.random.randbytes(size))
        assert max(phone.written) == 509


async def test_the_link_says_what_carries_it_and_stamps_the_last_byte_when_it_arrives(stack: str) -> None:
    async with building(stack) as place:
        place.clock.at = 2000.0
        link, phone = await place.session()
        assert link.carrier is Carrier.BLE
        assert link.last_byte_at == 2000.0
        place.clock.at = 2001.0
        await phone.send(b"first")
        assert await link.receive(GUARD) == b"first"
        assert link.last_byte_at == 2001.0


async def test_a_phone_that_finds_another_ident_leaves_and_the_right_one_is_served(stack: str) -> None:
    async with building(stack) as place:
        lane, phone = place.lane(), await place.phone()
        with pytest.raises(LinkProtocolError, match="Ident"):
            await phone.begin(lane.service, bytes(ble.IDENT_LENGTH), GUARD)
        await finish(*await place.begin(lane))


async def test_two_lanes_serve_their_phones_at_the_same_time_each_with_its_own_ident(stack: str) -> None:
    async with building(stack) as place:
        (one, phone_one), (two, phone_two) = await asyncio.gather(place.session(), place.session())
        await asyncio.gather(
            exchange(one, phone_one, b"1" * 3000, b"one" * 3000), exchange(two, phone_two, b"2" * 3000, b"two" * 3000)
        )
        await asyncio.gather(finish(one, phone_one), finish(two, phone_two))


async def test_eight_lanes_advertise_in_turns_and_each_is_found(stack: str) -> None:
    async with building(stack) as place:
        for lane in [place.lane() for _ in range(8)]:
            await finish(*await place.begin(lane))


async def test_a_lane_whose_phone_never_shows_up_keeps_no_other_waiting(stack: str) -> None:
    async with building(stack) as place:
        absent = place.lane()
        await good_session(place)
        await good_session(place)
        assert not absent.serving.done()


async def test_a_session_that_has_started_is_no_longer_advertised(stack: str) -> None:
    async with building(stack) as place:
        lane = place.lane()
        assert await on_air(place, lane.service)
        link, phone = await place.begin(lane)
        async with asyncio.timeout(GUARD):
            while await on_air(place, lane.service):
                pass
        await finish(link, phone)


async def test_closing_lets_a_phone_leave_and_one_that_stays_is_disconnected(stack: str) -> None:
    async with building(stack) as place:
        link, phone = await place.session(leaves=False)
        await link.close()
        await asyncio.wait_for(phone.gone.wait(), GUARD)
        with pytest.raises(LinkEndedError):
            await phone.receive(GUARD)
        await good_session(place)


async def test_closing_twice_and_after_the_phone_is_gone_is_quiet(stack: str) -> None:
    async with building(stack) as place:
        link, phone = await place.session()
        await phone.vanish()
        await asyncio.gather(link.close(), link.close())
        await link.close()
        with pytest.raises(LinkLostError):
            await link.receive(GUARD)
        with pytest.raises(LinkLostError):
            await link.send(b"late")


# --- services ahead ---------------------------------------------------------------------------------------------------


async def test_a_reserved_service_is_served_and_the_pool_is_filled_again(stack: str) -> None:
    async with building(stack, pool=2) as place:
        services = set()
        for _ in range(5):
            service = place.server.reserve()
            services.add(service)
            await finish(*await place.begin(place.lane(service)))
        assert len(services) == 5


async def test_a_reserved_service_keeps_its_ident_until_it_is_served(stack: str) -> None:
    async with building(stack, pool=2) as place:
        ahead, lane = place.server.reserve(), place.lane()
        phone = await place.stranger(lane)
        await phone.discover(ahead)
        with pytest.raises(LinkProtocolError, match="ATT error"):
            await phone.read_ident()
        await phone.subscribe(TABLE.state)
        await phone.subscribe(TABLE.server_to_client)
        await phone.start()
        await finish(*await place.begin(lane))
        await finish(*await place.begin(place.lane(ahead)))


async def test_of_too_many_reserved_services_the_oldest_gives_way_and_can_still_be_served(stack: str) -> None:
    async with building(stack, pool=1) as place:
        services = [place.server.reserve()]
        while len(services) < MAX_RESERVED + 3:
            await good_session(place)
            services.append(place.server.reserve())
        for service in (services[0], services[-1]):
            await finish(*await place.begin(place.lane(service)))


async def test_nobody_comes_and_the_slot_is_free_again(stack: str) -> None:
    async with building(stack) as place:
        lanes = [place.lane(timeout=SHORT) for _ in range(2 * MAX_SESSIONS)]
        for lane in lanes:
            with pytest.raises(LinkTimeoutError):
                await lane.link()
        assert not await on_air(place, lanes[0].service)
        await good_session(place)


# --- phones that do not come to the start -----------------------------------------------------------------------------

Deed = Callable[[Phone], Awaitable[None]]


async def subscribes(phone: Phone) -> None:
    await phone.subscribe(TABLE.state)
    await phone.subscribe(TABLE.server_to_client)


async def does_nothing_more(phone: Phone) -> None:
    pass


async def starts_without_subscribing(phone: Phone) -> None:
    await phone.start()


async def starts_with_one_subscription(phone: Phone) -> None:
    await phone.subscribe(TABLE.server_to_client)
    await phone.start()


async def starts_after_unsubscribing(phone: Phone) -> None:
    await subscribes(phone)
    await phone.read_ident()  # bluetoothd passes subscriptions on behind its answer; behind this one they are in force
    await phone.request(lambda: phone.configuration(TABLE.state).write_value(b"\0\0", with_response=True))
    await phone.start()


async def writes_garbage_for_start(phone: Phone) -> None:
    await subscribes(phone)
    for value in (b"", b"\x00", b"\x03", b"\x01\x01", b"\x02", bytes(509)):
        await phone.write_state(value)


async def floods_before_start(phone: Phone) -> None:
    await subscribes(phone)
    for _ in range(300):
        await phone.write(b"\x00" + bytes(400))


async def answered(phone: Phone, work: Callable[[], Awaitable[object]]) -> None:
    """Taken or refused, but not left without an answer."""
    with suppress(LinkProtocolError):
        await phone.request(work)


async def writes_with_response(phone: Phone) -> None:
    for characteristic in (TABLE.state, TABLE.client_to_server, TABLE.server_to_client, TABLE.ident):
        for size in (0, 1, 200, 509):
            item = phone.characteristics[characteristic]
            await answered(phone, lambda item=item, size=size: item.write_value(bytes(size), with_response=True))  # type: ignore[misc]


async def writes_in_long_pieces(phone: Phone) -> None:
    """Prepared writes, executed and not."""
    for characteristic in (TABLE.state, TABLE.client_to_server, TABLE.ident):
        handle = phone.handle(characteristic)
        await answered(phone, lambda handle=handle: phone.peer.gatt_client.write_long_value(handle, bytes(600)))  # type: ignore[misc]
    prepare = att.ATT_Prepare_Write_Request(
        attribute_handle=phone.handle(TABLE.client_to_server), value_offset=0, part_attribute_value=b"\x00late"
    )
    for _ in range(80):
        await answered(phone, lambda: phone.peer.gatt_client.send_request(prepare))
    for flags in (0, 1, 7):
        execute = att.ATT_Execute_Write_Request(flags=flags)
        await answered(phone, lambda execute=execute: phone.peer.gatt_client.send_request(execute))  # type: ignore[misc]


async def writes_past_the_limits(phone: Phone) -> None:
    for characteristic in (TABLE.state, TABLE.client_to_server):
        for size in (510, 512, 513, 1000):
            command = att.ATT_Write_Command(attribute_handle=phone.handle(characteristic), attribute_value=bytes(size))
            await phone.raw(bytes(command))


async def writes_garbage_to_the_configuration(phone: Phone) -> None:
    for characteristic in (TABLE.state, TABLE.server_to_client):
        descriptor = phone.configuration(characteristic)
        for value in (b"", b"\x01", b"\x02\x00", b"\xff\xff", b"\x01\x00\x00", bytes(509)):
            await answered(phone, lambda d=descriptor, v=value: d.write_value(v, with_response=True))  # type: ignore[misc]
    await answered(phone, lambda: phone.configuration(TABLE.state).read_value())


async def overwrites_everything_it_finds(phone: Phone) -> None:
    """Declarations, names, the service itself."""
    last = max(item.end_group_handle for item in phone.characteristics.values())
    for handle in range(1, last + 10):
        pdu = att.ATT_Write_Request(attribute_handle=handle, attribute_value=b"\x55\xaa")
        await answered(phone, lambda pdu=pdu: phone.peer.gatt_client.send_request(pdu))  # type: ignore[misc]
        await phone.raw(bytes(att.ATT_Write_Command(attribute_handle=handle, attribute_value=b"\x55\xaa\x55")))


async def reads_everything_it_finds(phone: Phone) -> None:
    last = max(item.end_group_handle for item in phone.characteristics.values())
    for handle in range(1, last + 10):
        for request in (
            att.ATT_Read_Request(attribute_handle=handle),
            att.ATT_Read_Blob_Request(attribute_handle=handle, value_offset=7),
            att.ATT_Read_Blob_Request(attribute_handle=handle, value_offset=600),
        ):
            await answered(phone, lambda request=request: phone.peer.gatt_client.send_request(request))  # type: ignore[misc]
    several = att.ATT_Read_Multiple_Request(set_of_handles=[phone.handle(TABLE.state), phone.handle(TABLE.ident)])
    await answered(phone, lambda: phone.peer.gatt_client.send_request(several))


async def sends_pdus_that_are_none(phone: Phone) -> None:
    for pdu in (b"\x12", b"\x12\x01", b"\x52\x03", b"\x02\x00", b"\xfe\x01\x02", b"\x1e", b"\x18", b"\xd2" + bytes(20)):
        await phone.raw(pdu)


async def asks_for_another_mtu_again_and_again(phone: Phone) -> None:
    for mtu in (1, 23, 100, 65535, 0):
        pdu = att.ATT_Exchange_MTU_Request(client_rx_mtu=mtu)
        await answered(phone, lambda pdu=pdu: phone.peer.gatt_client.send_request(pdu))  # type: ignore[misc]


async def drops_out(phone: Phone) -> None:
    await phone.vanish()


async def subscribes_and_drops_out(phone: Phone) -> None:
    await subscribes(phone)
    await phone.vanish()


async def half_subscribes_and_drops_out(phone: Phone) -> None:
    await phone.subscribe(TABLE.state)
    await phone.vanish()


async def reads_the_ident_and_drops_out(phone: Phone) -> None:
    await phone.read_ident()
    await phone.vanish()


@pytest.mark.parametrize(
    "deed",
    [
        does_nothing_more,
        starts_without_subscribing,
        starts_with_one_subscription,
        starts_after_unsubscribing,
        writes_garbage_for_start,
        floods_before_start,
        writes_with_response,
        writes_in_long_pieces,
        writes_past_the_limits,
        writes_garbage_to_the_configuration,
        overwrites_everything_it_finds,
        reads_everything_it_finds,
        sends_pdus_that_are_none,
        asks_for_another_mtu_again_and_again,
        drops_out,
        subscribes_and_drops_out,
        half_subscribes_and_drops_out,
        reads_the_ident_and_drops_out,
    ],
)
async def test_before_the_start_a_phone_that(stack: str, deed: Deed) -> None:
    """It takes the session from nobody: not from the phone that is meant, not from another lane, not from the next."""
    async with building(stack) as place:
        lane, other = place.lane(), place.lane()
        hostile = await place.stranger(lane)
        await deed(hostile)
        assert not lane.serving.done()
        await finish(*await place.begin(lane))
        await finish(*await place.begin(other))
        await good_session(place)


async def test_before_the_discovery_a_phone_that_drops_out_takes_the_session_from_nobody(stack: str) -> None:
    async with building(stack) as place:
        lane = place.lane()
        for with_mtu in (False, True):
            phone = await place.phone()
            await phone.connect(await asyncio.wait_for(phone.find(lane.service), GUARD))
            if with_mtu:
                await phone.exchange_mtu()
            await phone.vanish()
        await finish(*await place.begin(lane))


async def test_a_hundred_connections_that_drop_before_the_start_leave_the_session_to_the_next(stack: str) -> None:
    async with building(stack) as place:
        lane, phone = place.lane(), await place.phone()
        address = await asyncio.wait_for(phone.find(lane.service), GUARD)
        for _ in range(100):
            await asyncio.wait_for(phone.connect(address), GUARD)
            await phone.disconnect()
        await finish(*await place.begin(lane))


async def test_a_phone_that_starts_second_is_passed_over_and_dropped_with_the_session(stack: str) -> None:
    async with building(stack) as place:
        lane, other = place.lane(), place.lane()  # while anybody is waited for, who has not started may stay
        late = await place.stranger(lane)
        await subscribes(late)
        link, phone = await place.begin(lane)
        await late.start()
        await late.write(b"\x00not mine")
        await late.write_state(ble.STATE_END)
        await answered(late, lambda: late.configuration(TABLE.state).read_value())
        await exchange(link, phone, b"request", b"response")
        if stack == "air":  # bluetoothd notifies every subscriber; what it says is for one phone's keys
            assert late.notified == []
        assert not late.gone.is_set()
        await finish(link, phone)
        await asyncio.wait_for(late.gone.wait(), GUARD)
        await finish(*await place.begin(other))


async def test_a_write_prepared_for_a_session_that_is_over_reaches_no_other(stack: str) -> None:
    async with building(stack) as place:
        lane, other = place.lane(), place.lane()
        late = await place.stranger(lane)
        client = late.peer.gatt_client
        prepare = att.ATT_Prepare_Write_Request(
            attribute_handle=late.handle(TABLE.client_to_server), value_offset=0, part_attribute_value=b"\x00late"
        )
        await answered(late, lambda: client.send_request(prepare))
        await finish(*await place.begin(lane))
        await answered(late, lambda: client.send_request(att.ATT_Execute_Write_Request(flags=1)))
        assert not other.serving.done()
        await finish(*await place.begin(other))


async def test_a_phone_is_served_by_one_lane_only(stack: str) -> None:
    async with building(stack) as place:
        first, second = place.lane(), place.lane()
        link, phone = await place.begin(first)
        with suppress(LinkError):
            await phone.discover(second.service)
            await subscribes(phone)
            await phone.start()
        await finish(*await place.begin(second))
        await link.close()
        await good_session(place)


# --- phones that have started -----------------------------------------------------------------------------------------

Fault = Callable[[Link, Phone], Awaitable[None]]


async def ends_at_once(link: Link, phone: Phone) -> None:
    await phone.end()


async def ends_in_the_middle_of_a_message(link: Link, phone: Phone) -> None:
    await phone.write(b"\x01half a mess")
    await phone.end()


async def vanishes_before_answering(link: Link, phone: Phone) -> None:
    await phone.vanish()


async def vanishes_in_the_middle_of_a_message(link: Link, phone: Phone) -> None:
    await phone.write(b"\x01half a mess")
    await phone.vanish()


async def says_nothing(link: Link, phone: Phone) -> None:
    pass


async def says_half(link: Link, phone: Phone) -> None:
    await phone.write(b"\x01half a mess")


async def uses_an_unknown_prefix(link: Link, phone: Phone) -> None:
    await phone.write(b"\x02whatever")


async def writes_a_value_without_a_prefix(link: Link, phone: Phone) -> None:
    await phone.write(b"")


async def writes_a_message_over_the_limit(link: Link, phone: Phone) -> None:
    with suppress(LinkError):  # the gate hangs up before the end
        for _ in range(limits.MAX_MESSAGE // 508 + 1):
            await phone.write(b"\x01" + bytes(508))


async def starts_again(link: Link, phone: Phone) -> None:
    await phone.start()


async def writes_garbage_to_state(link: Link, phone: Phone) -> None:
    await phone.write_state(b"\x07")


async def writes_an_empty_state(link: Link, phone: Phone) -> None:
    await phone.write_state(b"")


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
        (writes_a_value_without_a_prefix, LinkProtocolError),
        (writes_a_message_over_the_limit, LinkProtocolError),
        (starts_again, LinkProtocolError),
        (writes_garbage_to_state, LinkProtocolError),
        (writes_an_empty_state, LinkProtocolError),
    ],
)
async def test_a_phone_that(stack: str, fault: Fault, error: type[LinkError]) -> None:
    async with building(stack) as place:
        link, phone = await place.session()
        await link.send(b"request")
        assert await phone.receive(GUARD) == b"request"
        await fault(link, phone)
        with pytest.raises(error):
            await link.receive(SHORT if error is LinkTimeoutError else GUARD)
        await link.close()
        await good_session(place)


async def send_for_ever(phone: Phone, message: bytes) -> None:
    async with asyncio.timeout(GUARD):
        while True:
            await phone.send(message)


async def test_a_phone_that_floods_gets_what_was_in_turn_through_and_is_hung_up_on(stack: str) -> None:
    async with building(stack) as place:
        link, phone = await place.session()
        with pytest.raises(LinkError):
            await send_for_ever(phone, b"again")
        assert [await link.receive(GUARD) for _ in range(4)] == [b"again"] * 4
        with pytest.raises(LinkProtocolError, match="out of turn"):
            await link.receive(GUARD)
        await good_session(place)


async def test_a_message_that_came_whole_before_the_phone_vanished_is_still_delivered(stack: str) -> None:
    async with building(stack) as place:
        link, phone = await place.session()
        await phone.send(b"response")
        await phone.vanish()
        assert await link.receive(GUARD) == b"response"
        with pytest.raises(LinkLostError):
            await link.receive(GUARD)
        await link.close()
        await good_session(place)


async def test_a_phone_that_vanishes_while_it_is_sent_to_is_lost(stack: str) -> None:
    async with building(stack) as place:
        link, phone = await place.session()
        sending = asyncio.create_task(link.send(bytes(limits.MAX_MESSAGE)))
        await asyncio.wait_for(phone.heard.wait(), GUARD)
        await phone.vanish()
        with pytest.raises(LinkLostError):
            await sending
        await link.close()
        await good_session(place)


async def test_a_phone_that_unsubscribes_cannot_be_sent_to_and_only_its_session_ends(stack: str) -> None:
    async with building(stack) as place:
        link, phone = await place.session()
        descriptor = phone.configuration(TABLE.server_to_client)
        await phone.request(lambda: descriptor.write_value(b"\0\0", with_response=True))
        with suppress(LinkLostError):  # where the stack tells us
            await link.send(b"request")
        assert phone.notified == []
        await link.close()
        await good_session(place)


async def test_an_air_that_loses_everything_is_a_timeout_and_the_link_lives_on(stack: str) -> None:
    async with building(stack) as place:
        link, phone = await place.session()
        place.air.cut = True
        await phone.send(b"lost")
        with pytest.raises(LinkTimeoutError):
            await link.receive(SHORT)
        place.air.cut = False
        await finish(link, phone)


# --- the adapter ------------------------------------------------------------------------------------------------------


async def test_stopping_ends_open_sessions_in_good_order_and_whoever_waits_for_a_phone(stack: str) -> None:
    async with building(stack) as place:
        _, phone = await place.session()
        waiting = place.lane()
        assert await on_air(place, waiting.service)
        await place.server.stop()
        with pytest.raises(LinkEndedError):
            await phone.receive(GUARD)
        with pytest.raises(DriverError):
            await waiting.link()
        with pytest.raises(DriverError):
            await place.server.serve(place.service(), bytes(ble.IDENT_LENGTH), GUARD)
        await place.server.start()
        await good_session(place)


async def test_phones_that_did_not_start_are_dropped_when_nobody_is_waited_for_any_more(stack: str) -> None:
    async with building(stack) as place:
        lane = place.lane()
        silent, undecided = await place.stranger(lane), await place.stranger(lane)
        await subscribes(undecided)
        lane.serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lane.serving
        for phone in (silent, undecided):
            await asyncio.wait_for(phone.gone.wait(), GUARD / 2)
        await good_session(place)


# --- over bumble only -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def bumble_building(start_seconds: float = GUARD) -> AsyncIterator[tuple[Building, BumbleHost, Any]]:
    air, clock = Air(), PinnedClock()
    device: Any = await virtual_device(air, "gate", Random(2).randbytes)
    host = BumbleHost(GivenDevice(device), start_seconds=start_seconds)
    server = GattServer(host, clock, Random(3).randbytes, pool=0)
    await server.start()
    place = Building(air, server, clock)
    try:
        yield place, host, device
    finally:
        for lane in place.lanes:
            lane.serving.cancel()
        await asyncio.gather(*(lane.serving for lane in place.lanes), return_exceptions=True)
        for phone in place.phones:
            await phone.close()
        await server.stop()


async def test_a_phone_that_connects_and_says_nothing_is_dropped_after_the_limit() -> None:
    async with bumble_building(start_seconds=SHORT) as (place, host, _):
        lane, phone = place.lane(), await place.phone()
        await phone.connect(await asyncio.wait_for(phone.find(lane.service), GUARD))
        await asyncio.wait_for(phone.gone.wait(), GUARD)
        assert host.phones == []
        link, good = await place.begin(lane)
        await asyncio.sleep(2 * SHORT)  # past the limit, which holds for the start only
        await finish(link, good)


async def test_of_too_many_silent_phones_the_last_is_turned_away() -> None:
    async with bumble_building() as (place, _, _device):
        lane = place.lane()
        silent = [await place.stranger(lane) for _ in range(MAX_UNSERVED)]
        late = await place.phone()
        await late.connect(await asyncio.wait_for(late.find(lane.service), GUARD))
        await asyncio.wait_for(late.gone.wait(), GUARD)
        await subscribes(silent[0])
        await silent[0].start()
        await finish(await lane.link(), silent[0])


async def test_nothing_is_left_of_a_session_and_its_handles_are_not_used_again_soon() -> None:
    async with bumble_building() as (place, host, device):
        handles: set[int] = set()
        for _ in range(20):
            link, phone = await place.session()
            own = {item.handle for item in phone.characteristics.values()}
            assert not own & handles
            handles |= own
            await finish(link, phone)
        assert host.phones == []
        assert device.connections == {}
        radio = host.check()
        assert len(radio.database.services) == 2  # Generic Access and Generic Attribute
        assert len(radio.database.attributes) == radio.database._first_free - 1
        assert len(radio.database.attributes_by_handle) <= len(radio.database.attributes)
        assert radio.database.subscribers == {}


async def test_handles_begin_again_at_the_end_and_pass_over_those_in_use() -> None:
    async with bumble_building() as (place, host, _):
        database = host.check().database
        waiting = place.lane()
        await good_session(place)
        database._next = 0xFFF8
        for _ in range(3):
            await good_session(place)
            handles = [attribute.handle for attribute in database.attributes]
            assert handles == sorted(set(handles))
            assert max(handles) < 0xFFF8
        await finish(*await place.begin(waiting))


async def test_a_phone_that_lowers_the_mtu_is_never_sent_a_value_cut_short() -> None:
    async with bumble_building() as (place, _, _device):
        link, phone = await place.session()
        client = phone.peer.gatt_client
        await answered(phone, lambda: client.send_request(att.ATT_Exchange_MTU_Request(client_rx_mtu=100)))
        with pytest.raises(HostLostError, match="MTU"):
            await cast("ServerLink", link).published.notify(Notified.DATA, bytes(98))
        await exchange(link, phone, bytes(1000), b"response")
        assert max(phone.notified) == 97


async def test_a_phone_that_connects_while_advertising_is_being_stopped_is_not_overlooked() -> None:
    async with bumble_building(start_seconds=SHORT) as (place, host, device):
        lane, phone = place.lane(), await place.phone()
        address = await asyncio.wait_for(phone.find(lane.service), GUARD)
        sets = dict(device.extended_advertising_sets)
        device.extended_advertising_sets.clear()  # as while bumble stops one: then it announces nothing
        await phone.connect(address)
        await phone.exchange_mtu()
        assert host.phones == []
        device.extended_advertising_sets.update(sets)
        place.lane()  # advertising changes
        await asyncio.wait_for(phone.gone.wait(), GUARD)
        await good_session(place)


async def test_a_phone_we_connected_to_sees_nothing_of_the_lanes(tmp_path: Path) -> None:
    async with AirHub(tmp_path / "air") as hub:
        radio = BumbleRadio(hub.hci)
        central, server = BleakCentral(radio, SystemClock()), GattServer(BumbleHost(radio), SystemClock(), pool=1)
        await central.start()
        await server.start()
        assert radio.device is not None
        assert [
            str(service.uuid) for service in radio.device.gatt_server.services if len(service.uuid.uuid_bytes) > 2
        ] == []
        await server.stop()
        await central.stop()


async def test_one_adapter_is_central_and_server_at_a_time(tmp_path: Path) -> None:
    random = Random(5)
    async with AirHub(tmp_path / "air") as hub:
        radio = BumbleRadio(hub.hci)
        budget = ConnectBudget(attempts=3, attempt_seconds=2.0, pause_seconds=0.01)
        central, server = BleakCentral(radio, SystemClock(), budget), GattServer(BumbleHost(radio), SystemClock())
        await central.start()
        await server.start()
        for _ in range(4):
            there, here = (UUID(bytes=random.randbytes(16), version=4) for _ in range(2))
            ident = random.randbytes(ble.IDENT_LENGTH)
            async with await PhonePeripheral.open(hub.hci) as one, await PhoneCentral.open(hub.hci) as two:
                await one.advertise(there)
                to_one, to_two, _ = await asyncio.gather(
                    central.connect(there, GUARD), server.serve(here, ident, GUARD), two.begin(here, ident, GUARD)
                )
                await to_one.send(b"one")
                await to_two.send(b"two")
                assert await one.receive(GUARD) == b"one"
                assert await two.receive(GUARD) == b"two"
                await asyncio.gather(to_one.close(), to_two.close())
        await server.stop()
        await central.stop()


async def test_a_phone_that_connects_is_not_taken_for_the_one_we_are_connecting_to() -> None:
    async with bumble_building() as (place, _, device):
        absent = await virtual_device(place.air, "absent", place.random.randbytes)
        connecting = asyncio.create_task(device.connect(absent.random_address, timeout=None))
        await good_session(place)
        assert not connecting.done()
        await absent.start_advertising()
        connection = await asyncio.wait_for(connecting, GUARD)
        assert connection.peer_address == absent.random_address
        await connection.disconnect()


async def test_a_lost_adapter_ends_links_and_whoever_waits_and_a_second_start_heals(tmp_path: Path) -> None:
    hub = AirHub(tmp_path / "air")
    await hub.start()
    radio = BumbleRadio(hub.hci)
    server = GattServer(BumbleHost(radio), SystemClock(), pool=1)
    await radio.start()
    await server.start()
    random = Random(9)

    async def session() -> tuple[Link, PhoneCentral]:
        service, ident = server.reserve(), random.randbytes(ble.IDENT_LENGTH)
        phone = await PhoneCentral.open(hub.hci)
        link, _ = await asyncio.gather(server.serve(service, ident, GUARD), phone.begin(service, ident, GUARD))
        return link, phone

    link, phone = await session()
    waiting = asyncio.create_task(server.serve(UUID(int=1, version=4), bytes(16), GUARD))
    watching = [asyncio.create_task(server.gone()), asyncio.create_task(radio.gone())]
    sending = asyncio.create_task(link.send(bytes(limits.MAX_MESSAGE)))
    await asyncio.sleep(0)
    await hub.stop()
    for task in (waiting, *watching):
        with pytest.raises(DriverError):
            await asyncio.wait_for(task, GUARD)
    with pytest.raises(LinkLostError):
        await asyncio.wait_for(sending, GUARD)
    with pytest.raises(LinkLostError):
        await link.receive(GUARD)
    await asyncio.wait_for(link.close(), GUARD)
    with pytest.raises(DriverError):
        await server.serve(UUID(int=2, version=4), bytes(16), GUARD)
    await phone.close()
    await server.stop()
    await radio.stop()
    with pytest.raises(DriverError, match="not started"):
        await server.start()

    await hub.start()
    await radio.start()
    await server.start()
    await finish(*(pair := await session()))
    await pair[1].close()
    await server.stop()
    await radio.stop()
    await hub.stop()
