"""From a verified presentation to a decision: the facts of this moment gathered for policy.decision, and what waits followed up.

One per gate. Pure facts go in, a `Judged` comes out; the lane records and opens. What names a credential (device key, status
reference, holder handle) is compared here, in memory, and goes nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from drivers.ports import Direction, DriverError, LinkTimeoutError, SecondFactor
from gate_agent import denylist, visits, zones
from gate_agent.devices import Supervised
from gate_agent.timekeeping import TimeFacts
from gate_agent.trust import InForce
from gate_agent.zone import Finding
from gate_agent.zones import Zones
from policy.companion import Companions
from policy.decision import Attributes, Decision, Note, Situation, Wait, decide, needs_host
from policy.model import Direction as PointDirection
from policy.situation import SecondFactor as Factor
from policy.situation import SecondPerson, Visit

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Presented:
    """A verified presentation, held for the length of one decision."""

    attributes: Attributes
    carrier: str
    status: Sequence[tuple[str, int]] = field(default=(), repr=False)
    """Status list address and index."""
    key: denylist.AnyKey | None = field(default=None, repr=False)
    """Device key, or the pass's or card's own."""
    handle: bytes | None = field(default=None, repr=False)
    """holder_handle; None where it was not asked for, or there is none."""
    edges: tuple[datetime, ...] = ()
    """When the credential begins and ends to count."""
    mark: tuple[bytes, datetime] | None = field(default=None, repr=False)
    """Single-use mark of a QR pass and the time until which it counts."""

    @property
    def tokens(self) -> tuple[bytes, ...]:
        """What a visit record may call this visitor by."""
        found = () if self.handle is None else (visits.handle_token(self.handle),)
        return found if self.key is None else (*found, denylist.key_entry(self.key))

    @property
    def token(self) -> bytes:
        """Tells two people apart (policy.companion)."""
        return self.tokens[0] if self.tokens else b""

    def denied(self, deny: denylist.DenyList) -> bool:
        if not deny.entries:
            return False
        candidates = [denylist.status_entry(uri, index) for uri, index in self.status]
        return deny.denies(candidates if self.key is None else [*candidates, denylist.key_entry(self.key)])


@dataclass(frozen=True, slots=True)
class Judged:
    decision: Decision
    finding: Finding
    """What anti-passback said, for the reservation."""
    clock: TimeFacts
    guest: bool
    """Passes because a host has."""
    paired: bool
    """Passes because another person waits here, and only together."""
    situation: Situation


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a lane, as a decision sees it."""

    lane: str
    point: str
    direction: Direction
    factor: Supervised[SecondFactor] | None

    @property
    def place(self) -> str:
        """Where the first of two people waits. Several lanes may lead through one access point."""
        return f"{self.lane} {self.direction}"


