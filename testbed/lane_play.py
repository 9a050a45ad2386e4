"""What a lane's sensors see while people pass, by type of lane: changes of inputs in order of time, from paths of testbed.person.

Somebody who finds the barrier closed goes away again, so a play asks (`Ask`) whether it is open. Whoever plays it, on a virtual
clock (testbed.simulation) or in real time (testbed.turnstile), answers. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from drivers.ports import Direction, LaneSignal
from gate_agent.passage import LaneType
from testbed.person import BEAM_M, Actor, union

PUSH_M = -0.2
"""A door leaf or a rotor begins to move when somebody is this close."""
NO_RETURN_M = 0.3
"""A rotor is past the point of no return."""
CLOSER_S = 1.5
"""A door leaf takes this long to fall shut."""
PASSED_S = 0.2
"""How long a vendor's controller holds its `passed` contact."""
VENDOR_ALARM_S = 3.0


@dataclass(frozen=True, slots=True)
class Change:
    """An input changes."""

    at: float
    signal: LaneSignal
    active: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """Is the barrier open in this direction, for somebody who stands before it now? Send True or False."""

    at: float
    direction: Direction


@dataclass(frozen=True, slots=True)
class Through:
    """Somebody is through: the barrier may close behind them."""

    at: float
    direction: Direction


Spans = list[tuple[float, float]]


def _beam(actor: Actor, where: float, *, low: bool) -> Spans:
    """When the beam `where` metres past the line is broken by `actor`; `low`: the one near the floor."""
    parts = [part for part in actor.parts if low or not part.low]
    return [
        span for part in parts for span in actor.path.within(where + part.offset, where + part.offset + part.length)
    ]


def _leaf(actor: Actor) -> Spans:
    """When a door leaf is open for `actor`."""
    return [(start, end + CLOSER_S) for start, end in actor.path.within(PUSH_M, actor.length + 0.3)]


def _speed_gate(actor: Actor, forced: bool) -> Mapping[LaneSignal, Spans]:
    near, far = LaneSignal.BEAM_A, LaneSignal.BEAM_B
    if actor.direction is Direction.OUT:
        near, far = far, near
    seen = {
        near: _beam(actor, -BEAM_M, low=False),
        LaneSignal.BEAM_M: _beam(actor, 0, low=False),
        LaneSignal.BEAM_LOW: _beam(actor, 0, low=True),
        far: _beam(actor, BEAM_M, low=False),
    }
    return {**seen, LaneSignal.CONTACT: _beam(actor, 0, low=True)} if forced else seen


def _swing_door(actor: Actor, _forced: bool) -> Mapping[LaneSignal, Spans]:
    return {LaneSignal.CONTACT: _leaf(actor)}


def _full_height(actor: Actor, _forced: bool) -> Mapping[LaneSignal, Spans]:
    if actor.together:
        return {}  # in the same compartment: the rotor turns once
    return {
        LaneSignal.CONTACT: actor.path.within(PUSH_M, actor.length + 0.3),
        LaneSignal.BEAM_M: actor.path.within(NO_RETURN_M, actor.length + 0.25),
    }


def _vendor(actor: Actor, forced: bool) -> Mapping[LaneSignal, Spans]:
    passed = actor.passes_at
    if passed is None or actor.together:
        return {}
    if forced:
        reached = actor.path.reaches(0)
        return {} if reached is None else {LaneSignal.VENDOR_ALARM: [(reached, reached + VENDOR_ALARM_S)]}
    signal = LaneSignal.PASSED_IN if actor.direction is Direction.IN else LaneSignal.PASSED_OUT
    return {signal: [(passed, passed + PASSED_S)]}


