"""Engagement and NFC data transfer over a scripted card: limits, hostile applets, time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from drivers.nfc import open_reader
from drivers.nfc.link import NfcLink, PhoneNotReadyError, engage, handover_request
from drivers.ports import Carrier, LinkError, LinkLostError, LinkProtocolError, LinkTimeoutError
from mdoc import limits
from mdoc.apdu import Command
from mdoc.engagement import BleOptions, NfcOptions, build_engagement
from mdoc.ndef_handover import BleCarrier, HandoverRequest, LeRole, build_handover_select
from mdoc.transcript import NfcHandover
from protocol.clock import SystemClock
from testbed.phone.nfc import PhoneApplication

CLOCK = SystemClock()
ENGAGEMENT = bytes(range(100))
SELECT = build_handover_select(ENGAGEMENT, nfc=NfcOptions(65_535, 65_536))


class Card:
    """drivers.ports.NfcCard over a function; remembers the commands."""

    def __init__(
        self, answer: Callable[[bytes], bytes], *, max_command: int = 65_544, max_response: int = 65_538
    ) -> None:
        self.sent: list[bytes] = []
        self.released = False
        self.hold = asyncio.Event()
        self.hold.set()
        self.present_since = CLOCK.monotonic()
        self.max_command, self.max_response = max_command, max_response
        self._answer = answer

    async def transceive(self, command: bytes) -> bytes:
        self.sent.append(command)
        await self.hold.wait()
        return self._answer(command)

    async def release(self) -> None:
        self.released = True


def phone(handover_select: bytes = SELECT) -> PhoneApplication:
    return PhoneApplication(handover_select, lambda message: message[::-1])


async def test_engages_then_carries_messages() -> None:
    card = Card(phone())
    engagement = await engage(card, CLOCK)
    assert (engagement.engagement, engagement.handover) == (ENGAGEMENT, NfcHandover(SELECT, None))
    assert (engagement.ble, engagement.nfc) == (None, NfcOptions(65_535, 65_536))
    link = await engagement.open_link()
    assert link.carrier is Carrier.NFC
    for message in (b"abc", bytes(5_000), b""):
        before = CLOCK.monotonic()
        await link.send(message)
        assert await link.receive(1.0) == message[::-1]
        assert before <= link.last_byte_at <= CLOCK.monotonic()
    await link.close()
    assert card.released


@pytest.mark.parametrize(
    ("offered", "max_command", "max_response", "longest", "le"),
    [
        (NfcOptions(65_535, 65_536), 65_544, 65_538, 5_013, 65_536),
        (NfcOptions(255, 256), 65_544, 65_538, 260, 256),
        (NfcOptions(65_535, 65_536), 261, 258, 260, 256),
        (NfcOptions(1_000, 2_000), 65_544, 65_538, 1_007, 2_000),
    ],
)
async def test_messages_keep_to_the_limits_of_phone_and_reader(
    offered: NfcOptions, max_command: int, max_response: int, longest: int, le: int
) -> None:
    card = Card(
        phone(build_handover_select(ENGAGEMENT, nfc=offered)), max_command=max_command, max_response=max_response
    )
    link = await (await engage(card, CLOCK)).open_link()
    card.sent.clear()
    await link.send(bytes(5_000))
    assert await link.receive(1.0) == bytes(5_000)
    assert max(len(command) for command in card.sent) == longest
    assert next(command.le for command in map(Command.parse, card.sent) if command.le is not None) == le


async def test_a_phone_without_nfc_data_transfer_offers_ble_only() -> None:
    card = Card(phone(build_handover_select(ENGAGEMENT, ble=BleCarrier(LeRole.CENTRAL))))
    engagement = await engage(card, CLOCK)
    assert engagement.ble == BleCarrier(LeRole.CENTRAL)
    with pytest.raises(LinkProtocolError, match="no NFC data transfer"):
        await engagement.open_link()


async def test_a_locked_phone_is_asked_again_until_it_is_unlocked() -> None:
    application = phone()
    application.unlocked.clear()

    def unlock_after_the_first_try(raw: bytes) -> bytes:
        answer = application(raw)
        application.unlocked.set()
        return answer

    card = Card(unlock_after_the_first_try)
    assert (await asyncio.wait_for(engage(card, CLOCK), 5)).engagement == ENGAGEMENT
    assert card.sent[0] == card.sent[1]


async def test_a_phone_that_stays_locked_is_not_ready() -> None:
    with pytest.raises(PhoneNotReadyError):
        await engage(Card(lambda _: b"\x6a\x82"), CLOCK, patience=0.0)


async def test_a_phone_that_negotiates_is_refused_where_nothing_is_offered() -> None:
    with pytest.raises(LinkProtocolError, match="negotiated"):
        await engage(Card(negotiating(lambda _: SELECT)), CLOCK)


SERVICE = UUID("b3d52ac4-a1b6-4b51-a22e-78ee55ef6eb6")


def negotiating(choose: Callable[[HandoverRequest], bytes]) -> PhoneApplication:
    return PhoneApplication(choose, lambda message: message[::-1])


def first_offered(request: HandoverRequest) -> bytes:
    """A phone that can do both takes what stands first in the request."""
    nfc_at, ble_at = request.raw.find(b"\x03nfc"), request.raw.find(b"\x010")
    if request.ble is None or 0 < nfc_at < ble_at:
        return build_handover_select(ENGAGEMENT, nfc=NfcOptions(65_535, 65_536))
    return build_handover_select(ENGAGEMENT, ble=BleCarrier(LeRole.PERIPHERAL))


@pytest.mark.parametrize(
    ("ble", "prefer", "taken"),
    [
        (SERVICE, Carrier.NFC, Carrier.NFC),
        (SERVICE, Carrier.BLE, Carrier.BLE),
        (None, Carrier.NFC, Carrier.NFC),
        (None, Carrier.BLE, Carrier.NFC),
    ],
)
async def test_a_negotiated_handover_agrees_on_what_the_site_prefers_of_what_both_can(
    ble: UUID | None, prefer: Carrier, taken: Carrier
) -> None:
    card = Card(negotiating(first_offered))
    request = handover_request(card, ble=ble, prefer=prefer)
    engagement = await engage(card, CLOCK, request=request)
    assert engagement.handover.request == request.raw
    assert engagement.engagement == ENGAGEMENT
    if taken is Carrier.NFC:
        assert engagement.ble is None
        link = await engagement.open_link()
        await link.send(b"abc")
        assert await link.receive(1.0) == b"cba"
        await link.close()
    else:
        assert engagement.nfc is None
        options = engagement.ble_options()
        assert options is not None
        assert (options.peripheral_server, options.peripheral_server_uuid) == (True, SERVICE)


async def test_a_request_offers_no_more_than_reader_and_card_carry() -> None:
    card = Card(phone(), max_command=261, max_response=258)
    assert handover_request(card, ble=None, prefer=Carrier.NFC).nfc == NfcOptions(255, 256)
    assert handover_request(Card(phone()), ble=None, prefer=Carrier.NFC).nfc == NfcOptions(65_535, 65_536)


async def test_a_phone_that_answers_in_a_role_that_the_reader_has_not_is_refused() -> None:
    """The reader is BLE central; a phone that is central too never meets it."""
    card = Card(negotiating(lambda _: build_handover_select(ENGAGEMENT, ble=BleCarrier(LeRole.CENTRAL))))
    with pytest.raises(LinkProtocolError, match="role"):
        await engage(card, CLOCK, request=handover_request(card, ble=SERVICE, prefer=Carrier.BLE))


async def test_a_static_handover_without_a_uuid_takes_that_of_the_engagement() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    raw = build_engagement(key, ble=BleOptions(peripheral_server=True, peripheral_server_uuid=SERVICE))
    card = Card(phone(build_handover_select(raw, ble=BleCarrier(LeRole.PERIPHERAL))))
    options = (await engage(card, CLOCK)).ble_options()
    assert options is not None
    assert options.peripheral_server_uuid == SERVICE


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x90", b"\x90\x00", b"\x6f\x00", b"\x61\x00", b"\xff" * 300, b"\x00\x0f" + bytes(13) + b"\x90\x00"],
)
async def test_a_tag_that_always_says_the_same_is_refused(answer: bytes) -> None:
    with pytest.raises(LinkError):
        await engage(Card(lambda _: answer), CLOCK)


async def test_an_engagement_that_does_not_come_is_timed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.nfc.link.ENGAGE_TIMEOUT_S", 0.05)
    card = Card(phone())
    card.hold.clear()
    with pytest.raises(LinkTimeoutError):
        await engage(card, CLOCK, patience=0.0)


@pytest.mark.parametrize(
    "answer",
    [b"\x61\x00", b"\x53\x01a\x61\x01", b"\x54\x01a\x90\x00", b"\x53\x84\x00\x00\x00\x01a\x90\x00", b"\x6f\x00", b"\x90\x00",
     b"\x53\x83\xff\xff\xff\x61\x00", b"", b"\x00" + b"\x61\x00", b"\x53\x01ab\x90\x00"],
)  # fmt: skip
async def test_a_hostile_applet_ends_in_a_protocol_error(answer: bytes) -> None:
    link = NfcLink(Card(lambda _: answer), CLOCK, max_command=255, max_response=256)
    await link.send(b"request")
    with pytest.raises(LinkProtocolError):
        await link.receive(1.0)
    await link.close()


async def test_the_holder_may_take_time_and_be_waited_for_again() -> None:
    card = Card(phone())
    link = await (await engage(card, CLOCK)).open_link()
    card.hold.clear()
    await link.send(b"abc")
    with pytest.raises(LinkTimeoutError):
        await link.receive(0.02)
    card.hold.set()
    assert await link.receive(1.0) == b"cba"
    await link.close()


async def test_close_lets_the_last_message_out_and_gives_a_stuck_one_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.nfc.link.CLOSE_GRACE_S", 0.05)
    card = Card(phone())
    link = await (await engage(card, CLOCK)).open_link()
    card.sent.clear()
    await link.send(b"terminate")
    await link.close()
    assert b"terminate" in card.sent[0]
    assert card.released
    card = Card(phone())
    link = await (await engage(card, CLOCK)).open_link()
    card.hold.clear()
    await link.send(b"stuck")
    await link.close()
    assert card.released


async def test_send_and_receive_take_turns() -> None:
    link = NfcLink(Card(phone()), CLOCK, max_command=255, max_response=256)
    with pytest.raises(LinkProtocolError):
        await link.receive(0.1)
    with pytest.raises(LinkProtocolError, match="limit"):
        await link.send(bytes(limits.MAX_MESSAGE + 1))
    await link.send(b"one")
    with pytest.raises(LinkProtocolError):
        await link.send(b"two")
    await link.close()


async def test_a_lost_card_is_reported_by_receive() -> None:
    def lost(_: bytes) -> bytes:
        raise LinkLostError("gone")

    link = NfcLink(Card(lost), CLOCK, max_command=255, max_response=256)
    await link.send(b"one")
    with pytest.raises(LinkLostError):
        await link.receive(1.0)
    await link.close()


@pytest.mark.parametrize(
    ("driver", "path"),
    [("nope", "udp:127.0.0.1:7000"), ("nfcpy", "udp:192.0.2.7:7000"), ("nfcpy", "bluetooth"), ("nfcpy", "")],
)
def test_a_reader_that_cannot_be_is_refused_at_configuration(driver: str, path: str) -> None:
    with pytest.raises(ValueError, match="NFC"):
        open_reader(driver=driver, path=path, clock=CLOCK)
