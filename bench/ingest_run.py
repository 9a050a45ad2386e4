"""One measurement of ingest: broker, receiver (the controller, or the floor in its place) and load, each a process of its own.

Everything is new for each: broker, session, database. What counts is the time from the first byte of the first publication to
the commit of the last record, seen in the database.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import tomlkit

from bench.ingest_floor import Settings as FloorSettings
from bench.load import HOST, Plan, Sent
from controller.config import ControllerConfig, load
from controller.sorting import LEAVES
from protocol import topics
from testbed.broker import Broker, free_port
from testbed.pki import DevicePki

SITE = "bench"
REPOSITORY = Path(__file__).resolve().parents[1]
START_S, STALL_S, STOP_S = 30.0, 60.0, 20.0
"""Longest wait for a process to be ready, without any progress, and for a process to end."""
POLL_S = 0.01
IN_FLIGHT, IN_FLIGHT_EACH = 2000, 100
"""Messages without PUBACK, of all gates and of one."""


class RunError(Exception):
    """A process failed, or records are missing."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who takes the records: how to start it, when it is ready, and how to see how far it is."""

    command: Sequence[str]
    ready: Callable[[str], bool]
    """Told what the process has printed so far."""
    database: Path
    progress: str
    """SQL that costs next to nothing: the number of rows, while nothing is ever removed."""
    count: str
    """SQL that really counts the rows."""


