"""The lane's table: total, and the six rules that stand above its rows."""

from __future__ import annotations

import itertools

import pytest

from gate_agent.passage import PASSAGE, RESTING, TABLE, Effect, Input, Key, Orders, Refusal, State, Step, Timer, step
from gate_agent.passage.states import GRANTS, KEYS, ORDERS
from policy.reasons import Reason
from protocol.status import LaneState

OUTCOMES = {Effect.COMPLETED, Effect.NOT_TAKEN, Effect.UNKNOWN}
RAISED = {Effect.FORCED, Effect.CRAWL, Effect.WRONG_WAY, Effect.TAILGATE}
CREDITED = {State.GRANTED, State.PASSING}
"""States that hold at least one credit; HELD may hold one."""
EVERY = list(itertools.product(State, Input))
FIRE = Orders(fire=True)


@pytest.mark.parametrize(("state", "given"), EVERY)
def test_the_table_has_a_row_for_every_state_and_input(state: State, given: Input) -> None:
    assert isinstance(TABLE[state][given], Step)
    assert TABLE[state].keys() == set(Input)


@pytest.mark.parametrize(("state", "given"), EVERY)
def test_what_is_refused_changes_nothing(state: State, given: Input) -> None:
    found = step(state, given)
    if found.refuse is not None:
        assert given in ORDERS | GRANTS
        assert (found.next, found.effects, found.timer) == (state, (), Timer.KEEP)


@pytest.mark.parametrize(("state", "given"), EVERY)
def test_a_lane_opens_for_entry_by_a_credit_or_where_it_is_free(state: State, given: Input) -> None:
    if Effect.OPEN in step(state, given).effects:
        next_credit = given is Input.PASSED_MORE
        assert given in GRANTS or next_credit or state is State.FREE


@pytest.mark.parametrize(("state", "given"), EVERY)
def test_a_lane_opens_for_exit_only_with_its_cause_recorded(state: State, given: Input) -> None:
    effects = step(state, given).effects
    if Effect.OPEN_OUT in effects:
        pressed_again = (state, given) == (State.EGRESS, Input.BUTTON)
        assert Effect.EGRESS in effects or state is State.FREE or pressed_again


@pytest.mark.parametrize("state", State)
def test_fire_opens_from_every_state(state: State) -> None:
    assert step(state, Input.FIRE_ON).next is State.LOCKED_OPEN


def test_only_a_reset_on_the_spot_with_a_healthy_line_ends_a_fire() -> None:
    leaving = [given for given in Input if step(State.LOCKED_OPEN, given).next is not State.LOCKED_OPEN]
    assert leaving == [Input.RESET]


@pytest.mark.parametrize("given", sorted(ORDERS | GRANTS))
def test_in_a_fire_nothing_that_bars_or_opens_is_taken(given: Input) -> None:
    found = step(State.LOCKED_OPEN, given)
    ends_something = {Input.RELEASE, Input.END_FREE, Input.ENABLE, Input.RESET}
    assert found.refuse is (None if given in ends_something else Refusal.FIRE_ACTIVE)


@pytest.mark.parametrize(("state", "given"), EVERY)
def test_in_a_fire_a_relay_moves_only_for_somebody_who_wants_out(state: State, given: Input) -> None:
    found = step(state, given)
    if State.LOCKED_OPEN in {state, found.next}:
        assert Effect.OPEN not in found.effects
        if Effect.OPEN_OUT in found.effects:
            assert given in {Input.BUTTON, Input.EXIT_APPROACH}


@pytest.mark.parametrize(("state", "given"), EVERY)
def test_every_credit_ends_with_exactly_one_outcome_when_the_states_that_hold_it_are_left(
    state: State, given: Input
) -> None:
    found = step(state, given)
    outcomes = [effect for effect in found.effects if effect in OUTCOMES]
    if state in CREDITED and found.next not in CREDITED | {State.HELD}:
        # A tailgater's first passage counts; whatever else leaves has one outcome for all credits left.
        assert len(outcomes) == 1
    if state in RESTING | {State.BOOT, State.INTRUSION} and state is not State.FREE:
        assert not {Effect.NOT_TAKEN, Effect.UNKNOWN} & set(outcomes)


@pytest.mark.parametrize(("state", "given"), EVERY)
def test_only_a_completed_passage_counts(state: State, given: Input) -> None:
    if Effect.COMPLETED in step(state, given).effects:
        assert given in {Input.PASSED, Input.PASSED_MORE, Input.PASSED_BACK, Input.SECOND}


@pytest.mark.parametrize("given", Input)
def test_nothing_but_its_release_fire_or_a_stronger_bar_leaves_a_lockdown_at_rest(given: Input) -> None:
    found = step(State.LOCKED_DOWN, given)
    if given in ORDERS - {Input.RELEASE}:
        # A row to "rest" rests in the lockdown again, since the order does not end it.
        assert found.next in {None, State.LOCKED_DOWN}
        assert found.refuse is not None or Orders(lockdown=1, disabled=given is Input.DISABLE).rest() in {
            State.LOCKED_DOWN,
            State.OUT_OF_SERVICE,
        }
    if given in KEYS - {Input.KEY_RELEASE}:
        assert found.next is None, "a row to rest rests in the lockdown again, since the key does not end it"
    assert step(State.LOCKED_DOWN, Input.GRANT_ENTRY).refuse is Refusal.LOCKDOWN
    assert step(State.LOCKED_DOWN, Input.FREE).refuse is Refusal.LOCKDOWN


