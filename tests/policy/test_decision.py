from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.decision import RULES, Attributes, Decision, Note, Wait, decide
from policy.document import Policy, parse
from policy.explain import State, explain
from policy.model import CARRIERS
from policy.reasons import GROUPS, ORDER, WORDING, Reason
from policy.situation import (
    AntiPassbackFinding,
    ClockQuality,
    EscortFinding,
    SecondFactor,
    SecondPerson,
    Situation,
    Visit,
)
from tests.policy.conftest import BASE

POLICY = parse(BASE.encode())
CIVIL = "kr.go.civilservant.1"
GOOD = Attributes(CIVIL, "1741000", "staff", "secure", "KR Interior")
MONDAY_NOON = datetime(2026, 11, 23, 2, 30, tzinfo=UTC)
MONDAY_NIGHT = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
HOLIDAY_NOON = datetime(2026, 11, 25, 2, 30, tzinfo=UTC)
READY = Situation(
    MONDAY_NOON,
    "nfc",
    occupancy=0,
    antipassback=AntiPassbackFinding.CLEAR,
    second_factor=SecondFactor.PASSED,
    second_person=SecondPerson.ANOTHER,
)
"""Everything the vault asks for."""
VISIT = Visit(
    frozenset({"vault"}), MONDAY_NOON - timedelta(hours=1), MONDAY_NOON + timedelta(hours=1), host_required=False
)


def at_vault(attributes: Attributes = GOOD, **facts: Any) -> Decision:
    return decide(POLICY, "vault-in", attributes, replace(READY, **facts))


def changed(rules: str, *changes: tuple[str, str]) -> Policy:
    for old, new in changes:
        assert old in rules
        rules = rules.replace(old, new, 1)
    return parse(rules.encode())


def test_who_meets_every_rule_is_granted() -> None:
    assert at_vault() == Decision(None)


FAULTS: list[tuple[dict[str, str], dict[str, Any], Reason]] = [
    ({"doc_type": "org.iso.18013.5.1.mDL"}, {}, Reason.WRONG_DOCUMENT_TYPE),
    ({}, {"denied": True}, Reason.DENIED_LIST),
    ({}, {"clock": ClockQuality.UNSET, "running_s": 1800}, Reason.CLOCK_UNSET),
    ({}, {"lockdown": 1}, Reason.LOCKDOWN),
    ({"issuer": "KR Health"}, {}, Reason.ISSUER_NOT_ACCEPTED),
    ({"access_class": "general"}, {}, Reason.NO_RIGHT_ZONE),
    ({"agency_code": "9999999"}, {}, Reason.AGENCY),
    ({"card_type": "contractor"}, {}, Reason.CARD_TYPE),
    ({}, {"now": MONDAY_NIGHT}, Reason.OUTSIDE_SCHEDULE),
    ({}, {"carrier": "qr"}, Reason.CARRIER_NOT_ALLOWED),
    ({}, {"occupancy": 5}, Reason.OCCUPANCY_UPPER),
    ({}, {"antipassback": AntiPassbackFinding.INSIDE}, Reason.ANTIPASSBACK_HARD),
    ({}, {"second_factor": SecondFactor.FAILED}, Reason.SECOND_FACTOR_FAILED),
    ({}, {"second_person": SecondPerson.SAME}, Reason.SECOND_PERSON_MISSING),
]


@pytest.mark.parametrize("faults", [c for n in (1, 2, 3) for c in itertools.combinations(FAULTS, n)])
def test_the_first_rule_that_fails_is_the_reason(
    faults: tuple[tuple[dict[str, str], dict[str, Any], Reason], ...],
) -> None:
    attributes, situation = GOOD, READY
    for values, facts, _ in faults:
        attributes, situation = replace(attributes, **values), replace(situation, **facts)
    assert decide(POLICY, "vault-in", attributes, situation).reason is faults[0][2]


def test_every_rule_gives_reasons_in_the_published_order() -> None:
    given_by = [reason for rule in RULES for reason in rule.reasons]
    assert sorted(given_by, key=ORDER.index) == given_by
    site = ORDER[ORDER.index(Reason.DENIED_LIST) : ORDER.index(Reason.FIRE_ACTIVE)]
    assert set(given_by) == {Reason.WRONG_DOCUMENT_TYPE, *site}


