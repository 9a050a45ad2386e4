"""QR codes from one frame: zxing-cpp on every frame, a second look now and then.

zxing-cpp with QR only takes 1 ms for an empty frame of 1280x720. The second look sharpens the frame for zxing, which reads half
of those out of focus by half a module and more (5 ms), and then, every other time, asks pyzbar, which reads some with strong
moire (17 ms). So it is taken at most twice a second, and only when something has moved without a result. A decoder that fails
on a frame has found nothing in it: frames are what strangers hold before the camera.
"""

from __future__ import annotations

import cv2
import zxingcpp
from numpy import abs as absolute
from numpy import asarray, int16, mean, uint8
from numpy.typing import NDArray
from pyzbar import pyzbar

from drivers.camera.limits import MAX_CODES, MAX_PAYLOAD

Frame = NDArray[uint8]
"""Grey values, height x width."""

SECOND_LOOK_S, ZBAR_S = 0.5, 1.0
"""From one second look to the next, and from one that asks pyzbar to the next."""
MOTION = 6.0
"""Mean grey-level change of the thinned frame that counts as motion. Sensor noise stays below 2."""
SETTLE_S = 2.0
"""After motion the second look goes on for this long: a phone is readable when it has come to rest, not while it moves."""
THIN = 8
BLUR_SIDE, SHARPEN = 9, 3.0
"""Pixels and weight of the unsharp mask. A module out of focus is 3 to 10 pixels wide; a box is as good as a Gaussian here."""
_QR_ONLY = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)


def by_zxing(frame: Frame) -> list[bytes]:
    """Payloads of the QR codes found, normal, mirrored or inverted; at most MAX_CODES."""
    try:
        found = [bytes(code.bytes) for code in zxingcpp.read_barcodes(frame, formats=_QR_ONLY)]
    except Exception:  # an empty frame is a ValueError; what else the C++ code may raise is not documented
        return []
    return _within_limits(found)


def by_zxing_sharpened(frame: Frame) -> list[bytes]:
    """As by_zxing, of the frame with its edges raised."""
    try:
        blurred = cv2.blur(frame, (BLUR_SIDE, BLUR_SIDE))
        raised = asarray(cv2.addWeighted(frame, 1 + SHARPEN, blurred, -SHARPEN, 0), uint8)
    except cv2.error:  # an empty frame
        return []
    return by_zxing(raised)


def by_zbar(frame: Frame) -> list[bytes]:
    """Another reader. Its byte mode is not exact; every format of ours is plain ASCII."""
    try:
        found = [bytes(code.data) for code in pyzbar.decode(frame, symbols=[pyzbar.ZBarSymbol.QRCODE])]
    except Exception:  # an empty frame is a ZeroDivisionError; what else the C code may raise is not documented
        return []
    return _within_limits(found)


def _within_limits(found: list[bytes]) -> list[bytes]:
    return [payload for payload in found if 0 < len(payload) <= MAX_PAYLOAD][:MAX_CODES]


class Decoder:
    """Decides frame by frame whether a second look is worth its time."""

    def __init__(self) -> None:
        self.moved = False
        """Whether something had moved in the newest frame."""
        self.second = False
        """Whether only the second look could read it."""
        self._thin: NDArray[int16] | None = None
        self._moved_at = float("-inf")
        self._looked_at = self._zbar_at = float("-inf")

    def read(self, frame: Frame, now: float) -> list[tuple[bytes, str]]:
        """(payload, `zxing` or `zbar`) of the codes in `frame`, taken at `now` (seconds, monotonic)."""
        thin = frame[::THIN, ::THIN].astype(int16)
        self.moved = (
            self._thin is not None
            and thin.size > 0
            and self._thin.shape == thin.shape
            and bool(mean(absolute(thin - self._thin)) > MOTION)
        )
        if self.moved:
            self._moved_at = now
        self._thin = thin
        found, by, self.second = by_zxing(frame), "zxing", False
        if found:
            self._moved_at = float("-inf")
        elif now - self._moved_at <= SETTLE_S and now - self._looked_at >= SECOND_LOOK_S:
            self._looked_at = now
            found = by_zxing_sharpened(frame)
            if not found and now - self._zbar_at >= ZBAR_S:
                self._zbar_at = now
                found, by = by_zbar(frame), "zbar"
            self.second = bool(found)
        return [(payload, by) for payload in found]
