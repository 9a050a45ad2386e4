"""Phones and cards that mean no good, or do no good: each ends in one reason, in bounded exchanges and time, and leaves nothing
running. Time is modelled: an exchange takes 20 ms, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.nfc.link import engage, handover_request
from drivers.ports import Carrier, LinkError, LinkLostError
from gate_agent.transaction import reason_of
from mdoc import limits
from mdoc.apdu import INS_ENVELOPE, INS_GET_RESPONSE, INS_READ_BINARY, INS_SELECT, INS_UPDATE_BINARY, MDOC_AID, Command
from mdoc.engagement import NfcOptions
from mdoc.ndef_handover import (
    CC_FILE,
    BleCarrier,
    HandoverRequest,
    LeRole,
    build_handover_select,
    encode_record,
)
from mdoc.negotiated_handover import TE, TP
from mdoc.type4tag import NDEF_AID
from policy.reasons import Reason
from testbed.phone.nfc import NDEF_FILE, NegotiatedNdefApplet, PhoneApplication
from testbed.phone.nfc_time import ModelClock
from tests.model_loop import ModelLoop

EXCHANGE_S = 0.02
CONSENT_S = 20.0
LONGEST_S = 7.0 + CONSENT_S + 2.0
"""Reading the engagement, the holder's time, and letting go."""
OPTIONS = NfcOptions(255, 256)
SELECT = build_handover_select(bytes(range(100)), nfc=OPTIONS)
REQUEST_MESSAGE = bytes(600)
"""More than one short ENVELOPE."""
Answer = Callable[[bytes], bytes | None]
"""None: no answer at all, as under waiting time extensions without an end."""


class Card:
    """drivers.ports.NfcCard in modelled time."""

    max_command, max_response = 65_544, 65_538

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.exchanges = 0
        self.released = False
        self.present_since = 0.0

    async def transceive(self, command: bytes) -> bytes:
        self.exchanges += 1
        await asyncio.sleep(EXCHANGE_S)
        answer = self._answer(command)
        if answer is None:
            await asyncio.get_running_loop().create_future()
        assert answer is not None
        return answer

    async def release(self) -> None:
        self.released = True


@dataclass(frozen=True)
class Outcome:
    reason: Reason | None
    exchanges: int
    seconds: float


def present(answer: Answer) -> Outcome:
    """A whole presentation over the card: engagement, session, one message each way."""
    clock = ModelClock()
    card = Card(answer)

    async def session() -> Reason | None:
        link = None
        try:
            request = handover_request(card, ble=None, prefer=Carrier.NFC)
            link = await (await engage(card, clock, request=request)).open_link()
            await link.send(REQUEST_MESSAGE)
            await link.receive(CONSENT_S)
        except LinkError as error:
            return reason_of(error)
        finally:
            await (card.release() if link is None else link.close())
            assert asyncio.all_tasks() == {asyncio.current_task()}, "something still runs"
        return None

    loop = ModelLoop(clock)
    try:
        reason = loop.run_until_complete(session())
    finally:
        loop.close()
    assert card.released
    return Outcome(reason, card.exchanges, clock.monotonic())


def static(select: bytes = SELECT) -> PhoneApplication:
    return PhoneApplication(select, lambda message: message[::-1])


def choosing(select: bytes) -> PhoneApplication:
    return PhoneApplication(lambda _: select, lambda message: message[::-1])


def but(matches: Callable[[Command], bool], answer: bytes | Callable[[Command], bytes | None] | None) -> Answer:
    """A good phone but for the commands that match."""
    phone = static()

    def application(raw: bytes) -> bytes | None:
        command = Command.parse(raw)
        if not matches(command):
            return phone(raw)
        return answer(command) if callable(answer) else answer

    return application


def selecting(name: bytes) -> Callable[[Command], bool]:
    return lambda command: command.ins == INS_SELECT and command.data == name


def command(*codes: int) -> Callable[[Command], bool]:
    return lambda each: each.ins in codes


