"""The real passage machine on a virtual clock, with people of testbed.person in its lane: what the sensors saw, what it did.

The barrier here opens with the relay and closes behind the one it let through; it asks the machine's own effects, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from drivers.ports import Direction, LaneSignal
from gate_agent.passage import (
    PASSAGE,
    Credit,
    Effect,
    Happening,
    LaneType,
    Passage,
    Refusal,
    SensorChanged,
    Settings,
    State,
)
from gate_agent.passage.sensors import REQUIRED
from testbed.lane_play import Act, Ask, Change, Through, play
from testbed.person import Actor

OPENING = frozenset({Effect.OPEN, Effect.OPEN_OUT})
AFTER_S = 1.0
"""What is shown after the last thing that happened."""
LONGEST_S = 600.0
ATTEMPT = "simulated"


@dataclass(frozen=True, slots=True)
class Entered:
    at: float
    state: State


@dataclass(frozen=True, slots=True)
class Happened:
    at: float
    what: Happening | SensorChanged


@dataclass(slots=True)
class Timeline:
    """Times in seconds from the start of the play."""

    settings: Settings
    grant_at: float | None
    refusal: Refusal | None = None
    """Why the grant was not taken."""
    changes: list[Change] = field(default_factory=list)
    states: list[Entered] = field(default_factory=list)
    happened: list[Happened] = field(default_factory=list)
    turned_away: list[float] = field(default_factory=list)
    """Times at which somebody found the barrier closed."""
    end: float = 0.0

    @property
    def outcome(self) -> tuple[str, ...]:
        """Every effect but the openings, in order; an input set aside is `sensor fault`."""
        found = [each.what for each in self.happened]
        return tuple(
            str(what.effect) if isinstance(what, Happening) else "sensor fault"
            for what in found
            if isinstance(what, SensorChanged) or what.effect not in OPENING
        )


class _Run:
    def __init__(self, settings: Settings, grant_at: float | None) -> None:
        self.passage = Passage(settings)
        self.line = Timeline(settings, grant_at)
        self._released: set[Direction] = set()
        for signal in sorted(REQUIRED[settings.type]):
            self._took(self.passage.change(signal, signal is LaneSignal.VENDOR_READY, 0.0), 0.0)
        self._noted(0.0)

    def _took(self, found: Sequence[Happening | SensorChanged], at: float) -> None:
        for what in found:
            self.line.happened.append(Happened(at, what))
            if isinstance(what, Happening) and what.effect in OPENING:
                self._released.add(what.direction)

    def _noted(self, at: float) -> None:
        if not self.line.states or self.line.states[-1].state is not self.passage.state:
            self.line.states.append(Entered(at, self.passage.state))

    def until(self, at: float) -> None:
        """Whatever is due before `at`, each at its own time."""
        while (due := self.passage.deadline) is not None and due <= min(at, LONGEST_S):
            self._took(self.passage.tick(due), due)
            self._noted(due)

    def grant(self, direction: Direction, at: float) -> None:
        self.until(at)
        result = self.passage.grant(Credit(ATTEMPT, direction), at)
        self.line.refusal = result.refusal
        self._took(result.happenings, at)
        self._noted(at)

    def change(self, change: Change) -> None:
        self.until(change.at)
        self.line.changes.append(change)
        self._took(self.passage.change(change.signal, change.active, change.at), change.at)
        self._noted(change.at)

    def is_open(self, ask: Ask) -> bool:
        self.until(ask.at)
        # A door that is unlocked opens from either side.
        any_way = self.line.settings.type is LaneType.SWING_DOOR
        released = bool(self._released) if any_way else ask.direction in self._released
        found = released and self.passage.state in PASSAGE | {State.FREE, State.LOCKED_OPEN}
        if not found:
            self.line.turned_away.append(ask.at)
        return found

    def through(self, through: Through) -> None:
        """The barrier closes behind them, unless the machine opens it again."""
        self._released.discard(through.direction)

    def finish(self) -> Timeline:
        last = self.line.changes[-1].at if self.line.changes else 0.0
        self.until(LONGEST_S)
        moments = [*(each.at for each in self.line.happened), *(each.at for each in self.line.states)]
        self.line.end = max([last, self.line.grant_at or 0.0, *moments]) + AFTER_S
        return self.line


def simulate(settings: Settings, actors: Sequence[Actor], *, direction: Direction, grant_at: float | None) -> Timeline:
    """`grant_at`: when a decision lets one person pass in `direction`; None: nobody is let in."""
    run = _Run(settings, grant_at)
    granted = grant_at is None
    acts = play(actors, settings.type)
    answer: bool | None = None
    while True:
        try:
            act: Act = acts.send(answer)
        except StopIteration:
            break
        answer = None
        if not granted and grant_at is not None and act.at >= grant_at:
            run.grant(direction, grant_at)
            granted = True
        if isinstance(act, Ask):
            answer = run.is_open(act)
        elif isinstance(act, Through):
            run.through(act)
        else:
            run.change(act)
    if not granted and grant_at is not None:
        run.grant(direction, grant_at)
    return run.finish()
