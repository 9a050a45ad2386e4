"""The certificate profiles of 18013-5 Annex B as tables: one small rule a row, so that a profile reads like the annex.

A row is either REQUIRED (what trust rests on: who may sign what, and with which key) or FORMAL (what the annex also asks, and
genuine issuers miss: an e-mail address, a distribution point, a length of life). Strictness `standard` asks for the required
rows, `full` for all of them. A site may tolerate a row for one issuer, with its reason (`mdoc.certificates.settings`);
rows marked as fixed can never be tolerated.

Signatures and dates are checked apart, since dates depend on the moment and signatures do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import lru_cache

from cryptography import x509

from mdoc.certificates import der
from mdoc.certificates.settings import DEFAULT, Settings, Strictness
from mdoc.certificates.structure import (
    ALGORITHMS,
    BASIC_CONSTRAINTS,
    COMMON_NAME,
    CONTENT_COMMITMENT,
    COUNTRY,
    CRL_DISTRIBUTION_POINTS,
    CRL_SIGN,
    DIGITAL_SIGNATURE,
    EXTENDED_KEY_USAGE,
    ISSUER_ALTERNATIVE_NAME,
    KEY_CERT_SIGN,
    KEY_USAGE,
    STATE,
    Certificate,
    authority_identifier,
    basic_constraints,
    extended_key_usage,
    key_identifier,
    key_usage,
    of,
    verification_key,
)
from mdoc.errors import MalformedError

EKU_MDL_DS = x509.ObjectIdentifier("1.0.18013.5.1.2")
EKU_MDL_READER = x509.ObjectIdentifier("1.0.18013.5.1.6")
EKU_VICAL_SIGNER = x509.ObjectIdentifier("1.0.18013.5.1.8")
"""Tables B.3 and B.7, and C.1.7.1 for the list's signer."""
EKU_MDOC_DS = x509.ObjectIdentifier("1.0.23220.4.1.2")
EKU_MDOC_READER = x509.ObjectIdentifier("1.0.23220.4.1.6")
"""23220-4, for documents that are not driving licences."""
MDL_DOC_TYPE = "org.iso.18013.5.1.mDL"

_MDL_DS, _MDOC_DS = der.oid(EKU_MDL_DS.dotted_string), der.oid(EKU_MDOC_DS.dotted_string)
_MDL_READER, _MDOC_READER = der.oid(EKU_MDL_READER.dotted_string), der.oid(EKU_MDOC_READER.dotted_string)
_VICAL_SIGNER = der.oid(EKU_VICAL_SIGNER.dotted_string)

Rule = Callable[[Certificate, Certificate | None], str | None]
"""(certificate, its issuer) to what is wrong, or None. Rules about the pair hold nothing against a missing issuer."""


class Kind(Enum):
    REQUIRED = "required"
    FORMAL = "formal"


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    name: str
    """What a tolerance calls it."""
    rule: Rule
    kind: Kind = Kind.REQUIRED
    fixed: bool = False
    """No site may tolerate a breach."""


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    name: str
    clause: str
    rows: tuple[Row, ...]


def _version_3(certificate: Certificate, _: Certificate | None) -> str | None:
    return None if certificate.version == 3 else "not version 3"


def _signature_algorithm(certificate: Certificate, _: Certificate | None) -> str | None:
    return None if certificate.algorithm in ALGORITHMS else "signature algorithm is not allowed"


def _key(certificate: Certificate, _: Certificate | None) -> str | None:
    try:
        verification_key(certificate)
    except MalformedError as error:
        return str(error)
    return None


_MAY_BE_CRITICAL = frozenset({BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE})
_DISALLOWED = {
    der.oid("2.5.29.33"): "policyMappings",
    der.oid("2.5.29.30"): "nameConstraints",
    der.oid("2.5.29.36"): "policyConstraints",
    der.oid("2.5.29.54"): "inhibitAnyPolicy",
    der.oid("2.5.29.46"): "freshestCRL",
}


def _extensions(certificate: Certificate, _: Certificate | None) -> str | None:
    for identifier, (critical, _value) in certificate.extensions.items():
        if critical and identifier not in _MAY_BE_CRITICAL:
            return f"critical extension {der.dotted(identifier)} is not known"
        if identifier in _DISALLOWED:
            return f"extension {_DISALLOWED[identifier]} is not allowed"
    return None


def _self_issued(certificate: Certificate, _: Certificate | None) -> str | None:
    return None if certificate.issuer == certificate.subject else "not self-issued"


def _authority(certificate: Certificate, _: Certificate | None) -> str | None:
    return None if basic_constraints(certificate) == (True, 0) else "not a certification authority with path length 0"


