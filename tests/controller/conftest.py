"""Gates as the controller sees them: records of a hash chain, a broker, and a controller on ephemeral ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from controller.batch import Committed
from controller.config import ControllerConfig, load
from controller.main import Controller
from controller.sorting import Keys, sort
from controller.store import Store
from mdoc.cose import PublicKey
from protocol import ack, events, replay, topics
from protocol.ack import Ack
from protocol.clock import SystemClock
from protocol.events import Kind
from protocol.mqtt import Message, MqttLink, MqttSettings
from protocol.replay import Replay
from protocol.statement import Purpose, Statement
from testbed.broker import Broker, executable
from testbed.pki import DevicePki
from tests.controller.past import Past

WITHIN_S = 10
SITE = "hq"
START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


class OnThatDay(SystemClock):
    """The day of the records: what a page counts as today must not depend on when the test runs."""

    def now(self) -> datetime:
        return START + timedelta(minutes=5)


SEOUL = ZoneInfo("Asia/Seoul")


@dataclass(frozen=True, slots=True)
class Sent:
    """One message, as sorting wants it."""

    topic: str
    payload: bytes


STATING = {
    Purpose.CHECKPOINT: Kind.JOURNAL_CHECKPOINT,
    Purpose.GAP: Kind.LOG_GAP,
    Purpose.PRUNED: Kind.JOURNAL_PRUNED,
}
GATE_KEY = ec.generate_private_key(ec.SECP256R1())
"""Every gate's own, here."""


@dataclass
class Journal:
    """A gate's journal: records chained by hash, one sequence per epoch."""

    gate: str = "gate-1"
    epoch: str = "e1"
    records: list[bytes] = field(default_factory=list)

    def write(
        self, how_many: int = 1, kind: Kind = Kind.ACCESS_GRANTED, prevhash: str | None = None, **data: Any
    ) -> list[bytes]:
        new = []
        for _ in range(how_many):
            before = events.record_hash(self.records[-1]) if self.records else events.GENESIS
            seq = len(self.records) + 1
            record = events.build(
                site=SITE,
                gate=self.gate,
                epoch=self.epoch,
                seq=seq,
                kind=kind,
                time=START + timedelta(seconds=seq),
                prevhash=prevhash or before,
                data={
                    "v": events.SCHEMA,
                    "lane": "l1",
                    "dir": "in",
                    "attempt": f"{self.gate}-{self.epoch}-{seq}",
                    "carrier": "qr",
                    **data,
                },
            )
            self.records.append(record)
            new.append(record)
        return new

    def state(
        self, purpose: Purpose, first: int, last: int, /, key: ec.EllipticCurvePrivateKey = GATE_KEY, **changes: Any
    ) -> bytes:
        """The next record: a signed statement about `first` to `last` of this epoch."""
        digest = events.record_hash(self.records[last - 1])
        statement = replace(Statement(SITE, self.gate, self.epoch, first, last, digest), **changes)
        return self.write(1, STATING[purpose], **statement.data(purpose, key))[0]

    def ack(self, seq: int) -> Ack:
        return Ack(self.epoch, seq, events.record_hash(self.records[seq - 1]))


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def new_journal() -> type[Journal]:
    return Journal


def keys(_gate: str) -> PublicKey | None:
    return GATE_KEY.public_key()


def commit(store: Store, *payloads: bytes, gate: str = "gate-1", now: datetime = START, keys: Keys = keys) -> Committed:
    """What ingest does with one batch of messages."""
    return store.commit(sort([Sent(topics.event(SITE, gate), each) for each in payloads], SITE, keys).batch, now)


