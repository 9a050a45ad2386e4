"""The reader as GATT server on BlueZ: our D-Bus application against a fake bluetoothd, with phones on the virtual air."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

import pytest
from bleak.backends.bluezdbus.client import BleakClientBlueZDBus
from bleak.backends.bluezdbus.scanner import BleakScannerBlueZDBus
from bumble.core import UUID as BUMBLE_UUID
from dbus_fast import BusType, DBusError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from drivers.ble import BleakCentral, ConnectBudget, bluez_bus, bluez_server
from drivers.ble.bluez_bus import ADAPTER, GATT_CHARACTERISTIC, OBJECT_MANAGER
from drivers.ble.bluez_server import BluezHost, choose_adapter
from drivers.ble.radio import Backend, BluezRadio, GivenRadio
from drivers.ble.server import GattServer, ServerLink
from drivers.ports import DriverError, Link, LinkEndedError, LinkLostError, LinkProtocolError, LinkTimeoutError
from mdoc import ble
from testbed.air import Air, virtual_device
from testbed.bluez import Knobs
from testbed.phone.ble import PhonePeripheral
from testbed.phone.central import PhoneCentral
from tests.drivers.bluez_stack import BluezStack, bluez_stack

pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="dbus-daemon is not installed")

GUARD = 5.0
"""Seconds; nothing here takes a tenth of it unless it hangs."""
IDENT = bytes(range(16))


@dataclass
class PinnedClock:
    at: float = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 11, 24, 8, 30, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.at


@dataclass
class Gate:
    """One gate on BlueZ and its air; every phone is another device."""

    air: Air
    stack: BluezStack
    server: GattServer
    clock: PinnedClock
    random: Random = field(default_factory=lambda: Random(7))
    phones: list[PhoneCentral] = field(default_factory=list)

    @property
    def host(self) -> BluezHost:
        host = self.server._host
        assert isinstance(host, BluezHost)
        return host

    def service(self) -> UUID:
        return UUID(bytes=self.random.randbytes(16), version=4)

    async def phone(self, max_mtu: int = 517, *, leaves: bool = True) -> PhoneCentral:
        device: Any = await virtual_device(self.air, "phone", self.random.randbytes)
        phone = PhoneCentral(
            device, clock=self.clock, random_bytes=self.random.randbytes, max_mtu=max_mtu, leaves=leaves
        )
        self.phones.append(phone)
        return phone

    def serve(self, service: UUID, timeout: float = GUARD) -> asyncio.Task[ServerLink]:
        return asyncio.create_task(self.server.serve(service, IDENT, timeout))

    async def session(self, max_mtu: int = 517, *, leaves: bool = True) -> tuple[ServerLink, PhoneCentral]:
        phone, service = await self.phone(max_mtu, leaves=leaves), self.service()
        serving = self.serve(service)
        await phone.begin(service, IDENT, GUARD)
        return await serving, phone

    def published(self) -> tuple[int, int, int]:
        """What bluetoothd holds of ours: applications, advertisements, attributes on the air."""
        bluez = self.stack.bluez
        assert bluez.gatt is not None
        assert bluez.advertising is not None
        attributes: list[Any] = bluez.shared.device.gatt_server.attributes
        return len(bluez.gatt.applications), len(bluez.advertising.advertisements), len(attributes)


@asynccontextmanager
async def gate(knobs: Knobs | None = None, *, pool: int = 0) -> AsyncIterator[Gate]:
    air, clock = Air(), PinnedClock()
    async with bluez_stack(air, clock, knobs) as stack:
        server = await stack.server(pool)
        place = Gate(air, stack, server, clock)
        try:
            yield place
        finally:
            for phone in place.phones:
                await phone.close()
            await server.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(GUARD):
        while not condition():  # noqa: ASYNC110  # the other side of the bus has no event to wait for
            await asyncio.sleep(0.001)


async def connect(phone: PhoneCentral, service: UUID) -> None:
    """To whoever advertises `service`, and no further."""
    await phone.connect(await asyncio.wait_for(phone.find(service), GUARD))
    await phone.exchange_mtu()  # the connection stands


async def exchange(
    link: ServerLink | Link, phone: PhoneCentral | PhonePeripheral, request: bytes, response: bytes
) -> None:
    _, received = await asyncio.gather(link.send(request), phone.receive(GUARD))
    assert received == request
    _, answered = await asyncio.gather(phone.send(response), link.receive(GUARD))
    assert answered == response


async def good_session(place: Gate) -> None:
    link, phone = await place.session()
    await exchange(link, phone, b"request", b"response")
    await link.close()
    with pytest.raises(LinkEndedError):
        await phone.receive(GUARD)


# --- what bluetoothd sees of us ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_mtu", [23, 185, 517])
async def test_a_session_carries_messages_both_ways_at_mtu(max_mtu: int) -> None:
    async with gate(Knobs()) as place:
        link, phone = await place.session(max_mtu)
        await exchange(link, phone, place.random.randbytes(4000), place.random.randbytes(9000))
        assert link.published.value_size == ble.fragment_size(max_mtu) == phone.value_size
        await link.close()


async def tree(place: Gate) -> dict[str, dict[str, dict[str, Variant]]]:
    """The one application there is, read as bluetoothd reads it."""
    bluez = place.stack.bluez
    assert bluez.gatt is not None
    ((owner, path),) = bluez.gatt.applications
    reply = await bluez.tree.request(owner, path, OBJECT_MANAGER, "GetManagedObjects")
    objects: dict[str, dict[str, dict[str, Variant]]] = reply.body[0]
    return objects


async def as_bluetoothd(place: Gate, uuid: UUID | None, member: str, signature: str, *body: Any) -> Message:
    bluez = place.stack.bluez
    assert bluez.gatt is not None
    ((owner, _),) = bluez.gatt.applications
    (path,) = (
        path
        for path, each in (await tree(place)).items()
        if GATT_CHARACTERISTIC in each and each[GATT_CHARACTERISTIC]["UUID"].value == str(uuid)
    )
    return await bluez.tree.request(owner, path, GATT_CHARACTERISTIC, member, signature, body)


async def test_the_application_is_table_6_and_offers_no_acquired_writes() -> None:
    async with gate(pool=1) as place:
        found = {
            UUID(each[GATT_CHARACTERISTIC]["UUID"].value): each[GATT_CHARACTERISTIC]
            for each in (await tree(place)).values()
            if GATT_CHARACTERISTIC in each
        }
        table = ble.CENTRAL_CLIENT
        assert {uuid: sorted(each["Flags"].value) for uuid, each in found.items()} == {
            table.state: ["notify", "write-without-response"],
            table.client_to_server: ["write-without-response"],
            table.server_to_client: ["notify"],
            table.ident: ["read"],
        }
        assert not any("WriteAcquired" in each for each in found.values())
        assert all(("NotifyAcquired" in each) == ("notify" in each["Flags"].value) for each in found.values())
        with pytest.raises(DBusError) as refused:
            await as_bluetoothd(place, table.client_to_server, "AcquireWrite", "a{sv}", {})
        assert refused.value.type == "org.freedesktop.DBus.Error.UnknownMethod"


async def test_ident_is_read_from_an_offset_on_and_not_before_the_lane_has_set_it() -> None:
    async with gate(pool=1) as place:
        ident = ble.CENTRAL_CLIENT.ident
        with pytest.raises(DBusError) as refused:
            await as_bluetoothd(place, ident, "ReadValue", "a{sv}", {})
        assert refused.value.type == "org.bluez.Error.NotPermitted"
        ((session, _),) = place.server._pool.values()
        session.ident = IDENT
        for offset in (0, 7, 16):
            reply = await as_bluetoothd(place, ident, "ReadValue", "a{sv}", {"offset": Variant("q", offset)})
            assert bytes(reply.body[0]) == IDENT[offset:]
        with pytest.raises(DBusError) as beyond:
            await as_bluetoothd(place, ident, "ReadValue", "a{sv}", {"offset": Variant("q", 17)})
        assert beyond.value.type == "org.bluez.Error.InvalidOffset"


@pytest.mark.parametrize(
    "options",
    [{}, {"device": Variant("s", "")}, {"device": Variant("u", 1)}, {"offset": Variant("q", 1)}],
    ids=["no device", "empty device", "odd device", "offset"],
)
async def test_a_write_with_odd_options_is_refused(options: dict[str, Variant]) -> None:
    async with gate(pool=1) as place:
        with pytest.raises(DBusError) as refused:
            await as_bluetoothd(place, ble.CENTRAL_CLIENT.state, "WriteValue", "aya{sv}", b"\x01", options)
        assert refused.value.type == "org.bluez.Error.NotPermitted"


async def test_nobody_but_bluetoothd_is_answered() -> None:
    async with gate(pool=1) as place:
        bluez = place.stack.bluez
        assert bluez.gatt is not None
        ((owner, path),) = bluez.gatt.applications
        stranger = await MessageBus(bus_type=BusType.SYSTEM).connect()
        reply = await stranger.call(
            Message(destination=owner, path=path, interface=OBJECT_MANAGER, member="GetManagedObjects")
        )
        assert reply.message_type is MessageType.ERROR
        assert reply.error_name == "org.freedesktop.DBus.Error.AccessDenied"
        stranger.disconnect()
        ended: Any = stranger.wait_for_disconnect
        await ended()


async def test_sessions_leave_nothing_behind() -> None:
    async with gate() as place:
        before = place.published()
        for _ in range(3):
            await good_session(place)
        with pytest.raises(LinkTimeoutError):
            await place.server.serve(place.service(), IDENT, 0.05)
        await until(lambda: place.published() == before and not place.host._applications)


async def test_a_stopped_server_leaves_nothing_behind_and_ends_its_links() -> None:
    async with gate(pool=2) as place:
        link, phone = await place.session()
        await place.server.stop()
        await until(lambda: place.published() == (0, 0, place.published()[2]))
        with pytest.raises(LinkLostError):
            await link.receive(GUARD)
        with pytest.raises(LinkEndedError):
            await phone.receive(GUARD)
        with pytest.raises(DriverError):
            await place.server.gone()


# --- losing bluetoothd, the adapter, the bus --------------------------------------------------------------------------


async def the_daemon_leaves(place: Gate) -> None:
    await place.stack.bluez.stop()


async def the_adapter_is_switched_off(place: Gate) -> None:
    await place.stack.bluez.power_off()


async def the_adapter_is_pulled_out(place: Gate) -> None:
    await place.stack.bluez.unplug()


async def the_bus_dies(place: Gate) -> None:
    await place.stack.bus.stop()


Cause = Callable[[Gate], Awaitable[None]]
CAUSES = [the_daemon_leaves, the_adapter_is_switched_off, the_adapter_is_pulled_out, the_bus_dies]


async def comes_back(place: Gate, cause: Cause) -> None:
    bluez = place.stack.bluez
    if cause is the_adapter_is_switched_off:
        bluez.power_on()
        return
    if cause is the_adapter_is_pulled_out:
        await bluez.stop()
    if cause is the_bus_dies:
        await bluez.stop()
        await place.stack.bus.start()
    await bluez.start()


@pytest.mark.parametrize("cause", CAUSES)
async def test_gone_ends_links_and_waits_and_the_server_can_be_started_again_after(cause: Cause) -> None:
    async with gate(pool=1) as place:
        link, _ = await place.session()
        waiting = place.serve(place.service())
        gone = asyncio.create_task(place.server.gone())
        await until(lambda: place.published()[1] == 1)
        await cause(place)
        async with asyncio.timeout(GUARD):
            with pytest.raises(DriverError):
                await gone
            with pytest.raises(DriverError):
                await waiting
            with pytest.raises(LinkLostError):
                await link.receive(GUARD)
            await link.close()
            with pytest.raises(DriverError):
                await place.server.start()
        await comes_back(place, cause)
        await place.server.start()
        await good_session(place)


async def test_a_bluetoothd_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gate() as place:
        bluez = place.stack.bluez
        assert bluez.gatt is not None

        async def never(_: Any) -> None:
            await asyncio.get_running_loop().create_future()

        monkeypatch.setattr(bluez_bus, "CALL_SECONDS", 0.05)
        bluez.gatt.interface.methods = {"RegisterApplication": never, "UnregisterApplication": never}
        with pytest.raises(DriverError, match=r"RegisterApplication: no answer within 0\.05 s"):
            await place.server.serve(place.service(), IDENT, GUARD)
        await until(lambda: not place.host._applications)


async def test_an_error_of_bluetoothd_is_told_by_its_name_only() -> None:
    async with gate() as place:
        bluez = place.stack.bluez
        assert bluez.advertising is not None
        bluez.advertising.interface.methods = {}
        with pytest.raises(DriverError) as failed:
            await place.server.serve(place.service(), IDENT, GUARD)
        assert str(failed.value) == "RegisterAdvertisement: org.freedesktop.DBus.Error.UnknownMethod"
        await until(lambda: place.published()[:2] == (0, 0))


async def test_without_a_bus_starting_is_a_driver_error() -> None:
    async with gate() as place:
        await place.server.stop()
        await place.stack.bluez.stop()
        await place.stack.bus.stop()
        with pytest.raises(DriverError, match="system bus: FileNotFoundError"):
            await place.server.start()


# --- which adapter ----------------------------------------------------------------------------------------------------


def adapters(**each: tuple[bool, list[str]]) -> dict[str, dict[str, dict[str, Any]]]:
    return {f"/org/bluez/{name}": {ADAPTER: {"Powered": on, "Roles": roles}} for name, (on, roles) in each.items()}


BOTH = ["central", "peripheral"]


@pytest.mark.parametrize(
    ("objects", "wanted", "chosen"),
    [
        (adapters(hci1=(True, BOTH), hci0=(True, BOTH)), None, "/org/bluez/hci0"),
        (adapters(hci0=(False, BOTH), hci1=(True, BOTH)), None, "/org/bluez/hci1"),
        (adapters(hci0=(True, ["central"]), hci1=(True, BOTH)), None, "/org/bluez/hci1"),
        (adapters(hci0=(True, BOTH), hci1=(True, BOTH)), "hci1", "/org/bluez/hci1"),
    ],
)
def test_the_adapter_is_the_one_named_or_the_first_that_is_on_and_able(objects: Any, wanted: Any, chosen: str) -> None:
    assert choose_adapter(objects, wanted) == chosen


@pytest.mark.parametrize(
    ("objects", "wanted", "why"),
    [
        ({}, None, "no adapter"),
        (adapters(hci0=(True, BOTH)), "hci1", "no such adapter"),
        (adapters(hci0=(True, ["central"])), None, "cannot be peripheral"),
        (adapters(hci0=(False, BOTH), hci1=(True, BOTH)), "hci0", "switched off"),
    ],
)
def test_no_adapter_to_use_is_a_driver_error_that_says_why(objects: Any, wanted: Any, why: str) -> None:
    with pytest.raises(DriverError, match=why):
        choose_adapter(objects, wanted)


# --- bluetoothd's ways ------------------------------------------------------------------------------------------------


async def test_bluetoothd_before_5_69_loses_writes_of_512_bytes_and_exchange_mtu_512_is_the_way_round_it() -> None:
    response = Random(3).randbytes(4000)
    async with gate(Knobs(drops_long_writes=True)) as place:
        link, phone = await place.session()
        assert phone.value_size == 512
        await phone.send(response)
        assert await link.receive(GUARD) == response[-(len(response) % 511) :]  # all but the last, short one are lost
        await link.close()
    async with gate(Knobs(drops_long_writes=True, exchange_mtu=ble.SERVER_MTU)) as place:
        link, phone = await place.session()
        assert phone.value_size == 509
        await exchange(link, phone, b"request", response)
        await link.close()


async def test_a_second_subscriber_whom_bluetoothd_does_not_tell_of_can_start() -> None:
    async with gate() as place:
        service = place.service()
        serving = place.serve(service)
        idler, phone = await place.phone(), await place.phone()
        await asyncio.wait_for(idler.prepare(service, IDENT), GUARD)
        await phone.begin(service, IDENT, GUARD)
        link = await serving
        await exchange(link, phone, b"request", b"response")
        await link.close()


async def test_two_phones_that_subscribe_at_once_leave_one_socket_and_either_can_start() -> None:
    async with gate() as place:
        service = place.service()
        serving = place.serve(service)
        phones = [await place.phone(), await place.phone()]
        for phone in phones:
            await connect(phone, service)
            await phone.discover(service)
        for characteristic in (ble.CENTRAL_CLIENT.state, ble.CENTRAL_CLIENT.server_to_client):
            await asyncio.gather(*(phone.subscribe(characteristic) for phone in phones))
        await phones[1].start()
        link = await serving
        await exchange(link, phones[1], b"request", b"response")
        await link.close()


async def test_a_phone_that_never_subscribed_cannot_start_where_nobody_has() -> None:
    async with gate() as place:
        service = place.service()
        serving = place.serve(service, 0.5)
        phone = await place.phone()
        await connect(phone, service)
        await phone.discover(service)
        await phone.start()
        with pytest.raises(LinkTimeoutError):
            await serving


async def test_a_subscriber_that_left_before_start_is_forgotten_and_the_next_is_asked_for_again() -> None:
    async with gate() as place:
        service = place.service()
        serving = place.serve(service)
        first = await place.phone()
        await asyncio.wait_for(first.prepare(service, IDENT), GUARD)
        (application,) = place.host._applications.values()
        await until(lambda: len(application._channels) == 2)
        await first.disconnect()
        await until(lambda: not application._channels)
        assert not application._session._subscribed.get("", None)
        phone = await place.phone()
        await phone.begin(service, IDENT, GUARD)
        link = await serving
        await exchange(link, phone, b"request", b"response")
        await link.close()


async def test_a_phone_lost_in_a_session_is_known_at_once() -> None:
    async with gate() as place:
        link, phone = await place.session()
        await phone.vanish()
        with pytest.raises(LinkLostError):
            await link.receive(GUARD)
        with pytest.raises(LinkLostError):
            await link.send(b"too late")
        await link.close()
        await good_session(place)


async def test_a_message_nobody_takes_holds_its_sender_back_and_goes_on_where_it_stopped() -> None:
    async with gate() as place:
        link, phone = await place.session()
        message = place.random.randbytes(100_000)
        (application,) = place.host._applications.values()
        place.stack.bluez.taking.clear()
        sending = asyncio.create_task(link.send(message))
        await until(lambda: any(each._writable is not None for each in application._channels.values()))
        assert not sending.done()
        place.stack.bluez.taking.set()
        assert await phone.receive(GUARD) == message
        await sending
        await link.close()


async def test_a_phone_lost_while_its_message_is_held_back_ends_the_sending() -> None:
    async with gate() as place:
        link, phone = await place.session()
        (application,) = place.host._applications.values()
        place.stack.bluez.taking.clear()
        sending = asyncio.create_task(link.send(place.random.randbytes(100_000)))
        await until(lambda: any(each._writable is not None for each in application._channels.values()))
        await phone.vanish()
        with pytest.raises(LinkLostError):
            await asyncio.wait_for(sending, GUARD)
        place.stack.bluez.taking.set()
        await link.close()
        await good_session(place)


async def test_two_lanes_have_sessions_at_once() -> None:
    async with gate() as place:
        (first, one), (second, two) = await asyncio.gather(place.session(), place.session())
        messages = [place.random.randbytes(9000) for _ in range(4)]
        await asyncio.gather(
            exchange(first, one, messages[0], messages[1]), exchange(second, two, messages[2], messages[3])
        )
        await first.close()
        await exchange(second, two, b"request", b"response")
        await second.close()


async def test_lanes_take_turns_where_the_adapter_has_one_advertisement() -> None:
    async with gate(Knobs(instances=1)) as place:
        services = [place.service(), place.service()]
        serving = [place.serve(service) for service in services]
        for service, waiting in zip(services, serving, strict=True):
            phone = await place.phone()
            await phone.begin(service, IDENT, GUARD)
            link = await waiting
            await exchange(link, phone, b"request", b"response")
            await link.close()


async def test_a_phone_that_stays_is_disconnected_and_nobody_waits_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.ble.server.LEAVE_SECONDS", 0.01)
    async with gate(Knobs(disconnect_delay=0.2)) as place:
        link, phone = await place.session(leaves=False)
        closing = link.close_soon()
        await good_session(place)
        await closing
        await asyncio.wait_for(phone.gone.wait(), GUARD)


async def test_a_phone_that_connects_and_does_nothing_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bluez_server, "START_SECONDS", 0.05)
    async with gate() as place:
        service = place.service()
        serving = place.serve(service)
        idler = await place.phone()
        await connect(idler, service)
        await asyncio.wait_for(idler.gone.wait(), GUARD)
        assert not serving.done()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_one_phone_too_many_that_does_not_start_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bluez_server, "MAX_UNSERVED", 1)
    async with gate() as place:
        service = place.service()
        serving = place.serve(service)
        idler, late = await place.phone(), await place.phone()
        await connect(idler, service)
        with suppress(LinkLostError):  # it may be turned away before its MTU exchange is through
            await connect(late, service)
        await asyncio.wait_for(late.gone.wait(), GUARD)
        assert not idler.gone.is_set()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_a_phone_that_the_central_has_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bluez_server, "START_SECONDS", 0.05)
    async with gate() as place:
        central = await place.stack.central(ConnectBudget(attempts=3, attempt_seconds=2.0, pause_seconds=0.01))
        device: Any = await virtual_device(place.air, "phone", place.random.randbytes)
        phone = PhonePeripheral(device, clock=place.clock, random_bytes=place.random.randbytes)
        service = place.service()
        await phone.advertise(service)
        link = await central.connect(service, GUARD)
        with pytest.raises(LinkTimeoutError):
            await place.server.serve(place.service(), IDENT, 0.1)
        await until(lambda: place.published()[0] == 0)
        _, received = await asyncio.gather(link.send(b"request"), phone.receive(GUARD))
        assert received == b"request"
        await link.close()
        await central.stop()


# --- an advertisement ends with the connection that it brought ----------------------------------------------------------


async def test_a_phone_that_connects_and_stays_silent_does_not_keep_the_right_one_from_finding_the_gate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bluez_server, "START_SECONDS", 10 * GUARD)  # nobody is turned away
    async with gate() as place:
        service = place.service()
        serving = place.serve(service)
        silent = [await place.phone() for _ in range(3)]
        for idler in silent:
            await connect(idler, service)
        phone = await place.phone()
        await phone.begin(service, IDENT, GUARD)
        link = await serving
        await exchange(link, phone, b"request", b"response")
        assert not any(idler.gone.is_set() for idler in silent)
        await link.close()


async def test_a_phone_that_connects_and_leaves_again_does_not_keep_the_right_one_from_finding_the_gate() -> None:
    async with gate() as place:
        service = place.service()
        serving = place.serve(service)
        for _ in range(3):
            passer = await place.phone()
            await connect(passer, service)
            await passer.disconnect()
        phone = await place.phone()
        await phone.begin(service, IDENT, GUARD)
        link = await serving
        await exchange(link, phone, b"request", b"response")
        await link.close()
        await until(lambda: place.published()[1] == 0)


async def test_the_fake_stops_an_advertisement_until_the_phone_that_it_brought_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bluez_server, "START_SECONDS", 10 * GUARD)
    monkeypatch.setattr(BluezHost, "_on_device", lambda *_, **__: None)  # nothing is registered anew
    async with gate() as place:
        service = place.service()
        serving = place.serve(service)
        silent, phone = await place.phone(), await place.phone()
        await connect(silent, service)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(phone.find(service), 0.2)
        await silent.disconnect()
        await asyncio.wait_for(phone.find(service), GUARD)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


# --- logs -------------------------------------------------------------------------------------------------------------


async def test_no_address_uuid_or_payload_comes_into_a_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for noisy in ("bumble", "asyncio"):  # the testbed's own library
        caplog.set_level(logging.CRITICAL, noisy)
    async with gate() as place:
        link, phone = await place.session()
        await exchange(link, phone, b"request", b"response")
        await phone.vanish()
        with pytest.raises(LinkLostError):
            await link.receive(GUARD)
        await link.close()
        await place.stack.bluez.power_off()
        devices = list(place.stack.bluez.devices)
    assert devices
    for secret in [*devices, *(path.rsplit("dev_", 1)[1].replace("_", ":") for path in devices)]:
        assert secret not in caplog.text
    assert "request" not in caplog.text


# --- as central, on bleak's own backend: the fake's other half --------------------------------------------------------

QUICK = ConnectBudget(attempts=3, attempt_seconds=2.0, pause_seconds=0.01)


@dataclass
class Reader:
    """One gate as central; every phone is another device."""

    air: Air
    stack: BluezStack
    clock: PinnedClock
    random: Random = field(default_factory=lambda: Random(5))
    phones: list[PhonePeripheral] = field(default_factory=list)

    def service(self) -> UUID:
        return UUID(bytes=self.random.randbytes(16), version=4)

    async def phone(self) -> PhonePeripheral:
        device: Any = await virtual_device(self.air, "phone", self.random.randbytes)
        phone = PhonePeripheral(device, clock=self.clock, random_bytes=self.random.randbytes)
        self.phones.append(phone)
        return phone

    async def session(self, central: BleakCentral) -> tuple[Link, PhonePeripheral]:
        phone, service = await self.phone(), self.service()
        await phone.advertise(service)
        return await central.connect(service, GUARD), phone


@asynccontextmanager
async def reader(knobs: Knobs | None = None) -> AsyncIterator[Reader]:
    air, clock = Air(), PinnedClock()
    async with bluez_stack(air, clock, knobs) as stack:
        place = Reader(air, stack, clock)
        try:
            yield place
        finally:
            for phone in place.phones:
                await phone.close()


@asynccontextmanager
async def started(central: BleakCentral) -> AsyncIterator[BleakCentral]:
    await central.start()
    try:
        yield central
    finally:
        await central.stop()


async def test_the_fake_carries_bleaks_own_backend_and_disconnecting_is_not_waited_for() -> None:
    async with reader(Knobs(disconnect_delay=0.2)) as place:
        central = await place.stack.central(QUICK)
        closings = []
        for _ in range(2):
            link, phone = await place.session(central)
            await exchange(link, phone, place.random.randbytes(4000), place.random.randbytes(9000))
            closings.append(asyncio.create_task(link.close()))
        await asyncio.gather(*closings)
        await central.stop()


LATE = [0.001, 0.06, 0.16]
"""Seconds; bluetoothd's signals leave together, or nearly so."""


