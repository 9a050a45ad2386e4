"""DeviceRequest with reader authentication (18013-5 8.3.2.1.2.1 and 9.1.4): built by the reader, read by the holder.

DeviceRequest = {"version": tstr, "docRequests": [+ {"itemsRequest": #6.24(bstr ItemsRequest), ? "readerAuth": COSE_Sign1}]}
ItemsRequest  = {"docType": tstr, "nameSpaces": {ns: {element: intentToRetain bool}}}
ReaderAuthentication = ["ReaderAuthentication", SessionTranscript, ItemsRequestBytes], detached
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mdoc import cbor, cose
from mdoc.cbor import Encoded, head
from mdoc.errors import MalformedError
from mdoc.transcript import SessionTranscript


@dataclass(frozen=True, slots=True)
class RequestedItems:
    """One document's worth of a request: {namespace: elements}. intentToRetain is false for every one: a gate keeps nothing."""

    doc_type: str
    elements: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class ReaderIdentity:
    """Reader authentication key and its certificates, leaf first, self-signed root left out."""

    private_key: ec.EllipticCurvePrivateKey
    certificates: Sequence[x509.Certificate]


@dataclass(frozen=True, slots=True)
class DocRequest:
    items: RequestedItems
    retained: frozenset[tuple[str, str]]
    """(namespace, element) asked with intentToRetain = true."""
    items_bytes: Encoded
    reader_auth: cose.Sign1 | None


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    version: str
    doc_requests: tuple[DocRequest, ...]

    @classmethod
    def parse(cls, raw: bytes) -> DeviceRequest:
        """Raises MalformedError."""
        body = cbor.decode_map(raw)
        version, requests = body.get("version"), body.get("docRequests")
        if type(version) is not str or not version.startswith("1.") or type(requests) is not list or not requests:
            raise MalformedError("device request: version 1.x and docRequests are expected")
        return cls(version, tuple(_doc_request(entry) for entry in requests))


def _doc_request(entry: Any) -> DocRequest:
    if type(entry) is not dict or type(entry.get("itemsRequest")) is not Encoded:
        raise MalformedError("device request: itemsRequest is expected")
    items_bytes: Encoded = entry["itemsRequest"]
    body = cbor.decode_map(items_bytes.content)
    doc_type, name_spaces = body.get("docType"), body.get("nameSpaces")
    if type(doc_type) is not str or type(name_spaces) is not dict or not name_spaces:
        raise MalformedError("items request: docType and nameSpaces are expected")
    elements: dict[str, list[str]] = {}
    retained: set[tuple[str, str]] = set()
    for name_space, wanted in name_spaces.items():
        if type(name_space) is not str or type(wanted) is not dict or not wanted:
            raise MalformedError("items request: {namespace: {element: bool}} is expected")
        for element, retain in wanted.items():
            if type(element) is not str or type(retain) is not bool:
                raise MalformedError("items request: {namespace: {element: bool}} is expected")
            elements.setdefault(name_space, []).append(element)
            if retain:
                retained.add((name_space, element))
    auth = entry.get("readerAuth")
    return DocRequest(
        RequestedItems(doc_type, elements),
        frozenset(retained),
        items_bytes,
        None if auth is None else cose.parse_sign1(auth, "readerAuth"),
    )


def reader_authentication(transcript: SessionTranscript, items_bytes: Encoded) -> bytes:
    """ReaderAuthenticationBytes: what a reader signs (9.1.4.4)."""
    array = head(4, 3) + cbor.encode("ReaderAuthentication") + transcript.raw + items_bytes.raw
    return Encoded.wrap(array).raw


def build_request(items: RequestedItems, transcript: SessionTranscript, identity: ReaderIdentity) -> bytes:
    """DeviceRequest version 1.0 for one document, signed by the reader."""
    body = {
        "docType": items.doc_type,
        "nameSpaces": {ns: dict.fromkeys(elements, False) for ns, elements in items.elements.items()},
    }
    items_bytes = Encoded.wrap(cbor.encode(body))
    chain = [certificate.public_bytes(Encoding.DER) for certificate in identity.certificates]
    auth = cose.build_sign1(
        identity.private_key,
        reader_authentication(transcript, items_bytes),
        detached=True,
        unprotected={cose.X5CHAIN: chain[0] if len(chain) == 1 else chain},
    )
    return cbor.encode({"version": "1.0", "docRequests": [{"itemsRequest": items_bytes, "readerAuth": auth}]})
