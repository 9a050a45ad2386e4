"""How far each webhook has come in `alarm_changes`: the queue is that table, so that nothing has to be kept twice or can be lost.

A row is written after the receiver has taken a message. A controller killed in between sends it again, under the same id.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlite_utils import Database

from controller.alarm_kinds import WEBHOOK
from controller.webhook_message import ChangeRow
from controller.webhook_settings import MAX_WEBHOOKS
from protocol.clock import rfc3339

MAX_GIVEN_UP = 10_000
"""Rows of what was given up, of all webhooks; the oldest go."""


@dataclass(frozen=True, slots=True)
class Position:
    change: int
    """Every change up to it was taken, was not wanted, or was given up."""
    attempts: int = 0
    """Those that failed since the last that was taken."""
    due: str | None = None
    """Not before this; RFC 3339."""
    failing: str | None = None
    """When the first of them failed."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What an operator is shown of one webhook."""

    name: str
    waiting: int
    attempts: int
    failing: str | None
    why: str | None
    disabled: bool
    delivered: str | None
    given_up: int


def standings(connection: sqlite3.Connection) -> list[Standing]:
    """Of every webhook, on any connection. Raises sqlite3.Error."""
    rows = connection.execute(
        "SELECT name, (SELECT count(*) FROM alarm_changes WHERE id > webhooks.change), attempts, failing, why, disabled, "
        "delivered, (SELECT count(*) FROM webhooks_given_up AS g WHERE g.name = webhooks.name) FROM webhooks "
        "ORDER BY name LIMIT ?",
        [MAX_WEBHOOKS],
    )
    return [
        Standing(name, waiting, attempts, failing, why, bool(disabled), delivered, given_up)
        for name, waiting, attempts, failing, why, disabled, delivered, given_up in rows
    ]


class WebhookRows:
    """Every method belongs to the store's thread and may raise sqlite3.Error."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def begin(self, name: str) -> Position:
        """A new webhook begins behind the newest change; one that was disabled is tried again."""
        with self._db.atomic():
            newest = self._db.execute("SELECT coalesce(max(id), 0) FROM alarm_changes").fetchone()[0]
            self._db.execute(
                "INSERT INTO webhooks (name, change, attempts, disabled) VALUES (?,?,0,0) "
                # Beyond the newest: the changes were put back from a backup without this table.
                "ON CONFLICT (name) DO UPDATE SET disabled = 0, change = min(change, excluded.change)",
                (name, newest),
            )
            row = self._db.execute(
                "SELECT change, attempts, due, failing FROM webhooks WHERE name = ?", [name]
            ).fetchone()
        return Position(*row)

    def keep(self, names: Collection[str]) -> None:
        """Forget webhooks that are not configured any more: one that comes back begins anew."""
        with self._db.atomic():
            for (name,) in self._db.execute("SELECT name FROM webhooks").fetchall():
                if name not in names:
                    self._db.execute("DELETE FROM webhooks WHERE name = ?", [name])

    def troubled(self, names: Collection[str]) -> list[str]:
        """Webhooks with an open alarm that are not among `names`."""
        rows = self._db.execute("SELECT detail FROM alarm_states WHERE kind = ? AND closed IS NULL", [WEBHOOK])
        return [detail for (detail,) in rows if detail not in names]

    def after(self, change: int, limit: int) -> list[ChangeRow]:
        """The next changes, oldest first."""
        rows = self._db.execute(
            "SELECT id, time, change, body FROM alarm_changes WHERE id > ? ORDER BY id LIMIT ?", [change, limit]
        )
        return [ChangeRow(*row) for row in rows]

    def delivered(self, name: str, change: int, now: datetime) -> None:
        with self._db.atomic():
            self._db.execute(
                "UPDATE webhooks SET change = ?, attempts = 0, due = NULL, failing = NULL, why = NULL, delivered = ? "
                "WHERE name = ?",
                (change, rfc3339(now), name),
            )

    def passed_over(self, name: str, change: int) -> None:
        """Up to here nothing that this webhook wants."""
        with self._db.atomic():
            self._db.execute("UPDATE webhooks SET change = ? WHERE name = ?", (change, name))

    def failed(
        self, name: str, attempts: int, due: datetime | None, why: str, now: datetime, *, disabled: bool = False
    ) -> None:
        with self._db.atomic():
            self._db.execute(
                "UPDATE webhooks SET attempts = ?, due = ?, failing = coalesce(failing, ?), why = ?, disabled = ? "
                "WHERE name = ?",
                (attempts, None if due is None else rfc3339(due), rfc3339(now), why, disabled, name),
            )

    def give_up(self, name: str, changes: Sequence[int], why: str, now: datetime) -> None:
        """The webhook goes on behind the last of them."""
        with self._db.atomic():
            for change in changes:
                self._db.execute(
                    "INSERT INTO webhooks_given_up (name, change, time, why) VALUES (?,?,?,?)",
                    (name, change, rfc3339(now), why),
                )
            self._db.execute(
                "DELETE FROM webhooks_given_up WHERE number <= (SELECT max(number) FROM webhooks_given_up) - ?",
                [MAX_GIVEN_UP],
            )
            self._db.execute("UPDATE webhooks SET change = ? WHERE name = ?", (changes[-1], name))
