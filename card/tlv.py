"""BER-TLV data objects of cards (ISO/IEC 7816-4 5.2.2), strict and bounded.

Tags of up to three bytes and definite lengths of up to three bytes (81, 82, 83 forms; cards do write a length longer than
needed, and nothing rests on it). Refused: indefinite lengths, an object that ends outside its parent, bytes left over.
"""

from __future__ import annotations

from collections.abc import Mapping

from card import limits
from mdoc.errors import MalformedError


def element(data: bytes, at: int, end: int, what: str) -> tuple[int, int, int]:
    """(tag, begin, end) of the value of the object at `at` inside data[:end]. Raises MalformedError."""
    if at >= end:
        raise MalformedError(f"{what}: ends too early")
    tag, at = data[at], at + 1
    if tag & 0x1F == 0x1F:
        for number in range(3):
            if at >= end or number == 2:
                raise MalformedError(f"{what}: a tag that is cut off or of more than three bytes")
            byte, at = data[at], at + 1
            tag = tag << 8 | byte
            if byte < 0x80:
                break
    if at >= end:
        raise MalformedError(f"{what}: ends too early")
    length, at = data[at], at + 1
    if length >= 0x80:
        width = length & 0x7F
        if not 1 <= width <= 3 or at + width > end:
            raise MalformedError(f"{what}: a length that is indefinite, too long or cut off")
        length, at = int.from_bytes(data[at : at + width]), at + width
    if at + length > end:
        raise MalformedError(f"{what}: ends too early")
    return tag, at, at + length


def items(data: bytes, what: str) -> list[tuple[int, bytes]]:
    """(tag, value) of every object in `data`, in order. Raises MalformedError."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        if len(found) >= limits.MAX_ITEMS:
            raise MalformedError(f"{what}: too many objects")
        tag, begin, at = element(data, at, len(data), what)
        found.append((tag, data[begin:at]))
    return found


def once(data: bytes, what: str) -> Mapping[int, bytes]:
    """{tag: value}, each tag at most once. Raises MalformedError."""
    found = items(data, what)
    mapping = dict(found)
    if len(mapping) != len(found):
        raise MalformedError(f"{what}: an object twice")
    return mapping


def whole(data: bytes, tag: int, what: str) -> bytes:
    """The value of the one object that `data` is. Raises MalformedError."""
    found, begin, end = element(data, 0, len(data), what)
    if found != tag or end != len(data):
        raise MalformedError(f"{what}: one object {tag:X} is expected")
    return data[begin:end]


def encode(tag: int, value: bytes) -> bytes:
    """One object, shortest length form."""
    size = len(value)
    head = tag.to_bytes((tag.bit_length() + 7) // 8)
    if size < 0x80:
        return head + bytes((size,)) + value
    width = (size.bit_length() + 7) // 8
    return head + bytes((0x80 | width,)) + size.to_bytes(width) + value
