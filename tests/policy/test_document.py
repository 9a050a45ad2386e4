from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy import limits
from policy.document import Policy, PolicyError, load, parse
from policy.model import Direction, JournalFull, Needs
from policy.problems import Problems
from tests.policy.conftest import BASE

Read = Callable[[str], Policy]
EXAMPLE = Path(__file__).parents[2] / "config" / "policy.toml"


def test_reads_zones_points_profiles_and_schedules(policy: Policy) -> None:
    assert (policy.version, policy.timezone.key) == (3, "Asia/Seoul")
    assert policy.points["vault-out"].direction is Direction.EXIT
    assert policy.points["vault-in"].entrance_group == "vault"
    assert policy.profiles["guards"].points == {"hall-in", "side-in"}
    assert policy.profiles["side"].card_types is None
    vault = policy.zones["vault"]
    assert (vault.factors, vault.second_factor_s, vault.two_person_s, vault.occupancy_limit) == (2, 8, 5, 5)
    assert (vault.max_ages.status_list, vault.max_ages.crl) == (timedelta(hours=24), None)
    assert vault.clock_grace == timedelta(minutes=30)


def test_a_zone_with_nothing_said_asks_for_nothing_more(policy: Policy) -> None:
    hall = policy.zones["hall"]
    assert (hall.factors, hall.two_person_s, hall.escort, hall.occupancy_limit) == (1, None, None, None)
    assert hall.carriers == {"ble", "nfc", "qr"}
    assert hall.journal_full is JournalFull.REFUSE


def test_a_zone_may_let_entries_go_on_while_the_journal_is_full(read: Read) -> None:
    text = BASE.replace("clock_grace_min = 30", 'clock_grace_min = 30\njournal_full = "continue_with_gap"')
    assert read(text).zones["vault"].journal_full is JournalFull.CONTINUE_WITH_GAP


def test_a_point_asks_for_what_its_own_rules_look_at_and_nothing_else(policy: Policy) -> None:
    assert policy.needs["hall-in"] == Needs(frozenset({"access_class", "card_type"}), holder_handle=False)
    assert policy.needs["side-in"] == Needs(frozenset({"agency_code", "card_type"}), holder_handle=False)
    assert policy.needs["vault-in"].holder_handle
    assert policy.needs["vault-out"] == Needs(frozenset(), holder_handle=True)


@pytest.mark.parametrize(
    ("schedule", "moment", "is_open"),
    [
        ("office", "2026-11-23T06:59", False),
        ("office", "2026-11-23T07:00", True),
        ("office", "2026-11-23T11:59", True),
        ("office", "2026-11-23T12:00", False),
        ("office", "2026-11-23T20:00", False),
        ("office", "2026-11-29T23:59", True),
        ("office", "2026-11-30T00:00", False),
        # A substitute holiday, one that `add` makes, one that `remove` takes away.
        ("office", "2026-10-05T10:00", False),
        ("office", "2026-11-25T10:00", False),
        ("office", "2026-12-25T10:00", True),
        # A special day counts before the weekday.
        ("office", "2026-12-31T14:59", True),
        ("office", "2026-12-31T15:00", False),
        # Over midnight: into the next day, whatever that is; and not at all where the day it starts on is a holiday.
        ("night", "2026-11-23T22:00", True),
        ("night", "2026-11-24T05:59", True),
        ("night", "2026-11-24T06:00", False),
        ("night", "2026-11-25T22:00", False),
        ("night", "2026-11-26T05:00", False),
        ("night", "2026-11-25T10:30", True),
        # A holiday is like any other day where the schedule does not speak of holidays.
        ("always", "2026-10-05T10:00", True),
    ],
)
def test_when_a_schedule_is_open(policy: Policy, schedule: str, moment: str, is_open: bool) -> None:
    assert policy.schedules[schedule].open_at(datetime.fromisoformat(moment)) is is_open


