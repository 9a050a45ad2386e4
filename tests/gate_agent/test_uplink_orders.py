"""The uplink as a whole under any order of commits, acknowledgements, losses, refusals and replays."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gate_agent.uplink import RESEND_CAP_S
from protocol.packing import MAX_RECORDS
from tests.gate_agent.uplink_bench import BATCHES, DENIED, EVENTS, OK, WINDOW, Bench, MemoryOutbox, uplink_bench

LIMIT = max(WINDOW, BATCHES * MAX_RECORDS)


class Play:
    """Each method is one thing that may happen."""

    def __init__(self, bench: Bench, outbox: MemoryOutbox) -> None:
        self.bench, self.outbox = bench, outbox
        self.broker = bench.broker
        self.begun = 0
        """Messages before this one belong to an earlier request for replay."""

    def commit(self, count: int) -> None:
        self.outbox.add(count)

    def connect(self) -> None:
        if not self.broker.connected:
            self.broker.connect()

    def lose(self) -> None:
        if self.broker.connected:
            self.broker.lose()

    def resend(self) -> None:
        self.bench.timers.advance(RESEND_CAP_S)

    def hold(self) -> None:
        """PUBACKs stay away."""
        self.broker.held = self.broker.held or asyncio.Event()

    def release(self) -> None:
        if self.broker.held is not None:
            self.broker.held.set()
            self.broker.held = None

    def refuse(self) -> None:
        self.broker.answer = lambda each: DENIED if each.topic == EVENTS else OK

    def accept(self) -> None:
        self.broker.answer = lambda _: OK

    def acknowledge(self, share: float) -> None:
        """As a controller does, which holds what it was sent without a hole: from 1, or from where it lost its store."""
        sent = {seq for message in self.broker.messages[self.begun :] for seq in message}
        waiting = sorted(self.outbox.waiting)
        held = 0
        while held < len(waiting) and waiting[held] in sent:
            held += 1
        if held:
            self.broker.acknowledge(self.outbox.records[waiting[int(share * (held - 1))]])

    def replay(self, start: float, end: float) -> None:
        if self.outbox.seq:
            first, last = sorted((1 + int(start * (self.outbox.seq - 1)), 1 + int(end * (self.outbox.seq - 1))))
            self.begun = len(self.broker.messages)
            self.broker.ask(self.outbox.epoch, first, last)


STEPS = st.one_of(
    st.tuples(st.just("commit"), st.integers(1, 150)),
    st.tuples(st.just("acknowledge"), st.floats(0, 1)),
    st.tuples(st.just("replay"), st.floats(0, 1), st.floats(0, 1)),
    st.sampled_from([("connect",), ("lose",), ("resend",), ("hold",), ("release",), ("refuse",), ("accept",)]),
)


async def play(steps: list[tuple[Any, ...]]) -> None:
    outbox = MemoryOutbox()
    async with uplink_bench(outbox) as bench:
        happen = Play(bench, outbox)
        for name, *arguments in steps:
            getattr(happen, name)(*arguments)
            await bench.turns(15)
            assert bench.broker.most <= LIMIT
        happen.release()
        happen.accept()
        happen.connect()
        happen.resend()
        await bench.turns()
        for _ in range(2 + len(outbox.waiting)):
            happen.acknowledge(1)
            await bench.turns()
        assert not outbox.waiting, "sending has come to rest with records that wait"
        assert set(bench.broker.seqs) == set(range(1, outbox.seq + 1))
        assert bench.uplink.degraded == []


@settings(max_examples=40)
@given(st.lists(STEPS, max_size=20))
def test_whatever_happens_every_record_arrives_and_no_more_than_the_window_is_unanswered(
    steps: list[tuple[Any, ...]],
) -> None:
    asyncio.run(play(steps))
