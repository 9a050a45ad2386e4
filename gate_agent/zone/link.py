"""Carries a ZoneState's messages over the gate's one broker link: a wake, a batch, and a tick each second.

Nothing is kept for a publication that fails (store and forward would keep tags longer than they live): the gates compare
what they know when the link is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from gate_agent.zone.facts import Effect, Moment
from gate_agent.zone.state import BATCH, ZoneState
from protocol.clock import Clock

TICK_S = 1.0


class ZoneLink:
    """`run` for ever in a task; the other methods on the same loop."""

    def __init__(
        self,
        state: ZoneState,
        publish: Callable[[str, bytes], Awaitable[object]],
        *,
        clock: Clock,
        effects: Callable[[Effect], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`publish` sends a payload on a topic with QoS 1, not retained. `effects` is told what an exchange or time has
        brought about."""
        self._state, self._publish, self._clock = state, publish, clock
        self._effects, self._sleep = effects, sleep
        self._wake = asyncio.Event()

    def connection(self, connected: bool) -> None:
        """The link, with `ZoneState.subscriptions` in place, has come or gone."""
        now = Moment.of(self._clock)
        if connected:
            self._state.link_up(now)
            self._wake.set()
        else:
            self._state.link_down(now)

    def message(self, topic: str, payload: bytes) -> None:
        """What came on a zone's topic."""
        self._tell(self._state.receive(topic, payload, Moment.of(self._clock)))
        self._wake.set()

    def wake(self) -> None:
        """A lane has reserved, committed, freed or counted, or a guard has forgiven: there may be something to send."""
        self._wake.set()

    async def run(self) -> None:
        await asyncio.gather(self._send_forever(), self._tick_forever())

    async def _send_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._state.outgoing(Moment.of(self._clock), BATCH):
                # Tasks start in the order of their making, so messages leave in order; the batch bounds what is in flight.
                await asyncio.gather(*(self._publish(each.topic, each.payload) for each in batch))

    async def _tick_forever(self) -> None:
        while True:
            self._tell(self._state.tick(Moment.of(self._clock)))
            self._wake.set()
            await self._sleep(TICK_S)

    def _tell(self, effects: Iterable[Effect]) -> None:
        for each in effects:
            self._effects(each)
