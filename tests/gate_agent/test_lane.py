from __future__ import annotations

import asyncio
import itertools
import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from drivers.ports import (
    BleRole,
    Carrier,
    Direction,
    DriverError,
    LaneSignal,
    Light,
    Link,
    LinkEndedError,
    LinkLostError,
    LinkProtocolError,
    LinkTimeoutError,
    Message,
)
from gate_agent import messages
from gate_agent.journal import RecordUnavailableError
from gate_agent.passage import State
from gate_agent.transaction import REASONS, reason_of
from mdoc import session as mdoc_session
from mdoc.apdu import INS_READ_BINARY
from mdoc.ble import ble_ident
from mdoc.engagement import BleOptions, DeviceEngagement, NfcOptions, build_engagement, from_qr, to_qr
from mdoc.holder import HolderSession
from mdoc.ndef_handover import BleCarrier, HandoverRequest, LeRole, build_handover_select
from mdoc.request import DeviceRequest
from mdoc.transcript import NfcHandover
from mdoc.type4tag import PIECE
from mdoc.verdict import Failure
from policy.reasons import Reason
from protocol.events import Event, Kind
from testbed.authority import MDL_DOC_TYPE
from testbed.phone.faulty import altered
from testbed.phone.nfc import PhoneApplication
from testbed.phone.wallet import Held
from tests.conftest import NOW
from tests.drivers.test_nfc_hostile import hostile
from tests.gate_agent.conftest import TIMES, Answer, Bench, World, share
from tests.gate_agent.fakes import FakeLink, beam

# Granted.


async def test_a_good_presentation_is_recorded_then_opens_then_passes(bench: Bench) -> None:
    await bench.present(bench.world.holder())
    assert bench.hardware.pulses == [(Direction.IN, 300)]
    assert bench.lane.state is State.GRANTED
    bench.walk()
    assert await bench.kinds() == [Kind.ACCESS_GRANTED, Kind.LANE_OPENED, Kind.PASSAGE_COMPLETED]
    granted, opened, passed = (await bench.records())[-3:]
    assert granted.data["attempt"] == opened.data["attempt"] == passed.data["attempt"]
    assert (granted.data["lane"], granted.data["dir"], granted.data["carrier"]) == ("hall-in", "in", "ble")
    assert (granted.data["pol"], granted.data["trust"]) == ("7", bench.trust.current.trust.version)
    assert granted.data["degraded"] == ["no_uplink"]


async def test_the_record_is_durable_before_the_relay_moves(bench: Bench) -> None:
    seen: list[list[Any]] = []
    pulse = bench.hardware.pulse

    async def watched(direction: Direction, milliseconds: int) -> float:
        db = sqlite3.connect(bench.journal_path)
        seen.append(db.execute("SELECT attempt FROM open_grants").fetchall())
        db.close()
        return await pulse(direction, milliseconds)

    bench.hardware.pulse = watched  # type: ignore[method-assign]  # looks at the file at the moment of the pulse
    await bench.present(bench.world.holder())
    attempt = (await bench.records())[-1].data["attempt"]
    assert seen == [[(attempt,)]]


async def test_only_what_the_rules_need_is_asked_no_name_and_never_to_be_kept(bench: Bench) -> None:
    await bench.present(bench.world.holder())
    (request,) = bench.requests
    (document,) = request.doc_requests
    assert document.items.doc_type == "kr.go.civilservant.1"
    assert {space: sorted(names) for space, names in document.items.elements.items()} == {
        "kr.go.civilservant.1": ["access_class"]
    }
    assert document.reader_auth is not None
    assert b"\xf5" not in document.items_bytes.content  # no `true`: intentToRetain is false everywhere


async def test_the_timeline_counts_from_detection_and_names_our_share(bench: Bench) -> None:
    held = bench.world.holder()
    code, link = bench.phone(held)
    receive = link.receive

    async def slow(timeout: float) -> bytes:
        bench.clock.elapsed += 1.5
        return await receive(timeout)

    link.receive = slow  # type: ignore[method-assign]  # a holder who takes a second and a half
    bench.clock.elapsed = 0
    bench.show(code)
    await bench.done()
    granted, opened = (await bench.records())[-2:]
    assert set(granted.data["lat_ms"]) == {
        "engage",
        "connect",
        "request_sent",
        "last_byte",
        "verified",
        "decided",
        "ours",
    }
    assert granted.data["lat_ms"]["request_sent"] == 0
    assert granted.data["lat_ms"]["last_byte"] == 1500
    assert opened.data["lat_ms"] == {"recorded": 1500, "opened": 1500, "ours": 0}


async def test_the_phone_is_told_and_let_go_after_the_lane_has_opened(bench: Bench) -> None:
    link = await bench.present(bench.world.holder())
    await asyncio.wait_for(link.closed.wait(), 5)
    assert mdoc_session.SessionData.parse(link.sent[-1]).status == mdoc_session.Status.SESSION_TERMINATION


async def test_a_pass_of_one_shot_opens_without_radio(bench: Bench) -> None:
    card, _ = bench.world.authority.issue_pass(bench.world.person, now=NOW)
    bench.show(bench.qr_pass(card))
    await bench.done()
    assert bench.hardware.pulses
    assert (await bench.records())[-2].data["carrier"] == "qr"


