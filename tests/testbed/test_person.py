"""What the sensors of each lane type see of each kind of person, and what the real passage machine makes of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.ports import Direction, LaneSignal
from gate_agent.passage import LaneType, Settings, State
from testbed.lane_play import Act, Ask, Change, Through, play
from testbed.person import AWAY_M, Actor, Kind, Part, cast, union
from testbed.person import Path as Way
from testbed.simulation import Timeline, simulate
from testbed.turnstile import STEP_S, Turnstile

A, M, B = LaneSignal.BEAM_A, LaneSignal.BEAM_M, LaneSignal.BEAM_B
LOW, C = LaneSignal.BEAM_LOW, LaneSignal.CONTACT
NARROW = Settings()
WIDE = Settings(wait_for_start_s=10, passage_s=60, tail_gap_s=0.4, settle_s=1.5)
"""Defaults of gate.toml (docs/configuration.md)."""
SEEDS = (None, *range(12))


def run(lane: Settings, kind: Kind, *, grant: bool, seed: int | None = None, way: Direction = Direction.IN) -> Timeline:
    actors = cast(kind, 1.0, way, None if seed is None else Random(seed))
    return simulate(lane, actors, direction=way, grant_at=1.0 if grant else None)


# What each kind of person is to each type of lane: with a grant for one, and without any.

PASSED, NOT_TAKEN, NOTHING = ("completed",), ("not_taken",), ()
FORCED = ("forced", "alarms_cleared")
FOLLOWED = ("completed", "tailgate", "alarms_cleared")
BACK = ("reversed", "not_taken")
Outcome = tuple[str, ...]

SPEED_GATE: dict[Kind, tuple[Outcome, Outcome]] = {
    Kind.WALK: (PASSED, NOTHING),
    Kind.RUN: (PASSED, FORCED),
    Kind.HESITATE: (PASSED, NOTHING),
    Kind.TAILGATE: (FOLLOWED, NOTHING),
    Kind.CRAWL: (PASSED, ("crawl", "alarms_cleared")),  # granted, and through under the beams
    Kind.WHEELCHAIR: (NOT_TAKEN, NOTHING),  # needs longer to start than a narrow lane waits
    Kind.TROLLEY: (FOLLOWED, NOTHING),  # the gap before it is taken for one between two people
    Kind.TURN_BACK: (BACK, NOTHING),
    Kind.TWO_AT_ONCE: (PASSED, NOTHING),  # no beam across the lane tells two abreast from one
    Kind.WRONG_WAY: (("not_taken", "wrong_way", "alarms_cleared"), ("egress", "completed")),
    Kind.LOITER: (NOT_TAKEN, ("loiter", "alarms_cleared")),
}
WIDE_GATE: dict[Kind, tuple[Outcome, Outcome]] = {
    **SPEED_GATE,
    Kind.WHEELCHAIR: (PASSED, NOTHING),
    Kind.TROLLEY: (PASSED, NOTHING),
    Kind.TAILGATE: (PASSED, NOTHING),  # the price: whoever follows at an arm's length is taken for the same body
    Kind.LOITER: (BACK, ("loiter", "alarms_cleared")),
}
# A contact cannot count, nor tell which way somebody goes; and it sees nobody before a closed leaf.
SWING_DOOR: dict[Kind, tuple[Outcome, Outcome]] = {
    **dict.fromkeys(Kind, (PASSED, NOTHING)),
    Kind.RUN: (PASSED, FORCED),
    Kind.HESITATE: (NOT_TAKEN, NOTHING),
    Kind.WHEELCHAIR: (NOT_TAKEN, NOTHING),
    Kind.LOITER: (NOT_TAKEN, NOTHING),
}
# The rotor takes one body a turn, turns one way, and holds against force.
FULL_HEIGHT: dict[Kind, tuple[Outcome, Outcome]] = {
    **dict.fromkeys(Kind, (PASSED, NOTHING)),
    Kind.HESITATE: (NOT_TAKEN, NOTHING),
    Kind.WHEELCHAIR: (NOT_TAKEN, NOTHING),
    Kind.TURN_BACK: (BACK, NOTHING),
    Kind.WRONG_WAY: (NOT_TAKEN, NOTHING),
    Kind.LOITER: (NOT_TAKEN, NOTHING),
}
# What its own controller tells: passed, or alarm.
VENDOR: dict[Kind, tuple[Outcome, Outcome]] = {
    **dict.fromkeys(Kind, (PASSED, NOTHING)),
    Kind.RUN: (PASSED, FORCED),
    Kind.HESITATE: (NOT_TAKEN, NOTHING),
    Kind.TAILGATE: (("completed", *FORCED), NOTHING),
    Kind.CRAWL: (("not_taken", *FORCED), FORCED),
    Kind.WHEELCHAIR: (NOT_TAKEN, NOTHING),
    Kind.TURN_BACK: (NOT_TAKEN, NOTHING),
    Kind.WRONG_WAY: (NOT_TAKEN, NOTHING),
    Kind.LOITER: (NOT_TAKEN, NOTHING),
}
CLAIMS = {
    "speed gate": (NARROW, SPEED_GATE),
    "wide speed gate": (WIDE, WIDE_GATE),
    "swing door": (replace(NARROW, type=LaneType.SWING_DOOR), SWING_DOOR),
    "full height": (replace(NARROW, type=LaneType.FULL_HEIGHT), FULL_HEIGHT),
    "vendor": (replace(NARROW, type=LaneType.VENDOR), VENDOR),
}


@pytest.mark.parametrize("lane", CLAIMS)
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("grant", [True, False], ids=["granted", "not granted"])
def test_each_person_has_its_outcome_on_each_lane(lane: str, kind: Kind, grant: bool) -> None:
    lane_settings, claims = CLAIMS[lane]
    expected = claims[kind][0 if grant else 1]
    assert {run(lane_settings, kind, grant=grant, seed=seed).outcome for seed in SEEDS} == {expected}


@pytest.mark.parametrize("lane", CLAIMS)
@pytest.mark.parametrize("kind", Kind)
def test_a_lane_always_comes_to_rest(lane: str, kind: Kind) -> None:
    for grant in (True, False):
        line = run(CLAIMS[lane][0], kind, grant=grant)
        assert line.states[-1].state is State.SECURED


def test_a_wheelchair_fails_on_a_narrow_lanes_times_and_passes_on_a_wide_lanes() -> None:
    assert "completed" not in run(NARROW, Kind.WHEELCHAIR, grant=True).outcome
    assert run(WIDE, Kind.WHEELCHAIR, grant=True).outcome == ("completed",)


def test_time_to_start_alone_does_not_help_a_wheelchair() -> None:
    """Its own gap is taken for a second person: both times have to be a wide lane's."""
    patient = replace(NARROW, wait_for_start_s=10)
    assert "tailgate" in run(patient, Kind.WHEELCHAIR, grant=True).outcome
    assert run(replace(patient, tail_gap_s=0.4), Kind.WHEELCHAIR, grant=True).outcome == ("completed",)


