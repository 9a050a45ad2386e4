"""Where two rules documents decide differently: every access point, attribute combination, way of presenting, lockdown level and
time, exact and not by sampling.

Values that both documents treat alike are one class, and so are minutes in which every schedule is in the same state; one
decision per class stands for all of it. Days are told apart by weekday, holiday, day after a holiday, and every date that a
document treats apart; holidays are looked up for `days` days from `start`. What does not depend on attributes, way or time
(anti-passback, occupancy, second factor and so on) is compared as settings, and taken as met in the decisions: a visit is
registered, the host has passed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from policy import limits
from policy.decision import Situation, decide
from policy.model import CARRIERS, Direction, Point, Policy, Zone
from policy.rights import Match, PointRights
from policy.schedule import DAY_MIN, DAYS, Schedule
from policy.situation import AntiPassbackFinding, Attributes, EscortFinding, SecondFactor, SecondPerson, Visit

OTHER = "\0"
"""Stands for every value that neither document names."""
AXES = ("doc_type", "issuer", "access_class", "agency_code", "card_type")
"""In the order of policy.model.Profile.attributes."""
GRANTED, ABSENT = "granted", "no_access_point"
"""Outcomes besides the reasons."""
AFTER_HOLIDAY = " after_holiday"
"""End of a label: windows over midnight may still be open from the holiday."""
HORIZON_DAYS = 3653
"""Ten years: every weekday has been a holiday in it, and the day after one."""
MAX_COMBINATIONS = 500_000
"""Attribute combinations of one access point: bounds time and memory."""
_MOST_LEVELS = range(limits.MAX_LOCKDOWN + 1)


class DiffTooLargeError(Exception):
    """More combinations than MAX_COMBINATIONS at one access point."""


@dataclass(frozen=True, slots=True)
class Times:
    """`days` have the same `hours` (minutes since midnight, half open). A day is as `Day.label` names it."""

    days: tuple[str, ...]
    hours: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """Decisions that differ in the same way. An attribute or tuple that is None stands for every value."""

    point: str
    before: str
    after: str
    attributes: Mapping[str, tuple[str, ...] | None]
    """Values by attribute; OTHER among them stands for all that neither document names."""
    carriers: tuple[str, ...] | None
    lockdown: tuple[int, ...] | None
    times: tuple[Times, ...] | None


@dataclass(frozen=True, slots=True)
class Setting:
    """A key that differs, with what it holds in each document ("" where it is absent)."""

    place: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Difference:
    settings: tuple[Setting, ...]
    rows: tuple[Row, ...]

    def __bool__(self) -> bool:
        return bool(self.rows) or any(setting.place != "version" for setting in self.settings)


@dataclass(frozen=True, slots=True, order=True)
class Day:
    """A kind of day, and one date of that kind."""

    label: str
    example: date


def diff(old: Policy, new: Policy, start: date, days: int = HORIZON_DAYS) -> Difference:
    """Raises DiffTooLargeError."""
    kinds, vocabulary = _days(old, new, start, days), _vocabulary(old, new)
    rows: list[Row] = []
    for point in [*old.points, *(point for point in new.points if point not in old.points)]:
        rows += _PointDiff(_Side(old, point), _Side(new, point), kinds, vocabulary).rows()
    return Difference(tuple(_settings(old, new)), tuple(rows))


def _vocabulary(old: Policy, new: Policy) -> dict[str, tuple[str, ...]]:
    """Every value that a document names, by attribute, and OTHER."""
    named: dict[str, set[str]] = {axis: set() for axis in AXES}
    for policy in (old, new):
        for profile in policy.profiles.values():
            for axis, values in zip(AXES, profile.attributes, strict=True):
                named[axis] |= values or set()
        for zone in policy.zones.values():
            if zone.responders is not None:
                named["card_type"] |= zone.responders.card_types
                named["access_class"] |= zone.responders.access_classes
    return {axis: (*sorted(values), OTHER) for axis, values in named.items()}


# -- days ---------------------------------------------------------------------------------------------------------------------


def day_label(old: Policy, new: Policy, day: date) -> str:
    """`mon`, `mon holiday`, `mon after_holiday`, `mon holiday after_holiday`, or the date where a document treats it apart."""
    return _label(old, new, _named(old) | _named(new), day)


def _label(old: Policy, new: Policy, named: frozenset[date], day: date) -> str:
    before = day - timedelta(days=1)
    holiday, eve = _holidays(old, new, day), _holidays(old, new, before)
    if day in named or before in named or holiday is None or eve is None:
        return day.isoformat()
    return DAYS[day.weekday()] + (" holiday" if holiday else "") + (AFTER_HOLIDAY if eve else "")


def _named(policy: Policy) -> frozenset[date]:
    return frozenset(day for schedule in policy.schedules.values() for day in schedule.special)


def _holidays(old: Policy, new: Policy, day: date) -> bool | None:
    """None where the two calendars disagree."""
    found = {next(iter(policy.schedules.values())).calendar.is_holiday(day) for policy in (old, new)}
    return found.pop() if len(found) == 1 else None


def _days(old: Policy, new: Policy, start: date, days: int) -> list[Day]:
    dates = {start + timedelta(days=number) for number in range(days)}
    for policy in (old, new):
        calendar = next(iter(policy.schedules.values())).calendar
        for day in _named(policy) | calendar.add | calendar.remove:
            dates |= {day, day + timedelta(days=1)}
    named = _named(old) | _named(new)
    kinds: dict[str, date] = {}
    for day in sorted(dates):
        kinds.setdefault(_label(old, new, named, day), day)
    return [Day(label, example) for label, example in kinds.items()]


# -- one access point ---------------------------------------------------------------------------------------------------------


class _Side:
    """One document's view of an access point."""

    def __init__(self, policy: Policy, name: str) -> None:
        self.policy, self.name = policy, name
        self.point: Point | None = policy.points.get(name)
        self.entry = self.point is not None and self.point.direction is Direction.ENTRY
        self.zone: Zone | None = policy.zone_of(name) if self.entry else None
        self.rights: PointRights | None = policy.rights[name] if self.entry else None
        self.schedules: list[Schedule] = [schedule for schedule, _ in self.rights.schedules] if self.rights else []
        self._memo: dict[object, str] = {}

    def _roles(self, axis: str) -> set[str]:
        zone = self.zone
        if zone is None or zone.responders is None:
            return set()
        return set(
            {"card_type": zone.responders.card_types, "access_class": zone.responders.access_classes}.get(axis, ())
        )

    def treats(self, axis: str, value: str) -> object:
        """Values that are treated alike give the same."""
        if self.rights is None:
            return None
        match: Match = getattr(self.rights, axis)
        return match.of(value), value in self._roles(axis)

    def rights_of(self, attributes: Attributes) -> object:
        """All that a decision takes from the attributes."""
        if self.zone is None or self.rights is None:
            return None
        right, exempt = self.rights, self.zone.responders
        left, masks = right.every, []
        for axis in AXES:
            left &= getattr(right, axis).of(getattr(attributes, axis))
            masks.append(bool(left))
        left &= right.here
        follows = frozenset(schedule.name for schedule, mask in right.schedules if mask & left)
        responds = exempt is not None and (
            attributes.card_type in exempt.card_types or attributes.access_class in exempt.access_classes
        )
        return tuple(masks), follows, responds

    def outcome(self, attributes: Attributes, rights: object, moment: datetime, carrier: str, level: int) -> str:
        if self.point is None:
            return ABSENT
        if self.zone is None:
            return GRANTED
        state = tuple((each.open_at(moment), each.ordinarily_open_at(moment)) for each in self.schedules)
        key = (rights, state, carrier in self.zone.carriers, level)
        if key not in self._memo:
            now = moment.replace(tzinfo=self.policy.timezone)
            reason = decide(self.policy, self.name, attributes, favourable(self.zone.name, now, carrier, level)).reason
            self._memo[key] = GRANTED if reason is None else str(reason)
        return self._memo[key]


