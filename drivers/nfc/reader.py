"""NFC reader over nfcpy (PN532, PN533, RC-S380, ACR122U; `udp:` for the virtual antenna): polls type A, hands over ISO-DEP
cards one at a time.
"""

from __future__ import annotations

import threading

import nfc.clf

from drivers.nfc import loopback
from drivers.nfc.chipset import spare_commands
from drivers.nfc.ecp import Broadcasting, can_broadcast
from drivers.nfc.isodep import FWT_MAX_S, IsoDepSession
from drivers.nfc.threaded import ThreadedCard, ThreadedReader
from drivers.ports import DriverError
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


class NfcpyReader(ThreadedReader):
    """drivers.ports.NfcReader. `path` as nfcpy has it (`tty:AMA0:pn532`, `usb:054c:06c3`), or `udp:127.0.0.1:PORT`.

    Raises ValueError for a path that cannot be one. `max_command` and `max_response` in bytes of a whole APDU.
    `ecp`: call up an iPhone's ID pass (drivers.nfc.ecp) where the chip can; the others poll without.
    """

    def __init__(
        self,
        path: str,
        clock: Clock,
        *,
        max_command: int = MAX_COMMAND,
        max_response: int = MAX_RESPONSE,
        leave_timeout: float = LEAVE_TIMEOUT_S,
        ecp: bool = True,
    ) -> None:
        super().__init__(clock, stop_timeout=STOP_TIMEOUT_S)
        if path.split(":", maxsplit=1)[0] not in ("udp", "tty", "usb"):
            raise ValueError("NFC device: a path beginning with udp:, tty: or usb: is expected")
        self._port = loopback.parse_path(path) if path.startswith("udp") else None
        self._path = path
        self._leave_timeout, self._ecp = leave_timeout, ecp
        self.max_command, self.max_response = max_command, max_response
        self._frontend = nfc.clf.ContactlessFrontend()

    def _prepare(self) -> None:
        loopback.silence_nfcpy()
        self._frontend = nfc.clf.ContactlessFrontend()  # a thread that hangs may still hold the lock of the old one

    # In the device's thread -----------------------------------------------------------------------------------------

    def _open(self, interrupted: threading.Event) -> None:
        try:
            if self._port is not None:
                self._frontend.device = loopback.LoopbackUdp(self._port, interrupted)
            elif not self._frontend.open(self._path):
                raise DriverError(f"no NFC reader answers at {self._path}")
            spare_commands(self._frontend.device)
            if self._ecp and can_broadcast(self._frontend.device):
                self._frontend.device = Broadcasting(self._frontend.device)
        except DriverError:
            raise
        except Exception as error:  # nfcpy, pyserial and libusb each have errors of their own
            raise DriverError(f"NFC reader at {self._path}: {type(error).__name__}") from error

    def _close(self) -> None:
        self._frontend.close()

    def _poll(self, interrupted: threading.Event) -> ThreadedCard | None:
        while not interrupted.is_set():
            looked_at = self._clock.monotonic()
            target = self._look()
            seen_at = self._clock.monotonic()
            if target is not None:
                session = IsoDepSession.activate(self._frontend, target, self._clock, interrupted)
                if session is not None:
                    return ThreadedCard(
                        self, session, seen_at, max_command=self.max_command, max_response=self.max_response
                    )
            interrupted.wait(POLL_PERIOD_S - (self._clock.monotonic() - looked_at))
        return None

    def _look(self) -> nfc.clf.RemoteTarget | None:
        """Field off, field on, one type A target. Raises OSError (device)."""
        try:
            return self._frontend.sense(nfc.clf.RemoteTarget("106A"), iterations=1)
        except (nfc.clf.Error, IndexError, ValueError, TypeError):  # nfcpy trips over answers that it did not expect
            return None

    def _see_off(self, card: ThreadedCard, interrupted: threading.Event) -> None:
        """Deselect, then wait until the field is empty. Raises OSError (device)."""
        card.deselect()
        end = self._clock.monotonic() + self._leave_timeout
        empty = 0
        while empty < LEAVE_LOOKS and self._clock.monotonic() < end and not interrupted.is_set():
            empty = 0 if self._look() else empty + 1
            if empty == 0:
                interrupted.wait(POLL_PERIOD_S)
