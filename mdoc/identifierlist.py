"""Identifier list as CWT (18013-5 second edition 12.3.6): the identifiers of revoked credentials, by name instead of by index.

    claims of a status token (mdoc.statustoken) with 4: exp, and 65530: {"identifiers": {bstr: {}}}

An identifier that is there is revoked. One that is not is valid only as long as the list counts, so exp is not optional.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import Certificate

from mdoc import limits, statustoken
from mdoc.certificates import TrustAnchors
from mdoc.errors import MalformedError
from mdoc.freshness import ListKind
from mdoc.statustoken import IDENTIFIER_LIST, STATUS_LIST, SignedList

TYPE = "application/identifierlist+cwt"


@dataclass(frozen=True, slots=True)
class IdentifierList(SignedList):
    """A verified identifier list."""

    identifiers: frozenset[bytes]

    kind = ListKind.IDENTIFIER_LIST

    def __len__(self) -> int:
        return len(self.identifiers)


def _identifiers(value: Any) -> frozenset[bytes]:
    if type(value) is not dict or type(value.get("identifiers")) is not dict:
        raise MalformedError("identifier list: identifiers are expected")
    entries: dict[Any, Any] = value["identifiers"]
    if len(entries) > limits.MAX_IDENTIFIERS:
        raise MalformedError("identifier list: too long")
    for identifier, details in entries.items():
        if type(identifier) is not bytes or not identifier or type(details) is not dict:
            raise MalformedError("identifier list: {bstr: map} is expected")
    return frozenset(entries)


def parse_token(raw: bytes, anchors: TrustAnchors, *, unanchored: bool = False) -> IdentifierList:
    """Read and verify one identifier list. `unanchored` and errors as in mdoc.statustoken.parse."""
    common, claims = statustoken.parse(raw, TYPE, anchors, unanchored=unanchored)
    if STATUS_LIST in claims or common.expires is None:
        raise MalformedError("identifier list: exp is expected, and no status list")
    return IdentifierList(
        common.uri,
        common.issued_at,
        common.expires,
        common.ttl,
        common.chain,
        common.anchor,
        _identifiers(claims.get(IDENTIFIER_LIST)),
    )


def build_token(
    *,
    uri: str,
    identifiers: Iterable[bytes],
    issued_at: datetime,
    expires: datetime,
    key: ec.EllipticCurvePrivateKey,
    certificate: Certificate,
    ttl: timedelta | None = None,
) -> bytes:
    """An identifier list (issuer's side)."""
    return statustoken.build(
        {IDENTIFIER_LIST: {"identifiers": {identifier: {} for identifier in identifiers}}},
        media_type=TYPE,
        uri=uri,
        issued_at=issued_at,
        expires=expires,
        ttl=ttl,
        key=key,
        certificate=certificate,
    )
