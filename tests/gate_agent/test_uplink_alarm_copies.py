"""Copies of urgent records ahead of an outbox that is behind."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from gate_agent.alarm_copies import KEPT
from gate_agent.uplink import RESEND_CAP_S
from protocol import events
from protocol.events import Kind
from protocol.packing import MAX_RECORDS
from tests.gate_agent.uplink_bench import (
    ALARM,
    BATCHES,
    DENIED,
    EVENTS,
    OK,
    Bench,
    MemoryOutbox,
    numbers,
    record,
    uplink_bench,
)

BACKLOG = BATCHES * MAX_RECORDS + 50


@pytest.fixture
def outbox() -> MemoryOutbox:
    return MemoryOutbox()


@pytest.fixture
async def bench(outbox: MemoryOutbox) -> AsyncIterator[Bench]:
    async with uplink_bench(outbox) as made:
        yield made


def copies(bench: Bench) -> list[int]:
    return [seq for each in bench.broker.of(ALARM) for seq in numbers(each.payload)]


@pytest.mark.parametrize("kind", list(Kind))
def test_an_urgent_record_is_known_from_its_bytes(kind: Kind) -> None:
    data = {"why": '"type":"gwanmun.alarm.forced"', "type": "gwanmun.alarm.forced"}
    assert events.urgent(record(1, kind=kind, **data).raw) == (kind in events.URGENT)


def test_bytes_without_a_type_are_not_urgent() -> None:
    assert not events.urgent(b"")
    assert not events.urgent(json.dumps({"data": {}}).encode())


async def test_while_the_outbox_is_behind_an_alarm_goes_at_once_as_a_copy_of_the_same_bytes(
    bench: Bench, outbox: MemoryOutbox
) -> None:
    outbox.add(BACKLOG)
    bench.broker.connect()
    await bench.turns()
    (alarm,) = outbox.add(1, Kind.ALARM_FORCED, lane="l")
    await bench.turns()
    assert alarm.seq not in bench.broker.seqs
    assert [each.payload for each in bench.broker.of(ALARM)] == [alarm.raw]
    assert [(each.qos, each.retain) for each in bench.broker.of(ALARM)] == [(1, False)]
    assert alarm.seq in outbox.waiting


async def test_what_is_not_urgent_or_on_its_way_itself_is_not_copied(bench: Bench, outbox: MemoryOutbox) -> None:
    outbox.add(1, Kind.ALARM_FORCED, lane="l")
    outbox.add(BACKLOG)
    bench.broker.connect()
    await bench.turns()
    outbox.add(1)
    await bench.turns()
    assert bench.uplink.degraded == []
    assert copies(bench) == []


async def test_while_it_keeps_up_nothing_is_copied(bench: Bench, outbox: MemoryOutbox) -> None:
    bench.broker.connect()
    await bench.turns()
    outbox.add(1, Kind.FIRE_ASSERTED)
    await bench.turns()
    assert bench.broker.seqs == [1]
    assert copies(bench) == []


async def test_alarms_of_an_outage_go_ahead_of_its_backlog(bench: Bench, outbox: MemoryOutbox) -> None:
    outbox.add(BACKLOG)
    outbox.add(2, Kind.ALARM_HELD, lane="l")
    bench.broker.connect()
    await bench.turns()
    assert copies(bench) == [BACKLOG + 1, BACKLOG + 2]


async def test_only_the_newest_few_are_kept_for_copying(bench: Bench, outbox: MemoryOutbox) -> None:
    outbox.add(BACKLOG)
    outbox.add(KEPT + 10, Kind.ALARM_HELD, lane="l")
    bench.broker.connect()
    await bench.turns(300)
    assert copies(bench) == list(range(BACKLOG + 11, BACKLOG + KEPT + 11))


async def test_while_an_acknowledgement_mismatch_stops_sending_alarms_still_get_through(
    bench: Bench, outbox: MemoryOutbox
) -> None:
    bench.broker.connect()
    records = outbox.add(2)
    await bench.turns()
    bench.broker.acknowledge(records[0], "f" * 64)
    await bench.turns()
    before = bench.broker.seqs
    outbox.add(1, Kind.LOCKDOWN_ENTERED)
    await bench.turns()
    assert copies(bench) == [3]
    bench.timers.advance(RESEND_CAP_S)
    outbox.add(1, Kind.ALARM_FORCED, lane="l")
    await bench.turns()
    assert copies(bench) == [3, 4]
    assert bench.broker.seqs == before


async def test_while_records_are_refused_alarms_still_get_through(bench: Bench, outbox: MemoryOutbox) -> None:
    bench.broker.answer = lambda each: DENIED if each.topic == EVENTS else OK
    bench.broker.connect()
    outbox.add(1)
    await bench.turns()
    outbox.add(1, Kind.ALARM_FORCED, lane="l")
    await bench.turns()
    assert copies(bench) == [2]


async def test_a_refused_copy_is_one_alarm_and_does_not_feed_on_itself(bench: Bench, outbox: MemoryOutbox) -> None:
    bench.broker.answer = lambda each: DENIED if each.topic == ALARM else OK
    outbox.add(BACKLOG)
    bench.broker.connect()
    await bench.turns()
    outbox.add(1, Kind.ALARM_FORCED, lane="l")
    await bench.turns()
    for _ in range(5):
        outbox.add(1, Kind.ALARM_UPLINK, what="alarm", why="refused: Not authorized")
        await bench.turns()
    assert bench.reports == [(Kind.ALARM_UPLINK, {"what": "alarm", "why": "refused: Not authorized"})]


async def test_a_copy_that_the_connection_took_along_goes_again(bench: Bench, outbox: MemoryOutbox) -> None:
    outbox.add(BACKLOG)
    bench.broker.connect()
    await bench.turns()
    bench.broker.lose()
    outbox.add(1, Kind.ALARM_FORCED, lane="l")
    await bench.turns()
    assert copies(bench) == []
    bench.broker.connect()
    await bench.turns()
    assert copies(bench) == [BACKLOG + 1]
