"""One lane's passage: inputs conditioned, understood and stepped through the table; credits, alarms and timers kept.

Pure but for its own state: time is passed in (monotonic seconds), and what follows comes back as happenings, in order. The
caller turns them into events and relay pulses (gate_agent.barrier) and calls `tick` when `deadline` has come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from drivers.ports import Direction, LaneSignal
from gate_agent.passage import states
from gate_agent.passage.conditioning import (
    BEAMS,
    FIRE_LINES,
    HOUSING,
    Change,
    Conditioner,
    Fault,
    FaultChange,
)
from gate_agent.passage.sensors import (
    CRITICAL,
    REQUIRED,
    FullHeight,
    Seen,
    Sensors,
    SpeedGate,
    SwingDoor,
    Vendor,
    Word,
)
from gate_agent.passage.states import (
    KEYS,
    PASSAGE,
    RESTING,
    Effect,
    Egress,
    Input,
    Key,
    LaneType,
    Orders,
    Refusal,
    State,
    Timer,
)
from gate_agent.passage.table import TABLE

CONTACT_GAP_S = 0.05
"""A contact that opens again sooner has bounced."""
MAX_LEVEL = states.MAX_LEVEL
"""Highest lockdown level."""
KEY_GAP_S = 0.2
"""A key's contact that closes again sooner has bounced."""
RELAYS = (LaneSignal.RELAY_IN, LaneSignal.RELAY_OUT)
RELAY_STUCK_S = 15.0
"""No pulse is longer than 10 s: a feedback contact that still stands is welded, or its relay is."""
HOUSING_GAP_S = 1.0
"""What flickers is told as lasting, and at most so often."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Type and times of one lane, in seconds."""

    type: LaneType = LaneType.SPEED_GATE
    egress: Egress = Egress.FREE
    max_credits: int = 1
    wait_for_start_s: float = 5
    passage_s: float = 30
    held_alarm_s: float = 10
    """From the warning to the alarm for a passage that takes too long."""
    alarm_s: float = 5
    loiter_s: float = 30
    tail_gap_s: float = 0.15
    settle_s: float = 0.5
    crawl_s: float = 0.4
    stuck_s: float = 120
    hold_s: float = 4
    """How often a free door is opened anew."""


class Verb(StrEnum):
    """Orders a guard may give (ONVIF terms where it has them); each has its own undoing."""

    LOCKDOWN = "lockdown"
    RELEASE = "release"
    FREE = "free"
    END_FREE = "end_free"
    DISABLE = "disable"
    ENABLE = "enable"
    ACKNOWLEDGE = "acknowledge"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Credit:
    """The right of one person to pass once, from a recorded decision."""

    attempt: str
    direction: Direction
    exempt: bool = False
    """A responder's: a lockdown does not take it away."""
    companion: bool = False
    """One of two who were granted together: taken beside the other, however few may wait."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One effect. `attempt` is the credit it concerns, None for a passage without one. `cause` is a word of the event."""

    effect: Effect
    direction: Direction
    attempt: str | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True)
class SensorChanged:
    """An input is set aside as faulty, or (`fault` None) believed again."""

    signal: LaneSignal
    fault: Fault | None


Happenings = list[Happening | SensorChanged]


@dataclass(frozen=True, slots=True)
class Result:
    refusal: Refusal | None
    happenings: Sequence[Happening | SensorChanged] = ()


