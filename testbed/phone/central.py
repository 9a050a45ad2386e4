"""The phone's side of BLE in mdoc central client mode (ISO/IEC 18013-5 8.3.3.1.1), over bumble: the reader is the GATT server.

One `PhoneCentral` is one presentation: a fresh random address, one reader. `begin` does it the way a wallet does; the steps that
it takes can be taken one by one, which is what faulty phones are made of.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar
from uuid import UUID

from bleak.exc import BleakError, BleakGATTProtocolError
from bumble import core, hci
from bumble.core import AdvertisingData
from bumble.device import Peer

from drivers.ble.bumble_device import BumbleConnection, BumbleDevice, SharedDevice, drain
from drivers.ble.bumble_host import OpenDevice, open_device
from drivers.ble.inbox import Inbox
from drivers.ports import LinkEndedError, LinkError, LinkLostError, LinkProtocolError, LinkTimeoutError
from mdoc import ble
from protocol.clock import Clock, SystemClock
from testbed.air import RandomBytes, static_address

MAX_MTU = 517
"""What Android asks for, bytes."""
ESTABLISH_SECONDS = 0.5
"""A connection to an advertiser that took another one instead fails within six connection intervals; the virtual air leaves it
open, so the first answer is waited for this long."""
STEP_SECONDS = 2.0
ATTEMPTS = 10
"""Connections to one reader before the phone gives up."""

_T = TypeVar("_T")


class PhoneCentral:
    """`drivers.ports.LinkError` and its kinds mean here: the reader left, ended, was silent or broke the rules."""

    def __init__(
        self,
        device: BumbleDevice,
        *,
        clock: Clock | None = None,
        random_bytes: RandomBytes = secrets.token_bytes,
        max_mtu: int = MAX_MTU,
        leaves: bool = True,
        owner: OpenDevice | None = None,
    ) -> None:
        self._device = device
        self._shared = SharedDevice(device)
        self._clock = clock or SystemClock()
        self._random_bytes = random_bytes
        self._max_mtu = max_mtu
        self._leaves = leaves
        self._owner = owner
        self._inbox = Inbox(self._clock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._addressed = self._started = self._closed = False
        self.connection: BumbleConnection | None = None
        self.peer: Any = None
        """bumble's GATT client of the connection, for requests that no wallet makes."""
        self.characteristics: dict[UUID | None, Any] = {}
        """As discovered, by UUID."""
        self.gone = asyncio.Event()
        """The connection has ended; cleared by the next."""

    @classmethod
    async def open(
        cls, hci_transport: str, *, clock: Clock | None = None, random_bytes: RandomBytes = secrets.token_bytes
    ) -> PhoneCentral:
        """Over an HCI transport of its own, e.g. `unix:/path` of an air hub or `usb:0`. Raises drivers.ports.DriverError."""
        opened = await open_device(hci_transport, "phone")
        return cls(opened.device, clock=clock, random_bytes=random_bytes, owner=opened)

    async def __aenter__(self) -> PhoneCentral:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def att_mtu(self) -> int:
        return int(self._connected().att_mtu)

    @property
    def value_size(self) -> int:
        """Longest value of one write, bytes: min(MTU - 3, 512)."""
        return ble.fragment_size(self.att_mtu)

    async def begin(self, service: UUID, ident: bytes, timeout: float) -> None:
        """Find the reader that advertises `service`, check its Ident, subscribe, write State = start. Raises LinkError."""
        try:
            async with asyncio.timeout(timeout):
                for _ in range(ATTEMPTS):
                    with suppress(LinkLostError):
                        await self.prepare(service, ident)
                        await self.start()
                        return
                    await self.disconnect()
        except TimeoutError:
            raise LinkTimeoutError(f"no reader within {timeout:g} s") from None
        raise LinkLostError(f"{ATTEMPTS} connections lost before the session began")

    async def prepare(self, service: UUID, ident: bytes) -> None:
        """Everything before State = start. Raises LinkError."""
        await self.connect(await self.find(service))
        await self.exchange_mtu()
        await self.discover(service)
        if await self.read_ident() != ident:
            await self.disconnect()
            raise LinkProtocolError("the reader's Ident is not the one of this engagement")
        await self.subscribe(ble.CENTRAL_CLIENT.state)
        await self.subscribe(ble.CENTRAL_CLIENT.server_to_client)

    async def find(self, service: UUID) -> hci.Address:
        """Scan until `service` is advertised; the caller sets the limit."""
        await self._take_address()
        wanted, found = bytes(core.UUID(str(service))), asyncio.get_running_loop().create_future()

        def heard(advertisement: Any) -> None:
            uuids = advertisement.data.get_all(AdvertisingData.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, raw=True)
            if wanted in uuids and not found.done():
                found.set_result(advertisement.address)

        device, legacy = self._device, self._shared.legacy
        device.on("advertisement", heard)
        try:
            await self._command(lambda: device.start_scanning(legacy=legacy, filter_duplicates=False))
            address: hci.Address = await found
            return address
        finally:
            device.remove_listener("advertisement", heard)
            with suppress(LinkError):
                await self._command(lambda: device.stop_scanning(legacy=legacy))

    async def _take_address(self) -> None:
        if not self._addressed:
            self._addressed = True
            address = static_address(self._random_bytes)
            self._device.random_address = address
            await self._command(
                lambda: self._device.send_sync_command(hci.HCI_LE_Set_Random_Address_Command(random_address=address))
            )

    async def connect(self, address: hci.Address) -> None:
        try:
            connection = await self._shared.connect(address)
        except BleakError as error:
            raise LinkLostError(type(error).__name__) from None
        self.connection, self.peer = connection, Peer(connection)
        self.gone.clear()
        connection.on("disconnection", lambda _: self._on_disconnection(connection))
        if not self._shared.holds(connection):
            self._on_disconnection(connection)

    async def exchange_mtu(self) -> int:
        """The ATT MTU agreed on, bytes. Also shows whether the connection stands at all."""
        if self._max_mtu > ble.ATT_MTU_DEFAULT:
            await self.request(lambda: self.peer.request_mtu(self._max_mtu), ESTABLISH_SECONDS)
        return self.att_mtu

    async def discover(self, service: UUID) -> None:
        """The characteristics of `service`. Raises LinkProtocolError when table 6 is not what is there."""
        services = await self.request(lambda: self.peer.discover_service(core.UUID(str(service))))
        if len(services) != 1:
            raise LinkProtocolError("the reader does not serve what it advertised")
        found = await self.request(services[0].discover_characteristics)
        for item in found:
            self.characteristics[UUID(bytes=item.uuid.to_bytes(force_128=True)[::-1])] = item
            await self.request(item.discover_descriptors)
        table = ble.CENTRAL_CLIENT
        if not {table.state, table.client_to_server, table.server_to_client, table.ident} <= set(self.characteristics):
            raise LinkProtocolError("the reader's service lacks a characteristic")

    async def read_ident(self) -> bytes:
        """Raises LinkProtocolError when the reader does not give it."""
        return bytes(await self.request(self.characteristics[ble.CENTRAL_CLIENT.ident].read_value))

    async def subscribe(self, characteristic: UUID) -> None:
        taker = self._on_state if characteristic == ble.CENTRAL_CLIENT.state else self._inbox.on_data
        await self.request(lambda: self.characteristics[characteristic].subscribe(lambda value: taker(bytes(value))))

    async def start(self) -> None:
        """Write State = start. From here on a lost connection is the end of the presentation."""
        self._started = True
        await self.write_state(ble.STATE_START)

    async def write_state(self, value: bytes) -> None:
        """One State value as it stands."""
        await self._write(ble.CENTRAL_CLIENT.state, value)

    async def write(self, value: bytes) -> None:
        """One Client2Server value as it stands, framing and all."""
        await self._write(ble.CENTRAL_CLIENT.client_to_server, value)

    async def _write(self, characteristic: UUID, value: bytes) -> None:
        connection = self._connected()
        await self.request(lambda: self.characteristics[characteristic].write_value(value, with_response=False))
        await drain(self._device, connection)

    async def send(self, message: bytes) -> None:
        """One whole message in fragments of `value_size`. Raises LinkError."""
        for chunk in ble.chunks(message, self.value_size):
            self._inbox.check()
            await self.write(chunk)

    async def receive(self, timeout: float) -> bytes:
        """The reader's next whole message. Raises LinkError."""
        message, _ = await self._inbox.take(timeout)
        return message

    async def end(self) -> None:
        """Write State = end, then disconnect as a wallet does."""
        await self.write_state(ble.STATE_END)
        self._inbox.finish(LinkEndedError, "this phone ended the session")
        if self._leaves:
            await self.disconnect()

    async def disconnect(self) -> None:
        """Never raises."""
        connection = self.connection
        if connection is not None:
            await self._quietly(connection.disconnect)
            self._on_disconnection(connection)

    async def vanish(self) -> None:
        """Drop out without a word: the device leaves the air in the middle of whatever it does."""
        self._inbox.finish(LinkLostError, "this phone vanished")
        if self._owner is not None:
            await self._owner.transport.close()
            return
        connection = self.connection
        if connection is not None:
            reason = hci.HCI_REMOTE_DEVICE_TERMINATED_CONNECTION_DUE_TO_POWER_OFF_ERROR
            await self._quietly(lambda: connection.disconnect(reason))

    async def close(self) -> None:
        """Disconnect, give the transport back. Never raises; once is enough."""
        if self._closed:
            return
        self._closed = True
        self._inbox.finish(LinkLostError, "this phone closed")
        if self._owner is not None:
            await self._owner.close()
            return
        await self.disconnect()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STEP_SECONDS)

    async def request(self, work: Callable[[], Awaitable[_T]], seconds: float = STEP_SECONDS) -> _T:
        """One exchange with the reader's GATT server.

        LinkProtocolError: it answered with an ATT error; LinkLostError: it is gone or did not answer in time.
        """
        self._connected()
        try:
            async with asyncio.timeout(seconds):
                return await self._shared.request(work())
        except BleakGATTProtocolError as error:
            raise LinkProtocolError(f"ATT error {error.args[0]}") from None
        except TimeoutError:
            raise LinkLostError(f"the reader did not answer within {seconds:g} s") from None
        except BleakError as error:
            raise LinkLostError(type(error).__name__) from None

    async def _command(self, work: Callable[[], Awaitable[_T]]) -> _T:
        try:
            return await self._shared.command(work)
        except BleakError as error:
            raise LinkLostError(type(error).__name__) from None

    @staticmethod
    async def _quietly(step: Callable[[], Awaitable[None]]) -> None:
        """bumble waits for ever on a transport that is gone, and cancels its own future then."""
        with suppress(core.BaseBumbleError, TimeoutError):
            async with asyncio.timeout(STEP_SECONDS):
                await step()

    def _connected(self) -> BumbleConnection:
        if self.connection is None:
            self._inbox.check()
            raise LinkLostError("not connected")
        return self.connection

    def _on_state(self, value: bytes) -> None:
        self._inbox.on_state(value)
        if self._leaves and value == ble.STATE_END:
            task = asyncio.get_running_loop().create_task(self.disconnect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _on_disconnection(self, connection: BumbleConnection) -> None:
        if self.connection is not connection:
            return
        self.connection = self.peer = None
        self.characteristics = {}
        self.gone.set()
        if self._started:
            self._inbox.on_lost()