class Card:
    """drivers.ports.NfcCard over a phone's applications."""

    present_since = 1000.0
    max_command, max_response = 65_544, 65_538

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        self.released = asyncio.Event()

    async def transceive(self, command: bytes) -> bytes:
        return self._answer(command)

    async def release(self) -> None:
        self.released.set()


def tapped(bench: Bench, held: Held, *, leaves_with: int | None = None) -> Card:
    """A phone with static handover and NFC data transfer; it leaves instead of answering message number `leaves_with`."""
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    options = NfcOptions(65_535, 65_536)
    engagement = build_engagement(ephemeral.public_key(), nfc=options)
    select = build_handover_select(engagement, nfc=options)
    session = HolderSession(engagement, ephemeral, NfcHandover(select, None))
    numbers = itertools.count(1)

    def on_message(message: bytes) -> bytes | None:
        request = session.receive(message)
        if request is None:
            return None
        bench.requests.append(request)
        if next(numbers) == leaves_with:
            raise LinkLostError("the phone was taken away")
        return share(session, request, held)

    return Card(PhoneApplication(select, on_message))


async def test_a_tap_opens_and_the_card_is_released(bench: Bench) -> None:
    card = tapped(bench, bench.world.holder())
    bench.lane.on_card(card)
    await bench.done()
    assert bench.hardware.pulses
    assert (await bench.records())[-2].data["carrier"] == "nfc"
    await asyncio.wait_for(card.released.wait(), 5)


async def test_what_one_phone_did_not_take_the_next_is_not_asked_for(bench: Bench) -> None:
    """Android's identity library reads nothing beyond the end of a file: it is tried once, not at every tap."""
    reads: list[list[int]] = []
    for _ in range(2):
        card = tapped(bench, bench.world.holder())
        answer, asked = card._answer, list[int]()

        def strict(command: bytes, answer: Callable[[bytes], bytes] = answer, asked: list[int] = asked) -> bytes:
            if command[1] != INS_READ_BINARY:
                return answer(command)
            asked.append(command[-1])
            return b"\x62\x82" if command[-1] == PIECE else answer(command)

        card._answer = strict
        bench.lane.on_card(card)
        await bench.done()
        bench.walk()
        reads.append(asked)
    assert await bench.reasons() == ["granted", "granted"]
    assert reads[0][:2] == [PIECE, 2]
    assert reads[1][0] == 2
    assert PIECE not in reads[1]


async def taken_away(bench: Bench, card: Card) -> None:
    """Until the card is let go and the lane asks for the next tap."""
    await asyncio.wait_for(card.released.wait(), 5)
    for _ in range(50):
        await asyncio.sleep(0)
    assert bench.lane.display.standing == messages.TAP_AGAIN


async def test_a_phone_taken_away_for_consent_is_served_at_its_second_tap(bench: Bench) -> None:
    """The request stays armed: one attempt, asked for the same, and nothing is refused between the taps."""
    held = bench.world.holder()
    first, second = tapped(bench, held, leaves_with=1), tapped(bench, held)
    bench.lane.on_card(first)
    await taken_away(bench, first)
    bench.lane.on_card(second)
    await bench.done()
    assert await bench.reasons() == ["granted"]
    assert bench.hardware.pulses
    assert [record.kind for record in await bench.records()][-2:] == [Kind.ACCESS_GRANTED, Kind.LANE_OPENED]
    assert len(bench.requests) == 2
    assert bench.requests[0].doc_requests[0].items == bench.requests[1].doc_requests[0].items
    await asyncio.wait_for(second.released.wait(), 5)


async def test_a_phone_may_be_taken_away_more_than_once_and_held_badly_in_between(bench: Bench) -> None:
    def gone(_: bytes) -> bytes:
        raise LinkLostError("held badly")

    held = bench.world.holder()
    cards = [tapped(bench, held, leaves_with=1), Card(gone), tapped(bench, held, leaves_with=1), tapped(bench, held)]
    for card in cards:
        bench.lane.on_card(card)
        if card is not cards[-1]:
            await taken_away(bench, card)
    await bench.done()
    assert await bench.reasons() == ["granted"]
    await asyncio.wait_for(cards[-1].released.wait(), 5)


async def test_whoever_taps_second_is_verified_like_anybody_else(bench: Bench) -> None:
    first = tapped(bench, bench.world.holder(), leaves_with=1)
    second = tapped(bench, bench.world.holder(access_class="visitor"))
    bench.lane.on_card(first)
    await taken_away(bench, first)
    bench.lane.on_card(second)
    await bench.done()
    assert await bench.reasons() == [Reason.NO_RIGHT_ZONE]
    assert bench.hardware.pulses == []
    await asyncio.wait_for(second.released.wait(), 5)


