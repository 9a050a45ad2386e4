"""Token Status List as CWT (draft-ietf-oauth-status-list; 18013-5 second edition 12.3.6): revocation without a network.

    COSE_Sign1 (tag 18), protected {1: alg, 16: "application/statuslist+cwt", 33: x5chain}
    claims {2: sub == uri of the list, 6: iat, ? 4: exp, ? 65534: ttl s, 65533: {"bits": 1|2|4|8, "lst": zlib bytes}}

The signer chains to the issuing authority whose credentials the list speaks of. An index outside the list is not "valid".
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate

from mdoc import cbor, cose, limits
from mdoc.cbor import Tag
from mdoc.certificates import STATUS_SIGNER_PROFILE, Anchor, Chained, TrustAnchors, chain_from_header
from mdoc.errors import MalformedError, TrustError

TYPE = "application/statuslist+cwt"
SUB, EXP, IAT = 2, 4, 6
TTL, STATUS_LIST = 65534, 65533
_BITS = frozenset({1, 2, 4, 8})


class TokenStatus(Enum):
    """Values that an mdoc's list may hold (0 and 1), and what else a look-up may end in."""

    VALID = 0
    INVALID = 1
    UNDETERMINED = -1
    """Suspended or application values, or an index outside the list: neither valid nor known to be revoked."""


@dataclass(frozen=True, slots=True)
class StatusList:
    uri: str
    bits: int
    packed: bytes
    issued_at: datetime
    expires: datetime | None
    anchor: Anchor
    """The issuing authority this list speaks for."""

    def __len__(self) -> int:
        return len(self.packed) * 8 // self.bits

    def get(self, index: int) -> TokenStatus:
        """Lowest bits of a byte first."""
        if not 0 <= index < len(self):
            return TokenStatus.UNDETERMINED
        per_byte = 8 // self.bits
        value = self.packed[index // per_byte] >> (index % per_byte * self.bits) & ((1 << self.bits) - 1)
        return {0: TokenStatus.VALID, 1: TokenStatus.INVALID}.get(value, TokenStatus.UNDETERMINED)


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


def numeric_date(value: Any, what: str) -> datetime:
    """NumericDate (RFC 8392 2): whole seconds since 1970. Raises MalformedError."""
    if type(value) is not int or not 0 <= value < 1 << 36:
        raise MalformedError(f"{what}: seconds since 1970 are expected")
    return datetime.fromtimestamp(value, UTC)


def parse_token(raw: bytes, anchors: TrustAnchors) -> StatusList:
    """Read and verify one Status List Token.

    Raises MalformedError for bad bytes and TrustError for a good token of somebody we do not trust.
    """
    item = cbor.decode(raw, max_bytes=limits.MAX_STATUS_LIST)
    if type(item) is not Tag or item.number != cose.TAG_SIGN1:
        raise MalformedError("status list token: COSE_Sign1 with its tag is expected")
    sign1 = cose.parse_sign1(item, "status list token")
    if sign1.protected.get(cose.TYP) != TYPE or sign1.payload is None:
        raise MalformedError("status list token: type header or payload is missing")
    claims = cbor.decode_map(sign1.payload, max_bytes=limits.MAX_STATUS_LIST)
    uri = claims.get(SUB)
    if type(uri) is not str or not uri:
        raise MalformedError("status list token: sub is expected")
    issued_at = numeric_date(claims.get(IAT), "iat")
    expires = numeric_date(claims[EXP], "exp") if EXP in claims else None
    bits, packed = unpack(claims.get(STATUS_LIST))
    leaf = chain_from_header(sign1.protected.get(cose.X5CHAIN))[0]
    signer = anchors.issued(leaf, STATUS_SIGNER_PROFILE)
    if not isinstance(signer, Chained):
        raise TrustError(f"status list signer: {signer or 'no trusted issuing authority issued it'}")
    if not signer.dated(issued_at) or not cose.verify_sign1(sign1, signer.key):
        raise TrustError("status list token: signature or signer's dates do not hold")
    return StatusList(uri, bits, packed, issued_at, expires, signer.anchor)


class StatusLists:
    """The cached lists by address; of two for one address the newer issue counts."""

    def __init__(self, lists: Iterable[StatusList] = ()) -> None:
        self._lists: dict[str, StatusList] = {}
        for entry in lists:
            known = self._lists.get(entry.uri)
            if known is None or known.issued_at < entry.issued_at:
                self._lists[entry.uri] = entry

    def __len__(self) -> int:
        return len(self._lists)

    def find(self, uri: str) -> StatusList | None:
        return self._lists.get(uri)

    def judge(self, uri: str, index: int, now: datetime, skew: timedelta) -> tuple[TokenStatus, str]:
        """Status of one entry, and why it is undetermined where it is. A list past its date still proves a revocation."""
        entry = self._lists.get(uri)
        if entry is None:
            return TokenStatus.UNDETERMINED, "no cached list at the credential's address"
        value = entry.get(index)
        if value is TokenStatus.UNDETERMINED:
            return value, "no such entry in the list"
        if value is TokenStatus.VALID and entry.expires is not None and now - skew > entry.expires:
            return TokenStatus.UNDETERMINED, "the cached list is past its date"
        return value, ""

    def ages(self, now: datetime) -> Mapping[str, timedelta]:
        return {uri: now - entry.issued_at for uri, entry in self._lists.items()}


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
) -> bytes:
    """A Status List Token (issuer's side)."""
    claims: dict[int, Any] = {SUB: uri, IAT: int(issued_at.timestamp())}
    if expires is not None:
        claims[EXP] = int(expires.timestamp())
    claims[STATUS_LIST] = {"bits": bits, "lst": pack(statuses, bits)}
    sign1 = cose.build_sign1(
        key,
        cbor.encode(claims),
        protected={cose.TYP: TYPE, cose.X5CHAIN: certificate.public_bytes(Encoding.DER)},
    )
    return cbor.encode(Tag(cose.TAG_SIGN1, sign1))
