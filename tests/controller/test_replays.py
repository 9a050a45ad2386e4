"""Which records are asked for again, and when. The time is a number here."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from controller import replays as replays_module
from controller.batch import Key, Standing
from controller.replays import AGAIN_BASE_S, AGAIN_CAP_S, AT_ONCE, TURN_S, WAIT_S, WIDER, Replays
from protocol.replay import Replay

KEY = ("gate-1", "e1")


@pytest.fixture
def replays() -> Replays:
    return Replays(Random(1))


def held(mark: int, ahead: int | None = None, stopped: bool = False, key: Key = KEY) -> dict[Key, Standing]:
    return {key: Standing(mark, ahead, stopped)}


def test_a_hole_that_stays_is_asked_for(replays: Replays) -> None:
    replays.note(held(2, ahead=6), {}, 100.0)
    assert replays.due(100.0 + WAIT_S - 0.1) == []
    assert replays.due(100.0 + WAIT_S) == [("gate-1", Replay("e1", 3, 5))]


def test_a_hole_that_is_filled_in_time_is_not(replays: Replays) -> None:
    replays.note(held(2, ahead=6), {}, 100.0)
    replays.note(held(9), {}, 100.0 + WAIT_S - 0.1)
    assert replays.due(1e6) == []


def test_only_what_is_still_missing_is_asked_for(replays: Replays) -> None:
    replays.note(held(2, ahead=9), {}, 100.0)
    replays.note(held(2, ahead=5), {}, 101.0)
    replays.note(held(3, ahead=5), {}, 102.0)
    assert replays.due(101.9 + WAIT_S) == []
    assert replays.due(102.0 + WAIT_S) == [("gate-1", Replay("e1", 4, 4))]


def test_a_request_is_repeated_with_growing_pauses(replays: Replays) -> None:
    replays.note(held(2, ahead=6), {}, 0.0)
    asked, now = [], 0.0
    while now < 3600:
        asked += [now for _ in replays.due(now)]
        now += 0.25
    pauses = [after - before for before, after in pairwise(asked)]
    assert all(AGAIN_BASE_S <= pause <= AGAIN_CAP_S + 0.25 for pause in pauses)
    assert max(pauses) > AGAIN_CAP_S / 2
    assert len(asked) < 3600 / AGAIN_BASE_S / 3


def test_an_answer_begins_the_pauses_anew_and_the_rest_is_asked_for(replays: Replays) -> None:
    replays.note(held(0, ahead=1000), {}, 0.0)
    for now in range(0, 600, 5):
        replays.due(float(now))
    replays.note(held(500, ahead=1000), {}, 600.0)
    assert replays.due(600.0 + WAIT_S) == [("gate-1", Replay("e1", 501, 999))]
    assert replays.due(600.0 + WAIT_S + 2 * AGAIN_BASE_S) == [("gate-1", Replay("e1", 501, 999))]


def test_a_stopped_chain_is_not_asked_for_anything(replays: Replays) -> None:
    replays.note(held(2, ahead=6, stopped=True), {"gate-1": ("e1", 9)}, 0.0)
    assert replays.due(1e6) == []


def test_a_quiet_gate_whose_state_tells_of_more_is_asked(replays: Replays) -> None:
    """The controller's database is an old backup; the gate has nothing new to say."""
    replays.note(held(4), {"gate-1": ("e1", 9)}, 0.0)
    assert replays.due(WAIT_S) == [("gate-1", Replay("e1", 5, 9))]


def test_what_is_held_beyond_the_hole_bounds_the_request_though_the_state_tells_of_more(replays: Replays) -> None:
    replays.note(held(4, ahead=7), {"gate-1": ("e1", 9)}, 0.0)
    assert replays.due(WAIT_S) == [("gate-1", Replay("e1", 5, 6))]


def test_a_state_that_tells_of_nothing_more_asks_nothing(replays: Replays) -> None:
    replays.note(held(9), {"gate-1": ("e1", 9)}, 0.0)
    assert replays.due(1e6) == []


def test_a_backlog_that_is_coming_is_not_asked_for(replays: Replays) -> None:
    replays.note(held(0), {"gate-1": ("e1", 900)}, 0.0)
    for step in range(1, 300):
        replays.note(held(step * 3), {}, step * WAIT_S * 0.9)
        assert replays.due(step * WAIT_S * 0.9) == []


def test_a_state_of_a_new_epoch_ends_what_the_old_one_told(replays: Replays) -> None:
    replays.note(held(4), {"gate-1": ("e1", 9)}, 0.0)
    replays.note(held(2, key=("gate-1", "e2")), {"gate-1": ("e2", 2)}, 1.0)
    assert replays.due(1e6) == []


def test_four_hundred_gates_are_asked_a_few_at_a_time_and_all_in_the_end(replays: Replays) -> None:
    keys = [(f"gate-{number}", "e1") for number in range(400)]
    for key in keys:
        replays.note(held(1, ahead=100, key=key), {}, 0.0)
    now = WAIT_S
    asked: set[str] = set()
    while len(asked) < len(keys):
        requests = replays.due(now)
        assert len(requests) <= AT_ONCE
        asked |= {gate for gate, _ in requests}
        for gate, _ in requests[::2]:  # every other one answers
            replays.note(held(120, key=(gate, "e1")), {}, now)
        now += 0.5
        assert now < 600


def test_gates_that_answer_slowly_do_not_keep_the_others_waiting_for_ever(
    replays: Replays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays_module, "AT_ONCE", 1)
    replays.note(held(0, ahead=1_000_000), {}, 0.0)
    assert [gate for gate, _ in replays.due(WAIT_S)] == ["gate-1"]
    other = ("gate-2", "e1")
    replays.note(held(0, ahead=5, key=other), {}, 4.0)
    now, mark, turns = 4.0, 0, []
    while now < 3 * TURN_S:
        mark += 1
        replays.note(held(mark, ahead=1_000_000), {}, now)
        turns += [gate for gate, _ in replays.due(now)]
        now += 1.0
    assert "gate-2" in turns


def test_scattered_holes_are_asked_for_in_ever_wider_ranges(replays: Replays) -> None:
    """A store restored from a backup that holds every hundredth of 30,000 lost records: each hole by itself would take hours."""
    mark, now, rounds = 0, 0.0, 0
    while mark < 30_000:
        replays.note(held(mark, ahead=(mark // 100 + 1) * 100), {}, now)
        asked = replays.due(now + WAIT_S)
        now += WAIT_S
        if asked:
            rounds += 1
            ((_, request),) = asked
            assert request.first == mark + 1
            mark = min(max(request.last // 100 * 100, request.last), 30_000)
    assert rounds < 10


def test_the_range_begins_narrow_again_with_the_next_loss(replays: Replays) -> None:
    replays.note(held(2, ahead=6), {}, 0.0)
    assert replays.due(WAIT_S) == [("gate-1", Replay("e1", 3, 5))]
    replays.note(held(8, ahead=10), {}, WAIT_S)
    assert replays.due(2 * WAIT_S) == [("gate-1", Replay("e1", 9, 9 + WIDER - 1))]
    replays.note(held(20), {}, 3 * WAIT_S)
    replays.note(held(20, ahead=23), {}, 4 * WAIT_S)
    assert replays.due(5 * WAIT_S) == [("gate-1", Replay("e1", 21, 22))]
