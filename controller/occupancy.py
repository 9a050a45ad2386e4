"""How many are in each zone, from completed passages since the site's quiet hour, and how far that can be relied on.

Zones come from the rules document; which access point a lane serves, from the gates' own grants. Nobody is named or numbered: a
count is a difference of two counts. docs/queries.md has the words for what makes it uncertain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from controller.batch import GateRow
from controller.counted import live, quarter_of
from controller.query_rows import Muster, SilentGate, ZoneCount
from controller.reader import Reader
from controller.reading import Reading
from policy.model import OUTSIDE, Direction, Point
from protocol import events
from protocol.clock import rfc3339
from protocol.events import Kind

RESET = time(4, 0)
LOOKED_AT = 200
"""Newest events of a lane among which a grant is looked for, to learn its access points."""
LEARN_S = 900.0
"""A lane whose access point is not known is looked at again after this long."""
IN, OUT = "in", "out"
COUNTED = frozenset({Kind.PASSAGE_COMPLETED, Kind.PASSAGE_UNKNOWN, Kind.FIRE_ASSERTED, Kind.DOOR_MODE})


@dataclass(frozen=True, slots=True)
class Settings:
    """What the controller is told about zones."""

    points: Mapping[str, Point] = field(default_factory=dict)
    """Of the rules document; empty: no zones are counted."""
    zones: tuple[str, ...] = ()
    reset: time = RESET
    """When nobody is inside, by the site's clock."""
    flows: bool = True


@dataclass(frozen=True, slots=True)
class Way:
    """What one passage through a lane does: out of one zone, into the next."""

    leaves: str
    enters: str


