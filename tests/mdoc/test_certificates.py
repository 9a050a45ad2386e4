"""Certificate profiles: every row of Annex B's tables that trust rests on refuses its forgery; what genuine issuers miss is let
through unless the site asks for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from mdoc.certificates import (
    DOCUMENT_SIGNER_PROFILE,
    EKU_MDL_DS,
    EKU_MDL_READER,
    EKU_MDOC_DS,
    EKU_VICAL_SIGNER,
    IACA_PROFILE,
    READER_PROFILE,
    STATUS_SIGNER_PROFILE,
    Anchor,
    Certificate,
    Chained,
    Settings,
    Strictness,
    Tolerance,
    TrustAnchors,
    broken_rule,
    load_der,
    read,
    remarks,
    signed_by,
)
from mdoc.certificates import profiles as tables
from mdoc.errors import MalformedError, TrustError
from testbed import certificates
from testbed.certificates import Extra, PrivateKey, usage
from tests.conftest import NOW

BEGIN = NOW - timedelta(days=30)
MDL = "org.iso.18013.5.1.mDL"
OWN = "kr.go.civilservant.1"
DISALLOWED = ("2.5.29.33", "2.5.29.30", "2.5.29.36", "2.5.29.54", "2.5.29.46")


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def unknown(oid: str) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(ObjectIdentifier(oid), b"\x05\x00")


@dataclass
class Ground:
    """One root that is trusted, and its key."""

    key: PrivateKey
    root: x509.Certificate

    @classmethod
    def make(cls, key: PrivateKey | None = None, **deviations: Any) -> Ground:
        key = key or p256()
        settings_: dict[str, Any] = {"country": "KR", "not_before": BEGIN, "lifetime": timedelta(days=3650)}
        return cls(key, certificates.root(key, "Root", **{**settings_, **deviations}))

    def signer(self, key: PrivateKey | None = None, **deviations: Any) -> x509.Certificate:
        settings_: dict[str, Any] = {"issuer": self.root, "issuer_key": self.key, "not_before": BEGIN}
        return certificates.document_signer((key or p256()).public_key(), **{**settings_, **deviations})

    def anchors(self, settings_: Settings | None = None) -> TrustAnchors:
        return TrustAnchors([Anchor.from_certificate(self.root, settings=settings_ or Settings())])

    def judge(
        self, leaf: x509.Certificate, *further: x509.Certificate, settings_: Settings | None = None
    ) -> Chained | str | None:
        chain = [certificate.public_bytes(Encoding.DER) for certificate in (leaf, *further)]
        return self.anchors(settings_).issued(chain[0], DOCUMENT_SIGNER_PROFILE, chain[1:])


@pytest.fixture(scope="module")
def ground() -> Ground:
    return Ground.make()


def test_accepts_a_document_signer_and_remembers_it(ground: Ground) -> None:
    anchors = ground.anchors()
    leaf = ground.signer().public_bytes(Encoding.DER)
    first = anchors.issued(leaf, DOCUMENT_SIGNER_PROFILE)
    assert isinstance(first, Chained)
    assert anchors.issued(leaf, DOCUMENT_SIGNER_PROFILE) is first
    anchors.forget()
    assert anchors.issued(leaf, DOCUMENT_SIGNER_PROFILE) is not first
    assert (len(anchors), [anchor.source.kind.value for anchor in anchors]) == (1, ["issuer_list"])


def test_the_memory_is_per_profile(ground: Ground) -> None:
    anchors = ground.anchors()
    leaf = ground.signer().public_bytes(Encoding.DER)
    assert isinstance(anchors.issued(leaf, DOCUMENT_SIGNER_PROFILE), Chained)
    assert isinstance(anchors.issued(leaf, READER_PROFILE), str)


def disallowed(oid: str) -> Callable[[Ground], x509.Certificate]:
    return lambda ground: ground.signer(extra=((unknown(oid), False),))


SIGNER_FORGERIES: dict[str, tuple[Callable[[Ground], x509.Certificate], str]] = {
    "no purpose": (lambda g: g.signer(purpose=None), "no extended key usage"),
    "a reader's purpose": (lambda g: g.signer(purpose=EKU_MDL_READER), "extended key usage"),
    "a list signer's purpose": (lambda g: g.signer(purpose=EKU_VICAL_SIGNER), "extended key usage"),
    "a web server's purpose": (
        lambda g: g.signer(purpose=x509.oid.ExtendedKeyUsageOID.SERVER_AUTH),
        "extended key usage",
    ),
    "any purpose": (
        lambda g: g.signer(purpose=x509.oid.ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE),
        "extended key usage",
    ),
    "two purposes": (
        lambda g: g.signer(extra=((x509.ExtendedKeyUsage([EKU_MDOC_DS, EKU_MDL_READER]), True),)),
        "extended key usage",
    ),
    "the right purpose twice": (
        lambda g: g.signer(extra=((x509.ExtendedKeyUsage([EKU_MDOC_DS, EKU_MDOC_DS]), True),)),
        "extended key usage",
    ),
    "a purpose not critical": (
        lambda g: g.signer(extra=((x509.ExtendedKeyUsage([EKU_MDOC_DS]), False),)),
        "extended key usage is not critical",
    ),
    "no key usage": (lambda g: g.signer(without={x509.KeyUsage}), "no key usage"),
    "key usage not critical": (
        lambda g: g.signer(extra=((usage(digital_signature=True), False),)),
        "key usage is not critical",
    ),
    "may sign certificates too": (
        lambda g: g.signer(extra=((usage(digital_signature=True, key_cert_sign=True), True),)),
        "key usage",
    ),
    "may only encrypt": (lambda g: g.signer(extra=((usage(key_encipherment=True), True),)), "key usage"),
    "a certification authority": (
        lambda g: g.signer(extra=((x509.BasicConstraints(ca=True, path_length=None), True),)),
        "certification authority",
    ),
    "no authority key identifier": (
        lambda g: g.signer(without={x509.AuthorityKeyIdentifier}),
        "authority key identifier",
    ),
    "another authority's key identifier": (
        lambda g: g.signer(extra=((x509.AuthorityKeyIdentifier.from_issuer_public_key(p256().public_key()), False),)),
        "authority key identifier",
    ),
    "another country": (lambda g: g.signer(country="US"), "country"),
    "no country": (lambda g: g.signer(country=""), "country"),
    "a state that the root has not": (lambda g: g.signer(state="Seoul"), "state"),
    "an unknown critical extension": (lambda g: g.signer(extra=((unknown("1.2.3.4"), True),)), "1.2.3.4 is not known"),
    "a known extension made critical": (
        lambda g: g.signer(
            extra=((x509.IssuerAlternativeName([x509.UniformResourceIdentifier("https://x.example")]), True),)
        ),
        "2.5.29.18 is not known",
    ),
    "SHA-224": (lambda g: g.signer(algorithm=hashes.SHA224()), ""),
    "the root's own key": (lambda g: g.signer(key=g.key), "own key"),
    "the root itself": (lambda g: g.root, "certification authority"),
    **{f"disallowed extension {oid}": (disallowed(oid), "not allowed") for oid in DISALLOWED},
}


@pytest.mark.parametrize("name", SIGNER_FORGERIES)
def test_refuses_a_document_signer_with(ground: Ground, name: str) -> None:
    make, expected = SIGNER_FORGERIES[name]
    found = ground.judge(make(ground))
    if expected:
        assert isinstance(found, str)
        assert expected in found
    else:
        assert found is None  # the signature does not count, so nobody has issued it


def test_a_signer_of_a_stranger_with_the_same_name_is_nobodys(ground: Ground) -> None:
    stranger = Ground.make()
    assert ground.judge(stranger.signer()) is None


def test_a_signer_below_a_signer_is_nobodys(ground: Ground) -> None:
    key = p256()
    middle = ground.signer(key=key)
    below = certificates.document_signer(p256().public_key(), issuer=middle, issuer_key=key, not_before=BEGIN)
    assert ground.judge(below, middle) is None
    assert ground.judge(below) is None


def test_a_signer_below_an_intermediate_authority_is_nobodys(ground: Ground) -> None:
    key = p256()
    middle = certificates.leaf(
        key.public_key(),
        "Intermediate",
        issuer=ground.root,
        issuer_key=ground.key,
        not_before=BEGIN,
        lifetime=timedelta(days=400),
        purpose=None,
        extra=((x509.BasicConstraints(ca=True, path_length=0), True), (usage(key_cert_sign=True, crl_sign=True), True)),
    )
    below = certificates.document_signer(p256().public_key(), issuer=middle, issuer_key=key, not_before=BEGIN)
    assert ground.judge(below, middle) is None


def test_a_chain_that_does_not_begin_with_the_signer_is_refused(ground: Ground) -> None:
    stranger = Ground.make(country="FR")
    assert ground.judge(stranger.signer(), ground.signer()) is None


def test_only_the_issuing_authority_may_follow_in_the_chain(ground: Ground) -> None:
    signer = ground.signer()
    assert isinstance(ground.judge(signer, ground.root), Chained)
    for other in (ground.signer(), Ground.make().root, signer):
        found = ground.judge(signer, other)
        assert isinstance(found, str)
        assert "x5chain" in found


def test_the_memory_is_bounded(ground: Ground) -> None:
    """A signer that was forgotten is checked again, and found as good as before."""
    anchors = ground.anchors()
    first = ground.signer().public_bytes(Encoding.DER)
    before = anchors.issued(first, DOCUMENT_SIGNER_PROFILE)
    key = p256()
    for _ in range(300):
        assert anchors.issued(ground.signer(key=key).public_bytes(Encoding.DER), DOCUMENT_SIGNER_PROFILE)
    after = anchors.issued(first, DOCUMENT_SIGNER_PROFILE)
    assert isinstance(after, Chained)
    assert after is not before


def test_a_namesake_with_another_key_and_a_renamed_root_do_not_follow_in_the_chain(ground: Ground) -> None:
    signer = ground.signer()
    namesake = Ground.make().root
    renamed = Ground.make(ground.key, country="US").root
    assert namesake.subject == ground.root.subject
    for other in (namesake, renamed):
        assert isinstance(ground.judge(signer, other), str)


def test_a_signer_with_an_rsa_key_is_refused(ground: Ground) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    built = certificates.document_signer(
        key.public_key(),  # type: ignore[arg-type]  # the forgery
        issuer=ground.root,
        issuer_key=ground.key,
        not_before=BEGIN,
    )
    assert ground.judge(built) == "certificate key is not an elliptic-curve one"


def test_a_signer_on_a_curve_nobody_uses_is_refused(ground: Ground) -> None:
    found = ground.judge(ground.signer(key=ec.generate_private_key(ec.SECP256K1())))
    assert found == "certificate key is on another curve"


KEYS: dict[str, Callable[[], PrivateKey]] = {
    "P-256": p256,
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "brainpoolP256r1": lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
    "brainpoolP384r1": lambda: ec.generate_private_key(ec.BrainpoolP384R1()),
    "brainpoolP512r1": lambda: ec.generate_private_key(ec.BrainpoolP512R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}


@pytest.mark.parametrize("name", KEYS)
def test_accepts_every_kind_of_key_that_the_field_uses(name: str) -> None:
    ground = Ground.make(KEYS[name]())
    assert isinstance(ground.judge(ground.signer(key=KEYS[name]())), Chained)


FORMALITIES: dict[str, Callable[[Ground], x509.Certificate]] = {
    "issuer_alternative_name": lambda g: g.signer(without={x509.IssuerAlternativeName}),
    "crl_distribution_point": lambda g: g.signer(without={x509.CRLDistributionPoints}),
    "crl_distribution_point_uri": lambda g: g.signer(
        extra=(
            (
                x509.CRLDistributionPoints([x509.DistributionPoint([x509.DNSName("example.com")], None, None, None)]),
                False,
            ),
        )
    ),
    "subject_key_identifier": lambda g: g.signer(without={x509.SubjectKeyIdentifier}),
    "validity": lambda g: g.signer(lifetime=timedelta(days=458)),
    "within_authority": lambda g: g.signer(not_before=BEGIN - timedelta(days=1)),
}


@pytest.mark.parametrize("name", FORMALITIES)
def test_a_formality_counts_at_full_strictness_only_and_can_be_tolerated(ground: Ground, name: str) -> None:
    leaf = FORMALITIES[name](ground)
    full = Settings(Strictness.FULL)
    tolerated = replace(full, tolerances=(Tolerance(f"document_signer.{name}", "its certificates are so"),))
    assert isinstance(ground.judge(leaf), Chained)
    assert isinstance(ground.judge(leaf, settings_=full), str)
    assert isinstance(ground.judge(leaf, settings_=tolerated), Chained)
    (remark,) = remarks(read(leaf.public_bytes(Encoding.DER)), DOCUMENT_SIGNER_PROFILE, of_library(ground.root))
    assert remark.startswith(f"document_signer.{name}: ")


def of_library(certificate: x509.Certificate) -> Certificate:
    return read(certificate.public_bytes(Encoding.DER))


def test_our_own_certificates_keep_every_row(ground: Ground) -> None:
    root = of_library(ground.root)
    assert remarks(root, IACA_PROFILE, root) == ()
    assert remarks(of_library(ground.signer()), DOCUMENT_SIGNER_PROFILE, root) == ()
    reader = certificates.reader(
        p256().public_key(), "Gate 1", issuer=ground.root, issuer_key=ground.key, not_before=BEGIN
    )
    assert remarks(of_library(reader), READER_PROFILE, root) == ()
    status = certificates.status_signer(
        p256().public_key(), "Status", issuer=ground.root, issuer_key=ground.key, not_before=BEGIN
    )
    assert remarks(of_library(status), STATUS_SIGNER_PROFILE, root) == ()


def test_a_signer_without_a_purpose_counts_where_the_site_tolerates_that(ground: Ground) -> None:
    leaf, foreign = ground.signer(purpose=None), ground.signer(purpose=EKU_MDL_READER)
    site = Settings(tolerances=(Tolerance("document_signer.extended_key_usage_present", "none in its certificates"),))
    assert isinstance(ground.judge(leaf, settings_=site), Chained)
    assert isinstance(ground.judge(foreign, settings_=site), str)


def test_no_tolerance_opens_a_fixed_row(ground: Ground) -> None:
    names = [f"{profile.name}.{row.name}" for profile in tables.PROFILES for row in profile.rows]
    everything = Settings(tolerances=tuple(Tolerance(name, "all") for name in names))
    for forgery in (
        "a certification authority",
        "the root's own key",
        "the root itself",
        "an unknown critical extension",
    ):
        assert isinstance(ground.judge(SIGNER_FORGERIES[forgery][0](ground), settings_=everything), str)
    fixed = {f"{profile.name}.{row.name}" for profile in tables.PROFILES for row in profile.rows if row.fixed}
    assert not fixed & tables.tolerable()


def test_names_of_rows_are_unique_in_each_profile() -> None:
    for profile in tables.PROFILES:
        names = [row.name for row in profile.rows]
        assert len(set(names)) == len(names)


ROOT_FORGERIES: dict[str, tuple[dict[str, Any], str]] = {
    "no path length": ({"extra": ((x509.BasicConstraints(ca=True, path_length=None), True),)}, "path length 0"),
    "path length 1": ({"extra": ((x509.BasicConstraints(ca=True, path_length=1), True),)}, "path length 0"),
    "no authority at all": ({"extra": ((x509.BasicConstraints(ca=False, path_length=None), True),)}, "path length 0"),
    "no basic constraints": ({"without": {x509.BasicConstraints}}, "path length 0"),
    "basic constraints not critical": (
        {"extra": ((x509.BasicConstraints(ca=True, path_length=0), False),)},
        "not critical",
    ),
    "no key usage": ({"without": {x509.KeyUsage}}, "no key usage"),
    "digitalSignature as well": (
        {"extra": ((usage(key_cert_sign=True, crl_sign=True, digital_signature=True), True),)},
        "key usage",
    ),
    "no right to sign certificates": ({"extra": ((usage(crl_sign=True), True),)}, "key usage"),
    "no country": ({"country": ""}, "country"),
    "an unknown critical extension": ({"extra": ((unknown("1.2.3.4"), True),)}, "not known"),
    "name constraints": ({"extra": ((unknown("2.5.29.30"), False),)}, "not allowed"),
    "SHA-224": ({"algorithm": hashes.SHA224()}, "signature algorithm"),
    "a curve nobody uses": ({"key": ec.generate_private_key(ec.SECP256K1())}, "another curve"),
}


@pytest.mark.parametrize("name", ROOT_FORGERIES)
def test_refuses_a_root_with(name: str) -> None:
    deviations, expected = ROOT_FORGERIES[name]
    with pytest.raises(TrustError, match=expected):
        Anchor.from_certificate(Ground.make(**deviations).root)


def test_refuses_a_root_that_another_has_signed(ground: Ground) -> None:
    other = p256()
    name = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "KR"), x509.NameAttribute(NameOID.COMMON_NAME, "Root")])
    claimed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(p256().public_key())
        .serial_number(1)
        .not_valid_before(BEGIN)
        .not_valid_after(BEGIN + timedelta(days=100))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(other, hashes.SHA256())
    )
    with pytest.raises(TrustError, match="own signature"):
        Anchor.from_certificate(claimed)
    with pytest.raises(TrustError, match="self-issued"):
        Anchor.from_certificate(
            ground.signer(extra=((x509.BasicConstraints(ca=True, path_length=0), True),), purpose=None)
        )


ROOT_FORMALITIES: dict[str, dict[str, Any]] = {
    "country_form": {"country": "kr"},
    "validity": {"lifetime": timedelta(days=365 * 21)},
    "subject_key_identifier": {"without": {x509.SubjectKeyIdentifier}},
    "issuer_alternative_name": {"without": {x509.IssuerAlternativeName}},
    "crl_distribution_point": {"without": {x509.CRLDistributionPoints}},
    "key_usage_critical": {"extra": ((usage(key_cert_sign=True, crl_sign=True), False),)},
}


@pytest.mark.parametrize("name", ROOT_FORMALITIES)
def test_a_root_s_formality_counts_at_full_strictness_only(name: str) -> None:
    ground = Ground.make(**ROOT_FORMALITIES[name])
    assert isinstance(ground.judge(ground.signer()), Chained)
    with pytest.raises(TrustError):
        Anchor.from_certificate(ground.root, settings=Settings(Strictness.FULL))
    site = Settings(Strictness.FULL, tolerances=(Tolerance(f"iaca.{name}", "so it is"),))
    assert Anchor.from_certificate(ground.root, settings=site).settings is site


def test_state_is_the_same_on_both_sides() -> None:
    ground = Ground.make(state="US-MA", country="US")
    assert isinstance(ground.judge(ground.signer()), Chained)
    assert ground.judge(ground.signer(state="US-VA")) == "state differs from the issuing authority's"
    assert ground.judge(ground.signer(state="")) == "state differs from the issuing authority's"


def test_dates_of_signer_and_root_both_count(ground: Ground) -> None:
    found = ground.judge(ground.signer(lifetime=timedelta(days=100)))
    assert isinstance(found, Chained)
    assert found.dated(NOW)
    assert found.dated(BEGIN)
    assert not found.dated(BEGIN - timedelta(seconds=1))
    assert not found.dated(BEGIN + timedelta(days=100, seconds=1))
    late = Ground.make(ground.key, not_before=NOW).judge(ground.signer())
    assert isinstance(late, Chained)
    assert late.dated(NOW)
    assert not late.dated(NOW - timedelta(seconds=1))


def test_a_renewed_root_of_the_same_name_and_key_carries_on_its_signers(ground: Ground) -> None:
    old = Anchor.from_certificate(Ground.make(ground.key, lifetime=timedelta(days=31)).root)
    new = Anchor.from_certificate(Ground.make(ground.key, not_before=NOW, lifetime=timedelta(days=400)).root)
    leaf = ground.signer().public_bytes(Encoding.DER)
    found = TrustAnchors([old, new]).issued(leaf, DOCUMENT_SIGNER_PROFILE)
    assert isinstance(found, Chained)
    assert found.dated(NOW - timedelta(days=10))
    assert found.dated(NOW + timedelta(days=10))
    assert found.anchor.same_authority(new)
    assert found.accepts_status("https://any.example", new)
    assert not found.accepts_status("https://any.example", Anchor.from_certificate(Ground.make().root))


def test_a_list_and_the_site_both_narrow_the_document_types(ground: Ground) -> None:
    def may(listed: frozenset[str] | None, site: frozenset[str] | None, doc_type: str) -> bool:
        anchor = Anchor.from_certificate(ground.root, listed_types=listed, settings=Settings(doc_types=site))
        found = TrustAnchors([anchor]).issued(ground.signer().public_bytes(Encoding.DER), DOCUMENT_SIGNER_PROFILE)
        assert isinstance(found, Chained)
        return found.may_sign(doc_type)

    assert may(None, None, OWN)
    assert not may(frozenset({MDL}), None, OWN)
    assert may(frozenset({MDL, OWN}), frozenset({OWN}), OWN)
    assert not may(frozenset({MDL, OWN}), frozenset({OWN}), MDL)
    assert not may(frozenset({MDL}), frozenset({OWN}), OWN)


@pytest.mark.parametrize(
    ("purpose", "doc_type", "fits"),
    [(EKU_MDL_DS, MDL, True), (EKU_MDL_DS, OWN, True), (EKU_MDOC_DS, OWN, True), (EKU_MDOC_DS, MDL, False)],
)
def test_a_licence_is_signed_under_its_own_purpose(
    ground: Ground, purpose: ObjectIdentifier, doc_type: str, fits: bool
) -> None:
    found = ground.judge(ground.signer(purpose=purpose))
    assert isinstance(found, Chained)
    assert found.purpose_fits(doc_type) is fits


STATUS_FORGERIES: dict[str, tuple[ObjectIdentifier | None, tuple[Extra, ...]]] = {
    "a reader": (EKU_MDL_READER, ()),
    "a list signer": (EKU_VICAL_SIGNER, ()),
    "a web server": (x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, ()),
    "an encryption key": (None, ((usage(key_agreement=True), True),)),
}


@pytest.mark.parametrize("name", STATUS_FORGERIES)
def test_refuses_a_status_list_signed_by(ground: Ground, name: str) -> None:
    purpose, extra = STATUS_FORGERIES[name]
    leaf = ground.signer(purpose=purpose, extra=extra).public_bytes(Encoding.DER)
    assert isinstance(ground.anchors().issued(leaf, STATUS_SIGNER_PROFILE), str)


def test_a_document_signer_is_no_reader_and_a_reader_no_document_signer(ground: Ground) -> None:
    reader = certificates.reader(
        p256().public_key(), "Gate", issuer=ground.root, issuer_key=ground.key, not_before=BEGIN
    )
    assert broken_rule(reader, READER_PROFILE, issuer=ground.root) is None
    assert broken_rule(ground.signer(), READER_PROFILE, issuer=ground.root) is not None
    assert isinstance(ground.judge(reader), str)


# Every row of every profile


PURPOSES: dict[str, ObjectIdentifier | None] = {
    "document_signer": EKU_MDOC_DS,
    "reader": EKU_MDL_READER,
    "vical_signer": EKU_VICAL_SIGNER,
    "status_signer": None,
}
SIGNS = {"vical_signer": usage(content_commitment=True)}


def made(ground: Ground, profile: str, **deviations: Any) -> Certificate:
    """A certificate of the profile's kind: without deviations one that keeps every row."""
    if profile == "iaca":
        return of_library(Ground.make(**deviations).root)
    purpose = deviations.pop("purpose", PURPOSES[profile])
    signs = (SIGNS.get(profile, usage(digital_signature=True)), True)
    extra = (signs, *deviations.pop("extra", ()))
    key = deviations.pop("key", None) or p256()
    common: dict[str, Any] = {"issuer": ground.root, "issuer_key": ground.key, "not_before": BEGIN}
    common |= {"lifetime": timedelta(days=400), "purpose": purpose, "extra": extra, **deviations}
    if x509.KeyUsage in common.get("without", ()):
        common["extra"] = extra[1:]
    return of_library(certificates.leaf(key.public_key(), "Leaf", **common))


