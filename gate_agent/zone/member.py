"""One zone as one gate takes part in it: its tag periods, attempts without outcome, counts and link to the other gates.

Changes memory only; state.py writes what `changes` returns. Messages are exchange.py's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gate_agent.zone.counts import Counts
from gate_agent.zone.exchange import Exchange
from gate_agent.zone.facts import (
    CutOff,
    Effect,
    EnteredTwice,
    Fact,
    Finding,
    Full,
    Limits,
    Moment,
    Outgoing,
    ZoneSettings,
)
from gate_agent.zone.keys import ZoneKeys
from gate_agent.zone.ledger import Ledger, Reservation
from gate_agent.zone.periods import day_of, since_begin
from gate_agent.zone.store import Change
from protocol import zone as wire
from protocol.zone import PeriodKey

_CLEAR = Finding(Fact.CLEAR, Fact.CLEAR)
_NO_HANDLE = Finding(Fact.NO_HANDLE, Fact.NO_HANDLE)


@dataclass(frozen=True, slots=True)
class _Pending:
    """An attempt of this gate that has been granted."""

    period: int
    reservation: Reservation
    forgiven: bool
    since: float
    """Monotonic seconds."""


@dataclass(frozen=True, slots=True)
class Reserving:
    """A reservation that counts once it is on the disk."""

    attempt: str
    lane: str
    pending: _Pending


class Member:
    def __init__(
        self,
        settings: ZoneSettings,
        *,
        site: str,
        gate: str,
        keys: ZoneKeys,
        origin: bytes,
        epoch: int,
        random_bytes: Callable[[int], bytes],
        counts: Counts,
        now: Moment,
    ) -> None:
        self.settings, self._keys, self._origin = settings, keys, origin
        self.counts = counts
        self.exchange = Exchange(settings, site, gate, origin, epoch, random_bytes, counts)
        self._pending: dict[str, _Pending] = {}
        self._forgiven: dict[str, float] = {}
        self._ledgers: dict[int, Ledger] = {}
        self._period_keys: dict[int, PeriodKey] = {}
        self._period = 0
        self._incomplete_since: float | None = -math.inf
        """Since when the others may know more than this gate; at the start, for ever."""
        self._said_cut_off = False
        self._said_full = False
        self.rolled = False
        """Tag periods have come or gone since the file was last cleared of what is over."""
        self.roll(now)

    # Periods.

    def roll(self, now: Moment) -> None:
        """Follow the clock into another tag period, and let go of those that are over."""
        settings = self.settings
        period = day_of(now.wall, settings.roll_at, settings.timezone)
        wanted = [period]
        if since_begin(now.wall, settings.roll_at, settings.timezone).total_seconds() < settings.overlap_s:
            wanted.append(period - 1)
        for each in wanted:
            if each not in self._period_keys:
                key = self._keys.key(settings.zone, each)
                if key is not None:
                    self._period_keys[each] = PeriodKey(key, each)
        if period != self._period:
            self._said_full = False
        if period != self._period or self._ledgers.keys() != set(wanted):
            for each in self._ledgers.keys() - set(wanted):
                del self._ledgers[each]
                self._period_keys.pop(each, None)
            for each in set(wanted) - self._ledgers.keys():
                self._ledgers[each] = Ledger(settings, each, self._origin)
            self._period, self.rolled = period, True
            self.exchange.follow(period, self._ledgers, self._period_keys)
        self.counts.roll(day_of(now.wall, settings.reset_at, settings.timezone))

    @property
    def periods(self) -> list[int]:
        return sorted(self._ledgers)

    def ledger(self, period: int) -> Ledger | None:
        return self._ledgers.get(period)

    def _current(self) -> tuple[Ledger, PeriodKey | None]:
        return self._ledgers[self._period], self._period_keys.get(self._period)

    def restored(self, now: Moment) -> None:
        """The ledgers hold what the file held. An exit that was granted and whose outcome nobody saw counts as taken, as an
        entry counts as not taken: both in favour of the person, who would be barred otherwise."""
        for ledger in self._ledgers.values():
            for each in ledger.reservations():
                if each.own and not each.inward:
                    ledger.close(each.ref, each.until)
                    ledger.leave(each.tag, now.ms)
            ledger.expire(now.ms)

    # The lane's questions and reports.

    def find(self, handle: bytes | None, lane: str, *, inward: bool, now: Moment) -> Finding:
        self.roll(now)
        if not inward:
            return _CLEAR
        if handle is None or not Limits.MIN_HANDLE <= len(handle) <= Limits.MAX_HANDLE:
            return _NO_HANDLE
        ledger, key = self._current()
        local, unknown = Fact.CLEAR, True
        if key is not None:
            tag = key.tag(handle)
            local = ledger.find(tag, now.ms)
            unknown = self.cut_off(now) or (local is Fact.CLEAR and not ledger.has_room(tag))
        found = Finding(Fact.CUT_OFF if unknown else local, local)
        if found.fact is not Fact.CLEAR and self._forgiven.get(lane, -math.inf) > now.mono:
            return Finding(Fact.CLEAR, Fact.CLEAR, forgiven=True)
        return found

    def reserving(
        self, handle: bytes | None, attempt: str, lane: str, *, inward: bool, now: Moment, decided_on: Finding
    ) -> Reserving | Finding | None:
        """What to write and then `take`; or what is found now, where that is another thing; or None: nothing to remember."""
        found = self.find(handle, lane, inward=inward, now=now)
        if found not in (decided_on, _CLEAR):
            return found
        ledger, key = self._current()
        if handle is None or key is None or not Limits.MIN_HANDLE <= len(handle) <= Limits.MAX_HANDLE:
            return None
        tag = key.tag(handle)
        if not ledger.has_room(tag):
            return None
        # Later than the newest forgiveness, which clears what was reserved before it.
        until = max(now.ms, ledger.floor + 1) + int(self.settings.reserve_s * 1000)
        reservation = Reservation(tag, key.ref(attempt), until, own=True, inward=inward)
        return Reserving(attempt, lane, _Pending(ledger.period, reservation, found.forgiven, now.mono))

    def staged(self, reserving: Reserving) -> Change:
        """The row of a reservation that has not been taken yet."""
        ledger = self._ledgers[reserving.pending.period]
        return ledger.reservation_row(reserving.pending.reservation)

    def take(self, reserving: Reserving) -> None:
        """The reservation is on the disk."""
        pending = reserving.pending
        ledger = self._ledgers[pending.period]
        written = len(ledger.changes)
        ledger.put(pending.reservation)
        del ledger.changes[written:]
        if pending.forgiven:
            self._forgiven.pop(reserving.lane, None)
        while len(self._pending) >= Limits.PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending[reserving.attempt] = pending
        if pending.reservation.inward:
            each = pending.reservation
            self.exchange.send(pending.period, wire.Reserve(each.tag, each.ref, each.until))

    def commit(self, attempt: str, now: Moment) -> list[Effect]:
        self.roll(now)
        pending = self._pending.pop(attempt, None)
        ledger = None if pending is None else self._ledgers.get(pending.period)
        if pending is None or ledger is None:
            return []
        each = pending.reservation
        ledger.close(each.ref, each.until)
        if not ledger.has_room(each.tag):
            return self._full()
        if not each.inward:
            self.exchange.send(pending.period, wire.Exit(ledger.leave(each.tag, now.ms)))
            return []
        movement, twice = ledger.enter(each.tag, now.ms, forgiven=pending.forgiven)
        self.exchange.send(pending.period, wire.Commit(each.ref, movement))
        effects: list[Effect] = [EnteredTwice(self.settings.zone, 1)] if twice else []
        return effects + (self._full() if ledger.full else [])

    def free(self, attempt: str, now: Moment) -> None:
        self.roll(now)
        pending = self._pending.pop(attempt, None)
        ledger = None if pending is None else self._ledgers.get(pending.period)
        if pending is None or ledger is None:
            return
        each = pending.reservation
        ledger.close(each.ref, each.until)
        if each.inward:
            self.exchange.send(pending.period, wire.Free(each.tag, each.ref, each.until))

    def knows(self, attempt: str) -> bool:
        return attempt in self._pending

    def passed(self, *, inward: bool, now: Moment) -> None:
        self.roll(now)
        self.counts.passed(inward=inward)
        self.exchange.counted()

    def pass_used(self, mark: bytes, now: Moment) -> bool:
        # Under the key of the period before as well: a pass may be fresh over the roll-over.
        self.roll(now)
        return any(self.exchange.marks.used(key.mark(mark), now.ms) for key in self._period_keys.values())

    def use_pass(self, mark: bytes, until_ms: int, now: Moment) -> None:
        self.roll(now)
        key = self._period_keys.get(self._period)
        if key is not None:
            self.exchange.use_pass(key.mark(mark), min(until_ms, now.ms + int(Limits.MARK_S * 1000)))

    def forgive_lane(self, lane: str, now: Moment) -> None:
        self._forgiven[lane] = now.mono + Limits.FORGIVE_LANE_S

    def forgive_zone(self, now: Moment) -> None:
        self.roll(now)
        for period, ledger in self._ledgers.items():
            self.exchange.send(period, wire.Forgive(ledger.forgive_all(now.ms)))

    def occupancy(self, now: Moment) -> int | None:
        self.roll(now)
        return None if self.cut_off(now) else self.counts.total

    # The link.

    def cut_off(self, now: Moment) -> bool:
        """Nobody to ask for longer than the bound, or no key to ask with."""
        since = self._incomplete_since
        lost = since is not None and now.mono - since > self.settings.cut_off_s
        return lost or self._period not in self._period_keys

    def link_up(self, now: Moment) -> None:
        self.roll(now)
        self.exchange.link_up(now)

    def link_down(self, now: Moment) -> None:
        self.exchange.link_down()
        if self._incomplete_since is None:
            self._incomplete_since = now.mono

    def receive(self, topic: str, gate: str, payload: bytes, now: Moment) -> list[Effect]:
        self.roll(now)
        full_before = self._ledgers[self._period].full
        self.exchange.receive(topic, gate, payload, now)
        twice = self.exchange.take_used_twice()
        effects: list[Effect] = [EnteredTwice(self.settings.zone, twice)] if twice else []
        return (
            effects + self._settle(now) + (self._full() if self._ledgers[self._period].full and not full_before else [])
        )

    def outgoing(self, now: Moment, limit: int) -> list[Outgoing]:
        self.roll(now)
        return self.exchange.outgoing(now, limit)

    def tick(self, now: Moment) -> list[Effect]:
        """What only time brings about; every second or so."""
        self.roll(now)
        for ledger in self._ledgers.values():
            ledger.expire(now.ms)
        for attempt in [name for name, each in self._pending.items() if now.mono - each.since > Limits.PENDING_S]:
            del self._pending[attempt]
        for lane in [name for name, until in self._forgiven.items() if until <= now.mono]:
            del self._forgiven[lane]
        self.exchange.marks.expire(now.ms)
        effects = self._settle(now)
        if self._incomplete_since is None:
            # While others may know of an exit between, nothing is judged.
            twice = sum(ledger.judge(now.mono) for ledger in self._ledgers.values())
            if twice:
                effects.append(EnteredTwice(self.settings.zone, twice))
        return effects

    def _settle(self, now: Moment) -> list[Effect]:
        if self.exchange.settled(now):
            self._incomplete_since = None
        cut_off = self.cut_off(now)
        if cut_off == self._said_cut_off:
            return []
        self._said_cut_off = cut_off
        return [CutOff(self.settings.zone, cut_off)]

    def _full(self) -> list[Effect]:
        if self._said_full:
            return []
        self._said_full = True
        return [Full(self.settings.zone)]

    # For the file.

    def changes(self) -> list[Change]:
        """What has changed since the last call."""
        found = self.counts.changes[:]
        self.counts.changes.clear()
        for ledger in self._ledgers.values():
            found += ledger.changes
            ledger.changes.clear()
        return found

    def rows(self) -> list[Change]:
        """Everything."""
        found = list(self.counts.rows())
        for ledger in self._ledgers.values():
            found += ledger.rows()
        return found
