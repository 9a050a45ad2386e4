"""A small `org.bluez` over one bumble device: what bleak's BlueZ backend and our GATT server ask of bluetoothd."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bleak.exc import BleakError
from bumble import hci
from bumble.core import AdvertisingData

from drivers.ble.bluez_bus import ADAPTER, ADVERTISING_MANAGER, GATT_MANAGER, ROOT
from drivers.ble.bumble_backend import _service_uuids as service_uuids
from drivers.ble.bumble_device import BumbleConnection, SharedDevice
from drivers.ble.bumble_server import _Database as Database
from testbed.bluez.device import FakeDevice
from testbed.bluez.objects import BluezError, Call, Interface, ObjectTree
from testbed.bluez.peripheral import AdvertisingManager, GattManager

DISCONNECT_SECONDS = 2.0
"""What bluetoothd waits in Device1.Disconnect."""


@dataclass(slots=True)
class Knobs:
    """How this bluetoothd behaves."""

    disconnect_delay: float = 0.0
    """Seconds; DISCONNECT_SECONDS in the real one."""
    exchange_mtu: int = 517
    """`[GATT] ExchangeMTU`: granted as server, bytes."""
    drops_long_writes: bool = False
    """As a server before 5.69: values of 511 and 512 bytes are lost without a word."""
    instances: int = 5
    """Advertisements at a time."""
    page_timeout: float = 20.0
    """Seconds until a connect is given up."""
    late_services: float = 0.0
    """Seconds by which ServicesResolved comes before the objects of a phone's services; 0: it comes after them."""
    roles: Sequence[str] = ("central", "peripheral")
    rssi: int | None = None
    """dBm to report for every device; None: what the air says."""


