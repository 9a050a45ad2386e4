"""What a gate says of itself beside its records: birth and will, retained state, health.

The birth goes out with every connection, before any record. The will is the broker's to publish, after WILL_DELAY_S, and
carries the same boot id: a controller that has seen a newer birth knows it for a stale one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from gate_agent.journal import RecordUnavailableError
from gate_agent.uplink_faults import Answer, Faults
from protocol import topics
from protocol.backoff import Backoff
from protocol.health import EXPIRY_S, Health
from protocol.mqtt import Publisher, PublishProperties, Will
from protocol.status import GateState, Online

WILL_DELAY_S = 15
"""A gate that is back within it leaves no trace of having been offline."""
BIRTH_AGAIN_S = WILL_DELAY_S + 5.0
"""A will of the connection before that comes late, out of the broker's turn, is overruled by a second birth."""
RETRY_BASE_S, RETRY_CAP_S = 5.0, 60.0
"""What the broker refuses is offered again at this pace."""


Later = Callable[[str, float, Callable[[], None]], None]
"""(Re)start the timer of a name: name, seconds, what to call."""


def last_will(site: str, gate: str, boot: str) -> Will:
    return Will(topics.online(site, gate), Online(False, boot).encode(), retain=True, delay=WILL_DELAY_S)


class Presence:
    def __init__(
        self,
        broker: Publisher,
        faults: Faults,
        *,
        site: str,
        gate: str,
        boot: str,
        position: Callable[[], Awaitable[tuple[str, int]]],
        state: Callable[[str, int], GateState],
        health: Callable[[], Awaitable[Health]],
        health_s: float,
        random: Random,
        later: Later,
        birth_due: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """`birth_due` is called when `give_birth` has something to do outside a new connection."""
        self._broker, self._faults, self._boot, self._position = broker, faults, boot, position
        self._state, self._health, self._health_s, self._sleep = state, health, health_s, sleep
        self._later, self._birth_due = later, birth_due
        self._online, self._state_topic = topics.online(site, gate), topics.state(site, gate)
        self._health_topic = topics.health(site, gate)
        self._again = {leaf: Backoff(RETRY_BASE_S, RETRY_CAP_S, random) for leaf in ("online", "state")}
        self._changed, self._connected = asyncio.Event(), asyncio.Event()
        self._born = False

    def connected(self) -> None:
        """A new connection."""
        self._born = False
        self._connected.set()
        self._changed.set()
        self._later("online", BIRTH_AGAIN_S, self._unborn)

    def state_changed(self) -> None:
        """A lane or device changed."""
        self._changed.set()

    async def give_birth(self) -> None:
        """Say that the gate is there, unless that has been said."""
        if not self._born:
            self._born = True
            await self._retain("online", self._online, Online(True, self._boot).encode(), self._unborn)

    async def say_goodbye(self) -> None:
        result = await self._broker.publish(self._online, Online(False, self._boot).encode(), retain=True)
        self._faults.judge("online", result)

    async def keep_state(self) -> None:
        """For ever: publish the state, retained, whenever it changes."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._broker.connected:
                continue  # connecting sets the event again
            try:
                epoch, seq = await self._position()
            except RecordUnavailableError:
                epoch, seq = "none", 0
            await self._retain("state", self._state_topic, self._state(epoch, seq).encode(), self._changed.set)

    async def report_health(self) -> None:
        """For ever: QoS 0, not retained, gone from the broker when the next ones are due."""
        properties = PublishProperties("application/json", expiry=EXPIRY_S)
        while True:
            await self._connected.wait()
            payload = (await self._health()).encode()
            result = await self._broker.publish(self._health_topic, payload, qos=0, properties=properties)
            self._faults.judge("health", result)
            await self._sleep(self._health_s)

    def _unborn(self) -> None:
        self._born = False
        self._birth_due()

    async def _retain(self, leaf: str, topic: str, payload: bytes, again: Callable[[], None]) -> None:
        found = self._faults.judge(leaf, await self._broker.publish(topic, payload, retain=True))
        if found is Answer.TAKEN:
            self._again[leaf].reset()
        elif found is not Answer.AGAIN:
            self._later(leaf, self._again[leaf].next(), again)