async def test_a_phone_that_does_not_come_back_is_lost_when_the_time_for_consent_is_over(bench: Bench) -> None:
    card = tapped(bench, bench.world.holder(), leaves_with=1)
    answer = card._answer

    def late(command: bytes) -> bytes:
        try:
            return answer(command)
        except LinkLostError:
            bench.clock.elapsed += TIMES.consent_timeout_s
            raise

    card._answer = late
    bench.lane.on_card(card)
    await bench.done()
    assert await bench.reasons() == [Reason.LINK_LOST]
    following = tapped(bench, bench.world.holder())
    bench.lane.on_card(following)
    await bench.done()
    assert await bench.reasons() == [Reason.LINK_LOST, "granted"]


async def test_whoever_shows_a_code_instead_of_a_second_tap_is_not_kept_waiting(bench: Bench) -> None:
    card = tapped(bench, bench.world.holder(), leaves_with=1)
    code, _ = bench.phone(bench.world.holder())
    bench.lane.on_card(card)
    await taken_away(bench, card)
    bench.show(code)
    await bench.done()
    assert await bench.reasons() == [Reason.LINK_LOST]
    bench.show(code)
    await bench.done()
    assert await bench.reasons() == [Reason.LINK_LOST, "granted"]


async def test_a_second_tap_may_go_on_by_ble_and_its_card_is_released(bench: Bench) -> None:
    held = bench.world.holder()
    first = tapped(bench, held, leaves_with=1)
    second, link, _ = negotiates(bench, held, Carrier.BLE)

    async def connect(service: UUID, timeout: float) -> Link:
        return link

    bench.ble.connect = connect  # type: ignore[method-assign]  # one phone, whatever service
    bench.lane.on_card(first)
    await taken_away(bench, first)
    bench.lane.on_card(second)
    await bench.done()
    assert await bench.reasons() == ["granted"]
    await asyncio.wait_for(second.released.wait(), 5)
    await asyncio.wait_for(link.closed.wait(), 5)


async def test_hostile_phones_are_refused_one_by_one_and_the_next_phone_is_served(bench: Bench) -> None:
    """Those that end at once; the others are played in modelled time under the driver's own tests."""
    refused = 0
    for answer, reason, _ in hostile().values():
        if reason is not Reason.MALFORMED:
            continue

        def given(command: bytes, answer: Callable[[bytes], bytes | None] = answer) -> bytes:
            found = answer(command)
            assert found is not None
            return found

        card = Card(given)
        bench.lane.on_card(card)
        await bench.done()
        await asyncio.wait_for(card.released.wait(), 5)
        refused += 1
    assert refused >= 17
    assert bench.hardware.pulses == []
    assert set(await bench.reasons()) == {Reason.MALFORMED}
    bench.lane.on_card(tapped(bench, bench.world.holder()))
    await bench.done()
    assert (await bench.reasons())[-1] == "granted"


async def test_a_stop_between_two_taps_releases_everything(bench: Bench) -> None:
    card = tapped(bench, bench.world.holder(), leaves_with=1)
    bench.lane.on_card(card)
    await taken_away(bench, card)
    await asyncio.wait_for(bench.lane.stop(), 5)
    await asyncio.wait_for(card.released.wait(), 5)


SERVICE = UUID("b3d52ac4-a1b6-4b51-a22e-78ee55ef6eb6")
BLE = BleOptions(peripheral_server=True, peripheral_server_uuid=SERVICE)


def negotiates(
    bench: Bench, held: Held, takes: Carrier, role: LeRole = LeRole.PERIPHERAL
) -> tuple[Card, FakeLink, list[BleCarrier]]:
    """A phone with negotiated handover that takes one carrier of those offered; its BLE names no UUID, as Apple's does not."""
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    engagement = build_engagement(ephemeral.public_key())
    sessions: list[HolderSession] = []
    offered: list[BleCarrier] = []

    def choose(request: HandoverRequest) -> bytes:
        if request.ble is not None:
            offered.append(request.ble)
        if takes is Carrier.BLE:
            select = build_handover_select(engagement, ble=BleCarrier(role))
        else:
            select = build_handover_select(engagement, nfc=request.nfc)
        sessions.append(HolderSession(engagement, ephemeral, NfcHandover(select, request.raw)))
        return select

    def on_message(message: bytes) -> bytes | None:
        asked = sessions[-1].receive(message)
        return None if asked is None else share(sessions[-1], asked, held)

    link = FakeLink(bench.clock, on_message)
    return Card(PhoneApplication(choose, on_message)), link, offered


async def test_a_negotiated_handover_to_nfc_opens(bench: Bench) -> None:
    card, _, _ = negotiates(bench, bench.world.holder(), Carrier.NFC)
    bench.lane.on_card(card)
    await bench.done()
    assert await bench.reasons() == ["granted"]
    assert (await bench.records())[-2].data["carrier"] == "nfc"


async def test_a_negotiated_handover_to_ble_opens_over_the_service_of_our_request(bench: Bench) -> None:
    card, link, offered = negotiates(bench, bench.world.holder(), Carrier.BLE)
    asked: list[UUID] = []

    async def connect(service: UUID, timeout: float) -> Link:
        asked.append(service)
        return link

    bench.ble.connect = connect  # type: ignore[method-assign]  # one phone, whatever service
    bench.lane.on_card(card)
    await bench.done()
    assert await bench.reasons() == ["granted"]
    assert (await bench.records())[-2].data["carrier"] == "ble"
    assert asked == [each.uuid for each in offered]
    again, _, more = negotiates(bench, bench.world.holder(), Carrier.BLE)
    bench.lane.on_card(again)
    await bench.done()
    assert {each.uuid for each in more}.isdisjoint(asked)  # a service of its own for every tap


