"""The controller's database: every record once, its exact bytes, and how far each gate's chain is whole.

SQLite through sqlite-utils, WAL, synchronous FULL: what `commit` has returned is on the disk. All calls come from one thread.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlite_utils import Database

from controller.chain import Alarm, Chain, Chains
from controller.schema import migrate
from protocol import events, fields
from protocol.ack import Ack
from protocol.clock import rfc3339
from protocol.status import Online

POISON_HEAD_BYTES = 256
"""Bytes kept of a message that was set aside."""
MAX_POISON_PER_TOPIC, MAX_POISON = 100, 10_000
"""Distinct messages set aside; beyond it they are only counted, so that the first ones stay to be looked at."""
MAX_TOPIC = 200
MAX_ALARMS = 10_000
CACHE_KIB = 65536


@dataclass(frozen=True, slots=True)
class Poison:
    """A message that is no event, state, online or health of the gate whose topic it came by."""

    topic: str
    reason: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """One event, the instant it names and the topic it came by, checked by controller.sorting."""

    event: events.Event
    at: datetime
    topic: str


@dataclass(frozen=True, slots=True)
class Batch:
    records: Sequence[Record] = ()
    poison: Sequence[Poison] = ()
    seen: Mapping[str, Online | None] = field(default_factory=dict)
    """Gates heard of, with their last birth or will."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One event with its place in the order of arrival."""

    arrival: int
    event: events.Event


@dataclass(frozen=True, slots=True)
class Committed:
    stored: Sequence[Stored]
    duplicates: int
    acks: Mapping[str, Ack]
    """By gate, for every gate that sent a record: a repeated one is acknowledged again."""
    alarms: Sequence[Alarm]
    """Those that were not there before."""
    set_aside: int


@dataclass(frozen=True, slots=True)
class GateRow:
    gate: str
    epoch: str | None
    mark: int
    stopped: bool
    boot: str | None
    online: bool | None
    last_seen: str
    alarms: int


@dataclass(frozen=True, slots=True)
class Picture:
    """What the live page starts from."""

    gates: Sequence[GateRow]
    decisions: Sequence[Stored]
    last: Sequence[Stored]
    counts: Mapping[str, int]
    """Of today, by event name."""
    set_aside: int


