from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gate_agent import chain, store
from gate_agent.journal import AckMismatchError, AlreadyUsedError, Journal, Record, RecordUnavailableError
from gate_agent.store import Store
from protocol import events
from protocol.ack import Ack
from protocol.events import Event, Kind
from tests.gate_agent.fakes import FakeClock

GRANT = {"lane": "lane-1", "dir": "in"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@asynccontextmanager
async def journal_at(path: Path, clock: FakeClock | None = None, **more: Any) -> AsyncIterator[Journal]:
    journal = Journal(path, site="seoul-1", gate="gate-1", clock=clock or FakeClock(), random_bytes=os.urandom, **more)
    await journal.start()
    try:
        yield journal
    finally:
        await journal.stop()


def rows(path: Path) -> list[Event]:
    db = sqlite3.connect(path)
    try:
        return [events.parse(raw) for (raw,) in db.execute("SELECT raw FROM records ORDER BY seq")]
    finally:
        db.close()


def kinds(path: Path) -> list[Kind | str]:
    return [event.kind for event in rows(path)]


def grant(attempt: str) -> dict[str, str]:
    return {**GRANT, "attempt": attempt}


OPENINGS = pytest.mark.parametrize("kind", [Kind.ACCESS_GRANTED, Kind.COMMAND_ACCEPTED])
"""What a right to pass begins with: a grant, or an order to open once."""


async def test_a_record_is_in_the_file_when_append_returns(path: Path) -> None:
    async with journal_at(path) as journal:
        record = await journal.append(Kind.GATE_BOOT, {"boot": "b"})
        found = rows(path)
        assert [event.raw for event in found] == [record.raw]
        assert (record.seq, found[0].prevhash) == (1, events.GENESIS)


async def test_appends_that_arrive_together_are_gapless_and_chained(path: Path) -> None:
    async with journal_at(path) as journal:
        records = await asyncio.gather(*(journal.append(Kind.ALARM_FORCED, {"lane": str(n)}) for n in range(200)))
    assert sorted(record.seq for record in records) == list(range(1, 201))
    report = chain.verify(path)
    assert (report.problem, report.records, report.unacknowledged) == (None, 200, 200)


async def test_the_chain_goes_on_over_a_restart_in_the_same_epoch(path: Path) -> None:
    async with journal_at(path) as journal:
        first = await journal.append(Kind.GATE_BOOT, {})
    async with journal_at(path) as journal:
        second = await journal.append(Kind.GATE_BOOT, {})
    assert (second.epoch, second.seq) == (first.epoch, 2)
    assert events.parse(second.raw).prevhash == first.hash


async def test_a_new_file_has_a_new_epoch(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "a.db") as one, journal_at(tmp_path / "b.db") as other:
        assert (await one.position())[0] != (await other.position())[0]


async def test_a_commit_is_announced_on_the_loop_with_its_records(path: Path) -> None:
    announced: asyncio.Queue[Sequence[Record]] = asyncio.Queue()
    async with journal_at(path, on_commit=announced.put_nowait) as journal:
        journal.note(Kind.GATE_BOOT, {})
        records = await asyncio.wait_for(announced.get(), 5)
        assert records == await journal.unsent(0, 10)


# Marks: single use of QR passes.


async def test_a_mark_opens_once_and_a_refusal_writes_nothing(path: Path) -> None:
    clock = FakeClock()
    mark = (b"m" * 32, clock.now() + timedelta(seconds=20))
    async with journal_at(path, clock) as journal:
        await journal.append(Kind.ACCESS_GRANTED, grant("a1"), mark=mark)
        with pytest.raises(AlreadyUsedError):
            await journal.append(Kind.ACCESS_GRANTED, grant("a2"), mark=mark)
    assert [event.data["attempt"] for event in rows(path) if event.kind is Kind.ACCESS_GRANTED] == ["a1"]


async def test_of_two_lanes_with_the_same_mark_at_the_same_moment_one_wins(path: Path) -> None:
    clock = FakeClock()
    mark = (b"m" * 32, clock.now() + timedelta(seconds=20))
    async with journal_at(path, clock) as journal:
        results = await asyncio.gather(
            *(journal.append(Kind.ACCESS_GRANTED, grant(f"a{n}"), mark=mark) for n in range(8)), return_exceptions=True
        )
    assert sum(isinstance(result, Record) for result in results) == 1
    assert sum(isinstance(result, AlreadyUsedError) for result in results) == 7


async def test_a_mark_survives_a_restart(path: Path) -> None:
    clock = FakeClock()
    mark = (b"m" * 32, clock.now() + timedelta(seconds=20))
    async with journal_at(path, clock) as journal:
        await journal.append(Kind.ACCESS_GRANTED, grant("a1"), mark=mark)
    async with journal_at(path, clock) as journal:
        with pytest.raises(AlreadyUsedError):
            await journal.append(Kind.ACCESS_GRANTED, grant("a2"), mark=mark)


def test_a_pruned_mark_is_gone_from_every_file(path: Path) -> None:
    clock = FakeClock()
    mark = bytes(range(200, 232))
    one = Store(path, site="s", gate="g", random_bytes=os.urandom)
    one.begin()
    one.add(store.Entry(Kind.ACCESS_GRANTED, grant("a1"), clock.now(), (mark, clock.now() + timedelta(seconds=20))))
    one.commit()
    assert any(mark in part.read_bytes() for part in path.parent.iterdir())
    assert one.prune_marks(clock.now()) == 0
    clock.elapsed = 21
    assert one.prune_marks(clock.now()) == 1
    one.close()
    assert not any(mark in part.read_bytes() for part in path.parent.iterdir())


async def test_marks_are_forgotten_in_a_busy_journal_too(path: Path) -> None:
    clock = FakeClock()
    async with journal_at(path, clock) as journal:
        mark = (b"m" * 32, clock.now() + timedelta(seconds=20))
        await journal.append(Kind.ACCESS_GRANTED, grant("a1"), mark=mark)
        clock.elapsed = 31
        for _ in range(2):
            await journal.position()
        db = sqlite3.connect(path)
        left = db.execute("SELECT count(*) FROM pass_marks").fetchone()[0]
        db.close()
    assert left == 0


# Time-out: a caller that gives up must not find a grant.


class SlowStore(Store):
    """A disk that stops before or in a commit until the test lets it go on."""

    hold_before: threading.Event | None = None
    hold_after: threading.Event | None = None
    reached = threading.Event()
    adds = 0

    def add(self, entry: store.Entry) -> Record:
        record = super().add(entry)
        if type(self).hold_before is not None and entry.kind is Kind.ACCESS_GRANTED:
            type(self).reached.set()
            held, type(self).hold_before = type(self).hold_before, None
            assert held is not None
            held.wait(10)
        return record

    def commit(self) -> None:
        super().commit()
        if type(self).hold_after is not None:
            type(self).reached.set()
            held, type(self).hold_after = type(self).hold_after, None
            assert held is not None
            held.wait(10)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> type[SlowStore]:
    class Fresh(SlowStore):
        reached = threading.Event()

    monkeypatch.setattr("gate_agent.journal_writer.Store", Fresh)
    return Fresh


async def test_a_grant_given_up_before_the_commit_is_rolled_back(path: Path, slow: type[SlowStore]) -> None:
    clock = FakeClock()
    mark = (b"m" * 32, clock.now() + timedelta(seconds=20))
    async with journal_at(path, clock) as journal:
        release = slow.hold_before = threading.Event()
        with pytest.raises(RecordUnavailableError):
            await journal.append(Kind.ACCESS_GRANTED, grant("late"), mark=mark, timeout=0.01)
        release.set()
        # The pass was not used up: nothing opened.
        await journal.append(Kind.ACCESS_GRANTED, grant("again"), mark=mark)
    assert [event.data.get("attempt") for event in rows(path)] == ["again"]
    assert chain.verify(path).problem is None


async def test_others_in_the_same_commit_are_written_when_one_gives_up(path: Path, slow: type[SlowStore]) -> None:
    async with journal_at(path) as journal:
        release = slow.hold_before = threading.Event()
        late = asyncio.create_task(journal.append(Kind.ACCESS_GRANTED, grant("late"), timeout=0.05))
        other = asyncio.create_task(journal.append(Kind.ALARM_FORCED, {"lane": "lane-2"}))
        with pytest.raises(RecordUnavailableError):
            await late
        release.set()
        await other
    assert kinds(path) == [Kind.ALARM_FORCED]


@OPENINGS
async def test_an_opening_that_becomes_durable_after_its_caller_left_is_closed_as_not_taken(
    path: Path, slow: type[SlowStore], kind: Kind
) -> None:
    clock = FakeClock()
    mark = (b"m" * 32, clock.now() + timedelta(seconds=20))
    async with journal_at(path, clock) as journal:
        release = slow.hold_after = threading.Event()
        with pytest.raises(RecordUnavailableError):
            await journal.append(kind, grant("late"), mark=mark, timeout=0.01)
        release.set()
        await journal.append(Kind.ACCESS_GRANTED, grant("again"), mark=mark)
    found = rows(path)
    assert [(event.kind, event.data["attempt"]) for event in found] == [
        (kind, "late"),
        (Kind.PASSAGE_NOT_TAKEN, "late"),
        (Kind.ACCESS_GRANTED, "again"),
    ]
    assert found[1].data == {**grant("late"), "v": 2, "opened": False, "why": "late_record"}


async def test_a_cancelled_caller_counts_as_one_that_gave_up(path: Path, slow: type[SlowStore]) -> None:
    async with journal_at(path) as journal:
        release = slow.hold_before = threading.Event()
        late = asyncio.create_task(journal.append(Kind.ACCESS_GRANTED, grant("late")))
        await asyncio.to_thread(slow.reached.wait, 5)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        release.set()
        await journal.append(Kind.GATE_BOOT, {})
    assert kinds(path) == [Kind.GATE_BOOT]


# Restart.


@OPENINGS
async def test_an_opening_without_outcome_becomes_unknown_at_the_next_start(path: Path, kind: Kind) -> None:
    async with journal_at(path) as journal:
        await journal.append(kind, grant("walked"))
        await journal.append(Kind.PASSAGE_COMPLETED, grant("walked"))
        await journal.append(kind, grant("open"))
    async with journal_at(path):
        pass
    async with journal_at(path):
        pass
    assert [(event.kind, event.data["attempt"]) for event in rows(path)][3:] == [(Kind.PASSAGE_UNKNOWN, "open")]


async def test_an_accepted_order_that_opens_nothing_waits_for_no_outcome(path: Path) -> None:
    async with journal_at(path) as journal:
        await journal.append(Kind.COMMAND_ACCEPTED, {"lane": "lane-1", "verb": "lockdown"})
    async with journal_at(path) as journal:
        await journal.position()
    assert kinds(path) == [Kind.COMMAND_ACCEPTED]


def tear(path: Path, copy: Path) -> None:
    """What a power cut in the middle of the next commit leaves: complete frames, then half a frame."""
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    log = Path(f"{path}-wal").read_bytes()
    Path(f"{copy}-wal").write_bytes(log + log[-2000:-700])


async def test_a_torn_write_ahead_log_loses_nothing_that_was_acknowledged(path: Path, tmp_path: Path) -> None:
    async with journal_at(path) as journal:
        for number in range(20):
            await journal.append(Kind.ALARM_FORCED, {"lane": str(number)})
        copy = tmp_path / "torn" / "journal.db"
        tear(path, copy)
    async with journal_at(copy) as journal:
        record = await journal.append(Kind.GATE_BOOT, {})
    assert record.seq == 21
    assert chain.verify(copy).problem is None


@pytest.fixture
def damaged(path: Path) -> Path:
    path.write_bytes(b"not a database, but long enough to look like one" * 100)
    return path


async def test_a_damaged_file_is_set_aside_and_the_new_one_begins_with_a_gap(damaged: Path) -> None:
    path = damaged
    async with journal_at(path) as journal:
        await journal.append(Kind.GATE_BOOT, {})
    assert kinds(path) == [Kind.LOG_GAP, Kind.GATE_BOOT]
    assert rows(path)[0].data["why"] == "damaged: file is not a database"
    assert [each.name for each in path.parent.glob("*.damaged")]


async def test_an_edited_record_is_found_at_start(path: Path) -> None:
    async with journal_at(path) as journal:
        for number in range(3):
            await journal.append(Kind.ALARM_FORCED, {"lane": f"lane-{number}"})
        epoch = (await journal.position())[0]
    db = sqlite3.connect(path)
    db.execute("UPDATE records SET raw = CAST(replace(CAST(raw AS TEXT), 'lane-1', 'lane-9') AS BLOB) WHERE seq = 2")
    db.commit()
    db.close()
    assert chain.verify(path).problem is not None
    async with journal_at(path) as journal:
        assert (await journal.position())[0] != epoch


# Acknowledgement.


async def test_acknowledged_records_leave_the_outbox_and_stay_in_the_journal(path: Path) -> None:
    async with journal_at(path) as journal:
        records = [await journal.append(Kind.ALARM_FORCED, {"lane": str(n)}) for n in range(5)]
        third = records[2]
        assert await journal.acknowledge(Ack(third.epoch, third.seq, third.hash))
        assert [record.seq for record in await journal.unsent(0, 10)] == [4, 5]
        assert not await journal.acknowledge(Ack(third.epoch, third.seq, third.hash))
        assert await journal.waiting() == 2
    assert len(rows(path)) == 5


async def test_unsent_gives_the_exact_bytes_in_sequence(path: Path) -> None:
    async with journal_at(path) as journal:
        records = [await journal.append(Kind.ALARM_FORCED, {"lane": str(n)}) for n in range(5)]
        assert await journal.unsent(1, 2) == records[1:3]


async def test_an_acknowledgement_of_another_hash_is_an_alarm_and_forgets_nothing(path: Path) -> None:
    async with journal_at(path) as journal:
        record = await journal.append(Kind.GATE_BOOT, {})
        with pytest.raises(AckMismatchError):
            await journal.acknowledge(Ack(record.epoch, record.seq, "0" * 64))
        with pytest.raises(AckMismatchError):
            await journal.acknowledge(Ack(record.epoch, record.seq + 1, record.hash))
        assert await journal.waiting() == 1


async def test_an_old_acknowledgement_of_another_epoch_changes_nothing(path: Path) -> None:
    async with journal_at(path) as journal:
        record = await journal.append(Kind.GATE_BOOT, {})
        assert not await journal.acknowledge(Ack("ffffffffffffffff", record.seq, record.hash))
        assert await journal.waiting() == 1


# A disk that is full or read-only.


class FullStore(Store):
    """sqlite3's own error for a full disk, while `full`; `durable_anyway` is the commit that fails and yet happened."""

    full = False
    durable_anyway = False

    def add(self, entry: store.Entry) -> Record:
        if type(self).full:
            self._db.execute("PRAGMA max_page_count = 1")
            self._db.execute("CREATE TABLE more (x)")  # sqlite3.OperationalError: database or disk is full
        return super().add(entry)

    def commit(self) -> None:
        super().commit()
        if type(self).durable_anyway:
            type(self).durable_anyway = False
            raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> type[FullStore]:
    class Fresh(FullStore):
        pass

    monkeypatch.setattr("gate_agent.journal_writer.Store", Fresh)
    return Fresh


async def test_a_full_disk_refuses_and_recovers_with_a_gap_that_counts(path: Path, disk: type[FullStore]) -> None:
    async with journal_at(path) as journal:
        await journal.append(Kind.GATE_BOOT, {})
        disk.full = True
        with pytest.raises(RecordUnavailableError, match="full"):
            await journal.append(Kind.ACCESS_GRANTED, grant("a1"))
        writable = [journal.writable]
        journal.note(Kind.ACCESS_DENIED, {"reason": "record_unavailable"})
        journal.note(Kind.ALARM_FORCED, {"lane": "lane-1"})
        journal.note(Kind.PASSAGE_COMPLETED, grant("a0"))
        with pytest.raises(RecordUnavailableError):
            await journal.append(Kind.ACCESS_GRANTED, grant("a2"))
        disk.full = False
        await journal.append(Kind.ACCESS_GRANTED, grant("a3"))
        writable.append(journal.writable)
    assert writable == [False, True]
    assert kinds(path) == [Kind.GATE_BOOT, Kind.LOG_GAP, Kind.ACCESS_GRANTED]
    gap = rows(path)[1].data
    assert (gap["dropped"], gap["refused"]) == (2, 1)
    assert "full" in gap["why"]


@OPENINGS
async def test_a_commit_that_reported_failure_but_is_durable_does_not_stay_an_opening(
    path: Path, disk: type[FullStore], kind: Kind
) -> None:
    clock = FakeClock()
    mark = (b"m" * 32, clock.now() + timedelta(seconds=20))
    async with journal_at(path, clock) as journal:
        await journal.append(Kind.GATE_BOOT, {})
        disk.durable_anyway = True
        with pytest.raises(RecordUnavailableError):
            await journal.append(kind, grant("ghost"), mark=mark)
        await journal.append(Kind.ACCESS_GRANTED, grant("real"), mark=mark)
    assert [(event.kind, event.data.get("attempt")) for event in rows(path)] == [
        (Kind.GATE_BOOT, None),
        (kind, "ghost"),
        (Kind.PASSAGE_NOT_TAKEN, "ghost"),
        (Kind.ACCESS_GRANTED, "real"),
    ]


async def test_an_unusable_place_at_start_is_not_fatal(tmp_path: Path) -> None:
    folder = tmp_path / "absent"
    async with journal_at(folder / "journal.db") as journal:
        with pytest.raises(RecordUnavailableError):
            await journal.append(Kind.GATE_BOOT, {})
        folder.mkdir()
        assert (await journal.append(Kind.GATE_BOOT, {})).seq == 1


async def test_data_that_is_no_record_fails_for_its_caller_only(path: Path) -> None:
    async with journal_at(path) as journal:
        results = await asyncio.gather(
            journal.append(Kind.ALARM_FORCED, {"lane": "x" * 9000}),
            journal.append(Kind.ALARM_FORCED, {"lane": object()}),
            journal.append(Kind.ACCESS_GRANTED, {"lane": "no attempt"}),
            journal.append(Kind.GATE_BOOT, {}),
            return_exceptions=True,
        )
    assert [type(result) for result in results] == [events.EventError, TypeError, KeyError, Record]
    assert kinds(path) == [Kind.GATE_BOOT]


_WRITER = """
import asyncio, os, sys
from pathlib import Path
from gate_agent.journal import Journal
from protocol.clock import SystemClock
from protocol.events import Kind

async def main():
    journal = Journal(Path(sys.argv[1]), site="s", gate="g", clock=SystemClock(), random_bytes=os.urandom)
    await journal.start()
    async def one(worker):
        number = 0
        while True:
            number += 1
            attempt = f"{worker}-{number}"
            record = await journal.append(Kind.ACCESS_GRANTED, {"lane": "l", "dir": "in", "attempt": attempt})
            sys.stdout.write(f"{record.seq} {record.hash}\\n")
            sys.stdout.flush()
            journal.note(Kind.PASSAGE_COMPLETED, {"lane": "l", "dir": "in", "attempt": attempt})
    await asyncio.gather(*(one(worker) for worker in range(4)))

asyncio.run(main())
"""


def test_kill_9_loses_no_record_that_was_promised(path: Path) -> None:
    promised: dict[int, str] = {}
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        ) as writer:
            assert writer.stdout is not None
            for _ in range(60):
                line = writer.stdout.readline()
                seq, hash_ = line.split()
                promised[int(seq)] = hash_
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout.read().splitlines():
                if len(line.split()) == 2 and len(line.split()[1]) == 64:
                    promised[int(line.split()[0])] = line.split()[1]
        assert chain.verify(path).problem is None
    found = {event.seq: event.hash for event in rows(path)}
    assert sorted(found) == list(range(1, len(found) + 1))
    assert promised.items() <= found.items()