def reading(offset: int) -> Callable[[Command], bool]:
    """Of the NDEF file, not of the capability container, which is read with Le 15."""
    return lambda each: each.ins == INS_READ_BINARY and each.p1 << 8 | each.p2 >= offset and each.le != 15


def container(changed: str) -> Answer:
    return but(lambda each: each.ins == INS_READ_BINARY and each.le == 15, bytes.fromhex(changed) + b"\x90\x00")


def negotiating(**changes: bytes | int) -> Answer:
    """A phone that negotiates, with some of its answers changed."""
    applet = NegotiatedNdefApplet(
        lambda request: _select_of(request, changes), not_ready=int(changes.get("not_ready", 0))
    )
    if "waiting" in changes:
        applet = NegotiatedNdefApplet(lambda request: _select_of(request, changes), waiting=63, not_ready=1_000)
    if "offer" in changes:
        applet._message = bytes(changes["offer"])

    def application(raw: bytes) -> bytes:
        each = Command.parse(raw)
        if each.ins == INS_SELECT and each.p1 == 4:
            return b"\x90\x00" if each.data == NDEF_AID else b"\x6a\x82"
        if each.ins == INS_UPDATE_BINARY and "write" in changes:
            return bytes(changes["write"])
        return applet.process(each).encode()

    return application


def _select_of(request: HandoverRequest, changes: dict[str, bytes | int]) -> bytes:
    chosen = changes.get("select")
    return chosen if isinstance(chosen, bytes) else build_handover_select(bytes(100), nfc=request.nfc)


def counting(answers: Callable[[int], bytes]) -> Callable[[Command], bytes]:
    """The answer to the n-th of the commands, from 0."""
    numbers: Iterator[int] = iter(range(1 << 20))
    return lambda _: answers(next(numbers))


def tp(version: int = 0x10, service: bytes = b"urn:nfc:sn:handover", mode: int = 0) -> bytes:
    return encode_record(TP, bytes((version, len(service))) + service + bytes((mode, 0x14, 0x0F)) + b"\x08\x00")


SESSION = command(INS_ENVELOPE, INS_GET_RESPONSE)
MALFORMED, TIMEOUT = Reason.MALFORMED, Reason.LINK_TIMEOUT
BLE_ONLY = build_handover_select(bytes(100), ble=BleCarrier(LeRole.CENTRAL))
LONG = bytes(limits.MAX_ENGAGEMENT + 1)


