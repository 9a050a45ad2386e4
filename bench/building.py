"""A building's month as a database of the controller: four hundred lanes at two hundred gates, people in working hours.

Written straight into the tables, in the order of time, with the rollups that belong to it; every record can be parsed. Random
numbers come from a seed, so that two runs ask the same.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from controller.histogram import bucket_of
from controller.store import Store

SITE, EPOCH, BOOT = "hq", "9f3c61d07be2a845", "7-4be1c07d92a35f68"
ZONE = ZoneInfo("Asia/Seoul")
LAST_DAY = date(2026, 11, 27)
"""A Friday: the month before the morning on which the questions are asked."""
PROFILE = (1, 1, 1, 1, 1, 3, 12, 60, 100, 45, 25, 30, 70, 55, 25, 22, 28, 40, 80, 45, 18, 8, 4, 2)
"""People by the hour of a working day."""
WEEKEND = 0.06
PASS = 0.97
"""Share of the grants after which somebody passes."""
REASONS = (
    "not_permitted",
    "schedule",
    "link_timeout",
    "revoked",
    "expired",
    "no_consent",
    "status_stale",
    "antipassback",
)
CARRIERS = ("nfc", "nfc", "nfc", "ble", "ble", "qr", "piv")
RARE = (
    "alarm.forced",
    "alarm.tailgate",
    "alarm.held",
    "alarm.wrong_way",
    "device.degraded",
    "lane.fault",
    "alarm.tamper",
)
RARE_SHARE = 0.004
PREVIOUS = "5d1c0f" * 10 + "9b3e"
"""In the place of every hash: the chains are not what is asked about."""
EVENTS_EACH = 2.87
"""Of one attempt, those of the gates themselves included."""
BATCH = 50_000

_Row = tuple[int, str, str, int, str, str, str | None, str | None, str | None, str | None, bytes]


@dataclass(frozen=True, slots=True)
class Size:
    events: int = 10_000_000
    gates: int = 200
    lanes_each: int = 2
    days: int = 30


def gate_name(number: int) -> str:
    return f"gate-{number + 1:03}"


def lane_name(number: int) -> str:
    return f"l{number // 2 + 1}-{'out' if number % 2 else 'in'}"


class Month:
    """Rows in the order of time, and what the rollups hold of them."""

    def __init__(self, size: Size, seed: int = 1) -> None:
        self.size, self._random = size, Random(seed)  # noqa: S311
        self.quarters: Counter[tuple[int, str, str, str, str, str, str]] = Counter()
        self.days: Counter[tuple[str, str, str, str, str, str, str]] = Counter()
        self.latencies: Counter[tuple[int, str, str, str, str, int]] = Counter()
        self.arrival = 0
        self.seqs = [0] * size.gates
        self._day = ""
        self._second = -1
        self._prefix = ""
        self._quarter = 0

    def rows(self) -> Iterator[_Row]:
        for day, people in self._people():
            self._day = day.isoformat()
            midnight = int(datetime(day.year, day.month, day.day, tzinfo=ZONE).timestamp())
            moments = sorted(self._moment() for _ in range(people))
            for before, at in pairwise([0.0, *moments]):
                if int(before / 60) != int(at / 60):
                    yield from self._machine(midnight + at)
                yield from self._attempt(midnight + at)

    def _people(self) -> Iterator[tuple[date, int]]:
        days = [LAST_DAY - timedelta(days=back) for back in reversed(range(self.size.days))]
        weights = [1.0 if day.weekday() < 5 else WEEKEND for day in days]
        attempts = self.size.events / EVENTS_EACH
        for day, weight in zip(days, weights, strict=True):
            yield day, max(1, int(attempts * weight / sum(weights)))

    def _moment(self) -> float:
        """Seconds since midnight."""
        hour = self._random.choices(range(24), PROFILE)[0]
        return (hour + self._random.random()) * 3600

    def _attempt(self, at: float) -> Iterator[_Row]:
        """Somebody comes to a lane: most are granted and pass."""
        random = self._random
        gate = random.randrange(self.size.gates)
        number = random.randrange(self.size.lanes_each)
        lane, direction = lane_name(number), "out" if number % 2 else "in"
        carrier = CARRIERS[int(random.random() * len(CARRIERS))]
        chance = random.random()
        attempt = f"{random.getrandbits(64):016x}"
        base = f'"lane":"{lane}","dir":"{direction}"'
        joined = f'{base},"attempt":"{attempt}"'
        if chance < RARE_SHARE:
            kind = random.choice(RARE)
            yield self._row(at, gate, kind, lane, direction, f'{base},"cause":"line"')
            yield (
                self._row(at + 6, gate, f"{kind}.cleared", lane, direction, base)
                if kind.startswith("alarm.")
                else self._row(at + 60, gate, "device.restored", lane, direction, base)
            )
            return
        if chance < 0.03:
            yield self._row(
                at,
                gate,
                "access.unreadable",
                lane,
                "",
                f'"lane":"{lane}","carrier":"{carrier}","count":1',
                carrier=carrier,
            )
            return
        ours = 1.2 + random.expovariate(0.5)
        total = ours + 180 + random.expovariate(0.004)
        decided = (
            f'{joined},"point":"{lane}","carrier":"{carrier}","assurance":["holder_key"],"pol":41,"trust":"2026-11-23.17",'
            f'"lat_ms":{{"last_byte":{total - ours:.1f},"decided":{total:.1f},"ours":{ours:.1f}}}'
        )
        if chance < 0.08:
            reason = REASONS[int(random.random() ** 2 * len(REASONS))]
            more = f'{decided},"reason":"{reason}"'
            yield self._row(at, gate, "access.denied", lane, direction, more, attempt, reason, carrier)
            return
        cell = (int(at) // 900, gate_name(gate), lane, carrier)
        self.latencies[*cell, "ours", bucket_of(round(ours, 1))] += 1
        self.latencies[*cell, "total", bucket_of(round(total, 1))] += 1
        yield self._row(at, gate, "access.granted", lane, direction, decided, attempt, carrier=carrier)
        yield self._row(at + 0.1, gate, "lane.opened", lane, direction, joined, attempt)
        if random.random() < PASS:
            yield self._row(at + 1.9, gate, "passage.completed", lane, direction, joined, attempt)
        else:
            kind = "passage.not_taken" if random.random() < 0.98 else "passage.unknown"
            yield self._row(at + 5, gate, kind, lane, direction, f'{joined},"why":"timeout"', attempt)

    def _machine(self, at: float) -> Iterator[_Row]:
        """Every minute a few gates have something of their own to tell."""
        for _ in range(2):
            gate = self._random.randrange(self.size.gates)
            kind = "journal.checkpoint" if self._random.random() < 0.8 else "trust.applied"
            yield self._row(at, gate, kind, "", "", '"what":"status"')

    def _row(
        self,
        at: float,
        gate: int,
        kind: str,
        lane: str,
        direction: str,
        data: str,
        attempt: str | None = None,
        reason: str | None = None,
        carrier: str | None = None,
    ) -> _Row:
        second = int(at)
        if second != self._second:
            self._second, self._quarter = second, second // 900
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        time = f"{self._prefix}.{int((at - second) * 1000):03}Z"
        self.arrival += 1
        seq = self.seqs[gate] = self.seqs[gate] + 1
        name = gate_name(gate)
        raw = (
            f'{{"specversion":"1.0","id":"{name}/{EPOCH}/{seq}","source":"/{SITE}/{name}","type":"gwanmun.{kind}",'
            f'"time":"{time}","datacontenttype":"application/json","prevhash":"{PREVIOUS}","data":{{"v":2,"boot":"{BOOT}",'
            f'"mono":{second % 10_000_000},{data}}}}}'
        )
        words = (lane, direction, kind, reason or "", carrier or "")
        self.quarters[self._quarter, name, *words] += 1
        self.days[self._day, name, *words] += 1
        return (
            self.arrival, name, EPOCH, seq, time, kind, lane or None, attempt, reason, carrier, raw.encode()
        )  # fmt: skip


def build(path: Path, size: Size | None = None) -> int:
    """Make the database, indexes last. Gives the number of events."""
    Store(path, ZONE).close()
    month = Month(size or Size())
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -1000000")
        indexes = [
            (name, sql)
            for name, sql in db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        ]
        for name, _ in indexes:
            db.execute(f"DROP INDEX {name}")
        db.execute("BEGIN")
        pending: list[_Row] = []
        for row in month.rows():
            pending.append(row)
            if len(pending) == BATCH:
                db.executemany("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?)", pending)
                pending.clear()
                _counts(db, month)
        db.executemany("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?)", pending)
        _counts(db, month)
        _rest(db, month)
        db.execute("COMMIT")
        for _, sql in indexes:
            db.execute(sql)
        db.execute("ANALYZE")
        db.execute("PRAGMA journal_mode = WAL")
    finally:
        db.close()
    return month.arrival


def _counts(db: sqlite3.Connection, month: Month) -> None:
    """What has been counted since the last time."""
    counted: tuple[tuple[str, Counter[Any], int], ...] = (
        ("quarters", month.quarters, 8),
        ("days", month.days, 8),
        ("latencies", month.latencies, 7),
    )
    for table, counts, columns in counted:
        db.executemany(
            f"INSERT INTO {table} VALUES ({','.join('?' * columns)}) ON CONFLICT DO UPDATE SET n = n + excluded.n",  # noqa: S608
            ((*key, n) for key, n in sorted(counts.items())),
        )
        counts.clear()
    db.execute("UPDATE rolled SET arrival = ?", [month.arrival])


def _rest(db: sqlite3.Connection, month: Month) -> None:
    """Gates, orders and alarms."""
    random = Random(2)  # noqa: S311
    begin = datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day, tzinfo=ZONE) - timedelta(days=month.size.days)

    def moment(number: int, of: int) -> str:
        at = begin + (timedelta(days=month.size.days) / of) * number
        return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    for number, seq in enumerate(month.seqs):
        name = gate_name(number)
        db.execute("INSERT INTO chains VALUES (?,?,?,?,0,NULL)", (name, EPOCH, seq, PREVIOUS))
        online = random.random() < 0.98
        db.execute("INSERT INTO gates VALUES (?,?,?,?,?)", (name, EPOCH, BOOT, online, moment(1, 1)))
    orders, alarms = 5000, 10_000
    for number in range(orders):
        db.execute(
            "INSERT INTO orders VALUES (?,?,?,?,'open_once','{\"reason\":\"visitor\"}','desk','guard',NULL,NULL,'done','{}',?)",
            (
                f"{random.getrandbits(64):016x}",
                moment(number, orders),
                gate_name(number % month.size.gates),
                "l1-in",
                "",
            ),
        )
    for number in range(1, alarms + 1):
        time, gate = moment(number, alarms), gate_name(random.randrange(month.size.gates))
        cleared = None if number > alarms - 20 else time
        db.execute(
            "INSERT INTO alarm_states (id, gate, lane, kind, detail, severity, epoch, seq, count, raised, last, occurred, level, "
            "cleared, closed) VALUES (?,?,'l1-in','alarm.held',?,'major',?,?,1,?,?,?,0,?,?)",
            (number, gate, str(number), EPOCH, number, time, time, time, cleared, cleared),
        )
        for change in ("raised", "acknowledged", "cleared"):
            db.execute(
                "INSERT INTO alarm_changes (alarm, time, change, body) VALUES (?,?,?,'{}')", (number, time, change)
            )
