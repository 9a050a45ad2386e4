"""What the controller's database answers: rows, pages of them, and what is wrong with a question."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_CURSOR = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)/(\d{1,18})")
MAX_CURSOR = 64


class QueryError(Exception):
    """A question that is not answered; Korean and English."""

    def __init__(self, ko: str, en: str) -> None:
        super().__init__(f"{ko}\n{en}")
        self.ko, self.en = ko, en


class BadQueryError(QueryError):
    """A range, limit or cursor that nothing can be answered to."""


class TooOldError(QueryError):
    """Rows with exact times of passages are not kept, and not given, for so long."""


class TooLongError(QueryError):
    """The answer took longer than any may, and was given up."""


class BusyError(QueryError):
    """Too many questions wait."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next page begins. It tells nothing that the rows do not: no number of records or order of arrival, from which
    somebody could count the rows that are not shown."""

    time: str
    """RFC 3339, UTC, milliseconds: of the last row given."""
    tie: int
    """Rows of exactly that time given already; of alarms, the id of the last."""

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(f"{self.time}/{self.tie}".encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Raises BadQueryError."""
        try:
            if len(text) > MAX_CURSOR:
                raise ValueError
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
            match = _CURSOR.fullmatch(raw)
            if match is None:
                raise ValueError
        except (ValueError, binascii.Error):
            raise BadQueryError(
                "after: 앞 쪽에서 받은 값이어야 합니다", "after: a value given with the page before is expected"
            ) from None
        return cls(match[1], int(match[2]))


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    rows: Sequence[T]
    next: Cursor | None
    """None: there are no more."""


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event. Without `id`, `attempt` and the numbers of records unless an officer reads: from these the events that are not
    shown between two that are could be counted."""

    time: str
    gate: str
    lane: str | None
    dir: str | None
    kind: str
    reason: str | None
    carrier: str | None
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `data` (docs/events.md)."""
    id: str | None = None
    attempt: str | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """Passages that were completed at one lane, in one direction, in one quarter of an hour or one day of the site."""

    begin: str
    """Of the quarter: RFC 3339, UTC; of the day: `2026-11-24`."""
    gate: str
    """Empty: of the whole building."""
    lane: str
    dir: str
    n: int
    """At least k. Of a day and of the building: at least so many (docs/queries.md)."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds; None where there was too little to tell."""

    p50: float | None
    p95: float | None
    p99: float | None
    n: int
    """Decisions counted: only those of quarters that are reported at all."""


@dataclass(frozen=True, slots=True)
class Refusals:
    reason: str
    n: int


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One change of an alarm."""

    id: int
    alarm: int
    time: str
    change: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ZoneCount:
    """Who is inside, as far as it is known; nobody is named."""

    zone: str
    count: int
    uncertain: int
    """People more or fewer that there may be, as far as these can be counted."""
    certain: bool
    """Nothing is known that could make `count` wrong."""
    reasons: Sequence[str] = ()
    """Why not, as words of docs/queries.md."""


@dataclass(frozen=True, slots=True)
class SilentGate:
    """A gate whose passages may be missing from the counts."""

    gate: str
    why: str
    """`offline`, `unknown`, `never_heard`, `hole`, `stopped` or `behind`."""
    last_seen: str | None
    zones: Sequence[str] = ()
    """Zones that its lanes lead into or out of."""


@dataclass(frozen=True, slots=True)
class Muster:
    """For a fire warden: how many to look for, and what is not known."""

    since: str
    """RFC 3339: the counts began at zero here."""
    zones: Sequence[ZoneCount]
    gates: Sequence[SilentGate]
    lanes: Sequence[str]
    """`gate/lane` with passages that lead into no known zone."""
