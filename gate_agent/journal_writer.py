"""The journal's own thread: writes, vouches, makes room, reopens after a failure, sets aside what is damaged."""

from __future__ import annotations

import logging
import queue
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from gate_agent import salvage
from gate_agent.gaps import FULL, Gap, Gaps
from gate_agent.journal_requests import Append, Call, JournalFullError, RecordUnavailableError
from gate_agent.record import AckMismatchError, AlreadyUsedError, DamagedError, OpenGrant, Record
from gate_agent.retention import Limits, Retention
from gate_agent.store import TAIL, Stamp, Store
from protocol.clock import Clock
from protocol.events import MAX_RECORD_BYTES, Kind

_log = logging.getLogger(__name__)

MAX_GROUP = 64
"""Appends that share one commit."""
UPKEEP_S = 30.0
"""Seconds between two looks for what is due: marks whose time is over, old records, a checkpoint."""
CHECKPOINT_RECORDS, CHECKPOINT_S = 256, 60.0
"""The gate vouches for its journal after so many records, or so many seconds after the last time where there are new ones."""
REOPEN_TAIL = 1
"""Records checked when reopening within one process."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the journal is, whose it is, and what it is made with."""

    path: Path
    site: str
    gate: str
    random_bytes: Callable[[int], bytes]
    sign: ec.EllipticCurvePrivateKey | None
    stamp: Stamp

    def open(self, path: Path, tail: int, *, reopened: bool = False) -> Store:
        """Raises DamagedError, sqlite3.Error or OSError."""
        return Store(
            path,
            site=self.site,
            gate=self.gate,
            random_bytes=self.random_bytes,
            tail=tail,
            sign=self.sign,
            stamp=self.stamp,
            reopened=reopened,
        )