def hostile() -> dict[str, tuple[Answer, Reason, int]]:
    """What the phone does -> its answers, the reason, and the most exchanges that it gets. Made anew: some of them count."""
    return {
        # Engagement.
        "locked for ever": (lambda _: b"\x6a\x82", TIMEOUT, 12),
        "no answer to the first command": (lambda _: None, TIMEOUT, 1),
        "status without meaning": (lambda _: b"\x6f\x00", MALFORMED, 1),
        "nothing in the answer": (lambda _: b"", MALFORMED, 1),
        "half a status word": (lambda _: b"\x90", MALFORMED, 1),
        "a giant answer": (lambda _: bytes(70_000) + b"\x90\x00", MALFORMED, 1),
        "no capability container": (but(selecting(CC_FILE), b"\x6a\x82"), MALFORMED, 2),
        "short capability container": (container("000F20"), MALFORMED, 3),
        "mapping version 9": (container("000F907FFF7FFF0406E1047FFF00FF"), MALFORMED, 3),
        "reads of no bytes": (container("000F2000007FFF0406E1047FFF00FF"), MALFORMED, 3),
        "file that may not be read": (container("000F207FFF7FFF0406E1047FFFFFFF"), MALFORMED, 3),
        "no NDEF file": (but(selecting(NDEF_FILE), b"\x6a\x82"), MALFORMED, 4),
        "never ready": (but(reading(0), b"\x00\x00\x90\x00"), TIMEOUT, 130),
        "length beyond the file": (but(reading(0), b"\xff\xff\x90\x00"), MALFORMED, 5),
        "length of one byte": (but(reading(0), b"\x10\x90\x00"), MALFORMED, 5),
        "no progress": (but(reading(2), b"\x90\x00"), MALFORMED, 6),
        "more than was asked for": (but(reading(2), bytes(300) + b"\x90\x00"), MALFORMED, 6),
        "one byte at a time": (
            but(reading(0), lambda each: b"\x0f\xff\x90\x00" if each.le == 2 else b"\xd1\x90\x00"),
            TIMEOUT,
            360,
        ),
        "records without an end": (static(b"\x11\x00\x00" * 1_000), MALFORMED, 30),
        "a record longer than the message": (static(b"\xd1\x02\xff" + b"Hs"), MALFORMED, 6),
        "text where a handover is expected": (static(encode_record("urn:nfc:wkt:T", b"\x02enhello")), MALFORMED, 6),
        "an engagement over the limit": (static(build_handover_select(LONG, nfc=OPTIONS)), MALFORMED, 16),
        "no carrier that was asked for": (static(BLE_ONLY), MALFORMED, 7),
        # Negotiation.
        "another version of TNEP": (negotiating(offer=tp(version=0x20)), MALFORMED, 6),
        "another service": (negotiating(offer=tp(service=b"urn:nfc:sn:other")), MALFORMED, 6),
        "another mode": (negotiating(offer=tp(mode=1)), MALFORMED, 6),
        "the service twice": (negotiating(offer=b"\x91" + tp()[1:] + b"\x51" + tp()[1:]), MALFORMED, 7),
        "takes no request": (negotiating(write=b"\x69\x82"), MALFORMED, 7),
        "a status instead of a choice": (negotiating(select=encode_record(TE, b"\x01")), MALFORMED, 14),
        "a choice that was not offered": (negotiating(select=BLE_ONLY), MALFORMED, 14),
        "always not ready": (negotiating(not_ready=1_000), TIMEOUT, 180),
        "asks for 28 seconds, again and again": (negotiating(waiting=63), TIMEOUT, 40),
        # Data transfer.
        "no mdoc application": (but(selecting(MDOC_AID), b"\x6a\x82"), MALFORMED, 7),
        "the length corrected for ever": (but(selecting(MDOC_AID), b"\x6c\x10"), MALFORMED, 8),
        "refuses inside a chain": (but(command(INS_ENVELOPE), b"\x68\x83"), MALFORMED, 8),
        "answers inside a chain": (but(command(INS_ENVELOPE), b"\x53\x00\x90\x00"), MALFORMED, 8),
        "61xx without data": (but(SESSION, lambda each: b"\x61\x10" if each.cla == 0 else b"\x90\x00"), MALFORMED, 11),
        "61xx for ever, a byte each": (
            but(
                lambda each: SESSION(each) and each.cla == 0,
                counting(lambda n: b"\x61\x00" if not n else b"\x53\x61\x00"),
            ),
            MALFORMED,
            100,
        ),
        "a long answer by single bytes": (
            but(
                lambda each: SESSION(each) and each.cla == 0,
                counting(lambda n: b"\x53\x83\x04\x00\x00\x61\x00" if not n else b"\x00\x61\x00"),
            ),
            TIMEOUT,
            1_100,
        ),
        "a chain longer than it said": (
            but(
                lambda each: SESSION(each) and each.cla == 0,
                counting(lambda n: (b"\x53\x82\x02\x00" if not n else b"") + bytes(200) + b"\x61\x00"),
            ),
            MALFORMED,
            14,
        ),
        "16 MB announced": (
            but(lambda each: SESSION(each) and each.cla == 0, b"\x53\x83\xff\xff\xff" + bytes(100) + b"\x61\x00"),
            MALFORMED,
            11,
        ),
        "wrong tag": (but(lambda each: SESSION(each) and each.cla == 0, b"\x54\x01a\x90\x00"), MALFORMED, 11),
        "length form of four bytes": (
            but(lambda each: SESSION(each) and each.cla == 0, b"\x53\x84\x00\x00\x00\x01a\x90\x00"),
            MALFORMED,
            11,
        ),
        "indefinite length": (
            but(lambda each: SESSION(each) and each.cla == 0, b"\x53\x80a\x00\x00\x90\x00"),
            MALFORMED,
            11,
        ),
        "bytes after the end": (
            but(lambda each: SESSION(each) and each.cla == 0, b"\x53\x01ab\x90\x00"),
            MALFORMED,
            11,
        ),
        "less than it said": (but(lambda each: SESSION(each) and each.cla == 0, b"\x53\x05ab\x90\x00"), MALFORMED, 11),
        "an empty answer": (but(lambda each: SESSION(each) and each.cla == 0, b"\x90\x00"), MALFORMED, 11),
        "conditions not satisfied": (but(lambda each: SESSION(each) and each.cla == 0, b"\x69\x85"), MALFORMED, 11),
        "waiting time without an end": (but(lambda each: SESSION(each) and each.cla == 0, None), TIMEOUT, 11),
    }


