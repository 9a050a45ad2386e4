"""The barrier of one lane: sensors in, relay out, passage by the table of gate_agent.passage, its events and timers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from drivers.ports import LaneHardware, LaneInput, LaneSignal, Message
from gate_agent import config, messages, passage
from gate_agent.devices import Supervised
from gate_agent.passage import Effect, Input, Levels, State, Timer
from gate_agent.services import Services
from gate_agent.timers import CallLater, Handle
from gate_agent.transaction import Attempt, Stage
from protocol.events import Kind

_log = logging.getLogger(__name__)

_EVENT: Mapping[Effect, Kind] = {
    Effect.COMPLETED: Kind.PASSAGE_COMPLETED,
    Effect.NOT_TAKEN: Kind.PASSAGE_NOT_TAKEN,
    Effect.UNKNOWN: Kind.PASSAGE_UNKNOWN,
    Effect.FORCED: Kind.ALARM_FORCED,
    Effect.WRONG_WAY: Kind.ALARM_FORCED,
    Effect.FORCED_CLEARED: Kind.ALARM_FORCED_CLEARED,
}
_OUTCOMES = frozenset({Effect.COMPLETED, Effect.NOT_TAKEN, Effect.UNKNOWN})


class Barrier:
    def __init__(
        self,
        settings: config.Lane,
        hardware: Supervised[LaneHardware],
        services: Services,
        *,
        call_later: CallLater,
        on_change: Callable[[Message | None], None],
    ) -> None:
        """`on_change` is called after each change of `state`, and with a message when the relay did not confirm."""
        self._settings, self._hardware, self._services = settings, hardware, services
        self._call_later, self._on_change = call_later, on_change
        self.state = State.SECURED
        self._levels = Levels(settings.direction)
        self._known: set[LaneSignal] = set()
        self._grant: str | None = None
        self._timer: Handle | None = None

    def on_input(self, change: LaneInput) -> None:
        first = change.signal not in self._known
        self._known.add(change.signal)
        inputs = self._levels.change(change.signal, change.active)
        if first and change.signal is not LaneSignal.FIRE:
            # A level that was so before the agent looked is no event: nobody forced what stood open at start.
            return
        for each in inputs:
            self._apply(each)

    async def open(self, attempt: Attempt) -> None:
        """The record of the grant is durable: open, unless the lane changed while it was being written."""
        journal = self._services.journal
        if self.state is not State.SECURED:
            kind = Kind.PASSAGE_UNKNOWN if self.state is State.LOCKED_OPEN else Kind.PASSAGE_NOT_TAKEN
            journal.note(kind, {**attempt.base(), "opened": False, "why": str(self.state)})
            return
        self._grant = attempt.id
        self._apply(Input.GRANT)
        try:
            async with asyncio.timeout(self._services.times.relay_timeout_s):
                at = await self._hardware.device.pulse(self._settings.direction, self._settings.pulse_ms)
        except Exception as error:
            # DriverError, or a fault in the driver: either way the relay did not confirm.
            _log.error("lane %s: relay did not confirm: %s", self._settings.id, type(error).__name__)
            journal.note(Kind.LANE_FAULT, {**attempt.base(), "what": "relay"})
            self._apply(Input.REVOKE)
            self._on_change(messages.OUT_OF_SERVICE)
            self._hardware.failed(error)
            return
        attempt.stage(Stage.OPENED, at)
        lat_ms = attempt.latencies(Stage.RECORDED, Stage.OPENED)
        journal.note(Kind.LANE_OPENED, {**attempt.base(), "lat_ms": lat_ms})

    def stop(self) -> None:
        """A grant that is being walked stays open in the journal and becomes `passage.unknown` at the next start."""
        self._set_timer(Timer.STOP)

    def _apply(self, given: Input) -> None:
        step = passage.step(self.state, given)
        before, self.state = self.state, step.next
        for effect in step.effects:
            self._record(effect)
        self._set_timer(step.timer)
        if step.next is not before:
            self._on_change(None)

    def _record(self, effect: Effect) -> None:
        data: dict[str, Any] = {"lane": self._settings.id, "dir": str(self._settings.direction)}
        if effect in _OUTCOMES:
            data["attempt"], self._grant = self._grant, None
        elif effect is Effect.WRONG_WAY:
            data["cause"] = "wrong_way"
        self._services.journal.note(_EVENT[effect], data)

    def _set_timer(self, timer: Timer) -> None:
        if timer is Timer.KEEP:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        seconds = {
            Timer.WAIT_FOR_START: self._settings.wait_for_start_s,
            Timer.PASSAGE: self._settings.passage_s,
            Timer.ALARM: self._settings.alarm_s,
        }.get(timer)
        if seconds is not None:
            self._timer = self._call_later(seconds, lambda: self._apply(Input.TIMEOUT))
