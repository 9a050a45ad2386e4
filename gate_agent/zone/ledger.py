"""Who is inside one zone in one tag period, as a set that only grows together: order, repeats and losses of messages do not
matter, gates that have exchanged everything hold the same.

Of each tag the newest `Limits.KEEP` movements are kept, by stamp: the newest few of a union are the same however it was put
together. Everything up to the floor (a guard's forgiveness of the zone) is forgotten; floors join by the greater one.
Reservations live for a minute and are not compared; a settled one leaves its reference behind so that a late copy of it
bars nobody. Pure but for `changes`, the rows for store.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from gate_agent.zone.facts import Fact, Limits, ZoneSettings
from gate_agent.zone.store import Change, Op
from protocol.zone import BUCKETS, Movement, bucket_of


@dataclass(frozen=True, slots=True)
class Reservation:
    """Granted and not settled. Only inward ones bar anyone and are told to other gates."""

    tag: bytes
    ref: bytes
    until: int
    """Milliseconds since 1970."""
    own: bool
    inward: bool


@dataclass(frozen=True, slots=True)
class _Suspect:
    before: Movement
    entry: Movement
    due: float
    """Monotonic seconds."""


class Ledger:
    def __init__(self, settings: ZoneSettings, period: int, origin: bytes) -> None:
        self._settings, self.period, self._origin = settings, period, origin
        self._window_ms = None if settings.window is None else int(settings.window.total_seconds() * 1000)
        self._shares: list[dict[bytes, tuple[Movement, ...]]] = [{} for _ in range(BUCKETS)]
        self._hashes = [0] * BUCKETS
        self._noted: set[tuple[bytes, int]] = set()
        self._suspects: dict[tuple[bytes, int], _Suspect] = {}
        self._reservations: dict[bytes, Reservation] = {}
        self._refs_by_tag: dict[bytes, set[bytes]] = {}
        self._closed: dict[bytes, int] = {}
        self._tags = 0
        self._newest = 0
        self.floor = 0
        self.changes: list[Change] = []

    # What is known.

    @property
    def full(self) -> bool:
        return self._tags >= self._settings.max_tags

    def has_room(self, tag: bytes) -> bool:
        return not self.full or tag in self._shares[bucket_of(tag)]

    def find(self, tag: bytes, now_ms: int) -> Fact:
        """CLEAR, or INSIDE (with a window: RECENT)."""
        barred = Fact.INSIDE if self._window_ms is None else Fact.RECENT
        for ref in self._refs_by_tag.get(tag, ()):
            reservation = self._reservations[ref]
            if reservation.inward and reservation.until > now_ms:
                return barred
        movements = self._shares[bucket_of(tag)].get(tag)
        if movements is None or not movements[-1].inward:
            return Fact.CLEAR
        if self._window_ms is not None and now_ms - movements[-1].stamp >= self._window_ms:
            return Fact.CLEAR
        return barred

    @property
    def hashes(self) -> tuple[int, ...]:
        return tuple(self._hashes)

    def movements(self, bucket: int) -> Iterator[tuple[Movement, ...]]:
        """The movements of each tag in one share of the tags."""
        return iter(tuple(self._shares[bucket].values()))

    def reservations(self) -> tuple[Reservation, ...]:
        return tuple(self._reservations.values())

    def rows(self) -> Iterator[Change]:
        """Everything, for a file that is written anew."""
        if self.floor:
            yield Op.PUT_FLOOR, (self._settings.zone, self.period, self.floor)
        for share in self._shares:
            for movements in share.values():
                yield from (self._row(Op.PUT_MOVEMENT, each) for each in movements)
        for tag, stamp in self._noted:
            yield Op.PUT_NOTED, (self._settings.zone, self.period, tag, stamp)
        yield from (self.reservation_row(each) for each in self._reservations.values())

    # Movements.

    def enter(self, tag: bytes, now_ms: int, *, forgiven: bool) -> tuple[Movement, bool]:
        """A completed entry at this gate. True: the tag was inside already, and nobody has forgiven it."""
        movement = self._stamp(tag, now_ms, inward=True)
        before = self._shares[bucket_of(tag)].get(tag)
        twice = before is not None and self._is_pair(before[-1], movement)
        if twice or forgiven:
            self._note(tag, movement.stamp)
        self.join((movement,), 0.0)
        return movement, twice and not forgiven

    def leave(self, tag: bytes, now_ms: int) -> Movement:
        """A completed exit at this gate."""
        movement = self._stamp(tag, now_ms, inward=False)
        self.join((movement,), 0.0)
        return movement

    def _stamp(self, tag: bytes, now_ms: int, *, inward: bool) -> Movement:
        """Later than all that is known of the tag, whatever the clocks of the gates say."""
        known = self._shares[bucket_of(tag)].get(tag)
        newest = known[-1].stamp if known else 0
        return Movement(max(now_ms, newest + 1, self.floor + 1), self._origin, inward, tag)

    def join(self, movements: Iterable[Movement], mono: float) -> int:
        """Take in what another gate knows (or this one did before it was restarted). Returns how many found no room."""
        by_tag: dict[bytes, list[Movement]] = {}
        for each in movements:
            if each.stamp > self.floor:
                by_tag.setdefault(each.tag, []).append(each)
        refused = 0
        for tag, found in by_tag.items():
            if not self.has_room(tag):
                refused += len(found)
                continue
            self._join_tag(tag, found, mono)
        return refused

    def _join_tag(self, tag: bytes, found: list[Movement], mono: float) -> None:
        bucket = bucket_of(tag)
        known = self._shares[bucket].get(tag, ())
        union = sorted({*known, *found})
        if len(union) == len(known):
            return
        for before, entry in pairwise(union):
            if entry.origin == self._origin and self._is_pair(before, entry):
                self._suspect(before, entry, mono)
        kept = tuple(union[-Limits.KEEP :])
        for each in set(kept) - set(known):
            self._hashes[bucket] ^= _hash(each)
            self.changes.append(self._row(Op.PUT_MOVEMENT, each))
        for each in set(known) - set(kept):
            self._hashes[bucket] ^= _hash(each)
            self.changes.append(self._row(Op.DELETE_MOVEMENT, each))
        self._tags += not known
        self._shares[bucket][tag] = kept
        self._newest = max(self._newest, kept[-1].stamp)

    def forgive_all(self, now_ms: int) -> int:
        """Forget every movement and reservation known. Returns the new floor, for the other gates."""
        self.forgive(max(now_ms, self._newest, self.floor + 1))
        return self.floor

    def forgive(self, floor: int) -> bool:
        """Forget movements up to `floor`, and reservations made before. False: nothing new."""
        if floor <= self.floor:
            return False
        self.floor = floor
        for bucket, share in enumerate(self._shares):
            for tag in list(share):
                gone = [each for each in share[tag] if each.stamp <= floor]
                for each in gone:
                    self._hashes[bucket] ^= _hash(each)
                if len(gone) == len(share[tag]):
                    del share[tag]
                    self._tags -= 1
                elif gone:
                    share[tag] = share[tag][len(gone) :]
        for reservation in list(self._reservations.values()):
            if reservation.inward and self._is_forgiven(reservation):
                self.close(reservation.ref, reservation.until)
        self.changes.append((Op.DELETE_UP_TO, (self._settings.zone, self.period, floor)))
        self.changes.append((Op.PUT_FLOOR, (self._settings.zone, self.period, floor)))
        return True

    # Double entries. Each is told once: by the gate of the later entry, which alone knows that it has not told it yet.

    def _is_pair(self, before: Movement, entry: Movement) -> bool:
        if not (before.inward and entry.inward):
            return False
        return self._window_ms is None or entry.stamp - before.stamp < self._window_ms

    def _suspect(self, before: Movement, entry: Movement, mono: float) -> None:
        place = (entry.tag, entry.stamp)
        if place not in self._noted and place not in self._suspects:
            self._suspects[place] = _Suspect(before, entry, mono + Limits.SUSPECT_S)

    def judge(self, mono: float) -> int:
        """Double entries whose time to be cleared is over, each once."""
        found = 0
        for place, each in list(self._suspects.items()):
            if each.due > mono:
                continue
            del self._suspects[place]
            known = self._shares[bucket_of(each.entry.tag)].get(each.entry.tag, ())
            left_between = any(each.before < other < each.entry and not other.inward for other in known)
            if left_between or each.before.stamp <= self.floor:
                continue
            self._note(*place)
            found += 1
        return found

    def _note(self, tag: bytes, stamp: int) -> None:
        self._noted.add((tag, stamp))
        self.changes.append((Op.PUT_NOTED, (self._settings.zone, self.period, tag, stamp)))

    # Reservations.

    def put(self, reservation: Reservation) -> bool:
        """False: settled already, forgiven, or no room."""
        if reservation.ref in self._closed or len(self._reservations) >= Limits.RESERVATIONS:
            return False
        if reservation.inward and self._is_forgiven(reservation):
            return False
        if reservation.ref not in self._reservations:
            self._reservations[reservation.ref] = reservation
            self._refs_by_tag.setdefault(reservation.tag, set()).add(reservation.ref)
            self.changes.append(self.reservation_row(reservation))
        return True

    def _is_forgiven(self, reservation: Reservation) -> bool:
        """Made before the floor. Every gate of the zone gives reservations the same length."""
        return reservation.until - int(self._settings.reserve_s * 1000) <= self.floor

    def close(self, ref: bytes, until: int) -> None:
        """Settled: passed, not taken, or forgiven. A copy that comes up to `until` is not taken in again."""
        while len(self._closed) >= Limits.RESERVATIONS:
            del self._closed[next(iter(self._closed))]
        self._closed[ref] = until
        self._remove(ref)

    def expire(self, now_ms: int) -> None:
        for reservation in [each for each in self._reservations.values() if each.until <= now_ms]:
            self._remove(reservation.ref)
        for ref in [ref for ref, until in self._closed.items() if until <= now_ms]:
            del self._closed[ref]

    def _remove(self, ref: bytes) -> None:
        reservation = self._reservations.pop(ref, None)
        if reservation is None:
            return
        refs = self._refs_by_tag[reservation.tag]
        refs.discard(ref)
        if not refs:
            del self._refs_by_tag[reservation.tag]
        self.changes.append((Op.DELETE_RESERVATION, (self._settings.zone, self.period, ref)))

    def reservation_row(self, each: Reservation) -> Change:
        values = (self._settings.zone, self.period, each.ref, each.tag, each.until, each.own, each.inward)
        return Op.PUT_RESERVATION, values

    def _row(self, op: Op, each: Movement) -> Change:
        return op, (self._settings.zone, self.period, each.tag, each.stamp, each.origin, each.inward)

    # From the file.

    def restore(
        self,
        floor: int,
        noted: Iterable[tuple[bytes, int]],
        movements: Iterable[Movement],
        kept: Iterable[Reservation],
        mono: float,
    ) -> None:
        """What this gate knew before it was restarted; nothing of it is written again."""
        self.floor = floor
        self._noted = set(noted)
        self.join(movements, mono)
        for each in kept:
            self.put(each)
        self.changes.clear()


def _hash(movement: Movement) -> int:
    raw = movement.tag + movement.stamp.to_bytes(8) + movement.origin + bytes([movement.inward])
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest())