# -- rights -------------------------------------------------------------------------------------------------------------------


def at_hall(attributes: Attributes, point: str = "hall-in", now: datetime = MONDAY_NOON) -> Reason | None:
    return decide(POLICY, point, attributes, Situation(now, "qr")).reason


def test_one_profile_that_matches_is_enough() -> None:
    assert at_hall(GOOD) is None
    assert at_hall(replace(GOOD, card_type="guard"), now=MONDAY_NIGHT) is None


def test_the_profile_that_came_nearest_gives_the_reason() -> None:
    # Profile staff fails at the access class; guards takes any class and fails at the card type.
    assert at_hall(replace(GOOD, card_type="visitor", access_class="none")) is Reason.CARD_TYPE
    assert at_vault(replace(GOOD, card_type="visitor", access_class="none")).reason is Reason.NO_RIGHT_ZONE


def test_a_right_for_another_access_point_of_the_zone_says_so() -> None:
    assert at_hall(replace(GOOD, card_type="guard", agency_code="1"), "side-in", MONDAY_NIGHT) is None
    without_guards = BASE[: BASE.index("[profiles.guards]")] + BASE[BASE.index("[profiles.vault]") :]
    policy = changed(without_guards, ('agencies = ["1741000"]\npoints', 'card_types = ["cleaner"]\npoints'))
    cleaner, staff = replace(GOOD, card_type="cleaner"), GOOD
    assert decide(policy, "side-in", cleaner, Situation(MONDAY_NOON, "nfc")).granted
    assert decide(policy, "hall-in", cleaner, Situation(MONDAY_NOON, "nfc")).reason is Reason.NO_RIGHT_POINT
    # side-in does not ask for the access class, so it cannot know that staff may use the other entrance.
    assert decide(policy, "side-in", staff, Situation(MONDAY_NOON, "nfc")).reason is Reason.CARD_TYPE


def test_what_a_point_does_not_ask_for_changes_nothing() -> None:
    for agency in ("", "1741000", "9999999"):
        assert at_hall(replace(GOOD, agency_code=agency)) is None
        assert at_hall(replace(GOOD, agency_code=agency, card_type="contractor")) is Reason.CARD_TYPE


def test_closed_only_for_the_holiday_is_told_from_closed_anyway() -> None:
    assert at_hall(GOOD, now=HOLIDAY_NOON) is Reason.HOLIDAY
    assert at_hall(GOOD, now=HOLIDAY_NOON + timedelta(hours=10)) is Reason.OUTSIDE_SCHEDULE
    # A special day that closes early is one as well.
    assert at_hall(GOOD, now=datetime(2026, 12, 31, 8, 0, tzinfo=UTC)) is Reason.HOLIDAY


def test_hours_are_local() -> None:
    assert at_hall(GOOD, now=datetime(2026, 11, 22, 22, 30, tzinfo=UTC)) is None  # 07:30 on Monday in Seoul


def test_an_unknown_access_point_is_the_callers_fault() -> None:
    with pytest.raises(KeyError):
        decide(POLICY, "nowhere", GOOD, READY)


# -- the zone's rules ---------------------------------------------------------------------------------------------------------


def test_a_clock_that_was_never_set_has_the_zones_grace_from_start() -> None:
    assert at_vault(clock=ClockQuality.UNSET, running_s=1799) == Decision(None, (Note.CLOCK_GRACE,))
    assert at_vault(clock=ClockQuality.UNSET, running_s=1800).reason is Reason.CLOCK_UNSET
    hall = Situation(MONDAY_NOON, "nfc", clock=ClockQuality.UNSET)
    assert decide(POLICY, "hall-in", GOOD, hall).reason is Reason.CLOCK_UNSET


def test_holdover_lasts_as_long_as_the_zone_allows() -> None:
    assert at_vault(clock=ClockQuality.HOLDOVER, clock_age_s=12 * 3600).granted
    assert at_vault(clock=ClockQuality.HOLDOVER, clock_age_s=12 * 3600 + 1).reason is Reason.CLOCK_STALE
    assert at_vault(clock=ClockQuality.HOLDOVER).reason is Reason.CLOCK_STALE
    assert decide(POLICY, "hall-in", GOOD, Situation(MONDAY_NOON, "nfc", clock=ClockQuality.HOLDOVER)).granted


