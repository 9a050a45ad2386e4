"""The one CBOR reader (RFC 8949): strict, bounded, and it keeps received bytes where they are hashed or signed.

Everything tagged 24 ("encoded CBOR data item") comes back as `Encoded` with the exact bytes that were received, so that a
digest or signature is never computed over a re-encoding (18013-5 9.1.2.4). Non-minimal heads are accepted, since genuine
wallets emit them. Indefinite lengths are refused: every writer of these structures knows their size, and no known producer
sends one. Refused as well: a map key twice at any level, keys that are neither number nor text nor bytes (so that 1, 1.0
and true never meet in one dict), numbers as keys that could be made to collide, simple values nobody assigned, trailing
bytes, text that is not UTF-8, anything over mdoc.limits. Bignums and all other tagged items come back as `Tag` around what
they hold; nothing is computed from it here.
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


class ItemBudget:
    """What is left of the items one message may hold. Passed to the decoding of every layer of one message, it bounds the
    whole; without one each `decode` has a budget of its own."""

    __slots__ = ("left",)

    def __init__(self, items: int = limits.MAX_ITEMS) -> None:
        self.left = items


def decode(data: bytes, *, max_bytes: int = limits.MAX_MESSAGE, budget: ItemBudget | None = None) -> Any:
    """Decode exactly one item. Maps become dict, arrays list, undefined None. Raises MalformedError."""
    if len(data) > max_bytes:
        raise MalformedError(f"{len(data)} bytes, at most {max_bytes}")
    try:
        value, end = _item(data, 0, 0, budget or ItemBudget())
    except (IndexError, struct.error):
        raise MalformedError("ends too early") from None
    except UnicodeDecodeError:
        raise MalformedError("text that is not UTF-8") from None
    if end != len(data):
        raise MalformedError("bytes after the item" if end < len(data) else "ends too early")
    return value


def decode_map(data: bytes, *, max_bytes: int = limits.MAX_MESSAGE, budget: ItemBudget | None = None) -> dict[Any, Any]:
    """`decode`, and the item must be a map."""
    value = decode(data, max_bytes=max_bytes, budget=budget)
    if type(value) is not dict:
        raise MalformedError("a map is expected")
    return value


def entries(data: bytes, *, max_bytes: int = limits.MAX_MESSAGE, budget: ItemBudget | None = None) -> dict[Any, bytes]:
    """The map that `data` is, each value as the bytes received. Raises MalformedError."""
    keys = decode_map(data, max_bytes=max_bytes, budget=budget)
    info, at = data[0] & 31, 1
    at += 0 if info < 24 else 1 << (info - 24)
    found = {}
    budget = ItemBudget()
    for _ in keys:
        key, start = _item(data, at, 0, budget)
        _, at = _item(data, start, 0, budget)
        found[key] = data[start:at]
    return found


# The scanner. One function per container; strings and small numbers inside are read in place, since in Python a call costs
# more than they do. A slice past the end comes out short, but it moves `at` past the end as well, so that the next read fails
# or `decode` sees it at last; nothing is given out before.

_SIMPLE = {20: False, 21: True, 22: None, 23: None}
_MAX_DEPTH = limits.MAX_DEPTH
_MAX_INT_KEY = limits.MAX_INT_KEY
_MAX_INT_KEYED_MAP = limits.MAX_INT_KEYED_MAP


def _item(data: bytes, at: int, depth: int, budget: ItemBudget) -> tuple[Any, int]:
    """The item of any kind that starts at `at`, and the position after it."""
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
    if 2 <= major <= 3:
        end = at + argument
        if end > len(data):
            raise MalformedError("ends too early")
        return (data[at:end] if major == 2 else data[at:end].decode()), end
    if major == 0:
        return argument, at
    if major == 1:
        return -1 - argument, at
    if major == 7:
        return _simple(data, start, at, argument)
    if major == 5:
        return _map(data, at, argument, depth, budget)
    if major == 4:
        return _array(data, at, argument, depth, budget)
    if depth >= _MAX_DEPTH:
        raise MalformedError("nested too deep")
    value, end = _item(data, at, depth + 1, budget)
    if argument == 24:
        if type(value) is not bytes:
            raise MalformedError("tag 24 without a byte string")
        return Encoded(data[start:end], value), end
    return Tag(argument, value), end


def _array(data: bytes, at: int, count: int, depth: int, budget: ItemBudget) -> tuple[list[Any], int]:
    if depth >= _MAX_DEPTH:
        raise MalformedError("nested too deep")
    depth += 1
    budget.left -= count
    if budget.left < 0:
        raise MalformedError("too many items")
    entries: list[Any] = []
    for _ in range(count):
        first = data[at]
        if first == 0xD8 and data[at + 1] == 0x18 and data[at + 2] == 0x58:
            end = at + 4 + data[at + 3]
            entries.append(Encoded(data[at:end], data[at + 4 : end]))
            at = end
        elif first == 0x58:
            end = at + 2 + data[at + 1]
            entries.append(data[at + 2 : end])
            at = end
        elif first < 0x18:
            entries.append(first)
            at += 1
        elif 0xA0 <= first < 0xB8:
            value, at = _map(data, at + 1, first - 0xA0, depth, budget)
            entries.append(value)
        else:
            value, at = _item(data, at, depth, budget)
            entries.append(value)
    return entries, at


def _map(data: bytes, at: int, count: int, depth: int, budget: ItemBudget) -> tuple[dict[Any, Any], int]:
    if depth >= _MAX_DEPTH:
        raise MalformedError("nested too deep")
    depth += 1
    budget.left -= 2 * count
    if budget.left < 0:
        raise MalformedError("too many items")
    entries: dict[Any, Any] = {}
    for _ in range(count):
        first = data[at]
        if 0x60 <= first < 0x78:
            end = at + first - 0x5F
            key: Any = data[at + 1 : end].decode()
            at = end
        elif first < 0x18:
            key = first
            at += 1
        elif first == 0x18:
            key = data[at + 1]
            at += 2
        elif 0x20 <= first < 0x38:
            key = 0x1F - first
            at += 1
        else:
            key, at = _item(data, at, depth, budget)
            kind = type(key)
            if kind is int:
                if not -_MAX_INT_KEY <= key <= _MAX_INT_KEY:
                    raise MalformedError("a map key beyond the numbers that anybody uses")
            elif kind is not str and kind is not bytes:
                raise MalformedError("a map key that is neither number, text nor bytes")
        if key in entries:
            raise MalformedError("the same map key twice")
        first = data[at]
        if first < 0x60:
            if first == 0x58:
                end = at + 2 + data[at + 1]
                entries[key] = data[at + 2 : end]
                at = end
            elif first < 0x18:
                entries[key] = first
                at += 1
            elif 0x40 <= first < 0x58:
                end = at + first - 0x3F
                entries[key] = data[at + 1 : end]
                at = end
            else:
                entries[key], at = _item(data, at, depth, budget)
        elif first < 0x78:
            end = at + first - 0x5F
            entries[key] = data[at + 1 : end].decode()
            at = end
        elif 0xA0 <= first < 0xB8:
            entries[key], at = _map(data, at + 1, first - 0xA0, depth, budget)
        elif first == 0xC0 and 0x60 <= data[at + 1] < 0x78 and depth < _MAX_DEPTH:
            end = at + data[at + 1] - 0x5E
            entries[key] = Tag(0, data[at + 2 : end].decode())
            at = end
        elif 0x80 <= first < 0x98:
            entries[key], at = _array(data, at + 1, first - 0x80, depth, budget)
        elif first == 0x78:
            end = at + 2 + data[at + 1]
            entries[key] = data[at + 2 : end].decode()
            at = end
        else:
            entries[key], at = _item(data, at, depth, budget)
    if count > _MAX_INT_KEYED_MAP and sum(type(key) is int for key in entries) > _MAX_INT_KEYED_MAP:
        raise MalformedError("too many entries in a map with whole-number keys")
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
