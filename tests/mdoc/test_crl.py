"""Certificate revocation lists: what counts as one, whose it is, and that none falls back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from mdoc import crl, limits
from mdoc.certificates import (
    DOCUMENT_SIGNER_PROFILE,
    STATUS_SIGNER_PROFILE,
    Anchor,
    Certificate,
    Chained,
    TrustAnchors,
    der,
    read,
)
from mdoc.certificates.structure import SUBJECT_KEY_IDENTIFIER
from mdoc.crl import Crl
from mdoc.errors import MalformedError, TrustError
from testbed import certificates
from tests.conftest import NOW
from tests.mdoc.asn1 import parts, tlv

KEY = ec.generate_private_key(ec.SECP256R1())
BEGIN = NOW - timedelta(days=30)
ROOT = certificates.root(KEY, "Root", country="KR", not_before=BEGIN, lifetime=timedelta(days=3650))
MONTH = timedelta(days=30)
Builder = x509.CertificateRevocationListBuilder


def own(certificate: x509.Certificate) -> Certificate:
    return read(certificate.public_bytes(Encoding.DER))


def built(number: int = 1, revoked: tuple[int, ...] = (), at: Any = NOW, **changes: Any) -> bytes:
    arguments: dict[str, Any] = {"number": number, "revoked": revoked, "this_update": at, "lifetime": MONTH, **changes}
    return crl.build(ROOT, KEY, **arguments)


def parsed(raw: bytes) -> Crl:
    return crl.parse(raw, [own(ROOT)])


def test_reads_what_the_authority_signed() -> None:
    found = parsed(built(7, (5, 2**150)))
    assert found.number == 7
    assert found.revoked == {5, 2**150}
    assert (found.this_update, found.next_update) == (NOW, NOW + MONTH)
    assert (found.facts.name, found.facts.version, found.facts.issued_at) == ("Root", "7", NOW)
    assert parsed(built()).revoked == frozenset()


def plain() -> Builder:
    """A list without any extension."""
    return Builder().issuer_name(ROOT.subject).last_update(NOW).next_update(NOW + MONTH)


def identified(builder: Builder) -> Builder:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(KEY.public_key())
    return builder.add_extension(identifier, critical=False)


def numbered(builder: Builder) -> Builder:
    return builder.add_extension(x509.CRLNumber(1), critical=False)


def entry(*extensions: tuple[x509.ExtensionType, bool]) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(5).revocation_date(NOW)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.build()


def good() -> Builder:
    return numbered(identified(plain()))


POINT = x509.IssuingDistributionPoint(
    full_name=None,
    relative_name=None,
    only_contains_user_certs=False,
    only_contains_ca_certs=False,
    only_some_reasons=None,
    indirect_crl=True,
    only_contains_attribute_certs=False,
)
FORGERIES: dict[str, Callable[[], Builder]] = {
    "no number": lambda: identified(plain()),
    "no authority key identifier": lambda: numbered(plain()),
    "no extension at all": plain,
    "an indirect list": lambda: good().add_extension(POINT, critical=True),
    "a delta list": lambda: good().add_extension(x509.DeltaCRLIndicator(1), critical=True),
    "an unknown critical extension": lambda: good().add_extension(
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), critical=True
    ),
    "an entry of another authority": lambda: good().add_revoked_certificate(
        entry((x509.CertificateIssuer([x509.DirectoryName(ROOT.subject)]), True))
    ),
    "an entry with an unknown critical extension": lambda: good().add_revoked_certificate(
        entry((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True))
    ),
    "an entry that takes another back": lambda: good().add_revoked_certificate(
        entry((x509.CRLReason(x509.ReasonFlags.remove_from_crl), False))
    ),
    "a serial number twice": lambda: good().add_revoked_certificate(entry()).add_revoked_certificate(entry()),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_refuses_a_list_with(name: str) -> None:
    raw = FORGERIES[name]().sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)
    with pytest.raises(MalformedError):
        parsed(raw)


def test_an_entry_may_give_its_reason() -> None:
    revoked = good().add_revoked_certificate(entry((x509.CRLReason(x509.ReasonFlags.key_compromise), False)))
    assert parsed(revoked.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)).revoked == {5}


def test_refuses_a_list_that_nobody_trusted_signed() -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    for raw in (
        good().sign(stranger, hashes.SHA256()).public_bytes(Encoding.DER),
        good().sign(KEY, hashes.SHA224()).public_bytes(Encoding.DER),
    ):
        with pytest.raises(TrustError):
            parsed(raw)
    with pytest.raises(TrustError):
        crl.parse(built(), [])


def test_refuses_a_list_of_a_signer_below_the_authority() -> None:
    """It has the right name and key identifier for nothing: a document signer may not revoke."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = certificates.document_signer(key.public_key(), issuer=ROOT, issuer_key=KEY, not_before=BEGIN)
    raw = crl.build(signer, key, number=1, revoked=[5], this_update=NOW, lifetime=MONTH)
    with pytest.raises(TrustError):
        crl.parse(raw, [own(ROOT), own(signer)])


