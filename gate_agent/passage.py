"""The lane's state machine as one table, total over state and input (access-control reference 3d, the thin version).

A lane is one direction through one barrier. Beams are named from the walker's side: near, middle (the barrier line), far.
The function is pure: it gives the next state and what to do; timers, records and relays belong to gate_agent.lane.
Not built yet and so not in the table: several credits, tailgating patterns, held alarm, free schedule, lockdown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from drivers.ports import Direction, LaneSignal


class State(StrEnum):
    SECURED = "secured"
    GRANTED = "granted"
    """One grant waits for somebody to walk."""
    PASSING = "passing"
    """Somebody is in the lane, not across the barrier."""
    CROSSED = "crossed"
    """Somebody is past the barrier and has not left the lane."""
    INTRUSION = "intrusion"
    LOCKED_OPEN = "locked_open"
    """Fire: the hard-wired line holds the lane open; software only watches."""


class Input(StrEnum):
    GRANT = "grant"
    REVOKE = "revoke"
    """The relay did not confirm: the grant cannot be walked."""
    NEAR = "near"
    MIDDLE = "middle"
    FAR = "far"
    OPENED = "opened"
    """The barrier's contact reports open."""
    CLEAR = "clear"
    """The last broken beam is whole again."""
    AT_REST = "at_rest"
    """All beams whole and the barrier closed, after either was not."""
    TIMEOUT = "timeout"
    """The state's own timer."""
    FIRE_ON = "fire_on"
    FIRE_OFF = "fire_off"


class Effect(StrEnum):
    COMPLETED = "completed"
    NOT_TAKEN = "not_taken"
    UNKNOWN = "unknown"
    FORCED = "forced"
    WRONG_WAY = "wrong_way"
    FORCED_CLEARED = "forced_cleared"


class Timer(StrEnum):
    """What the state's one timer has to do. Times are the lane's own configuration."""

    KEEP = "keep"
    STOP = "stop"
    WAIT_FOR_START = "wait_for_start"
    PASSAGE = "passage"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class Step:
    next: State
    effects: tuple[Effect, ...] = ()
    timer: Timer = Timer.KEEP


_S, _G, _P, _C = State.SECURED, State.GRANTED, State.PASSING, State.CROSSED
_I, _L = State.INTRUSION, State.LOCKED_OPEN


def _stay(state: State) -> Step:
    return Step(state)


_FORCED = Step(_I, (Effect.FORCED,), Timer.STOP)

