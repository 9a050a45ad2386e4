"""Counts of passages, times taken and refusals; and an attacker who subtracts everything from everything."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.counted import day_quarters
from controller.histogram import upper_ms
from controller.masking import rounded, shown
from controller.queries import Queries, warm
from controller.query_rows import BadQueryError, Percentiles, TooLongError
from controller.reader import QueryThread
from protocol.events import Kind
from tests.controller.past import DAY, SEOUL, K, Past

NEXT = DAY + timedelta(days=1)
QUARTER = timedelta(minutes=15)


def cells(queries: Queries, since: datetime = DAY, until: datetime = NEXT, **more: Any) -> list[tuple[str, str, int]]:
    return [(cell.begin, cell.lane, cell.n) for cell in queries.traffic(since, until, **({"step": "quarter"} | more))]


def test_a_quarter_below_k_is_left_out_as_an_empty_one_is(past: Past) -> None:
    past.day([5, 4, 0, 6])
    assert cells(past.queries(), gate="gate-1") == [
        ("2026-11-23T15:00:00.000Z", "l1", 5),
        ("2026-11-23T15:45:00.000Z", "l1", 6),
    ]


def test_the_building_is_the_sum_of_what_its_lanes_tell(past: Past) -> None:
    for lane, n in (("l1", 7), ("l2", 4), ("l3", 5)):
        past.count(DAY, n, lane=lane)
    past.count(DAY, 9, gate="gate-2")
    assert cells(past.queries()) == [("2026-11-23T15:00:00.000Z", "", 21)]


def test_a_day_is_its_quarters_and_what_was_left_out_in_steps_of_k(past: Past) -> None:
    past.gate("gate-1")
    past.day([5, 4, 4, 4, 6])  # 12 left out: 10 are told
    past.day([3, 1], lane="l2")
    queries = past.queries()
    assert cells(queries, gate="gate-1", step="day") == [("2026-11-24", "l1", 21)]
    assert cells(queries, step="day") == [("2026-11-24", "", 21)]


def test_a_quarter_and_a_day_are_told_once_they_are_over(past: Past) -> None:
    past.count(DAY, 9)
    queries = past.queries()
    past.clock.at = DAY + QUARTER - timedelta(seconds=1)
    assert cells(queries, gate="gate-1") == cells(queries) == []
    past.clock.at = DAY + QUARTER
    assert len(cells(queries, gate="gate-1")) == len(cells(queries)) == 1
    past.clock.at = NEXT - timedelta(seconds=1)
    assert cells(queries, gate="gate-1", step="day") == cells(queries, step="day") == []
    past.clock.at = NEXT
    assert len(cells(queries, gate="gate-1", step="day")) == len(cells(queries, step="day")) == 1


def test_only_whole_quarters_and_days_of_a_range_are_told(past: Past) -> None:
    past.day([9, 9, 9])
    queries = past.queries()
    second = timedelta(seconds=1)
    assert len(cells(queries, DAY + second, DAY + 3 * QUARTER - second, gate="gate-1")) == 1
    assert cells(queries, DAY + second, NEXT, gate="gate-1", step="day") == []
    assert cells(queries, DAY, NEXT - second, step="day") == []


def test_what_is_not_rolled_up_yet_counts_all_the_same_and_once(past: Past) -> None:
    past.count(DAY, 4)
    past.count(DAY, 6, gate="gate-2")
    first = past.event(DAY, Kind.PASSAGE_COMPLETED, dir="in")
    past.roll(first - 1)
    past.event(DAY, Kind.PASSAGE_COMPLETED, dir="in", gate="gate-2")
    assert [n for _, _, n in cells(past.queries(), gate="gate-1")] == [5]
    assert [n for _, _, n in cells(past.queries())] == [5 + 7]
    past.roll(first)
    assert [n for _, _, n in cells(past.queries(), gate="gate-1")] == []
    assert [n for _, _, n in cells(past.queries())] == [7]


def test_a_late_record_is_counted_in_its_own_quarter_and_day(past: Past) -> None:
    past.day([5, 5])
    queries = past.queries()
    before = cells(queries, step="day")
    past.count(DAY + QUARTER, 3)
    assert [n for _, _, n in cells(queries, gate="gate-1")] == [5, 8]
    assert [n for _, _, n in cells(queries)] == [5, 8]
    assert [(n, after) for (_, _, n), (_, _, after) in zip(before, cells(queries, step="day"), strict=True)] == [
        (10, 13)
    ]


def test_directions_are_told_apart(past: Past) -> None:
    past.count(DAY, 5)
    past.count(DAY, 6, dir="out")
    found = past.queries().traffic(DAY, NEXT, step="quarter")
    assert [(cell.dir, cell.n) for cell in found] == [("in", 5), ("out", 6)]


def test_passages_that_some_gate_gives_a_carrier_are_cells_of_their_lane_all_the_same(past: Past) -> None:
    past.count(DAY, 3)
    past.count(DAY, 3, carrier="qr")
    queries = past.queries()
    assert [n for _, _, n in cells(queries)] == [n for _, _, n in cells(queries, gate="gate-1")] == [6]
    assert [n for _, _, n in cells(queries, step="day")] == [6]


@pytest.mark.parametrize(
    ("step", "gate", "days"),
    [("quarter", None, 8), ("quarter", "gate-1", 32), ("day", None, 63), ("day", "gate-1", 94)],
)
def test_a_range_too_long_is_refused(past: Past, step: str, gate: str | None, days: int) -> None:
    with pytest.raises(BadQueryError):
        cells(past.queries(), DAY - timedelta(days=days), DAY, step=step, gate=gate)


def test_a_day_on_which_the_clock_is_changed_has_more_or_fewer_quarters() -> None:
    berlin, days = ZoneInfo("Europe/Berlin"), (date(2026, 3, 29), date(2026, 6, 1), date(2026, 10, 25))
    assert [len(day_quarters(day, berlin)) for day in days] == [92, 96, 100]


# What an attacker is told


def told(past: Past) -> list[object]:
    """Everything that anybody but the officer can ask of passages: rows, columns, totals, overlapping ranges, files."""
    queries = past.queries()
    answers: list[object] = []
    starts = [DAY, DAY + QUARTER, DAY + 3 * QUARTER, DAY - timedelta(days=1), NEXT]
    for since, until in product(starts, [*starts, NEXT + timedelta(days=1), DAY + 7 * QUARTER]):
        if since < until:
            for step in ("quarter", "day"):
                answers.append(queries.traffic(since, until, step=step))
                for gate in ("gate-1", "gate-2"):
                    answers.append(queries.traffic(since, until, gate=gate, step=step))
                    answers.append(queries.traffic(since, until, gate=gate, lane="l1", step=step))
                report = queries.report(since, until, step=step)
                answers += [report.csv(), report.json()]
            if until - since <= timedelta(days=1):
                answers.append(queries.latency(since, until))
            answers.append(queries.latency(since, until, gate="gate-1", carrier="nfc"))
    return answers


Places = st.tuples(st.sampled_from(["gate-1", "gate-2"]), st.sampled_from(["l1", "l2"]), st.sampled_from(["in", "out"]))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(Places, st.lists(st.integers(0, 9), min_size=8, max_size=8), min_size=1, max_size=4),
    st.integers(0, 7),
    st.integers(0, K - 1),
    st.data(),
)
def test_no_subtraction_tells_an_attacker_what_a_quarter_left_out_holds(
    tmp_path_factory: pytest.TempPathFactory,
    grid: dict[tuple[str, str, str], list[int]],
    number: int,
    value: int,
    data: st.DataObject,
) -> None:
    """For the building as it was and any value below k, there is another one that answers the same to every question."""
    place = data.draw(st.sampled_from(sorted(grid)))
    if shown(grid[place][number], K):
        return
    assert _told_of(tmp_path_factory.mktemp("a"), grid) == _told_of(
        tmp_path_factory.mktemp("b"), grid | {place: _witness(grid[place], number, value)}
    )


def _witness(quarters: list[int], number: int, value: int) -> list[int]:
    """Another day of one lane that looks the same, with `value` in one of the quarters that are left out."""
    day = quarters + [0] * (96 - len(quarters))
    hidden = [each for each in range(96) if not shown(day[each], K)]
    left = rounded(sum(day[each] for each in hidden), len(hidden), K) - value
    for each in hidden:
        day[each] = value if each == number else max(0, min(K - 1, left))
        left -= day[each] if each != number else 0
    return day


def _told_of(directory: Path, grid: dict[tuple[str, str, str], list[int]]) -> list[object]:
    past = Past(directory / "controller.db")
    try:
        past.clock.at = NEXT + timedelta(days=1)
        past.gate("gate-1")
        past.gate("gate-2")
        for (gate, lane, direction), quarters in grid.items():
            past.day(quarters, gate=gate, lane=lane, dir=direction)
            for number, n in enumerate(quarters):
                if n and gate == "gate-1" and direction == "in":
                    past.took(DAY + number * QUARTER, 30 + n, n, lane=lane)
        return told(past)
    finally:
        past.close()


# Times taken


def test_percentiles_are_those_of_all_decisions_counted(past: Past) -> None:
    past.count(DAY, 100)
    past.took(DAY, 10, 90)
    past.took(DAY, 40, 8)
    past.took(DAY, 60, 2)
    expected = Percentiles(upper_ms(10), upper_ms(40), upper_ms(60), 100)
    assert past.queries().latency(DAY, NEXT) == past.queries().latency(DAY, NEXT, gate="gate-1", lane="l1") == expected


@pytest.mark.parametrize("others", range(K))
def test_times_taken_do_not_tell_whether_somebody_walked_the_other_way(past: Past, others: int) -> None:
    past.count(DAY - timedelta(days=1), 9, dir="out")
    past.count(DAY, 10)
    past.took(DAY, 10, 10)
    if others:
        past.count(DAY, others, dir="out")
    queries = past.queries()
    for more in ({}, {"gate": "gate-1"}, {"gate": "gate-1", "lane": "l1"}):
        assert queries.latency(DAY, NEXT, **more) == Percentiles(None, None, None, 0)


def test_times_taken_count_only_where_passages_are_told_and_carriers_have_k(past: Past) -> None:
    nothing = Percentiles(None, None, None, 0)
    past.count(DAY, 4)
    past.took(DAY, 10, 50)
    assert past.queries().latency(DAY, NEXT) == past.queries().latency(DAY, NEXT, gate="gate-1") == nothing
    past.count(DAY, 1)
    past.took(DAY, 80, 4, carrier="piv")
    assert past.queries().latency(DAY, NEXT).n == past.queries().latency(DAY, NEXT, gate="gate-1").n == 50
    assert past.queries().latency(DAY, NEXT, gate="gate-1", carrier="piv") == nothing
    assert past.queries().latency(DAY, NEXT, carrier="piv") == nothing


def test_times_taken_are_remembered_until_more_records_come(past: Past) -> None:
    past.count(DAY, 9)
    past.took(DAY, 10, 9)
    queries = past.queries()
    assert queries.latency(DAY, NEXT).n == queries.latency(DAY, NEXT).n == 9
    past.count(DAY, 3)
    past.took(DAY, 10, 3)
    assert queries.latency(DAY, NEXT).n == 12


# Refusals


def test_refusals_by_reason_the_most_frequent_first_with_those_not_rolled_up(past: Past) -> None:
    past.count(DAY, 3, Kind.ACCESS_DENIED, reason="expired")
    past.count(DAY, 2, Kind.ACCESS_DENIED, reason="schedule", gate="gate-2")
    past.count(DAY, 9)
    past.event(DAY, Kind.ACCESS_DENIED, reason="schedule", dir="in", count=7, gate="gate-2")
    past.event(DAY, Kind.ACCESS_DENIED, reason="schedule", dir="in")
    past.event(DAY, Kind.ACCESS_DENIED, reason="revoked", dir="in")
    past.event(NEXT, Kind.ACCESS_DENIED, reason="revoked", dir="in")
    found = past.queries().refusals(DAY, NEXT)
    assert [(each.reason, each.n) for each in found] == [("schedule", 4), ("expired", 3), ("revoked", 1)]
    found = past.queries().refusals(DAY, NEXT, gate="gate-1")
    assert [(each.reason, each.n) for each in found] == [("expired", 3), ("schedule", 1), ("revoked", 1)]


def test_beyond_the_rollups_only_so_many_events_are_looked_at(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.counted.MAX_LIVE", 2)
    for _ in range(5):
        past.event(DAY, Kind.ACCESS_DENIED, reason="expired")
    assert [each.n for each in past.queries().refusals(DAY, NEXT)] == [2]


def test_a_report_shows_what_is_left_out_as_fewer_than_k_for_every_lane_that_is_told_of(past: Past) -> None:
    past.gate("gate-1")
    past.day([5, 4])
    past.day([1, 1], lane="l2")
    report = past.queries().report(DAY, DAY + 2 * QUARTER, step="quarter")
    assert report.csv() == (
        "\ufeff시작 begin,게이트 gate,통로 lane,방향 direction,통과 passages\r\n"
        "2026-11-24 00:00,gate-1,l1,in,5\r\n"
        "2026-11-24 00:15,gate-1,l1,in,<5\r\n"
    )
    assert report.json() == {
        "step": "quarter",
        "k": 5,
        "time_zone": SEOUL.key,
        "rows": [
            {"begin": "2026-11-23T15:00:00.000Z", "gate": "gate-1", "lane": "l1", "dir": "in", "passages": 5},
            {"begin": "2026-11-23T15:15:00.000Z", "gate": "gate-1", "lane": "l1", "dir": "in", "passages": None},
        ],
        "totals": [{"gate": "gate-1", "lane": "l1", "dir": "in", "at_least": 5}],
    }


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_name_in_a_report_is_no_formula(past: Past, name: str) -> None:
    past.gate("gate-1")
    past.count(DAY, 9, dir=name)
    line = past.queries().report(DAY, DAY + QUARTER, step="quarter").csv().split("\r\n", 1)[1]
    assert line.startswith("2026-11-24 00:00,gate-1,l1,")
    assert line.split(",", 3)[3].lstrip('"').startswith("'")


def test_a_report_too_large_is_refused(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    past.gate("gate-1")
    past.day([9, 9, 9])
    monkeypatch.setattr("controller.counted.MAX_CELLS", 2)
    with pytest.raises(BadQueryError):
        past.queries().report(DAY, NEXT, step="quarter")


async def test_what_was_read_ahead_answers_the_same(past: Past) -> None:
    past.gate("gate-1")
    past.day([5, 4, 4, 4, 6])
    past.took(DAY, 10, 9)
    ahead, plain, thread = past.queries(), past.queries(), QueryThread()
    await warm(thread, ahead, 3)
    asked: list[str] = []
    ahead._reader.connection.set_trace_callback(asked.append)
    for queries in (ahead, plain):
        assert cells(queries, step="day") == [("2026-11-24", "", 21)]
        assert queries.latency(DAY, NEXT).n == 9
    assert not [sql for sql in asked if "FROM latencies" in sql or "CASE WHEN" in sql]
    thread.shutdown()


async def test_reading_ahead_gives_up_a_day_that_takes_too_long_and_no_other(past: Past) -> None:
    class Failing(Queries):
        days: ClassVar[list[int]] = []

        def warm(self, back: int) -> None:
            self.days.append(back)
            raise TooLongError("", "")

    queries, thread = Failing(past.path, SEOUL, k=K), QueryThread()
    await warm(thread, queries, 3)
    assert queries.days == [0, 1, 2, 3]
    thread.shutdown()
    queries.close()
