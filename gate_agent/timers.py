"""A timer as the loop gives it, so that tests can pass in one of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Handle(Protocol):
    def cancel(self) -> None: ...


class CallLater(Protocol):
    def __call__(self, delay: float, callback: Callable[[], None], /) -> Handle:
        """Call `callback` once after `delay` seconds unless the handle is cancelled first."""
        ...
