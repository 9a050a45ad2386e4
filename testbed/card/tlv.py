"""Tag, length, value for the card's side: BER as cards speak it (ISO/IEC 7816-4 5.2.2), which is also DER (X.690 10.1) where
every length has its shortest form.
"""

from __future__ import annotations

from collections.abc import Iterator

SEQUENCE, SET, OID, OCTET_STRING, INTEGER = 0x30, 0x31, 0x06, 0x04, 0x02


class TlvError(ValueError):
    """Bytes that are not data objects. Holds no content."""


def tlv(tag: int, *values: bytes) -> bytes:
    """One data object around the values put together; the tag as a number, 0x5FC101 for three bytes."""
    value = b"".join(values)
    return tag.to_bytes((tag.bit_length() + 7) // 8 or 1) + length(len(value)) + value


def length(size: int) -> bytes:
    """The shortest length field."""
    if size < 0x80:
        return bytes((size,))
    width = (size.bit_length() + 7) // 8
    return bytes((0x80 | width,)) + size.to_bytes(width)


def objects(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, value) of each data object, no deeper. Tags of at most three bytes, lengths of at most two. Raises TlvError."""
    at = 0
    while at < len(raw):
        start = at
        at += 1
        if raw[start] & 0x1F == 0x1F:
            while at < len(raw) and raw[at] & 0x80 and at - start < 2:
                at += 1
            at += 1
        tag = int.from_bytes(raw[start:at])
        if at >= len(raw):
            raise TlvError("a data object without a length")
        size, at = raw[at], at + 1
        if size & 0x80:
            width = size & 0x7F
            if width not in (1, 2) or at + width > len(raw):
                raise TlvError("a length field")
            size, at = int.from_bytes(raw[at : at + width]), at + width
        if at + size > len(raw):
            raise TlvError("a data object longer than what holds it")
        yield tag, raw[at : at + size]
        at += size


def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER, DER."""
    first, second, *rest = (int(part) for part in dotted.split("."))
    content = bytearray()
    for arc in (first * 40 + second, *rest):
        octets = [arc & 0x7F]
        while arc := arc >> 7:
            octets.append(arc & 0x7F | 0x80)
        content += bytes(reversed(octets))
    return tlv(OID, bytes(content))
