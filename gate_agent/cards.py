"""A tap, routed by what card or phone answers to SELECT: mdoc, the PIV card-authentication key, or a PKOC key.

A phone that is asked for its mdoc first pays nothing: the response to that SELECT is the first one of its engagement. A plastic
card pays one refused SELECT for each application before its own. Only what the zone's rules take is tried at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256

from card import apdu, limits, piv, pkoc
from card.verify import CardVerdict, verify_piv, verify_pkoc
from drivers.nfc.link import last_byte_at, run
from drivers.ports import Carrier, LinkProtocolError, LinkTimeoutError, NfcCard
from gate_agent.device_config import Application
from gate_agent.judge import Presented
from gate_agent.services import Services
from gate_agent.transaction import HOLDER_KEY, Attempt, RefusedError, Stage, subject_name
from mdoc.apdu import ApduError
from mdoc.type4tag import SELECT_APPLICATION
from policy.decision import Attributes
from policy.reasons import Reason

NO_CARD_CERTIFICATE = "no_card_certificate"
"""`detail` of a PIV card that was never given a card-authentication certificate."""
PKOC_ANSWER_S = 1.0
"""Longest time for a PKOC answer. Nothing binds it to this reader, so there is no more of it than a slow phone needs."""

_SELECT: Mapping[Application, bytes] = {
    Application.MDOC: SELECT_APPLICATION,
    Application.PIV: apdu.select(piv.AID),
    Application.PKOC: apdu.select(pkoc.AID),
}


@dataclass(frozen=True, slots=True)
class Found:
    """The application that answered. `selected`: the response to its SELECT."""

    application: Application
    selected: bytes = field(repr=False)


def tried(order: Sequence[Application], carriers: Collection[str]) -> tuple[Application, ...]:
    """Of the reader's order what the zone takes. What a phone may do after a tap, its session and the rules say."""
    return tuple(each for each in order if each is Application.MDOC or each.value in carriers)


def after_mdoc(order: Sequence[Application]) -> tuple[Application, ...]:
    """What is still untried once the mdoc has been."""
    return tuple(order[order.index(Application.MDOC) + 1 :])


async def find(card: NfcCard, order: Sequence[Application], within_s: float) -> Found | None:
    """The first application of `order` that is there, asked for no longer than `within_s`. A phone that is locked has no mdoc to
    select: where nothing else answers, that is what it is taken for. Raises LinkError."""
    try:
        async with asyncio.timeout(within_s):
            return await _find(card, order)
    except TimeoutError:
        raise LinkTimeoutError("the card did not answer in time") from None


async def _find(card: NfcCard, order: Sequence[Application]) -> Found | None:
    locked: Found | None = None
    for application in order:
        response = await card.transceive(_SELECT[application])
        try:
            there = pkoc.selected(response) if application is Application.PKOC else apdu.selected(response)
        except ApduError as error:
            raise LinkProtocolError(str(error)) from error
        found = Found(application, response)
        if there:
            return found
        if application is Application.MDOC:
            locked = found
    return locked


async def present(attempt: Attempt, card: NfcCard, application: Application, services: Services) -> Presented:
    """Authenticate a card whose application is selected. Raises LinkError, MdocError or RefusedError."""
    attempt.carrier = Carrier.PIV if application is Application.PIV else Carrier.PKOC
    attempt.stage(Stage.CONNECT)
    work = _piv if application is Application.PIV else _pkoc
    verdict = await work(attempt, card, services)
    attempt.stage(Stage.VERIFIED)
    if verdict.reason is not None:
        raise RefusedError(Reason(verdict.reason.value))
    attempt.assurance = (HOLDER_KEY,)
    found = verdict.card
    return Presented(
        attributes=Attributes(
            doc_type=application.value,
            agency_code=found.terms.agency_code,
            card_type=found.terms.card_type,
            access_class=found.terms.access_class,
            issuer="" if found.issuer is None else subject_name(found.issuer),
        ),
        carrier=str(attempt.carrier),
        key=found.key,
        edges=(found.valid_from, found.valid_until),
    )


async def _piv(attempt: Attempt, card: NfcCard, services: Services) -> CardVerdict:
    nonce = services.random_bytes(limits.NONCE)
    try:
        async with asyncio.timeout(services.times.nfc_engage_s):
            answer = await run(card, piv.read(nonce, _sizes(card)))
    except TimeoutError:
        raise LinkTimeoutError("the card did not answer in time") from None
    except piv.NoCredentialError:
        raise RefusedError(Reason.UNREADABLE, NO_CARD_CERTIFICATE) from None
    skew = _answered(attempt, card, services)
    trust = attempt.in_force.cards
    return verify_piv(answer, trust.anchors, now=attempt.clock.now, skew=skew, freshness=attempt.freshness())


async def _pkoc(attempt: Attempt, card: NfcCard, services: Services) -> CardVerdict:
    transaction_id = services.random_bytes(pkoc.TRANSACTION_ID)
    try:
        async with asyncio.timeout(PKOC_ANSWER_S):
            answer = await run(card, pkoc.read(transaction_id, services.reader_id, _sizes(card)))
    except TimeoutError:
        raise LinkTimeoutError("the card did not answer in time") from None
    skew = _answered(attempt, card, services)
    key, keys = answer.key(), attempt.in_force.cards.enrolled
    return verify_pkoc(
        answer,
        key,
        transaction_id,
        keys.find(key),
        listed=keys.facts,
        now=attempt.clock.now,
        skew=skew,
        freshness=attempt.freshness(),
    )


def _answered(attempt: Attempt, card: NfcCard, services: Services) -> timedelta:
    """The last byte is there: what is in force now counts. Returns the bound of the clock's error."""
    attempt.stage(Stage.LAST_BYTE, last_byte_at(card, services.clock))
    attempt.look()
    attempt.trust_version = attempt.in_force.cards.version or None
    return timedelta(seconds=services.judge.error_s(attempt.clock))


def _sizes(card: NfcCard) -> apdu.Sizes:
    return apdu.Sizes.carried(card.max_command, card.max_response)


def reader_id(site: str, gate: str) -> bytes:
    """What a PKOC card is told: 16 bytes that name the site and 16 that name the gate, the same at every tap."""
    named = (f"gwanmun-pkoc-site\0{site}", f"gwanmun-pkoc-reader\0{site}\0{gate}")
    return b"".join(sha256(each.encode()).digest()[:16] for each in named)
