"""The uplink on a real mosquitto with the production configuration, a journal file, and a controller that only acknowledges."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from gate_agent.journal import Journal, Record
from gate_agent.uplink import Uplink
from policy.situation import ClockQuality
from protocol import events, packing, topics
from protocol.ack import Ack
from protocol.clock import SystemClock
from protocol.events import Kind
from protocol.health import Health
from protocol.mqtt import LinkState, Message, MqttLink, MqttSettings, Will
from protocol.status import GateState
from testbed.broker import Broker, executable
from testbed.pki import DevicePki
from tests.gate_agent.uplink_bench import BOOT, CONTROLLER, GATE, SITE

WITHIN_S = 60
BACKLOG = 5000


@pytest.fixture
def pki(tmp_path: Path) -> DevicePki:
    return DevicePki(tmp_path / "pki", datetime.now(UTC))


@pytest.fixture
def broker(tmp_path: Path, pki: DevicePki) -> Iterator[Broker]:
    if executable() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    broker = Broker(tmp_path / "broker", pki, site=SITE)
    broker.start()
    yield broker
    broker.stop()


def link_of(broker: Broker, pki: DevicePki, name: str, **more: Any) -> MqttLink:
    identity = pki.client(name)
    settings = MqttSettings(
        "127.0.0.1",
        broker.port,
        pki.ca,
        identity.certificate,
        identity.key,
        name,
        clean_start=False,
        session_expiry=60,
        backoff_base=0.02,
        backoff_cap=0.1,
    )
    return MqttLink(settings, clock=SystemClock(), random=Random(1), **more)


class Controller:
    """Keeps what comes without a hole, and acknowledges it."""

    def __init__(self, broker: Broker, pki: DevicePki) -> None:
        self.link = link_of(broker, pki, "controller", on_message=self._receive)
        self.records: list[bytes] = []
        self.messages: list[int] = []
        """Records in each message, as they came."""
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []

    def _receive(self, message: Message) -> None:
        batch = packing.split(message.payload) if packing.packed(message.payload) else [message.payload]
        self.messages.append(len(batch))
        for raw in batch:
            if events.parse(raw).seq == len(self.records) + 1:
                self.records.append(raw)
        last = events.parse(self.records[-1])
        mark = Ack(last.epoch, last.seq, last.hash).encode(SITE, GATE, CONTROLLER)
        self._tasks.append(asyncio.create_task(self.link.publish(topics.ack(SITE, GATE), mark, retain=True)))
        self._changed.set()

    async def start(self) -> None:
        await self.link.subscribe(topics.event(SITE, GATE))
        self.link.start()
        async with asyncio.timeout(WITHIN_S):
            await self.link.wait_connected()

    async def stop(self) -> None:
        await self.link.stop()
        await asyncio.gather(*self._tasks)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(WITHIN_S):
            while len(self.records) < count:
                self._changed.clear()
                await self._changed.wait()


class Gate:
    def __init__(self, journal: Journal, uplink: Uplink) -> None:
        self.journal, self.uplink = journal, uplink

    async def write(self, count: int) -> list[Record]:
        found: list[Record] = []
        for start in range(0, count, 500):
            lanes = [{"lane": f"lane-{number}"} for number in range(start, min(start + 500, count))]
            found += await asyncio.gather(*(self.journal.append(Kind.LANE_OPENED, lane) for lane in lanes))
        return sorted(found, key=lambda each: each.seq)


@asynccontextmanager
async def gate_at(path: Path, broker: Broker, pki: DevicePki) -> AsyncIterator[Gate]:
    def committed(records: Sequence[Record]) -> None:
        uplink.committed(records)

    def connect(will: Will, on_message: Callable[[Message], None], on_state: Callable[[LinkState], None]) -> MqttLink:
        return link_of(broker, pki, GATE, will=will, on_message=on_message, on_state=on_state)

    async def health() -> Health:
        return Health(BOOT, "1", 1, ClockQuality.SYNCED, await journal.waiting(), 0, "t")

    journal = Journal(path, site=SITE, gate=GATE, clock=SystemClock(), random_bytes=os.urandom, on_commit=committed)
    uplink = Uplink(
        connect,
        cast(Any, journal),
        site=SITE,
        gate=GATE,
        boot=BOOT,
        controller_key=CONTROLLER.public_key(),
        in_flight=50,
        batches_in_flight=4,
        random=Random(1),
        call_later=asyncio.get_running_loop().call_later,
        state=lambda epoch, seq: GateState(BOOT, epoch, seq, ()),
        health=health,
        health_s=30,
        report=journal.note,
    )
    await journal.start()
    try:
        yield Gate(journal, uplink)
    finally:
        await uplink.stop()
        await journal.stop()


async def test_a_backlog_arrives_packed_in_order_byte_for_byte_and_then_single_records(
    broker: Broker, pki: DevicePki, tmp_path: Path
) -> None:
    controller = Controller(broker, pki)
    await controller.start()
    async with gate_at(tmp_path / "journal.db", broker, pki) as gate:
        written = await gate.write(BACKLOG)
        await gate.uplink.start()
        await controller.until(BACKLOG)
        assert controller.records == [each.raw for each in written]
        assert sum(controller.messages) == BACKLOG, "each once"
        assert len(controller.messages) <= 2 * BACKLOG / packing.MAX_RECORDS
        controller.messages.clear()
        for number in range(3):
            written += await gate.write(1)
            await controller.until(BACKLOG + number + 1)
        assert controller.messages == [1, 1, 1]
    await controller.stop()
    assert controller.records == [each.raw for each in written]


async def test_a_broker_that_is_killed_under_a_backlog_costs_no_record(
    broker: Broker, pki: DevicePki, tmp_path: Path
) -> None:
    controller = Controller(broker, pki)
    await controller.start()
    async with gate_at(tmp_path / "journal.db", broker, pki) as gate:
        written = await gate.write(BACKLOG)
        await gate.uplink.start()
        await controller.until(BACKLOG // 5)
        broker.kill()
        broker.start()
        await controller.until(BACKLOG)
    await controller.stop()
    assert controller.records[:BACKLOG] == [each.raw for each in written]
