"""What records, findings, healths, conditions and operators make of the open alarms. docs/alarms.md.

`take` and `write` stand in the transaction that stores the records themselves, so that an alarm is lost only with them; the
other methods have transactions of their own. Everything belongs to the store's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from sqlite_utils import Database

from controller import alarms
from controller.alarm_kinds import (
    DEVICE,
    DISK,
    KINDS,
    OUTBOX,
    RECORD,
    RESTARTING,
    UNSET,
    Severity,
    acknowledges,
    effect,
    word,
)
from controller.alarm_ledger import ACK, BOOT, AlarmLedger, Hit
from controller.alarm_rows import ESCALATED, AlarmRow, AlarmUpdate, Key
from controller.batch import Alarm, Record, What
from policy.situation import ClockQuality
from protocol.clock import rfc3339
from protocol.command import Operator
from protocol.events import Kind
from protocol.health import Health

STARTING_S = 20
"""An agent that has just begun tells of devices that are only being opened; the next health comes after 30 s."""
OUTBOX_RELIEF, DISK_RELIEF = 0.5, 1.25
"""A condition with a limit is over at this multiple of it, so that it does not come and go."""


class NoSuchAlarmError(Exception):
    """No alarm has this id."""


class EndsByItselfError(Exception):
    """An alarm that no operator ends: it ends with what raised it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a gate's health is an alarm."""

    outbox_s: int = 900
    """Age of the oldest record that waits at the gate."""
    disk_free_mb: int = 500


@dataclass(slots=True)
class News:
    """What one batch tells about alarms."""

    records: list[Record] = field(default_factory=list)
    """New ones whose kind is in WATCHED."""
    findings: Sequence[Alarm] = ()
    healths: Mapping[str, Health] = field(default_factory=dict)
    filled: Collection[tuple[str, str]] = ()
    """Gates and epochs of which records came that had been passed over."""
    reordered: Collection[str] = ()
    """Gates whose epochs are new or in another order."""


