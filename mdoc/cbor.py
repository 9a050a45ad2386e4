"""The one CBOR reader (RFC 8949): strict, bounded, and it keeps received bytes where they are hashed or signed.

Everything tagged 24 ("encoded CBOR data item") comes back as `Encoded` with the exact bytes that were received, so that a
digest or signature is never computed over a re-encoding (18013-5 9.1.2.4). Non-minimal heads are accepted, since genuine
wallets emit them. Refused: indefinite lengths, duplicate keys, reserved simple values, trailing bytes, text that is not
UTF-8, anything over mdoc.limits.
"""

from __future__ import annotations

import struct
from typing import Any

import cbor2

from mdoc import limits
from mdoc.errors import MalformedError


class Encoded:
    """An encoded CBOR data item (#6.24): `raw` with its tag and length heads as received, `content` without."""

    __slots__ = ("content", "raw")

    def __init__(self, raw: bytes, content: bytes) -> None:
        self.raw = raw
        self.content = content

    @classmethod
    def wrap(cls, content: bytes) -> Encoded:
        """Tag `content` ourselves, with the shortest heads."""
        return cls(b"\xd8\x18" + head(2, len(content)) + content, content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Encoded) and other.raw == self.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"Encoded({len(self.content)} bytes)"


class Tag:
    """Any other tagged item."""

    __slots__ = ("number", "value")

    def __init__(self, number: int, value: Any) -> None:
        self.number = number
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tag) and (other.number, other.value) == (self.number, self.value)

    def __hash__(self) -> int:
        return hash((self.number, str(self.value)))

    def __repr__(self) -> str:
        return f"Tag({self.number}, {self.value!r})"


def head(major: int, argument: int) -> bytes:
    """Shortest head of major type `major` (0 to 7) with `argument`."""
    first = major << 5
    if argument < 24:
        return bytes((first | argument,))
    if argument < 0x100:
        return bytes((first | 24, argument))
    if argument < 0x10000:
        return bytes((first | 25,)) + argument.to_bytes(2, "big")
    if argument < 0x100000000:
        return bytes((first | 26,)) + argument.to_bytes(4, "big")
    return bytes((first | 27,)) + argument.to_bytes(8, "big")


def _write(encoder: cbor2.CBOREncoder, value: Any) -> None:
    match value:
        case Encoded():
            encoder.write(value.raw)
        case Tag():
            encoder.encode(cbor2.CBORTag(value.number, value.value))
        case _:
            raise TypeError(f"{type(value).__name__} has no CBOR form here")


def encode(value: Any) -> bytes:
    """Encode with shortest heads, map order as given. `Encoded` is written as its received bytes."""
    return cbor2.dumps(value, default=_write)


def decode(data: bytes, *, max_bytes: int = limits.MAX_MESSAGE) -> Any:
    """Decode exactly one item. Maps become dict, arrays list, undefined None. Raises MalformedError."""
    if len(data) > max_bytes:
        raise MalformedError(f"{len(data)} bytes, at most {max_bytes}")
    try:
        value, end = _item(data, 0, 0, [limits.MAX_ITEMS])
    except (IndexError, struct.error):
        raise MalformedError("ends too early") from None
    except UnicodeDecodeError:
        raise MalformedError("text that is not UTF-8") from None
    if end != len(data):
        raise MalformedError("bytes after the item")
    return value


def decode_map(data: bytes, *, max_bytes: int = limits.MAX_MESSAGE) -> dict[Any, Any]:
    """`decode`, and the item must be a map."""
    value = decode(data, max_bytes=max_bytes)
    if type(value) is not dict:
        raise MalformedError("a map is expected")
    return value


_SIMPLE = {20: False, 21: True, 22: None, 23: None}


