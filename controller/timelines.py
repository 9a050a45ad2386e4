"""Events newest first, a page at a time: of a lane, a gate, the building; of some kinds or all.

For each kind its own end of the index by kind and time is read, and the ends are merged: a rare kind among ten million others
costs no more than a common one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any

from controller.query_rows import BadQueryError, Cursor, EventRow, Page
from controller.reader import Reader
from protocol import events
from protocol.clock import rfc3339
from protocol.events import TIMED, Event, Kind

MAX_LIMIT = 500
MAX_TIE = 10_000
"""Events of one millisecond that are paged through; a gate that writes more under one time hides only its own."""
MAX_KINDS = 100
SHOWN = frozenset(Kind) - TIMED
"""What anybody who may see the building may see row by row. A kind that this program does not know is not among them."""
OPEN = f"kind NOT IN ({', '.join(repr(str(kind)) for kind in sorted(TIMED))})"
"""The condition of the index `events_open`, word by word: only so SQLite takes it."""
_FIELDS = frozenset(
    {
        "cause",
        "count",
        "degraded",
        "detail",
        "device",
        "level",
        "mode",
        "op",
        "cmd",
        "point",
        "quality",
        "sensor",
        "verb",
    }
    | {"version", "what", "why", "zone"}
)
"""Of `data`, for everybody. None holds a number of records or of people let in."""

_Key = tuple[str, int]
"""Time and arrival."""


def timeline(
    reader: Reader,
    since: datetime,
    until: datetime,
    *,
    gate: str | None,
    lane: str | None,
    kinds: Collection[str] | None,
    after: Cursor | None,
    limit: int,
    whole: bool,
) -> Page[EventRow]:
    """Events of `since` (included) to `until` (not). `whole`: of any kind and with every field, for an officer."""
    if not 1 <= limit <= MAX_LIMIT:
        raise BadQueryError(
            f"limit: 1에서 {MAX_LIMIT} 사이여야 합니다", f"limit: a number from 1 to {MAX_LIMIT} is expected"
        )
    if kinds is not None and len(kinds) > MAX_KINDS:
        raise BadQueryError(f"kinds: {MAX_KINDS}개까지입니다", f"kinds: at most {MAX_KINDS} are expected")
    present = [kind for (kind,) in reader.rows(_PRESENT)]
    wanted = [kind for kind in present if (kinds is None or kind in kinds) and (whole or kind in SHOWN)]
    skip = 0 if after is None or after.tie >= MAX_TIE else after.tie
    ends = [_end(reader, kind, since, until, gate, lane, after, limit + skip + 1) for kind in wanted]
    newest = merge(*ends, key=lambda each: (_Newest(each[0]), each[1]))
    rest = list(islice(newest, limit + skip + 1))
    if after is not None:
        rest = rest[sum(1 for time, _ in rest[:skip] if time == after.time) :]
    keys = rest[:limit]
    return Page(_fetch(reader, keys, whole=whole), _next(keys, after) if len(rest) > limit else None)


_PRESENT = """
    WITH RECURSIVE present(kind) AS (
        SELECT min(kind) FROM events
        UNION ALL
        SELECT (SELECT min(kind) FROM events WHERE kind > present.kind) FROM present WHERE present.kind IS NOT NULL
    ) SELECT kind FROM present WHERE kind IS NOT NULL LIMIT 1000
"""
"""Each kind once, a look into the index each."""


class _Newest(str):
    """Orders times from the newest."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


def _end(
    reader: Reader,
    kind: str,
    since: datetime,
    until: datetime,
    gate: str | None,
    lane: str | None,
    after: Cursor | None,
    most: int,
) -> list[_Key]:
    """The newest of one kind, from the cursor on; of one time, those that arrived first come first."""
    conditions, values = ["kind = ?", "time >= ?", "time < ?"], [kind, rfc3339(since), rfc3339(until)]
    index = "events_kind"
    if kind in SHOWN and gate is not None:
        index = "events_open"
        conditions.append(OPEN)
    if gate is not None:
        conditions.append("gate = ?")
        values.append(gate)
    if lane is not None:
        conditions.append("lane = ?")
        values.append(lane)
    if after is not None:
        conditions.append("time <= ?" if after.tie < MAX_TIE else "time < ?")
        values.append(after.time)
    where = " AND ".join(conditions)
    return reader.rows(
        f"SELECT time, arrival FROM events INDEXED BY {index} WHERE {where} ORDER BY time DESC, arrival LIMIT ?",  # noqa: S608
        (*values, most),
    )


def _next(keys: Sequence[_Key], after: Cursor | None) -> Cursor:
    last = keys[-1][0]
    tie = sum(1 for time, _ in keys if time == last)
    if after is not None and after.time == last:
        tie += after.tie
    return Cursor(last, min(tie, MAX_TIE))


def _fetch(reader: Reader, keys: Sequence[_Key], *, whole: bool) -> list[EventRow]:
    if not keys:
        return []
    marks = ",".join("?" * len(keys))
    raws = dict(reader.rows(f"SELECT arrival, raw FROM events WHERE arrival IN ({marks})", [each[1] for each in keys]))  # noqa: S608
    return [row(events.parse(raws[arrival]), time, whole=whole) for time, arrival in keys]


def row(event: Event, time: str, *, whole: bool) -> EventRow:
    """`time`: the instant that the event names, UTC."""
    data = event.data
    own = {"lane", "dir", "reason", "carrier", "attempt"}
    return EventRow(
        time=time,
        gate=event.gate,
        lane=_text(data.get("lane")),
        dir=_text(data.get("dir")),
        kind=str(event.kind),
        reason=_text(data.get("reason")),
        carrier=_text(data.get("carrier")),
        detail={name: value for name, value in data.items() if (name not in own if whole else name in _FIELDS)},
        id=event.id if whole else None,
        attempt=_text(data.get("attempt")) if whole else None,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