def test_somebody_who_hesitates_longer_than_the_lane_waits_finds_it_closed() -> None:
    line = run(replace(NARROW, wait_for_start_s=2), Kind.HESITATE, grant=True)
    assert line.outcome == ("not_taken",)
    assert len(line.turned_away) == 1


@pytest.mark.parametrize("kind", [Kind.WALK, Kind.TAILGATE, Kind.TURN_BACK])
def test_the_way_out_is_the_way_in_mirrored(kind: Kind) -> None:
    inwards = run(NARROW, kind, grant=True)
    outwards = run(NARROW, kind, grant=True, way=Direction.OUT)
    mirror = {A: B, B: A}
    assert outwards.outcome == inwards.outcome
    assert {(change.at, mirror.get(change.signal, change.signal), change.active) for change in outwards.changes} == {
        (change.at, change.signal, change.active) for change in inwards.changes
    }


# What the beams see.


def perform(actors: tuple[Actor, ...], lane: LaneType, *, is_open: bool) -> list[Act]:
    acts = play(actors, lane)
    found: list[Act] = []
    answer: bool | None = None
    while True:
        try:
            act = acts.send(answer)
        except StopIteration:
            return found
        found.append(act)
        answer = is_open if isinstance(act, Ask) else None


def edges(acts: list[Act]) -> list[tuple[LaneSignal, bool]]:
    return [(act.signal, act.active) for act in acts if isinstance(act, Change)]


def test_a_walker_breaks_the_beams_in_order_and_is_through_once() -> None:
    acts = perform(cast(Kind.WALK, 0, Direction.IN), LaneType.SPEED_GATE, is_open=True)
    upper = [edge for edge in edges(acts) if edge[0] is not LOW]
    assert upper == [(A, True), (A, False), (M, True), (M, False), (B, True), (B, False)]
    assert [act.direction for act in acts if isinstance(act, Through)] == [Direction.IN]
    assert len([act for act in acts if isinstance(act, Ask)]) == 1


