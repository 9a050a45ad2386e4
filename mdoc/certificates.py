"""X.509 certificates of 18013-5 Annex B: issuing authority root (IACA), document signer (DS), reader, status signer.

Rules are small functions in a list per profile, so that a profile reads like the annex's table. A rule returns None or what
is wrong. Signatures and dates are checked apart, since dates depend on the moment and signatures do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from mdoc import limits
from mdoc.cose import PublicKey
from mdoc.errors import MalformedError, TrustError

EKU_MDL_DS = ObjectIdentifier("1.0.18013.5.1.2")
EKU_MDOC_DS = ObjectIdentifier("1.0.23220.4.1.2")
EKU_MDL_READER = ObjectIdentifier("1.0.18013.5.1.6")
EKU_MDOC_READER = ObjectIdentifier("1.0.23220.4.1.6")
"""Table B.3 and B.7; 23220-4 for documents that are not driving licences."""

_KNOWN_CRITICAL = frozenset(
    {
        x509.BasicConstraints.oid,
        x509.KeyUsage.oid,
        x509.ExtendedKeyUsage.oid,
    }
)
_DISALLOWED = frozenset(
    {
        ObjectIdentifier("2.5.29.33"),  # policyMappings, for which the library has no class
        x509.NameConstraints.oid,
        x509.PolicyConstraints.oid,
        x509.InhibitAnyPolicy.oid,
        x509.FreshestCRL.oid,
    }
)
"""Extensions that Annex B.1.1 forbids."""

Rule = Callable[[x509.Certificate], str | None]


def load_der(der: bytes) -> x509.Certificate:
    """Parse one DER certificate and its extensions. Raises MalformedError, also where the library cannot read it."""
    if len(der) > limits.MAX_CERTIFICATE:
        raise MalformedError("certificate too long")
    try:
        certificate = x509.load_der_x509_certificate(der)
        # These are parsed lazily and would raise later, at places that expect a good certificate.
        _ = (
            certificate.extensions,
            certificate.public_key(),
            certificate.subject,
            certificate.issuer,
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
            certificate.signature_hash_algorithm,
        )
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise MalformedError("certificate cannot be read") from error
    return certificate


def load_pem(text: bytes) -> list[x509.Certificate]:
    """Parse a PEM file of one or more certificates. Raises TrustError."""
    try:
        found = x509.load_pem_x509_certificates(text)
        return [load_der(certificate.public_bytes(Encoding.DER)) for certificate in found]
    except (ValueError, MalformedError) as error:
        raise TrustError("not a PEM certificate") from error


def chain_from_header(value: object) -> list[bytes]:
    """x5chain (RFC 9360): one bstr, or an array of two or more. Leaf first. Raises MalformedError."""
    if type(value) is bytes:
        return [value]
    if type(value) is list and 1 <= len(value) <= limits.MAX_CHAIN and all(type(entry) is bytes for entry in value):
        return value
    raise MalformedError("x5chain: a certificate or a short array of them is expected")


def verification_key(certificate: x509.Certificate) -> PublicKey:
    """The subject's key, of a kind this library verifies with. Raises MalformedError."""
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return key
    raise MalformedError("certificate key is not an elliptic-curve one")


def _extension(
    certificate: x509.Certificate, kind: type[x509.ExtensionType]
) -> x509.Extension[x509.ExtensionType] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def key_identifier(certificate: x509.Certificate) -> bytes | None:
    extension = _extension(certificate, x509.SubjectKeyIdentifier)
    return None if extension is None else extension.value.key_identifier  # type: ignore[attr-defined]  # typed by its class


def authority_identifier(certificate: x509.Certificate) -> bytes | None:
    extension = _extension(certificate, x509.AuthorityKeyIdentifier)
    return None if extension is None else extension.value.key_identifier  # type: ignore[attr-defined]  # typed by its class


def _attributes(name: x509.Name, oid: ObjectIdentifier) -> list[str | bytes]:
    return [attribute.value for attribute in name.get_attributes_for_oid(oid)]


