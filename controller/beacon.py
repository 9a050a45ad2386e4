"""Tells every gate the controller's time, so that each can measure its drift (protocol.beacon). Nothing is sent while the broker
is away: an old time is worse than none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from protocol import topics
from protocol.beacon import EXPIRY_S, INTERVAL_S, Beacon
from protocol.clock import Clock
from protocol.mqtt import Publisher, PublishProperties


class Beacons:
    def __init__(
        self, link: Publisher, *, site: str, clock: Clock, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._link, self._topic, self._clock, self._sleep = link, topics.time(site), clock, sleep
        self._seq = 0

    async def run(self) -> None:
        """Returns never."""
        while True:
            if self._link.connected:
                self._seq += 1
                beacon = Beacon(self._clock.now(), self._seq)
                await self._link.publish(
                    self._topic, beacon.encode(), qos=0, properties=PublishProperties(expiry=EXPIRY_S)
                )
            await self._sleep(INTERVAL_S)
