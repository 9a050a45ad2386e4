"""The barrier of one lane: sensors in, relay out, passage by the table of gate_agent.passage, its events and timers.

Both sides of a lane share one barrier. Orders are made durable before they count; fire counts first and is written at once after.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from drivers.ports import Direction, LaneHardware, LaneInput, Message
from gate_agent import config, messages
from gate_agent.devices import Supervised
from gate_agent.passage import (
    HOUSING,
    Credit,
    Effect,
    Happening,
    Orders,
    Passage,
    Refusal,
    SensorChanged,
    State,
    Verb,
)
from gate_agent.services import Services
from gate_agent.timers import CallLater, Handle
from gate_agent.transaction import Stage
from protocol.events import Kind

_log = logging.getLogger(__name__)

_EVENT: Mapping[Effect, Kind] = {
    Effect.COMPLETED: Kind.PASSAGE_COMPLETED,
    Effect.NOT_TAKEN: Kind.PASSAGE_NOT_TAKEN,
    Effect.UNKNOWN: Kind.PASSAGE_UNKNOWN,
    Effect.REVERSED: Kind.PASSAGE_REVERSED,
    Effect.EGRESS: Kind.EGRESS_BUTTON,
    Effect.FORCED: Kind.ALARM_FORCED,
    Effect.CRAWL: Kind.ALARM_CRAWL,
    Effect.WRONG_WAY: Kind.ALARM_WRONG_WAY,
    Effect.TAILGATE: Kind.ALARM_TAILGATE,
    Effect.LOITER: Kind.ALARM_LOITER,
    Effect.HELD_PRE: Kind.ALARM_HELD_PRE,
    Effect.HELD: Kind.ALARM_HELD,
    Effect.FIRE_ASSERTED: Kind.FIRE_ASSERTED,
    Effect.FIRE_CLEARED: Kind.FIRE_CLEARED,
    Effect.LOCKDOWN_ENTERED: Kind.LOCKDOWN_ENTERED,
    Effect.LOCKDOWN_RELEASED: Kind.LOCKDOWN_RELEASED,
    Effect.MODE: Kind.DOOR_MODE,
    Effect.TAMPER: Kind.ALARM_TAMPER,
    Effect.TAMPER_CLEARED: Kind.ALARM_TAMPER_CLEARED,
    Effect.MAINS_LOST: Kind.POWER_MAINS_LOST,
    Effect.MAINS_RESTORED: Kind.POWER_MAINS_RESTORED,
    Effect.BATTERY_LOW: Kind.POWER_BATTERY_LOW,
    Effect.BATTERY_RESTORED: Kind.POWER_BATTERY_RESTORED,
}
_CLEARED: Mapping[str, Kind] = {
    Effect.FORCED: Kind.ALARM_FORCED_CLEARED,
    Effect.CRAWL: Kind.ALARM_CRAWL_CLEARED,
    Effect.WRONG_WAY: Kind.ALARM_WRONG_WAY_CLEARED,
    Effect.TAILGATE: Kind.ALARM_TAILGATE_CLEARED,
    Effect.LOITER: Kind.ALARM_LOITER_CLEARED,
    Effect.HELD_PRE: Kind.ALARM_HELD_CLEARED,
    Effect.HELD: Kind.ALARM_HELD_CLEARED,
}
_BARRING = frozenset({Verb.LOCKDOWN, Verb.DISABLE, Verb.ACKNOWLEDGE})
_KEPT_AFTER = frozenset({Effect.FIRE_ASSERTED, Effect.FIRE_CLEARED, Effect.LOCKDOWN_RELEASED})
"""What happens on the spot counts first and is written down after: fire, its reset, and a lockdown that the key ended."""
_OPENING = frozenset({Effect.OPEN, Effect.OPEN_OUT})
OUTCOMES = frozenset({Effect.COMPLETED, Effect.NOT_TAKEN, Effect.UNKNOWN})
_HOLD_MARGIN_MS = 1000
"""A free door's pulse outlasts the wait for the next one by this much."""


