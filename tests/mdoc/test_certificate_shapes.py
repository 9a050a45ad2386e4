"""Certificates in shapes that no library writes, with a good signature of a trusted root over them: refused for their shape."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mdoc import limits
from mdoc.certificates import (
    DOCUMENT_SIGNER_PROFILE,
    Anchor,
    Chained,
    TrustAnchors,
    chain_from_header,
    der,
    load_der,
    pem_blocks,
    read,
    signed_by,
    valid_at,
)
from mdoc.errors import MalformedError, TrustError
from testbed import certificates
from tests.conftest import NOW
from tests.mdoc.asn1 import parts, tlv

KEY = ec.generate_private_key(ec.SECP256R1())
BEGIN = NOW - timedelta(days=30)
ROOT = certificates.root(KEY, "Root", country="KR", not_before=BEGIN, lifetime=timedelta(days=3650))
SIGNER = certificates.document_signer(
    ec.generate_private_key(ec.SECP256R1()).public_key(), issuer=ROOT, issuer_key=KEY, not_before=BEGIN
).public_bytes(Encoding.DER)
ANCHORS = TrustAnchors([Anchor.from_certificate(ROOT)])
Change = Callable[[list[bytes]], list[bytes]]
TIME = tlv(der.UTC_TIME, b"261101000000Z")


def resigned(change: Change) -> bytes:
    """The signer with its members changed: version, serial, algorithm, issuer, validity, subject, key, extensions."""
    tbs, algorithm, _signature = parts(SIGNER)
    changed = tlv(der.SEQUENCE, b"".join(change(parts(tbs))))
    signature = KEY.sign(changed, ec.ECDSA(hashes.SHA256()))
    return tlv(der.SEQUENCE, changed + algorithm + tlv(der.BIT_STRING, b"\0" + signature))


def extended(change: Change) -> bytes:
    """The same with its list of extensions changed."""

    def members(found: list[bytes]) -> list[bytes]:
        (listed,) = parts(found[7], 0xA3)
        return [*found[:7], tlv(0xA3, tlv(der.SEQUENCE, b"".join(change(parts(listed)))))]

    return resigned(members)


def extension(oid: str, value: bytes, *, critical: bytes | None = b"\xff") -> bytes:
    flag = b"" if critical is None else tlv(der.BOOLEAN, critical)
    return tlv(der.SEQUENCE, tlv(der.OID, der.oid(oid)) + flag + tlv(der.OCTET_STRING, value))


def replacing(oid: str, value: bytes) -> Change:
    """One extension's value replaced, critical."""
    mark = tlv(der.OID, der.oid(oid))

    def change(found: list[bytes]) -> list[bytes]:
        return [*(entry for entry in found if mark not in entry), extension(oid, value)]

    return change


USAGE, CONSTRAINTS, PURPOSE, AUTHORITY = "2.5.29.15", "2.5.29.19", "2.5.29.37", "2.5.29.35"


def test_the_shapes_changed_below_are_good_ones() -> None:
    for raw in (
        resigned(lambda members: members),
        extended(lambda found: found),
        extended(replacing(USAGE, tlv(der.BIT_STRING, b"\x07\x80"))),
        extended(replacing(CONSTRAINTS, tlv(der.SEQUENCE, b""))),
        extended(replacing(CONSTRAINTS, tlv(der.SEQUENCE, tlv(der.BOOLEAN, b"\0")))),
    ):
        assert isinstance(ANCHORS.issued(raw, DOCUMENT_SIGNER_PROFILE), Chained)


