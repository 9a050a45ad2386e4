"""What time it is for retention, when a clock here or at a gate is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controller.site_time import EARLY, LATE, SiteTime

START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
HOUR, DAY, YEAR = timedelta(hours=1), timedelta(days=1), timedelta(days=365)


class Hand:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.wall, self.seconds = START, 1000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def go(self, by: timedelta) -> None:
        self.wall += by
        self.seconds += by.total_seconds()

    def jump(self, by: timedelta) -> None:
        self.wall += by


@pytest.fixture
def clock() -> Hand:
    return Hand()


def test_goes_with_the_clock(clock: Hand) -> None:
    time = SiteTime(clock, None)
    clock.go(40 * DAY)
    assert time.now() == START + 40 * DAY
    clock.jump(3 * HOUR)
    assert time.now() == START + 40 * DAY + 3 * HOUR
    assert not time.doubted


def test_a_clock_that_jumps_ahead_moves_nothing_while_gates_say_otherwise(clock: Hand) -> None:
    time = SiteTime(clock, START)
    clock.jump(YEAR)
    for _ in range(100):
        clock.go(HOUR)
        time.hear({"gate-1": time.now()})
    assert time.now() == START + 100 * HOUR
    assert time.doubted
    clock.jump(-YEAR)
    assert time.now() == clock.wall
    assert not time.doubted


def test_a_jump_waits_a_day_where_no_gate_is_heard(clock: Hand) -> None:
    time = SiteTime(clock, START)
    clock.jump(YEAR)
    assert time.now() == START
    clock.go(23 * HOUR)
    assert time.now() == START + 23 * HOUR
    clock.go(HOUR)
    assert time.now() == START + YEAR + DAY
    assert not time.doubted


def test_after_days_without_power_the_first_gates_confirm_the_clock(clock: Hand) -> None:
    time = SiteTime(clock, START - 10 * DAY)
    assert time.now() == START - 10 * DAY
    time.hear({"gate-1": START - 10 * DAY + HOUR, "gate-2": START})  # one still sends what waited
    assert time.doubted
    assert time.now() == START - 10 * DAY
    time.hear({"gate-1": START})
    assert time.now() == START
    assert not time.doubted


def test_one_gate_with_a_wrong_clock_outvotes_nobody(clock: Hand) -> None:
    time = SiteTime(clock, START)
    clock.jump(YEAR)
    time.hear({"gate-1": START + YEAR, "gate-2": START, "gate-3": START})
    assert time.now() == START


def test_a_gate_that_was_heard_long_ago_is_no_witness(clock: Hand) -> None:
    time = SiteTime(clock, START)
    time.hear({"gate-1": START})
    clock.go(2 * DAY)
    time.now()
    clock.jump(YEAR)
    time.now()
    clock.go(DAY)
    assert time.now() == clock.wall


def test_a_clock_that_was_never_set_turns_nothing_back(clock: Hand) -> None:
    time = SiteTime(clock, START)
    clock.wall = datetime(2000, 1, 1, tzinfo=UTC)
    time.hear({"gate-1": START})
    assert time.now() == START


def test_what_was_believed_wrongly_is_taken_back_when_the_gates_agree_with_the_clock(clock: Hand) -> None:
    time = SiteTime(clock, START + YEAR)
    time.hear({"gate-1": START})
    assert time.now() == START


def test_a_record_may_be_late_and_hardly_early(clock: Hand) -> None:
    window = SiteTime(clock, START).window()
    assert (window.earliest, window.latest, window.instead) == (START - LATE, START + EARLY, START)


def test_while_the_clock_is_doubted_a_record_may_name_its_time_too(clock: Hand) -> None:
    """After a long stop the first records of today come before anybody has confirmed the clock."""
    window = SiteTime(clock, START - 10 * DAY).window()
    assert window.earliest <= START - 10 * DAY
    assert window.latest >= START
    assert window.instead == START
