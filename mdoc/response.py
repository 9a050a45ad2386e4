"""DeviceResponse (18013-5 8.3.2.1.2.2): read strictly, with the bytes of every signed or hashed part as received.

Document = {"docType", "issuerSigned": {? "nameSpaces": {ns: [+ IssuerSignedItemBytes]}, "issuerAuth": COSE_Sign1},
            "deviceSigned": {"nameSpaces": #6.24(bstr {ns: {el: value}}), "deviceAuth": {"deviceSignature" | "deviceMac"}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mdoc import cbor, cose, limits
from mdoc.cbor import Encoded, head
from mdoc.errors import MalformedError
from mdoc.transcript import SessionTranscript

STATUS_OK = 0


@dataclass(slots=True)
class IssuerSignedItem:
    raw: bytes
    """IssuerSignedItemBytes with its tag head: what the digest is over."""
    digest_id: int
    element: str
    value: Any


@dataclass(slots=True)
class Document:
    doc_type: str
    name_spaces: Mapping[str, tuple[IssuerSignedItem, ...]]
    issuer_auth: cose.Sign1
    device_name_spaces_bytes: Encoded
    device_name_spaces: Mapping[str, Mapping[str, Any]]
    device_signature: cose.Sign1 | None
    device_mac: cose.Mac0 | None
    """Exactly one of the two is set."""


@dataclass(slots=True)
class DeviceResponse:
    version: str
    status: int
    documents: tuple[Document, ...]

    @classmethod
    def parse(cls, raw: bytes) -> DeviceResponse:
        """Raises MalformedError."""
        body = cbor.decode_map(raw)
        version, status, documents = body.get("version"), body.get("status"), body.get("documents", [])
        if type(version) is not str or not version.startswith("1."):
            raise MalformedError("device response: version 1.x is expected")
        if type(status) is not int:
            raise MalformedError("device response: status is expected")
        if type(documents) is not list:
            raise MalformedError("device response: documents is an array")
        return cls(version, status, tuple([_document(entry) for entry in documents]))


def _need(body: Any, key: str, what: str) -> Any:
    if type(body) is not dict or key not in body:
        raise MalformedError(f"{what}: {key} is expected")
    return body[key]


def _item(entry: Any) -> IssuerSignedItem:
    if type(entry) is not Encoded:
        raise MalformedError("issuer-signed item: tag 24 is expected")
    body = cbor.decode_map(entry.content)
    try:
        number, random, element, value = (
            body["digestID"],
            body["random"],
            body["elementIdentifier"],
            body["elementValue"],
        )
    except KeyError:
        raise MalformedError("issuer-signed item: a member is missing") from None
    if type(number) is not int or number < 0 or type(element) is not str or type(random) is not bytes:
        raise MalformedError("issuer-signed item: a member has the wrong type")
    if not limits.MIN_RANDOM <= len(random) <= limits.MAX_RANDOM:
        raise MalformedError("issuer-signed item: random too short or too long")
    return IssuerSignedItem(entry.raw, number, element, value)


def _document(entry: Any) -> Document:
    doc_type = _need(entry, "docType", "document")
    if type(doc_type) is not str:
        raise MalformedError("document: docType is text")
    issuer_signed = _need(entry, "issuerSigned", "document")
    device_signed = _need(entry, "deviceSigned", "document")
    issuer_auth = cose.parse_sign1(_need(issuer_signed, "issuerAuth", "issuerSigned"), "issuerAuth")
    spaces = issuer_signed.get("nameSpaces") or {}
    if type(spaces) is not dict:
        raise MalformedError("issuerSigned: nameSpaces is a map")
    items: dict[str, tuple[IssuerSignedItem, ...]] = {}
    for space, entries in spaces.items():
        if type(space) is not str or type(entries) is not list or not entries:
            raise MalformedError("issuerSigned: {namespace: [+ item]} is expected")
        items[space] = tuple([_item(item) for item in entries])
    device_bytes = _need(device_signed, "nameSpaces", "deviceSigned")
    if type(device_bytes) is not Encoded:
        raise MalformedError("deviceSigned: tag 24 is expected")
    device_spaces = cbor.decode_map(device_bytes.content)
    for space, elements in device_spaces.items():
        if type(space) is not str or type(elements) is not dict or not all(type(key) is str for key in elements):
            raise MalformedError("deviceSigned: {namespace: {element: value}} is expected")
    auth = _need(device_signed, "deviceAuth", "deviceSigned")
    if type(auth) is not dict or len(auth) != 1:
        raise MalformedError("deviceAuth: one of deviceSignature and deviceMac is expected")
    signature, mac = auth.get("deviceSignature"), auth.get("deviceMac")
    if signature is None and mac is None:
        raise MalformedError("deviceAuth: one of deviceSignature and deviceMac is expected")
    return Document(
        doc_type,
        items,
        issuer_auth,
        device_bytes,
        device_spaces,
        None if signature is None else cose.parse_sign1(signature, "deviceSignature"),
        None if mac is None else cose.parse_mac0(mac, "deviceMac"),
    )


def device_authentication(transcript: SessionTranscript, doc_type: str, device_name_spaces: Encoded) -> bytes:
    """DeviceAuthenticationBytes: what the device signs or MACs (9.1.3.4)."""
    array = (
        head(4, 4)
        + cbor.encode("DeviceAuthentication")
        + transcript.raw
        + cbor.encode(doc_type)
        + device_name_spaces.raw
    )
    return Encoded.wrap(array).raw