def favourable(zone: str, now: datetime, carrier: str, level: int) -> Situation:
    """A situation in which only rights, time, carrier and lockdown can refuse."""
    return Situation(
        now,
        carrier,
        lockdown=level,
        occupancy=0,
        antipassback=AntiPassbackFinding.CLEAR,
        second_factor=SecondFactor.PASSED,
        escort=EscortFinding.HOST,
        second_person=SecondPerson.ANOTHER,
        visit=Visit(frozenset({zone}), now - timedelta(hours=1), now + timedelta(hours=1), host_required=False),
        clock_age_s=0,
    )


Span = tuple[str, int, int]
"""Day's label, first minute, minute after the last."""


class _PointDiff:
    def __init__(self, old: _Side, new: _Side, kinds: Sequence[Day], vocabulary: Mapping[str, Sequence[str]]) -> None:
        self._old, self._new, self._kinds, self._vocabulary = old, new, kinds, vocabulary

    def rows(self) -> list[Row]:
        combinations = self._combinations()
        times = self._times()
        carriers = _classes(CARRIERS, lambda each: tuple(bool(s.zone and each in s.zone.carriers) for s in self._sides))
        levels = _classes(_MOST_LEVELS, self._level)
        conditions = list(itertools.product(times, carriers, levels))
        differing: dict[tuple[str, str], dict[frozenset[int], list[Box]]] = {}
        for attributes, boxes, rights in combinations:
            found: dict[tuple[str, str], set[int]] = {}
            for at, ((moment, _), carrier, level) in enumerate(conditions):
                before = self._old.outcome(attributes, rights[0], moment, carrier[0], level[0])
                after = self._new.outcome(attributes, rights[1], moment, carrier[0], level[0])
                if before != after:
                    found.setdefault((before, after), set()).add(at)
            for change, places in found.items():
                differing.setdefault(change, {}).setdefault(frozenset(places), []).extend(boxes)
        rows = []
        for (before, after), by_conditions in sorted(differing.items()):
            for at_set, boxes in by_conditions.items():
                whens = merge([_condition(*conditions[at]) for at in sorted(at_set)])
                for box, when in itertools.product(merge(boxes), whens):
                    rows.append(self._row(before, after, box, when, times))
        return rows

    @property
    def _sides(self) -> tuple[_Side, _Side]:
        return self._old, self._new

    def _treated(self, axis: str, value: str) -> object:
        return tuple(side.treats(axis, value) for side in self._sides)

    def _level(self, level: int) -> object:
        return level == 0, *(
            bool(side.zone and side.zone.responders and level <= side.zone.responders.up_to_level)
            for side in self._sides
        )

    def _combinations(self) -> list[tuple[Attributes, list[Box], tuple[object, object]]]:
        """Attribute combinations that a decision cannot tell apart: one of them, all of them, and what they amount to."""
        groups = [_classes(self._vocabulary[axis], partial(self._treated, axis)) for axis in AXES]
        count = 1
        for group in groups:
            count *= len(group)
        if count > MAX_COMBINATIONS:
            raise DiffTooLargeError(f"{self._old.name}: {count}")
        found: dict[tuple[object, object], tuple[Attributes, list[Box], tuple[object, object]]] = {}
        for combination in itertools.product(*groups):
            attributes = Attributes(**dict(zip(AXES, (values[0] for values in combination), strict=True)))
            rights = (self._old.rights_of(attributes), self._new.rights_of(attributes))
            box = tuple(frozenset(values) for values in combination)
            found.setdefault(rights, (attributes, [], rights))[1].append(box)
        return list(found.values())

    def _times(self) -> list[tuple[datetime, list[Span]]]:
        """Minutes in which every schedule is in the same state: one of them, and all of them."""
        schedules = [*self._old.schedules, *self._new.schedules]
        found: dict[object, tuple[datetime, list[Span]]] = {}
        for kind in self._kinds:
            edges = sorted({0, DAY_MIN} | {edge for schedule in schedules for edge in _edges(schedule, kind.example)})
            for first, last in itertools.pairwise(edges):
                moment = datetime(kind.example.year, kind.example.month, kind.example.day) + timedelta(minutes=first)  # noqa: DTZ001  wall time of either document
                state = tuple((each.open_at(moment), each.ordinarily_open_at(moment)) for each in schedules)
                found.setdefault(state, (moment, []))[1].append((kind.label, first, last))
        return list(found.values())

    def _row(self, before: str, after: str, box: Box, when: Box, times: Sequence[tuple[datetime, list[Span]]]) -> Row:
        attributes: dict[str, tuple[str, ...] | None] = {}
        for axis, values in zip(AXES, box, strict=True):
            known = self._vocabulary[axis]
            attributes[axis] = None if len(values) == len(known) else tuple(one for one in known if one in values)
        spans = [span for moment, spans in times if moment in when[0] for span in spans]
        return Row(
            self._old.name,
            before,
            after,
            attributes,
            None if len(when[1]) == len(CARRIERS) else tuple(sorted(when[1])),
            None if len(when[2]) == len(_MOST_LEVELS) else tuple(sorted(when[2])),
            None if len(when[0]) == len(times) else tuple(_compress(spans)),
        )


