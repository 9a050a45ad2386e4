from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gate_agent.journal import Journal, Record
from gate_agent.uplink import RESEND_BASE_S, RESEND_CAP_S, Uplink
from policy.situation import ClockQuality
from protocol import events, mqtt, topics
from protocol.ack import Ack
from protocol.events import Kind
from protocol.health import Health
from protocol.health import parse as parse_health
from protocol.mqtt import LinkState, Message, PublishProperties, PubResult, Will
from protocol.status import GateState, LaneState, LaneStatus, parse_online, parse_state
from tests.gate_agent.fakes import FakeClock, FakeTimers

SITE, GATE, BOOT = "seoul-1", "gate-1", "0011223344556677"
EVENTS, ONLINE, STATE = topics.event(SITE, GATE), topics.online(SITE, GATE), topics.state(SITE, GATE)
CONTROLLER = ec.generate_private_key(ec.SECP256R1())
OK = PubResult(True, mqtt.OK)
DENIED = PubResult(False, "Not authorized")


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
    log: list[Published] = field(default_factory=list)
    filters: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: bool = False

    def start(self) -> None:
        pass

    async def stop(self, timeout: float = 2.0) -> None:
        self.stopped, self.connected = True, False

    def connect(self) -> None:
        self.connected = True
        self.on_state(LinkState(True, False, ""))

    def lose(self) -> None:
        self.connected = False
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
        one = Published(topic, payload, qos, retain, properties)
        self.log.append(one)
        self.changed.set()
        return self.answer(one)

    async def subscribe(self, topic_filter: str, qos: int = 1) -> PubResult:
        self.filters.append(topic_filter)
        return PubResult(False, mqtt.NOT_CONNECTED)

    def acknowledge(self, record: Record, hash_: str | None = None) -> None:
        self.give(Ack(record.epoch, record.seq, hash_ or record.hash).encode(SITE, GATE, CONTROLLER))

    def give(self, payload: bytes) -> None:
        self.on_message(Message(topics.ack(SITE, GATE), payload, 1, True, {}, 1, None))  # type: ignore[arg-type]  # no real connection

    @property
    def seqs(self) -> list[int]:
        return [events.parse(each.payload).seq for each in self.log if each.topic == EVENTS]

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not reached():
                self.changed.clear()
                await self.changed.wait()


@dataclass
class Bench:
    journal: Journal
    uplink: Uplink
    broker: FakeBroker
    timers: FakeTimers
    reports: list[tuple[Kind, dict[str, str]]]

    async def write(self, count: int) -> list[Record]:
        return [await self.journal.append(Kind.ALARM_FORCED, {"lane": str(number)}) for number in range(count)]

    async def settle(self) -> None:
        """Until the uplink has dealt with what it was given: the journal's thread answers in order."""
        for _ in range(20):
            await self.journal.position()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = FakeClock()
    timers = FakeTimers(clock)
    made: list[FakeBroker] = []
    reports: list[tuple[Kind, dict[str, str]]] = []

    def connect(will: Will, on_message: Callable[[Message], None], on_state: Callable[[LinkState], None]) -> FakeBroker:
        made.append(FakeBroker(will, on_message, on_state))
        return made[0]

    def committed() -> None:
        uplink.records_waiting()  # made below: journal and uplink know each other

    journal = Journal(
        tmp_path / "journal.db",
        site=SITE,
        gate=GATE,
        clock=clock,
        random_bytes=os.urandom,
        on_commit=committed,
    )

    async def health() -> Health:
        return Health(BOOT, "1", 1, ClockQuality.SYNCED, await journal.waiting(), 0, "t")

    async def pause(_seconds: float) -> None:
        await asyncio.Event().wait()

    uplink = Uplink(
        connect,
        journal,
        site=SITE,
        gate=GATE,
        boot=BOOT,
        controller_key=CONTROLLER.public_key(),
        in_flight=5,
        random=Random(1),
        call_later=timers.call_later,
        state=lambda epoch, seq: GateState(BOOT, epoch, seq, (LaneStatus("l", "in", LaneState.SECURED),)),
        health=health,
        health_s=30,
        report=lambda kind, data: reports.append((kind, data)),
        sleep=pause,
    )
    await journal.start()
    await uplink.start()
    yield Bench(journal, uplink, made[0], timers, reports)
    if not made[0].stopped:
        await uplink.stop()
    await journal.stop()