@pytest.mark.parametrize("late", LATE)
async def test_a_phone_whose_services_are_told_of_after_services_resolved_gets_its_session(late: float) -> None:
    async with (
        reader(Knobs(late_services=late)) as place,
        started(BleakCentral(BluezRadio(), place.clock, QUICK)) as central,
    ):
        for _ in range(3):
            link, phone = await place.session(central)
            await exchange(link, phone, b"request", b"response")
            await link.close()


async def test_bleaks_own_client_takes_it_for_a_phone_without_services() -> None:
    """When this fails, bleak waits by itself and `BluezClient` has had its day."""
    async with reader(Knobs(late_services=0.1)) as place:
        radio = GivenRadio(Backend(BleakScannerBlueZDBus, BleakClientBlueZDBus))
        async with started(BleakCentral(radio, place.clock, QUICK)) as central:
            with pytest.raises(LinkProtocolError, match="does not serve what it advertised"):
                await place.session(central)


@pytest.mark.parametrize("late", [0.0, *LATE])
async def test_a_phone_that_lacks_the_service_it_advertises_is_refused_all_the_same(late: float) -> None:
    async with (
        reader(Knobs(late_services=late)) as place,
        started(BleakCentral(BluezRadio(), place.clock, QUICK)) as central,
    ):
        phone, service = await place.phone(), place.service()
        await phone.advertise(service)
        for each in phone.device.gatt_server.services:
            if each.uuid == BUMBLE_UUID(str(service)):
                each.uuid = BUMBLE_UUID(str(place.service()))
                each.value = bytes(each.uuid)
        with pytest.raises(LinkProtocolError, match="does not serve what it advertised"):
            await central.connect(service, GUARD)
        assert not phone.started.is_set()
        await phone.close()
        link, good = await place.session(central)
        await exchange(link, good, b"request", b"response")
        await link.close()