class Occupancy:
    def __init__(self, reader: Reader, reading: Reading, zone: ZoneInfo, settings: Settings) -> None:
        self._reader, self._reading, self._zone, self._settings = reader, reading, zone, settings
        self._points: dict[tuple[str, str], dict[str, str]] = {}
        """By gate and lane: access point of each direction that has readers."""
        self._looked: dict[tuple[str, str], float] = {}

    def since(self, now: datetime) -> datetime:
        """The last quiet hour."""
        local = now.astimezone(self._zone)
        reset = datetime.combine(local.date(), self._settings.reset, self._zone)
        if reset > local:
            reset = datetime.combine(local.date() - timedelta(days=1), self._settings.reset, self._zone)
        return reset

    def muster(self, now: datetime) -> Muster:
        """Inside a moment of the reader."""
        begin = self.since(now)
        passed, unknown, doubts = self._passages(quarter_of(begin))
        inside: Counter[str] = Counter()
        wrong: Counter[str] = Counter()
        reasons: dict[str, set[str]] = {zone: set() for zone in self._settings.zones}
        strays = set()
        for (gate, lane, direction), n in passed.items():
            way = self._way(gate, lane, direction)
            if way is None:
                strays.add(f"{gate}/{lane}")
                continue
            inside[way.enters] += n
            inside[way.leaves] -= n
        for (gate, lane, direction), n in unknown.items():
            way = self._way(gate, lane, direction)
            for zone in () if way is None else (way.enters, way.leaves):
                wrong[zone] += n
                if zone in reasons:
                    reasons[zone].add("passages_unknown")
        silent = self._silent()
        for each in silent:
            for zone in each.zones:
                if zone in reasons:
                    reasons[zone].add(f"gate_{each.why}")
        for (gate, lane), why in doubts.items():
            for zone in self._zones_of(gate, lane):
                if zone in reasons:
                    reasons[zone].add(why)
        zones = []
        for zone in self._settings.zones:
            if inside[zone] < 0:
                reasons[zone].add("below_zero")
            if strays:
                reasons[zone].add("lanes_unassigned")
            zones.append(
                ZoneCount(zone, max(0, inside[zone]), wrong[zone], not reasons[zone], tuple(sorted(reasons[zone])))
            )
        return Muster(rfc3339(begin), zones, silent, sorted(strays))

    def _passages(
        self, first: int
    ) -> tuple[Counter[tuple[str, str, str]], Counter[tuple[str, str, str]], dict[tuple[str, str], str]]:
        """Completed and unknown by gate, lane and direction; and lanes that stood open."""
        passed: Counter[tuple[str, str, str]] = Counter()
        unknown: Counter[tuple[str, str, str]] = Counter()
        doubts: dict[tuple[str, str], str] = {}
        rows = self._reader.rows(
            "SELECT gate, lane, dir, kind, sum(n) FROM quarters WHERE quarter >= ? AND kind IN "
            "('passage.completed', 'passage.unknown', 'fire.asserted', 'door.mode') GROUP BY gate, lane, dir, kind",
            (first,),
        )
        beyond = [each for each in live(self._reader, COUNTED) if each.quarter >= first]
        for gate, lane, direction, kind, n in [
            *rows,
            *((each.gate, each.lane, each.dir, each.kind, each.n) for each in beyond),
        ]:
            match kind:
                case Kind.PASSAGE_COMPLETED:
                    passed[gate, lane, direction] += n
                case Kind.PASSAGE_UNKNOWN:
                    unknown[gate, lane, direction] += n
                case _:
                    doubts[gate, lane] = "lane_stood_open"
        return passed, unknown, doubts

    def _silent(self) -> list[SilentGate]:
        holes = {gate for (gate,) in self._reader.rows(_HOLES)}
        found = []
        for row in self._reading.gates():
            why = _why(row, row.gate in holes)
            if why is not None:
                zones = {zone for gate, lane in self._points if gate == row.gate for zone in self._zones_of(gate, lane)}
                found.append(SilentGate(row.gate, why, row.last_seen, sorted(zones)))
        return found

    def _zones_of(self, gate: str, lane: str) -> set[str]:
        ways = (self._way(gate, lane, direction) for direction in (IN, OUT))
        return {zone for way in ways if way is not None for zone in (way.enters, way.leaves)} - {OUTSIDE}

    def _way(self, gate: str, lane: str, direction: str) -> Way | None:
        """None where the lane's access point is not known, or not in the rules."""
        points = self._learn(gate, lane)
        own = self._settings.points.get(points.get(direction, ""))
        if own is not None:
            return Way(own.from_zone, own.to_zone)
        other = self._settings.points.get(points.get(OUT if direction == IN else IN, ""))
        return None if other is None else Way(other.to_zone, other.from_zone)

    def _learn(self, gate: str, lane: str) -> Mapping[str, str]:
        """A lane's grants name its access point. They are of the kinds that go after some days: so it is remembered."""
        key = (gate, lane)
        known = self._points.get(key)
        now = self._reader.clock.monotonic()
        if known and now - self._looked[key] < LEARN_S:
            return known
        if key in self._looked and now - self._looked[key] < LEARN_S:
            return {}
        self._looked[key] = now
        rows = self._reader.rows(
            "SELECT raw FROM events WHERE kind = 'access.granted' AND gate = ? AND lane = ? ORDER BY time DESC LIMIT ?",
            (gate, lane, LOOKED_AT),
        )
        found = dict(known or {})
        for (raw,) in reversed(rows):
            data = events.parse(raw).data
            direction, point = data.get("dir"), data.get("point")
            if isinstance(direction, str) and isinstance(point, str):
                found[direction] = point
        self._points[key] = found
        return found


_HOLES = """
    SELECT DISTINCT c.gate FROM chains c JOIN gates g ON g.gate = c.gate AND g.epoch = c.epoch
    WHERE c.mark < (SELECT max(seq) FROM events e WHERE e.gate = c.gate AND e.epoch = c.epoch)
"""
"""Gates of which records are held beyond one that has not come."""


def _why(row: GateRow, hole: bool) -> str | None:
    if row.stopped:
        return "stopped"
    if hole:
        return "hole"
    if row.online is None:
        return "unknown"
    return None if row.online else "offline"


__all__ = ["RESET", "Direction", "Occupancy", "Settings"]
