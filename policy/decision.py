"""May this verified presentation pass here, now? A pure function of rules and facts; the gate decides and the console explains
with it.

RULES is the published order: the first rule that fails gives the reason. A rule that waits (second factor, second person) comes
after all that could refuse. An exit is never barred: at one, no rule is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from policy.model import AntiPassbackMode, CutOff, Direction, Passes, Policy, Zone
from policy.reasons import Reason
from policy.rights import PointRights
from policy.schedule import Schedule
from policy.situation import (
    AntiPassbackFinding,
    Attributes,
    ClockQuality,
    EscortFinding,
    SecondFactor,
    SecondPerson,
    Situation,
    Visit,
)

__all__ = [
    "RULES",
    "Attributes",
    "Decision",
    "Note",
    "Outcome",
    "Rule",
    "Situation",
    "Wait",
    "Walk",
    "decide",
    "needs_host",
]


class Note(StrEnum):
    """What a decision says besides yes or no. None speaks of a person."""

    EXEMPT = "exempt"
    """Entered under lockdown as a responder."""
    CLOCK_GRACE = "clock_grace"
    """Decided without trusted time, within the zone's grace."""
    NEAR_EDGE = "near_edge"
    """A schedule or visit begins or ends within the clock's error."""
    OCCUPANCY_UNKNOWN = "occupancy_unknown"
    ANTIPASSBACK_SOFT = "antipassback_soft"
    CUT_OFF_SOFT = "cut_off_soft"
    """Anti-passback could not ask the zone."""
    NO_HANDLE_SOFT = "no_handle_soft"
    """Anti-passback had nothing to go by."""


class Wait(StrEnum):
    """Not yet: what is waited for."""

    SECOND_FACTOR = "second_factor"
    SECOND_PERSON = "second_person"


_AFTER_WAIT = {Wait.SECOND_FACTOR: Reason.SECOND_FACTOR_MISSING, Wait.SECOND_PERSON: Reason.SECOND_PERSON_MISSING}


@dataclass(frozen=True, slots=True)
class Decision:
    """Exactly one of: granted; refused with `reason`; `wait` for at most `wait_s` seconds."""

    reason: Reason | None
    notes: tuple[Note, ...] = ()
    wait: Wait | None = None
    wait_s: float = 0.0

    @property
    def granted(self) -> bool:
        return self.reason is None and self.wait is None

    @property
    def refusal(self) -> Reason | None:
        """The reason; for a wait, what it becomes where nothing follows."""
        return self.reason if self.wait is None else _AFTER_WAIT[self.wait]


class Walk:
    """One decision on its way through the rules: the facts, the profiles left, the notes so far."""

    __slots__ = ("attributes", "left", "notes", "policy", "rights", "situation", "zone")

    def __init__(self, policy: Policy, point: str, attributes: Attributes, situation: Situation) -> None:
        self.zone: Zone = policy.zone_of(point)
        self.rights: PointRights = policy.rights[point]
        self.attributes, self.situation, self.policy = attributes, situation, policy
        self.left = self.rights.every
        """Mask of the profiles that match so far (policy.rights)."""
        self.notes: list[Note] = []

    def note(self, note: Note) -> None:
        """Once each, in the order of the rules."""
        if note not in self.notes:
            self.notes.append(note)


Outcome = Reason | Wait | None
"""None: passed."""


def _document_type(walk: Walk) -> Outcome:
    walk.left &= walk.rights.doc_type.of(walk.attributes.doc_type)
    return None if walk.left else Reason.WRONG_DOCUMENT_TYPE


def _near(walk: Walk, edges: Iterable[datetime]) -> None:
    """Note it where the clock's error leaves open on which side of an edge the true time is."""
    error = timedelta(seconds=walk.situation.clock_error_s)
    if error and any(abs(walk.situation.now - edge) <= error for edge in edges):
        walk.note(Note.NEAR_EDGE)


def _denied_list(walk: Walk) -> Outcome:
    return Reason.DENIED_LIST if walk.situation.denied else None


def _clock(walk: Walk) -> Outcome:
    situation, zone = walk.situation, walk.zone
    _near(walk, situation.edges)
    if situation.clock is ClockQuality.UNSET:
        if situation.running_s >= zone.clock_grace.total_seconds():
            return Reason.CLOCK_UNSET
        walk.note(Note.CLOCK_GRACE)
        return None
    most = zone.max_ages.clock
    if situation.clock is ClockQuality.SYNCED or most is None:
        return None
    old = situation.clock_age_s is None or situation.clock_age_s > most.total_seconds()
    return Reason.CLOCK_STALE if old else None


def _lockdown(walk: Walk) -> Outcome:
    level, exempt = walk.situation.lockdown, walk.zone.responders
    if level <= 0:
        return None
    if exempt is None or level > exempt.up_to_level:
        return Reason.LOCKDOWN
    if walk.attributes.card_type in exempt.card_types or walk.attributes.access_class in exempt.access_classes:
        walk.note(Note.EXEMPT)
        return None
    return Reason.LOCKDOWN


