"""Mobile security object (18013-5 9.1.2.4): what the issuer signed. Key order is not fixed; unknown keys are ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mdoc import cbor, cose
from mdoc.cbor import Encoded, Tag
from mdoc.errors import MalformedError

DIGEST_SIZES = {"SHA-256": 32, "SHA-384": 48, "SHA-512": 64}
HASH_NAMES = {"SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}
_TDATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class StatusReference:
    """status_list entry of the status element (18013-5 second edition 12.3.6; Token Status List)."""

    index: int
    uri: str


@dataclass(frozen=True, slots=True)
class MobileSecurityObject:
    doc_type: str
    digest_algorithm: str
    """`SHA-256`, `SHA-384` or `SHA-512`."""
    value_digests: Mapping[str, Mapping[int, bytes]]
    device_key: cose.PublicKey
    authorized_name_spaces: frozenset[str]
    authorized_elements: frozenset[tuple[str, str]]
    signed: datetime
    valid_from: datetime
    valid_until: datetime
    status_list: StatusReference | None
    has_status: bool
    """A status element is there, of whatever kind."""


def _map(value: Any, what: str) -> dict[Any, Any]:
    if type(value) is not dict:
        raise MalformedError(f"MSO: {what} is not a map")
    return value


def tdate(value: Any, what: str) -> datetime:
    """tdate (#6.0 tstr). Fractions and offsets are against 18013-5 7.1, but producers emit them; they compare correctly."""
    if type(value) is not Tag or value.number != 0 or type(value.value) is not str:
        raise MalformedError(f"{what}: a date-time is expected")
    if not _TDATE.fullmatch(value.value):
        raise MalformedError(f"{what}: not an RFC 3339 date-time")
    try:
        return datetime.fromisoformat(value.value).astimezone(UTC)
    except (ValueError, OverflowError):
        raise MalformedError(f"{what}: no such date") from None


def _digests(value: Any, size: int) -> dict[str, dict[int, bytes]]:
    for name_space, digests in _map(value, "valueDigests").items():
        if type(name_space) is not str:
            raise MalformedError("MSO: a namespace is text")
        for number, digest in _map(digests, "digests").items():
            if type(number) is not int or number < 0 or type(digest) is not bytes or len(digest) != size:
                raise MalformedError("MSO: a digest has the wrong form")
    result: dict[str, dict[int, bytes]] = value
    return result


def _authorizations(value: Any) -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    if value is None:
        return frozenset(), frozenset()
    body = _map(value, "keyAuthorizations")
    spaces = body.get("nameSpaces", [])
    if type(spaces) is not list or not all(type(space) is str for space in spaces):
        raise MalformedError("MSO: authorized nameSpaces is an array of text")
    pairs: set[tuple[str, str]] = set()
    for space, elements in _map(body.get("dataElements", {}), "authorized dataElements").items():
        if type(elements) is not list or not all(type(element) is str for element in elements):
            raise MalformedError("MSO: authorized dataElements is {namespace: [element]}")
        pairs.update((space, element) for element in elements)
    return frozenset(spaces), frozenset(pairs)


def _status(value: Any) -> StatusReference | None:
    if value is None:
        return None
    entry = _map(value, "status").get("status_list")
    if entry is None:
        return None
    body = _map(entry, "status_list")
    index, uri = body.get("idx"), body.get("uri")
    if type(index) is not int or index < 0 or type(uri) is not str or not uri:
        raise MalformedError("MSO: status_list has idx and uri")
    return StatusReference(index, uri)


def parse(payload: bytes) -> MobileSecurityObject:
    """From the payload of issuerAuth, #6.24(bstr MSO). Raises MalformedError."""
    outer = cbor.decode(payload)
    if type(outer) is not Encoded:
        raise MalformedError("MSO: tag 24 is expected")
    body = cbor.decode_map(outer.content)
    version, doc_type, algorithm = body.get("version"), body.get("docType"), body.get("digestAlgorithm")
    if type(version) is not str or not version.startswith("1."):
        raise MalformedError("MSO: version 1.x is expected")
    if type(doc_type) is not str:
        raise MalformedError("MSO: docType is expected")
    size = DIGEST_SIZES.get(algorithm) if type(algorithm) is str else None
    if size is None:
        raise MalformedError("MSO: digestAlgorithm is not one of SHA-256, SHA-384, SHA-512")
    key_info = _map(body.get("deviceKeyInfo"), "deviceKeyInfo")
    validity = _map(body.get("validityInfo"), "validityInfo")
    spaces, pairs = _authorizations(key_info.get("keyAuthorizations"))
    valid_from, valid_until = (
        tdate(validity.get("validFrom"), "validFrom"),
        tdate(validity.get("validUntil"), "validUntil"),
    )
    if valid_from > valid_until:
        raise MalformedError("MSO: validity ends before it begins")
    return MobileSecurityObject(
        doc_type=doc_type,
        digest_algorithm=str(algorithm),
        value_digests=_digests(body.get("valueDigests"), size),
        device_key=cose.public_key(key_info.get("deviceKey"), "deviceKey"),
        authorized_name_spaces=spaces,
        authorized_elements=pairs,
        signed=tdate(validity.get("signed"), "signed"),
        valid_from=valid_from,
        valid_until=valid_until,
        status_list=_status(body.get("status")),
        has_status=body.get("status") is not None,
    )