@pytest.mark.parametrize(
    ("prefer", "ble_there", "carrier"),
    [
        (Carrier.NFC, True, "nfc"),
        (Carrier.BLE, True, "ble"),
        (Carrier.BLE, False, "nfc"),
    ],
)
async def test_of_what_a_static_handover_offers_the_lane_takes_what_the_site_prefers(
    bench: Bench, prefer: Carrier, ble_there: bool, carrier: str
) -> None:
    held = bench.world.holder()
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    options = NfcOptions(65_535, 65_536)
    engagement = build_engagement(ephemeral.public_key(), ble=BLE, nfc=options)
    select = build_handover_select(engagement, ble=BleCarrier(LeRole.PERIPHERAL, SERVICE), nfc=options)
    session = HolderSession(engagement, ephemeral, NfcHandover(select, None))

    def on_message(message: bytes) -> bytes | None:
        request = session.receive(message)
        return None if request is None else share(session, request, held)

    async def connect(service: UUID, timeout: float) -> Link:
        assert service == SERVICE
        return FakeLink(bench.clock, on_message)

    bench.ble.connect = connect  # type: ignore[method-assign]  # one phone, whatever service
    bench.lane.settings = replace(bench.lane.settings, prefer=prefer)
    if not ble_there:
        assert bench.ports.ble is not None
        bench.ports.ble.available = False
    bench.lane.on_card(Card(PhoneApplication(select, on_message)))
    await bench.done()
    assert await bench.reasons() == ["granted"]
    assert (await bench.records())[-2].data["carrier"] == carrier


PHONE_SERVES, PHONE_CONNECTS = uuid4(), uuid4()
BOTH = BleOptions(True, True, PHONE_SERVES, PHONE_CONNECTS)


@pytest.mark.parametrize(
    ("roles", "offered", "asked"),
    [
        ((BleRole.CENTRAL, BleRole.PERIPHERAL), BOTH, ("connect", PHONE_SERVES)),
        ((BleRole.PERIPHERAL, BleRole.CENTRAL), BOTH, ("serve", PHONE_CONNECTS)),
        ((BleRole.CENTRAL,), BOTH, ("connect", PHONE_SERVES)),
        ((BleRole.PERIPHERAL,), BOTH, ("serve", PHONE_CONNECTS)),
        (
            (BleRole.CENTRAL, BleRole.PERIPHERAL),
            BleOptions(central_client=True, central_client_uuid=PHONE_CONNECTS),
            ("serve", PHONE_CONNECTS),
        ),
    ],
)
async def test_the_first_role_that_phone_and_adapter_can_both_play_carries_the_session(
    bench: Bench, roles: tuple[BleRole, ...], offered: BleOptions, asked: tuple[str, UUID]
) -> None:
    bench.ble.roles = roles
    code, _ = bench.phone(bench.world.holder(), ble=offered)
    bench.show(code)
    await bench.done()
    assert bench.ble.asked == [asked]
    assert await bench.reasons() == ["granted"]


async def test_a_phone_that_connects_finds_the_ident_of_its_own_engagement(bench: Bench) -> None:
    code, _ = bench.phone(bench.world.holder(), ble=BleOptions(central_client=True, central_client_uuid=PHONE_CONNECTS))
    bench.show(code)
    await bench.done()
    engagement = DeviceEngagement.parse(from_qr(code.encode()))
    assert bench.ble.idents == {PHONE_CONNECTS: ble_ident(engagement.key_bytes.raw)}


async def test_a_phone_whose_role_no_adapter_plays_is_refused(bench: Bench) -> None:
    bench.ble.roles = (BleRole.CENTRAL,)
    code, _ = bench.phone(bench.world.holder(), ble=BleOptions(central_client=True, central_client_uuid=PHONE_CONNECTS))
    bench.show(code)
    await bench.done()
    assert await bench.reasons() == [Reason.SESSION_ERROR]
    assert bench.ble.asked == []