def changed(certificate: Certificate, **members: Any) -> Certificate:
    """With members that no issuing library would write. Rules see members; signatures are another check."""
    for name, value in members.items():
        setattr(certificate, name, value)
    return certificate


def nameless(certificate: Certificate) -> Certificate:
    country = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "KR")]).public_bytes()
    both = (
        {"subject": country, "issuer": country} if certificate.issuer == certificate.subject else {"subject": country}
    )
    return changed(certificate, **both)


def purposes(profile: str, critical: bool) -> Extra:
    purpose = PURPOSES[profile]
    assert purpose is not None
    return x509.ExtendedKeyUsage([purpose]), critical


ROOT_USAGE = usage(key_cert_sign=True, crl_sign=True)
LONG = {"iaca": 21 * 366, "document_signer": 458, "reader": 1188}
NOT_A_URI = x509.CRLDistributionPoints([x509.DistributionPoint([x509.DNSName("x.example")], None, None, None)])
AUTHORITY = x509.BasicConstraints(ca=True, path_length=0)
BREACHES: dict[str, Callable[[Ground, str], Certificate]] = {
    "version_3": lambda g, p: changed(made(g, p), version=1),
    "signature_algorithm": lambda g, p: made(g, p, algorithm=hashes.SHA224()),
    "extensions": lambda g, p: made(g, p, extra=((unknown("1.2.3.4"), True),)),
    "key": lambda g, p: made(g, p, key=ec.generate_private_key(ec.SECP256K1())),
    "self_issued": lambda g, p: changed(made(g, p), issuer=of_library(g.signer()).subject),
    "basic_constraints": lambda g, p: made(g, p, extra=((x509.BasicConstraints(ca=True, path_length=1), True),)),
    "basic_constraints_critical": lambda g, p: made(g, p, extra=((AUTHORITY, False),)),
    "end_entity": lambda g, p: made(g, p, extra=((AUTHORITY, True),)),
    "own_key": lambda g, p: made(g, p, key=g.key),
    "authority_key_identifier": lambda g, p: made(g, p, without={x509.AuthorityKeyIdentifier}),
    "key_usage": lambda g, p: made(g, p, without={x509.KeyUsage}),
    "key_usage_critical": lambda g, p: made(
        g, p, extra=((ROOT_USAGE if p == "iaca" else SIGNS.get(p, usage(digital_signature=True)), False),)
    ),
    "extended_key_usage_present": lambda g, p: made(g, p, purpose=None),
    "extended_key_usage": lambda g, p: made(g, p, purpose=x509.oid.ExtendedKeyUsageOID.SERVER_AUTH),
    "extended_key_usage_critical": lambda g, p: made(g, p, extra=(purposes(p, False),)),
    "no_other_role": lambda g, p: made(g, p, purpose=EKU_MDL_READER),
    "one_country": lambda g, p: made(g, p, country=""),
    "country_form": lambda g, p: made(g, p, country="kr"),
    "same_country": lambda g, p: made(g, p, country="US"),
    "same_state": lambda g, p: made(g, p, state="Seoul"),
    "serial_number": lambda g, p: changed(made(g, p), serial=0),
    "common_name": lambda g, p: nameless(made(g, p)),
    "subject_key_identifier": lambda g, p: made(g, p, without={x509.SubjectKeyIdentifier}),
    "validity": lambda g, p: made(g, p, lifetime=timedelta(days=LONG[p])),
    "within_authority": lambda g, p: made(g, p, not_before=BEGIN - timedelta(days=1)),
    "issuer_alternative_name": lambda g, p: made(g, p, without={x509.IssuerAlternativeName}),
    "crl_distribution_point": lambda g, p: made(g, p, without={x509.CRLDistributionPoints}),
    "crl_distribution_point_uri": lambda g, p: made(g, p, extra=((NOT_A_URI, False),)),
}


