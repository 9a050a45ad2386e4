"""A small building on one machine: broker, controller, one gate agent with two lanes, issuing authority, cameras, antennas, air.

Agent, controller and broker are processes of their own with the example configuration of `config/`; only paths, ports, keys and
the drivers' addresses are filled in. What stands outside a gate (cameras, turnstiles, phones) lives here.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import tomlkit
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from controller.config import MAX_PAYLOAD, Place
from controller.enrolled import Enrolled
from drivers.ports import Direction
from gate_agent import card_trust
from gate_agent.control import SOCKET
from mdoc.certificates.structure import read
from policy.document import DAYS
from protocol.clock import Clock
from protocol.events import Event, Kind
from protocol.mqtt import MqttSettings
from testbed import certificates
from testbed.air import AirHub
from testbed.authority import Authority, write_private
from testbed.broker import Broker
from testbed.camera import VirtualCamera
from testbed.capture import OBSERVER, Capture
from testbed.card.issuer import CardIssuer
from testbed.journal_tail import JournalTail
from testbed.pki import DevicePki
from testbed.turnstile import Turnstile

REPOSITORY = Path(__file__).resolve().parents[1]
SITE, GATE = "sejong-1", "gate-1"
CAPTURE = "mqtt.capture"
"""All that crossed the broker."""
START_S = 30.0
STOP_S = 15.0


def _first_index() -> int:
    """Of seven digits, so that a status index can be searched for."""
    return 1_000_000 + secrets.randbelow(900_000)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class LaneRig:
    """What stands around one lane."""

    id: str
    point: str
    entrance_group: str
    direction: Direction
    camera: VirtualCamera
    nfc_port: int
    turnstile: Turnstile
    walk_up: bool


class Process:
    """One program of the building; its output goes to a log file."""

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        self.name, self._arguments, self._log = name, arguments, log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._arguments, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, cwd=REPOSITORY
            )

    async def stop(self) -> int:
        """SIGTERM, and SIGKILL for one that does not end. Returns the exit status."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await self._process.wait()
            except TimeoutError:
                await self.kill()
        return self._process.returncode or 0

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()


class StartError(Exception):
    """A part of the building did not come up. The message says which, and where its log is."""


