from __future__ import annotations

import os
from pathlib import Path

import pytest

from gate_agent import chain, journal_writer
from gate_agent.journal_writer import CHECKPOINT_RECORDS, CHECKPOINT_S, UPKEEP_S
from protocol.events import Kind
from protocol.statement import Purpose, from_data
from tests.gate_agent.fakes import FakeClock
from tests.gate_agent.journals import GATE, PUBLIC, SITE, alarms, held, journal_at, kinds, store_at, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def test_the_gate_vouches_for_the_record_before_with_its_own_key(path: Path) -> None:
    async with journal_at(path) as journal:
        last = [await journal.append(kind, data) for kind, data in alarms(3)][-1]
    found = held(path)[-1]
    assert found.kind is Kind.JOURNAL_CHECKPOINT
    stated = from_data(found.data, Purpose.CHECKPOINT, PUBLIC)
    assert (stated.site, stated.gate, stated.epoch) == (SITE, GATE, last.epoch)
    assert (stated.first, stated.last, stated.hash) == (1, last.seq, last.hash)
    assert found.prevhash == last.hash


async def test_a_checkpoint_follows_every_256_records_in_the_same_commit(path: Path) -> None:
    commits: list[list[int]] = []
    async with journal_at(path, on_commit=lambda added: commits.append([each.seq for each in added])) as journal:
        for kind, data in alarms(CHECKPOINT_RECORDS):
            await journal.append(kind, data)
        assert commits[-1] == [CHECKPOINT_RECORDS, CHECKPOINT_RECORDS + 1]
        assert kinds(path).count(Kind.JOURNAL_CHECKPOINT) == 1


async def test_a_checkpoint_is_made_after_a_minute_with_something_new_and_none_after_a_minute_without(
    path: Path,
) -> None:
    clock = FakeClock()
    async with journal_at(path, clock) as journal:
        await journal.append(Kind.ALARM_FORCED, {"lane": "a"})
        clock.elapsed = CHECKPOINT_S + UPKEEP_S
        # The thread looks before it waits, so the second call finds the look done.
        for _ in range(2):
            await journal.position()
        assert kinds(path) == [Kind.ALARM_FORCED, Kind.JOURNAL_CHECKPOINT]
        for minutes in range(2, 6):
            clock.elapsed = minutes * (CHECKPOINT_S + UPKEEP_S)
            for _ in range(2):
                await journal.position()
        assert kinds(path) == [Kind.ALARM_FORCED, Kind.JOURNAL_CHECKPOINT]
    assert kinds(path) == [Kind.ALARM_FORCED, Kind.JOURNAL_CHECKPOINT]


async def test_the_last_record_of_a_clean_stop_is_vouched_for_before_the_journal_closes(path: Path) -> None:
    async with journal_at(path) as journal:
        journal.note(Kind.GATE_STOPPED, {"why": "asked"})
        assert [events.seq for events in await journal.unsent(0, 10)] == [1, 2]
    assert kinds(path) == [Kind.GATE_STOPPED, Kind.JOURNAL_CHECKPOINT]


async def test_what_was_left_unvouched_by_a_crash_is_vouched_for_by_the_next_run(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(journal_writer.Writer, "_end", lambda self: self._close())
        async with journal_at(path) as journal:
            await journal.append(Kind.ALARM_FORCED, {})
    assert kinds(path) == [Kind.ALARM_FORCED]
    async with journal_at(path):
        pass
    assert kinds(path) == [Kind.ALARM_FORCED, Kind.JOURNAL_CHECKPOINT]


def test_a_rolled_back_transaction_takes_its_checkpoint_with_it(path: Path) -> None:
    clock, store = FakeClock(), store_at(path)
    write(store, clock, alarms(2))
    store.begin()
    store.checkpoint(clock.now())
    store.rollback()
    assert (store.seq, store.unvouched, store.take_added()[-1].seq) == (2, 2, 2)
    store.begin()
    store.checkpoint(clock.now())
    store.commit()
    store.close()
    report = chain.verify(path, PUBLIC)
    assert (report.problems, report.checkpoint) == ((), 2)


# What every record has.


async def test_every_record_has_the_stamp_under_its_own_fields(path: Path) -> None:
    async with journal_at(path, stamp=lambda: {"boot": "3-ab", "clk": {"q": "unset"}}) as journal:
        await journal.append(Kind.ALARM_FORCED, {"lane": "a", "clk": {"q": "synced", "err_ms": 1}})
        journal.note(Kind.ALARM_FORCED, {"lane": "b"})
    found = held(path)
    assert all((event.data["v"], event.data["boot"]) == (2, "3-ab") for event in found)
    assert [event.data["clk"]["q"] for event in found] == ["synced", "unset", "unset"]
    assert found[-1].kind is Kind.JOURNAL_CHECKPOINT


async def test_starts_are_counted_over_restarts(path: Path) -> None:
    for expected in (1, 2, 3):
        async with journal_at(path) as journal:
            assert await journal.count_boot() == expected


async def test_starts_are_0_where_nothing_can_be_written(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "absent" / "journal.db") as journal:
        assert await journal.count_boot() == 0


async def test_a_journal_without_a_key_vouches_for_nothing(path: Path) -> None:
    async with journal_at(path, sign=None, random_bytes=os.urandom) as journal:
        await journal.append(Kind.ALARM_FORCED, {})
    assert kinds(path) == [Kind.ALARM_FORCED]
