"""The lane's state machine as one table, total over state and input (access-control reference 3d).

Six rules stand above the rows and are tested over the whole table: an entry opens for one credit or one recorded cause; fire
ends in no state but LOCKED_OPEN and closes nothing; counts change by completed passages only; every credit ends with exactly
one outcome; a lockdown is left by its release or the key on the spot; each state has a row for each input. `docs/passage.md`
is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping

from gate_agent.passage.states import Effect, Input, Refusal, State, Step, Timer

REST = None
"""As `Step.next`: where the orders in force let the lane rest."""

_BUSY = Refusal.LANE_BUSY
_FIRE = Refusal.FIRE_ACTIVE
_NOTHING = Refusal.NOTHING_TO_DO


def _stay(state: State, *effects: Effect, timer: Timer = Timer.KEEP) -> Step:
    return Step(state, effects, timer)


def _refuse(state: State, why: Refusal) -> Step:
    return Step(state, refuse=why)


def _alarm(*effects: Effect) -> Step:
    return Step(State.INTRUSION, effects, Timer.STOP)


def _no_grant(state: State, why: Refusal) -> dict[Input, Step]:
    return {
        Input.GRANT_ENTRY: _refuse(state, why),
        Input.GRANT_EXEMPT: _refuse(state, why),
        Input.GRANT_EXIT: _refuse(state, why),
        Input.GRANT_AGAIN: _refuse(state, why),
        Input.GRANT_OTHER: _refuse(state, why),
    }


def _orders_noted(state: State) -> dict[Input, Step]:
    """Orders that count once the passage under way has ended."""
    return {
        Input.LOCKDOWN: _stay(state, Effect.LOCKDOWN_ENTERED),
        Input.LOCKDOWN_LEAVING: _stay(state, Effect.LOCKDOWN_ENTERED),
        Input.RELEASE: _stay(state, Effect.LOCKDOWN_RELEASED),
        Input.FREE: _stay(state, Effect.MODE),
        Input.END_FREE: _stay(state, Effect.MODE),
        Input.DISABLE: _stay(state, Effect.MODE),
        Input.ENABLE: _stay(state, Effect.MODE),
        Input.ACKNOWLEDGE: _refuse(state, _NOTHING),
        Input.RESET: _refuse(state, _NOTHING),
        Input.RESET_EARLY: _refuse(state, _FIRE),
        **_key_noted(state),
    }


def _key_noted(state: State) -> dict[Input, Step]:
    return {
        Input.KEY_FREE: _stay(state, Effect.MODE),
        Input.KEY_END_FREE: _stay(state, Effect.MODE),
        Input.KEY_LOCKED: _stay(state, Effect.LOCKDOWN_ENTERED),
        Input.KEY_LOCKED_LEAVING: _stay(state, Effect.LOCKDOWN_ENTERED),
        Input.KEY_RELEASE: _stay(state, Effect.LOCKDOWN_RELEASED),
    }


def _orders_at_rest(state: State) -> dict[Input, Step]:
    """Orders that count at once: the lane rests where they say."""
    return {
        Input.LOCKDOWN: Step(REST, (Effect.LOCKDOWN_ENTERED,), Timer.STOP),
        Input.LOCKDOWN_LEAVING: Step(REST, (Effect.LOCKDOWN_ENTERED,), Timer.STOP),
        Input.RELEASE: Step(REST, (Effect.LOCKDOWN_RELEASED,), Timer.STOP),
        Input.FREE: Step(REST, (Effect.ALARMS_CLEARED, Effect.MODE), Timer.STOP),
        Input.END_FREE: Step(REST, (Effect.MODE,), Timer.STOP),
        Input.DISABLE: Step(REST, (Effect.MODE,), Timer.STOP),
        Input.ENABLE: Step(REST, (Effect.MODE,), Timer.STOP),
        Input.ACKNOWLEDGE: _refuse(state, _NOTHING),
        Input.RESET: _refuse(state, _NOTHING),
        Input.RESET_EARLY: _refuse(state, _FIRE),
        Input.KEY_FREE: Step(REST, (Effect.ALARMS_CLEARED, Effect.MODE), Timer.STOP),
        Input.KEY_END_FREE: Step(REST, (Effect.MODE,), Timer.STOP),
        Input.KEY_LOCKED: Step(REST, (Effect.LOCKDOWN_ENTERED,), Timer.STOP),
        Input.KEY_LOCKED_LEAVING: Step(REST, (Effect.LOCKDOWN_ENTERED,), Timer.STOP),
        Input.KEY_RELEASE: Step(REST, (Effect.LOCKDOWN_RELEASED,), Timer.STOP),
    }


# A lane that begins to work has nobody loitering before it any more.
_OPENED_BY_CREDIT = Step(State.GRANTED, (Effect.OPEN, Effect.ALARMS_CLEARED), Timer.WAIT_FOR_START)
_LEAVING = Step(State.EGRESS, (Effect.EGRESS, Effect.OPEN_OUT, Effect.ALARMS_CLEARED), Timer.WAIT_FOR_START)


def _barred(state: State) -> dict[Input, Step]:
    """A lane at rest whose barrier is shut for entry: what its sensors may see, whatever bars it."""
    return {
        Input.REVOKE: _stay(state),
        Input.BOOTED: _stay(state),
        Input.NEAR: _stay(state, timer=Timer.LOITER),  # somebody waits before the lane
        Input.FAR: _stay(state),
        Input.EXIT_APPROACH: _LEAVING,
        Input.BUTTON: _LEAVING,
        Input.LINE: _alarm(Effect.FORCED),
        Input.LINE_BACK: _alarm(Effect.FORCED),
        Input.CRAWL: _alarm(Effect.CRAWL),
        Input.OPENED: _alarm(Effect.FORCED),
        Input.PASSED: _alarm(Effect.FORCED),
        Input.PASSED_MORE: _alarm(Effect.FORCED),
        Input.PASSED_BACK: _stay(state, Effect.COMPLETED),  # a vendor's controller let somebody out
        Input.SECOND: _alarm(Effect.FORCED),
        Input.SECOND_CREDITED: _alarm(Effect.FORCED),
        Input.BACK: _stay(state, Effect.ALARMS_CLEARED, timer=Timer.STOP),
        Input.AT_REST: _stay(state),
        Input.VENDOR_ALARM: _alarm(Effect.FORCED),
        Input.FIRE_ON: Step(State.LOCKED_OPEN, (Effect.ALARMS_CLEARED, Effect.FIRE_ASSERTED), Timer.STOP),
        Input.FIRE_OFF: _stay(state),
        Input.FAULT_ON: Step(REST, (), Timer.STOP),
        Input.FAULT_OFF: Step(REST, (), Timer.STOP),
        Input.TIMEOUT: _stay(state, Effect.LOITER, timer=Timer.STOP),
        Input.NOBODY: _stay(state, Effect.LOITER, timer=Timer.STOP),  # nobody over the line, somebody before it
    }


_BOOT: dict[Input, Step] = {
    **_no_grant(State.BOOT, Refusal.OUT_OF_SERVICE),
    **_orders_noted(State.BOOT),
    Input.REVOKE: _stay(State.BOOT),
    Input.BOOTED: Step(REST, (), Timer.STOP),
    # What stood so before the agent looked is no event: nobody forced what was open at start.
    Input.NEAR: _stay(State.BOOT),
    Input.FAR: _stay(State.BOOT),
    Input.EXIT_APPROACH: _stay(State.BOOT, Effect.EGRESS, Effect.OPEN_OUT),
    Input.BUTTON: _stay(State.BOOT, Effect.EGRESS, Effect.OPEN_OUT),
    Input.LINE: _stay(State.BOOT),
    Input.LINE_BACK: _stay(State.BOOT),
    Input.CRAWL: _stay(State.BOOT),
    Input.OPENED: _stay(State.BOOT),
    Input.PASSED: _stay(State.BOOT),
    Input.PASSED_MORE: _stay(State.BOOT),
    Input.PASSED_BACK: _stay(State.BOOT),
    Input.SECOND: _stay(State.BOOT),
    Input.SECOND_CREDITED: _stay(State.BOOT),
    Input.BACK: _stay(State.BOOT),
    Input.AT_REST: _stay(State.BOOT),
    Input.VENDOR_ALARM: _alarm(Effect.FORCED),
    Input.FIRE_ON: Step(State.LOCKED_OPEN, (Effect.FIRE_ASSERTED,), Timer.STOP),
    Input.FIRE_OFF: _stay(State.BOOT),
    Input.FAULT_ON: _stay(State.BOOT),
    Input.FAULT_OFF: _stay(State.BOOT),
    Input.TIMEOUT: _stay(State.BOOT),
    Input.NOBODY: _stay(State.BOOT),
}

_SECURED: dict[Input, Step] = {
    **_barred(State.SECURED),
    **_orders_at_rest(State.SECURED),
    Input.GRANT_ENTRY: _OPENED_BY_CREDIT,
    Input.GRANT_EXEMPT: _OPENED_BY_CREDIT,
    Input.GRANT_EXIT: _OPENED_BY_CREDIT,
    Input.GRANT_AGAIN: _refuse(State.SECURED, _BUSY),
    Input.GRANT_OTHER: _refuse(State.SECURED, _BUSY),
}

_LOCKED_DOWN: dict[Input, Step] = {
    **_barred(State.LOCKED_DOWN),
    **_orders_at_rest(State.LOCKED_DOWN),
    Input.GRANT_ENTRY: _refuse(State.LOCKED_DOWN, Refusal.LOCKDOWN),
    Input.GRANT_EXEMPT: _OPENED_BY_CREDIT,
    Input.GRANT_EXIT: _OPENED_BY_CREDIT,
    Input.GRANT_AGAIN: _refuse(State.LOCKED_DOWN, Refusal.LOCKDOWN),
    Input.GRANT_OTHER: _refuse(State.LOCKED_DOWN, Refusal.LOCKDOWN),
    Input.FREE: _refuse(State.LOCKED_DOWN, Refusal.LOCKDOWN),  # a lockdown ends by its own release and nothing else
}

_OUT_OF_SERVICE: dict[Input, Step] = {
    **_barred(State.OUT_OF_SERVICE),
    **_orders_at_rest(State.OUT_OF_SERVICE),
    Input.GRANT_ENTRY: _refuse(State.OUT_OF_SERVICE, Refusal.OUT_OF_SERVICE),
    Input.GRANT_EXEMPT: _refuse(State.OUT_OF_SERVICE, Refusal.OUT_OF_SERVICE),
    Input.GRANT_EXIT: _OPENED_BY_CREDIT,
    Input.GRANT_AGAIN: _refuse(State.OUT_OF_SERVICE, Refusal.OUT_OF_SERVICE),
    Input.GRANT_OTHER: _refuse(State.OUT_OF_SERVICE, Refusal.OUT_OF_SERVICE),
    Input.FREE: _refuse(State.OUT_OF_SERVICE, Refusal.OUT_OF_SERVICE),
}

# Open to all: what would be an alarm elsewhere is masked here, and each body is counted as it passes.
_FREE: dict[Input, Step] = {
    **_orders_at_rest(State.FREE),
    # Somebody presents all the same: the lane opens, and who of those passing it was cannot be seen.
    Input.GRANT_ENTRY: _stay(State.FREE, Effect.OPEN, Effect.UNKNOWN),
    Input.GRANT_EXEMPT: _stay(State.FREE, Effect.OPEN, Effect.UNKNOWN),
    Input.GRANT_EXIT: _stay(State.FREE, Effect.OPEN, Effect.UNKNOWN),
    Input.GRANT_AGAIN: _refuse(State.FREE, _BUSY),
    Input.GRANT_OTHER: _refuse(State.FREE, _BUSY),
    Input.REVOKE: _stay(State.FREE),
    Input.BOOTED: _stay(State.FREE),
    Input.NEAR: _stay(State.FREE, Effect.OPEN),
    Input.FAR: _stay(State.FREE, Effect.OPEN_OUT),
    Input.EXIT_APPROACH: _stay(State.FREE, Effect.OPEN_OUT),
    Input.BUTTON: _stay(State.FREE, Effect.EGRESS, Effect.OPEN_OUT),
    Input.LINE: _stay(State.FREE),
    Input.LINE_BACK: _stay(State.FREE),
    Input.CRAWL: _stay(State.FREE),
    Input.OPENED: _stay(State.FREE),
    Input.PASSED: _stay(State.FREE, Effect.COMPLETED),
    Input.PASSED_MORE: _stay(State.FREE, Effect.COMPLETED),
    Input.PASSED_BACK: _stay(State.FREE, Effect.COMPLETED),
    Input.SECOND: _stay(State.FREE),
    Input.SECOND_CREDITED: _stay(State.FREE),
    Input.BACK: _stay(State.FREE),
    Input.AT_REST: _stay(State.FREE),
    Input.VENDOR_ALARM: _alarm(Effect.FORCED),
    Input.FIRE_ON: Step(State.LOCKED_OPEN, (Effect.FIRE_ASSERTED,), Timer.STOP),
    Input.FIRE_OFF: _stay(State.FREE),
    Input.FAULT_ON: Step(REST, (), Timer.STOP),
    Input.FAULT_OFF: Step(REST, (), Timer.STOP),
    Input.TIMEOUT: _stay(State.FREE, Effect.OPEN, Effect.OPEN_OUT, timer=Timer.HOLD),
    Input.NOBODY: _stay(State.FREE, Effect.OPEN, Effect.OPEN_OUT, timer=Timer.HOLD),
}

_WRONG_WAY = _alarm(Effect.NOT_TAKEN, Effect.WRONG_WAY)

_GRANTED: dict[Input, Step] = {
    **_orders_noted(State.GRANTED),
    Input.LOCKDOWN: Step(REST, (Effect.NOT_TAKEN, Effect.LOCKDOWN_ENTERED), Timer.STOP),
    Input.KEY_LOCKED: Step(REST, (Effect.NOT_TAKEN, Effect.LOCKDOWN_ENTERED), Timer.STOP),
    Input.GRANT_ENTRY: _refuse(State.GRANTED, _BUSY),
    Input.GRANT_EXEMPT: _refuse(State.GRANTED, _BUSY),
    Input.GRANT_EXIT: _refuse(State.GRANTED, _BUSY),
    Input.GRANT_AGAIN: _stay(State.GRANTED, timer=Timer.WAIT_FOR_START),  # its opening comes with the passage before it
    Input.GRANT_OTHER: _refuse(State.GRANTED, _BUSY),
    Input.REVOKE: Step(REST, (Effect.NOT_TAKEN,), Timer.STOP),
    Input.BOOTED: _stay(State.GRANTED),
    Input.NEAR: Step(State.PASSING, (), Timer.PASSAGE),
    Input.FAR: _WRONG_WAY,
    Input.EXIT_APPROACH: _WRONG_WAY,
    Input.BUTTON: Step(State.EGRESS, (Effect.NOT_TAKEN, Effect.EGRESS, Effect.OPEN_OUT), Timer.WAIT_FOR_START),
    Input.LINE: Step(State.PASSING, (), Timer.PASSAGE),  # a near beam that was broken already, or is faulty
    Input.LINE_BACK: _WRONG_WAY,
    Input.CRAWL: Step(State.PASSING, (), Timer.PASSAGE),  # a trolley pushed ahead is low as well
    Input.OPENED: _stay(State.GRANTED),  # the relay's own work
    Input.PASSED: Step(REST, (Effect.COMPLETED,), Timer.STOP),
    Input.PASSED_MORE: Step(State.GRANTED, (Effect.COMPLETED, Effect.OPEN), Timer.WAIT_FOR_START),
    Input.PASSED_BACK: _WRONG_WAY,
    Input.SECOND: _alarm(Effect.COMPLETED, Effect.TAILGATE),
    Input.SECOND_CREDITED: Step(State.PASSING, (), Timer.PASSAGE),
    Input.BACK: _stay(State.GRANTED),
    Input.AT_REST: _stay(State.GRANTED),
    Input.VENDOR_ALARM: _alarm(Effect.NOT_TAKEN, Effect.FORCED),
    Input.FIRE_ON: Step(State.LOCKED_OPEN, (Effect.UNKNOWN, Effect.FIRE_ASSERTED), Timer.STOP),
    Input.FIRE_OFF: _stay(State.GRANTED),
    Input.FAULT_ON: _stay(State.GRANTED),
    Input.FAULT_OFF: _stay(State.GRANTED),
    Input.TIMEOUT: Step(REST, (Effect.NOT_TAKEN,), Timer.STOP),
    Input.NOBODY: Step(REST, (Effect.NOT_TAKEN,), Timer.STOP),
}

_PASSING: dict[Input, Step] = {
    **_orders_noted(State.PASSING),  # whoever is in the lane finishes
    Input.GRANT_ENTRY: _refuse(State.PASSING, _BUSY),
    Input.GRANT_EXEMPT: _refuse(State.PASSING, _BUSY),
    Input.GRANT_EXIT: _refuse(State.PASSING, _BUSY),
    Input.GRANT_AGAIN: _stay(State.PASSING),
    Input.GRANT_OTHER: _refuse(State.PASSING, _BUSY),
    Input.REVOKE: _stay(State.PASSING),  # the sensors know better than a relay that did not confirm
    Input.BOOTED: _stay(State.PASSING),
    Input.NEAR: _stay(State.PASSING),
    Input.FAR: _stay(State.PASSING),
    Input.EXIT_APPROACH: _stay(State.PASSING),
    Input.BUTTON: _stay(State.PASSING, Effect.EGRESS, Effect.OPEN_OUT),
    Input.LINE: _stay(State.PASSING),
    Input.LINE_BACK: _stay(State.PASSING),
    Input.CRAWL: _stay(State.PASSING),
    Input.OPENED: _stay(State.PASSING),
    Input.PASSED: Step(REST, (Effect.COMPLETED,), Timer.STOP),
    Input.PASSED_MORE: Step(State.GRANTED, (Effect.COMPLETED, Effect.OPEN), Timer.WAIT_FOR_START),
    Input.PASSED_BACK: _stay(State.PASSING),
    Input.SECOND: _alarm(Effect.COMPLETED, Effect.TAILGATE),  # the first passage still counts
    Input.SECOND_CREDITED: _stay(State.PASSING),
    Input.BACK: Step(State.GRANTED, (Effect.REVERSED,), Timer.RESUME),
    Input.AT_REST: _stay(State.PASSING),
    Input.VENDOR_ALARM: _alarm(Effect.UNKNOWN, Effect.FORCED),
    Input.FIRE_ON: Step(State.LOCKED_OPEN, (Effect.UNKNOWN, Effect.FIRE_ASSERTED), Timer.STOP),
    Input.FIRE_OFF: _stay(State.PASSING),
    Input.FAULT_ON: _stay(State.PASSING),
    Input.FAULT_OFF: _stay(State.PASSING),
    Input.TIMEOUT: Step(State.HELD, (Effect.HELD_PRE,), Timer.HELD),
    Input.NOBODY: Step(REST, (Effect.NOT_TAKEN,), Timer.STOP),
}

_HELD: dict[Input, Step] = {
    **_no_grant(State.HELD, _BUSY),
    **_orders_noted(State.HELD),
    Input.REVOKE: _stay(State.HELD),
    Input.BOOTED: _stay(State.HELD),
    Input.NEAR: _stay(State.HELD),
    Input.FAR: _stay(State.HELD),
    Input.EXIT_APPROACH: _stay(State.HELD),
    Input.BUTTON: _stay(State.HELD, Effect.EGRESS, Effect.OPEN_OUT),
    Input.LINE: _stay(State.HELD),
    Input.LINE_BACK: _stay(State.HELD),
    Input.CRAWL: _stay(State.HELD),
    Input.OPENED: _stay(State.HELD),
    Input.PASSED: Step(REST, (Effect.COMPLETED, Effect.ALARMS_CLEARED), Timer.STOP),
    Input.PASSED_MORE: Step(
        State.GRANTED, (Effect.COMPLETED, Effect.ALARMS_CLEARED, Effect.OPEN), Timer.WAIT_FOR_START
    ),
    Input.PASSED_BACK: _stay(State.HELD),
    Input.SECOND: _alarm(Effect.COMPLETED, Effect.TAILGATE),
    Input.SECOND_CREDITED: _stay(State.HELD),
    Input.BACK: Step(REST, (Effect.NOT_TAKEN, Effect.ALARMS_CLEARED), Timer.STOP),
    Input.AT_REST: _stay(State.HELD),
    Input.VENDOR_ALARM: _alarm(Effect.UNKNOWN, Effect.FORCED),
    Input.FIRE_ON: Step(State.LOCKED_OPEN, (Effect.UNKNOWN, Effect.ALARMS_CLEARED, Effect.FIRE_ASSERTED), Timer.STOP),
    Input.FIRE_OFF: _stay(State.HELD),
    Input.FAULT_ON: _stay(State.HELD),
    Input.FAULT_OFF: _stay(State.HELD),
    Input.TIMEOUT: _stay(State.HELD, Effect.HELD, timer=Timer.STOP),
    Input.NOBODY: Step(REST, (Effect.NOT_TAKEN, Effect.ALARMS_CLEARED), Timer.STOP),
}

_EGRESS: dict[Input, Step] = {
    **_no_grant(State.EGRESS, _BUSY),
    **_orders_noted(State.EGRESS),
    Input.REVOKE: _stay(State.EGRESS),
    Input.BOOTED: _stay(State.EGRESS),
    Input.NEAR: _stay(State.EGRESS, timer=Timer.PASSAGE),
    Input.FAR: _stay(State.EGRESS),  # somebody waits on the entry side
    Input.EXIT_APPROACH: _stay(State.EGRESS, timer=Timer.PASSAGE),
    Input.BUTTON: _stay(State.EGRESS, Effect.OPEN_OUT, timer=Timer.WAIT_FOR_START),
    Input.LINE: _stay(State.EGRESS, timer=Timer.PASSAGE),
    Input.LINE_BACK: _alarm(Effect.WRONG_WAY),  # in through a lane that was opened to let somebody out
    Input.CRAWL: _stay(State.EGRESS),
    Input.OPENED: _stay(State.EGRESS),
    Input.PASSED: Step(REST, (Effect.COMPLETED,), Timer.STOP),
    Input.PASSED_MORE: _stay(State.EGRESS, Effect.COMPLETED, timer=Timer.PASSAGE),
    Input.PASSED_BACK: _alarm(Effect.WRONG_WAY),
    Input.SECOND: _stay(State.EGRESS, timer=Timer.PASSAGE),  # any number may leave
    Input.SECOND_CREDITED: _stay(State.EGRESS, timer=Timer.PASSAGE),
    Input.BACK: Step(REST, (), Timer.STOP),
    Input.AT_REST: _stay(State.EGRESS),
    Input.VENDOR_ALARM: _alarm(Effect.FORCED),
    Input.FIRE_ON: Step(State.LOCKED_OPEN, (Effect.FIRE_ASSERTED,), Timer.STOP),
    Input.FIRE_OFF: _stay(State.EGRESS),
    Input.FAULT_ON: _stay(State.EGRESS),
    Input.FAULT_OFF: _stay(State.EGRESS),
    Input.TIMEOUT: Step(State.HELD, (Effect.HELD_PRE,), Timer.HELD),
    Input.NOBODY: Step(REST, (), Timer.STOP),
}

_STILL = _stay(State.INTRUSION, timer=Timer.STOP)

_INTRUSION: dict[Input, Step] = {
    **_no_grant(State.INTRUSION, _BUSY),
    **_orders_noted(State.INTRUSION),
    Input.ACKNOWLEDGE: Step(REST, (Effect.ALARMS_CLEARED,), Timer.STOP),
    Input.REVOKE: _stay(State.INTRUSION),
    Input.BOOTED: _stay(State.INTRUSION),
    Input.NEAR: _STILL,
    Input.FAR: _STILL,
    Input.EXIT_APPROACH: _stay(State.INTRUSION, Effect.EGRESS, Effect.OPEN_OUT, timer=Timer.STOP),
    Input.BUTTON: _stay(State.INTRUSION, Effect.EGRESS, Effect.OPEN_OUT, timer=Timer.STOP),
    Input.LINE: _STILL,
    Input.LINE_BACK: _STILL,
    Input.CRAWL: _STILL,
    Input.OPENED: _STILL,
    Input.PASSED: _stay(State.INTRUSION),
    Input.PASSED_MORE: _stay(State.INTRUSION),
    Input.PASSED_BACK: _stay(State.INTRUSION),
    Input.SECOND: _STILL,
    Input.SECOND_CREDITED: _STILL,
    Input.BACK: _stay(State.INTRUSION),
    Input.AT_REST: _stay(State.INTRUSION, timer=Timer.ALARM),
    Input.VENDOR_ALARM: _STILL,
    Input.FIRE_ON: Step(State.LOCKED_OPEN, (Effect.ALARMS_CLEARED, Effect.FIRE_ASSERTED), Timer.STOP),
    Input.FIRE_OFF: _stay(State.INTRUSION),
    Input.FAULT_ON: _stay(State.INTRUSION),
    Input.FAULT_OFF: _stay(State.INTRUSION),
    Input.TIMEOUT: Step(REST, (Effect.ALARMS_CLEARED,), Timer.STOP),
    Input.NOBODY: Step(REST, (Effect.ALARMS_CLEARED,), Timer.STOP),
}

_LOCKED_OPEN: dict[Input, Step] = {
    **{each: _stay(State.LOCKED_OPEN) for each in Input},
    **_no_grant(State.LOCKED_OPEN, _FIRE),
    **_key_noted(State.LOCKED_OPEN),
    Input.FIRE_ON: _stay(State.LOCKED_OPEN, Effect.FIRE_ASSERTED),  # a further cause; the same again is none
    Input.LOCKDOWN: _refuse(State.LOCKED_OPEN, _FIRE),
    Input.LOCKDOWN_LEAVING: _refuse(State.LOCKED_OPEN, _FIRE),
    Input.FREE: _refuse(State.LOCKED_OPEN, _FIRE),
    Input.DISABLE: _refuse(State.LOCKED_OPEN, _FIRE),
    Input.ACKNOWLEDGE: _refuse(State.LOCKED_OPEN, _FIRE),
    Input.RELEASE: _stay(State.LOCKED_OPEN, Effect.LOCKDOWN_RELEASED),
    Input.END_FREE: _stay(State.LOCKED_OPEN, Effect.MODE),
    Input.ENABLE: _stay(State.LOCKED_OPEN, Effect.MODE),
    Input.RESET: Step(REST, (Effect.FIRE_CLEARED,), Timer.STOP),
    Input.RESET_EARLY: _refuse(State.LOCKED_OPEN, _FIRE),
    # The hard-wired line holds the lane open, unless it is shorted: whoever wants out is let out in any case.
    Input.EXIT_APPROACH: _stay(State.LOCKED_OPEN, Effect.EGRESS, Effect.OPEN_OUT),
    Input.BUTTON: _stay(State.LOCKED_OPEN, Effect.EGRESS, Effect.OPEN_OUT),
    # Who leaves in a fire counts: the number inside is what the fire brigade asks for.
    Input.PASSED: _stay(State.LOCKED_OPEN, Effect.COMPLETED),
    Input.PASSED_MORE: _stay(State.LOCKED_OPEN, Effect.COMPLETED),
    Input.PASSED_BACK: _stay(State.LOCKED_OPEN, Effect.COMPLETED),
}

TABLE: Mapping[State, Mapping[Input, Step]] = {
    State.BOOT: _BOOT,
    State.SECURED: _SECURED,
    State.GRANTED: _GRANTED,
    State.PASSING: _PASSING,
    State.EGRESS: _EGRESS,
    State.HELD: _HELD,
    State.INTRUSION: _INTRUSION,
    State.LOCKED_OPEN: _LOCKED_OPEN,
    State.FREE: _FREE,
    State.LOCKED_DOWN: _LOCKED_DOWN,
    State.OUT_OF_SERVICE: _OUT_OF_SERVICE,
}


def step(state: State, given: Input) -> Step:
    return TABLE[state][given]
