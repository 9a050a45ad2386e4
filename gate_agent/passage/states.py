"""The words of the lane's state machine (access-control practice: speed-gate lane; ONVIF door states where it has one).

A lane is one barrier. Passage has a direction; a lane at rest looks inwards: `near` is then its entry side. While somebody has
a right to pass, or passes, `near` is the side where that passage begins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

MAX_LEVEL = 9
"""Highest lockdown level, and that of the key switch."""


class LaneType(StrEnum):
    """What stands there, and so what its sensors mean (gate_agent.passage.sensors)."""

    SPEED_GATE = "speed_gate"
    SWING_DOOR = "swing_door"
    FULL_HEIGHT = "full_height"
    VENDOR = "vendor"
    """A barrier with a controller of its own, which keeps it safe; we ask it to open and hear what it saw."""


class Egress(StrEnum):
    """How people leave through this lane. A button and the fire line open it in any case."""

    FREE = "free"
    """Whoever approaches from inside is let out."""
    READER = "reader"
    """A reader on the inside decides, as for entry."""
    CLOSED = "closed"
    """Nobody leaves here; the way out is another lane."""


class State(StrEnum):
    BOOT = "boot"
    """The levels of its inputs are not known yet."""
    SECURED = "secured"
    GRANTED = "granted"
    """One or more credits wait for somebody to walk."""
    PASSING = "passing"
    """Somebody is in the lane."""
    EGRESS = "egress"
    """Somebody leaves who needs no credential."""
    HELD = "held"
    """The passage takes too long."""
    INTRUSION = "intrusion"
    LOCKED_OPEN = "locked_open"
    """Fire: the hard-wired line holds the lane open until somebody resets it on the spot; software only lets out."""
    FREE = "free"
    """Open to all by order: each approach opens."""
    LOCKED_DOWN = "locked_down"
    """No entry but for responders; exit as ever."""
    OUT_OF_SERVICE = "out_of_service"
    """No entry; exit as ever."""


PASSAGE = frozenset({State.GRANTED, State.PASSING, State.EGRESS, State.HELD})
"""States that have a direction of passage."""
RESTING = frozenset({State.SECURED, State.FREE, State.LOCKED_DOWN, State.OUT_OF_SERVICE})
"""States a lane comes back to; which one follows from the orders in force (`Orders.rest`)."""


class Input(StrEnum):
    # Decisions, each recorded before it comes here.
    GRANT_ENTRY = "grant_entry"
    GRANT_EXEMPT = "grant_exempt"
    """Entry of a responder, whom a lockdown does not bar."""
    GRANT_EXIT = "grant_exit"
    GRANT_AGAIN = "grant_again"
    """A further credit in the direction of the passage under way."""
    GRANT_OTHER = "grant_other"
    """A grant that has to wait: the other direction, or no credit left."""
    REVOKE = "revoke"
    """The relay did not confirm: the newest credit cannot be walked."""
    # Orders.
    LOCKDOWN = "lockdown"
    LOCKDOWN_LEAVING = "lockdown_leaving"
    """A lockdown while somebody is on the way out: it bars entry, never exit."""
    RELEASE = "release"
    FREE = "free"
    END_FREE = "end_free"
    DISABLE = "disable"
    ENABLE = "enable"
    ACKNOWLEDGE = "acknowledge"
    """A guard has looked at the alarm."""
    RESET = "reset"
    """On the spot, with the fire line healthy again."""
    RESET_EARLY = "reset_early"
    """On the spot, while the fire line is still asserted."""
    # The guard's key switch. It is turned where a person stands, so no state refuses it; fire and out of service stay above it.
    KEY_FREE = "key_free"
    """Turned to "free"."""
    KEY_END_FREE = "key_end_free"
    """Turned away from "free"."""
    KEY_LOCKED = "key_locked"
    """Turned to "locked"."""
    KEY_LOCKED_LEAVING = "key_locked_leaving"
    """Turned to "locked" while somebody is on the way out, whom it does not bar."""
    KEY_RELEASE = "key_release"
    """Turned away from "locked", or to "free" in a lockdown, whoever ordered it."""
    # Sensors, as gate_agent.passage.sensors understands them.
    BOOTED = "booted"
    """Every input's level is known."""
    NEAR = "near"
    """A body steps in where the passage begins (at rest: on the entry side)."""
    FAR = "far"
    """A body steps in on the other side, where nobody may leave freely."""
    EXIT_APPROACH = "exit_approach"
    """At rest: a body steps in on the inside of a lane with free egress."""
    LINE = "line"
    """The barrier line is broken, in the direction of passage or in none that is known."""
    LINE_BACK = "line_back"
    """The barrier line is broken by a body from the other side."""
    CRAWL = "crawl"
    """Only the low beam at the barrier line is broken."""
    OPENED = "opened"
    """The barrier's own contact says open."""
    PASSED = "passed"
    """One body is through, in the direction of passage, and it had the last credit."""
    PASSED_MORE = "passed_more"
    """One body is through and credits remain."""
    PASSED_BACK = "passed_back"
    """One body is through, against the direction of passage (at rest: on its way out)."""
    SECOND = "second"
    """A second body follows over the barrier line without a credit."""
    SECOND_CREDITED = "second_credited"
    """A second body follows over the barrier line and has a credit."""
    BACK = "back"
    """Whoever was in the lane has gone back."""
    AT_REST = "at_rest"
    """All beams whole and the barrier closed, after either was not."""
    BUTTON = "button"
    """The exit button (request to exit)."""
    VENDOR_ALARM = "vendor_alarm"
    """The vendor's controller reports an alarm of its own."""
    FIRE_ON = "fire_on"
    FIRE_OFF = "fire_off"
    FAULT_ON = "fault_on"
    """A sensor without which no passage can be judged has failed."""
    FAULT_OFF = "fault_off"
    TIMEOUT = "timeout"
    """The state's own timer, and somebody is in the lane."""
    NOBODY = "nobody"
    """The state's own timer, and nobody is in the lane."""


