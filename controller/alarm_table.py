"""Alarms in the controller's database: open ones, changes, and the places of the records that raised and ended them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields

from controller.alarm_rows import AlarmChange, AlarmRow, Key
from controller.alarms import Mark, Marks
from protocol import events
from protocol.events import Event

_COLUMNS = tuple(each.name for each in fields(AlarmRow))
_NAMES = ", ".join(_COLUMNS)
_PUT = f"INSERT OR REPLACE INTO alarm_states ({_NAMES}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608  of ours
_OPEN = f"SELECT {_NAMES} FROM alarm_states WHERE closed IS NULL"  # noqa: S608  as above
_ONE = f"SELECT {_NAMES} FROM alarm_states WHERE id = ?"  # noqa: S608  as above


class AlarmTable:
    """Every method belongs to the store's thread and may raise sqlite3.Error; who calls it has the transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def open_rows(self) -> dict[Key, AlarmRow]:
        found = (AlarmRow(*row) for row in self._connection.execute(_OPEN))
        return {row.key: row for row in found}

    def row(self, alarm: int) -> AlarmRow | None:
        row = self._connection.execute(_ONE, [alarm]).fetchone()
        return None if row is None else AlarmRow(*row)

    def marks(self) -> dict[Key, Marks]:
        found: dict[Key, dict[str, Mark]] = {}
        for gate, lane, kind, detail, epoch, raised, cleared in self._connection.execute("SELECT * FROM alarm_marks"):
            found.setdefault((gate, lane, kind, detail), {})[epoch] = Mark(raised, cleared)
        return dict(found)

    def last_ids(self) -> tuple[int, int]:
        """Highest id that was ever given to an alarm, and to a change: none is given twice, whatever was removed since."""
        found = dict(self._connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
        return found.get("alarm_states", 0), found.get("alarm_changes", 0)

    def newest_time(self) -> str | None:
        """The newest moment that anything here tells of."""
        row = self._connection.execute(
            "SELECT max(t) FROM (SELECT max(last_seen) AS t FROM gates UNION ALL "
            "SELECT max(last) FROM alarm_states WHERE closed IS NULL UNION ALL "
            "SELECT time FROM (SELECT time FROM alarm_changes ORDER BY id DESC LIMIT 1))"
        ).fetchone()
        return None if row[0] is None else str(row[0])

    def write(
        self, rows: Iterable[AlarmRow], changes: Sequence[AlarmChange], marks: Mapping[Key, Marks | None]
    ) -> None:
        self._connection.executemany(_PUT, [astuple(row) for row in rows])
        self._connection.executemany(
            "INSERT INTO alarm_changes (id, alarm, time, change, body) VALUES (?,?,?,?,?)",
            [(each.id, each.alarm, each.time, each.change, each.body) for each in changes],
        )
        self._connection.executemany(
            "DELETE FROM alarm_marks WHERE gate = ? AND lane = ? AND kind = ? AND detail = ?", list(marks)
        )
        self._connection.executemany(
            "INSERT INTO alarm_marks VALUES (?,?,?,?,?,?,?)",
            [
                (*key, epoch, mark.raised, mark.cleared)
                for key, of in marks.items()
                for epoch, mark in (of or {}).items()
            ],
        )

    def held(self, gate: str, epoch: str, first: int, last: int) -> bool:
        """Whether every record of the range is there."""
        row = self._connection.execute(
            "SELECT count(*) FROM events WHERE gate = ? AND epoch = ? AND seq BETWEEN ? AND ?",
            (gate, epoch, first, last),
        ).fetchone()
        return int(row[0]) == last - first + 1

    def event(self, gate: str, epoch: str, seq: int) -> Event | None:
        row = self._connection.execute(
            "SELECT raw FROM events WHERE gate = ? AND epoch = ? AND seq = ?", (gate, epoch, seq)
        ).fetchone()
        return None if row is None else events.parse(row[0])

    def who_ordered(self, order_id: str) -> tuple[str, str] | None:
        """Name and role of the operator who gave an order."""
        row = self._connection.execute("SELECT operator, role FROM orders WHERE id = ?", [order_id]).fetchone()
        return None if row is None else (row[0], row[1])
