"""Gates under load, a broker, a controller, and between them a proxy each: everything that a run breaks and counts."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import tomlkit
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from controller import checksum
from controller.backup import back_up
from controller.config import MAX_DAYS, Place
from controller.enrolled import Enrolled
from controller.integrity import beside
from controller.restore import restore
from controller.retention import Retention
from controller.state_lock import StateLock
from policy.document import DAYS
from protocol import topics
from protocol.clock import SystemClock
from protocol.mqtt import Message, MqttLink, MqttSettings
from testbed import certificates
from testbed.authority import Authority, write_private
from testbed.broker import Broker
from testbed.chaos import load
from testbed.chaos.clocks import write_offset
from testbed.chaos.compare import (
    Comparison,
    What,
    compare,
    count_journal,
    count_store,
    read_journals,
    read_store,
    waiting,
)
from testbed.chaos.load import LANE, Ledgered, Load, read_ledger
from testbed.chaos.processes import Executed, Forked, Program, run_controller
from testbed.chaos.proxy import Proxy
from testbed.pki import BROKER_NAMES, DevicePki
from testbed.turnstile import Turnstile

REPOSITORY = Path(__file__).resolve().parents[2]
SITE = "chaos"
POLL_S, SETTLE_POLL_S = 0.02, 0.1
START_S = 30.0
BROKER_STORE = "mosquitto.db"
RECONNECT_MAX_S = 2


class ChaosError(Exception):
    """Something of the rig itself does not work, so that the run says nothing about the product."""


async def until(condition: Callable[[], bool], what: str, within_s: float) -> None:
    """Look until `condition` holds. Raises ChaosError."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            raise ChaosError(f"{what}: not within {within_s:g} s")
        await asyncio.sleep(POLL_S)


@dataclass(eq=False, slots=True)
class Gate:
    """One gate: its files, its process and the line to the broker."""

    id: str
    folder: Path
    state: Path
    """Where the journal is; it may be another disk."""
    proxy: Proxy
    turnstile: Turnstile
    program: Program
    load: Load
    starts: int = 0

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    async def until(self, condition: Callable[[Ledgered], bool], what: str, within_s: float) -> None:
        """Look until `condition` holds for what this gate has recorded. Raises ChaosError, also when the gate's process has
        ended by itself."""

        def holds() -> bool:
            if self.program.status is not None:
                raise ChaosError(f"{self.id} has ended by itself, status {self.program.status}: {self.folder}/gate.log")
            return condition(self.recorded())

        await until(holds, f"{self.id}: {what}", within_s)

    def recorded(self) -> Ledgered:
        return read_ledger(self.ledger)

    def waits(self) -> int:
        """Records not yet acknowledged."""
        try:
            return waiting(self.state)
        except sqlite3.OperationalError:
            return 0  # not made yet


