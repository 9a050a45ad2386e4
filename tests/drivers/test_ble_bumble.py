"""The bumble driver on an HCI transport, here the socket of an air hub: choosing it, losing it, starting it again."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from random import Random
from typing import Any, cast
from uuid import UUID

import pytest
from bleak.backends.scanner import BaseBleakScanner

from drivers.ble import BleakCentral, BleDriver, BleSettings, ConnectBudget, bumble_host, open_central
from drivers.ble.bumble_device import HCI_SECONDS
from drivers.ble.radio import Backend, GivenRadio
from drivers.ports import DriverError, Link, LinkEndedError, LinkLostError
from protocol.clock import SystemClock
from testbed.air import AirHub
from testbed.phone.ble import PhonePeripheral

GUARD = 5.0
RANDOM = Random(11)
QUICK = ConnectBudget(attempts=3, attempt_seconds=2.0, pause_seconds=0.01)


def central_on(hub: AirHub) -> BleakCentral:
    return open_central(BleSettings(BleDriver.BUMBLE, hci=hub.hci), SystemClock(), QUICK)


async def session(central: BleakCentral, hub: AirHub) -> tuple[Link, PhonePeripheral]:
    service = UUID(bytes=RANDOM.randbytes(16), version=4)
    phone = await PhonePeripheral.open(hub.hci)
    await phone.advertise(service)
    return await central.connect(service, GUARD), phone


async def good_session(central: BleakCentral, hub: AirHub) -> None:
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
    central = open_central(BleSettings(BleDriver.BUMBLE, hci=hci), SystemClock())
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
        central = open_central(BleSettings(BleDriver.BUMBLE, hci=f"unix:{tmp_path / 'deaf'}"), SystemClock())
        with pytest.raises(DriverError, match="TimeoutError"):
            await central.start()
        await asyncio.wait_for(gone.wait(), GUARD)


async def test_connecting_before_start_is_a_driver_error() -> None:
    with pytest.raises(DriverError):
        await open_central(BleSettings(), SystemClock()).connect(UUID(int=1), GUARD)


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
    central = open_central(BleSettings(adapter="hci0"), SystemClock())
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