SHAPES: dict[str, Callable[[], bytes]] = {
    "no serial number": lambda: resigned(lambda m: [m[0], *m[2:]]),
    "a version of two numbers": lambda: resigned(lambda m: [tlv(0xA0, tlv(der.INTEGER, b"\2") * 2), *m[1:]]),
    "another algorithm inside": lambda: resigned(lambda m: [*m[:2], tlv(der.SEQUENCE, b""), *m[3:]]),
    "a validity of one time": lambda: resigned(lambda m: [*m[:4], tlv(der.SEQUENCE, TIME), *m[5:]]),
    "a validity of three times": lambda: resigned(lambda m: [*m[:4], tlv(der.SEQUENCE, TIME * 3), *m[5:]]),
    "a unique identifier": lambda: resigned(lambda m: [*m[:7], tlv(0x81, b"\0\1"), m[7]]),
    "extensions twice": lambda: resigned(lambda m: [*m, m[7]]),
    "more behind the extensions": lambda: resigned(lambda m: [*m[:7], tlv(0xA3, parts(m[7], 0xA3)[0] * 2)]),
    "an empty list of extensions": lambda: extended(lambda found: []),
    "an extension that is none": lambda: extended(lambda found: [*found, tlv(der.NULL, b"")]),
    "an extension spelled out as not critical": lambda: extended(
        lambda found: [*found, extension("1.2.3.4", b"", critical=b"\0")]
    ),
    "an extension of a third truth value": lambda: extended(
        lambda found: [*found, extension("1.2.3.4", b"", critical=b"\1")]
    ),
    "an extension with more behind its value": lambda: extended(
        lambda found: [*found, tlv(der.SEQUENCE, b"".join(parts(extension("1.2.3.4", b""))) + tlv(der.NULL, b""))]
    ),
    "an extension without a value": lambda: extended(
        lambda found: [*found, tlv(der.SEQUENCE, tlv(der.OID, b"\x2a\3") + tlv(der.BOOLEAN, b"\xff"))]
    ),
    "an extension whose value is a number": lambda: extended(
        lambda found: [*found, tlv(der.SEQUENCE, tlv(der.OID, b"\x2a\3") + tlv(der.INTEGER, b"\1"))]
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_refuses_a_signed_certificate_with(name: str) -> None:
    with pytest.raises(MalformedError):
        ANCHORS.issued(SHAPES[name](), DOCUMENT_SIGNER_PROFILE)


VALUES: dict[str, Change] = {
    "an empty key usage": replacing(USAGE, tlv(der.BIT_STRING, b"\0")),
    "a key usage of four bytes": replacing(USAGE, tlv(der.BIT_STRING, b"\0\x80\0\0")),
    "a key usage with nine bits left over": replacing(USAGE, tlv(der.BIT_STRING, b"\x09\x80")),
    "a key usage that is a number": replacing(USAGE, tlv(der.INTEGER, b"\1")),
    "a path length without authority": replacing(CONSTRAINTS, tlv(der.SEQUENCE, tlv(der.INTEGER, b"\0"))),
    "an authority named last": replacing(
        CONSTRAINTS, tlv(der.SEQUENCE, tlv(der.INTEGER, b"\0") + tlv(der.BOOLEAN, b"\xff"))
    ),
    "two path lengths": replacing(CONSTRAINTS, tlv(der.SEQUENCE, tlv(der.INTEGER, b"\0") * 2)),
    "constraints of another kind": replacing(CONSTRAINTS, tlv(der.SEQUENCE, tlv(der.NULL, b""))),
    "an empty list of purposes": replacing(PURPOSE, tlv(der.SEQUENCE, b"")),
    "a purpose that is a number": replacing(PURPOSE, tlv(der.SEQUENCE, tlv(der.INTEGER, b"\1"))),
    "more behind its purposes": replacing(PURPOSE, tlv(der.SEQUENCE, b"") * 2),
    "an authority key identifier of nothing": replacing(AUTHORITY, tlv(der.SEQUENCE, b"")),
}


@pytest.mark.parametrize("name", VALUES)
def test_refuses_a_signed_extension_with(name: str) -> None:
    assert isinstance(ANCHORS.issued(extended(VALUES[name]), DOCUMENT_SIGNER_PROFILE), str)


def test_refuses_a_signature_that_is_not_whole_bytes_or_not_last() -> None:
    tbs, algorithm, signature = parts(SIGNER)
    begin, end = der.whole(signature, der.BIT_STRING)
    bits = signature[begin + 1 : end]
    for last in (
        tlv(der.BIT_STRING, b"\1" + bits),
        tlv(der.BIT_STRING, b""),
        signature + tlv(der.NULL, b""),
        tlv(der.OCTET_STRING, b"\0" + bits),
    ):
        with pytest.raises(MalformedError):
            read(tlv(der.SEQUENCE, tbs + algorithm + last))


def test_a_certificate_beyond_the_limit_is_refused_however_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CERTIFICATE", len(SIGNER))
    assert read(SIGNER).library() == load_der(SIGNER)
    monkeypatch.setattr(limits, "MAX_CERTIFICATE", len(SIGNER) - 1)
    for reader in (read, load_der):
        with pytest.raises(MalformedError, match="too long"):
            reader(SIGNER)


@pytest.mark.parametrize("value", [None, [], [SIGNER] * 4, [SIGNER, "text"], "text", 5, {}, (SIGNER,)])
def test_a_chain_is_one_certificate_or_a_short_array(value: object) -> None:
    assert chain_from_header(SIGNER) == [SIGNER]
    assert chain_from_header([SIGNER]) == [SIGNER]
    with pytest.raises(MalformedError):
        chain_from_header(value)


@pytest.mark.parametrize(
    "text", [b"", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----", b"-----BEGIN X-----"]
)
def test_a_text_without_certificates_is_no_pem(text: bytes) -> None:
    with pytest.raises(TrustError):
        pem_blocks(text)
    assert pem_blocks(ROOT.public_bytes(Encoding.PEM) * 2) == [ROOT.public_bytes(Encoding.DER)] * 2


def test_a_signature_counts_only_under_the_issuer_s_name() -> None:
    twin = certificates.root(KEY, "Another", country="KR", not_before=BEGIN, lifetime=timedelta(days=9))
    assert signed_by(read(SIGNER), ROOT)
    assert not signed_by(read(SIGNER), twin)
    assert valid_at(load_der(SIGNER), NOW) == valid_at(read(SIGNER), NOW) is True
    assert valid_at(load_der(SIGNER), BEGIN - timedelta(days=1)) is False