def _end_entity(certificate: Certificate, _: Certificate | None) -> str | None:
    if BASIC_CONSTRAINTS not in certificate.extensions:
        return None
    authority, length = basic_constraints(certificate)
    if authority or length is not None:
        return "a certification authority, where an end entity is expected"
    return None


def _usage(*allowed: int, words: str) -> Rule:
    def rule(certificate: Certificate, _: Certificate | None) -> str | None:
        found = key_usage(certificate)
        if found is None:
            return "no key usage"
        return None if found in allowed else f"key usage is not {words} alone"

    return rule


def _critical(oid: bytes, words: str) -> Rule:
    """Where the extension is there; its presence is another row's matter."""

    def rule(certificate: Certificate, _: Certificate | None) -> str | None:
        critical, _value = certificate.extensions.get(oid, (True, b""))
        return None if critical else f"{words} is not critical"

    return rule


def _purpose_present(certificate: Certificate, _: Certificate | None) -> str | None:
    return None if EXTENDED_KEY_USAGE in certificate.extensions else "no extended key usage"


def _purpose(*allowed: bytes) -> Rule:
    """Exactly one purpose, one of `allowed`."""

    def rule(certificate: Certificate, _: Certificate | None) -> str | None:
        found = extended_key_usage(certificate)
        if found is None or (len(found) == 1 and found[0] in allowed):
            return None
        return "extended key usage is not the one for this role alone"

    return rule


_OTHER_ROLES = frozenset(
    {
        _MDL_READER,
        _MDOC_READER,
        _VICAL_SIGNER,
        der.oid("2.5.29.37.0"),  # any
        der.oid("1.3.6.1.5.5.7.3.1"),  # TLS server
        der.oid("1.3.6.1.5.5.7.3.2"),  # TLS client
        der.oid("1.3.6.1.5.5.7.3.3"),  # code
        der.oid("1.3.6.1.5.5.7.3.4"),  # e-mail
    }
)


def _no_other_role(certificate: Certificate, _: Certificate | None) -> str | None:
    """Token Status List has no number for its purpose yet, and issuers sign lists with a document signer or their own purpose."""
    if _OTHER_ROLES.isdisjoint(extended_key_usage(certificate) or ()):
        return None
    return "extended key usage is another role's"


def _authority_key_identifier(certificate: Certificate, issuer: Certificate | None) -> str | None:
    if issuer is None:
        return None
    expected = key_identifier(issuer)
    if expected is None or authority_identifier(certificate) == expected:
        return None
    return "authority key identifier is not the issuing authority's key identifier"


def _own_key(certificate: Certificate, issuer: Certificate | None) -> str | None:
    # The keys, not their bytes: a point may be written compressed.
    if issuer is not None and verification_key(certificate) == verification_key(issuer):
        return "the issuing authority's own key, where a signer's is expected"
    return None


def _one_country(certificate: Certificate, _: Certificate | None) -> str | None:
    return None if len(certificate.subject_attributes(COUNTRY)) == 1 else "not exactly one country"


def _country_form(certificate: Certificate, _: Certificate | None) -> str | None:
    for country in certificate.subject_attributes(COUNTRY):
        if len(country) != 2 or not country.isalpha() or not country.isupper():
            return "country is not two upper-case letters"
    return None


def _same_country(certificate: Certificate, issuer: Certificate | None) -> str | None:
    if issuer is None or certificate.subject_attributes(COUNTRY) == issuer.subject_attributes(COUNTRY):
        return None
    return "country differs from the issuing authority's"


def _same_state(certificate: Certificate, issuer: Certificate | None) -> str | None:
    if issuer is None or certificate.subject_attributes(STATE) == issuer.subject_attributes(STATE):
        return None
    return "state differs from the issuing authority's"


def _common_name(certificate: Certificate, _: Certificate | None) -> str | None:
    return None if any(certificate.subject_attributes(COMMON_NAME)) else "no common name"


def _serial_number(certificate: Certificate, _: Certificate | None) -> str | None:
    if certificate.serial > 0 and certificate.serial_length <= 20:
        return None
    return "serial number is not positive and of at most 20 octets"


def _life(limit: timedelta) -> Rule:
    def rule(certificate: Certificate, _: Certificate | None) -> str | None:
        if certificate.not_after - certificate.not_before <= limit:
            return None
        return f"valid for more than {limit.days} days"

    return rule


def _within_issuer(certificate: Certificate, issuer: Certificate | None) -> str | None:
    if issuer is None or issuer.not_before <= certificate.not_before <= certificate.not_after <= issuer.not_after:
        return None
    return "dates are not within the issuing authority's"


