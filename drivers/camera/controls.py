"""Frame size, exposure and flicker of a V4L2 device. A phone is a small bright screen in a dim hall: left to itself a camera
exposes for the hall, and the code blows out.

OpenCV carries all but the power line, for which V4L2 is asked directly; its controls belong to the device, whoever opens it.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Protocol

import cv2

from drivers.camera.settings import CameraSettings

MANUAL, APERTURE_PRIORITY, AUTOMATIC = 1, 3, 0
"""V4L2_CID_EXPOSURE_AUTO. Most USB cameras call their automatic exposure aperture priority."""
EXPOSURE_UNIT_US = 100
NEAR = 0.2
"""A camera has steps of its own: an exposure this near what was asked for is taken for it."""
SET_CONTROL = 0xC008561C
"""VIDIOC_S_CTRL: _IOWR('V', 28, struct v4l2_control)."""
POWER_LINE_FREQUENCY = 0x00980918
"""V4L2_CID_POWER_LINE_FREQUENCY."""
POWER_LINE = {50: 1, 60: 2}


class Settable(Protocol):
    """What is used of cv2.VideoCapture."""

    def set(self, propId: int, value: float, /) -> bool: ...  # noqa: N803  OpenCV's name

    def get(self, propId: int, /) -> float: ...  # noqa: N803  OpenCV's name


def use(capture: Settable, settings: CameraSettings) -> tuple[str, ...]:
    """Ask for what `settings` say, nothing else. Returns what was refused, of figures.CONTROLS."""
    refused: list[str] = []
    if settings.width is not None and settings.height is not None:
        refused += _size(capture, settings.width, settings.height)
    if settings.exposure_us is not None and not _exposure(capture, settings.exposure_us):
        refused.append("exposure")
    if settings.gain is not None and not _holds(capture, cv2.CAP_PROP_GAIN, settings.gain):
        refused.append("gain")
    if settings.power_line_hz is not None and not _power_line(settings.device or "", settings.power_line_hz):
        refused.append("power_line")
    return tuple(refused)


def _size(capture: Settable, width: int, height: int) -> list[str]:
    """Uncompressed, USB 2 carries 720p at some 10 frames a second only: JPEG is asked for with the size."""
    mjpg = cv2.VideoWriter.fourcc(*"MJPG")
    capture.set(cv2.CAP_PROP_FOURCC, mjpg)
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
    found = [] if int(capture.get(cv2.CAP_PROP_FOURCC)) == mjpg else ["mjpg"]
    got = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    return found if got == (width, height) else [*found, "size"]


def _exposure(capture: Settable, exposure_us: int | str) -> bool:
    if isinstance(exposure_us, str):
        return any(_holds(capture, cv2.CAP_PROP_AUTO_EXPOSURE, each) for each in (APERTURE_PRIORITY, AUTOMATIC))
    if not _holds(capture, cv2.CAP_PROP_AUTO_EXPOSURE, MANUAL):
        return False
    asked = max(1, round(exposure_us / EXPOSURE_UNIT_US))
    taken = capture.set(cv2.CAP_PROP_EXPOSURE, asked)
    return taken and abs(capture.get(cv2.CAP_PROP_EXPOSURE) - asked) <= max(1, NEAR * asked)


def _holds(capture: Settable, control: int, value: int) -> bool:
    """Some drivers clamp a value and say that all is well."""
    return capture.set(control, value) and int(capture.get(control)) == value


def _power_line(device: str, hertz: int) -> bool:
    control = struct.pack("=Ii", POWER_LINE_FREQUENCY, POWER_LINE[hertz])
    try:
        node = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(node, SET_CONTROL, control)
        finally:
            os.close(node)
    except OSError:
        return False
    return True