@pytest.mark.parametrize(
    ("roles", "said", "phone", "how"),
    [
        ((BleRole.CENTRAL, BleRole.PERIPHERAL), LeRole.CENTRAL_PREFERRED, LeRole.CENTRAL, "serve"),
        ((BleRole.CENTRAL, BleRole.PERIPHERAL), LeRole.CENTRAL_PREFERRED, LeRole.PERIPHERAL, "connect"),
        ((BleRole.PERIPHERAL, BleRole.CENTRAL), LeRole.PERIPHERAL_PREFERRED, LeRole.CENTRAL, "serve"),
        ((BleRole.PERIPHERAL,), LeRole.PERIPHERAL, LeRole.CENTRAL, "serve"),
        ((BleRole.CENTRAL,), LeRole.CENTRAL, LeRole.PERIPHERAL, "connect"),
    ],
)
async def test_after_a_negotiated_handover_the_gate_plays_the_role_that_the_phone_left_it(
    bench: Bench, roles: tuple[BleRole, ...], said: LeRole, phone: LeRole, how: str
) -> None:
    """Apple's wallet answers as central: then the gate serves, under the UUID that it reserved."""
    bench.ble.roles = roles
    card, link, offered = negotiates(bench, bench.world.holder(), Carrier.BLE, phone)
    reserved: list[UUID] = []

    def reserve() -> UUID:
        reserved.append(uuid4())
        bench.ble.links[reserved[-1]] = link
        return reserved[-1]

    bench.ble.reserve = reserve  # type: ignore[method-assign]  # the link stands under what was reserved
    bench.lane.on_card(card)
    await bench.done()
    assert [each.role for each in offered] == [said]
    assert bench.ble.asked == [(how, reserved[0])]
    assert await bench.reasons() == ["granted"]


async def test_a_locked_phone_is_asked_until_it_is_unlocked(bench: Bench) -> None:
    card = tapped(bench, bench.world.holder())
    answer = card._answer
    signs: list[Message] = []

    def locked(command: bytes) -> bytes:
        if len(signs) < 3:
            signs.append(bench.lane.display.standing)
            return b"\x6a\x82"
        return answer(command)

    card._answer = locked
    bench.lane.on_card(card)
    await bench.done()
    assert await bench.reasons() == ["granted"]
    assert signs == [messages.IDLE, messages.UNLOCK, messages.UNLOCK]


# Refused: each with one reason.


def decline(session: HolderSession, request: DeviceRequest, held: Held) -> bytes:
    return session.decline()


def instead(what: bytes | Exception) -> Answer:
    return lambda session, request, held: what


def with_other_session(session: HolderSession, request: DeviceRequest, held: Held) -> bytes:
    other = ec.generate_private_key(ec.SECP256R1())
    return session.respond(held.credential, other, request.doc_requests[0].items.elements)


def forged(session: HolderSession, request: DeviceRequest, held: Held) -> bytes:
    fake = altered(held.credential, "kr.go.civilservant.1", "access_class", "secure")
    return session.respond(fake, held.device_key, request.doc_requests[0].items.elements)


def one_missing(session: HolderSession, request: DeviceRequest, held: Held) -> bytes:
    return session.respond(held.credential, held.device_key, {"kr.go.civilservant.1": []})


def old(session: HolderSession, request: DeviceRequest, held: Held) -> bytes:
    return mdoc_session.build_data(b"\x00" * 40)


ANSWERS: list[tuple[str, Answer, Reason]] = [
    ("says_no", decline, Reason.HOLDER_DECLINED),
    ("other_key", with_other_session, Reason.WRONG_SESSION),
    ("altered", forged, Reason.ALTERED),
    ("one_missing", one_missing, Reason.MISSING_ELEMENT),
    ("not_for_this_key", old, Reason.SESSION_ERROR),
    ("error_status", instead(mdoc_session.build_data(status=mdoc_session.Status(10))), Reason.SESSION_ERROR),
    ("no_cbor", instead(b"\xff\xff"), Reason.MALFORMED),
    ("vanishes", instead(LinkLostError("gone")), Reason.LINK_LOST),
    ("silent", instead(LinkTimeoutError("late")), Reason.LINK_TIMEOUT),
    ("ends", instead(LinkEndedError("end")), Reason.HOLDER_DECLINED),
    ("breaks_framing", instead(LinkProtocolError("prefix")), Reason.MALFORMED),
]


@pytest.mark.parametrize(("answer", "reason"), [each[1:] for each in ANSWERS], ids=[each[0] for each in ANSWERS])
async def test_each_way_to_fail_is_one_refusal_with_one_reason(bench: Bench, answer: Answer, reason: Reason) -> None:
    link = await bench.present(bench.world.holder(), answer)
    assert await bench.reasons() == [reason]
    assert await bench.kinds() == [Kind.ACCESS_DENIED]
    assert bench.hardware.pulses == []
    assert bench.lane.state is State.SECURED
    await asyncio.wait_for(link.closed.wait(), 5)


HOLDERS: list[tuple[Callable[[World], Held], Reason]] = [
    (
        lambda world: world.holder(valid_until=NOW - timedelta(hours=1), valid_from=NOW - timedelta(days=2)),
        Reason.EXPIRED,
    ),
    (lambda world: world.holder(valid_from=NOW + timedelta(hours=1)), Reason.NOT_YET_VALID),
    (lambda world: world.holder(authority=world.extra_authorities[0]), Reason.UNKNOWN_ISSUER),
    (lambda world: world.holder(access_class="visitor"), Reason.NO_RIGHT_ZONE),
    (
        lambda world: world.holder(
            doc_type=MDL_DOC_TYPE,
            extra={"kr.go.civilservant.1": dict.fromkeys(("agency_code", "card_type", "access_class"), "general")},
        ),
        Reason.WRONG_DOCUMENT_TYPE,
    ),
]


