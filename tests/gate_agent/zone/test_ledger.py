"""Movements, counts, days and replay windows by themselves: however it arrives, it comes to the same."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate_agent.zone import ZoneSettings
from gate_agent.zone.counts import Counts
from gate_agent.zone.facts import Limits
from gate_agent.zone.ledger import Ledger
from gate_agent.zone.periods import begin_of, day_of, since_begin
from gate_agent.zone.replay import WIDTH, ReplayWindow
from protocol.zone import CountRow, Movement

SETTINGS = ZoneSettings("lobby")
ORIGINS = [bytes([each]) * 8 for each in range(3)]
TAGS = [bytes([each]) * 16 for each in (0, 7, 8, 255)]
movements = st.lists(
    st.builds(Movement, st.integers(1, 30), st.sampled_from(ORIGINS), st.booleans(), st.sampled_from(TAGS)), max_size=30
)
rows = st.lists(
    st.builds(CountRow, st.sampled_from(ORIGINS), st.integers(8, 12), st.integers(0, 5), st.integers(0, 5)), max_size=20
)


def known(ledger: Ledger) -> list[Movement]:
    return sorted(each for bucket in range(32) for found in ledger.movements(bucket) for each in found)


@given(movements, st.randoms(), st.integers(0, 10))
def test_any_order_in_any_pieces_with_repeats_gives_the_same_ledger(found, random, floor) -> None:  # type: ignore[no-untyped-def]  # hypothesis's Random
    one, other, third = (Ledger(SETTINGS, 1, ORIGINS[0]) for _ in range(3))
    one.join(found, 0.0)
    one.forgive(floor)
    shuffled = [*found, *found[::2]]
    random.shuffle(shuffled)
    other.forgive(floor)
    for each in shuffled:
        other.join([each], 0.0)
    third.join(known(other), 0.0)
    third.join(known(one), 0.0)
    third.forgive(floor)
    assert known(one) == known(other) == known(third)
    assert one.hashes == other.hashes == third.hashes


@given(movements)
def test_of_each_tag_only_the_newest_few_movements_are_kept(found: list[Movement]) -> None:
    ledger = Ledger(SETTINGS, 1, ORIGINS[0])
    ledger.join(found, 0.0)
    for tag in TAGS:
        mine = sorted({each for each in found if each.tag == tag})
        assert [each for each in known(ledger) if each.tag == tag] == mine[-Limits.KEEP :]


@given(rows, st.randoms())
def test_counts_come_to_the_same_in_any_order(found, random) -> None:  # type: ignore[no-untyped-def]  # hypothesis's Random
    one, other = Counts("lobby", b"me" * 4, 10), Counts("lobby", b"me" * 4, 10)
    for row in found:
        one.merge(row)
    shuffled = [*found, *found[::3]]
    random.shuffle(shuffled)
    for row in shuffled:
        other.merge(row)
    assert one.total == other.total >= 0
    assert sorted(map(repr, one.others())) == sorted(map(repr, other.others()))


def test_nobody_else_writes_our_own_row_and_rows_of_another_day_do_not_count() -> None:
    me = b"me" * 4
    counts = Counts("lobby", me, 10)
    counts.passed(inward=True)
    counts.merge(CountRow(me, 10, 99, 0))
    counts.merge(CountRow(ORIGINS[0], 9, 5, 0))
    counts.merge(CountRow(ORIGINS[1], 11, 7, 0))
    counts.merge(CountRow(ORIGINS[2], 12, 9, 0))
    assert counts.total == 1
    counts.roll(11)
    assert counts.total == 7, "a gate whose clock was ahead"
    assert counts.own == CountRow(me, 11, 0, 0)


def test_counts_of_too_many_gates_are_refused() -> None:
    counts = Counts("lobby", b"me" * 4, 10)
    accepted = [counts.merge(CountRow(each.to_bytes(8), 10, 1, 0)) for each in range(Limits.COUNT_ROWS)]
    assert accepted.count(False) == 1
    assert counts.merge(CountRow(bytes(8), 10, 2, 0)), "a known one is still counted"


@given(st.permutations(range(1, 60)), st.integers(1, 5))
def test_each_sequence_number_is_taken_once_in_any_order(order: list[int], epoch: int) -> None:
    window = ReplayWindow()
    assert all(window.accept(epoch, seq) for seq in order)
    assert not any(window.accept(epoch, seq) for seq in order)
    assert not window.accept(epoch, 0)
    assert not window.accept(epoch - 1, 100)
    assert window.accept(epoch + 1, 1)
    assert not window.accept(epoch, 61)


def test_what_is_older_than_the_window_is_not_taken() -> None:
    window = ReplayWindow()
    assert window.accept(1, 10 * WIDTH)
    assert window.accept(1, 9 * WIDTH + 1)
    assert not window.accept(1, 9 * WIDTH)
    assert window.accept(1, 2**64 - 1)
    assert not window.accept(1, 10 * WIDTH)


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (datetime(2026, 11, 23, 18, 59, 59, tzinfo=UTC), date(2026, 11, 23)),
        (datetime(2026, 11, 23, 19, 0, tzinfo=UTC), date(2026, 11, 24)),
        (datetime(2026, 11, 24, 14, 59, tzinfo=UTC), date(2026, 11, 24)),
        (datetime(2026, 11, 24, 18, 59, tzinfo=UTC), date(2026, 11, 24)),
    ],
)
def test_a_day_begins_at_its_local_hour(moment: datetime, day: date) -> None:
    seoul = ZoneInfo("Asia/Seoul")
    assert day_of(moment, time(4), seoul) == day.toordinal()
    assert begin_of(day.toordinal(), time(4), seoul) == datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(
        hours=5
    )
    assert timedelta(0) <= since_begin(moment, time(4), seoul) < timedelta(days=1)
