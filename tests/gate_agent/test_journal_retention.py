from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate_agent import chain, writeahead
from gate_agent.journal_writer import UPKEEP_S
from gate_agent.record import Record
from gate_agent.retention import GAP_BYTES, MIB, STEP, Limits, Retention
from gate_agent.store import Store
from protocol.ack import Ack
from protocol.events import HOUSEKEEPING, Kind
from protocol.statement import Purpose, from_data
from tests.gate_agent.fakes import FakeClock
from tests.gate_agent.journals import (
    PUBLIC,
    alarms,
    change,
    grant,
    health,
    held,
    journal_at,
    kinds,
    store_at,
    write,
)

DAY_S = 86400
TIGHT = Limits(max_bytes=16 * MIB)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def acknowledge(store: Store, clock: FakeClock, record: Record) -> None:
    store.outbox.acknowledge(store.epoch, record.seq, record.hash)
    store.outbox.note_acknowledged(clock.now())


def fill(store: Store, clock: FakeClock, size: int, *, kind: str = "alarm") -> list[Record]:
    """Records of some 1 kB until the file has `size` bytes."""
    found: list[Record] = []
    watch = Retention(Limits())
    while True:
        writeahead.truncate(store.db)
        if watch.used(store) >= size:
            return found
        found += write(store, clock, alarms(200, 800) if kind == "alarm" else health(200, 800))


# By age.


def test_a_record_stays_thirty_days_after_its_acknowledgement(path: Path) -> None:
    clock, store, retention = FakeClock(), store_at(path), Retention(Limits())
    records = write(store, clock, alarms(10))
    clock.elapsed += 100 * DAY_S
    acknowledge(store, clock, records[6])
    clock.elapsed += 29 * DAY_S
    assert not retention.age(store, clock.now())
    clock.elapsed += 2 * DAY_S
    assert retention.age(store, clock.now())
    assert store.first == 8
    assert not retention.age(store, clock.now())
    store.close()


def test_what_was_removed_is_stated_with_the_hash_of_its_last_record(path: Path) -> None:
    clock, store = FakeClock(), store_at(path)
    records = write(store, clock, alarms(10))
    acknowledge(store, clock, records[6])
    clock.elapsed += 31 * DAY_S
    Retention(Limits()).age(store, clock.now())
    store.close()
    found = held(path)[-1]
    assert (found.kind, found.data["why"]) == (Kind.JOURNAL_PRUNED, "age")
    stated = from_data(found.data, Purpose.PRUNED, PUBLIC)
    assert (stated.first, stated.last, stated.hash) == (1, 7, records[6].hash)
    report = chain.verify(path, PUBLIC)
    assert (report.problems, report.first) == ((), 8)


def test_a_record_that_was_asked_for_again_stays_until_it_is_acknowledged_again(path: Path) -> None:
    clock, store, retention = FakeClock(), store_at(path), Retention(Limits())
    records = write(store, clock, alarms(10))
    acknowledge(store, clock, records[-1])
    clock.elapsed += 31 * DAY_S
    store.outbox.requeue(store.epoch, 4, 4, 1)
    retention.age(store, clock.now())
    assert store.first == 4
    acknowledge(store, clock, records[3])
    retention.age(store, clock.now())
    assert store.first == 11
    store.close()


def test_one_step_removes_a_bounded_number_and_the_newest_statement_covers_all_before_it(path: Path) -> None:
    clock, store, retention = FakeClock(), store_at(path), Retention(Limits())
    records = write(store, clock, alarms(STEP * 2 + 100))
    acknowledge(store, clock, records[-1])
    clock.elapsed += 31 * DAY_S
    assert retention.age(store, clock.now())
    assert store.first == STEP + 1
    assert retention.age(store, clock.now())
    assert retention.age(store, clock.now())
    # The statements themselves wait for the controller, so they stay.
    assert [from_data(event.data, Purpose.PRUNED, PUBLIC).first for event in held(path)] == [1, 1, 1]
    store.close()
    assert chain.verify(path, PUBLIC).problems == ()


def test_an_older_statement_goes_with_the_others_and_the_newest_explains_the_beginning(path: Path) -> None:
    clock, store, retention = FakeClock(), store_at(path), Retention(Limits())
    for _ in range(4):
        write(store, clock, alarms(10))
        newest = store.outbox.unsent(0, 100)[-1]
        acknowledge(store, clock, newest)
        clock.elapsed += 31 * DAY_S
        assert retention.age(store, clock.now())
    assert kinds(path) == [Kind.JOURNAL_PRUNED]
    store.close()
    assert chain.verify(path, PUBLIC).problems == ()


