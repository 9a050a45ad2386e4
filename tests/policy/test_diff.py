from __future__ import annotations

import itertools
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from policy import diff as diffing
from policy.decision import decide
from policy.diff import ABSENT, AXES, GRANTED, OTHER, Row, day_label, diff, favourable, merge
from policy.document import Policy, PolicyError, load, parse
from policy.model import CARRIERS
from policy.schedule import DAYS
from policy.situation import Attributes
from tests.policy.conftest import BASE

START = date(2026, 11, 22)
"""A Sunday."""


def changed(*changes: tuple[str, str]) -> Policy:
    text = BASE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return parse(text.encode())


OLD = changed()


def test_a_document_is_like_itself() -> None:
    assert not diff(OLD, OLD, START)
    assert diff(OLD, OLD, START) == diffing.Difference((), ())


def test_only_a_new_version_is_told_and_is_no_difference() -> None:
    found = diff(OLD, changed(("version = 3", "version = 4")), START)
    assert [setting.place for setting in found.settings] == ["version"]
    assert not found


def test_longer_hours_are_one_row() -> None:
    new = changed(('tue = ["07:00-20:00"]', 'tue = ["07:00-21:00"]'))
    rows = [row for row in diff(OLD, new, START).rows if row.point == "hall-in" and row.after == GRANTED]
    (row,) = rows
    assert (row.before, row.carriers, row.lockdown) == ("outside_schedule", ("ble", "nfc", "qr"), (0,))
    assert row.attributes["card_type"] == ("staff",)
    assert row.attributes["agency_code"] is None
    assert row.times is not None
    assert [(times.days, times.hours) for times in row.times] == [(("tue", "tue after_holiday"), ((1200, 1260),))]


def test_a_date_that_a_document_treats_apart_is_named() -> None:
    new = changed(("dates = [2026-12-31]", "dates = [2026-12-30]"))
    days = {day for row in diff(OLD, new, START).rows for times in row.times or () for day in times.days}
    assert {"2026-12-30", "2026-12-31"} <= days
    assert not days & set(DAYS)


def test_a_holiday_that_only_one_document_knows_is_named() -> None:
    new = changed(("add = [2026-11-25]", "add = [2026-11-26]"))
    days = {day for row in diff(OLD, new, START).rows for times in row.times or () for day in times.days}
    assert {"2026-11-25", "2026-11-26"} <= days


def test_a_point_that_is_taken_away_is_decided_differently_for_everyone() -> None:
    without = BASE[: BASE.index("[profiles.side]")] + BASE[BASE.index("[profiles.guards]") :]
    without = without[: without.index("[points.side-in]")] + without[without.index("[points.vault-in]") :]
    found = diff(OLD, parse(without.encode()), START)
    assert ("points.side-in", "present", "") in [(s.place, s.before, s.after) for s in found.settings]
    rows = [row for row in found.rows if row.point == "side-in"]
    assert {row.after for row in rows} == {ABSENT}
    assert GRANTED in {row.before for row in rows}


def test_what_depends_on_neither_person_nor_time_is_told_as_a_setting() -> None:
    new = changed(("occupancy_limit = 5", "occupancy_limit = 6"), ('cut_off = "refuse"', 'cut_off = "soft"'))
    found = diff(OLD, new, START)
    assert found
    assert not found.rows
    assert [setting.place for setting in found.settings] == ["zones.vault.antipassback", "zones.vault.occupancy_limit"]
    assert ("5", "6") in [(setting.before, setting.after) for setting in found.settings]


def test_too_many_combinations_are_refused_and_not_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffing, "MAX_COMBINATIONS", 2)
    with pytest.raises(diffing.DiffTooLargeError):
        diff(OLD, OLD, START)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), max_size=20))
def test_merging_boxes_changes_no_point(points: list[tuple[int, int, int]]) -> None:
    boxes = merge([tuple(frozenset({value}) for value in point) for point in points])
    covered = [point for box in boxes for point in itertools.product(*box)]
    assert sorted(covered) == sorted(set(points))


# -- against brute force ------------------------------------------------------------------------------------------------------

DAYS_LOOKED_AT = [date(2026, 11, 24) + timedelta(days=number) for number in range(3)]
"""Tuesday to Thursday; what the documents below treat apart lies among them."""
LEVELS = (0, 1, 2)
HOURS = st.sampled_from(["00:00-24:00", "08:00-12:00", "12:00-18:00", "20:00-04:00+1", "04:00-08:00"])
WINDOWS = st.lists(HOURS, max_size=1)


def values(*names: str) -> st.SearchStrategy[list[str] | None]:
    return st.none() | st.lists(st.sampled_from(names), min_size=1, unique=True)


