"""Every single change of every part, with the signature made anew by whoever may sign that part.

What an attacker without keys can change is outside the signatures and is small. These go further: an issuer, a root or a phone
that signs something slightly wrong. Whatever is accepted then has to say the same as before, or say less than the verifier
needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tests.mdoc import forge
from tests.mdoc.forgeries import x509
from tests.mdoc.forgeries.builder import ROOT, SIGNER, Plan, response
from tests.mdoc.forgeries.wire import Hook, constant, tlv

Mutation = tuple[str, bytes]
"""What was done and where; the bytes."""


def cbor(plain: bytes) -> Iterator[Mutation]:
    """Every structural change of a CBOR item."""
    root = forge.read(plain, lambda _: False)
    for path, change, forged in forge.mutated(root):
        yield f"{'/'.join(path)}: {change}", forged


@dataclass
class Tlv:
    """One DER element; `children` of those that are constructed, and of octet strings that hold DER."""

    tag: int
    content: bytes = b""
    children: list[Tlv] = field(default_factory=list)

    def encode(self) -> bytes:
        return tlv(self.tag, self.content, *(child.encode() for child in self.children))

    def walk(self, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Tlv]]:
        yield path, self
        for number, child in enumerate(self.children):
            yield from child.walk((*path, number))


def read(data: bytes) -> list[Tlv]:
    """Elements one after the other. Raises ValueError for what is not DER."""
    found = []
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise ValueError("cut short")
        tag, length, begin = data[at], data[at + 1], at + 2
        if length > 0x7F:
            count = length & 0x7F
            length, begin = int.from_bytes(data[begin : begin + count], "big"), begin + count
        at = begin + length
        if at > len(data) or tag & 0x1F == 0x1F or tag == 0:
            raise ValueError("cut short, or no tag of a certificate")
        content = data[begin:at]
        element = Tlv(tag, content)
        if tag & 0x20 or tag == 0x04:
            try:
                element = Tlv(tag, children=read(content))
            except ValueError:
                if tag & 0x20:
                    raise
        found.append(element)
    return found


def _changes(element: Tlv) -> Iterator[tuple[str, Callable[[Tlv], None]]]:
    for tag in (0x01, 0x02, 0x04, 0x05, 0x06, 0x0C, 0x30, 0x31, 0x80, 0xA0):
        if tag != element.tag:
            yield f"tag {tag:02x}", partial(_retag, tag=tag)
    yield "empty", _empty
    yield "a byte more", lambda found: found.children.append(Tlv(0x05)) if found.children else _append(found)
    if element.content:
        for at in {0, len(element.content) // 2, len(element.content) - 1}:
            for bit in (0x01, 0x80):
                yield f"byte {at} ^ {bit:02x}", partial(_flip, at=at, bit=bit)
        yield "a byte less", lambda found: setattr(found, "content", found.content[:-1])
        yield "a zero before", lambda found: setattr(found, "content", b"\0" + found.content)
    for at in range(len(element.children)):
        yield f"without {at}", partial(_without, at=at)
        yield f"{at} twice", partial(_again, at=at)
    if len(element.children) > 1:
        yield "turned round", lambda found: found.children.reverse()


def _retag(found: Tlv, tag: int) -> None:
    found.tag = tag


def _without(found: Tlv, at: int) -> None:
    del found.children[at]


def _again(found: Tlv, at: int) -> None:
    found.children.insert(at, found.children[at])


def _empty(found: Tlv) -> None:
    found.content, found.children = b"", []


def _append(found: Tlv) -> None:
    found.content += b"\0"


def _flip(found: Tlv, at: int, bit: int) -> None:
    content = bytearray(found.content)
    content[at] ^= bit
    found.content = bytes(content)


def der(plain: bytes) -> Iterator[Mutation]:
    """Every structural change of a DER element."""
    (root,) = read(plain)
    for path, element in list(root.walk()):
        for name, change in _changes(element):
            before = element.tag, element.content, list(element.children)
            change(element)
            forged = root.encode()
            element.tag, element.content, element.children = before
            if forged != plain:
                yield f"{'.'.join(map(str, path))}: {name}", forged


def _kept(plan: Plan, hook: str) -> bytes:
    """What a part of the genuine presentation is before it is changed."""
    seen: list[bytes] = []

    def keep(part: bytes) -> bytes:
        seen.append(part)
        return part

    hooks: dict[str, Any] = {hook: keep}
    replace(plan, **hooks).build()
    return seen[0]


def _put(plain: bytes, forged: bytes) -> Hook:
    """Only the first of several parts, where a hook sees several."""
    return lambda part: forged if part == plain else part


def issuer_signed(plan: Plan, hook: str) -> Iterator[tuple[str, bytes]]:
    """(what was done, response) for every change of the part that `hook` sees, signed by issuer and device."""
    plain = _kept(plan, hook)
    for name, forged in cbor(plain):
        hooks: dict[str, Any] = {hook: _put(plain, forged)}
        yield name, response(replace(plan, **hooks))


def root_signed() -> Iterator[tuple[str, bytes]]:
    """(what was done, response) for every change of the signer's TBSCertificate, signed by the root."""
    seen: list[bytes] = []

    def keep(tbs: bytes) -> bytes:
        seen.append(tbs)
        return tbs

    genuine = x509.signer(SIGNER, ROOT)
    replace(genuine, tbs=keep).der()
    for name, forged in der(seen[0]):
        certificate = replace(genuine, tbs=constant(forged)).der()
        yield name, response(Plan(chain=[certificate]))
