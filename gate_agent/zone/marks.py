"""QR passes that have opened a lane somewhere in the zone, for the seconds in which they are still fresh.

ARCHITECTURE section 5: a pass is single use per gate host (the journal sees to that, durably); within a zone the gates tell each
other. In memory only: a gate that has been restarted is told again by the others, and is cut off until then.
"""

from __future__ import annotations

from collections.abc import Iterator

from gate_agent.zone.facts import Limits
from protocol.zone import Used


class PassMarks:
    def __init__(self) -> None:
        self._until: dict[bytes, int] = {}
        self._own: set[bytes] = set()
        self._heard: set[bytes] = set()

    def used(self, mark: bytes, now_ms: int) -> bool:
        return self._until.get(mark, 0) > now_ms

    def put(self, mark: bytes, until: int, *, own: bool) -> bool:
        """True: with this it has opened a lane both here and elsewhere."""
        while len(self._until) >= Limits.MARKS:
            self._drop(next(iter(self._until)))
        self._until[mark] = max(until, self._until.get(mark, 0))
        was_both = mark in self._own and mark in self._heard
        (self._own if own else self._heard).add(mark)
        return mark in self._own and mark in self._heard and not was_both

    def own(self, now_ms: int) -> Iterator[Used]:
        """To be told again to whoever has missed them."""
        return (Used(mark, self._until[mark]) for mark in sorted(self._own) if self._until[mark] > now_ms)

    def expire(self, now_ms: int) -> None:
        for mark in [mark for mark, until in self._until.items() if until <= now_ms]:
            self._drop(mark)

    def _drop(self, mark: bytes) -> None:
        del self._until[mark]
        self._own.discard(mark)
        self._heard.discard(mark)