TABLE: Mapping[State, Mapping[Input, Step]] = {
    _S: {
        Input.GRANT: Step(_G, (), Timer.WAIT_FOR_START),
        Input.REVOKE: _stay(_S),
        Input.NEAR: _stay(_S),  # somebody waits before the lane
        Input.MIDDLE: _FORCED,
        Input.FAR: _stay(_S),  # somebody leaves or waits on the other side
        Input.OPENED: _FORCED,
        Input.CLEAR: _stay(_S),
        Input.AT_REST: _stay(_S),
        Input.TIMEOUT: _stay(_S),
        Input.FIRE_ON: Step(_L, (), Timer.STOP),
        Input.FIRE_OFF: _stay(_S),
    },
    _G: {
        Input.GRANT: _stay(_G),  # one credit at most: the second attempt is refused as lane_busy
        Input.REVOKE: Step(_S, (Effect.NOT_TAKEN,), Timer.STOP),
        Input.NEAR: Step(_P, (), Timer.PASSAGE),
        Input.MIDDLE: Step(_P, (), Timer.PASSAGE),  # a near beam that was broken already, or is faulty
        Input.FAR: Step(_I, (Effect.NOT_TAKEN, Effect.WRONG_WAY), Timer.STOP),
        Input.OPENED: _stay(_G),  # the relay's own work
        Input.CLEAR: _stay(_G),
        Input.AT_REST: _stay(_G),
        Input.TIMEOUT: Step(_S, (Effect.NOT_TAKEN,), Timer.STOP),
        Input.FIRE_ON: Step(_L, (Effect.UNKNOWN,), Timer.STOP),
        Input.FIRE_OFF: _stay(_G),
    },
    _P: {
        Input.GRANT: _stay(_P),
        Input.REVOKE: _stay(_P),  # the sensors know better than a relay that did not confirm
        Input.NEAR: _stay(_P),
        Input.MIDDLE: _stay(_P),
        Input.FAR: Step(_C),
        Input.OPENED: _stay(_P),
        Input.CLEAR: Step(_G, (), Timer.WAIT_FOR_START),  # went back: the grant waits once more
        Input.AT_REST: _stay(_P),
        Input.TIMEOUT: Step(_S, (Effect.NOT_TAKEN,), Timer.STOP),
        Input.FIRE_ON: Step(_L, (Effect.UNKNOWN,), Timer.STOP),
        Input.FIRE_OFF: _stay(_P),
    },
    _C: {
        Input.GRANT: _stay(_C),
        Input.REVOKE: _stay(_C),
        Input.NEAR: _stay(_C),
        Input.MIDDLE: _stay(_C),
        Input.FAR: _stay(_C),
        Input.OPENED: _stay(_C),
        Input.CLEAR: Step(_S, (Effect.COMPLETED,), Timer.STOP),
        Input.AT_REST: _stay(_C),
        Input.TIMEOUT: Step(_S, (Effect.COMPLETED,), Timer.STOP),
        Input.FIRE_ON: Step(_L, (Effect.COMPLETED,), Timer.STOP),
        Input.FIRE_OFF: _stay(_C),
    },
    _I: {
        Input.GRANT: _stay(_I),
        Input.REVOKE: _stay(_I),
        Input.NEAR: Step(_I, (), Timer.STOP),
        Input.MIDDLE: Step(_I, (), Timer.STOP),
        Input.FAR: Step(_I, (), Timer.STOP),
        Input.OPENED: Step(_I, (), Timer.STOP),
        Input.CLEAR: _stay(_I),
        Input.AT_REST: Step(_I, (), Timer.ALARM),
        Input.TIMEOUT: Step(_S, (Effect.FORCED_CLEARED,), Timer.STOP),
        Input.FIRE_ON: Step(_L, (Effect.FORCED_CLEARED,), Timer.STOP),
        Input.FIRE_OFF: _stay(_I),
    },
    _L: {
        **{each: _stay(_L) for each in Input},
        Input.FIRE_OFF: Step(_S),
    },
}
BUSY = frozenset({State.GRANTED, State.PASSING, State.CROSSED, State.INTRUSION})
"""States in which another presentation is refused as `lane_busy`."""


def step(state: State, given: Input) -> Step:
    return TABLE[state][given]


_SIDES: Mapping[Direction, Mapping[LaneSignal, Input]] = {
    Direction.IN: {LaneSignal.BEAM_A: Input.NEAR, LaneSignal.BEAM_M: Input.MIDDLE, LaneSignal.BEAM_B: Input.FAR},
    Direction.OUT: {LaneSignal.BEAM_B: Input.NEAR, LaneSignal.BEAM_M: Input.MIDDLE, LaneSignal.BEAM_A: Input.FAR},
}


class Levels:
    """The sensors' present levels, and what a change of one means to the machine."""

    def __init__(self, direction: Direction) -> None:
        self._side = _SIDES[direction]
        self._active: dict[LaneSignal, bool] = {}

    def change(self, signal: LaneSignal, active: bool) -> tuple[Input, ...]:
        """Inputs that follow; none when nothing changed. A first level that is at rest changes nothing: a state that is
        unknown becomes known."""
        before = self._active.get(signal, False)
        self._active[signal] = active
        if before == active:
            return ()
        if signal is LaneSignal.FIRE:
            return (Input.FIRE_ON if active else Input.FIRE_OFF,)
        if signal is LaneSignal.CONTACT:
            if active:
                return (Input.OPENED,)
            return (Input.AT_REST,) if self.at_rest else ()
        if signal not in self._side:
            return ()
        if active:
            return (self._side[signal],)
        if self._beams():
            return ()
        return (Input.CLEAR, Input.AT_REST) if self.at_rest else (Input.CLEAR,)

    def _beams(self) -> bool:
        return any(self._active.get(beam, False) for beam in self._side)

    @property
    def at_rest(self) -> bool:
        return not self._beams() and not self._active.get(LaneSignal.CONTACT, False)
