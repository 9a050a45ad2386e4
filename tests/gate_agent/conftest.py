"""A lane of the real agent on fake ports, an issuing authority, and phones that answer by the real holder's side."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from drivers.ports import CodeSeen, Direction, LaneSignal
from gate_agent import config, passage
from gate_agent.background import Background
from gate_agent.barrier import Barrier
from gate_agent.config import Limits, Request, Times
from gate_agent.devices import Supervised
from gate_agent.journal import Journal
from gate_agent.judge import Judge
from gate_agent.lane import Lane, Ports
from gate_agent.services import Services
from gate_agent.timekeeping import Detail, TimeFacts
from gate_agent.trust import TrustCache
from gate_agent.zones import Zones
from mdoc.engagement import BleOptions, build_engagement, to_qr
from mdoc.holder import HolderSession
from mdoc.qrpass import present_pass
from mdoc.reader import ReaderIdentity
from mdoc.request import DeviceRequest
from mdoc.transcript import QrHandover, WalkUpHandover
from policy.situation import ClockQuality
from protocol import events
from protocol.backoff import Backoff
from protocol.events import DECISIONS, Event, Kind
from testbed import certificates
from testbed.authority import DOC_TYPE, Authority, IssuedPass, Person, canary_person
from testbed.phone.wallet import Held
from tests.conftest import NOW
from tests.gate_agent.fakes import (
    FakeBle,
    FakeCamera,
    FakeClock,
    FakeHardware,
    FakeLink,
    FakeNfcReader,
    FakeSignal,
    FakeTimers,
    beam,
)

POLICY = """
version = 7
timezone = "Asia/Seoul"
[schedules.office]
tue = ["07:00-20:00"]
[zones.lobby]
[points.lobby-in]
direction = "entry"
from = "outside"
to = "lobby"
entrance_group = "hall"
[profiles.staff]
doc_types = ["kr.go.civilservant.1"]
access_classes = ["general"]
zones = ["lobby"]
schedule = "office"
"""
"""NOW is Tuesday, 18:00 in Seoul."""
TIMES = Times(
    ble_connect_s=10,
    nfc_engage_s=5,
    consent_timeout_s=20,
    pass_max_age_s=15,
    clock_error_s=2,
    record_timeout_s=5,
    relay_timeout_s=2,
    message_s=3,
    repeat_gap_s=2.5,
    trust_poll_s=1,
    health_s=30,
)
REQUEST = Request(DOC_TYPE, DOC_TYPE, {name: name for name in config.ATTRIBUTES}, "holder_handle")


@dataclass
class World:
    """Made once: keys and certificates cost most of the time."""

    authority: Authority
    person: Person
    identity: ReaderIdentity
    extra_authorities: list[Authority] = field(default_factory=list)

    def holder(self, *, access_class: str = "general", authority: Authority | None = None, **issue: Any) -> Held:
        person = canary_person(os.urandom, agency_code="1741000", card_type="staff", access_class=access_class)
        key = ec.generate_private_key(ec.SECP256R1())
        credential, _ = (authority or self.authority).issue(key.public_key(), person, **{"now": NOW, **issue})
        return Held(credential, key)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    authority = Authority.create(tmp_path_factory.mktemp("authority"), name="Test", now=NOW)
    other = Authority.create(tmp_path_factory.mktemp("other"), name="Other", now=NOW)
    root_key, reader_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    begin = NOW - timedelta(days=1)
    root = certificates.root(root_key, "Readers", country="KR", not_before=begin, lifetime=timedelta(days=30))
    leaf = certificates.reader(reader_key.public_key(), "Gate", issuer=root, issuer_key=root_key, not_before=begin)
    person = canary_person(os.urandom, agency_code="1741000", card_type="staff", access_class="general")
    made = World(authority, person, ReaderIdentity(reader_key, [leaf]), [other])
    made.holder()  # the list a test publishes has room for those it issues later, but an empty one has none
    return made


Answer = Callable[[HolderSession, DeviceRequest, Held], bytes | Exception | None]


def share(session: HolderSession, request: DeviceRequest, held: Held) -> bytes:
    """What an honest phone answers after consent."""
    return session.respond(held.credential, held.device_key, request.doc_requests[0].items.elements)


def clock_facts(clock: FakeClock) -> TimeFacts:
    """A synchronised clock."""
    return TimeFacts(clock.now(), ClockQuality.SYNCED, 10, Detail.NONE, NOW, clock.monotonic(), 0.0)


async def nobody_listens(_topic: str, _payload: bytes) -> bool:
    return True


class DailyKeys:
    """A zone key for each period, the same at every gate of a test."""

    def key(self, zone: str, period: int) -> bytes | None:
        return sha256(f"{zone} {period}".encode()).digest()


def said(event: Event) -> dict[str, Any]:
    """Its data without the schema's number, which every record has."""
    return {name: value for name, value in event.data.items() if name != "v"}


