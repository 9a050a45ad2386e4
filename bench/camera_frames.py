"""Camera frames with a QR code on a phone's screen, drawn: what a gate's camera sees, one fault at a time and all together.

Models, not photographs: strengths were chosen by eye so that a person would still call the code readable. A frame passes a JPEG
encoder, as one of a USB or network camera does. Everything follows from its seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
import segno
from numpy.random import Generator
from numpy.typing import NDArray

Picture = NDArray[np.float32]
"""Grey values 0 to 255, height x width."""

SIZES = ((640, 480), (1280, 720))
VERSIONS = range(5, 21)
LEVEL = "m"
CODEWORDS = dict(
    zip(VERSIONS, (86, 108, 124, 154, 182, 216, 254, 290, 334, 365, 415, 453, 507, 563, 627, 669), strict=True)
)
"""Data codewords of a version at level M (ISO/IEC 18004 table 7)."""
QUALITY = 80
OVER = 2
"""Frames are drawn this much larger and then reduced, as a lens and a sensor do."""
ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class Fault(StrEnum):
    PLAIN = "plain"
    BLUR = "blur"
    SMEAR = "smear"
    """The hand moves while the shutter is open."""
    OVEREXPOSED = "overexposed"
    """A bright screen in a dark hall: light modules grow into dark ones."""
    GLARE = "glare"
    MOIRE = "moire"
    PERSPECTIVE = "perspective"
    LOW_CONTRAST = "low contrast"
    NOISE = "noise"
    DARK_MODE = "dark mode"
    """Light modules on a dark page."""
    TOGETHER = "all together"
    """Every fault at once, each milder."""
    OUT_OF_FOCUS = "out of focus"
    """By half a module and more: where reading ends. Not among FAULTS."""


FAULTS = tuple(each for each in Fault if each is not Fault.OUT_OF_FOCUS)


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame as a camera sends it."""

    version: int
    size: tuple[int, int]
    fault: Fault
    payload: bytes
    jpeg: bytes


def payload_of(version: int, chance: Generator) -> str:
    """Text that fills `version` at level M: half of them as QR passes have it (alphanumeric), half as engagements (bytes)."""
    wide = version > 9
    bits = 8 * CODEWORDS[version] - 4
    if chance.random() < 0.5:
        head, alphabet = "GM1:", ALPHANUMERIC
        bits -= 11 if wide else 9
        length = bits // 11 * 2 + (bits % 11 >= 6)
    else:
        head, alphabet = "mdoc:", BASE64URL
        length = (bits - (16 if wide else 8)) // 8
    return head + "".join(alphabet[at] for at in chance.integers(0, len(alphabet), length - len(head)))


def modules(text: str) -> NDArray[np.uint8]:
    """0 dark, 1 light, with the quiet zone of 4 modules."""
    code = segno.make(text, error=LEVEL, boost_error=False, micro=False)
    return np.array([[1 - dark for dark in row] for row in code.matrix_iter(border=4)], np.uint8)


