"""What believed inputs mean, by type of lane: bodies that step in, cross, pass and go back.

Every type speaks the same few words (`Seen`), so that one table serves all. Directions are absolute here: IN is from A to B.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from drivers.ports import Direction, LaneSignal
from gate_agent.passage.states import LaneType


class Word(StrEnum):
    ENTERED = "entered"
    """A body steps in where passages in `direction` begin."""
    LINE = "line"
    SECOND = "second"
    """A further body is over the barrier line before the one ahead has left."""
    CRAWL = "crawl"
    OPENED = "opened"
    PASSED = "passed"
    BACK = "back"
    AT_REST = "at_rest"
    BUTTON = "button"
    RESET = "reset"
    VENDOR_ALARM = "vendor_alarm"
    NOT_READY = "not_ready"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Seen:
    word: Word
    direction: Direction | None = None


REQUIRED: Mapping[LaneType, frozenset[LaneSignal]] = {
    LaneType.SPEED_GATE: frozenset(
        {LaneSignal.BEAM_A, LaneSignal.BEAM_M, LaneSignal.BEAM_B, LaneSignal.CONTACT, LaneSignal.FIRE}
    ),
    LaneType.SWING_DOOR: frozenset({LaneSignal.CONTACT, LaneSignal.FIRE}),
    LaneType.FULL_HEIGHT: frozenset({LaneSignal.CONTACT, LaneSignal.BEAM_M, LaneSignal.FIRE}),
    LaneType.VENDOR: frozenset(
        {
            LaneSignal.PASSED_IN,
            LaneSignal.PASSED_OUT,
            LaneSignal.VENDOR_ALARM,
            LaneSignal.VENDOR_READY,
            LaneSignal.VENDOR_FAULT,
            LaneSignal.VENDOR_EMERGENCY,
        }
    ),
}
"""Inputs whose level has to be known before the lane serves. The others are optional: absent means at rest."""
CRITICAL: Mapping[LaneType, frozenset[LaneSignal]] = {
    LaneType.SPEED_GATE: frozenset({LaneSignal.BEAM_M, LaneSignal.CONTACT}),
    LaneType.SWING_DOOR: frozenset({LaneSignal.CONTACT}),
    LaneType.FULL_HEIGHT: frozenset({LaneSignal.CONTACT, LaneSignal.BEAM_M}),
    LaneType.VENDOR: frozenset({LaneSignal.PASSED_IN, LaneSignal.PASSED_OUT}),
}
"""Inputs without which no passage can be judged: a fault of one takes the lane out of service."""


class Sensors(Protocol):
    @property
    def crossing(self) -> bool:
        """Somebody is over the barrier line, or the door stands open."""
        ...

    @property
    def waiting(self) -> Sequence[Direction]:
        """Directions in which somebody stands before the barrier."""
        ...

    @property
    def at_rest(self) -> bool:
        """Nobody in it and the barrier closed."""
        ...

    @property
    def deadline(self) -> float | None: ...

    def change(self, signal: LaneSignal, active: bool, at: float, passage: Direction | None, /) -> Sequence[Seen]:
        """One believed change at monotonic `at`; `passage` is the direction of the passage under way, if any."""
        ...

    def tick(self, at: float, /) -> Sequence[Seen]:
        """`deadline` has come."""
        ...

    def forget(self) -> None:
        """Whoever is in the lane now began before we looked: they count as nobody's passage."""
        ...


def _common(signal: LaneSignal, active: bool) -> Sequence[Seen] | None:
    """Inputs that mean the same everywhere; None for the others."""
    match signal:
        case LaneSignal.BUTTON:
            return (Seen(Word.BUTTON),) if active else ()
        case LaneSignal.RESET:
            return (Seen(Word.RESET),) if active else ()
        case LaneSignal.RELAY_IN | LaneSignal.RELAY_OUT:
            return ()
        case _:
            return None


_SIDE = {LaneSignal.BEAM_A: Direction.IN, LaneSignal.BEAM_B: Direction.OUT}
"""Where a passage of that direction begins."""


_BEAMS = (LaneSignal.BEAM_A, LaneSignal.BEAM_M, LaneSignal.BEAM_B, LaneSignal.BEAM_LOW)


