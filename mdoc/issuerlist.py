"""The signed issuer list: issuers named by `kid` (a DID key or our own short name) for what carries no certificate chain.

    COSE_Sign1 (tag 18), protected {1: alg, 16: "application/gwanmun-issuers+cbor"}, payload
    {"version": 1, "date": tdate, "issuers": [+ {"kid": bstr, "key": COSE_Key, "docTypes": [+ tstr],
     "notBefore": tdate, "notAfter": tdate, "statusLists": [* uri]}]}

The signer's public key is pinned in the gate's configuration. A pass refers to a status list by its place in `statusLists`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cbor, cose
from mdoc.cbor import Tag
from mdoc.errors import MalformedError, TrustError
from mdoc.mso import tdate

TYPE = "application/gwanmun-issuers+cbor"
MAX_KID = 256


@dataclass(frozen=True, slots=True)
class ListedIssuer:
    kid: bytes
    key: ec.EllipticCurvePublicKey
    doc_types: tuple[str, ...]
    """A pass refers to its type by its place here."""
    not_before: datetime
    not_after: datetime
    status_lists: tuple[str, ...]


class IssuerList:
    """Listed issuers by kid. An empty list trusts nobody."""

    def __init__(self, issuers: Iterable[ListedIssuer] = (), date: datetime | None = None) -> None:
        self._by_kid: Mapping[bytes, ListedIssuer] = {issuer.kid: issuer for issuer in issuers}
        self.date = date

    def __len__(self) -> int:
        return len(self._by_kid)

    def find(self, kid: bytes) -> ListedIssuer | None:
        return self._by_kid.get(kid)


def _entry(value: Any) -> ListedIssuer:
    if type(value) is not dict:
        raise MalformedError("issuer list: an entry is a map")
    kid, types, lists = value.get("kid"), value.get("docTypes"), value.get("statusLists", [])
    if type(kid) is not bytes or not 1 <= len(kid) <= MAX_KID:
        raise MalformedError("issuer list: kid is expected")
    if type(types) is not list or not types or not all(type(entry) is str for entry in types):
        raise MalformedError("issuer list: docTypes is expected")
    if type(lists) is not list or not all(type(entry) is str for entry in lists):
        raise MalformedError("issuer list: statusLists is an array of addresses")
    return ListedIssuer(
        kid,
        cose.ec_public_key(value.get("key"), "issuer list key"),
        tuple(types),
        tdate(value.get("notBefore"), "notBefore"),
        tdate(value.get("notAfter"), "notAfter"),
        tuple(lists),
    )


def parse(raw: bytes, signer: ec.EllipticCurvePublicKey) -> IssuerList:
    """Read and verify a list. Raises MalformedError, or TrustError where `signer` did not sign it."""
    sign1 = cose.parse_sign1(cbor.decode(raw), "issuer list")
    if sign1.protected.get(cose.TYP) != TYPE or sign1.payload is None:
        raise MalformedError("issuer list: type header or payload is missing")
    if not cose.verify_sign1(sign1, signer):
        raise TrustError("issuer list: signature does not verify")
    body = cbor.decode_map(sign1.payload)
    entries = body.get("issuers")
    if body.get("version") != 1 or type(entries) is not list:
        raise MalformedError("issuer list: version 1 and issuers are expected")
    issuers = [_entry(entry) for entry in entries]
    if len({issuer.kid for issuer in issuers}) != len(issuers):
        raise MalformedError("issuer list: a kid twice")
    return IssuerList(issuers, tdate(body.get("date"), "date"))


def format_tdate(moment: datetime) -> Tag:
    """tdate as 18013-5 7.1 wants it: UTC, `Z`, no fractions."""
    return Tag(0, moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def build(issuers: Sequence[ListedIssuer], date: datetime, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A signed list (publisher's side)."""
    payload = {
        "version": 1,
        "date": format_tdate(date),
        "issuers": [
            {
                "kid": issuer.kid,
                "key": cose.cose_key(issuer.key),
                "docTypes": list(issuer.doc_types),
                "notBefore": format_tdate(issuer.not_before),
                "notAfter": format_tdate(issuer.not_after),
                "statusLists": list(issuer.status_lists),
            }
            for issuer in issuers
        ],
    }
    sign1 = cose.build_sign1(key, cbor.encode(payload), protected={cose.TYP: TYPE})
    return cbor.encode(Tag(cose.TAG_SIGN1, sign1))
