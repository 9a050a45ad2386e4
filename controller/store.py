"""The controller's database: every record once, its exact bytes, and how far each gate's chain is whole.

SQLite through sqlite-utils, WAL, synchronous FULL: what `commit` has returned is on the disk. All calls come from one thread.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlite_utils import Database

from controller.alarm_book import AlarmBook, Limits, News
from controller.alarm_kinds import WATCHED
from controller.batch import NOT_ENROLLED, Alarm, Batch, Committed, Key, Poison, Record, Remark, Standing, Stored, What
from controller.chain import Chains
from controller.deletions import GENESIS, newest
from controller.erasure import Erasure
from controller.orders import Orders
from controller.presence import Verdict, counter, judge
from controller.reading import Reading
from controller.reads import Reads
from controller.retention import Removal, Retention
from controller.rollups import Rollups
from controller.schema import migrate
from controller.webhook_rows import WebhookRows
from protocol import events, fields, topics
from protocol.ack import Ack
from protocol.clock import rfc3339
from protocol.events import Event
from protocol.status import Online

POISON_HEAD_BYTES = 256
"""Bytes kept of a message that was set aside."""
MAX_POISON_PER_TOPIC, MAX_POISON = 100, 10_000
"""Distinct messages set aside; beyond it they are only counted, so that the first ones stay to be looked at."""
MAX_TOPIC = 200
MAX_ALARMS = 10_000
MAX_BOOTS = 64
"""Boots remembered of each gate."""
SEEN_S = 1.0
"""`last_seen` on the disk is at most this old."""
MAX_DAYS = 10_000
"""Minutes of which the day is remembered."""
NEAR = 101
"""Newest records whose median time stands for the present where nobody has noted it."""
CACHE_KIB = 65536
CHECKPOINT_PAGES = 4000
"""Of the write-ahead log (16 MB): with four hundred gates the same pages of the index change in every transaction."""


@dataclass(slots=True)
class _Gate:
    """A row of `gates` as it is on the disk."""

    epoch: str | None = None
    boot: str | None = None
    online: bool | None = None
    seen: datetime | None = None


_NO_GATE = _Gate()


class OtherSiteError(Exception):
    """The database belongs to another site."""


class Store(Reading):
    def __init__(
        self,
        path: Path,
        time_zone: ZoneInfo,
        limits: Limits = Limits(),  # noqa: B008  it is frozen
        *,
        site: str | None = None,
        retention: Retention | None = None,
    ) -> None:
        """`time_zone` is where a day of the counts begins, `limits` say which health of a gate is an alarm. `site`: whose
        database it is, or has to be.

        Raises sqlite3.Error, OSError, SchemaError, OtherSiteError.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._zone = time_zone
        # One thread at a time uses it, but opening and closing may be another's.
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        super().__init__(connection)
        self._db = Database(connection)
        try:
            self._db.enable_wal()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")  # before a migration drops a table
            connection.execute("PRAGMA temp_store = MEMORY")  # nothing of a record in a temporary file
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            path.chmod(0o600)
            migrate(self._db)
            self._belong(site)
            self._pending: list[tuple[object, ...]] = []
            """Rows of the batch under way that are not in the table yet."""
            self._chains = Chains(connection, self._flush)
            self.orders = Orders(self._db)
            self.rollups = Rollups(self._db, time_zone)
            self.removal = Removal(self._db, retention or Retention(), time_zone)
            self.erasure = Erasure(connection, path)
            # What was removed had been counted: no number is given twice.
            self._arrival: int = connection.execute(
                "SELECT max((SELECT coalesce(max(arrival), 0) FROM events), (SELECT arrival FROM rolled))"
            ).fetchone()[0]
            self.reads = Reads(self._db)
            self.webhooks = WebhookRows(self._db)
            self._raised = set(connection.execute("SELECT gate, epoch, seq, what, why FROM alarms").fetchall())
            self._gates = {
                gate: _Gate(epoch, boot, None if online is None else bool(online))
                for gate, epoch, boot, online in connection.execute("SELECT gate, epoch, boot, online FROM gates")
            }
            self._attended: dict[str, _Gate] = {}
            """Rows of `gates` that the batch under way changes."""
            self.alarm_book = AlarmBook(self._db, self._epochs_in_order, limits)
            self._days: dict[str, str] = {}
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        self._db.close()

    def _belong(self, site: str | None) -> None:
        """Raises OtherSiteError."""
        if site is None:
            return
        with self._db.atomic():
            self._connection.execute("INSERT OR IGNORE INTO site VALUES (1, ?)", [site_of(self._connection) or site])
        kept = self._connection.execute("SELECT name FROM site").fetchone()[0]
        if kept != site:
            raise OtherSiteError(kept)

    def kept_time(self) -> datetime | None:
        """What time it was at least, for controller.site_time; None: nothing is stored."""
        row = self._connection.execute("SELECT time FROM site_time").fetchone()
        if row is not None:
            return datetime.fromisoformat(row[0])
        newest_times = self._connection.execute(
            "SELECT time FROM events ORDER BY arrival DESC LIMIT ?", [NEAR]
        ).fetchall()
        times = sorted(time for (time,) in newest_times)
        return datetime.fromisoformat(times[len(times) // 2]) if times else None

    def keep_time(self, now: datetime) -> None:
        with self._db.atomic():
            self._connection.execute("INSERT OR REPLACE INTO site_time VALUES (1, ?)", [rfc3339(now)])

    def deletions_head(self) -> str:
        """Hash of the newest proof of deletion."""
        last = newest(self._db)
        return GENESIS if last is None else last.hash

    def standings(self) -> dict[Key, Standing]:
        """Of every chain."""
        return self._chains.standings()

    def commit(self, batch: Batch, now: datetime) -> Committed:
        """One transaction. Raises sqlite3.Error with nothing changed, here or on the disk."""
        work = _Work(self._arrival, rfc3339(now), list(batch.poison))
        try:
            with self._db.atomic():
                for record in batch.records:
                    self._take(record, work)
                self._flush()
                changed = self._attended = self._attend(batch, work, now)
                for poison in work.poison:
                    self._set_aside(poison, work)
                new_alarms = self._raise(work.alarms)
                self._tell_alarms(batch, work)
                self._chains.write()
                self._write_gates(changed, work.moment)
                self._count(work.counts)
        except BaseException:
            self._pending.clear()
            self._chains.forget()
            self.alarm_book.forget()
            self._attended = {}
            raise
        self._arrival = work.arrival
        self._raised.update(_identity(alarm) for alarm in new_alarms)
        self._gates |= changed
        self._attended = {}
        alarms = self.alarm_book.keep()
        touched = dict(self._chains.touched)
        self._chains.keep()
        acks: dict[str, Ack] = {}
        earlier: list[tuple[str, Ack]] = []
        for (gate, epoch), chain in touched.items():
            if chain.mark and epoch == self._gates[gate].epoch:
                acks[gate] = chain.ack
            elif chain.mark:
                earlier.append((gate, chain.ack))
        standings = {key: chain.standing for key, chain in touched.items()}
        for gate, (epoch, _) in batch.heads.items():
            standings.setdefault((gate, epoch), self._chains.standing(gate, epoch))
        return Committed(
            stored=work.stored,
            duplicates=work.duplicates,
            acks=acks,
            earlier_acks=earlier,
            alarms=new_alarms,
            set_aside=len(work.poison),
            onlines=work.onlines,
            counts=work.counts,
            standings=standings,
            changes=alarms.changes,
            alarm_rows=alarms.rows,
        )

    def _take(self, record: Record, work: _Work) -> None:
        event = record.event
        begun = not self._chains.known(event.gate, event.epoch)
        chain = self._chains.take(event.gate, event.epoch)
        if chain is None:
            work.poison.append(Poison(record.topic, "too_many_epochs", event.raw))
            return
        if begun:
            work.begun.append((event.gate, event.epoch))
        existing = self._chains.existing(chain, event.seq)
        if existing is not None:
            work.duplicates += 1
            if existing and existing != event.raw:
                work.alarms.append(Alarm(event.gate, event.epoch, event.seq, What.CONFLICT, work.moment))
            return
        if event.kind in WATCHED:
            work.news.records.append(record)
        if begun or event.seq == 1:  # which may name the epoch before
            work.reordered.add(event.gate)
        if event.seq <= chain.mark:
            work.filled.add((event.gate, event.epoch))
        work.arrival += 1
        self._insert(record, work.arrival)
        work.stored.append(Stored(work.arrival, event))
        name = (self._day(record.time), str(event.kind))
        work.counts[name] = work.counts.get(name, 0) + 1
        work.alarms.extend(self._chains.extend(chain, record, work.moment))
        if record.statement is not None:
            work.alarms.extend(self._chains.explain(record, work.moment))
        if record.remark is not None:
            work.alarms.append(_remark(event, record.remark, work.moment))
        if event.version > events.SCHEMA:
            # Not about one record: the number of the schema stands in its place, so that each version is told once.
            work.alarms.append(Alarm(event.gate, "", event.version, What.NEWER_SCHEMA, work.moment))

    def _day(self, time: str) -> str:
        """The site's own day of an instant, `2026-11-24`."""
        day = self._days.get(time[:16])
        if day is None:
            if len(self._days) >= MAX_DAYS:
                self._days.clear()
            day = self._days[time[:16]] = datetime.fromisoformat(time).astimezone(self._zone).date().isoformat()
        return day

    def _insert(self, record: Record, arrival: int) -> None:
        event, get = record.event, record.event.data.get
        # SQLite's module takes an exact str at once; of an enum's member it first looks for an adapter.
        self._pending.append(
            (
                arrival,
                event.gate,
                event.epoch,
                event.seq,
                record.time,
                str(event.kind),
                _word(get("lane")),
                _word(get("attempt")),
                _word(get("reason")),
                _word(get("carrier")),
                event.raw,
            )
        )

    def _flush(self) -> None:
        if self._pending:
            self._connection.executemany("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?)", self._pending)
            self._pending.clear()

    def _attend(self, batch: Batch, work: _Work, now: datetime) -> dict[str, _Gate]:
        """Who was heard, in which boot and epoch: the rows of `gates` that change."""
        changed: dict[str, _Gate] = {}

        def row(gate: str) -> _Gate:
            found = changed.get(gate)
            if found is None:
                kept = self._gates.get(gate, _Gate())
                found = changed[gate] = _Gate(kept.epoch, kept.boot, kept.online, now)
            return found

        for gate in {*batch.heard, *(gate for gate, _ in self._chains.touched)}:
            kept = self._gates.get(gate)
            if kept is None or kept.seen is None or not 0 <= (now - kept.seen).total_seconds() < SEEN_S:
                row(gate)
        for gate, epoch in work.begun:
            if not self._chains.succeeded(gate, epoch):
                row(gate).epoch = epoch
        for gate, (epoch, _) in batch.heads.items():
            if row(gate).epoch != epoch:
                row(gate).epoch = epoch
        for gate, online in batch.onlines:
            self._attend_online(gate, online, row(gate), work)
        return changed

    def _attend_online(self, gate: str, online: Online, row: _Gate, work: _Work) -> None:
        boots = [
            boot for (boot,) in self._connection.execute("SELECT boot FROM boots WHERE gate = ? ORDER BY first", [gate])
        ]
        verdict = judge(online, row.boot, boots)
        if verdict is Verdict.LATE:
            return
        if verdict is Verdict.REWIND:
            work.alarms.append(Alarm(gate, "", counter(online.boot) or 0, What.REWIND, work.moment))
        row.boot, row.online = online.boot, online.online
        work.onlines.append((gate, online))
        if online.boot in boots:
            return
        self._connection.execute("INSERT INTO boots VALUES (?,?,?)", (gate, online.boot, work.moment))
        for boot in boots[: max(0, len(boots) + 1 - MAX_BOOTS)]:
            self._connection.execute("DELETE FROM boots WHERE gate = ? AND boot = ?", (gate, boot))

    def _set_aside(self, poison: Poison, work: _Work) -> None:
        name = ("", f"poison.{poison.reason}")
        work.counts[name] = work.counts.get(name, 0) + 1
        work.alarms.append(Alarm(_gate_of(poison.topic), "", 0, What.POISON, work.moment, poison.reason))
        key = (poison.topic[:MAX_TOPIC], poison.reason, hashlib.sha256(poison.payload).hexdigest())
        found = self._connection.execute(
            "UPDATE poison SET count = count + 1, last = ? WHERE topic = ? AND reason = ? AND digest = ?",
            (work.moment, *key),
        )
        if found.rowcount:
            return
        of_topic, in_all = self._connection.execute(
            "SELECT (SELECT count(*) FROM poison WHERE topic = ?), (SELECT count(*) FROM poison)", key[:1]
        ).fetchone()
        if of_topic < MAX_POISON_PER_TOPIC and in_all < MAX_POISON:
            self._connection.execute(
                "INSERT INTO poison VALUES (?,?,?,?,?,?,?,1)",
                (*key, len(poison.payload), poison.payload[:POISON_HEAD_BYTES], work.moment, work.moment),
            )

    def _raise(self, alarms: Sequence[Alarm]) -> list[Alarm]:
        """Those that were not there yet, as far as there is room."""
        new: dict[tuple[object, ...], Alarm] = {}
        for alarm in alarms:
            identity = _identity(alarm)
            if identity not in self._raised and len(self._raised) + len(new) < MAX_ALARMS:
                new.setdefault(identity, alarm)
        if new:
            self._connection.executemany(
                "INSERT INTO alarms (gate, epoch, seq, what, why, time) VALUES (?,?,?,?,?,?)",
                [(*identity, alarm.time) for identity, alarm in new.items()],
            )
        return list(new.values())

    def _tell_alarms(self, batch: Batch, work: _Work) -> None:
        news = work.news
        # One about a record is told once; one about its gate may have ended and is told whenever it is found.
        once = {_identity(each): each for each in work.alarms if each.epoch and _identity(each) not in self._raised}
        news.findings = [*once.values(), *(each for each in work.alarms if not each.epoch)]
        moved = {gate for gate, row in self._attended.items() if row.epoch != self._gates.get(gate, _NO_GATE).epoch}
        news.healths, news.filled, news.reordered = batch.healths, work.filled, work.reordered | moved
        self.alarm_book.take(news, work.moment)
        self.alarm_book.write()

    def _epochs_in_order(self, gate: str) -> list[str]:
        row = self._attended.get(gate) or self._gates.get(gate)
        return self._chains.order(gate, None if row is None else row.epoch)

    def _write_gates(self, rows: Mapping[str, _Gate], moment: str) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO gates (gate, epoch, boot, online, last_seen) VALUES (?,?,?,?,?)",
            [(gate, row.epoch, row.boot, row.online, moment) for gate, row in rows.items()],
        )

    def _count(self, counts: Mapping[tuple[str, str], int]) -> None:
        self._connection.executemany(
            "INSERT INTO counts VALUES (?,?,?) ON CONFLICT (day, name) DO UPDATE SET n = n + excluded.n",
            [(day, name, n) for (day, name), n in counts.items()],
        )


class _Work:
    """What one commit gathers."""

    def __init__(self, arrival: int, moment: str, poison: list[Poison]) -> None:
        self.arrival, self.moment, self.poison = arrival, moment, poison
        self.stored: list[Stored] = []
        self.duplicates = 0
        self.alarms: list[Alarm] = []
        self.onlines: list[tuple[str, Online]] = []
        self.counts: dict[tuple[str, str], int] = {}
        self.begun: list[Key] = []
        """Chains that were not known before."""
        self.news = News()
        self.filled: set[Key] = set()
        """Chains that got a record from before their mark."""
        self.reordered: set[str] = set()
        """Gates whose epochs may be in another order."""


def site_of(connection: sqlite3.Connection) -> str | None:
    """Whose database it is; one that does not say so yet, by its newest record."""
    if connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'site'").fetchone()[0]:
        row = connection.execute("SELECT name FROM site").fetchone()
        if row is not None:
            return str(row[0])
    # Older versions did not write it down.
    newest_record = connection.execute("SELECT raw FROM events ORDER BY arrival DESC LIMIT 1").fetchone()
    if newest_record is None:
        return None
    source = json.loads(newest_record[0]).get("source")
    return source.split("/")[1] if isinstance(source, str) and source.count("/") == 2 else None


def _word(value: object) -> str | None:
    return value if value is not None and isinstance(value, str) and fields.WORD.fullmatch(value) else None


def _identity(alarm: Alarm) -> tuple[object, ...]:
    return alarm.gate, alarm.epoch, alarm.seq, alarm.what, alarm.why


def _remark(event: Event, remark: Remark, moment: str) -> Alarm:
    if remark.what == NOT_ENROLLED.what:  # about the gate, not about this record
        return Alarm(event.gate, "", 0, remark.what, moment)
    return Alarm(event.gate, event.epoch, event.seq, remark.what, moment, remark.why)


def _gate_of(topic: str) -> str:
    try:
        return topics.gate_of(topic)
    except ValueError:
        return ""
