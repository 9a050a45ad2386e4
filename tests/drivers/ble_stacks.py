"""The stacks that a gate's Bluetooth runs on, for the scenarios that have to hold on each of them.

`air`: bleak's front end and our GATT server over bumble. `bluez`: bleak's own BlueZ backend and the D-Bus GATT server, on a
private bus with a fake `org.bluez`. The phones and the air are the same: real ATT, L2CAP and HCI bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import pytest

from drivers.ble import BleakCentral, ConnectBudget
from drivers.ble.bumble_backend import backend_for
from drivers.ble.bumble_server import BumbleHost
from drivers.ble.radio import GivenRadio
from drivers.ble.server import GattServer
from protocol.clock import Clock
from testbed.air import Air, virtual_device

STACKS = ("air", "bluez")


class Stack(Protocol):
    """One gate on the air."""

    name: str

    async def central(self, budget: ConnectBudget) -> BleakCentral:
        """Started; the caller stops it."""
        ...

    async def server(self, pool: int = 0) -> GattServer:
        """Started; the caller stops it."""
        ...


@dataclass(frozen=True, slots=True)
class GivenDevice:
    """A device that somebody else powers."""

    device: Any


class AirStack:
    name = "air"

    def __init__(self, air: Air, clock: Clock) -> None:
        self._air, self._clock = air, clock

    async def central(self, budget: ConnectBudget) -> BleakCentral:
        device = await virtual_device(self._air, "gate", Random(1).randbytes)
        central = BleakCentral(GivenRadio(backend_for(device)), self._clock, budget)
        await central.start()
        return central

    async def server(self, pool: int = 0) -> GattServer:
        device = await virtual_device(self._air, "gate", Random(2).randbytes)
        server = GattServer(BumbleHost(GivenDevice(device)), self._clock, Random(3).randbytes, pool=pool)
        await server.start()
        return server


@asynccontextmanager
async def open_stack(name: str, air: Air, clock: Clock) -> AsyncIterator[Stack]:
    if name == "air":
        yield AirStack(air, clock)
        return
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon is not installed")
    from tests.drivers.bluez_stack import bluez_stack

    async with bluez_stack(air, clock) as stack:
        yield stack