def test_refuses_a_list_cut_short_flipped_or_too_long() -> None:
    raw = built(1, (5,))
    for at in range(len(raw)):
        flipped = bytearray(raw)
        flipped[at] ^= 1 << (at % 8)
        with pytest.raises((MalformedError, TrustError)):
            parsed(bytes(flipped))
    for broken in (raw[:-1], raw + b"\0", bytes(2_000_000)):
        with pytest.raises(MalformedError):
            parsed(broken)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(raw=st.binary(max_size=100))
def test_arbitrary_bytes_are_malformed(raw: bytes) -> None:
    for prefix in (b"", b"\x30\x50\x30\x40\x02\x01\x01"):
        with pytest.raises(MalformedError):
            parsed(prefix + raw)


def resigned(change: Callable[[list[bytes]], list[bytes]]) -> bytes:
    """A list in shapes that the library does not write, with a good signature over them."""
    raw = built(1, (5,))
    tbs, algorithm, _signature = parts(raw)
    changed = tlv(der.SEQUENCE, b"".join(change(parts(tbs))))
    signature = KEY.sign(changed, ec.ECDSA(hashes.SHA256()))
    return tlv(der.SEQUENCE, changed + algorithm + tlv(der.BIT_STRING, b"\0" + signature))


def test_the_shape_that_is_changed_below_is_a_good_one() -> None:
    """Members of the list: version, algorithm, issuer, thisUpdate, nextUpdate, entries, extensions."""
    assert parsed(resigned(lambda members: members)) == parsed(built(1, (5,)))


def extension(*members: bytes) -> bytes:
    return tlv(der.SEQUENCE, b"".join(members))


def with_extensions(members: list[bytes], *entries: bytes) -> list[bytes]:
    """The list's own extensions replaced."""
    return [*members[:6], tlv(0xA0, tlv(der.SEQUENCE, b"".join(entries)))]


def with_entry(members: list[bytes], *entries: bytes) -> list[bytes]:
    """The list of revoked certificates replaced."""
    return [*members[:5], tlv(der.SEQUENCE, b"".join(entries)), members[6]]


IDENTIFIER = own(ROOT).extension(SUBJECT_KEY_IDENTIFIER) or b""
KEY_ID = extension(
    tlv(der.OID, der.oid("2.5.29.35")),
    tlv(der.OCTET_STRING, tlv(der.SEQUENCE, b"\x80" + IDENTIFIER[1:])),
)
NUMBER = extension(tlv(der.OID, der.oid("2.5.29.20")), tlv(der.OCTET_STRING, tlv(der.INTEGER, b"\1")))
DATE = tlv(der.UTC_TIME, b"261124090000Z")


def numbered_as(value: bytes, *, critical: bytes = b"") -> bytes:
    return extension(tlv(der.OID, der.oid("2.5.29.20")), critical, tlv(der.OCTET_STRING, tlv(der.INTEGER, value)))


def test_the_hand_made_extensions_are_good_ones() -> None:
    raw = resigned(lambda members: with_extensions(members, KEY_ID, NUMBER))
    assert parsed(raw) == parsed(built(1, (5,)))
    entries = extension(tlv(der.INTEGER, b"\5"), DATE)
    assert parsed(resigned(lambda members: with_entry(members, entries))).revoked == {5}