def test_removed_bytes_are_gone_from_the_file(path: Path) -> None:
    clock, store = FakeClock(), store_at(path)
    records = write(store, clock, [(Kind.ALARM_FORCED, {"lane": "gone-for-good"}), *alarms(3)])
    acknowledge(store, clock, records[-1])
    clock.elapsed += 31 * DAY_S
    Retention(Limits()).age(store, clock.now())
    store.close()
    assert not any(b"gone-for-good" in part.read_bytes() for part in path.parent.iterdir())


async def test_the_journal_removes_by_itself(path: Path) -> None:
    clock = FakeClock()
    async with journal_at(path, clock, limits=Limits(max_bytes=64 * MIB)) as journal:
        records = [await journal.append(Kind.ALARM_FORCED, {"lane": str(n)}) for n in range(5)]
        await journal.acknowledge(Ack(records[-1].epoch, 5, records[-1].hash))
        for wait in (UPKEEP_S, 31 * DAY_S):
            clock.elapsed += wait
            for _ in range(2):
                await journal.position()
        assert held(path)[0].seq == 6


async def test_a_clock_that_nobody_vouches_for_removes_nothing(path: Path) -> None:
    clock = FakeClock()
    async with journal_at(path, clock, stamp=lambda: {"clk": {"q": "unset"}}) as journal:
        record = await journal.append(Kind.ALARM_FORCED, {})
        await journal.acknowledge(Ack(record.epoch, 1, record.hash))
        for wait in (UPKEEP_S, 31 * DAY_S):
            clock.elapsed += wait
            for _ in range(2):
                await journal.position()
        assert held(path)[0].seq == 1


async def test_without_a_key_nothing_is_removed(path: Path) -> None:
    clock = FakeClock()
    async with journal_at(path, clock, sign=None) as journal:
        record = await journal.append(Kind.ALARM_FORCED, {})
        await journal.acknowledge(Ack(record.epoch, 1, record.hash))
        for wait in (UPKEEP_S, 31 * DAY_S):
            clock.elapsed += wait
            for _ in range(2):
                await journal.position()
        assert kinds(path) == [Kind.ALARM_FORCED]


# By size.


