"""Mobile security object (18013-5 9.1.2.4): what the issuer signed. Key order is not fixed; unknown keys are ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mdoc import cbor, cose
from mdoc.cbor import Encoded, ItemBudget, Tag
from mdoc.errors import MalformedError

DIGEST_SIZES = {"SHA-256": 32, "SHA-384": 48, "SHA-512": 64}
HASH_NAMES = {"SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}
_TDATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})")
_VERSIONS = frozenset(f"1.{minor}" for minor in range(10))


@dataclass(frozen=True, slots=True)
class StatusReference:
    """status_list entry of the status element (18013-5 second edition 12.3.6; Token Status List)."""

    index: int
    uri: str
    certificate: bytes | None = None
    """DER. The list's signer has to chain to it; absent, to the authority that issued the credential."""


@dataclass(frozen=True, slots=True)
class IdentifierReference:
    """identifier_list entry of the status element."""

    identifier: bytes
    uri: str
    certificate: bytes | None = None


@dataclass(slots=True)
class MobileSecurityObject:
    version: str
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
    expected_update: datetime | None
    status: tuple[StatusReference | IdentifierReference, ...]
    """Every one has to say "valid"."""
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
        moment = datetime.fromisoformat(value.value)
        return moment if moment.tzinfo is UTC else moment.astimezone(UTC)
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


_NOTHING: tuple[frozenset[str], frozenset[tuple[str, str]]] = frozenset(), frozenset()


def _authorizations(key_info: dict[Any, Any]) -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    if key_info.get("keyAuthorizations") is None:
        return _NOTHING
    body = _map(key_info["keyAuthorizations"], "keyAuthorizations")
    spaces = body.get("nameSpaces", [])
    if type(spaces) is not list or not all(type(space) is str for space in spaces):
        raise MalformedError("MSO: authorized nameSpaces is an array of text")
    pairs: set[tuple[str, str]] = set()
    for space, elements in _map(body.get("dataElements", {}), "authorized dataElements").items():
        if type(space) is not str or type(elements) is not list or not all(type(name) is str for name in elements):
            raise MalformedError("MSO: authorized dataElements is {namespace: [element]}")
        pairs.update((space, element) for element in elements)
    return frozenset(spaces), frozenset(pairs)


def _status(value: Any) -> tuple[StatusReference | IdentifierReference, ...]:
    found: list[StatusReference | IdentifierReference] = []
    status = _map(value, "status")
    for kind in ("status_list", "identifier_list"):
        if kind not in status:
            continue
        body = _map(status[kind], kind)
        uri, certificate = body.get("uri"), body.get("certificate")
        if type(uri) is not str or not uri or ("certificate" in body and type(certificate) is not bytes):
            raise MalformedError(f"MSO: {kind} has uri, and certificate is a bstr")
        if kind == "status_list":
            index = body.get("idx")
            if type(index) is not int or index < 0:
                raise MalformedError("MSO: status_list has idx")
            found.append(StatusReference(index, uri, certificate))
        else:
            identifier = body.get("id")
            if type(identifier) is not bytes or not identifier:
                raise MalformedError("MSO: identifier_list has id")
            found.append(IdentifierReference(identifier, uri, certificate))
    return tuple(found)


def parse(payload: bytes, budget: ItemBudget | None = None) -> MobileSecurityObject:
    """From the payload of issuerAuth, #6.24(bstr MSO). Raises MalformedError."""
    outer = cbor.decode(payload, budget=budget)
    if type(outer) is not Encoded:
        raise MalformedError("MSO: tag 24 is expected")
    body = cbor.decode_map(outer.content, budget=budget)
    version, doc_type, algorithm = body.get("version"), body.get("docType"), body.get("digestAlgorithm")
    if type(version) is not str or version not in _VERSIONS:
        raise MalformedError("MSO: version 1.x is expected")
    if type(doc_type) is not str or not doc_type:
        raise MalformedError("MSO: docType is expected")
    size = DIGEST_SIZES.get(algorithm) if type(algorithm) is str else None
    if size is None:
        raise MalformedError("MSO: digestAlgorithm is not one of SHA-256, SHA-384, SHA-512")
    key_info = _map(body.get("deviceKeyInfo"), "deviceKeyInfo")
    validity = _map(body.get("validityInfo"), "validityInfo")
    spaces, pairs = _authorizations(key_info)
    # Fractions are against 7.1. Dropped, a clock of whole seconds accepts what an issuer signed within this second.
    signed = tdate(validity.get("signed"), "signed").replace(microsecond=0)
    valid_from = tdate(validity.get("validFrom"), "validFrom").replace(microsecond=0)
    valid_until = tdate(validity.get("validUntil"), "validUntil")
    # 9.1.2.4 also wants validFrom not before signed. Nothing rests on that order, and issuers that round down break it.
    if valid_from > valid_until or signed > valid_until:
        raise MalformedError("MSO: validity ends before it begins")
    # Some producers write `undefined` for what they leave out; the issuer signed that too, so it says no more than absence.
    update, status = validity.get("expectedUpdate"), body.get("status")
    return MobileSecurityObject(
        version,
        doc_type,
        str(algorithm),
        _digests(body.get("valueDigests"), size),
        _device_key(key_info.get("deviceKey")),
        spaces,
        pairs,
        signed,
        valid_from,
        valid_until,
        None if update is None else tdate(update, "expectedUpdate"),
        () if status is None else _status(status),
        status is not None,
    )


def _device_key(value: Any) -> cose.PublicKey:
    """Also as issuers write it who convert a key by hand: coordinates without their leading zeros, a curve by its name."""
    if type(value) is dict:
        if -4 in value:
            raise MalformedError("deviceKey: a private key")
        if value.get(-1) == "Ed25519":
            value = {**value, -1: 6}
    return cose.public_key(value, "deviceKey", stripped=True)