class Judge:
    def __init__(
        self, zones: Zones, time_facts: Callable[[], TimeFacts], monotonic: Callable[[], float], least_error_s: float
    ) -> None:
        """`time_facts` looks at the clock now. `least_error_s`: the clock's error is taken for at least this."""
        self.zones, self._time_facts, self._monotonic = zones, time_facts, monotonic
        self._least_error_s = least_error_s
        self._companions = Companions()
        self._hosts: dict[str, str] = {}
        """By access point the attempt of whoever was taken for a host last."""

    def time(self) -> TimeFacts:
        return self._time_facts()

    def error_s(self, clock: TimeFacts) -> float:
        """Bound of the clock's error, for comparing dates."""
        return max(self._least_error_s, 0.0 if clock.error_ms is None else clock.error_ms / 1000)

    async def judge(
        self,
        side: Side,
        in_force: InForce,
        presented: Presented,
        attempt: str,
        lockdown: Callable[[], int],
        on_wait: Callable[[], None] = lambda: None,
    ) -> Judged:
        """Decide, and ask the second factor where the rules want one (`on_wait` is called then). A decision that waits for a
        second person comes back as such. `lockdown` gives the level in force. Never raises for what the presentation holds."""
        judged = self._facts(side, in_force, presented, lockdown())
        if judged.decision.wait is not Wait.SECOND_FACTOR:
            return judged
        on_wait()
        factor = await self._ask(side, attempt, judged.decision.wait_s)
        # Who waited may find another world: everything is looked at again.
        return self._facts(side, in_force, presented, lockdown(), factor)

    def _facts(
        self,
        side: Side,
        in_force: InForce,
        presented: Presented,
        lockdown: int,
        factor: Factor = Factor.NOT_ASKED,
    ) -> Judged:
        policy, clock, at = in_force.policy, self._time_facts(), self._monotonic()
        zone = policy.zone_of(side.point)
        record = in_force.visits.find(presented.tokens, zone.name, clock.now) if len(in_force.visits) else None
        visit: Visit | None = None if record is None else record.visit
        finding = self.zones.find(zone.name, presented.handle, side.lane, side.direction)
        situation = Situation(
            now=clock.now,
            carrier=presented.carrier,
            clock=clock.quality,
            clock_error_s=self.error_s(clock),
            clock_age_s=clock.since_sync_s,
            running_s=clock.since_boot_s,
            lockdown=lockdown,
            occupancy=self.zones.occupancy(zone.name),
            antipassback=zones.judged(policy, side.point, finding),
            second_factor=factor,
            escort=self._companions.escort(side.point, presented.token, at, None if record is None else record.host),
            second_person=self._companions.second_person(side.place, presented.token, at),
            denied=presented.denied(in_force.deny),
            visit=visit,
            edges=presented.edges,
        )
        decision = decide(policy, side.point, presented.attributes, situation)
        entered = decision.granted and policy.points[side.point].direction is PointDirection.ENTRY
        guest = entered and needs_host(zone, presented.attributes.card_type, visit)
        return Judged(decision, finding, clock, guest, entered and zone.two_person_s is not None, situation)

    @staticmethod
    def again(side: Side, in_force: InForce, presented: Presented, judged: Judged, finding: Finding) -> Judged:
        """The same facts with what anti-passback has found since: another lane was faster."""
        situation = replace(judged.situation, antipassback=zones.judged(in_force.policy, side.point, finding))
        decision = decide(in_force.policy, side.point, presented.attributes, situation)
        return replace(judged, decision=decision, finding=finding, situation=situation)

    @staticmethod
    def accompanied(judged: Judged) -> Judged:
        """The facts of somebody who waited, now that the second person is there."""
        return replace(judged, situation=replace(judged.situation, second_person=SecondPerson.ANOTHER))

    async def _ask(self, side: Side, attempt: str, timeout: float) -> Factor:
        supervised = side.factor
        if supervised is None or not supervised.available:
            return Factor.UNAVAILABLE
        try:
            ok = await supervised.device.confirm(attempt, side.lane, timeout)
        except LinkTimeoutError:
            return Factor.TIMEOUT
        except DriverError as error:
            supervised.failed(error)
            return Factor.UNAVAILABLE
        return Factor.PASSED if ok else Factor.FAILED

    def settled(self, side: Side, in_force: InForce, presented: Presented, judged: Judged, attempt: str) -> None:
        """The decision stands (granted and recorded, or waiting): who comes next may depend on it."""
        before = self._companions.passed.get(side.point)
        self._companions = self._companions.after(
            side.point,
            in_force.policy.zone_of(side.point),
            presented.token,
            presented.attributes.card_type,
            judged.decision,
            self._monotonic(),
            place=side.place,
            guest=judged.guest,
        )
        if not judged.guest and self._companions.passed.get(side.point) is not before:
            self._hosts[side.point] = attempt

    def not_taken(self, attempt: str) -> None:
        """Whoever was granted did not pass: no guest follows them."""
        for point, host in tuple(self._hosts.items()):
            if host == attempt:
                del self._hosts[point]
                self._companions = self._companions.stayed(point)

    def give_up(self, side: Side) -> None:
        """Whoever waits at this side for a second person will not pass."""
        self._companions = self._companions.given_up(side.place)

    def expire(self) -> None:
        """Forget whoever has waited for too long."""
        self._companions, _missed = self._companions.expire(self._monotonic())


def notes_of(decision: Decision) -> list[str]:
    """For the event's `notes`."""
    return [str(note) for note in decision.notes]


def exempt(decision: Decision) -> bool:
    return Note.EXEMPT in decision.notes
