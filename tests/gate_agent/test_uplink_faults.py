"""What the broker answers and what comes on the acknowledgement topic: told once, acted on, never taken for a success."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from gate_agent.uplink import FORGED_APART_S, RESEND_CAP_S
from gate_agent.uplink_faults import ANSWERS, LINK, MAX_WHY, Answer, Faults, answer
from protocol import mqtt, topics
from protocol.ack import Ack
from protocol.events import Kind
from protocol.mqtt import PubResult
from tests.gate_agent.uplink_bench import (
    CONTROLLER,
    DENIED,
    EVENTS,
    GATE,
    OK,
    SITE,
    Bench,
    MemoryOutbox,
    Published,
    uplink_bench,
)

FORGED = (Kind.ALARM_UPLINK, {"what": "ack", "why": "ack_forged"})
MISMATCH = (Kind.ALARM_UPLINK, {"what": "ack", "why": "ack_mismatch"})
ACK_CLEARED = (Kind.ALARM_UPLINK_CLEARED, {"what": "ack"})


@pytest.fixture
def outbox() -> MemoryOutbox:
    return MemoryOutbox()


@pytest.fixture
async def bench(outbox: MemoryOutbox) -> AsyncIterator[Bench]:
    async with uplink_bench(outbox) as made:
        yield made


# Reason codes.

PUBACK = {
    0x00: Answer.TAKEN,
    0x10: Answer.TAKEN,
    0x80: Answer.REFUSED,
    0x83: Answer.REFUSED,
    0x87: Answer.REFUSED,
    0x90: Answer.REFUSED,
    0x91: Answer.REFUSED,
    0x97: Answer.REFUSED,
    0x99: Answer.SMALLER,
}
"""MQTT 5.0 table 3-4."""


@pytest.mark.parametrize(("code", "wanted"), PUBACK.items(), ids=str)
def test_every_reason_code_of_a_puback_has_its_place_in_the_table(code: int, wanted: Answer) -> None:
    reason = ReasonCode(PacketTypes.PUBACK, identifier=code)
    text = mqtt.OK if code == 0 else str(reason)
    assert ANSWERS[text] is wanted
    assert answer(PubResult(not reason.is_failure, text)) is wanted
    assert (wanted is Answer.TAKEN) == (code < 0x80)


@given(st.text(max_size=40))
def test_a_reason_that_nobody_knows_is_a_refusal_and_never_a_success(reason: str) -> None:
    assert answer(PubResult(False, reason)) is not Answer.TAKEN


@pytest.mark.parametrize("reason", [mqtt.NOT_CONNECTED, mqtt.CONNECTION_LOST, mqtt.QUEUE_FULL, mqtt.TIMEOUT])
def test_what_says_nothing_about_the_message_is_no_alarm_and_ends_none(reason: str) -> None:
    reports: list[tuple[Kind, dict[str, str]]] = []
    faults = Faults(lambda kind, data: reports.append((kind, data)))
    assert faults.judge("evt", PubResult(False, reason)) is Answer.AGAIN
    faults.judge("evt", DENIED)
    faults.judge("evt", PubResult(False, reason))
    assert [kind for kind, _ in reports] == [Kind.ALARM_UPLINK]
    assert faults.refused


def test_a_fault_is_told_once_and_ended_once_and_its_reason_is_bounded() -> None:
    reports: list[tuple[Kind, dict[str, str]]] = []
    faults = Faults(lambda kind, data: reports.append((kind, data)))
    for _ in range(3):
        faults.judge("evt", PubResult(False, "x" * 500))
        faults.begin(LINK, "y" * 500)
    for _ in range(3):
        faults.judge("evt", OK)
        faults.end(LINK)
    assert [kind for kind, _ in reports] == [
        Kind.ALARM_UPLINK,
        Kind.DEVICE_DEGRADED,
        Kind.ALARM_UPLINK_CLEARED,
        Kind.DEVICE_RESTORED,
    ]
    assert all(len(data.get("why", "")) <= MAX_WHY for _, data in reports)


async def test_without_subscribers_the_record_waits_for_its_acknowledgement_and_nobody_is_alarmed(
    bench: Bench, outbox: MemoryOutbox
) -> None:
    bench.broker.answer = lambda _: PubResult(True, mqtt.NO_SUBSCRIBERS)
    bench.broker.connect()
    outbox.add(1)
    await bench.turns()
    assert bench.reports == []
    assert list(outbox.waiting) == [1]
    bench.timers.advance(RESEND_CAP_S)
    await bench.turns()
    assert bench.broker.seqs == [1, 1]


@pytest.mark.parametrize("reason", ["Quota exceeded", "Not authorized", "Payload format invalid", "Packet too large"])
async def test_a_refused_record_stops_the_ones_behind_it_until_the_back_off_is_over(
    bench: Bench, outbox: MemoryOutbox, reason: str
) -> None:
    refused = PubResult(False, reason)
    bench.broker.answer = lambda each: refused if each.topic == EVENTS else OK
    bench.broker.connect()
    await bench.turns()
    outbox.add(1)
    await bench.turns()
    outbox.add(1)
    await bench.turns()
    assert bench.broker.seqs == [1]
    assert bench.reports == [(Kind.ALARM_UPLINK, {"what": "evt", "why": f"refused: {reason}"})]
    assert bench.uplink.degraded == ["uplink_refused"]
    bench.broker.answer = lambda _: OK
    bench.timers.advance(RESEND_CAP_S)
    await bench.turns()
    assert bench.broker.seqs == [1, 1, 2]
    assert bench.reports[1:] == [(Kind.ALARM_UPLINK_CLEARED, {"what": "evt"})]
    assert sorted(outbox.waiting) == [1, 2]


async def test_of_several_records_in_flight_one_refusal_is_one_alarm_that_the_others_do_not_end(
    bench: Bench, outbox: MemoryOutbox
) -> None:
    def answer(each: Published) -> PubResult:
        return DENIED if each.topic == EVENTS and b"/e2/2" in each.payload else OK

    bench.broker.answer = answer
    bench.broker.connect()
    await bench.turns()
    outbox.add(4)
    await bench.turns()
    assert bench.reports == [(Kind.ALARM_UPLINK, {"what": "evt", "why": "refused: Not authorized"})]


async def test_a_refused_message_of_the_zone_is_an_alarm_of_its_own_leaf(bench: Bench) -> None:
    bench.broker.answer = lambda each: DENIED if each.topic.endswith("/tag") else OK
    bench.broker.connect()
    topic = topics.zone_tag(SITE, GATE, "hall")
    assert not await bench.uplink.send(topic, b"x")
    assert bench.reports == [(Kind.ALARM_UPLINK, {"what": "tag", "why": "refused: Not authorized"})]
    bench.broker.answer = lambda _: OK
    assert await bench.uplink.send(topic, b"x")
    assert bench.reports[1:] == [(Kind.ALARM_UPLINK_CLEARED, {"what": "tag"})]


# Acknowledgements.


def forged(kind: str) -> bytes:
    other = ec.generate_private_key(ec.SECP256R1())
    return {
        "another key": Ack("e2", 1, "0" * 64).encode(SITE, GATE, other),
        "another gate": Ack("e2", 1, "0" * 64).encode(SITE, "gate-2", CONTROLLER),
        "no acknowledgement": b"{}",
        "no JSON": b"\xff" * 600,
        "empty": b"",
    }[kind]


@pytest.mark.parametrize("kind", ["another key", "another gate", "no acknowledgement", "no JSON", "empty"])
async def test_an_acknowledgement_that_does_not_verify_forgets_nothing_and_is_told(
    bench: Bench, outbox: MemoryOutbox, kind: str
) -> None:
    bench.broker.connect()
    outbox.add(1)
    await bench.turns()
    bench.broker.give(forged(kind))
    await bench.turns()
    assert list(outbox.waiting) == [1]
    assert bench.reports == [FORGED]
    outbox.add(1)
    await bench.turns()
    assert bench.broker.seqs == [1, 2], "sending goes on"


async def test_whoever_writes_to_the_topic_cannot_fill_the_journal(bench: Bench, outbox: MemoryOutbox) -> None:
    bench.broker.connect()
    for _ in range(20):
        (added,) = outbox.add(1)
        await bench.turns()
        bench.broker.give(forged("another key"))
        bench.broker.acknowledge(added)
        await bench.turns()
    assert bench.reports == [FORGED, ACK_CLEARED]
    assert bench.uplink.ignored_acks == 20
    bench.timers.advance(FORGED_APART_S)
    bench.broker.give(forged("another key"))
    await bench.turns()
    assert bench.reports == [FORGED, ACK_CLEARED, FORGED]


async def test_records_that_the_controller_holds_and_this_journal_does_not_outrank_a_forgery(
    bench: Bench, outbox: MemoryOutbox
) -> None:
    bench.broker.connect()
    records = outbox.add(2)
    await bench.turns()
    bench.broker.give(forged("another key"))
    bench.broker.acknowledge(records[0], "f" * 64)
    await bench.turns()
    bench.broker.give(forged("another key"))
    await bench.turns()
    assert bench.reports == [FORGED, MISMATCH]
    assert bench.uplink.degraded == ["ack_mismatch"]
    bench.broker.acknowledge(records[1])
    await bench.turns()
    assert bench.reports == [FORGED, MISMATCH, ACK_CLEARED]
    assert bench.uplink.degraded == []


async def test_after_a_mismatch_neither_timers_nor_a_new_connection_send_anything(
    bench: Bench, outbox: MemoryOutbox
) -> None:
    bench.broker.connect()
    records = outbox.add(2)
    await bench.turns()
    bench.broker.acknowledge(records[1], "f" * 64)
    await bench.turns()
    before = bench.broker.seqs
    outbox.add(1)
    bench.timers.advance(RESEND_CAP_S)
    bench.broker.lose()
    bench.broker.connect()
    await bench.turns()
    assert bench.broker.seqs == before
    assert sorted(outbox.waiting) == [1, 2, 3]


async def test_an_old_retained_acknowledgement_of_another_epoch_ends_no_alarm(
    bench: Bench, outbox: MemoryOutbox
) -> None:
    bench.broker.connect()
    records = outbox.add(2)
    await bench.turns()
    bench.broker.acknowledge(records[1], "f" * 64)
    bench.broker.give(Ack("e1", 9, "0" * 64).encode(SITE, GATE, CONTROLLER))
    await bench.turns()
    assert bench.reports == [MISMATCH]


async def test_of_acknowledgements_that_arrive_together_the_last_of_each_epoch_counts(
    bench: Bench, outbox: MemoryOutbox
) -> None:
    bench.broker.connect()
    records = outbox.add(5)
    outbox.salvaged = {each.seq: each for each in MemoryOutbox("e1").add(3)}
    for each in (*outbox.salvaged.values(), *records):
        bench.broker.acknowledge(each)
    await bench.turns()
    assert not outbox.waiting
    assert not outbox.salvaged