class OrdersKept(Protocol):
    """Where orders survive a restart (gate_agent.modes)."""

    async def save(self, lane: str, orders: Orders) -> None:
        """Returns once it is durable. Raises OSError or sqlite3.Error."""
        ...


class Attempt(Protocol):
    """Whose credit is walked: a presentation (gate_agent.transaction), or an order to open once (gate_agent.guard)."""

    @property
    def id(self) -> str: ...

    def base(self) -> dict[str, Any]:
        """Lane, direction and attempt."""
        ...

    def stage(self, stage: Stage, at: float | None = None) -> None: ...

    def latencies(self, *stages: Stage) -> dict[str, float]: ...


OnOutcome = Callable[[Effect, Direction, str | None], None]
"""(outcome, direction, attempt or None for a passage without a credit)"""


class Barrier:
    def __init__(
        self,
        settings: config.Barrier,
        hardware: Supervised[LaneHardware],
        services: Services,
        *,
        call_later: CallLater,
        orders: Orders | None = None,
        keep: OrdersKept | None = None,
        on_outcome: OnOutcome = lambda _outcome, _direction, _attempt: None,
    ) -> None:
        """`orders`: what was in force before. `on_outcome` is told how each passage ended."""
        self.settings, self.hardware, self._services = settings, hardware, services
        self._call_later, self._keep, self._on_outcome = call_later, keep, on_outcome
        self._passage = Passage(settings.passage, orders)
        self._keeping = asyncio.Lock()
        """Around each write: one that began before an order counted must not end after it."""
        self._attempts: dict[str, Attempt] = {}
        """Of the credits that wait or are being walked."""
        self._door_open = False
        self._timer: Handle | None = None
        self._timer_at: float | None = None
        self._listeners: list[Callable[[Message | None], None]] = []

    def listen(self, on_change: Callable[[Message | None], None]) -> None:
        """`on_change` is called after each change of `state`, and with a message when the relay did not confirm."""
        self._listeners.append(on_change)

    @property
    def state(self) -> State:
        return self._passage.state

    @property
    def direction(self) -> Direction:
        """Of the passage under way."""
        return self._passage.direction

    @property
    def orders(self) -> Orders:
        """In force, by whoever ordered it and by the key switch."""
        return self._passage.orders

    @property
    def degraded(self) -> Sequence[str]:
        """Sensors that are set aside, and what the hardware says of itself."""
        return [*(f"sensor.{signal}" for signal in self._passage.faults), *map(str, self._passage.housing)]

    def may(self, direction: Direction, *, exempt: bool = False) -> Refusal | None:
        """Why the lane would not open for a grant in `direction` now; None when it would."""
        return self._passage.may(direction, exempt=exempt)

    def taken(self, direction: Direction) -> bool:
        """Somebody stands where passages in `direction` begin."""
        return direction in self._passage.waiting

    # Inputs.

    async def watch(self, hardware: LaneHardware) -> None:
        """The work of the hardware's supervisor."""
        async for change in hardware.inputs():
            self.on_input(change)

    def on_input(self, change: LaneInput) -> None:
        with self._changing():
            self._follow(self._passage.change(change.signal, change.active, self._services.clock.monotonic()))

    def _due(self) -> None:
        self._timer = self._timer_at = None
        with self._changing():
            self._follow(self._passage.tick(self._services.clock.monotonic()))

    async def open(
        self, attempt: Attempt, direction: Direction, *, exempt: bool = False, companion: bool = False
    ) -> bool:
        """The record of the grant is durable: open, unless the lane changed while it was being written. `companion`: two
        were granted together, and pass one after the other. False: it has not opened, and that is recorded."""
        self._attempts[attempt.id] = attempt
        with self._changing():
            result = self._passage.grant(
                Credit(attempt.id, direction, exempt, companion), self._services.clock.monotonic()
            )
            if result.refusal is not None:
                del self._attempts[attempt.id]
                self.withhold(attempt, direction, str(result.refusal))
                return False
            mine = [each for each in result.happenings if isinstance(each, Happening) and each.effect is Effect.OPEN]
            self._follow([each for each in result.happenings if each not in mine])
        return all([await self._open_for(attempt, each.direction) for each in mine])

    def withhold(self, attempt: Attempt, direction: Direction, why: str) -> None:
        """The grant is recorded, and the lane does not open for it: that is how it ended."""
        kind = Kind.PASSAGE_UNKNOWN if self.state is State.LOCKED_OPEN else Kind.PASSAGE_NOT_TAKEN
        self._services.journal.note(kind, {**attempt.base(), "opened": False, "why": why})
        self._on_outcome(Effect.NOT_TAKEN, direction, attempt.id)

    async def order(self, verb: Verb, *, level: int = 0) -> Refusal | None:
        """A guard's order, durable before it counts. None: done.

        Where it cannot be written, what opens or ends a bar is refused as `record_unavailable`; what bars entry counts all
        the same, until the next restart.
        """
        async with self._keeping:
            wanted = self._passage.preview(verb, level)
            if isinstance(wanted, Refusal):
                return wanted
            if wanted != self._passage.kept and not await self._kept(wanted) and verb not in _BARRING:
                return Refusal.RECORD_UNAVAILABLE
            with self._changing():
                result = self._passage.order(verb, self._services.clock.monotonic(), level)
                self._follow(result.happenings)
        if self._passage.kept != wanted:
            # Another order, or fire, counted while this one was being written: what is kept has to say what is so.
            await self._keep_now()
        return result.refusal

    @property
    def kept(self) -> Orders:
        """What was ordered, without what the key switch says."""
        return self._passage.kept

    async def impose(self, level: int, durable: Orders) -> None:
        """The lockdown level of an emergency state, which the caller has made `durable`; 0 ends the lockdown. A lane that is open
        by fire, or locked by its key, comes back to it when that ends."""
        verb = Verb.LOCKDOWN if level else Verb.RELEASE
        with self._changing():
            result = self._passage.order(verb, self._services.clock.monotonic(), level)
            if result.refusal is not None:
                self._passage.kept = replace(self._passage.kept, lockdown=level)
            self._follow(result.happenings)
        if self._passage.kept != durable:
            # Another order, or fire, counted meanwhile.
            await self._keep_now()

    def stop(self) -> None:
        """A grant that is being walked stays open in the journal and becomes `passage.unknown` at the next start."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What follows.

    def _follow(self, happenings: Sequence[Happening | SensorChanged]) -> None:
        cleared: set[Kind] = set()
        for each in happenings:
            if isinstance(each, SensorChanged):
                self._sensor(each)
            elif each.effect in HOUSING:
                self._services.journal.note(_EVENT[each.effect], {"lane": self.settings.id})
                self._tell(None)
            elif each.effect in _OPENING:
                self._services.background.spawn(self._open_uncalled(each))
            elif each.effect is Effect.ALARMS_CLEARED:
                kind = _CLEARED[each.cause]
                if kind not in cleared:
                    cleared.add(kind)
                    self._note(kind, each, cause="")
            else:
                self._note(_EVENT[each.effect], each, cause=each.cause)
                if each.effect in OUTCOMES:
                    self._on_outcome(each.effect, each.direction, each.attempt)

    def _note(self, kind: Kind, each: Happening, *, cause: str) -> None:
        data: dict[str, Any] = {"lane": self.settings.id, "dir": str(each.direction)}
        if each.attempt is not None:
            data["attempt"] = each.attempt
            if each.effect in OUTCOMES:
                self._attempts.pop(each.attempt, None)
        if cause:
            data["cause"] = cause
        if each.effect is Effect.UNKNOWN:
            data["why"] = "fire" if self.state is State.LOCKED_OPEN else str(self.state)
        if each.effect is Effect.LOCKDOWN_ENTERED:
            data["level"] = self.orders.lockdown
        elif each.effect is Effect.MODE:
            data["mode"] = str(self.orders.rest())
        if each.effect in _KEPT_AFTER:
            self._services.background.spawn(self._keep_now())
        self._services.journal.note(kind, data)

    def _sensor(self, changed: SensorChanged) -> None:
        data = {"lane": self.settings.id, "sensor": str(changed.signal)}
        if changed.fault is None:
            self._services.journal.note(Kind.SENSOR_RESTORED, data)
        else:
            self._services.journal.note(Kind.SENSOR_FAULT, {**data, "what": str(changed.fault)})
        self._tell(None)

    async def _keep_now(self) -> None:
        async with self._keeping:
            await self._kept(self._passage.kept)

    async def _kept(self, orders: Orders) -> bool:
        """True once `orders` survive a restart (or where this gate keeps none)."""
        if self._keep is None:
            return True
        try:
            await self._keep.save(self.settings.id, orders)
        except (OSError, sqlite3.Error) as error:
            _log.error("lane %s: orders cannot be kept: %s", self.settings.id, type(error).__name__)
            return False
        return True

    # The relay.

    async def _open_for(self, attempt: Attempt, direction: Direction) -> bool:
        """The opening that an attempt waits for. False: the relay did not confirm."""
        at = await self._pulse(direction, self.settings.pulse_ms)
        if at is None:
            self._services.journal.note(Kind.LANE_FAULT, {**attempt.base(), "what": "relay"})
            with self._changing():
                self._follow(self._passage.revoke(attempt.id, self._services.clock.monotonic()))
            self._tell(messages.OUT_OF_SERVICE)
            return False
        attempt.stage(Stage.OPENED, at)
        lat_ms = attempt.latencies(Stage.RECORDED, Stage.OPENED)
        self._services.journal.note(Kind.LANE_OPENED, {**attempt.base(), "lat_ms": lat_ms})
        return True

    async def _open_uncalled(self, each: Happening) -> None:
        """An opening that no attempt waits for: a way out, a free lane, the next of several credits."""
        attempt = None if each.attempt is None else self._attempts.get(each.attempt)
        if attempt is not None:
            await self._open_for(attempt, each.direction)
            return
        milliseconds = self.settings.pulse_ms
        if each.cause == "hold":
            milliseconds = int(self.settings.passage.hold_s * 1000) + _HOLD_MARGIN_MS
        if await self._pulse(each.direction, milliseconds) is None:
            data = {"lane": self.settings.id, "dir": str(each.direction), "what": "relay"}
            self._services.journal.note(Kind.LANE_FAULT, data)
            self._tell(messages.OUT_OF_SERVICE)

    async def _pulse(self, direction: Direction, milliseconds: int) -> float | None:
        """Monotonic time of the relay's confirmation; None when it did not confirm."""
        try:
            async with asyncio.timeout(self._services.times.relay_timeout_s):
                return await self.hardware.device.pulse(direction, milliseconds)
        except Exception as error:
            # DriverError, or a fault in the driver: either way the relay did not confirm.
            _log.error("lane %s: relay did not confirm: %s", self.settings.id, type(error).__name__)
            self.hardware.failed(error)
            return None

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Around everything that may move the machine: its timer is set anew, and a change of state is told once."""
        before = self.state
        try:
            yield
        finally:
            self._set_timer()
            self._note_door()
            if self.state is not before:
                self._tell(None)

    def _note_door(self) -> None:
        """The contact, where the lane has one. One that is set aside says nothing (`sensor.fault` says that)."""
        now = self._passage.door_open
        if now is None or now == self._door_open:
            return
        self._door_open = now
        kind = Kind.DOOR_OPENED if now else Kind.DOOR_CLOSED
        self._services.journal.note(kind, {"lane": self.settings.id})

    def _tell(self, problem: Message | None) -> None:
        for listener in self._listeners:
            listener(problem)

    def _set_timer(self) -> None:
        wanted = self._passage.deadline
        if wanted == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = wanted
        if wanted is not None:
            self._timer = self._call_later(max(0.0, wanted - self._services.clock.monotonic()), self._due)