def _issuer(walk: Walk) -> Outcome:
    walk.left &= walk.rights.issuer.of(walk.attributes.issuer)
    return None if walk.left else Reason.ISSUER_NOT_ACCEPTED


def _access_class(walk: Walk) -> Outcome:
    walk.left &= walk.rights.access_class.of(walk.attributes.access_class)
    return None if walk.left else Reason.NO_RIGHT_ZONE


def _agency(walk: Walk) -> Outcome:
    walk.left &= walk.rights.agency_code.of(walk.attributes.agency_code)
    return None if walk.left else Reason.AGENCY


def _card_type(walk: Walk) -> Outcome:
    walk.left &= walk.rights.card_type.of(walk.attributes.card_type)
    return None if walk.left else Reason.CARD_TYPE


def _point(walk: Walk) -> Outcome:
    walk.left &= walk.rights.here
    return None if walk.left else Reason.NO_RIGHT_POINT


def matching(walk: Walk) -> list[tuple[Schedule, int]]:
    """The schedules of the profiles that are left."""
    return [(schedule, mask) for schedule, mask in walk.rights.schedules if mask & walk.left]


def _schedule(walk: Walk) -> Outcome:
    local = walk.situation.now.astimezone(walk.policy.timezone)
    schedules = matching(walk)
    is_open = 0
    for schedule, mask in schedules:
        if schedule.open_at(local):
            is_open |= mask
    error_s = walk.situation.clock_error_s
    if error_s > 0:
        error = timedelta(seconds=error_s)
        for moment in (local - error, local + error):
            if any(schedule.open_at(moment) for schedule, _ in schedules) != bool(is_open):
                walk.note(Note.NEAR_EDGE)
                break
    if is_open:
        walk.left &= is_open
        return None
    if any(schedule.ordinarily_open_at(local) for schedule, _ in schedules):
        return Reason.HOLIDAY
    return Reason.OUTSIDE_SCHEDULE


def _carrier(walk: Walk) -> Outcome:
    return None if walk.situation.carrier in walk.zone.carriers else Reason.CARRIER_NOT_ALLOWED


def _visit(walk: Walk) -> Outcome:
    if walk.attributes.card_type not in walk.zone.visit_card_types:
        return None
    visit, situation = walk.situation.visit, walk.situation
    if visit is None:
        return Reason.VISIT_MISSING
    if walk.zone.name not in visit.zones:
        return Reason.VISIT_OTHER_ZONE
    _near(walk, (visit.not_before, visit.not_after))
    if situation.now < visit.not_before:
        return Reason.VISIT_NOT_YET
    if situation.now >= visit.not_after:
        return Reason.VISIT_OVER
    return None


def needs_host(zone: Zone, card_type: str, visit: Visit | None) -> bool:
    """By the zone's rule, or by the visit. A zone without an escort rule knows no hosts: there such a visit is refused."""
    by_rule = zone.escort is not None and card_type in zone.escort.guests
    return by_rule or (visit is not None and visit.host_required and card_type in zone.visit_card_types)


def _escort(walk: Walk) -> Outcome:
    if not needs_host(walk.zone, walk.attributes.card_type, walk.situation.visit):
        return None
    return {
        EscortFinding.HOST: None,
        EscortFinding.WRONG: Reason.WRONG_ESCORT,
        EscortFinding.NOBODY: Reason.ESCORT_MISSING,
    }[walk.situation.escort]


def _occupancy(walk: Walk) -> Outcome:
    limit, inside = walk.zone.occupancy_limit, walk.situation.occupancy
    if limit is None:
        return None
    if inside is None:
        walk.note(Note.OCCUPANCY_UNKNOWN)
        return None
    return Reason.OCCUPANCY_UPPER if inside >= limit else None


_BARRED: dict[tuple[AntiPassbackMode, AntiPassbackFinding], Reason | Note] = {
    (AntiPassbackMode.HARD, AntiPassbackFinding.INSIDE): Reason.ANTIPASSBACK_HARD,
    (AntiPassbackMode.HARD, AntiPassbackFinding.RECENT): Reason.ANTIPASSBACK_HARD,
    (AntiPassbackMode.SOFT, AntiPassbackFinding.INSIDE): Note.ANTIPASSBACK_SOFT,
    (AntiPassbackMode.SOFT, AntiPassbackFinding.RECENT): Note.ANTIPASSBACK_SOFT,
    (AntiPassbackMode.TIMED, AntiPassbackFinding.RECENT): Reason.ANTIPASSBACK_TIMED,
}
"""What a finding against the person means. Who is inside for longer than the minutes may enter where the mode is timed."""


def _antipassback(walk: Walk) -> Outcome:
    rule, finding = walk.zone.antipassback, walk.situation.antipassback
    if rule.mode is AntiPassbackMode.NONE:
        return None
    found: Reason | Note | None
    if finding is AntiPassbackFinding.CUT_OFF:
        found = Reason.ANTIPASSBACK_CUT_OFF if rule.cut_off is CutOff.REFUSE else Note.CUT_OFF_SOFT
    elif finding in (AntiPassbackFinding.NO_HANDLE, AntiPassbackFinding.NOT_ASKED):
        found = Reason.ANTIPASSBACK_NO_HANDLE if rule.passes is Passes.REFUSE else Note.NO_HANDLE_SOFT
    else:
        found = _BARRED.get((rule.mode, finding))
    if isinstance(found, Note):
        walk.note(found)
        return None
    return found


