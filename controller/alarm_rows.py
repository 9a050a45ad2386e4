"""One alarm as somebody works on it, and one change of it, as they stand in the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Key = tuple[str, str, str, str]
"""Gate, lane, kind, detail: of each one alarm is open at most. Empty where one does not apply."""
RAISED, ACKNOWLEDGED, ESCALATED, CLEARED = "raised", "acknowledged", "escalated", "cleared"
"""Changes. The first, second and fourth are states too."""
CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """Times are RFC 3339, UTC, by the controller's clock, but `occurred`."""

    id: int
    gate: str
    lane: str
    kind: str
    """A name of controller.alarm_kinds.KINDS."""
    detail: str
    severity: str
    epoch: str
    seq: int
    """The newest record that raised it; empty and 0 for a condition."""
    count: int
    """Events that raised it, or times that the condition began."""
    raised: str
    last: str
    occurred: str
    """When the first of its events happened, by the gate's clock."""
    acknowledged: str | None = None
    operator: str | None = None
    role: str | None = None
    """Who acknowledged. On the spot: the role alone."""
    escalated: str | None = None
    level: int = 0
    """How often it was escalated."""
    cleared: str | None = None
    cleared_by: str | None = None
    cleared_role: str | None = None
    """The operator who cleared it; None: it ended by itself."""
    closed: str | None = None

    @property
    def key(self) -> Key:
        return self.gate, self.lane, self.kind, self.detail

    @property
    def state(self) -> str:
        if self.closed is not None:
            return CLOSED
        if self.cleared is not None:
            return CLEARED
        return RAISED if self.acknowledged is None else ACKNOWLEDGED

    @property
    def active(self) -> bool:
        """What raised it goes on, acknowledged or not."""
        return self.cleared is None

    def public(self) -> dict[str, Any]:
        """Without the names of operators."""
        return {
            "alarm": self.id,
            "gate": self.gate,
            "lane": self.lane,
            "kind": self.kind,
            "detail": self.detail,
            "severity": self.severity,
            "state": self.state,
            "count": self.count,
            "raised": self.raised,
            "last": self.last,
            "occurred": self.occurred,
            "level": self.level,
        }


@dataclass(frozen=True, slots=True)
class AlarmChange:
    id: int
    """Rises by one with every change, in the order of commits."""
    alarm: int
    time: str
    change: str
    """`raised`, `acknowledged`, `escalated` or `cleared`."""
    body: str
    """JSON: the alarm as it was just after (AlarmRow.public)."""


def changed(change_id: int, row: AlarmRow, change: str, moment: str) -> AlarmChange:
    return AlarmChange(
        change_id, row.id, moment, change, json.dumps(row.public(), ensure_ascii=False, separators=(",", ":"))
    )


@dataclass(frozen=True, slots=True)
class AlarmUpdate:
    """What one transaction did."""

    rows: Sequence[AlarmRow] = ()
    """Those that are new or differ, as they are now."""
    changes: Sequence[AlarmChange] = ()


class Troubles(Protocol):
    """Where a part of the controller says that it is in trouble, and that it is no longer (controller.alarm_desk)."""

    async def trouble(self, kind: str, detail: str, *, holds: bool) -> None:
        """The same again changes nothing. Raises sqlite3.Error."""
        ...