@pytest.mark.parametrize("profile", tables.PROFILES, ids=lambda profile: profile.name)
def test_a_certificate_of_each_kind_keeps_every_row(ground: Ground, profile: tables.Profile) -> None:
    certificate = made(ground, profile.name)
    issuer = certificate if profile.name == "iaca" else of_library(ground.root)
    assert remarks(certificate, profile, issuer) == ()


@pytest.mark.parametrize(
    ("profile", "row"),
    [
        pytest.param(profile, row, id=f"{profile.name}.{row.name}")
        for profile in tables.PROFILES
        for row in profile.rows
    ],
)
def test_each_row_of_each_profile_is_broken_by_its_breach_alone(
    ground: Ground, profile: tables.Profile, row: tables.Row
) -> None:
    certificate = BREACHES[row.name](ground, profile.name)
    issuer = certificate if profile.name == "iaca" else of_library(ground.root)
    assert [entry.partition(":")[0] for entry in remarks(certificate, profile, issuer)] == [
        f"{profile.name}.{row.name}"
    ]
    for strictness in Strictness:
        asked = row.kind is tables.Kind.REQUIRED or strictness is Strictness.FULL
        found = broken_rule(certificate, profile, issuer=issuer, settings=Settings(strictness))
        assert (found is not None) is asked