def test_a_walker_before_a_closed_barrier_reaches_one_beam_only() -> None:
    acts = perform(cast(Kind.WALK, 0, Direction.IN), LaneType.SPEED_GATE, is_open=False)
    assert edges(acts) == [(A, True), (A, False)]
    assert not [act for act in acts if isinstance(act, Through)]


def test_who_crawls_is_seen_by_the_low_beam_alone() -> None:
    acts = perform(cast(Kind.CRAWL, 0, Direction.IN), LaneType.SPEED_GATE, is_open=False)
    assert {signal for signal, _ in edges(acts)} == {LOW}


def test_who_runs_through_a_closed_barrier_moves_it() -> None:
    acts = perform(cast(Kind.RUN, 0, Direction.IN), LaneType.SPEED_GATE, is_open=False)
    assert (C, True) in edges(acts)
    assert (M, True) in edges(acts)


def test_a_rotor_answers_a_follower_by_itself() -> None:
    acts = perform(cast(Kind.TAILGATE, 0, Direction.IN), LaneType.FULL_HEIGHT, is_open=True)
    assert len([act for act in acts if isinstance(act, Ask)]) == 1
    assert edges(acts).count((C, True)) == 1


def test_the_same_seed_plays_the_same() -> None:
    assert cast(Kind.TROLLEY, 0, Direction.IN, Random(4)) == cast(Kind.TROLLEY, 0, Direction.IN, Random(4))
    assert cast(Kind.TROLLEY, 0, Direction.IN, Random(4)) != cast(Kind.TROLLEY, 0, Direction.IN, Random(5))


@given(
    kind=st.sampled_from(Kind),
    lane=st.sampled_from(LaneType),
    seed=st.integers(0, 10_000),
    answers=st.lists(st.booleans(), min_size=3, max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_any_play_is_in_order_alternates_and_ends_with_an_empty_lane(
    kind: Kind, lane: LaneType, seed: int, answers: list[bool]
) -> None:
    acts, levels, last = play(cast(kind, 1.0, Direction.IN, Random(seed)), lane), dict[LaneSignal, bool](), 0.0
    answer: bool | None = None
    given_out = iter(answers)
    while True:
        try:
            act = acts.send(answer)
        except StopIteration:
            break
        answer = next(given_out) if isinstance(act, Ask) else None
        assert act.at >= last
        last = act.at
        if isinstance(act, Change):
            assert levels.get(act.signal, False) is not act.active
            levels[act.signal] = act.active
    assert not any(levels.values())


# Spans.


def test_touching_and_overlapping_spans_are_one() -> None:
    assert union([(3, 4), (0, 1), (1, 2), (3.5, 5)]) == [(0, 2), (3, 5)]


@pytest.mark.parametrize(
    ("low", "high", "spans"),
    [
        (0, 1, [(2.0, 3.0), (7.0, 8.0)]),  # there, and on the way back
        (2, 3, [(4.0, 6.0)]),  # stands at 2
        (5, 6, []),
        (-9, 9, [(0.0, 10.0)]),
    ],
)
def test_when_a_front_is_somewhere(low: float, high: float, spans: list[tuple[float, float]]) -> None:
    way = Way(((0, AWAY_M), (4, 2.0), (6, 2.0), (10, AWAY_M)))
    assert way.within(low, high) == spans


def test_a_body_has_the_length_of_all_it_takes_along() -> None:
    assert Actor(Direction.IN, (Part(0, 0.3), Part(0.6, 0.5)), Way(((0, 0), (1, 1)))).length == pytest.approx(1.1)


# In real time, on the virtual turnstile.


@pytest.fixture
def turnstile(tmp_path: Path) -> Turnstile:
    return Turnstile(tmp_path / "lane", tmp_path / "sign", step=STEP_S / 100)


async def test_a_turnstile_that_is_shut_lets_nobody_through(turnstile: Turnstile) -> None:
    assert await turnstile.play(cast(Kind.WALK, 0, Direction.IN)) == 0
    assert not any(turnstile.levels.values())


@pytest.mark.parametrize(("kind", "through"), [(Kind.WALK, 1), (Kind.TAILGATE, 2), (Kind.TURN_BACK, 0)])
async def test_people_pass_a_turnstile_that_is_open(turnstile: Turnstile, kind: Kind, through: int) -> None:
    turnstile.set(LaneSignal.FIRE, True)
    async with asyncio.timeout(20):
        assert await turnstile.play(cast(kind, 0, Direction.IN)) == through
    assert {signal for signal, active in turnstile.levels.items() if active} == {LaneSignal.FIRE}
