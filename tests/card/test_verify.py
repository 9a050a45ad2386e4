"""Attacks on a PIV card, each by its name, and the one reason that each is refused for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from card.anchors import CardAnchors
from card.keys import card_key
from card.piv import CardAnswer, Challenge
from card.verify import PIV_CHECKS, PKOC_CHECKS, CardVerdict
from mdoc.certificates.structure import Certificate
from mdoc.errors import MalformedError
from mdoc.freshness import Freshness
from mdoc.verdict import Failure, NotAcceptedError, Outcome
from policy.reasons import ORDER, Reason
from testbed.card.issuer import CardIssuer
from testbed.card.keys import KeyKind, generate, signer
from testbed.card.piv import VirtualPivCard
from testbed.certificates import usage
from tests.card.conftest import NONCE, TERMS, Cards, anchors_of, ours, tap
from tests.card.forge import explicit_info, named_info, rsa_info, with_key
from tests.conftest import NOW

DAY = timedelta(days=1)


def refused_for(verdict: CardVerdict) -> Failure | None:
    """The reason; and nothing of the card can be reached."""
    if not verdict.accepted:
        with pytest.raises(NotAcceptedError):
            _ = verdict.card
    return verdict.reason


def test_a_genuine_card_passes_every_check_and_says_what_the_site_says(cards: Cards) -> None:
    verdict = cards.verdict(tap(VirtualPivCard(cards.usual)))
    assert [check.name for check in verdict.checks] == [row.name for row in PIV_CHECKS]
    assert {check.outcome for check in verdict.checks} == {Outcome.PASSED, Outcome.SKIPPED}
    assert [check.name for check in verdict.checks if check.outcome is Outcome.SKIPPED] == ["authority_revocation"]
    found = verdict.card
    assert found.terms == TERMS
    assert found.issuer == ours(cards.issuer.root)
    assert found.key == card_key(ours(cards.usual.certificate).public_key_info)
    assert found.valid_from < NOW < found.valid_until


def test_the_checks_stand_in_the_published_order_of_reasons() -> None:
    for table in (PIV_CHECKS, PKOC_CHECKS):
        firsts = [ORDER.index(Reason(row.failures[0].value)) for row in table]
        assert firsts == sorted(firsts)
        for row in table:
            places = [ORDER.index(Reason(failure.value)) for failure in row.failures]
            assert places == sorted(places)


def test_every_check_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/cards.md").read_text("utf-8")
    for row in (*PIV_CHECKS, *PKOC_CHECKS):
        reasons = ", ".join(f"`{failure}`" for failure in row.failures)
        assert f"| `{row.name}` | {row.clause} | {row.ko} · {row.en} | {reasons} |" in text


# The card's key.


def test_a_cloned_certificate_without_its_key_is_refused(cards: Cards) -> None:
    card = VirtualPivCard(cards.usual)
    card.sign = None
    assert refused_for(cards.verdict(tap(card))) is Failure.WRONG_SESSION


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.RSA_2048])
def test_a_cloned_certificate_with_another_key_is_refused(cards: Cards, kind: KeyKind) -> None:
    card = VirtualPivCard(cards.credentials[kind])
    card.sign = signer(generate(kind))
    assert refused_for(cards.verdict(tap(card))) is Failure.WRONG_SESSION


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.RSA_2048])
def test_an_answer_to_an_earlier_challenge_is_refused(cards: Cards, kind: KeyKind) -> None:
    card = VirtualPivCard(cards.credentials[kind])
    recorded = tap(card, nonce=bytes(32)).signature
    fresh = replace(tap(card), signature=recorded)
    assert refused_for(cards.verdict(fresh)) is Failure.WRONG_SESSION


def test_a_signature_over_a_hash_of_the_card_s_choice_is_refused(cards: Cards) -> None:
    card = VirtualPivCard(cards.usual)
    genuine = signer(cards.usual.key)
    card.sign = lambda algorithm, _challenge: genuine(algorithm, bytes(32))
    assert refused_for(cards.verdict(tap(card))) is Failure.WRONG_SESSION


@pytest.mark.parametrize("signature", [b"", b"\0", bytes(256), bytes(64), b"\x30\x06\x02\x01\x00\x02\x01\x00"])
@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.P384, KeyKind.RSA_2048])
def test_what_is_no_signature_is_refused(cards: Cards, kind: KeyKind, signature: bytes) -> None:
    answer = replace(tap(VirtualPivCard(cards.credentials[kind])), signature=signature)
    assert refused_for(cards.verdict(answer)) is Failure.WRONG_SESSION


# The certificate.


def forged(cards: Cards, certificate: Certificate) -> CardAnswer:
    """A card that shows this certificate and answers as it can."""
    genuine = tap(VirtualPivCard(cards.usual))
    return replace(genuine, certificate=certificate)


def test_the_certificate_of_another_card_around_ones_own_key_is_refused(cards: Cards) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    certificate = with_key(cards.usual.certificate, cards.issuer, named_info(own.public_key()), signed=False)
    challenge = Challenge.to(own.public_key(), NONCE)
    answer = replace(
        forged(cards, certificate), challenge=challenge, signature=signer(own)(challenge.algorithm, challenge.block)
    )
    assert refused_for(cards.verdict(answer)) is Failure.BAD_SIGNATURE


def test_a_card_of_somebody_else_s_authority_is_refused(cards: Cards) -> None:
    answer = tap(VirtualPivCard(cards.other.issue(NOW)))
    assert refused_for(cards.verdict(answer)) is Failure.UNKNOWN_ISSUER
    assert refused_for(cards.verdict(answer, anchors=CardAnchors())) is Failure.UNKNOWN_ISSUER


def test_an_authority_of_the_same_name_and_another_key_is_refused(cards: Cards) -> None:
    impostor = CardIssuer("Cards", NOW)
    same_name = impostor.issue(NOW)
    assert refused_for(cards.verdict(tap(VirtualPivCard(same_name)))) is Failure.UNKNOWN_ISSUER
    genuine = x509.AuthorityKeyIdentifier.from_issuer_public_key(cards.issuer.key.public_key())
    same_identifier = impostor.issue(NOW, extra=[(genuine, False)])
    assert refused_for(cards.verdict(tap(VirtualPivCard(same_identifier)))) is Failure.BAD_SIGNATURE
    unnamed = impostor.issue(NOW, without=[x509.AuthorityKeyIdentifier])
    assert refused_for(cards.verdict(tap(VirtualPivCard(unnamed)))) is Failure.BAD_CERTIFICATE


AUTHORITY = ((x509.BasicConstraints(ca=True, path_length=None), True), (usage(key_cert_sign=True), True))
WRONG: dict[str, Callable[[CardIssuer], object]] = {
    "no purpose": lambda issuer: issuer.issue(NOW, purpose=None),
    "another purpose": lambda issuer: issuer.issue(NOW, purpose=ExtendedKeyUsageOID.CLIENT_AUTH),
    "every purpose": lambda issuer: issuer.issue(
        NOW, extra=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), True)]
    ),
    "a certification authority": lambda issuer: issuer.issue(NOW, extra=AUTHORITY),
    "an authority by basic constraints alone": lambda issuer: issuer.issue(NOW, extra=AUTHORITY[:1]),
    "no key usage": lambda issuer: issuer.issue(NOW, without=[x509.KeyUsage]),
    "key agreement": lambda issuer: issuer.issue(NOW, extra=[(usage(key_agreement=True), True)]),
    "more than digitalSignature": lambda issuer: issuer.issue(
        NOW, extra=[(usage(digital_signature=True, content_commitment=True), True)]
    ),
    "no identifier": lambda issuer: issuer.issue(NOW, named=()),
    "an unknown critical extension": lambda issuer: issuer.issue(
        NOW, extra=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]
    ),
    "RSA-1024": lambda issuer: issuer.issue(NOW, kind=KeyKind.RSA_1024),
    "the authority's own key": lambda issuer: issuer.issue(NOW, key=issuer.key),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_certificate_of_another_kind_is_refused(cards: Cards, name: str) -> None:
    credential = WRONG[name](cards.issuer)
    answer = tap(VirtualPivCard(credential))  # type: ignore[arg-type]  # each makes a credential
    assert refused_for(cards.verdict(answer)) is Failure.BAD_CERTIFICATE


@pytest.mark.parametrize("curve", [ec.SECP521R1(), ec.SECP256K1(), ec.BrainpoolP256R1(), ec.SECP224R1()])
def test_a_key_on_another_curve_is_refused(cards: Cards, curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve).public_key()
    certificate = with_key(cards.usual.certificate, cards.issuer, named_info(key))
    assert refused_for(cards.verdict(forged(cards, certificate))) is Failure.BAD_CERTIFICATE


def test_a_curve_spelled_out_in_numbers_is_refused(cards: Cards) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = named_info(key)[-65:]
    for info in (explicit_info(key), explicit_info(key, base=point)):
        with pytest.raises(MalformedError):
            card_key(info)
        certificate = with_key(cards.usual.certificate, cards.issuer, info)
        assert refused_for(cards.verdict(forged(cards, certificate))) is Failure.BAD_CERTIFICATE


@pytest.mark.parametrize("exponent", [1, 3, 65_539, 2**32 + 1])
def test_an_rsa_key_of_another_exponent_is_refused(cards: Cards, exponent: int) -> None:
    """With the exponent 1 the padded block is its own signature."""
    genuine = cards.credentials[KeyKind.RSA_2048]
    public = genuine.key.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    certificate = with_key(genuine.certificate, cards.issuer, rsa_info(public.public_numbers().n, exponent))
    answer = tap(VirtualPivCard(genuine))
    assert answer.challenge is not None
    answer = replace(answer, certificate=certificate, signature=answer.challenge.block)
    assert refused_for(cards.verdict(answer)) is Failure.BAD_CERTIFICATE


def test_a_point_that_is_on_no_curve_is_refused(cards: Cards) -> None:
    info = bytearray(named_info(ec.generate_private_key(ec.SECP256R1()).public_key()))
    info[-1] ^= 1
    certificate = with_key(cards.usual.certificate, cards.issuer, bytes(info))
    assert refused_for(cards.verdict(forged(cards, certificate))) is Failure.BAD_CERTIFICATE


@pytest.mark.parametrize("kind", [KeyKind.P384, KeyKind.RSA_2048])
def test_authorities_of_every_kind_of_key_are_taken(kind: KeyKind) -> None:
    issuer = CardIssuer("Another", NOW, kind=kind)
    answer = tap(VirtualPivCard(issuer.issue(NOW)))
    anchors = anchors_of(issuer)
    assert not anchors.problems
    verdict = Cards(issuer, issuer, anchors, {}).verdict(answer)
    assert verdict.accepted


# Dates.


@pytest.mark.parametrize(
    ("later", "skew", "reason"),
    [
        (-timedelta(minutes=2), timedelta(0), Failure.NOT_YET_VALID),
        (-timedelta(minutes=2), timedelta(minutes=2), None),
        (timedelta(0), timedelta(0), None),
        (30 * DAY + timedelta(seconds=1), timedelta(0), Failure.EXPIRED),
        (30 * DAY + timedelta(seconds=1), timedelta(minutes=2), None),
    ],
)
def test_dates_count_give_or_take_the_clock_s_error(
    cards: Cards, later: timedelta, skew: timedelta, reason: Failure | None
) -> None:
    """The revocation list of the same day is left aside: it would be too old in a month."""
    credential = cards.issuer.issue(NOW, valid_until=NOW + 30 * DAY)
    verdict = cards.verdict(tap(VirtualPivCard(credential)), later=later, skew=skew)
    failed = [check.failure for check in verdict.checks if check.name == "validity"]
    assert failed == [reason]


def test_a_card_whose_chuid_is_over_is_expired(cards: Cards) -> None:
    answer = tap(VirtualPivCard(cards.usual))
    over = replace(answer, chuid=replace(answer.chuid, expires=NOW - DAY))
    assert refused_for(cards.verdict(over)) is Failure.EXPIRED
    assert cards.verdict(answer).card.valid_until == min(ours(cards.usual.certificate).not_after, answer.chuid.expires)


# Identifier.


def test_the_chuid_of_another_card_is_refused(cards: Cards) -> None:
    another = tap(VirtualPivCard(cards.credentials[KeyKind.P384])).chuid
    answer = replace(tap(VirtualPivCard(cards.usual)), chuid=another)
    assert refused_for(cards.verdict(answer)) is Failure.ALTERED


@pytest.mark.parametrize("named", [("fasc_n",), ("card_uuid",), ("fasc_n", "card_uuid")])
def test_every_identifier_that_the_certificate_names_has_to_be_the_chuid_s(
    cards: Cards, named: tuple[str, ...]
) -> None:
    answer = tap(VirtualPivCard(cards.issuer.issue(NOW, named=named)))
    assert cards.verdict(answer).accepted
    for each, part in (("fasc_n", "fasc_n"), ("card_uuid", "guid")):
        other = bytes(len(getattr(answer.chuid, part)))
        changed = replace(answer, chuid=replace(answer.chuid, **{part: other}))  # type: ignore[arg-type]  # by its name
        assert refused_for(cards.verdict(changed)) is (Failure.ALTERED if each in named else None)


# Revocation.


def test_a_revoked_card_is_refused_by_a_list_of_whatever_age() -> None:
    issuer = CardIssuer("Revoking", NOW)
    credential = issuer.issue(NOW)
    issuer.revoke(credential)
    cards = Cards(issuer, issuer, anchors_of(issuer), {})
    answer = tap(VirtualPivCard(credential))
    for later in (timedelta(0), 8 * DAY):
        assert refused_for(cards.verdict(answer, later=later)) is Failure.REVOKED


def test_without_a_revocation_list_nothing_is_known_of_a_card(cards: Cards) -> None:
    answer = tap(VirtualPivCard(cards.usual))
    verdict = cards.verdict(answer, anchors=anchors_of(cards.issuer, revocation=False))
    assert refused_for(verdict) is Failure.STATUS_UNKNOWN


@pytest.mark.parametrize(
    ("later", "limit", "reason"),
    [
        (timedelta(hours=5), timedelta(hours=6), None),
        (timedelta(hours=7), timedelta(hours=6), Failure.STATUS_STALE),
        (timedelta(hours=7), None, None),
        (8 * DAY, None, Failure.STATUS_STALE),  # past its own nextUpdate
    ],
)
def test_a_revocation_list_is_as_fresh_as_the_zone_asks(
    cards: Cards, later: timedelta, limit: timedelta | None, reason: Failure | None
) -> None:
    answer = tap(VirtualPivCard(cards.usual))
    assert refused_for(cards.verdict(answer, later=later, freshness=Freshness(crl=limit))) is reason


# An authority below the pinned one.


@pytest.fixture(scope="module")
def below() -> Cards:
    issuer = CardIssuer("Below", NOW, intermediate=True)
    return Cards(issuer, issuer, anchors_of(issuer), {KeyKind.P256: issuer.issue(NOW)})


def test_a_card_of_an_authority_below_the_pinned_one_is_taken(below: Cards) -> None:
    verdict = below.verdict(tap(VirtualPivCard(below.usual)))
    assert verdict.accepted
    assert verdict.card.issuer == ours(below.issuer.root)
    assert {check.outcome for check in verdict.checks} == {Outcome.PASSED}


def changed_authority(below: Cards, **changes: object) -> CardAnchors:
    """The same set, one authority of it with other parts."""
    anchors = CardAnchors()
    found = [replace(each, **changes) if len(each.path) > 1 else each for each in below.anchors]  # type: ignore[arg-type]
    for each in found:
        anchors._by_subject.setdefault(each.path[0].subject, []).append(each)
    return anchors


def test_a_revoked_authority_takes_its_cards_along(below: Cards) -> None:
    (authority,) = (each for each in below.anchors if len(each.path) > 1)
    own, above = authority.crls
    assert above is not None
    listed = replace(above, revoked=frozenset({authority.certificate.serial}))
    answer = tap(VirtualPivCard(below.usual))
    verdict = below.verdict(answer, anchors=changed_authority(below, crls=(own, listed)))
    assert refused_for(verdict) is Failure.SIGNER_REVOKED


def test_without_the_list_of_the_authority_above_nothing_is_known_of_the_one_below(below: Cards) -> None:
    (authority,) = (each for each in below.anchors if len(each.path) > 1)
    answer = tap(VirtualPivCard(below.usual))
    verdict = below.verdict(answer, anchors=changed_authority(below, crls=(authority.crls[0], None)))
    assert refused_for(verdict) is Failure.CRL_STALE


def test_an_authority_outside_its_dates_issues_nothing(below: Cards) -> None:
    answer = tap(VirtualPivCard(below.usual))
    assert refused_for(below.verdict(answer, later=timedelta(days=11 * 365))) is Failure.BAD_CERTIFICATE
