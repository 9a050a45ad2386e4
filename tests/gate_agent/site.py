"""A gate agent as a process of its own, and everything that stands around its lane."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from gate_agent import guard_cli
from gate_agent.control import SOCKET
from protocol.clock import SystemClock
from protocol.events import Event, Kind
from protocol.mqtt import MqttSettings
from testbed.authority import Authority, write_private
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

    async def guard(self, verb: str) -> dict[str, Any]:
        """An order on the spot, as by `gwanmun guard`."""
        path = self.folder / "run" / SOCKET
        answer: dict[str, Any] = await asyncio.to_thread(guard_cli.ask, path, {"verb": verb})
        return answer

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


def build(
    world: World,
    folder: Path,
    *,
    now: datetime,
    authority: Authority,
    pki: DevicePki,
    broker_port: int,
    held: Held,
    gate: str = GATE,
    rules: str = "",
    settings: str = "",
) -> Site:
    """Files and devices of one gate in `folder`. `rules` and `settings` are added to policy.toml and gate.toml."""
    nfc_port = free_port(socket.SOCK_DGRAM)
    (folder / "run").mkdir(parents=True)
    write_private(folder / "reader.key", world.identity.private_key)
    (folder / "reader.pem").write_bytes(world.identity.certificates[0].public_bytes(Encoding.PEM))
    identity = pki.client(gate)
    hours = "\n".join(f'{day} = ["00:00-24:00"]' for day in DAYS)
    (folder / "policy.toml").write_text(
        f'version = 1\ntimezone = "Asia/Seoul"\n[schedules.always]\n{hours}\n[zones.hall]\n'
        '[points.hall-in]\ndirection = "entry"\nfrom = "outside"\nto = "hall"\nentrance_group = "hall"\n'
        '[profiles.staff]\ndoc_types = ["kr.go.civilservant.1"]\naccess_classes = ["general"]\nzones = ["hall"]\n'
        f'schedule = "always"\n{rules}'
    )
    (folder / "gate.toml").write_text(
        f'[gate]\nid = "{gate}"\nsite = "{SITE}"\nstate_dir = "state"\nruntime_dir = "run"\n'
        f'[trust]\ndirectory = "trust"\nlist_key = "{authority.directory}/list-signer.pub.pem"\n'
        f'[reader]\ncertificate = "reader.pem"\nkey = "reader.key"\n[policy]\nfile = "policy.toml"\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {broker_port}\nca = "{pki.ca}"\n'
        f'certificate = "{identity.certificate}"\nkey = "{identity.key}"\ncontroller_key = "{pki.records_public}"\n'
        f'[device.nfc.hall]\ndriver = "nfcpy"\npath = "udp:127.0.0.1:{nfc_port}"\n'
        '[device.camera.hall]\ndriver = "opencv"\nsource = "absent.mjpg"\n'
        '[device.lane.hall]\ndriver = "simulated"\npath = "lane.sock"\n'
        '[device.signal.hall]\ndriver = "simulated"\npath = "sign.sock"\n'
        '[[lane]]\nid = "hall-in"\npoint = "hall-in"\ndirection = "in"\ncamera = "hall"\nnfc = "hall"\n'
        f'hardware = "hall"\nsignal = "hall"\n[clock]\nboot_error_ms = 1000\n{settings}'
    )
    authority.publish(folder / "trust", now)
    turnstile = Turnstile(folder / "lane.sock", folder / "sign.sock", step=0.02)
    phone = Phone(Wallet(held=[held]), SystemClock(), consent=lambda _question: True)
    return Site(folder, authority, phone, turnstile, nfc_port, pki, broker_port)
