"""A plastic card and a PKOC key at a lane: routed by what answers to SELECT, decided and recorded as a phone is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from card import apdu, piv, pkoc
from card.anchors import Terms
from card.keys import card_key
from card.verify import Enrolment
from drivers.ports import Direction, LinkLostError, NfcCard
from gate_agent import card_trust, cards, denylist, enrolled, messages
from gate_agent.device_config import Application
from gate_agent.keys import Signers
from gate_agent.lane import Lane
from mdoc.apdu import INS_SELECT
from mdoc.certificates.structure import read
from mdoc.type4tag import SELECT_APPLICATION
from protocol.events import Kind
from testbed.card.issuer import CardCredential, CardIssuer
from testbed.card.keys import KeyKind
from testbed.card.piv import CERTIFICATE, VirtualPivCard
from testbed.card.pkoc import VirtualPkocCard
from tests.conftest import NOW
from tests.gate_agent.conftest import LANE, POLICY, Bench
from tests.gate_agent.test_lane import Card, tapped

TERMS = Terms("1741000", "staff", "general")
RULES = POLICY.replace("[zones.lobby]", '[zones.lobby]\ncarriers = ["nfc", "ble", "qr", "piv", "pkoc"]').replace(
    'doc_types = ["kr.go.civilservant.1"]', 'doc_types = ["kr.go.civilservant.1", "piv", "pkoc"]'
)
SELECT_PIV, SELECT_PKOC = apdu.select(piv.AID), apdu.select(pkoc.AID)
NOT_FOUND = b"\x6a\x82"


@dataclass
class Reader:
    """A lane whose zone takes cards, and what its site trusts."""

    bench: Bench
    issuer: CardIssuer
    signer: ec.EllipticCurvePrivateKey
    sent: list[bytes] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.bench.folder / "trust" / card_trust.FOLDER

    async def trust(self, *, terms: Terms | None = TERMS) -> None:
        """What the issuer publishes now, taken."""
        self.issuer.publish(self.folder, NOW)
        lines = [f'[[authority]]\ncertificate = "{fingerprint(self.issuer)}"']
        if terms is not None:
            lines += [f'{name} = "{getattr(terms, name)}"' for name in ("agency_code", "card_type", "access_class")]
            (self.folder / card_trust.SETTINGS).write_text("\n".join(lines))
        await self.bench.trust.reload()

    async def rules(self, text: str) -> None:
        version = self.bench.trust.current.policy.version + 1
        (self.bench.folder / "policy.toml").write_text(text.replace("version = 7", f"version = {version}"))
        await self.bench.trust.reload()
        assert self.bench.trust.current.policy.version == version

    async def enrol(self, key: ec.EllipticCurvePublicKey, *, version: int = 1, age_h: int = 0) -> None:
        enrolment = Enrolment(TERMS, NOW - timedelta(days=1), NOW + timedelta(days=1))
        groups = [(enrolment, [denylist.key_entry(key)])]
        date = NOW - timedelta(hours=age_h)
        self.folder.mkdir(exist_ok=True)
        (self.folder / enrolled.FILE).write_bytes(enrolled.build(groups, version=version, date=date, key=self.signer))
        await self.bench.trust.reload()

    def ordered(self, *order: Application) -> None:
        """The same lane with another order."""
        lane = self.bench.lane
        self.bench.lane = Lane(
            replace(LANE, card_order=order),
            lane.ports,
            lane.barrier,
            self.bench.services,
            call_later=self.bench.timers.call_later,
        )

    async def tap(self, transmit: Callable[[bytes], bytes]) -> str:
        """One whole attempt; `granted` or the reason of the refusal."""

        def noted(command: bytes) -> bytes:
            self.sent.append(command)
            return transmit(command)

        card = Card(noted)
        self.bench.lane.on_card(card)
        await self.bench.done()
        await asyncio.wait_for(card.released.wait(), 5)
        return (await self.bench.reasons())[-1]


def fingerprint(issuer: CardIssuer) -> str:
    return read(issuer.root.public_bytes(Encoding.DER)).fingerprint().hex()


@pytest.fixture(scope="module")
def issuer() -> CardIssuer:
    return CardIssuer("Cards", NOW)


@pytest.fixture(scope="module")
def credential(issuer: CardIssuer) -> CardCredential:
    return issuer.issue(NOW)


@pytest.fixture
async def reader(bench: Bench, issuer: CardIssuer) -> Reader:
    signer = ec.generate_private_key(ec.SECP256R1())
    bench.trust._signers = Signers(deny=signer.public_key(), pkoc=signer.public_key())
    made = Reader(bench, issuer, signer)
    await made.rules(RULES)
    await made.trust()
    return made


# Granted.


async def test_a_plastic_card_opens_the_lane_and_is_recorded_as_a_phone_is(
    reader: Reader, credential: CardCredential
) -> None:
    assert await reader.tap(VirtualPivCard(credential).transmit) == "granted"
    assert reader.bench.hardware.pulses == [(Direction.IN, 300)]
    granted = (await reader.bench.records())[-2]
    assert granted.data["carrier"] == "piv"
    assert set(granted.data["lat_ms"]) == {"engage", "connect", "last_byte", "verified", "decided", "ours"}
    assert granted.data["trust"] == reader.bench.trust.current.cards.version
    reader.bench.walk()
    assert (await reader.bench.kinds())[-1] is Kind.PASSAGE_COMPLETED


async def test_an_rsa_card_opens_too(reader: Reader, issuer: CardIssuer) -> None:
    card = VirtualPivCard(issuer.issue(NOW, kind=KeyKind.RSA_2048))
    assert await reader.tap(card.transmit) == "granted"


async def test_nothing_of_a_card_is_in_the_journal_or_on_the_sign(
    reader: Reader, credential: CardCredential, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    await reader.tap(VirtualPivCard(credential).transmit)
    stolen = VirtualPivCard(credential)
    stolen.sign = None
    reader.bench.walk()
    await reader.tap(stolen.transmit)
    shown = "".join(f"{each.ko}{each.en}" for each in reader.bench.signal.shown)
    events = json.dumps([event.data for event in await reader.bench.records()])
    raw = b"".join(path.read_bytes() for path in reader.bench.folder.glob("*.db*"))
    for name, canary in credential.canaries.items():
        assert canary not in raw, name
        for text in (events, shown, caplog.text):
            assert canary.hex() not in text, name
            assert canary.decode("latin-1") not in text, name


async def test_a_zone_that_remembers_takes_a_card_softly(reader: Reader, credential: CardCredential) -> None:
    """A card has no holder handle."""
    await reader.rules(
        RULES.replace(
            "[points.lobby-in]", '[zones.lobby.antipassback]\nmode = "timed"\nminutes = 10\n[points.lobby-in]'
        )
    )
    assert await reader.tap(VirtualPivCard(credential).transmit) == "granted"
    assert (await reader.bench.records())[-2].data["notes"] == ["no_handle_soft"]


async def test_a_pkoc_key_that_is_enrolled_opens_the_lane(reader: Reader) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    await reader.enrol(key.public_key())
    assert await reader.tap(VirtualPkocCard(key).transmit) == "granted"
    assert (await reader.bench.records())[-2].data["carrier"] == "pkoc"


# Refused.


async def test_a_cloned_card_without_its_key_is_refused(reader: Reader, credential: CardCredential) -> None:
    card = VirtualPivCard(credential)
    card.sign = None
    assert await reader.tap(card.transmit) == "wrong_session"
    assert reader.bench.hardware.pulses == []
    assert (await reader.bench.records())[-1].data["carrier"] == "piv"


async def test_a_card_of_an_authority_that_is_not_pinned_is_refused(reader: Reader) -> None:
    stranger = CardIssuer("Cards", NOW)
    assert await reader.tap(VirtualPivCard(stranger.issue(NOW)).transmit) == "unknown_issuer"


async def test_a_phone_s_authority_issues_no_cards(reader: Reader, credential: CardCredential) -> None:
    """Pinned as a root of mobile IDs, and not for cards."""
    for path in (reader.folder / "anchors").iterdir():
        path.rename(reader.bench.folder / "trust" / "iaca" / path.name)
    await reader.bench.trust.reload()
    assert await reader.tap(VirtualPivCard(credential).transmit) == "unknown_issuer"


async def test_a_revoked_card_is_refused_from_the_moment_that_the_list_is_there(reader: Reader) -> None:
    reader.issuer = CardIssuer("Revoking", NOW)
    await reader.trust()
    credential = reader.issuer.issue(NOW)
    assert await reader.tap(VirtualPivCard(credential).transmit) == "granted"
    reader.bench.walk()
    reader.issuer.revoke(credential)
    await reader.trust()
    assert await reader.tap(VirtualPivCard(credential).transmit) == "revoked"


async def test_the_zone_says_how_old_the_revocation_list_may_be(reader: Reader, credential: CardCredential) -> None:
    aged = RULES.replace("[points.lobby-in]", "[zones.lobby.max_ages]\ncrl = 6\n[points.lobby-in]")
    await reader.rules(aged.replace('tue = ["07:00-20:00"]', 'tue = ["00:00-24:00"]\nwed = ["00:00-24:00"]'))
    reader.bench.clock.elapsed += 5 * 3600
    assert await reader.tap(VirtualPivCard(credential).transmit) == "granted"
    reader.bench.walk()
    reader.bench.clock.elapsed += 2 * 3600
    assert await reader.tap(VirtualPivCard(credential).transmit) == "status_stale"


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.RSA_2048])
async def test_a_card_that_was_reported_lost_is_refused(reader: Reader, issuer: CardIssuer, kind: KeyKind) -> None:
    credential = issuer.issue(NOW, kind=kind)
    key = card_key(read(credential.certificate.public_bytes(Encoding.DER)).public_key_info)
    path = reader.bench.folder / "trust" / denylist.FILE
    path.write_bytes(denylist.build([denylist.key_entry(key)], version=1, date=NOW, key=reader.signer))
    await reader.bench.trust.reload()
    assert await reader.tap(VirtualPivCard(credential).transmit) == "denied_list"


async def test_what_the_site_says_of_an_authority_is_what_the_rules_see(
    reader: Reader, credential: CardCredential
) -> None:
    await reader.trust(terms=replace(TERMS, access_class="archive"))
    assert await reader.tap(VirtualPivCard(credential).transmit) == "no_right_zone"


async def test_rules_may_name_the_pinned_authority_as_issuer(reader: Reader, credential: CardCredential) -> None:
    await reader.rules(RULES.replace("access_classes", 'issuers = ["CN=Cards root,C=KR"]\naccess_classes'))
    assert await reader.tap(VirtualPivCard(credential).transmit) == "granted"
    reader.bench.walk()
    await reader.rules(RULES.replace("access_classes", 'issuers = ["CN=Another"]\naccess_classes'))
    assert await reader.tap(VirtualPivCard(credential).transmit) == "issuer_not_accepted"


async def test_a_pkoc_key_that_nobody_enrolled_is_refused(reader: Reader) -> None:
    assert await reader.tap(VirtualPkocCard(ec.generate_private_key(ec.SECP256R1())).transmit) == "unknown_issuer"


async def test_a_list_of_pkoc_keys_is_as_fresh_as_the_zone_asks(reader: Reader) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    await reader.enrol(key.public_key(), age_h=30)
    await reader.rules(
        RULES.replace("[points.lobby-in]", "[zones.lobby.max_ages]\nissuer_list = 24\n[points.lobby-in]")
    )
    assert await reader.tap(VirtualPkocCard(key).transmit) == "issuer_list_stale"


async def test_a_card_taken_away_on_the_way_is_a_lost_link(reader: Reader, credential: CardCredential) -> None:
    card, left = VirtualPivCard(credential), [4]

    def leaving(command: bytes) -> bytes:
        left[0] -= 1
        if not left[0]:
            raise LinkLostError("the card was taken away")
        return card.transmit(command)

    assert await reader.tap(leaving) == "link_lost"


@pytest.mark.parametrize("instruction", [INS_SELECT, piv.INS_GET_DATA, piv.INS_GENERAL_AUTHENTICATE])
async def test_a_card_that_hangs_is_given_up(reader: Reader, credential: CardCredential, instruction: int) -> None:
    """A card may ask for more time for ever; the lane is not held up for it."""
    card = VirtualPivCard(credential)

    class Hanging(Card):
        async def transceive(self, command: bytes) -> bytes:
            if command[1] == instruction:
                await asyncio.Event().wait()
            return await super().transceive(command)

    object.__setattr__(reader.bench.services, "times", replace(reader.bench.services.times, nfc_engage_s=0.05))
    reader.bench.lane.on_card(Hanging(card.transmit))
    await reader.bench.done()
    assert await reader.bench.reasons() == ["link_timeout"]


async def test_a_card_without_a_card_authentication_certificate_is_unreadable(
    reader: Reader, credential: CardCredential
) -> None:
    card = VirtualPivCard(credential)
    del card.objects[CERTIFICATE]
    assert await reader.tap(card.transmit) == "unreadable"
    assert (await reader.bench.records())[-1].data["detail"] == cards.NO_CARD_CERTIFICATE


async def test_a_truncated_certificate_object_is_malformed(reader: Reader, credential: CardCredential) -> None:
    card = VirtualPivCard(credential)
    card.objects[CERTIFICATE] = card.objects[CERTIFICATE][:-60]
    assert await reader.tap(card.transmit) == "malformed"


# Routing.


async def test_a_phone_gets_not_one_command_more(reader: Reader) -> None:
    """The response to the first SELECT is the first of the engagement."""
    phone = tapped(reader.bench, reader.bench.world.holder())
    assert await reader.tap(phone._answer) == "granted"
    assert reader.sent.count(SELECT_APPLICATION) == 1
    assert SELECT_PIV not in reader.sent
    assert SELECT_PKOC not in reader.sent
    with_cards = len(reader.sent)
    await reader.rules(POLICY)
    reader.bench.walk()
    reader.sent.clear()
    assert await reader.tap(tapped(reader.bench, reader.bench.world.holder())._answer) == "granted"
    assert len(reader.sent) == with_cards


async def test_a_card_costs_one_refused_select(reader: Reader, credential: CardCredential) -> None:
    await reader.tap(VirtualPivCard(credential).transmit)
    assert reader.sent[:2] == [SELECT_APPLICATION, SELECT_PIV]
    assert SELECT_PKOC not in reader.sent


async def test_the_order_is_the_reader_s(reader: Reader, credential: CardCredential) -> None:
    reader.ordered(Application.PKOC, Application.PIV, Application.MDOC)
    assert await reader.tap(VirtualPivCard(credential).transmit) == "granted"
    assert reader.sent[:2] == [SELECT_PKOC, SELECT_PIV]
    assert SELECT_APPLICATION not in reader.sent


async def test_what_the_zone_does_not_take_is_not_tried(reader: Reader) -> None:
    """PKOC is off, whatever the reader could do."""
    await reader.rules(RULES.replace(', "pkoc"]', "]", 1))
    key = ec.generate_private_key(ec.SECP256R1())
    await reader.enrol(key.public_key())
    object.__setattr__(reader.bench.services, "times", replace(reader.bench.services.times, nfc_engage_s=0.05))
    assert await reader.tap(VirtualPkocCard(key).transmit) == "link_timeout"
    assert SELECT_PKOC not in reader.sent
    assert SELECT_PIV in reader.sent


def test_by_default_a_zone_takes_neither_cards_nor_pkoc() -> None:
    order = (Application.MDOC, Application.PIV, Application.PKOC)
    assert cards.tried(order, {"nfc", "ble", "qr"}) == (Application.MDOC,)
    assert cards.tried(order, {"nfc", "piv"}) == (Application.MDOC, Application.PIV)


async def test_a_locked_phone_is_asked_for_its_card_once_and_to_be_unlocked_until_it_is(reader: Reader) -> None:
    phone = tapped(reader.bench, reader.bench.world.holder())._answer
    refusals = [2]

    def locked(command: bytes) -> bytes:
        if command == SELECT_APPLICATION and refusals[0]:
            refusals[0] -= 1
            return NOT_FOUND
        return phone(command)

    assert await reader.tap(locked) == "granted"
    assert (reader.sent.count(SELECT_PIV), reader.sent.count(SELECT_PKOC)) == (1, 1)
    assert messages.UNLOCK in reader.bench.signal.shown or refusals == [0]


async def test_a_card_with_a_tag_s_application_beside_its_own_is_still_a_card(
    reader: Reader, credential: CardCredential
) -> None:
    """Security keys answer to the NDEF application too, with an address to a web page."""
    card = VirtualPivCard(credential)

    def both(command: bytes) -> bytes:
        return b"\x90\x00" if command == SELECT_APPLICATION else card.transmit(command)

    assert await reader.tap(both) == "granted"


async def test_a_phone_that_breaks_the_handover_keeps_its_reason(reader: Reader) -> None:
    assert (
        await reader.tap(lambda command: b"\x90\x00" if command == SELECT_APPLICATION else b"\x6f\x00") == "malformed"
    )


async def test_a_foreign_card_is_unreadable_where_no_phone_is_expected(reader: Reader) -> None:
    reader.ordered(Application.PIV)
    assert await reader.tap(lambda _: NOT_FOUND) == "unreadable"


async def test_an_answer_without_status_is_malformed(reader: Reader) -> None:
    assert await reader.tap(lambda _: b"\x90") == "malformed"


@pytest.mark.parametrize("status", ["6a82", "6d00", "6e00", "6999"])
async def test_a_card_may_refuse_an_application_in_its_own_way(
    reader: Reader, credential: CardCredential, status: str
) -> None:
    card = VirtualPivCard(credential)

    def refusing(command: bytes) -> bytes:
        return bytes.fromhex(status) if command == SELECT_APPLICATION else card.transmit(command)

    assert await reader.tap(refusing) == "granted"


def test_the_card_is_an_nfc_card() -> None:
    card: NfcCard = Card(lambda command: command)
    assert card.max_command


def test_a_reader_names_its_site_and_itself() -> None:
    first, second = cards.reader_id("seoul-1", "gate-1"), cards.reader_id("seoul-1", "gate-2")
    assert len(first) == pkoc.READER_ID
    assert first[:16] == second[:16]
    assert first[16:] != second[16:]


# Trust.


async def test_a_mistake_in_the_settings_leaves_the_cards_in_force(reader: Reader, credential: CardCredential) -> None:
    (reader.folder / card_trust.SETTINGS).write_text("[[authority]]\nwhatever = 1\n")
    await reader.bench.trust.reload()
    rejected = [event for event in await reader.bench.records() if event.kind is Kind.TRUST_REJECTED]
    assert [event.data["what"] for event in rejected] == ["cards"]
    assert await reader.tap(VirtualPivCard(credential).transmit) == "granted"


async def test_a_list_of_keys_does_not_go_back_or_away(reader: Reader) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    await reader.enrol(key.public_key(), version=5)
    await reader.enrol(ec.generate_private_key(ec.SECP256R1()).public_key(), version=4)
    assert reader.bench.trust.current.cards.enrolled.version == 5
    (reader.folder / enrolled.FILE).unlink()
    await reader.bench.trust.reload()
    assert await reader.tap(VirtualPkocCard(key).transmit) == "granted"


async def test_the_event_says_how_many_authorities_of_cards_are_in_force(reader: Reader) -> None:
    applied = [event for event in await reader.bench.records() if event.kind is Kind.TRUST_APPLIED]
    assert applied[-1].data["card_authorities"] == 1
    assert applied[-1].data["problems"] == []
