"""CBOR as others write it: an encoder with heads of any width, and a structural mutator. Shares nothing with mdoc.cbor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
NULL, UNDEFINED = 22, 23


def head(major: int, argument: int, width: int = 0) -> bytes:
    """A head with its argument in `width` bytes (0: in the first byte itself), or in as many more as it takes."""
    while width < 8 and argument >= (24 if width == 0 else 1 << 8 * width):
        width = width * 2 or 1
    if width == 0:
        return bytes((major << 5 | argument,))
    return bytes((major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[width],)) + argument.to_bytes(width, "big")


@dataclass(frozen=True)
class Raw:
    """Bytes written as they are."""

    content: bytes


@dataclass(frozen=True)
class Tagged:
    number: int
    value: Any


UNDEFINED_VALUE = Raw(b"\xf7")


def write(value: Any, wide: Mapping[int, int] | None = None) -> bytes:
    """Encode; `wide` gives the width of a major type's heads in bytes, as some libraries write all of their maps."""
    width = (wide or {}).get
    match value:
        case Raw():
            return value.content
        case Tagged():
            return head(TAG, value.number, width(TAG, 0)) + write(value.value, wide)
        case None:
            return b"\xf6"
        case bool():
            return b"\xf5" if value else b"\xf4"
        case int():
            major, argument = (UINT, value) if value >= 0 else (NEGATIVE, -1 - value)
            return head(major, argument, width(major, 0))
        case bytes():
            return head(BYTES, len(value), width(BYTES, 0)) + value
        case str():
            return head(TEXT, len(value.encode()), width(TEXT, 0)) + value.encode()
        case list() | tuple():
            return head(ARRAY, len(value), width(ARRAY, 0)) + b"".join(write(entry, wide) for entry in value)
        case dict():
            pairs = b"".join(write(key, wide) + write(entry, wide) for key, entry in value.items())
            return head(MAP, len(value), width(MAP, 0)) + pairs
    raise TypeError(type(value).__name__)


@dataclass
class Node:
    """One item of a CBOR tree. Map children stand as key, value, key, value. Byte strings that hold CBOR have one child."""

    major: int
    argument: int
    width: int = 0
    content: bytes = b""
    children: list[Node] = field(default_factory=list)
    embedded: bool = False

    def encode(self) -> bytes:
        body = b"".join(child.encode() for child in self.children)
        if self.major in (BYTES, TEXT):
            content = body if self.embedded else self.content
            return head(self.major, len(content), self.width) + content
        if self.major in (ARRAY, MAP):
            return head(self.major, len(self.children) // (2 if self.major == MAP else 1), self.width) + body
        return head(self.major, self.argument, self.width) + body + self.content

    def walk(self, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Node]]:
        """Every node with the names that lead to it."""
        yield path, self
        for number, child in enumerate(self.children):
            step = "*"
            if self.major == MAP:
                key = self.children[number & ~1]
                step = key.content.decode("utf-8", "replace") if key.major == TEXT else f"{key.major}:{key.argument}"
                step = f"{step} (key)" if number % 2 == 0 else step
            elif self.major == ARRAY:
                step = str(number)
            elif self.major == TAG:
                step = "inside tag"
            elif self.embedded:
                step = "inside"
            yield from child.walk((*path, step))


def read(data: bytes, embedded: Callable[[bytes], bool]) -> Node:
    """A tree from well-formed CBOR; `embedded` says which byte strings to open."""
    node, end = _read(data, 0, embedded)
    if end != len(data):
        raise ValueError("bytes after the item")
    return node


def _read(data: bytes, at: int, embedded: Callable[[bytes], bool]) -> tuple[Node, int]:
    major, info = data[at] >> 5, data[at] & 31
    width = {24: 1, 25: 2, 26: 4, 27: 8}.get(info, 0)
    argument = int.from_bytes(data[at + 1 : at + 1 + width], "big") if width else info
    at += 1 + width
    node = Node(major, argument, width)
    if major in (BYTES, TEXT):
        node.content = data[at : at + argument]
        at += argument
        if major == BYTES and embedded(node.content):
            node.embedded, node.children = True, [read(node.content, embedded)]
    elif major in (ARRAY, MAP, TAG):
        for _ in range({ARRAY: argument, MAP: 2 * argument, TAG: 1}[major]):
            child, at = _read(data, at, embedded)
            node.children.append(child)
    return node, at


def copy(node: Node) -> Node:
    return Node(node.major, node.argument, node.width, node.content, [copy(c) for c in node.children], node.embedded)


