"""What a chaos run is made of: plan, proxy, clocks, planned hours, ledger, table."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from protocol.clock import SystemClock
from testbed.chaos import parts
from testbed.chaos.clocks import OffsetClock, PlannedClock, write_offset
from testbed.chaos.compare import Comparison, Difference, Promise, What
from testbed.chaos.days import PASSAGES_A_DAY, moments
from testbed.chaos.load import SEOUL, passage, planned, read_ledger
from testbed.chaos.parts import Terms
from testbed.chaos.plan import ROUND, Action, steps
from testbed.chaos.proxy import Mode, Pace, Proxy
from testbed.chaos.rig import ChaosError, until
from testbed.chaos.tally import Tally, table

GATES = ("gate-1", "gate-2")
WITHIN_S = 10


def test_a_seed_gives_the_same_plan_every_time_and_another_seed_another() -> None:
    first, again, other = (list(islice(steps(seed, GATES, longest=100), 100)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_every_round_has_every_action_and_nothing_lasts_longer_than_asked() -> None:
    plan = list(islice(steps(3, GATES, longest=50), 2 * len(ROUND)))
    for part in (plan[: len(ROUND)], plan[len(ROUND) :]):
        assert Counter(step.action for step in part) == Counter(ROUND)
    assert set(ROUND) == set(Action)
    assert all(1 <= step.records <= 50 for step in plan)


def test_an_action_that_is_left_out_never_happens() -> None:
    plan = islice(steps(3, GATES, longest=50, without={Action.RESTORE}), 100)
    assert Action.RESTORE not in {step.action for step in plan}


def test_planned_hours_have_their_number_of_passages_and_no_minute_is_too_full_for_a_lane() -> None:
    start = datetime(2026, 11, 24, tzinfo=SEOUL)
    found = list(moments(start, 72, Random(1)))
    assert abs(len(found) - 3 * PASSAGES_A_DAY) < 72
    assert found == sorted(found)
    assert start <= found[0]
    assert found[-1] < start + timedelta(hours=72)
    busiest = Counter(each.replace(minute=0, second=0, microsecond=0) for each in found).most_common(1)[0][1]
    assert busiest / 60 <= 20


def test_whoever_asks_for_planned_hours_gets_the_same_passages() -> None:
    start = datetime(2026, 11, 24, tzinfo=SEOUL)
    assert planned(start, 5) == planned(start, 5)
    assert planned(start, 5) != planned(start + timedelta(hours=24), 5)


def test_a_passage_begins_with_its_decision_and_a_grant_has_an_outcome() -> None:
    for seed in range(200):
        says = passage(Random(seed))
        assert says[0].waits
        assert len(says) == (3 if says[0].kind == "access.granted" else 1)
        assert len({say.data["attempt"] for say in says}) == 1


def test_a_clock_of_a_file_follows_the_file_and_its_monotonic_time_does_not(tmp_path: Path) -> None:
    path = tmp_path / "clock"
    write_offset(path, 0.0)
    clock, true = OffsetClock(path), SystemClock()
    for offset in (86_400.0, -3600.0, 0.0):
        write_offset(path, offset)
        assert abs((clock.now() - true.now()).total_seconds() - offset) < 60
    assert abs(clock.monotonic() - true.monotonic()) < 60


def test_a_planned_clock_never_goes_back() -> None:
    start = datetime(2026, 11, 24, tzinfo=SEOUL)
    clock = PlannedClock(start)
    clock.set(start + timedelta(hours=1))
    clock.set(start + timedelta(minutes=1))
    assert clock.now() == start + timedelta(hours=1)


def test_a_ledger_leaves_out_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    assert read_ledger(path).promises == []
    path.write_text("durable e1 1 aa\nrefused a9\npassed\ndurable e1 2 b")
    found = read_ledger(path)
    assert (found.promises, found.refused, found.passed) == ([Promise("e1", 1, "aa")], ["a9"], 1)


def test_a_part_passes_only_without_any_difference_and_the_table_says_which_there_is() -> None:
    good = Comparison(10, 10, 10, 2, 3)
    assert Tally("a", comparisons={"gate-1": good}).passed
    assert Tally("a", comparisons={"gate-1": good}).explained == 5
    for bad in (
        Tally("b", waiting=1),
        Tally("b", untold=1),
        Tally("b", failed="no broker"),
        *(Tally("b", comparisons={"gate-1": Comparison(1, 1, 1, 0, 0, (Difference(what, "e", 1),))}) for what in What),
    ):
        assert not bad.passed
    foreign = Comparison(1, 2, 1, 0, 0, (Difference(What.FOREIGN, "e", 2),))
    assert (Tally("b", comparisons={"g": foreign}).doubled, Tally("b", comparisons={"g": foreign}).unexplained) == (
        0,
        1,
    )
    lost = Tally("b", comparisons={"gate-1": Comparison(1, 0, 1, 0, 0, (Difference(What.LOST, "e", 7),))})
    text = "\n".join(table([lost, Tally("c", skipped="root가 아님 / not root")]))
    assert "gate-1 e 7: lost" in text
    assert "not root" in text


@pytest.mark.parametrize("part", ["full-disk", "read-only-disk", "slow-disk", "power-cuts", "cable"])
async def test_a_part_that_needs_root_is_skipped_without_it_and_says_why(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    tally = await parts.run(part, Terms(tmp_path / part, 1, 0.0))
    assert "root" in tally.skipped
    assert tally.passed
    assert not (tmp_path / part).exists()


async def test_what_fails_in_the_rig_itself_is_a_failed_part_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_terms: Terms) -> Tally:
        raise ChaosError("gate-1 has ended by itself, status -7")

    monkeypatch.setitem(parts.PARTS, "random", broken)
    tally = await parts.run("random", Terms(tmp_path, 1, 0.0))
    assert not tally.passed
    assert "status -7" in "\n".join(table([tally]))


class Line:
    """A proxy before a server that sends back what it gets."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._echo, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        self.proxy = Proxy(("127.0.0.1", port), Random(1), sleep=self._sleep)
        await self.proxy.start()

    async def stop(self) -> None:
        await self.proxy.stop()
        self.server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    @staticmethod
    async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(1024):
                writer.write(chunk)
        except OSError:
            return
        finally:
            writer.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
        self._writers.append(writer)
        return reader, writer


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    made = Line()
    await made.start()
    yield made
    await made.stop()


