"""GattManager1 and LEAdvertisingManager1 over bumble's GATT server, with the ways of bluetoothd that applications live with.

AcquireNotify for the first subscriber only and one socket for all of them; writes without response as calls without reply; calls
back to whoever registered, and everything of theirs dropped when they leave the bus.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bleak.exc import BleakError
from bumble import att, core, hci
from bumble.core import AdvertisingData
from bumble.device import AdvertisingEventProperties, AdvertisingParameters
from bumble.gatt import Characteristic, CharacteristicValue, Service
from dbus_fast import DBusError, Variant, unpack_variants

from drivers.ble.bluez_bus import (
    ADVERTISEMENT,
    ADVERTISING_MANAGER,
    GATT_CHARACTERISTIC,
    GATT_SERVICE,
    OBJECT_MANAGER,
    PROPERTIES,
)
from drivers.ble.bumble_device import BumbleConnection, drain
from mdoc import ble
from testbed.bluez.objects import BluezError, Call, Interface

if TYPE_CHECKING:
    from testbed.bluez.daemon import FakeBluez

ADVERTISING_MS = 20
FAULTY_LENGTH = 510
"""bluetoothd before 5.69 takes the handle for a part of the value: what is longer than this is dropped."""
FLAGS = b"\x06"

Properties = Mapping[str, Any]


class _Remote:
    """One characteristic of an application, on the air."""

    def __init__(self, bluez: FakeBluez, owner: str, path: str, properties: Properties) -> None:
        self._bluez, self._owner, self._path = bluez, owner, path
        flags = properties["Flags"]
        self._acquires = "NotifyAcquired" in properties
        self.notifies = "notify" in flags
        self._readable, self._writable = "read" in flags, "write-without-response" in flags or "write" in flags
        self._subscribers: set[BumbleConnection] = set()
        self._socket: socket.socket | None = None
        self._pump: asyncio.Task[None] | None = None
        self.characteristic: Any = Characteristic(
            properties["UUID"],
            Characteristic.Properties.from_string(",".join(flags).upper().replace("-", "_")),
            Characteristic.READABLE | Characteristic.WRITEABLE,
            CharacteristicValue(read=self._read, write=self._write),
        )
        self.characteristic.on("subscription", self._on_subscription)

    def _options(self, connection: BumbleConnection) -> dict[str, Variant]:
        return {
            "device": Variant("o", self._bluez.path_of(connection.peer_address)),
            "link": Variant("s", "LE"),
            "mtu": Variant("q", connection.att_mtu),
        }

    async def _read(self, connection: BumbleConnection) -> bytes:
        if not self._readable:
            raise att.ATT_Error(att.ErrorCode.READ_NOT_PERMITTED)
        try:
            reply = await self._bluez.tree.request(
                self._owner, self._path, GATT_CHARACTERISTIC, "ReadValue", "a{sv}", [self._options(connection)]
            )
        except DBusError:
            raise att.ATT_Error(att.ErrorCode.READ_NOT_PERMITTED) from None
        return bytes(reply.body[0])

    def _write(self, connection: BumbleConnection, value: bytes) -> None:
        if not self._writable:
            raise att.ATT_Error(att.ErrorCode.WRITE_NOT_PERMITTED)
        if self._bluez.knobs.drops_long_writes and len(value) > FAULTY_LENGTH:
            return
        self._bluez.tree.tell(
            self._owner,
            self._path,
            GATT_CHARACTERISTIC,
            "WriteValue",
            "aya{sv}",
            [bytes(value), self._options(connection)],
        )

    def _on_subscription(self, connection: BumbleConnection, notify: bool, indicate: bool) -> None:
        if not (notify or indicate):
            self._on_unsubscribed(connection)
            return
        if connection in self._subscribers:
            return
        self._subscribers.add(connection)
        connection.on("disconnection", lambda _: self._on_unsubscribed(connection))
        if self._socket is None:  # while the first is being answered, the next is asked for as well
            self._bluez.tree.spawn(self._acquire(connection))

    def _on_unsubscribed(self, connection: BumbleConnection) -> None:
        self._subscribers.discard(connection)
        if not self._subscribers:
            self.close()

    async def _acquire(self, connection: BumbleConnection) -> None:
        if not self._acquires:
            return
        try:
            reply = await self._bluez.tree.request(
                self._owner, self._path, GATT_CHARACTERISTIC, "AcquireNotify", "a{sv}", [self._options(connection)]
            )
        except DBusError:
            self._bluez.tree.tell(self._owner, self._path, GATT_CHARACTERISTIC, "StartNotify", "", [])
            return
        taken = socket.socket(fileno=reply.unix_fds[reply.body[0]])
        taken.setblocking(False)
        if not self._subscribers:
            taken.close()
            return
        self.close()
        self._socket = taken
        self._pump = self._bluez.tree.spawn(self._forward(taken))

    async def _forward(self, taken: socket.socket) -> None:
        """Value by value, no faster than the controller takes them."""
        loop, device = asyncio.get_running_loop(), self._bluez.shared.device
        while value := await loop.sock_recv(taken, ble.MAX_VALUE):
            await self._bluez.taking.wait()
            for connection in list(self._subscribers):
                with suppress(core.BaseBumbleError):
                    await device.notify_subscriber(connection, self.characteristic, value)
                    await drain(device, connection)

    def close(self) -> None:
        pump, self._pump = self._pump, None
        taken, self._socket = self._socket, None
        if pump is not None:
            pump.cancel()
        if taken is not None:
            asyncio.get_running_loop().remove_reader(taken)
            taken.close()


class GattManager:
    """Applications by (connection, path)."""

    def __init__(self, bluez: FakeBluez) -> None:
        self._bluez = bluez
        self.applications: dict[tuple[str, str], tuple[list[Any], list[_Remote]]] = {}
        self.interface = Interface(
            {}, {"RegisterApplication": self._register, "UnregisterApplication": self._unregister}
        )

    async def _register(self, call: Call) -> None:
        path = call.arguments[0]
        if (call.sender, path) in self.applications:
            raise BluezError("AlreadyExists", "Already Exists")
        try:
            reply = await self._bluez.tree.request(call.sender, path, OBJECT_MANAGER, "GetManagedObjects")
        except DBusError:
            raise BluezError("Failed", "No object received") from None
        objects: dict[str, dict[str, dict[str, Any]]] = unpack_variants(reply.body)[0]
        services, remotes = [], []
        for service_path, interfaces in objects.items():
            if GATT_SERVICE not in interfaces:
                continue
            found = [
                _Remote(self._bluez, call.sender, below, each[GATT_CHARACTERISTIC])
                for below, each in objects.items()
                if GATT_CHARACTERISTIC in each and each[GATT_CHARACTERISTIC]["Service"] == service_path
            ]
            services.append(Service(interfaces[GATT_SERVICE]["UUID"], [each.characteristic for each in found]))
            remotes += found
        if not services:
            raise BluezError("Failed", "No valid service object found")
        for service in services:
            attributes = 1 + sum(2 + len(each.descriptors) for each in service.characteristics)
            attributes += sum(1 for each in remotes if each.notifies)
            self._bluez.shared.device.gatt_server.publish(service, attributes)
        self.applications[call.sender, path] = (services, remotes)

    async def _unregister(self, call: Call) -> None:
        if not self.remove(call.sender, call.arguments[0]):
            raise BluezError("DoesNotExist", "Does Not Exist")

    def remove(self, owner: str, path: str) -> bool:
        services, remotes = self.applications.pop((owner, path), ([], []))
        server = self._bluez.shared.device.gatt_server
        for each in remotes:
            each.close()
        for service in services:
            server.withdraw(service)
            for handle in range(service.handle, service.end_group_handle + 1):
                for subscriptions in server.subscribers.values():
                    subscriptions.pop(handle, None)
        return bool(services)

    def remove_all(self, owner: str | None = None) -> None:
        for sender, path in list(self.applications):
            if owner in (None, sender):
                self.remove(sender, path)


class AdvertisingManager:
    """One advertising set per advertisement. Linux ends it with the connection that it brought, until that connection ends."""

    def __init__(self, bluez: FakeBluez) -> None:
        self._bluez = bluez
        self.advertisements: dict[tuple[str, str], Any] = {}
        self._turn = asyncio.Lock()  # bumble gives two sets that are made at once the same handle
        properties = {
            "ActiveInstances": ("y", 0),
            "SupportedInstances": ("y", bluez.knobs.instances),
            "SupportedIncludes": ("as", ["tx-power"]),
        }
        self.interface = Interface(
            properties, {"RegisterAdvertisement": self._register, "UnregisterAdvertisement": self._unregister}
        )

    async def _register(self, call: Call) -> None:
        key = (call.sender, call.arguments[0])
        if key in self.advertisements:
            raise BluezError("AlreadyExists", "Already Exists")
        if len(self.advertisements) >= self._bluez.knobs.instances:
            raise BluezError("NotPermitted", "Maximum advertisements reached")
        self.advertisements[key] = None
        try:
            reply = await self._bluez.tree.request(*key, PROPERTIES, "GetAll", "s", [ADVERTISEMENT])
            uuids: list[str] = unpack_variants(reply.body)[0]["ServiceUUIDs"]
            async with self._turn:
                advertising = await self._bluez.shared.command(lambda: self._advertise(uuids))
        except (DBusError, BleakError):
            del self.advertisements[key]
            raise BluezError("Failed", "Failed to register advertisement") from None
        self.advertisements[key] = advertising
        self._count()

    async def _advertise(self, uuids: list[str]) -> Any:
        data = AdvertisingData(
            [
                (AdvertisingData.FLAGS, FLAGS),
                (
                    AdvertisingData.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS,
                    b"".join(bytes(core.UUID(uuid)) for uuid in uuids),
                ),
            ]
        )
        device = self._bluez.shared.device
        return await device.create_advertising_set(
            advertising_parameters=AdvertisingParameters(
                advertising_event_properties=AdvertisingEventProperties(
                    is_connectable=True, is_scannable=True, is_legacy=True
                ),
                primary_advertising_interval_min=ADVERTISING_MS,
                primary_advertising_interval_max=ADVERTISING_MS,
            ),
            random_address=device.random_address,
            advertising_data=bytes(data),
        )

    def on_terminated(self, status: int, advertising_handle: int, connection_handle: int, _: int) -> None:
        """As bumble's host reports it: a phone has connected by this advertising set, which has stopped."""
        connection = self._bluez.shared.device.lookup_connection(connection_handle)
        if status == hci.HCI_SUCCESS and connection is not None:
            connection.on("disconnection", lambda _: self._bluez.tree.spawn(self._resume(advertising_handle)))

    async def _resume(self, advertising_handle: int) -> None:
        async with self._turn:
            for advertising in self.advertisements.values():
                # registered anew in between, it has been started already, be it under the same handle
                if advertising is None or advertising.advertising_handle != advertising_handle or advertising.enabled:
                    continue
                with suppress(BleakError):
                    await self._bluez.shared.command(advertising.start)

    async def _unregister(self, call: Call) -> None:
        if not await self.remove(call.sender, call.arguments[0]):
            raise BluezError("DoesNotExist", "Does Not Exist")

    async def remove(self, owner: str, path: str) -> bool:
        advertising = self.advertisements.pop((owner, path), None)
        self._count()
        if advertising is None:
            return False
        async with self._turn:
            with suppress(BleakError):
                if advertising.enabled:
                    await self._bluez.shared.command(advertising.stop)
                await self._bluez.shared.command(advertising.remove)
        return True

    async def remove_all(self, owner: str | None = None) -> None:
        for sender, path in list(self.advertisements):
            if owner in (None, sender):
                await self.remove(sender, path)

    def _count(self) -> None:
        taken = len(self.advertisements)
        free = max(0, self._bluez.knobs.instances - taken)  # what is left, whatever its name says
        self._bluez.tree.set(self._bluez.adapter, ADVERTISING_MANAGER, ActiveInstances=taken, SupportedInstances=free)
