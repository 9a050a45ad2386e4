"""What was ordered, by whom, and how it ended; and the emergency state in force. In the controller's database.

An order is written before it is sent, so that none that a gate carried out is missing here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from protocol.clock import rfc3339
from protocol.command import Operator

EMERGENCY_KEPT = 1
"""Key of the only row."""


@dataclass(frozen=True, slots=True)
class OrderRow:
    id: str
    time: str
    gate: str
    lane: str
    verb: str
    args: Mapping[str, Any]
    operator: Operator
    second: Operator | None
    outcome: str | None
    """None: sent, and the controller ended before it was answered."""
    answer: Mapping[str, Any] | None


ORDER_COLUMNS = "id, time, gate, lane, verb, args, operator, role, second, second_role, outcome, answer"


def order_row(row: Sequence[Any]) -> OrderRow:
    """Of ORDER_COLUMNS."""
    return OrderRow(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        json.loads(row[5]),
        Operator(row[6], row[7]),
        None if row[8] is None else Operator(row[8], row[9]),
        row[10],
        None if row[11] is None else json.loads(row[11]),
    )


class Orders:
    """Every method belongs to the store's thread and may raise sqlite3.Error."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def begin(
        self,
        order_id: str,
        gate: str,
        lane: str,
        verb: str,
        args: Mapping[str, Any],
        operator: Operator,
        second: Operator | None,
        now: datetime,
    ) -> None:
        with self._db.atomic():
            self._db.execute(
                "INSERT INTO orders (id, time, gate, lane, verb, args, operator, role, second, second_role) "
                "VALUES (?,?,?,?,?,?,?,?,?,?)",
                (
                    order_id,
                    rfc3339(now),
                    gate,
                    lane,
                    verb,
                    json.dumps(dict(args), ensure_ascii=False),
                    operator.name,
                    operator.role,
                    second and second.name,
                    second and second.role,
                ),
            )

    def end(self, order_id: str, outcome: str, answer: Mapping[str, Any], now: datetime) -> None:
        with self._db.atomic():
            self._db.execute(
                "UPDATE orders SET outcome = ?, answer = ?, answered = ? WHERE id = ?",
                (outcome, json.dumps(dict(answer)), rfc3339(now), order_id),
            )

    def recent(self, limit: int) -> list[OrderRow]:
        """The newest first."""
        rows = self._db.execute(f"SELECT {ORDER_COLUMNS} FROM orders ORDER BY time DESC, id LIMIT ?", [limit])  # noqa: S608  ours
        return [order_row(row) for row in rows]

    def emergency(self) -> tuple[int, dict[str, int]]:
        """Sequence and levels by zone; 0 where none was ever ordered."""
        row = self._db.execute("SELECT sequence, levels FROM emergency WHERE one = ?", [EMERGENCY_KEPT]).fetchone()
        return (0, {}) if row is None else (row[0], json.loads(row[1]))

    def set_emergency(self, sequence: int, levels: Mapping[str, int]) -> None:
        with self._db.atomic():
            self._db.execute(
                "INSERT OR REPLACE INTO emergency VALUES (?,?,?)",
                (EMERGENCY_KEPT, sequence, json.dumps(dict(sorted(levels.items())))),
            )
