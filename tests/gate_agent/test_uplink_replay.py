"""The controller asks for records again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gate_agent.replaying import APART_S, MOST, STEP
from tests.gate_agent.uplink_bench import Bench, MemoryOutbox, uplink_bench


@pytest.fixture
def outbox() -> MemoryOutbox:
    return MemoryOutbox()


@pytest.fixture
async def bench(outbox: MemoryOutbox) -> AsyncIterator[Bench]:
    """Ten records, sent and acknowledged."""
    async with uplink_bench(outbox) as made:
        made.broker.connect()
        records = outbox.add(10)
        await made.turns()
        made.broker.acknowledge(records[-1])
        await made.turns()
        assert not outbox.waiting
        made.broker.log.clear()
        yield made


async def test_what_is_asked_for_is_put_back_and_sent(bench: Bench, outbox: MemoryOutbox) -> None:
    bench.broker.ask("e2", 3, 5)
    await bench.turns()
    assert outbox.requeued == [("e2", 3, 5)]
    assert bench.broker.seqs == [3, 4, 5]


async def test_records_before_those_being_sent_go_first(bench: Bench, outbox: MemoryOutbox) -> None:
    outbox.add(2)
    await bench.turns()
    bench.broker.ask("e2", 4, 5)
    await bench.turns()
    assert bench.broker.seqs == [11, 12, 4, 5, 11, 12]


async def test_the_same_request_again_while_its_records_wait_is_ignored(bench: Bench, outbox: MemoryOutbox) -> None:
    bench.broker.ask("e2", 3, 5)
    await bench.turns()
    for _ in range(3):
        bench.timers.advance(APART_S)
        bench.broker.ask("e2", 3, 5)
        await bench.turns()
    assert outbox.requeued == [("e2", 3, 5)]
    bench.broker.acknowledge(outbox.records[5])
    await bench.turns()
    bench.broker.ask("e2", 3, 5)
    await bench.turns()
    assert outbox.requeued == [("e2", 3, 5)] * 2


async def test_answers_are_apart_and_of_requests_meanwhile_the_newest_counts(
    bench: Bench, outbox: MemoryOutbox
) -> None:
    for first in range(1, 9):
        bench.broker.ask("e2", first, 9)
        await bench.turns()
    assert outbox.requeued == [("e2", 1, 9)]
    bench.timers.advance(APART_S / 2)
    await bench.turns()
    assert outbox.requeued == [("e2", 1, 9)]
    bench.timers.advance(APART_S / 2)
    await bench.turns()
    assert outbox.requeued == [("e2", 1, 9), ("e2", 8, 9)]


async def test_a_request_that_the_controller_has_not_signed_changes_nothing(bench: Bench, outbox: MemoryOutbox) -> None:
    bench.broker.ask("e2", 3, 5, ec.generate_private_key(ec.SECP256R1()))
    bench.broker.give(b"{}", "pacs/1/seoul-1/gate-1/replay")
    await bench.turns()
    assert outbox.requeued == []
    assert bench.broker.seqs == []
    assert bench.reports == []


async def test_numbers_to_come_are_not_looked_for(bench: Bench, outbox: MemoryOutbox) -> None:
    bench.broker.ask("e2", 9, 2**62)
    await bench.turns()
    assert outbox.requeued == [("e2", 9, 10)]


async def test_a_wide_request_is_answered_in_short_steps_and_up_to_a_bound(bench: Bench, outbox: MemoryOutbox) -> None:
    outbox.seq = 10 * MOST
    bench.broker.ask("e2", 1, 10 * MOST)
    await bench.turns(5 * MOST // STEP)
    assert len(outbox.requeued) == MOST // STEP
    assert {last - first for _, first, last in outbox.requeued} == {STEP - 1}
    assert outbox.requeued[-1][2] == MOST


async def test_an_epoch_that_is_not_held_is_one_look_and_sends_nothing(bench: Bench, outbox: MemoryOutbox) -> None:
    bench.broker.ask("e0", 1, 2**40)
    await bench.turns()
    assert outbox.requeued == [("e0", 1, STEP)]
    assert bench.broker.seqs == []


async def test_a_request_that_finds_the_journal_unavailable_may_be_repeated(bench: Bench, outbox: MemoryOutbox) -> None:
    outbox.available = False
    bench.broker.ask("e2", 3, 5)
    await bench.turns()
    outbox.available = True
    bench.timers.advance(APART_S)
    bench.broker.ask("e2", 3, 5)
    await bench.turns()
    assert bench.broker.seqs == [3, 4, 5]
