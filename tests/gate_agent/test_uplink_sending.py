"""What leaves next and what is on its way: the window and the packing, without a broker and with one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gate_agent.journal import Record
from gate_agent.sending import GROW_AFTER, RUN, Sending
from gate_agent.uplink import RESEND_BASE_S, RESEND_CAP_S
from protocol import mqtt, packing
from protocol.mqtt import PubResult
from tests.gate_agent.uplink_bench import EVENTS, OK, WINDOW, Bench, MemoryOutbox, Published, record, uplink_bench

BATCH = packing.MAX_RECORDS


@pytest.fixture
def outbox() -> MemoryOutbox:
    return MemoryOutbox()


@pytest.fixture
async def bench(outbox: MemoryOutbox) -> AsyncIterator[Bench]:
    async with uplink_bench(outbox) as made:
        yield made


# With a broker.


async def test_a_record_that_waits_alone_leaves_at_once_as_itself(bench: Bench, outbox: MemoryOutbox) -> None:
    bench.broker.connect()
    await bench.turns()
    for _ in range(3):
        outbox.add(1)
        await bench.turns()
    assert bench.broker.messages == [[1], [2], [3]]
    assert {each.properties.content_type for each in bench.broker.of(EVENTS) if each.properties} == {
        "application/cloudevents+json"
    }


async def test_what_waits_at_a_new_connection_is_packed(bench: Bench, outbox: MemoryOutbox) -> None:
    records = outbox.add(3)
    bench.broker.connect()
    await bench.turns()
    assert [each.payload for each in bench.broker.of(EVENTS)] == [packing.pack([each.raw for each in records])]
    properties = bench.broker.of(EVENTS)[0].properties
    assert properties is not None
    assert properties.content_type == packing.CONTENT_TYPE


async def test_more_than_a_window_is_packed_until_caught_up_and_then_single_again(
    bench: Bench, outbox: MemoryOutbox
) -> None:
    bench.broker.connect()
    await bench.turns()
    records = outbox.add(WINDOW + 2)
    await bench.turns()
    assert bench.broker.messages == [list(range(1, WINDOW + 3))]
    bench.broker.acknowledge(records[-1])
    await bench.turns()
    outbox.add(1)
    await bench.turns()
    assert bench.broker.messages[1:] == [[WINDOW + 3]]


async def test_at_most_a_window_of_single_records_is_in_flight(bench: Bench, outbox: MemoryOutbox) -> None:
    bench.broker.connect()
    await bench.turns()
    records: list[Record] = []
    for _ in range(WINDOW + 3):
        records += outbox.add(1)
        await bench.turns()
    assert bench.broker.messages == [[seq] for seq in range(1, WINDOW + 1)]
    bench.broker.acknowledge(records[WINDOW - 1])
    await bench.turns()
    assert bench.broker.seqs == [each.seq for each in records]


async def test_at_most_the_configured_batches_are_in_flight(bench: Bench, outbox: MemoryOutbox) -> None:
    records = outbox.add(5 * BATCH)
    bench.broker.connect()
    await bench.turns()
    assert [len(message) for message in bench.broker.messages] == [BATCH, BATCH]
    bench.broker.acknowledge(records[BATCH - 1])
    await bench.turns()
    assert [len(message) for message in bench.broker.messages] == [BATCH] * 3
    bench.broker.acknowledge(records[3 * BATCH - 1])
    await bench.turns()
    assert bench.broker.seqs == [each.seq for each in records]


async def test_a_hole_in_the_outbox_takes_no_room_in_the_window(bench: Bench, outbox: MemoryOutbox) -> None:
    outbox.add(1000)
    for seq in range(2, 1000):
        del outbox.waiting[seq]
    bench.broker.connect()
    await bench.turns()
    assert bench.broker.messages == [[1, 1000]]
    outbox.add(1)
    await bench.turns()
    assert bench.broker.messages[1:] == [[1001]]


async def test_salvaged_records_of_an_earlier_epoch_go_first_and_leave_on_their_own_acknowledgement(
    bench: Bench, outbox: MemoryOutbox
) -> None:
    old = [record(seq, "e1") for seq in range(700, 1900)]
    outbox.salvaged = {each.seq: each for each in old}
    new = outbox.add(3)
    bench.broker.connect()
    await bench.turns()
    while outbox.salvaged:
        sent = bench.broker.seqs[-1]
        bench.broker.acknowledge(old[sent - 700])
        await bench.turns()
    bench.broker.acknowledge(new[-1])
    await bench.turns()
    assert bench.broker.seqs == [each.seq for each in (*old, *new)]
    assert not outbox.waiting


async def test_a_new_epoch_in_the_middle_begins_again_with_what_was_salvaged(
    bench: Bench, outbox: MemoryOutbox
) -> None:
    bench.broker.connect()
    outbox.add(2)
    await bench.turns()
    outbox.salvaged, outbox.waiting, outbox.records = outbox.waiting, {}, {}
    outbox.epoch, outbox.seq = "e3", 0
    outbox.add(1)
    await bench.turns()
    assert bench.broker.messages[-1] == [1, 2]
    bench.broker.acknowledge(outbox.salvaged[2])
    await bench.turns()
    assert bench.broker.messages[-1] == [1]
    assert list(outbox.waiting) == [1]


async def test_a_window_whose_answers_are_still_on_their_way_is_not_sent_on_top(
    bench: Bench, outbox: MemoryOutbox
) -> None:
    bench.broker.held = asyncio.Event()
    bench.broker.connect()
    outbox.add(2)
    await bench.turns()
    bench.timers.advance(RESEND_CAP_S)
    await bench.turns()
    assert bench.broker.seqs == [1, 2]
    bench.broker.held.set()
    await bench.turns()
    assert bench.broker.seqs == [1, 2, 1, 2]


async def test_a_full_queue_of_the_link_loses_nothing(bench: Bench, outbox: MemoryOutbox) -> None:
    bench.broker.answer = lambda each: PubResult(False, mqtt.QUEUE_FULL) if each.topic == EVENTS else OK
    bench.broker.connect()
    outbox.add(2)
    await bench.turns()
    assert bench.reports == []
    bench.broker.answer = lambda _: OK
    bench.timers.advance(RESEND_BASE_S)
    await bench.turns()
    assert bench.broker.seqs == [1, 2, 1, 2]


async def test_a_journal_that_cannot_be_read_is_asked_again(bench: Bench, outbox: MemoryOutbox) -> None:
    outbox.add(2)
    outbox.available = False
    bench.broker.connect()
    await bench.turns()
    assert bench.broker.seqs == []
    outbox.available = True
    bench.timers.advance(RESEND_BASE_S)
    await bench.turns()
    assert bench.broker.seqs == [1, 2]


@pytest.mark.parametrize("reason", [mqtt.TOO_LARGE, "Packet too large", "Payload format invalid"])
async def test_a_broker_that_takes_no_batch_gets_smaller_ones_down_to_single_records(
    bench: Bench, outbox: MemoryOutbox, reason: str
) -> None:
    def answer(each: Published) -> PubResult:
        return PubResult(False, reason) if packing.packed(each.payload) else OK

    records = outbox.add(30)
    bench.broker.answer = answer
    bench.broker.connect()
    await bench.turns(400)
    while outbox.waiting:
        sent = bench.broker.messages[-1][-1]
        bench.broker.acknowledge(records[sent - 1])
        await bench.turns()
    assert [message[0] for message in bench.broker.messages if len(message) == 1] == list(range(1, 31))


async def test_batches_that_end_the_connection_time_and_again_get_smaller(bench: Bench, outbox: MemoryOutbox) -> None:
    outbox.add(4 * BATCH)
    sizes = []
    for _ in range(10):
        bench.broker.connect()
        await bench.turns()
        sizes.append(len(bench.broker.messages[-1]))
        bench.broker.lose()
    assert sizes[:2] == [BATCH, BATCH]
    assert sizes[-1] == 1


# Without.


def in_order(records: Sequence[Record]) -> list[Record]:
    return sorted(records, key=lambda each: each.seq)


def test_a_batch_that_had_to_shrink_grows_again_with_acknowledgements() -> None:
    sending = Sending(50, 4)
    sending.begin("e2")
    sending.shrink()
    sending.wanted()
    sending.read([record(seq) for seq in range(1, 901)])
    assert len(sending.take()) == BATCH // 2
    for _ in range(GROW_AFTER):
        sending.acknowledged("e2", BATCH // 2)
    assert len(sending.take()) == BATCH


def test_a_batch_keeps_to_the_bytes_of_a_message() -> None:
    sending = Sending(50, 4)
    sending.begin("e2")
    sending.wanted()
    sending.read([record(seq, text="x" * 7000) for seq in range(1, 51)])
    assert len(packing.pack([each.raw for each in sending.take()])) <= packing.MAX_BYTES


def test_a_commit_during_a_read_is_read_too() -> None:
    sending = Sending(50, 4)
    sending.begin("e2")
    assert sending.wanted() == (0, RUN)
    sending.committed()
    sending.read([])
    assert sending.wanted() == (0, RUN)
    sending.read([])
    assert sending.wanted() is None


class Model:
    """An outbox as Sending sees it, and what has been sent from it."""

    def __init__(self, records: int, batches: int) -> None:
        self.sending = Sending(records, batches)
        self.limit = max(records, batches * BATCH)
        self.seq = 0
        self.held: dict[int, Record] = {}
        self.waiting: dict[int, Record] = {}
        self.owed: set[int] = set()
        """Put into the outbox and not sent since."""
        self.round: list[int] = []
        self.sending.begin("e2")

    def add(self, count: int, given_up: bool) -> None:
        for _ in range(count):
            self.seq += 1
            self.held[self.seq] = record(self.seq)
            if not given_up:
                self.waiting[self.seq] = self.held[self.seq]
                self.owed.add(self.seq)
        self.sending.committed()

    def pump(self) -> None:
        while True:
            wanted = self.sending.wanted()
            if wanted is not None:
                after, limit = wanted
                self.sending.read(in_order([each for seq, each in self.waiting.items() if seq > after])[:limit])
            message = self.sending.take()
            if not message:
                return
            self.round += [each.seq for each in message]
            self.owed -= {each.seq for each in message}
            assert self.sending.in_flight <= self.limit
            assert len(packing.pack([each.raw for each in message])) <= packing.MAX_BYTES

    def acknowledge(self, share: float) -> None:
        """Up to a record that has been sent in this round, as a controller does."""
        if self.round:
            upto = self.round[min(len(self.round) - 1, int(share * len(self.round)))]
            self.waiting = {seq: each for seq, each in self.waiting.items() if seq > upto}
            assert all(seq > upto for seq in self.owed), "passed over"
            self.sending.acknowledged("e2", upto)

    def rewind(self) -> None:
        self.round = []
        self.sending.begin("e2")

    def replay(self, start: float, end: float) -> None:
        first, last = sorted((1 + int(start * self.seq), 1 + int(end * self.seq)))
        again = {seq: each for seq, each in self.held.items() if first <= seq <= last}
        self.waiting.update(again)
        self.owed |= again.keys()
        self.rewind()


STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 130), st.booleans()),
    st.tuples(st.just("acknowledge"), st.floats(0, 1)),
    st.tuples(st.just("rewind")),
    st.tuples(st.just("lost")),
    st.tuples(st.just("replay"), st.floats(0, 1), st.floats(0, 1)),
)


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 4), st.lists(STEPS, max_size=25))
def test_whatever_happens_every_record_is_sent_and_no_more_than_the_window_is_on_its_way(
    window: int, batches: int, steps: list[tuple[object, ...]]
) -> None:
    model = Model(window, batches)
    for name, *arguments in steps:
        if name == "lost":
            model.sending.lost()
            model.rewind()
        else:
            getattr(model, str(name))(*arguments)
        model.pump()
        assert model.round == sorted(set(model.round)), "ascending, and once in a round"
    model.pump()
    while model.waiting:
        before = len(model.waiting)
        model.acknowledge(1)
        model.pump()
        assert len(model.waiting) < before, "sending has come to rest with records that wait"
    assert not model.owed
    assert model.sending.in_flight == 0
    assert not model.sending.behind
