"""The rules document (TOML): zones, access points and weekly hours (ONVIF terms). Refused whole when anything is wrong.

A document that names an unknown zone or schedule, leaves out a key or has one too many is refused with the place and what is
expected; whoever loads it keeps the old one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")


class PolicyError(ValueError):
    """`place` is the key path in the document, `expected` says what should stand there."""

    def __init__(self, place: str, expected: str) -> None:
        super().__init__(f"{place}: {expected}")
        self.place, self.expected = place, expected


@dataclass(frozen=True, slots=True)
class Window:
    """Minutes since local midnight, half open."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Weekly hours; one tuple of windows for each day, Monday first."""

    days: tuple[tuple[Window, ...], ...]

    def open_at(self, local: datetime) -> bool:
        minute = local.hour * 60 + local.minute
        return any(window.start <= minute < window.end for window in self.days[local.weekday()])


@dataclass(frozen=True, slots=True)
class Zone:
    name: str
    doc_types: frozenset[str]
    access_classes: frozenset[str]
    agencies: frozenset[str] | None
    """None: every agency."""
    schedule: str
    schedule_by_card_type: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Point:
    """An access point: one direction through one barrier, leading into `zone`."""

    name: str
    zone: str
    entrance_group: str
    """Audience that a QR pass must name."""


@dataclass(frozen=True, slots=True)
class Policy:
    version: int
    timezone: ZoneInfo
    zones: Mapping[str, Zone]
    points: Mapping[str, Point]
    schedules: Mapping[str, Schedule]


class _Table:
    """One TOML table; every key must be asked for, and of the right type."""

    def __init__(self, value: object, place: str) -> None:
        if not isinstance(value, dict):
            raise PolicyError(place, "a table is expected")
        self._value: dict[str, Any] = value
        self._place, self._asked = place, set[str]()

    def at(self, key: str) -> str:
        return f"{self._place}.{key}" if self._place else key

    def get(self, key: str, kind: type, what: str, *, optional: bool = False) -> Any:
        self._asked.add(key)
        value = self._value.get(key)
        if value is None and optional:
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise PolicyError(self.at(key), f"{what} is expected")
        return value

    def strings(self, key: str, *, optional: bool = False) -> frozenset[str] | None:
        value = self.get(key, list, "a list of strings", optional=optional)
        if value is None:
            return None
        if not value or not all(isinstance(entry, str) and entry for entry in value):
            raise PolicyError(self.at(key), "a list of one or more non-empty strings is expected")
        return frozenset(value)

    def tables(self, key: str) -> dict[str, _Table]:
        value = self.get(key, dict, "a table of tables")
        if not value:
            raise PolicyError(self.at(key), "at least one entry is expected")
        return {name: _Table(entry, f"{self.at(key)}.{name}") for name, entry in value.items()}

    def done(self) -> None:
        for key in self._value:
            if key not in self._asked:
                raise PolicyError(self.at(key), f"unknown key; known here: {', '.join(sorted(self._asked))}")


def _windows(table: _Table, day: str) -> tuple[Window, ...]:
    value = table.get(day, list, 'a list of "HH:MM-HH:MM"', optional=True) or []
    windows: list[Window] = []
    for entry in value:
        match = _HOURS.fullmatch(entry) if isinstance(entry, str) else None
        if match is None:
            raise PolicyError(table.at(day), 'hours as "08:00-19:30" are expected (end up to 24:00)')
        h1, m1, h2, m2 = (int(group) for group in match.groups())
        start, end = h1 * 60 + m1, h2 * 60 + m2
        if not start < end <= 24 * 60:
            raise PolicyError(table.at(day), "the end must lie after the start, on the same day")
        windows.append(Window(start, end))
    return tuple(windows)


def load(document: Mapping[str, Any]) -> Policy:
    """Build a Policy from a parsed TOML document. Raises PolicyError."""
    root = _Table(dict(document), "")
    version = root.get("version", int, "a whole number")
    zone_name = root.get("timezone", str, 'a time zone such as "Asia/Seoul"')
    try:
        timezone = ZoneInfo(zone_name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise PolicyError("timezone", 'a time zone such as "Asia/Seoul" is expected') from None

    schedules: dict[str, Schedule] = {}
    for name, table in root.tables("schedules").items():
        schedules[name] = Schedule(tuple(_windows(table, day) for day in DAYS))
        table.done()

    def known_schedule(name: object, place: str) -> str:
        if not isinstance(name, str) or name not in schedules:
            raise PolicyError(place, f"one of the schedules {', '.join(sorted(schedules))} is expected")
        return name

    zones: dict[str, Zone] = {}
    for name, table in root.tables("zones").items():
        by_type = table.get("schedule_by_card_type", dict, "a table of card type = schedule", optional=True) or {}
        zones[name] = Zone(
            name=name,
            doc_types=table.strings("doc_types") or frozenset(),
            access_classes=table.strings("access_classes") or frozenset(),
            agencies=table.strings("agencies", optional=True),
            schedule=known_schedule(table.get("schedule", str, "a schedule's name"), table.at("schedule")),
            schedule_by_card_type={
                card: known_schedule(value, f"{table.at('schedule_by_card_type')}.{card}")
                for card, value in by_type.items()
            },
        )
        table.done()

    points: dict[str, Point] = {}
    for name, table in root.tables("points").items():
        zone = table.get("zone", str, "a zone's name")
        if zone not in zones:
            raise PolicyError(table.at("zone"), f"one of the zones {', '.join(sorted(zones))} is expected")
        points[name] = Point(name, zone, table.get("entrance_group", str, "an entrance group's name"))
        table.done()
    root.done()
    return Policy(version, timezone, zones, points, schedules)