@pytest.mark.parametrize("who", [{"card_type": "fire"}, {"access_class": "crisis"}])
def test_a_responder_enters_under_lockdown_up_to_the_level(who: dict[str, str]) -> None:
    responder = replace(GOOD, **who)
    assert at_vault(responder, lockdown=2) == Decision(None, (Note.EXEMPT,))
    assert at_vault(responder, lockdown=3).reason is Reason.LOCKDOWN
    assert at_vault(responder) == Decision(None)
    assert at_vault(lockdown=1).reason is Reason.LOCKDOWN


def test_the_exemption_is_from_lockdown_only() -> None:
    assert at_vault(replace(GOOD, card_type="fire"), lockdown=1, denied=True).reason is Reason.DENIED_LIST
    assert at_vault(replace(GOOD, card_type="fire"), lockdown=1, now=MONDAY_NIGHT).reason is Reason.OUTSIDE_SCHEDULE


VISITOR = replace(GOOD, card_type="visitor")


@pytest.mark.parametrize(
    ("visit", "reason"),
    [
        (None, Reason.VISIT_MISSING),
        (replace(VISIT, zones=frozenset({"hall"})), Reason.VISIT_OTHER_ZONE),
        (replace(VISIT, not_before=MONDAY_NOON + timedelta(seconds=1)), Reason.VISIT_NOT_YET),
        (replace(VISIT, not_after=MONDAY_NOON), Reason.VISIT_OVER),
        (replace(VISIT, not_before=MONDAY_NOON), None),
        (replace(VISIT, host_required=True), Reason.ESCORT_MISSING),
    ],
)
def test_a_visitor_enters_on_a_visit_record(visit: Visit | None, reason: Reason | None) -> None:
    assert at_vault(VISITOR, visit=visit).reason is reason


def test_a_visit_gives_no_right_that_no_profile_gives() -> None:
    assert at_vault(replace(VISITOR, agency_code="1"), visit=VISIT).reason is Reason.AGENCY
    assert at_vault(replace(GOOD, card_type="tourist"), visit=VISIT).reason is Reason.CARD_TYPE


def test_a_guest_needs_a_host_who_passed_before() -> None:
    guest = replace(GOOD, card_type="guest")
    assert at_vault(guest).reason is Reason.ESCORT_MISSING
    assert at_vault(guest, escort=EscortFinding.WRONG).reason is Reason.WRONG_ESCORT
    assert at_vault(guest, escort=EscortFinding.HOST).granted
    assert at_vault(escort=EscortFinding.WRONG).granted  # staff need none


def test_an_unknown_count_lets_in_and_says_so() -> None:
    assert at_vault(occupancy=4).granted
    assert at_vault(occupancy=None) == Decision(None, (Note.OCCUPANCY_UNKNOWN,))


F = AntiPassbackFinding


@pytest.mark.parametrize(
    ("mode", "finding", "expected"),
    [
        ("hard", F.CLEAR, None),
        ("hard", F.INSIDE, Reason.ANTIPASSBACK_HARD),
        ("hard", F.RECENT, Reason.ANTIPASSBACK_HARD),
        ("hard", F.CUT_OFF, Reason.ANTIPASSBACK_CUT_OFF),
        ("hard", F.NO_HANDLE, Reason.ANTIPASSBACK_NO_HANDLE),
        ("hard", F.NOT_ASKED, Reason.ANTIPASSBACK_NO_HANDLE),
        ("lenient", F.INSIDE, Reason.ANTIPASSBACK_HARD),
        ("lenient", F.CUT_OFF, Note.CUT_OFF_SOFT),
        ("lenient", F.NO_HANDLE, Note.NO_HANDLE_SOFT),
        ("soft", F.INSIDE, Note.ANTIPASSBACK_SOFT),
        ("soft", F.RECENT, Note.ANTIPASSBACK_SOFT),
        ("soft", F.NO_HANDLE, Note.NO_HANDLE_SOFT),
        ("soft", F.CUT_OFF, Note.CUT_OFF_SOFT),
        ("timed", F.RECENT, Reason.ANTIPASSBACK_TIMED),
        ("timed", F.INSIDE, None),
        ("none", F.INSIDE, None),
        ("none", F.NOT_ASKED, None),
    ],
)
def test_what_antipassback_makes_of_a_finding(mode: str, finding: F, expected: Reason | Note | None) -> None:
    table = 'mode = "hard"\ncut_off = "refuse"\npasses = "refuse"'
    policy = changed(
        BASE,
        (
            table,
            {
                "hard": table,
                "lenient": 'mode = "hard"\ncut_off = "local"',
                "timed": 'mode = "timed"\nminutes = 5',
            }.get(mode, f'mode = "{mode}"'),
        ),
    )
    decision = decide(policy, "vault-in", GOOD, replace(READY, antipassback=finding))
    assert decision.reason is (expected if isinstance(expected, Reason) else None)
    assert decision.notes == ((expected,) if isinstance(expected, Note) else ())