SAME = {
    Input.KEY_FREE: Input.FREE,
    Input.KEY_END_FREE: Input.END_FREE,
    Input.KEY_LOCKED: Input.LOCKDOWN,
    Input.KEY_LOCKED_LEAVING: Input.LOCKDOWN_LEAVING,
    Input.KEY_RELEASE: Input.RELEASE,
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("given", sorted(KEYS))
def test_the_key_does_what_the_same_order_does_and_no_state_refuses_it(state: State, given: Input) -> None:
    found, order = step(state, given), step(state, SAME[given])
    assert found.refuse is None
    assert not {Effect.OPEN, Effect.OPEN_OUT} & set(found.effects), "what is free opens for who comes"
    if order.refuse is None:
        assert found == order
    else:
        assert found.next in {None, state}


@pytest.mark.parametrize("given", sorted(KEYS))
def test_no_position_of_the_key_ends_a_fire(given: Input) -> None:
    assert step(State.LOCKED_OPEN, given).next is State.LOCKED_OPEN


@pytest.mark.parametrize("key", Key)
def test_fire_and_out_of_service_stand_above_the_key_and_a_lockdown_above_its_free(key: Key) -> None:
    assert Orders(fire=True, lockdown=2).with_key(key).rest() is State.LOCKED_OPEN
    assert Orders(disabled=True).with_key(key).rest() is State.OUT_OF_SERVICE
    assert Orders(lockdown=2).with_key(key).rest() is State.LOCKED_DOWN
    at_rest = {Key.NORMAL: State.SECURED, Key.FREE: State.FREE, Key.LOCKED: State.LOCKED_DOWN}
    assert Orders().with_key(key).rest() is at_rest[key]


@pytest.mark.parametrize("state", sorted(set(State) - {State.GRANTED, State.FREE}))
@pytest.mark.parametrize("given", [Input.BUTTON, Input.EXIT_APPROACH])
def test_whoever_wants_out_is_let_out_from_every_state(state: State, given: Input) -> None:
    if given is Input.EXIT_APPROACH and state in {State.PASSING, State.HELD, State.EGRESS}:
        return  # the lane is open, or blocked by somebody; who waits is let out when it rests
    assert Effect.OPEN_OUT in step(state, given).effects


@pytest.mark.parametrize("state", sorted(RESTING - {State.FREE}))
def test_a_grant_to_leave_is_taken_whatever_bars_entry(state: State) -> None:
    found = step(state, Input.GRANT_EXIT)
    assert (found.refuse, found.next) == (None, State.GRANTED)


@pytest.mark.parametrize(("state", "given"), EVERY)
def test_an_alarm_is_raised_on_entering_intrusion_and_cleared_on_leaving(state: State, given: Input) -> None:
    found = step(state, given)
    assert bool(RAISED & set(found.effects)) == (state is not State.INTRUSION and found.next is State.INTRUSION)
    if state is State.INTRUSION and found.next is not State.INTRUSION:
        assert Effect.ALARMS_CLEARED in found.effects
    if state is State.HELD and found.next not in {State.HELD, State.INTRUSION}:
        assert Effect.ALARMS_CLEARED in found.effects


@pytest.mark.parametrize("state", sorted(PASSAGE | {State.INTRUSION}))
def test_no_passage_and_no_alarm_lasts_for_ever_when_nobody_is_there(state: State) -> None:
    assert step(state, Input.NOBODY).next is None


@pytest.mark.parametrize(("state", "given"), EVERY)
def test_a_state_that_ends_by_its_timer_starts_it_on_entering(state: State, given: Input) -> None:
    found = step(state, given)
    if found.next in {State.GRANTED, State.EGRESS} and state not in PASSAGE:
        assert found.timer is Timer.WAIT_FOR_START
    if found.next is State.PASSING and state is State.GRANTED:
        assert found.timer is Timer.PASSAGE
    if found.next is State.HELD and state is not State.HELD:
        assert found.timer is Timer.HELD
    if found.next is None and found.refuse is None:
        assert found.timer is Timer.STOP


def test_rest_is_fire_then_out_of_service_then_lockdown_then_free() -> None:
    everything = Orders(fire=True, disabled=True, lockdown=3, free=True)
    assert everything.rest() is State.LOCKED_OPEN
    assert Orders(disabled=True, lockdown=3, free=True).rest() is State.OUT_OF_SERVICE
    assert Orders(lockdown=3, free=True).rest(fault=True) is State.OUT_OF_SERVICE
    assert Orders(lockdown=3, free=True).rest() is State.LOCKED_DOWN
    assert Orders(free=True).rest() is State.FREE
    assert Orders().rest() is State.SECURED


def test_the_controller_knows_every_state_by_the_same_word() -> None:
    assert {state.value for state in State} == {state.value for state in LaneState} - {LaneState.UNKNOWN}


def test_refusals_of_the_lane_are_published_reasons() -> None:
    reasons = {reason.value for reason in Reason}
    assert {refusal.value for refusal in Refusal} - {Refusal.NOTHING_TO_DO} <= reasons
