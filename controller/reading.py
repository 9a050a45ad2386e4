"""What the controller's database is asked: the live page's picture, events in the order of arrival, marks, alarms, counts."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from controller.alarm_table import AlarmTable
from controller.batch import Alarm, GateRow, Picture, Stored, What
from controller.timelines import SHOWN
from protocol import events
from protocol.ack import Ack

LAST_RECORDS = 5000
"""Among these the last that may be shown are looked for."""
_SHOWN = ",".join(f"'{kind}'" for kind in sorted(SHOWN))


class Reading:
    """All calls come from the thread that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def acks(self) -> dict[str, Ack]:
        """The acknowledgement each gate should have, of the epoch it writes in."""
        rows = self._connection.execute(
            "SELECT c.gate, c.epoch, c.mark, c.hash FROM chains c JOIN gates g ON g.gate = c.gate AND g.epoch = c.epoch "
            "WHERE c.mark > 0"
        )
        return {gate: Ack(epoch, mark, digest) for gate, epoch, mark, digest in rows}

    def gates(self) -> list[GateRow]:
        rows = self._connection.execute(
            "SELECT g.gate, g.epoch, coalesce(c.mark, 0), coalesce(c.stopped, 0), g.boot, g.online, g.last_seen, "
            "(SELECT count(*) FROM alarm_states a WHERE a.gate = g.gate AND a.closed IS NULL) "
            "FROM gates g LEFT JOIN chains c ON c.gate = g.gate AND c.epoch = g.epoch ORDER BY g.gate"
        )
        return [
            GateRow(gate, epoch, mark, bool(stopped), boot, None if online is None else bool(online), seen, alarms)
            for gate, epoch, mark, stopped, boot, online, seen, alarms in rows
        ]

    def epochs(self, gate: str) -> list[tuple[str, int, str | None]]:
        """Storage epochs of a gate: name, mark, and the epoch before where the gate names it."""
        rows = self._connection.execute("SELECT epoch, mark, earlier FROM chains WHERE gate = ? ORDER BY epoch", [gate])
        return [(epoch, mark, earlier) for epoch, mark, earlier in rows]

    def gaps(self, gate: str) -> list[tuple[str, int, int, str]]:
        """What a gate has signed about records that did not come: epoch, first, last, `gap` or `pruned`."""
        rows = self._connection.execute(
            "SELECT epoch, first, last, why FROM gaps WHERE gate = ? ORDER BY epoch, last, first", [gate]
        )
        return [(epoch, first, last, why) for epoch, first, last, why in rows]

    def picture(self, today: str, last: int) -> Picture:
        set_aside = sum(self.counts("").values())
        alarms = sorted(AlarmTable(self._connection).open_rows().values(), key=lambda row: row.id)
        return Picture(self.gates(), self._last(last), self.counts(today), set_aside, alarms)

    def events(self, after: int, limit: int) -> list[Stored]:
        """Events in the order they arrived, from the first behind `after`."""
        return self._stored(
            "SELECT arrival, raw FROM events WHERE arrival > ? ORDER BY arrival LIMIT ?", (after, limit)
        )

    def _last(self, limit: int) -> list[Stored]:
        """The newest, oldest of them first, without those that tell when somebody walked: live views are not stored."""
        return self._stored(
            "SELECT arrival, raw FROM (SELECT arrival, kind, raw FROM events ORDER BY arrival DESC LIMIT ?) "  # noqa: S608  ours
            f"WHERE kind IN ({_SHOWN}) ORDER BY arrival DESC LIMIT ?",
            (LAST_RECORDS, limit),
        )[::-1]

    def counts(self, day: str) -> dict[str, int]:
        """Events of one day by name; day "" holds the messages set aside."""
        return dict(self._connection.execute("SELECT name, n FROM counts WHERE day = ?", [day]).fetchall())

    def poison(self) -> list[dict[str, Any]]:
        rows = self._connection.execute("SELECT * FROM poison ORDER BY first")
        names = [column[0] for column in rows.description]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def alarms(self) -> list[Alarm]:
        rows = self._connection.execute("SELECT gate, epoch, seq, what, time, why FROM alarms ORDER BY time")
        return [Alarm(gate, epoch, seq, What(what), time, why) for gate, epoch, seq, what, time, why in rows]

    def _stored(self, sql: str, parameters: tuple[int, ...]) -> list[Stored]:
        with closing(self._connection.execute(sql, parameters)) as rows:
            return [Stored(arrival, events.parse(raw)) for arrival, raw in rows]
