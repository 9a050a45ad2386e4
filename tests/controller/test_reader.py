"""The read side: it cannot write, sees one moment, ends in bounded time, and is asked by a bounded number."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from threading import Event

import pytest

from controller.query_rows import BusyError, TooLongError
from controller.reader import QueryThread, Reader
from tests.controller.past import DAY, Past, Pinned

COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000000) SELECT count(*) FROM n"
WITHIN_S = 10


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO rolled VALUES (2, 0)", "DELETE FROM events", "CREATE TABLE x (y)", "PRAGMA user_version = 7"],
)
def test_it_cannot_write(past: Past, statement: str) -> None:
    reader = past.queries()._reader
    with pytest.raises(sqlite3.OperationalError), reader.moment():
        reader.rows(statement)
    assert past.db.execute("SELECT count(*) FROM rolled").fetchone() == (1,)


def test_it_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        Reader(tmp_path / "none.db", Pinned())
    assert list(tmp_path.iterdir()) == []


def test_a_path_with_odd_characters_is_opened(tmp_path: Path) -> None:
    past = Past(tmp_path / "a?b#c %20.db")
    assert past.queries().gates() == []
    past.close()


def test_all_that_one_question_reads_is_of_one_moment(past: Past) -> None:
    reader = past.queries()._reader
    with reader.moment():
        before = reader.rows("SELECT count(*) FROM events")
        past.event(DAY)
        assert reader.rows("SELECT count(*) FROM events") == before == [(0,)]
    with reader.moment():
        assert reader.rows("SELECT count(*) FROM events") == [(1,)]


def test_no_question_keeps_the_write_ahead_log_from_being_emptied(past: Past) -> None:
    queries = past.queries()
    past.event(DAY)
    queries.timeline(DAY, past.clock.at)
    with pytest.raises(sqlite3.OperationalError), queries._reader.moment():
        queries._reader.rows("SELECT no_such_column")
    busy, *_ = past.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    assert past.path.with_name(f"{past.path.name}-wal").stat().st_size == 0


def test_an_answer_that_takes_too_long_is_given_up_and_the_next_is_given(past: Past) -> None:
    class Running(Pinned):
        """Every look at the clock costs a second."""

        def monotonic(self) -> float:
            self.ticks += 1
            return self.ticks

    reader = Reader(past.path, Running(), longest_s=3)
    with pytest.raises(TooLongError), reader.moment():
        reader.rows(COUNT)
    with reader.moment():
        assert reader.rows("SELECT 1") == [(1,)]
    reader.close()


async def test_more_questions_than_may_wait_are_refused_and_room_comes_again() -> None:
    thread, go = QueryThread(most=2), Event()
    waiting = [asyncio.create_task(thread.call(lambda: go.wait(WITHIN_S))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await thread.call(lambda: True)
    go.set()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await thread.call(lambda: 7) == 7
    thread.shutdown()


async def test_a_question_whose_asker_has_gone_makes_room(past: Past) -> None:
    thread, go, begun = QueryThread(most=2), Event(), Event()

    def held() -> bool:
        begun.set()
        return go.wait(WITHIN_S)

    running = asyncio.create_task(thread.call(held))
    assert await asyncio.to_thread(begun.wait, WITHIN_S)
    gone = asyncio.create_task(thread.call(lambda: True))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert not go.is_set()
    again = asyncio.create_task(thread.call(lambda: 3))
    await asyncio.sleep(0)
    go.set()
    assert (await running, await again) == (True, 3)
    thread.shutdown()


async def test_what_a_question_raises_reaches_its_asker() -> None:
    thread = QueryThread()

    def wrong() -> None:
        raise sqlite3.DatabaseError("malformed")

    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        await thread.call(wrong)
    assert await thread.call(lambda: 1) == 1
    thread.shutdown()
