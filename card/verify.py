"""Is this answer one of a card that counts here, now? A straight list of named checks (`PIV_CHECKS`, `PKOC_CHECKS`), in the
order of the published reasons; the first that fails is the reason. Nothing of a refused card can be reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from card.anchors import Authority, CardAnchors, Terms, named
from card.identifiers import identifiers
from card.keys import CardKey, card_key, holds
from card.piv import CardAnswer
from card.pkoc import PkocAnswer
from card.profile import CARD_AUTHENTICATION_PROFILE
from mdoc.certificates.profiles import broken_rule
from mdoc.certificates.structure import Certificate
from mdoc.errors import MalformedError
from mdoc.freshness import NO_LIMITS, Freshness, ListFacts, staleness
from mdoc.verdict import Check, Checklist, CheckRow, Failure, NotAcceptedError

PIV_CHECKS: tuple[CheckRow, ...] = (
    CheckRow(
        "authority",
        "FIPS 201-3 6.2.3.2",
        (Failure.UNKNOWN_ISSUER,),
        "인증서의 발급기관이 고정된 기관이거나 그 아래에 있음",
        "the certificate names a pinned authority, or one below it",
    ),
    CheckRow(
        "certificate",
        "FIPS 201-3 4.2.2.3, SP 800-78-5",
        (Failure.BAD_CERTIFICATE,),
        "카드 인증용 인증서: 키 종류, 서명 용도, 카드 인증 EKU, 식별자, CA가 아님",
        "a card-authentication certificate: kind of key, digitalSignature, its purpose alone, an identifier, no authority",
    ),
    CheckRow(
        "authority_dates",
        "RFC 5280 6.1.3",
        (Failure.BAD_CERTIFICATE,),
        "발급기관 인증서들이 기한 안에 있음",
        "every authority of the path is within its dates",
    ),
    CheckRow(
        "authority_revocation",
        "RFC 5280 6.3",
        (Failure.SIGNER_REVOKED, Failure.CRL_STALE),
        "고정된 기관 아래의 발급기관이 폐지되지 않았고 그 목록이 기한 안임",
        "no authority below the pinned one is revoked, by a list that is fresh enough",
    ),
    CheckRow(
        "certificate_signature",
        "RFC 5280 6.1.3",
        (Failure.BAD_SIGNATURE,),
        "발급기관이 서명한 인증서",
        "the authority signed the certificate",
    ),
    CheckRow(
        "identifier",
        "SP 800-73-5 part 1 3.1.2",
        (Failure.ALTERED,),
        "인증서의 FASC-N과 카드 UUID가 CHUID의 것과 같음",
        "FASC-N and card UUID of the certificate are those of the CHUID",
    ),
    CheckRow(
        "validity",
        "FIPS 201-3 2.9, 4.2.1",
        (Failure.NOT_YET_VALID, Failure.EXPIRED),
        "인증서와 CHUID의 기한 안 (시계 오차를 더함)",
        "within the dates of certificate and CHUID, give or take the clock's error",
    ),
    CheckRow(
        "challenge",
        "SP 800-73-5 part 2 3.2.4",
        (Failure.WRONG_SESSION,),
        "인증서의 키로 이번 난수에 서명함",
        "the certificate's key signed this challenge",
    ),
    CheckRow(
        "status",
        "FIPS 201-3 6.2.3.2, RFC 5280 6.3",
        (Failure.STATUS_UNKNOWN, Failure.REVOKED, Failure.STATUS_STALE),
        "발급기관의 CRL에 없고, CRL이 이 구역의 기한(max_ages.crl) 안임",
        "not on its authority's CRL, which is no older than the zone allows (max_ages.crl)",
    ),
)
PKOC_CHECKS: tuple[CheckRow, ...] = (
    CheckRow(
        "enrolment",
        "docs/cards.md",
        (Failure.UNKNOWN_ISSUER,),
        "키가 서명된 등록 목록에 있음",
        "the key stands on the signed list",
    ),
    CheckRow(
        "list_age",
        "docs/cards.md",
        (Failure.ISSUER_LIST_STALE,),
        "목록이 이 구역의 기한(max_ages.issuer_list) 안임",
        "the list is no older than the zone allows (max_ages.issuer_list)",
    ),
    CheckRow(
        "validity",
        "docs/cards.md",
        (Failure.NOT_YET_VALID, Failure.EXPIRED),
        "등록 기한 안 (시계 오차를 더함)",
        "within the enrolment's dates, give or take the clock's error",
    ),
    CheckRow(
        "challenge",
        "PKOC NFC 1.0",
        (Failure.WRONG_SESSION,),
        "그 키로 이번 거래 번호에 서명함",
        "the key signed this transaction id",
    ),
)


@dataclass(frozen=True, slots=True)
class VerifiedCard:
    """A card that was accepted."""

    terms: Terms
    issuer: Certificate | None = field(repr=False)
    """The pinned authority; None for a key that was enrolled by itself."""
    key: CardKey = field(repr=False)
    """Names the card: for comparing in memory, and for nothing else."""
    valid_from: datetime
    valid_until: datetime


class CardVerdict:
    """The result of one verification. `reason` is None exactly when every check that ran has passed."""

    __slots__ = ("_card", "checks", "reason")

    def __init__(self, checks: Checklist, card: VerifiedCard | None) -> None:
        self.checks: tuple[Check, ...] = tuple(checks.checks)
        self.reason: Failure | None = checks.reason
        self._card = card

    @property
    def accepted(self) -> bool:
        return self.reason is None

    @property
    def card(self) -> VerifiedCard:
        """Raises NotAcceptedError unless accepted."""
        if self.reason is not None or self._card is None:
            raise NotAcceptedError(f"refused: {self.reason}")
        return self._card


def verify_piv(
    answer: CardAnswer,
    anchors: CardAnchors,
    *,
    now: datetime,
    skew: timedelta = timedelta(0),
    freshness: Freshness = NO_LIMITS,
) -> CardVerdict:
    """Judge what a PIV card said. `now` is aware; `skew` widens every date comparison by the bound of the clock's error."""
    checks = Checklist()
    leaf = answer.certificate
    authority, signed = _authority(leaf, anchors, now, skew)
    if authority is None:
        checks.failed("authority", Failure.UNKNOWN_ISSUER, "no authority of that name is pinned")
        return CardVerdict(checks, None)
    checks.passed("authority")
    problem = broken_rule(leaf, CARD_AUTHENTICATION_PROFILE, issuer=authority.certificate)
    checks.expect(problem is None, "certificate", Failure.BAD_CERTIFICATE, problem or "")
    dated = all(_dated(each, now, skew) for each in authority.path)
    checks.expect(dated, "authority_dates", Failure.BAD_CERTIFICATE, "an authority outside its dates")
    _authority_revocation(checks, authority, freshness, now, skew)
    checks.expect(signed, "certificate_signature", Failure.BAD_SIGNATURE)
    if problem is not None:
        # What the profile refuses may have no key and no identifier that could be read.
        return CardVerdict(checks, None)
    same = identifiers(leaf).same_as(answer.chuid.fasc_n, answer.chuid.guid)
    checks.expect(same, "identifier", Failure.ALTERED, "the CHUID is another card's")
    valid_until = min(leaf.not_after, answer.chuid.expires)
    _validity(checks, leaf.not_before, valid_until, now, skew)
    key, challenge, signature = card_key(leaf.public_key_info), answer.challenge, answer.signature
    good = challenge is not None and signature is not None and challenge.answered(key, signature)
    checks.expect(
        good, "challenge", Failure.WRONG_SESSION, "" if good else "no signature of the certificate's key over it"
    )
    _status(checks, leaf, authority, freshness, now, skew)
    return CardVerdict(checks, VerifiedCard(authority.terms, authority.anchor, key, leaf.not_before, valid_until))


