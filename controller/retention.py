"""What is removed, and when: each class of records after its own number of days, counted by then, and never ahead of a hole.

A run goes in small steps, each a transaction with its proof (controller.deletions). Afterwards nothing of what was removed is
left in the files (controller.erasure). docs/store.md has the classes and what counts as a record's age.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from sqlite_utils import Database

from controller.deletions import Run, row_hash
from controller.rollups import QUARTER_S
from protocol import events
from protocol.clock import rfc3339
from protocol.events import TIMED, Kind

ROWS = 500
"""Removed in one transaction at most: some 20 ms of the store's thread."""
MAX_KINDS = 1000
ALWAYS = "~"
"""Behind every time."""


class Kept(StrEnum):
    """Classes of records."""

    DETAIL = "detail"
    REFUSALS = "refusals"
    ALARMS = "alarms"
    OPERATORS = "operators"
    STATE = "state"


_ALARMS = ("alarm.", "fire.", "lockdown.", "power.")
_OPERATORS = ("command.",)
CLASSES: Mapping[Kept, frozenset[Kind]] = {
    Kept.DETAIL: TIMED,
    Kept.REFUSALS: frozenset({Kind.ACCESS_DENIED, Kind.ACCESS_UNREADABLE}),
    Kept.ALARMS: frozenset(kind for kind in Kind if kind.startswith(_ALARMS)),
    Kept.OPERATORS: frozenset(kind for kind in Kind if kind.startswith(_OPERATORS)) | {Kind.ANTIPASSBACK_FORGIVEN},
    Kept.STATE: frozenset(
        {
            Kind.GATE_BOOT,
            Kind.GATE_STOPPED,
            Kind.LANE_FAULT,
            Kind.DOOR_MODE,
            Kind.SENSOR_FAULT,
            Kind.SENSOR_RESTORED,
            Kind.CLOCK_CHANGED,
            Kind.DEVICE_DEGRADED,
            Kind.DEVICE_RESTORED,
            Kind.TRUST_APPLIED,
            Kind.TRUST_REJECTED,
            Kind.LOG_GAP,
            Kind.JOURNAL_PRUNED,
        }
    ),
}
"""Every kind is in exactly one."""
_CLASS_OF: Mapping[str, Kept] = {str(kind): kept for kept, kinds in CLASSES.items() for kind in kinds}


def class_of(kind: str) -> Kept:
    """Of a kind that this version does not know nobody can say whether it tells of somebody's walk: it is kept the shortest."""
    return _CLASS_OF.get(kind) or (Kept.ALARMS if kind.startswith(_ALARMS) else Kept.DETAIL)


@dataclass(frozen=True, slots=True)
class Retention:
    """`[retention]`: days that each class is kept, 1 to 3650."""

    detail_days: int = 7
    refusals_days: int = 90
    alarms_days: int = 365
    operators_days: int = 730
    state_days: int = 90
    quarters_days: int = 400
    totals_days: int = 3650

    def days(self, kept: Kept) -> timedelta:
        return timedelta(
            days={
                Kept.DETAIL: self.detail_days,
                Kept.REFUSALS: self.refusals_days,
                Kept.ALARMS: self.alarms_days,
                Kept.OPERATORS: self.operators_days,
                Kept.STATE: self.state_days,
            }[kept]
        )


_DUE = """
    SELECT e.time, e.arrival, e.raw FROM events e CROSS JOIN chains c ON c.gate = e.gate AND c.epoch = e.epoch
    WHERE e.kind = ? AND e.time >= ? AND e.time < ? AND e.seq <= c.mark AND e.arrival <= (SELECT arrival FROM rolled)
        AND NOT EXISTS (SELECT 1 FROM misdated m WHERE m.arrival = e.arrival)
    ORDER BY e.time LIMIT ?
"""
_DUE_MISDATED = """
    SELECT m.time, e.arrival, e.raw FROM misdated m CROSS JOIN events e ON e.arrival = m.arrival
        CROSS JOIN chains c ON c.gate = e.gate AND c.epoch = e.epoch
    WHERE m.kind = ? AND m.time >= ? AND m.time < ? AND e.seq <= c.mark
    ORDER BY m.time LIMIT ?
"""
_KINDS = """
    WITH RECURSIVE present(kind) AS (
        SELECT min(kind) FROM events
        UNION ALL
        SELECT (SELECT min(kind) FROM events WHERE kind > present.kind) FROM present WHERE present.kind IS NOT NULL
    ) SELECT kind FROM present WHERE kind IS NOT NULL LIMIT ?
"""
"""Each kind once, by one look into the index each."""