class Store:
    def __init__(self, path: Path, time_zone: ZoneInfo) -> None:
        """`time_zone` is where a day of the counts begins. Raises sqlite3.Error, OSError, SchemaError."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._zone = time_zone
        # One thread at a time uses it, but opening and closing may be another's.
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db = Database(connection)
        try:
            self._db.enable_wal()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            path.chmod(0o600)
            migrate(self._db)
            self._chains = Chains(self._db)
            self._arrival: int = connection.execute("SELECT coalesce(max(arrival), 0) FROM events").fetchone()[0]
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        self._db.close()

    def commit(self, batch: Batch, now: datetime) -> Committed:
        """One transaction. Raises sqlite3.Error with nothing changed, here or on the disk."""
        arrival, moment = self._arrival, rfc3339(now)
        stored: list[Stored] = []
        duplicates = 0
        alarms: list[Alarm] = []
        poisons = list(batch.poison)
        counts: dict[tuple[str, str], int] = {}
        touched: dict[tuple[str, str], Chain] = {}
        try:
            with self._db.atomic():
                for record in batch.records:
                    event = record.event
                    if not self._chains.admits(event):
                        poisons.append(Poison(record.topic, "too_many_epochs", event.raw))
                        continue
                    chain = self._chains.take(event)
                    touched[event.gate, event.epoch] = chain
                    existing = self._chains.existing(chain, event)
                    if existing is None:
                        arrival += 1
                        self._insert(record, arrival)
                        stored.append(Stored(arrival, event))
                        day = record.at.astimezone(self._zone).date().isoformat()
                        counts[day, event.kind] = counts.get((day, event.kind), 0) + 1
                        alarms.extend(self._chains.extend(chain, event, moment))
                        continue
                    duplicates += 1
                    if existing != event.raw:
                        alarms.append(Alarm(event.gate, event.epoch, event.seq, "conflict", moment))
                for poison in poisons:
                    self._set_aside(poison, moment)
                    counts["", f"poison.{poison.reason}"] = counts.get(("", f"poison.{poison.reason}"), 0) + 1
                new_alarms = [alarm for alarm in alarms if self._raise(alarm)]
                self._chains.write(touched.values())
                self._write_gates(batch.seen, touched, stored, moment)
                self._count(counts)
        except BaseException:
            self._chains.forget()
            raise
        self._arrival = arrival
        self._chains.keep()
        last = {each.event.gate: each.event.epoch for each in batch.records}
        acks = {
            gate: Ack(epoch, chain.mark, chain.hash)
            for (gate, epoch), chain in touched.items()
            if chain.mark and last[gate] == epoch
        }
        return Committed(stored, duplicates, acks, new_alarms, len(poisons))

    def _insert(self, record: Record, arrival: int) -> None:
        event = record.event

        def word(name: str) -> str | None:
            value = event.data.get(name)
            return value if isinstance(value, str) and fields.WORD.fullmatch(value) else None

        self._db.conn.execute(
            "INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            (
                event.gate,
                event.epoch,
                event.seq,
                arrival,
                rfc3339(record.at),
                event.kind,
                word("lane"),
                word("attempt"),
                word("reason"),
                word("carrier"),
                event.raw,
            ),
        )

    def _set_aside(self, poison: Poison, moment: str) -> None:
        key = (poison.topic[:MAX_TOPIC], poison.reason, hashlib.sha256(poison.payload).hexdigest())
        found = self._db.execute(
            "UPDATE poison SET count = count + 1, last = ? WHERE topic = ? AND reason = ? AND digest = ?",
            (moment, *key),
        )
        if found.rowcount:
            return
        of_topic, in_all = self._db.execute(
            "SELECT (SELECT count(*) FROM poison WHERE topic = ?), (SELECT count(*) FROM poison)", key[:1]
        ).fetchone()
        if of_topic < MAX_POISON_PER_TOPIC and in_all < MAX_POISON:
            self._db.execute(
                "INSERT INTO poison VALUES (?,?,?,?,?,?,?,1)",
                (*key, len(poison.payload), poison.payload[:POISON_HEAD_BYTES], moment, moment),
            )

    def _raise(self, alarm: Alarm) -> bool:
        """True for an alarm that was not there yet."""
        if self._db.execute("SELECT count(*) FROM alarms").fetchone()[0] >= MAX_ALARMS:
            return False
        found = self._db.execute(
            "INSERT OR IGNORE INTO alarms VALUES (?,?,?,?,?)",
            (alarm.gate, alarm.epoch, alarm.seq, alarm.what, alarm.time),
        )
        return bool(found.rowcount)

    def _write_gates(
        self,
        seen: Mapping[str, Online | None],
        touched: Mapping[tuple[str, str], Chain],
        stored: Sequence[Stored],
        moment: str,
    ) -> None:
        epochs = {each.event.gate: each.event.epoch for each in stored}
        for gate in {*seen, *(gate for gate, _ in touched)}:
            online = seen.get(gate)
            self._db.execute(
                "INSERT INTO gates (gate, epoch, boot, online, last_seen) VALUES (?,?,?,?,?) ON CONFLICT (gate) DO UPDATE SET "
                "epoch = coalesce(excluded.epoch, epoch), last_seen = excluded.last_seen, "
                "online = coalesce(excluded.online, online), boot = coalesce(excluded.boot, boot)",
                (gate, epochs.get(gate), online and online.boot, None if online is None else online.online, moment),
            )

    def _count(self, counts: Mapping[tuple[str, str], int]) -> None:
        for (day, name), n in counts.items():
            self._db.execute(
                "INSERT INTO counts VALUES (?,?,?) ON CONFLICT (day, name) DO UPDATE SET n = n + excluded.n",
                (day, name, n),
            )

    # Reading

    def acks(self) -> dict[str, Ack]:
        """The acknowledgement each gate should have, of the epoch it last wrote in."""
        rows = self._db.execute(
            "SELECT c.gate, c.epoch, c.mark, c.hash FROM chains c JOIN gates g ON g.gate = c.gate AND g.epoch = c.epoch "
            "WHERE c.mark > 0"
        )
        return {gate: Ack(epoch, mark, digest) for gate, epoch, mark, digest in rows}

    def gates(self) -> list[GateRow]:
        rows = self._db.execute(
            "SELECT g.gate, g.epoch, coalesce(c.mark, 0), coalesce(c.stopped, 0), g.boot, g.online, g.last_seen, "
            "(SELECT count(*) FROM alarms a WHERE a.gate = g.gate) "
            "FROM gates g LEFT JOIN chains c ON c.gate = g.gate AND c.epoch = g.epoch ORDER BY g.gate"
        )
        return [
            GateRow(gate, epoch, mark, bool(stopped), boot, None if online is None else bool(online), seen, alarms)
            for gate, epoch, mark, stopped, boot, online, seen, alarms in rows
        ]

    def picture(self, today: str, events: int) -> Picture:
        return Picture(
            self.gates(), self._last_decisions(), self._last(events), self.counts(today), sum(self.counts("").values())
        )

    def events(self, after: int, limit: int) -> list[Stored]:
        """Events in the order they arrived, from the first behind `after`."""
        return self._stored(
            "SELECT arrival, raw FROM events WHERE arrival > ? ORDER BY arrival LIMIT ?", (after, limit)
        )

    def _last(self, limit: int) -> list[Stored]:
        """The newest, oldest of them first."""
        return self._stored("SELECT arrival, raw FROM events ORDER BY arrival DESC LIMIT ?", (limit,))[::-1]

    def _last_decisions(self) -> list[Stored]:
        """The newest decision of each lane, among the last records."""
        return self._stored(
            "SELECT max(arrival), raw FROM (SELECT arrival, gate, lane, raw, kind FROM events ORDER BY arrival DESC LIMIT 5000) "
            "WHERE kind IN ('access.granted', 'access.denied', 'lane.opened') AND lane IS NOT NULL GROUP BY gate, lane, kind "
            "ORDER BY 1",
            (),
        )

    def counts(self, day: str) -> dict[str, int]:
        """Events of one day by name; day "" holds the messages set aside."""
        return dict(self._db.execute("SELECT name, n FROM counts WHERE day = ?", [day]).fetchall())

    def poison(self) -> list[dict[str, Any]]:
        return list(self._db.query("SELECT * FROM poison ORDER BY first"))

    def alarms(self) -> list[Alarm]:
        rows = self._db.execute("SELECT gate, epoch, seq, what, time FROM alarms ORDER BY time")
        return [Alarm(*row) for row in rows]

    def _stored(self, sql: str, parameters: tuple[int, ...]) -> list[Stored]:
        with closing(self._db.conn.execute(sql, parameters)) as rows:
            return [Stored(arrival, events.parse(raw)) for arrival, raw in rows]