_SENSORS: dict[LaneType, Callable[[Settings], Sensors]] = {
    LaneType.SPEED_GATE: lambda settings: SpeedGate(settle_s=settings.settle_s, crawl_s=settings.crawl_s),
    LaneType.SWING_DOOR: lambda _settings: SwingDoor(),
    LaneType.FULL_HEIGHT: lambda _settings: FullHeight(),
    LaneType.VENDOR: lambda _settings: Vendor(),
}
_ALARMS = frozenset(
    {Effect.FORCED, Effect.CRAWL, Effect.WRONG_WAY, Effect.TAILGATE, Effect.LOITER, Effect.HELD_PRE, Effect.HELD}
)
_SIMPLE: dict[Word, Input] = {
    Word.CRAWL: Input.CRAWL,
    Word.OPENED: Input.OPENED,
    Word.BACK: Input.BACK,
    Word.AT_REST: Input.AT_REST,
    Word.BUTTON: Input.BUTTON,
    Word.VENDOR_ALARM: Input.VENDOR_ALARM,
}
_CAUSES: dict[Input, str] = {
    Input.LINE: "line",
    Input.LINE_BACK: "line",
    Input.SECOND: "line",
    Input.SECOND_CREDITED: "line",
    Input.OPENED: "contact",
    Input.PASSED: "passed",
    Input.PASSED_MORE: "passed",
    Input.VENDOR_ALARM: "vendor",
    Input.BUTTON: "button",
    Input.EXIT_APPROACH: "approach",
    Input.NOBODY: "hold",
    Input.TIMEOUT: "hold",
}
_FIRE_CAUSES: dict[LaneSignal, str] = {
    LaneSignal.FIRE: "alarm",
    LaneSignal.FIRE_OPEN: "open",
    LaneSignal.FIRE_SHORT: "short",
    LaneSignal.VENDOR_EMERGENCY: "vendor",
}
_HOUSING: dict[LaneSignal, tuple[Effect, Effect]] = {
    LaneSignal.TAMPER: (Effect.TAMPER, Effect.TAMPER_CLEARED),
    LaneSignal.MAINS_FAIL: (Effect.MAINS_LOST, Effect.MAINS_RESTORED),
    LaneSignal.BATTERY_LOW: (Effect.BATTERY_LOW, Effect.BATTERY_RESTORED),
}
_KEY_FREE, _KEY_LOCKED = LaneSignal.KEY_FREE, LaneSignal.KEY_LOCKED
_ORDER: dict[Verb, Input] = {
    Verb.LOCKDOWN: Input.LOCKDOWN,
    Verb.RELEASE: Input.RELEASE,
    Verb.FREE: Input.FREE,
    Verb.END_FREE: Input.END_FREE,
    Verb.DISABLE: Input.DISABLE,
    Verb.ENABLE: Input.ENABLE,
    Verb.ACKNOWLEDGE: Input.ACKNOWLEDGE,
    Verb.RESET: Input.RESET,
}