class Removal:
    """Every step belongs to the store's thread and may raise sqlite3.Error, with nothing changed by that step."""

    def __init__(self, db: Database, settings: Retention, time_zone: ZoneInfo) -> None:
        self._db, self._settings, self._zone = db, settings, time_zone

    def run(self, now: datetime, written: Callable[[], datetime]) -> Iterator[tuple[str, int]]:
        """One transaction a step: yields what was removed (a class or a table) and how many rows, where there were any.

        `now` is what controller.site_time believes, `written` the controller's clock, for the proof."""
        with self._db.atomic():
            # Noted by a clock that was ahead: no later than now.
            self._db.execute("UPDATE misdated SET time = ? WHERE time > ?", [rfc3339(now), rfc3339(now)])
        kinds = self._kinds()
        for kept in Kept:
            before = self._before(kept, now)
            proof = Run(self._db, kept, before)
            for kind in kinds:
                if class_of(kind) is kept:
                    yield from self._records(kind, before, proof, written)
        yield from self._tables(now, written)

    def all_detail(self, now: datetime) -> Iterator[tuple[str, int]]:
        """For a backup without it: every record of the class, and what nobody can look into, whatever its age."""
        proof = Run(self._db, Kept.DETAIL, rfc3339(now))
        for kind in self._kinds():
            if class_of(kind) is Kept.DETAIL:
                yield from self._records(kind, ALWAYS, proof, lambda: now)
        yield from self._rows("poison", "topic, reason, digest", "last < ?", (ALWAYS,), rfc3339(now), lambda: now)

    def detail(self) -> int:
        """Records that tell when somebody walked."""
        count = "SELECT count(*) FROM events WHERE kind = ?"
        return sum(
            self._db.execute(count, [kind]).fetchone()[0] for kind in self._kinds() if class_of(kind) is Kept.DETAIL
        )

    def _before(self, kept: Kept, now: datetime) -> str:
        """By the site's whole days: else the proofs would tell for ever in which hour of a quiet night somebody passed."""
        today = datetime.combine(now.astimezone(self._zone).date(), time(), self._zone)
        return rfc3339(today - self._settings.days(kept))

    def _kinds(self) -> list[str]:
        return [kind for (kind,) in self._db.execute(_KINDS, [MAX_KINDS]).fetchall()]

    def overdue(self, now: datetime) -> int:
        """Records that are kept beyond their time, because they lie behind a hole or a break that nobody has explained."""
        found = 0
        for kind in self._kinds():
            found += self._db.execute(
                "SELECT count(*) FROM events e WHERE kind = ? AND time < ? "
                "AND NOT EXISTS (SELECT 1 FROM misdated m WHERE m.arrival = e.arrival)",
                [kind, self._before(class_of(kind), now)],
            ).fetchone()[0]
        return found

    def _records(
        self, kind: str, before: str, proof: Run, written: Callable[[], datetime]
    ) -> Iterator[tuple[str, int]]:
        for due in (_DUE, _DUE_MISDATED):
            after = ""
            while True:
                with self._db.atomic():
                    rows = self._db.execute(due, [kind, after, before, ROWS]).fetchall()
                    if not rows:
                        break
                    arrivals = [(arrival,) for _, arrival, _ in rows]
                    self._db.conn.executemany("DELETE FROM events WHERE arrival = ?", arrivals)
                    self._db.conn.executemany("DELETE FROM misdated WHERE arrival = ?", arrivals)
                    proof.add([bytes.fromhex(events.record_hash(raw)) for *_, raw in rows], written())
                after = rows[-1][0]
                yield kind, len(rows)

    def _tables(self, now: datetime, written: Callable[[], datetime]) -> Iterator[tuple[str, int]]:
        settings = self._settings

        def ago(days: int) -> tuple[str, str]:
            """Older than the first goes; and newer than the second, which a clock has written that was ahead."""
            return rfc3339(now - timedelta(days=days)), rfc3339(now + timedelta(days=days))

        old, new = ago(settings.detail_days)
        yield from self._rows("poison", "topic, reason, digest", "last < ? OR last > ?", (old, new), old, written)
        old, new = ago(settings.operators_days)
        yield from self._rows("orders", "id", "time < ? OR time > ?", (old, new), old, written)
        left = "SELECT min(number) FROM reads WHERE time BETWEEN ? AND ?"
        yield from self._rows(
            "reads", "number", f"number < coalesce(({left}), 1 << 62)", (old, new), old, written, chained=True
        )
        old, new = ago(settings.alarms_days)
        closed = "SELECT id FROM alarm_states WHERE closed < ? OR closed > ?"
        yield from self._rows(
            "alarm_changes",
            "id",
            f"alarm IN ({closed})",
            (old, new),
            old,
            written,
        )
        yield from self._rows(
            "alarm_states",
            "id",
            "(closed < ? OR closed > ?) AND NOT EXISTS (SELECT 1 FROM alarm_changes WHERE alarm = alarm_states.id)",
            (old, new),
            old,
            written,
        )
        today = now.astimezone(self._zone).date()
        # By whole days, so that there is one proof a day.
        first = today - timedelta(days=settings.quarters_days)
        begin = int(datetime.combine(first, time(), self._zone).timestamp())
        end = begin + 2 * settings.quarters_days * 86400
        for table, key in (
            ("quarters", "quarter, gate, lane, dir, kind, reason, carrier"),
            ("latencies", "quarter, gate, lane, carrier, stage, bucket"),
        ):
            bounds = (begin // QUARTER_S, end // QUARTER_S)
            told = rfc3339(datetime.fromtimestamp(begin, UTC))
            # One side after the other: of both at once SQLite would read the whole table.
            for due, bound in zip(("quarter < ?", "quarter > ?"), bounds, strict=True):
                yield from self._rows(table, key, due, (bound,), told, written)
        days = timedelta(days=settings.totals_days)
        old, new = (today - days).isoformat(), (today + days).isoformat()
        key = "day, gate, lane, dir, kind, reason, carrier"
        for name, names in (("days", key), ("counts", "day, name")):
            for due, day in (("day > '' AND day < ?", old), ("day > ?", new)):
                yield from self._rows(name, names, due, (day,), old, written)

    def _rows(
        self,
        table: str,
        key: str,
        due: str,
        bounds: tuple[Any, ...],
        before: str,
        written: Callable[[], datetime],
        *,
        chained: bool = False,
    ) -> Iterator[tuple[str, int]]:
        """Rows that are no records. `key`: columns that name one."""
        proof = Run(self._db, table, before)
        names = key.split(", ")
        while True:
            with self._db.atomic():
                rows = self._db.execute(
                    f"SELECT * FROM {table} WHERE {due} ORDER BY {key} LIMIT ?",  # noqa: S608  constants of this module
                    [*bounds, ROWS],
                )
                columns = [column[0] for column in rows.description]
                found = rows.fetchall()
                if not found:
                    return
                at = [columns.index(name) for name in names]
                self._db.conn.executemany(
                    f"DELETE FROM {table} WHERE {' AND '.join(f'{name} = ?' for name in names)}",  # noqa: S608  as above
                    [[row[place] for place in at] for row in found],
                )
                last = columns.index("hash") if chained else 0
                hashes = [bytes.fromhex(row[last]) if chained else row_hash(row) for row in found]
                proof.add(hashes, written(), chained=chained)
            yield table, len(found)
