"""Device1, and what bluetoothd publishes of a device's GATT server: GattService1, GattCharacteristic1, GattDescriptor1."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from bleak.exc import BleakError, BleakGATTProtocolError
from bumble import att, core
from bumble.device import Peer

from drivers.ble.bluez_bus import DEVICE, GATT_CHARACTERISTIC, GATT_SERVICE
from drivers.ble.bumble_device import BumbleConnection, drain
from testbed.bluez.objects import Answer, BluezError, Call, Interface

if TYPE_CHECKING:
    from testbed.bluez.daemon import FakeBluez

GATT_DESCRIPTOR = "org.bluez.GattDescriptor1"
CLIENT_MTU = 517
"""What bluetoothd asks for as client, bytes."""
PROPERTY_NAMES = {
    0x02: "read",
    0x04: "write-without-response",
    0x08: "write",
    0x10: "notify",
    0x20: "indicate",
}
NOTIFIES = 0x30

_T = TypeVar("_T")


def uuid_of(uuid: core.UUID) -> str:
    """In full, as D-Bus has it."""
    return str(UUID(bytes=bytes(uuid.to_bytes(force_128=True))[::-1]))


class FakeDevice:
    """A device that was heard or has connected."""

    def __init__(self, bluez: FakeBluez, address: Any, uuids: Sequence[str], rssi: int | None) -> None:
        self._bluez, self.address = bluez, address
        text = address.to_string(False)
        self.path = f"{bluez.adapter}/dev_{text.replace(':', '_')}"
        self.connection: BumbleConnection | None = None
        self._connecting: asyncio.Task[BumbleConnection] | None = None
        self._resolving: asyncio.Task[None] | None = None
        self._published: list[str] = []
        properties: dict[str, tuple[str, Any]] = {
            "Address": ("s", text),
            "AddressType": ("s", "public" if address.is_public else "random"),
            "Alias": ("s", text.replace(":", "-")),
            "Adapter": ("o", bluez.adapter),
            "UUIDs": ("as", list(uuids)),
            "Connected": ("b", False),
            "ServicesResolved": ("b", False),
            "Paired": ("b", False),
            "Trusted": ("b", False),
            "Blocked": ("b", False),
        }
        if rssi is not None:
            properties["RSSI"] = ("n", rssi)
        bluez.tree.add(
            self.path, {DEVICE: Interface(properties, {"Connect": self._connect, "Disconnect": self._disconnect})}
        )

    def heard(self, uuids: Sequence[str], rssi: int) -> None:
        self._bluez.tree.set(self.path, DEVICE, RSSI=rssi, UUIDs=list(uuids))

    def came(self, connection: BumbleConnection) -> None:
        """It is connected, whoever began it."""
        self.connection = connection
        connection.on("disconnection", lambda _: self._left())
        self._bluez.tree.set(self.path, DEVICE, Connected=True)

    def _left(self) -> None:
        self.connection = None
        if self._resolving is not None:
            self._resolving.cancel()
            self._resolving = None
        for path in reversed(self._published):
            self._bluez.tree.remove(path)
        self._published.clear()
        self._bluez.tree.set(self.path, DEVICE, ServicesResolved=False)
        self._bluez.tree.set(self.path, DEVICE, Connected=False)

    async def _connect(self, _: Call) -> None:
        if self.connection is not None:
            return
        if self._connecting is not None:
            raise BluezError("InProgress", "Operation already in progress")
        connecting = self._connecting = self._bluez.tree.spawn(self._bluez.shared.connect(self.address))
        try:
            await asyncio.wait({connecting}, timeout=self._bluez.knobs.page_timeout)
            if not connecting.done():
                connecting.cancel()
                await asyncio.wait({connecting})
            if connecting.cancelled() or connecting.exception() is not None:
                raise BluezError("Failed", "le-connection-abort-by-local")
            connection = connecting.result()
        finally:
            self._connecting = None
        self.came(connection)
        if self._bluez.shared.holds(connection):
            self._resolving = self._bluez.tree.spawn(self._resolve(connection))
        else:
            self._left()  # it went again before anybody could listen

    async def _disconnect(self, _: Call) -> None:
        connection = self.connection
        if self._connecting is not None:
            self._connecting.cancel()
        elif connection is None:
            raise BluezError("NotConnected", "Not Connected")
        else:
            await asyncio.sleep(self._bluez.knobs.disconnect_delay)
            if self._bluez.shared.holds(connection):
                with suppress(BleakError):
                    await self._bluez.shared.command(connection.disconnect)

    async def _resolve(self, connection: BumbleConnection) -> None:
        """MTU, then all services; what goes wrong leaves them unresolved, as it does there."""
        shared, peer = self._bluez.shared, Peer(connection)
        with suppress(BleakError):
            with suppress(BleakGATTProtocolError):  # refused: the default MTU holds
                await shared.request(peer.request_mtu(CLIENT_MTU))
            services = await shared.request(peer.discover_services())
            if not services:
                return  # every device has some: its answers could not be read
            objects = [each for service in services for each in await shared.request(self._objects(service))]
            late = self._bluez.knobs.late_services
            if late:
                self._bluez.tree.set(self.path, DEVICE, ServicesResolved=True)
                await asyncio.sleep(late)
            for path, interfaces in objects:
                self._add(path, interfaces)
            if not late:
                self._bluez.tree.set(self.path, DEVICE, ServicesResolved=True)

    async def _objects(self, service: Any) -> list[tuple[str, dict[str, Interface]]]:
        """Handles stand in the paths in hexadecimal; bleak reads them there."""
        path = f"{self.path}/service{service.handle:04x}"
        properties = {"UUID": ("s", uuid_of(service.uuid)), "Device": ("o", self.path), "Primary": ("b", True)}
        objects = [(path, {GATT_SERVICE: Interface(properties)})]
        for item in await service.discover_characteristics():
            below = f"{path}/char{item.handle - 1:04x}"
            characteristic = _Characteristic(self._bluez, self, path, below, item)
            objects.append((below, {GATT_CHARACTERISTIC: characteristic.interface}))
            for descriptor in await item.discover_descriptors():
                last = {"UUID": ("s", uuid_of(descriptor.type)), "Characteristic": ("o", below)}
                objects.append((f"{below}/desc{descriptor.handle:04x}", {GATT_DESCRIPTOR: Interface(last)}))
        return objects

    def _add(self, path: str, interfaces: dict[str, Interface]) -> None:
        if self.connection is not None:
            self._bluez.tree.add(path, interfaces)
            self._published.append(path)

    def forget(self) -> None:
        self._bluez.tree.remove(self.path)


class _Characteristic:
    """One of the phone's, for clients on the bus."""

    def __init__(self, bluez: FakeBluez, device: FakeDevice, service: str, path: str, item: Any) -> None:
        self._bluez, self._device, self._path, self._item = bluez, device, path, item
        self._flags = int(item.properties)
        self._busy = False
        self._socket: socket.socket | None = None
        connection = device.connection
        properties: dict[str, tuple[str, Any]] = {
            "UUID": ("s", uuid_of(item.uuid)),
            "Service": ("o", service),
            "Flags": ("as", [name for bit, name in PROPERTY_NAMES.items() if self._flags & bit]),
            "Value": ("ay", b""),
            "Notifying": ("b", False),
            "MTU": ("q", connection.att_mtu if connection is not None else 23),
        }
        if self._flags & NOTIFIES:
            properties["NotifyAcquired"] = ("b", False)
        methods = {
            "ReadValue": self._read,
            "WriteValue": self._write,
            "StartNotify": self._start_notify,
            "StopNotify": self._stop_notify,
            "AcquireNotify": self._acquire_notify,
        }
        self.interface = Interface(properties, methods)

    async def _exchange(self, work: Awaitable[_T]) -> _T:
        """One operation on the characteristic at a time, as bluetoothd has it."""
        if self._busy:
            if asyncio.iscoroutine(work):
                work.close()
            raise BluezError("InProgress", "In Progress")
        self._busy = True
        try:
            return await self._bluez.shared.request(work)
        except BleakGATTProtocolError as error:
            raise _att_error(int(error.code)) from None
        except BleakError:
            raise BluezError("Failed", "Not connected") from None
        finally:
            self._busy = False

    async def _read(self, _: Call) -> Answer:
        value = bytes(await self._exchange(self._item.read_value()))
        self._bluez.tree.set(self._path, GATT_CHARACTERISTIC, Value=value)
        return Answer("ay", [value])

    async def _write(self, call: Call) -> None:
        value, options = call.arguments
        kind = options["type"].value if "type" in options else "request"
        if not self._flags & (0x04 if kind == "command" else 0x08):
            raise BluezError("NotSupported", "Operation is not supported")
        await self._exchange(self._item.write_value(bytes(value), with_response=kind == "request"))
        connection = self._device.connection
        if kind == "command" and connection is not None:
            await drain(self._bluez.shared.device, connection)

    def _on_value(self, value: bytes) -> None:
        self._bluez.tree.set(self._path, GATT_CHARACTERISTIC, Value=bytes(value))

    async def _start_notify(self, _: Call) -> None:
        if not self._flags & NOTIFIES:
            raise BluezError("NotSupported", "Operation is not supported")
        await self._exchange(self._item.subscribe(self._on_value))
        self._bluez.tree.set(self._path, GATT_CHARACTERISTIC, Notifying=True)

    async def _stop_notify(self, _: Call) -> None:
        await self._exchange(self._item.unsubscribe(self._on_value))
        self._bluez.tree.set(self._path, GATT_CHARACTERISTIC, Notifying=False)

    async def _acquire_notify(self, _: Call) -> Answer:
        connection = self._device.connection
        if not self._flags & NOTIFIES or connection is None:
            raise BluezError("NotSupported", "Operation is not supported")
        if self._socket is not None:
            raise BluezError("NotPermitted", "Notify acquired")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._socket = ours

        def closed() -> None:
            asyncio.get_running_loop().remove_reader(ours)
            ours.close()
            self._socket = None

        def forward(value: bytes) -> None:
            with suppress(OSError):
                ours.send(bytes(value))

        asyncio.get_running_loop().add_reader(ours, closed)
        connection.on("disconnection", lambda _: closed() if ours.fileno() >= 0 else None)
        await self._exchange(self._item.subscribe(forward))
        return Answer("hq", [0, connection.att_mtu], [theirs.detach()])


def _att_error(code: int) -> BluezError:
    if code in (att.ErrorCode.READ_NOT_PERMITTED, att.ErrorCode.WRITE_NOT_PERMITTED):
        return BluezError("NotPermitted", "Read not permitted" if code == 2 else "Write not permitted")
    return BluezError("Failed", f"Operation failed with ATT error: 0x{code:02x}")
