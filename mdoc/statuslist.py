"""Token Status List as CWT (draft-ietf-oauth-status-list; 18013-5 second edition 12.3.6): revocation without a network.

    claims of a status token (mdoc.statustoken) with 65533: {"bits": 1|2|4|8, "lst": zlib bytes, ? "aggregation_uri"}

An index outside the list is not "valid". An mdoc's list may hold 0 (valid) and 1 (invalid) only, so every other value, 2
(suspended) among them, refuses as revoked: the issuer has said something, and it is not "valid".
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import Certificate

from mdoc import limits, statustoken
from mdoc.certificates import Anchor, TrustAnchors
from mdoc.errors import MalformedError
from mdoc.freshness import NO_LIMITS, Freshness, ListFacts, ListKind, staleness
from mdoc.identifierlist import IdentifierList
from mdoc.mso import IdentifierReference, StatusReference
from mdoc.statustoken import IDENTIFIER_LIST, STATUS_LIST, SignedList, numeric_date

__all__ = ["StatusList", "StatusLists", "TokenStatus", "build_token", "numeric_date", "pack", "parse_token", "unpack"]

TYPE = "application/statuslist+cwt"
_BITS = frozenset({1, 2, 4, 8})


class TokenStatus(Enum):
    """What a look-up may end in."""

    VALID = 0
    INVALID = 1
    """Revoked, suspended, or any other value but 0."""
    UNDETERMINED = -1
    """No list, no such entry: neither valid nor known to be revoked."""
    STALE = -2
    """Valid, says a list that is too old to say so."""


@dataclass(frozen=True, slots=True)
class StatusList(SignedList):
    """A verified Token Status List."""

    bits: int
    packed: bytes

    def __len__(self) -> int:
        return len(self.packed) * 8 // self.bits

    def get(self, index: int) -> TokenStatus:
        """Lowest bits of a byte first."""
        if not 0 <= index < len(self):
            return TokenStatus.UNDETERMINED
        per_byte = 8 // self.bits
        value = self.packed[index // per_byte] >> (index % per_byte * self.bits) & ((1 << self.bits) - 1)
        return TokenStatus.INVALID if value else TokenStatus.VALID


def unpack(value: Any) -> tuple[int, bytes]:
    """`{"bits", "lst"}` as (bits, packed entries). Raises MalformedError, also for more than MAX_STATUS_LIST bytes."""
    if type(value) is not dict:
        raise MalformedError("status list: a map is expected")
    bits, packed = value.get("bits"), value.get("lst")
    if type(bits) is not int or bits not in _BITS or type(packed) is not bytes:
        raise MalformedError("status list: bits 1, 2, 4 or 8 and lst are expected")
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(packed, limits.MAX_STATUS_LIST)
    except zlib.error as error:
        raise MalformedError("status list: lst is not zlib data") from error
    if not inflater.eof or inflater.unused_data:
        raise MalformedError("status list: lst is cut off, too long or followed by more")
    return bits, plain


def parse_token(raw: bytes, anchors: TrustAnchors, *, unanchored: bool = False) -> StatusList:
    """Read and verify one Status List Token. `unanchored` and errors as in mdoc.statustoken.parse."""
    common, claims = statustoken.parse(raw, TYPE, anchors, unanchored=unanchored)
    if IDENTIFIER_LIST in claims:
        raise MalformedError("status list token: an identifier list beside the status list")
    bits, packed = unpack(claims.get(STATUS_LIST))
    return StatusList(
        common.uri, common.issued_at, common.expires, common.ttl, common.chain, common.anchor, bits, packed
    )


AnyList = StatusList | IdentifierList
Reference = StatusReference | IdentifierReference
_NO_LIST = "no cached list at the credential's address"


class StatusLists:
    """The cached lists of both kinds by address. Of two by one authority for one address the newer issue counts."""

    def __init__(self, lists: Iterable[AnyList] = ()) -> None:
        found: dict[tuple[ListKind, str], list[tuple[AnyList, ListFacts]]] = {}
        for entry in lists:
            found.setdefault((entry.kind, entry.uri), []).append((entry, entry.facts))
        for entries in found.values():
            # All are kept: a stranger's newer list at the same address never takes the place of the one that counts.
            entries.sort(key=lambda pair: pair[0].issued_at, reverse=True)
        self._lists = found

    def __len__(self) -> int:
        """Addresses that a list is at hand for."""
        return len(self._lists)

    def find(self, uri: str) -> StatusList | None:
        """The newest status list at an address that a trusted authority stands behind."""
        for entry, _ in self._lists.get((ListKind.STATUS_LIST, uri), ()):
            if isinstance(entry, StatusList) and entry.anchor is not None:
                return entry
        return None

    def judge(
        self, uri: str, index: int, now: datetime, skew: timedelta, freshness: Freshness = NO_LIMITS
    ) -> tuple[TokenStatus, str]:
        """Status of one entry of a list by whatever trusted authority, and why where it is not valid."""
        entry = self.find(uri)
        if entry is None:
            return TokenStatus.UNDETERMINED, _NO_LIST
        return _judged(entry.facts, entry.get(index), freshness, now, skew)

    def look_up(
        self,
        reference: Reference,
        accepts: Callable[[Anchor], bool],
        *,
        freshness: Freshness,
        now: datetime,
        skew: timedelta,
    ) -> tuple[TokenStatus, str, ListFacts | None]:
        """Status of a credential by one reference of its MSO; why where it is not valid; and by which list.

        `accepts` says whether an authority is the credential's own. A list past its date still proves a revocation.
        """
        kind = ListKind.STATUS_LIST if isinstance(reference, StatusReference) else ListKind.IDENTIFIER_LIST
        entries = self._lists.get((kind, reference.uri))
        if not entries:
            return TokenStatus.UNDETERMINED, _NO_LIST, None
        for entry, facts in entries:
            if not entry.speaks_for(reference.certificate, accepts):
                continue
            if isinstance(entry, StatusList) and isinstance(reference, StatusReference):
                value = entry.get(reference.index)
            elif isinstance(entry, IdentifierList) and isinstance(reference, IdentifierReference):
                value = TokenStatus.INVALID if reference.identifier in entry.identifiers else TokenStatus.VALID
            else:
                continue
            return *_judged(facts, value, freshness, now, skew), facts
        return TokenStatus.UNDETERMINED, "the list is another issuing authority's", None

    def ages(self, now: datetime) -> Mapping[str, timedelta]:
        return {uri: now - entries[0][0].issued_at for (_, uri), entries in self._lists.items()}


def _judged(
    facts: ListFacts, value: TokenStatus, freshness: Freshness, now: datetime, skew: timedelta
) -> tuple[TokenStatus, str]:
    if value is TokenStatus.UNDETERMINED:
        return value, "no such entry in the list"
    if value is TokenStatus.INVALID:
        return value, ""
    problem = staleness(facts, freshness, now, skew)
    if problem is not None:
        return TokenStatus.STALE, f"the cached list is {problem}"
    return value, ""


def pack(statuses: Sequence[int], bits: int = 1) -> bytes:
    """Entries as `lst` bytes (issuer's side)."""
    per_byte = 8 // bits
    packed = bytearray((len(statuses) + per_byte - 1) // per_byte)
    for index, value in enumerate(statuses):
        packed[index // per_byte] |= value << (index % per_byte * bits)
    return zlib.compress(bytes(packed), 9)


def build_token(
    *,
    uri: str,
    statuses: Sequence[int],
    bits: int,
    issued_at: datetime,
    expires: datetime | None,
    key: ec.EllipticCurvePrivateKey,
    certificate: Certificate,
    ttl: timedelta | None = None,
) -> bytes:
    """A Status List Token (issuer's side)."""
    return statustoken.build(
        {STATUS_LIST: {"bits": bits, "lst": pack(statuses, bits)}},
        media_type=TYPE,
        uri=uri,
        issued_at=issued_at,
        expires=expires,
        ttl=ttl,
        key=key,
        certificate=certificate,
    )
