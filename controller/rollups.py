"""What outlives the records: counts by quarter of an hour and by day, and how long decisions took.

Each record is counted exactly once, in the transaction that moves `rolled.arrival` past it. A late record is counted in the
quarter and on the day that it names itself. SQLite does the reading of JSON and the grouping, outside of Python's lock.
docs/store.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlite_utils import Database

from controller.histogram import bucket_of
from controller.site_time import Window
from protocol.clock import rfc3339

QUARTER_S = 900
ROWS = 500
"""Counted in one transaction at most: some 20 ms of the store's thread."""
MAX_DAYS = 4096
"""Quarters of which the day is remembered."""
OURS, TOTAL = "ours", "total"
"""Stages of `latencies`: the gate's own part, and the time since detection, both until the decision to let somebody in."""

_TEXT = "CAST(raw AS TEXT)"
# Python's reader of JSON takes what SQLite's does not (NaN): such a record counts without what is inside.
_DIR = f"CASE WHEN json_valid({_TEXT}) THEN json_extract({_TEXT}, '$.data.dir') END"
_GROUPS = f"""
    SELECT CAST(strftime('%s', time) AS INTEGER) / {QUARTER_S} , gate, coalesce(lane, ''),
        CASE WHEN dir IN ('in', 'out') THEN dir ELSE '' END, kind, coalesce(reason, ''), coalesce(carrier, ''), count(*)
    FROM (SELECT time, gate, lane, kind, reason, carrier, {_DIR} AS dir FROM events WHERE arrival > ? AND arrival <= ?)
    GROUP BY 1, 2, 3, 4, 5, 6, 7
"""  # noqa: S608  constants of this module


def _number(path: str) -> str:
    """Only numbers leave SQLite: a text may hold what is no UTF-8 any more."""
    return f"CASE WHEN json_type({_TEXT}, '{path}') IN ('integer', 'real') THEN json_extract({_TEXT}, '{path}') END"


_TIMES = f"""
    SELECT CAST(strftime('%s', time) AS INTEGER) / {QUARTER_S}, gate, coalesce(lane, ''), coalesce(carrier, ''),
        {_number("$.data.lat_ms.ours")},
        coalesce({_number("$.data.lat_ms.total")}, {_number("$.data.lat_ms.decided")})
    FROM events WHERE arrival > ? AND arrival <= ? AND kind = 'access.granted' AND json_valid({_TEXT})
"""  # noqa: S608  as above


@dataclass(frozen=True, slots=True)
class Rolled:
    """One step."""

    rows: int
    heard: Mapping[str, str] = field(default_factory=dict)
    """By gate, the time that its newest record of the step names."""


class Rollups:
    """Every method belongs to the store's thread and may raise sqlite3.Error, with nothing changed."""

    def __init__(self, db: Database, time_zone: ZoneInfo) -> None:
        """`time_zone` is where a day begins."""
        self._db, self._zone = db, time_zone
        self._days: dict[int, str] = {}

    def step(self, window: Window, limit: int = ROWS) -> Rolled:
        """Count the next `limit` records at most. A record that names a time outside of `window` is noted as misdated."""
        with self._db.atomic():
            done = self.arrival
            last = self._one(
                "SELECT max(arrival) FROM (SELECT arrival FROM events WHERE arrival > ? ORDER BY arrival LIMIT ?)",
                done,
                limit,
            )
            if last is None:
                return Rolled(0)
            groups = self._db.execute(_GROUPS, [done, last]).fetchall()
            self._db.conn.executemany(
                "INSERT INTO quarters VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET n = n + excluded.n", groups
            )
            self._db.conn.executemany(
                "INSERT INTO days VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
                [(self._day(quarter), *rest) for quarter, *rest in groups],
            )
            self._db.conn.executemany(
                "INSERT INTO latencies VALUES (?,?,?,?,?,?,1) ON CONFLICT DO UPDATE SET n = n + 1",
                _latencies(self._db.execute(_TIMES, [done, last])),
            )
            self._db.execute(
                "INSERT INTO misdated SELECT arrival, kind, ? FROM events "
                "WHERE arrival > ? AND arrival <= ? AND NOT time BETWEEN ? AND ?",
                [rfc3339(window.instead), done, last, rfc3339(window.earliest), rfc3339(window.latest)],
            )
            heard = self._db.execute(
                "SELECT gate, time, max(arrival) FROM events WHERE arrival > ? AND arrival <= ? GROUP BY gate",
                [done, last],
            ).fetchall()
            self._db.execute("UPDATE rolled SET arrival = ?", [last])
        return Rolled(sum(group[-1] for group in groups), {gate: time for gate, time, _ in heard})

    @property
    def arrival(self) -> int:
        """Every record up to it is counted."""
        return int(self._one("SELECT arrival FROM rolled"))

    def _one(self, sql: str, *values: Any) -> Any:
        return self._db.execute(sql, values).fetchone()[0]

    def _day(self, quarter: int) -> str:
        """The site's own day: in no zone of our times a day begins within a quarter."""
        day = self._days.get(quarter)
        if day is None:
            if len(self._days) >= MAX_DAYS:
                self._days.clear()
            moment = datetime.fromtimestamp(quarter * QUARTER_S, UTC)
            day = self._days[quarter] = moment.astimezone(self._zone).date().isoformat()
        return day


def _latencies(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Of each row: quarter, gate, lane, carrier, `ours`, `total`."""
    return [
        (*row[:4], stage, bucket_of(value))
        for row in rows
        for stage, value in zip((OURS, TOTAL), row[4:], strict=True)
        if isinstance(value, int | float) and value >= 0
    ]