def _item(data: bytes, at: int, depth: int, budget: list[int]) -> tuple[Any, int]:
    """The item that starts at `at`, and the position after it. One function: calls are what costs here."""
    first = data[at]
    start = at
    at += 1
    major = first >> 5
    argument = first & 31
    if argument > 23:
        if argument == 24:
            argument = data[at]
            at += 1
        elif argument == 25:
            argument = (data[at] << 8) | data[at + 1]
            at += 2
        elif argument == 26:
            argument = int.from_bytes(_take(data, at, 4), "big")
            at += 4
        elif argument == 27:
            argument = int.from_bytes(_take(data, at, 8), "big")
            at += 8
        else:
            raise MalformedError("indefinite or reserved length")
    if major == 3:
        end = at + argument
        if end > len(data):
            raise MalformedError("ends too early")
        return data[at:end].decode(), end
    if major == 2:
        end = at + argument
        if end > len(data):
            raise MalformedError("ends too early")
        return data[at:end], end
    if major == 0:
        return argument, at
    if major == 1:
        return -1 - argument, at
    if major == 7:
        return _simple(data, start, at, argument)
    if depth >= limits.MAX_DEPTH:
        raise MalformedError("nested too deep")
    depth += 1
    if major == 5:
        budget[0] -= 2 * argument
        if budget[0] < 0:
            raise MalformedError("too many items")
        return _map(data, at, argument, depth, budget)
    if major == 4:
        budget[0] -= argument
        if budget[0] < 0:
            raise MalformedError("too many items")
        entries = []
        for _ in range(argument):
            value, at = _item(data, at, depth, budget)
            entries.append(value)
        return entries, at
    value, end = _item(data, at, depth, budget)
    if argument == 24:
        if type(value) is not bytes:
            raise MalformedError("tag 24 without a byte string")
        return Encoded(data[start:end], value), end
    return Tag(argument, value), end


def _map(data: bytes, at: int, count: int, depth: int, budget: list[int]) -> tuple[dict[Any, Any], int]:
    """The entries of a map. Short numbers, texts and byte strings are read in place: a call costs more than they do."""
    entries: dict[Any, Any] = {}
    numbers = 0
    size = len(data)
    for _ in range(count):
        first = data[at]
        if 0x60 <= first < 0x78:
            end = at + first - 0x5F
            key: Any = data[at + 1 : end].decode()
            at = end
        elif first < 0x18:
            key = first
            at += 1
            numbers += 1
        else:
            key, at = _item(data, at, depth, budget)
            kind = type(key)
            if kind is int:
                numbers += 1
            elif kind is not str and kind is not bytes:
                raise MalformedError("a map key that is neither number, text nor bytes")
        if numbers > limits.MAX_INT_KEYED_MAP:
            raise MalformedError("too many entries in a map with whole-number keys")
        if key in entries:
            raise MalformedError("the same map key twice")
        first = data[at]
        if first < 0x18:
            entries[key] = first
            at += 1
        elif 0x60 <= first < 0x78:
            end = at + first - 0x5F
            entries[key] = data[at + 1 : end].decode()
            at = end
        elif first == 0x58:
            end = at + 2 + data[at + 1]
            entries[key] = data[at + 2 : end]
            at = end
        else:
            entries[key], at = _item(data, at, depth, budget)
        if at > size:
            raise MalformedError("ends too early")
    return entries, at


def _simple(data: bytes, start: int, at: int, argument: int) -> tuple[Any, int]:
    info = data[start] & 31
    if info in _SIMPLE:
        return _SIMPLE[info], at
    if info == 27:
        return struct.unpack_from(">d", data, start + 1)[0], at
    if info == 26:
        return struct.unpack_from(">f", data, start + 1)[0], at
    if info == 25:
        return struct.unpack_from(">e", data, start + 1)[0], at
    raise MalformedError(f"simple value {argument}")


def _take(data: bytes, at: int, count: int) -> bytes:
    piece = data[at : at + count]
    if len(piece) != count:
        raise MalformedError("ends too early")
    return piece