@pytest.mark.parametrize(("holder", "reason"), HOLDERS, ids=[str(reason) for _, reason in HOLDERS])
async def test_each_credential_that_may_not_pass_is_refused_for_its_reason(
    bench: Bench, holder: Callable[[World], Held], reason: Reason
) -> None:
    await bench.present(holder(bench.world))
    assert await bench.reasons() == [reason]
    assert bench.hardware.pulses == []


async def test_outside_hours_is_refused_by_the_local_clock(bench: Bench) -> None:
    bench.clock.elapsed = 2 * 3600 + 1  # 20:00 in Seoul
    await bench.present(bench.world.holder())
    assert await bench.reasons() == [Reason.OUTSIDE_SCHEDULE]


async def test_a_revocation_takes_effect_without_a_restart(bench: Bench) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    credential, index = bench.world.authority.issue(key.public_key(), bench.world.person, now=NOW)
    held = Held(credential, key)
    await bench.present(held)
    bench.walk()
    bench.world.authority.revoke(index)
    bench.world.authority.publish(bench.folder / "trust", NOW)
    await bench.trust.poll()
    await bench.present(held)
    assert await bench.reasons() == ["granted", Reason.REVOKED]


PASSES: list[tuple[dict[str, Any], Reason]] = [
    ({"audience": "other"}, Reason.WRONG_AUDIENCE),
    ({"age": 60}, Reason.STALE),
    ({"age": -60}, Reason.STALE),
]


@pytest.mark.parametrize(("shown", "reason"), PASSES)
async def test_a_pass_for_another_door_or_time_is_refused(bench: Bench, shown: dict[str, Any], reason: Reason) -> None:
    card, _ = bench.world.authority.issue_pass(bench.world.person, now=NOW)
    bench.show(bench.qr_pass(card, **shown))
    await bench.done()
    assert await bench.reasons() == [reason]


async def test_a_lane_with_a_challenge_wants_it_signed(bench: Bench) -> None:
    bench.ask_for_challenges()
    card, _ = bench.world.authority.issue_pass(bench.world.person, now=NOW)
    shown = bench.lane.display.standing
    digits = re.search(r"\d{8}", shown.ko)
    assert digits is not None
    assert digits[0] in shown.en
    bench.show(bench.qr_pass(card))
    await bench.done()
    assert await bench.reasons() == [Reason.STALE]
    assert not bench.hardware.pulses
    bench.timers.advance(31)
    assert digits[0] not in bench.lane.display.standing.ko
    bench.show(bench.qr_pass(card, nonce=digits[0].encode()))  # the one before is still good
    await bench.done()
    assert bench.hardware.pulses


async def test_a_pass_shown_again_is_replayed_and_a_fresh_one_of_the_same_card_is_not(bench: Bench) -> None:
    card, _ = bench.world.authority.issue_pass(bench.world.person, now=NOW)
    shown = bench.qr_pass(card)
    bench.show(shown)
    await bench.done()
    bench.walk()
    bench.timers.advance(3)
    bench.show(shown)
    await bench.done()
    bench.show(bench.qr_pass(card))
    await bench.done()
    assert await bench.reasons() == ["granted", Reason.REPLAYED, "granted"]
    assert len(bench.hardware.pulses) == 2


async def test_a_refusal_does_not_use_a_pass_up(bench: Bench) -> None:
    card, _ = bench.world.authority.issue_pass(bench.world.person, now=NOW)
    shown = bench.qr_pass(card)
    await bench.present(bench.world.holder())  # somebody is ahead
    bench.show(shown)
    bench.walk()
    bench.timers.advance(3)
    bench.show(shown)
    await bench.done()
    assert await bench.reasons() == ["granted", Reason.LANE_BUSY, "granted"]


async def test_a_phone_without_a_carrier_in_common_is_refused(bench: Bench) -> None:
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    bench.show(to_qr(build_engagement(ephemeral.public_key(), ble=BleOptions())))
    await bench.done()
    (event,) = [event for event in await bench.records() if event.kind is Kind.ACCESS_DENIED]
    assert (event.data["reason"], event.data["detail"]) == ("session_error", "no_common_carrier")


async def test_a_radio_that_fails_is_out_of_service_not_the_phones_fault(bench: Bench) -> None:
    code, _ = bench.phone(bench.world.holder())
    bench.ble.links = dict.fromkeys(bench.ble.links, DriverError("radio gone"))
    bench.show(code)
    await bench.done()
    assert await bench.reasons() == [Reason.OUT_OF_SERVICE]


def test_every_reason_of_an_exception_is_a_published_one() -> None:
    for kind, reason in REASONS:
        assert reason_of(kind("x")) is reason
    assert reason_of(ZeroDivisionError()) is Reason.OUT_OF_SERVICE


# Records that cannot be written, relays that do not move.


async def test_without_a_record_nothing_opens(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_args: Any, **_more: Any) -> None:
        raise RecordUnavailableError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(bench.journal, "append", full)
        await bench.present(bench.world.holder())
    assert bench.hardware.pulses == []
    assert await bench.reasons() == [Reason.RECORD_UNAVAILABLE]
    assert bench.lane.state is State.SECURED


