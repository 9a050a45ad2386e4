"""A plastic card at the agent as a process of its own: nfcpy's ISO-DEP, the signed lists on the disk, journal and relay."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from card.anchors import Terms
from card.verify import Enrolment
from drivers.ports import Direction
from gate_agent import card_trust, denylist, enrolled
from mdoc.certificates.structure import read
from protocol.events import Kind
from testbed.authority import Authority
from testbed.card import hostile
from testbed.card.card import Card
from testbed.card.field import present_by_nfc
from testbed.card.issuer import CardIssuer
from testbed.card.keys import KeyKind
from testbed.card.piv import VirtualPivCard
from testbed.card.pkoc import Order, VirtualPkocCard
from testbed.pki import DevicePki
from tests.gate_agent.conftest import World
from tests.gate_agent.site import WAIT_S, Site, build, free_port


@pytest.fixture
def issuer() -> CardIssuer:
    return CardIssuer("Agent", datetime.now(UTC), intermediate=True)


@pytest.fixture
def pkoc_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
async def site(
    world: World, tmp_path: Path, issuer: CardIssuer, pkoc_key: ec.EllipticCurvePrivateKey
) -> AsyncIterator[Site]:
    now = datetime.now(UTC)
    authority = Authority.create(tmp_path / "authority", name="Agent", now=now)
    held = world.holder(authority=authority, now=now)
    pki = DevicePki(tmp_path / "pki", now)
    port = free_port(socket.SOCK_STREAM)
    made = build(world, tmp_path / "gate", now=now, authority=authority, pki=pki, broker_port=port, held=held)
    rules, settings = made.folder / "policy.toml", made.config
    rules.write_text(
        rules.read_text()
        .replace("[zones.hall]", '[zones.hall]\ncarriers = ["nfc", "piv", "pkoc"]')
        .replace('["kr.go.civilservant.1"]', '["kr.go.civilservant.1", "piv", "pkoc"]')
    )
    signer = ec.generate_private_key(ec.SECP256R1())
    (made.folder / "pkoc.pem").write_bytes(
        signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    settings.write_text(settings.read_text().replace("[trust]\n", '[trust]\npkoc_key = "pkoc.pem"\n'))
    cards = made.folder / "trust" / card_trust.FOLDER
    issuer.publish(cards, now)
    root = read(issuer.root.public_bytes(Encoding.DER)).fingerprint().hex()
    (cards / card_trust.SETTINGS).write_text(f'[[authority]]\ncertificate = "{root}"\naccess_class = "general"\n')
    enrolment = Enrolment(Terms(access_class="general"), now - timedelta(days=1), now + timedelta(days=1))
    entry = denylist.key_entry(pkoc_key.public_key())
    (cards / enrolled.FILE).write_bytes(enrolled.build([(enrolment, [entry])], version=1, date=now, key=signer))
    await made.turnstile.start()
    yield made
    await made.turnstile.stop()


async def hold(site: Site, card: Card) -> None:
    """Hold the card to the reader until it lets go."""
    await asyncio.to_thread(present_by_nfc, card, site.nfc_port)


async def test_cards_pass_a_clone_does_not_and_a_phone_still_does(
    site: Site, issuer: CardIssuer, pkoc_key: ec.EllipticCurvePrivateKey
) -> None:
    now = datetime.now(UTC)
    credential = issuer.issue(now)
    genuine: list[Card] = [
        VirtualPivCard(credential, compressed=True),
        VirtualPivCard(issuer.issue(now, kind=KeyKind.RSA_2048)),
        VirtualPkocCard(pkoc_key, order=Order.SIGNATURE_FIRST),
    ]
    async with site.running() as agent:
        after = 0
        for number, card in enumerate(genuine, 1):
            await hold(site, card)
            opened = await site.wait_for(Kind.LANE_OPENED, after=after)
            assert site.turnstile.pulses == number
            await site.turnstile.walk(Direction.IN)
            after = (await site.wait_for(Kind.PASSAGE_COMPLETED, after=opened.seq)).seq
        await hold(site, hostile.wrong_key(credential))
        denied = await site.wait_for(Kind.ACCESS_DENIED, after=after)
        assert (denied.data["reason"], denied.data["carrier"]) == ("wrong_session", "piv")
        await site.phone.by_nfc(site.nfc_port)
        await site.wait_for(Kind.LANE_OPENED, after=denied.seq)
        agent.send_signal(signal.SIGTERM)
        _, log = await asyncio.wait_for(agent.communicate(), WAIT_S)
    granted = [event for event in site.journal.read() if event.kind is Kind.ACCESS_GRANTED]
    assert [event.data["carrier"] for event in granted] == ["piv", "piv", "pkoc", "nfc"]
    assert b"Traceback" not in log
    everything = log + b"".join(path.read_bytes() for path in (site.folder / "state").iterdir() if path.is_file())
    for name, canary in credential.canaries.items():
        for written in (canary, canary.hex().encode(), canary.hex().upper().encode()):
            assert written not in everything, name
