"""What moves when somebody walks is told at quarter hours, and never of fewer than k."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from controller.coarse import MAX_VALUES, Durations, K, People, Quarters

NINE = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def test_a_quarter_turns_once_at_its_end() -> None:
    quarters = Quarters(NINE)
    minutes = [0, 1, 14.99, 15, 15.01, 29, 31, 90]
    assert [quarters.turned(NINE + timedelta(minutes=each)) for each in minutes] == [
        *(False, False, False, True),
        *(False, False, True, True),
    ]


def test_a_clock_that_is_set_back_a_little_ends_no_quarter_twice() -> None:
    quarters = Quarters(NINE)
    assert quarters.turned(NINE + timedelta(minutes=15))
    assert not quarters.turned(NINE + timedelta(minutes=14, seconds=59))
    assert not quarters.turned(NINE + timedelta(minutes=15, seconds=1))


def test_a_clock_that_is_set_back_for_long_goes_on_from_there() -> None:
    quarters = Quarters(NINE + timedelta(days=365))
    assert not quarters.turned(NINE)
    assert quarters.turned(NINE + timedelta(minutes=15))


@given(st.lists(st.integers(0, 12), max_size=12))
def test_a_counter_of_people_grows_by_k_or_more_and_loses_nobody(quarters: list[int]) -> None:
    people, true, before = People(), 0, 0
    for n in quarters:
        for _ in range(n):
            people.add()
            assert people.shown == before
        true += n
        people.turn()
        grown = people.shown - before
        assert grown == 0 or grown >= K
        assert 0 <= true - people.shown < K
        before = people.shown


@given(st.lists(st.floats(0, 100), max_size=30))
def test_quantiles_are_of_the_quarter_that_ended_and_of_k_or_more(values: list[float]) -> None:
    durations = Durations[str]((0.5, 0.95, 1))
    for value in values:
        durations.add("ble", value)
        assert list(durations.items()) == []
    durations.turn()
    found = {quantile: value for _, quantile, value in durations.items()}
    if len(values) < K:
        assert found == {}
    else:
        assert found[1] == max(values)
        assert sum(each <= found[0.5] for each in values) >= len(values) / 2
        assert sum(each < found[0.5] for each in values) <= len(values) / 2
    durations.turn()
    assert list(durations.items()) == []


def test_what_is_kept_of_a_quarter_is_bounded() -> None:
    durations = Durations[str]((0.5, 1))
    for n in range(MAX_VALUES * 2):
        durations.add("", n)
    durations.turn()
    assert list(durations.items()) == [("", 0.5, MAX_VALUES * 1.5 - 1), ("", 1, MAX_VALUES * 2 - 1)]