def version_3(certificate: x509.Certificate) -> str | None:
    return None if certificate.version is x509.Version.v3 else "not version 3"


def no_unknown_critical(certificate: x509.Certificate) -> str | None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _KNOWN_CRITICAL:
            return f"critical extension {extension.oid.dotted_string} is not known"
        if extension.oid in _DISALLOWED:
            return f"extension {extension.oid.dotted_string} is not allowed"
    return None


def not_a_ca(certificate: x509.Certificate) -> str | None:
    extension = _extension(certificate, x509.BasicConstraints)
    if extension is not None and extension.value.ca:  # type: ignore[attr-defined]  # typed by its class
        return "a certification authority, where an end entity is expected"
    return None


def signs_digitally_only(certificate: x509.Certificate) -> str | None:
    extension = _extension(certificate, x509.KeyUsage)
    if extension is None:
        return "no key usage"
    usage = extension.value
    assert isinstance(usage, x509.KeyUsage)  # noqa: S101  narrows what get_extension_for_class gave
    others = (
        usage.content_commitment,
        usage.key_encipherment,
        usage.data_encipherment,
        usage.key_agreement,
        usage.key_cert_sign,
        usage.crl_sign,
    )
    return None if usage.digital_signature and not any(others) else "key usage is not digitalSignature alone"


def issuing_authority(certificate: x509.Certificate) -> str | None:
    constraints, usage = _extension(certificate, x509.BasicConstraints), _extension(certificate, x509.KeyUsage)
    if constraints is None or usage is None:
        return "no basic constraints or no key usage"
    if not constraints.value.ca or constraints.value.path_length != 0:  # type: ignore[attr-defined]  # typed by its class
        return "not a CA with path length 0"
    if not usage.value.key_cert_sign:  # type: ignore[attr-defined]  # typed by its class
        return "may not sign certificates"
    return None


def self_issued(certificate: x509.Certificate) -> str | None:
    return None if certificate.issuer == certificate.subject else "not self-issued"


def one_country(certificate: x509.Certificate) -> str | None:
    return None if len(_attributes(certificate.subject, NameOID.COUNTRY_NAME)) == 1 else "not exactly one country"


def extended_key_usage(*allowed: ObjectIdentifier) -> Rule:
    """Exactly one purpose, one of `allowed`, critical."""

    def rule(certificate: x509.Certificate) -> str | None:
        extension = _extension(certificate, x509.ExtendedKeyUsage)
        if extension is None:
            return "no extended key usage"
        purposes = list(extension.value)  # type: ignore[call-overload]  # typed by its class
        if len(purposes) != 1 or purposes[0] not in allowed or not extension.critical:
            return "extended key usage is not the one for this role, alone and critical"
        return None

    return rule


IACA_PROFILE: Sequence[Rule] = (version_3, no_unknown_critical, self_issued, one_country, issuing_authority)
"""Table B.1."""
DOCUMENT_SIGNER_PROFILE: Sequence[Rule] = (
    version_3,
    no_unknown_critical,
    not_a_ca,
    signs_digitally_only,
    extended_key_usage(EKU_MDL_DS, EKU_MDOC_DS),
)
"""Table B.3."""
READER_PROFILE: Sequence[Rule] = (
    version_3,
    no_unknown_critical,
    not_a_ca,
    signs_digitally_only,
    extended_key_usage(EKU_MDL_READER, EKU_MDOC_READER),
)
"""Table B.7."""
STATUS_SIGNER_PROFILE: Sequence[Rule] = (version_3, no_unknown_critical, not_a_ca, signs_digitally_only)
"""Token Status List names no purpose yet (its OID is unassigned), so none is asked."""


def broken_rule(certificate: x509.Certificate, profile: Iterable[Rule]) -> str | None:
    """The first rule of `profile` that `certificate` breaks, in words, or None."""
    for rule in profile:
        problem = rule(certificate)
        if problem is not None:
            return problem
    return None


