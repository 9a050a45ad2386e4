"""Of a quarter of an hour that is left out nothing can be told: shown exhaustively for small days, by witness for whole ones."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.masking import at_least, rounded, shown


@pytest.mark.parametrize(("k", "hidden"), [(2, 6), (3, 5), (4, 4), (5, 4)])
def test_whatever_a_day_tells_each_quarter_left_out_may_still_hold_anything_below_k(k: int, hidden: int) -> None:
    for quarters in range(1, hidden + 1):
        days: dict[int, list[tuple[int, ...]]] = {}
        for cells in product(range(k), repeat=quarters):
            days.setdefault(at_least(cells, quarters, k), []).append(cells)
        for told, possible in days.items():
            for number in range(quarters):
                assert {cells[number] for cells in possible} == set(range(k)), (told, number)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=96), st.integers(2, 12))
def test_a_day_is_a_lower_bound_and_close_where_people_come(cells: list[int], k: int) -> None:
    told, true = at_least(cells, 96, k), sum(cells)
    assert told <= true
    left_out = 96 - sum(n >= k for n in cells)
    if sum(n for n in cells if n < k) <= (left_out - 1) * (k - 1):
        assert true - told < k
    # What a day says beyond its quarters comes in steps of k.
    assert (told - sum(n for n in cells if shown(n, k))) % k == 0


@given(st.lists(st.integers(0, 40), min_size=96, max_size=96), st.integers(2, 12), st.data())
def test_for_any_quarter_and_any_number_below_k_there_is_another_day_that_looks_the_same(
    cells: list[int], k: int, data: st.DataObject
) -> None:
    hidden = [number for number, n in enumerate(cells) if not shown(n, k)]
    if not hidden:
        return
    one, value = data.draw(st.sampled_from(hidden)), data.draw(st.integers(0, k - 1))
    assert _look(_witness(cells, hidden, one, value, k), k) == _look(cells, k)


def _look(cells: list[int], k: int) -> tuple[list[int | None], int]:
    """All that an attacker is told of a day of one lane."""
    return [n if shown(n, k) else None for n in cells], at_least(cells, len(cells), k)


def _witness(cells: list[int], hidden: list[int], one: int, value: int, k: int) -> list[int]:
    """The day with `value` at `one`, and the others that are left out filled up to what the day tells."""
    other = list(cells)
    for number in hidden:
        other[number] = 0
    other[one] = value
    left = rounded(sum(cells[number] for number in hidden), len(hidden), k) - value
    for number in hidden:
        if number != one and left > 0:
            other[number] = min(left, k - 1)
            left -= other[number]
    return other


def test_a_single_quarter_left_out_adds_nothing_to_its_day() -> None:
    assert at_least([7] * 95 + [4], 96, 5) == 7 * 95
