"""The `bluez` stack of ble_stacks: bleak's own BlueZ backend and `BluezHost` against a fake bluetoothd on a private bus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from bleak.backends.bluezdbus import manager, version

from drivers.ble import BleakCentral, ConnectBudget
from drivers.ble.bluez_server import BluezHost
from drivers.ble.radio import BluezRadio
from drivers.ble.server import GattServer
from mdoc import ble
from protocol.clock import Clock
from testbed.air import Air, virtual_device
from testbed.bluez import FakeBluez, Knobs, PrivateBus, private_bus


class BluezStack:
    name = "bluez"

    def __init__(self, bluez: FakeBluez, bus: PrivateBus, clock: Clock) -> None:
        self.bluez, self.bus, self._clock = bluez, bus, clock

    async def central(self, budget: ConnectBudget) -> BleakCentral:
        central = BleakCentral(BluezRadio(), self._clock, budget)
        await central.start()
        return central

    async def server(self, pool: int = 0) -> GattServer:
        server = GattServer(BluezHost(None), self._clock, Random(2).randbytes, pool=pool)
        await server.start()
        return server


@asynccontextmanager
async def bluez_stack(air: Air, clock: Clock, knobs: Knobs | None = None) -> AsyncIterator[BluezStack]:
    version.BlueZFeatures.checked_bluez_version = True  # bleak would ask a bluetoothctl that is not there
    async with private_bus() as bus:
        device: Any = await virtual_device(air, "gate", Random(1).randbytes)
        # as docs/install.md asks of every gate
        bluez = FakeBluez(device, bus.address, knobs or Knobs(exchange_mtu=ble.SERVER_MTU))
        await bluez.start()
        try:
            yield BluezStack(bluez, bus, clock)
        finally:
            await end_bleak()
            await bluez.stop()


async def end_bleak() -> None:
    """bleak keeps one connection to the bus per loop and has no way to end it."""
    instances = manager._global_instances
    for loop in list(instances):
        found: Any = instances.pop(loop)
        if found._bus is not None and found._bus.connected and not loop.is_closed():
            found._bus.disconnect()
            await found._bus_watcher_task