@pytest.mark.parametrize("adapter", [None, "hci0"])
async def test_a_radio_does_not_start_on_a_bluetoothd_that_was_killed_and_starts_when_it_is_back(
    adapter: str | None,
) -> None:
    async with reader() as place:
        radio = BluezRadio(adapter)
        await radio.start()
        await place.stack.bluez.kill()
        for _ in range(2):
            with pytest.raises(DriverError):
                await asyncio.wait_for(radio.start(), GUARD)
        await place.stack.bluez.start()
        await asyncio.wait_for(radio.start(), GUARD)
        await radio.stop()


async def test_a_central_whose_bluetoothd_was_killed_in_a_session_has_the_next_when_it_is_back() -> None:
    async with reader() as place:
        central = await place.stack.central(QUICK)
        link, _ = await place.session(central)
        gone = asyncio.create_task(central.gone())
        await asyncio.wait({gone}, timeout=0.1)
        assert not gone.done()
        await place.stack.bluez.kill()
        async with asyncio.timeout(GUARD):
            with pytest.raises(DriverError):
                await gone
            with pytest.raises(DriverError):
                await central.start()
            with pytest.raises(LinkLostError):
                await link.receive(GUARD)
        await place.stack.bluez.start()
        await central.start()
        link, phone = await place.session(central)
        await exchange(link, phone, b"request", b"response")
        await link.close()
        await central.stop()
