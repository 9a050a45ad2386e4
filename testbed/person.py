"""People in a lane: for the demo, for tests and for tuning times. Pure; chance is passed in.

A body moves along the lane and breaks whatever lies between its front and its back (testbed.lane_play). Metres are measured in
the direction of walking from the barrier line; seconds from the start of the play. Sizes and paces are ours, of ordinary people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from drivers.ports import Direction

BEAM_M = 0.6
"""From the barrier line to the beam on either side."""
READER_M = -1.0
"""Where a holder stands while presenting."""
STOP_M = -0.25
"""Where somebody stops before a closed barrier."""
AWAY_M = -2.0
PATIENCE_S = 2.0


class Kind(StrEnum):
    WALK = "walk"
    RUN = "run"
    """Runs, and through a closed barrier too."""
    HESITATE = "hesitate"
    TAILGATE = "tailgate"
    """A second one close behind the first."""
    CRAWL = "crawl"
    WHEELCHAIR = "wheelchair"
    TROLLEY = "trolley"
    TURN_BACK = "turn_back"
    TWO_AT_ONCE = "two_at_once"
    """Side by side, as one body."""
    WRONG_WAY = "wrong_way"
    """Somebody comes from the other side."""
    LOITER = "loiter"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a body or of what it takes along, in metres behind the front."""

    offset: float
    length: float
    low: bool = False
    """Only the low beam sees it."""


@dataclass(frozen=True, slots=True)
class Path:
    """Where the front is: (seconds, metres), straight between the points."""

    points: tuple[tuple[float, float], ...]

    def within(self, low: float, high: float) -> list[tuple[float, float]]:
        """Spans of time in which the front is from `low` to `high`."""
        found: list[tuple[float, float]] = []
        for (t0, x0), (t1, x1) in zip(self.points, self.points[1:], strict=False):
            if x0 == x1:
                inside = (t0, t1) if low <= x0 <= high else None
            else:
                pace = (t1 - t0) / (x1 - x0)
                reach = sorted((t0 + (low - x0) * pace, t0 + (high - x0) * pace))
                start, end = max(t0, reach[0]), min(t1, reach[1])
                inside = (start, end) if start <= end else None
            if inside is not None:
                found.append(inside)
        return union(found)

    def reaches(self, where: float) -> float | None:
        """When the front first is at or past `where`."""
        spans = self.within(where, float("inf"))
        return spans[0][0] if spans else None