def _subject_key_identifier(certificate: Certificate, _: Certificate | None) -> str | None:
    """SHA-1 over the key's bits (RFC 5280 4.2.1.2 method 1), as tables B.1 and B.3 ask. A name, not a protection."""
    found = key_identifier(certificate)
    info = certificate.public_key_info
    begin, end = der.whole(info, der.SEQUENCE)
    _algorithm, after = der.expect(info, begin, end, der.SEQUENCE)
    begin, end = der.expect(info, after, end, der.BIT_STRING)
    if found == hashlib.sha1(info[begin + 1 : end], usedforsecurity=False).digest():
        return None
    return "subject key identifier is not the key's SHA-1"


def _present(oid: bytes, words: str) -> Rule:
    def rule(certificate: Certificate, _: Certificate | None) -> str | None:
        return None if oid in certificate.extensions else f"no {words}"

    return rule


_EMAIL, _URI = 0x81, 0x86
"""Tags of GeneralName (RFC 5280 4.2.1.6)."""


def _issuer_alternative_name(certificate: Certificate, _: Certificate | None) -> str | None:
    value = certificate.extension(ISSUER_ALTERNATIVE_NAME)
    if value is None:
        return "no issuer alternative name"
    names = [tag for tag, _begin, _end in der.children(value, *der.whole(value, der.SEQUENCE))]
    return None if {_EMAIL, _URI}.intersection(names) else "issuer alternative name is neither e-mail nor URI"


def _distribution_point_uri(certificate: Certificate, _: Certificate | None) -> str | None:
    """Where there is one; its presence is another row's matter. Annex D's own is a DNS name."""
    value = certificate.extension(CRL_DISTRIBUTION_POINTS)
    if value is None:
        return None
    for _tag, begin, end in der.children(value, *der.whole(value, der.SEQUENCE)):
        for tag, start, stop in der.children(value, begin, end):
            if tag != 0xA0:  # distributionPoint; the others are reasons and cRLIssuer
                return "CRL distribution point with reasons or another issuer"
            for inner, first, last in der.children(value, start, stop):
                if inner != 0xA0 or any(kind != _URI for kind, _b, _e in der.children(value, first, last)):
                    return "CRL distribution point is not a URI"
    return None


_STRUCTURE = (
    Row("version_3", _version_3, fixed=True),
    Row("signature_algorithm", _signature_algorithm, fixed=True),
    Row("extensions", _extensions, fixed=True),
)
_NAMES = (
    Row("serial_number", _serial_number, Kind.FORMAL),
    Row("common_name", _common_name, Kind.FORMAL),
    Row("subject_key_identifier", _subject_key_identifier, Kind.FORMAL),
)
_POINTS = (
    Row("crl_distribution_point", _present(CRL_DISTRIBUTION_POINTS, "CRL distribution point"), Kind.FORMAL),
    Row("crl_distribution_point_uri", _distribution_point_uri, Kind.FORMAL),
)
_ALTERNATIVE = Row("issuer_alternative_name", _issuer_alternative_name, Kind.FORMAL)
_LEAF = (
    Row("end_entity", _end_entity, fixed=True),
    Row("own_key", _own_key, fixed=True),
    Row("authority_key_identifier", _authority_key_identifier),
)
_SIGNS = (
    Row("key_usage", _usage(DIGITAL_SIGNATURE, words="digitalSignature")),
    Row("key_usage_critical", _critical(KEY_USAGE, "key usage")),
)


def _role(*allowed: bytes) -> tuple[Row, ...]:
    return (
        Row("extended_key_usage_present", _purpose_present),
        Row("extended_key_usage", _purpose(*allowed)),
        Row("extended_key_usage_critical", _critical(EXTENDED_KEY_USAGE, "extended key usage")),
    )