MISTAKES = [
    ("version = 3", "", "version"),
    ("version = 3", 'version = "3"', "version"),
    ("version = 3", "version = true", "version"),
    ("version = 3", "version = -1", "version"),
    ("Asia/Seoul", "Mars/Olympus", "timezone"),
    ("Asia/Seoul", "../../etc/passwd", "timezone"),
    ("Asia/Seoul", "", "timezone"),
    ('country = "KR"', 'country = "ZZ"', "holidays.country"),
    ("remove = [2026-12-25]", "remove = [2026-11-25]", "holidays.remove"),
    ("add = [2026-11-25]", 'add = ["2026-11-25"]', "holidays.add"),
    ("add = [2026-11-25]", "add = [2026-11-25, 2026-11-25]", "holidays.add"),
    ("add = [2026-11-25]", "add = [2026-11-25T10:00:00]", "holidays.add"),
    ('sun = ["22:00-24:00"]', 'sun = ["22:00-25:00"]', "schedules.office.sun"),
    ('sun = ["22:00-24:00"]', 'sun = ["22:00-21:00"]', "schedules.office.sun"),
    ('sun = ["22:00-24:00"]', 'sun = ["22:00-22:00"]', "schedules.office.sun"),
    ('sun = ["22:00-24:00"]', 'sun = ["22:00-24:30"]', "schedules.office.sun"),
    ('sun = ["22:00-24:00"]', 'sun = ["22:00-22:01+1"]', "schedules.office.sun"),
    ('sun = ["22:00-24:00"]', 'sun = ["22:00-00:00+1"]', "schedules.office.sun"),
    ('sun = ["22:00-24:00"]', 'sun = ["7:00-8:00"]', "schedules.office.sun"),
    ('sun = ["22:00-24:00"]', 'sun = ["22:00-23:00", "22:30-24:00"]', "schedules.office.sun"),
    ('sun = ["22:00-24:00"]', "sun = [22]", "schedules.office.sun"),
    ('sun = ["22:00-24:00"]', 'sun = "22:00-24:00"', "schedules.office.sun"),
    ('sun = ["22:00-24:00"]', 'sunday = ["22:00-24:00"]', "schedules.office.sunday"),
    ("dates = [2026-12-31]", "dates = []", "special_days.year-end.dates"),
    ('windows = ["07:00-15:00"]', "", "special_days.year-end.windows"),
    ('schedules = ["office"]', 'schedules = ["offices"]', "special_days.year-end.schedules"),
    (
        "[zones.hall]",
        "[special_days.again]\ndates = [2026-12-31]\nwindows = []\n[zones.hall]",
        "special_days.again.dates",
    ),
    ('carriers = ["nfc", "ble"]', 'carriers = ["pigeon"]', "zones.vault.carriers"),
    ('carriers = ["nfc", "ble"]', "carriers = []", "zones.vault.carriers"),
    ("factors = 2", "factors = 3", "zones.vault.factors"),
    ("factors = 2", "factors = 1", "zones.vault.second_factor_s"),
    ("occupancy_limit = 5", "occupancy_limit = 0", "zones.vault.occupancy_limit"),
    ("occupancy_limit = 5", "occupancy_limit = 1", "zones.vault.two_person"),
    ('visit_card_types = ["visitor"]', 'visit_card_types = ["tourist"]', "zones.vault.visit_card_types"),
    ("clock_grace_min = 30", "clock_grace_min = -1", "zones.vault.clock_grace_min"),
    ("clock_grace_min = 30", 'journal_full = "open"', "zones.vault.journal_full"),
    ('mode = "hard"', 'mode = "strict"', "zones.vault.antipassback.mode"),
    ('mode = "hard"', "", "zones.vault.antipassback.mode"),
    ('mode = "hard"', 'mode = "none"', "zones.vault.antipassback.cut_off"),
    ('mode = "hard"', 'mode = "soft"', "zones.vault.antipassback.passes"),
    ('mode = "hard"', 'mode = "timed"', "zones.vault.antipassback.minutes"),
    ('mode = "hard"', 'mode = "hard"\nminutes = 5', "zones.vault.antipassback.minutes"),
    ('guests = ["guest"]', "", "zones.vault.escort.guests"),
    ('guests = ["guest"]', 'guests = ["nobody"]', "zones.vault.escort.guests"),
    ('hosts = ["staff"]', 'hosts = ["guest"]', "zones.vault.escort.hosts"),
    ("within_s = 20", "within_s = 0", "zones.vault.escort.within_s"),
    ("within_s = 5", "within_s = 600", "zones.vault.two_person.within_s"),
    ('card_types = ["fire"]', 'card_types = ["ambulance"]', "zones.vault.responders.card_types"),
    ('access_classes = ["crisis"]', 'access_classes = ["panic"]', "zones.vault.responders.access_classes"),
    ("up_to_level = 2", "up_to_level = 0", "zones.vault.responders.up_to_level"),
    ("status_list = 24", "status_list = 0", "zones.vault.max_ages.status_list"),
    ("status_list = 24", "statuses = 24", "zones.vault.max_ages.statuses"),
    ('direction = "exit"', 'direction = "out"', "points.vault-out.direction"),
    ('direction = "exit"', "", "points.vault-out.direction"),
    ('from = "vault"', 'from = "attic"', "points.vault-out.from"),
    ('from = "vault"', 'from = "hall"', "points.vault-out.to"),
    ('from = "vault"\nto = "hall"', 'from = "outside"\nto = "hall"', "points.vault-out.from"),
    ('entrance_group = "vault"\n[profiles', "[profiles", "points.vault-out.entrance_group"),
    ('points = ["side-in"]', 'points = ["back-in"]', "profiles.side.points"),
    ('points = ["side-in"]', 'points = ["side-in", "vault-out"]', "profiles.side.points"),
    ('points = ["side-in"]', "", "profiles.side.zones"),
    ('zones = ["vault"]', 'zones = ["cellar"]', "profiles.vault.zones"),
    ('agencies = ["1741000"]\npoints', "agencies = []\npoints", "profiles.side.agencies"),
    ('agencies = ["1741000"]\npoints', "agencies = [1]\npoints", "profiles.side.agencies"),
    ('agencies = ["1741000"]\npoints', 'agencies = ["1", "1"]\npoints', "profiles.side.agencies"),
    ('agencies = ["1741000"]\npoints', 'names = ["Hong"]\npoints', "profiles.side.names"),
    ('schedule = "night"', 'schedule = "nights"', "profiles.guards.schedule"),
    ('schedule = "night"', "", "profiles.guards.schedule"),
    ("[zones.hall]", "[zones.hall]\n[zones.outside]", "zones.outside"),
    ("[zones.hall]", "[zones.hall]\n[zones.attic]", "zones.attic"),
    ("[zones.hall]", '[zones.hall]\n[zones."a b"]', "zones.a b"),
    ("version = 3", "version = 3\nextra = []", "extra"),
]


