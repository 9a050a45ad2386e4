"""How many are in each zone, from completed passages since the site's quiet hour, and how far that can be relied on.

Zones come from the rules document; which access point a lane serves, from the gate's own grants. Nobody is named or numbered: a
count is a difference of two counts. docs/queries.md has the words for what makes it uncertain.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from controller.batch import GateRow
from controller.counted import live, quarter_of
from controller.live import Live
from controller.query_rows import Muster, SilentGate, ZoneCount
from controller.reader import Reader
from controller.reading import Reading
from policy import document, limits
from policy.model import OUTSIDE, Point
from protocol import events
from protocol.clock import rfc3339
from protocol.events import Kind
from protocol.status import LaneState

RESET = time(4, 0)
BEHIND_S = 60
"""A gate whose oldest record waits for so long is behind: passages are missing here."""
AHEAD = 4
"""Quarters to come that count too: a gate's clock may be ahead."""
LOOKED_AT = 20_000
"""Newest grants of the building among which each lane's own is looked for."""
LEARN_S = 60.0
"""A lane that no grant was found of is looked for again after this long."""
UNCOUNTED = frozenset({Kind.ALARM_TAILGATE, Kind.ALARM_FORCED, Kind.ALARM_CRAWL})
"""Somebody may have passed who is in no count."""
OPENED = frozenset({Kind.FIRE_ASSERTED, Kind.DOOR_MODE})
DOUBTS = frozenset({Kind.PASSAGE_UNKNOWN, Kind.LOG_GAP}) | UNCOUNTED | OPENED
"""The condition of the index `quarters_doubts`, in its order."""
_DOUBTS = ", ".join(repr(str(kind)) for kind in sorted(DOUBTS))

Place = tuple[str, str, str]
"""Gate, lane, direction."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the controller is told about zones."""

    points: Mapping[str, Point] = field(default_factory=dict)
    """Of the rules document; empty: no zones are counted."""
    zones: tuple[str, ...] = ()
    reset: time = RESET
    """When nobody is inside, by the site's clock; at the beginning of a quarter of an hour."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What only the live picture knows."""

    behind: frozenset[str] = frozenset()
    """Gates whose outbox waits."""
    open_lanes: frozenset[tuple[str, str]] = frozenset()
    """Lanes that stand open now, by gate and lane."""
    expected: frozenset[str] = frozenset()
    """Gates that are enrolled."""


def settings(rules: Path | None, reset: time = RESET) -> Settings:
    """Of the rules document at `rules`. Raises PolicyError, OSError."""
    if rules is None:
        return Settings(reset=reset)
    with rules.open("rb") as file:
        policy = document.parse(file.read(limits.MAX_DOCUMENT + 1))
    return Settings(policy.points, tuple(policy.zones), reset)


def seen(picture: Live, enrolled: Iterable[str] = ()) -> Seen:
    """On the loop, before a question goes to its thread."""
    now = picture.clock.now()
    healths = {gate.id: gate.fresh_health(now) for gate in picture.gates.values()}
    return Seen(
        frozenset(name for name, health in healths.items() if health is not None and health.outbox_age_s >= BEHIND_S),
        frozenset(key for key, lane in picture.lanes.items() if lane.state in (LaneState.LOCKED_OPEN, LaneState.FREE)),
        frozenset(enrolled),
    )


@dataclass(frozen=True, slots=True)
class Way:
    """What one passage through a lane does: out of one zone, into the next."""

    leaves: str
    enters: str