class AlarmBook(AlarmLedger):
    def __init__(self, db: Database, order: Callable[[str], Sequence[str]], limits: Limits) -> None:
        """`order` gives a gate's epochs, the newest last. Raises sqlite3.Error."""
        super().__init__(db.conn, order)
        self._db, self._limits = db, limits
        self._known_until = self._table.newest_time()
        """Before this start; None once waiting was reckoned with it."""
        self._waiting_since: dict[int, float] = {}
        """Monotonic time from which an alarm waits for somebody."""

    def open(self) -> list[AlarmRow]:
        """All that are not closed, in the order in which they were raised."""
        return sorted(self._rows.kept().values(), key=lambda row: row.id)

    def take(self, news: News, moment: str) -> None:
        """Everything of a batch, in the caller's transaction."""
        self._moment = moment
        hits: dict[Key, Hit] = {}
        touched: dict[Key, None] = {}  # a set that keeps the order of arrival
        for record in news.records:
            self._note(record, hits, touched)
        for finding in news.findings:
            key = _key_of(finding)
            _add(hits, key, Hit(1, finding.time, finding.epoch, finding.seq if finding.epoch else 0))
            touched[key] = None
        for gate in news.reordered:
            touched.update(dict.fromkeys(self._keys_of(gate)))
        for key in touched:
            if key[2] in KINDS:
                self._settle(key, hits.get(key))
        for gate, epoch in news.filled:
            self._fill(gate, epoch)
        for gate, health in news.healths.items():
            self._examine(gate, health)

    def _note(self, record: Record, hits: dict[Key, Hit], touched: dict[Key, None]) -> None:
        event = record.event
        gate, epoch, seq, lane = event.gate, event.epoch, event.seq, word(event, "lane")
        if event.kind is Kind.GATE_BOOT:
            self._mark((gate, "", BOOT, ""), epoch, raised=seq)
            touched.update(dict.fromkeys(key for key in self._keys_of(gate) if key[2] in RESTARTING))
            return
        if acknowledges(event):
            self._mark((gate, lane, ACK, ""), epoch, raised=seq)
            touched.update(dict.fromkeys(key for key in self._keys_of(gate) if key[1] == lane))
            return
        found = effect(event)
        detail = word(event, found.detail)
        for kind in found.clears:
            key = (gate, lane, str(kind), detail)
            if self._mark(key, epoch, cleared=seq):
                touched[key] = None
        if found.raises is None:
            return
        key = (gate, lane, str(found.raises), detail)
        if self._mark(key, epoch, raised=seq):
            _add(hits, key, Hit(1, record.time, epoch, seq))
            touched[key] = None
        else:
            self._full(gate)

    def _fill(self, gate: str, epoch: str) -> None:
        """Records that had been lost have come after all."""
        for key in [key for key in self._keys_of(gate) if key[2] == RECORD + What.HOLE]:
            row = self._rows.get(key)
            lost, _, numbers = key[3].rpartition(":")
            first, _, last = numbers.partition("-")
            if row is None or not row.active or lost != epoch or not (first.isdigit() and last.isdigit()):
                continue
            if self._table.held(gate, epoch, int(first), int(last)):
                self._cleared(row, None)

    def _examine(self, gate: str, health: Health) -> None:
        outbox, disk = (gate, "", OUTBOX, ""), (gate, "", DISK, "")
        limit = self._limits.outbox_s * (OUTBOX_RELIEF if self._rows.get(outbox) is not None else 1)
        self._condition(outbox, holds=health.outbox_age_s >= limit)
        if health.disk_free_mb is not None:
            limit = self._limits.disk_free_mb * (DISK_RELIEF if self._rows.get(disk) is not None else 1)
            self._condition(disk, holds=health.disk_free_mb < limit)
        self._condition((gate, "", UNSET, ""), holds=health.clock is ClockQuality.UNSET)
        down = {(gate, "", DEVICE, name) for name in health.degraded}
        known = {key for key in self._keys_of(gate) if key[2] == DEVICE}
        if health.uptime_s < STARTING_S:
            down &= known
        for key in down | known:
            self._condition(key, holds=key in down)

    @contextmanager
    def _changing(self, now: datetime) -> Iterator[list[AlarmUpdate]]:
        """A transaction; the list holds what it did once it is through."""
        self._moment = rfc3339(now)
        done: list[AlarmUpdate] = []
        try:
            with self._db.atomic():
                yield done
                self.write()
        except BaseException:
            self.forget()
            raise
        done.append(self.keep())

    def acknowledge(self, alarm: int, operator: Operator, now: datetime) -> tuple[AlarmRow, AlarmUpdate]:
        """Somebody has looked. A second time changes nothing. Raises NoSuchAlarmError, sqlite3.Error."""
        row = self._row(alarm)
        with self._changing(now) as done:
            if row.closed is None and row.acknowledged is None:
                row = self._acknowledged(row, operator.name, operator.role)
        return row, done[0]

    def clear(
        self, alarm: int, operator: Operator, now: datetime, *, enrolled: Callable[[str], bool] = lambda _: True
    ) -> tuple[AlarmRow, AlarmUpdate]:
        """An operator ends it. A second time changes nothing. Of a gate that is not `enrolled` any more nothing ends by itself.

        Raises NoSuchAlarmError, EndsByItselfError, sqlite3.Error.
        """
        row = self._row(alarm)
        left_behind = bool(row.epoch) and self._order(row.gate)[-1:] != [row.epoch]
        retired = bool(row.gate) and not enrolled(row.gate)
        if row.active and not (KINDS[row.kind].operator or retired or left_behind):
            raise EndsByItselfError
        with self._changing(now) as done:
            if row.closed is None:
                marks = self._marks.get(row.key)
                if marks is not None:
                    self._marks.put(row.key, {epoch: mark.with_cleared(mark.raised) for epoch, mark in marks.items()})
                self._conditions.put(row.key, None)
                row = (
                    self._cleared(row, operator)
                    if row.active
                    else self._acknowledged(row, operator.name, operator.role)
                )
        return row, done[0]

    def _row(self, alarm: int) -> AlarmRow:
        row = self._table.row(alarm)
        if row is None:
            raise NoSuchAlarmError
        return row

    def judge(self, conditions: Mapping[Key, bool], now: datetime) -> AlarmUpdate:
        """What holds and what does not; the same again changes nothing. Raises sqlite3.Error."""
        if not any(self._differs(key, holds=holds) for key, holds in conditions.items()):
            return AlarmUpdate()
        with self._changing(now) as done:
            for key, holds in conditions.items():
                self._condition(key, holds=holds)
        return done[0]

    def escalate(self, after_s: Mapping[Severity, float], now: datetime, monotonic: float) -> AlarmUpdate:
        """Those that nobody has acknowledged in time. Raises sqlite3.Error.

        Waiting is counted on the monotonic clock; what was before this start by the wall clock, as far as it can be believed.
        """
        waiting = {row.id: row for row in self._rows.kept().values() if row.acknowledged is None}
        self._waiting_since = {
            each: self._waiting_since.get(each, monotonic - self._waited_before(row, now))
            for each, row in waiting.items()
        }
        self._known_until = None
        due = {
            each: alarms.level_due(monotonic - self._waiting_since[each], after_s[Severity(row.severity)])
            for each, row in waiting.items()
        }
        late = [(row, due[each]) for each, row in waiting.items() if due[each] > row.level]
        if not late:
            return AlarmUpdate()
        with self._changing(now) as done:
            for row, level in late:
                self._change(alarms.escalate(row, level, self._moment), ESCALATED)
        return done[0]

    def _waited_before(self, row: AlarmRow, now: datetime) -> float:
        """Seconds before the first look of this run; what is raised later waits from the look that finds it."""
        if self._known_until is None or row.raised > self._known_until:
            return 0.0
        raised, known_until = datetime.fromisoformat(row.raised), datetime.fromisoformat(self._known_until)
        return alarms.believed_s(raised, known_until) + alarms.believed_s(known_until, now)


def _key_of(finding: Alarm) -> Key:
    """One alarm for each thing that somebody has to look at, not for each record."""
    match finding.what:
        case What.HOLE:
            detail = f"{finding.epoch}:{finding.why}"
        case What.POISON:
            detail = finding.why
        case What.NEWER_SCHEMA:
            detail = str(finding.seq)
        case _:
            detail = finding.epoch
    return finding.gate, "", RECORD + finding.what, detail


def _add(hits: dict[Key, Hit], key: Key, new: Hit) -> None:
    old = hits.get(key)
    if old is None:
        hits[key] = new
        return
    old.count += new.count
    if old.epoch != new.epoch or new.seq > old.seq:
        old.epoch, old.seq = new.epoch, new.seq