@pytest.mark.parametrize(("old", "new", "place"), MISTAKES)
def test_a_mistake_is_refused_with_its_place_and_what_is_expected(
    base: str, read: Read, old: str, new: str, place: str
) -> None:
    assert base.count(old) >= 1
    with pytest.raises(PolicyError) as caught:
        read(base.replace(old, new, 1))
    places = [problem.place for problem in caught.value.problems]
    assert place in places, places
    for problem in caught.value.problems:
        assert problem.en.isascii()
        assert any("가" <= letter <= "힣" for letter in problem.ko)
    assert (caught.value.place, caught.value.expected) == (places[0], caught.value.problems[0].en)


@pytest.mark.parametrize(
    ("rules", "place"),
    [
        ('[zones.hall.antipassback]\nmode = "hard"', "zones.hall.antipassback.mode"),
        ('[zones.hall.antipassback]\nmode = "soft"', "zones.hall.antipassback.mode"),
    ],
)
def test_a_zone_that_nobody_is_seen_leaving_cannot_bar_a_second_entry(read: Read, rules: str, place: str) -> None:
    text = EXAMPLE.read_text("utf-8").replace("[zones.lobby]", "").replace("[zones.server-room]", "")
    text = text.replace('from = "lobby"', 'from = "outside"')
    text += f"\n[zones.lobby]\n[zones.server-room]\n{rules.replace('hall', 'lobby')}\n"
    with pytest.raises(PolicyError) as caught:
        read(text)
    assert caught.value.place == place.replace("hall", "lobby")
    read(text.replace('"hard"', '"timed"\nminutes = 5').replace('"soft"', '"timed"\nminutes = 5'))


def test_a_limit_on_a_zone_that_nobody_is_seen_leaving_is_refused(base: str, read: Read) -> None:
    text = base.replace(
        '[points.vault-out]\ndirection = "exit"\nfrom = "vault"\nto = "hall"\nentrance_group = "vault"\n', ""
    )
    with pytest.raises(PolicyError) as caught:
        read(text)
    assert [problem.place for problem in caught.value.problems] == [
        "zones.vault.antipassback.mode",
        "zones.vault.occupancy_limit",
    ]


def test_a_profile_whose_schedule_never_opens_is_refused(base: str, read: Read) -> None:
    with pytest.raises(PolicyError) as caught:
        read(base.replace("[zones.hall]", "[schedules.never]\n[zones.hall]").replace('"night"', '"never"'))
    assert caught.value.place == "profiles.guards.schedule"


def test_a_profile_that_says_the_same_as_another_is_refused(base: str, read: Read) -> None:
    copy = base[base.index("[profiles.guards]") : base.index("[profiles.vault]")].replace("guards", "watch")
    with pytest.raises(PolicyError) as caught:
        read(base + copy)
    assert caught.value.place == "profiles.watch"


