from __future__ import annotations

import itertools
import tomllib
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from policy.decision import Attributes, decide
from policy.document import Policy, load
from policy.reasons import ORDER, WORDING, Reason

POLICY: Policy = load(
    tomllib.loads("""
version = 1
timezone = "Asia/Seoul"
[schedules.office]
mon = ["07:00-20:00"]
[schedules.always]
mon = ["00:00-24:00"]
[zones.vault]
doc_types = ["kr.go.civilservant.1"]
access_classes = ["secure"]
agencies = ["1741000"]
schedule = "office"
schedule_by_card_type = { duty = "always" }
[zones.hall]
doc_types = ["kr.go.civilservant.1"]
access_classes = ["secure", "general"]
schedule = "always"
[points.vault-in]
zone = "vault"
entrance_group = "vault"
[points.hall-in]
zone = "hall"
entrance_group = "hall"
""")
)
GOOD = Attributes("kr.go.civilservant.1", "1741000", "staff", "secure")
MONDAY_NOON = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
MONDAY_NIGHT = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
FAULTS: list[tuple[str, str, Reason]] = [
    ("doc_type", "org.iso.18013.5.1.mDL", Reason.WRONG_DOCUMENT_TYPE),
    ("access_class", "general", Reason.NO_RIGHT_ZONE),
    ("agency_code", "9999999", Reason.AGENCY),
]


def test_who_meets_every_rule_is_granted() -> None:
    assert decide(POLICY, "vault-in", GOOD, MONDAY_NOON).granted


@pytest.mark.parametrize("faults", [c for n in (1, 2, 3) for c in itertools.combinations(FAULTS, n)])
@pytest.mark.parametrize("now", [MONDAY_NOON, MONDAY_NIGHT])
def test_the_first_rule_that_fails_is_the_reason(faults: tuple[tuple[str, str, Reason], ...], now: datetime) -> None:
    attributes = GOOD
    for field, value, _ in faults:
        attributes = replace(attributes, **{field: value})
    assert decide(POLICY, "vault-in", attributes, now).reason is faults[0][2]


def test_hours_are_local_and_come_last() -> None:
    assert decide(POLICY, "vault-in", GOOD, MONDAY_NIGHT).reason is Reason.OUTSIDE_SCHEDULE
    # 22:30 UTC on Sunday is 07:30 on Monday in Seoul.
    assert decide(POLICY, "vault-in", GOOD, datetime(2026, 11, 22, 22, 30, tzinfo=UTC)).granted


def test_a_card_type_may_have_hours_of_its_own() -> None:
    assert decide(POLICY, "vault-in", replace(GOOD, card_type="duty"), MONDAY_NIGHT).granted


def test_a_zone_that_names_no_agency_takes_every_agency() -> None:
    assert decide(POLICY, "hall-in", replace(GOOD, agency_code="9999999"), MONDAY_NOON).granted


def test_an_unknown_access_point_is_the_callers_fault() -> None:
    with pytest.raises(KeyError):
        decide(POLICY, "nowhere", GOOD, MONDAY_NOON)


def test_every_reason_has_words_in_both_languages_and_a_place_in_the_order() -> None:
    assert set(WORDING) == set(Reason) == set(ORDER)
    assert len(ORDER) == len(set(ORDER))
    for words in WORDING.values():
        assert any("가" <= letter <= "힣" for letter in words.ko)
        assert words.en.isascii()


def test_the_order_follows_the_rules_of_the_decision() -> None:
    rules = [Reason.WRONG_DOCUMENT_TYPE, Reason.NO_RIGHT_ZONE, Reason.AGENCY, Reason.OUTSIDE_SCHEDULE]
    assert sorted(rules, key=ORDER.index) == rules