SHAPES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "no end": (lambda m: [*m[:4], *m[5:]], "nextUpdate"),
    "an end before its beginning": (lambda m: [*m[:3], m[4], m[3], *m[5:]], "nextUpdate"),
    "an empty list of entries": (lambda m: [*m[:5], tlv(der.SEQUENCE, b""), m[6]], "empty"),
    "version 1": (lambda m: m[1:], "DER"),
    "version 3": (lambda m: [tlv(der.INTEGER, b"\2"), *m[1:]], "version 2"),
    "no extensions": (lambda m: m[:6], "DER"),
    "more behind the extensions": (lambda m: [*m, tlv(der.INTEGER, b"\1")], "expected"),
    "extensions twice": (lambda m: [*m, m[6]], "expected"),
    "another algorithm inside": (lambda m: [m[0], tlv(der.SEQUENCE, b""), *m[2:]], "algorithms"),
    "an end that is no time": (lambda m: [*m[:4], tlv(der.INTEGER, b"\1"), *m[5:]], "nextUpdate"),
    "nothing behind its time": (lambda m: m[:4], "nextUpdate"),
    "nothing behind its end": (lambda m: m[:5], "DER"),
    "a number below zero": (lambda m: with_extensions(m, KEY_ID, numbered_as(b"\xff")), "below zero"),
    "a critical number": (
        lambda m: with_extensions(m, KEY_ID, numbered_as(b"\1", critical=tlv(der.BOOLEAN, b"\xff"))),
        "critical",
    ),
    "a number twice": (lambda m: with_extensions(m, KEY_ID, NUMBER, NUMBER), "twice"),
    "an extension that is none": (lambda m: with_extensions(m, KEY_ID, tlv(der.INTEGER, b"\1")), "extension"),
    "an extension of four members": (
        lambda m: with_extensions(m, KEY_ID, extension(NUMBER, NUMBER, NUMBER, NUMBER)),
        "extension",
    ),
    "bytes behind the extensions": (
        lambda m: [*m[:6], tlv(0xA0, tlv(der.SEQUENCE, KEY_ID + NUMBER) + tlv(der.NULL, b""))],
        "after the extensions",
    ),
    "an entry that is none": (lambda m: with_entry(m, tlv(der.INTEGER, b"\5")), "entry"),
    "an entry without a date": (lambda m: with_entry(m, extension(tlv(der.INTEGER, b"\5"))), "DER"),
    "an entry of another authority, not marked": (
        lambda m: with_entry(
            m,
            extension(
                tlv(der.INTEGER, b"\5"),
                DATE,
                tlv(
                    der.SEQUENCE,
                    extension(tlv(der.OID, der.oid("2.5.29.29")), tlv(der.OCTET_STRING, tlv(der.SEQUENCE, b""))),
                ),
            ),
        ),
        "indirect",
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_refuses_a_signed_list_with(name: str) -> None:
    change, expected = SHAPES[name]
    with pytest.raises(MalformedError, match=expected):
        parsed(resigned(change))


def test_refuses_a_signature_that_is_not_whole_bytes_or_not_last() -> None:
    raw = built(1, (5,))
    tbs, algorithm, signature = parts(raw)
    begin, end = der.whole(signature, der.BIT_STRING)
    bits = signature[begin + 1 : end]
    for last in (
        tlv(der.BIT_STRING, b"\1" + bits),
        tlv(der.BIT_STRING, b""),
        signature + tlv(der.NULL, b""),
        tlv(der.OCTET_STRING, b"\0" + bits),
    ):
        with pytest.raises(MalformedError):
            parsed(tlv(der.SEQUENCE, tbs + algorithm + last))


def test_a_list_of_one_authority_is_not_another_s() -> None:
    """Same key, another name; same name, another key; and no key identifier to tell by."""
    twin = certificates.root(KEY, "Another", country="KR", not_before=BEGIN, lifetime=timedelta(days=100))
    other = ec.generate_private_key(ec.SECP256R1())
    namesake = certificates.root(other, "Root", country="KR", not_before=BEGIN, lifetime=timedelta(days=100))
    nameless = certificates.root(
        KEY, "Root", country="KR", not_before=BEGIN, lifetime=timedelta(days=100), without={x509.SubjectKeyIdentifier}
    )
    renamed = certificates.root(
        KEY,
        "Root",
        country="KR",
        not_before=BEGIN,
        lifetime=timedelta(days=100),
        extra=((x509.SubjectKeyIdentifier(b"another"), False),),
    )
    for authority in (twin, namesake, nameless, renamed):
        with pytest.raises(TrustError):
            crl.parse(built(), [own(authority)])
    bare = identified_by_issuer_and_serial().sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)
    with pytest.raises(TrustError):
        crl.parse(bare, [own(nameless)])


