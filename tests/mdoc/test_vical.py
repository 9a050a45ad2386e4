"""VICAL: three real lists hold at their dates; forged signers, foreign roots and bad entries do not; document types bind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from mdoc import cbor, cose, vical
from mdoc.cbor import Tag
from mdoc.certificates import EKU_MDL_DS, Certificate, Settings, Tolerance, load_pem, read
from mdoc.errors import MalformedError, MdocError, TrustError
from testbed import certificates
from tests.conftest import NOW

MDL, OWN = "org.iso.18013.5.1.mDL", "kr.go.civilservant.1"
BEGIN = NOW - timedelta(days=30)
ROOT_KEY, SIGNER_KEY, IACA_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
ROOT = certificates.root(ROOT_KEY, "List root", country="KR", not_before=BEGIN, lifetime=timedelta(days=3650))
SIGNER = certificates.vical_signer(
    SIGNER_KEY.public_key(), "List signer", issuer=ROOT, issuer_key=ROOT_KEY, not_before=BEGIN
)
IACA = certificates.root(IACA_KEY, "IACA", country="KR", not_before=BEGIN, lifetime=timedelta(days=3650))


def own(certificate: x509.Certificate) -> Certificate:
    return read(certificate.public_bytes(Encoding.DER))


def build(**changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "provider": "Site",
        "authorities": [(IACA, [OWN])],
        "date": NOW,
        "lifetime": timedelta(days=7),
        "issue_id": 1,
        "key": SIGNER_KEY,
        "chain": [SIGNER],
    }
    return vical.build(**{**arguments, **changes})


def parse(raw: bytes, roots: Sequence[Certificate] | None = None, **changes: Any) -> vical.Vical:
    return vical.parse(raw, [own(ROOT)] if roots is None else roots, **changes)


def altered(**members: Any) -> bytes:
    """A properly signed list with members of its body replaced (or dropped, where None)."""
    sign1 = cbor.decode(build())
    body = {**cbor.decode(sign1[2]), **members}
    payload = cbor.encode({key: value for key, value in body.items() if value is not None})
    return cbor.encode(cose.build_sign1(SIGNER_KEY, payload, unprotected=sign1[1]))


def with_entry(**members: Any) -> bytes:
    """The same for the one entry; a good second entry stands behind it."""
    entry = cbor.decode(cbor.decode(build())[2])["certificateInfos"][0]
    changed = {key: value for key, value in {**entry, **members}.items() if value is not None}
    return altered(certificateInfos=[changed, entry])


def test_what_a_site_builds_is_read_back() -> None:
    found = parse(build())
    assert (found.provider, found.date, found.issue_id, found.next_update) == ("Site", NOW, 1, NOW + timedelta(days=7))
    assert found.problems == ()
    (anchor,) = found.anchors
    assert anchor.certificate == own(IACA)
    assert anchor.may_issue(OWN)
    assert not anchor.may_issue(MDL)
    facts = anchor.source
    assert facts == found.facts
    assert (facts.name, facts.version, facts.issued_at, facts.expires) == ("Site", "1", NOW, found.next_update)


def test_members_that_may_be_left_out() -> None:
    found = parse(build(lifetime=None, issue_id=None))
    assert (found.issue_id, found.next_update, found.facts.version) == (None, None, None)


REAL = {
    "aamva-vical-2024-09-25": ("AAMVA", datetime(2024, 9, 24, 17, 37, 31, tzinfo=UTC), 616575, 3, []),
    "aamva-vical-2025-11-18-1763491092481": ("AAMVA", datetime(2025, 11, 18, 18, 38, 12, tzinfo=UTC), 227602, 14, []),
    "austroads-vical-2024-09-19": (
        "Austroads",
        datetime(2024, 9, 19, 23, 19, 59, tzinfo=UTC),
        15,
        32,
        ["entry 11: issuing authority: basic constraints is not critical", "entry 17: ", "entry 19: "],
    ),
}


def real_roots(vectors: Path) -> list[Certificate]:
    paths = sorted((vectors / "vical").glob("*.pem"))
    return [own(certificate) for path in paths for certificate in load_pem(path.read_bytes())]


@pytest.mark.parametrize("name", REAL)
def test_a_real_list_holds_at_its_date(vectors: Path, name: str) -> None:
    provider, date, issue_id, count, problems = REAL[name]
    found = parse((vectors / "vical" / f"{name}.cbor").read_bytes(), real_roots(vectors))
    assert (found.provider, found.date, found.issue_id, len(found.anchors)) == (provider, date, issue_id, count)
    assert len(found.problems) == len(problems)
    assert all(said.startswith(begin) for said, begin in zip(found.problems, problems, strict=True))
    assert all(anchor.may_issue(MDL) or anchor.listed_types for anchor in found.anchors)


def test_a_real_list_needs_its_own_provider_s_root(vectors: Path) -> None:
    roots = real_roots(vectors)
    for name in REAL:
        raw = (vectors / "vical" / f"{name}.cbor").read_bytes()
        accepting = []
        for root in roots:
            try:
                accepting.append(parse(raw, [root]))
            except TrustError:
                continue
        assert len(accepting) == 1


def test_issue_numbers_of_a_real_provider_go_backwards_and_its_dates_do_not(vectors: Path) -> None:
    first, second = (
        parse((vectors / "vical" / f"{name}.cbor").read_bytes(), real_roots(vectors))
        for name in ("aamva-vical-2024-09-25", "aamva-vical-2025-11-18-1763491092481")
    )
    assert first.publisher == second.publisher
    assert first.issue_id is not None
    assert second.issue_id is not None
    assert first.issue_id > second.issue_id
    assert first.date < second.date


def test_a_site_s_tolerance_lets_one_real_root_in(vectors: Path) -> None:
    raw = (vectors / "vical" / "austroads-vical-2024-09-19.cbor").read_bytes()
    infos = cbor.decode(cbor.decode(raw)[2])["certificateInfos"]
    odd = read(infos[16]["certificate"])
    site = Settings(tolerances=(Tolerance("iaca.key_usage", "digitalSignature in the root's key usage"),))
    found = parse(raw, real_roots(vectors), settings={odd.fingerprint(): site})
    assert len(found.anchors) == 33
    assert odd in {anchor.certificate for anchor in found.anchors}


# The signer


def signed_by(key: ec.EllipticCurvePrivateKey, *chain: x509.Certificate) -> bytes:
    return build(key=key, chain=chain)


def test_refuses_a_list_of_a_stranger() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    root = certificates.root(key, "List root", country="KR", not_before=BEGIN, lifetime=timedelta(days=100))
    signer = certificates.vical_signer(SIGNER_KEY.public_key(), "x", issuer=root, issuer_key=key, not_before=BEGIN)
    for chain in ((signer,), (signer, root), (signer, ROOT)):
        with pytest.raises(TrustError):
            parse(signed_by(SIGNER_KEY, *chain))
    with pytest.raises(TrustError):
        parse(build(), [])


def test_refuses_a_list_signed_by_another_key_than_the_certificate_s() -> None:
    with pytest.raises(TrustError, match="signature"):
        parse(signed_by(ROOT_KEY, SIGNER))


def test_refuses_a_list_that_the_root_signed_itself() -> None:
    with pytest.raises(TrustError):
        parse(signed_by(ROOT_KEY, ROOT))


@pytest.mark.parametrize("purpose", [None, EKU_MDL_DS], ids=["none", "a document signer's"])
def test_refuses_a_signer_with_another_purpose(purpose: x509.ObjectIdentifier | None) -> None:
    signer = certificates.vical_signer(
        SIGNER_KEY.public_key(), "x", issuer=ROOT, issuer_key=ROOT_KEY, not_before=BEGIN, purpose=purpose
    )
    with pytest.raises(TrustError, match="extended key usage"):
        parse(signed_by(SIGNER_KEY, signer))


def test_refuses_a_signer_that_was_not_valid_at_the_list_s_date() -> None:
    with pytest.raises(TrustError, match="dates"):
        parse(build(date=BEGIN - timedelta(days=1)))
    with pytest.raises(TrustError, match="dates"):
        parse(build(date=NOW + timedelta(days=1200)))


def intermediate(
    length: int | None, *, ca: bool = True
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate, Certificate]:
    """A root without path length, and an authority below it."""
    top_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    top = certificates.root(
        top_key,
        "Top",
        country="KR",
        not_before=BEGIN,
        lifetime=timedelta(days=3650),
        extra=((x509.BasicConstraints(ca=True, path_length=None), True),),
    )
    middle = certificates.leaf(
        key.public_key(),
        "Middle",
        issuer=top,
        issuer_key=top_key,
        not_before=BEGIN,
        lifetime=timedelta(days=3650),
        purpose=None,
        extra=(
            (x509.BasicConstraints(ca=ca, path_length=length if ca else None), True),
            (certificates.usage(key_cert_sign=True, crl_sign=True), True),
        ),
    )
    return key, middle, own(top)


def test_a_signer_below_an_intermediate_authority_counts_as_real_ones_do() -> None:
    key, middle, top = intermediate(0)
    signer = certificates.vical_signer(SIGNER_KEY.public_key(), "x", issuer=middle, issuer_key=key, not_before=BEGIN)
    assert parse(signed_by(SIGNER_KEY, signer, middle), [top]).anchors
    with pytest.raises(TrustError):
        parse(signed_by(SIGNER_KEY, signer), [top])
    with pytest.raises(TrustError):
        parse(signed_by(SIGNER_KEY, signer, ROOT), [top])
    with pytest.raises(TrustError):
        parse(signed_by(SIGNER_KEY, signer, middle, SIGNER), [top])


def test_refuses_a_signer_below_a_certificate_that_is_no_authority() -> None:
    key, middle, top = intermediate(None, ca=False)
    signer = certificates.vical_signer(SIGNER_KEY.public_key(), "x", issuer=middle, issuer_key=key, not_before=BEGIN)
    with pytest.raises(TrustError, match="no certification authority"):
        parse(signed_by(SIGNER_KEY, signer, middle), [top])


def test_refuses_a_path_longer_than_its_root_allows() -> None:
    """ROOT has path length 0, so nothing but the signer may stand below it."""
    key = ec.generate_private_key(ec.SECP256R1())
    middle = certificates.leaf(
        key.public_key(),
        "Middle",
        issuer=ROOT,
        issuer_key=ROOT_KEY,
        not_before=BEGIN,
        lifetime=timedelta(days=3650),
        purpose=None,
        extra=(
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (certificates.usage(key_cert_sign=True, crl_sign=True), True),
        ),
    )
    signer = certificates.vical_signer(SIGNER_KEY.public_key(), "x", issuer=middle, issuer_key=key, not_before=BEGIN)
    with pytest.raises(TrustError, match="path"):
        parse(signed_by(SIGNER_KEY, signer, middle))


# The body


BODIES: dict[str, dict[str, Any]] = {
    "no version": {"version": None},
    "version 2": {"version": "2.0"},
    "no provider": {"vicalProvider": None},
    "no date": {"date": None},
    "a date without its tag": {"date": "2026-11-24T09:00:00Z"},
    "an end before its beginning": {"nextUpdate": Tag(0, "2020-01-01T00:00:00Z")},
    "a number that is text": {"vicalIssueID": "7"},
    "a provider that is a number": {"vicalProvider": 5},
    "an empty provider": {"vicalProvider": ""},
    "a number that is true": {"vicalIssueID": True},
    "no certificates": {"certificateInfos": None},
    "certificates in a map": {"certificateInfos": {}},
}


@pytest.mark.parametrize("name", BODIES)
def test_refuses_a_list_with(name: str) -> None:
    with pytest.raises(MalformedError):
        parse(altered(**BODIES[name]))


ENTRIES: dict[str, dict[str, Any]] = {
    "no certificate": {"certificate": None},
    "noise as its certificate": {"certificate": b"\x30\x03\x02\x01\x01"},
    "a document signer's certificate": {
        "certificate": SIGNER.public_bytes(Encoding.DER),
        "serialNumber": None,
    },
    "another certificate's serial number": {"serialNumber": Tag(2, b"\x07")},
    "a serial number that is text": {"serialNumber": "5"},
    "a serial number under another tag": {"serialNumber": Tag(3, own(IACA).serial.to_bytes(20, "big"))},
    "a serial number that wraps a number": {"serialNumber": Tag(2, 5)},
    "document types in one text": {"docType": OWN},
    "no document type": {"docType": None},
    "an empty list of document types": {"docType": []},
    "a document type that is a number": {"docType": [1]},
}


@pytest.mark.parametrize("name", ENTRIES)
def test_a_bad_entry_disables_itself_and_never_the_list(name: str) -> None:
    found = parse(with_entry(**ENTRIES[name]))
    assert len(found.anchors) == 1
    (problem,) = found.problems
    assert problem.startswith("entry 1: ")


@pytest.mark.parametrize("entry", [5, None, [], "text"])
def test_an_entry_that_is_no_map_disables_itself(entry: Any) -> None:
    good = cbor.decode(cbor.decode(build())[2])["certificateInfos"][0]
    found = parse(altered(certificateInfos=[entry, good]))
    assert len(found.anchors) == 1
    assert found.problems == ("entry 1: certificate is expected",)


def test_a_serial_number_may_be_a_plain_number_where_it_is_small() -> None:
    small = certificates.root(IACA_KEY, "Small", country="KR", not_before=BEGIN, lifetime=timedelta(days=9), serial=7)
    raw = build(authorities=[(small, [OWN])])
    sign1 = cbor.decode(raw)
    body = cbor.decode(sign1[2])
    body["certificateInfos"][0]["serialNumber"] = 7
    plain = cbor.encode(cose.build_sign1(SIGNER_KEY, cbor.encode(body), unprotected=sign1[1]))
    assert parse(raw).problems == parse(plain).problems == ()


def test_a_list_without_its_payload_is_malformed() -> None:
    sign1 = cbor.decode(build())
    with pytest.raises(MalformedError, match="payload"):
        parse(cbor.encode([sign1[0], sign1[1], None, sign1[3]]))


def test_a_root_without_a_key_identifier_cannot_be_listed() -> None:
    bare = certificates.root(
        IACA_KEY,
        "Bare",
        country="KR",
        not_before=BEGIN,
        lifetime=timedelta(days=9),
        without={x509.SubjectKeyIdentifier},
    )
    with pytest.raises(ValueError, match="key identifier"):
        build(authorities=[(bare, [OWN])])


def test_refuses_a_list_whose_root_has_ended() -> None:
    short = certificates.root(ROOT_KEY, "List root", country="KR", not_before=BEGIN, lifetime=timedelta(days=29))
    with pytest.raises(TrustError, match="root is outside"):
        parse(build(), [own(short)])


@pytest.mark.parametrize(
    "members",
    [
        {"ski": b"\x04\x16\x04\x14" + bytes(20)},
        {"Extensions": {}, "CertificateProfile": ["x"]},
        {"serialNumber": None},
        {"docType": [OWN, MDL, "org.iso.23220.photoid.1"]},
    ],
    ids=["a key identifier with extra heads", "capitals", "no serial number", "several types"],
)
def test_what_real_lists_do_is_let_through(members: dict[str, Any]) -> None:
    assert parse(with_entry(**members)).problems == ()


def test_a_tagged_list_is_read_too() -> None:
    assert parse(cbor.encode(Tag(18, cbor.decode(build())))).anchors


def test_no_flipped_bit_is_accepted_with_other_content() -> None:
    raw = build()
    genuine = parse(raw)
    for at in range(0, len(raw), 2):
        forged = bytearray(raw)
        forged[at] ^= 1 << (at % 8)
        try:
            found = parse(bytes(forged))
        except MdocError:
            continue
        assert (found.date, found.anchors[0].certificate) == (genuine.date, genuine.anchors[0].certificate), at


@settings(max_examples=100, derandomize=True, deadline=None)
@given(raw=st.binary(max_size=200))
def test_arbitrary_bytes_are_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(raw)