def _second_factor(walk: Walk) -> Outcome:
    if walk.zone.factors < 2:
        return None
    return {
        SecondFactor.PASSED: None,
        SecondFactor.NOT_ASKED: Wait.SECOND_FACTOR,
        SecondFactor.FAILED: Reason.SECOND_FACTOR_FAILED,
        SecondFactor.TIMEOUT: Reason.SECOND_FACTOR_TIMEOUT,
        SecondFactor.UNAVAILABLE: Reason.SECOND_FACTOR_MISSING,
    }[walk.situation.second_factor]


def _second_person(walk: Walk) -> Outcome:
    if walk.zone.two_person_s is None:
        return None
    return {
        SecondPerson.ANOTHER: None,
        SecondPerson.NOBODY: Wait.SECOND_PERSON,
        SecondPerson.SAME: Reason.SECOND_PERSON_MISSING,
    }[walk.situation.second_person]


@dataclass(frozen=True, slots=True)
class Rule:
    """`check` looks at the walk, may narrow its profiles and add notes, and gives the outcome."""

    name: str
    ko: str
    en: str
    reasons: tuple[Reason, ...]
    """Every reason it can give, as they stand in the published order."""
    check: Callable[[Walk], Outcome]


RULES: tuple[Rule, ...] = (
    Rule("document_type", "문서 종류", "document type", (Reason.WRONG_DOCUMENT_TYPE,), _document_type),
    Rule("deny_list", "차단 목록", "deny list", (Reason.DENIED_LIST,), _denied_list),
    Rule("clock", "시계", "clock", (Reason.CLOCK_UNSET, Reason.CLOCK_STALE), _clock),
    Rule("lockdown", "봉쇄", "lockdown", (Reason.LOCKDOWN,), _lockdown),
    Rule("issuer", "발급기관", "issuer", (Reason.ISSUER_NOT_ACCEPTED,), _issuer),
    Rule("access_class", "출입 등급", "access class", (Reason.NO_RIGHT_ZONE,), _access_class),
    Rule("agency", "소속 기관", "agency", (Reason.AGENCY,), _agency),
    Rule("card_type", "카드 종류", "card type", (Reason.CARD_TYPE,), _card_type),
    Rule("access_point", "출입점", "access point", (Reason.NO_RIGHT_POINT,), _point),
    Rule("schedule", "시간표", "schedule", (Reason.HOLIDAY, Reason.OUTSIDE_SCHEDULE), _schedule),
    Rule("carrier", "제시 방식", "carrier", (Reason.CARRIER_NOT_ALLOWED,), _carrier),
    Rule(
        "visit",
        "방문",
        "visit",
        (Reason.VISIT_MISSING, Reason.VISIT_OTHER_ZONE, Reason.VISIT_NOT_YET, Reason.VISIT_OVER),
        _visit,
    ),
    Rule("escort", "동행", "escort", (Reason.ESCORT_MISSING, Reason.WRONG_ESCORT), _escort),
    Rule("occupancy", "정원", "occupancy", (Reason.OCCUPANCY_UPPER,), _occupancy),
    Rule(
        "antipassback",
        "재진입 제한",
        "anti-passback",
        (
            Reason.ANTIPASSBACK_HARD,
            Reason.ANTIPASSBACK_TIMED,
            Reason.ANTIPASSBACK_CUT_OFF,
            Reason.ANTIPASSBACK_NO_HANDLE,
        ),
        _antipassback,
    ),
    Rule(
        "second_factor",
        "추가 인증",
        "second factor",
        (Reason.SECOND_FACTOR_MISSING, Reason.SECOND_FACTOR_FAILED, Reason.SECOND_FACTOR_TIMEOUT),
        _second_factor,
    ),
    Rule("second_person", "두 사람", "second person", (Reason.SECOND_PERSON_MISSING,), _second_person),
)


def decide(policy: Policy, point: str, attributes: Attributes, situation: Situation) -> Decision:
    """Decide for access point `point` (a name in the policy; KeyError otherwise)."""
    if policy.points[point].direction is Direction.EXIT:
        return Decision(None)
    walk = Walk(policy, point, attributes, situation)
    for rule in RULES:
        outcome = rule.check(walk)
        if outcome is not None:
            return conclude(walk, outcome)
    return conclude(walk, None)


def conclude(walk: Walk, outcome: Outcome) -> Decision:
    """The decision that `outcome`, the first that is not None, makes of the walk."""
    notes = tuple(walk.notes)
    if isinstance(outcome, Wait):
        seconds = walk.zone.second_factor_s if outcome is Wait.SECOND_FACTOR else walk.zone.two_person_s
        return Decision(None, notes, outcome, float(seconds or 0))
    return Decision(outcome, notes)