def test_the_second_factor_is_waited_for_when_nothing_else_stands_against() -> None:
    decision = at_vault(second_factor=SecondFactor.NOT_ASKED)
    assert (decision.granted, decision.wait, decision.wait_s) == (False, Wait.SECOND_FACTOR, 8)
    assert decision.refusal is Reason.SECOND_FACTOR_MISSING
    assert at_vault(second_factor=SecondFactor.NOT_ASKED, occupancy=5).wait is None


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (SecondFactor.FAILED, Reason.SECOND_FACTOR_FAILED),
        (SecondFactor.TIMEOUT, Reason.SECOND_FACTOR_TIMEOUT),
        (SecondFactor.UNAVAILABLE, Reason.SECOND_FACTOR_MISSING),
    ],
)
def test_each_failure_of_the_second_factor_has_its_reason(outcome: SecondFactor, reason: Reason) -> None:
    assert at_vault(second_factor=outcome).reason is reason


def test_the_first_of_two_people_waits_for_the_second() -> None:
    decision = at_vault(second_person=SecondPerson.NOBODY)
    assert (decision.granted, decision.wait, decision.wait_s) == (False, Wait.SECOND_PERSON, 5)
    assert decision.refusal is Reason.SECOND_PERSON_MISSING
    assert at_vault(second_person=SecondPerson.SAME).reason is Reason.SECOND_PERSON_MISSING


@pytest.mark.parametrize(
    ("local", "error_s", "near"),
    [
        ("07:00:01", 2, True),
        ("06:59:59", 2, True),
        ("07:00:03", 2, False),
        ("11:59:59", 2, True),
        ("07:00:01", 0, False),
    ],
)
def test_a_decision_near_an_edge_of_the_schedule_says_so(local: str, error_s: float, near: bool) -> None:
    now = datetime.fromisoformat(f"2026-11-23T{local}").replace(tzinfo=POLICY.timezone)
    decision = decide(POLICY, "hall-in", GOOD, Situation(now, "nfc", clock_error_s=error_s))
    assert (Note.NEAR_EDGE in decision.notes) is near


@pytest.mark.parametrize(("edge_s", "near"), [(1.9, True), (-1.9, True), (2.1, False), (-2.1, False)])
def test_a_decision_near_an_end_of_the_credential_says_so_once(edge_s: float, near: bool) -> None:
    edges = (MONDAY_NOON - timedelta(days=300), MONDAY_NOON + timedelta(seconds=edge_s))
    both = replace(VISIT, not_after=MONDAY_NOON + timedelta(seconds=1))
    assert at_vault(VISITOR, visit=VISIT, edges=edges, clock_error_s=2).notes == ((Note.NEAR_EDGE,) if near else ())
    assert at_vault(VISITOR, visit=both, edges=edges, clock_error_s=2).notes == (Note.NEAR_EDGE,)


def test_a_decision_near_the_end_of_a_visit_says_so() -> None:
    near = replace(VISIT, not_after=MONDAY_NOON + timedelta(seconds=1))
    assert at_vault(VISITOR, visit=near, clock_error_s=2) == Decision(None, (Note.NEAR_EDGE,))
    assert at_vault(VISITOR, visit=VISIT, clock_error_s=2) == Decision(None)


# -- any facts at all ---------------------------------------------------------------------------------------------------------