def replace(node: Node, other: Node) -> None:
    node.major, node.argument, node.width = other.major, other.argument, other.width
    node.content, node.children, node.embedded = other.content, other.children, other.embedded


REPLACEMENTS: Mapping[str, Callable[[], Node]] = {
    "null": lambda: Node(SIMPLE, NULL),
    "undefined": lambda: Node(SIMPLE, UNDEFINED),
    "false": lambda: Node(SIMPLE, 20),
    "zero": lambda: Node(UINT, 0),
    "empty text": lambda: Node(TEXT, 0),
    "empty bytes": lambda: Node(BYTES, 0),
    "empty array": lambda: Node(ARRAY, 0),
    "empty map": lambda: Node(MAP, 0),
    "float": lambda: Node(SIMPLE, 0x3C00, 2),
}


def mutations(node: Node) -> Iterator[tuple[str, Callable[[Node], None]]]:
    """What can be done to one node, by name. Each changes the node itself and its list of children."""
    for name, make in REPLACEMENTS.items():
        if make().encode() != node.encode():
            yield f"becomes {name}", partial(_become, make=make)
    for width in (1, 2, 4, 8):
        if width > node.width and node.major != SIMPLE:
            yield f"{width}-byte head", partial(_widen, width=width)
    for number in (18, 24, 98):
        yield f"tagged {number}", partial(_tag, number=number)
    yield "in an array", lambda found: replace(found, Node(ARRAY, 1, children=[copy(found)]))
    if node.major == TAG:
        yield "without its tag", lambda found: replace(found, found.children[0])
        yield "another tag", lambda found: setattr(found, "argument", found.argument + 1)
    if node.major in (UINT, NEGATIVE):
        yield "plus one", lambda found: setattr(found, "argument", found.argument + 1)
        yield "as text", lambda found: replace(found, Node(TEXT, 0, content=str(found.argument).encode()))
    if node.major in (BYTES, TEXT) and not node.embedded:
        yield "one byte more", lambda found: setattr(found, "content", found.content + b"0")
        yield "as the other string", lambda found: setattr(found, "major", BYTES + TEXT - found.major)
        if node.content:
            yield "one byte less", lambda found: setattr(found, "content", found.content[:-1])
            yield (
                "last bit",
                lambda found: setattr(found, "content", found.content[:-1] + bytes((found.content[-1] ^ 1,))),
            )
    if node.embedded:
        yield "a byte after it", lambda found: found.children.append(Node(UINT, 0))
    step = 2 if node.major == MAP else 1
    if node.major in (ARRAY, MAP):
        for at in range(0, len(node.children), step):
            yield "entry left out", partial(_without, at=at, step=step)
            yield "entry twice", partial(_again, at=at, step=step)
        if len(node.children) >= 2 * step:
            yield "entries turned round", lambda found: _rotate(found, step)
    if node.major == MAP:
        for at in range(0, len(node.children), 2):
            yield "key twice", partial(_key_again, at=at)
        yield "unknown member", lambda found: found.children.extend([Node(TEXT, 0, content=b"zk"), Node(UINT, 1)])
    if node.major == ARRAY:
        yield "one entry more", lambda found: found.children.append(Node(SIMPLE, NULL))


def _widen(node: Node, width: int) -> None:
    node.width = width


def _tag(node: Node, number: int) -> None:
    replace(node, Node(TAG, number, children=[copy(node)]))


def _become(node: Node, make: Callable[[], Node]) -> None:
    replace(node, make())


def _key_again(node: Node, at: int) -> None:
    node.children.extend([copy(node.children[at]), Node(SIMPLE, NULL)])


def _without(node: Node, at: int, step: int) -> None:
    del node.children[at : at + step]


def _again(node: Node, at: int, step: int) -> None:
    node.children.extend(copy(child) for child in node.children[at : at + step])


def _rotate(node: Node, step: int) -> None:
    node.children = node.children[step:] + node.children[:step]


def mutated(root: Node) -> Iterator[tuple[tuple[str, ...], str, bytes]]:
    """Every mutation of every node: the way to the node, what was done, the bytes."""
    for path, node in list(root.walk()):
        before = (node.major, node.argument, node.width, node.content, node.children, node.embedded)
        for name, change in mutations(node):
            node.children = list(before[4])
            change(node)
            forged = root.encode()
            node.major, node.argument, node.width, node.content, node.children, node.embedded = before
            yield path, name, forged
