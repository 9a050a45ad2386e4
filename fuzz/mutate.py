"""A small seeded mutator, so that a short run needs no fuzzing engine and finds the same each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

_INTERESTING = (
    0x00,
    0x01,
    0x17,
    0x18,
    0x1B,
    0x3B,
    0x40,
    0x5F,
    0x7F,
    0x80,
    0x9B,
    0xA0,
    0xBF,
    0xC2,
    0xD8,
    0xF6,
    0xF9,
    0xFF,
)
"""Heads of CBOR kinds, and edges of lengths in CBOR, DER and NDEF."""


def mutations(seeds: Sequence[bytes], *, seed: int, count: int, max_bytes: int = 4096) -> Iterator[bytes]:
    """`count` inputs: the seeds themselves, a few bombs, then up to four changes at a time."""
    random = Random(seed)  # noqa: S311  # repeatable, not secret
    first = [*seeds, b"", b"\x00", b"\xff" * 64, b"\x81" * 600, b"\xa1\x01" * 300]
    yield from first[:count]
    for _ in range(count - len(first)):
        data = bytearray(random.choice(seeds))
        for _ in range(random.randint(1, 4)):
            _change(data, random, seeds)
        yield bytes(data[:max_bytes])


def _change(data: bytearray, random: Random, seeds: Sequence[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    size = random.choice((1, 1, 2, 4, 16, 64))
    match random.randrange(8):
        case 0 if data:
            data[at % len(data)] ^= 1 << random.randrange(8)
        case 1 if data:
            data[at % len(data)] = random.choice(_INTERESTING)
        case 2 if data:
            data[at % len(data)] = (data[at % len(data)] + random.choice((-1, 1))) % 256
        case 3:
            del data[at : at + size]
        case 4:
            data[at:at] = random.randbytes(size)
        case 5:
            data[at:at] = data[at : at + size]
        case 6:
            del data[at:]
        case _:
            other = random.choice(seeds)
            begin = random.randrange(len(other) + 1)
            data[at : at + size] = other[begin : begin + size]
