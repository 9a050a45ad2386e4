"""The lane as a whole: sensors, table, credits and timers, on a clock the test holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from drivers.ports import Direction, LaneSignal
from gate_agent.passage import (
    MAX_LEVEL,
    PASSAGE,
    RESTING,
    Credit,
    Effect,
    Egress,
    Happening,
    Key,
    LaneType,
    Orders,
    Passage,
    Refusal,
    SensorChanged,
    Settings,
    State,
    Verb,
)
from gate_agent.passage.conditioning import CHATTER_EDGES, FIRE_LINES, Fault
from gate_agent.passage.sensors import REQUIRED

IN, OUT = Direction.IN, Direction.OUT
A, M, B = LaneSignal.BEAM_A, LaneSignal.BEAM_M, LaneSignal.BEAM_B
STEP = 0.12
OUTCOMES = {Effect.COMPLETED, Effect.NOT_TAKEN, Effect.UNKNOWN}


@dataclass
class Rig:
    """One lane and a clock; `seen` is everything that has happened."""

    passage: Passage
    at: float = 100.0
    seen: list[Happening | SensorChanged] = field(default_factory=list)

    @classmethod
    def booted(cls, settings: Settings | None = None, orders: Orders | None = None) -> Rig:
        rig = cls(Passage(settings or Settings(), orders))
        for signal in sorted(REQUIRED[rig.passage.settings.type], key=lambda each: each is not LaneSignal.FIRE):
            rig.set(signal, signal is LaneSignal.VENDOR_READY)
        return rig

    @property
    def state(self) -> State:
        return self.passage.state

    def now(self) -> State:
        """The state again, after something has happened: a type checker takes a property for what it was."""
        return self.passage.state

    def set(self, signal: LaneSignal, active: bool) -> None:
        self.seen += self.passage.change(signal, active, self.at)

    def wait(self, seconds: float) -> None:
        self.at += seconds
        self.seen += self.passage.tick(self.at)

    def grant(self, attempt: str = "a1", direction: Direction = IN, *, exempt: bool = False) -> Refusal | None:
        result = self.passage.grant(Credit(attempt, direction, exempt), self.at)
        self.seen += result.happenings
        return result.refusal

    def order(self, verb: Verb, level: int = 1) -> Refusal | None:
        result = self.passage.order(verb, self.at, level)
        self.seen += result.happenings
        return result.refusal

    def tread(self, *beams: LaneSignal, settle: float = 1.0) -> None:
        """Beams one after the other, each broken until the next one is."""
        previous: LaneSignal | None = None
        for beam in beams:
            self.set(beam, True)
            self.wait(STEP / 2)
            if previous is not None:
                self.set(previous, False)
            previous = beam
            self.wait(STEP / 2)
        if previous is not None:
            self.set(previous, False)
        self.wait(settle)

    def walk(self, direction: Direction = IN) -> None:
        self.tread(*((A, M, B) if direction is IN else (B, M, A)))

    @property
    def effects(self) -> list[Effect]:
        return [each.effect for each in self.seen if isinstance(each, Happening)]

    def of(self, effect: Effect) -> list[Happening]:
        return [each for each in self.seen if isinstance(each, Happening) and each.effect is effect]


# Boot.


def test_nothing_is_granted_before_every_level_is_known() -> None:
    rig = Rig(Passage(Settings()))
    assert (rig.state, rig.grant()) == (State.BOOT, Refusal.OUT_OF_SERVICE)


def test_a_lane_that_starts_in_a_fire_starts_open() -> None:
    rig = Rig(Passage(Settings()))
    rig.set(LaneSignal.FIRE, True)
    assert rig.state is State.LOCKED_OPEN
    assert rig.effects == [Effect.FIRE_ASSERTED]
    assert rig.passage.orders.fire


def test_what_stood_broken_at_start_is_no_alarm_and_no_passage() -> None:
    rig = Rig(Passage(Settings()))
    for signal in (LaneSignal.FIRE, A, M, LaneSignal.CONTACT, B):
        rig.set(signal, signal in {M, LaneSignal.CONTACT})
    for signal in (M, LaneSignal.CONTACT):
        rig.set(signal, False)
    rig.wait(5)
    assert (rig.state, rig.effects) == (State.SECURED, [])


@pytest.mark.parametrize(
    ("orders", "state"),
    [
        (Orders(lockdown=2), State.LOCKED_DOWN),
        (Orders(disabled=True), State.OUT_OF_SERVICE),
        (Orders(fire=True), State.LOCKED_OPEN),
        (Orders(free=True), State.FREE),
    ],
)
def test_what_was_ordered_before_the_restart_is_still_in_force(orders: Orders, state: State) -> None:
    assert Rig.booted(orders=orders).state is state


# A passage.


def test_one_person_walks_through() -> None:
    rig = Rig.booted()
    assert rig.grant("a1") is None
    rig.walk()
    assert rig.effects == [Effect.OPEN, Effect.COMPLETED]
    assert rig.of(Effect.COMPLETED) == [Happening(Effect.COMPLETED, IN, "a1")]
    assert rig.state is State.SECURED


def test_nobody_walks() -> None:
    rig = Rig.booted()
    rig.grant()
    rig.wait(5)
    assert (rig.effects, rig.state) == ([Effect.OPEN, Effect.NOT_TAKEN], State.SECURED)


def test_going_back_leaves_the_grant_for_the_rest_of_its_time() -> None:
    rig = Rig.booted()
    rig.grant()
    rig.wait(1)
    rig.tread(A, M, A)
    assert (rig.effects[-1], rig.state) == (Effect.REVERSED, State.GRANTED)
    rig.walk()
    assert (rig.effects[-1], rig.state) == (Effect.COMPLETED, State.SECURED)


def test_stepping_in_and_back_again_and_again_does_not_keep_the_lane_open() -> None:
    rig = Rig.booted()
    rig.grant()
    for _ in range(4):
        rig.tread(A, M, A)
    rig.wait(0)
    assert (rig.effects[-1], rig.state) == (Effect.NOT_TAKEN, State.SECURED)


def test_a_second_person_behind_the_first_is_a_tailgater_and_the_first_still_counts() -> None:
    rig = Rig.booted()
    rig.grant()
    rig.tread(A, M, settle=0)
    rig.set(B, True)
    rig.set(A, True)
    rig.wait(0.3)
    rig.set(M, True)
    assert rig.effects == [Effect.OPEN, Effect.COMPLETED, Effect.TAILGATE]
    assert rig.state is State.INTRUSION
    for beam in (A, M, B):
        rig.set(beam, False)
    rig.wait(6)
    assert (rig.effects[-1], rig.state) == (Effect.ALARMS_CLEARED, State.SECURED)


def test_a_gap_shorter_than_the_tail_gap_is_a_trolley() -> None:
    rig = Rig.booted(Settings(tail_gap_s=0.4))
    rig.grant()
    rig.tread(A, M, settle=0)
    rig.set(B, True)
    rig.wait(0.3)
    rig.set(M, True)
    rig.wait(0.2)
    rig.set(M, False)
    rig.wait(0.5)
    rig.set(B, False)
    rig.wait(1)
    assert (rig.effects, rig.state) == ([Effect.OPEN, Effect.COMPLETED], State.SECURED)


def test_two_grants_let_two_people_through_each_with_an_opening_of_its_own() -> None:
    rig = Rig.booted(Settings(max_credits=2))
    rig.grant("a1")
    assert rig.grant("a2") is None
    assert rig.grant("a3") is Refusal.LANE_BUSY
    rig.walk()
    rig.walk()
    assert rig.effects == [Effect.OPEN, Effect.COMPLETED, Effect.OPEN, Effect.COMPLETED]
    assert [each.attempt for each in rig.of(Effect.COMPLETED)] == ["a1", "a2"]


def test_a_grant_the_other_way_waits_until_the_passage_is_over() -> None:
    rig = Rig.booted(Settings(egress=Egress.READER, max_credits=5))
    rig.grant("a1", IN)
    assert rig.grant("a2", OUT) is Refusal.LANE_BUSY
    rig.walk()
    assert rig.grant("a2", OUT) is None
    rig.walk(OUT)
    assert [(each.direction, each.attempt) for each in rig.of(Effect.COMPLETED)] == [(IN, "a1"), (OUT, "a2")]


def test_coming_from_the_other_side_of_a_granted_lane_is_the_wrong_way() -> None:
    rig = Rig.booted(Settings(egress=Egress.READER))
    rig.grant()
    rig.set(B, True)
    assert (rig.effects, rig.state) == ([Effect.OPEN, Effect.NOT_TAKEN, Effect.WRONG_WAY], State.INTRUSION)


def test_whoever_blocks_the_lane_is_warned_of_then_an_alarm_then_clear() -> None:
    rig = Rig.booted()
    rig.grant()
    rig.set(A, True)
    rig.set(M, True)
    rig.wait(30)
    assert (rig.effects[-1], rig.state) == (Effect.HELD_PRE, State.HELD)
    rig.wait(10)
    assert rig.effects[-1] is Effect.HELD
    rig.set(B, True)
    rig.set(A, False)
    rig.set(M, False)
    rig.wait(0.2)
    rig.set(B, False)
    rig.wait(1)
    assert rig.effects[-3:] == [Effect.COMPLETED, Effect.ALARMS_CLEARED, Effect.ALARMS_CLEARED]
    assert rig.state is State.SECURED


def test_standing_before_the_lane_for_long_is_a_warning_once() -> None:
    rig = Rig.booted()
    rig.set(A, True)
    rig.wait(100)
    assert rig.effects == [Effect.LOITER]
    rig.set(A, False)
    rig.wait(1)
    assert rig.effects == [Effect.LOITER, Effect.ALARMS_CLEARED]


def test_pushing_through_without_a_grant_is_forced_and_no_passage() -> None:
    rig = Rig.booted()
    rig.set(LaneSignal.CONTACT, True)
    rig.walk()
    rig.set(LaneSignal.CONTACT, False)
    rig.wait(10)
    assert rig.effects == [Effect.FORCED, Effect.ALARMS_CLEARED]
    assert rig.state is State.SECURED


def test_a_guard_ends_an_alarm_by_acknowledging_it() -> None:
    rig = Rig.booted()
    rig.set(LaneSignal.CONTACT, True)
    assert rig.order(Verb.ACKNOWLEDGE) is None
    assert rig.state is State.SECURED


def test_the_low_beam_alone_is_somebody_crawling_and_a_shoe_is_not() -> None:
    rig = Rig.booted()
    rig.set(LaneSignal.BEAM_LOW, True)
    rig.set(M, True)  # a leg, with the rest of a person
    assert Effect.CRAWL not in rig.effects
    rig = Rig.booted()
    rig.set(LaneSignal.BEAM_LOW, True)
    rig.wait(0.2)
    assert rig.effects == []
    rig.wait(0.3)
    assert (rig.effects, rig.state) == ([Effect.CRAWL], State.INTRUSION)


def test_whoever_was_granted_and_crawls_counts_and_raises_no_alarm() -> None:
    rig = Rig.booted()
    rig.grant("a1")
    rig.set(LaneSignal.BEAM_LOW, True)
    rig.wait(2)
    rig.set(LaneSignal.BEAM_LOW, False)
    rig.wait(1)
    assert rig.of(Effect.COMPLETED) == [Happening(Effect.COMPLETED, IN, "a1")]
    assert rig.state is State.SECURED


# Leaving.


def test_a_free_way_out_opens_on_approach_and_counts_who_leaves() -> None:
    rig = Rig.booted()
    rig.walk(OUT)
    assert rig.effects == [Effect.EGRESS, Effect.OPEN_OUT, Effect.COMPLETED]
    assert rig.of(Effect.COMPLETED) == [Happening(Effect.COMPLETED, OUT, None, "egress")]


def test_without_a_free_way_out_the_approach_opens_nothing_and_the_button_does() -> None:
    rig = Rig.booted(Settings(egress=Egress.CLOSED))
    rig.set(B, True)
    rig.set(B, False)
    rig.wait(1)
    assert rig.effects == []
    rig.set(LaneSignal.BUTTON, True)
    assert rig.of(Effect.OPEN_OUT)[0].cause == "button"


def test_the_button_takes_an_unused_grant_back_and_lets_out() -> None:
    rig = Rig.booted()
    rig.grant()
    rig.set(LaneSignal.BUTTON, True)
    assert rig.effects == [Effect.OPEN, Effect.NOT_TAKEN, Effect.EGRESS, Effect.OPEN_OUT]
    assert rig.state is State.EGRESS


def test_whoever_came_to_leave_while_another_entered_is_let_out_after() -> None:
    rig = Rig.booted(Settings(egress=Egress.FREE))
    rig.grant()
    rig.tread(A, M, settle=0)
    rig.set(B, True)
    rig.wait(0.2)
    rig.set(B, False)
    rig.set(A, True)  # the next, who waits
    rig.wait(1)
    assert rig.effects == [Effect.OPEN, Effect.COMPLETED]


def test_coming_in_through_a_lane_opened_to_leave_is_the_wrong_way() -> None:
    rig = Rig.booted()
    rig.set(LaneSignal.BUTTON, True)
    rig.set(A, True)
    rig.set(M, True)
    assert rig.effects[-1] is Effect.WRONG_WAY


# Orders and fire.


def test_a_lockdown_bars_entry_lets_responders_in_and_everybody_out() -> None:
    rig = Rig.booted()
    assert rig.order(Verb.LOCKDOWN, 2) is None
    assert (rig.state, rig.grant()) == (State.LOCKED_DOWN, Refusal.LOCKDOWN)
    assert rig.grant("r1", exempt=True) is None
    rig.walk()
    rig.walk(OUT)
    assert [each.direction for each in rig.of(Effect.COMPLETED)] == [IN, OUT]
    assert rig.state is State.LOCKED_DOWN
    assert rig.order(Verb.FREE) is Refusal.LOCKDOWN
    assert rig.order(Verb.RELEASE) is None
    assert rig.now() is State.SECURED


def test_a_lockdown_takes_back_a_grant_that_waits_and_lets_a_walker_finish() -> None:
    rig = Rig.booted()
    rig.grant("a1")
    rig.order(Verb.LOCKDOWN)
    assert (rig.effects[-2:], rig.state) == ([Effect.NOT_TAKEN, Effect.LOCKDOWN_ENTERED], State.LOCKED_DOWN)
    rig = Rig.booted()
    rig.grant("a1")
    rig.set(A, True)
    rig.order(Verb.LOCKDOWN)
    assert rig.state is State.PASSING
    rig.set(A, False)
    rig.walk()
    assert (rig.effects[-1], rig.state) == (Effect.COMPLETED, State.LOCKED_DOWN)


def test_a_walker_who_goes_back_under_a_lockdown_has_no_grant_any_more() -> None:
    rig = Rig.booted()
    rig.grant()
    rig.set(A, True)
    rig.order(Verb.LOCKDOWN)
    rig.set(A, False)
    rig.wait(1)
    assert (rig.effects[-1], rig.state) == (Effect.NOT_TAKEN, State.LOCKED_DOWN)


def test_a_lockdown_does_not_take_back_a_grant_to_leave() -> None:
    rig = Rig.booted(Settings(egress=Egress.READER))
    rig.grant("a1", OUT)
    rig.order(Verb.LOCKDOWN)
    rig.walk(OUT)
    assert rig.of(Effect.COMPLETED)[0].attempt == "a1"


def test_fire_outlasts_its_line_until_the_reset_and_then_the_lockdown_still_lives() -> None:
    rig = Rig.booted()
    rig.order(Verb.LOCKDOWN)
    rig.set(LaneSignal.FIRE, True)
    assert rig.order(Verb.LOCKDOWN, 3) is Refusal.FIRE_ACTIVE
    assert rig.order(Verb.RESET) is Refusal.FIRE_ACTIVE
    rig.set(LaneSignal.FIRE, False)
    assert rig.state is State.LOCKED_OPEN
    rig.set(LaneSignal.RESET, True)
    assert (rig.effects[-1], rig.state) == (Effect.FIRE_CLEARED, State.LOCKED_DOWN)


def test_who_leaves_in_a_fire_is_counted() -> None:
    rig = Rig.booted()
    rig.set(LaneSignal.FIRE, True)
    rig.walk(OUT)
    assert rig.of(Effect.COMPLETED) == [Happening(Effect.COMPLETED, OUT, None, "fire")]


def test_a_free_lane_opens_for_each_and_counts_both_ways_without_an_alarm() -> None:
    rig = Rig.booted()
    rig.order(Verb.FREE)
    rig.walk()
    rig.walk(OUT)
    assert [(each.direction, each.cause) for each in rig.of(Effect.COMPLETED)] == [(IN, "free"), (OUT, "free")]
    assert rig.state is State.FREE
    assert not rig.passage.standing


def test_a_free_door_is_opened_again_and_again_so_that_a_dead_agent_leaves_it_shut() -> None:
    rig = Rig.booted(Settings(type=LaneType.SWING_DOOR))
    rig.order(Verb.FREE)
    assert len(rig.of(Effect.OPEN)) == 1
    rig.wait(20)
    assert len(rig.of(Effect.OPEN)) == 6
    rig.order(Verb.END_FREE)
    rig.wait(20)
    assert len(rig.of(Effect.OPEN)) == 6


def test_an_order_for_what_is_so_already_is_refused() -> None:
    rig = Rig.booted()
    assert rig.order(Verb.RELEASE) is Refusal.NOTHING_TO_DO
    assert rig.order(Verb.RESET) is Refusal.NOTHING_TO_DO
    rig.order(Verb.LOCKDOWN, 2)
    assert rig.order(Verb.LOCKDOWN, 2) is Refusal.NOTHING_TO_DO
    assert rig.order(Verb.LOCKDOWN, 3) is None


BRINGS: dict[State, tuple[Orders, list[object]]] = {
    State.SECURED: (Orders(), []),
    State.FREE: (Orders(free=True), []),
    State.LOCKED_DOWN: (Orders(lockdown=1), []),
    State.OUT_OF_SERVICE: (Orders(disabled=True), []),
    State.LOCKED_OPEN: (Orders(fire=True), []),
    State.GRANTED: (Orders(), ["grant"]),
    State.PASSING: (Orders(), ["grant", A]),
    State.EGRESS: (Orders(), [LaneSignal.BUTTON]),
    State.INTRUSION: (Orders(), [LaneSignal.CONTACT]),
    State.HELD: (Orders(), ["grant", A, M, 31.0]),
}


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("state", sorted(BRINGS))
def test_after_every_order_in_every_state_the_lane_rests_by_precedence(state: State, verb: Verb) -> None:
    orders, steps = BRINGS[state]
    rig = Rig.booted(orders=orders)
    for each in steps:
        if each == "grant":
            rig.grant()
        elif isinstance(each, LaneSignal):
            rig.set(each, True)
        elif isinstance(each, float):
            rig.wait(each)
    assert rig.state is state
    before = rig.passage.orders
    refusal = rig.order(verb, 2)
    if refusal is not None:
        assert (rig.passage.orders, rig.state) == (before, state)
    for signal in LaneSignal:
        rig.set(signal, False)
    rig.wait(200)
    assert rig.state is rig.passage.orders.rest()


# Sensors that cannot be right.


def test_a_bouncing_contact_is_one_opening() -> None:
    rig = Rig.booted()
    for _ in range(5):
        rig.set(LaneSignal.CONTACT, True)
        rig.wait(0.005)
        rig.set(LaneSignal.CONTACT, False)
        rig.wait(0.005)
    rig.wait(10)
    assert rig.effects == [Effect.FORCED, Effect.ALARMS_CLEARED]


def test_a_chattering_barrier_beam_takes_the_lane_out_of_service_until_it_is_calm() -> None:
    rig = Rig.booted()
    for _ in range(CHATTER_EDGES):
        rig.set(M, True)
        rig.set(M, False)
        rig.wait(0.01)
    assert SensorChanged(M, Fault.CHATTER) in rig.seen
    rig.wait(4)
    assert rig.passage.fault
    assert rig.grant() in {Refusal.LANE_BUSY, Refusal.OUT_OF_SERVICE}
    rig.wait(20)
    assert rig.seen.count(SensorChanged(M, None)) == 1
    assert rig.state is State.SECURED


def test_a_side_beam_that_is_stuck_is_set_aside_and_the_lane_goes_on() -> None:
    rig = Rig.booted()
    rig.set(A, True)
    rig.wait(121)
    assert SensorChanged(A, Fault.STUCK) in rig.seen
    assert rig.grant() is None
    rig.tread(M, B)
    assert rig.of(Effect.COMPLETED)[0].attempt == "a1"
    rig.set(A, False)
    assert rig.seen[-1] == SensorChanged(A, None)


def test_a_barrier_beam_that_is_stuck_bars_entry_and_not_the_way_out() -> None:
    rig = Rig.booted()
    rig.set(M, True)
    rig.wait(130)
    assert rig.state is State.OUT_OF_SERVICE
    assert rig.grant() is Refusal.OUT_OF_SERVICE
    rig.set(LaneSignal.BUTTON, True)
    assert rig.effects[-1] is Effect.ALARMS_CLEARED or Effect.OPEN_OUT in rig.effects
    assert Effect.OPEN_OUT in rig.effects


def test_a_relay_that_does_not_come_back_is_reported_and_a_free_door_is_not() -> None:
    rig = Rig.booted(Settings(type=LaneType.SWING_DOOR))
    rig.order(Verb.FREE)
    rig.set(LaneSignal.RELAY_IN, True)
    rig.wait(300)
    assert not rig.passage.faults, "opened again and again"
    rig.order(Verb.END_FREE)
    rig.wait(16)
    assert rig.seen[-1] == SensorChanged(LaneSignal.RELAY_IN, Fault.STUCK)
    rig.set(LaneSignal.RELAY_IN, False)
    assert rig.seen[-1] == SensorChanged(LaneSignal.RELAY_IN, None)
    assert rig.state is State.SECURED


def test_fire_is_believed_however_much_it_chatters() -> None:
    rig = Rig.booted()
    for _ in range(100):
        rig.set(LaneSignal.FIRE, True)
        rig.set(LaneSignal.FIRE, False)
    assert rig.state is State.LOCKED_OPEN


# The supervised fire line.


@pytest.mark.parametrize(
    ("signal", "cause"),
    [
        (LaneSignal.FIRE, "alarm"),
        (LaneSignal.FIRE_OPEN, "open"),
        (LaneSignal.FIRE_SHORT, "short"),
        (LaneSignal.VENDOR_EMERGENCY, "vendor"),
    ],
)
@pytest.mark.parametrize("kind", LaneType)
def test_a_fault_of_the_fire_line_counts_as_fire_until_the_reset(
    kind: LaneType, signal: LaneSignal, cause: str
) -> None:
    rig = Rig.booted(Settings(type=kind))
    rig.set(signal, True)
    assert rig.state is State.LOCKED_OPEN
    assert rig.of(Effect.FIRE_ASSERTED) == [Happening(Effect.FIRE_ASSERTED, IN, None, cause)]
    assert rig.order(Verb.RESET) is Refusal.FIRE_ACTIVE
    rig.set(signal, False)
    rig.wait(60)
    assert rig.now() is State.LOCKED_OPEN, "a mended line ends nothing by itself"
    rig.set(LaneSignal.RESET, True)
    assert rig.now() is State.SECURED


def test_a_line_that_is_cut_while_in_alarm_is_reset_when_neither_stands() -> None:
    rig = Rig.booted()
    for signal in (LaneSignal.FIRE, LaneSignal.FIRE_OPEN):
        rig.set(signal, True)
    rig.set(LaneSignal.FIRE, False)
    assert rig.order(Verb.RESET) is Refusal.FIRE_ACTIVE
    rig.set(LaneSignal.FIRE_OPEN, False)
    assert rig.order(Verb.RESET) is None


def test_whoever_wants_out_is_let_out_though_a_shorted_line_opens_nothing() -> None:
    rig = Rig.booted(Settings(egress=Egress.CLOSED))
    rig.set(LaneSignal.FIRE_SHORT, True)
    rig.set(LaneSignal.BUTTON, True)
    assert rig.of(Effect.OPEN_OUT) == [Happening(Effect.OPEN_OUT, OUT, None, "button")]
    assert rig.state is State.LOCKED_OPEN


# The key switch.


def turn(rig: Rig, key: Key) -> None:
    """As a switch does: the old contact opens, the new one closes."""
    rig.set(LaneSignal.KEY_FREE, key is Key.FREE)
    rig.set(LaneSignal.KEY_LOCKED, key is Key.LOCKED)
    rig.wait(0.3)


def test_the_key_frees_locks_and_gives_the_lane_back() -> None:
    rig = Rig.booted()
    for key, state in (
        (Key.FREE, State.FREE),
        (Key.NORMAL, State.SECURED),
        (Key.LOCKED, State.LOCKED_DOWN),
        (Key.NORMAL, State.SECURED),
    ):
        turn(rig, key)
        assert rig.state is state
    assert {each.cause for each in rig.seen if isinstance(each, Happening)} == {"key"}
    assert rig.effects == [
        Effect.MODE,
        Effect.MODE,
        Effect.LOCKDOWN_ENTERED,
        Effect.LOCKDOWN_RELEASED,
    ]


def test_under_the_key_at_locked_entry_is_barred_and_everybody_gets_out() -> None:
    rig = Rig.booted()
    turn(rig, Key.LOCKED)
    assert rig.passage.orders.lockdown == MAX_LEVEL
    assert rig.grant() is Refusal.LOCKDOWN
    assert rig.order(Verb.FREE) is Refusal.LOCKDOWN
    assert rig.order(Verb.RELEASE) is Refusal.LOCKDOWN
    rig.walk(OUT)
    assert rig.of(Effect.COMPLETED) == [Happening(Effect.COMPLETED, OUT, None, "egress")]


def test_turning_through_free_ends_any_lockdown_and_back_from_locked_ends_the_keys_own() -> None:
    rig = Rig.booted()
    rig.order(Verb.LOCKDOWN, 3)
    turn(rig, Key.LOCKED)
    turn(rig, Key.NORMAL)
    assert rig.passage.orders == Orders(lockdown=3), "ordered by somebody else, and still in force"
    turn(rig, Key.FREE)
    turn(rig, Key.NORMAL)
    assert (rig.state, rig.passage.orders) == (State.SECURED, Orders())


def test_a_lockdown_ordered_while_the_key_is_at_free_counts_until_the_key_is_turned_anew() -> None:
    rig = Rig.booted()
    turn(rig, Key.FREE)
    assert rig.order(Verb.LOCKDOWN, 2) is None
    assert rig.state is State.LOCKED_DOWN
    turn(rig, Key.NORMAL)
    turn(rig, Key.FREE)
    assert rig.now() is State.FREE


def test_a_position_found_at_start_counts_and_ends_no_lockdown() -> None:
    rig = Rig(Passage(Settings(), Orders(lockdown=2)))
    rig.set(LaneSignal.KEY_FREE, True)
    for signal in REQUIRED[LaneType.SPEED_GATE]:
        rig.set(signal, False)
    assert rig.state is State.LOCKED_DOWN
    rig = Rig(Passage(Settings()))
    rig.set(LaneSignal.KEY_LOCKED, True)
    for signal in REQUIRED[LaneType.SPEED_GATE]:
        rig.set(signal, False)
    assert (rig.now(), rig.grant()) == (State.LOCKED_DOWN, Refusal.LOCKDOWN)


def test_the_key_takes_back_a_grant_that_waits_and_lets_a_walker_finish() -> None:
    rig = Rig.booted()
    rig.grant()
    turn(rig, Key.LOCKED)
    assert (rig.effects[-2:], rig.state) == ([Effect.NOT_TAKEN, Effect.LOCKDOWN_ENTERED], State.LOCKED_DOWN)
    rig = Rig.booted(Settings(max_credits=2))
    rig.grant("a1")
    rig.grant("a2")
    rig.set(A, True)
    turn(rig, Key.LOCKED)
    assert [each.attempt for each in rig.of(Effect.NOT_TAKEN)] == ["a2"]
    rig.set(A, False)
    rig.walk()
    assert [each.attempt for each in rig.of(Effect.COMPLETED)] == ["a1"]
    assert rig.state is State.LOCKED_DOWN


def test_fire_stays_above_the_key_which_counts_after_the_reset() -> None:
    rig = Rig.booted()
    rig.set(LaneSignal.FIRE, True)
    turn(rig, Key.LOCKED)
    assert rig.state is State.LOCKED_OPEN
    rig.set(LaneSignal.FIRE, False)
    rig.set(LaneSignal.RESET, True)
    assert rig.now() is State.LOCKED_DOWN


def test_a_lane_out_of_service_stays_so_whatever_the_key_says() -> None:
    rig = Rig.booted(orders=Orders(disabled=True))
    turn(rig, Key.FREE)
    assert rig.state is State.OUT_OF_SERVICE
    rig.order(Verb.ENABLE)
    assert rig.now() is State.FREE


def test_both_contacts_of_the_key_at_once_open_nothing() -> None:
    rig = Rig.booted()
    rig.set(LaneSignal.KEY_LOCKED, True)
    rig.set(LaneSignal.KEY_FREE, True)
    assert rig.state is State.LOCKED_DOWN
    rig = Rig.booted()
    rig.set(LaneSignal.KEY_FREE, True)
    rig.set(LaneSignal.KEY_LOCKED, True)
    assert rig.state is State.LOCKED_DOWN


def test_a_chattering_contact_of_the_key_frees_nothing_and_still_locks() -> None:
    for signal, state in ((LaneSignal.KEY_FREE, State.SECURED), (LaneSignal.KEY_LOCKED, State.LOCKED_DOWN)):
        rig = Rig.booted()
        for _ in range(CHATTER_EDGES):
            rig.set(signal, False)
            rig.set(signal, True)
            rig.wait(0.01)
        assert rig.state is state


def test_a_contact_at_free_that_is_believed_again_ends_no_lockdown() -> None:
    rig = Rig.booted()
    for _ in range(CHATTER_EDGES):
        rig.set(LaneSignal.KEY_FREE, False)
        rig.set(LaneSignal.KEY_FREE, True)
        rig.wait(0.01)
    rig.order(Verb.LOCKDOWN, 2)
    rig.wait(20)
    assert SensorChanged(LaneSignal.KEY_FREE, None) in rig.seen
    assert (rig.passage.key, rig.state) == (Key.FREE, State.LOCKED_DOWN)


# How the hardware fares.


def test_a_tampered_housing_on_a_dying_battery_opens_and_bars_nothing() -> None:
    rig = Rig.booted()
    for signal in (LaneSignal.TAMPER, LaneSignal.MAINS_FAIL, LaneSignal.BATTERY_LOW):
        rig.set(signal, True)
    assert (rig.state, rig.effects) == (State.SECURED, [Effect.TAMPER, Effect.MAINS_LOST, Effect.BATTERY_LOW])
    assert rig.passage.housing == [LaneSignal.BATTERY_LOW, LaneSignal.MAINS_FAIL, LaneSignal.TAMPER]
    rig.grant()
    rig.walk()
    assert rig.effects[-1] is Effect.COMPLETED


def test_mains_that_flickers_is_one_failure() -> None:
    rig = Rig.booted()
    for _ in range(100):
        rig.set(LaneSignal.MAINS_FAIL, True)
        rig.set(LaneSignal.MAINS_FAIL, False)
        rig.wait(0.02)
    assert rig.effects == [Effect.MAINS_LOST]
    rig.wait(1)
    assert rig.effects == [Effect.MAINS_LOST, Effect.MAINS_RESTORED]


# The other lane types.


def test_a_swing_door_passes_by_its_contact() -> None:
    rig = Rig.booted(Settings(type=LaneType.SWING_DOOR))
    rig.grant("a1")
    rig.set(LaneSignal.CONTACT, True)
    rig.wait(2)
    rig.set(LaneSignal.CONTACT, False)
    rig.wait(1)
    assert rig.of(Effect.COMPLETED) == [Happening(Effect.COMPLETED, IN, "a1")]


def test_a_swing_door_held_open_is_reported_and_one_forced_is_an_alarm() -> None:
    rig = Rig.booted(Settings(type=LaneType.SWING_DOOR))
    rig.grant()
    rig.set(LaneSignal.CONTACT, True)
    rig.wait(50)
    assert [each for each in rig.effects if each in {Effect.HELD_PRE, Effect.HELD}] == [Effect.HELD_PRE, Effect.HELD]
    rig.set(LaneSignal.CONTACT, False)
    rig.wait(1)
    assert rig.state is State.SECURED
    rig.set(LaneSignal.CONTACT, True)
    assert rig.effects[-1] is Effect.FORCED


def test_the_button_of_a_swing_door_masks_the_forced_alarm() -> None:
    rig = Rig.booted(Settings(type=LaneType.SWING_DOOR))
    rig.set(LaneSignal.BUTTON, True)
    rig.set(LaneSignal.CONTACT, True)
    rig.wait(2)
    rig.set(LaneSignal.CONTACT, False)
    rig.wait(1)
    assert rig.effects == [Effect.EGRESS, Effect.OPEN_OUT, Effect.COMPLETED]


def test_a_full_height_turnstile_counts_only_a_rotor_that_went_past_its_middle() -> None:
    rig = Rig.booted(Settings(type=LaneType.FULL_HEIGHT))
    rig.grant("a1")
    rig.set(LaneSignal.CONTACT, True)
    rig.set(LaneSignal.CONTACT, False)
    rig.wait(0.5)
    assert (rig.effects[-1], rig.state) == (Effect.REVERSED, State.GRANTED)
    rig.set(LaneSignal.CONTACT, True)
    rig.set(M, True)
    rig.set(M, False)
    rig.set(LaneSignal.CONTACT, False)
    rig.wait(0.5)
    assert (rig.effects[-1], rig.state) == (Effect.COMPLETED, State.SECURED)


def test_a_vendors_controller_serves_when_it_is_ready_and_tells_who_passed() -> None:
    rig = Rig(Passage(Settings(type=LaneType.VENDOR)))
    for signal in REQUIRED[LaneType.VENDOR]:
        rig.set(signal, False)
    assert (rig.state, rig.grant()) == (State.OUT_OF_SERVICE, Refusal.OUT_OF_SERVICE)
    rig.set(LaneSignal.VENDOR_READY, True)
    assert (rig.state, rig.grant("a1")) == (State.SECURED, None)
    rig.set(LaneSignal.PASSED_IN, True)
    rig.set(LaneSignal.PASSED_IN, False)
    rig.set(LaneSignal.PASSED_OUT, True)
    assert [(each.direction, each.attempt) for each in rig.of(Effect.COMPLETED)] == [(IN, "a1"), (OUT, None)]
    rig.set(LaneSignal.VENDOR_FAULT, True)
    assert rig.state is State.OUT_OF_SERVICE


def test_a_vendors_alarm_and_emergency_are_taken_as_they_come() -> None:
    rig = Rig.booted(Settings(type=LaneType.VENDOR))
    rig.set(LaneSignal.VENDOR_ALARM, True)
    assert (rig.effects, rig.state) == ([Effect.FORCED], State.INTRUSION)
    rig.set(LaneSignal.VENDOR_ALARM, False)
    rig.wait(6)
    assert rig.now() is State.SECURED
    rig.set(LaneSignal.VENDOR_EMERGENCY, True)
    assert rig.passage.state is State.LOCKED_OPEN


def test_a_lane_with_two_fire_lines_cannot_be_reset_before_both_are_healthy() -> None:
    rig = Rig.booted(Settings(type=LaneType.VENDOR))
    rig.set(LaneSignal.FIRE, True)
    rig.set(LaneSignal.VENDOR_EMERGENCY, True)
    rig.set(LaneSignal.VENDOR_EMERGENCY, False)
    assert rig.order(Verb.RESET) is Refusal.FIRE_ACTIVE
    rig.set(LaneSignal.FIRE, False)
    assert rig.order(Verb.RESET) is None
    assert rig.state is State.SECURED


def test_a_passage_nobody_granted_at_a_vendors_lane_is_forced_and_ends() -> None:
    rig = Rig.booted(Settings(type=LaneType.VENDOR))
    rig.set(LaneSignal.PASSED_IN, True)
    assert rig.state is State.INTRUSION
    rig.wait(6)
    assert rig.now() is State.SECURED


# Anything in any order.


class AnyLane(RuleBasedStateMachine):
    """Inputs, grants and orders in any order and at any pace: the six rules hold for what comes out."""

    @initialize(
        kind=st.sampled_from(LaneType),
        egress=st.sampled_from(Egress),
        most=st.integers(1, 3),
        orders=st.builds(Orders, st.booleans(), st.booleans(), st.integers(0, 2), st.booleans()),
    )
    def boot(self, kind: LaneType, egress: Egress, most: int, orders: Orders) -> None:
        self.rig = Rig.booted(Settings(type=kind, egress=egress, max_credits=most), orders)
        self.granted: list[str] = []
        self.ended: Counter[str] = Counter()
        self.fire_line = False
        self.read = 0
        self.look()

    def look(self) -> None:
        for each in self.rig.seen[self.read :]:
            if isinstance(each, SensorChanged):
                continue
            if each.effect is Effect.OPEN:
                # I1: one credit that is still alive, or a lane that was ordered free.
                assert each.attempt in self.granted or self.rig.passage.orders.free
                assert each.attempt is None or not self.ended[each.attempt]
            if each.effect in OUTCOMES and each.attempt is not None:
                self.ended[each.attempt] += 1
        self.read = len(self.rig.seen)

    @rule(signal=st.sampled_from(LaneSignal), active=st.booleans())
    def input(self, signal: LaneSignal, active: bool) -> None:
        if signal in FIRE_LINES and active:
            self.fire_line = True
        before = self.rig.passage.kept
        self.rig.set(signal, active)
        if signal not in {*FIRE_LINES, LaneSignal.RESET, LaneSignal.KEY_FREE, LaneSignal.KEY_LOCKED}:
            # No other input orders anything; a key's contact that was thought closed may open by itself later.
            assert replace(self.rig.passage.kept, lockdown=0) == replace(before, lockdown=0)
        self.look()

    @rule(key=st.sampled_from(Key))
    def turn(self, key: Key) -> None:
        before = self.rig.passage.kept
        turn(self.rig, key)
        self.look()
        assert self.rig.passage.key is key or self.rig.passage.faults
        after = self.rig.passage.kept
        assert (after.fire, after.disabled, after.free) == (before.fire, before.disabled, before.free)
        assert after.lockdown in {before.lockdown, 0}

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.1, 0.3, 1.0, 6.0, 45.0, 130.0]))
    def wait(self, seconds: float) -> None:
        self.rig.wait(seconds)
        self.look()

    @rule(direction=st.sampled_from(Direction), exempt=st.booleans())
    def grant(self, direction: Direction, exempt: bool) -> None:
        attempt = f"a{len(self.granted)}"
        expected = self.rig.passage.may(direction, exempt=exempt)
        before = (self.rig.state, self.rig.passage.orders)
        self.granted.append(attempt)
        refusal = self.rig.grant(attempt, direction, exempt=exempt)
        assert refusal is expected
        if refusal is not None:
            self.granted.remove(attempt)
            self.granted.append(f"refused{len(self.granted)}")
            assert (self.rig.state, self.rig.passage.orders) == before
        elif direction is Direction.IN and not exempt:
            assert before[0] is not State.LOCKED_DOWN
        self.look()

    @rule(attempt=st.integers(0, 20))
    def relay_fails(self, attempt: int) -> None:
        self.rig.seen += self.rig.passage.revoke(f"a{attempt}", self.rig.at)
        self.look()

    @rule(verb=st.sampled_from(Verb), level=st.integers(0, 3))
    def order(self, verb: Verb, level: int) -> None:
        wanted = self.rig.passage.preview(verb, level)
        refusal = self.rig.order(verb, level)
        assert (refusal is None) == isinstance(wanted, Orders)
        if verb is Verb.RESET and refusal is None:
            self.fire_line = False
        self.look()

    @invariant()
    def every_credit_is_alive_or_ended_once(self) -> None:
        if not hasattr(self, "rig"):
            return
        alive = [credit.attempt for credit in self.rig.passage.credits]
        for attempt in self.granted:
            if not attempt.startswith("refused"):
                assert self.ended[attempt] + alive.count(attempt) == 1, attempt

    @invariant()
    def credits_stand_only_where_a_passage_can_be(self) -> None:
        if hasattr(self, "rig") and self.rig.state not in PASSAGE:
            assert not self.rig.passage.credits
            assert self.rig.passage.direction is Direction.IN

    @invariant()
    def fire_is_open_until_it_is_reset(self) -> None:
        if hasattr(self, "rig") and self.rig.passage.orders.fire:
            assert self.rig.state is State.LOCKED_OPEN

    @invariant()
    def the_key_is_in_force(self) -> None:
        if hasattr(self, "rig"):
            passage = self.rig.passage
            assert passage.key is not Key.LOCKED or passage.orders.lockdown == MAX_LEVEL
            assert passage.key is not Key.FREE or passage.orders.free

    @invariant()
    def rest_is_where_the_orders_say(self) -> None:
        if hasattr(self, "rig") and self.rig.state in RESTING:
            assert self.rig.state is self.rig.passage.orders.rest(fault=self.rig.passage.fault)

    def teardown(self) -> None:
        """With everything at rest for long enough, the lane rests and no credit is left."""
        if not hasattr(self, "rig"):
            return
        for signal in LaneSignal:
            self.rig.set(signal, signal is LaneSignal.VENDOR_READY)
        for _ in range(6):
            self.rig.wait(200)
        self.look()
        passage = self.rig.passage
        assert passage.state is passage.orders.rest(fault=passage.fault)
        assert not passage.credits
        assert not passage.standing - {Effect.LOITER}
        assert passage.deadline is None or passage.state is State.FREE


AnyLane.TestCase.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyLane = AnyLane.TestCase
