"""`drivers.ble.check` against a fake bluetoothd, a policy that refuses, and files of an installation."""

from __future__ import annotations

import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from drivers.ble import BleDriver, BleSettings
from drivers.ble import check as checks
from drivers.findings import Finding, Result
from drivers.ports import BleRole
from testbed.air import Air, virtual_device
from testbed.bluez import FakeBluez, Knobs, private_bus

needs_bus = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="dbus-daemon is not installed")

BLUEZ = BleSettings()
SHORT = "[LE]\nMinAdvertisementInterval=32\nMaxAdvertisementInterval=48\nAutoconnecttimeout=1000\n"


@asynccontextmanager
async def bluetoothd(knobs: Knobs | None = None) -> AsyncIterator[FakeBluez]:
    async with private_bus() as bus:
        device: Any = await virtual_device(Air(), "gate", Random(1).randbytes)
        bluez = FakeBluez(device, bus.address, knobs)
        await bluez.start()
        try:
            yield bluez
        finally:
            await bluez.stop()


class Box:
    """The files of one installation."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemons: list[Path] = []

    def daemon(self, says: str) -> None:
        path = self._folder / f"bluetoothd{len(self._daemons)}"
        path.write_text(f"#!/bin/sh\n{says}\n")
        path.chmod(0o755)
        self._daemons.append(path)

    def conf(self, text: str) -> None:
        (self._folder / "main.conf").write_text(text)

    async def check(
        self, settings: BleSettings = BLUEZ, roles: tuple[BleRole, ...] = tuple(BleRole)
    ) -> dict[str, Finding]:
        found = await checks.check(
            "hall",
            settings,
            roles,
            main_conf=self._folder / "main.conf",
            daemons=[self._folder / "none", *self._daemons],
        )
        assert all(each.ko and each.en for each in found)
        assert all(bool(each.do_ko) == bool(each.do_en) for each in found)
        assert all(each.do_en for each in found if each.result in {Result.FAULT, Result.WARNING})
        return {each.id.removeprefix("ble.hall."): each for each in found}


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@needs_bus
async def test_a_gate_that_is_set_up_has_no_fault_and_nothing_to_do(box: Box) -> None:
    box.daemon("echo 5.66")
    box.conf(f"# comment\n[GATT]\nExchangeMTU = 512\n{SHORT}")
    async with bluetoothd():
        found = await box.check()
    assert {name: each.result for name, each in found.items()} == dict.fromkeys(
        ("bus", "daemon", "version", "adapter", "advertising", "mtu", "interval", "connecting"), Result.OK
    )
    assert found["version"].en == "bluetoothd 5.66"
    assert "5" in found["advertising"].en


async def test_without_a_system_bus_the_rest_is_skipped(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    found = await box.check()
    assert found["bus"].result is Result.FAULT
    assert {found[each].result for each in ("daemon", "adapter", "advertising")} == {Result.SKIPPED}


@needs_bus
async def test_a_bluetoothd_that_is_not_there_is_to_be_started(box: Box) -> None:
    async with private_bus():
        found = await box.check()
    assert found["bus"].result is Result.OK
    assert found["daemon"].result is Result.FAULT
    assert "systemctl enable --now bluetooth" in found["daemon"].do_en


@needs_bus
async def test_a_policy_that_refuses_names_the_group(box: Box) -> None:
    async with private_bus('<deny send_destination="org.bluez"/>') as bus:
        device: Any = await virtual_device(Air(), "gate", Random(1).randbytes)
        bluez = FakeBluez(device, bus.address)
        await bluez.start()
        found = await box.check()
        await bluez.stop()
    assert found["daemon"].result is Result.FAULT
    assert "AccessDenied" in found["daemon"].en
    assert "group bluetooth" in found["daemon"].do_en


@needs_bus
@pytest.mark.parametrize(
    ("adapter", "knobs", "roles", "result", "says"),
    [
        ("hci0", Knobs(), tuple(BleRole), Result.OK, "hci0 is on"),
        ("hci3", Knobs(), tuple(BleRole), Result.FAULT, "no adapter hci3; there is: hci0"),
        (None, Knobs(roles=["central"]), tuple(BleRole), Result.FAULT, "can only be: central"),
        (None, Knobs(roles=["central"]), (BleRole.CENTRAL,), Result.OK, "hci0 is on"),
    ],
)
async def test_the_adapter_must_be_there_and_able(
    box: Box, adapter: str | None, knobs: Knobs, roles: tuple[BleRole, ...], result: Result, says: str
) -> None:
    async with bluetoothd(knobs):
        found = await box.check(BleSettings(adapter=adapter), roles)
    assert found["adapter"].result is result
    assert says in found["adapter"].en
    assert ("mtu" in found) == (BleRole.PERIPHERAL in roles)


@needs_bus
async def test_an_adapter_that_is_off_or_gone_is_a_fault(box: Box) -> None:
    async with bluetoothd() as bluez:
        await bluez.power_off()
        assert "switched off" in (await box.check())["adapter"].en
        await bluez.unplug()
        found = await box.check()
    assert found["adapter"].result is Result.FAULT
    assert found["advertising"].result is Result.FAULT


@needs_bus
@pytest.mark.parametrize(
    ("version", "conf", "result"),
    [
        ("5.66", "", Result.FAULT),
        ("5.66", "[GATT]\n#ExchangeMTU = 512\n", Result.FAULT),
        ("5.66", "[GATT]\nExchangeMTU = 513\n", Result.FAULT),
        ("5.66", "[GATT]\nExchangeMTU = many\n", Result.FAULT),
        ("5.66", "[GATT]\nExchangeMTU = 512\n", Result.OK),
        ("5.66", "[GATT]\nExchangeMTU=23\n", Result.OK),
        ("5.68", "ExchangeMTU = 512\n", Result.FAULT),
        ("5.69", "", Result.OK),
        ("5.82", "", Result.OK),
        ("6.0", "", Result.OK),
        (None, "", Result.WARNING),
        (None, "[GATT]\nExchangeMTU = 512\n", Result.OK),
    ],
)
async def test_exchange_mtu_must_be_low_where_the_version_drops_long_writes(
    box: Box, version: str | None, conf: str, result: Result
) -> None:
    if version is not None:
        box.daemon(f"echo {version}")
    box.conf(conf)
    async with bluetoothd():
        found = await box.check()
    assert found["mtu"].result is result


@needs_bus
@pytest.mark.parametrize(
    ("conf", "result"),
    [
        (None, Result.WARNING),
        (SHORT, Result.OK),
        ("[LE]\nMinAdvertisementInterval=32\n", Result.WARNING),
        ("[LE]\nMinAdvertisementInterval=2048\nMaxAdvertisementInterval=2048\n", Result.WARNING),
        ("[LE]\nMinAdvertisementInterval\n", Result.WARNING),
    ],
)
async def test_a_slow_advertising_interval_is_warned_of(box: Box, conf: str | None, result: Result) -> None:
    if conf is not None:
        box.conf(conf)
    async with bluetoothd():
        assert (await box.check())["interval"].result is result


@needs_bus
@pytest.mark.parametrize("says", ["exit 1", "echo nothing", "sleep 60"])
async def test_a_version_that_cannot_be_had_is_skipped(box: Box, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "VERSION_SECONDS", 0.1)
    box.daemon(f"exec {says}" if says.startswith("sleep") else says)
    async with bluetoothd():
        assert (await box.check())["version"].result is Result.SKIPPED


def bumble(hci: str) -> BleSettings:
    return BleSettings(BleDriver.BUMBLE, hci=hci)


@pytest.mark.parametrize("hci", ["usb:0", "usb:0A12:0001", "usb:0a12:0001/ABC", "usb:0a12:0001#1"])
async def test_a_transport_that_is_well_formed_is_taken(box: Box, hci: str) -> None:
    found = await box.check(bumble(hci))
    assert [each.result for each in found.values()] == [Result.OK]


@pytest.mark.parametrize("hci", ["usb", "usb:x", "usb0", "serial:ttyACM0", "hci-socket:one", "carrier-pigeon:0", ":"])
async def test_a_transport_that_nobody_could_mean_is_a_fault(box: Box, hci: str) -> None:
    found = await box.check(bumble(hci))
    assert found["transport"].result is Result.FAULT
    assert "usb:0" in found["transport"].do_en


async def test_a_device_file_that_is_not_there_is_a_fault(box: Box, tmp_path: Path) -> None:
    path = tmp_path / "hci"
    for hci in (f"serial:{path},1000000", f"unix:{path}"):
        assert (await box.check(bumble(hci)))["transport"].result is Result.FAULT
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        assert (await box.check(bumble(f"unix:{path}")))["transport"].result is Result.OK


@needs_bus
async def test_an_adapter_that_bluetoothd_has_on_is_not_free_for_bumble(box: Box) -> None:
    async with bluetoothd() as bluez:
        assert (await box.check(bumble("hci-socket:0")))["exclusive"].result is Result.FAULT
        assert (await box.check(bumble("hci-socket:1")))["exclusive"].result is Result.OK
        await bluez.power_off()
        assert (await box.check(bumble("hci-socket:")))["exclusive"].result is Result.OK
    async with private_bus():
        assert (await box.check(bumble("hci-socket:0")))["exclusive"].result is Result.OK
