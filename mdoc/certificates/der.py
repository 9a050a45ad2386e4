"""The one DER reader (X.690 10): just what certificates and revocation lists need, strict and bounded.

Positions instead of copies, since a certificate is read on the way to an open door. Refused: tags above 30, indefinite or
longer-than-needed lengths, anything that ends outside its parent, bytes left over.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from mdoc.errors import MalformedError

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
ENUMERATED, UTC_TIME, GENERALIZED_TIME = 0x0A, 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31


def element(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """(tag, begin, end) of the content of the element at `at` inside data[:end]. Raises MalformedError."""
    begin = at + 2
    if begin > end:
        raise MalformedError("DER: ends too early")
    tag, length = data[at], data[at + 1]
    if tag & 0x1F == 0x1F:
        raise MalformedError("DER: a tag above 30")
    if length > 0x7F:
        count = length & 0x7F
        if not 1 <= count <= 4 or begin + count > end:
            raise MalformedError("DER: a length that is indefinite or too long")
        length = int.from_bytes(data[begin : begin + count], "big")
        begin += count
        if length < 0x80 or length >> (8 * (count - 1)) == 0:
            raise MalformedError("DER: a length longer than needed")
    if begin + length > end:
        raise MalformedError("DER: ends too early")
    return tag, begin, begin + length


def expect(data: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """(begin, end) of the content of the element at `at`, which must carry `tag`."""
    begin = at + 2
    if begin <= end and data[at] == tag and data[at + 1] < 0x80:  # most are short, and a call costs more than they do
        stop = begin + data[at + 1]
        if stop <= end:
            return begin, stop
    found, begin, stop = element(data, at, end)
    if found != tag:
        raise MalformedError(f"DER: tag {found:#x} where {tag:#x} is expected")
    return begin, stop


def children(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Every element in data[begin:end], as `element` gives it."""
    while begin < end:
        tag, start, stop = element(data, begin, end)
        yield tag, start, stop
        begin = stop


def whole(data: bytes, tag: int) -> tuple[int, int]:
    """The content of the one element that `data` is."""
    begin, end = expect(data, 0, len(data), tag)
    if end != len(data):
        raise MalformedError("DER: bytes after the element")
    return begin, end


def integer(data: bytes, begin: int, end: int) -> int:
    """An INTEGER's value from its content."""
    if begin == end:
        raise MalformedError("DER: an empty integer")
    if end - begin > 1 and (
        (data[begin] == 0 and data[begin + 1] < 0x80) or (data[begin] == 0xFF and data[begin + 1] > 0x7F)
    ):
        raise MalformedError("DER: an integer longer than needed")
    return int.from_bytes(data[begin:end], "big", signed=True)


def boolean(data: bytes, begin: int, end: int) -> bool:
    if end - begin != 1 or data[begin] not in (0x00, 0xFF):
        raise MalformedError("DER: a boolean is 00 or FF")
    return data[begin] == 0xFF


def moment(data: bytes, tag: int, begin: int, end: int) -> datetime:
    """UTCTime or GeneralizedTime in the one form that RFC 5280 4.1.2.5 allows: whole seconds, `Z`."""
    text = data[begin:end]
    digits = text[:-1]
    if text[-1:] != b"Z" or not digits.isdigit():
        raise MalformedError("DER: a time in another form")
    if tag == UTC_TIME and len(digits) == 12:
        year = int(digits[:2])
        year += 1900 if year >= 50 else 2000
        digits = digits[2:]
    elif tag == GENERALIZED_TIME and len(digits) == 14:
        year = int(digits[:4])
        digits = digits[4:]
    else:
        raise MalformedError("DER: a time in another form")
    number = int(digits)
    try:
        return datetime(
            year,
            number // 100000000,
            number // 1000000 % 100,
            number // 10000 % 100,
            number // 100 % 100,
            number % 100,
            tzinfo=UTC,
        )
    except ValueError:
        raise MalformedError("DER: no such time") from None


def oid(dotted: str) -> bytes:
    """Content bytes of an object identifier; for tables, so that what is compared is what was received."""
    first, second, *rest = map(int, dotted.split("."))
    out = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        out.extend(reversed(groups))
    return bytes(out)


_MAX_DOTTED = 64
"""Bytes. An arc of thousands of digits costs seconds to print, and Python refuses to."""


def dotted(content: bytes) -> str:
    """An object identifier's content in dotted form, for messages; of one longer than any in use only its beginning, in hex."""
    if len(content) > _MAX_DOTTED:
        return f"{content[:8].hex()}..."
    arcs: list[int] = []
    value = 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            arcs.append(value)
            value = 0
    if not arcs:
        return "?"
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))