async def answer(reader: asyncio.StreamReader, length: int) -> bytes:
    async with asyncio.timeout(WITHIN_S):
        return await reader.readexactly(length)


async def ended(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(WITHIN_S):
        try:
            return await reader.read() == b""
        except OSError:
            return True


async def test_an_open_line_carries_bytes_both_ways(line: Line) -> None:
    reader, writer = await line.connect()
    writer.write(b"hello")
    assert await answer(reader, 5) == b"hello"
    assert line.pauses == []


async def test_a_slow_line_waits_by_delay_jitter_and_size_and_keeps_the_order(line: Line) -> None:
    line.proxy.pace = Pace(delay_s=2.0, jitter_s=1.0, bytes_per_s=10.0)
    reader, writer = await line.connect()
    for part in (b"0123456789", b"abcdefghij"):
        writer.write(part)
        assert await answer(reader, 10) == part
    assert len(line.pauses) == 4
    assert all(3.0 <= pause <= 4.0 for pause in line.pauses)


async def test_a_held_line_goes_on_with_every_byte_where_it_stopped(line: Line) -> None:
    reader, writer = await line.connect()
    line.proxy.worsen(Mode.HOLD)
    writer.write(b"held")
    waiting = asyncio.create_task(answer(reader, 4))
    late, _ = await line.connect()
    assert not waiting.done()
    line.proxy.mend()
    assert await waiting == b"held"
    assert not late.at_eof()


async def test_a_swallowing_line_looks_alive_and_is_cut_when_mended(line: Line) -> None:
    reader, writer = await line.connect()
    line.proxy.worsen(Mode.SWALLOW)
    writer.write(b"gone")
    await until(lambda: line.proxy.swallowed == 4, "swallowed", WITHIN_S)
    assert not reader.at_eof()
    line.proxy.mend()
    assert await ended(reader)
    again, writer = await line.connect()
    writer.write(b"back")
    assert await answer(again, 4) == b"back"


async def test_a_refusing_line_resets_old_and_new_connections(line: Line) -> None:
    reader, writer = await line.connect()
    writer.write(b"x")
    await answer(reader, 1)
    line.proxy.worsen(Mode.REFUSE)
    assert await ended(reader)
    fresh, _ = await line.connect()
    assert await ended(fresh)
    line.proxy.mend()
    again, writer = await line.connect()
    writer.write(b"y")
    assert await answer(again, 1) == b"y"


async def test_a_cut_line_takes_new_connections_at_once(line: Line) -> None:
    reader, writer = await line.connect()
    writer.write(b"x")
    await answer(reader, 1)
    line.proxy.cut()
    assert await ended(reader)
    again, writer = await line.connect()
    writer.write(b"y")
    assert await answer(again, 1) == b"y"