_LIMITED = """
import asyncio, os, resource, sys
from pathlib import Path
from gate_agent.journal import Journal, RecordUnavailableError
from protocol.clock import SystemClock
from protocol.events import Kind

async def main():
    journal = Journal(Path(sys.argv[1]), site="s", gate="g", clock=SystemClock(), random_bytes=os.urandom)
    await journal.start()
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    written = refused = 0
    for number in range(400):
        try:
            await journal.append(Kind.ALARM_FORCED, {"lane": "x" * 3000})
            written += 1
        except RecordUnavailableError:
            refused += 1
            journal.note(Kind.ALARM_FORCED, {"lane": "lost"})
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await journal.append(Kind.GATE_STOPPED, {})
    await journal.stop()
    print(written, refused)

asyncio.run(main())
"""


def test_a_file_system_that_takes_no_more_bytes_is_survived(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    written, refused = (int(word) for word in done.stdout.split())
    assert written
    assert refused
    assert chain.verify(path).problem is None
    found = rows(path)
    assert found[-1].kind is Kind.GATE_STOPPED
    # A short note may still fit where a long record did not: each is either written or counted, never both or neither.
    fitted = sum(event.data.get("lane") == "lost" for event in found)
    assert fitted + sum(event.data["dropped"] for event in found if event.kind is Kind.LOG_GAP) == refused
    assert json.loads(found[-1].raw)["prevhash"] == found[-2].hash


def test_verify_names_the_missing_record(path: Path, random_bytes: Callable[[int], bytes]) -> None:
    clock = FakeClock()
    one = Store(path, site="s", gate="g", random_bytes=random_bytes)
    one.begin()
    for _ in range(3):
        one.add(store.Entry(Kind.GATE_BOOT, {}, clock.now()))
    one.commit()
    one.close()
    db = sqlite3.connect(path)
    db.execute("DELETE FROM records WHERE seq = 2")
    db.commit()
    db.close()
    assert chain.verify(path).problem == "record 2: missing"


async def test_the_trusted_time_is_no_later_than_the_true_one_at_the_newest_trusted_record(path: Path) -> None:
    clock = FakeClock()
    async with journal_at(path, clock) as journal:
        assert await journal.trusted_time() is None
        await journal.append(Kind.ACCESS_GRANTED, {**grant("a"), "clk": {"q": "holdover", "err_ms": 60_000}})
        written = clock.now()
        clock.elapsed += 100
        await journal.append(Kind.ACCESS_GRANTED, {**grant("b"), "clk": {"q": "unset"}})
        assert await journal.trusted_time() == written - timedelta(minutes=1)
