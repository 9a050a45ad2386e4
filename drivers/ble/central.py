"""`BleCentral` on bleak: find the phone by its service, connect, subscribe, State = start (ISO/IEC 18013-5 8.3.3.1.1).

A connection lost before State = start is tried again with a fresh scan; after it never, because the phone has then spent its
session. Disconnecting takes two seconds on BlueZ, so it always runs in the background and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
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
from drivers.ports import DriverError, Link, LinkLostError, LinkProtocolError, LinkTimeoutError
from mdoc import ble
from protocol.clock import Clock

DISCONNECT_SECONDS = 12.0
"""BlueZ needs 2 to 3.4 s (measured) and bleak itself gives up after 10."""
STOP_SECONDS = 3.0
"""What a stopping agent grants its open links."""


@dataclass(frozen=True, slots=True)
class ConnectBudget:
    """How hard to try within the `timeout` of one `connect`."""

    attempts: int = 10
    attempt_seconds: float = 5.0
    """One try: connect, MTU, discovery, two subscriptions. A phone takes 0.5 to 2 s; a lost advertiser none of them ends."""
    pause_seconds: float = 0.2
    """Between tries."""
    scan_seconds: float = 10.0
    """A scan is restarted after this long without a find."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """Connected and subscribed, State = start not yet written."""

    client: BleakClient
    inbox: Inbox
    state: BleakGATTCharacteristic
    outgoing: BleakGATTCharacteristic


class BleakCentral:
    """One radio for all lanes of an agent: several `connect` and several links at a time."""

    def __init__(self, radio: Radio, clock: Clock, budget: ConnectBudget | None = None) -> None:
        self._radio = radio
        self._clock = clock
        self._budget = budget or ConnectBudget()
        self._scan: Scan | None = None
        self._links: set[GattLink] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bring the radio up; also after a failure. Raises DriverError."""
        logging.getLogger("bleak").setLevel(logging.CRITICAL)  # its lines name the phones' addresses
        await self.stop()
        await self._radio.start()
        self._scan = Scan(self._scanner, self._budget.scan_seconds)

    async def stop(self) -> None:
        """End open links, then put the radio away. Never raises."""
        scan, self._scan = self._scan, None
        if scan is not None:
            await scan.stop()
        for link in list(self._links):
            link.close_soon()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=STOP_SECONDS)
        await self._radio.stop()

    async def connect(self, service: UUID, timeout: float) -> Link:
        """LinkTimeoutError: nobody advertised `service`, or the time ran out; LinkLostError: every try was lost;
        LinkProtocolError: not the service of 18013-5; DriverError: the radio itself failed, start it again."""
        if self._scan is None:
            raise DriverError("the radio is not started")
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(self._scan, service)
        except TimeoutError:
            raise LinkTimeoutError(f"no session with the phone within {timeout:g} s") from None

    async def _connect(self, scan: Scan, service: UUID) -> GattLink:
        for attempt in range(self._budget.attempts):
            if attempt:
                await asyncio.sleep(self._budget.pause_seconds)
            device = await scan.find(service)
            try:
                async with asyncio.timeout(self._budget.attempt_seconds):
                    ready = await self._subscribe(device, service)
            except BleakBluetoothNotAvailableError as error:
                raise DriverError("the radio failed while connecting") from error
            except (TimeoutError, LinkLostError, *PEER_ERRORS):
                continue
            if scan is not self._scan:
                self._spawn(self._disconnect(ready.client))
                raise DriverError("the radio was stopped")
            return await self._begin(ready)
        raise LinkLostError(f"{self._budget.attempts} connections lost before the session began")

    async def _subscribe(self, device: BLEDevice, service: UUID) -> _Ready:
        """Connect, find the characteristics, subscribe. Whatever ends it early, the phone is let go in the background."""
        inbox = Inbox(self._clock)
        client = BleakClient(
            device,
            disconnected_callback=lambda _: inbox.on_lost(),
            services=[str(service)],
            timeout=self._budget.attempt_seconds,
            bluez={} if self._radio.adapter is None else {"adapter": self._radio.adapter},
            backend=self._radio.backend.client if self._radio.backend else None,
        )
        # a task of its own: cancelling BlueZ's connect takes as long as a disconnect, and no lane waits for that
        connecting = self._spawn(client.connect())
        try:
            await asyncio.shield(connecting)
            state, outgoing, incoming = _characteristics(client, service)
            await client.start_notify(state, lambda _, value: inbox.on_state(bytes(value)))
            await client.start_notify(incoming, lambda _, value: inbox.on_data(bytes(value)))
            inbox.check()
        except BaseException:
            connecting.cancel()
            self._spawn(self._let_go(client, connecting))
            raise
        return _Ready(client, inbox, state, outgoing)

    async def _begin(self, ready: _Ready) -> GattLink:
        """Write State = start. From here on the session is spent: no second try."""
        link = GattLink(
            ready.client,
            ready.inbox,
            state=ready.state,
            outgoing=ready.outgoing,
            opened_at=self._clock.monotonic(),
            spawn=self._spawn,
            disconnect=self._forget,
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

    def _scanner(self, heard: AdvertisementDataCallback, services: list[str]) -> BleakScanner:
        return BleakScanner(
            heard,
            services,
            bluez={} if self._radio.adapter is None else {"adapter": self._radio.adapter},
            backend=self._radio.backend.scanner if self._radio.backend else None,
        )

    async def _forget(self, link: GattLink) -> None:
        await self._disconnect(link.client)
        self._links.discard(link)

    async def _let_go(self, client: BleakClient, connecting: asyncio.Task[None]) -> None:
        await asyncio.wait({connecting}, timeout=DISCONNECT_SECONDS)
        await self._disconnect(client)

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


def _characteristics(
    client: BleakClient, service: UUID
) -> tuple[BleakGATTCharacteristic, BleakGATTCharacteristic, BleakGATTCharacteristic]:
    """State, Client2Server, Server2Client of the phone's service with the properties of table 5. Raises LinkProtocolError."""
    offered = client.services.get_service(service)
    if offered is None:
        raise LinkProtocolError("the phone does not serve what it advertised")

    def characteristic(uuid: UUID, *properties: str) -> BleakGATTCharacteristic:
        found = offered.get_characteristic(uuid)
        if found is None or not set(properties) <= set(found.properties):
            raise LinkProtocolError("the phone's service lacks a characteristic or one of its properties")
        return found

    table = ble.PERIPHERAL_SERVER
    return (
        characteristic(table.state, "notify", "write-without-response"),
        characteristic(table.client_to_server, "write-without-response"),
        characteristic(table.server_to_client, "notify"),
    )