async def test_records_go_out_in_sequence_as_the_exact_bytes_of_the_journal(bench: Bench) -> None:
    records = await bench.write(3)
    bench.broker.connect()
    await bench.broker.until(lambda: len(bench.broker.seqs) == 3)
    sent = [each for each in bench.broker.log if each.topic == EVENTS]
    assert [each.payload for each in sent] == [record.raw for record in records]
    assert {(each.qos, each.retain) for each in sent} == {(1, False)}
    assert sent[0].properties is not None
    assert dict(sent[0].properties.user) == {"seq": "1", "boot": BOOT}


async def test_birth_comes_before_records_and_the_will_carries_the_same_boot(bench: Bench) -> None:
    await bench.write(1)
    bench.broker.connect()
    await bench.broker.until(lambda: bool(bench.broker.seqs))
    first = next(each for each in bench.broker.log if each.topic in {ONLINE, EVENTS})
    assert (first.topic, first.retain) == (ONLINE, True)
    assert (parse_online(first.payload).online, parse_online(first.payload).boot) == (True, BOOT)
    will = parse_online(bench.broker.will.payload)
    assert (bench.broker.will.topic, will.online, will.boot, bench.broker.will.retain) == (ONLINE, False, BOOT, True)


async def test_at_most_a_window_is_in_flight_until_the_controller_acknowledges(bench: Bench) -> None:
    bench.broker.connect()
    records = await bench.write(12)
    await bench.broker.until(lambda: len(bench.broker.seqs) == 5)
    await bench.settle()
    assert bench.broker.seqs == [1, 2, 3, 4, 5]
    bench.broker.acknowledge(records[2])
    await bench.broker.until(lambda: len(bench.broker.seqs) == 8)
    bench.broker.acknowledge(records[7])
    await bench.broker.until(lambda: len(bench.broker.seqs) == 12)
    bench.broker.acknowledge(records[11])
    await bench.settle()
    assert bench.broker.seqs == list(range(1, 13))
    assert await bench.journal.waiting() == 0


async def test_a_puback_alone_removes_nothing(bench: Bench) -> None:
    bench.broker.connect()
    await bench.write(2)
    await bench.broker.until(lambda: len(bench.broker.seqs) == 2)
    await bench.settle()
    assert await bench.journal.waiting() == 2