def table(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Fields that come out as None are left out."""
    return st.fixed_dictionaries(fields).map(
        lambda made: {key: value for key, value in made.items() if value is not None}
    )


SCHEDULE = table(tue=WINDOWS, wed=WINDOWS, thu=WINDOWS, fri=st.just(["00:00-24:00"]), holiday=st.none() | WINDOWS)
PROFILE = table(
    doc_types=values("civil"),
    access_classes=values("secure", "general"),
    card_types=values("staff", "fire"),
    agencies=values("1"),
    points=values("a", "b").map(lambda some: some or ["a", "b"]),
    schedule=st.sampled_from(["one", "two"]),
)
ZONE = table(
    carriers=values("nfc", "qr"),
    responders=st.none() | st.just({"card_types": ["fire"], "up_to_level": 1}),
    visit_card_types=st.none() | st.just(["staff"]),
)
POINT = {"direction": "entry", "from": "outside", "to": "z", "entrance_group": "g"}
DOCUMENTS = table(
    version=st.just(1),
    timezone=st.just("Asia/Seoul"),
    holidays=st.none() | st.just({"add": [date(2026, 11, 25)]}),
    special_days=st.none()
    | WINDOWS.map(lambda some: {"x": {"dates": [date(2026, 11, 26)], "windows": some, "schedules": ["one"]}}),
    schedules=st.fixed_dictionaries({"one": SCHEDULE, "two": SCHEDULE}),
    zones=ZONE.map(lambda zone: {"z": zone}),
    points=st.just({"a": POINT, "b": POINT}),
    profiles=st.lists(PROFILE, min_size=1, max_size=3).map(lambda some: {str(at): one for at, one in enumerate(some)}),
)
VALUES = (("civil", OTHER), (OTHER,), ("secure", "general", OTHER), ("1", OTHER), ("staff", "fire", OTHER))
"""By AXES."""


def _loaded(document: dict[str, Any]) -> Policy:
    try:
        return load(document)
    except PolicyError:
        assume(False)
        raise


def _named(document: dict[str, Any]) -> set[str]:
    found = {value for one in document["profiles"].values() for key in one for value in one[key] if key != "schedule"}
    return found | set(document["zones"]["z"].get("responders", {}).get("card_types", ()))


def _matches(row: Row, who: Attributes, carrier: str, level: int, label: str, minute: int) -> bool:
    return (
        all(values is None or getattr(who, axis) in values for axis, values in row.attributes.items())
        and (row.carriers is None or carrier in row.carriers)
        and (row.lockdown is None or level in row.lockdown)
        and (
            row.times is None
            or any(
                label in times.days and any(first <= minute < last for first, last in times.hours)
                for times in row.times
            )
        )
    )


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(DOCUMENTS, DOCUMENTS)
def test_diff_finds_what_brute_force_finds(first: dict[str, Any], second: dict[str, Any]) -> None:
    old, new = _loaded(first), _loaded(second)
    rows = diff(old, new, DAYS_LOOKED_AT[0], len(DAYS_LOOKED_AT)).rows
    of_point = {point: [row for row in rows if row.point == point] for point in ("a", "b")}
    named = _named(first) | _named(second)
    labels = {day: day_label(old, new, day) for day in DAYS_LOOKED_AT}
    people = [Attributes(**dict(zip(AXES, combination, strict=True))) for combination in itertools.product(*VALUES)]
    as_named = {
        who: Attributes(**{axis: value if value in named else OTHER for axis in AXES for value in [getattr(who, axis)]})
        for who in people
    }
    for point, day, minute, carrier, level in itertools.product(
        ("a", "b"), DAYS_LOOKED_AT, range(60, 24 * 60, 240), ("nfc", "qr"), LEVELS
    ):
        now = datetime(day.year, day.month, day.day, tzinfo=old.timezone) + timedelta(minutes=minute)
        facts = favourable("z", now, carrier, level)
        for who in people:
            before, after = (str(decide(policy, point, who, facts).reason or GRANTED) for policy in (old, new))
            found = [
                (row.before, row.after)
                for row in of_point[point]
                if _matches(row, as_named[who], carrier, level, labels[day], minute)
            ]
            assert found == ([(before, after)] if before != after else [])


def test_every_carrier_is_an_axis() -> None:
    new = changed(('carriers = ["nfc", "ble"]', 'carriers = ["qr", "ble"]'))
    found = {
        (row.before, row.after, row.carriers)
        for row in diff(OLD, new, START).rows
        if GRANTED in (row.before, row.after)
    }
    assert found == {(GRANTED, "carrier_not_allowed", ("nfc",)), ("carrier_not_allowed", GRANTED, ("qr",))}
    assert set(CARRIERS) == {"ble", "nfc", "qr", "walk_up", "piv", "pkoc"}
