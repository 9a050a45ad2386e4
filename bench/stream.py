"""How far the live stream is behind the gates' publications, with watchers on it; and the controller's memory then."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.disk import directory
from bench.ingest_run import REPOSITORY, Load, Machines, RunError, broker, ours, running
from bench.load import HOST, Sent
from bench.row import Row
from bench.watchers import Plan, Seen
from controller.config import load as load_config

GATES, RATE, SECONDS = 400, 2400, 60
WATCHERS = 20
BEHIND_MS = 1000.0
MEMORY_MB = 200.0


def measure(gates: int, rate: float, seconds: float, watchers: int, place: Path) -> tuple[Sent, Seen, float]:
    """The load, what was seen of it, and the controller's resident memory in MB after it. Raises RunError, BrokerError."""
    machines = Machines(place / "pki", gates)
    # Of now: a passage that is told of much later is not shown live.
    load_plan = replace(machines.plan(gates, int(rate * seconds), rate=rate), since=datetime.now(UTC).isoformat())
    with (
        Load(place / "load", load_plan) as load,
        broker(place / "broker", machines) as one,
    ):
        receiver = ours(place, machines, one.port)
        port = load_config(place / "controller.toml").web.port
        with running(receiver, place / "receiver.log") as process:
            load.connect(one.port)
            names = tuple(name for name, _ in machines.gates)
            plan = Plan(port, watchers, load.plan.site, names, load.plan.records, rate, load.plan.since)
            sent, seen = _watched(plan, load, place / "watchers.json")
            memory = psutil.Process(process.pid).memory_info().rss / 1e6
    if seen.count != load.records * watchers:
        raise RunError(
            f"{seen.count} events seen, {load.records * watchers} were expected; resync {seen.resyncs} times"
        )
    return sent, seen, memory


def _watched(plan: Plan, load: Load, path: Path) -> tuple[Sent, Seen]:
    path.write_text(json.dumps(asdict(plan)), "utf-8")
    command = [sys.executable, "-m", "bench.watchers", str(path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RunError(f"the watchers do not connect to {HOST}:{plan.port}")
            load.go()
            sent, line = load.sent(), process.stdout.readline()
        finally:
            process.terminate()
    if not line:
        raise RunError("the watchers have failed")
    return sent, Seen(**json.loads(line))


def rows(gates: int = GATES, rate: float = RATE, seconds: float = SECONDS, watchers: int = WATCHERS) -> list[Row]:
    place, _ = directory()
    with tempfile.TemporaryDirectory(prefix="gwanmun-bench-", dir=place) as name:
        sent, seen, memory = measure(gates, rate, seconds, watchers, Path(name))
    what = f"live stream, {rate:,.0f} events/s, {watchers} watchers: behind the publication"
    figures = (("median", seen.p50), ("99th percentile", seen.p99), ("longest", seen.longest))
    return [
        *(Row(f"{what}, {figure}", (at - sent.begin) * 1000, "ms", None, BEHIND_MS) for figure, at in figures),
        Row(f"memory at {gates} gates, after {seconds:.0f} s of it", memory, "MB", None, MEMORY_MB),
    ]