class Passage:
    """The lane. `state` starts as BOOT; `orders` are those that were in force before."""

    def __init__(self, settings: Settings, orders: Orders | None = None) -> None:
        self.settings = settings
        self.state = State.BOOT
        self.kept = orders or Orders()
        """What was ordered, to be made durable."""
        self.key = Key.NORMAL
        self.credits: deque[Credit] = deque()
        self.direction = Direction.IN
        """Of the passage under way; inwards at rest."""
        self.standing: set[Effect] = set()
        """Alarms raised and not yet cleared."""
        gaps = dict.fromkeys(BEAMS, settings.tail_gap_s) | {LaneSignal.CONTACT: CONTACT_GAP_S}
        gaps |= dict.fromkeys((_KEY_FREE, _KEY_LOCKED), KEY_GAP_S) | dict.fromkeys(HOUSING, HOUSING_GAP_S)
        # A rotor rests past its middle for as long as somebody stands in it; a beam is not broken for minutes.
        sticks = dict.fromkeys(BEAMS, settings.stuck_s) if settings.type is LaneType.SPEED_GATE else {}
        sticks |= dict.fromkeys(RELAYS, RELAY_STUCK_S)
        self._conditioner = Conditioner(gaps, sticks)
        self._sensors = _SENSORS[settings.type](settings)
        self._unknown = set(REQUIRED[settings.type])
        self._fire_causes: set[str] = set()
        """Told since the last reset."""
        self._not_ready = settings.type is LaneType.VENDOR
        self._timer: float | None = None
        self._start_by = 0.0

    # What the caller asks.

    @property
    def orders(self) -> Orders:
        """In force: what was ordered, and what the key says."""
        return self.kept.with_key(self.key)

    @property
    def housing(self) -> Sequence[LaneSignal]:
        """Which of TAMPER, MAINS_FAIL and BATTERY_LOW stand."""
        return sorted(each for each in HOUSING if self._conditioner.active(each))

    @property
    def _fire_line(self) -> bool:
        return any(self._conditioner.active(each) for each in FIRE_LINES)

    @property
    def fault(self) -> bool:
        """A sensor without which no passage can be judged is out, or the vendor's controller is not ready."""
        return self._not_ready or not CRITICAL[self.settings.type].isdisjoint(self._conditioner.faults)

    @property
    def faults(self) -> Sequence[LaneSignal]:
        """Inputs that are set aside."""
        return sorted(self._conditioner.faults)

    @property
    def door_open(self) -> bool | None:
        """By the contact; None while it is set aside."""
        if LaneSignal.CONTACT in self._conditioner.faults:
            return None
        return self._conditioner.active(LaneSignal.CONTACT)

    @property
    def waiting(self) -> Sequence[Direction]:
        """Directions in which somebody stands before the barrier."""
        return self._sensors.waiting

    @property
    def deadline(self) -> float | None:
        """Monotonic time at which `tick` has something to do."""
        found = (self._timer, self._conditioner.deadline, self._sensors.deadline)
        return min((at for at in found if at is not None), default=None)

    def may(self, direction: Direction, *, exempt: bool = False) -> Refusal | None:
        """Why a grant for `direction` would not be taken now; None when it would."""
        return TABLE[self.state][self._grant_input(direction, exempt)].refuse

    def preview(self, verb: Verb, level: int = 0) -> Refusal | Orders:
        """What `order` would answer: why not, or what is then to be made durable first (`kept`)."""
        refuse = TABLE[self.state][self._order_input(verb)].refuse
        if refuse is not None:
            return refuse
        if verb is Verb.RELEASE and self.key is Key.LOCKED:
            return Refusal.LOCKDOWN  # the key's, which ends by the key
        after = self._after(verb, level)
        if after == self.kept and verb is not Verb.ACKNOWLEDGE:
            return Refusal.NOTHING_TO_DO
        return after

    # What the caller reports.

    def grant(self, credit: Credit, at: float) -> Result:
        """A decision, recorded. The opening is among the happenings."""
        given = self._grant_input(credit.direction, credit.exempt, credit.companion)
        refuse = TABLE[self.state][given].refuse
        if refuse is not None:
            return Result(refuse)
        if self.state not in PASSAGE:
            self.direction = credit.direction
        self.credits.append(credit)
        return Result(None, self._apply(given, at))

    def revoke(self, attempt: str, at: float) -> Happenings:
        """The relay did not confirm the opening for `attempt`."""
        if not any(credit.attempt == attempt for credit in self.credits):
            return []
        return self._apply(Input.REVOKE, at)

    def order(self, verb: Verb, at: float, level: int = 0) -> Result:
        """A guard's order. `level` is that of a lockdown, 1 to MAX_LEVEL."""
        wanted = self.preview(verb, level)
        if isinstance(wanted, Refusal):
            return Result(wanted)
        given = self._order_input(verb)
        self.kept = wanted
        return Result(None, self._apply_bar(given, at))

    def _apply_bar(self, given: Input, at: float) -> Happenings:
        found: Happenings = []
        if given in {Input.LOCKDOWN, Input.KEY_LOCKED} and self.state in {State.PASSING, State.HELD}:
            found += self._drop_credits_behind()
        return found + self._apply(given, at)

    def change(self, signal: LaneSignal, active: bool, at: float) -> Happenings:
        """An input's level, or a change of it, as the hardware gives it at monotonic `at`."""
        found = self.tick(at)
        for each in self._conditioner.change(signal, active, at):
            found += self._believe(each, at)
        if signal in self._unknown:
            self._unknown.discard(signal)
            if not self._unknown:
                self._sensors.forget()
                found += self._apply(Input.BOOTED, at)
        return found

    def tick(self, at: float) -> Happenings:
        """Everything that is due by `at`, each at its own time."""
        found: Happenings = []
        while (due := self.deadline) is not None and due <= at:
            if self._conditioner.deadline is not None and self._conditioner.deadline <= due:
                for each in self._conditioner.tick(due):
                    found += self._believe(each, due)
            elif self._sensors.deadline is not None and self._sensors.deadline <= due:
                for seen in self._sensors.tick(due):
                    found += self._understand(seen, due)
            else:
                self._timer = None
                found += self._apply(Input.TIMEOUT if self._sensors.crossing else Input.NOBODY, due)
        return found

    # From levels to inputs of the table.

    def _believe(self, change: Change | FaultChange, at: float) -> Happenings:
        if isinstance(change, FaultChange):
            found: Happenings = [SensorChanged(change.signal, change.fault)]
            if change.signal in CRITICAL[self.settings.type]:
                found += self._apply(Input.FAULT_OFF if change.fault is None else Input.FAULT_ON, at)
            return found
        if change.signal in FIRE_LINES:
            return self._fire(change, at)
        if change.signal in {_KEY_FREE, _KEY_LOCKED}:
            return self._turn_key(at, turned=not change.found and not self._unknown)
        if change.signal in HOUSING:
            begins, ends = _HOUSING[change.signal]
            return [Happening(begins if change.active else ends, Direction.IN)]
        passage = self.direction if self.state in PASSAGE else None
        happenings: Happenings = []
        for seen in self._sensors.change(change.signal, change.active, at, passage):
            happenings += self._understand(seen, at)
        return happenings

    def _understand(self, seen: Seen, at: float) -> Happenings:
        match seen.word:
            case Word.RESET:
                return list(self.order(Verb.RESET, at).happenings)
            case Word.NOT_READY | Word.READY:
                self._not_ready = seen.word is Word.NOT_READY
                return self._apply(Input.FAULT_ON if self._not_ready else Input.FAULT_OFF, at)
            case Word.ENTERED:
                return self._apply(self._entered(seen.direction), at)
            case Word.LINE | Word.SECOND:
                return self._apply(self._line(seen), at)
            case Word.PASSED:
                return self._passed(seen.direction, at)
            case _:
                return self._apply(_SIMPLE[seen.word], at)

    def _fire(self, change: Change, at: float) -> Happenings:
        if change.active:
            self.kept = replace(self.kept, fire=True)
            return self._apply(Input.FIRE_ON, at, cause=_FIRE_CAUSES[change.signal])
        # A line that is no longer cut may be in alarm, and a vendor's lane has a second one.
        return [] if self._fire_line else self._apply(Input.FIRE_OFF, at)

    def _turn_key(self, at: float, *, turned: bool) -> Happenings:
        """`turned`: not merely found so, at start or after a fault, which ends no lockdown.

        Both contacts at once are a key between two positions or a fault, and open nothing.
        """
        before, locked = self.key, self._conditioner.active(_KEY_LOCKED)
        self.key = Key.LOCKED if locked else Key.FREE if self._conditioner.active(_KEY_FREE) else Key.NORMAL
        found: Happenings = []
        if before is self.key:
            return found
        ends = turned and self.key is Key.FREE and self.kept.lockdown > 0
        if ends:
            self.kept = replace(self.kept, lockdown=0)
        if ends or (before is Key.LOCKED and not self.kept.lockdown):
            found += self._apply(Input.KEY_RELEASE, at)
        if before is Key.FREE and not self.kept.free:
            found += self._apply(Input.KEY_END_FREE, at)
        if self.key is Key.FREE:
            found += self._apply(Input.KEY_FREE, at)
        elif self.key is Key.LOCKED:
            found += self._apply_bar(self._bar(Input.KEY_LOCKED, Input.KEY_LOCKED_LEAVING), at)
        return found

    def _entered(self, side: Direction | None) -> Input:
        if side is None or side is self.direction:
            return Input.NEAR
        if self.state not in PASSAGE and self.settings.egress is Egress.FREE:
            return Input.EXIT_APPROACH
        return Input.FAR

    def _line(self, seen: Seen) -> Input:
        if seen.direction is not None and seen.direction is not self.direction:
            return Input.LINE_BACK
        if seen.word is Word.LINE:
            return Input.LINE
        # Without credits a passage is free: any number may follow.
        return Input.SECOND if len(self.credits) == 1 else Input.SECOND_CREDITED

    def _passed(self, direction: Direction | None, at: float) -> Happenings:
        if direction is None:
            return self._apply(Input.BACK, at)
        if direction is not self.direction:
            return self._apply(Input.PASSED_BACK, at, direction)
        more = len(self.credits) > 1 or (self.state is State.EGRESS and self._sensors.crossing)
        return self._apply(Input.PASSED_MORE if more else Input.PASSED, at, direction)

    def _grant_input(self, direction: Direction, exempt: bool, companion: bool = False) -> Input:
        if self.state in PASSAGE:
            barred = direction is Direction.IN and self._entry_barred and not exempt
            full = len(self.credits) >= self.settings.max_credits + companion
            same = direction is self.direction and bool(self.credits)
            return Input.GRANT_AGAIN if same and not full and not barred else Input.GRANT_OTHER
        if direction is Direction.OUT:
            return Input.GRANT_EXIT
        return Input.GRANT_EXEMPT if exempt else Input.GRANT_ENTRY

    @property
    def _entry_barred(self) -> bool:
        return self.orders.rest(fault=self.fault) in {State.LOCKED_DOWN, State.OUT_OF_SERVICE, State.LOCKED_OPEN}

    def _order_input(self, verb: Verb) -> Input:
        if verb is Verb.LOCKDOWN:
            return self._bar(Input.LOCKDOWN, Input.LOCKDOWN_LEAVING)
        if verb is Verb.RESET and self._fire_line:
            return Input.RESET_EARLY
        return _ORDER[verb]

    def _bar(self, given: Input, leaving: Input) -> Input:
        """A lockdown, or a lockdown that bars nobody who is on the way."""
        out = self.state in PASSAGE and self.direction is Direction.OUT
        exempt = bool(self.credits) and all(credit.exempt for credit in self.credits)
        return leaving if out or exempt else given

    def _after(self, verb: Verb, level: int) -> Orders:
        match verb:
            case Verb.LOCKDOWN:
                return replace(self.kept, lockdown=min(max(level, 1), MAX_LEVEL))
            case Verb.RELEASE:
                return replace(self.kept, lockdown=0)
            case Verb.FREE | Verb.END_FREE:
                return replace(self.kept, free=verb is Verb.FREE)
            case Verb.DISABLE | Verb.ENABLE:
                return replace(self.kept, disabled=verb is Verb.DISABLE)
            case Verb.RESET:
                return replace(self.kept, fire=False)
            case Verb.ACKNOWLEDGE:
                return self.kept

    # The table.

    def _apply(
        self, given: Input, at: float, direction: Direction | None = None, *, cause: str | None = None
    ) -> Happenings:
        """`cause`: where the input alone does not say it."""
        row = TABLE[self.state][given]
        if row.refuse is not None:
            return []
        if not {Effect.OPEN, Effect.OPEN_OUT}.isdisjoint(row.effects):
            self._conditioner.renew(RELAYS, at)
        before = self.state
        rest = self.orders.rest(fault=self.fault)
        self.state = rest if row.next is None else row.next
        found = self._effects(row.effects, given, direction, cause)
        if self.state is State.EGRESS:
            self.direction = Direction.OUT
        elif self.state not in PASSAGE:
            self.direction = Direction.IN
        self._set_timer(row.timer, at)
        if before is not self.state:
            found += self._entered_state(before, at)
        return found

    def _entered_state(self, before: State, at: float) -> Happenings:
        if self.state is State.INTRUSION and self._sensors.at_rest:
            return self._apply(Input.AT_REST, at)
        if self.state is State.GRANTED and self.direction is Direction.IN and self._entry_barred:
            # Barred while somebody was in the lane, who went back: an ordinary credit does not outlive that.
            return [] if all(credit.exempt for credit in self.credits) else self._apply(Input.REVOKE, at)
        if self.state is State.FREE and self.settings.type is not LaneType.SPEED_GATE:
            return self._apply(Input.NOBODY, at)
        found: Happenings = []
        if self.state in RESTING and before not in {State.EGRESS, State.BOOT}:
            # Whoever came while somebody else passed makes no edge any more.
            for side in self._sensors.waiting:
                if self.state in RESTING:
                    found += self._apply(self._entered(side), at)
        return found

    def _effects(
        self, effects: Sequence[Effect], given: Input, direction: Direction | None, cause: str | None
    ) -> Happenings:
        known = "key" if given in KEYS else _CAUSES.get(given, "")
        found: Happenings = []
        for effect in effects:
            found += self._effect(effect, known if cause is None else cause, direction or self.direction)
        return found

    def _effect(self, effect: Effect, cause: str, direction: Direction) -> Happenings:
        if effect in {Effect.HELD_PRE, Effect.HELD, Effect.LOITER}:
            cause = ""
        match effect:
            case Effect.FIRE_ASSERTED:
                if cause in self._fire_causes:
                    return []
                self._fire_causes.add(cause)
                return [Happening(effect, direction, None, cause)]
            case Effect.FIRE_CLEARED:
                self._fire_causes.clear()
                return [Happening(effect, direction)]
            case Effect.OPEN:
                attempt = self.credits[0].attempt if self.credits else None
                return [Happening(effect, direction, attempt, cause)]
            case Effect.OPEN_OUT:
                return [Happening(effect, Direction.OUT, None, cause)]
            case Effect.COMPLETED:
                if self.credits and direction is self.direction:
                    return [Happening(effect, direction, self.credits.popleft().attempt)]
                return [Happening(effect, direction, None, self._uncredited)]
            case Effect.NOT_TAKEN | Effect.UNKNOWN:
                gone = list(self.credits)
                self.credits.clear()
                return [Happening(effect, credit.direction, credit.attempt) for credit in gone]
            case Effect.REVERSED:
                return [Happening(effect, direction, self.credits[0].attempt if self.credits else None)]
            case Effect.EGRESS:
                return [Happening(effect, Direction.OUT, None, cause)]
            case Effect.ALARMS_CLEARED:
                cleared: Happenings = [
                    Happening(effect, direction, None, str(alarm)) for alarm in sorted(self.standing)
                ]
                self.standing.clear()
                return cleared
            case _ if effect in _ALARMS:
                if effect in self.standing:
                    return []
                self.standing.add(effect)
                return [Happening(effect, direction, None, cause)]
            case _:
                return [Happening(effect, direction, None, cause)]

    @property
    def _uncredited(self) -> str:
        """Why somebody passed without a credit."""
        if self.state is State.LOCKED_OPEN:
            return "fire"
        return "free" if self.state is State.FREE else "egress"

    def _drop_credits_behind(self) -> Happenings:
        """A lockdown lets the one in the lane finish; whoever has not started may not begin."""
        if self.direction is not Direction.IN or len(self.credits) < 2:
            return []
        behind = [credit for at, credit in enumerate(self.credits) if at > 0 and not credit.exempt]
        for credit in behind:
            self.credits.remove(credit)
        return [Happening(Effect.NOT_TAKEN, credit.direction, credit.attempt) for credit in behind]

    def _set_timer(self, timer: Timer, at: float) -> None:
        settings = self.settings
        match timer:
            case Timer.KEEP:
                return
            case Timer.STOP:
                self._timer = None
            case Timer.WAIT_FOR_START:
                self._timer = self._start_by = at + settings.wait_for_start_s
            case Timer.RESUME:
                self._timer = max(at, self._start_by)
            case Timer.PASSAGE:
                self._timer = at + settings.passage_s
            case Timer.HELD:
                self._timer = at + settings.held_alarm_s
            case Timer.ALARM:
                self._timer = at + settings.alarm_s
            case Timer.LOITER:
                self._timer = at + settings.loiter_s
            case Timer.HOLD:
                self._timer = at + settings.hold_s
