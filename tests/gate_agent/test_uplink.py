"""The uplink on a real journal: what leaves, when, and when the outbox forgets it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from gate_agent.journal import Journal, Record
from gate_agent.presence import BIRTH_AGAIN_S
from gate_agent.uplink import RESEND_BASE_S, RESEND_CAP_S
from protocol import topics
from protocol.events import Kind
from protocol.health import parse as parse_health
from protocol.status import parse_online, parse_state
from tests.gate_agent import uplink_bench
from tests.gate_agent.fakes import FakeClock
from tests.gate_agent.uplink_bench import BOOT, DENIED, EVENTS, GATE, OK, ONLINE, SITE, STATE


@dataclass
class Bench(uplink_bench.Bench):
    journal: Journal

    async def write(self, count: int) -> list[Record]:
        return [await self.journal.append(Kind.LANE_OPENED, {"lane": str(number)}) for number in range(count)]

    async def settle(self) -> None:
        """Until the uplink has dealt with what it was given: the journal's thread answers in order."""
        for _ in range(20):
            await self.journal.position()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = FakeClock()

    def committed(records: Sequence[Record]) -> None:
        inner.uplink.committed(records)  # made below: journal and uplink know each other

    journal = Journal(
        tmp_path / "journal.db", site=SITE, gate=GATE, clock=clock, random_bytes=os.urandom, on_commit=committed
    )
    await journal.start()
    async with uplink_bench.uplink_bench(cast(Any, journal), clock=clock) as inner:
        yield Bench(inner.uplink, inner.broker, inner.timers, inner.reports, journal)
    await journal.stop()


async def test_records_go_out_in_sequence_as_the_exact_bytes_of_the_journal(bench: Bench) -> None:
    bench.broker.connect()
    await bench.settle()  # caught up: from here on each record leaves by itself
    records = []
    for count in range(1, 4):
        records += await bench.write(1)
        await bench.broker.until(lambda count=count: len(bench.broker.seqs) == count)  # type: ignore[misc]  # lambda default
    sent = bench.broker.of(EVENTS)
    assert [each.payload for each in sent] == [record.raw for record in records]
    assert {(each.qos, each.retain) for each in sent} == {(1, False)}
    assert sent[0].properties is not None
    assert dict(sent[0].properties.user) == {"seq": "1", "boot": BOOT}


async def test_birth_comes_before_records_and_the_will_carries_the_same_boot(bench: Bench) -> None:
    await bench.write(1)
    bench.broker.connect()
    await bench.broker.until(lambda: bool(bench.broker.seqs))
    first = next(each for each in bench.broker.log if each.topic in {ONLINE, EVENTS})
    assert (first.topic, first.retain) == (ONLINE, True)
    assert (parse_online(first.payload).online, parse_online(first.payload).boot) == (True, BOOT)
    will = parse_online(bench.broker.will.payload)
    assert (bench.broker.will.topic, will.online, will.boot, bench.broker.will.retain) == (ONLINE, False, BOOT, True)


async def test_a_puback_alone_removes_nothing(bench: Bench) -> None:
    bench.broker.connect()
    await bench.write(2)
    await bench.broker.until(lambda: len(bench.broker.seqs) == 2)
    await bench.settle()
    assert await bench.journal.waiting() == 2


