"""What is about bumble itself: the driver on an HCI transport, here the socket of an air hub, and bleak's backend over it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast
from uuid import UUID

import pytest
from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import BaseBleakScanner
from bleak.exc import BleakError, BleakGATTProtocolError

from drivers.ble import BleAdapter, BleakCentral, BleDriver, BleSettings, ConnectBudget, bumble_host, open_ble
from drivers.ble.bumble_backend import backend_for
from drivers.ble.bumble_device import HCI_SECONDS
from drivers.ble.radio import Backend, GivenRadio
from drivers.ports import DriverError, Link, LinkEndedError, LinkLostError
from mdoc import ble
from protocol.clock import SystemClock
from testbed.air import Air, AirHub, virtual_device
from testbed.phone.ble import PhonePeripheral
from tests.drivers.hostile_phones import drops_at, endless, without_cccd

GUARD = 5.0
RANDOM = Random(11)
QUICK = ConnectBudget(attempts=3, attempt_seconds=2.0, pause_seconds=0.01)


def central_on(hub: AirHub) -> BleAdapter:
    return open_ble(BleSettings(BleDriver.BUMBLE, hci=hub.hci), SystemClock(), QUICK)


async def session(central: BleAdapter, hub: AirHub) -> tuple[Link, PhonePeripheral]:
    service = UUID(bytes=RANDOM.randbytes(16), version=4)
    phone = await PhonePeripheral.open(hub.hci)
    await phone.advertise(service)
    return await central.connect(service, GUARD), phone


async def good_session(central: BleAdapter, hub: AirHub) -> None:
    link, phone = await session(central, hub)
    message = RANDOM.randbytes(9000)
    _, received = await asyncio.gather(link.send(message), phone.receive(GUARD))
    assert received == message
    _, answered = await asyncio.gather(phone.send(message), link.receive(GUARD))
    assert answered == message
    await link.close()
    with pytest.raises(LinkEndedError):
        await phone.receive(GUARD)
    await phone.close()


async def test_a_session_over_the_socket_of_a_hub(tmp_path: Path) -> None:
    async with AirHub(tmp_path / "air") as hub:
        central = central_on(hub)
        await central.start()
        await good_session(central, hub)
        await good_session(central, hub)
        await central.stop()


async def test_a_phone_whose_process_dies_is_lost_and_the_next_is_served(tmp_path: Path) -> None:
    async with AirHub(tmp_path / "air") as hub:
        central = central_on(hub)
        await central.start()
        link, phone = await session(central, hub)
        await phone.vanish()
        with pytest.raises(LinkLostError):
            await link.receive(GUARD)
        await good_session(central, hub)
        await phone.close()
        await central.stop()


async def test_a_lost_transport_ends_links_fails_connects_and_a_second_start_heals(tmp_path: Path) -> None:
    hub = AirHub(tmp_path / "air")
    await hub.start()
    central = central_on(hub)
    await central.start()
    link, phone = await session(central, hub)
    waiting = asyncio.create_task(central.connect(UUID(int=1), GUARD))
    await hub.stop()
    lost_at = asyncio.get_running_loop().time()
    with pytest.raises(LinkLostError):
        await link.receive(GUARD)
    await link.close()
    with pytest.raises(DriverError):
        await central.connect(UUID(int=2), GUARD)
    with pytest.raises(DriverError):  # it was scanning: noticed when the scan changed for the other lane
        await waiting
    assert asyncio.get_running_loop().time() - lost_at < HCI_SECONDS  # known to be lost, not waited for
    with pytest.raises(DriverError):
        await central.start()
    await hub.start()
    await central.start()
    await good_session(central, hub)
    await central.stop()
    await phone.close()
    await hub.stop()


async def test_bytes_that_are_no_hci_disturb_nobody_else_on_the_air(tmp_path: Path) -> None:
    async with AirHub(tmp_path / "air") as hub:
        central = central_on(hub)
        await central.start()
        for garbage in (b"\xff" * 100, b"\x01\xff\xff\x05hello", b"\x02\x01\x00\x04\x00....", b"\x01\x03"):
            reader, writer = await asyncio.open_unix_connection(hub.path)
            writer.write(garbage)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), GUARD)
            writer.close()
            await good_session(central, hub)
        await central.stop()


@pytest.mark.parametrize("hci", ["unix:/nonexistent/air", "no-such-transport:0", "unix"])
async def test_a_transport_that_cannot_be_opened_is_a_driver_error(hci: str) -> None:
    central = open_ble(BleSettings(BleDriver.BUMBLE, hci=hci), SystemClock())
    with pytest.raises(DriverError):
        await central.start()
    await central.stop()


async def test_a_controller_that_does_not_answer_is_a_driver_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bumble_host, "OPEN_SECONDS", 0.1)
    gone = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()
        gone.set()

    async with await asyncio.start_unix_server(deaf, tmp_path / "deaf"):
        central = open_ble(BleSettings(BleDriver.BUMBLE, hci=f"unix:{tmp_path / 'deaf'}"), SystemClock())
        with pytest.raises(DriverError, match="TimeoutError"):
            await central.start()
        await asyncio.wait_for(gone.wait(), GUARD)


async def test_connecting_before_start_is_a_driver_error() -> None:
    with pytest.raises(DriverError):
        await open_ble(BleSettings(), SystemClock()).connect(UUID(int=1), GUARD)


class BrokenScanner(BaseBleakScanner):
    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(None, None)

    async def start(self) -> None:
        raise OSError("unplugged")

    async def stop(self) -> None:
        pass


async def test_a_scan_that_cannot_start_is_a_driver_error_for_everybody_waiting() -> None:
    central = BleakCentral(GivenRadio(Backend(BrokenScanner, cast(Any, None))), SystemClock())
    await central.start()
    for result in await asyncio.gather(
        *(central.connect(UUID(int=n), GUARD) for n in range(3)), return_exceptions=True
    ):
        assert isinstance(result, DriverError)
    await central.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="BlueZ is Linux")
async def test_bluez_without_a_system_bus_is_a_driver_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'no-bus'}")
    central = open_ble(BleSettings(adapter="hci0"), SystemClock())
    with pytest.raises(DriverError, match="FileNotFoundError"):
        await central.start()
    await central.stop()


@pytest.mark.parametrize(
    ("driver", "adapter", "hci", "key"),
    [
        (BleDriver.BUMBLE, None, None, "hci"),
        (BleDriver.BUMBLE, "hci0", "usb:0", "adapter"),
        (BleDriver.BLUEZ, None, "usb:0", "hci"),
    ],
)
def test_settings_that_contradict_the_driver_name_the_key(
    driver: BleDriver, adapter: str | None, hci: str | None, key: str
) -> None:
    with pytest.raises(ValueError, match=f"^{key}: "):
        BleSettings(driver, adapter, hci)


# --- the backend, through bleak's own front end -----------------------------------------------------------------------


@dataclass
class Desk:
    """A gate's device, a phone's, and nothing between bleak and them but the backend."""

    air: Air
    gate: Any
    backend: Backend
    random: Random = field(default_factory=lambda: Random(7))
    phones: list[PhonePeripheral] = field(default_factory=list)

    def service(self) -> UUID:
        return UUID(bytes=self.random.randbytes(16), version=4)

    async def phone(self) -> PhonePeripheral:
        device = await virtual_device(self.air, "phone", self.random.randbytes)
        self.phones.append(PhonePeripheral(device, random_bytes=self.random.randbytes))
        return self.phones[-1]

    async def find(self, service: UUID) -> BLEDevice:
        device = await BleakScanner.find_device_by_filter(
            lambda _, data: str(service) in data.service_uuids, GUARD, backend=self.backend.scanner
        )
        assert device is not None
        return device


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    air = Air()
    gate = await virtual_device(air, "gate", Random(1).randbytes)
    desk = Desk(air, gate, backend_for(gate))
    yield desk
    for phone in desk.phones:
        await phone.close()


async def test_a_start_that_cannot_be_written_is_not_tried_again(desk: Desk) -> None:
    """The write may have gone out all the same, and the phone's session with it."""
    given = desk.backend
    connects: list[Any] = []

    class NoStart(given.client):  # type: ignore[name-defined, misc]  # the class is made per device
        async def connect(self, pair: bool, **kwargs: Any) -> None:
            connects.append(self)
            await super().connect(pair, **kwargs)

        async def write_gatt_char(self, characteristic: Any, data: Any, response: bool) -> None:
            raise BleakError("write failed")

    central = BleakCentral(GivenRadio(Backend(given.scanner, NoStart)), SystemClock(), QUICK)
    await central.start()
    phone, service = await desk.phone(), desk.service()
    await phone.advertise(service)
    with pytest.raises(LinkLostError, match="State = start"):
        await central.connect(service, GUARD)
    assert len(connects) == 1
    await central.stop()


