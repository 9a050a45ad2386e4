"""Who may connect next on one adapter.

A controller has one pending LE connection and room for some eight connections. A phone that advertises and never lets itself be
connected must not keep the lanes that share its adapter waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque

from drivers.ports import DriverError

WITHDRAW_SECONDS = 0.25
"""Part of a turn that is kept for taking a pending connection back: milliseconds on bumble and on BlueZ, unless it hangs."""


class Turn:
    """A turn to connect, and the place of the connection made in it. Both ends are idempotent."""

    def __init__(self, turns: Turns, over: asyncio.Future[None]) -> None:
        self._turns = turns
        self.over = over
        """Done once the turn was held long enough and somebody waits for it: take the pending connection back."""

    def pass_on(self) -> None:
        """The connection is made, or given up: the next may begin."""
        self._turns._pass_on(self)

    def close(self) -> None:
        """The connection is gone and its place free."""
        self._turns._close(self)


class Turns:
    """First tries go before later ones, else first come first served.

    `seconds`: how long a turn may be held while somebody waits, the time to withdraw included; alone there is no limit here.
    `connections`: places, of open connections and of those not yet closed.
    """

    def __init__(self, seconds: float, connections: int) -> None:
        self._hold = max(0.0, seconds - WITHDRAW_SECONDS)
        self._free = connections
        self._waiting: tuple[deque[asyncio.Future[Turn]], deque[asyncio.Future[Turn]]] = (deque(), deque())
        self._holder: Turn | None = None
        self._open: set[Turn] = set()
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    async def take(self, *, again: bool) -> Turn:
        """Waits until it is this try's turn and there is a place; the caller limits the wait. `again`: not the first try.
        Raises DriverError when the radio was stopped."""
        if self._stopped:
            raise DriverError("the radio was stopped")
        asked: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        queue = self._waiting[again]
        queue.append(asked)
        self._grant()
        try:
            return await asked
        except BaseException:
            if asked.done() and not asked.cancelled() and asked.exception() is None:
                asked.result().close()
            raise
        finally:
            if asked in queue:
                queue.remove(asked)

    def stop(self) -> None:
        """For good: everybody who waits gets DriverError."""
        self._stopped = True
        for queue in self._waiting:
            while queue:
                asked = queue.popleft()
                if not asked.done():
                    asked.set_exception(DriverError("the radio was stopped"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _grant(self) -> None:
        loop = asyncio.get_running_loop()
        while self._holder is None and self._free and (queue := self._waiting[0] or self._waiting[1]):
            asked = queue.popleft()
            if asked.cancelled():
                continue
            turn = Turn(self, loop.create_future())
            self._holder, self._since = turn, loop.time()
            self._open.add(turn)
            self._free -= 1
            asked.set_result(turn)
        if self._holder is not None and self._timer is None and any(self._waiting):
            self._timer = loop.call_at(self._since + self._hold, self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        if self._holder is not None and any(self._waiting) and not self._holder.over.done():
            self._holder.over.set_result(None)

    def _pass_on(self, turn: Turn) -> None:
        if self._holder is not turn:
            return
        self._holder = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._grant()

    def _close(self, turn: Turn) -> None:
        if turn in self._open:
            self._open.remove(turn)
            self._free += 1
            self._pass_on(turn)
            self._grant()
