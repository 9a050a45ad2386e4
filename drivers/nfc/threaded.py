"""A reader whose library blocks, as a port of the event loop: one thread owns the device and hands over cards one at a time.

What the libraries have in common is here; a driver says how to open, find, exchange and let go. The device works only while
somebody waits in `cards()`; a slow or abandoned exchange costs its thread time, never the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Protocol

from drivers.nfc.worker import DeviceThread, ThreadStoppedError
from drivers.ports import DriverError, LinkError, LinkLostError, NfcCard
from protocol.clock import Clock

_log = logging.getLogger(__name__)

RELEASE_TIMEOUT_S = 20.0
"""Longest wait for a device to let go of a card: one frame or block of the exchange given up, and the wait for an empty field.
A device that takes longer hangs, and is started again."""


class CardSession(Protocol):
    """One activated card. Every method blocks and belongs to the device's thread."""

    def transceive(self, command: bytes) -> bytes:
        """One C-APDU out, one R-APDU back. Raises LinkError; anything else means that the device failed."""
        ...

    def deselect(self) -> None:
        """Tell the card that the reader is done. Whatever it raises means that the device failed."""
        ...


class ThreadedCard:
    """One card in the field (drivers.ports.NfcCard). `max_command` and `max_response` are bytes of a whole APDU."""

    def __init__(
        self,
        reader: ThreadedReader,
        session: CardSession,
        present_since: float,
        *,
        max_command: int,
        max_response: int,
    ) -> None:
        self._reader, self._session = reader, session
        self._present_since = present_since
        self._max_command, self._max_response = max_command, max_response
        self._lost: str | None = None
        self._last_byte_at = present_since
        self.released = asyncio.Event()

    @property
    def present_since(self) -> float:
        return self._present_since

    @property
    def max_command(self) -> int:
        return self._max_command

    @property
    def max_response(self) -> int:
        return self._max_response

    @property
    def last_byte_at(self) -> float:
        """Monotonic time at which the newest response was complete, stamped in the device's thread."""
        return self._last_byte_at

    async def transceive(self, command: bytes) -> bytes:
        """One exchange. After a failed or cancelled one every further call raises LinkLostError."""
        if self._lost or self.released.is_set():
            raise LinkLostError(self._lost or "the card has been released")
        self._lost = "an exchange is under way or was given up"
        response = await self._reader.run_exchange(self, command)
        self._lost = None
        return response

    def exchange(self, command: bytes, clock: Clock) -> bytes:
        """In the device's thread."""
        response = self._session.transceive(command)
        self._last_byte_at = clock.monotonic()
        return response

    def deselect(self) -> None:
        """In the device's thread. A lost card is not called after."""
        if self._lost is None:
            self._session.deselect()

    async def release(self) -> None:
        if self.released.is_set():
            return
        try:
            await self._reader.run_release(self)
        finally:
            self.released.set()


class ThreadedReader(ABC):
    """drivers.ports.NfcReader over a blocking library. `stop_timeout`: seconds a device may be inside one call, and some."""

    def __init__(self, clock: Clock, *, stop_timeout: float) -> None:
        self._clock, self._stop_timeout = clock, stop_timeout
        self._thread: DeviceThread | None = None
        self._failed = False
        self._card: ThreadedCard | None = None

    async def start(self) -> None:
        """Open the device. Raises DriverError. A stopped or failed reader may be started again."""
        await self.stop()
        self._failed, self._card = False, None
        self._prepare()
        thread = self._thread = DeviceThread("nfc-reader")
        try:
            await thread.run(lambda: self._open(thread.interrupted))
        except DriverError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End any exchange, close the device, join the thread: at most `stop_timeout` seconds. Ends `cards()`."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        closing = asyncio.ensure_future(thread.run(self._close))
        await asyncio.sleep(0)
        if not await thread.stop(self._stop_timeout):
            _log.error("NFC device does not let go of its thread")
            closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        if self._card is not None:
            self._card.released.set()

    async def cards(self) -> AsyncIterator[NfcCard]:
        """Cards as they enter the field; the next is looked for after `release()`. Ends after `stop()`.

        Raises DriverError when the device is gone.
        """
        while (card := await self._next_card()) is not None:
            yield card
            await card.released.wait()

    async def _next_card(self) -> ThreadedCard | None:
        if self._failed:
            raise DriverError("the NFC device failed")
        try:
            thread = self._running()
            if self._card is not None:
                await self._card.released.wait()
            self._card = await thread.run(lambda: self._find(thread.interrupted))
        except ThreadStoppedError:
            return None
        return self._card

    async def run_exchange(self, card: ThreadedCard, command: bytes) -> bytes:
        """For ThreadedCard. Raises LinkError."""
        try:
            return await self._running().run(lambda: card.exchange(command, self._clock))
        except LinkError:
            raise
        except ThreadStoppedError:
            raise LinkLostError("the reader was stopped") from None
        except Exception as error:  # OSError from a device that is gone; whatever else shows it is not to be relied on
            self._failed = True
            raise LinkLostError("the NFC device failed") from error

    async def run_release(self, card: ThreadedCard) -> None:
        """For ThreadedCard. Never raises but asyncio.CancelledError."""
        try:
            thread = self._running()
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await thread.run(lambda: self._see_off(card, thread.interrupted))
        except ThreadStoppedError:
            pass
        except Exception:  # as in run_exchange; the next look for a card reports it
            self._failed = True

    def _running(self) -> DeviceThread:
        if self._thread is None:
            raise ThreadStoppedError
        return self._thread

    # In the device's thread -----------------------------------------------------------------------------------------

    def _find(self, interrupted: threading.Event) -> ThreadedCard | None:
        try:
            return self._poll(interrupted)
        except Exception as error:  # as in run_exchange
            self._failed = True
            raise DriverError(f"the NFC device failed: {type(error).__name__}") from error

    def _prepare(self) -> None:  # noqa: B027  most devices need nothing
        """Before the thread starts, on the event loop."""

    @abstractmethod
    def _open(self, interrupted: threading.Event) -> None:
        """Raises DriverError."""

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _poll(self, interrupted: threading.Event) -> ThreadedCard | None:
        """Look until a card is active; None when interrupted. Whatever it raises means that the device failed."""

    @abstractmethod
    def _see_off(self, card: ThreadedCard, interrupted: threading.Event) -> None:
        """Deselect, then wait a bounded time until the field is empty. Whatever it raises means that the device failed."""
