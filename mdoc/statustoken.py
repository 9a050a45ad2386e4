"""What both kinds of revocation list share: a signed CWT with an address, a date and a signer (18013-5 second edition 12.3.6).

    COSE_Sign1 (tag 18, not tagged as a CWT), protected {1: alg, 16: type, 33: x5chain}
    claims {2: sub == address of the list, 6: iat, ? 4: exp, ? 65534: ttl s, ...}

Never a JWT. The signer chains to the authority that issued the credential, not to its document signer; or, where the MSO names
a `certificate`, to that one and to no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate as LibraryCertificate

from mdoc import cbor, cose, limits
from mdoc.cbor import ItemBudget, Tag
from mdoc.certificates import (
    STATUS_SIGNER_PROFILE,
    Anchor,
    Certificate,
    Chained,
    TrustAnchors,
    broken_rule,
    chain_from_header,
    path_problem,
    read,
    verification_key,
)
from mdoc.errors import MalformedError, TrustError
from mdoc.freshness import ListFacts, ListKind

SUB, EXP, IAT = 2, 4, 6
CLAIM_TYPE = 16
"""Type as a claim, where some producers put it instead of into the header."""
TTL, STATUS_LIST, IDENTIFIER_LIST = 65534, 65533, 65530


@dataclass(frozen=True, slots=True)
class SignedList:
    """A list of either kind whose signature holds."""

    uri: str
    issued_at: datetime
    expires: datetime | None
    ttl: timedelta | None
    """After which a gate with a network would fetch anew. Shown, not enforced (mdoc.freshness)."""
    chain: tuple[Certificate, ...]
    """x5chain, the signer first."""
    anchor: Anchor | None
    """The trusted authority that issued the signer; None where only an MSO that names its certificate can vouch for it."""

    kind = ListKind.STATUS_LIST

    @property
    def facts(self) -> ListFacts:
        return ListFacts(self.kind, self.uri, None, self.issued_at, self.expires)

    def speaks_for(self, certificate: bytes | None, accepts: Callable[[Anchor], bool]) -> bool:
        """The list counts for a credential: `certificate` is what its MSO names, `accepts` whether an authority is its own."""
        if certificate is None:
            return self.anchor is not None and accepts(self.anchor)
        return _leads_to(self.chain, certificate, self.issued_at)


@lru_cache(maxsize=64)
def _leads_to(chain: tuple[Certificate, ...], certificate: bytes, moment: datetime) -> bool:
    """The signer is the certificate that the issuer named, or chains to it."""
    try:
        if chain[0].der == certificate:
            return broken_rule(chain[0], STATUS_SIGNER_PROFILE) is None
        return path_problem(chain, [read(certificate)], STATUS_SIGNER_PROFILE, moment) is None
    except MalformedError:
        return False


def numeric_date(value: Any, what: str) -> datetime:
    """NumericDate (RFC 8392 2): whole seconds since 1970. Raises MalformedError."""
    if type(value) is not int or not 0 <= value < 1 << 36:
        raise MalformedError(f"{what}: seconds since 1970 are expected")
    return datetime.fromtimestamp(value, UTC)


def parse(
    raw: bytes, media_type: str, anchors: TrustAnchors, *, unanchored: bool
) -> tuple[SignedList, Mapping[Any, Any]]:
    """The signed list and its claims.

    `unanchored` lets a token through whose signer no anchor issued; it can then speak only for credentials whose MSO names
    its certificate. Raises MalformedError for bad bytes and TrustError for a good token of somebody we do not trust.
    """
    item = cbor.decode(raw, max_bytes=limits.MAX_STATUS_LIST)
    if type(item) is not Tag or item.number != cose.TAG_SIGN1:
        raise MalformedError("status token: COSE_Sign1 with its tag is expected")
    sign1 = cose.parse_sign1(item, "status token")
    if sign1.payload is None:
        raise MalformedError("status token: payload is missing")
    budget = ItemBudget(limits.MAX_IDENTIFIERS * 4)
    claims = cbor.decode_map(sign1.payload, max_bytes=limits.MAX_STATUS_LIST, budget=budget)
    types = [place[label] for place, label in ((sign1.protected, cose.TYP), (claims, CLAIM_TYPE)) if label in place]
    if not types or any(found != media_type for found in types):
        raise MalformedError(f"status token: type {media_type} is expected")
    uri = claims.get(SUB)
    if type(uri) is not str or not uri:
        raise MalformedError("status token: sub is expected")
    issued_at = numeric_date(claims.get(IAT), "iat")
    expires = numeric_date(claims[EXP], "exp") if EXP in claims else None
    if expires is not None and expires <= issued_at:
        raise MalformedError("status token: it ends before it begins")
    ttl = claims.get(TTL)
    if TTL in claims and (type(ttl) is not int or not 0 < ttl < 1 << 32):
        raise MalformedError("status token: ttl is a positive number of seconds")
    chain = tuple(read(entry) for entry in chain_from_header(sign1.protected.get(cose.X5CHAIN)))
    signer = anchors.issued(chain[0].der, STATUS_SIGNER_PROFILE, [entry.der for entry in chain[1:]])
    if isinstance(signer, Chained):
        if signer.revoked:
            raise TrustError("status token: its signer is revoked")
        key, anchor, dated = signer.key, signer.anchor, signer.dated(issued_at)
    else:
        problem = signer or "no trusted issuing authority issued it"
        if not unanchored:
            raise TrustError(f"status token: signer: {problem}")
        broken = broken_rule(chain[0], STATUS_SIGNER_PROFILE)
        if broken is not None:
            raise TrustError(f"status token: signer: {broken}")
        key, anchor = verification_key(chain[0]), None
        dated = chain[0].not_before <= issued_at <= chain[0].not_after
    if not dated or not cose.verify_sign1(sign1, key):
        raise TrustError("status token: signature or signer's dates do not hold")
    lifetime = None if type(ttl) is not int else timedelta(seconds=ttl)
    return SignedList(uri, issued_at, expires, lifetime, chain, anchor), claims


def build(
    claims: Mapping[int, Any],
    *,
    media_type: str,
    uri: str,
    issued_at: datetime,
    expires: datetime | None,
    ttl: timedelta | None,
    key: ec.EllipticCurvePrivateKey,
    certificate: LibraryCertificate,
) -> bytes:
    """A signed token around the claims of one kind of list (issuer's side)."""
    body: dict[int, Any] = {SUB: uri, IAT: int(issued_at.timestamp())}
    if expires is not None:
        body[EXP] = int(expires.timestamp())
    if ttl is not None:
        body[TTL] = int(ttl.total_seconds())
    sign1 = cose.build_sign1(
        key,
        cbor.encode({**body, **claims}),
        protected={cose.TYP: media_type, cose.X5CHAIN: certificate.public_bytes(Encoding.DER)},
    )
    return cbor.encode(Tag(cose.TAG_SIGN1, sign1))