# Reading


def test_reads_what_the_library_reads(ground: Ground) -> None:
    for certificate in (ground.root, ground.signer(), Ground.make(ed25519.Ed25519PrivateKey.generate()).root):
        own = of_library(certificate)
        assert own.serial == certificate.serial_number
        assert own.issuer == certificate.issuer.public_bytes()
        assert own.subject == certificate.subject.public_bytes()
        assert own.not_before == certificate.not_valid_before_utc
        assert own.not_after == certificate.not_valid_after_utc
        assert own.tbs == certificate.tbs_certificate_bytes
        assert own.signature == certificate.signature
        assert own.library() == certificate
        assert own.fingerprint() == certificate.fingerprint(hashes.SHA256())
        assert len(own.extensions) == len(certificate.extensions)


def test_no_flipped_bit_keeps_a_signer_trusted(ground: Ground) -> None:
    raw = ground.signer().public_bytes(Encoding.DER)
    anchors = ground.anchors()
    for at in range(len(raw)):
        forged = bytearray(raw)
        forged[at] ^= 1 << (at % 8)
        try:
            assert not isinstance(anchors.issued(bytes(forged), DOCUMENT_SIGNER_PROFILE), Chained), at
        except MalformedError:
            continue


@pytest.mark.parametrize("cut", [0, 1, 3, 40, 200, -1])
def test_refuses_a_certificate_cut_short_or_with_more_behind(ground: Ground, cut: int) -> None:
    raw = ground.signer().public_bytes(Encoding.DER)
    for broken in (raw[:cut], raw + b"\x00", bytes(5000)):
        with pytest.raises(MalformedError):
            read(broken)


