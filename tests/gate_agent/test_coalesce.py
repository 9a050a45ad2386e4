from __future__ import annotations

from collections.abc import Hashable

from gate_agent.coalesce import MAX_KEYS, WINDOW_S, Coalescer


class Reports:
    def __init__(self) -> None:
        self.all: list[tuple[Hashable, int]] = []

    def __call__(self, key: Hashable, count: int) -> None:
        self.all.append((key, count))


def test_the_first_is_recorded_at_once_and_the_rest_as_one_count_per_window() -> None:
    reports = Reports()
    coalescer = Coalescer(1, reports)
    assert [coalescer.seen("unreadable", 100 + n / 100) for n in range(300)] == [True] + [False] * 299
    coalescer.tick(100 + WINDOW_S - 0.01)
    assert reports.all == []
    coalescer.tick(100 + WINDOW_S)
    assert reports.all == [("unreadable", 299)]


def test_the_next_window_begins_with_the_next_occurrence() -> None:
    reports = Reports()
    coalescer = Coalescer(1, reports)
    assert coalescer.seen("x", 0)
    assert coalescer.seen("x", WINDOW_S)
    assert not coalescer.seen("x", WINDOW_S + 1)
    coalescer.tick(2 * WINDOW_S)
    assert reports.all == [("x", 1)]


def test_a_quiet_window_reports_nothing() -> None:
    reports = Reports()
    coalescer = Coalescer(1, reports)
    coalescer.seen("x", 0)
    coalescer.tick(WINDOW_S)
    coalescer.flush()
    assert reports.all == []


def test_each_key_has_a_quota_of_its_own() -> None:
    coalescer = Coalescer(2, Reports())
    assert [coalescer.seen("flood", 0) for _ in range(5)] == [True, True, False, False, False]
    assert coalescer.seen("genuine", 0)


def test_the_end_of_a_window_with_a_count_is_known_before_it_comes() -> None:
    coalescer = Coalescer(1, Reports())
    coalescer.seen("x", 5)
    assert coalescer.next_close is None
    coalescer.seen("x", 6)
    assert coalescer.next_close == 5 + WINDOW_S


def test_flush_reports_what_is_still_counted() -> None:
    reports = Reports()
    coalescer = Coalescer(1, reports)
    coalescer.seen("x", 0)
    coalescer.seen("x", 0)
    coalescer.flush()
    assert reports.all == [("x", 1)]
    assert coalescer.next_close is None


def test_memory_is_bounded_whatever_the_keys() -> None:
    coalescer = Coalescer(1, Reports())
    assert sum(coalescer.seen(n, 0) for n in range(10 * MAX_KEYS)) == MAX_KEYS