IACA_PROFILE = Profile(
    "iaca",
    "18013-5 B.1.2, table B.1",
    (
        *_STRUCTURE,
        Row("key", _key, fixed=True),
        Row("self_issued", _self_issued, fixed=True),
        Row("basic_constraints", _authority, fixed=True),
        Row("basic_constraints_critical", _critical(BASIC_CONSTRAINTS, "basic constraints")),
        Row("key_usage", _usage(KEY_CERT_SIGN | CRL_SIGN, words="keyCertSign and cRLSign")),
        # Two of 35 roots on a real list state it as not critical; nothing rests on it in a root that is trusted by name.
        Row("key_usage_critical", _critical(KEY_USAGE, "key usage"), Kind.FORMAL),
        Row("one_country", _one_country),
        Row("country_form", _country_form, Kind.FORMAL),
        *_NAMES,
        Row("validity", _life(timedelta(days=20 * 366)), Kind.FORMAL),
        _ALTERNATIVE,
        *_POINTS,
    ),
)
DOCUMENT_SIGNER_PROFILE = Profile(
    "document_signer",
    "18013-5 B.1.4, table B.3",
    (
        *_STRUCTURE,
        *_LEAF,
        *_SIGNS,
        *_role(_MDL_DS, _MDOC_DS),
        Row("same_country", _same_country),
        Row("same_state", _same_state),
        *_NAMES,
        Row("validity", _life(timedelta(days=457)), Kind.FORMAL),
        Row("within_authority", _within_issuer, Kind.FORMAL),
        _ALTERNATIVE,
        *_POINTS,
    ),
)
READER_PROFILE = Profile(
    "reader",
    "18013-5 B.1.7, table B.7",
    (
        *_STRUCTURE,
        *_LEAF,
        *_SIGNS,
        *_role(_MDL_READER, _MDOC_READER),
        *_NAMES,
        Row("validity", _life(timedelta(days=1187)), Kind.FORMAL),
        *_POINTS,
    ),
)
VICAL_SIGNER_PROFILE = Profile(
    "vical_signer",
    "18013-5 C.1.7.1",
    (
        *_STRUCTURE,
        *_LEAF,
        # The standard's table says digitalSignature; every signer seen has nonRepudiation.
        Row(
            "key_usage",
            _usage(
                CONTENT_COMMITMENT,
                DIGITAL_SIGNATURE,
                CONTENT_COMMITMENT | DIGITAL_SIGNATURE,
                words="digitalSignature or nonRepudiation",
            ),
        ),
        Row("key_usage_critical", _critical(KEY_USAGE, "key usage")),
        *_role(_VICAL_SIGNER),
        *_NAMES,
        *_POINTS,
    ),
)
STATUS_SIGNER_PROFILE = Profile(
    "status_signer",
    "Token Status List 11.3; 18013-5 second edition 12.3.6",
    (
        *_STRUCTURE,
        *_LEAF,
        *_SIGNS,
        Row("no_other_role", _no_other_role, fixed=True),
        *_NAMES,
    ),
)
PROFILES = (IACA_PROFILE, DOCUMENT_SIGNER_PROFILE, READER_PROFILE, VICAL_SIGNER_PROFILE, STATUS_SIGNER_PROFILE)


@lru_cache(maxsize=512)
def _rules(profile: Profile, settings: Settings) -> tuple[Rule, ...]:
    tolerated = {tolerance.rule for tolerance in settings.tolerances}
    return tuple(
        row.rule
        for row in profile.rows
        if (row.kind is Kind.REQUIRED or settings.strictness is Strictness.FULL)
        and (row.fixed or f"{profile.name}.{row.name}" not in tolerated)
    )


def broken_rule(
    certificate: Certificate | x509.Certificate,
    profile: Profile,
    *,
    issuer: Certificate | x509.Certificate | None = None,
    settings: Settings = DEFAULT,
) -> str | None:
    """The first row of `profile` that `certificate` breaks under the issuer's settings, in words, or None.

    Without `issuer` the rows about the pair (identifiers, names, dates, key) are left out. Extensions that cannot be read
    count as a breach.
    """
    try:
        subject = of(certificate)
        parent = None if issuer is None else of(issuer)
        for rule in _rules(profile, settings):
            problem = rule(subject, parent)
            if problem is not None:
                return problem
    except MalformedError as error:
        return str(error)
    return None


def remarks(certificate: Certificate, profile: Profile, issuer: Certificate | None = None) -> tuple[str, ...]:
    """Every row that `certificate` breaks, formal ones included, as `name: what is wrong` (for `gwanmun inspect`)."""
    found = []
    for row in profile.rows:
        try:
            problem = row.rule(certificate, issuer)
        except MalformedError as error:
            problem = str(error)
        if problem is not None:
            found.append(f"{profile.name}.{row.name}: {problem}")
    return tuple(found)


def purpose_fits(certificate: Certificate, doc_type: str) -> bool:
    """A driving licence is signed under 18013-5's own purpose, not under that of 23220-4.

    The other way round is let through: libraries and national issuers sign documents of every type under 1.0.18013.5.1.2.
    """
    return doc_type != MDL_DOC_TYPE or _MDOC_DS not in (extended_key_usage(certificate) or ())


def tolerable() -> frozenset[str]:
    """Names that a site's tolerance may give, `profile.row`: of the profiles that an issuing authority's settings bind."""
    profiles = (IACA_PROFILE, DOCUMENT_SIGNER_PROFILE, STATUS_SIGNER_PROFILE)
    return frozenset(f"{profile.name}.{row.name}" for profile in profiles for row in profile.rows if not row.fixed)