def test_refuses_two_extensions_of_one_kind(ground: Ground) -> None:
    # The library cannot build it, so the key identifier of the same length is renamed to a second authority key identifier.
    raw = ground.signer().public_bytes(Encoding.DER)
    twice = raw.replace(bytes.fromhex("0603551d0e"), bytes.fromhex("0603551d23"))
    assert twice != raw
    with pytest.raises(MalformedError, match="twice"):
        read(twice)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(raw=st.binary(max_size=200))
def test_arbitrary_bytes_are_malformed(raw: bytes) -> None:
    for prefix in (b"", b"\x30\x82\x00", b"\x30"):
        with pytest.raises(MalformedError):
            read(prefix + raw)


def test_arbitrary_changes_end_in_one_error_or_another_certificate(ground: Ground, random_bytes: Any) -> None:
    raw = ground.signer().public_bytes(Encoding.DER)
    root = of_library(ground.root)
    for _ in range(2000):
        at, value, *_ = random_bytes(3)
        forged = bytearray(raw)
        forged[(at * 3) % len(raw)] = value
        try:
            certificate = read(bytes(forged))
        except MalformedError:
            continue
        assert (
            certificate.der == raw
            or broken_rule(certificate, DOCUMENT_SIGNER_PROFILE, issuer=root) is not None
            or (not signed_by(certificate, root) or forged == raw)
        )


def test_annex_d_keeps_every_row_but_its_distribution_point(vectors: Path) -> None:
    def load(name: str) -> Certificate:
        return read(bytes.fromhex((vectors / "annexd" / f"{name}.hex").read_text().strip()))

    root, signer = load("iaca_cert"), load("ds_cert")
    assert remarks(root, IACA_PROFILE, root) == (
        "iaca.crl_distribution_point_uri: CRL distribution point is not a URI",
    )
    assert [entry.partition(":")[0] for entry in remarks(signer, DOCUMENT_SIGNER_PROFILE, root)] == [
        "document_signer.crl_distribution_point_uri"
    ]
    anchors = TrustAnchors([Anchor.from_certificate(root)])
    assert isinstance(anchors.issued(signer.der, DOCUMENT_SIGNER_PROFILE), Chained)
    assert load_der(signer.der) == signer.library()