def valid_at(certificate: x509.Certificate, moment: datetime) -> bool:
    return certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc


@dataclass(frozen=True, slots=True)
class Anchor:
    """One trusted issuing authority."""

    certificate: x509.Certificate
    key_identifier: bytes | None
    country: tuple[str | bytes, ...]
    state: tuple[str | bytes, ...]
    not_before: datetime
    not_after: datetime

    @classmethod
    def from_certificate(cls, certificate: x509.Certificate) -> Anchor:
        """Raises TrustError when the certificate breaks the IACA profile or its own signature."""
        problem = broken_rule(certificate, IACA_PROFILE)
        if problem is None and not signed_by(certificate, certificate):
            problem = "own signature does not verify"
        if problem is not None:
            raise TrustError(f"issuing authority: {problem}")
        subject = certificate.subject
        return cls(
            certificate,
            key_identifier(certificate),
            tuple(_attributes(subject, NameOID.COUNTRY_NAME)),
            tuple(_attributes(subject, NameOID.STATE_OR_PROVINCE_NAME)),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )


_WEAK_HASHES = (hashes.SHA1, hashes.MD5)


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Names match and the issuer's key made the signature, with a hash that still counts as one."""
    if isinstance(certificate.signature_hash_algorithm, _WEAK_HASHES):
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Chained:
    """A leaf certificate that a trusted anchor issued. Dates are still to be checked at the moment of use."""

    certificate: x509.Certificate
    key: PublicKey
    anchor: Anchor
    not_before: datetime
    not_after: datetime
    """The leaf's own dates."""

    def dated(self, moment: datetime) -> bool:
        """Leaf and anchor are both valid at `moment`."""
        return self.not_before <= moment <= self.not_after and self.anchor.not_before <= moment <= self.anchor.not_after


class TrustAnchors:
    """The trusted issuing authorities, and a bounded memory of leaves already checked against them.

    The memory holds only what does not depend on time (signature, profile, names), by the exact certificate bytes.
    """

    _REMEMBERED = 256

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        self._by_subject: dict[bytes, list[Anchor]] = {}
        for anchor in anchors:
            self._by_subject.setdefault(anchor.certificate.subject.public_bytes(), []).append(anchor)
        self._known: dict[tuple[bytes, int], Chained | str] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_subject.values()))

    def forget(self) -> None:
        """Drop the memory of checked leaves (the benchmark's uncached case)."""
        self._known.clear()

    def issued(self, der: bytes, profile: Sequence[Rule]) -> Chained | str | None:
        """The leaf in `der` as issued by an anchor; what is wrong with it; or None when no anchor issued it.

        Raises MalformedError when the certificate cannot be read.
        """
        known = self._known.get((der, id(profile)))
        if known is not None:
            return known
        certificate = load_der(der)
        result = self._issued(certificate, profile)
        if result is not None:
            if len(self._known) >= self._REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known[der, id(profile)] = result
        return result

    def _issued(self, certificate: x509.Certificate, profile: Sequence[Rule]) -> Chained | str | None:
        authority = authority_identifier(certificate)
        for anchor in self._by_subject.get(certificate.issuer.public_bytes(), ()):
            if anchor.key_identifier is not None and authority != anchor.key_identifier:
                continue
            if not signed_by(certificate, anchor.certificate):
                continue
            problem = broken_rule(certificate, profile) or _names(certificate, anchor)
            return problem or Chained(
                certificate,
                verification_key(certificate),
                anchor,
                certificate.not_valid_before_utc,
                certificate.not_valid_after_utc,
            )
        return None


def _names(certificate: x509.Certificate, anchor: Anchor) -> str | None:
    """Country of both is the same; state is the same when either has one (table B.3)."""
    if tuple(_attributes(certificate.subject, NameOID.COUNTRY_NAME)) != anchor.country:
        return "country differs from the issuing authority's"
    if tuple(_attributes(certificate.subject, NameOID.STATE_OR_PROVINCE_NAME)) != anchor.state:
        return "state differs from the issuing authority's"
    return None
