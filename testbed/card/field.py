"""Cards at a reader: on nfcpy's virtual antenna (ISO-DEP over `udp`), and on PC/SC's virtual reader (vpcd)."""

from __future__ import annotations

import threading

from testbed.card.card import Card
from testbed.phone.isodep import Application, Ended, IsoDepTarget
from testbed.phone.nfc_vpcd import VirtualCard

FWI = 8
"""Frame waiting time 77 ms, as cards announce it; a slower answer is asked time for."""
CARD_ATR = bytes.fromhex("3B85800180 73C02180 96")
"""As PC/SC makes it of an ATS (part 3, 3.1.3.2.3.1): historical bytes with the card's capabilities (7816-4 12.1.1.9), which are
selection by full and partial name and command chaining. OpenSC takes a card without any for a product that has no ECDSA.
"""


class NfcHolder:
    """Whoever holds cards to the antenna on 127.0.0.1:`port`. `present` blocks: run it in a thread, `stop` ends it."""

    def __init__(self, port: int, *, fwi: int = FWI) -> None:
        self._port, self._fwi = port, fwi
        self._lock = threading.Lock()
        self._target: IsoDepTarget | None = None
        self._stopped = False

    def present(self, card: Card, *, wait: float = 10.0, vanish_after_frames: int | None = None) -> Ended:
        """Hold one card to the reader until it deselects, the field goes off or the card is pulled away.

        Other cards and phones at the antenna are waited for, at most `wait` seconds, then OSError is raised; NO_READER when no
        reader comes for so long. Raises what `card` raises.
        """
        target = IsoDepTarget(self._port, card.uid, fwi=self._fwi, vanish_after_frames=vanish_after_frames)
        with self._lock:
            self._target = target
            if self._stopped:
                target.stop()
        card.power_on()
        try:
            return target.serve(card.transmit, wait)
        finally:
            with self._lock:
                self._target = None
            target.close()

    @property
    def waiting_times_asked(self) -> int:
        """How often the card under way has asked the reader for more time (S(WTX))."""
        with self._lock:
            return 0 if self._target is None else self._target.wtx_sent

    def stop(self) -> None:
        """End the presentation under way, and every later one at once."""
        with self._lock:
            self._stopped = True
            if self._target is not None:
                self._target.stop()


def present_by_nfc(card: Card, port: int, *, wait: float = 10.0, vanish_after_frames: int | None = None) -> Ended:
    """One presentation that nobody needs to stop; as NfcHolder.present."""
    return NfcHolder(port).present(card, wait=wait, vanish_after_frames=vanish_after_frames)


def lay_on_pcsc(card: Card, port: int) -> VirtualCard:
    """Lay the card on the virtual reader on 127.0.0.1:`port`, until `remove` of the answer is called.

    Raises OSError when no reader listens.
    """

    def power_on() -> Application:
        card.power_on()
        return card.transmit

    return VirtualCard(port, power_on, atr=CARD_ATR)
