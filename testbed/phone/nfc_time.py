"""Modelled time for NFC: a clock that only the model moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 11, 24, 9, tzinfo=UTC)


class ModelClock:
    """protocol.clock.Clock. Moved by one thread at a time."""

    def __init__(self, start: datetime = START) -> None:
        self._start, self._seconds = start, 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return self._seconds

    def advance(self, seconds: float) -> None:
        self._seconds += max(0.0, seconds)
