"""An authority of cards, cards of it, and a way to drive a sans-I/O exchange against one."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from card import piv
from card.anchors import CardAnchors, Terms
from card.apdu import Sizes
from card.keys import holds
from card.piv import CardAnswer
from card.verify import CardVerdict, verify_piv
from mdoc import crl
from mdoc.certificates.structure import Certificate, read
from mdoc.freshness import NO_LIMITS, Freshness
from testbed.card.issuer import CardCredential, CardIssuer
from testbed.card.keys import KeyKind
from testbed.card.piv import VirtualPivCard
from tests.conftest import NOW

NONCE = bytes(range(32))
TERMS = Terms("1741000", "staff", "general")
T = TypeVar("T")


def drive(steps: Generator[bytes, bytes, T], transmit: Callable[[bytes], bytes]) -> T:
    """Run an exchange to its end."""
    try:
        command = next(steps)
        while True:
            command = steps.send(transmit(command))
    except StopIteration as done:
        found: T = done.value
        return found


def ours(certificate: x509.Certificate) -> Certificate:
    return read(certificate.public_bytes(Encoding.DER))


def anchors_of(issuer: CardIssuer, *, terms: Terms = TERMS, revocation: bool = True) -> CardAnchors:
    """What a gate holds of the issuer now."""
    below = [ours(each) for each in issuer.intermediates]
    authorities = [ours(issuer.root), *below]
    lists = [crl.parse(raw, authorities, holds=holds) for raw in issuer.crls(NOW).values()] if revocation else []
    return CardAnchors([ours(issuer.root)], below, crls=lists, terms={ours(issuer.root).fingerprint(): terms})


def tap(card: VirtualPivCard, *, nonce: bytes = NONCE, sizes: Sizes | None = None) -> CardAnswer:
    """SELECT, then all that the gate reads."""
    assert card.transmit(bytes.fromhex("00A404000BA00000030800001000010000"))[-2:] == b"\x90\x00"
    return drive(piv.read(nonce, sizes or Sizes()), card.transmit)


@dataclass
class Cards:
    """Made once: keys cost most of the time."""

    issuer: CardIssuer
    other: CardIssuer
    anchors: CardAnchors
    credentials: dict[KeyKind, CardCredential]

    @property
    def usual(self) -> CardCredential:
        return self.credentials[KeyKind.P256]

    def verdict(
        self,
        answer: CardAnswer,
        *,
        anchors: CardAnchors | None = None,
        later: timedelta = timedelta(0),
        skew: timedelta = timedelta(0),
        freshness: Freshness = NO_LIMITS,
    ) -> CardVerdict:
        trusted = self.anchors if anchors is None else anchors
        return verify_piv(answer, trusted, now=NOW + later, skew=skew, freshness=freshness)


@pytest.fixture(scope="session")
def cards() -> Cards:
    issuer, other = CardIssuer("Cards", NOW), CardIssuer("Others", NOW)
    kinds = (KeyKind.P256, KeyKind.P384, KeyKind.RSA_2048, KeyKind.RSA_3072)
    return Cards(issuer, other, anchors_of(issuer), {kind: issuer.issue(NOW, kind=kind) for kind in kinds})
