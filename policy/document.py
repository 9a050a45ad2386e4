"""The rules document (TOML), read whole or refused whole, with every mistake and its place.

docs/rules.md explains every key. Whoever loads a document keeps the one in force when this refuses.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from policy import checks, limits
from policy.model import (
    CARRIERS,
    DEFAULT_CARRIERS,
    OUTSIDE,
    AntiPassback,
    AntiPassbackMode,
    CutOff,
    Direction,
    Escort,
    JournalFull,
    MaxAges,
    Needs,
    Passes,
    Point,
    Policy,
    Profile,
    Responders,
    Zone,
)
from policy.problems import PolicyError, Problem, Problems
from policy.reading import Table
from policy.rights import NOBODY, Match, PointRights
from policy.schedule import DAYS, Calendar, Schedule, Windows, public_holidays

__all__ = ["DAYS", "Policy", "PolicyError", "Problem", "load", "parse"]

MAX_AGE_H = 24 * 366
MAX_VERSION = 2**53 - 1
"""Largest whole number that survives JSON everywhere."""


def parse(raw: bytes) -> Policy:
    """A document as received. Raises PolicyError."""
    if len(raw) > limits.MAX_DOCUMENT:
        raise PolicyError.one("", "문서는 1 MiB 이하여야 합니다", "a document of at most 1 MiB is expected")
    try:
        return load(tomllib.loads(raw.decode("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        why = str(error)[: limits.MAX_VALUE] or "nested too deep"
        raise PolicyError.one("", f"TOML 문법 오류: {why}", f"TOML syntax: {why}") from error


def load(document: Mapping[str, Any]) -> Policy:
    """Build a Policy from a parsed TOML document. Raises PolicyError with all mistakes."""
    problems = Problems()
    root = Table(dict(document), "", problems)
    version = root.whole("version", 0, MAX_VERSION)
    timezone = _timezone(root)
    schedules = _schedules(root, _calendar(root))
    zones = {name: _zone(name, table) for name, table in root.tables("zones", limits.MAX_ZONES).items()}
    points = {name: _point(name, table, zones) for name, table in root.tables("points", limits.MAX_POINTS).items()}
    profiles = {
        name: _profile(name, table, zones, points, schedules)
        for name, table in root.tables("profiles", limits.MAX_PROFILES).items()
    }
    root.done()
    if not problems:
        # What contradicts itself is looked for only where every part could be read: else one slip is told many times.
        checks.contradictions(zones, points, schedules, profiles, problems)
    problems.raise_any()
    rights, needs = _rights(zones, points, schedules, profiles)
    return Policy(version, timezone, zones, points, schedules, profiles, rights, needs)


def _timezone(root: Table) -> ZoneInfo:
    name = root.text("timezone", "Asia/Seoul 같은 시간대", 'a time zone such as "Asia/Seoul"')
    try:
        if name:
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        root.mistake(
            "timezone", "Asia/Seoul 같은 시간대가 있어야 합니다", 'a time zone such as "Asia/Seoul" is expected'
        )
    return ZoneInfo("UTC")


def _calendar(root: Table) -> Calendar:
    table = root.table("holidays")
    if table is None:
        return Calendar()
    country = None
    if table.has("country"):
        country = table.text("country", "KR 같은 국가 코드", 'a country code such as "KR"')
        if not _known_country(country):
            table.mistake("country", "KR 같은 국가 코드가 있어야 합니다", 'a country code such as "KR" is expected')
    add, remove = table.dates("add", optional=True), table.dates("remove", optional=True)
    for day in sorted(add & remove):
        table.mistake("remove", f"{day}이(가) add에도 있습니다", f"{day} stands in `add` too")
    table.done()
    return Calendar(country or None, add, remove)


def _known_country(code: str) -> bool:
    if re.fullmatch("[A-Z]{2}", code) is None:
        return False
    try:
        public_holidays(code, 2026)
    except NotImplementedError:
        return False
    return True


def _schedules(root: Table, calendar: Calendar) -> dict[str, Schedule]:
    tables = root.tables("schedules", limits.MAX_SCHEDULES)
    special: dict[str, dict[date, Windows]] = {name: {} for name in tables}
    named_by: dict[tuple[str, date], str] = {}
    for name, table in root.tables("special_days", limits.MAX_SPECIAL_DAYS, optional=True).items():
        days = table.dates("dates")
        if not table.has("windows"):
            table.mistake(
                "windows", "구간의 목록이 있어야 합니다([]는 닫힘)", "a list of windows is expected ([] is closed)"
            )
        windows = table.windows("windows")
        for schedule in sorted(table.strings("schedules") or tables):
            if schedule not in tables:
                _unknown(table, "schedules", schedule, "시간표", "schedule", tables)
                continue
            for day in sorted(days):
                other = named_by.setdefault((schedule, day), name)
                if other != name and special[schedule][day] != windows:
                    table.mistake(
                        "dates",
                        f"{day}: special_days.{other}이(가) 시간표 {schedule}에 다른 시간을 정했습니다",
                        f"{day}: special_days.{other} has other windows for schedule {schedule}",
                    )
                special[schedule][day] = windows
        table.done()
    found = {}
    for name, table in tables.items():
        week = tuple(table.windows(day) for day in DAYS)
        holiday = table.windows("holiday") if table.has("holiday") else None
        table.done()
        found[name] = Schedule(name, week, holiday, special[name], calendar)
    return found


def _unknown(table: Table, key: str, name: str, ko: str, en: str, known: Mapping[str, object]) -> None:
    listed = ", ".join(sorted(known)[:20])
    table.mistake(
        key, f"{name[:64]!r}은(는) 모르는 {ko}입니다. 있는 것: {listed}", f"no {en} {name[:64]!r}; there are: {listed}"
    )


def _zone(name: str, table: Table) -> Zone:
    if name == OUTSIDE:
        table.problems.add(table.place, "outside는 건물 밖의 이름입니다", '"outside" is the name of the street')
    carriers = table.strings("carriers")
    for carrier in sorted((carriers or frozenset()) - set(CARRIERS)):
        listed = ", ".join(CARRIERS)
        table.mistake(
            "carriers",
            f"{carrier[:64]!r}: 쓸 수 있는 것: {listed}",
            f"{carrier[:64]!r}: one of these is expected: {listed}",
        )
    factors = table.whole("factors", 1, 2, 1)
    if table.has("second_factor_s") and factors < 2:
        table.mistake("second_factor_s", "factors = 2일 때만 쓸 수 있습니다", "only with factors = 2")
    two_person = table.table("two_person")
    two_person_s = None
    if two_person is not None:
        two_person_s = two_person.whole("within_s", 1, 120, 5)
        two_person.done()
    zone = Zone(
        name=name,
        carriers=DEFAULT_CARRIERS if carriers is None else carriers,
        factors=factors,
        second_factor_s=table.whole("second_factor_s", 1, 120, 10),
        antipassback=_antipassback(table.table("antipassback")),
        occupancy_limit=table.optional_whole("occupancy_limit", 1, 1_000_000),
        escort=_escort(table.table("escort")),
        two_person_s=two_person_s,
        responders=_responders(table.table("responders")),
        visit_card_types=table.strings("visit_card_types") or frozenset(),
        max_ages=_max_ages(table.table("max_ages")),
        clock_grace=timedelta(minutes=table.whole("clock_grace_min", 0, 7 * 24 * 60, 0)),
        journal_full=table.choice("journal_full", JournalFull.REFUSE),
    )
    table.done()
    return zone


def _antipassback(table: Table | None) -> AntiPassback:
    if table is None:
        return AntiPassback()
    mode = table.choice("mode", AntiPassbackMode.NONE)
    if not table.has("mode"):
        table.mistake(
            "mode", "none, hard, soft, timed 중 하나여야 합니다", "one of none, hard, soft, timed is expected"
        )
    if mode is AntiPassbackMode.TIMED and not table.has("minutes"):
        table.mistake("minutes", "timed에는 분이 있어야 합니다", "minutes are expected with timed")
    allowed = {
        AntiPassbackMode.NONE: (),
        AntiPassbackMode.SOFT: ("cut_off",),
        AntiPassbackMode.HARD: ("cut_off", "passes"),
        AntiPassbackMode.TIMED: ("minutes", "cut_off", "passes"),
    }[mode]
    for key in ("minutes", "cut_off", "passes"):
        if table.has(key) and key not in allowed:
            table.mistake(key, f"mode = {mode}와 함께 쓸 수 없습니다", f"has no meaning with mode = {mode}")
    found = AntiPassback(
        mode,
        table.optional_whole("minutes", 1, 24 * 60) or 0,
        table.choice("cut_off", CutOff.SOFT),
        table.choice("passes", Passes.SOFT),
    )
    table.done()
    return found


def _escort(table: Table | None) -> Escort | None:
    if table is None:
        return None
    guests, hosts = table.strings("guests"), table.strings("hosts")
    for key, found in (("guests", guests), ("hosts", hosts)):
        if found is None and not table.has(key):
            table.mistake(key, "카드 종류의 목록이 있어야 합니다", "a list of card types is expected")
    escort = Escort(
        guests or frozenset(),
        hosts or frozenset(),
        table.whole("within_s", 1, 600, 30),
        table.whole("guests_per_host", 1, 20, 1),
    )
    table.done()
    return escort


def _responders(table: Table | None) -> Responders | None:
    if table is None:
        return None
    card_types, classes = table.strings("card_types"), table.strings("access_classes")
    if not table.has("card_types") and not table.has("access_classes"):
        table.mistake(
            "card_types", "card_types나 access_classes가 있어야 합니다", "card_types or access_classes is expected"
        )
    found = Responders(
        card_types or frozenset(), classes or frozenset(), table.whole("up_to_level", 1, limits.MAX_LOCKDOWN)
    )
    table.done()
    return found


def _max_ages(table: Table | None) -> MaxAges:
    if table is None:
        return MaxAges()
    ages = {}
    for key in ("issuer_list", "status_list", "crl", "clock"):
        hours = table.optional_whole(key, 1, MAX_AGE_H)
        ages[key] = None if hours is None else timedelta(hours=hours)
    table.done()
    return MaxAges(**ages)


def _point(name: str, table: Table, zones: Mapping[str, Zone]) -> Point:
    if not table.has("direction"):
        table.mistake("direction", "entry나 exit가 있어야 합니다", "entry or exit is expected")
    direction = table.choice("direction", Direction.ENTRY)
    ends = {}
    for key in ("from", "to"):
        ends[key] = table.text(key, "구역 이름", "a zone's name")
        if ends[key] and ends[key] != OUTSIDE and ends[key] not in zones:
            _unknown(table, key, ends[key], "구역", "zone", {**zones, OUTSIDE: None})
    group = table.text("entrance_group", "출입구 묶음의 이름", "an entrance group's name")
    if ends["from"] == ends["to"] != "":
        table.mistake("to", "from과 달라야 합니다", "another zone than `from` is expected")
    ruled = "to" if direction is Direction.ENTRY else "from"
    if ends[ruled] == OUTSIDE != ends["from" if ruled == "to" else "to"]:
        table.mistake(
            ruled,
            f"{direction}이므로 outside일 수 없습니다",
            "an entry leads into a zone" if direction is Direction.ENTRY else "an exit leads out of a zone",
        )
    table.done()
    return Point(name, direction, ends["from"], ends["to"], group)


def _profile(
    name: str,
    table: Table,
    zones: Mapping[str, Zone],
    points: Mapping[str, Point],
    schedules: Mapping[str, Schedule],
) -> Profile:
    into: set[str] = set()
    named = table.strings("points") or frozenset(), table.strings("zones") or frozenset()
    if not table.has("points") and not table.has("zones"):
        table.mistake("zones", "zones나 points가 있어야 합니다", "zones or points is expected")
    for point in sorted(named[0]):
        if point not in points:
            _unknown(table, "points", point, "출입점", "access point", points)
        elif points[point].direction is Direction.EXIT:
            table.mistake(
                "points", f"{point}은(는) 나가는 곳이며 막지 않습니다", f"{point} is an exit, which is never barred"
            )
        else:
            into.add(point)
    for zone in sorted(named[1]):
        entries = {one.name for one in points.values() if one.direction is Direction.ENTRY and one.to_zone == zone}
        if zone not in zones:
            _unknown(table, "zones", zone, "구역", "zone", zones)
        elif not entries:
            table.mistake("zones", f"{zone}(으)로 들어가는 출입점이 없습니다", f"no access point leads into {zone}")
        into |= entries
    schedule = table.text("schedule", "시간표 이름", "a schedule's name")
    if schedule and schedule not in schedules:
        _unknown(table, "schedule", schedule, "시간표", "schedule", schedules)
    profile = Profile(
        name=name,
        doc_types=table.strings("doc_types"),
        issuers=table.strings("issuers"),
        access_classes=table.strings("access_classes"),
        agencies=table.strings("agencies"),
        card_types=table.strings("card_types"),
        points=frozenset(into),
        schedule=schedule,
    )
    table.done()
    return profile


@dataclass(frozen=True, slots=True)
class _ZoneIndex:
    profiles: tuple[Profile, ...]
    bits: Mapping[str, int]
    matches: Mapping[str, Match]


def _rights(
    zones: Mapping[str, Zone],
    points: Mapping[str, Point],
    schedules: Mapping[str, Schedule],
    profiles: Mapping[str, Profile],
) -> tuple[dict[str, PointRights], dict[str, Needs]]:
    """The look-up of every access point, and what it has to ask for."""
    leading: dict[str, dict[str, Profile]] = {zone: {} for zone in zones}
    at: dict[str, list[Profile]] = {point: [] for point in points}
    for profile in profiles.values():
        for entry in profile.points:
            leading[points[entry].to_zone][profile.name] = profile
            at[entry].append(profile)
    indexes = {zone: _index(tuple(found.values())) for zone, found in leading.items()}
    rights: dict[str, PointRights] = {}
    needs: dict[str, Needs] = {}
    for name, point in points.items():
        if point.direction is Direction.EXIT:
            tracked = zones[point.from_zone].antipassback.mode in (AntiPassbackMode.HARD, AntiPassbackMode.SOFT)
            rights[name], needs[name] = NOBODY, Needs(frozenset(), tracked)
            continue
        index, here = indexes[point.to_zone], at[name]
        needs[name] = _needs(zones[point.to_zone], here)
        asked = needs[name].attributes
        by_schedule: dict[str, int] = {}
        for profile in here:
            by_schedule[profile.schedule] = by_schedule.get(profile.schedule, 0) | index.bits[profile.name]
        rights[name] = PointRights(
            names=[profile.name for profile in index.profiles],
            every=(1 << len(index.profiles)) - 1,
            here=sum(by_schedule.values()),
            doc_type=index.matches["doc_type"],
            issuer=index.matches["issuer"],
            schedules=[(schedules[schedule], mask) for schedule, mask in by_schedule.items()],
            **{
                key: index.matches[key] if key in asked else index.matches[key].unasked()
                for key in ("access_class", "agency_code", "card_type")
            },
        )
    return rights, needs


def _index(profiles: tuple[Profile, ...]) -> _ZoneIndex:
    return _ZoneIndex(
        profiles,
        {profile.name: 1 << bit for bit, profile in enumerate(profiles)},
        {
            "doc_type": Match.index(profile.doc_types for profile in profiles),
            "issuer": Match.index(profile.issuers for profile in profiles),
            "access_class": Match.index(profile.access_classes for profile in profiles),
            "agency_code": Match.index(profile.agencies for profile in profiles),
            "card_type": Match.index(profile.card_types for profile in profiles),
        },
    )


def _needs(zone: Zone, here: list[Profile]) -> Needs:
    asked = set()
    if any(profile.access_classes is not None for profile in here):
        asked.add("access_class")
    if any(profile.agencies is not None for profile in here):
        asked.add("agency_code")
    if any(profile.card_types is not None for profile in here) or zone.escort or zone.visit_card_types:
        asked.add("card_type")
    if zone.responders is not None:
        # Asked for at all times, not only under lockdown: the request shows nobody outside which level is in force.
        asked |= {"card_type"} if zone.responders.card_types else set()
        asked |= {"access_class"} if zone.responders.access_classes else set()
    return Needs(frozenset(asked), zone.antipassback.mode is not AntiPassbackMode.NONE)
