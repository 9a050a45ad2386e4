"""The open channel to one phone: `drivers.ports.Link` over the three characteristics of mdoc peripheral server mode."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.exc import BleakError

from drivers.ble.inbox import Inbox
from drivers.ports import Carrier, LinkLostError, LinkTimeoutError
from mdoc import ble

SEND_SECONDS = 10.0
"""A message the phone's radio has not taken after this long never will be: 256 kB at 26 kB/s."""
END_SECONDS = 0.5
"""State = end is best effort; a phone that is gone must not hold the radio."""

PEER_ERRORS = (BleakError, OSError, EOFError)
"""What bleak lets through when the phone or its connection goes (EOFError: the D-Bus connection of the client)."""


class GattLink:
    """Made by `BleakCentral`; `spawn` keeps a coroutine running without us, `disconnect` never raises."""

    carrier = Carrier.BLE

    def __init__(
        self,
        client: BleakClient,
        inbox: Inbox,
        *,
        state: BleakGATTCharacteristic,
        outgoing: BleakGATTCharacteristic,
        opened_at: float,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        disconnect: Callable[[GattLink], Coroutine[Any, Any, None]],
    ) -> None:
        self.client = client
        self._inbox = inbox
        self._state = state
        self._outgoing = outgoing
        self._last_byte_at = opened_at
        self._spawn = spawn
        self._disconnect = disconnect
        self._turn = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None

    @property
    def last_byte_at(self) -> float:
        """Before the first message: when the link was opened."""
        return self._last_byte_at

    async def send(self, message: bytes) -> None:
        async with self._turn:
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    # BlueZ may learn the MTU only after the connection is reported, so ask as late as this
                    size = min(self._outgoing.max_write_without_response_size, ble.MAX_VALUE)
                    for chunk in ble.chunks(message, size):
                        self._inbox.check()
                        await self.client.write_gatt_char(self._outgoing, chunk, response=False)
            except TimeoutError:
                raise LinkTimeoutError(f"the phone did not take a message within {SEND_SECONDS:g} s") from None
            except PEER_ERRORS:
                self._inbox.check()
                raise LinkLostError("write failed") from None  # the library's text may name the phone's address

    async def receive(self, timeout: float) -> bytes:
        message, self._last_byte_at = await self._inbox.take(timeout)
        return message

    def close_soon(self) -> asyncio.Task[None]:
        """Start closing and go on; the same task every time."""
        if self._closing is None:
            self._closing = self._spawn(self._close())
        return self._closing

    async def close(self) -> None:
        await asyncio.shield(self.close_soon())

    async def _close(self) -> None:
        if self._inbox.open:
            self._inbox.finish(LinkLostError, "closed by the gate")
            with suppress(TimeoutError, *PEER_ERRORS):
                async with asyncio.timeout(END_SECONDS):
                    await self.client.write_gatt_char(self._state, ble.STATE_END, response=False)
        await self._disconnect(self)
