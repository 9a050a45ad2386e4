"""The lanes' machines of one full host: what they cost at rest and in the morning."""

from __future__ import annotations

import asyncio
import time

from bench.row import Row
from drivers.ports import Direction, LaneSignal
from gate_agent.passage import Credit, Passage, Settings
from gate_agent.passage.sensors import REQUIRED

LANES = 64
SECONDS = 5.0
PASSAGES_A_MINUTE = 20
"""What a lane really lets through (access-control practice)."""
STEP_S = 0.2
WALK = (
    (LaneSignal.BEAM_A, True),
    (LaneSignal.BEAM_M, True),
    (LaneSignal.BEAM_A, False),
    (LaneSignal.BEAM_B, True),
    (LaneSignal.BEAM_M, False),
    (LaneSignal.BEAM_B, False),
)


class _Lane:
    """One machine with the loop's own timers, as gate_agent.barrier drives it."""

    def __init__(self) -> None:
        self._passage = Passage(Settings())
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.completed = 0
        for signal in REQUIRED[self._passage.settings.type]:
            self.set(signal, False)

    def set(self, signal: LaneSignal, active: bool) -> None:
        self._after(self._passage.change(signal, active, self._loop.time()))

    def grant(self, attempt: str) -> None:
        self._after(self._passage.grant(Credit(attempt, Direction.IN), self._loop.time()).happenings)

    def _due(self) -> None:
        self._timer = None
        self._after(self._passage.tick(self._loop.time()))

    def _after(self, happenings: object) -> None:
        assert isinstance(happenings, list | tuple)
        self.completed += sum(1 for each in happenings if getattr(each, "effect", None) == "completed")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._passage.deadline is not None:
            self._timer = self._loop.call_at(self._passage.deadline, self._due)


async def _walks(lane: _Lane, number: int) -> None:
    period = 60 / PASSAGES_A_MINUTE
    await asyncio.sleep(period * number / LANES)
    while True:
        begin = asyncio.get_running_loop().time()
        lane.grant(f"{number}")
        for signal, active in WALK:
            lane.set(signal, active)
            await asyncio.sleep(STEP_S)
        await asyncio.sleep(max(0.0, begin + period - asyncio.get_running_loop().time()))


async def _share(*, busy: bool) -> tuple[float, int]:
    """Per cent of one core, and completed passages."""
    lanes = [_Lane() for _ in range(LANES)]
    tasks = [asyncio.create_task(_walks(lane, number)) for number, lane in enumerate(lanes)] if busy else []
    begin = time.process_time()
    await asyncio.sleep(SECONDS)
    used = time.process_time() - begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return used / SECONDS * 100, sum(lane.completed for lane in lanes)


def rows() -> list[Row]:
    resting, none = asyncio.run(_share(busy=False))
    morning, passed = asyncio.run(_share(busy=True))
    assert none == 0
    assert passed > LANES / 2
    return [
        Row(f"{LANES} lanes' machines at rest, share of one core", resting, "%", target=5.0),
        Row(f"{LANES} lanes' machines, {PASSAGES_A_MINUTE} passages a minute each", morning, "%"),
    ]
