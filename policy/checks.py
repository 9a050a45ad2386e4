"""Contradictions that no single key shows: what can never happen, or could never end. Run on a document that reads well."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from policy.model import AntiPassbackMode, Direction, Point, Profile, Zone
from policy.problems import Problems
from policy.schedule import Schedule


def contradictions(
    zones: Mapping[str, Zone],
    points: Mapping[str, Point],
    schedules: Mapping[str, Schedule],
    profiles: Mapping[str, Profile],
    problems: Problems,
) -> None:
    """Add every contradiction to `problems`."""
    _points_have_profiles(points, profiles, problems)
    _profiles_can_match(schedules, profiles, problems)
    left = {point.from_zone for point in points.values()}
    used = {point.zone for point in points.values()}
    leading: dict[str, list[Profile]] = {name: [] for name in zones}
    for profile in profiles.values():
        for into in {points[point].to_zone for point in profile.points}:
            leading[into].append(profile)
    for name, zone in zones.items():
        if name not in used | left | {point.to_zone for point in points.values()}:
            problems.add(
                f"zones.{name}",
                "어느 출입점도 이 구역에 닿지 않습니다",
                "no access point leads into or out of this zone",
            )
            continue
        _zone(zone, leading[name], left=name in left, problems=problems)


def _points_have_profiles(points: Mapping[str, Point], profiles: Mapping[str, Profile], problems: Problems) -> None:
    covered = {point for profile in profiles.values() for point in profile.points}
    for name, point in points.items():
        if point.direction is Direction.ENTRY and name not in covered:
            problems.add(
                f"points.{name}", "이 출입점을 여는 출입 프로필이 없습니다", "no access profile opens this access point"
            )


def _profiles_can_match(schedules: Mapping[str, Schedule], profiles: Mapping[str, Profile], problems: Problems) -> None:
    seen: dict[tuple[object, ...], str] = {}
    for name, profile in profiles.items():
        if not schedules[profile.schedule].ever_open():
            problems.add(
                f"profiles.{name}.schedule",
                f"시간표 {profile.schedule}은(는) 열리는 때가 없습니다",
                f"schedule {profile.schedule} is never open: the profile can never match",
            )
        says = (profile.attributes, profile.points, profile.schedule)
        other = seen.setdefault(says, name)
        if other != name:
            problems.add(
                f"profiles.{name}", f"profiles.{other}와(과) 같은 내용입니다", f"says the same as profiles.{other}"
            )


def _zone(zone: Zone, leading: Collection[Profile], *, left: bool, problems: Problems) -> None:
    at = f"zones.{zone.name}"
    if zone.antipassback.mode in (AntiPassbackMode.HARD, AntiPassbackMode.SOFT) and not left:
        problems.add(
            f"{at}.antipassback.mode",
            "이 구역에서 나가는 출입점이 없어 다시 들어올 수 없게 됩니다(timed는 가능)",
            "no access point leads out of this zone, so nobody could enter twice (timed needs none)",
        )
    if zone.occupancy_limit is not None and not left:
        problems.add(
            f"{at}.occupancy_limit",
            "이 구역에서 나가는 출입점이 없어 인원이 줄지 않습니다",
            "no access point leads out of this zone, so its count could never fall",
        )
    if zone.two_person_s is not None and zone.occupancy_limit == 1:
        problems.add(
            f"{at}.two_person", "정원이 한 명인데 두 사람을 요구합니다", "two people are wanted where one is the limit"
        )
    if zone.escort is not None:
        for card in sorted(zone.escort.guests & zone.escort.hosts):
            problems.add(
                f"{at}.escort.hosts", f"{card!r}은(는) guests에도 있습니다", f"{card!r} stands in `guests` too"
            )
        _reachable(f"{at}.escort.guests", zone.escort.guests, leading, problems)
        _reachable(f"{at}.escort.hosts", zone.escort.hosts, leading, problems)
    _reachable(f"{at}.visit_card_types", zone.visit_card_types, leading, problems)
    if zone.responders is not None:
        _reachable(f"{at}.responders.card_types", zone.responders.card_types, leading, problems)
        _reachable(
            f"{at}.responders.access_classes",
            zone.responders.access_classes,
            leading,
            problems,
            what=("출입 등급", "access class"),
            values=(profile.access_classes for profile in leading),
        )


def _reachable(
    place: str,
    wanted: Collection[str],
    leading: Collection[Profile],
    problems: Problems,
    *,
    what: tuple[str, str] = ("카드 종류", "card type"),
    values: Iterable[frozenset[str] | None] | None = None,
) -> None:
    """A rule about a value that no profile of the zone lets in has no effect."""
    allowed = list(values) if values is not None else [profile.card_types for profile in leading]
    for value in sorted(wanted):
        if not any(found is None or value in found for found in allowed):
            problems.add(
                place,
                f"{what[0]} {value!r}을(를) 들이는 출입 프로필이 이 구역에 없습니다",
                f"no access profile of this zone lets {what[1]} {value!r} in",
            )