@dataclass
class Bench:
    """One lane; the test is camera, phones, turnstile and clock."""

    world: World
    folder: Path
    clock: FakeClock
    timers: FakeTimers
    journal: Journal
    trust: TrustCache
    services: Services
    camera: FakeCamera
    nfc: FakeNfcReader
    ble: FakeBle
    hardware: FakeHardware
    signal: FakeSignal
    ports: Ports
    lane: Lane
    requests: list[DeviceRequest] = field(default_factory=list)
    states: list[str] = field(default_factory=list)

    @property
    def journal_path(self) -> Path:
        return self.folder / "journal.db"

    async def records(self) -> list[Event]:
        """What the journal holds now, everything noted before included."""
        await self.journal.position()
        db = sqlite3.connect(self.journal_path)
        try:
            found = [events.parse(raw) for (raw,) in db.execute("SELECT raw FROM records ORDER BY seq")]
            assert all(event.version == events.SCHEMA for event in found)
            return [replace(event, data=said(event)) for event in found]
        finally:
            db.close()

    async def kinds(self) -> list[Kind | str]:
        return [event.kind for event in await self.records() if event.kind is not Kind.TRUST_APPLIED]

    async def reasons(self) -> list[str]:
        """One entry for each decision: `granted` or the reason of the refusal."""
        return [event.data.get("reason", "granted") for event in await self.records() if event.kind in DECISIONS]

    def show(self, text: bytes | str) -> None:
        """Hold a code before the camera, read at once."""
        payload = text if isinstance(text, bytes) else text.encode()
        now = self.clock.monotonic()
        self.lane.on_code(CodeSeen(payload, now, now, "zxing"))

    async def done(self) -> None:
        """Until no attempt is under way."""
        task = self.lane._transaction
        if task is not None:
            async with asyncio.timeout(10):
                await asyncio.gather(task, return_exceptions=True)

    def phone(self, held: Held, answer: Answer = share, ble: BleOptions | None = None) -> tuple[str, FakeLink]:
        """A phone that advertises, unless `ble` says otherwise; the code to show and its side of the link."""
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        options = ble or BleOptions(peripheral_server=True, peripheral_server_uuid=uuid4())
        engagement = build_engagement(ephemeral.public_key(), ble=options)
        link = self.holder(HolderSession(engagement, ephemeral, QrHandover()), held, answer)
        for service in (options.peripheral_server_uuid, options.central_client_uuid):
            if service is not None:
                self.ble.links[service] = link
        return to_qr(engagement), link

    def armed(self, held: Held, peer: str, answer: Answer = share, group: str = "hall") -> FakeLink:
        """A phone that its holder armed for whoever walks up."""
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        engagement = build_engagement(ephemeral.public_key())
        self.ble.engagements[peer] = engagement
        link = self.holder(HolderSession(engagement, ephemeral, WalkUpHandover(group, engagement)), held, answer)
        self.ble.links[peer] = link
        return link

    def holder(self, session: HolderSession, held: Held, answer: Answer) -> FakeLink:
        """The phone's side of a link."""

        def reply(message: bytes) -> bytes | Exception | None:
            request = session.receive(message)
            assert request is not None
            self.requests.append(request)
            return answer(session, request, held)

        return FakeLink(self.clock, reply)

    async def present(self, held: Held, answer: Answer = share) -> FakeLink:
        """One whole attempt by QR and BLE."""
        code, link = self.phone(held, answer)
        self.show(code)
        await self.done()
        return link

    def qr_pass(self, card: IssuedPass, *, audience: str = "hall", age: float = 0, nonce: bytes | None = None) -> bytes:
        shown_at = self.clock.now() - timedelta(seconds=age)
        return present_pass(card.card, card.key, audience=audience, now=shown_at, nonce=nonce or os.urandom(8))

    def ask_for_challenges(self) -> None:
        """A lane of the same devices whose sign shows a challenge."""
        self.lane = Lane(
            replace(LANE, pass_challenge=True),
            self.lane.ports,
            self.lane.barrier,
            self.services,
            call_later=self.timers.call_later,
        )

    def walk(self) -> None:
        for signal, active in (
            (LaneSignal.BEAM_A, True),
            (LaneSignal.BEAM_M, True),
            (LaneSignal.BEAM_A, False),
            (LaneSignal.BEAM_B, True),
            (LaneSignal.BEAM_M, False),
            (LaneSignal.BEAM_B, False),
        ):
            self.lane.barrier.on_input(beam(signal, active))
        self.timers.advance(0.2)  # the far beam is whole for its tail gap