async def test_a_connect_that_times_out_leaves_no_connection_pending(desk: Desk) -> None:
    """bumble's virtual controller used to keep it and connect behind everybody's back when the phone came again."""
    phone, service = await desk.phone(), desk.service()
    await phone.advertise(service)
    device = await desk.find(service)
    await phone.device.stop_advertising()
    with pytest.raises(TimeoutError):
        await BleakClient(device, timeout=0.05, backend=desk.backend.client).connect()
    seen: list[Any] = []
    phone.device.on("connection", seen.append)
    await phone._start_advertising()
    device = await desk.find(service)
    assert seen == []
    async with BleakClient(device, backend=desk.backend.client) as client:
        assert client.is_connected
    assert len(seen) == 1


async def test_the_phone_enforces_the_properties_of_its_characteristics(desk: Desk) -> None:
    phone, service = await desk.phone(), desk.service()
    await phone.advertise(service)
    table = ble.PERIPHERAL_SERVER
    async with BleakClient(await desk.find(service), backend=desk.backend.client) as client:
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


async def test_losing_the_phone_during_a_request_is_a_bleak_error_not_a_cancellation(desk: Desk) -> None:
    phone, service = await desk.phone(), desk.service()
    await phone.advertise(service)
    client = BleakClient(await desk.find(service), backend=desk.backend.client)
    await client.connect()
    desk.air.cut = True
    reading = asyncio.create_task(client.read_gatt_char(ble.PERIPHERAL_SERVER.state))
    await asyncio.sleep(0)
    desk.air.cut = False
    await phone.vanish()
    with pytest.raises(BleakError):
        await asyncio.wait_for(reading, GUARD)
    assert not client.is_connected
    with pytest.raises(BleakError):
        await client.write_gatt_char(ble.PERIPHERAL_SERVER.state, b"\x01", response=False)