class FakeBluez:
    """`device` is a powered-on bumble device; it outlives the daemon, which may stop and start again."""

    def __init__(self, device: Any, address: str, knobs: Knobs | None = None, name: str = "hci0") -> None:
        self.shared, self.knobs = SharedDevice(device), knobs or Knobs()
        device.gatt_server = Database(device)  # bumble's own leaves hostile requests without an answer
        self.adapter = f"{ROOT}/{name}"
        self.tree = ObjectTree(address)
        self.devices: dict[str, FakeDevice] = {}
        self.gatt: GattManager | None = None
        self.advertising: AdvertisingManager | None = None
        self.taking = asyncio.Event()
        """Cleared: notifications are not taken from applications' sockets, as when no phone drains them."""
        self.taking.set()
        self._wanted: list[str] | None = None
        self._discovering = False

    async def start(self) -> None:
        """On the bus, adapter powered. May be called again after `stop`."""
        device = self.shared.device
        device.gatt_server.max_mtu = self.knobs.exchange_mtu
        self.gatt, self.advertising = GattManager(self), AdvertisingManager(self)
        self.tree.on_caller_gone = self._on_caller_gone
        properties = {
            "Address": ("s", "02:00:00:00:00:01"),
            "Powered": ("b", True),
            "Roles": ("as", list(self.knobs.roles)),
            "Discovering": ("b", False),
        }
        adapter = Interface(
            properties,
            {
                "SetDiscoveryFilter": self._set_filter,
                "StartDiscovery": self._start_discovery,
                "StopDiscovery": self._stop_discovery,
                "RemoveDevice": self._remove_device,
            },
        )
        await self.tree.start()
        self.tree.add(
            self.adapter,
            {ADAPTER: adapter, GATT_MANAGER: self.gatt.interface, ADVERTISING_MANAGER: self.advertising.interface},
        )
        device.on("advertisement", self._on_advertisement)
        device.on("connection", self._on_connection)
        device.host.on("advertising_set_termination", self._on_advertising_terminated)

    async def stop(self) -> None:
        """The daemon puts everything away and leaves the bus; connections and advertisements end with it."""
        await self._put_away()
        await self.kill()

    async def kill(self) -> None:
        """The daemon is gone from the bus without a signal about anything; connections and advertisements end after it."""
        await self.tree.stop()
        device = self.shared.device
        for emitter, event, listener in (
            (device, "advertisement", self._on_advertisement),
            (device, "connection", self._on_connection),
            (device.host, "advertising_set_termination", self._on_advertising_terminated),
        ):
            if listener in emitter.listeners(event):
                emitter.remove_listener(event, listener)
        await self._put_away()
        self.devices.clear()

    async def power_off(self) -> None:
        """The adapter is switched off: connections end, what was registered stays so."""
        if self.advertising is not None:
            await self.advertising.remove_all()
        await self._disconnect_all()
        self.tree.set(self.adapter, ADAPTER, Powered=False)

    def power_on(self) -> None:
        self.tree.set(self.adapter, ADAPTER, Powered=True)

    async def unplug(self) -> None:
        """The adapter is pulled out."""
        await self._put_away()
        self.tree.remove(self.adapter)

    async def _put_away(self) -> None:
        if self._discovering:
            await self._scan(on=False)
        if self.advertising is not None:
            await self.advertising.remove_all()
        if self.gatt is not None:
            self.gatt.remove_all()
        await self._disconnect_all()

    async def _disconnect_all(self) -> None:
        for device in list(self.devices.values()):
            connection = device.connection
            if connection is not None and self.shared.holds(connection):
                with suppress(BleakError):
                    await self.shared.command(connection.disconnect)

    def path_of(self, address: Any) -> str:
        return f"{self.adapter}/dev_{address.to_string(False).replace(':', '_')}"

    def _on_caller_gone(self, owner: str) -> None:
        if self.gatt is not None and self.advertising is not None:
            self.gatt.remove_all(owner)
            self.tree.spawn(self.advertising.remove_all(owner))

    # --- discovery ----------------------------------------------------------------------------------------------------

    async def _set_filter(self, call: Call) -> None:
        uuids = call.arguments[0].get("UUIDs")
        self._wanted = None if uuids is None else [uuid.lower() for uuid in uuids.value]

    async def _start_discovery(self, _: Call) -> None:
        self._ready()
        if self._discovering:
            raise BluezError("InProgress", "Operation already in progress")
        await self._scan(on=True)

    async def _stop_discovery(self, _: Call) -> None:
        self._ready()
        if not self._discovering:
            raise BluezError("Failed", "No discovery started")
        await self._scan(on=False)

    async def _scan(self, *, on: bool) -> None:
        device, legacy = self.shared.device, self.shared.legacy
        self._discovering = on
        try:
            if on:
                await self.shared.command(
                    lambda: device.start_scanning(
                        legacy=legacy, filter_duplicates=False, scanning_phys=(hci.HCI_LE_1M_PHY,)
                    )
                )
            else:
                await self.shared.command(lambda: device.stop_scanning(legacy=legacy))
        except BleakError:
            raise BluezError("Failed", "") from None
        self.tree.set(self.adapter, ADAPTER, Discovering=on)

    def _ready(self) -> None:
        if not self.tree.get(self.adapter, ADAPTER, "Powered"):
            raise BluezError("NotReady", "Resource Not Ready")

    async def _remove_device(self, call: Call) -> None:
        device = self.devices.pop(call.arguments[0], None)
        if device is None:
            raise BluezError("DoesNotExist", "Does Not Exist")
        if device.connection is not None:
            await self.shared.command(device.connection.disconnect)
        device.forget()

    def _on_advertisement(self, advertisement: Any) -> None:
        data: AdvertisingData = advertisement.data
        uuids = service_uuids(data)
        if not self._discovering or (self._wanted is not None and not set(uuids) & set(self._wanted)):
            return
        rssi = advertisement.rssi if self.knobs.rssi is None else self.knobs.rssi
        device = self.devices.get(self.path_of(advertisement.address))
        if device is None:
            device = FakeDevice(self, advertisement.address, uuids, rssi)
            self.devices[device.path] = device
        else:
            device.heard(uuids, rssi)

    def _on_advertising_terminated(self, *what: int) -> None:
        if self.advertising is not None:
            self.advertising.on_terminated(*what)

    def _on_connection(self, connection: BumbleConnection) -> None:
        if connection.role != hci.Role.PERIPHERAL:
            return
        path = self.path_of(connection.peer_address)
        if path not in self.devices:
            self.devices[path] = FakeDevice(self, connection.peer_address, [], None)
        self.devices[path].came(connection)
