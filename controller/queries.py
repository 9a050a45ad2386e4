"""The building's past, as pages and reports ask for it. Read only, every answer bounded, one moment each.

docs/queries.md says who may ask what. Times are aware datetimes; rows carry RFC 3339 texts, UTC.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from contextlib import suppress
from dataclasses import fields
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from controller.alarm_rows import AlarmRow
from controller.batch import GateRow
from controller.counted import Counted
from controller.occupancy import Occupancy, Seen, Settings
from controller.orders import ORDER_COLUMNS, OrderRow, order_row
from controller.query_rows import (
    BadQueryError,
    Cell,
    ChangeRow,
    Cursor,
    EventRow,
    Muster,
    Page,
    Percentiles,
    QueryError,
    Refusals,
    TooOldError,
    ZoneCount,
)
from controller.reader import LONGEST_S, QueryThread, Reader
from controller.reading import Reading
from controller.reports import Report
from controller.timelines import MAX_LIMIT, MAX_TIE, timeline
from protocol.clock import Clock, SystemClock

DETAIL_DAYS = 7
LONGEST_READ = timedelta(days=1)
"""Of exact times of passages in one read, which is what its reason stands for."""
MAX_CHANGES = 500
WARM_DAYS = 31
STATES = ("open", "raised", "acknowledged", "cleared", "closed")
"""Of alarms (docs/alarms.md); `open`: all but closed."""


class Queries:
    """All calls come from one thread at a time (controller.reader.QueryThread)."""

    def __init__(
        self,
        path: Path,
        time_zone: ZoneInfo,
        *,
        k: int,
        clock: Clock | None = None,
        detail_days: int = DETAIL_DAYS,
        occupancy: Settings | None = None,
        longest_s: float = LONGEST_S,
    ) -> None:
        """Raises sqlite3.Error, also where no store has made the database. Each method may raise QueryError or sqlite3.Error."""
        self._clock = clock or SystemClock()
        self._detail = timedelta(days=detail_days)
        self._reader = Reader(path, self._clock, longest_s)
        self._reading = Reading(self._reader.connection)
        self._k, self._zone = k, time_zone
        self._counted = Counted(self._reader, time_zone, k)
        self._occupancy = Occupancy(self._reader, self._reading, time_zone, occupancy or Settings())

    def close(self) -> None:
        self._reader.close()

    def gates(self) -> list[GateRow]:
        """Every gate as it was heard last."""
        with self._reader.moment():
            return self._reading.gates()

    def timeline(
        self,
        since: datetime,
        until: datetime,
        *,
        gate: str | None = None,
        lane: str | None = None,
        kinds: Collection[str] | None = None,
        after: Cursor | None = None,
        limit: int = 100,
    ) -> Page[EventRow]:
        """Newest first, never of the kinds that tell when somebody walked (protocol.events.TIMED)."""
        _range(since, until)
        with self._reader.moment():
            return timeline(
                self._reader, since, until, gate=gate, lane=lane, kinds=kinds, after=after, limit=limit, whole=False
            )

    def timed(
        self,
        since: datetime,
        until: datetime,
        *,
        gate: str | None = None,
        lane: str | None = None,
        kinds: Collection[str] | None = None,
        after: Cursor | None = None,
        limit: int = 100,
    ) -> Page[EventRow]:
        """Every kind, at most a day. Only for an officer, whose read is written down first: `check_timed`, then Reads.log of
        controller.reads in the store's thread, then this."""
        self.check_timed(since, until, limit)
        with self._reader.moment():
            return timeline(
                self._reader,
                max(since, self._clock.now() - self._detail),
                until,
                gate=gate,
                lane=lane,
                kinds=kinds,
                after=after,
                limit=limit,
                whole=True,
            )

    def check_timed(self, since: datetime, until: datetime, limit: int) -> None:
        """Whether `timed` may be asked this; touches no database. Raises QueryError."""
        _range(since, until)
        _limit(limit)
        if until - since > LONGEST_READ:
            raise BadQueryError("기간: 하루까지입니다", "at most one day is expected")
        if until <= self._clock.now() - self._detail:
            raise TooOldError(
                f"정확한 시각은 {self._detail.days}일만 보관합니다",
                f"exact times are kept for {self._detail.days} days only",
            )

    def traffic(
        self,
        since: datetime,
        until: datetime,
        *,
        gate: str | None = None,
        lane: str | None = None,
        step: Literal["quarter", "day"],
    ) -> list[Cell]:
        """Completed passages, suppressed below k, of quarters or days that are over and lie in `since` to `until`."""
        _range(since, until)
        with self._reader.moment():
            return self._counted.traffic(since, until, gate=gate, lane=lane, step=step)

    def report(
        self, since: datetime, until: datetime, *, gate: str | None = None, step: Literal["quarter", "day"]
    ) -> Report:
        """The same by lane, of one gate or of all, for a file (controller.reports)."""
        _range(since, until)
        with self._reader.moment():
            cells = self._counted.by_lane(since, until, gate=gate, step=step)
            grid = self._counted.grid(since, until, step)
        return Report.of(cells, grid, step=step, k=self._k, time_zone=self._zone)

    def latency(
        self,
        since: datetime,
        until: datetime,
        *,
        gate: str | None = None,
        lane: str | None = None,
        carrier: str | None = None,
        stage: str = "ours",
    ) -> Percentiles:
        """Milliseconds of `lat_ms`, each off by ten per cent at most."""
        _range(since, until)
        with self._reader.moment():
            return self._counted.latency(since, until, gate=gate, lane=lane, carrier=carrier, stage=stage)

    def warm(self, back: int) -> None:
        """Read the day so many days ago as pages of the whole building will, so that none of them has to wait for it; 0: what a
        muster wants."""
        until = self._clock.now() - timedelta(days=back - 1)
        if back == 0:
            self.muster(self._clock.now())
            return
        with self._reader.moment():
            self._counted.traffic(until - timedelta(days=2), until, gate=None, lane=None, step="day")
            self._counted.latency(until - timedelta(days=1), until, gate=None, lane=None, carrier=None, stage="ours")

    def refusals(self, since: datetime, until: datetime, *, gate: str | None = None) -> list[Refusals]:
        """How often each reason, the most frequent first."""
        _range(since, until)
        with self._reader.moment():
            return self._counted.refusals(since, until, gate=gate)

    def occupancy(self, now: datetime, seen: Seen | None = None) -> list[ZoneCount]:
        """How many are in each zone of the rules."""
        return list(self.muster(now, seen).zones)

    def muster(self, now: datetime, seen: Seen | None = None) -> Muster:
        """The same for a fire warden, with what is not known. `seen`: controller.occupancy.seen, of the live picture."""
        with self._reader.moment():
            return self._occupancy.muster(now, seen or Seen())

    def orders(self, after: Cursor | None = None, limit: int = 100) -> Page[OrderRow]:
        """Orders to gates, newest first."""
        _limit(limit)
        skip = 0 if after is None or after.tie >= MAX_TIE else after.tie
        until = "" if after is None else f"WHERE time {'<=' if after.tie < MAX_TIE else '<'} ?"
        values = () if after is None else (after.time,)
        with self._reader.moment():
            rows = self._reader.rows(
                f"SELECT {ORDER_COLUMNS} FROM orders {until} ORDER BY time DESC, id LIMIT ?",  # noqa: S608  ours
                (*values, limit + skip + 1),
            )
        if after is not None:
            rows = rows[sum(1 for row in rows[:skip] if row[1] == after.time) :]
        found = [order_row(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return Page(found, None)
        last = found[-1].time
        tie = sum(1 for each in found if each.time == last)
        tie += after.tie if after is not None and after.time == last else 0
        return Page(found, Cursor(last, min(tie, MAX_TIE)))

    def alarms(
        self,
        *,
        state: str | None = None,
        gate: str | None = None,
        after: Cursor | None = None,
        limit: int = 100,
    ) -> Page[AlarmRow]:
        """Alarms by the order in which they were raised, newest first. `state`: one of STATES."""
        _limit(limit)
        conditions, values = ["id < ?"], [2**62 if after is None else after.tie]
        if state is not None:
            if state not in _STATE:
                raise BadQueryError(
                    f"state: {', '.join(STATES)} 중 하나여야 합니다", f"state: one of {', '.join(STATES)} is expected"
                )
            conditions.append(_STATE[state])
        with self._reader.moment():
            rows = self._reader.rows(
                f"SELECT {_ALARM} FROM alarm_states WHERE {' AND '.join(conditions)} AND gate = coalesce(?, gate) "  # noqa: S608
                "ORDER BY id DESC LIMIT ?",
                (*values, gate, limit + 1),
            )
        found = [AlarmRow(*row) for row in rows[:limit]]
        return Page(found, Cursor(found[-1].raised, found[-1].id) if len(rows) > limit else None)

    def alarm_history(self, alarm: int) -> list[ChangeRow]:
        """What became of one alarm, oldest first; the newest MAX_CHANGES changes."""
        with self._reader.moment():
            rows = self._reader.rows(
                "SELECT id, alarm, time, change, body FROM alarm_changes WHERE alarm = ? ORDER BY id DESC LIMIT ?",
                (alarm, MAX_CHANGES),
            )
        return [ChangeRow(each, of, time, change, json.loads(body)) for each, of, time, change, body in reversed(rows)]


async def warm(thread: QueryThread, queries: Queries, days: int = WARM_DAYS) -> None:
    """After the start: day by day, so that questions come in between."""
    for back in range(days + 1):
        with suppress(QueryError, sqlite3.Error):
            await thread.call(partial(queries.warm, back))


_ALARM = ", ".join(each.name for each in fields(AlarmRow))
_STATE = {
    "open": "closed IS NULL",
    "raised": "closed IS NULL AND cleared IS NULL AND acknowledged IS NULL",
    "acknowledged": "closed IS NULL AND cleared IS NULL AND acknowledged IS NOT NULL",
    "cleared": "closed IS NULL AND cleared IS NOT NULL",
    "closed": "closed IS NOT NULL",
}


def _range(since: datetime, until: datetime) -> None:
    if since.tzinfo is None or until.tzinfo is None or not since < until:
        raise BadQueryError("기간: 시작이 끝보다 앞서야 합니다", "a beginning before the end is expected")


def _limit(limit: int) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise BadQueryError(
            f"limit: 1에서 {MAX_LIMIT} 사이여야 합니다", f"limit: a number from 1 to {MAX_LIMIT} is expected"
        )
