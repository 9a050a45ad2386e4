"""Forged and hostile presentations by kind, from a genuine one: what a refusal of each may cost is bounded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cbor, limits
from mdoc.cbor import Encoded
from mdoc.holder import build_response
from mdoc.issue import issue
from mdoc.transcript import SessionTranscript
from testbed import certificates

SMALL = 16 * 1024
SMALL_US, CAP_US = 5_000, 50_000
"""Microseconds a refusal may take: up to 16 kB, and at the cap of 256 kB; in proportion between."""


def bound(size: int) -> float:
    return max(SMALL_US, CAP_US * size / limits.MAX_MESSAGE)


def forgeries(response: bytes) -> Iterator[tuple[str, bytes]]:
    """(kind, bytes). `response` is genuine, with the element value "general" and a device signature."""

    def edited(change: Callable[[dict[Any, Any]], object]) -> bytes:
        body = cbor.decode_map(response)
        change(body["documents"][0])
        return cbor.encode(body)

    def items(document: dict[Any, Any]) -> list[Encoded]:
        found: list[Encoded] = next(iter(document["issuerSigned"]["nameSpaces"].values()))
        return found

    def invented(document: dict[Any, Any]) -> None:
        item = {"digestID": 999, "random": bytes(16), "elementIdentifier": "clearance", "elementValue": "top"}
        items(document).append(Encoded.wrap(cbor.encode(item)))

    def signature(document: dict[Any, Any]) -> None:
        proof = document["deviceSigned"]["deviceAuth"]["deviceSignature"]
        proof[3] = proof[3][::-1]

    def issuer_signature(document: dict[Any, Any]) -> None:
        proof = document["issuerSigned"]["issuerAuth"]
        proof[3] = proof[3][::-1]

    def twice(document: dict[Any, Any]) -> None:
        items(document).append(items(document)[0])

    def many(document: dict[Any, Any]) -> None:
        items(document).extend(items(document)[:1] * 60)

    yield "element value altered", response.replace(b"general", b"GENERAL")
    yield "element invented", edited(invented)
    yield "element twice", edited(twice)
    yield "element 60 times", edited(many)
    yield "document type changed", edited(lambda document: document.update(docType="org.example.other"))
    yield "issuer signature changed", edited(issuer_signature)
    yield "device signature changed", edited(signature)
    yield "no device authentication", edited(lambda document: document["deviceSigned"].pop("deviceAuth"))
    yield "byte after the end", response + b"\0"
    yield "cut off", response[:-1]
    for size in (SMALL, limits.MAX_MESSAGE):
        name = f"{size // 1024} kB"
        yield f"{name} of noise", os.urandom(size)
        yield f"{name} of arrays in arrays", b"\x81" * size
        yield f"{name} of small items", cbor.head(4, size - 5) + b"\0" * (size - 5)
        count = min(limits.MAX_ITEMS // 2 - 1, size // 10 - 1)
        yield f"{name} map of colliding numbers", _padded(_colliding(count), size)
        yield f"{name} map of texts", _padded(_texts(count), size)
        yield f"{name} bignum", b"\xc2" + cbor.head(2, size - 6) + b"\xff" * (size - 6)
        yield f"{name} of documents", _documents(response, size)
        yield f"{name} of issuer-signed items", edited(lambda document, size=size: _fill(items(document), size))  # type: ignore[misc]  # lambda default
    yield "over the cap", bytes(limits.MAX_MESSAGE + 1)


def slowest(documents: int, transcript: SessionTranscript, now: datetime) -> bytes:
    """Well-formed documents of types nobody asked for, each rightly signed by a stranger on the slowest curve there is."""
    root_key, signer, device = (ec.generate_private_key(ec.BrainpoolP512R1()) for _ in range(3))
    begin = now - timedelta(days=1)
    root = certificates.root(root_key, "Stranger", country="KR", not_before=begin, lifetime=timedelta(days=300))
    certificate = certificates.document_signer(signer.public_key(), issuer=root, issuer_key=root_key, not_before=begin)
    found = []
    for number in range(documents):
        credential = issue(
            doc_type=f"org.example.{number}",
            elements={"org.example": {"element": number}},
            device_key=device.public_key(),
            signer=signer,
            certificate=certificate,
            signed=now,
            valid_from=now,
            valid_until=now,
            random_bytes=os.urandom,
        )
        response = cbor.decode_map(build_response(credential, device, {"org.example": ["element"]}, transcript))
        found.append(response["documents"][0])
    return cbor.encode({"version": "1.0", "documents": found, "status": 0})


def _colliding(count: int) -> bytes:
    keys = (cbor.encode((2**61 - 1) * (number % 7 + 1) + (number << 3)) for number in range(count))
    return cbor.head(5, count) + b"".join(key + b"\xf6" for key in keys)


def _texts(count: int) -> bytes:
    return cbor.head(5, count) + b"".join(b"\x64%04x\xf6" % number for number in range(count))


def _padded(item: bytes, size: int) -> bytes:
    """`item` and a byte string of the rest, in one array."""
    rest = max(0, size - len(item) - 6)
    return b"\x82" + item + cbor.head(2, rest) + bytes(rest)


def _documents(response: bytes, size: int) -> bytes:
    body = cbor.decode_map(response)
    document = cbor.encode(body["documents"][0])
    count = max(2, (size - 64) // len(document))
    return b"\xa3\x67version\x631.0\x69documents" + cbor.head(4, count) + document * count + b"\x66status\x00"


def _fill(entries: list[Encoded], size: int) -> None:
    first = entries[0]
    entries.extend([first] * max(1, (size - 2200) // len(first.raw)))
