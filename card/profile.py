"""The card-authentication certificate as a table of rules, in the way of `mdoc.certificates.profiles`: FIPS 201-3 4.2.2.3, the
Common Policy's profile for card authentication, SP 800-73-5 part 1.

One certificate reader and one kind of profile serve phones and cards; the rows differ since keys, purpose and names do. Not
asked: the Common Policy's own policy identifier, since issuers outside the United States have their own.
"""

from __future__ import annotations

from card.identifiers import identifiers
from card.keys import SIGNATURES, authority_key, card_key
from mdoc.certificates import der
from mdoc.certificates.profiles import Kind, Profile, Row
from mdoc.certificates.structure import (
    BASIC_CONSTRAINTS,
    DIGITAL_SIGNATURE,
    EXTENDED_KEY_USAGE,
    KEY_USAGE,
    Certificate,
    authority_identifier,
    basic_constraints,
    extended_key_usage,
    key_identifier,
    key_usage,
)

EKU_CARD_AUTHENTICATION = "2.16.840.1.101.3.6.8"
_CARD_AUTHENTICATION = der.oid(EKU_CARD_AUTHENTICATION)
_SUBJECT_ALTERNATIVE_NAME = der.oid("2.5.29.17")
_MAY_BE_CRITICAL = frozenset({BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE, _SUBJECT_ALTERNATIVE_NAME})
"""An empty subject makes the alternative name critical (RFC 5280 4.2.1.6)."""


def _version_3(certificate: Certificate, _: Certificate | None) -> str | None:
    return None if certificate.version == 3 else "not version 3"


def _signature_algorithm(certificate: Certificate, _: Certificate | None) -> str | None:
    return None if certificate.algorithm in SIGNATURES else "signature algorithm is not allowed"


def _extensions(certificate: Certificate, _: Certificate | None) -> str | None:
    for identifier, (critical, _value) in certificate.extensions.items():
        if critical and identifier not in _MAY_BE_CRITICAL:
            return f"critical extension {der.dotted(identifier)} is not known"
    return None


def _end_entity(certificate: Certificate, _: Certificate | None) -> str | None:
    authority, length = basic_constraints(certificate)
    return "a certification authority, where a card is expected" if authority or length is not None else None


def _key(certificate: Certificate, issuer: Certificate | None) -> str | None:
    key = card_key(certificate.public_key_info)
    if issuer is not None and key == authority_key(issuer.public_key_info):
        return "the issuing authority's own key, where a card's is expected"
    return None


def _authority_key_identifier(certificate: Certificate, issuer: Certificate | None) -> str | None:
    expected = None if issuer is None else key_identifier(issuer)
    if expected is None or authority_identifier(certificate) == expected:
        return None
    return "authority key identifier is not the issuing authority's key identifier"


def _usage(certificate: Certificate, _: Certificate | None) -> str | None:
    return None if key_usage(certificate) == DIGITAL_SIGNATURE else "key usage is not digitalSignature alone"


def _purpose(certificate: Certificate, _: Certificate | None) -> str | None:
    if extended_key_usage(certificate) == (_CARD_AUTHENTICATION,):
        return None
    return "extended key usage is not card authentication alone"


def _named(certificate: Certificate, _: Certificate | None) -> str | None:
    return None if identifiers(certificate) else "neither card UUID nor FASC-N"


def _serial_number(certificate: Certificate, _: Certificate | None) -> str | None:
    if certificate.serial > 0 and certificate.serial_length <= 20:
        return None
    return "serial number is not positive and of at most 20 octets"


def _critical(certificate: Certificate, _: Certificate | None) -> str | None:
    missing = [oid for oid in (KEY_USAGE, EXTENDED_KEY_USAGE) if not certificate.extensions.get(oid, (True, b""))[0]]
    return "key usage or extended key usage is not critical" if missing else None


CARD_AUTHENTICATION_PROFILE = Profile(
    "card_authentication",
    "FIPS 201-3 4.2.2.3",
    (
        Row("version_3", _version_3, fixed=True),
        Row("signature_algorithm", _signature_algorithm, fixed=True),
        Row("extensions", _extensions, fixed=True),
        Row("end_entity", _end_entity, fixed=True),
        Row("key", _key, fixed=True),
        Row("authority_key_identifier", _authority_key_identifier, fixed=True),
        Row("key_usage", _usage, fixed=True),
        Row("extended_key_usage", _purpose, fixed=True),
        Row("identifier", _named, fixed=True),
        # Nothing rests on these two, and genuine cards miss them.
        Row("serial_number", _serial_number, Kind.FORMAL),
        Row("critical", _critical, Kind.FORMAL),
    ),
)