async def test_every_presentation_has_a_fresh_address(desk: Desk) -> None:
    seen = set()
    for _ in range(3):
        phone, service = await desk.phone(), desk.service()
        await phone.advertise(service)
        seen.add((await desk.find(service)).address)
    assert len(seen) == 3


async def test_a_service_that_notifies_without_a_cccd_cannot_be_subscribed_to(desk: Desk) -> None:
    phone, service = await desk.phone(), desk.service()
    without_cccd(phone, service)
    await phone.advertise(service)
    async with BleakClient(await desk.find(service), backend=desk.backend.client) as client:
        with pytest.raises(BleakError):
            await client.start_notify(ble.PERIPHERAL_SERVER.state, lambda _, __: None)


async def test_a_value_without_an_end_is_not_read_for_ever(desk: Desk) -> None:
    phone = await desk.phone()
    endless(phone, 60_000)
    await phone.arm(b"?")
    async with BleakClient(await desk.find(ble.WALK_UP_SERVICE), backend=desk.backend.client) as client:
        value = await client.read_gatt_char(ble.WALK_UP_ENGAGEMENT)
    assert ble.MAX_VALUE < len(value) < 2 * (ble.MAX_VALUE + ble.ATT_MTU)


async def test_a_disconnect_that_takes_long_is_waited_for_by_nobody(desk: Desk) -> None:
    """BlueZ takes two seconds and more."""
    release = asyncio.Event()
    given = desk.backend

    class SlowToLeave(given.client):  # type: ignore[name-defined, misc]  # the class is made per device
        async def disconnect(self) -> None:
            if self.is_connected:
                await release.wait()
            await super().disconnect()

    central = BleakCentral(GivenRadio(Backend(given.scanner, SlowToLeave)), SystemClock(), QUICK)
    await central.start()
    for _ in range(3):
        phone, service = await desk.phone(), desk.service()
        drops_at(phone, "the first subscription", times=1)
        await phone.advertise(service)
        link = await central.connect(service, GUARD)
        closing = asyncio.create_task(link.close())
        with pytest.raises(LinkEndedError):
            await phone.receive(GUARD)
        assert not closing.done()
        closing.cancel()
    release.set()
    await central.stop()


async def test_a_radio_whose_transport_is_lost_is_gone_though_nobody_uses_it(desk: Desk) -> None:
    central = BleakCentral(GivenRadio(desk.backend), SystemClock())
    with pytest.raises(DriverError):
        await central.gone()
    await central.start()
    gone = asyncio.create_task(central.gone())
    await asyncio.sleep(0)
    assert not gone.done()
    desk.gate.host.on_transport_lost()
    with pytest.raises(DriverError):
        await asyncio.wait_for(gone, GUARD)
    await central.stop()