@pytest.fixture(name="commit")
def commit_fixture() -> Callable[..., Committed]:
    return commit


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens the same database again and again, as restarts do."""
    stores: list[Store] = []

    def opened() -> Store:
        stores.append(Store(tmp_path / "controller.db", SEOUL))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    made = Past(tmp_path / "controller.db")
    yield made
    made.close()


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


@pytest.fixture
def config_file(tmp_path: Path, pki: DevicePki, broker: Broker) -> Path:
    pki.client("controller")
    file = tmp_path / "controller.toml"
    file.write_text(
        f'site = "{SITE}"\nstate_dir = "state"\n[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nca = "pki/ca.pem"\n'
        'certificate = "pki/controller.pem"\nkey = "pki/controller.key"\nreconnect_max_s = 0.5\n'
        '[records]\nkey = "pki/records.key"\n[web]\nport = 0\n'
        # The records are of START, whatever day it is: none is past its days when a controller starts again.
        "[retention]\ndetail_days = 3650\nrefusals_days = 3650\nalarms_days = 3650\nstate_days = 3650\n"
    )
    return file


@pytest.fixture
def config(config_file: Path) -> ControllerConfig:
    return load(config_file)


@pytest.fixture
async def run_controller(config: ControllerConfig) -> AsyncIterator[Callable[[], Any]]:
    """Start a controller and wait for its link; stopped at the end."""
    running: list[Controller] = []

    async def start() -> Controller:
        controller = Controller(config)
        running.append(controller)
        await controller.start()
        async with asyncio.timeout(WITHIN_S):
            await controller.link.wait_connected()
        return controller

    yield start
    for controller in running:
        await controller.stop()


class GateLink:
    """A gate's side of the line: publishes records, hears acknowledgements."""

    link: MqttLink

    def __init__(self, gate: str, signer: PublicKey) -> None:
        self.gate, self.signer = gate, signer
        self.acks: list[Ack] = []
        self.replays: list[Replay] = []
        self._heard = asyncio.Event()

    def hear(self, message: Message) -> None:
        if message.topic == topics.replay(SITE, self.gate):
            self.replays.append(replay.parse(message.payload, SITE, self.gate, self.signer))
        else:
            self.acks.append(ack.parse(message.payload, SITE, self.gate, self.signer))
        self._heard.set()

    async def send(self, *records: bytes) -> None:
        results = await asyncio.gather(*(self.link.publish(topics.event(SITE, self.gate), each) for each in records))
        assert all(result.ok for result in results), results

    async def wait_ack(self, wanted: Ack) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not self.acks or self.acks[-1] != wanted:
                self._heard.clear()
                await self._heard.wait()

    async def wait_mark(self, seq: int) -> None:
        """An acknowledgement of this record or a later one."""
        async with asyncio.timeout(WITHIN_S):
            while not self.acks or self.acks[-1].seq < seq:
                self._heard.clear()
                await self._heard.wait()

    async def wait_replay(self) -> Replay:
        """The newest request, once there is one."""
        async with asyncio.timeout(WITHIN_S):
            while not self.replays:
                self._heard.clear()
                await self._heard.wait()
        return self.replays[-1]


@pytest.fixture
async def connect_gate(broker: Broker, pki: DevicePki) -> AsyncIterator[Callable[[str], Any]]:
    links: list[MqttLink] = []

    async def connect(gate: str = "gate-1") -> GateLink:
        identity, found = pki.client(gate), GateLink(gate, pki.records.public_key())
        link = MqttLink(
            MqttSettings(
                "127.0.0.1",
                broker.port,
                pki.ca,
                identity.certificate,
                identity.key,
                gate,
                in_flight=1,  # in order
                backoff_base=0.05,
                backoff_cap=0.2,
            ),
            clock=SystemClock(),
            random=Random(1),
            on_message=found.hear,
        )
        found.link = link
        links.append(link)
        await link.subscribe(topics.ack(SITE, gate))
        await link.subscribe(topics.replay(SITE, gate))
        link.start()
        async with asyncio.timeout(WITHIN_S):
            await link.wait_connected()
        return found

    yield connect
    for link in links:
        await link.stop()