_SEEN: Mapping[LaneType, Callable[[Actor, bool], Mapping[LaneSignal, Spans]]] = {
    LaneType.SPEED_GATE: _speed_gate,
    LaneType.SWING_DOOR: _swing_door,
    LaneType.FULL_HEIGHT: _full_height,
    LaneType.VENDOR: _vendor,
}
_SEES_ALL = frozenset({LaneType.SPEED_GATE})
"""Types that see somebody before a closed barrier."""
_ONE_A_TIME = frozenset({LaneType.FULL_HEIGHT})
_HOLDS = frozenset({LaneType.FULL_HEIGHT})
"""A rotor that is locked cannot be forced."""
_OPEN_BELOW = frozenset({LaneType.SPEED_GATE, LaneType.VENDOR})


@dataclass(slots=True)
class _Playing:
    actor: Actor
    decided: bool
    forced: bool = False
    admitted: bool = True

    def seen(self, lane: LaneType) -> Mapping[LaneSignal, Spans]:
        return _SEEN[lane](self.actor, self.forced) if self.admitted or lane in _SEES_ALL else {}


Act: TypeAlias = Change | Ask | Through


def play(actors: Sequence[Actor], lane: LaneType) -> Generator[Act, bool | None, None]:
    """Everything in order of time. After an `Ask` the caller sends whether the barrier is open."""
    playing = [_Playing(actor, actor.asks_at is None) for actor in actors]
    levels: dict[LaneSignal, bool] = {}
    now = -1.0
    told: set[int] = set()
    answer = False
    while True:
        ask = min(
            (each for each in playing if not each.decided), key=lambda each: each.actor.asks_at or 0.0, default=None
        )
        until = float("inf") if ask is None else ask.actor.asks_at or 0.0
        for change in _between(playing, lane, now, until):
            if levels.get(change.signal, False) != change.active:
                yield from _throughs(playing, told, change.at)
                levels[change.signal] = change.active
                yield change
        yield from _throughs(playing, told, until)
        if ask is None:
            return
        now = until
        actor = ask.actor
        if not actor.together and not _occupied(playing, ask, lane):
            answer = bool((yield Ask(until, actor.direction)))
        elif not actor.together:
            answer = False
        _decide(ask, lane, answer)


def _decide(playing: _Playing, lane: LaneType, is_open: bool) -> None:
    actor = playing.actor
    playing.decided = True
    below = actor.under and lane in _OPEN_BELOW
    if is_open or (lane is LaneType.SPEED_GATE and below):
        return
    if (actor.forces or below) and lane not in _HOLDS:
        playing.forced = True
        return
    playing.admitted = False
    playing.actor = actor.turned_away()


def _occupied(playing: Sequence[_Playing], ask: _Playing, lane: LaneType) -> bool:
    """A rotor takes one body a turn."""
    at = ask.actor.asks_at or 0.0
    others = [each.actor.passes_at for each in playing if each is not ask and each.decided and each.admitted]
    return lane in _ONE_A_TIME and any(passed is not None and passed > at for passed in others)


_ORDER = {signal: number for number, signal in enumerate(LaneSignal)}


def _between(playing: Sequence[_Playing], lane: LaneType, after: float, until: float) -> list[Change]:
    """Changes after `after` up to `until`; of those at one moment, rising ones first: a body is never between two beams."""
    spans: dict[LaneSignal, Spans] = {}
    for each in playing:
        for signal, seen in each.seen(lane).items():
            spans.setdefault(signal, []).extend(seen)
    found = [
        Change(at, signal, active)
        for signal, seen in spans.items()
        for span in union(seen)
        for at, active in zip(span, (True, False), strict=True)
        if after < at <= until
    ]
    return sorted(found, key=lambda change: (change.at, not change.active, _ORDER[change.signal]))


def _throughs(playing: Sequence[_Playing], told: set[int], until: float) -> Generator[Through, None, None]:
    for number, each in enumerate(playing):
        passed = each.actor.passes_at
        if number not in told and each.decided and each.admitted and passed is not None and passed < until:
            told.add(number)
            yield Through(passed, each.actor.direction)
