"""Input that nobody vouches for, bounded: the first few of a window are recorded one by one, the rest as one count.

Each lane has its own quota, so that a flood before one camera displaces no record of an authenticated attempt and locks
nobody out (ARCHITECTURE section 7, denial of service).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

WINDOW_S = 10.0
"""Seconds of one counting window."""
MAX_KEYS = 64
"""Different keys (reasons) counted at once; far above the reasons that exist."""


@dataclass(slots=True)
class _Window:
    until: float
    seen: int = 0
    over: int = 0


class Coalescer:
    """Per key: `individually` occurrences in a window pass at once, further ones are counted and reported at its end."""

    def __init__(self, individually: int, report: Callable[[Hashable, int], None], window: float = WINDOW_S) -> None:
        """`report(key, count)` is called for a window that ended with a count over the individual ones."""
        self._individually, self._report, self._window = individually, report, window
        self._windows: dict[Hashable, _Window] = {}

    def seen(self, key: Hashable, now: float) -> bool:
        """True when this occurrence is to be recorded on its own. `now` is monotonic seconds."""
        self.tick(now)
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= MAX_KEYS:
                return False
            window = self._windows[key] = _Window(now + self._window)
        window.seen += 1
        if window.seen <= self._individually:
            return True
        window.over += 1
        return False

    def tick(self, now: float) -> None:
        """Close the windows whose time is over."""
        self._close([key for key, window in self._windows.items() if now >= window.until])

    def flush(self) -> None:
        """Close every window (the lane stops)."""
        self._close(list(self._windows))

    @property
    def next_close(self) -> float | None:
        """Monotonic time at which a window with something to report ends."""
        return min((window.until for window in self._windows.values() if window.over), default=None)

    def _close(self, keys: list[Hashable]) -> None:
        for key in keys:
            window = self._windows.pop(key)
            if window.over:
                self._report(key, window.over)