class Machines:
    """Certificates of broker, controller and gates, made once."""

    def __init__(self, directory: Path, gates: int) -> None:
        self.pki = DevicePki(directory, datetime.now(UTC))
        self.broker, self.controller = self.pki.server(), self.pki.client("controller")
        names = [f"gate-{number:03d}" for number in range(1, gates + 1)]
        self.gates = [(name, self.pki.client(name)) for name in names]

    def plan(
        self, gates: int, records: int, packed: int = 1, ahead: int | None = None, rate: float | None = None
    ) -> Plan:
        """`records` in all, evenly from the first `gates`."""
        chosen = tuple((name, str(each.certificate), str(each.key)) for name, each in self.gates[:gates])
        window = max(1, min(IN_FLIGHT_EACH, IN_FLIGHT // gates))
        return Plan(SITE, str(self.pki.ca), chosen, records // gates, packed, window, ahead, rate)


@contextmanager
def broker(directory: Path, machines: Machines) -> Iterator[Broker]:
    """The one place where a broker is set up."""
    one = Broker(directory, machines.pki, machines.broker, site=SITE, gates=[name for name, _ in machines.gates])
    one.start()
    try:
        yield one
    finally:
        one.stop()


def controller_config(directory: Path, machines: Machines, port: int) -> ControllerConfig:
    """The example configuration with this run's places and ports."""
    body: dict[str, Any] = tomlkit.parse((REPOSITORY / "config" / "controller.toml").read_text("utf-8")).unwrap()
    own = machines.controller
    body |= {"site": SITE, "state_dir": str(directory / "state")}
    body["mqtt"] |= {
        "host": HOST,
        "port": port,
        "ca": str(machines.pki.ca),
        "certificate": str(own.certificate),
        "key": str(own.key),
    }
    body["records"] = {"key": str(machines.pki.records_key)}
    body["web"] = {"bind": HOST, "port": free_port()}
    path = directory / "controller.toml"
    path.write_text(tomlkit.dumps(body), "utf-8")
    return load(path)


CONTROLLER = (sys.executable, "-m", "controller")


def ours(directory: Path, machines: Machines, port: int, command: Sequence[str] = CONTROLLER) -> Receiver:
    """The real controller."""
    config = controller_config(directory, machines, port)
    health = f"http://{HOST}:{config.web.port}/healthz"

    def ready(_printed: str) -> bool:
        try:
            with urllib.request.urlopen(health, timeout=5):  # 503 without a broker
                return True
        except OSError:
            return False

    return Receiver(
        [*command, "--config", str(config.file)],
        ready,
        config.database,
        "SELECT coalesce(max(arrival), 0) FROM events",
        "SELECT count(*) FROM events",
    )


def floor(directory: Path, machines: Machines, port: int) -> Receiver:
    """Bare payloads into SQLite, with the controller's own settings."""
    config = controller_config(directory, machines, port)
    settings = FloorSettings(
        HOST,
        port,
        str(config.mqtt.ca),
        str(config.mqtt.certificate),
        str(config.mqtt.key),
        config.mqtt.client_id,
        {f"{topics.ROOT}/{SITE}/+/{leaf}": 0 if leaf == "health" else 1 for leaf in LEAVES},
        config.mqtt.receive_maximum,
        str(directory / "floor.db"),
        config.ingest.batch,
        config.ingest.linger_s,
    )
    path = directory / "floor.json"
    path.write_text(json.dumps(asdict(settings)), "utf-8")
    return Receiver(
        [sys.executable, "-m", "bench.ingest_floor", str(path)],
        lambda printed: "ready\n" in printed,
        Path(settings.database),
        "SELECT coalesce(max(number), 0) FROM payloads",
        "SELECT count(*) FROM payloads",
    )


class Load:
    """The load process: everything is made once, then sent as often as asked."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "plan.json"
        path.write_text(json.dumps(asdict(plan)), "utf-8")
        self.plan, self.records = plan, plan.records * len(plan.gates)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load", str(path)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def connect(self, port: int) -> None:
        self._tell(str(port))
        if self._heard() != "ready\n":
            raise RunError("the load does not connect")

    def go(self) -> None:
        self._tell("go")

    def check(self) -> None:
        """Raises RunError when it has failed."""
        if self._process.poll() is not None:
            raise RunError("the load has failed")

    def sent(self) -> Sent:
        """Waits for its end."""
        line = self._heard()
        if not line:
            raise RunError("the load has failed")
        return Sent(**json.loads(line))

    def stop(self) -> None:
        """End it. Raises nothing."""
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def _heard(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def running(receiver: Receiver, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The receiver's process, ready. Raises RunError."""
    with log.open("ab") as file:
        process = subprocess.Popen(receiver.command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + START_S
        while not receiver.ready(printed := log.read_text("utf-8", "replace")):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RunError(f"{' '.join(receiver.command)} does not start: {printed[-1000:]}")
            time.sleep(POLL_S)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


Make = Callable[[Path, Machines, int], Receiver]


def measure(make: Make, machines: Machines, load_: Load, rows: int, place: Path) -> float:
    """Seconds from the first byte sent to the commit of the last of `rows`. Raises RunError, BrokerError.

    `place` is where the databases of receiver and broker lie: on a real disk.
    """
    with tempfile.TemporaryDirectory(prefix="gwanmun-bench-", dir=place) as name:
        directory = Path(name)
        with broker(directory / "broker", machines) as one:
            receiver = make(directory, machines, one.port)
            with running(receiver, directory / "receiver.log") as process:
                load_.connect(one.port)
                load_.go()
                end = _committed(receiver, process, load_, rows)
                sent = load_.sent()
                with closing(_reading(receiver.database)) as database:
                    found = database.execute(receiver.count).fetchone()[0]
                if found != rows:
                    raise RunError(f"{found} rows, {rows} were expected")
                return end - sent.begin


def _committed(receiver: Receiver, process: subprocess.Popen[bytes], load_: Load, rows: int) -> float:
    """Monotonic time at which all are there."""
    with closing(_reading(receiver.database)) as database:
        last, since = 0, time.monotonic()
        while True:
            found = database.execute(receiver.progress).fetchone()[0]
            now = time.monotonic()
            if found >= rows:
                return now
            if found > last:
                last, since = found, now
            load_.check()
            if process.poll() is not None or now - since > STALL_S:
                raise RunError(f"{found} of {rows} rows, then nothing")
            time.sleep(POLL_S)


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