def test_at_the_size_bound_acknowledged_records_go_first(path: Path) -> None:
    clock, store, retention = FakeClock(), store_at(path), Retention(TIGHT)
    records = write(store, clock, health(10)) + fill(store, clock, TIGHT.roomy + MIB)
    acknowledge(store, clock, records[len(records) // 2])
    before = store.outbox.waiting()
    steps = 0
    while retention.used(store) > TIGHT.roomy and steps < 100:
        retention.look(store, clock.now())
        steps += 1
    assert retention.used(store) <= TIGHT.roomy
    assert not retention.full
    assert store.first > 1
    # What nobody has acknowledged still waits, with the statements.
    assert store.outbox.waiting() >= before
    assert held(path)[-1].data["why"] == "size"
    store.close()
    assert chain.verify(path, PUBLIC).problems == ()


def test_then_housekeeping_that_nobody_has_acknowledged_goes_and_only_its_hash_stays(path: Path) -> None:
    clock, store, retention = FakeClock(), store_at(path), Retention(TIGHT)
    kept = write(store, clock, [(Kind.ACCESS_GRANTED, grant("a1")), *alarms(3)])
    state = fill(store, clock, TIGHT.full + 1, kind="health")
    kept += write(store, clock, [(Kind.PASSAGE_COMPLETED, grant("a1"))])
    for _ in range(20):
        retention.look(store, clock.now())
    assert retention.used(store) <= TIGHT.roomy
    waiting = {record.seq for record in store.outbox.unsent(0, 100_000)}
    assert {record.seq for record in kept} <= waiting
    assert state[0].seq not in waiting
    store.close()
    gap = next(event for event in held(path) if event.kind is Kind.LOG_GAP)
    stated = from_data(gap.data, Purpose.GAP, PUBLIC)
    assert (stated.first, gap.data["why"]) == (state[0].seq, "size")
    assert stated.hash == next(record.hash for record in state if record.seq == stated.last)
    report = chain.verify(path, PUBLIC)
    assert report.problems == ()
    assert report.given_up >= STEP


def test_an_acknowledgement_of_a_record_that_was_given_up_is_taken(path: Path) -> None:
    clock, store, retention = FakeClock(), store_at(path), Retention(TIGHT)
    state = fill(store, clock, TIGHT.full + 1, kind="health")
    retention.look(store, clock.now())
    gap = store.outbox.unsent(0, 100_000)[-1]
    assert store.outbox.acknowledge(store.epoch, gap.seq, gap.hash)
    assert store.outbox.waiting() == 0
    assert store.outbox.requeue(store.epoch, state[0].seq, state[0].seq, 10) == 1
    assert store.outbox.unsent(0, 10)[0].seq == gap.seq
    store.close()


def test_a_run_that_frees_less_than_its_statement_costs_stays(path: Path) -> None:
    clock, store, retention = FakeClock(), store_at(path), Retention(TIGHT)
    write(store, clock, [*health(1, 10), *alarms(1), *health(1, 10), *alarms(1)])
    fill(store, clock, TIGHT.full + 1)
    for _ in range(100):
        retention.look(store, clock.now())
    assert all(event.data.get("why") != "size" for event in held(path))
    assert retention.full
    store.close()


async def test_decisions_are_never_given_up_and_a_full_journal_stays_within_its_size(path: Path) -> None:
    clock = FakeClock()
    store = store_at(path)
    decisions = 0
    while Retention(TIGHT).used(store) < TIGHT.full - 200_000:
        decisions += len(write(store, clock, [(Kind.ACCESS_DENIED, {"reason": "x" * 900})] * 200))
    store.close()
    async with journal_at(path, clock, limits=TIGHT) as journal:
        for _ in range(6000):
            journal.note(Kind.ACCESS_DENIED, {"reason": "x" * 900})
            if _ % 100 == 0:
                await journal.position()
        await journal.position()
        assert journal.full
        assert sum(part.stat().st_size for part in path.parent.iterdir() if part.suffix == ".db") <= TIGHT.max_bytes
    assert kinds(path).count(Kind.ACCESS_DENIED) >= decisions
    gap = [event.data for event in held(path) if event.kind is Kind.LOG_GAP][-1]
    written = kinds(path).count(Kind.ACCESS_DENIED) - decisions
    assert written + gap["refused"] == 6000
    assert chain.verify(path, PUBLIC).problems == ()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 900)), min_size=1, max_size=60), st.integers(1, 60))
def test_whatever_waits_in_whatever_order_only_housekeeping_is_given_up_and_every_hole_is_explained(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[bool, int]], acknowledged: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.db"
    clock = FakeClock()
    # Everything is too much.
    store, retention = store_at(path), Retention(Limits(max_bytes=MIB + 1))
    entries = [(health(1, size) if state else alarms(1, size))[0] for state, size in rows]
    records = write(store, clock, entries)
    if acknowledged <= len(records):
        acknowledge(store, clock, records[acknowledged - 1])
    for _ in range(10):
        retention.look(store, clock.now())
    waiting = {record.seq for record in store.outbox.unsent(0, 1000)}
    store.close()
    there = {event.seq for event in held(path)}
    for record, (kind, _) in zip(records, entries, strict=True):
        if kind not in HOUSEKEEPING and record.seq > acknowledged:
            assert record.seq in there
            assert record.seq in waiting
    assert waiting <= there
    assert chain.verify(path, PUBLIC).problems == ()


def test_the_cost_of_a_statement_is_known(path: Path) -> None:
    clock, store = FakeClock(), store_at(path, stamp=lambda: {"boot": "1234-" + "a" * 16, "mono": 10**12})
    store.begin()
    record = store.state(Purpose.GAP, 10**12, 2 * 10**12, "f" * 64, clock.now(), why="size")
    store.commit()
    store.close()
    assert len(record.raw) <= GAP_BYTES


def test_what_was_given_up_and_is_not_stated_is_found(path: Path) -> None:
    store = store_at(path)
    write(store, FakeClock(), health(5))
    store.close()
    change(path, ("UPDATE records SET raw = NULL WHERE seq BETWEEN 2 AND 3", ()))
    report = chain.verify(path, PUBLIC)
    assert [(each.what, each.first, each.last) for each in report.problems] == [(chain.What.UNEXPLAINED, 2, 3)]