def union(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Overlapping and touching spans as one."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1] + 1e-9:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


@dataclass(frozen=True, slots=True)
class Actor:
    """One body. `path` is what it does if the barrier lets it, or if it does not ask."""

    direction: Direction
    parts: tuple[Part, ...]
    path: Path
    forces: bool = False
    """Goes through a closed barrier."""
    under: bool = False
    """Below a barrier that leaves room at the floor."""
    together: bool = False
    """Beside the actor before, in the same opening."""

    @property
    def length(self) -> float:
        return max(part.offset + part.length for part in self.parts)

    @property
    def asks_at(self) -> float | None:
        """When it stands before the barrier; None: it never goes that far."""
        return self.path.reaches(STOP_M)

    @property
    def passes_at(self) -> float | None:
        """When its back is past the far beam; None: it never is."""
        return self.path.reaches(BEAM_M + self.length)

    def turned_away(self) -> Actor:
        """The same one before a closed barrier: waits, and leaves."""
        asked = self.asks_at or 0.0
        before = tuple(point for point in self.path.points if point[0] < asked)
        leaves = asked + PATIENCE_S
        path = Path((*before, (asked, STOP_M), (leaves, STOP_M), (leaves + (STOP_M - AWAY_M), AWAY_M)))
        return Actor(self.direction, self.parts, path)


_BODY = (Part(0, 0.35),)


def _walk(start: float, speed: float, length: float) -> Path:
    """From the reader to well behind the far beam."""
    end = BEAM_M + length + 1.0
    return Path(((0, READER_M), (start, READER_M), (start + (end - READER_M) / speed, end)))


def _halting(start: float, speed: float, where: float, seconds: float, length: float) -> Path:
    there = start + (where - READER_M) / speed
    end = BEAM_M + length + 1.0
    on = there + seconds
    return Path(((0, READER_M), (start, READER_M), (there, where), (on, where), (on + (end - where) / speed, end)))


def _and_back(start: float, speed: float, where: float, seconds: float) -> Path:
    there = start + (where - READER_M) / speed
    on = there + seconds
    return Path(
        ((0, READER_M), (start, READER_M), (there, where), (on, where), (on + (where - AWAY_M) / speed, AWAY_M))
    )


Vary = Callable[[float], float]
"""A figure as it turns out this time."""


def _one(parts: tuple[Part, ...], path: Path, direction: Direction, **more: bool) -> tuple[Actor, ...]:
    return (Actor(direction, parts, path, **more),)


def _tailgate(at: float, way: Direction, vary: Vary) -> tuple[Actor, ...]:
    speed, gap = vary(1.2), vary(0.4)
    first = _walk(at + vary(0.8), speed, 0.35)
    second = Path(tuple((t + (0.35 + gap) / speed if t else t, x) for t, x in first.points))
    return Actor(way, _BODY, first), Actor(way, _BODY, second)


def _two_at_once(at: float, way: Direction, vary: Vary) -> tuple[Actor, ...]:
    speed, behind = vary(1.1), vary(0.1)
    first = _walk(at + vary(0.8), speed, 0.35)
    second = Path(tuple((t + behind / speed if t else t, x) for t, x in first.points))
    return Actor(way, _BODY, first), Actor(way, _BODY, second, together=True)


def _wheelchair(at: float, way: Direction, vary: Vary) -> tuple[Actor, ...]:
    # Feet, then the big wheels; between them the beam looks through. Both hands are needed to start.
    parts = (Part(0, 0.4), Part(0.55, 0.6))
    return _one(parts, _walk(at + vary(6.0), vary(0.55), 1.15), way)


def _trolley(at: float, way: Direction, vary: Vary) -> tuple[Actor, ...]:
    parts = (Part(0, 0.35), Part(0.35 + vary(0.27), 0.5))
    return _one(parts, _walk(at + vary(1.0), vary(1.0), 1.2), way)


CAST: Mapping[Kind, Callable[[float, Direction, Vary], tuple[Actor, ...]]] = {
    Kind.WALK: lambda at, way, vary: _one(_BODY, _walk(at + vary(0.8), vary(1.2), 0.35), way),
    Kind.RUN: lambda at, way, vary: _one(_BODY, _walk(at + vary(0.3), vary(3.0), 0.35), way, forces=True),
    Kind.HESITATE: lambda at, way, vary: _one(_BODY, _halting(at + vary(3.0), vary(0.8), -0.3, vary(2.5), 0.35), way),
    Kind.TAILGATE: _tailgate,
    Kind.CRAWL: lambda at, way, vary: _one(
        (Part(0, 1.4, low=True),), _walk(at + vary(0.8), vary(0.5), 1.4), way, under=True
    ),
    Kind.WHEELCHAIR: _wheelchair,
    Kind.TROLLEY: _trolley,
    Kind.TURN_BACK: lambda at, way, vary: _one(_BODY, _and_back(at + vary(0.8), vary(1.0), 0.15, vary(0.8)), way),
    Kind.TWO_AT_ONCE: _two_at_once,
    Kind.WRONG_WAY: lambda at, way, vary: _one(
        _BODY, _walk(at + vary(1.0), vary(1.2), 0.35), Direction.OUT if way is Direction.IN else Direction.IN
    ),
    Kind.LOITER: lambda at, way, vary: _one(_BODY, _and_back(at + vary(0.8), vary(1.0), -0.3, vary(40)), way),
}
SPREAD = 0.05
"""Figures vary by this share to either side."""


def cast(kind: Kind, at: float, direction: Direction, random: Random | None = None) -> tuple[Actor, ...]:
    """Who plays. `at`: when the decision falls, seconds. Without `random` everybody is exactly as described."""
    if random is None:
        return CAST[kind](at, direction, lambda figure: figure)
    return CAST[kind](at, direction, lambda figure: figure * random.uniform(1 - SPREAD, 1 + SPREAD))
