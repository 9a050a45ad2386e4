"""Reader as central on bleak: find the phone by its service, connect, subscribe, State = start (ISO/IEC 18013-5 8.3.3.1.1).

A connection lost before State = start is tried again with a fresh scan; after it never, because the phone has then spent its
session. Disconnecting takes two seconds on BlueZ, so it always runs in the background and nobody waits for it. Lanes that share
an adapter take turns (`Turns`): a phone that does not let itself be connected delays another lane by one turn at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from bleak import BleakClient, BleakScanner
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementDataCallback
from bleak.exc import BleakBluetoothNotAvailableError

from drivers.ble.inbox import Inbox
from drivers.ble.link import PEER_ERRORS, GattLink
from drivers.ble.radio import Radio
from drivers.ble.scan import Scan
from drivers.ble.turns import WITHDRAW_SECONDS, Turn, Turns
from drivers.ports import (
    Approached,
    DriverError,
    Link,
    LinkLostError,
    LinkProtocolError,
    LinkTimeoutError,
    Sighting,
)
from mdoc import ble
from protocol.clock import Clock

DISCONNECT_SECONDS = 12.0
"""BlueZ needs 2 to 3.4 s (measured) and bleak itself gives up after 10."""
CONNECTED_POLL_SECONDS = 0.02
STOP_SECONDS = 3.0
"""What a stopping agent grants its open links."""


@dataclass(frozen=True, slots=True)
class ConnectBudget:
    """How hard to try within the `timeout` of one `connect` or `approach`."""

    attempts: int = 10
    attempt_seconds: float = 5.0
    """One try: connect, MTU, discovery, two subscriptions. A phone takes 0.5 to 2 s; a lost advertiser none of them ends."""
    pause_seconds: float = 0.2
    """Between tries."""
    scan_seconds: float = 10.0
    """A scan is restarted after this long without a find."""
    turn_seconds: float = 1.5
    """How long one phone may keep a shared adapter's pending connection while another lane waits for it."""
    connections: int = 8
    """Of one adapter, open or closing; controllers have room for about as many."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """Connected and subscribed, State = start not yet written."""

    client: BleakClient
    turn: Turn
    inbox: Inbox
    state: BleakGATTCharacteristic
    outgoing: BleakGATTCharacteristic
    engagement: bytes
    """Of a phone walked up with; else empty."""


class BleakCentral:
    """One radio for all lanes of an agent: several `connect` and several links at a time."""

    def __init__(self, radio: Radio, clock: Clock, budget: ConnectBudget | None = None) -> None:
        self._radio = radio
        self._clock = clock
        self._budget = budget or ConnectBudget()
        self._turns = Turns(self._budget.turn_seconds, self._budget.connections)
        self._scan: Scan | None = None
        self._links: set[GattLink] = set()
        # BlueZ has one connection for all its clients: who leaves a phone would take it from the other lane
        self._connected: dict[str, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bring the radio up; also after a failure. Raises DriverError."""
        logging.getLogger("bleak").setLevel(logging.CRITICAL)  # its lines name the phones' addresses
        await self.stop()
        await self._radio.start()
        self._turns = Turns(self._budget.turn_seconds, self._budget.connections)
        self._scan = Scan(self._scanner, self._budget.scan_seconds, self._clock)

    async def stop(self) -> None:
        """End open links, then put the radio away. Never raises."""
        scan, self._scan = self._scan, None
        if scan is not None:
            await scan.stop()
        self._turns.stop()
        for link in list(self._links):
            link.close_soon()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=STOP_SECONDS)
        await self._radio.stop()

    async def gone(self) -> None:
        """Waits until the radio is gone, used or not, and raises DriverError then."""
        self._started()
        await self._radio.gone()
        raise DriverError("the radio is gone")

    async def connect(self, service: UUID, timeout: float) -> Link:
        """LinkTimeoutError: nobody advertised `service`, or the time ran out; LinkLostError: every try was lost;
        LinkProtocolError: not the service of 18013-5; DriverError: the radio itself failed, start it again."""
        link, _ = await self._within(timeout, self._connect(self._started(), service, None))
        return link

    def sightings(self) -> AsyncIterator[Sighting]:
        """Armed phones as they are heard, for as long as somebody iterates. Raises DriverError."""
        return self._sightings()

    async def _sightings(self) -> AsyncIterator[Sighting]:
        async with aclosing(self._started().sightings()) as sightings:
            async for sighting in sightings:
                yield sighting

    async def approach(self, peer: str, timeout: float) -> Approached:
        """To a phone that was sighted, on this adapter or another; never another phone in its stead. Errors as of `connect`."""
        link, engagement = await self._within(timeout, self._connect(self._started(), ble.WALK_UP_SERVICE, peer))
        return Approached(engagement, link)

    def _started(self) -> Scan:
        if self._scan is None:
            raise DriverError("the radio is not started")
        return self._scan

    @staticmethod
    async def _within(timeout: float, work: Coroutine[Any, Any, tuple[GattLink, bytes]]) -> tuple[GattLink, bytes]:
        try:
            async with asyncio.timeout(timeout):
                return await work
        except TimeoutError:
            raise LinkTimeoutError(f"no session with the phone within {timeout:g} s") from None

    async def _connect(self, scan: Scan, service: UUID, peer: str | None) -> tuple[GattLink, bytes]:
        for attempt in range(self._budget.attempts):
            if attempt:
                await asyncio.sleep(self._budget.pause_seconds)
            device, turn = await self._locate(scan, service, peer, again=attempt > 0)
            try:
                async with asyncio.timeout(self._budget.attempt_seconds):
                    ready = await self._subscribe(device, service, turn)
            except BleakBluetoothNotAvailableError as error:
                raise DriverError("the radio failed while connecting") from error
            except (TimeoutError, LinkLostError, *PEER_ERRORS):
                continue
            if scan is not self._scan:
                self._spawn(self._close(ready.client, turn))
                raise DriverError("the radio was stopped")
            return await self._begin(ready), ready.engagement
        raise LinkLostError(f"{self._budget.attempts} connections lost before the session began")

    async def _locate(self, scan: Scan, service: UUID, peer: str | None, *, again: bool) -> tuple[BLEDevice, Turn]:
        """A phone that no other lane has, and the turn to connect to it."""
        device = scan.sighted(peer) if peer is not None and not again else None
        while True:
            if device is None:
                device = await scan.find(service, peer)
            if device.address not in self._connected:
                turn = await self._turns.take(again=again)
                if device.address not in self._connected:
                    return device, turn
                turn.close()  # another lane was quicker
            await asyncio.wait({self._connected[device.address]})
            device = None

    async def _subscribe(self, device: BLEDevice, service: UUID, turn: Turn) -> _Ready:
        """Connect, find the characteristics, subscribe. Whatever ends it early, the phone is let go in the background."""
        inbox = Inbox(self._clock)
        try:
            client = self._client(device, service, inbox)
        except BaseException:
            turn.close()
            raise
        self._connected[device.address] = asyncio.get_running_loop().create_future()
        # a task of its own: cancelling BlueZ's connect takes as long as a disconnect, and no lane waits for that
        connecting = self._spawn(client.connect())
        try:
            await self._reach(client, connecting, turn)
            await asyncio.wait({connecting})
            if connecting.cancelled():
                raise DriverError("the radio was stopped")
            connecting.result()
            offered = _Offered(client, service)
            engagement = await _engagement(client, offered) if service == ble.WALK_UP_SERVICE else b""
            state, outgoing, incoming = offered.table()
            await client.start_notify(state, lambda _, value: inbox.on_state(bytes(value)))
            await client.start_notify(incoming, lambda _, value: inbox.on_data(bytes(value)))
            inbox.check()
        except BaseException:
            connecting.cancel()
            self._spawn(self._let_go(client, connecting, turn))
            raise
        return _Ready(client, turn, inbox, state, outgoing, engagement)

    @staticmethod
    async def _reach(client: BleakClient, connecting: asyncio.Task[None], turn: Turn) -> None:
        """Until the phone is connected, or the turn is over: then TimeoutError. MTU and discovery need no turn."""
        while not client.is_connected and not connecting.done():
            if turn.over.done():
                raise TimeoutError
            # no backend tells when the phone is connected; waiting for discovery too would make lanes wait in a row
            await asyncio.wait(
                {connecting, turn.over}, timeout=CONNECTED_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        if client.is_connected:
            turn.pass_on()

    async def _begin(self, ready: _Ready) -> GattLink:
        """Write State = start. From here on the session is spent: no second try."""
        link = GattLink(
            ready.client,
            ready.inbox,
            state=ready.state,
            outgoing=ready.outgoing,
            opened_at=self._clock.monotonic(),
            spawn=self._spawn,
            disconnect=lambda link: self._forget(link, ready.turn),
        )
        self._links.add(link)
        ready.inbox.on_violation = link.close_soon
        try:
            await ready.client.write_gatt_char(ready.state, ble.STATE_START, response=False)
        except PEER_ERRORS:
            link.close_soon()
            raise LinkLostError("connection lost at State = start") from None
        except BaseException:
            link.close_soon()
            raise
        return link

    def _client(self, device: BLEDevice, service: UUID, inbox: Inbox) -> BleakClient:
        return BleakClient(
            device,
            disconnected_callback=lambda _: inbox.on_lost(),
            services=[str(service)],
            timeout=self._budget.attempt_seconds,
            bluez={} if self._radio.adapter is None else {"adapter": self._radio.adapter},
            backend=self._radio.backend.client if self._radio.backend else None,
        )

    def _scanner(self, heard: AdvertisementDataCallback, services: list[str]) -> BleakScanner:
        return BleakScanner(
            heard,
            services,
            bluez={} if self._radio.adapter is None else {"adapter": self._radio.adapter},
            backend=self._radio.backend.scanner if self._radio.backend else None,
        )

    async def _forget(self, link: GattLink, turn: Turn) -> None:
        await self._close(link.client, turn)
        self._links.discard(link)

    async def _let_go(self, client: BleakClient, connecting: asyncio.Task[None], turn: Turn) -> None:
        try:
            await asyncio.wait({connecting}, timeout=WITHDRAW_SECONDS)
            turn.pass_on()
            await asyncio.wait({connecting}, timeout=DISCONNECT_SECONDS)
            if connecting.done() and not connecting.cancelled():
                connecting.exception()  # it was given up already: nobody else asks
        finally:
            await self._close(client, turn)

    async def _close(self, client: BleakClient, turn: Turn) -> None:
        try:
            await self._disconnect(client)
        finally:
            left = self._connected.pop(client.address, None)
            if left is not None:
                left.set_result(None)
            turn.close()

    @staticmethod
    async def _disconnect(client: BleakClient) -> None:
        with suppress(TimeoutError, *PEER_ERRORS):
            async with asyncio.timeout(DISCONNECT_SECONDS):
                await client.disconnect()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Offered:
    """The phone's service as discovered. Raises LinkProtocolError when it is not there, or not what it should be."""

    def __init__(self, client: BleakClient, service: UUID) -> None:
        matching = [each for each in client.services if each.uuid == str(service)]
        if not matching:
            raise LinkProtocolError("the phone does not serve what it advertised")
        self._service = min(matching, key=lambda each: each.handle)

    def characteristic(self, uuid: UUID, *properties: str) -> BleakGATTCharacteristic:
        matching = [each for each in self._service.characteristics if each.uuid == str(uuid)]
        if len(matching) != 1 or not set(properties) <= set(matching[0].properties):
            raise LinkProtocolError("the phone's service lacks a characteristic or one of its properties")
        return matching[0]

    def table(self) -> tuple[BleakGATTCharacteristic, BleakGATTCharacteristic, BleakGATTCharacteristic]:
        """State, Client2Server, Server2Client with the properties of table 5."""
        table = ble.PERIPHERAL_SERVER
        return (
            self.characteristic(table.state, "notify", "write-without-response"),
            self.characteristic(table.client_to_server, "write-without-response"),
            self.characteristic(table.server_to_client, "notify"),
        )


async def _engagement(client: BleakClient, offered: _Offered) -> bytes:
    value = bytes(await client.read_gatt_char(offered.characteristic(ble.WALK_UP_ENGAGEMENT, "read")))
    if not 1 <= len(value) <= ble.MAX_VALUE:
        raise LinkProtocolError(f"engagement of {len(value)} bytes, 1 to {ble.MAX_VALUE} expected")
    return value
