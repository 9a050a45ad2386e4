"""QR codes from one frame: zxing-cpp on every frame, pyzbar as a second look now and then.

zxing-cpp with QR only takes 0.5 ms for an empty 640x480 frame, pyzbar 9 ms; pyzbar reads some frames that zxing does not
(large modules with strong blur). So pyzbar looks at most twice a second, and only when something has moved without a result.
"""

from __future__ import annotations

import zxingcpp
from numpy import abs as absolute
from numpy import int16, mean, uint8
from numpy.typing import NDArray
from pyzbar import pyzbar

Frame = NDArray[uint8]
"""Grey values, height x width."""

MAX_PAYLOAD = 4296
"""Alphanumeric characters in a version 40 code at level L: the most a QR code can hold."""
SECOND_LOOK_S = 0.5
MOTION = 6.0
"""Mean grey-level change of the thinned frame that counts as motion. Sensor noise stays below 2."""
THIN = 8
_QR_ONLY = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)


def by_zxing(frame: Frame) -> list[bytes]:
    """Payloads of all QR codes found, normal, mirrored or inverted."""
    found = zxingcpp.read_barcodes(frame, formats=_QR_ONLY)
    return [bytes(code.bytes) for code in found if 0 < len(code.bytes) <= MAX_PAYLOAD]


def by_zbar(frame: Frame) -> list[bytes]:
    """The second reader. Its byte mode is not exact; every format of ours is plain ASCII."""
    if frame.size == 0:
        return []  # pyzbar divides by the frame's size
    found = pyzbar.decode(frame, symbols=[pyzbar.ZBarSymbol.QRCODE])
    return [bytes(code.data) for code in found if 0 < len(code.data) <= MAX_PAYLOAD]


class Decoder:
    """Decides frame by frame whether a second look is worth its time."""

    def __init__(self) -> None:
        self._thin: NDArray[int16] | None = None
        self._moved = False
        self._looked_at = float("-inf")

    def read(self, frame: Frame, now: float) -> list[tuple[bytes, str]]:
        """(payload, `zxing` or `zbar`) of the codes in `frame`, taken at `now` (seconds, monotonic)."""
        thin = frame[::THIN, ::THIN].astype(int16)
        if self._thin is not None and self._thin.shape == thin.shape:
            self._moved = self._moved or bool(mean(absolute(thin - self._thin)) > MOTION)
        self._thin = thin
        found = by_zxing(frame)
        if found:
            self._moved = False
            return [(payload, "zxing") for payload in found]
        if self._moved and now - self._looked_at >= SECOND_LOOK_S:
            self._looked_at, self._moved = now, False
            return [(payload, "zbar") for payload in by_zbar(frame)]
        return []
