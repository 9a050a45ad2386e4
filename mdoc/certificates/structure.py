"""An X.509 certificate as received (RFC 5280 4.1): one pass over its DER, every part kept as bytes where bytes are compared.

Reading says nothing about trust: `mdoc.certificates.profiles` holds the rules, `anchors` the trusted roots.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509.oid import NameOID

from mdoc import limits
from mdoc.certificates import der
from mdoc.cose import PublicKey, small_order
from mdoc.errors import MalformedError, TrustError

BASIC_CONSTRAINTS = der.oid("2.5.29.19")
KEY_USAGE = der.oid("2.5.29.15")
EXTENDED_KEY_USAGE = der.oid("2.5.29.37")
SUBJECT_KEY_IDENTIFIER = der.oid("2.5.29.14")
AUTHORITY_KEY_IDENTIFIER = der.oid("2.5.29.35")
ISSUER_ALTERNATIVE_NAME = der.oid("2.5.29.18")
CRL_DISTRIBUTION_POINTS = der.oid("2.5.29.31")

COUNTRY = der.oid(NameOID.COUNTRY_NAME.dotted_string)
STATE = der.oid(NameOID.STATE_OR_PROVINCE_NAME.dotted_string)
COMMON_NAME = der.oid(NameOID.COMMON_NAME.dotted_string)

DIGITAL_SIGNATURE, CONTENT_COMMITMENT, KEY_CERT_SIGN, CRL_SIGN = 0x8000, 0x4000, 0x0400, 0x0200
"""Bits of KeyUsage as `key_usage` gives them: the first named bit is the highest of 16."""


def _algorithm(dotted: str) -> bytes:
    """AlgorithmIdentifier content without parameters, which none of the allowed ones has (RFC 5758 3.2, RFC 8410 3)."""
    content = der.oid(dotted)
    return bytes((der.OID, len(content))) + content


_ECDSA: Mapping[bytes, ec.ECDSA] = {
    _algorithm("1.2.840.10045.4.3.2"): ec.ECDSA(hashes.SHA256()),
    _algorithm("1.2.840.10045.4.3.3"): ec.ECDSA(hashes.SHA384()),
    _algorithm("1.2.840.10045.4.3.4"): ec.ECDSA(hashes.SHA512()),
}
_ED25519, _ED448 = _algorithm("1.3.101.112"), _algorithm("1.3.101.113")
ALGORITHMS = frozenset({*_ECDSA, _ED25519, _ED448})
"""Table B.1: the signature algorithms that are allowed. Neither SHA-1 nor RSA is."""

CURVES = frozenset(
    {"secp256r1", "secp384r1", "secp521r1", "brainpoolP256r1", "brainpoolP320r1", "brainpoolP384r1", "brainpoolP512r1"}
)
"""Table B.1, with the Brainpool curves of 9.1.5.2."""


class Certificate:
    """One certificate. Byte fields are DER as received; equality is equality of all bytes."""

    __slots__ = (
        "_key",
        "_subject",
        "algorithm",
        "der",
        "extensions",
        "issuer",
        "not_after",
        "not_before",
        "public_key_info",
        "serial",
        "serial_length",
        "signature",
        "subject",
        "tbs",
        "version",
    )

    der: bytes
    tbs: bytes
    """What the signature is over."""
    version: int
    """1 to 3."""
    serial: int
    serial_length: int
    """Octets of the serial number."""
    algorithm: bytes
    """Content of the AlgorithmIdentifier, parameters included; the inner and the outer one agree."""
    signature: bytes
    issuer: bytes
    subject: bytes
    """Name, with its SEQUENCE head."""
    not_before: datetime
    not_after: datetime
    public_key_info: bytes
    _subject: dict[bytes, tuple[bytes, ...]] | None
    _key: PublicKey | None
    extensions: Mapping[bytes, tuple[bool, bytes]]
    """{OID content: (critical, value)}."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and other.der == self.der

    def __hash__(self) -> int:
        return hash(self.der)

    def subject_attributes(self, oid: bytes) -> tuple[bytes, ...]:
        """Contents of the subject's attributes of type `oid`, in order; read once. Raises MalformedError."""
        if self._subject is None:
            self._subject = name_attributes(self.subject)
        return self._subject.get(oid, ())

    def extension(self, oid: bytes) -> bytes | None:
        found = self.extensions.get(oid)
        return None if found is None else found[1]

    def fingerprint(self) -> bytes:
        """SHA-256 over the DER: what a site's settings name a certificate by."""
        return hashlib.sha256(self.der).digest()

    def library(self) -> x509.Certificate:
        """The same for `cryptography`, for display. Raises MalformedError where that library cannot read it."""
        return load_der(self.der)


