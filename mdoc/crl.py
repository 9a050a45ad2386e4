"""Certificate revocation lists of an issuing authority (18013-5 B.1.9, table B.9; RFC 5280 5): which signers no longer count.

    CertificateList = SEQUENCE {tbs {version 1 (v2), algorithm, issuer, thisUpdate, nextUpdate, ? revoked [+ {serial, date,
                      ? extensions}], [0] {authorityKeyIdentifier, cRLNumber}}, algorithm, signature}

One list speaks for every certificate of its authority: no delta, no indirect or partial list. A list that breaks a rule counts
as no list, and the one in force stays (`newest`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mdoc import limits
from mdoc.certificates import der
from mdoc.certificates.structure import (
    COMMON_NAME,
    CRL_SIGN,
    Certificate,
    authority_key_identifier,
    key_identifier,
    key_usage,
    name_attributes,
    signature_holds,
    verification_key,
)
from mdoc.errors import MalformedError, TrustError
from mdoc.freshness import ListFacts, ListKind

_AUTHORITY_KEY_IDENTIFIER, _CRL_NUMBER = der.oid("2.5.29.35"), der.oid("2.5.29.20")
_REASON, _CERTIFICATE_ISSUER = der.oid("2.5.29.21"), der.oid("2.5.29.29")
_REMOVE_FROM_CRL = 8
_Extensions = dict[bytes, tuple[bool, bytes]]


@dataclass(frozen=True, slots=True)
class Crl:
    """One verified list."""

    issuer: bytes
    """The authority's subject name, DER."""
    issuer_key: bytes
    """The authority's SubjectPublicKeyInfo, DER."""
    number: int
    this_update: datetime
    next_update: datetime
    revoked: frozenset[int]
    """Serial numbers."""

    def newer_than(self, other: Crl) -> bool:
        """Both number and time must not go back, and one must advance."""
        if self.number < other.number or self.this_update < other.this_update:
            return False
        return (self.number, self.this_update) != (other.number, other.this_update)

    @property
    def facts(self) -> ListFacts:
        name = b"".join(name_attributes(self.issuer).get(COMMON_NAME, ())).decode("utf-8", "replace")
        return ListFacts(ListKind.CRL, name, str(self.number), self.this_update, self.next_update)


Holds = Callable[[Certificate, bytes, bytes, bytes], bool]
"""(authority, AlgorithmIdentifier content, signature, message): the authority's key made the signature."""


def _holds(authority: Certificate, algorithm: bytes, signature: bytes, message: bytes) -> bool:
    return signature_holds(verification_key(authority), algorithm, signature, message)


def parse(raw: bytes, authorities: Iterable[Certificate], *, holds: Holds = _holds) -> Crl:
    """Read a DER list and verify it against the one of `authorities` that issued it. `holds`: for authorities of another profile,
    whose keys and algorithms differ from those of 18013-5.

    Raises MalformedError for bad bytes or a breach of the profile, TrustError where none of the authorities signed it.
    """
    if len(raw) > limits.MAX_CRL:
        raise MalformedError("CRL: too long")
    begin, end = der.whole(raw, der.SEQUENCE)
    at, tbs_end = der.expect(raw, begin, end, der.SEQUENCE)
    outer, outer_end = der.expect(raw, tbs_end, end, der.SEQUENCE)
    bits, bits_end = der.expect(raw, outer_end, end, der.BIT_STRING)
    if bits_end != end or bits == bits_end or raw[bits] != 0:
        raise MalformedError("CRL: a signature of whole bytes is expected last")
    start, stop = der.expect(raw, at, tbs_end, der.INTEGER)
    if der.integer(raw, start, stop) != 1:
        raise MalformedError("CRL: version 2 is expected")
    start, inner_end = der.expect(raw, stop, tbs_end, der.SEQUENCE)
    if raw[start:inner_end] != raw[outer:outer_end]:
        raise MalformedError("CRL: two different signature algorithms")
    _, issuer_end = der.expect(raw, inner_end, tbs_end, der.SEQUENCE)
    issuer = raw[inner_end:issuer_end]
    tag, start, stop = der.element(raw, issuer_end, tbs_end)
    this_update = der.moment(raw, tag, start, stop)
    if stop == tbs_end:
        raise MalformedError("CRL: nextUpdate is expected")
    tag, start, stop = der.element(raw, stop, tbs_end)
    if tag not in (der.UTC_TIME, der.GENERALIZED_TIME):
        raise MalformedError("CRL: nextUpdate is expected")
    next_update = der.moment(raw, tag, start, stop)
    if next_update <= this_update:
        raise MalformedError("CRL: nextUpdate is not after thisUpdate")
    revoked: frozenset[int] = frozenset()
    if stop < tbs_end and raw[stop] == der.SEQUENCE:
        start, stop = der.expect(raw, stop, tbs_end, der.SEQUENCE)
        revoked = _revoked(raw, start, stop)
    start, wrapped_end = der.expect(raw, stop, tbs_end, 0xA0)
    extensions = _extensions(raw, start, wrapped_end)
    if wrapped_end != tbs_end or set(extensions) != {_AUTHORITY_KEY_IDENTIFIER, _CRL_NUMBER}:
        raise MalformedError("CRL: authority key identifier and CRL number are expected, and no more")
    if any(critical for critical, _ in extensions.values()):
        raise MalformedError("CRL: a critical extension")
    number_value = extensions[_CRL_NUMBER][1]
    number = der.integer(number_value, *der.whole(number_value, der.INTEGER))
    if not 0 <= number < 1 << 160:
        raise MalformedError("CRL: a number below zero, or of more than 20 octets")  # RFC 5280 5.2.3
    identifier = authority_key_identifier(extensions[_AUTHORITY_KEY_IDENTIFIER][1])
    for authority in authorities:
        if authority.subject != issuer or key_identifier(authority) != identifier or identifier is None:
            continue
        if not (key_usage(authority) or 0) & CRL_SIGN:
            continue
        if holds(authority, raw[outer:outer_end], raw[bits + 1 : bits_end], raw[begin:tbs_end]):
            return Crl(issuer, authority.public_key_info, number, this_update, next_update, revoked)
    raise TrustError("CRL: no trusted issuing authority signed it")