@pytest.mark.parametrize("table", ['windows = ["07:00-15:00"]', 'windows = []\nschedules = ["night"]'])
def test_two_special_days_for_one_date_may_agree_or_speak_of_different_schedules(
    base: str, read: Read, table: str
) -> None:
    extra = table if "schedules" in table else f'{table}\nschedules = ["office"]'
    policy = read(f"{base}[special_days.again]\ndates = [2026-12-31]\n{extra}\n")
    assert policy.schedules["office"].open_at(datetime.fromisoformat("2026-12-31T14:00"))


def test_an_entry_that_no_profile_opens_is_refused(base: str, read: Read) -> None:
    without = base[: base.index("[profiles.guards]")] + base[base.index("[profiles.vault]") :]
    with pytest.raises(PolicyError) as caught:
        read(without.replace('points = ["side-in"]', 'points = ["hall-in"]'))
    assert caught.value.place == "points.side-in"


def test_every_mistake_is_named_at_once(base: str, read: Read) -> None:
    text = base.replace("version = 3", "").replace("factors = 2", "factors = 7").replace('"side-in"', '"back-in"')
    with pytest.raises(PolicyError) as caught:
        read(text)
    places = [problem.place for problem in caught.value.problems]
    assert {"version", "zones.vault.factors", "profiles.side.points"} <= set(places)
    assert all(str(problem) in str(caught.value) for problem in caught.value.problems)


def test_mistakes_beyond_the_limit_are_counted() -> None:
    problems = Problems()
    for number in range(limits.MAX_PROBLEMS + 5):
        problems.add(str(number), "틀림", "wrong")
    with pytest.raises(PolicyError) as caught:
        problems.raise_any()
    assert len(caught.value.problems) == limits.MAX_PROBLEMS + 1
    assert caught.value.problems[-1].en == "and 5 more"


@pytest.mark.parametrize("section", ["schedules", "zones", "points", "profiles"])
@pytest.mark.parametrize("value", [{}, [], 1, "x", {"a": 1}, None])
def test_a_section_that_is_no_table_of_tables_is_refused(base: str, section: str, value: object) -> None:
    with pytest.raises(PolicyError):
        load({**tomllib.loads(base), section: value})


@pytest.mark.parametrize(
    ("section", "most"),
    [("zones", limits.MAX_ZONES), ("points", limits.MAX_POINTS), ("profiles", limits.MAX_PROFILES)],
)
def test_a_document_with_too_much_of_anything_is_refused(base: str, section: str, most: int) -> None:
    document = tomllib.loads(base)
    entry = next(iter(document[section].values()))
    document[section] |= {f"x{number}": entry for number in range(most)}
    with pytest.raises(PolicyError) as caught:
        load(document)
    assert f"at most {most}" in str(caught.value)


def test_too_large_not_utf8_and_not_toml_are_refused() -> None:
    for raw in (b"#" * (limits.MAX_DOCUMENT + 1), b"\xff", b"version = ", b"a = " + b"[" * 100_000):
        with pytest.raises(PolicyError) as caught:
            parse(raw)
        assert caught.value.place == ""


def test_the_example_loads() -> None:
    assert parse(EXAMPLE.read_bytes()).version == 1


# -- garbage ------------------------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.dates(), st.datetimes(), st.times()
)
NAMES = st.one_of(
    st.sampled_from(
        ["version", "timezone", "zones", "points", "profiles", "schedules", "mon", "holiday", "special_days"]
    ),
    st.sampled_from(["to", "direction", "entry", "escort", "antipassback", "mode", "hard", "max_ages", "country"]),
    st.sampled_from(["holidays", "dates", "windows", "agencies"]),
)
KEYS = st.one_of(NAMES, st.text(max_size=6))
GARBAGE = st.recursive(
    st.one_of(SCALARS, NAMES),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=25,
)


def _paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [here] if here else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += _paths(inner, (*here, key))
    return found


@given(st.dictionaries(NAMES, GARBAGE, max_size=8))
def test_garbage_gives_the_one_error_and_nothing_else(document: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        load(document)


@given(data=st.data())
def test_garbage_in_any_one_place_gives_the_one_error_or_a_policy(data: st.DataObject) -> None:
    document = tomllib.loads(BASE)
    path = data.draw(st.sampled_from(_paths(document)))
    holder: Any = document
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = data.draw(GARBAGE)
    with contextlib.suppress(PolicyError):
        assert load(document).points


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_give_the_one_error(raw: bytes) -> None:
    with pytest.raises(PolicyError):
        parse(raw)
