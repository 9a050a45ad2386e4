"""An uplink on a bench: the broker's side and the timers are the test's, and an outbox in memory where no file is needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric import ec

from gate_agent.journal import AckMismatchError, Record, RecordUnavailableError
from gate_agent.uplink import Outbox, Uplink
from policy.situation import ClockQuality
from protocol import events, mqtt, packing, topics
from protocol.ack import Ack
from protocol.events import Kind
from protocol.health import Health
from protocol.mqtt import LinkState, Message, PublishProperties, PubResult, Will
from protocol.replay import Replay
from protocol.status import GateState, LaneState, LaneStatus
from tests.conftest import NOW
from tests.gate_agent.fakes import FakeClock, FakeTimers

SITE, GATE, BOOT = "seoul-1", "gate-1", "7-0011223344556677"
EVENTS, ONLINE, STATE = topics.event(SITE, GATE), topics.online(SITE, GATE), topics.state(SITE, GATE)
ALARM = topics.alarm(SITE, GATE)
CONTROLLER = ec.generate_private_key(ec.SECP256R1())
OK = PubResult(True, mqtt.OK)
DENIED = PubResult(False, "Not authorized")
WINDOW, BATCHES = 5, 2


def numbers(payload: bytes) -> list[int]:
    """Sequence numbers of one message."""
    records = packing.split(payload) if packing.packed(payload) else [payload]
    return [events.parse(record).seq for record in records]


@dataclass
class Published:
    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: PublishProperties | None


@dataclass
class FakeBroker:
    """The broker's side of a link: what came, and what it answers."""

    will: Will
    on_message: Callable[[Message], None]
    on_state: Callable[[LinkState], None]
    connected: bool = False
    answer: Callable[[Published], PubResult] = lambda _: OK
    held: asyncio.Event | None = None
    """Set: answers to records wait for it."""
    log: list[Published] = field(default_factory=list)
    filters: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: bool = False
    outstanding: int = 0
    """Records whose publication is not answered yet."""
    losses: int = 0
    most: int = 0
    """The highest that it was."""

    def start(self) -> None:
        pass

    async def stop(self, timeout: float = 2.0) -> None:
        self.stopped, self.connected = True, False

    def connect(self) -> None:
        self.connected = True
        self.on_state(LinkState(True, False, ""))

    def lose(self) -> None:
        self.connected = False
        self.losses += 1
        if self.held is not None:
            self.held.set()
            self.held = asyncio.Event()
        self.on_state(LinkState(False, False, "connection refused"))

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: PublishProperties | None = None,
    ) -> PubResult:
        if not self.connected:
            return PubResult(False, mqtt.NOT_CONNECTED)
        losses = self.losses
        one = Published(topic, payload, qos, retain, properties)
        self.log.append(one)
        self.changed.set()
        if self.held is not None and topic == EVENTS:
            self.outstanding += len(numbers(payload))
            self.most = max(self.most, self.outstanding)
            try:
                await self.held.wait()
            finally:
                self.outstanding -= len(numbers(payload))
            if self.losses != losses:
                return PubResult(False, mqtt.CONNECTION_LOST)
        return self.answer(one)

    async def subscribe(self, topic_filter: str, qos: int = 1) -> PubResult:
        self.filters.append(topic_filter)
        return PubResult(False, mqtt.NOT_CONNECTED)

    def acknowledge(self, record: Record, hash_: str | None = None) -> None:
        self.give(Ack(record.epoch, record.seq, hash_ or record.hash).encode(SITE, GATE, CONTROLLER))

    def ask(self, epoch: str, first: int, last: int, key: ec.EllipticCurvePrivateKey = CONTROLLER) -> None:
        self.give(Replay(epoch, first, last).encode(SITE, GATE, key), topics.replay(SITE, GATE))

    def give(self, payload: bytes, topic: str = topics.ack(SITE, GATE)) -> None:
        no_connection = cast(Any, None)
        self.on_message(Message(topic, payload, 1, True, {}, 1, no_connection))

    @property
    def messages(self) -> list[list[int]]:
        """Sequence numbers, a list for each message."""
        return [numbers(each.payload) for each in self.of(EVENTS)]

    @property
    def seqs(self) -> list[int]:
        return [seq for message in self.messages for seq in message]

    def of(self, topic: str) -> list[Published]:
        return [each for each in self.log if each.topic == topic]

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not reached():
                self.changed.clear()
                await self.changed.wait()


def record(seq: int, epoch: str = "e2", kind: Kind = Kind.LANE_OPENED, **data: Any) -> Record:
    raw = events.build(
        site=SITE, gate=GATE, epoch=epoch, seq=seq, kind=kind, time=NOW, prevhash=events.GENESIS, data=data
    )
    return Record(epoch, seq, raw, events.record_hash(raw))