def _extensions(raw: bytes, begin: int, end: int) -> _Extensions:
    """Of the list or of one entry; `begin` is the SEQUENCE OF."""
    at, stop = der.expect(raw, begin, end, der.SEQUENCE)
    if stop != end:
        raise MalformedError("CRL: bytes after the extensions")
    found: _Extensions = {}
    for tag, start, after in der.children(raw, at, stop):
        if tag != der.SEQUENCE:
            raise MalformedError("CRL: an extension")
        parts = list(der.children(raw, start, after))
        critical = len(parts) == 3 and parts[1][0] == der.BOOLEAN and der.boolean(raw, *parts[1][1:])
        if [part[0] for part in parts] not in (
            [der.OID, der.OCTET_STRING],
            [der.OID, der.BOOLEAN, der.OCTET_STRING],
        ):
            raise MalformedError("CRL: an extension")
        identifier = raw[parts[0][1] : parts[0][2]]
        if identifier in found:
            raise MalformedError("CRL: an extension twice")
        found[identifier] = (critical, raw[parts[-1][1] : parts[-1][2]])
    return found


def _revoked(raw: bytes, at: int, end: int) -> frozenset[int]:
    if at == end:
        raise MalformedError("CRL: an empty list of entries is left out")
    serials = []
    for tag, start, stop in der.children(raw, at, end):
        if tag != der.SEQUENCE:
            raise MalformedError("CRL: an entry")
        begin, after = der.expect(raw, start, stop, der.INTEGER)
        serials.append(der.integer(raw, begin, after))
        kind, begin, after = der.element(raw, after, stop)
        der.moment(raw, kind, begin, after)
        if after < stop:
            _entry_extensions(_extensions(raw, after, stop))
    if len(set(serials)) != len(serials):
        raise MalformedError("CRL: a serial number twice")
    return frozenset(serials)


def _entry_extensions(extensions: _Extensions) -> None:
    for identifier, (critical, value) in extensions.items():
        if critical or identifier == _CERTIFICATE_ISSUER:
            # An indirect list: its entry may be another authority's certificate (RFC 5280 5.3.3).
            raise MalformedError("CRL: a critical entry extension, or an indirect list")
        if identifier == _REASON:
            begin, end = der.whole(value, der.ENUMERATED)
            if value[begin:end] == bytes((_REMOVE_FROM_CRL,)):
                raise MalformedError("CRL: removeFromCRL, which only a delta list may say")


def revoked(chain: Iterable[Certificate], lists: Sequence[Crl]) -> bool:
    """A certificate of the chain stands on the list of its issuer. Names are enough here: the chain itself has been checked."""
    return any(entry.issuer == link.issuer and link.serial in entry.revoked for link in chain for entry in lists)


def newest(lists: Iterable[Crl], in_force: Iterable[Crl] = ()) -> tuple[tuple[Crl, ...], int]:
    """Of each authority the newest of `lists`, and how many were older than the one in force, which then stays in its place."""
    before = {(entry.issuer, entry.issuer_key): entry for entry in in_force}
    found: dict[tuple[bytes, bytes], Crl] = {}
    older = 0
    for entry in lists:
        authority = (entry.issuer, entry.issuer_key)
        current = before.get(authority)
        if current is not None and not entry.newer_than(current):
            older += entry != current
        else:
            current = entry
        rival = found.get(authority)
        if rival is None or current.newer_than(rival):
            found[authority] = current
    return tuple(found.values()), older


def build(
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    number: int,
    revoked: Sequence[int],
    this_update: datetime,
    lifetime: timedelta,
) -> bytes:
    """A signed list, DER (issuer's side)."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(this_update)
        .next_update(this_update + lifetime)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(this_update).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.DER)
