"""What a camera is asked for. No heavy import: the agent's process and the worker's both read it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from drivers.camera.limits import MAX_FPS

FPS = 15.0
"""Frames decoded a second at most: a code is seen within 70 ms, and some ten cameras of 720p fit one core."""
MAX_SIDE = 8192
MIN_EXPOSURE_US, MAX_EXPOSURE_US = 100, 500_000
"""The unit of V4L2's exposure time is 100 us."""
MAX_GAIN = 65_535
MIN_SHARE = 0.05
"""A region smaller than this holds no code that a person could aim at."""


@dataclass(frozen=True, slots=True)
class Region:
    """The part of each frame that is decoded, in fractions of its width and height; x and y are the upper left corner's."""

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        """Raises ValueError for a region that is not inside the frame."""
        for begin, share in ((self.x, self.width), (self.y, self.height)):
            if not (math.isfinite(begin) and math.isfinite(share)):
                raise ValueError("a region in fractions of the frame is expected")
            # 0.3 + 0.7 is a little more than 1.
            if begin < 0 or share < MIN_SHARE or begin + share > 1 + 1e-9:
                raise ValueError("a region inside the frame is expected: x, y, width, height in fractions")

    def pixels(self, width: int, height: int) -> tuple[slice, slice]:
        """Rows and columns of a frame of that size; never none of either in a frame that has some."""
        left, top = int(self.x * width), int(self.y * height)
        right, bottom = math.ceil((self.x + self.width) * width), math.ceil((self.y + self.height) * height)
        return slice(top, min(bottom, height)), slice(left, min(right, width))


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """None leaves a camera as it is; what it refuses is told (CameraFigures.refused) and is no error."""

    source: str
    """A device number or path, a stream address or a video file; never logged, it may hold a password."""
    fps: float = FPS
    region: Region | None = None
    width: int | None = None
    height: int | None = None
    exposure_us: int | Literal["auto"] | None = None
    """Microseconds, or the camera's own control."""
    gain: int | None = None
    """In the camera's own unit."""
    power_line_hz: Literal[50, 60] | None = None
    """Of the lamps, against flicker."""

    def __post_init__(self) -> None:
        """Raises ValueError for settings that no camera has."""
        if not self.source or "\0" in self.source:
            raise ValueError("a camera's source is expected")
        if not 0 < self.fps <= MAX_FPS:
            raise ValueError(f"a frame rate of up to {MAX_FPS:g} is expected")
        if (self.width is None) != (self.height is None):
            raise ValueError("a width and a height are expected together")
        if self.width is not None and self.height is not None:
            _between(self.width, 16, MAX_SIDE, "a frame size")
            _between(self.height, 16, MAX_SIDE, "a frame size")
        if self.exposure_us not in (None, "auto"):
            _between(self.exposure_us, MIN_EXPOSURE_US, MAX_EXPOSURE_US, "an exposure time")
        if self.gain is not None:
            _between(self.gain, 0, MAX_GAIN, "a gain")
        if self.power_line_hz not in (None, 50, 60):
            raise ValueError("a power line of 50 or 60 Hz is expected")
        controls = (self.width, self.exposure_us, self.gain, self.power_line_hz)
        if self.device is None and any(each is not None for each in controls):
            raise ValueError("size, exposure, gain and power line are for a device; a stream's are set at the camera")

    @property
    def device(self) -> str | None:
        """The path of a device; None for a stream or a file."""
        if self.source.startswith("/dev/"):
            return self.source
        if self.source.isascii() and self.source.isdigit() and len(self.source) <= 3:
            return f"/dev/video{int(self.source)}"
        return None

    def body(self) -> dict[str, Any]:
        """For JSON; `parse` reads it."""
        return asdict(self)


def _between(value: object, low: int, high: int, what: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{what} from {low} to {high} is expected")


def parse(body: object) -> CameraSettings:
    """Raises ValueError."""
    if not isinstance(body, dict):
        raise ValueError("settings: an object is expected")
    try:
        region = body.get("region")
        return CameraSettings(**{**body, "region": None if region is None else Region(**region)})
    except (TypeError, AttributeError) as error:
        raise ValueError("settings: unknown or missing fields, or of a wrong type") from error
