from __future__ import annotations

from dataclasses import replace

import pytest

from policy import limits
from policy.companion import Companions, Missed
from policy.decision import Decision, Wait
from policy.document import parse
from policy.reasons import Reason
from policy.second_factor import Question
from policy.situation import EscortFinding, SecondFactor, SecondPerson
from tests.policy.conftest import BASE

ZONE = parse(BASE.encode()).zones["vault"]
"""Two people within 5 s; a host before guests within 20 s, two guests for one host."""
WAITS = Decision(None, wait=Wait.SECOND_PERSON, wait_s=5)
GRANTED = Decision(None)
ANNE, BORA, CHAN, DANA = b"a" * 32, b"b" * 32, b"c" * 32, b"d" * 32


def test_a_second_person_must_be_another_and_in_time() -> None:
    state = Companions()
    assert state.second_person("vault-in", ANNE, 100) is SecondPerson.NOBODY
    state = state.after("vault-in", ZONE, ANNE, "staff", WAITS, 100)
    assert state.second_person("vault-in", ANNE, 101) is SecondPerson.SAME
    assert state.second_person("vault-in", BORA, 104.9) is SecondPerson.ANOTHER
    assert state.second_person("vault-in", BORA, 105) is SecondPerson.NOBODY
    assert state.second_person("other-in", BORA, 101) is SecondPerson.NOBODY


def test_a_refusal_takes_nobodys_place() -> None:
    state = Companions().after("vault-in", ZONE, ANNE, "staff", WAITS, 100)
    assert state.after("vault-in", ZONE, BORA, "staff", Decision(Reason.AGENCY), 101) == state


def test_a_grant_ends_the_wait() -> None:
    state = Companions().after("vault-in", ZONE, ANNE, "staff", WAITS, 100)
    state = state.after("vault-in", ZONE, BORA, "staff", GRANTED, 102)
    assert state.second_person("vault-in", CHAN, 103) is SecondPerson.NOBODY


def test_a_wait_that_ends_alone_is_told_once() -> None:
    state = Companions().after("vault-in", ZONE, ANNE, "staff", WAITS, 100)
    assert state.deadline == 105
    assert state.expire(104.9) == (state, ())
    state, missed = state.expire(105)
    assert missed == (Missed("vault-in", Reason.SECOND_PERSON_MISSING),)
    assert state.expire(200) == (Companions(), ())
    assert state.deadline is None


def test_a_guest_follows_a_host_in_time() -> None:
    state = Companions()
    assert state.escort("vault-in", BORA, 0) is EscortFinding.NOBODY
    state = state.after("vault-in", ZONE, ANNE, "staff", GRANTED, 0)
    assert state.escort("vault-in", BORA, 19.9) is EscortFinding.HOST
    assert state.escort("vault-in", BORA, 20) is EscortFinding.NOBODY
    assert state.escort("vault-in", ANNE, 1) is EscortFinding.NOBODY  # nobody is their own host
    assert state.escort("other-in", BORA, 1) is EscortFinding.NOBODY


def test_a_host_brings_as_many_guests_as_the_rule_says() -> None:
    state = Companions().after("vault-in", ZONE, ANNE, "staff", GRANTED, 0)
    for guest in (BORA, CHAN):
        assert state.escort("vault-in", guest, 1) is EscortFinding.HOST
        state = state.after("vault-in", ZONE, guest, "guest", GRANTED, 1, guest=True)
    assert state.escort("vault-in", DANA, 2) is EscortFinding.NOBODY


def test_who_may_not_host_is_the_wrong_escort_but_displaces_no_host() -> None:
    fire = Companions().after("vault-in", ZONE, ANNE, "fire", GRANTED, 0)
    assert fire.escort("vault-in", BORA, 1) is EscortFinding.WRONG
    hosted = Companions().after("vault-in", ZONE, CHAN, "staff", GRANTED, 0)
    hosted = hosted.after("vault-in", ZONE, ANNE, "fire", GRANTED, 1)
    assert hosted.escort("vault-in", BORA, 2) is EscortFinding.HOST


def test_a_visit_may_name_its_one_host() -> None:
    state = Companions().after("vault-in", ZONE, ANNE, "staff", GRANTED, 0)
    assert state.escort("vault-in", BORA, 1, host=ANNE) is EscortFinding.HOST
    assert state.escort("vault-in", BORA, 1, host=CHAN) is EscortFinding.WRONG


def test_a_zone_without_escort_remembers_nobody() -> None:
    zone = replace(ZONE, escort=None)
    assert Companions().after("hall-in", zone, ANNE, "staff", GRANTED, 0) == Companions()


def test_the_state_is_bounded_and_shows_no_token() -> None:
    state = Companions()
    for number in range(limits.MAX_WAITING + 10):
        state = state.after(f"p{number}", ZONE, ANNE, "staff", WAITS, number)
    assert len(state.waiting) == limits.MAX_WAITING
    assert "p0" not in state.waiting
    assert "aaaa" not in repr(state.after("p", ZONE, ANNE, "staff", GRANTED, 0))


@pytest.mark.parametrize(
    ("attempt", "passed", "at", "outcome"),
    [
        ("one", True, 109.9, SecondFactor.PASSED),
        ("one", False, 101, SecondFactor.FAILED),
        ("one", True, 110, SecondFactor.TIMEOUT),
        ("two", True, 101, None),
    ],
)
def test_a_second_factor_counts_for_its_own_attempt_and_in_time(
    attempt: str, passed: bool, at: float, outcome: SecondFactor | None
) -> None:
    assert Question("one", 100, 10).answered(attempt, passed=passed, at=at) is outcome


def test_a_second_factor_that_does_not_answer_times_out() -> None:
    question = Question("one", 100, 10)
    assert question.looked_at(109.9) is None
    assert question.looked_at(110) is SecondFactor.TIMEOUT
