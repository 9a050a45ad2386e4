"""What could not be written since the last success, counted from any thread until it stands in a `log.gap`."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

from protocol.clock import Clock, rfc3339
from protocol.events import DECISIONS, Kind

FULL = "journal_full"
"""Flag of health and events while the journal has reached its size, and why of what it leaves out."""
MAX_WHY = 200
"""Characters of a reason in `log.gap`."""


@dataclass(frozen=True, slots=True)
class Gap:
    since: str
    why: str
    dropped: int = 0
    refused: int = 0
    granted: int = 0
    """Entries that a zone let in without a record, as its rules have it for a full journal."""

    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = {"why": self.why, "dropped": self.dropped, "refused": self.refused, "since": self.since}
        return {**found, "granted": self.granted, "degraded": [FULL]} if self.granted else found


class Gaps:
    def __init__(self, clock: Clock) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._gap: Gap | None = None

    def count(self, kind: Kind, why: str) -> None:
        """A record of this kind is lost."""
        if kind in DECISIONS:
            self._add(why, refused=1)
        else:
            self._add(why, dropped=1)

    def count_granted(self) -> None:
        """An entry is let in without a record."""
        self._add(FULL, granted=1)

    def _add(self, why: str, *, dropped: int = 0, refused: int = 0, granted: int = 0) -> None:
        with self._lock:
            gap = self._gap or self._new(why)
            self._gap = replace(
                gap, dropped=gap.dropped + dropped, refused=gap.refused + refused, granted=gap.granted + granted
            )

    def _new(self, why: str) -> Gap:
        return Gap(rfc3339(self._clock.now()), why[:MAX_WHY])

    def now(self) -> Gap | None:
        """What is counted at this moment; None: nothing."""
        with self._lock:
            return self._gap

    def begun(self, why: str) -> Gap:
        """As `now`, or a gap that begins at this moment."""
        with self._lock:
            return self._gap or self._new(why)

    def written(self, gap: Gap | None) -> None:
        """`gap` is durable; what was counted meanwhile is kept."""
        with self._lock:
            if gap is None or self._gap is None:
                return
            left = replace(
                self._gap,
                dropped=self._gap.dropped - gap.dropped,
                refused=self._gap.refused - gap.refused,
                granted=self._gap.granted - gap.granted,
            )
            self._gap = left if left.dropped or left.refused or left.granted else None
