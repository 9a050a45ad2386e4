"""NFC reader over nfcpy (PN532, PN533, RC-S380, ACR122U; `udp:` for the virtual antenna): polls type A, hands over ISO-DEP
cards one at a time.

One thread owns nfcpy's frontend. It polls only while somebody waits in `cards()`; a slow or abandoned exchange costs that
thread time, never the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator

import nfc.clf

from drivers.nfc import loopback
from drivers.nfc.isodep import FWT_MAX_S, IsoDepSession
from drivers.nfc.worker import DeviceThread, ThreadStoppedError
from drivers.ports import DriverError, LinkError, LinkLostError, NfcCard
from mdoc.apdu import EXTENDED_COMMAND_DATA, EXTENDED_OVERHEAD, EXTENDED_RESPONSE_DATA
from protocol.clock import Clock

POLL_PERIOD_S = 0.05
"""Shortest time between two looks into the field; a tap is seen within 100 ms."""
LEAVE_LOOKS = 2
"""Looks in a row that find the field empty before a card counts as gone: one may fail while a hand shakes."""
LEAVE_TIMEOUT_S = 3.0
"""Longest wait for a card to leave. Whoever stays longer is taken for the next presentation."""
STOP_TIMEOUT_S = FWT_MAX_S + 1.0
"""Longest time a device may be inside one frame, and some."""
MAX_COMMAND = EXTENDED_COMMAND_DATA + EXTENDED_OVERHEAD
MAX_RESPONSE = EXTENDED_RESPONSE_DATA + 2
"""Bytes of a C-APDU and an R-APDU: block chaining is done here, so the device's own frame size sets no limit."""

_log = logging.getLogger(__name__)


class NfcpyCard:
    """One card in the field (drivers.ports.NfcCard)."""

    def __init__(self, reader: NfcpyReader, session: IsoDepSession, present_since: float) -> None:
        self._reader, self._session = reader, session
        self._present_since = present_since
        self._lost: str | None = None
        self._last_byte_at = present_since
        self.released = asyncio.Event()

    @property
    def present_since(self) -> float:
        return self._present_since

    @property
    def max_command(self) -> int:
        return self._reader.max_command

    @property
    def max_response(self) -> int:
        return self._reader.max_response

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


class NfcpyReader:
    """drivers.ports.NfcReader. `path` as nfcpy has it (`tty:AMA0:pn532`, `usb:054c:06c3`), or `udp:127.0.0.1:PORT`.

    Raises ValueError for a path that cannot be one. `max_command` and `max_response` in bytes of a whole APDU.
    """

    def __init__(
        self,
        path: str,
        clock: Clock,
        *,
        max_command: int = MAX_COMMAND,
        max_response: int = MAX_RESPONSE,
        leave_timeout: float = LEAVE_TIMEOUT_S,
    ) -> None:
        if path.split(":", maxsplit=1)[0] not in ("udp", "tty", "usb"):
            raise ValueError("NFC device: a path beginning with udp:, tty: or usb: is expected")
        self._port = loopback.parse_path(path) if path.startswith("udp") else None
        self._path, self._clock = path, clock
        self._leave_timeout = leave_timeout
        self.max_command, self.max_response = max_command, max_response
        self._thread: DeviceThread | None = None
        self._frontend = nfc.clf.ContactlessFrontend()
        self._failed = False
        self._card: NfcpyCard | None = None

    async def start(self) -> None:
        """Open the device. Raises DriverError. A stopped or failed reader may be started again."""
        await self.stop()
        loopback.silence_nfcpy()
        self._failed, self._card = False, None
        self._frontend = nfc.clf.ContactlessFrontend()  # a thread that hangs may still hold the lock of the old one
        thread = self._thread = DeviceThread("nfc-reader")
        try:
            await thread.run(lambda: self._open(thread.interrupted))
        except DriverError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End any exchange, close the device, join the thread: at most 6 s. Ends `cards()`."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        closing = asyncio.ensure_future(thread.run(self._frontend.close))
        await asyncio.sleep(0)
        if not await thread.stop(STOP_TIMEOUT_S):
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

    async def _next_card(self) -> NfcpyCard | None:
        if self._failed:
            raise DriverError("the NFC device failed")
        try:
            thread = self._running()
            if self._card is not None:
                await self._card.released.wait()
            self._card = await thread.run(lambda: self._poll(thread.interrupted))
        except ThreadStoppedError:
            return None
        return self._card

    async def run_exchange(self, card: NfcpyCard, command: bytes) -> bytes:
        """For NfcpyCard. Raises LinkError."""
        try:
            return await self._running().run(lambda: card.exchange(command, self._clock))
        except LinkError:
            raise
        except ThreadStoppedError:
            raise LinkLostError("the reader was stopped") from None
        except Exception as error:  # OSError from a device that is gone; whatever else shows it is not to be relied on
            self._failed = True
            raise LinkLostError("the NFC device failed") from error

    async def run_release(self, card: NfcpyCard) -> None:
        """For NfcpyCard. Never raises but asyncio.CancelledError."""
        try:
            thread = self._running()
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

    def _open(self, interrupted: threading.Event) -> None:
        try:
            if self._port is not None:
                self._frontend.device = loopback.LoopbackUdp(self._port, interrupted)
            elif not self._frontend.open(self._path):
                raise DriverError(f"no NFC reader answers at {self._path}")
        except DriverError:
            raise
        except Exception as error:  # nfcpy, pyserial and libusb each have errors of their own
            raise DriverError(f"NFC reader at {self._path}: {type(error).__name__}") from error

    def _poll(self, interrupted: threading.Event) -> NfcpyCard | None:
        """Look until an ISO-DEP card is active; None when interrupted. Raises DriverError."""
        try:
            while not interrupted.is_set():
                looked_at = self._clock.monotonic()
                target = self._look()
                seen_at = self._clock.monotonic()
                if target is not None:
                    session = IsoDepSession.activate(self._frontend, target, self._clock, interrupted)
                    if session is not None:
                        return NfcpyCard(self, session, seen_at)
                interrupted.wait(POLL_PERIOD_S - (self._clock.monotonic() - looked_at))
        except Exception as error:  # as in run_exchange
            self._failed = True
            raise DriverError(f"the NFC device failed: {type(error).__name__}") from error
        return None

    def _look(self) -> nfc.clf.RemoteTarget | None:
        """Field off, field on, one type A target. Raises OSError (device)."""
        try:
            return self._frontend.sense(nfc.clf.RemoteTarget("106A"), iterations=1)
        except (nfc.clf.Error, IndexError, ValueError, TypeError):  # nfcpy trips over answers that it did not expect
            return None

    def _see_off(self, card: NfcpyCard, interrupted: threading.Event) -> None:
        """Deselect, then wait until the field is empty. Raises OSError (device)."""
        card.deselect()
        end = self._clock.monotonic() + self._leave_timeout
        empty = 0
        while empty < LEAVE_LOOKS and self._clock.monotonic() < end and not interrupted.is_set():
            empty = 0 if self._look() else empty + 1
            if empty == 0:
                interrupted.wait(POLL_PERIOD_S)
