"""The phone's side of BLE: GATT server in mdoc peripheral server mode (ISO/IEC 18013-5 8.3.3.1.1), over bumble.

One `PhonePeripheral` is one presentation: its own HCI transport (on an `AirHub`: its own controller), a fresh random address,
one reader. Until the reader writes State = start it advertises again whenever a reader is lost.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any
from uuid import UUID

from bumble import att, core, hci
from bumble.att import Attribute
from bumble.core import AdvertisingData
from bumble.gatt import Characteristic, CharacteristicValue, Service

from drivers.ble.bumble_device import BumbleConnection, BumbleDevice, drain
from drivers.ble.bumble_host import OpenDevice, open_device
from drivers.ble.inbox import Inbox
from drivers.ports import LinkLostError, LinkProtocolError, LinkTimeoutError
from mdoc import ble
from protocol.clock import Clock, SystemClock
from testbed.air import RandomBytes, static_address

ADVERTISING_MS = 30
"""Advertising interval, milliseconds: what phones use in their low-latency modes."""
MAX_MTU = 517
"""What Android offers, bytes."""
STEP_SECONDS = 2.0
FLAGS = b"\x06"
"""LE General Discoverable, BR/EDR not supported (Core Specification Supplement, Part A 1.3)."""


def _deny_read(_: BumbleConnection) -> bytes:
    raise att.ATT_Error(att.ErrorCode.READ_NOT_PERMITTED)  # bumble's server does not look at properties itself


def _deny_write(_: BumbleConnection, __: bytes) -> None:
    raise att.ATT_Error(att.ErrorCode.WRITE_NOT_PERMITTED)


class PhonePeripheral:
    """`drivers.ports.LinkError` and its kinds mean here: the reader left, ended, was silent or broke the rules."""

    def __init__(
        self,
        device: BumbleDevice,
        *,
        clock: Clock | None = None,
        random_bytes: RandomBytes = secrets.token_bytes,
        max_mtu: int = MAX_MTU,
        owner: OpenDevice | None = None,
    ) -> None:
        self.device = device
        self._clock = clock or SystemClock()
        self._random_bytes = random_bytes
        self._owner = owner
        self._connection: BumbleConnection | None = None
        self._inbox = Inbox(self._clock)
        self._service: UUID | None = None
        self._advertising = asyncio.Lock()  # bumble's advertising calls must not overlap
        self._again: asyncio.Task[None] | None = None
        self._closed = False
        self.started = asyncio.Event()
        """The reader has written State = start."""
        device.gatt_server.max_mtu = max_mtu
        device.on("connection", self._on_connection)

        table, properties = ble.PERIPHERAL_SERVER, Characteristic.Properties
        self._state: Any = Characteristic(
            str(table.state),
            properties.NOTIFY | properties.WRITE_WITHOUT_RESPONSE,
            Attribute.WRITEABLE,
            CharacteristicValue(read=_deny_read, write=self._on_state),
        )
        self._incoming: Any = Characteristic(
            str(table.client_to_server),
            properties.WRITE_WITHOUT_RESPONSE,
            Attribute.WRITEABLE,
            CharacteristicValue(read=_deny_read, write=self._on_data),
        )
        self._outgoing: Any = Characteristic(
            str(table.server_to_client),
            properties.NOTIFY,
            Attribute.READABLE,
            CharacteristicValue(read=_deny_read, write=_deny_write),
        )

    @classmethod
    async def open(
        cls, hci_transport: str, *, clock: Clock | None = None, random_bytes: RandomBytes = secrets.token_bytes
    ) -> PhonePeripheral:
        """Over an HCI transport of its own, e.g. `unix:/path` of an air hub or `usb:0`. Raises drivers.ports.DriverError."""
        opened = await open_device(hci_transport, "phone")
        return cls(opened.device, clock=clock, random_bytes=random_bytes, owner=opened)

    async def __aenter__(self) -> PhonePeripheral:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def advertise(self, service: UUID) -> None:
        """Serve and advertise `service` from a fresh random address. Once per object."""
        await self._serve(service, [])

    async def arm(self, engagement: bytes) -> None:
        """Walk-up: serve and advertise WALK_UP_SERVICE with this engagement to read, from a fresh address. Once per object.
        Raises ValueError for an engagement that no attribute can hold."""
        if not 1 <= len(engagement) <= ble.MAX_VALUE:
            raise ValueError(f"engagement of {len(engagement)} bytes, 1 to {ble.MAX_VALUE} expected")
        characteristic: Any = Characteristic(
            str(ble.WALK_UP_ENGAGEMENT),
            Characteristic.Properties.READ,
            Attribute.READABLE,
            CharacteristicValue(read=lambda _: engagement, write=_deny_write),
        )
        await self._serve(ble.WALK_UP_SERVICE, [characteristic])

    async def rotate(self) -> None:
        """Go on advertising from another fresh random address; nothing happens while a reader is connected."""
        if self._connection is None:
            await self._stop_advertising()
            await self._fresh_address()
            await self._start_advertising()

    async def _serve(self, service: UUID, more: list[Any]) -> None:
        if self._service is not None:
            raise RuntimeError("one PhonePeripheral is one presentation")
        self._service = service
        self.device.add_service(Service(str(service), [self._state, self._incoming, self._outgoing, *more]))
        await self._fresh_address()
        await self._start_advertising()

    async def _fresh_address(self) -> None:
        address = static_address(self._random_bytes)
        self.device.random_address = address
        await self.device.send_sync_command(hci.HCI_LE_Set_Random_Address_Command(random_address=address))

    async def _start_advertising(self) -> None:
        uuids = bytes(core.UUID(str(self._service)))
        data = AdvertisingData(
            [
                (AdvertisingData.FLAGS, FLAGS),
                (AdvertisingData.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, uuids),
            ]
        )
        async with self._advertising:
            if not self._closed:
                await self.device.start_advertising(
                    advertising_data=bytes(data),
                    scan_response_data=b"",
                    auto_restart=False,
                    advertising_interval_min=ADVERTISING_MS,
                    advertising_interval_max=ADVERTISING_MS,
                )

    async def _stop_advertising(self) -> None:
        async with self._advertising:
            await self.device.stop_advertising()

    async def wait_started(self, timeout: float) -> None:
        """Until a reader has connected, subscribed and written State = start. Raises LinkTimeoutError."""
        try:
            async with asyncio.timeout(timeout):
                await self.started.wait()
        except TimeoutError:
            raise LinkTimeoutError(f"no reader within {timeout:g} s") from None

    async def receive(self, timeout: float) -> bytes:
        """The reader's next whole message, waiting for the reader itself if need be. Raises LinkError."""
        message, _ = await self._inbox.take(timeout)
        return message

    async def send(self, message: bytes) -> None:
        """One whole message in fragments of min(MTU - 3, 512). Raises LinkError."""
        for chunk in ble.chunks(message, ble.fragment_size(self._reader().att_mtu)):
            await self.notify(chunk)

    async def notify(self, value: bytes) -> None:
        """One Server2Client value as it stands, framing and all (a faulty phone is made of these)."""
        await self._notify(self._outgoing, value)

    async def end(self) -> None:
        """Notify State = end; the reader then disconnects. Raises LinkError when it is gone already."""
        await self._notify(self._state, ble.STATE_END)

    async def vanish(self) -> None:
        """Drop out without a word: the device leaves the air in the middle of whatever it does."""
        self._inbox.finish(LinkLostError, "this phone vanished")
        if self._owner is not None:
            await self._owner.transport.close()
            return
        connection = self._connection
        if connection is not None:
            reason = hci.HCI_REMOTE_DEVICE_TERMINATED_CONNECTION_DUE_TO_POWER_OFF_ERROR
            await self._quietly(lambda: connection.disconnect(reason))

    async def close(self) -> None:
        """Disconnect, stop advertising, give the transport back. Never raises; once is enough."""
        if self._closed:
            return
        self._closed = True
        self._inbox.finish(LinkLostError, "this phone closed")
        if self._owner is not None:
            await self._owner.close()
            return
        await self._quietly(self._stop_advertising)
        if self._connection is not None:
            await self._quietly(self._connection.disconnect)
        self.device.remove_listener("connection", self._on_connection)

    @staticmethod
    async def _quietly(step: Callable[[], Awaitable[None]]) -> None:
        """bumble waits for ever on a transport that is gone."""
        with suppress(core.BaseBumbleError, TimeoutError):
            async with asyncio.timeout(STEP_SECONDS):
                await step()

    def _reader(self) -> BumbleConnection:
        self._inbox.check()
        if self._connection is None or not self.started.is_set():
            raise LinkLostError("no reader")
        return self._connection

    async def _notify(self, characteristic: Any, value: bytes) -> None:
        reader = self._reader()
        if characteristic.handle not in self.device.gatt_server.subscribers.get(reader, {}):
            raise LinkProtocolError("the reader started without subscribing")  # bumble would drop the value silently
        await self.device.notify_subscriber(reader, characteristic, value)
        await drain(self.device, reader)

    def _on_connection(self, connection: BumbleConnection) -> None:
        self._connection = connection
        connection.on("disconnection", self._on_disconnection)

    def _on_disconnection(self, _: int) -> None:
        self._connection = None
        if self.started.is_set() or not self._inbox.open:
            self._inbox.on_lost()
        else:
            self._again = asyncio.get_running_loop().create_task(self._quietly(self._start_advertising))

    def _on_state(self, _: BumbleConnection, value: bytes) -> None:
        if value == ble.STATE_START and not self.started.is_set():
            self.started.set()
        else:
            self._inbox.on_state(value)

    def _on_data(self, _: BumbleConnection, value: bytes) -> None:
        if self.started.is_set():
            self._inbox.on_data(value)