def _edges(schedule: Schedule, day: date) -> Iterable[int]:
    """Minutes of `day` at which the schedule may change its state."""
    yesterday = day - timedelta(days=1)
    for windows_on in (schedule.windows_on, schedule.weekday_windows):
        for window in windows_on(day):
            yield window.start
            yield min(window.end, DAY_MIN)
        for window in windows_on(yesterday):
            if window.end > DAY_MIN:
                yield window.end - DAY_MIN


# -- grouping -----------------------------------------------------------------------------------------------------------------

Box = tuple[frozenset[Any], ...]
"""A product of sets, one for each axis: attributes in the order of AXES, or (moment, carrier, level)."""
Value = TypeVar("Value")


def _classes(values: Iterable[Value], key: Callable[[Value], object]) -> list[tuple[Value, ...]]:
    """Values grouped by `key`, in the order of their first."""
    found: dict[object, list[Value]] = {}
    for value in values:
        found.setdefault(key(value), []).append(value)
    return [tuple(group) for group in found.values()]


def _condition(time: tuple[datetime, list[Span]], carriers: tuple[str, ...], levels: tuple[int, ...]) -> Box:
    return frozenset({time[0]}), frozenset(carriers), frozenset(levels)


def merge(boxes: Iterable[Box]) -> list[Box]:
    """The same set of points in fewer boxes: boxes that differ along one axis only become one, until none do."""
    current = list(boxes)
    while True:
        before = len(current)
        for axis in range(len(current[0]) if current else 0):
            grouped: dict[Box, frozenset[Any]] = {}
            for box in current:
                others = box[:axis] + box[axis + 1 :]
                grouped[others] = grouped.get(others, frozenset()) | box[axis]
            current = [(*others[:axis], joined, *others[axis:]) for others, joined in grouped.items()]
        if len(current) == before:
            return current