def _authority(
    leaf: Certificate, anchors: CardAnchors, now: datetime, skew: timedelta
) -> tuple[Authority | None, bool]:
    """The authority that issued the certificate, or one that it names; and whether its key did sign it. Of an authority and its
    renewal the one that is within its dates."""
    candidates = [each for each in anchors.named(leaf.issuer) if _named(leaf, each.certificate)]
    candidates.sort(key=lambda each: not all(_dated(one, now, skew) for one in each.path))
    for authority in candidates:
        if holds(authority.certificate, leaf.algorithm, leaf.signature, leaf.tbs):
            return authority, True
    return (candidates[0] if candidates else None), False


def _named(leaf: Certificate, authority: Certificate) -> bool:
    try:
        return named(leaf, authority)
    except MalformedError:
        return True  # an identifier that cannot be read: the profile says so


def _dated(certificate: Certificate, now: datetime, skew: timedelta) -> bool:
    return certificate.not_before <= now + skew and now - skew <= certificate.not_after


def _authority_revocation(
    checks: Checklist, authority: Authority, freshness: Freshness, now: datetime, skew: timedelta
) -> None:
    """Of every authority below the pinned one, by the list of the one above it."""
    below = list(zip(authority.path, authority.crls[1:], strict=False))
    if not below:
        checks.skipped("authority_revocation", "the pinned authority issued the card")
        return
    if any(crl is not None and each.serial in crl.revoked for each, crl in below):
        checks.failed("authority_revocation", Failure.SIGNER_REVOKED, "an authority is on the list")
        return
    problems = [
        "no revocation list" if crl is None else staleness(crl.facts, freshness, now, skew) for _each, crl in below
    ]
    problem = next((each for each in problems if each is not None), None)
    checks.expect(problem is None, "authority_revocation", Failure.CRL_STALE, problem or "")


