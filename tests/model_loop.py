"""An event loop whose sleeps and timeouts pass on a modelled clock, at once: for code that waits on nothing but the loop."""

from __future__ import annotations

import asyncio
import selectors

from testbed.phone.nfc_time import ModelClock


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
    def __init__(self, clock: ModelClock) -> None:
        self._model_clock = clock
        super().__init__(_Jump(clock))

    def time(self) -> float:
        return self._model_clock.monotonic()
