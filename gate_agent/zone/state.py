"""The zones of one gate: what its lanes ask and report, what comes from and goes to the other gates, and the file behind it.

For one thread, the loop's. No method but the constructor, `reserve` and `close` can fail; nothing waits for anything but one
small commit. Order at a lane: `find`, decide, `reserve`, record the grant, open, then `commit` or `free`; and `passed` for
whoever passed, with or without a credential.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from drivers.ports import Direction
from gate_agent.zone.counts import Counts
from gate_agent.zone.facts import Drop, Effect, Fact, Finding, Moment, Outgoing, ZoneSettings
from gate_agent.zone.keys import ZoneKeys
from gate_agent.zone.ledger import Reservation
from gate_agent.zone.member import Member, Reserving
from gate_agent.zone.periods import day_of
from gate_agent.zone.store import Change, Op, ZoneStore, ZoneStoreError
from protocol import topics
from protocol.zone import CountRow, Movement

_log = logging.getLogger(__name__)

BATCH = 64
"""Messages that `outgoing` returns at a time."""
_NOT_ASKED = Finding(Fact.NOT_ASKED, Fact.NOT_ASKED)


class ZoneState:
    def __init__(
        self,
        path: Path,
        *,
        site: str,
        gate: str,
        zones: Iterable[ZoneSettings],
        keys: ZoneKeys,
        random_bytes: Callable[[int], bytes],
        now: Moment,
    ) -> None:
        """Open the file and go on where it ends; without a link as yet. Raises ZoneStoreError."""
        self._site, self._gate = site, gate
        self._store = ZoneStore(path, now_ms=now.ms, random_bytes=random_bytes)
        self._members: dict[str, Member] = {}
        self._unwritten = False
        self._dropped: Counter[Drop] = Counter()
        try:
            for settings in zones:
                if not topics.ZONE.fullmatch(settings.zone):
                    raise ValueError(f"{settings.zone}: not a name that can stand in a topic")
                self._members[settings.zone] = self._load(settings, keys, random_bytes, now)
            if self._store.keep_zones(list(self._members)):
                self._store.truncate()
        except BaseException:
            self._store.close()
            raise
        self._save()

    def _load(
        self, settings: ZoneSettings, keys: ZoneKeys, random_bytes: Callable[[int], bytes], now: Moment
    ) -> Member:
        store, zone = self._store, settings.zone
        rows = [CountRow(*row) for row in store.select("origin, day, entered, left", "counts", zone)]
        day = day_of(now.wall, settings.reset_at, settings.timezone)
        member = Member(
            settings,
            site=self._site,
            gate=self._gate,
            keys=keys,
            origin=store.origin,
            epoch=store.epoch,
            random_bytes=random_bytes,
            counts=Counts(zone, store.origin, day, rows),
            now=now,
        )
        floors = dict(store.select("period, stamp", "floors", zone))
        noted = store.select("period, tag, stamp", "noted", zone)
        movements = store.select("period, stamp, origin, inward, tag", "movements", zone)
        kept = store.select("period, tag, ref, until, own, inward", "reservations", zone)
        for period in member.periods:
            ledger = member.ledger(period)
            if ledger is not None:
                ledger.restore(
                    floors.get(period, 0),
                    [(tag, stamp) for at, tag, stamp in noted if at == period],
                    [
                        Movement(s, origin, bool(inward), tag)
                        for at, s, origin, inward, tag in movements
                        if at == period
                    ],
                    [Reservation(t, r, u, bool(own), bool(inw)) for at, t, r, u, own, inw in kept if at == period],
                    now.mono,
                )
        member.restored(now)
        return member

    def close(self) -> None:
        self._store.close()

    # From the lanes.

    def find(self, zone: str, handle: bytes | None, lane: str, direction: Direction, now: Moment) -> Finding:
        """What is known of the holder of `handle` (16 to 64 random bytes) who wants through. Changes nothing.

        The way out is always CLEAR. A zone that is not one of ours is NOT_ASKED."""
        member = self._members.get(zone)
        if member is None:
            return _NOT_ASKED
        return member.find(handle, lane, inward=direction is Direction.IN, now=now)

    def reserve(
        self,
        zone: str,
        handle: bytes | None,
        attempt: str,
        lane: str,
        direction: Direction,
        now: Moment,
        *,
        decided_on: Finding,
    ) -> Finding | None:
        """Remember, durably, that this attempt is granted; to be called before anything is opened or recorded.

        None: go on. A Finding: another lane has been faster since `decided_on` was found; nothing is reserved, decide again.
        Raises ZoneStoreError where the file cannot be written; nothing is reserved then. Never a Finding on the way out.
        """
        member = self._members.get(zone)
        if member is None:
            return None
        reserving = member.reserving(
            handle, attempt, lane, inward=direction is Direction.IN, now=now, decided_on=decided_on
        )
        if not isinstance(reserving, Reserving):
            return reserving
        self._write([*member.changes(), member.staged(reserving)])
        member.take(reserving)
        return None

    def commit(self, attempt: str, now: Moment) -> list[Effect]:
        """The passage of a reserved attempt is complete. An attempt that is not known (no handle) changes nothing."""
        effects: list[Effect] = []
        for member in self._members.values():
            if member.knows(attempt):
                effects += member.commit(attempt, now)
        self._save()
        return effects

    def free(self, attempt: str, now: Moment) -> None:
        """A reserved attempt has come to nothing: not taken, not opened, not recorded."""
        for member in self._members.values():
            if member.knows(attempt):
                member.free(attempt, now)
        self._save()

    def passed(self, zone: str, direction: Direction, now: Moment) -> None:
        """Somebody has passed, whoever it was: for the count of people."""
        member = self._members.get(zone)
        if member is not None:
            member.passed(inward=direction is Direction.IN, now=now)
            self._save()

    def pass_used(self, zone: str, mark: bytes, now: Moment) -> bool:
        """Whether the QR pass with this single-use mark has opened a lane of the zone. Where `cut_off`, False says little."""
        member = self._members.get(zone)
        return member is not None and member.pass_used(mark, now)

    def use_pass(self, zone: str, mark: bytes, until: datetime, now: Moment) -> None:
        """The grant to a QR pass is recorded: tell the other gates, until the pass is stale anyway."""
        member = self._members.get(zone)
        if member is not None:
            member.use_pass(mark, int(until.timestamp() * 1000), now)

    def cut_off(self, zone: str, now: Moment) -> bool:
        """The same that `find` says as CUT_OFF, for presentations without a handle."""
        member = self._members.get(zone)
        return member is not None and member.cut_off(now)

    def occupancy(self, zone: str, now: Moment) -> int | None:
        """People in the zone by the count; None: not known, because the zone is cut off or not ours."""
        member = self._members.get(zone)
        return None if member is None else member.occupancy(now)

    # From the guard. Both are reported by the caller as `antipassback.forgiven`.

    def forgive_lane(self, zone: str, lane: str, now: Moment) -> None:
        """The next entry at this lane that would be barred, within 60 s, is not."""
        member = self._members.get(zone)
        if member is not None:
            member.forgive_lane(lane, now)

    def forgive_zone(self, zone: str, now: Moment) -> None:
        """Nobody is known to be inside any more, at every gate of the zone. The count of people stays."""
        member = self._members.get(zone)
        if member is not None:
            member.forgive_zone(now)
            self._save()

    # The link to the other gates.

    @property
    def subscriptions(self) -> list[str]:
        """Topic filters; this gate's own messages come back too and are passed over."""
        return [topics.zone_tags(self._site, zone) for zone in self._members]

    def link_up(self, now: Moment) -> None:
        """Connected and subscribed."""
        for member in self._members.values():
            member.link_up(now)

    def link_down(self, now: Moment) -> None:
        for member in self._members.values():
            member.link_down(now)

    def receive(self, topic: str, payload: bytes, now: Moment) -> list[Effect]:
        """One message from the broker. What is not right changes nothing and is counted (`dropped`)."""
        try:
            site, gate, zone = topics.zone_tag_of(topic)
        except ValueError:
            self._dropped[Drop.NOT_A_TOPIC] += 1
            return []
        member = self._members.get(zone)
        if site != self._site:
            self._dropped[Drop.OTHER_SITE] += 1
        elif member is None:
            self._dropped[Drop.OTHER_ZONE] += 1
        elif gate == self._gate:
            self._dropped[Drop.OWN] += 1
        else:
            effects = member.receive(topic, gate, payload, now)
            self._save()
            return effects
        return []

    def outgoing(self, now: Moment, limit: int = BATCH) -> list[Outgoing]:
        """Messages to publish now, in order, at most `limit` per zone. To be asked after every other call, and again while
        it returns as many as `limit` and the link has room."""
        return [each for member in self._members.values() for each in member.outgoing(now, limit)]

    def tick(self, now: Moment) -> list[Effect]:
        """Every second or so: roll-over, reservations that are over, what an exchange has brought to light."""
        effects = [effect for member in self._members.values() for effect in member.tick(now)]
        self._save()
        return effects

    # For health.

    @property
    def dropped(self) -> Counter[Drop]:
        """Messages that changed nothing, by reason, since the start."""
        return sum((member.exchange.dropped for member in self._members.values()), self._dropped.copy())

    def degraded(self, now: Moment) -> list[str]:
        """Flags for events and health."""
        flags = ["zone_cut_off"] if any(each.cut_off(now) for each in self._members.values()) else []
        return [*flags, "zone_store"] if self._unwritten else flags

    @property
    def renewed(self) -> bool:
        """The file was damaged at the start and has been begun anew."""
        return self._store.renewed

    # The file.

    def _write(self, changes: list[Change]) -> None:
        """Raises ZoneStoreError. After a failure the next success writes everything anew."""
        try:
            if self._unwritten:
                rows = [row for member in self._members.values() for row in member.rows()]
                self._store.rewrite([*rows, *changes])
                self._unwritten = False
            elif changes:
                self._store.apply(changes)
        except ZoneStoreError:
            self._unwritten = True
            raise

    def _save(self) -> None:
        changes = [change for member in self._members.values() for change in member.changes()]
        try:
            self._write(changes)
            cut = any(op is Op.DELETE_UP_TO for op, _ in changes)
            for zone, member in self._members.items():
                if member.rolled:
                    cut |= self._store.keep_only(zone, member.periods)
                    member.rolled = False
            if cut:
                self._store.truncate()
        except ZoneStoreError as error:
            _log.error("the anti-passback file cannot be written: %s", error)