ORDERS = frozenset(
    {
        Input.LOCKDOWN,
        Input.LOCKDOWN_LEAVING,
        Input.RELEASE,
        Input.FREE,
        Input.END_FREE,
        Input.DISABLE,
        Input.ENABLE,
        Input.ACKNOWLEDGE,
        Input.RESET,
        Input.RESET_EARLY,
    }
)
KEYS = frozenset({Input.KEY_FREE, Input.KEY_END_FREE, Input.KEY_LOCKED, Input.KEY_LOCKED_LEAVING, Input.KEY_RELEASE})
GRANTS = frozenset({Input.GRANT_ENTRY, Input.GRANT_EXEMPT, Input.GRANT_EXIT, Input.GRANT_AGAIN, Input.GRANT_OTHER})


class Effect(StrEnum):
    """What a row does beyond changing the state. Each but the opening ones is one event."""

    OPEN = "open"
    """Pulse the relay of the passage's direction. This and OPEN_OUT are all that moves a relay."""
    OPEN_OUT = "open_out"
    COMPLETED = "completed"
    NOT_TAKEN = "not_taken"
    """Every credit left goes back."""
    UNKNOWN = "unknown"
    """What becomes of the credits left cannot be seen."""
    REVERSED = "reversed"
    EGRESS = "egress"
    FORCED = "forced"
    CRAWL = "crawl"
    WRONG_WAY = "wrong_way"
    TAILGATE = "tailgate"
    LOITER = "loiter"
    ALARMS_CLEARED = "alarms_cleared"
    """Every alarm of this lane that stands."""
    HELD_PRE = "held_pre"
    HELD = "held"
    FIRE_ASSERTED = "fire_asserted"
    FIRE_CLEARED = "fire_cleared"
    LOCKDOWN_ENTERED = "lockdown_entered"
    LOCKDOWN_RELEASED = "lockdown_released"
    MODE = "mode"
    """Free or out of service, begun or ended by order."""
    # How the hardware fares, in whatever state: from no row.
    TAMPER = "tamper"
    TAMPER_CLEARED = "tamper_cleared"
    MAINS_LOST = "mains_lost"
    MAINS_RESTORED = "mains_restored"
    BATTERY_LOW = "battery_low"
    BATTERY_RESTORED = "battery_restored"


HOUSING = frozenset(
    {
        Effect.TAMPER,
        Effect.TAMPER_CLEARED,
        Effect.MAINS_LOST,
        Effect.MAINS_RESTORED,
        Effect.BATTERY_LOW,
        Effect.BATTERY_RESTORED,
    }
)
"""Of the hardware, not of a passage."""


class Refusal(StrEnum):
    """Why an order or a grant is not taken; the words of policy.reasons and of `command.refused`."""

    LANE_BUSY = "lane_busy"
    LOCKDOWN = "lockdown"
    OUT_OF_SERVICE = "out_of_service"
    FIRE_ACTIVE = "fire_active"
    RECORD_UNAVAILABLE = "record_unavailable"
    """The order cannot be made durable. No row of the table says this; whoever keeps the orders does."""
    NOTHING_TO_DO = "nothing_to_do"
    """The order asks for what is so already."""


class Key(StrEnum):
    """Position of the guard's key switch; a lane without one is at NORMAL."""

    NORMAL = "normal"
    FREE = "free"
    LOCKED = "locked"


class Timer(StrEnum):
    """What the state's one timer has to do. Times are the lane's own configuration."""

    KEEP = "keep"
    STOP = "stop"
    WAIT_FOR_START = "wait_for_start"
    RESUME = "resume"
    """What is left of the wait for somebody to start."""
    PASSAGE = "passage"
    HELD = "held"
    ALARM = "alarm"
    LOITER = "loiter"
    HOLD = "hold"
    """A free lane whose sensors do not see who comes is opened again and again, so that nothing stays open by itself."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What is in force at a lane, whatever passes there. Durable: a restart or a power cut ends none of it.

    What the key switch adds is not written down: its position is the memory, and is read before the lane serves.
    """

    fire: bool = False
    """The lane was opened by fire and nobody has reset it."""
    disabled: bool = False
    lockdown: int = 0
    """Level, 0 for none."""
    free: bool = False

    def with_key(self, key: Key) -> Orders:
        """These orders and what the key says."""
        match key:
            case Key.NORMAL:
                return self
            case Key.FREE:
                return replace(self, free=True)
            case Key.LOCKED:
                return replace(self, lockdown=MAX_LEVEL)

    def rest(self, *, fault: bool = False) -> State:
        """Where a lane rests: fire before all, then what bars entry, then what opens it."""
        if self.fire:
            return State.LOCKED_OPEN
        if self.disabled or fault:
            return State.OUT_OF_SERVICE
        if self.lockdown:
            return State.LOCKED_DOWN
        return State.FREE if self.free else State.SECURED


@dataclass(frozen=True, slots=True)
class Step:
    """One row. `next` None: where the orders in force let the lane rest. `refuse`: the input is not taken."""

    next: State | None
    effects: tuple[Effect, ...] = ()
    timer: Timer = Timer.KEEP
    refuse: Refusal | None = None