BARRIER = config.Barrier("hall-in", "hall", 300, passage.Settings())
LANE = config.Lane(
    id="hall-in",
    point="lobby-in",
    direction=Direction.IN,
    camera="hall",
    nfc="hall",
    ble="hall",
    signal="hall",
    factor=None,
    pass_challenge=False,
    barrier=BARRIER,
)
REST = (LaneSignal.FIRE, LaneSignal.BEAM_A, LaneSignal.BEAM_M, LaneSignal.BEAM_B, LaneSignal.CONTACT)


@pytest.fixture
async def bench(world: World, tmp_path: Path) -> AsyncIterator[Bench]:
    clock = FakeClock()
    timers = FakeTimers(clock)
    journal = Journal(
        tmp_path / "journal.db", site="seoul-1", gate="gate-1", clock=clock, random_bytes=Random(1).randbytes
    )
    await journal.start()
    world.authority.publish(tmp_path / "trust", NOW)
    (tmp_path / "policy.toml").write_text(POLICY)
    trust = TrustCache(
        tmp_path / "trust",
        tmp_path / "policy.toml",
        list_key=world.authority.list_key,
        points={"lobby-in"},
        clock=clock,
        report=journal.note,
        on_policy=lambda policy: zones.use(policy),  # noqa: PLW0108  made below
    )
    background = Background()
    zones = Zones(
        tmp_path / "zones.db",
        site="seoul-1",
        gate="gate-1",
        keys=DailyKeys(),
        clock=clock,
        random_bytes=Random(2).randbytes,
        note=journal.note,
        call_later=timers.call_later,
    )
    await trust.load_first()
    zones.start(nobody_listens)
    services = Services(
        clock=clock,
        journal=journal,
        trust=trust,
        identity=world.identity,
        request=REQUEST,
        times=TIMES,
        limits=Limits(in_flight=50, batches_in_flight=4, refusals_per_window=3),
        random_bytes=os.urandom,
        new_key=ec.generate_private_key,
        judge=Judge(zones, lambda: clock_facts(clock), clock.monotonic, TIMES.clock_error_s),
        degraded=lambda: ["no_uplink"],
        background=background,
    )
    camera, nfc, ble, hardware, signal = (
        FakeCamera(),
        FakeNfcReader(),
        FakeBle(),
        FakeHardware(clock),
        FakeSignal(),
    )

    def supervised(device: Any, name: str) -> Any:
        return Supervised(
            device, name, clock=clock, backoff=Backoff(1, 30, Random(1)), report=lambda name, up, why: None
        )

    relay = supervised(hardware, "lane.hall")
    ports = Ports(
        supervised(signal, "signal.hall"),
        None,
        supervised(camera, "camera.hall"),
        supervised(nfc, "nfc.hall"),
        supervised(ble, "ble.hall"),
    )
    for each in (relay, ports.signal, ports.camera, ports.nfc, ports.ble):
        assert each is not None
        await each.start()
    states: list[str] = []
    barrier = Barrier(BARRIER, relay, services, call_later=timers.call_later)
    lane = Lane(LANE, ports, barrier, services, call_later=timers.call_later)
    for each_signal in REST:
        barrier.on_input(beam(each_signal, False))
    barrier.listen(lambda _problem: states.append(str(barrier.state)))
    yield Bench(
        world,
        tmp_path,
        clock,
        timers,
        journal,
        trust,
        services,
        camera,
        nfc,
        ble,
        hardware,
        signal,
        ports,
        lane,
        states=states,
    )
    await lane.stop()
    lane.barrier.stop()
    zones.stop()
    await services.background.finish(1)
    await journal.stop()