class SpeedGate:
    """Three beams across the lane. A body breaks near, line, far in this order and frees them in the same.

    Bodies over the line are counted; one has passed when the far beam is whole again and the line behind it too.
    """

    def __init__(self, *, settle_s: float, crawl_s: float) -> None:
        """`settle_s`: how long the lane may look empty between two beams. `crawl_s`: how long the low beam is broken
        alone until it is no shoe and no case."""
        self._settle_s, self._crawl_s = settle_s, crawl_s
        self._active: dict[LaneSignal, bool] = {}
        self._entered: Direction | None = None
        self._over_line = 0
        self._far_reached = False
        self._last_fallen: LaneSignal | None = None
        self._settles_at: float | None = None
        self._crawls_at: float | None = None
        self._passage: Direction | None = None
        """Of the passage under way when the low beam was broken."""

    def _is(self, signal: LaneSignal) -> bool:
        return self._active.get(signal, False)

    @property
    def _broken(self) -> bool:
        return any(self._is(beam) for beam in _BEAMS)

    @property
    def crossing(self) -> bool:
        return self._over_line > 0 or self._is(LaneSignal.BEAM_M)

    @property
    def waiting(self) -> Sequence[Direction]:
        return [side for beam, side in _SIDE.items() if self._is(beam)]

    @property
    def at_rest(self) -> bool:
        quiet = not self._broken and self._settles_at is None
        return quiet and not self._is(LaneSignal.CONTACT)

    @property
    def deadline(self) -> float | None:
        return min((at for at in (self._settles_at, self._crawls_at) if at is not None), default=None)

    def change(self, signal: LaneSignal, active: bool, at: float, passage: Direction | None) -> Sequence[Seen]:
        common = _common(signal, active)
        if common is not None:
            return common
        self._active[signal] = active
        match signal:
            case LaneSignal.BEAM_A | LaneSignal.BEAM_B:
                return self._side_rises(signal) if active else self._side_falls(signal, at)
            case LaneSignal.BEAM_M:
                return self._line_rises(passage) if active else self._falls(signal, at)
            case LaneSignal.BEAM_LOW:
                self._passage = passage
                self._crawls_at = at + self._crawl_s if active and not self._is(LaneSignal.BEAM_M) else None
                return () if active else self._falls(signal, at)
            case LaneSignal.CONTACT:
                return (Seen(Word.OPENED),) if active else self._rest()
            case _:
                return ()  # an input that no speed gate has

    def _side_rises(self, signal: LaneSignal) -> Sequence[Seen]:
        self._settles_at = None
        side = _SIDE[signal]
        if self._entered is None:
            self._entered = side
        elif side is not self._entered and self._over_line:
            self._far_reached = True
            return ()
        return (Seen(Word.ENTERED, side),)

    def _line_rises(self, passage: Direction | None) -> Sequence[Seen]:
        self._settles_at = self._crawls_at = None
        a, b = self._is(LaneSignal.BEAM_A), self._is(LaneSignal.BEAM_B)
        if not self._over_line and a != b:
            # Whoever stands at the only broken side is the one who crosses.
            self._entered = Direction.IN if a else Direction.OUT
        elif self._entered is None:
            self._entered = passage
        self._over_line += 1
        return (Seen(Word.LINE if self._over_line == 1 else Word.SECOND, self._entered),)

    def _side_falls(self, signal: LaneSignal, at: float) -> Sequence[Seen]:
        if self._far_reached and _SIDE[signal] is not self._entered:
            passed = self._over_line - self._is(LaneSignal.BEAM_M)
            self._over_line -= passed
            self._far_reached = False
            found = [Seen(Word.PASSED, self._entered)] * passed
            if not self._broken:
                self._empty()
                return [*found, *self._rest()]
            if not self._over_line:
                # Whoever is left stands at the near side and is the next to step in.
                a = self._is(LaneSignal.BEAM_A)
                self._entered = Direction.IN if a else Direction.OUT
            self._last_fallen = signal
            return found
        return self._falls(signal, at)

    def _falls(self, signal: LaneSignal, at: float) -> Sequence[Seen]:
        self._last_fallen = signal
        if not self._broken:
            self._settles_at = at + self._settle_s
        return ()

    def tick(self, at: float) -> Sequence[Seen]:
        found: list[Seen] = []
        if self._crawls_at is not None and at >= self._crawls_at:
            self._crawls_at = None
            # Under the beams, and over the line all the same: whoever was granted counts when the low beam is whole again.
            self._entered = self._entered or self._passage
            self._over_line += 1
            found.append(Seen(Word.CRAWL))
        if self._settles_at is not None and at >= self._settles_at:
            self._settles_at = None
            direction, over = self._entered, self._over_line
            near = {Direction.IN: LaneSignal.BEAM_A, Direction.OUT: LaneSignal.BEAM_B}
            back = not over or (direction is not None and self._last_fallen is near[direction])
            self._empty()
            # Over the line and not seen at the near side again: past it, though the far beam saw nothing.
            found += [Seen(Word.BACK, direction)] if back else [Seen(Word.PASSED, direction)] * over
            found += self._rest()
        return found

    def forget(self) -> None:
        self._empty()

    def _empty(self) -> None:
        self._entered, self._over_line, self._far_reached = None, 0, False

    def _rest(self) -> Sequence[Seen]:
        return (Seen(Word.AT_REST),) if self.at_rest else ()