async def test_a_relay_that_does_not_confirm_is_a_fault_and_the_passage_is_not_taken(bench: Bench) -> None:
    bench.hardware.relay_error = DriverError("stuck")
    await bench.present(bench.world.holder())
    assert await bench.kinds() == [Kind.ACCESS_GRANTED, Kind.LANE_FAULT, Kind.PASSAGE_NOT_TAKEN]
    assert bench.lane.state is State.SECURED


async def test_a_lane_whose_hardware_is_gone_refuses_before_asking_the_phone(bench: Bench) -> None:
    bench.lane.barrier.hardware.available = False
    link = await bench.present(bench.world.holder())
    assert link.sent == []
    assert await bench.reasons() == [Reason.OUT_OF_SERVICE]


async def test_a_lane_that_is_forced_while_the_holder_is_asked_does_not_open(bench: Bench) -> None:
    def forced(session: HolderSession, request: DeviceRequest, held: Held) -> bytes:
        bench.lane.barrier.on_input(beam(LaneSignal.BEAM_M, True))
        return share(session, request, held)

    await bench.present(bench.world.holder(), forced)
    assert bench.hardware.pulses == []
    assert await bench.kinds() == [Kind.ALARM_FORCED, Kind.ACCESS_DENIED]
    assert await bench.reasons() == [Reason.LANE_BUSY]


@pytest.mark.parametrize(
    ("signal", "outcome"), [(LaneSignal.BEAM_M, Kind.PASSAGE_NOT_TAKEN), (LaneSignal.FIRE, Kind.PASSAGE_UNKNOWN)]
)
async def test_a_lane_that_changes_while_the_grant_is_written_is_not_opened_for_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, signal: LaneSignal, outcome: Kind
) -> None:
    append = bench.journal.append

    async def slow(*args: Any, **more: Any) -> Any:
        record = await append(*args, **more)
        bench.lane.barrier.on_input(beam(signal, True))
        return record

    monkeypatch.setattr(bench.journal, "append", slow)
    await bench.present(bench.world.holder())
    assert bench.hardware.pulses == []
    found = [event for event in await bench.records() if event.kind is outcome]
    assert [event.data["opened"] for event in found] == [False]


def test_every_failure_of_the_verifier_is_a_published_reason() -> None:
    assert {failure.value for failure in Failure} <= {reason.value for reason in Reason}


# Contacts.


async def test_a_code_held_before_the_camera_is_one_attempt(bench: Bench) -> None:
    code, _ = bench.phone(bench.world.holder(access_class="visitor"))
    for _ in range(10):
        bench.show(code)
        await bench.done()
        bench.timers.advance(1)
    assert await bench.reasons() == [Reason.NO_RIGHT_ZONE]


async def test_while_a_grant_waits_the_next_person_is_told_to_wait(bench: Bench) -> None:
    await bench.present(bench.world.holder())
    second = bench.world.holder()
    await bench.present(second)
    assert await bench.reasons() == ["granted", Reason.LANE_BUSY]
    assert len(bench.hardware.pulses) == 1
    bench.walk()
    await bench.present(second)
    assert await bench.reasons() == ["granted", Reason.LANE_BUSY, "granted"]


async def test_while_a_phone_is_asked_other_contacts_are_ignored_and_taken_up_after(bench: Bench) -> None:
    asked = asyncio.Event()
    first, link = bench.phone(bench.world.holder(), decline)
    receive = link.receive

    async def waiting(timeout: float) -> bytes:
        await asked.wait()
        return await receive(timeout)

    link.receive = waiting  # type: ignore[method-assign]  # the holder is asked for as long as the test wants
    second, _ = bench.phone(bench.world.holder())
    card = tapped(bench, bench.world.holder())
    bench.show(first)
    await asyncio.sleep(0)
    bench.show(second)
    bench.lane.on_card(card)
    await asyncio.wait_for(card.released.wait(), 5)
    asked.set()
    await bench.done()
    bench.show(second)
    await bench.done()
    assert await bench.reasons() == [Reason.HOLDER_DECLINED, "granted"]


@pytest.mark.parametrize(
    "payload", [b"", b"hello", b"http://example.com", b"mdoc:!!!", b"mdoc:AAAA", b"\x00\xff" * 500, b"MDOC:x", b"GM2:x"]
)
async def test_any_other_bytes_in_a_code_are_unreadable(bench: Bench, payload: bytes) -> None:
    bench.show(payload)
    await bench.done()
    assert await bench.kinds() == [Kind.ACCESS_UNREADABLE]
    assert (await bench.records())[-1].data == {"lane": "hall-in", "carrier": "qr", "reason": "unreadable", "count": 1}


async def test_a_flood_of_garbage_is_two_records_and_locks_nobody_out(bench: Bench) -> None:
    for number in range(500):
        bench.show(f"garbage {number}")
    await bench.present(bench.world.holder())
    bench.walk()
    bench.timers.advance(11)
    found = [event.data["count"] for event in await bench.records() if event.kind is Kind.ACCESS_UNREADABLE]
    assert found == [1, 499]
    assert await bench.reasons() == ["granted"]


