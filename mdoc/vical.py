"""VICAL (18013-5 Annex C): a provider's signed list of issuing authorities, and the document types each is listed for.

    COSE_Sign1 untagged, protected {1: alg}, unprotected {33: x5chain}, payload
    {"version", "vicalProvider", "date": tdate, ? "vicalIssueID", ? "nextUpdate": tdate, "certificateInfos": [+ {"certificate":
     DER, "serialNumber": bignum, "ski": bstr, "docType": [+ tstr], ? "issuingAuthority", ? "issuingCountry", ...}]}

What real lists do: the chain may end with the root or leave it out, the issue number goes backwards, `ski` may carry an extra
DER head, extensions are spelled with a capital. So the date alone orders two lists, and all that a certificate says is taken
from the certificate. An entry that cannot be used is named in `problems`; the others stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mdoc import cbor, cose, limits
from mdoc.cbor import Tag
from mdoc.certificates import (
    VICAL_SIGNER_PROFILE,
    Anchor,
    Certificate,
    Settings,
    chain_from_header,
    key_identifier,
    path_problem,
    read,
    verification_key,
)
from mdoc.errors import MalformedError, MdocError, TrustError
from mdoc.freshness import ListFacts, ListKind
from mdoc.issuerlist import format_tdate
from mdoc.mso import tdate

_VERSION = "1."
_NO_SETTINGS: Mapping[bytes, Settings] = {}


@dataclass(frozen=True, slots=True)
class Vical:
    """One verified list."""

    provider: str
    date: datetime
    issue_id: int | None
    next_update: datetime | None
    anchors: tuple[Anchor, ...]
    chain: tuple[Certificate, ...]
    """The signer's certificates, signer first, as the list carries them."""
    raw: bytes
    """As received, to be read again under other settings."""
    problems: tuple[str, ...]
    """`entry n: what is wrong`, for entries that were left out."""

    @property
    def publisher(self) -> tuple[str, bytes]:
        """Provider and the root's name: what two lists must share for one to replace the other."""
        return self.provider, self.chain[-1].issuer

    @property
    def facts(self) -> ListFacts:
        return _facts(self.provider, self.issue_id, self.date, self.next_update)


def _facts(provider: str, issue_id: int | None, date: datetime, next_update: datetime | None) -> ListFacts:
    version = None if issue_id is None else str(issue_id)
    return ListFacts(ListKind.ISSUER_LIST, provider, version, date, next_update)


def parse(
    raw: bytes,
    roots: Sequence[Certificate],
    *,
    settings: Mapping[bytes, Settings] = _NO_SETTINGS,
) -> Vical:
    """Read and verify a list whose signer chains to one of `roots`.

    Signature and chain are judged at the list's own date: an old list of a signer that has expired since is still what the
    provider said, and its age is the zone's to judge (mdoc.freshness). `settings` is the site's, by the SHA-256 of a listed
    certificate. Raises MalformedError for bad bytes and TrustError for a good list of nobody we know.
    """
    budget = cbor.ItemBudget(limits.MAX_VICAL_ITEMS)
    sign1 = cose.parse_sign1(cbor.decode(raw, max_bytes=limits.MAX_VICAL, budget=budget), "VICAL")
    if sign1.payload is None:
        raise MalformedError("VICAL: payload is missing")
    body = cbor.decode_map(sign1.payload, max_bytes=limits.MAX_VICAL, budget=budget)
    version, provider, infos = body.get("version"), body.get("vicalProvider"), body.get("certificateInfos")
    if type(version) is not str or not version.startswith(_VERSION):
        raise MalformedError("VICAL: version 1.x is expected")
    if type(provider) is not str or not provider or type(infos) is not list:
        raise MalformedError("VICAL: vicalProvider and certificateInfos are expected")
    date = tdate(body.get("date"), "VICAL date")
    next_update = tdate(body["nextUpdate"], "VICAL nextUpdate") if body.get("nextUpdate") is not None else None
    if next_update is not None and next_update < date:
        raise MalformedError("VICAL: nextUpdate is before its date")
    issue_id = body.get("vicalIssueID")
    if issue_id is not None and (type(issue_id) is not int or issue_id < 0):
        raise MalformedError("VICAL: vicalIssueID is a whole number")
    chain = tuple(read(entry) for entry in chain_from_header(sign1.unprotected.get(cose.X5CHAIN)))
    problem = path_problem(chain, roots, VICAL_SIGNER_PROFILE, date)
    if problem is not None:
        raise TrustError(f"VICAL signer: {problem}")
    if not cose.verify_sign1(sign1, verification_key(chain[0])):
        raise TrustError("VICAL: signature does not verify")
    source = _facts(provider, issue_id, date, next_update)
    anchors: list[Anchor] = []
    problems: list[str] = []
    for number, entry in enumerate(infos, 1):
        try:
            anchors.append(_anchor(entry, source, settings))
        except MdocError as error:
            problems.append(f"entry {number}: {error}")
    return Vical(provider, date, issue_id, next_update, tuple(anchors), chain, raw, tuple(problems))