def identified_by_issuer_and_serial() -> Builder:
    """An authority key identifier without the key identifier."""
    identifier = x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(ROOT.subject)], 5)
    return numbered(plain().add_extension(identifier, critical=False))


def test_refuses_a_list_of_an_authority_that_may_not_sign_one() -> None:
    weak = certificates.root(
        KEY,
        "Root",
        country="KR",
        not_before=BEGIN,
        lifetime=timedelta(days=100),
        extra=((certificates.usage(key_cert_sign=True), True),),
    )
    with pytest.raises(TrustError):
        crl.parse(built(), [own(weak)])


def test_refuses_a_list_beyond_the_limit_however_good(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = built(1, (5,))
    monkeypatch.setattr(limits, "MAX_CRL", len(raw))
    assert parsed(raw)
    monkeypatch.setattr(limits, "MAX_CRL", len(raw) - 1)
    with pytest.raises(MalformedError, match="too long"):
        parsed(raw)


def chained(lists: list[Crl], profile: Any, leaf: x509.Certificate) -> Chained:
    anchors = TrustAnchors([Anchor.from_certificate(ROOT)], crls=lists)
    found = anchors.issued(leaf.public_bytes(Encoding.DER), profile)
    assert isinstance(found, Chained)
    return found


@pytest.mark.parametrize("kind", ["document signer", "status signer"])
def test_a_signer_on_the_list_is_revoked(kind: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    if kind == "document signer":
        leaf = certificates.document_signer(key, issuer=ROOT, issuer_key=KEY, not_before=BEGIN)
        profile = DOCUMENT_SIGNER_PROFILE
    else:
        leaf = certificates.status_signer(key, "Status", issuer=ROOT, issuer_key=KEY, not_before=BEGIN)
        profile = STATUS_SIGNER_PROFILE
    listed = parsed(built(1, (leaf.serial_number,)))
    assert chained([listed], profile, leaf).revoked
    assert chained([listed], profile, leaf).crl is listed
    assert not chained([parsed(built(1, (5,)))], profile, leaf).revoked
    assert chained([], profile, leaf).crl is None


def test_another_authority_s_list_says_nothing_about_a_signer() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    twin = certificates.root(other, "Root", country="KR", not_before=BEGIN, lifetime=timedelta(days=3650))
    leaf = certificates.document_signer(KEY.public_key(), issuer=twin, issuer_key=other, not_before=BEGIN)
    listed = parsed(built(1, (leaf.serial_number,)))  # same name, another key
    anchors = TrustAnchors([Anchor.from_certificate(ROOT), Anchor.from_certificate(twin)], crls=[listed])
    found = anchors.issued(leaf.public_bytes(Encoding.DER), DOCUMENT_SIGNER_PROFILE)
    assert isinstance(found, Chained)
    assert not found.revoked
    assert found.crl is None


def test_rollback_of_a_list_leaves_the_one_in_force() -> None:
    newer = parsed(built(2, (5,), NOW))
    older = parsed(built(1, (), NOW - timedelta(days=1)))
    assert crl.newest([older], [newer]) == ((newer,), 1)
    assert crl.newest([newer], [older]) == ((newer,), 0)
    assert crl.newest([older, newer]) == ((newer,), 0)
    assert crl.newest([newer], [newer]) == ((newer,), 0)
    assert crl.newest([], [newer]) == ((), 0)  # the site took it away


@pytest.mark.parametrize("moved", ["number", "date"])
def test_a_list_that_advances_in_one_and_falls_back_in_the_other_is_older(moved: str) -> None:
    current = parsed(built(5))
    mixed = replace(current, number=6, this_update=NOW - MONTH) if moved == "number" else replace(
        current, number=4, this_update=NOW + MONTH
    )  # fmt: skip
    assert not mixed.newer_than(current)
    assert crl.newest([mixed], [current]) == ((current,), 1)
