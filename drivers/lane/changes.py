"""A lane's inputs on their way from the hardware to the lane (levels first, fire before all, bounded), and the fire line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection

from drivers.lane.wiring import FireState
from drivers.ports import Direction, DriverError, LaneInput, LaneSignal

_log = logging.getLogger(__name__)

MAX_PULSE_MS = 10_000
MAX_CHANGES = 256
"""Input changes waiting for the lane. When full, the waiting changes of the input that changes next are dropped and logged;
its newest level stays, so levels stay true."""
FEEDBACK = {Direction.IN: LaneSignal.RELAY_IN, Direction.OUT: LaneSignal.RELAY_OUT}

_FIRST = (LaneSignal.FIRE, LaneSignal.FIRE_OPEN, LaneSignal.FIRE_SHORT, LaneSignal.VENDOR_EMERGENCY)
_THEN = (LaneSignal.KEY_LOCKED, LaneSignal.KEY_FREE)


def _turn(change: LaneInput) -> int:
    """A lane that starts in a fire starts open, and one whose key says "locked" never starts otherwise."""
    return 0 if change.signal in _FIRST else 1 if change.signal in _THEN else 2


class Changes:
    """One run of the hardware: `begin`, then `put` or `level` by the driver, `stream` by the lane, `fail` at its end."""

    def __init__(self) -> None:
        self._waiting: list[LaneInput] = []
        self._levels: dict[LaneSignal, bool] = {}
        self._expected: list[tuple[LaneSignal, bool, asyncio.Future[float]]] = []
        self._arrived = asyncio.Event()
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        return self._failure

    def begin(self) -> None:
        self._failure = None
        self._waiting.clear()
        self._levels.clear()

    def complete(self, required: Collection[LaneSignal]) -> None:
        """Every level is in: put them in order. Raises DriverError for a required one that the hardware did not give."""
        missing = set(required) - self._levels.keys()
        if missing:
            raise DriverError(f"the module does not know its level of {', '.join(sorted(missing))}")
        self._waiting.sort(key=_turn)

    def level(self, signal: LaneSignal, active: bool, at: float) -> None:
        """As `put`, for a driver that reads levels: nothing where it is known already."""
        if self._levels.get(signal) is not active:
            self.put(LaneInput(signal, active, at))

    def put(self, change: LaneInput) -> None:
        self._levels[change.signal] = change.active
        if len(self._waiting) >= MAX_CHANGES:
            kept = [waiting for waiting in self._waiting if waiting.signal is not change.signal]
            _log.warning("lane behind: %d changes of %s dropped", len(self._waiting) - len(kept), change.signal.value)
            self._waiting = kept
        self._waiting.append(change)
        for signal, active, found in self._expected:
            if (signal, active) == (change.signal, change.active) and not found.done():
                found.set_result(change.at)
        self._arrived.set()

    def fail(self, why: str) -> None:
        """The stream and everybody who waits end with DriverError; the first reason stays."""
        self._failure = self._failure or why
        for _, _, found in self._expected:
            if not found.done():
                found.set_exception(DriverError(self._failure))
        self._arrived.set()

    def check(self) -> None:
        """Raises DriverError after `fail`."""
        if self._failure is not None:
            raise DriverError(self._failure)

    async def stream(self) -> AsyncIterator[LaneInput]:
        while True:
            while self._waiting:
                yield self._waiting.pop(0)
            self.check()
            self._arrived.clear()
            await self._arrived.wait()

    # Feedback of a relay.

    def expect(self, signal: LaneSignal) -> asyncio.Future[float]:
        """The monotonic time at which `signal` is active, from now on. To be given back with `settle`."""
        self.check()
        found: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._expected.append((signal, True, found))
        return found

    async def settle(self, found: asyncio.Future[float], timeout: float) -> float:
        """Wait for what `expect` gave. Raises DriverError when it does not come within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await found
        except TimeoutError:
            raise DriverError("the relay's feedback contact did not move") from None
        finally:
            self.forget(found)

    def forget(self, found: asyncio.Future[float]) -> None:
        self._expected = [each for each in self._expected if each[2] is not found]
        if found.done() and not found.cancelled():
            found.exception()  # the command failed too; one of both is told


SETTLE_S = 0.1
"""A changeover contact opens one side before it closes the other: what lasts no longer is no fault of the line."""
_SAYS = {
    FireState.ALARM: LaneSignal.FIRE,
    FireState.OPEN: LaneSignal.FIRE_OPEN,
    FireState.SHORT: LaneSignal.FIRE_SHORT,
}


class FireLine:
    """A supervised fire line: an alarm counts at once, a fault when it has lasted SETTLE_S, and health at once."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._state: FireState | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._suspected: FireState | None = None
        """What the timer waits for."""

    def begin(self, state: FireState, at: float) -> None:
        """The state at start, whatever it is."""
        self.stop()
        self._state = None
        self._report(state, at)

    def see(self, state: FireState, at: float) -> None:
        if state is self._suspected:
            return
        self.stop()
        if state is self._state:
            return
        if state in {FireState.OPEN, FireState.SHORT}:
            self._suspected = state
            self._timer = asyncio.get_running_loop().call_later(SETTLE_S, self._report, state, at)
        else:
            self._report(state, at)

    def stop(self) -> None:
        self._suspected = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _report(self, state: FireState, at: float) -> None:
        self._timer = self._suspected = None
        self._state = state
        # What begins is told before what ends: the line is never healthy in between.
        for says, signal in sorted(_SAYS.items(), key=lambda each: each[0] is not state):
            self._changes.level(signal, says is state, at)