@pytest.mark.parametrize("name", hostile())
def test_a_hostile_phone_ends_in_one_reason_in_bounded_time(name: str) -> None:
    answer, reason, most = hostile()[name]
    outcome = present(answer)
    assert outcome.reason is reason
    assert outcome.exchanges <= most
    assert outcome.seconds <= LONGEST_S


def test_good_phones_are_not_among_them() -> None:
    for phone in (static(), choosing(SELECT)):
        outcome = present(phone)
        assert outcome.reason is None
        assert outcome.seconds < 1.0


def vanishing(phone: PhoneApplication, after: int) -> Answer:
    left = [after]

    def application(raw: bytes) -> bytes | None:
        left[0] -= 1
        if left[0] < 0:
            raise LinkLostError("gone")
        return phone(raw)

    return application


@pytest.mark.parametrize("kind", [static, lambda: choosing(SELECT)], ids=["static", "negotiated"])
def test_a_phone_that_vanishes_at_any_step_is_lost(kind: Callable[[], PhoneApplication]) -> None:
    whole = present(kind()).exchanges
    for step in range(whole):
        outcome = present(vanishing(kind(), step))
        assert outcome.reason is Reason.LINK_LOST, step
        assert outcome.exchanges == step + 1
        assert outcome.seconds < 1.0
    assert present(vanishing(kind(), whole)).reason is None


FAST = settings(max_examples=150, derandomize=True, deadline=None, database=None)


@FAST
@given(st.lists(st.tuples(st.integers(0, len(SELECT) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_mutation_of_the_handover_is_read_or_ends_in_one_reason(changes: list[tuple[int, int]]) -> None:
    raw = bytearray(SELECT)
    for at, value in changes:
        raw[at] = value
    outcome = present(static(bytes(raw)))
    assert outcome.reason in (None, Reason.MALFORMED)
    assert outcome.exchanges <= 20


@FAST
@given(st.binary(min_size=0, max_size=400))
def test_any_bytes_for_an_ndef_file_end_in_one_reason(message: bytes) -> None:
    outcome = present(static(message))
    assert outcome.reason in (Reason.MALFORMED, Reason.LINK_TIMEOUT)
    assert outcome.seconds <= LONGEST_S


@FAST
@given(st.lists(st.binary(max_size=30) | st.binary(max_size=300).map(lambda data: data + b"\x90\x00"), max_size=20))
def test_any_answers_end_in_one_reason(answers: list[bytes]) -> None:
    left = iter(answers)
    outcome = present(lambda _: next(left, b"\x6f\x00"))
    assert outcome.reason in (Reason.MALFORMED, Reason.LINK_TIMEOUT)
    assert outcome.seconds <= LONGEST_S