async def test_without_an_acknowledgement_the_window_is_sent_again_with_back_off(bench: Bench) -> None:
    bench.broker.connect()
    await bench.write(2)
    await bench.broker.until(lambda: len(bench.broker.seqs) == 2)
    bench.timers.advance(RESEND_BASE_S)
    await bench.broker.until(lambda: len(bench.broker.seqs) == 4)
    for rounds in range(3, 6):
        bench.timers.advance(RESEND_CAP_S)
        await bench.broker.until(lambda rounds=rounds: len(bench.broker.seqs) >= 2 * rounds)  # type: ignore[misc]  # lambda default
    assert bench.broker.seqs == [1, 2] * (len(bench.broker.seqs) // 2)


async def test_after_a_lost_connection_everything_unacknowledged_goes_again(bench: Bench) -> None:
    bench.broker.connect()
    records = await bench.write(3)
    await bench.broker.until(lambda: len(bench.broker.seqs) == 3)
    bench.broker.acknowledge(records[0])
    await bench.settle()
    bench.broker.lose()
    assert bench.uplink.degraded == ["no_uplink"]
    await bench.write(1)
    bench.broker.connect()
    await bench.broker.until(lambda: len(bench.broker.seqs) == 6)
    assert bench.broker.seqs[3:] == [2, 3, 4]
    assert bench.uplink.degraded == []
    assert bench.reports == [
        (Kind.DEVICE_DEGRADED, {"device": "uplink", "why": "not connected: connection refused"}),
        (Kind.DEVICE_RESTORED, {"device": "uplink"}),
    ]


async def test_an_outage_is_one_event_however_often_the_connection_fails(bench: Bench) -> None:
    for _ in range(5):
        bench.broker.lose()
    assert len(bench.reports) == 1


async def test_a_refused_publication_is_an_alarm_and_is_tried_again(bench: Bench) -> None:
    bench.broker.answer = lambda each: DENIED if each.topic == EVENTS else OK
    bench.broker.connect()
    await bench.write(1)
    await bench.broker.until(lambda: bool(bench.broker.seqs))
    await bench.settle()
    assert bench.reports == [(Kind.DEVICE_DEGRADED, {"device": "uplink", "why": "refused: Not authorized"})]
    assert bench.uplink.degraded == ["uplink_refused"]
    assert await bench.journal.waiting() == 1
    bench.broker.answer = lambda _: OK
    bench.timers.advance(RESEND_CAP_S)
    await bench.broker.until(lambda: len(bench.broker.seqs) == 2)
    await bench.settle()
    assert bench.reports[1:] == [(Kind.DEVICE_RESTORED, {"device": "uplink"})]


async def test_an_acknowledgement_of_another_hash_stops_the_uplink_with_an_alarm(bench: Bench) -> None:
    bench.broker.connect()
    records = await bench.write(2)
    await bench.broker.until(lambda: len(bench.broker.seqs) == 2)
    bench.broker.acknowledge(records[1], "f" * 64)
    await bench.settle()
    await bench.write(1)
    bench.timers.advance(RESEND_CAP_S)
    await bench.settle()
    assert bench.reports == [(Kind.DEVICE_DEGRADED, {"device": "uplink", "why": "ack_mismatch"})]
    assert bench.uplink.degraded == ["ack_mismatch"]
    assert bench.broker.seqs == [1, 2]
    assert await bench.journal.waiting() == 3


async def test_a_right_acknowledgement_ends_the_alarm(bench: Bench) -> None:
    bench.broker.connect()
    records = await bench.write(2)
    bench.broker.acknowledge(records[1], "f" * 64)
    await bench.settle()
    bench.broker.acknowledge(records[0])
    await bench.settle()
    assert bench.uplink.degraded == []
    await bench.broker.until(lambda: 2 in bench.broker.seqs)


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff" * 600, b'{"v":1,"epoch":"e","seq":true,"hash":"x"}'])
async def test_what_is_no_acknowledgement_is_ignored(bench: Bench, payload: bytes) -> None:
    bench.broker.connect()
    await bench.write(1)
    bench.broker.give(payload)
    await bench.settle()
    assert await bench.journal.waiting() == 1
    assert bench.uplink.degraded == []


async def test_state_is_retained_and_says_how_old_it_is(bench: Bench) -> None:
    records = await bench.write(2)
    bench.broker.connect()
    await bench.broker.until(lambda: any(each.topic == STATE for each in bench.broker.log))
    found = next(each for each in bench.broker.log if each.topic == STATE)
    state = parse_state(found.payload)
    assert (found.retain, state.epoch, state.seq) == (True, records[1].epoch, 2)
    before = len(bench.broker.log)
    bench.uplink.state_changed()
    await bench.broker.until(lambda: any(each.topic == STATE for each in bench.broker.log[before:]))


async def test_only_its_own_acknowledgements_are_subscribed(bench: Bench) -> None:
    assert bench.broker.filters == [topics.ack(SITE, GATE)]


async def test_a_clean_stop_sends_what_is_left_and_says_goodbye(bench: Bench) -> None:
    bench.broker.connect()
    await bench.broker.until(lambda: any(each.topic == ONLINE for each in bench.broker.log))
    bench.journal.note(Kind.GATE_STOPPED, {})
    await bench.uplink.stop()
    assert bench.broker.seqs == [1]
    last = bench.broker.log[-1]
    assert (last.topic, parse_online(last.payload).online) == (ONLINE, False)
    assert bench.broker.stopped


async def test_health_goes_out_on_connecting_unretained_and_expires(bench: Bench) -> None:
    topic = topics.health(SITE, GATE)
    bench.broker.connect()
    await bench.broker.until(lambda: any(each.topic == topic for each in bench.broker.log))
    found = next(each for each in bench.broker.log if each.topic == topic)
    assert parse_health(found.payload).boot == BOOT
    assert (found.qos, found.retain) == (0, False)
    assert found.properties is not None
    assert found.properties.expiry == 90