def hall(size: tuple[int, int], chance: Generator, scale: int = 1) -> Picture:
    """A dim entrance hall: walls and people out of focus, lamps, sharp edges of door frames and signs."""
    width, height = size[0] * scale, size[1] * scale
    rough = chance.uniform(30, 90, (6, 8)).astype(np.float32)
    picture = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        x, y = int(chance.integers(0, width)), int(chance.integers(0, height))
        far = (x + int(chance.integers(8, width // 4)), y + int(chance.integers(8, height // 2)))
        cv2.rectangle(picture, (x, y), far, float(chance.uniform(20, 130)), -1 if chance.random() < 0.5 else 3 * scale)
    for _ in range(2):
        centre = (int(chance.integers(0, width)), int(chance.integers(0, height // 4)))
        cv2.circle(picture, centre, int(chance.integers(6, 16)) * scale, 250.0, -1)
    return np.asarray(picture, np.float32)


def _outline(side: float, degrees: float, tilt: float, chance: Generator) -> NDArray[np.float32]:
    """Corners of a square around the origin, turned in the plane and tilted about an axis in it, as seen by a pinhole."""
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * side
    axis, lean = chance.uniform(0, np.pi), np.deg2rad(tilt)
    along = np.array([np.cos(axis), np.sin(axis)])
    across = np.array([-along[1], along[0]])
    a, b = corners @ along, corners @ across
    distance = 2.5 * side
    shrink = distance / (distance + b * np.sin(lean))
    tilted = (np.outer(a, along) + np.outer(b * np.cos(lean), across)) * shrink[:, None]
    turn = np.deg2rad(degrees)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return np.asarray(tilted @ rotation, np.float32)


@dataclass(frozen=True, slots=True)
class _Look:
    """How the screen stands before the camera and how bright it is."""

    degrees: float
    tilt: float
    dark: float
    light: float


def _screen(code: NDArray[np.uint8], size: tuple[int, int], look: _Look, share: float, chance: Generator) -> Picture:
    """The hall with a phone in it; the code's side, quiet zone included, is `share` of the frame's height."""
    width, height = size[0] * OVER, size[1] * OVER
    picture = hall(size, chance, OVER)
    centre = np.array([width, height]) * (0.5 + chance.uniform(-0.02, 0.02, 2))
    outline = _outline(height * share, look.degrees, look.tilt, chance)
    for grow, grey in ((1.16, 22.0), (1.06, look.light)):  # the phone's edge and its page
        cv2.fillConvexPoly(picture, (outline * grow + centre).astype(np.int32), grey)
    per_module = max(4, int(np.ceil(2 * height * share / code.shape[0])))
    flat = np.where(code, np.float32(look.light), np.float32(look.dark)).astype(np.float32)
    flat = flat.repeat(per_module, axis=0).repeat(per_module, axis=1)
    end = flat.shape[0]
    before = np.array([[0, 0], [end, 0], [end, end], [0, end]], np.float32)
    matrix = cv2.getPerspectiveTransform(before, (outline + centre).astype(np.float32))
    cv2.warpPerspective(
        flat, matrix, (width, height), dst=picture, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT
    )
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)


def _blur(picture: Picture, sigma: float) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32)


def _smear(picture: Picture, length: float, chance: Generator) -> Picture:
    """Along a straight line of `length` pixels."""
    side = 2 * int(np.ceil(length)) + 1
    kernel = np.zeros((side, side), np.float32)
    angle, middle = chance.uniform(0, np.pi), side // 2
    for step in np.linspace(-length / 2, length / 2, 64):
        x, y = middle + step * np.cos(angle), middle + step * np.sin(angle)
        left, top = int(x), int(y)
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
            kernel[top + dy, left + dx] += (1 - abs(x - left - dx)) * (1 - abs(y - top - dy))
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.float32)


def _overexposed(picture: Picture, factor: float) -> Picture:
    """More light than the sensor takes, and lens flare around it."""
    bright = picture * factor
    return np.clip(bright + 0.25 * cv2.GaussianBlur(bright, (0, 0), 6.0), 0, 255).astype(np.float32)


def _glare(picture: Picture, strength: float, chance: Generator) -> Picture:
    """A lamp mirrored in the glass: an oval that saturates in its middle."""
    height, width = picture.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    middle = np.array([width, height]) / 2 + chance.uniform(-0.22, 0.22, 2) * height
    angle, long, short = chance.uniform(0, np.pi), height * chance.uniform(0.12, 0.18), height * 0.08
    dx, dy = x - middle[0], y - middle[1]
    u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    return np.asarray(picture + strength * np.exp(-((u / long) ** 2 + (v / short) ** 2) / 2), np.float32)


def _moire(picture: Picture, strength: float, chance: Generator) -> Picture:
    """The screen's pixel grid against the sensor's, and the bands of its refresh against a rolling shutter."""
    height, width = picture.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, period, band = chance.uniform(0, np.pi), chance.uniform(4, 14), chance.uniform(height / 16, height / 5)
    grid = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
    bands = np.sin(2 * np.pi * y / band + chance.uniform(0, 6))
    return np.asarray(picture + strength * (0.7 * grid + 0.6 * bands), np.float32)


def _noise(picture: Picture, sigma: float, chance: Generator) -> Picture:
    return np.asarray(picture + chance.normal(0, sigma, picture.shape), np.float32)


def draw(code: NDArray[np.uint8], size: tuple[int, int], fault: Fault, chance: Generator) -> Picture:
    """The code before a camera of `size`, with `fault`."""
    between = chance.uniform
    look = _Look(between(-4, 4), 0.0, between(12, 40), between(190, 240))
    share = between(0.6, 0.85)
    match fault:
        case Fault.BLUR:
            return _blur(_screen(code, size, look, share, chance), between(0.8, 1.5))
        case Fault.OUT_OF_FOCUS:
            module = size[1] * share / code.shape[0]
            return _blur(_screen(code, size, look, share, chance), between(0.5, 0.6) * module)
        case Fault.SMEAR:
            return _smear(_screen(code, size, look, share, chance), between(2.0, 4.5), chance)
        case Fault.OVEREXPOSED:
            return _overexposed(_screen(code, size, look, share, chance), between(1.3, 2.2))
        case Fault.GLARE:
            return _glare(_screen(code, size, look, share, chance), between(60, 150), chance)
        case Fault.MOIRE:
            return _moire(_screen(code, size, look, share, chance), between(12, 32), chance)
        case Fault.PERSPECTIVE:
            tilted = _Look(between(-12, 12), between(12, 28), look.dark, look.light)
            return _screen(code, size, tilted, share, chance)
        case Fault.LOW_CONTRAST:
            dim = between(80, 110)
            pale = _Look(look.degrees, 0.0, dim, dim + between(35, 55))
            return _noise(_screen(code, size, pale, share, chance), 3.0, chance)
        case Fault.NOISE:
            return _noise(_screen(code, size, look, share, chance), between(14, 26), chance)
        case Fault.DARK_MODE:
            return _screen(1 - code, size, _Look(look.degrees, 0.0, look.dark, look.light), share, chance)
        case Fault.TOGETHER:
            tilted = _Look(between(-8, 8), between(3, 14), between(20, 55), between(170, 235))
            picture = _blur(_screen(code, size, tilted, share, chance), between(0.4, 0.8))
            picture = _moire(_glare(picture, between(10, 50), chance), between(3, 10), chance)
            return _noise(picture, between(4, 9), chance)
        case _:
            return _screen(code, size, look, share, chance)


def jpeg(picture: Picture) -> bytes:
    """As a camera sends it, in colour (4:2:0)."""
    grey = np.clip(picture, 0, 255).astype(np.uint8)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise RuntimeError("the frame cannot be encoded")
    return bytes(data)


def shots(
    each: int,
    *,
    versions: Sequence[int] = VERSIONS,
    sizes: Sequence[tuple[int, int]] = SIZES,
    faults: Sequence[Fault] = FAULTS,
    seed: int = 0,
) -> Iterator[Shot]:
    """`each` frames for every version, size and fault."""
    for version in versions:
        for size in sizes:
            for at, fault in enumerate(faults):
                for number in range(each):
                    chance = np.random.default_rng([seed, version, size[0], at, number])
                    text = payload_of(version, chance)
                    picture = draw(modules(text), size, fault, chance)
                    yield Shot(version, size, fault, text.encode(), jpeg(picture))


def empty(size: tuple[int, int], count: int, seed: int = 0) -> list[bytes]:
    """Frames without a code."""
    found = []
    for number in range(count):
        chance = np.random.default_rng([seed, size[0], number])
        found.append(jpeg(_noise(hall(size, chance), 4.0, chance)))
    return found
