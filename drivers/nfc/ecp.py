"""Apple's Enhanced Contactless Polling: a frame that a reader sends into the empty field and that nobody answers. An iPhone
near it brings up the pass that is meant, here the ID in Wallet, without its holder looking for it.

The frame is in no public standard; it is the one that Apple's own ID reader sends, REQA then this frame. It needs a chip that
sends a frame as it is given (InCommunicateThru of the PN532); PC/SC has no such way.
"""

from __future__ import annotations

import contextlib
from typing import Any

import nfc.clf
import nfc.clf.pn53x
from nfc.clf import pn532

IDENTITY = bytes.fromhex("6A0281030000")
"""Magic byte, version 2, a body of one byte of terminal information: type 3 (identity), subtype 0, data 0."""
_HOST_TIMEOUT_S = 0.1
_ITEM_TIMINGS, _ANSWER_WINDOW = 0x02, bytes((0x0A, 0x0B, 0x05))
"""RFConfiguration item 2: the first two as nfcpy has them, and 1.6 ms for an answer that does not come."""
_ITEM_RETRIES, _ONE_TRY = 0x05, bytes((0x01, 0x00, 0x00))
"""RFConfiguration item 5: one REQA a look, as in Apple's trace; nfcpy's own setting has two."""


def can_broadcast(device: object) -> bool:
    """PN532, alone or behind an ACR122U. RC-S380 and the virtual antenna send no frame without an answer."""
    return isinstance(device, pn532.Device)


class Broadcasting:
    """A PN532 of nfcpy's that sends `frame` at the end of each look that found nobody, while the field is still on."""

    def __init__(self, device: Any, frame: bytes = IDENTITY) -> None:
        """Raises OSError when the device is gone."""
        self._device, self._frame = device, device.add_crc_a(bytearray(frame))
        device.chipset.rf_configuration(_ITEM_RETRIES, _ONE_TRY)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def sense_tta(self, target: nfc.clf.RemoteTarget) -> nfc.clf.RemoteTarget | None:
        """Raises OSError when the device is gone."""
        found = self._device.sense_tta(target)
        if found is None:
            self._broadcast()
        return found

    def _broadcast(self) -> None:
        chipset = self._device.chipset
        chipset.rf_configuration(_ITEM_TIMINGS, _ANSWER_WINDOW)
        # 106 kbit/s type A. REQA left 7 bits a byte behind; the CRC is ours, so the chip's own is off.
        chipset.write_register(("CIU_TxMode", 0x00), ("CIU_BitFraming", 0x00))
        with contextlib.suppress(nfc.clf.pn53x.Chipset.Error):  # nothing heard, as it should be; or noise
            chipset.in_communicate_thru(self._frame, _HOST_TIMEOUT_S)
