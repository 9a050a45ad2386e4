"""DER by hand, for the shapes that no library writes."""

from __future__ import annotations

from mdoc.certificates import der


def tlv(tag: int, content: bytes) -> bytes:
    """One element."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + content


def parts(raw: bytes, tag: int = der.SEQUENCE) -> list[bytes]:
    """The members of the one element that `raw` is, each with its head."""
    begin, end = der.whole(raw, tag)
    found = []
    for _tag, _start, stop in der.children(raw, begin, end):
        found.append(raw[begin:stop])
        begin = stop
    return found