def read(raw: bytes) -> Certificate:
    """Read one certificate. Raises MalformedError."""
    if len(raw) > limits.MAX_CERTIFICATE:
        raise MalformedError("certificate too long")
    element, expect = der.element, der.expect
    found = Certificate()
    found.der = raw
    found._subject = found._key = None
    begin, end = der.whole(raw, der.SEQUENCE)
    at, tbs_end = expect(raw, begin, end, der.SEQUENCE)
    found.tbs = raw[begin:tbs_end]
    outer, outer_end = expect(raw, tbs_end, end, der.SEQUENCE)
    bits, bits_end = expect(raw, outer_end, end, der.BIT_STRING)
    if bits_end != end or bits == bits_end or raw[bits] != 0:
        raise MalformedError("certificate: a signature of whole bytes is expected last")
    found.signature = raw[bits + 1 : bits_end]

    tag, start, stop = element(raw, at, tbs_end)
    found.version = 1
    if tag == 0xA0:
        number, number_end = expect(raw, start, stop, der.INTEGER)
        found.version = der.integer(raw, number, number_end) + 1
        if number_end != stop:
            raise MalformedError("certificate: version")
        tag, start, stop = element(raw, stop, tbs_end)
    if tag != der.INTEGER:
        raise MalformedError("certificate: a serial number is expected")
    found.serial, found.serial_length = der.integer(raw, start, stop), stop - start
    inner, inner_end = expect(raw, stop, tbs_end, der.SEQUENCE)
    if raw[inner:inner_end] != raw[outer:outer_end]:
        raise MalformedError("certificate: two different signature algorithms")
    found.algorithm = raw[inner:inner_end]
    _, stop = expect(raw, inner_end, tbs_end, der.SEQUENCE)
    found.issuer = raw[inner_end:stop]
    start, validity_end = expect(raw, stop, tbs_end, der.SEQUENCE)
    tag, start, stop = element(raw, start, validity_end)
    found.not_before = der.moment(raw, tag, start, stop)
    tag, start, stop = element(raw, stop, validity_end)
    found.not_after = der.moment(raw, tag, start, stop)
    if stop != validity_end:
        raise MalformedError("certificate: validity is two times")
    _, stop = expect(raw, validity_end, tbs_end, der.SEQUENCE)
    found.subject = raw[validity_end:stop]
    _, key_end = expect(raw, stop, tbs_end, der.SEQUENCE)
    found.public_key_info = raw[stop:key_end]
    found.extensions = _extensions(raw, key_end, tbs_end) if key_end < tbs_end else {}
    return found


def _extensions(raw: bytes, at: int, end: int) -> dict[bytes, tuple[bool, bytes]]:
    element, expect = der.element, der.expect
    at, wrapped_end = expect(
        raw, at, end, 0xA3
    )  # unique identifiers, which stand before it, are refused (RFC 5280 4.1.2.8)
    at, list_end = expect(raw, at, wrapped_end, der.SEQUENCE)
    if wrapped_end != end or list_end != end or at == end:
        raise MalformedError("certificate: one list of extensions is expected last")
    found: dict[bytes, tuple[bool, bytes]] = {}
    while at < end:
        start, stop = expect(raw, at, end, der.SEQUENCE)
        tag_begin, tag_end = expect(raw, start, stop, der.OID)
        identifier = raw[tag_begin:tag_end]
        tag, start, at = element(raw, tag_end, stop)
        critical = False
        if tag == der.BOOLEAN:
            critical = der.boolean(raw, start, at)
            if not critical:
                raise MalformedError("certificate: `critical` spelled out as false")
            tag, start, at = element(raw, at, stop)
        if tag != der.OCTET_STRING or at != stop:
            raise MalformedError("certificate: an extension's value is an octet string")
        if identifier in found:
            raise MalformedError("certificate: an extension twice")
        found[identifier] = (critical, raw[start:at])
    return found


