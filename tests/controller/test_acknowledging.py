"""Acknowledgements and requests as they leave: paced, only the newest of each chain, never an older one later. No broker here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from controller import ingest as ingest_module
from controller.config import Ingest as Settings
from controller.ingest import ACKS_A_SECOND, Ingest, StoreThread
from controller.store import Store
from protocol import ack, packing, replay, topics
from protocol.mqtt import CONNECTION_LOST, OK, PublishProperties, PubResult
from protocol.replay import EXPIRY_S, Replay


def nobody(_gate: str) -> None:
    """No gate is enrolled."""


SITE, WITHIN_S = "hq", 10
KEY = ec.generate_private_key(ec.SECP256R1())


@dataclass
class Line:
    """What stands for link, clock and sleep."""

    connected: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[tuple[str, bytes, bool]] = field(default_factory=list)
    expiry: list[int | None] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    """Answers to the next publications, from the last."""
    acked: int = 0
    acknowledged: asyncio.Event = field(default_factory=asyncio.Event)
    time: float = 100.0
    naps: list[float] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def wait_connected(self) -> None:
        await self.connected.wait()

    async def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, properties: PublishProperties | None = None
    ) -> PubResult:
        await asyncio.sleep(0)
        refused = self.refusals.pop() if self.refusals else None
        async with self.changed:
            if refused is None:
                self.sent.append((topic, payload, retain))
                self.expiry.append(properties.expiry if properties else None)
            self.changed.notify_all()
        return PubResult(refused is None, refused or OK)

    def ack(self, _message: Any) -> None:
        self.acked += 1
        self.acknowledged.set()

    def monotonic(self) -> float:
        return self.time

    def now(self) -> datetime:
        return datetime(2026, 11, 24, 10, 0, tzinfo=UTC)

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)

    async def wait(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S), self.changed:
            await self.changed.wait_for(holds)

    def acks(self, gate: str = "gate-1") -> list[int]:
        return [
            ack.parse(payload, SITE, gate, KEY.public_key()).seq
            for topic, payload, _ in self.sent
            if topic == topics.ack(SITE, gate)
        ]


@dataclass
class Sent:
    topic: str
    payload: bytes
    qos: int = 1
    stale: bool = False
    connection: object = None


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
async def ingest(store: Store, line: Line) -> AsyncIterator[Ingest]:
    thread = StoreThread()
    whole: Any = line
    ingest = Ingest(
        store=store,
        thread=thread,
        link=whole,
        site=SITE,
        key=KEY,
        settings=Settings(batch=500, linger_s=0.0),
        clock=whole,
        random=Random(1),
        keys=nobody,
        on_batch=lambda _done, _committed: None,
        on_condition=lambda: None,
        sleep=line.sleep,
    )
    ingest.start()
    yield ingest
    await ingest.stop()
    thread.shutdown()


async def commit(ingest: Ingest, line: Line, *payloads: bytes, gate: str = "gate-1") -> None:
    """Hand over, and wait until it is stored."""
    wanted = line.acked + len(payloads)
    for payload in payloads:
        message: Any = Sent(topics.event(SITE, gate), payload)
        ingest.receive(message)
    async with asyncio.timeout(WITHIN_S):
        while line.acked < wanted:
            line.acknowledged.clear()
            await line.acknowledged.wait()


async def test_while_there_is_no_link_only_the_newest_mark_waits(ingest: Ingest, line: Line, journal: Any) -> None:
    for record in journal.write(4):
        await commit(ingest, line, record)
    line.connected.set()
    await line.wait(lambda: bool(line.sent))
    assert line.acks() == [4]


async def test_all_gates_together_get_no_more_acknowledgements_than_the_pace_allows(
    ingest: Ingest, line: Line, new_journal: type[Any]
) -> None:
    gates = [f"gate-{number}" for number in range(120)]
    for gate in gates:
        await commit(ingest, line, *new_journal(gate).write(1), gate=gate)
    begun = line.time
    line.connected.set()
    await line.wait(lambda: len(line.sent) == len(gates))
    assert {topic for topic, _, _ in line.sent} == {topics.ack(SITE, gate) for gate in gates}
    paced = ingest_module.ACKS_AT_ONCE * (len(gates) // ingest_module.ACKS_AT_ONCE)
    assert line.time - begun >= paced / ACKS_A_SECOND
    assert ingest.figures.acks == len(gates)


async def test_an_acknowledgement_that_did_not_leave_is_sent_again(ingest: Ingest, line: Line, journal: Any) -> None:
    line.connected.set()
    line.refusals = [CONNECTION_LOST, "Quota exceeded"]
    await commit(ingest, line, *journal.write(2))
    await line.wait(lambda: bool(line.sent))
    assert line.acks() == [2]


async def test_an_older_mark_never_follows_a_newer_one(
    ingest: Ingest, line: Line, journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    retry = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds == ingest_module.ACK_RETRY_S:
            await retry.wait()
        await asyncio.sleep(0)

    monkeypatch.setattr(ingest, "_sleep", sleep)
    line.connected.set()
    line.refusals = [CONNECTION_LOST]
    await commit(ingest, line, *journal.write(1))
    await line.wait(lambda: not line.refusals)
    await commit(ingest, line, *journal.write(1))
    await line.wait(lambda: bool(line.sent))
    retry.set()
    await commit(ingest, line, *journal.write(1))
    await line.wait(lambda: len(line.sent) == 2)
    assert line.acks() == [2, 3]


async def test_a_hole_is_asked_for_signed_and_with_an_expiry(ingest: Ingest, line: Line, journal: Any) -> None:
    records = journal.write(5)
    await commit(ingest, line, packing.pack([records[0], records[4]]))
    line.connected.set()
    topic = topics.replay(SITE, "gate-1")
    await line.wait(lambda: any(sent[0] == topic for sent in line.sent))
    at = next(at for at, sent in enumerate(line.sent) if sent[0] == topic)
    _, payload, retain = line.sent[at]
    assert replay.parse(payload, SITE, "gate-1", KEY.public_key()) == Replay("e1", 2, 4)
    assert (retain, line.expiry[at]) == (False, EXPIRY_S)
