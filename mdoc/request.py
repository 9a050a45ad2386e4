"""DeviceRequest with reader authentication (18013-5 8.3.2.1.2.1 and 9.1.4): built by the reader, read by the holder.

DeviceRequest = {"version": tstr, "docRequests": [+ {"itemsRequest": #6.24(bstr ItemsRequest), ? "readerAuth": COSE_Sign1}],
                 ? "deviceRequestInfo": #6.24(bstr), ? "readerAuthAll": [+ COSE_Sign1]}     the last two from version 1.1 on
ItemsRequest  = {"docType": tstr, "nameSpaces": {ns: {element: intentToRetain bool}}, ? "requestInfo": map}
ReaderAuthentication    = ["ReaderAuthentication", SessionTranscript, ItemsRequestBytes], detached
ReaderAuthenticationAll = ["ReaderAuthenticationAll", SessionTranscript, [+ ItemsRequestBytes], DeviceRequestInfoBytes / nil]
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mdoc import cbor, cose
from mdoc.cbor import Encoded, ItemBudget, head
from mdoc.errors import MalformedError
from mdoc.transcript import SessionTranscript

_VERSIONS = frozenset(f"1.{minor}" for minor in range(10))
_KNOWN = frozenset({"version", "docRequests", "deviceRequestInfo", "readerAuthAll"})
MAX_DOCUMENTS = 8


@dataclass(frozen=True, slots=True)
class RequestedItems:
    """One document's worth of a request: {namespace: elements}. intentToRetain is false for every one: a gate keeps nothing."""

    doc_type: str
    elements: Mapping[str, Sequence[str]]
    required: Mapping[str, Collection[str]] | None = None
    """What has to come back, of `elements`: the holder may decline the rest. None: everything. Empty: not even the document."""
    unlimited: bool = False
    """The request is not known (a response from a file): any element and any number of documents of this type may be there."""

    @property
    def needed(self) -> Mapping[str, Collection[str]]:
        return self.elements if self.required is None else self.required

    @property
    def optional(self) -> bool:
        """The holder may leave the whole document out."""
        return self.required is not None and not any(self.required.values())


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
    request_info: bytes | None
    """requestInfo as received; this holder acts on nothing in it."""


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    version: str
    doc_requests: tuple[DocRequest, ...]
    device_request_info: Encoded | None
    """deviceRequestInfo as received; ReaderAuthAll signs it."""
    reader_auth_all: tuple[cose.Sign1, ...]
    """Each by one reader identity, over all document requests at once."""
    other: Mapping[str, bytes]
    """Members that this holder does not know, each as received."""

    @classmethod
    def parse(cls, raw: bytes) -> DeviceRequest:
        """Raises MalformedError. Features of version 1.1 are read whatever version the request states."""
        budget = ItemBudget()
        body = cbor.decode_map(raw, budget=budget)
        version, requests = body.get("version"), body.get("docRequests")
        if type(version) is not str or version not in _VERSIONS or type(requests) is not list:
            raise MalformedError("device request: version 1.x and docRequests are expected")
        if not 1 <= len(requests) <= MAX_DOCUMENTS:
            raise MalformedError("device request: one or a few docRequests are expected")
        info, signatures = body.get("deviceRequestInfo"), body.get("readerAuthAll")
        if signatures is None:
            signatures = []
        if not (info is None or type(info) is Encoded):
            raise MalformedError("device request: deviceRequestInfo is tagged 24")
        if type(signatures) is not list or len(signatures) > MAX_DOCUMENTS:
            raise MalformedError("device request: readerAuthAll is a short array")
        unknown = {} if _KNOWN.issuperset(body) else cbor.entries(raw)
        return cls(
            version,
            tuple(_doc_request(entry, budget) for entry in requests),
            info,
            tuple(cose.parse_sign1(entry, "readerAuthAll") for entry in signatures),
            {str(key): value for key, value in unknown.items() if key not in _KNOWN},
        )


def _doc_request(entry: Any, budget: ItemBudget) -> DocRequest:
    if type(entry) is not dict or type(entry.get("itemsRequest")) is not Encoded:
        raise MalformedError("device request: itemsRequest is expected")
    items_bytes: Encoded = entry["itemsRequest"]
    body = cbor.decode_map(items_bytes.content, budget=budget)
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
        cbor.entries(items_bytes.content)["requestInfo"] if "requestInfo" in body else None,
    )


def reader_authentication(transcript: SessionTranscript, items_bytes: Encoded) -> bytes:
    """ReaderAuthenticationBytes: what a reader signs for one document request (9.1.4.4)."""
    array = head(4, 3) + cbor.encode("ReaderAuthentication") + transcript.raw + items_bytes.raw
    return Encoded.wrap(array).raw


def reader_authentication_all(
    transcript: SessionTranscript, items_bytes: Sequence[Encoded], device_request_info: Encoded | None
) -> bytes:
    """ReaderAuthenticationAllBytes: what a reader signs for all document requests at once (second edition)."""
    array = (
        head(4, 4)
        + cbor.encode("ReaderAuthenticationAll")
        + transcript.raw
        + head(4, len(items_bytes))
        + b"".join(entry.raw for entry in items_bytes)
        + (b"\xf6" if device_request_info is None else device_request_info.raw)
    )
    return Encoded.wrap(array).raw


def build_request(
    items: RequestedItems | Sequence[RequestedItems],
    transcript: SessionTranscript,
    identity: ReaderIdentity,
    *,
    authenticate_all: bool = False,
    request_info: Mapping[str, Any] | None = None,
    device_request_info: Mapping[str, Any] | None = None,
) -> bytes:
    """DeviceRequest for one or several documents, each request signed by the reader.

    `authenticate_all` signs them once more, all together (ReaderAuthAll): the holder's side then knows that none was added
    or taken away. `request_info` goes into every items request. The version is 1.1 only where something of 1.1 is used.
    """
    asked = (items,) if isinstance(items, RequestedItems) else tuple(items)
    if not 1 <= len(asked) <= MAX_DOCUMENTS:
        raise ValueError("one or a few documents are asked for")
    encoded = [_items_request(entry, request_info) for entry in asked]
    body: dict[str, Any] = {
        "version": "1.0",
        "docRequests": [
            {"itemsRequest": entry, "readerAuth": _sign(identity, reader_authentication(transcript, entry))}
            for entry in encoded
        ],
    }
    info = None if device_request_info is None else Encoded.wrap(cbor.encode(dict(device_request_info)))
    if info is not None:
        body["deviceRequestInfo"] = info
    if authenticate_all:
        body["readerAuthAll"] = [_sign(identity, reader_authentication_all(transcript, encoded, info))]
    if authenticate_all or info is not None:
        body["version"] = "1.1"
    return cbor.encode(body)


def _items_request(items: RequestedItems, request_info: Mapping[str, Any] | None) -> Encoded:
    if items.unlimited or not any(items.elements.values()):
        raise ValueError("a request names its elements")
    body: dict[str, Any] = {
        "docType": items.doc_type,
        "nameSpaces": {ns: dict.fromkeys(elements, False) for ns, elements in items.elements.items() if elements},
    }
    if request_info is not None:
        body["requestInfo"] = dict(request_info)
    return Encoded.wrap(cbor.encode(body))


def _sign(identity: ReaderIdentity, message: bytes) -> list[Any]:
    chain = [certificate.public_bytes(Encoding.DER) for certificate in identity.certificates]
    return cose.build_sign1(
        identity.private_key,
        message,
        detached=True,
        unprotected={cose.X5CHAIN: chain[0] if len(chain) == 1 else chain},
    )
