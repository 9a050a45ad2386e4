"""What one peer has sent over GATT: whole messages in order, then one reason why no more will come. Bounded throughout."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from drivers.ports import LinkEndedError, LinkError, LinkLostError, LinkProtocolError, LinkTimeoutError
from mdoc import ble
from protocol.clock import Clock

MAX_WAITING = 4
"""Messages nobody has taken yet. The protocol takes turns, so more than one is already odd; the fifth ends the link."""


class Inbox:
    """Fed from notification callbacks on the loop, emptied by one reader. The first fault stays."""

    def __init__(self, clock: Clock) -> None:
        self.on_violation: Callable[[], object] | None = None
        """Called once, when the peer broke the rules: nothing it sends from then on is looked at."""
        self._clock = clock
        self._reassembler = ble.Reassembler()
        self._messages: deque[tuple[bytes, float]] = deque()
        self._fault: tuple[type[LinkError], str] | None = None
        self._changed = asyncio.Event()

    @property
    def open(self) -> bool:
        return self._fault is None

    def on_data(self, value: bytes) -> None:
        """One value of the data characteristic."""
        if self._fault is not None:
            return
        try:
            message = self._reassembler.feed(value)
        except ble.FramingError as error:
            self._violation(str(error))
            return
        if message is None:
            return
        if len(self._messages) >= MAX_WAITING:
            self._violation(f"more than {MAX_WAITING} messages out of turn")
            return
        self._messages.append((message, self._clock.monotonic()))
        self._changed.set()

    def on_state(self, value: bytes) -> None:
        """One value of State, after start: only the end may come."""
        if value == ble.STATE_END:
            self.finish(LinkEndedError, "State = end")
        elif self._fault is None:
            self._violation("State is neither start nor end in its place")

    def on_lost(self) -> None:
        self.finish(LinkLostError, "disconnected")

    def finish(self, kind: type[LinkError], reason: str) -> None:
        """No more after this; what is already whole can still be taken."""
        if self._fault is None:
            self._fault = (kind, reason)
            self._reassembler = ble.Reassembler()
            self._changed.set()

    def _violation(self, reason: str) -> None:
        self.finish(LinkProtocolError, reason)
        if self.on_violation is not None:
            self.on_violation()

    def check(self) -> None:
        """Raises the fault, if there is one."""
        if self._fault is not None:
            kind, reason = self._fault
            raise kind(reason)

    async def take(self, timeout: float) -> tuple[bytes, float]:
        """The next whole message and the time of its last byte; at most `timeout` seconds. Raises LinkError."""
        try:
            async with asyncio.timeout(timeout):
                while not self._messages and self._fault is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise LinkTimeoutError(f"no whole message within {timeout:g} s") from None
        if not self._messages:
            self.check()
        return self._messages.popleft()