class Writer:
    def __init__(
        self,
        place: Place,
        *,
        clock: Clock,
        limits: Limits,
        gaps: Gaps,
        announce: Callable[[list[Record]], None],
    ) -> None:
        """`announce` is called in the thread after each commit that added records."""
        self._place, self._clock, self._limits, self._gaps, self._announce = place, clock, limits, gaps, announce
        self._store: Store | None = None
        self._known_seq: int | None = None
        self._late: dict[str, OpenGrant] = {}
        self._old: list[OpenGrant] = []
        """Grants of an earlier run that nobody closed. The lane is not opened again for them."""
        self._damage: str | None = None
        self._retention = Retention(limits)
        self._vouched_at = self._upkept_at = clock.monotonic()
        self.writable = True
        """False from a failed write to the next successful one."""

    @property
    def full(self) -> bool:
        return self._retention.full

    def run(self, requests: queue.Queue[Append | Call[Any] | None]) -> None:
        """Until None comes."""
        carried: Append | Call[Any] | None
        while True:
            if self._clock.monotonic() - self._upkept_at >= UPKEEP_S:
                self._upkept_at = self._clock.monotonic()
                self._upkeep()
            try:
                carried = requests.get(timeout=UPKEEP_S)
            except queue.Empty:
                continue
            group: list[Append] = []
            while isinstance(carried, Append):
                group.append(carried)
                if len(group) == MAX_GROUP:
                    break
                try:
                    carried = requests.get_nowait()
                except queue.Empty:
                    break
            if group:
                self._write(group)
            if carried is None:
                break
            if isinstance(carried, Call):
                self._serve(carried)
        self._end()

    # The file.

    def _ready(self) -> Store:
        """The open store, or opened anew. Raises sqlite3.Error or OSError."""
        if self._store is not None:
            return self._store
        path, first = self._place.path, self._known_seq is None
        if first:
            salvage.recover(path, self._clock.now())
        anew = False
        try:
            if self._damage is not None:
                raise DamagedError(self._damage)
            store = self._place.open(path, TAIL if first else REOPEN_TAIL, reopened=not first)
        except DamagedError as error:
            self._set_aside(str(error))
            store, anew = self._place.open(path, TAIL), True
            self._known_seq = 0
        try:
            if first:
                self._old = store.open_grants()
            else:
                # A commit that reported failure may be durable after all, also the one that was to settle late grants.
                found = {grant.attempt: grant for grant in store.open_grants()}
                late = {attempt for attempt, grant in found.items() if grant.seq > (self._known_seq or 0)}
                self._late = {attempt: found[attempt] for attempt in found if attempt in late | self._late.keys()}
            if anew:
                self._announce(store.outbox.own(0, 1))
        except BaseException:
            store.close()
            raise
        self._known_seq = store.seq
        self._store = store
        return store

    def _set_aside(self, why: str) -> None:
        """Go on with a new epoch; what was counted so far stands in its first record. Raises OSError."""
        gap = self._gaps.begun("")
        data = {name: value for name, value in gap.data().items() if name != "why"}
        salvage.set_aside(
            self._place.path,
            f"damaged: {why}",
            data,
            self._clock.now(),
            lambda path: self._place.open(path, TAIL, reopened=True),
        )
        self._gaps.written(gap)
        self._damage = None
        self._retention = Retention(self._limits)

    def _settle_grants(self, store: Store) -> None:
        """Within a transaction: what the journal itself has to close."""
        for grant in self._old:
            self._settle_grant(store, Kind.PASSAGE_UNKNOWN, grant, why="restart")
        for grant in self._late.values():
            store.free_mark(grant.seq)
            self._settle_grant(store, Kind.PASSAGE_NOT_TAKEN, grant, opened=False, why="late_record")

    def _settle_grant(self, store: Store, kind: Kind, grant: OpenGrant, **more: Any) -> None:
        data = {"lane": grant.lane, "dir": grant.direction, "attempt": grant.attempt, **more}
        store.own(kind, data, self._clock.now())

    def _failed(self, error: Exception) -> None:
        if self.writable:
            _log.error("journal not writable: %s", error)
        self.writable = False
        if type(error) is sqlite3.DatabaseError:
            # Not one of its subclasses: "disk image is malformed". Opening it again would not help.
            self._damage = str(error)
        self._close()

    def _close(self) -> None:
        if self._store is not None:
            try:
                self._store.rollback()
            except sqlite3.Error:
                _log.debug("rollback failed; the next opening recovers the file")
            self._store.close()
            self._store = None

    # Writing.

    def _write(self, group: Sequence[Append]) -> None:
        try:
            done = self._transaction(group)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            for request in group:
                request.settle(RecordUnavailableError(str(error)))
                if not request.awaited:
                    # A caller that waited knows, and notes its own refusal.
                    self._gaps.count(request.entry.kind, str(error))
            return
        for request, result in done:
            kept = request.settle(result)
            if isinstance(result, Record):
                if not kept and request.entry.opens:
                    data = request.entry.data
                    self._late[data["attempt"]] = OpenGrant(data["attempt"], result.seq, data["lane"], data["dir"])
            elif not request.awaited:
                if isinstance(result, JournalFullError):
                    self._gaps.count(request.entry.kind, FULL)
                else:
                    _log.error("%s cannot be recorded: %r", request.entry.kind, result)
                    self._gaps.count(request.entry.kind, "unrecordable")
        if self._late:
            self._write(())

    def _transaction(self, group: Sequence[Append]) -> list[tuple[Append, Record | Exception]]:
        """Write `group` in one commit, leaving out whoever gives up before it begins. Raises sqlite3.Error or OSError."""
        store = self._ready()
        used = self._make_room(store, MAX_RECORD_BYTES * len(group))
        while True:
            wanted = [request for request in group if not request.given_up]
            store.begin()
            gap = None if self.full else self._add_gap(store)
            self._settle_grants(store)
            done: list[tuple[Append, Record | Exception]] = []
            for request in wanted:
                if self._retention.turned_away(request.entry, used, awaited=request.awaited):
                    done.append((request, JournalFullError("full")))
                    continue
                try:
                    done.append((request, store.add(request.entry)))
                except (AlreadyUsedError, ValueError, TypeError, KeyError) as error:
                    # ValueError and the like: data that is no record. Its caller hears of it; the thread goes on.
                    done.append((request, error))
            if any(request.given_up for request in wanted):
                store.rollback()
                continue
            # The last record of a clean stop is vouched for while there is still somebody to send it.
            self._vouch(store, now=any(request.entry.kind is Kind.GATE_STOPPED for request in wanted))
            store.commit()
            self._gaps.written(gap)
            self._committed(store)
            self._late.clear()
            self._old.clear()
            return done

    def _committed(self, store: Store) -> None:
        self._known_seq = store.seq
        added = store.take_added()
        if added:
            self._announce(added)
        if not self.writable:
            _log.warning("journal writable again")
        self.writable = True

    def _add_gap(self, store: Store) -> Gap | None:
        gap = self._gaps.now()
        if gap is not None:
            store.own(Kind.LOG_GAP, gap.data(), self._clock.now())
        return gap

    def _vouch(self, store: Store, *, now: bool = False) -> None:
        """A checkpoint, within a transaction, where one is due, or `now`. One alone never makes another due."""
        age = self._clock.monotonic() - self._vouched_at
        due = store.unvouched >= CHECKPOINT_RECORDS or age >= CHECKPOINT_S or now
        if store.signs and store.unvouched and due:
            store.checkpoint(self._clock.now())
            self._vouched_at = self._clock.monotonic()

    def _make_room(self, store: Store, size: int | None = None) -> int:
        """One step where the journal is near its size, before `size` bytes are written. Returns the bytes in use."""
        before, now = self.full, self._clock.now()
        used = self._retention.look(store, now) if size is None else self._retention.before_commit(store, size, now)
        if self.full and not before:
            _log.error("the journal is full; entries are refused where the rules do not let them go on")
            # The numbers come when there is room; that something is left out is durable from the beginning.
            store.begin()
            store.own(Kind.LOG_GAP, self._gaps.begun(FULL).data() | {"why": FULL}, self._clock.now())
            store.commit()
        elif before and not self.full:
            _log.warning("the journal has room again")
        return used

    # Everything else.

    def _serve(self, call: Call[Any]) -> None:
        try:
            result: Any = call.work(self._ready())
        except (AckMismatchError, AlreadyUsedError) as error:
            result = error
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            result = RecordUnavailableError(str(error))
        call.answer(result)

    def _upkeep(self) -> None:
        try:
            store, now = self._ready(), self._clock.now()
            store.prune_marks(now)
            if self._time_is_trusted():
                store.outbox.note_acknowledged(now)
                self._retention.age(store, now)
            self._make_room(store)
            store.begin()
            self._vouch(store)
            store.commit()
            self._committed(store)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)

    def _time_is_trusted(self) -> bool:
        """Nothing is removed by a clock that nobody vouches for."""
        clk = self._place.stamp().get("clk")
        return not (isinstance(clk, dict) and clk.get("q") == "unset")

    def _end(self) -> None:
        """A clean stop: what was counted, and the gate's word for all of it."""
        try:
            store = self._ready()
            store.begin()
            gap = self._add_gap(store)
            self._settle_grants(store)
            self._vouch(store, now=True)
            store.commit()
            self._gaps.written(gap)
            self._committed(store)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
        self._close()
