"""An authority of cards and one card of each kind of key: RSA keys take their time."""

from __future__ import annotations

import random

import pytest

from testbed.card.issuer import CardCredential, CardIssuer
from testbed.card.keys import KeyKind
from testbed.card.piv import VirtualPivCard
from tests.card_reader import KINDS, SELECT
from tests.conftest import NOW


@pytest.fixture(scope="session")
def issuer() -> CardIssuer:
    return CardIssuer("Test", NOW, random_bytes=random.Random(1).randbytes)


@pytest.fixture(scope="session")
def credentials(issuer: CardIssuer) -> dict[KeyKind, CardCredential]:
    return {kind: issuer.issue(NOW, kind=kind) for kind in KINDS}


@pytest.fixture
def credential(credentials: dict[KeyKind, CardCredential]) -> CardCredential:
    return credentials[KeyKind.P256]


@pytest.fixture
def card(credential: CardCredential) -> VirtualPivCard:
    card = VirtualPivCard(credential)
    card.transmit(SELECT)
    return card
