"""Any CBOR and any DER, well-formed or not. On top of tests/mdoc/forge.py, which shares nothing with mdoc.cbor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.mdoc.forge import ARRAY, BYTES, MAP, TEXT, Raw, Tagged, head, write

__all__ = [
    "Hook",
    "Raw",
    "Tagged",
    "again",
    "constant",
    "drop",
    "encoded",
    "in_array",
    "indefinite",
    "long_head",
    "oid",
    "pairs",
    "put",
    "renamed",
    "sequence",
    "tagged",
    "tlv",
    "twice",
    "unchanged",
    "under",
    "write",
]

Hook = Callable[[Any], Any]
"""What a forger does to one part of a presentation, on its way to the next step."""


def unchanged(part: Any) -> Any:
    return part


def put(key: Any, value: Any) -> Hook:
    """A map with this member set."""
    return lambda body: {**body, key: value}


def drop(key: Any) -> Hook:
    return lambda body: {name: value for name, value in body.items() if name != key}


def pairs(entries: Iterable[tuple[Any, Any]]) -> Raw:
    """A map of these pairs, whatever the keys are and however often they come."""
    listed = list(entries)
    return Raw(head(MAP, len(listed)) + b"".join(write(key) + write(value) for key, value in listed))


def twice(key: Any, value: Any, *, first: bool = False) -> Hook:
    """A map with one more member under a key that it may have already, at the end or at the beginning."""

    def hook(body: Mapping[Any, Any]) -> Raw:
        members = list(body.items())
        return pairs([(key, value), *members] if first else [*members, (key, value)])

    return hook


def again(key: Any) -> Hook:
    """A map with one of its members a second time."""
    return lambda body: pairs([*body.items(), (key, body[key])])


def renamed(key: str, name: str) -> Hook:
    return lambda body: {**drop(key)(body), name: body[key]}


def constant(value: Any) -> Hook:
    return lambda _: value


def tagged(number: int) -> Hook:
    return lambda part: Tagged(number, part)


def in_array(part: Any) -> Any:
    return [part]


def encoded(part: Any) -> bytes:
    """As a byte string that holds it."""
    return write(part)


def under(key: Any, hook: Hook) -> Hook:
    """`hook` on one member of a map, or one entry of an array."""

    def change(body: Any) -> Any:
        if isinstance(body, list):
            return [hook(entry) if number == key else entry for number, entry in enumerate(body)]
        return {**body, key: hook(body[key])}

    return change


def indefinite(value: Any) -> Raw:
    """A string in two chunks, an array or a map, with a break at its end."""
    match value:
        case bytes():
            return Raw(b"\x5f" + write(value[:1]) + write(value[1:]) + b"\xff")
        case str():
            return Raw(b"\x7f" + write(value[:1]) + write(value[1:]) + b"\xff")
        case dict():
            return Raw(b"\xbf" + b"".join(write(key) + write(entry) for key, entry in value.items()) + b"\xff")
        case _:
            return Raw(b"\x9f" + b"".join(write(entry) for entry in value) + b"\xff")


def long_head(value: Any, width: int = 8) -> Raw:
    """The same item with its own head in `width` bytes."""
    majors: dict[type, int] = {bytes: BYTES, str: TEXT, list: ARRAY, dict: MAP}
    major = majors[type(value)]
    return Raw(write(value, {major: width}))


def tlv(tag: int, *contents: bytes) -> bytes:
    """A DER element."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def sequence(*contents: bytes) -> bytes:
    return tlv(0x30, *contents)


def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER element."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = b""
    for arc in (first * 40 + second, *rest):
        groups = [arc & 0x7F]
        while arc > 0x7F:
            arc >>= 7  # noqa: PLW2901  base 128, lowest digits first
            groups.insert(0, 0x80 | arc & 0x7F)
        content += bytes(groups)
    return tlv(0x06, content)


def integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes((value if value >= 0 else ~value).bit_length() // 8 + 1, "big", signed=True))