class _Untimed:
    """What a type has in common whose sensors need no time and see nobody before the barrier."""

    @property
    def waiting(self) -> Sequence[Direction]:
        return ()

    @property
    def deadline(self) -> float | None:
        return None

    def tick(self, _at: float, /) -> Sequence[Seen]:
        return ()

    def forget(self) -> None:
        """Nothing is remembered from before."""


class SwingDoor(_Untimed):
    """One contact: the leaf is open or closed. How many go through, and which way, it cannot tell."""

    def __init__(self) -> None:
        self._open = False

    @property
    def crossing(self) -> bool:
        return self._open

    @property
    def at_rest(self) -> bool:
        return not self._open

    def change(self, signal: LaneSignal, active: bool, _at: float, passage: Direction | None, /) -> Sequence[Seen]:
        common = _common(signal, active)
        if common is not None:
            return common
        if signal is not LaneSignal.CONTACT:
            return ()
        self._open = active
        if active:
            return (Seen(Word.OPENED),) if passage is None else (Seen(Word.ENTERED, passage),)
        found = () if passage is None else (Seen(Word.PASSED, passage),)
        return (*found, Seen(Word.AT_REST))


class FullHeight(_Untimed):
    """A rotor that its lock lets turn one way: off its rest position, then past the point of no return, then home."""

    def __init__(self) -> None:
        self._turning = self._past = False

    @property
    def crossing(self) -> bool:
        return self._turning

    @property
    def at_rest(self) -> bool:
        return not self._turning

    def change(self, signal: LaneSignal, active: bool, _at: float, passage: Direction | None, /) -> Sequence[Seen]:
        common = _common(signal, active)
        if common is not None:
            return common
        if signal is LaneSignal.BEAM_M and active:
            self._past = True
            return (Seen(Word.LINE, passage),)
        if signal is not LaneSignal.CONTACT:
            return ()
        self._turning = active
        if active:
            self._past = False
            return (Seen(Word.OPENED),) if passage is None else (Seen(Word.ENTERED, passage),)
        past, self._past = self._past, False
        return Seen(Word.PASSED if past else Word.BACK, passage), Seen(Word.AT_REST)

    def forget(self) -> None:
        self._past = False


class Vendor(_Untimed):
    """The vendor's controller says who passed; it keeps the barrier safe and judges its own sensors."""

    def __init__(self) -> None:
        self._alarm = self._fault = False
        self._ready = False

    @property
    def crossing(self) -> bool:
        return False

    @property
    def at_rest(self) -> bool:
        return not self._alarm

    def change(self, signal: LaneSignal, active: bool, _at: float, _passage: Direction | None, /) -> Sequence[Seen]:
        common = _common(signal, active)
        if common is not None:
            return common
        match signal:
            case LaneSignal.PASSED_IN | LaneSignal.PASSED_OUT:
                direction = Direction.IN if signal is LaneSignal.PASSED_IN else Direction.OUT
                return (Seen(Word.PASSED, direction),) if active else ()
            case LaneSignal.VENDOR_ALARM:
                self._alarm = active
                return (Seen(Word.VENDOR_ALARM if active else Word.AT_REST),)
            case LaneSignal.VENDOR_READY | LaneSignal.VENDOR_FAULT:
                before = self._ready and not self._fault
                if signal is LaneSignal.VENDOR_READY:
                    self._ready = active
                else:
                    self._fault = active
                after = self._ready and not self._fault
                return () if before == after else (Seen(Word.READY if after else Word.NOT_READY),)
            case _:
                return ()
