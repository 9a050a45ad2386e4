"""Events page by page, and what no page may tell."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller import timelines
from controller.queries import Queries
from controller.query_rows import BadQueryError, Cursor, EventRow, TooOldError
from protocol.events import TIMED, Kind
from tests.controller.past import DAY, Past

SINCE, UNTIL = DAY, DAY + timedelta(days=2)
OFFICERS = (DAY + timedelta(hours=12), DAY + timedelta(hours=36))


def every(queries: Queries, limit: int = 100, **more: Any) -> list[EventRow]:
    """All pages."""
    rows: list[EventRow] = []
    after: Cursor | None = None
    for _ in range(1000):
        page = queries.timeline(SINCE, UNTIL, after=after, limit=limit, **more)
        rows += page.rows
        if page.next is None:
            return rows
        after = Cursor.parse(str(page.next))
    raise AssertionError("pages without end")


@pytest.mark.parametrize("kind", sorted(TIMED))
def test_a_record_of_when_somebody_walked_is_on_no_page(past: Past, kind: Kind) -> None:
    past.event(DAY + timedelta(hours=3), kind, dir="in", attempt="a")
    past.event(DAY + timedelta(hours=4), Kind.ACCESS_DENIED, reason="expired", attempt="b")
    for more in ({}, {"gate": "gate-1"}, {"gate": "gate-1", "lane": "l1"}, {"kinds": [kind]}):
        assert kind not in [row.kind for row in every(past.queries(), **more)]


def test_a_kind_that_this_program_does_not_know_is_shown_to_the_officer_alone(past: Past) -> None:
    past.event(DAY + timedelta(hours=20), "passage.levitated")
    assert every(past.queries()) == []
    assert [row.kind for row in past.queries().timed(*OFFICERS).rows] == ["passage.levitated"]


def test_nothing_on_a_page_counts_the_records_that_are_not_shown(past: Past) -> None:
    past.event(DAY, Kind.ACCESS_DENIED, reason="expired", attempt="a", dir="in", point="hall")
    for minute in range(3):
        past.event(DAY + timedelta(minutes=minute + 1), Kind.PASSAGE_COMPLETED, dir="in")
    numbers: dict[str, Any] = {"from": 1, "to": 4, "hash": "f" * 64, "sealed": "x", "epoch": "e0"}
    past.event(DAY + timedelta(hours=1), Kind.JOURNAL_PRUNED, more=numbers)
    past.event(DAY + timedelta(hours=2), Kind.LOG_GAP, more={**numbers, "why": "full", "granted": 3})
    page = past.queries().timeline(SINCE, UNTIL, limit=2)
    for row in page.rows:
        assert (row.id, row.attempt) == (None, None)
        assert not {"from", "to", "granted", "epoch", "hash", "boot", "mono", "attempt"} & row.detail.keys()
    assert page.next is not None
    told = base64.urlsafe_b64decode(str(page.next) + "==").decode()
    assert told == f"{page.rows[-1].time}/1"


def test_an_officer_sees_every_field(past: Past) -> None:
    past.event(DAY + timedelta(hours=20), Kind.PASSAGE_COMPLETED, dir="in", attempt="a7", mono=5)
    (row,) = past.queries().timed(*OFFICERS).rows
    assert (row.id, row.attempt, row.dir, row.detail["mono"]) == ("gate-1/e1/1", "a7", "in", 5)


def test_an_officer_is_given_a_day_at_most(past: Past) -> None:
    with pytest.raises(BadQueryError):
        past.queries().timed(DAY, DAY + timedelta(days=1, seconds=1))


def test_exact_times_are_not_given_once_their_days_are_over_even_while_they_are_still_there(past: Past) -> None:
    past.event(DAY + timedelta(hours=8), Kind.PASSAGE_COMPLETED, dir="in")
    past.event(DAY + timedelta(hours=10), Kind.PASSAGE_COMPLETED, dir="out")
    past.clock.at = DAY + timedelta(days=7, hours=9)
    rows = past.queries().timed(DAY + timedelta(hours=1), DAY + timedelta(hours=12)).rows
    assert [row.dir for row in rows] == ["out"]
    with pytest.raises(TooOldError):
        past.queries().timed(DAY, DAY + timedelta(hours=9))


def test_a_page_is_of_one_gate_one_lane_and_the_kinds_asked_for(past: Past) -> None:
    past.event(DAY + timedelta(hours=1), Kind.ALARM_HELD, gate="gate-1", lane="l1")
    past.event(DAY + timedelta(hours=2), Kind.ALARM_HELD, gate="gate-1", lane="l2")
    past.event(DAY + timedelta(hours=3), Kind.LANE_FAULT, gate="gate-1", lane="l1")
    past.event(DAY + timedelta(hours=4), Kind.ALARM_HELD, gate="gate-2", lane="l1")
    past.event(DAY + timedelta(hours=5), Kind.GATE_BOOT, gate="gate-2", lane=None)
    queries = past.queries()

    def hours(**more: Any) -> list[int]:
        return [int((datetime.fromisoformat(row.time) - DAY).total_seconds() // 3600) for row in every(queries, **more)]

    assert hours() == [5, 4, 3, 2, 1]
    assert hours(gate="gate-1") == [3, 2, 1]
    assert hours(gate="gate-1", lane="l1") == [3, 1]
    assert hours(kinds=[Kind.ALARM_HELD]) == [4, 2, 1]
    assert hours(gate="gate-1", lane="l1", kinds=[Kind.ALARM_HELD, Kind.LANE_FAULT]) == [3, 1]
    assert hours(kinds=["no.such.kind"]) == hours(gate="gate-9") == []


def test_a_range_has_its_beginning_and_not_its_end(past: Past) -> None:
    for hour in (1, 2, 3):
        past.event(DAY + timedelta(hours=hour))
    rows = past.queries().timeline(DAY + timedelta(hours=1), DAY + timedelta(hours=3)).rows
    assert [row.time for row in rows] == ["2026-11-23T17:00:00.000Z", "2026-11-23T16:00:00.000Z"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 6),
            st.sampled_from([Kind.ALARM_HELD, Kind.LANE_FAULT, Kind.ACCESS_DENIED, Kind.PASSAGE_COMPLETED]),
            st.sampled_from(["gate-1", "gate-2"]),
        ),
        max_size=40,
    ),
    st.integers(1, 7),
    st.sampled_from([None, "gate-1"]),
)
def test_pages_together_hold_each_event_once_in_order_also_of_one_millisecond(
    past: Past, made: list[tuple[int, Kind, str]], limit: int, gate: str | None
) -> None:
    past.db.execute("DELETE FROM events")
    for second, kind, of in made:
        past.event(DAY + timedelta(seconds=second), kind, gate=of)
    rows = every(past.queries(), limit, gate=gate)
    expected = sorted(
        (
            (-second, number, kind)
            for number, (second, kind, of) in enumerate(made)
            if kind not in TIMED and gate in (None, of)
        ),
    )
    assert [row.kind for row in rows] == [kind for _, _, kind in expected]
    assert [row.time for row in rows] == sorted((row.time for row in rows), reverse=True)


def test_an_event_that_comes_late_moves_no_row_of_a_page_that_was_given(past: Past) -> None:
    for second in range(4):
        past.event(DAY + timedelta(seconds=second), Kind.ALARM_HELD, what=str(second))
    queries = past.queries()
    first = queries.timeline(SINCE, UNTIL, limit=2)
    past.event(DAY + timedelta(seconds=3), Kind.ALARM_HELD, what="late")
    past.event(DAY + timedelta(seconds=2), Kind.ALARM_HELD, what="late")
    rest = queries.timeline(SINCE, UNTIL, limit=10, after=first.next)
    assert [row.detail["what"] for row in (*first.rows, *rest.rows)] == ["3", "2", "late", "1", "0"]


def test_paging_ends_where_a_gate_gives_one_time_to_everything(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timelines, "MAX_TIE", 10)
    for _ in range(30):
        past.event(DAY + timedelta(seconds=5))
    past.event(DAY)
    rows = every(past.queries(), limit=4)
    assert rows[-1].time == "2026-11-23T15:00:00.000Z"
    assert 10 <= len(rows) <= 14


@pytest.mark.parametrize("text", ["", "x", "=" * 10, "A" * 200, "MjAyNi0xMS0yNA", str(Cursor("2026", 1)), "é", "a\nb"])
def test_a_cursor_that_nobody_gave_is_refused(text: str) -> None:
    with pytest.raises(BadQueryError):
        Cursor.parse(text)


@pytest.mark.parametrize("limit", [0, -1, timelines.MAX_LIMIT + 1])
def test_a_limit_out_of_bounds_is_refused(past: Past, limit: int) -> None:
    with pytest.raises(BadQueryError):
        past.queries().timeline(SINCE, UNTIL, limit=limit)
    with pytest.raises(BadQueryError):
        past.queries().orders(limit=limit)
    with pytest.raises(BadQueryError):
        past.queries().alarms(limit=limit)


def test_a_range_that_ends_before_it_begins_or_has_no_time_zone_is_refused(past: Past) -> None:
    for since, until in ((UNTIL, SINCE), (SINCE, SINCE), (SINCE.replace(tzinfo=None), UNTIL.replace(tzinfo=None))):
        with pytest.raises(BadQueryError):
            past.queries().timeline(since, until)


@pytest.mark.parametrize("more", [{}, {"gate": "gate-1"}, {"gate": "gate-1", "lane": "l1"}])
def test_every_filter_is_found_in_an_index_without_a_scan_of_the_events(past: Past, more: dict[str, Any]) -> None:
    for kind in (Kind.ALARM_HELD, Kind.ACCESS_DENIED):
        past.event(DAY, kind)
    queries = past.queries()
    asked: list[str] = []
    queries._reader.connection.set_trace_callback(asked.append)
    queries.timeline(SINCE, UNTIL, **more)
    queries.timed(*OFFICERS, **more)
    plans = [
        str(row[3])
        for sql in asked
        if "FROM events" in sql and "WITH RECURSIVE" not in sql
        for row in past.db.execute(f"EXPLAIN QUERY PLAN {sql}")
    ]
    assert plans
    assert not [plan for plan in plans if plan.startswith("SCAN")]
    if "gate" in more:
        assert any("events_open" in plan for plan in plans)