VALUES = st.sampled_from(
    ["", "staff", "guard", "guest", "visitor", "fire", "secure", "general", "crisis", "1741000", CIVIL, "?"]
)
ATTRIBUTES = st.builds(
    Attributes,
    doc_type=st.sampled_from([CIVIL, "other"]),
    agency_code=st.sampled_from(["1741000", "2"]),
    card_type=VALUES,
    access_class=VALUES,
    issuer=st.sampled_from(["KR Interior", ""]),
)
START = datetime(2026, 11, 20, tzinfo=UTC)
MOMENTS = st.integers(0, 46 * 24 * 60).map(lambda minutes: START + timedelta(minutes=minutes))
SITUATIONS = st.builds(
    Situation,
    now=MOMENTS,
    carrier=st.sampled_from([*CARRIERS, "other"]),
    clock=st.sampled_from(ClockQuality),
    clock_error_s=st.floats(0, 3600),
    clock_age_s=st.none() | st.floats(0, 1e6),
    running_s=st.floats(0, 1e4),
    lockdown=st.integers(0, 9),
    occupancy=st.none() | st.integers(-1, 9),
    antipassback=st.sampled_from(AntiPassbackFinding),
    second_factor=st.sampled_from(SecondFactor),
    escort=st.sampled_from(EscortFinding),
    second_person=st.sampled_from(SecondPerson),
    denied=st.booleans(),
    visit=st.none() | st.just(VISIT) | st.just(replace(VISIT, host_required=True)),
)
POINTS = st.sampled_from(sorted(POLICY.points))


@given(POINTS, ATTRIBUTES, SITUATIONS)
def test_every_case_is_granted_refused_for_one_reason_or_waits(point: str, who: Attributes, facts: Situation) -> None:
    decision = decide(POLICY, point, who, facts)
    assert [decision.granted, decision.reason is not None, decision.wait is not None].count(True) == 1
    assert (decision.refusal is None) is decision.granted
    assert (decision.wait_s > 0) is (decision.wait is not None)
    assert len(set(decision.notes)) == len(decision.notes)


@given(ATTRIBUTES, SITUATIONS)
def test_an_exit_is_never_barred(who: Attributes, facts: Situation) -> None:
    assert decide(POLICY, "vault-out", who, facts).granted


@given(POINTS, ATTRIBUTES, SITUATIONS)
def test_explain_agrees_with_decide(point: str, who: Attributes, facts: Situation) -> None:
    found = explain(POLICY, point, who, facts)
    assert found.decision == decide(POLICY, point, who, facts)
    states = [step.state for step in found.steps]
    assert [step.rule for step in found.steps] == list(RULES)
    stops = [at for at, state in enumerate(states) if state in (State.FAILED, State.WAITS)]
    if stops:
        assert states == [State.PASSED] * stops[0] + [states[stops[0]]] + [State.NOT_REACHED] * (
            len(states) - stops[0] - 1
        )
        assert found.decision.refusal in found.steps[stops[0]].rule.reasons
    for step in found.steps:
        assert bool(step.detail_ko and step.detail_en) is (step.state is not State.NOT_REACHED)


@given(ATTRIBUTES, SITUATIONS, st.text(max_size=3))
def test_a_decision_looks_only_at_what_the_point_asks_for(who: Attributes, facts: Situation, other: str) -> None:
    for point in ("hall-in", "side-in"):
        unasked = {"agency_code", "card_type", "access_class"} - POLICY.needs[point].attributes
        assert unasked
        assert decide(POLICY, point, who, facts) == decide(
            POLICY, point, replace(who, **dict.fromkeys(unasked, other)), facts
        )


# -- words --------------------------------------------------------------------------------------------------------------------


def test_every_reason_has_words_in_both_languages_and_a_place_in_the_order() -> None:
    assert set(WORDING) == set(Reason) == set(ORDER)
    assert list(WORDING) == list(ORDER)
    assert len(ORDER) == len(set(ORDER))
    for words in WORDING.values():
        for korean, english in (
            (words.ko, words.en),
            (words.guard_ko, words.guard_en),
            (words.action_ko, words.action_en),
        ):
            assert any("가" <= letter <= "힣" for letter in korean)
            assert english.isascii()
            assert english


def test_the_groups_follow_each_other_and_begin_with_the_first_reason() -> None:
    starts = [ORDER.index(first) for first, _, _ in GROUPS]
    assert starts[0] == 0
    assert starts == sorted(set(starts))
