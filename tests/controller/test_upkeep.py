"""The store counts, removes and erases by itself, between the commits of ingest."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from controller import rollups, upkeep
from controller.alarm_kinds import RETENTION
from controller.batch import Committed
from controller.erasure import ErasureError
from controller.ingest import StoreThread
from controller.store import Store
from controller.upkeep import EVERY_S, Upkeep
from protocol.events import Kind

Commit = Callable[..., Committed]
START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)


class Hand:
    def __init__(self) -> None:
        self.wall, self.seconds = START, 0.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def go(self, by: timedelta) -> None:
        self.wall += by
        self.seconds += by.total_seconds()


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
async def thread() -> AsyncIterator[StoreThread]:
    found = StoreThread()
    yield found
    found.shutdown()


class Told:
    def __init__(self) -> None:
        self.holds: list[tuple[str, bool]] = []

    async def trouble(self, kind: str, _detail: str, *, holds: bool) -> None:
        self.holds.append((kind, holds))


def make(store: Store, thread: StoreThread, clock: Hand, sleep: Any = None, troubles: Told | None = None) -> Upkeep:
    async def at_once(_seconds: float) -> None:
        await asyncio.sleep(0)

    return Upkeep(store, thread, clock=clock, random=Random(1), troubles=troubles or Told(), sleep=sleep or at_once)


async def test_counts_all_in_steps_and_removes_every_hour(
    store: Store, thread: StoreThread, journal: Any, commit: Commit, clock: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "ROWS", 4)
    monkeypatch.setattr(rollups.Rollups.step, "__defaults__", (4,))
    one = make(store, thread, clock)
    commit(store, *journal.write(11))
    await one.once()
    assert store.rollups.arrival == 11
    for _ in range(8 * 24):
        clock.go(timedelta(seconds=EVERY_S))
        commit(store, *journal.write(1, kind=Kind.ALARM_FORCED), now=clock.wall)
        await one.once()
    assert {stored.event.kind for stored in store.events(0, 1000)} == {Kind.ALARM_FORCED}
    assert [row[0] for row in store._connection.execute("SELECT sum(n) FROM days")] == [11 + 8 * 24]


async def test_nothing_is_removed_between_the_hours(
    store: Store, thread: StoreThread, journal: Any, commit: Commit, clock: Hand
) -> None:
    one = make(store, thread, clock)
    await one.once()
    commit(store, *(record.replace(b"2026-11-24T", b"2026-11-01T") for record in journal.write(1)))
    clock.go(timedelta(seconds=EVERY_S - 1))
    await one.once()
    assert len(store.events(0, 10)) == 1
    clock.go(timedelta(seconds=1))
    await one.once()
    assert store.events(0, 10) == []


async def test_a_clock_that_jumps_removes_nothing_and_is_told_once(
    store: Store,
    thread: StoreThread,
    journal: Any,
    commit: Commit,
    clock: Hand,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = make(store, thread, clock)
    commit(store, *journal.write(3))
    await one.once()
    clock.wall += 3650 * DAY
    for _ in range(3):
        clock.go(timedelta(seconds=EVERY_S))
        await one.once()
    assert len(store.events(0, 10)) == 3
    assert [record.levelno for record in caplog.records if "clock jumped" in record.message] == [logging.ERROR]


async def test_the_believed_time_outlives_a_restart(
    store: Store, thread: StoreThread, journal: Any, commit: Commit, clock: Hand
) -> None:
    """Else a clock that is wrong at the start would be believed."""
    commit(store, *journal.write(3))
    await make(store, thread, clock).once()
    assert store.kept_time() == START
    clock.wall += 3650 * DAY
    await make(store, thread, clock).once()
    assert len(store.events(0, 10)) == 3


async def test_a_database_that_does_not_know_the_time_goes_by_its_newest_records(
    store: Store, thread: StoreThread, journal: Any, commit: Commit, clock: Hand
) -> None:
    commit(store, *journal.write(3))
    assert store.kept_time() == START + timedelta(seconds=2)
    clock.wall += 3650 * DAY
    await make(store, thread, clock).once()
    assert len(store.events(0, 10)) == 3


async def test_erasing_waits_for_a_reader_and_is_tried_again(
    store: Store, thread: StoreThread, journal: Any, commit: Commit, clock: Hand, tmp_path: Path
) -> None:
    pauses: list[float] = []
    commit(store, *journal.write(50))
    clock.go(8 * DAY)
    store.keep_time(clock.wall)
    with closing(sqlite3.connect(f"file:{tmp_path}/controller.db?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()
        stop = asyncio.Event()

        async def sleep(seconds: float) -> None:
            """The reader leaves after the second attempt in vain."""
            pauses.append(seconds)
            if reader.in_transaction:
                if sum(pause >= 0.1 for pause in pauses) == 2:
                    reader.execute("COMMIT")
            elif upkeep.TICK_S in pauses:
                stop.set()
            await asyncio.sleep(0)

        task = asyncio.create_task(make(store, thread, clock, sleep).run())
        async with asyncio.timeout(10):
            await stop.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert store.events(0, 100) == []
    assert (tmp_path / "controller.db-wal").stat().st_size == 0
    assert b"gate-1-e1-7" not in (tmp_path / "controller.db").read_bytes()


async def test_a_store_that_cannot_write_is_tried_again(
    store: Store, thread: StoreThread, journal: Any, commit: Commit, clock: Hand
) -> None:
    commit(store, *journal.write(5))
    store._connection.execute(
        "CREATE TEMP TRIGGER full BEFORE UPDATE ON rolled BEGIN SELECT raise(ABORT, 'disk full'); END"
    )
    counted = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        if store.rollups.arrival == 5:
            counted.set()
        store._connection.execute("DROP TRIGGER IF EXISTS full")
        await asyncio.sleep(0)

    task = asyncio.create_task(make(store, thread, clock, sleep).run())
    async with asyncio.timeout(10):
        await counted.wait()
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_upkeep_that_goes_on_failing_is_an_alarm_until_it_works(
    store: Store, thread: StoreThread, clock: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, sleeps = Told(), 0

    class EnoughError(Exception):
        pass

    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    async def sleep(_seconds: float) -> None:
        nonlocal sleeps
        sleeps += 1
        if sleeps == upkeep.FAILURES:
            assert told.holds[-1] == (RETENTION, True)
            monkeypatch.undo()
        elif sleeps > upkeep.FAILURES and told.holds[-1] == (RETENTION, False):
            raise EnoughError

    monkeypatch.setattr(store.rollups, "step", fails)
    with pytest.raises(EnoughError):
        await make(store, thread, clock, sleep, told).run()


async def test_erasing_goes_on_where_a_reader_was_in_the_way(
    store: Store, thread: StoreThread, clock: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def part(first: int) -> int | None:
        seen.append(first)
        if len(seen) == 3:
            raise ErasureError("a reader is in the way")
        return None if first == 401 else first + 100

    one = make(store, thread, clock)
    monkeypatch.setattr(store.erasure, "part", part)
    with pytest.raises(ErasureError):
        await one.once()
    await one.once()
    assert seen == [1, 101, 201, 201, 301, 401]
