"""Carries out the steps of a plan on a rig."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from testbed.chaos.plan import CONTROLLER, Action, Step
from testbed.chaos.proxy import Mode, Pace, Proxy
from testbed.chaos.rig import Gate, Rig

PROGRESS_S = 60.0
"""Longest wait for a step's records: a gate that makes none in this time has failed."""
NARROW = 20_000.0
"""Bytes a second of a slow line."""
_MODES = {Action.HOLD: Mode.HOLD, Action.SWALLOW: Mode.SWALLOW, Action.REFUSE: Mode.REFUSE}


class Player:
    """`played` counts what has happened so far."""

    def __init__(self, rig: Rig, say: Callable[[Step], None] = lambda _step: None) -> None:
        self._rig, self._say = rig, say
        self._backup: Path | None = None
        self.played: Counter[Action] = Counter()

    async def play(self, steps: Iterable[Step], until_done: Callable[[], bool] = lambda: False) -> None:
        """All of `steps`, or as many as begin before `until_done`. Raises ChaosError."""
        for step in steps:
            if until_done():
                return
            self._say(step)
            await self._step(step)
            self.played[step.action] += 1

    async def _step(self, step: Step) -> None:
        rig = self._rig
        gate = rig.gates[0] if step.target == CONTROLLER else rig.gate(step.target)
        await self._durable(gate, step.before)
        match step.action:
            case Action.KILL_GATE:
                rig.kill_gate(gate)
            case Action.STOP_GATE:
                await rig.stop_gate(gate)
            case Action.KILL_CONTROLLER:
                rig.kill_controller()
            case Action.KILL_BROKER | Action.BROKER_FORGETS:
                await asyncio.to_thread(rig.kill_broker, forget=step.action is Action.BROKER_FORGETS)
            case Action.HOLD | Action.SWALLOW | Action.CUT | Action.REFUSE | Action.SLOW:
                proxy = rig.proxy if step.target == CONTROLLER else gate.proxy
                self._worsen(proxy, step)
                await self._durable(gate, step.records)
                proxy.mend()
            case Action.CLOCK:
                rig.set_clocks(step.amount)
            case Action.RESEND:
                await rig.resend(gate, int(step.amount))
            case Action.BACK_UP:
                self._backup = await asyncio.to_thread(rig.back_up)
            case Action.RESTORE:
                if self._backup is None:
                    self._backup = await asyncio.to_thread(rig.back_up)
                    await self._durable(gate, step.records)
                await asyncio.to_thread(rig.restore, self._backup)

    @staticmethod
    def _worsen(proxy: Proxy, step: Step) -> None:
        if step.action is Action.SLOW:
            proxy.pace = Pace(step.amount, step.amount / 2, NARROW)
        elif step.action is Action.CUT:
            proxy.cut()
        else:
            proxy.worsen(_MODES[step.action])

    @staticmethod
    async def _durable(gate: Gate, count: int) -> None:
        """Until `count` more appends of this gate have returned."""
        if count:
            goal = len(gate.recorded().promises) + count
            await gate.until(lambda found: len(found.promises) >= goal, f"{count} records", PROGRESS_S)