async def test_a_flood_of_bad_passes_is_counted_and_displaces_no_authenticated_refusal(bench: Bench) -> None:
    for number in range(40):
        bench.show(f"GM1:{number:04}")
        await bench.done()
    await bench.present(bench.world.holder(access_class="visitor"))
    bench.timers.advance(11)
    denied = [event for event in await bench.records() if event.kind is Kind.ACCESS_DENIED]
    single = [event.data["reason"] for event in denied if "count" not in event.data]
    assert single == [Reason.MALFORMED] * 3 + [Reason.NO_RIGHT_ZONE]
    assert [(event.data["reason"], event.data["count"]) for event in denied if "count" in event.data] == [
        ("malformed", 37)
    ]


# The lane.


async def test_nobody_walks_and_the_lane_is_secured_again(bench: Bench) -> None:
    await bench.present(bench.world.holder())
    bench.timers.advance(4.9)
    assert bench.states == ["granted"]
    bench.timers.advance(0.2)
    assert bench.states == ["granted", "secured"]
    assert (await bench.kinds())[-1] is Kind.PASSAGE_NOT_TAKEN


async def test_a_forced_barrier_is_an_alarm_that_ends_some_time_after_rest(bench: Bench) -> None:
    bench.lane.barrier.on_input(beam(LaneSignal.CONTACT, True))
    bench.timers.advance(60)
    assert bench.states == ["intrusion"]
    bench.lane.barrier.on_input(beam(LaneSignal.CONTACT, False))
    bench.timers.advance(5.1)
    assert await bench.kinds() == [Kind.ALARM_FORCED, Kind.DOOR_OPENED, Kind.DOOR_CLOSED, Kind.ALARM_FORCED_CLEARED]
    assert bench.states == ["intrusion", "secured"]


async def test_fire_is_only_watched_and_a_grant_under_way_becomes_unknown(bench: Bench) -> None:
    await bench.present(bench.world.holder())
    bench.lane.barrier.on_input(beam(LaneSignal.FIRE, True))
    await bench.present(bench.world.holder())
    bench.walk()
    assert (await bench.kinds())[2:] == [Kind.PASSAGE_UNKNOWN, Kind.FIRE_ASSERTED, Kind.PASSAGE_COMPLETED]
    assert bench.lane.state is State.LOCKED_OPEN
    bench.lane.barrier.on_input(beam(LaneSignal.FIRE, False))
    assert bench.lane.state is State.LOCKED_OPEN  # until somebody resets it on the spot
    bench.lane.barrier.on_input(beam(LaneSignal.RESET, True))
    assert (await bench.kinds())[-1] is Kind.FIRE_CLEARED
    await bench.present(bench.world.holder())
    assert len(bench.hardware.pulses) == 2


async def test_every_change_of_state_is_told(bench: Bench) -> None:
    await bench.present(bench.world.holder())
    bench.walk()
    assert bench.states == ["granted", "passing", "secured"]


async def test_the_sign_shows_what_to_do_and_goes_back(bench: Bench) -> None:
    watching = asyncio.create_task(bench.lane.display.watch(bench.signal))

    async def shown(light: Light) -> None:
        async with asyncio.timeout(5):
            while not bench.signal.shown or bench.signal.shown[-1].light is not light:
                bench.signal.changed.clear()
                await bench.signal.changed.wait()

    await shown(Light.IDLE)
    await bench.present(bench.world.holder(access_class="visitor"))
    await shown(Light.RED)
    bench.timers.advance(3)
    await shown(Light.IDLE)
    await bench.present(bench.world.holder())
    await shown(Light.GREEN)
    bench.walk()
    await shown(Light.IDLE)
    watching.cancel()


async def test_the_sign_says_when_the_lane_is_out_of_service(bench: Bench) -> None:
    watching = asyncio.create_task(bench.lane.display.watch(bench.signal))
    bench.lane.barrier.hardware.available = False
    bench.lane.devices_changed()
    async with asyncio.timeout(5):
        while not bench.signal.shown or bench.signal.shown[-1].light is not Light.FAULT:
            bench.signal.changed.clear()
            await bench.signal.changed.wait()
    watching.cancel()


async def test_stopping_reports_what_was_still_counted(bench: Bench) -> None:
    for number in range(5):
        bench.show(f"garbage {number}")
    await bench.lane.stop()
    assert [event.data["count"] for event in await bench.records() if event.kind is Kind.ACCESS_UNREADABLE] == [1, 4]


# Privacy.


async def test_no_event_holds_anything_of_the_holder(bench: Bench) -> None:
    person = bench.world.person
    card, _ = bench.world.authority.issue_pass(person, now=NOW)
    link: FakeLink = await bench.present(bench.world.holder())
    bench.walk()
    bench.show(bench.qr_pass(card))
    await bench.done()
    bench.walk()
    await bench.present(bench.world.holder(access_class="visitor"))
    found: list[Event] = await bench.records()
    assert len(found) > 6
    raw = b"".join(event.raw for event in found)
    for secret in (
        person.agency_code,
        person.card_type,
        person.access_class,
        "visitor",
        person.name,
        person.department,
    ):
        assert secret.encode() not in raw
    assert link.carrier is Carrier.BLE