async def test_without_an_acknowledgement_the_window_is_sent_again_with_back_off(bench: Bench) -> None:
    bench.broker.connect()
    await bench.write(2)
    await bench.broker.until(lambda: len(bench.broker.seqs) == 2)
    bench.timers.advance(RESEND_BASE_S)
    await bench.broker.until(lambda: len(bench.broker.seqs) == 4)
    for rounds in range(3, 6):
        bench.timers.advance(RESEND_CAP_S)
        await bench.broker.until(lambda rounds=rounds: len(bench.broker.seqs) >= 2 * rounds)  # type: ignore[misc]  # lambda default
    assert bench.broker.seqs == [1, 2] * (len(bench.broker.seqs) // 2)


async def test_after_a_lost_connection_everything_unacknowledged_goes_again(bench: Bench) -> None:
    bench.broker.connect()
    records = await bench.write(3)
    await bench.broker.until(lambda: len(bench.broker.seqs) == 3)
    bench.broker.acknowledge(records[0])
    await bench.settle()
    bench.broker.lose()
    assert bench.uplink.degraded == ["no_uplink"]
    await bench.write(1)
    bench.broker.connect()
    await bench.broker.until(lambda: len(bench.broker.seqs) == 6)
    assert bench.broker.seqs[3:] == [2, 3, 4]
    assert bench.uplink.degraded == []
    assert bench.reports == [
        (Kind.DEVICE_DEGRADED, {"device": "uplink", "why": "not connected: connection refused"}),
        (Kind.DEVICE_RESTORED, {"device": "uplink"}),
    ]


async def test_an_outage_is_one_event_however_often_the_connection_fails(bench: Bench) -> None:
    for _ in range(5):
        bench.broker.lose()
    assert len(bench.reports) == 1


async def test_a_refused_publication_is_an_alarm_and_is_tried_again(bench: Bench) -> None:
    bench.broker.answer = lambda each: DENIED if each.topic == EVENTS else OK
    bench.broker.connect()
    await bench.write(1)
    await bench.broker.until(lambda: bool(bench.broker.seqs))
    await bench.settle()
    assert bench.reports == [(Kind.ALARM_UPLINK, {"what": "evt", "why": "refused: Not authorized"})]
    assert bench.uplink.degraded == ["uplink_refused"]
    assert await bench.journal.waiting() == 1
    bench.broker.answer = lambda _: OK
    bench.timers.advance(RESEND_CAP_S)
    await bench.broker.until(lambda: len(bench.broker.seqs) == 2)
    await bench.settle()
    assert bench.reports[1:] == [(Kind.ALARM_UPLINK_CLEARED, {"what": "evt"})]
    assert bench.uplink.degraded == []


async def test_an_acknowledgement_of_another_hash_stops_the_uplink_with_an_alarm(bench: Bench) -> None:
    bench.broker.connect()
    records = await bench.write(2)
    await bench.broker.until(lambda: len(bench.broker.seqs) == 2)
    bench.broker.acknowledge(records[1], "f" * 64)
    await bench.settle()
    await bench.write(1)
    bench.timers.advance(RESEND_CAP_S)
    await bench.settle()
    assert bench.reports == [(Kind.ALARM_UPLINK, {"what": "ack", "why": "ack_mismatch"})]
    assert bench.uplink.degraded == ["ack_mismatch"]
    assert bench.broker.seqs == [1, 2]
    assert await bench.journal.waiting() == 3


async def test_a_right_acknowledgement_ends_the_alarm(bench: Bench) -> None:
    bench.broker.connect()
    records = await bench.write(2)
    await bench.broker.until(lambda: len(bench.broker.seqs) == 2)
    bench.broker.acknowledge(records[1], "f" * 64)
    await bench.settle()
    bench.broker.acknowledge(records[0])
    await bench.settle()
    assert bench.uplink.degraded == []
    assert bench.reports[1:] == [(Kind.ALARM_UPLINK_CLEARED, {"what": "ack"})]
    await bench.broker.until(lambda: bench.broker.seqs.count(2) == 2)


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff" * 600, b'{"v":1,"epoch":"e","seq":true,"hash":"x"}'])
async def test_what_is_no_acknowledgement_is_ignored(bench: Bench, payload: bytes) -> None:
    bench.broker.connect()
    await bench.write(1)
    bench.broker.give(payload)
    await bench.settle()
    assert await bench.journal.waiting() == 1
    assert bench.uplink.degraded == []


async def test_state_is_retained_and_says_how_old_it_is(bench: Bench) -> None:
    records = await bench.write(2)
    bench.broker.connect()
    await bench.broker.until(lambda: any(each.topic == STATE for each in bench.broker.log))
    found = next(each for each in bench.broker.log if each.topic == STATE)
    state = parse_state(found.payload)
    assert (found.retain, state.epoch, state.seq) == (True, records[1].epoch, 2)
    before = len(bench.broker.log)
    bench.uplink.state_changed()
    await bench.broker.until(lambda: any(each.topic == STATE for each in bench.broker.log[before:]))


async def test_only_its_own_acknowledgements_and_replay_requests_are_subscribed(bench: Bench) -> None:
    assert bench.broker.filters == [topics.ack(SITE, GATE), topics.replay(SITE, GATE)]


async def test_a_clean_stop_sends_what_is_left_and_says_goodbye(bench: Bench) -> None:
    bench.broker.connect()
    await bench.broker.until(lambda: any(each.topic == ONLINE for each in bench.broker.log))
    await bench.settle()
    bench.journal.note(Kind.GATE_STOPPED, {})
    await bench.uplink.stop()
    assert bench.broker.seqs == [1]
    last = bench.broker.log[-1]
    assert (last.topic, parse_online(last.payload).online) == (ONLINE, False)
    assert bench.broker.stopped


async def test_health_goes_out_on_connecting_unretained_and_expires(bench: Bench) -> None:
    topic = topics.health(SITE, GATE)
    bench.broker.connect()
    await bench.broker.until(lambda: any(each.topic == topic for each in bench.broker.log))
    found = next(each for each in bench.broker.log if each.topic == topic)
    assert parse_health(found.payload).boot == BOOT
    assert (found.qos, found.retain) == (0, False)
    assert found.properties is not None
    assert found.properties.expiry == 90


async def test_every_connection_begins_with_a_birth_and_a_second_one_overrules_a_late_will(bench: Bench) -> None:
    bench.broker.connect()
    await bench.broker.until(lambda: len(bench.broker.of(ONLINE)) == 1)
    bench.broker.lose()
    bench.broker.connect()
    await bench.broker.until(lambda: len(bench.broker.of(ONLINE)) == 2)
    await bench.settle()
    assert len(bench.broker.of(ONLINE)) == 2
    bench.timers.advance(BIRTH_AGAIN_S)
    await bench.broker.until(lambda: len(bench.broker.of(ONLINE)) == 3)
    assert all(parse_online(each.payload).online for each in bench.broker.of(ONLINE))
    assert bench.broker.will.delay < BIRTH_AGAIN_S


@pytest.mark.parametrize("topic", [ONLINE, STATE])
async def test_a_refused_birth_or_state_is_an_alarm_holds_up_no_record_and_is_tried_again(
    bench: Bench, topic: str
) -> None:
    bench.broker.answer = lambda each: DENIED if each.topic == topic else OK
    bench.broker.connect()
    await bench.write(1)
    await bench.broker.until(lambda: bool(bench.broker.seqs) and bool(bench.broker.of(topic)))
    await bench.settle()
    leaf = topic.rsplit("/", 1)[-1]
    assert bench.reports == [(Kind.ALARM_UPLINK, {"what": leaf, "why": "refused: Not authorized"})]
    assert bench.uplink.degraded == ["uplink_refused"]
    bench.broker.answer = lambda _: OK
    tried = len(bench.broker.of(topic))
    bench.timers.advance(RESEND_CAP_S)
    await bench.broker.until(lambda: len(bench.broker.of(topic)) > tried)
    await bench.settle()
    assert bench.reports[1:] == [(Kind.ALARM_UPLINK_CLEARED, {"what": leaf})]
