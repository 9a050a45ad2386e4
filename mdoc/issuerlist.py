"""The signed issuer list: issuers named by `kid` (a DID key or our own short name) for what carries no certificate chain.

    COSE_Sign1 (tag 18), protected {1: alg, 16: "application/gwanmun-issuers+cbor"}, payload
    {"version": 1, "date": tdate, ? "nextUpdate": tdate, ? "specimen": bool, "issuers": [+ {"kid": bstr, "key": COSE_Key,
     "docTypes": [+ tstr], "notBefore": tdate, "notAfter": tdate, "statusLists": [* uri], ? "statusAuthority": bstr}]}

The list's own signer is pinned in the gate's configuration. A QR pass refers to a document type and a status list by their
places in `docTypes` and `statusLists`; an mdoc whose issuerAuth carries `kid` instead of x5chain may name only what stands
there. `statusAuthority` is the key identifier of the issuing authority under which the status lists are signed; without it any
trusted authority's counts. `specimen` marks a list that anybody can make (mdoc.specimen).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cbor, cose
from mdoc.cbor import Tag
from mdoc.errors import MalformedError, TrustError
from mdoc.freshness import ListFacts, ListKind
from mdoc.mso import tdate

if TYPE_CHECKING:
    from mdoc.certificates import Anchor
    from mdoc.crl import Crl

TYPE = "application/gwanmun-issuers+cbor"
MAX_KID = 256
_NO_LIST = ListFacts(ListKind.ISSUER_LIST, "issuers.cose", None, None, None)


@dataclass(frozen=True, slots=True)
class ListedIssuer:
    """An entry. Answers what `mdoc.certificates.Chained` answers, so that a verifier asks both kinds of issuer the same."""

    kid: bytes
    key: ec.EllipticCurvePublicKey
    doc_types: tuple[str, ...]
    """A pass refers to its type by its place here."""
    not_before: datetime
    not_after: datetime
    status_lists: tuple[str, ...]
    status_authority: bytes | None = None
    source: ListFacts = _NO_LIST

    @property
    def crl(self) -> Crl | None:
        """None: an issuer without a certificate is revoked by a newer list without it."""
        return None

    @property
    def revoked(self) -> bool:
        return False

    def dated(self, moment: datetime) -> bool:
        return self.not_before <= moment <= self.not_after

    def for_type(self, doc_type: str) -> ListedIssuer:  # noqa: ARG002  the certified issuer's twin needs it
        """Itself: an entry has one key, one list and one set of dates for all of its types."""
        return self

    def may_sign(self, doc_type: str) -> bool:
        return doc_type in self.doc_types

    def purpose_fits(self, doc_type: str) -> bool:
        """A listed key has no purpose but the document types of its entry."""
        return doc_type in self.doc_types

    def accepts_status(self, uri: str, authority: Anchor) -> bool:
        """The list at `uri`, whose signer `authority` issued, speaks for this issuer's documents."""
        expected = self.status_authority
        return uri in self.status_lists and (expected is None or authority.key_identifier == expected)


class IssuerList:
    """Listed issuers by kid. An empty list trusts nobody."""

    def __init__(
        self,
        issuers: Iterable[ListedIssuer] = (),
        date: datetime | None = None,
        next_update: datetime | None = None,
        *,
        specimen: bool = False,
    ) -> None:
        self.facts = replace(_NO_LIST, issued_at=date, expires=next_update)
        self._by_kid: Mapping[bytes, ListedIssuer] = {
            issuer.kid: replace(issuer, source=self.facts) for issuer in issuers
        }
        self.date, self.specimen = date, specimen

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
    authority = value.get("statusAuthority")
    if authority is not None and (type(authority) is not bytes or not authority):
        raise MalformedError("issuer list: statusAuthority is a key identifier")
    not_before, not_after = tdate(value.get("notBefore"), "notBefore"), tdate(value.get("notAfter"), "notAfter")
    if not_before > not_after:
        raise MalformedError("issuer list: an entry ends before it begins")
    return ListedIssuer(
        kid,
        cose.ec_public_key(value.get("key"), "issuer list key"),
        tuple(types),
        not_before,
        not_after,
        tuple(lists),
        authority,
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
    next_update = tdate(body["nextUpdate"], "nextUpdate") if "nextUpdate" in body else None
    specimen = body.get("specimen", False)
    if type(specimen) is not bool:
        raise MalformedError("issuer list: specimen is true or false")
    return IssuerList(issuers, tdate(body.get("date"), "date"), next_update, specimen=specimen)


def format_tdate(moment: datetime) -> Tag:
    """tdate as 18013-5 7.1 wants it: UTC, `Z`, no fractions."""
    return Tag(0, moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def _row(issuer: ListedIssuer) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kid": issuer.kid,
        "key": cose.cose_key(issuer.key),
        "docTypes": list(issuer.doc_types),
        "notBefore": format_tdate(issuer.not_before),
        "notAfter": format_tdate(issuer.not_after),
        "statusLists": list(issuer.status_lists),
    }
    if issuer.status_authority is not None:
        row["statusAuthority"] = issuer.status_authority
    return row


def build(
    issuers: Sequence[ListedIssuer],
    date: datetime,
    key: ec.EllipticCurvePrivateKey,
    *,
    next_update: datetime | None = None,
    specimen: bool = False,
) -> bytes:
    """A signed list (publisher's side)."""
    payload: dict[str, Any] = {"version": 1, "date": format_tdate(date)}
    if next_update is not None:
        payload["nextUpdate"] = format_tdate(next_update)
    if specimen:
        payload["specimen"] = True
    payload["issuers"] = [_row(issuer) for issuer in issuers]
    sign1 = cose.build_sign1(key, cbor.encode(payload), protected={cose.TYP: TYPE})
    return cbor.encode(Tag(cose.TAG_SIGN1, sign1))
