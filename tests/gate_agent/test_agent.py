"""The agent as a process of its own: real nfcpy, relay module, journal and MQTT over TLS; the tests are what stands around it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from drivers.ports import Direction
from gate_agent import chain
from gate_agent.agent import run
from protocol import events, topics
from protocol.ack import Ack
from protocol.clock import SystemClock
from protocol.events import Event, Kind
from protocol.mqtt import Message, MqttLink, MqttSettings
from testbed.authority import Authority, write_private
from testbed.broker import Broker, executable
from testbed.journal_tail import JournalTail
from testbed.phone.phone import Phone
from testbed.phone.wallet import Held, Wallet
from testbed.pki import DevicePki
from testbed.turnstile import Turnstile
from tests.gate_agent.conftest import World

REPOSITORY = Path(__file__).parents[2]
SITE, GATE = "seoul-1", "gate-1"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WAIT_S = 20


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Site:
    """A directory with everything one gate needs, and what stands around its lane."""

    folder: Path
    authority: Authority
    phone: Phone
    turnstile: Turnstile
    nfc_port: int
    pki: DevicePki
    broker_port: int

    @property
    def config(self) -> Path:
        return self.folder / "gate.toml"

    @property
    def journal(self) -> JournalTail:
        return JournalTail(self.folder / "state" / "journal.db")

    async def wait_for(self, kind: Kind, after: int = 0) -> Event:
        return await self.journal.wait_for(lambda event: event.kind is kind, after=after, timeout=WAIT_S)

    def mqtt(self, name: str) -> MqttSettings:
        identity = self.pki.client(name)
        return MqttSettings(
            "127.0.0.1", self.broker_port, self.pki.ca, identity.certificate, identity.key, client_id=name
        )

    async def start(self) -> asyncio.subprocess.Process:
        """The agent, after it has told systemd that it is ready."""
        address = self.folder / "notify"
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(address))
            notify.setblocking(False)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gate_agent",
                "--config",
                str(self.config),
                cwd=REPOSITORY,
                stderr=subprocess.PIPE,
                env={**os.environ, "NOTIFY_SOCKET": str(address)},
            )
            async with asyncio.timeout(WAIT_S):
                while b"READY=1" not in await asyncio.get_running_loop().sock_recv(notify, 4096):
                    pass
        return process

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await self.start()
        try:
            yield process
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
            await process.communicate()


@pytest.fixture
async def site(world: World, tmp_path: Path) -> AsyncIterator[Site]:
    now = datetime.now(UTC)
    authority = Authority.create(tmp_path / "authority", name="Agent", now=now)
    nfc_port, broker_port = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
    key = world.identity.private_key
    write_private(tmp_path / "reader.key", key)
    (tmp_path / "reader.pem").write_bytes(world.identity.certificates[0].public_bytes(Encoding.PEM))
    pki = DevicePki(tmp_path / "pki", now)
    identity = pki.client(GATE)
    hours = "\n".join(f'{day} = ["00:00-24:00"]' for day in DAYS)
    (tmp_path / "policy.toml").write_text(
        f'version = 1\ntimezone = "Asia/Seoul"\n[schedules.always]\n{hours}\n[zones.hall]\n'
        '[points.hall-in]\ndirection = "entry"\nfrom = "outside"\nto = "hall"\nentrance_group = "hall"\n'
        '[profiles.staff]\ndoc_types = ["kr.go.civilservant.1"]\naccess_classes = ["general"]\nzones = ["hall"]\n'
        'schedule = "always"\n'
    )
    (tmp_path / "gate.toml").write_text(
        f'[gate]\nid = "{GATE}"\nsite = "{SITE}"\nstate_dir = "state"\n'
        f'[trust]\ndirectory = "trust"\nlist_key = "authority/list-signer.pub.pem"\n'
        f'[reader]\ncertificate = "reader.pem"\nkey = "reader.key"\n[policy]\nfile = "policy.toml"\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {broker_port}\nca = "{pki.ca}"\n'
        f'certificate = "{identity.certificate}"\nkey = "{identity.key}"\n'
        f'[device.nfc.hall]\ndriver = "nfcpy"\npath = "udp:127.0.0.1:{nfc_port}"\n'
        '[device.camera.hall]\ndriver = "opencv"\nsource = "absent.mjpg"\n'
        '[device.lane.hall]\ndriver = "simulated"\npath = "lane.sock"\n'
        '[device.signal.hall]\ndriver = "simulated"\npath = "sign.sock"\n'
        '[[lane]]\nid = "hall-in"\npoint = "hall-in"\ndirection = "in"\ncamera = "hall"\nnfc = "hall"\n'
        'hardware = "hall"\nsignal = "hall"\n[clock]\nboot_error_ms = 1000\n'
    )
    held: Held = world.holder(authority=authority, now=now)
    authority.publish(tmp_path / "trust", now)
    wallet = Wallet(held=[held])
    turnstile = Turnstile(tmp_path / "lane.sock", tmp_path / "sign.sock", step=0.02)
    await turnstile.start()
    phone = Phone(wallet, SystemClock(), consent=lambda _question: True)
    yield Site(tmp_path, authority, phone, turnstile, nfc_port, pki, broker_port)
    await turnstile.stop()


async def test_a_tap_goes_all_the_way_and_a_stop_is_clean(site: Site) -> None:
    async with site.running() as agent:
        await site.phone.by_nfc(site.nfc_port)
        opened = await site.wait_for(Kind.LANE_OPENED)
        await site.turnstile.walk(Direction.IN)
        await site.wait_for(Kind.PASSAGE_COMPLETED)
        await site.journal.wait_for(
            lambda event: event.kind is Kind.DEVICE_DEGRADED and event.data["device"] == "camera.hall",
            after=0,
            timeout=WAIT_S,
        )
        agent.send_signal(signal.SIGHUP)
        loaded = (await site.wait_for(Kind.TRUST_APPLIED)).seq + 1
        await site.wait_for(Kind.TRUST_APPLIED, after=loaded)
        agent.send_signal(signal.SIGTERM)
        _, log = await asyncio.wait_for(agent.communicate(), WAIT_S)
        assert agent.returncode == 0
    found = site.journal.read()
    kinds = [event.kind for event in found]
    assert (kinds[0], kinds[-1]) == (Kind.GATE_BOOT, Kind.GATE_STOPPED)
    assert kinds.count(Kind.ACCESS_GRANTED) == site.turnstile.pulses == 1
    assert opened.data["lat_ms"]["ours"] > 0
    # A camera that is not there is told once and takes nothing else along.
    assert [event.data["device"] for event in found if event.kind is Kind.DEVICE_DEGRADED].count("camera.hall") == 1
    assert chain.verify(site.folder / "state" / "journal.db").problem is None
    assert b"Traceback" not in log
    await site.turnstile.until(lambda: not site.turnstile.energised(Direction.IN), WAIT_S)


async def test_a_phone_taken_away_with_the_request_in_hand_is_served_when_it_comes_back(site: Site) -> None:
    async with site.running() as agent:
        await site.phone.by_nfc(site.nfc_port, vanish_after_messages=1)
        await site.phone.by_nfc(site.nfc_port)
        await site.wait_for(Kind.LANE_OPENED)
        agent.send_signal(signal.SIGTERM)
        await asyncio.wait_for(agent.communicate(), WAIT_S)
    kinds = [event.kind for event in site.journal.read()]
    assert Kind.ACCESS_DENIED not in kinds
    assert kinds.count(Kind.ACCESS_GRANTED) == site.turnstile.pulses == 1


async def test_an_agent_killed_with_the_lane_open_leaves_it_to_the_relay_and_never_opens_for_that_grant_again(
    site: Site,
) -> None:
    async with site.running() as agent:
        await site.phone.by_nfc(site.nfc_port)
        granted = await site.wait_for(Kind.ACCESS_GRANTED)
        await site.wait_for(Kind.LANE_OPENED)
        agent.kill()
    await site.turnstile.until(lambda: not site.turnstile.energised(Direction.IN), WAIT_S)
    async with site.running() as agent:
        unknown = await site.wait_for(Kind.PASSAGE_UNKNOWN)
        assert unknown.data["attempt"] == granted.data["attempt"]
        assert site.turnstile.pulses == 1
        await site.phone.by_nfc(site.nfc_port)
        await site.wait_for(Kind.LANE_OPENED, after=unknown.seq)
        agent.send_signal(signal.SIGTERM)
        await asyncio.wait_for(agent.communicate(), WAIT_S)
    assert chain.verify(site.folder / "state" / "journal.db").problem is None


@pytest.mark.skipif(executable() is None, reason="mosquitto is not installed")
async def test_every_record_reaches_the_controller_and_leaves_the_outbox(site: Site) -> None:
    broker = Broker(site.folder / "broker", site.pki, port=site.broker_port)
    received: dict[int, bytes] = {}
    complete, empty = asyncio.Event(), asyncio.Event()

    def on_message(message: Message) -> None:
        if message.topic == topics.health(SITE, GATE):
            if json.loads(message.payload)["outbox"] == 0 and complete.is_set():
                empty.set()
        elif message.topic == topics.event(SITE, GATE):
            received[events.parse(message.payload).seq] = message.payload
            if any(events.parse(raw).kind is Kind.GATE_STOPPED for raw in received.values()):
                complete.set()

    controller = MqttLink(
        site.mqtt("controller"), clock=SystemClock(), random=Random(1), on_message=on_message, on_state=None
    )
    await asyncio.to_thread(broker.start)
    try:
        await controller.subscribe(topics.event(SITE, GATE))
        controller.start()
        await asyncio.wait_for(controller.wait_connected(), WAIT_S)
        async with site.running() as agent:
            await site.phone.by_nfc(site.nfc_port)
            await site.wait_for(Kind.LANE_OPENED)
            agent.send_signal(signal.SIGTERM)
            await asyncio.wait_for(agent.communicate(), WAIT_S)
        await asyncio.wait_for(complete.wait(), WAIT_S)
        stored = site.journal.read()
        assert [received[event.seq] for event in stored] == [event.raw for event in stored]
        await controller.publish(
            topics.ack(SITE, GATE), Ack(stored[-1].epoch, stored[-1].seq, stored[-1].hash).encode(), retain=True
        )
        assert chain.verify(site.folder / "state" / "journal.db").unacknowledged == len(stored)
        async with site.running() as agent:
            database = site.folder / "state" / "journal.db"
            async with asyncio.timeout(WAIT_S):
                while chain.verify(database).unacknowledged >= len(stored):  # noqa: ASYNC110  another process writes
                    await asyncio.sleep(0.02)
    finally:
        await controller.stop()
        await asyncio.to_thread(broker.stop)


def test_a_configuration_mistake_ends_with_2_in_both_languages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gate.toml"
    path.write_text('[gate]\nid = "Gate 1"\n')
    assert run(path) == 2
    korean, english = capsys.readouterr().err.splitlines()
    assert korean.startswith(f"{path}: gate.id: ")
    assert english.startswith(f"{path}: gate.id: a name of ")


async def test_rules_that_cannot_be_used_at_start_end_with_2(site: Site) -> None:
    policy = site.folder / "policy.toml"
    text = await asyncio.to_thread(policy.read_text)
    await asyncio.to_thread(policy.write_text, text.replace("points.hall-in", "points.other"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gate_agent",
        "--config",
        str(site.config),
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
    )
    _, log = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode == 2
    assert f"{policy}: points.hall-in: ".encode() in log
