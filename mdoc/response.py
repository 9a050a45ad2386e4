"""DeviceResponse (18013-5 8.3.2.1.2.2): read strictly, with the bytes of every signed or hashed part as received.

DeviceResponse = {"version": tstr, ? "documents": [+ Document], ? "documentErrors": [+ {docType: int}], "status": uint}
Document = {"docType", "issuerSigned": {? "nameSpaces": {ns: [+ IssuerSignedItemBytes]}, "issuerAuth": COSE_Sign1},
            "deviceSigned": {"nameSpaces": #6.24(bstr {ns: {el: value}}), "deviceAuth": {"deviceSignature" | "deviceMac"}},
            ? "errors": {ns: {el: int}}}

What else a version 1.1 response holds (zkDocuments, encryptedDocuments, otherDocuments) is kept as bytes: it is no document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mdoc import cbor, cose, limits
from mdoc.cbor import Encoded, ItemBudget, head
from mdoc.errors import MalformedError
from mdoc.transcript import SessionTranscript

STATUS_OK = 0
_VERSIONS = frozenset(f"1.{minor}" for minor in range(10))
_KNOWN = frozenset({"version", "documents", "documentErrors", "status"})
MAX_DOCUMENTS = 8
"""A gate asks for one or two."""


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
    errors: Mapping[str, Mapping[str, int]]
    """{namespace: {element: error code}} of what the holder's side left out."""


@dataclass(slots=True)
class DeviceResponse:
    version: str
    status: int
    documents: tuple[Document, ...]
    document_errors: tuple[tuple[str, int], ...]
    """(docType, error code) of documents that are not returned."""
    other: Mapping[str, bytes]
    """Members that this version of the reader does not know, each as received."""
    budget: ItemBudget
    """What the response has left of the items that one message may hold; the layers inside take from it."""

    @classmethod
    def parse(cls, raw: bytes) -> DeviceResponse:
        """Raises MalformedError."""
        budget = ItemBudget()
        body = cbor.decode_map(raw, budget=budget)
        # An optional member that is null or undefined says what its absence says; some producers write that.
        version, status, errors = body.get("version"), body.get("status"), body.get("documentErrors")
        documents = body.get("documents")
        if documents is None:
            documents = []
        if type(version) is not str or version not in _VERSIONS:
            raise MalformedError("device response: version 1.x is expected")
        if type(status) is not int or status < 0:
            raise MalformedError("device response: status is expected")
        if type(documents) is not list or len(documents) > MAX_DOCUMENTS:
            raise MalformedError("device response: documents is a short array")
        return cls(
            version,
            status,
            tuple([_document(entry, budget) for entry in documents]),
            () if errors is None else _document_errors(errors),
            {} if _KNOWN.issuperset(body) else _others(raw),
            budget,
        )


def _others(raw: bytes) -> dict[str, bytes]:
    found = {}
    for key, value in cbor.entries(raw).items():
        if type(key) is not str:
            raise MalformedError("device response: a key is text")
        if key not in _KNOWN:
            found[key] = value
    return found


def _document_errors(value: Any) -> tuple[tuple[str, int], ...]:
    if type(value) is not list or not all(type(entry) is dict for entry in value):
        raise MalformedError("device response: documentErrors is an array of maps")
    pairs = [pair for entry in value for pair in entry.items()]
    if not all(type(doc_type) is str and type(code) is int for doc_type, code in pairs):
        raise MalformedError("device response: documentErrors is [{docType: int}]")
    return tuple(pairs)


def _errors(value: Any) -> dict[str, dict[str, int]]:
    if type(value) is not dict:
        raise MalformedError("document: errors is a map")
    for space, codes in value.items():
        if type(space) is not str or type(codes) is not dict:
            raise MalformedError("document: errors is {namespace: {element: int}}")
        if not all(type(element) is str and type(code) is int for element, code in codes.items()):
            raise MalformedError("document: errors is {namespace: {element: int}}")
    found: dict[str, dict[str, int]] = value
    return found


def _need(body: Any, key: str, what: str) -> Any:
    if type(body) is not dict or key not in body:
        raise MalformedError(f"{what}: {key} is expected")
    return body[key]


def _item(entry: Any, budget: ItemBudget) -> IssuerSignedItem:
    if type(entry) is not Encoded:
        raise MalformedError("issuer-signed item: tag 24 is expected")
    body = cbor.decode_map(entry.content, budget=budget)
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


def _document(entry: Any, budget: ItemBudget) -> Document:
    doc_type = _need(entry, "docType", "document")
    if type(doc_type) is not str or not doc_type:
        raise MalformedError("document: docType is text")
    issuer_signed = _need(entry, "issuerSigned", "document")
    device_signed = _need(entry, "deviceSigned", "document")
    issuer_auth = cose.parse_sign1(_need(issuer_signed, "issuerAuth", "issuerSigned"), "issuerAuth")
    spaces = issuer_signed.get("nameSpaces")
    if spaces is None:
        spaces = {}
    elif type(spaces) is not dict:
        raise MalformedError("issuerSigned: nameSpaces is a map")
    items: dict[str, tuple[IssuerSignedItem, ...]] = {}
    for space, entries in spaces.items():
        if type(space) is not str or type(entries) is not list or not entries:
            raise MalformedError("issuerSigned: {namespace: [+ item]} is expected")
        items[space] = tuple([_item(item, budget) for item in entries])
    device_bytes = _need(device_signed, "nameSpaces", "deviceSigned")
    if type(device_bytes) is not Encoded:
        raise MalformedError("deviceSigned: tag 24 is expected")
    device_spaces = cbor.decode_map(device_bytes.content, budget=budget)
    for space, elements in device_spaces.items():
        if type(space) is not str or type(elements) is not dict or not all(type(key) is str for key in elements):
            raise MalformedError("deviceSigned: {namespace: {element: value}} is expected")
    auth = _need(device_signed, "deviceAuth", "deviceSigned")
    if type(auth) is not dict:
        raise MalformedError("deviceAuth: one of deviceSignature and deviceMac is expected")
    # Holders made with some libraries write the one they do not use as `undefined`.
    if [name for name, proof in auth.items() if proof is not None] not in (["deviceSignature"], ["deviceMac"]):
        raise MalformedError("deviceAuth: one of deviceSignature and deviceMac is expected")
    signature = mac = None
    if auth.get("deviceSignature") is not None:
        signature = cose.parse_sign1(auth["deviceSignature"], "deviceSignature")
    else:
        mac = cose.parse_mac0(auth["deviceMac"], "deviceMac")
    errors = {} if entry.get("errors") is None else _errors(entry["errors"])
    if any(item.element in errors[space] for space in errors for item in items.get(space, ())):
        raise MalformedError("document: an error for an element that is there")
    return Document(
        doc_type,
        items,
        issuer_auth,
        device_bytes,
        device_spaces,
        signature,
        mac,
        errors,
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
