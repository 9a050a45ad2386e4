"""The table of alarms: nothing that a gate or the controller can tell is forgotten, and each says what to do."""

from __future__ import annotations

import re

import pytest

from controller.alarm_kinds import (
    CLEARED_BY_EVENTS,
    CLEARED_BY_OPERATORS,
    EFFECTS,
    KINDS,
    NO_ALARM,
    RECORD,
    Category,
    Severity,
    effect,
)
from controller.alarm_words import WORDS
from controller.batch import What
from protocol import events
from protocol.events import Event, Kind

HANGUL = re.compile(r"[가-힣]")


def event(kind: Kind, **data: object) -> Event:
    return Event("gate-1", "e1", 1, kind, "2026-11-24T09:00:00.000Z", events.GENESIS, data, b"")


def test_every_event_is_in_the_table_or_is_no_alarm_and_never_both() -> None:
    assert set(EFFECTS) | NO_ALARM == set(Kind)
    assert not set(EFFECTS) & NO_ALARM


def test_every_finding_about_records_is_an_alarm() -> None:
    assert {RECORD + what for what in What} <= set(KINDS)


def test_what_an_event_raises_is_in_the_table_and_something_or_somebody_ends_it() -> None:
    raised = {str(each.raises) for each in EFFECTS.values() if each.raises is not None}
    assert raised <= set(KINDS)
    assert raised <= CLEARED_BY_EVENTS | {name for name in CLEARED_BY_OPERATORS if KINDS[name].operator}
    assert set(KINDS) >= CLEARED_BY_EVENTS
    assert all(KINDS[name].operator for name in CLEARED_BY_OPERATORS)


def test_an_alarm_and_its_end_tell_alarms_apart_by_the_same_field() -> None:
    for kind, ends in EFFECTS.items():
        for name in ends.clears:
            raising = [each for each in EFFECTS.values() if each.raises == name]
            assert {each.detail for each in raising} == {ends.detail}, kind


def test_every_alarm_event_that_has_an_end_in_the_event_table_is_ended_by_it() -> None:
    for kind in Kind:
        if kind.startswith("alarm.") and kind.endswith(".cleared"):
            assert kind.removesuffix(".cleared") in EFFECTS[kind].clears


@pytest.mark.parametrize("name", KINDS)
def test_every_alarm_has_a_name_and_an_advice_in_two_languages(name: str) -> None:
    words = KINDS[name].words
    assert HANGUL.search(words.ko)
    assert HANGUL.search(words.do_ko)
    assert words.en
    assert words.do_en
    assert not HANGUL.search(words.en + words.do_en)


def test_no_words_are_left_over() -> None:
    assert set(WORDS) == set(KINDS)


def test_what_the_controller_sees_of_itself_and_of_machines_is_health() -> None:
    for name, kind in KINDS.items():
        if name.startswith(("controller.", "gate.", "device.")):
            assert kind.category is Category.HEALTH


def test_severities_rank_from_the_worst() -> None:
    assert sorted(Severity, key=lambda each: each.rank) == ["critical", "major", "minor", "warning"]


@pytest.mark.parametrize(("quality", "raises"), [("unset", True), ("synced", False), ("holdover", False), (3, False)])
def test_only_a_clock_that_is_not_set_is_an_alarm(quality: object, raises: bool) -> None:
    found = effect(event(Kind.CLOCK_CHANGED, quality=quality))
    assert (found.raises is not None, bool(found.clears)) == (raises, not raises)


@pytest.mark.parametrize(("why", "raises"), [("forged", True), ("replayed", True), ("lane_busy", False), (None, False)])
def test_only_a_refused_order_that_nobody_may_have_given_is_an_alarm(why: object, raises: bool) -> None:
    assert (effect(event(Kind.COMMAND_REFUSED, why=why)).raises is not None) is raises