def _validity(checks: Checklist, begin: datetime, end: datetime, now: datetime, skew: timedelta) -> None:
    if now + skew < begin:
        checks.failed("validity", Failure.NOT_YET_VALID)
    else:
        checks.expect(now - skew <= end, "validity", Failure.EXPIRED)


def _status(
    checks: Checklist,
    leaf: Certificate,
    authority: Authority,
    freshness: Freshness,
    now: datetime,
    skew: timedelta,
) -> None:
    """A card has no other status than its authority's revocation list. A list that is too old can still prove a revocation."""
    crl = authority.crls[0]
    if crl is None:
        checks.failed("status", Failure.STATUS_UNKNOWN, "no revocation list of the authority")
    elif leaf.serial in crl.revoked:
        checks.failed("status", Failure.REVOKED)
    else:
        problem = staleness(crl.facts, freshness, now, skew)
        checks.expect(problem is None, "status", Failure.STATUS_STALE, problem or "")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One key of the signed list."""

    terms: Terms
    valid_from: datetime
    valid_until: datetime


def verify_pkoc(
    answer: PkocAnswer,
    key: ec.EllipticCurvePublicKey,
    transaction_id: bytes,
    enrolment: Enrolment | None,
    *,
    listed: Sequence[ListFacts] = (),
    now: datetime,
    skew: timedelta = timedelta(0),
    freshness: Freshness = NO_LIMITS,
) -> CardVerdict:
    """Judge what a PKOC card or phone said. `key` is the answer's; `enrolment` what the list (`listed`) has of it."""
    checks = Checklist()
    if enrolment is None:
        checks.failed("enrolment", Failure.UNKNOWN_ISSUER, "the key is not enrolled")
        return CardVerdict(checks, None)
    checks.passed("enrolment")
    problems = [staleness(facts, freshness, now, skew) for facts in listed]
    problem = next((each for each in problems if each is not None), None)
    checks.expect(problem is None, "list_age", Failure.ISSUER_LIST_STALE, problem or "")
    _validity(checks, enrolment.valid_from, enrolment.valid_until, now, skew)
    checks.expect(answer.signed_by(key, transaction_id), "challenge", Failure.WRONG_SESSION)
    return CardVerdict(checks, VerifiedCard(enrolment.terms, None, key, enrolment.valid_from, enrolment.valid_until))
