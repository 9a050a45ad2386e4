"""A central on BlueZ that nobody uses: what it takes for its radio to be gone."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from drivers.ble import BleakCentral, ConnectBudget
from drivers.ble.bluez_watch import adapter_gone
from drivers.ports import DriverError
from protocol.clock import SystemClock
from testbed.air import Air
from tests.drivers.bluez_stack import BluezStack, bluez_stack

GUARD = 5.0
pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="dbus-daemon is not installed")


@pytest.fixture
async def stack() -> AsyncIterator[BluezStack]:
    async with bluez_stack(Air(), SystemClock()) as opened:
        yield opened


async def daemon_ends(stack: BluezStack) -> None:
    await stack.bluez.stop()


async def adapter_is_unplugged(stack: BluezStack) -> None:
    await stack.bluez.unplug()


async def adapter_is_powered_off(stack: BluezStack) -> None:
    await stack.bluez.power_off()


async def bus_ends(stack: BluezStack) -> None:
    await stack.bus.stop()


CAUSES = [daemon_ends, adapter_is_unplugged, adapter_is_powered_off, bus_ends]


@pytest.mark.parametrize("adapter", [None, "hci0"])
@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.__name__)
async def test_a_radio_is_gone_when(
    stack: BluezStack, cause: Callable[[BluezStack], Awaitable[None]], adapter: str | None
) -> None:
    gone = asyncio.create_task(adapter_gone(adapter))
    await asyncio.wait({gone}, timeout=0.2)
    assert not gone.done()
    await cause(stack)
    with pytest.raises(DriverError):
        await asyncio.wait_for(gone, GUARD)


async def start_again(central: BleakCentral) -> None:
    """As the supervisor does it: bleak hears of the power by a signal of its own."""
    async with asyncio.timeout(GUARD):
        while True:
            with suppress(DriverError):
                return await central.start()
            await asyncio.sleep(0.01)


async def test_a_central_that_nobody_uses_is_told_and_starts_again(stack: BluezStack) -> None:
    central = await stack.central(ConnectBudget())
    gone = asyncio.create_task(central.gone())
    await asyncio.wait({gone}, timeout=0.2)
    assert not gone.done()
    await stack.bluez.power_off()
    with pytest.raises(DriverError):
        await asyncio.wait_for(gone, GUARD)
    stack.bluez.power_on()
    await start_again(central)
    gone = asyncio.create_task(central.gone())
    await asyncio.wait({gone}, timeout=0.2)
    assert not gone.done()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await central.stop()


@pytest.mark.parametrize("adapter", ["hci7", None])
async def test_a_radio_that_is_not_there_is_gone_at_once(stack: BluezStack, adapter: str | None) -> None:
    if adapter is None:
        await stack.bluez.power_off()
    with pytest.raises(DriverError):
        await asyncio.wait_for(adapter_gone(adapter), GUARD)


async def test_without_a_bus_a_radio_is_gone_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'no-bus'}")
    with pytest.raises(DriverError):
        await asyncio.wait_for(adapter_gone(None), GUARD)