def _compress(spans: Iterable[Span]) -> list[Times]:
    by_day: dict[str, list[tuple[int, int]]] = {}
    for label, first, last in sorted(spans):
        hours = by_day.setdefault(label, [])
        if hours and hours[-1][1] == first:
            hours[-1] = (hours[-1][0], last)
        else:
            hours.append((first, last))
    by_hours: dict[tuple[tuple[int, int], ...], list[str]] = {}
    for label, hours in by_day.items():
        by_hours.setdefault(tuple(hours), []).append(label)
    return [Times(tuple(sorted(labels, key=_day_order)), hours) for hours, labels in by_hours.items()]


def _day_order(label: str) -> tuple[int, str]:
    name = label.partition(" ")[0]
    return (DAYS.index(name) if name in DAYS else len(DAYS), label)


# -- settings -----------------------------------------------------------------------------------------------------------------


def _settings(old: Policy, new: Policy) -> Iterable[Setting]:
    if old.version != new.version:
        yield Setting("version", str(old.version), str(new.version))
    if old.timezone.key != new.timezone.key:
        yield Setting("timezone", old.timezone.key, new.timezone.key)
    for kind, before, after in (("zones", old.zones, new.zones), ("points", old.points, new.points)):
        for name in [*before, *(name for name in after if name not in before)]:
            first, second = before.get(name), after.get(name)
            if first is None or second is None:
                yield Setting(f"{kind}.{name}", "present" if first else "", "present" if second else "")
                continue
            for key in fields(first):
                if getattr(first, key.name) != getattr(second, key.name):
                    shown = _shown(getattr(first, key.name)), _shown(getattr(second, key.name))
                    yield Setting(f"{kind}.{name}.{key.name}", *shown)


def _shown(value: object) -> str:
    if isinstance(value, frozenset):
        return ", ".join(sorted(map(str, value)))
    if value is None:
        return ""
    if hasattr(value, "__dataclass_fields__"):
        parts = [f"{key.name}={_shown(getattr(value, key.name))}" for key in fields(value)]  # type: ignore[arg-type]
        return " ".join(parts)
    return str(value)
