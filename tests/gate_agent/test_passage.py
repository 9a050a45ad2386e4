from __future__ import annotations

import itertools

import pytest

from drivers.ports import Direction, LaneSignal
from gate_agent.passage import BUSY, TABLE, Effect, Input, Levels, State, Timer, step

OUTCOMES = {Effect.COMPLETED, Effect.NOT_TAKEN, Effect.UNKNOWN}
WITH_GRANT = {State.GRANTED, State.PASSING, State.CROSSED}
EVERY = list(itertools.product(State, Input))


def walk(*inputs: Input) -> tuple[State, list[Effect]]:
    state = State.SECURED
    effects: list[Effect] = []
    for each in inputs:
        found = step(state, each)
        state = found.next
        effects += found.effects
    return state, effects


@pytest.mark.parametrize(("state", "given"), EVERY)
def test_the_table_has_a_row_for_every_state_and_input(state: State, given: Input) -> None:
    assert isinstance(TABLE[state][given].next, State)


@pytest.mark.parametrize(("state", "given"), EVERY)
def test_a_grant_ends_with_exactly_one_outcome_when_its_states_are_left(state: State, given: Input) -> None:
    found = step(state, given)
    outcomes = [effect for effect in found.effects if effect in OUTCOMES]
    assert len(outcomes) == (state in WITH_GRANT and found.next not in WITH_GRANT)


@pytest.mark.parametrize(("state", "given"), EVERY)
def test_only_a_grant_makes_a_secured_lane_walkable(state: State, given: Input) -> None:
    if state not in WITH_GRANT and step(state, given).next in WITH_GRANT:
        assert (state, given) == (State.SECURED, Input.GRANT)


@pytest.mark.parametrize("state", State)
def test_fire_opens_from_every_state_and_nothing_but_its_end_leaves_it(state: State) -> None:
    assert step(state, Input.FIRE_ON).next is State.LOCKED_OPEN
    leaving = [given for given in Input if step(State.LOCKED_OPEN, given).next is not State.LOCKED_OPEN]
    assert leaving == [Input.FIRE_OFF]


@pytest.mark.parametrize(("state", "given"), EVERY)
def test_an_alarm_is_raised_on_entering_intrusion_and_cleared_on_leaving(state: State, given: Input) -> None:
    found = step(state, given)
    raised = {Effect.FORCED, Effect.WRONG_WAY} & set(found.effects)
    assert bool(raised) == (state is not State.INTRUSION and found.next is State.INTRUSION)
    assert (Effect.FORCED_CLEARED in found.effects) == (state is State.INTRUSION and found.next is not State.INTRUSION)


@pytest.mark.parametrize("state", sorted({State.GRANTED, State.PASSING, State.CROSSED}))
def test_every_state_with_a_grant_ends_by_its_timer(state: State) -> None:
    assert step(state, Input.TIMEOUT).next is State.SECURED


@pytest.mark.parametrize(("state", "given"), EVERY)
def test_a_state_with_a_timer_starts_it_on_entering(state: State, given: Input) -> None:
    found = step(state, given)
    if found.next is State.GRANTED and state is not State.GRANTED:
        assert found.timer is Timer.WAIT_FOR_START
    if found.next is State.PASSING and state is State.GRANTED:
        assert found.timer is Timer.PASSAGE
    if found.next in {State.SECURED, State.LOCKED_OPEN} and state not in {found.next, State.LOCKED_OPEN}:
        assert found.timer is Timer.STOP


def test_a_walk_through_completes_once() -> None:
    assert walk(Input.GRANT, Input.OPENED, Input.NEAR, Input.MIDDLE, Input.FAR, Input.CLEAR, Input.AT_REST) == (
        State.SECURED,
        [Effect.COMPLETED],
    )


def test_nobody_walks() -> None:
    assert walk(Input.GRANT, Input.TIMEOUT) == (State.SECURED, [Effect.NOT_TAKEN])


def test_somebody_who_goes_back_leaves_the_grant_standing() -> None:
    assert walk(Input.GRANT, Input.NEAR, Input.CLEAR) == (State.GRANTED, [])


def test_coming_from_the_other_side_is_an_alarm_and_uses_the_grant_up() -> None:
    assert walk(Input.GRANT, Input.FAR) == (State.INTRUSION, [Effect.NOT_TAKEN, Effect.WRONG_WAY])


def test_a_broken_barrier_line_without_a_grant_is_forced_and_clears_at_rest() -> None:
    assert walk(Input.MIDDLE, Input.CLEAR, Input.AT_REST, Input.TIMEOUT) == (
        State.SECURED,
        [Effect.FORCED, Effect.FORCED_CLEARED],
    )


def test_standing_before_a_lane_is_no_event() -> None:
    assert walk(Input.NEAR, Input.CLEAR, Input.FAR, Input.CLEAR) == (State.SECURED, [])


def test_a_busy_lane_is_one_that_is_not_free_for_the_next() -> None:
    assert set(State) - BUSY == {State.SECURED, State.LOCKED_OPEN}


@pytest.mark.parametrize(
    ("direction", "first", "last"),
    [(Direction.IN, LaneSignal.BEAM_A, LaneSignal.BEAM_B), (Direction.OUT, LaneSignal.BEAM_B, LaneSignal.BEAM_A)],
)
def test_beams_are_read_from_the_walkers_side(direction: Direction, first: LaneSignal, last: LaneSignal) -> None:
    levels = Levels(direction)
    seen = [
        *levels.change(LaneSignal.CONTACT, True),
        *levels.change(first, True),
        *levels.change(LaneSignal.BEAM_M, True),
        *levels.change(first, False),
        *levels.change(last, True),
        *levels.change(LaneSignal.BEAM_M, False),
        *levels.change(last, False),
        *levels.change(LaneSignal.CONTACT, False),
    ]
    assert seen == [Input.OPENED, Input.NEAR, Input.MIDDLE, Input.FAR, Input.CLEAR, Input.AT_REST]


def test_a_level_reported_twice_is_one_change() -> None:
    levels = Levels(Direction.IN)
    assert levels.change(LaneSignal.BEAM_A, True) == (Input.NEAR,)
    assert levels.change(LaneSignal.BEAM_A, True) == ()


def test_relay_feedback_is_no_input_of_the_machine() -> None:
    assert Levels(Direction.IN).change(LaneSignal.RELAY_IN, True) == ()
