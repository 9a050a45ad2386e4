"""Modelled time for NFC: a clock that only the model moves, and an event loop that jumps instead of waiting."""

from __future__ import annotations

import asyncio
import selectors
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


class _Jump(selectors.DefaultSelector):
    def __init__(self, clock: ModelClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; nothing: `timeout` has passed on the clock. Without a timeout it really waits."""
        found: list[tuple[selectors.SelectorKey, int]] = super().select(None if timeout is None else 0)
        if not found and timeout is not None:
            self._clock.advance(timeout)
        return found


class ModelLoop(asyncio.SelectorEventLoop):
    """Sleeps and timeouts pass on `clock` at once. For code that waits on nothing but the loop's own timers."""

    def __init__(self, clock: ModelClock) -> None:
        self._model_clock = clock
        super().__init__(_Jump(clock))

    def time(self) -> float:
        return self._model_clock.monotonic()