class Occupancy:
    def __init__(self, reader: Reader, reading: Reading, zone: ZoneInfo, settings: Settings) -> None:
        self._reader, self._reading, self._zone, self._settings = reader, reading, zone, settings
        self._points: dict[tuple[str, str], tuple[str, str]] = {}
        """By gate and lane: the direction and the access point of a grant."""
        self._looked: float | None = None
        self._begin: datetime | None = None

    def since(self, now: datetime) -> datetime:
        """The last quiet hour."""
        day = now.astimezone(self._zone).date()
        reset = datetime.combine(day, self._settings.reset, self._zone)
        if reset > now:
            reset = datetime.combine(day - timedelta(days=1), self._settings.reset, self._zone)
        return reset

    def muster(self, now: datetime, known: Seen) -> Muster:
        """Inside a moment of the reader."""
        begin = self.since(now)
        passed, doubts = self._counts(quarter_of(begin), quarter_of(now) + AHEAD)
        if begin != self._begin:  # lanes may have been given other access points
            self._begin, self._looked = begin, None
            self._points.clear()
        self._learn(known, {(gate, lane) for gate, lane, _ in passed})
        inside: Counter[str] = Counter()
        uncertain: Counter[str] = Counter()
        reasons: defaultdict[str, set[str]] = defaultdict(set)
        strays = set()
        for (gate, lane, direction), n in passed.items():
            way = self._way(gate, lane, direction)
            if way is None:
                strays.add(f"{gate}/{lane}")
                continue
            inside[way.enters] += n
            inside[way.leaves] -= n
        for (gate, lane, direction), kind, n in doubts:
            why, counts = _doubt(kind)
            zones = self._zones_of_gate(gate) if kind == Kind.LOG_GAP else self._zones_of(gate, lane, direction)
            for zone in zones:
                reasons[zone].add(why)
                uncertain[zone] += n if counts else 0
        for gate, lane in known.open_lanes:
            for zone in self._zones_of(gate, lane, "in"):
                reasons[zone].add("lane_open")
        silent = self._silent(known)
        for each in silent:
            for zone in each.zones or self._settings.zones:
                reasons[zone].add(f"gate_{each.why}")
        for zone in self._settings.zones:
            if inside[zone] < 0:
                reasons[zone].add("below_zero")
                uncertain[zone] -= inside[zone]
            if strays:
                reasons[zone].add("lanes_unassigned")
        zones_ = [
            ZoneCount(zone, max(0, inside[zone]), uncertain[zone], not reasons[zone], tuple(sorted(reasons[zone])))
            for zone in self._settings.zones
        ]
        return Muster(rfc3339(begin), zones_, silent, sorted(strays))

    def _counts(self, first: int, last: int) -> tuple[Counter[Place], list[tuple[Place, str, int]]]:
        """Completed passages by place, and what makes them uncertain, of quarters from `first` to `last`."""
        passed: Counter[Place] = Counter()
        for gate, lane, direction, n in self._reader.rows(
            "SELECT gate, lane, dir, sum(n) FROM quarters WHERE kind = 'passage.completed' AND quarter BETWEEN ? AND ? "
            "GROUP BY gate, lane, dir",
            (first, last),
        ):
            passed[gate, lane, direction] += n
        doubts = [
            ((gate, lane, direction), kind, n)
            for gate, lane, direction, kind, n in self._reader.rows(
                f"SELECT gate, lane, dir, kind, sum(n) FROM quarters WHERE kind IN ({_DOUBTS}) "  # noqa: S608
                "AND quarter BETWEEN ? AND ? GROUP BY gate, lane, dir, kind",
                (first, last),
            )
        ]
        for each in live(self._reader, {Kind.PASSAGE_COMPLETED, *DOUBTS}):
            if not first <= each.quarter <= last:
                continue
            if each.kind == Kind.PASSAGE_COMPLETED:
                passed[each.gate, each.lane, each.dir] += 1
            else:
                doubts.append(((each.gate, each.lane, each.dir), each.kind, 1))
        return passed, doubts

    def _silent(self, known: Seen) -> list[SilentGate]:
        holes = {gate for (gate,) in self._reader.rows(_HOLES)}
        rows = self._reading.gates()
        found = [
            SilentGate(row.gate, why, row.last_seen, sorted(self._zones_of_gate(row.gate)))
            for row in rows
            if (why := _why(row, row.gate in holes, known)) is not None
        ]
        never = sorted(known.expected - {row.gate for row in rows})
        return found + [SilentGate(gate, "never_heard", None) for gate in never]

    def _zones_of_gate(self, gate: str) -> set[str]:
        lanes = [lane for of, lane in self._points if of == gate]
        return {zone for lane in lanes for zone in self._zones_of(gate, lane, "in")}

    def _zones_of(self, gate: str, lane: str, direction: str) -> set[str]:
        way = self._way(gate, lane, direction)
        return set() if way is None else {way.enters, way.leaves} - {OUTSIDE}

    def _way(self, gate: str, lane: str, direction: str) -> Way | None:
        """None where the lane's access point is not known, or not in the rules. One barrier stands between two zones, so a grant
        in one direction tells of both."""
        learned = self._points.get((gate, lane))
        point = None if learned is None else self._settings.points.get(learned[1])
        if learned is None or point is None:
            return None
        forth = direction == learned[0]
        return Way(point.from_zone, point.to_zone) if forth else Way(point.to_zone, point.from_zone)

    def _learn(self, known: Seen, lanes: Collection[tuple[str, str]]) -> None:
        """Grants name lane and access point. They are of the kinds that go after some days, so what they say is remembered."""
        now = self._reader.clock.monotonic()
        missing = {*lanes, *known.open_lanes} - self._points.keys()
        again = self._looked is None or (missing and now - self._looked >= LEARN_S)
        if not self._settings.points or not again:
            return
        self._looked = now
        newest: dict[tuple[str, str], int] = {}
        for gate, lane, arrival in self._reader.rows(
            "SELECT gate, lane, arrival FROM events WHERE kind = 'access.granted' ORDER BY time DESC LIMIT ?",
            (LOOKED_AT,),
        ):
            if lane is not None and (gate, lane) not in self._points:
                newest.setdefault((gate, lane), arrival)
        for key, arrival in newest.items():
            for (raw,) in self._reader.rows("SELECT raw FROM events WHERE arrival = ?", (arrival,)):
                data = events.parse(raw).data
                direction, point = data.get("dir"), data.get("point")
                if isinstance(direction, str) and isinstance(point, str):
                    self._points[key] = (direction, point)


_HOLES = """
    SELECT c.gate FROM chains c JOIN gates g ON g.gate = c.gate AND g.epoch = c.epoch
    WHERE c.mark < (SELECT max(seq) FROM events e WHERE e.gate = c.gate AND e.epoch = c.epoch)
"""
"""Gates of which records are held beyond one that has not come."""


def _doubt(kind: str) -> tuple[str, bool]:
    """Why, and whether each of them may be one person more or fewer."""
    if kind == Kind.PASSAGE_UNKNOWN:
        return "passages_unknown", True
    if kind in UNCOUNTED:
        return "passages_uncounted", True
    return ("records_lost", False) if kind == Kind.LOG_GAP else ("lane_stood_open", False)


def _why(row: GateRow, hole: bool, known: Seen) -> str | None:
    if row.stopped:
        return "stopped"
    if row.online is not True:
        return "offline" if row.online is False else "unknown"
    if hole:
        return "hole"
    return "behind" if row.gate in known.behind else None
