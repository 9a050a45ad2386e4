"""Two gates of a zone over a real broker with the access list that the controller makes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from drivers.ports import Direction
from gate_agent.zone import Effect, EnteredTwice, Fact, Finding, Moment, ZoneLink, ZoneSettings, ZoneState
from protocol.clock import SystemClock
from protocol.mqtt import LinkState, Message, MqttLink, MqttSettings
from testbed.broker import Broker, executable
from testbed.pki import DevicePki
from tests.gate_agent.zone.network import SITE, ZONE, Keys, handle

WITHIN_S = 20
IN = Direction.IN


@pytest.fixture
def pki(tmp_path: Path) -> DevicePki:
    return DevicePki(tmp_path / "pki", datetime.now(UTC))


@pytest.fixture
def broker(tmp_path: Path, pki: DevicePki) -> Iterator[Broker]:
    if executable() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    broker = Broker(tmp_path / "broker", pki, site=SITE, gates=("gate-1", "gate-2", "gate-3"))
    broker.start()
    yield broker
    broker.stop()


class Gate:
    """A ZoneState, its link, and an event for whatever happens to it."""

    def __init__(self, name: str, directory: Path, broker: Broker, pki: DevicePki, keys: Keys) -> None:
        self.clock = SystemClock()
        self.effects: list[Effect] = []
        self.changed = asyncio.Event()
        self.state = ZoneState(
            directory / f"{name}.sqlite",
            site=SITE,
            gate=name,
            zones=[ZoneSettings(ZONE)],
            keys=keys,
            random_bytes=os.urandom,
            now=self.now(),
        )
        identity = pki.client(name)
        settings = MqttSettings(
            host="127.0.0.1",
            port=broker.port,
            ca=pki.ca,
            certificate=identity.certificate,
            key=identity.key,
            client_id=name,
            backoff_base=0.02,
            backoff_cap=0.1,
        )
        self.mqtt = MqttLink(
            settings, clock=self.clock, random=Random(1), on_message=self._on_message, on_state=self._on_state
        )
        self.link = ZoneLink(self.state, self.mqtt.publish, clock=self.clock, effects=self.effects.append)

    def now(self) -> Moment:
        return Moment.of(self.clock)

    def _on_message(self, message: Message) -> None:
        self.link.message(message.topic, message.payload)
        self.changed.set()

    def _on_state(self, state: LinkState) -> None:
        self.link.connection(state.connected)
        self.changed.set()

    def find(self, number: int) -> Finding:
        return self.state.find(ZONE, handle(number), "l1", IN, self.now())

    def enter(self, number: int) -> None:
        attempt, found = os.urandom(8).hex(), self.find(number)
        assert self.state.reserve(ZONE, handle(number), attempt, "l1", IN, self.now(), decided_on=found) is None
        self.effects += self.state.commit(attempt, self.now())
        self.state.passed(ZONE, IN, self.now())
        self.link.wake()

    async def until(self, number: int, fact: Fact) -> None:
        while self.find(number).fact is not fact:
            self.changed.clear()
            await self.changed.wait()


@asynccontextmanager
async def running(*gates: Gate) -> AsyncIterator[None]:
    tasks = []
    for gate in gates:
        for each in gate.state.subscriptions:
            await gate.mqtt.subscribe(each)
        gate.mqtt.start()
        tasks.append(asyncio.create_task(gate.link.run()))
    try:
        async with asyncio.timeout(WITHIN_S):
            yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for gate in gates:
            await gate.mqtt.stop()
            gate.state.close()


async def test_gates_tell_each_other_and_make_up_for_a_broker_that_was_gone(
    tmp_path: Path, broker: Broker, pki: DevicePki
) -> None:
    keys = Keys()
    first, second = (Gate(name, tmp_path, broker, pki, keys) for name in ("gate-1", "gate-2"))
    async with running(first, second):
        await first.until(1, Fact.CLEAR)
        await second.until(1, Fact.CLEAR)
        first.enter(1)
        await second.until(1, Fact.INSIDE)
        assert second.state.occupancy(ZONE, second.now()) == 1
        broker.kill()
        while first.mqtt.connected or second.mqtt.connected:
            await asyncio.gather(*(gate.changed.wait() for gate in (first, second) if gate.mqtt.connected))
            first.changed.clear()
            second.changed.clear()
        for number in range(2, 60):
            first.enter(number)
        second.enter(60)
        broker.start()
        for number in (2, 59):
            await second.until(number, Fact.INSIDE)
        await first.until(60, Fact.INSIDE)
        assert {gate.state.occupancy(ZONE, gate.now()) for gate in (first, second)} == {60}
        assert not any(isinstance(each, EnteredTwice) for each in (*first.effects, *second.effects))
        assert set(first.state.dropped) <= {"own"}