class MemoryOutbox:
    """An outbox without a file: what waits, of the epoch being written and of one before."""

    def __init__(self, epoch: str = "e2") -> None:
        self.epoch, self.seq = epoch, 0
        self.records: dict[int, Record] = {}
        self.waiting: dict[int, Record] = {}
        self.salvaged: dict[int, Record] = {}
        self.requeued: list[tuple[str, int, int]] = []
        self.available = True
        self.on_commit: Callable[[Sequence[Record]], None] = lambda _records: None

    def add(self, count: int, kind: Kind = Kind.LANE_OPENED, **data: Any) -> list[Record]:
        """In one commit."""
        added = [record(self.seq + number, self.epoch, kind, **data) for number in range(1, count + 1)]
        self.seq += count
        self.records.update({each.seq: each for each in added})
        self.waiting.update({each.seq: each for each in added})
        self.on_commit(added)
        return added

    async def _step(self) -> None:
        await asyncio.sleep(0)  # as the real one, it never answers in the same turn of the loop
        if not self.available:
            raise RecordUnavailableError("full")

    async def position(self) -> tuple[str, int]:
        await self._step()
        return self.epoch, self.seq

    async def unsent(self, after: int, limit: int) -> Sequence[Record]:
        await self._step()
        own = [each for seq, each in sorted(self.waiting.items()) if seq > after]
        return [*(self.salvaged[seq] for seq in sorted(self.salvaged)), *own][:limit]

    async def acknowledge(self, ack: Ack) -> bool:
        await self._step()
        rows = self.waiting if ack.epoch == self.epoch else self.salvaged
        if ack.epoch == self.epoch and (ack.seq not in self.records or self.records[ack.seq].hash != ack.hash):
            raise AckMismatchError(f"record {ack.seq}")
        gone = [seq for seq, each in rows.items() if each.epoch == ack.epoch and seq <= ack.seq]
        for seq in gone:
            del rows[seq]
        return bool(gone)

    async def requeue(self, epoch: str, first: int, last: int, limit: int) -> int:
        await self._step()
        self.requeued.append((epoch, first, last))
        if epoch != self.epoch:
            return 0
        found = [each for seq, each in sorted(self.records.items()) if first <= seq <= last][:limit]
        self.waiting.update({each.seq: each for each in found})
        return len(found)


@dataclass
class Bench:
    uplink: Uplink
    broker: FakeBroker
    timers: FakeTimers
    reports: list[tuple[Kind, dict[str, str]]]

    async def turns(self, count: int = 60) -> None:
        """Turns of the loop: enough for everything that needs no thread and no timer."""
        for _ in range(count):
            await asyncio.sleep(0)


@asynccontextmanager
async def uplink_bench(
    outbox: Outbox,
    *,
    clock: FakeClock | None = None,
    in_flight: int = WINDOW,
    batches_in_flight: int = BATCHES,
    report: Callable[[Kind, dict[str, str]], None] = lambda _kind, _data: None,
) -> AsyncIterator[Bench]:
    timers = FakeTimers(clock or FakeClock())
    made: list[FakeBroker] = []
    reports: list[tuple[Kind, dict[str, str]]] = []

    def connect(will: Will, on_message: Callable[[Message], None], on_state: Callable[[LinkState], None]) -> FakeBroker:
        made.append(FakeBroker(will, on_message, on_state))
        return made[0]

    async def health() -> Health:
        return Health(BOOT, "1", 1, ClockQuality.SYNCED, 0, 0, "t")

    async def pause(_seconds: float) -> None:
        await asyncio.Event().wait()

    def reported(kind: Kind, data: dict[str, str]) -> None:
        reports.append((kind, data))
        report(kind, data)

    uplink = Uplink(
        connect,
        outbox,
        site=SITE,
        gate=GATE,
        boot=BOOT,
        controller_key=CONTROLLER.public_key(),
        in_flight=in_flight,
        batches_in_flight=batches_in_flight,
        random=Random(1),
        call_later=timers.call_later,
        state=lambda epoch, seq: GateState(BOOT, epoch, seq, (LaneStatus("l", "in", LaneState.SECURED),)),
        health=health,
        health_s=30,
        report=reported,
        sleep=pause,
    )
    if isinstance(outbox, MemoryOutbox):
        outbox.on_commit = uplink.committed
    await uplink.start()
    try:
        yield Bench(uplink, made[0], timers, reports)
    finally:
        if not made[0].stopped:
            await uplink.stop()