class Building:
    def __init__(self, directory: Path, clock: Clock) -> None:
        self.directory, self.clock = directory, clock
        self.trust = directory / "trust"
        self.agent_state = directory / "gate" / "state"
        self.controller_state = directory / "controller" / "state"
        self.sockets = directory / "run"
        self.web_port = free_port()
        self.hub = AirHub(self.sockets / "air")
        self.lanes = {
            lane.id: lane
            for lane in (
                self._rig("lane-1", "lobby-in", "sejong-lobby", walk_up=True),
                self._rig("lane-2", "server-room-in", "sejong-server-room"),
            )
        }
        self.words: dict[str, str] = {}
        """Made-up words of the rules by their plain ones."""
        self.journal = JournalTail(self.agent_state / "journal.db")
        python = sys.executable
        self.controller = Process(
            "controller",
            [python, "-m", "controller", "--config", str(directory / "controller" / "controller.toml")],
            directory / "controller.log",
        )
        self.agent = Process(
            "agent",
            [python, "-m", "gate_agent", "--config", str(directory / "gate" / "gate.toml")],
            directory / "agent.log",
        )
        self.broker: Broker
        self._follower: asyncio.Task[None] | None = None
        self.capture: Capture | None = None
        self.authority: Authority
        self.cards: CardIssuer
        """Of plastic cards."""
        self.stranger: Authority
        """An authority whose root no gate trusts."""
        self.reader_root: x509.Certificate

    def _rig(self, name: str, point: str, group: str, *, walk_up: bool = False) -> LaneRig:
        return LaneRig(
            name,
            point,
            group,
            Direction.IN,
            VirtualCamera(),
            free_port(socket.SOCK_DGRAM),
            Turnstile(self.sockets / f"{name}.lane", self.sockets / f"{name}.sign"),
            walk_up,
        )

    def word(self, plain: str) -> str:
        """What stands for an agency code, card type or access class in this building: made up, so that it can be searched for."""
        return self.words.setdefault(plain, os.urandom(5).hex())

    @property
    def place(self) -> Place:
        return Place(SITE, self.controller_state)

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.web_port}/"

    @property
    def agent_runtime(self) -> Path:
        return self.sockets / "gate"

    @property
    def guard_socket(self) -> Path:
        """Of `gwanmun guard`."""
        return self.agent_runtime / SOCKET

    @property
    def control(self) -> Path:
        """Socket of testbed.control."""
        return self.sockets / "control"

    @property
    def hci(self) -> str:
        return self.hub.hci

    # Set-up.

    def prepare(self) -> None:
        """Keys, certificates, configuration. No process is started."""
        for folder in (self.trust, self.agent_state, self.controller_state, self.sockets, self.agent_runtime):
            folder.mkdir(parents=True, exist_ok=True)
        now = self.clock.now()
        self.authority = Authority.create(
            self.directory / "authority", name="Gwanmun demo", now=now, first_index=_first_index()
        )
        self.stranger = Authority.create(
            self.directory / "stranger", name="Gwanmun demo", now=now, first_index=_first_index()
        )
        self.authority.publish(self.trust, now)
        self.cards = CardIssuer("Gwanmun demo", now)
        self._publish_cards(now)
        self._reader_identity(now)
        keys = DevicePki(self.directory / "pki", now)
        # As after an installation: the controller alone has rights, until it has made the list of the enrolled gates.
        self.broker = Broker(self.directory / "broker", keys, site=SITE, gates=(), observers=[OBSERVER])
        identity = keys.client(OBSERVER)
        self._observer = MqttSettings(
            "127.0.0.1",
            self.broker.port,
            keys.ca,
            identity.certificate,
            identity.key,
            OBSERVER,
            max_payload=MAX_PAYLOAD,
        )
        self._configure(keys, now)

    def _reader_identity(self, now: datetime) -> None:
        root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        begin = now - timedelta(days=1)
        self.reader_root = certificates.root(
            root_key, "Gwanmun demo readers", country="KR", not_before=begin, lifetime=timedelta(days=365)
        )
        leaf = certificates.reader(
            key.public_key(),
            "정부세종청사 1동 로비 (데모)",
            issuer=self.reader_root,
            issuer_key=root_key,
            not_before=begin,
        )
        (self.directory / "gate" / "reader.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
        write_private(self.directory / "gate" / "reader.key", key)

    def _configure(self, keys: DevicePki, now: datetime) -> None:
        config = REPOSITORY / "config"
        gate = tomlkit.parse((config / "gate.toml").read_text("utf-8")).unwrap()
        gate["gate"] |= {
            "id": GATE,
            "site": SITE,
            "state_dir": str(self.agent_state),
            "runtime_dir": str(self.agent_runtime),
        }
        gate["trust"] = {
            "directory": str(self.trust),
            "list_key": str(self.authority.directory / "list-signer.pub.pem"),
        }
        # The demo's machine vouches for its own clock; a gate's is synchronised.
        gate["clock"] = {"boot_error_ms": 1000}
        gate["reader"] = {"certificate": "reader.pem", "key": "reader.key"}
        gate["policy"] = {"file": "policy.toml"}
        gate["mqtt"] = self._mqtt(keys, GATE) | {"controller_key": str(keys.records_public)}
        Enrolled(self.place.gates).add(Path(gate["mqtt"]["certificate"]).read_bytes())
        devices: dict[str, dict[str, dict[str, str]]] = {
            "camera": {},
            "nfc": {},
            "ble": {"hall": {"driver": "bumble", "hci": self.hci}},
            "lane": {},
            "signal": {},
        }
        example = gate["lane"][0]
        lanes = []
        for rig in self.lanes.values():
            devices["camera"][rig.id] = {"driver": "opencv", "source": rig.camera.source}
            devices["nfc"][rig.id] = {"driver": "nfcpy", "path": f"udp:127.0.0.1:{rig.nfc_port}"}
            devices["lane"][rig.id] = {"driver": "simulated", "path": str(rig.turnstile.lane_path)}
            devices["signal"][rig.id] = {"driver": "simulated", "path": str(rig.turnstile.display_path)}
            names = dict.fromkeys(("id", "camera", "nfc", "hardware", "signal"), rig.id)
            lane = example | names | {"point": rig.point, "ble": "hall", "wait_for_start_s": 3, "alarm_s": 1}
            lanes.append(lane | ({"walk_up": {}} if rig.walk_up else {}))
        gate["device"], gate["lane"] = devices, lanes

        policy = tomlkit.parse((config / "policy.toml").read_text("utf-8")).unwrap()
        local = now.astimezone(ZoneInfo(policy["timezone"]))
        policy["profiles"]["staff"]["doc_types"].append("piv")
        for profile in policy["profiles"].values():
            for key in ("access_classes", "card_types", "agencies"):
                if key in profile:
                    profile[key] = [self.word(each) for each in profile[key]]
        # Anti-passback, so that holder handles travel; soft, because the same people come again and again.
        policy["zones"]["lobby"] = {
            "carriers": ["nfc", "ble", "qr", "walk_up", "piv"],
            "antipassback": {"mode": "soft"},
        }
        self._zone_keys(local)
        gate["zones"] = {"keys": "zone-keys.toml"}
        # The demo runs at any hour: office hours are all day, and contractors' hours are the other half of the day.
        other_half = ["15:00-16:00"] if local.hour < 12 else ["03:00-04:00"]
        policy["schedules"]["office"] = {day: ["00:00-24:00"] for day in DAYS}
        policy["schedules"]["contractor-hours"] = dict.fromkeys(DAYS, other_half)
        self._write("gate/policy.toml", policy)
        self._write("gate/gate.toml", gate)

        controller = tomlkit.parse((config / "controller.toml").read_text("utf-8")).unwrap()
        controller |= {"site": SITE, "state_dir": str(self.controller_state)}
        controller["mqtt"] |= self._mqtt(keys, "controller")
        controller["records"] = {"key": str(keys.records_key)}
        controller["web"] = {"bind": "127.0.0.1", "port": self.web_port}
        self._write("controller/controller.toml", controller)

    def _publish_cards(self, now: datetime) -> None:
        """The cards' authority and its revocation list, and what a card of it stands for."""
        folder = self.trust / card_trust.FOLDER
        self.cards.publish(folder, now)
        root = read(self.cards.root.public_bytes(Encoding.DER)).fingerprint().hex()
        terms = {"certificate": root, "card_type": self.word("staff"), "access_class": self.word("general")}
        (folder / card_trust.SETTINGS).write_text(tomlkit.dumps({"authority": [terms]}), "utf-8")

    def _zone_keys(self, now: datetime) -> None:
        """Of the lobby, for the days around `now`."""
        days = [now.date() + timedelta(days=day) for day in range(-1, 3)]
        keys = [{"zone": "lobby", "period": day, "key": os.urandom(32).hex()} for day in days]
        path = self.directory / "gate" / "zone-keys.toml"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(tomlkit.dumps({"keys": keys}))

    def _mqtt(self, keys: DevicePki, name: str) -> dict[str, Any]:
        identity = keys.client(name)
        return {
            "host": "127.0.0.1",
            "port": self.broker.port,
            "ca": str(keys.ca),
            "certificate": str(identity.certificate),
            "key": str(identity.key),
        }

    def _write(self, name: str, document: dict[str, Any]) -> None:
        (self.directory / name).write_text(tomlkit.dumps(document), "utf-8")

    # Life.

    async def start(self) -> None:
        """Everything up: the agent is online at the controller and its lanes are ready. Raises StartError."""
        for rig in self.lanes.values():
            rig.turnstile.lane_path.parent.mkdir(parents=True, exist_ok=True)
            await rig.camera.start()
            await rig.turnstile.start()
        await self.hub.start()
        self.prepare()
        await asyncio.to_thread(self.broker.start)
        self._follower = asyncio.create_task(self.broker.follow(self.place.access_list))
        self.capture = Capture(self._observer, self.directory / CAPTURE, self.clock)
        async with asyncio.timeout(START_S):
            await self.capture.start()
        await self.controller.start()
        await self._until(self._controller_up, self.controller)
        # The agent's first record is not to come before the right to send it.
        await asyncio.to_thread(self.broker.apply, self.place.access_list)
        await self.start_agent()
        await self._until(self._gate_online, self.controller)

    async def start_agent(self) -> Event:
        """Start the agent and wait until its lanes take presentations."""
        after = self.journal.last()
        await self.agent.start()
        try:
            event = await self.journal.wait_for(
                lambda event: event.kind is Kind.GATE_BOOT, after=after, timeout=START_S
            )
            for rig in self.lanes.values():
                await rig.turnstile.until(lambda rig=rig: rig.turnstile.shown is not None, START_S)  # type: ignore[misc]  # lambda default
        except TimeoutError:
            raise StartError(f"agent: {self.directory / 'agent.log'}") from None
        return event

    async def _until(self, check: Callable[[], bool], process: Process) -> None:
        try:
            async with asyncio.timeout(START_S):
                while not await asyncio.to_thread(check):
                    if not process.running:
                        break
                    await asyncio.sleep(0.1)
                else:
                    return
        except TimeoutError:
            pass
        raise StartError(f"{process.name}: {self.directory / (process.name + '.log')}")

    def get(self, path: str) -> Any:
        """JSON from the controller's API. Raises OSError."""
        return json.loads(self.shown(path))

    def shown(self, path: str) -> bytes:
        """What the controller's page answers. Raises OSError."""
        with urllib.request.urlopen(self.page.rstrip("/") + path, timeout=5) as answer:  # noqa: S310  our own http address
            return bytes(answer.read())

    def _controller_up(self) -> bool:
        try:
            with urllib.request.urlopen(self.page + "healthz", timeout=2):  # noqa: S310  our own http address
                return True
        except OSError:
            return False

    def _gate_online(self) -> bool:
        try:
            return any(gate["gate"] == GATE and gate["online"] for gate in self.get("/api/v1/gates")["gates"])
        except OSError:
            return False

    async def stop(self) -> None:
        await self.agent.stop()
        await self.controller.stop()
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        if self.capture is not None:
            await self.capture.stop()
        if hasattr(self, "broker"):
            await asyncio.to_thread(self.broker.stop)
        await self.hub.stop()
        for rig in self.lanes.values():
            await rig.camera.stop()
            await rig.turnstile.stop()

    def publish(self) -> None:
        """The authority publishes anew (after a revocation)."""
        self.authority.publish(self.trust, self.clock.now())

    def describe(self) -> None:
        """Write `building.json`, by which `gwanmun phone` finds a running building."""
        body = {
            "hci": self.hci,
            "reader_root": self.reader_root.public_bytes(Encoding.PEM).decode(),
            "control": str(self.control),
            "authority": str(self.authority.directory),
            "words": self.words,
            "lanes": {
                rig.id: {"nfc_port": rig.nfc_port, "entrance_group": rig.entrance_group} for rig in self.lanes.values()
            },
            "pid": os.getpid(),
        }
        (self.directory / "building.json").write_text(json.dumps(body, ensure_ascii=False), "utf-8")