class Rig:
    """`start` and `stop` once each."""

    def __init__(
        self,
        directory: Path,
        *,
        seed: int,
        gates: int = 1,
        rate: float = 60.0,
        controls: bool = True,
        states: Callable[[str], Path] | None = None,
        address: str | None = None,
        wrap: Callable[[str], list[str]] | None = None,
    ) -> None:
        """`rate`: passages a second of each gate. `controls`: False where something else stands in for the controller.
        `states` gives a gate's state directory where it is a disk of its own. `address`: of this machine as the gates see it,
        where they stand in another namespace; `wrap`: the command that goes before theirs, to get there."""
        self.directory, self.random = directory, Random(seed)  # noqa: S311  a plan that can be repeated, no secret
        self._rate, self._controls = rate, controls
        self._names = [f"gate-{number}" for number in range(1, gates + 1)]
        self._states, self._address, self._wrap = states, address, wrap
        self.offset = directory / "clock"
        self.broker: Broker
        self.pki: DevicePki
        self.gates: list[Gate] = []
        self.proxy: Proxy
        """The controller's line to the broker."""
        self.controller = Forked(
            run_controller,
            lambda: (str(self.directory / "controller" / "controller.toml"), str(self.offset)),
            directory / "controller.log",
        )
        self.database = directory / "controller" / "state" / "controller.db"

    # Set-up.

    async def start(self) -> None:
        """Everything up, gates included. Raises BrokerError, ChaosError."""
        await self.prepare()
        for gate in self.gates:
            self.start_gate(gate)

    async def prepare(self) -> None:
        """Everything but the gates."""
        now = SystemClock().now()
        self.directory.mkdir(parents=True, exist_ok=True)
        write_offset(self.offset, 0.0)
        self.pki = DevicePki(self.directory / "pki", now)
        names = BROKER_NAMES if self._address is None else (*BROKER_NAMES, self._address)
        enrolled = Enrolled(Place(SITE, self.database.parent).gates)
        for name in self._names:
            enrolled.add(self.pki.client(name).certificate.read_bytes())
        self.broker = Broker(self.directory / "broker", self.pki, self.pki.server(names), site=SITE, gates=self._names)
        self.proxy = self._proxy("127.0.0.1")
        await self.proxy.start()
        self._configure_controller()
        authority = Authority.create(self.directory / "authority", name="Chaos", now=now)
        for name in self._names:
            self.gates.append(await self._gate(name, authority, now))
        await asyncio.to_thread(self.broker.start)
        if self._controls:
            self.controller.start()
            await until(self.database.exists, "controller", START_S)

    def _proxy(self, host: str) -> Proxy:
        return Proxy(("127.0.0.1", self.broker.port), Random(self.random.random()), host=host)  # noqa: S311

    async def _gate(self, name: str, authority: Authority, now: datetime) -> Gate:
        folder = self.directory / name
        (folder / "run").mkdir(parents=True)
        state = folder / "state" if self._states is None else self._states(name)
        turnstile = Turnstile(folder / "lane.sock", folder / "sign.sock")
        await turnstile.start()
        proxy = self._proxy(self._address or "127.0.0.1")
        await proxy.start()
        self._configure_gate(name, folder, state, authority, proxy.port, now)
        first = Load(str(folder / "gate.toml"), str(folder / "ledger"), str(self.offset), 0, self._rate)
        gate = Gate(name, folder, state, proxy, turnstile, self.controller, first)

        def command() -> list[str]:
            return [*(self._wrap or _nothing)(name), sys.executable, *load.arguments(gate.load)]

        log = folder / "gate.log"
        gate.program = (
            Forked(load.run, lambda: (gate.load,), log) if self._wrap is None else Executed(command, log, REPOSITORY)
        )
        return gate

    def _configure_gate(
        self, name: str, folder: Path, state: Path, authority: Authority, port: int, now: datetime
    ) -> None:
        key, root_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        begin = now - timedelta(days=1)
        root = certificates.root(root_key, "Chaos", country="KR", not_before=begin, lifetime=timedelta(days=90))
        leaf = certificates.reader(key.public_key(), name, issuer=root, issuer_key=root_key, not_before=begin)
        (folder / "reader.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
        write_private(folder / "reader.key", key)
        authority.publish(folder / "trust", now)
        example = tomlkit.parse((REPOSITORY / "config" / "gate.toml").read_text("utf-8")).unwrap()
        lane = {"id": LANE, "point": LANE, "direction": "in", "nfc": "hall", "hardware": "hall", "signal": "hall"}
        document = example | {
            "gate": {"id": name, "site": SITE, "state_dir": str(state), "runtime_dir": "run"},
            "trust": {"directory": "trust", "list_key": str(authority.directory / "list-signer.pub.pem")},
            "reader": {"certificate": "reader.pem", "key": "reader.key"},
            "policy": {"file": "policy.toml"},
            "mqtt": self._mqtt(name, self._address or "127.0.0.1", port)
            | {"controller_key": str(self.pki.records_public)},
            "clock": {"boot_error_ms": 1000},
            "device": {
                "nfc": {"hall": {"driver": "nfcpy", "path": f"udp:127.0.0.1:{port}"}},
                "lane": {"hall": {"driver": "simulated", "path": "lane.sock"}},
                "signal": {"hall": {"driver": "log"}},
            },
            "lane": [lane],
        }
        (folder / "gate.toml").write_text(tomlkit.dumps(document), "utf-8")
        policy = {
            "version": 1,
            "timezone": "Asia/Seoul",
            "schedules": {"always": {day: ["00:00-24:00"] for day in DAYS}},
            "zones": {"hall": {}},
            "points": {LANE: {"direction": "entry", "from": "outside", "to": "hall", "entrance_group": "hall"}},
            "profiles": {
                "staff": {
                    "doc_types": ["kr.go.civilservant.1"],
                    "access_classes": ["general"],
                    "zones": ["hall"],
                    "schedule": "always",
                }
            },
        }
        (folder / "policy.toml").write_text(tomlkit.dumps(policy), "utf-8")

    def _configure_controller(self) -> None:
        folder = self.directory / "controller"
        folder.mkdir(exist_ok=True)
        document = tomlkit.parse((REPOSITORY / "config" / "controller.toml").read_text("utf-8")).unwrap()
        document |= {"site": SITE, "state_dir": "state", "web": {"bind": "127.0.0.1", "port": 0}}
        document["mqtt"] |= self._mqtt("controller", "127.0.0.1", self.proxy.port)
        document["mqtt"]["reconnect_max_s"] = RECONNECT_MAX_S
        document["records"] = {"key": str(self.pki.records_key)}
        # The clocks jump by more than a year, for the gates too: nothing must go by that.
        document["retention"] = dict.fromkeys(asdict(Retention()), MAX_DAYS)
        (folder / "controller.toml").write_text(tomlkit.dumps(document), "utf-8")

    def _mqtt(self, name: str, host: str, port: int) -> dict[str, Any]:
        identity = self.pki.client(name)
        return {
            "host": host,
            "port": port,
            "ca": str(self.pki.ca),
            "certificate": str(identity.certificate),
            "key": str(identity.key),
        }

    async def stop(self) -> None:
        for gate in self.gates:
            if gate.starts:
                await gate.program.stop()
            await gate.proxy.stop()
            await gate.turnstile.stop()
        await self.controller.stop()
        if hasattr(self, "broker"):
            await asyncio.to_thread(self.broker.stop)
        if hasattr(self, "proxy"):
            await self.proxy.stop()

    # What may happen to it.

    def gate(self, name: str) -> Gate:
        return next(gate for gate in self.gates if gate.id == name)

    def start_gate(self, gate: Gate, **changed: Any) -> None:
        """`changed`: fields of its Load from now on."""
        gate.starts += 1
        gate.load = replace(gate.load, seed=self.random.getrandbits(32), **changed)
        gate.program.start()

    def kill_gate(self, gate: Gate) -> None:
        gate.program.kill()
        self.start_gate(gate)

    async def stop_gate(self, gate: Gate) -> None:
        await gate.program.stop()
        self.start_gate(gate)

    def kill_controller(self) -> None:
        self.controller.kill()
        self.controller.start()

    def kill_broker(self, *, forget: bool = False) -> None:
        """`forget`: its persistence file is gone as well."""
        self.broker.kill()
        if forget:
            (self.broker.directory / BROKER_STORE).unlink(missing_ok=True)
        self.broker.start()

    def back_up(self) -> Path:
        """`gwanmun backup` beside the running controller."""
        path = self.directory / "backup.db"
        for old in (path, checksum.beside(path)):
            old.unlink(missing_ok=True)
        back_up(self.database, path, time_zone=ZoneInfo("Asia/Seoul"), now=SystemClock().now())
        return path

    def restore(self, backup: Path) -> None:
        """`gwanmun restore`: the controller starts on the old copy; what came since is gone from it."""
        self.controller.kill()
        with StateLock(Place(SITE, self.database.parent).lock):
            kept = restore(backup, self.database, site=SITE, now=SystemClock().now()).kept
        if kept is not None:
            for suffix in ("", "-wal", "-shm"):
                beside(kept, suffix).unlink(missing_ok=True)
        self.controller.start()

    def link(self, name: str, hear: Callable[[Message], None] | None = None) -> MqttLink:
        """A client of the broker with the certificate of a gate or of the controller; not started."""
        folder = self.pki.directory
        settings = MqttSettings(
            "127.0.0.1",
            self.broker.port,
            self.pki.ca,
            folder / f"{name}.pem",
            folder / f"{name}.key",
            client_id=name,
            receive_maximum=1000,
        )
        return MqttLink(settings, clock=SystemClock(), random=self.random, on_message=hear)

    async def publish(self, gate: Gate, payloads: Sequence[bytes]) -> None:
        """Send records in the gate's name, beside the running gate: the broker takes the session from one for the other."""
        link = self.link(gate.id)
        link.start()
        try:
            async with asyncio.timeout(START_S):
                await link.wait_connected()
                for payload in payloads:
                    await link.publish(topics.event(SITE, gate.id), payload)
        except TimeoutError:
            return  # the broker is down just now; what was sent was sent
        finally:
            await link.stop()

    async def resend(self, gate: Gate, count: int) -> int:
        """Earlier records again, twice each and in any order. Returns how many messages."""
        held = [row.raw for row in read_journals(gate.state) if row.raw is not None]
        some = self.random.sample(held, min(count, len(held))) * 2
        self.random.shuffle(some)
        await self.publish(gate, some)
        return len(some)

    def set_clocks(self, seconds: float) -> None:
        """The wall clocks of gates and controller, away from the machine's."""
        write_offset(self.offset, seconds)

    def mend(self) -> None:
        for proxy in (self.proxy, *(gate.proxy for gate in self.gates)):
            proxy.mend()

    # The count.

    async def settle(self, within_s: float) -> dict[str, Comparison]:
        """Mend everything, let no more passages happen, and wait until every gate's records are acknowledged and the store
        agrees. Gives the last comparison of each gate also when it does not."""
        self.mend()
        for gate in self.gates:
            await gate.program.stop()
            self.start_gate(gate, rate=0.0, start=None)
        end = time.monotonic() + within_s
        while True:
            late = time.monotonic() > end
            if late or all(self._looks_whole(gate) for gate in self.gates):
                found = await asyncio.to_thread(self.compare)
                # A difference that will not go away by waiting is told at once.
                if late or any(each.count(*_FOR_GOOD) for each in found.values()):
                    return found
                if all(each.agrees for each in found.values()) and not any(gate.waits() for gate in self.gates):
                    return found
            await asyncio.sleep(SETTLE_POLL_S)

    def _looks_whole(self, gate: Gate) -> bool:
        try:
            return gate.waits() == 0 and count_store(self.database, gate.id) >= count_journal(gate.state)
        except sqlite3.OperationalError:
            return False  # just being opened by its owner

    def compare(self) -> dict[str, Comparison]:
        """Of each gate, as things stand. Raises sqlite3.Error."""
        found = {}
        for gate in self.gates:
            # First the ledger, then the journal: what was promised meanwhile is in the journal already.
            promises, journal = gate.recorded().promises, read_journals(gate.state)
            found[gate.id] = compare(journal, read_store(self.database, gate.id), promises)
        return found


_FOR_GOOD = (What.ALTERED, What.DOUBLED, What.CHAIN, What.FORGOTTEN)


def _nothing(_gate: str) -> list[str]:
    return []
