"""The state machine by itself: states, places and times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controller import alarms
from controller.alarm_rows import ACKNOWLEDGED, CLEARED, CLOSED, RAISED, AlarmRow
from controller.alarms import MAX_GAP_S, Mark, believed_s, goes_on, level_due, newest

FORCED, FIRE, LOITER = "alarm.forced", "fire.asserted", "alarm.loiter"
T1, T2 = "2026-11-24T09:00:00.000Z", "2026-11-24T09:01:00.000Z"


def row(kind: str = FORCED) -> AlarmRow:
    return alarms.begin(1, ("gate-1", "l1", kind, ""), "e1", 5, 1, T1, T1)


def test_an_alarm_is_closed_once_it_is_cleared_and_acknowledged_in_either_order() -> None:
    assert row().state == RAISED
    first = alarms.acknowledge(row(), T1, "Kim", "guard")
    assert first.state == ACKNOWLEDGED
    assert alarms.clear(first, T2).state == CLOSED
    second = alarms.clear(row(), T1)
    assert second.state == CLEARED
    done = alarms.acknowledge(second, T2, "Kim", "guard")
    assert (done.state, done.closed, done.cleared, done.acknowledged) == (CLOSED, T2, T1, T2)


def test_an_alarm_that_nobody_has_to_look_at_is_closed_when_it_is_over() -> None:
    assert alarms.clear(row(LOITER), T2).state == CLOSED


def test_an_operator_who_clears_has_looked() -> None:
    done = alarms.clear(row(), T2, "Kim", "guard")
    assert (done.state, done.operator, done.role, done.cleared_by) == (CLOSED, "Kim", "guard", "Kim")


def test_an_alarm_that_begins_again_before_anybody_looked_is_the_same_one() -> None:
    again = alarms.reopen(alarms.repeat(alarms.clear(row(), T1), 1, T2), T2)
    assert (again.state, again.count, again.raised, again.last) == (RAISED, 2, T1, T2)


def test_the_names_of_operators_are_in_no_public_body() -> None:
    assert "Kim" not in str(alarms.clear(row(), T2, "Kim", "guard").public())


@pytest.mark.parametrize(
    ("mark", "expected"), [(Mark(3, 0), True), (Mark(3, 4), False), (Mark(4, 3), True), (Mark(0, 3), False)]
)
def test_the_later_of_raise_and_end_counts(mark: Mark, expected: bool) -> None:
    assert goes_on(FORCED, ["e1"], {"e1": mark}, {}) is expected


def test_a_start_of_the_gate_ends_what_it_would_raise_again_and_no_fire() -> None:
    boots = {"e1": Mark(7)}
    assert not goes_on(FORCED, ["e1"], {"e1": Mark(6)}, boots)
    assert goes_on(FORCED, ["e1"], {"e1": Mark(8)}, boots)
    assert goes_on(FIRE, ["e1"], {"e1": Mark(6)}, boots)


def test_a_later_epoch_outranks_every_number_of_an_earlier_one() -> None:
    assert not goes_on(FORCED, ["e1", "e2"], {"e1": Mark(900)}, {})
    assert goes_on(FORCED, ["e1", "e2"], {"e1": Mark(1, 900), "e2": Mark(2, 1)}, {})
    assert goes_on(FIRE, ["e1", "e2"], {"e1": Mark(900)}, {})
    assert not goes_on(FIRE, ["e1", "e2"], {"e1": Mark(900), "e2": Mark(0, 1)}, {})


def test_the_newest_place_is_that_of_the_newest_epoch() -> None:
    assert newest(["e1", "e2", "e3"], {"e1": Mark(900), "e2": Mark(2), "e3": Mark(0, 5)}) == (1, 2)
    assert newest(["e1"], {}) == (-1, 0)


@pytest.mark.parametrize(("waited", "level"), [(0, 0), (119.9, 0), (120, 1), (359, 1), (360, 2), (1e9, 2)])
def test_an_alarm_is_escalated_after_its_time_and_after_three_times_as_long(waited: float, level: int) -> None:
    assert level_due(waited, 120) == level


def test_a_time_of_nought_never_escalates() -> None:
    assert level_due(1e9, 0) == 0


@pytest.mark.parametrize(
    ("seconds", "believed"), [(0, 0), (60, 60), (MAX_GAP_S, MAX_GAP_S), (MAX_GAP_S + 1, 0), (-1, 0), (1e9, 0)]
)
def test_a_gap_that_a_clock_may_have_made_is_not_waiting(seconds: float, believed: float) -> None:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    assert believed_s(at, at + timedelta(seconds=seconds)) == believed