def of(certificate: Certificate | x509.Certificate) -> Certificate:
    """Ours, from either kind. Raises MalformedError."""
    return certificate if isinstance(certificate, Certificate) else read(certificate.public_bytes(Encoding.DER))


def load_der(raw: bytes) -> x509.Certificate:
    """Parse one DER certificate and its extensions with the library. Raises MalformedError, also where it cannot read it."""
    if len(raw) > limits.MAX_CERTIFICATE:
        raise MalformedError("certificate too long")
    try:
        certificate = x509.load_der_x509_certificate(raw)
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
    except (
        ValueError,
        TypeError,  # a name's string type that does not go with its attribute
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise MalformedError("certificate cannot be read") from error
    return certificate


def load_pem(text: bytes) -> list[x509.Certificate]:
    """Parse a PEM file of one or more certificates. Raises TrustError."""
    try:
        found = x509.load_pem_x509_certificates(text)
        return [load_der(certificate.public_bytes(Encoding.DER)) for certificate in found]
    except (ValueError, MalformedError, x509.InvalidVersion) as error:
        raise TrustError("not a PEM certificate") from error


_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----")


def pem_blocks(text: bytes) -> list[bytes]:
    """DER of every certificate in a PEM text, unread, so that a bad one takes none of the others with it. Raises TrustError."""
    try:
        found = [base64.b64decode(b"".join(block.split()), validate=True) for block in _PEM.findall(text)]
    except ValueError as error:
        raise TrustError("not a PEM certificate") from error
    if not found:
        raise TrustError("not a PEM certificate")
    return found


def chain_from_header(value: object) -> list[bytes]:
    """x5chain (RFC 9360): one bstr, or an array. Leaf first. Raises MalformedError.

    An array of one is against RFC 9360, yet several issuing libraries write it.
    """
    if type(value) is bytes:
        return [value]
    if type(value) is list and 1 <= len(value) <= limits.MAX_CHAIN and all(type(entry) is bytes for entry in value):
        return value
    raise MalformedError("x5chain: a certificate or a short array of them is expected")


def verification_key(certificate: Certificate | x509.Certificate) -> PublicKey:
    """The subject's key, of a kind this library verifies with; read once. Raises MalformedError."""
    ours = of(certificate)
    if ours._key is None:
        ours._key = _read_key(ours.public_key_info)
    return ours._key


def _read_key(info: bytes) -> PublicKey:
    try:
        key = load_der_public_key(info)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedError("certificate key cannot be read") from error
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name in CURVES:
            return key
        raise MalformedError("certificate key is on another curve")
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        if small_order(key.public_bytes(Encoding.Raw, PublicFormat.Raw)):
            raise MalformedError("certificate key is a point of small order")
        return key
    raise MalformedError("certificate key is not an elliptic-curve one")


def signature_holds(key: PublicKey, algorithm: bytes, signature: bytes, message: bytes) -> bool:
    """The signature of a certificate or revocation list holds; `algorithm` (AlgorithmIdentifier content) is allowed and fits."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            ecdsa = _ECDSA.get(algorithm)
            if ecdsa is None:
                return False
            key.verify(signature, message, ecdsa)
        elif algorithm == (_ED25519 if isinstance(key, ed25519.Ed25519PublicKey) else _ED448):
            key.verify(signature, message)
        else:
            return False
    except (InvalidSignature, ValueError):
        return False
    return True


def signed_by(
    certificate: Certificate | x509.Certificate, issuer: Certificate | x509.Certificate, key: PublicKey | None = None
) -> bool:
    """Names match byte for byte and the issuer's key made the signature, with an allowed algorithm.

    `key` is the issuer's where the caller has it at hand.
    """
    try:
        child, parent = of(certificate), of(issuer)
        if child.issuer != parent.subject:
            return False
        return signature_holds(key or verification_key(parent), child.algorithm, child.signature, child.tbs)
    except MalformedError:
        return False


def valid_at(certificate: Certificate | x509.Certificate, moment: datetime) -> bool:
    if isinstance(certificate, Certificate):
        return certificate.not_before <= moment <= certificate.not_after
    return certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc


def name_attributes(name: bytes) -> dict[bytes, tuple[bytes, ...]]:
    """{attribute type (OID content): contents, in order} of a Name with its head. Raises MalformedError."""
    found: dict[bytes, tuple[bytes, ...]] = {}
    element, expect = der.element, der.expect
    at, end = expect(name, 0, len(name), der.SEQUENCE)
    while at < end:
        inner, at = expect(name, at, end, der.SET)
        while inner < at:
            start, inner = expect(name, inner, at, der.SEQUENCE)
            start, stop = expect(name, start, inner, der.OID)
            oid = name[start:stop]
            _, start, stop = element(name, stop, inner)
            if stop != inner:
                raise MalformedError("certificate: a name's attribute is a type and a value")
            found[oid] = (*found.get(oid, ()), name[start:stop])
    return found


def key_usage(certificate: Certificate) -> int | None:
    """KeyUsage as 16 bits, or None where the extension is absent. Raises MalformedError."""
    value = certificate.extension(KEY_USAGE)
    if value is None:
        return None
    begin, end = der.whole(value, der.BIT_STRING)
    if not 2 <= end - begin <= 3 or value[begin] > 7:
        raise MalformedError("certificate: key usage")
    return int.from_bytes(value[begin + 1 : end].ljust(2, b"\0"), "big")


def basic_constraints(certificate: Certificate) -> tuple[bool, int | None]:
    """(CA, path length). Raises MalformedError."""
    value = certificate.extension(BASIC_CONSTRAINTS)
    if value is None:
        return False, None
    at, end = der.whole(value, der.SEQUENCE)
    authority, length = False, None
    for tag, start, stop in der.children(value, at, end):
        if tag == der.BOOLEAN and start == at + 2:
            authority = der.boolean(value, start, stop)
        elif tag == der.INTEGER and length is None:
            length = der.integer(value, start, stop)
        else:
            raise MalformedError("certificate: basic constraints")
    return authority, length


def extended_key_usage(certificate: Certificate) -> tuple[bytes, ...] | None:
    """OID contents of the purposes, or None where the extension is absent. Raises MalformedError."""
    value = certificate.extension(EXTENDED_KEY_USAGE)
    if value is None:
        return None
    purposes = []
    for tag, start, stop in der.children(value, *der.whole(value, der.SEQUENCE)):
        if tag != der.OID:
            raise MalformedError("certificate: extended key usage")
        purposes.append(value[start:stop])
    return tuple(purposes)


def key_identifier(certificate: Certificate | x509.Certificate) -> bytes | None:
    """The subject key identifier. Raises MalformedError."""
    value = of(certificate).extension(SUBJECT_KEY_IDENTIFIER)
    if value is None:
        return None
    begin, end = der.whole(value, der.OCTET_STRING)
    return value[begin:end]


_AUTHORITY_MEMBERS = frozenset({0x80, 0xA1, 0x82})
"""keyIdentifier, authorityCertIssuer, authorityCertSerialNumber (RFC 5280 4.2.1.1)."""


def authority_key_identifier(value: bytes | None) -> bytes | None:
    """keyIdentifier of an AuthorityKeyIdentifier's value, of a certificate or a revocation list. Raises MalformedError."""
    if value is None:
        return None
    found, last = None, -1
    for tag, start, stop in der.children(value, *der.whole(value, der.SEQUENCE)):
        number = tag & 0x1F
        if tag not in _AUTHORITY_MEMBERS or number <= last:  # each at most once: no second identifier behind the first
            raise MalformedError("certificate: authority key identifier")
        last = number
        if number == 0:
            found = value[start:stop]
    return found


def authority_identifier(certificate: Certificate | x509.Certificate) -> bytes | None:
    """The authority key identifier's key identifier. Raises MalformedError."""
    return authority_key_identifier(of(certificate).extension(AUTHORITY_KEY_IDENTIFIER))
