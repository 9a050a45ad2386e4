"""Why a decision came out as it did: every rule in the published order with passed, failed, waits or not reached, and why.

It walks the very rules that `decide` walks, so both agree by construction. What it says names attributes of the question that
was put to it; it is for the officer's desk and never runs in the gate's event path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from policy.decision import RULES, Decision, Outcome, Rule, Wait, Walk, conclude, matching, needs_host
from policy.model import AntiPassbackMode, Direction, Policy
from policy.rights import Match
from policy.situation import Attributes, Situation

SHOWN = 8
"""Profiles named in one line."""


class State(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    WAITS = "waits"
    NOT_REACHED = "not_reached"


@dataclass(frozen=True, slots=True)
class Step:
    """One rule. `detail_*` says what it saw, empty where it was not reached."""

    rule: Rule
    state: State
    detail_ko: str = ""
    detail_en: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    decision: Decision
    steps: tuple[Step, ...]


def explain(policy: Policy, point: str, attributes: Attributes, situation: Situation) -> Explanation:
    """`decide`, with every step. KeyError for an unknown access point."""
    if policy.points[point].direction is Direction.EXIT:
        return Explanation(Decision(None), tuple(Step(rule, State.NOT_REACHED) for rule in RULES))
    walk = Walk(policy, point, attributes, situation)
    outcome: Outcome = None
    steps = []
    for rule in RULES:
        if outcome is not None:
            steps.append(Step(rule, State.NOT_REACHED))
            continue
        before = walk.left
        outcome = rule.check(walk)
        state = State.PASSED if outcome is None else State.WAITS if isinstance(outcome, Wait) else State.FAILED
        steps.append(Step(rule, state, *_SEEN[rule.name](walk, before)))
    return Explanation(conclude(walk, outcome), tuple(steps))


Seen = tuple[str, str]
"""Korean, English."""


def _profiles(walk: Walk, mask: int) -> str:
    names = walk.rights.profiles(mask)
    more = f" +{len(names) - SHOWN}" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "-"


def _narrowed(axis: str) -> Callable[[Walk, int], Seen]:
    """For a rule that leaves fewer profiles by one attribute."""

    def seen(walk: Walk, before: int) -> Seen:
        match: Match = getattr(walk.rights, axis)
        if not match.by_value and walk.left:
            return "이 출입점은 보지 않음", "this access point does not look at it"
        return _left(walk, before, getattr(walk.attributes, axis) or "-")

    return seen


def _left(walk: Walk, before: int, value: str) -> Seen:
    left, had = _profiles(walk, walk.left), _profiles(walk, before)
    if walk.left:
        return f"{value}; 남은 프로필: {left}", f"{value}; profiles left: {left}"
    return f"{value}; 맞는 프로필 없음({had} 중)", f"{value}; none of these profiles: {had}"


def _point(walk: Walk, before: int) -> Seen:
    return _left(walk, before, walk.zone.name)


def _none() -> Seen:
    return "이 구역은 요구하지 않음", "this zone does not ask for it"


def _deny(walk: Walk, _: int) -> Seen:
    return ("목록에 있음", "on the list") if walk.situation.denied else ("목록에 없음", "not on the list")


def _clock(walk: Walk, _: int) -> Seen:
    quality, grace = walk.situation.clock, walk.zone.clock_grace
    return f"{quality}, 유예 {grace}", f"{quality}, grace {grace}"


def _lockdown(walk: Walk, _: int) -> Seen:
    level, exempt = walk.situation.lockdown, walk.zone.responders
    if level <= 0:
        return "봉쇄 없음", "no lockdown"
    upto = exempt.up_to_level if exempt else 0
    return f"{level}단계, 예외는 {upto}단계까지", f"level {level}, exemption up to level {upto}"


def _schedule(walk: Walk, before: int) -> Seen:
    local = walk.situation.now.astimezone(walk.policy.timezone)
    lines = []
    left = walk.left
    walk.left = before
    for schedule, _ in matching(walk):
        windows = ", ".join(map(str, schedule.windows_on(local.date()))) or "-"
        lines.append(f"{schedule.name} [{windows}]")
    walk.left = left
    when = local.strftime("%Y-%m-%d %H:%M")
    return f"{when}; " + "; ".join(lines), f"{when}; " + "; ".join(lines)


def _carrier(walk: Walk, _: int) -> Seen:
    allowed = ", ".join(sorted(walk.zone.carriers))
    return f"{walk.situation.carrier}; 허용: {allowed}", f"{walk.situation.carrier}; allowed: {allowed}"


def _visit(walk: Walk, _: int) -> Seen:
    if walk.attributes.card_type not in walk.zone.visit_card_types:
        return _none()
    visit = walk.situation.visit
    if visit is None:
        return "방문 기록 없음", "no visit record"
    window = f"{visit.not_before.isoformat()} - {visit.not_after.isoformat()}"
    zones = ", ".join(sorted(visit.zones))
    return f"{window}, 구역 {zones}", f"{window}, zones {zones}"


def _escort(walk: Walk, _: int) -> Seen:
    if not needs_host(walk.zone, walk.attributes.card_type, walk.situation.visit):
        return _none()
    return f"먼저 통과한 사람: {walk.situation.escort}", f"who passed before: {walk.situation.escort}"


def _occupancy(walk: Walk, _: int) -> Seen:
    limit, inside = walk.zone.occupancy_limit, walk.situation.occupancy
    if limit is None:
        return _none()
    shown = "?" if inside is None else str(inside)
    return f"{shown}명, 정원 {limit}명", f"{shown} inside, limit {limit}"


def _antipassback(walk: Walk, _: int) -> Seen:
    mode = walk.zone.antipassback.mode
    if mode is AntiPassbackMode.NONE:
        return _none()
    return (f"{mode}: {walk.situation.antipassback}",) * 2


def _second_factor(walk: Walk, _: int) -> Seen:
    return (str(walk.situation.second_factor),) * 2 if walk.zone.factors > 1 else _none()


def _second_person(walk: Walk, _: int) -> Seen:
    return (str(walk.situation.second_person),) * 2 if walk.zone.two_person_s is not None else _none()


_SEEN: dict[str, Callable[[Walk, int], Seen]] = {
    "document_type": _narrowed("doc_type"),
    "deny_list": _deny,
    "clock": _clock,
    "lockdown": _lockdown,
    "issuer": _narrowed("issuer"),
    "access_class": _narrowed("access_class"),
    "agency": _narrowed("agency_code"),
    "card_type": _narrowed("card_type"),
    "access_point": _point,
    "schedule": _schedule,
    "carrier": _carrier,
    "visit": _visit,
    "escort": _escort,
    "occupancy": _occupancy,
    "antipassback": _antipassback,
    "second_factor": _second_factor,
    "second_person": _second_person,
}
"""What each rule saw, after it was tried."""
