from __future__ import annotations

import tomllib
from datetime import datetime
from pathlib import Path

import pytest

from policy.document import Policy, PolicyError, load

BASE = """
version = 3
timezone = "Asia/Seoul"
[schedules.office]
mon = ["07:00-12:00", "13:00-20:00"]
sun = ["22:00-24:00"]
[schedules.always]
mon = ["00:00-24:00"]
[zones.lobby]
doc_types = ["kr.go.civilservant.1"]
access_classes = ["general", "secure"]
schedule = "office"
schedule_by_card_type = { duty = "always" }
[zones.vault]
doc_types = ["kr.go.civilservant.1"]
access_classes = ["secure"]
agencies = ["1741000"]
schedule = "always"
[points.lobby-in]
zone = "lobby"
entrance_group = "hall"
"""


def read(text: str) -> Policy:
    return load(tomllib.loads(text))


def test_reads_zones_points_and_hours() -> None:
    policy = read(BASE)
    assert (policy.version, policy.timezone.key) == (3, "Asia/Seoul")
    assert policy.points["lobby-in"].entrance_group == "hall"
    assert policy.zones["lobby"].agencies is None
    assert policy.zones["vault"].agencies == frozenset({"1741000"})


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-11-23T06:59", False),
        ("2026-11-23T07:00", True),
        ("2026-11-23T11:59", True),
        ("2026-11-23T12:00", False),
        ("2026-11-23T13:00", True),
        ("2026-11-23T20:00", False),
        ("2026-11-24T10:00", False),
        ("2026-11-29T23:59", True),
    ],
)
def test_a_window_holds_its_first_minute_and_not_its_last(moment: str, is_open: bool) -> None:
    assert read(BASE).schedules["office"].open_at(datetime.fromisoformat(moment)) is is_open


MISTAKES = [
    ("version = 3", "", "version"),
    ("version = 3", 'version = "3"', "version"),
    ("version = 3", "version = true", "version"),
    ("Asia/Seoul", "Mars/Olympus", "timezone"),
    ("Asia/Seoul", "../../etc/passwd", "timezone"),
    ("Asia/Seoul", "", "timezone"),
    ('["22:00-24:00"]', '["22:00-25:00"]', "schedules.office.sun"),
    ('["22:00-24:00"]', '["24:00-24:00"]', "schedules.office.sun"),
    ('["22:00-24:00"]', '["22:00-21:00"]', "schedules.office.sun"),
    ('["22:00-24:00"]', '["22:00-22:00"]', "schedules.office.sun"),
    ('["22:00-24:00"]', '["22:00-24:30"]', "schedules.office.sun"),
    ('["22:00-24:00"]', '["7:00-8:00"]', "schedules.office.sun"),
    ('["22:00-24:00"]', "[22]", "schedules.office.sun"),
    ('["22:00-24:00"]', '"22:00-24:00"', "schedules.office.sun"),
    ("sun = ", "sunday = ", "schedules.office.sunday"),
    ('access_classes = ["secure"]', "access_classes = []", "zones.vault.access_classes"),
    ('access_classes = ["secure"]', "access_classes = [1]", "zones.vault.access_classes"),
    ('access_classes = ["secure"]', "", "zones.vault.access_classes"),
    ('agencies = ["1741000"]', "agencies = []", "zones.vault.agencies"),
    ('schedule = "always"', 'schedule = "never"', "zones.vault.schedule"),
    ('duty = "always"', 'duty = "never"', "zones.lobby.schedule_by_card_type.duty"),
    ('duty = "always"', "duty = 1", "zones.lobby.schedule_by_card_type.duty"),
    ('zone = "lobby"', 'zone = "attic"', "points.lobby-in.zone"),
    ('entrance_group = "hall"', "", "points.lobby-in.entrance_group"),
    ('entrance_group = "hall"', 'entrance_group = "hall"\nextra = 1', "points.lobby-in.extra"),
    ("version = 3", "version = 3\nholidays = []", "holidays"),
]


@pytest.mark.parametrize(("old", "new", "place"), MISTAKES)
def test_a_mistake_is_refused_with_its_place_and_what_is_expected(old: str, new: str, place: str) -> None:
    assert old in BASE
    with pytest.raises(PolicyError) as caught:
        read(BASE.replace(old, new))
    assert caught.value.place == place
    assert caught.value.expected


@pytest.mark.parametrize("section", ["schedules", "zones", "points"])
@pytest.mark.parametrize("value", [{}, [], 1, "x", {"a": 1}])
def test_a_section_that_is_no_table_of_tables_is_refused(section: str, value: object) -> None:
    document = tomllib.loads(BASE)
    with pytest.raises(PolicyError):
        load({**document, section: value})


def test_the_example_loads() -> None:
    path = Path(__file__).parents[2] / "config" / "policy.toml"
    assert read(path.read_text("utf-8")).version == 1
