"""bleak backend classes over a bumble `Device`, for bleak's public `backend=` keyword.

Written against BaseBleakScanner and BaseBleakClient of bleak 3.1 and bumble 0.0.236. It offers the GATT operations a reader
needs; pairing is refused, because 18013-5 has no use for bonding.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from bleak import BleakScanner
from bleak.args import SizedBuffer
from bleak.assigned_numbers import gatt_char_props_to_strs
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient, NotifyCallback
from bleak.backends.descriptor import BleakGATTDescriptor
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, AdvertisementDataCallback, BaseBleakScanner
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import BleakDeviceNotFoundError, BleakError, BleakGATTProtocolError
from bumble import att, core, hci
from bumble.core import AdvertisingData
from bumble.device import Peer

from drivers.ble.bumble_device import BumbleConnection, BumbleDevice, SharedDevice, drain
from drivers.ble.radio import Backend
from mdoc import ble

CCCD = "00002902-0000-1000-8000-00805f9b34fb"


class _Forgetful(dict[int, Any]):
    """bumble's client remembers the last value of every handle that a peer notifies: 32 MB from a hostile one."""

    def __setitem__(self, key: int, value: Any) -> None:
        pass


_UUID_LISTS = {
    AdvertisingData.INCOMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS: 2,
    AdvertisingData.COMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS: 2,
    AdvertisingData.INCOMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS: 16,
    AdvertisingData.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS: 16,
}


def _service_uuids(data: Any) -> list[str]:
    """Read from the raw AD structures: bumble's own decoding raises on lists of odd length."""
    return [
        _uuid(raw[start : start + size])
        for kind, size in _UUID_LISTS.items()
        for raw in data.get_all(kind, raw=True)
        for start in range(0, len(raw) - size + 1, size)
    ]


def _uuid(little_endian: bytes) -> str:
    if len(little_endian) == 2:
        return f"0000{little_endian[1]:02x}{little_endian[0]:02x}-0000-1000-8000-00805f9b34fb"
    return str(UUID(bytes=little_endian[::-1]))


def _uuid_of(uuid: core.UUID) -> str:
    return _uuid(uuid.to_bytes(force_128=True))


class _Scanner(BaseBleakScanner):
    """Reports service UUIDs and signal strength; names and payloads of passers-by are nobody's business."""

    shared: SharedDevice

    def __init__(
        self,
        detection_callback: AdvertisementDataCallback | None,
        service_uuids: list[str] | None,
        scanning_mode: str = "active",
        **_: Any,
    ) -> None:
        super().__init__(detection_callback, service_uuids)
        self._active = scanning_mode == "active"

    def _on_advertisement(self, advertisement: Any) -> None:
        uuids = _service_uuids(advertisement.data)
        if not self.is_allowed_uuid(uuids):
            return
        data = AdvertisementData(None, {}, {}, uuids, None, advertisement.rssi, (advertisement,))
        address = advertisement.address.to_string(False)
        device = self.create_or_update_device(address, address, None, advertisement.address, data)
        self.call_detection_callbacks(device, data)

    async def start(self) -> None:
        self.seen_devices = {}
        device = self.shared.device
        device.on("advertisement", self._on_advertisement)
        try:
            await self.shared.command(
                lambda: device.start_scanning(
                    legacy=self.shared.legacy,
                    active=self._active,
                    filter_duplicates=False,
                    scanning_phys=(hci.HCI_LE_1M_PHY,),
                )
            )
        except BaseException:
            device.remove_listener("advertisement", self._on_advertisement)
            raise

    async def stop(self) -> None:
        device = self.shared.device
        if self._on_advertisement not in device.listeners("advertisement"):
            return
        device.remove_listener("advertisement", self._on_advertisement)
        await self.shared.command(lambda: device.stop_scanning(legacy=self.shared.legacy))


