"""Tones that tell yes, no, wait and fault apart without sight: each has a rhythm of its own, and all are low enough for old ears.

Hearing goes from the top down with age, so that no tone lives above 1 kHz; overtones make it carry through small loudspeakers.
"""

from __future__ import annotations

import io
import math
import struct
import wave
from collections.abc import Mapping
from functools import cache

from drivers.ports import Light

RATE = 22_050
"""Samples a second; 16 bits, one channel."""
PROBE_S = 0.02

Notes = tuple[tuple[int, int], ...]
"""(hertz, milliseconds) each; 0 Hz is a pause."""

TONES: Mapping[Light, Notes] = {
    # Short, long, rising.
    Light.GREEN: ((523, 120), (0, 50), (784, 280)),
    # Short, short, long, falling.
    Light.RED: ((330, 130), (0, 70), (330, 130), (0, 70), (220, 420)),
    # One short.
    Light.WAIT: ((440, 100),),
    # Long, short, short, all on one low note.
    Light.FAULT: ((196, 480), (0, 110), (196, 110), (0, 90), (196, 110)),
}
"""Idle is silent: a lane that nobody uses disturbs nobody."""

_OVERTONES = ((1, 0.6), (2, 0.25), (3, 0.1))
_RAMP_S = 0.006
"""A note that begins or ends at once clicks."""


def _note(hertz: int, seconds: float) -> list[int]:
    count, ramp = int(RATE * seconds), int(RATE * _RAMP_S)
    if not hertz:
        return [0] * count
    samples = []
    for at in range(count):
        level = sum(share * math.sin(2 * math.pi * hertz * order * at / RATE) for order, share in _OVERTONES)
        edge = min(1.0, at / ramp, (count - 1 - at) / ramp)
        samples.append(int(level * edge * 0.8 * 32767))
    return samples


def encode(samples: list[int]) -> bytes:
    """A WAV file of 16-bit samples."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return out.getvalue()


@cache
def tone(light: Light) -> bytes:
    """The light's tone as a WAV file. Raises KeyError for one that is silent."""
    return encode([sample for hertz, length in TONES[light] for sample in _note(hertz, length / 1000)])


@cache
def silence() -> bytes:
    """A WAV file that nobody hears: whether the sound device takes it says whether there is one."""
    return encode([0] * int(RATE * PROBE_S))
