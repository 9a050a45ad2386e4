"""Who waits for whom at an access point: the two-person rule, and the host before the guest. Pure state, time passed in.

A token proves that two presentations are of two people and is compared in memory only: the caller makes it from the holder
handle, or from the device key where there is none. One person with two credentials that share no handle has two tokens; a zone
that must exclude it takes presentations with a handle only (`carriers`). At most one person waits per access point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from policy import limits
from policy.decision import Decision, Wait
from policy.model import Zone
from policy.reasons import Reason
from policy.situation import EscortFinding, SecondPerson

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class Waiting:
    """The first of two people."""

    token: bytes = field(repr=False)
    until: float


@dataclass(frozen=True, slots=True)
class Passed:
    """Who was granted last and may bring guests, or may not."""

    token: bytes = field(repr=False)
    may_host: bool
    guests_left: int
    until: float


@dataclass(frozen=True, slots=True)
class Missed:
    """A wait that ended without the second person."""

    point: str
    reason: Reason = Reason.SECOND_PERSON_MISSING


@dataclass(frozen=True, slots=True)
class Companions:
    """Who passed, by access point; who waits, by the place where (an access point, or one lane of several that lead through it).
    `at` is monotonic, in seconds; a person waits up to and without `until`."""

    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    passed: Mapping[str, Passed] = field(default_factory=dict)

    def second_person(self, place: str, token: bytes, at: float) -> SecondPerson:
        """What the two-person rule has to go by when `token` presents."""
        first = self.waiting.get(place)
        if first is None or at >= first.until:
            return SecondPerson.NOBODY
        return SecondPerson.SAME if first.token == token else SecondPerson.ANOTHER

    def escort(self, point: str, token: bytes, at: float, host: bytes | None = None) -> EscortFinding:
        """What the escort rule has to go by. `host`: the token the visit record names; None for any host."""
        last = self.passed.get(point)
        if last is None or at >= last.until or last.token == token:
            return EscortFinding.NOBODY
        if not last.may_host or (host is not None and host != last.token):
            return EscortFinding.WRONG
        return EscortFinding.HOST if last.guests_left else EscortFinding.NOBODY

    def after(
        self,
        point: str,
        zone: Zone,
        token: bytes,
        card_type: str,
        decision: Decision,
        at: float,
        *,
        place: str | None = None,
        guest: bool = False,
    ) -> Companions:
        """The state after a decision. `place`: where somebody waits, by default the point. `guest`: policy.decision.needs_host
        said so.

        A refusal changes nothing: who is refused takes no place in line.
        """
        place = point if place is None else place
        if decision.wait is Wait.SECOND_PERSON:
            waiting = {**self.waiting, place: Waiting(token, at + decision.wait_s)}
            return replace(self, waiting=_bounded(waiting))
        if not decision.granted:
            return self
        waiting = {name: first for name, first in self.waiting.items() if name != place}
        passed = dict(self.passed)
        if guest:
            last = passed.get(point)
            if last is not None:
                passed[point] = replace(last, guests_left=last.guests_left - 1)
        elif zone.escort is not None:
            hosts = card_type in zone.escort.hosts
            before = passed.get(point)
            if hosts or before is None or at >= before.until or not before.may_host:
                # Who may not host takes no waiting host's place.
                passed.pop(point, None)
                passed[point] = Passed(token, hosts, zone.escort.guests_per_host, at + zone.escort.within_s)
        return Companions(_bounded(waiting), _bounded(passed))

    def given_up(self, place: str) -> Companions:
        """Whoever waits there waits no longer."""
        return replace(self, waiting={name: first for name, first in self.waiting.items() if name != place})

    def stayed(self, point: str) -> Companions:
        """Whoever was granted there last did not pass: nobody's host."""
        return replace(self, passed={name: last for name, last in self.passed.items() if name != point})

    def expire(self, at: float) -> tuple[Companions, tuple[Missed, ...]]:
        """Forget whose time is over; each first person without a second is told once."""
        missed = tuple(Missed(point) for point, first in self.waiting.items() if at >= first.until)
        return (
            Companions(
                {point: first for point, first in self.waiting.items() if at < first.until},
                {point: last for point, last in self.passed.items() if at < last.until},
            ),
            missed,
        )

    @property
    def deadline(self) -> float | None:
        """When `expire` has to be called next."""
        times = [first.until for first in self.waiting.values()] + [last.until for last in self.passed.values()]
        return min(times, default=None)


def _bounded(entries: dict[str, Entry]) -> dict[str, Entry]:
    """The newest MAX_WAITING entries."""
    return dict(list(entries.items())[-limits.MAX_WAITING :])
