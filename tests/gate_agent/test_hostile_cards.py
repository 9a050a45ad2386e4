"""Every hostile card of the testbed at a lane: refused for its one reason, recorded, and the lane stays shut."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from card import limits
from drivers.ports import LinkLostError
from testbed.card import hostile
from testbed.card.card import Card
from testbed.card.issuer import CardIssuer
from testbed.card.piv import VirtualPivCard
from testbed.card.pkoc import VirtualPkocCard
from tests.conftest import NOW
from tests.gate_agent.test_cards import Reader, reader

__all__ = ["reader"]

PIV = {
    "without_key": "wrong_session",
    "wrong_key": "wrong_session",
    "wrong_hash": "wrong_session",
    "replaying": "wrong_session",
    "swapped_chuid": "altered",
    "foreign_certificate": "wrong_session",
    "truncated_certificate": "malformed",
    "truncated_chuid": "malformed",
    "oversized_certificate": "malformed",
    "oversized_chuid": "malformed",
    "gzip_bomb": "malformed",
    "of_authority": "bad_certificate",
    "no_purpose": "bad_certificate",
    "other_purpose": "bad_certificate",
    "expired": "expired",
    "not_yet_valid": "not_yet_valid",
    "revoked": "revoked",
    "unknown_root": "unknown_issuer",
    "same_name_other_key": "unknown_issuer",
    "rsa_1024": "bad_certificate",
    "rsa_exponent_one": "bad_certificate",
    "explicit_curve": "bad_certificate",
    "point_off_curve": "bad_certificate",
    "endless_61xx": "malformed",
    "empty_61xx": "malformed",
    "endless_6cxx": "malformed",
    "no_data": "unreadable",
    "no_signature": "malformed",
    "vanishing": "link_lost",
}
PKOC = {
    "wrong_key": "wrong_session",
    "replaying": "wrong_session",
    "off_curve": "malformed",
    "null_signature": "wrong_session",
    "no_data": "malformed",
    "vanishing": "link_lost",
}
MOST_COMMANDS = 3 + 2 * limits.MAX_ROUNDS
"""A card that never ends gets one object's worth of commands."""


def transmitting(card: Card) -> Callable[[bytes], bytes]:
    def transmit(command: bytes) -> bytes:
        answer = card.transmit(command)
        if answer is None:
            raise LinkLostError("the card has left")
        return answer

    return transmit


@pytest.fixture(scope="module")
def issuer() -> CardIssuer:
    return CardIssuer("Cards", NOW)


def test_every_hostile_card_has_its_reason() -> None:
    assert PIV.keys() == hostile.PIV.keys()
    assert PKOC.keys() == hostile.PKOC.keys()


@pytest.mark.parametrize("intermediate", [False, True], ids=["pinned", "below"])
@pytest.mark.parametrize("name", PIV)
async def test_a_hostile_card_is_refused_for_its_one_reason(reader: Reader, name: str, intermediate: bool) -> None:
    reader.issuer = issuer = CardIssuer("Cards", NOW, intermediate=intermediate)
    card = hostile.PIV[name](issuer, NOW)
    await reader.trust()
    assert await reader.tap(transmitting(card)) == PIV[name]
    assert reader.bench.hardware.pulses == []
    assert len(reader.sent) <= MOST_COMMANDS


@pytest.mark.parametrize("name", PKOC)
async def test_a_hostile_key_is_refused_though_it_is_enrolled(reader: Reader, name: str) -> None:
    card = hostile.PKOC[name]()
    inner = card if isinstance(card, VirtualPkocCard) else card._card  # type: ignore[attr-defined]  # what it is around
    assert isinstance(inner, VirtualPkocCard)
    if name != "off_curve":  # which is nobody's key
        await reader.enrol(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), inner.point))
    assert await reader.tap(transmitting(card)) == PKOC[name]
    assert reader.bench.hardware.pulses == []


async def test_a_genuine_card_of_the_same_authority_is_let_in(reader: Reader) -> None:
    """What the cases above are refused by is not a lack of trust."""
    reader.issuer = CardIssuer("Cards", NOW, intermediate=True)
    card = VirtualPivCard(reader.issuer.issue(NOW))
    await reader.trust()
    assert await reader.tap(transmitting(card)) == "granted"