def _number(value: Any) -> int | None:
    """A serial number: bignum (#6.2 bstr), or a plain unsigned integer where it is small."""
    if type(value) is Tag and value.number == 2 and type(value.value) is bytes:
        return int.from_bytes(value.value, "big")
    return value if type(value) is int else None


def _anchor(entry: Any, source: ListFacts, settings: Mapping[bytes, Settings]) -> Anchor:
    if type(entry) is not dict or type(entry.get("certificate")) is not bytes:
        raise MalformedError("certificate is expected")
    types = entry.get("docType")
    if type(types) is not list or not types or not all(type(doc_type) is str for doc_type in types):
        raise MalformedError("docType is an array of text")
    certificate = read(entry["certificate"])
    if "serialNumber" in entry and _number(entry["serialNumber"]) != certificate.serial:
        raise MalformedError("serialNumber is another certificate's")
    chosen = settings.get(certificate.fingerprint(), Settings())
    return Anchor.from_certificate(certificate, source=source, settings=chosen, listed_types=frozenset(types))


def build(
    *,
    provider: str,
    authorities: Sequence[tuple[x509.Certificate, Sequence[str]]],
    date: datetime,
    lifetime: timedelta | None,
    issue_id: int | None,
    key: ec.EllipticCurvePrivateKey,
    chain: Sequence[x509.Certificate],
) -> bytes:
    """A signed VICAL of (root, document types), for a site that lists its own issuers. `chain` is the signer's, signer first."""
    payload: dict[str, Any] = {"version": "1.0", "vicalProvider": provider, "date": format_tdate(date)}
    if issue_id is not None:
        payload["vicalIssueID"] = issue_id
    if lifetime is not None:
        payload["nextUpdate"] = format_tdate(date + lifetime)
    payload["certificateInfos"] = [_info(certificate, types) for certificate, types in authorities]
    certificates = [certificate.public_bytes(Encoding.DER) for certificate in chain]
    header = certificates[0] if len(certificates) == 1 else certificates
    return cbor.encode(cose.build_sign1(key, cbor.encode(payload), unprotected={cose.X5CHAIN: header}))


def _info(certificate: x509.Certificate, types: Sequence[str]) -> dict[str, Any]:
    """Raises ValueError for a certificate without a subject key identifier, which an entry must give."""
    own = read(certificate.public_bytes(Encoding.DER))
    identifier = key_identifier(own)
    if identifier is None:
        raise ValueError("a root without a subject key identifier cannot be listed")
    serial = own.serial
    return {
        "certificate": own.der,
        "serialNumber": Tag(2, serial.to_bytes((serial.bit_length() + 7) // 8, "big")),
        "ski": identifier,
        "docType": list(types),
        "issuingAuthority": certificate.subject.rfc4514_string(),
        "issuer": own.issuer,
        "subject": own.subject,
        "notBefore": format_tdate(own.not_before),
        "notAfter": format_tdate(own.not_after),
    }