class _Client(BaseBleakClient):
    shared: SharedDevice
    scanner: type[BaseBleakScanner]

    def __init__(
        self,
        address_or_ble_device: BLEDevice | str,
        *,
        services: set[str] | None = None,
        disconnected_callback: Callable[[], None] | None,
        timeout: float,
        **_: Any,
    ) -> None:
        super().__init__(address_or_ble_device, disconnected_callback=disconnected_callback, timeout=timeout)
        device = address_or_ble_device if isinstance(address_or_ble_device, BLEDevice) else None
        self._target: Any = device.details if device else None
        self._services_wanted = services
        self._connection: BumbleConnection | None = None
        self._subscribers: dict[int, Callable[[bytes], None]] = {}

    @property
    def name(self) -> str:
        return self.address.replace(":", "-")

    @property
    def mtu_size(self) -> int:
        return int(self._connection.att_mtu) if self._connection else ble.ATT_MTU_DEFAULT

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    async def connect(self, pair: bool, **_: Any) -> None:
        if self._connection is not None:
            raise BleakError("Client is already connected")
        if pair:
            raise BleakError("pairing is not supported")
        async with asyncio.timeout(self._timeout):
            connection = await self.shared.connect(await self._find())
            self._connection = connection
            connection.on("disconnection", self._on_disconnection)
            if not self.shared.holds(connection):
                self._on_disconnection(0)
                raise BleakError("disconnected")
            peer = Peer(connection)
            peer.gatt_client.cached_values = _Forgetful()
            try:
                with suppress(BleakGATTProtocolError):  # a peer may refuse, then 23 it is
                    await self.shared.request(peer.request_mtu(ble.ATT_MTU))
                self.services = await self.shared.request(self._discover(peer))
            except BaseException:
                # a second cancellation must not leave the peer connected
                await asyncio.shield(self.shared.spawn(self.disconnect()))
                raise

    async def _find(self) -> Any:
        if self._target is None:
            found = await BleakScanner.find_device_by_address(self.address, self._timeout, backend=self.scanner)
            if found is None:
                raise BleakDeviceNotFoundError(self.address, "device not found")
            self._target = found.details
        return self._target

    async def _discover(self, peer: Any) -> BleakGATTServiceCollection:
        found = BleakGATTServiceCollection()
        if self._services_wanted:
            services = [s for wanted in self._services_wanted for s in await peer.discover_service(core.UUID(wanted))]
        else:
            services = await peer.discover_services()
        for service in services:
            bleak_service = BleakGATTService(service, service.handle, _uuid_of(service.uuid))
            found.add_service(bleak_service)
            for item in await service.discover_characteristics():
                characteristic = BleakGATTCharacteristic(
                    item,
                    item.handle,
                    _uuid_of(item.uuid),
                    list(gatt_char_props_to_strs(int(item.properties))),
                    lambda: ble.fragment_size(self.mtu_size),
                    bleak_service,
                )
                found.add_characteristic(characteristic)
                for descriptor in await item.discover_descriptors():
                    found.add_descriptor(
                        BleakGATTDescriptor(descriptor, descriptor.handle, _uuid_of(descriptor.type), characteristic)
                    )
        return found

    def _on_disconnection(self, _: int) -> None:
        if self._connection is None:
            return
        self._connection = self.services = None
        self._subscribers.clear()
        if self._disconnected_callback is not None:
            self._disconnected_callback()

    async def disconnect(self) -> None:
        connection = self._connection
        if connection is not None:
            with suppress(BleakError):  # gone by itself in the meantime, or with the radio
                await self.shared.command(connection.disconnect)
            self._on_disconnection(0)

    async def pair(self, *_: Any, **__: Any) -> None:
        raise BleakError("pairing is not supported")

    async def unpair(self) -> None:
        raise BleakError("pairing is not supported")

    def _connected(self) -> BumbleConnection:
        if self._connection is None:
            raise BleakError("Not connected")
        return self._connection

    async def read_gatt_char(self, characteristic: BleakGATTCharacteristic, **_: Any) -> bytearray:
        self._connected()
        return bytearray(await self.shared.request(self._read(characteristic.obj)))

    @staticmethod
    async def _read(characteristic: Any) -> bytes:
        """A long read that ends: bumble's own goes on for as long as the peer has more."""
        client = characteristic.client
        part = value = await client.read_value(characteristic.handle, no_long_read=True)
        while len(part) == client.mtu - 1 and len(value) <= ble.MAX_VALUE:
            response = await client.send_request(
                att.ATT_Read_Blob_Request(attribute_handle=characteristic.handle, value_offset=len(value))
            )
            if response.op_code == att.Opcode.ATT_ERROR_RESPONSE:
                if response.error_code in (att.ErrorCode.ATTRIBUTE_NOT_LONG, att.ErrorCode.INVALID_OFFSET):
                    break
                raise att.ATT_Error(response.error_code)
            part = response.part_attribute_value
            value += part
        return bytes(value)

    async def read_gatt_descriptor(self, descriptor: BleakGATTDescriptor, **_: Any) -> bytearray:
        self._connected()
        return bytearray(await self.shared.request(descriptor.obj.read_value()))

    async def write_gatt_char(self, characteristic: BleakGATTCharacteristic, data: SizedBuffer, response: bool) -> None:
        connection = self._connected()
        value = bytes(data)
        if not response and len(value) > self.mtu_size - ble.ATT_HEADER:
            raise BleakError("write without response longer than MTU - 3")
        await self.shared.request(characteristic.obj.write_value(value, with_response=response))
        if not response:
            await drain(self.shared.device, connection)

    async def write_gatt_descriptor(self, descriptor: BleakGATTDescriptor, data: SizedBuffer) -> None:
        self._connected()
        await self.shared.request(descriptor.obj.write_value(bytes(data), with_response=True))

    async def start_notify(self, characteristic: BleakGATTCharacteristic, callback: NotifyCallback, **_: Any) -> None:
        self._connected()
        if not {"notify", "indicate"} & set(characteristic.properties):
            raise BleakError("characteristic does not notify")
        if characteristic.get_descriptor(CCCD) is None:  # bumble would say nothing, and nothing would ever come
            raise BleakError("characteristic has no CCCD")

        def subscriber(value: bytes) -> None:
            callback(bytearray(value))

        self._subscribers[characteristic.handle] = subscriber
        await self.shared.request(characteristic.obj.subscribe(subscriber))

    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        self._connected()
        subscriber = self._subscribers.pop(characteristic.handle, None)
        await self.shared.request(characteristic.obj.unsubscribe(subscriber))


def backend_for(device: BumbleDevice) -> Backend:
    """Backend classes bound to one powered-on device. bleak wants classes (it reads their names), so each call makes two."""
    state = SharedDevice(device)

    class BumbleScanner(_Scanner):
        shared = state

    class BumbleClient(_Client):
        shared = state
        scanner = BumbleScanner

    return Backend(BumbleScanner, BumbleClient, state.gone)
