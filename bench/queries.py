"""Every question that a page asks, of a month of ten million events: the 95th percentile of a hundred and more random ones.

`warm`: the same connection asks on, which has read the days ahead as after every start. `cold`: a new one each time that has read
nothing, and what the system kept of the file in memory is dropped.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from bench.building import CARRIERS, LAST_DAY, ZONE, Size, build, gate_name, lane_name
from bench.disk import directory
from bench.row import Row, quantile
from controller.occupancy import Settings
from controller.queries import DETAIL_DAYS, WARM_DAYS, Queries
from policy.model import OUTSIDE, Direction, Point
from protocol.clock import SystemClock
from protocol.events import Kind

RUNS, COLD_RUNS = 120, 100
TARGET_MS = 50.0
K = 5
NOW = datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day, 18, 5, tzinfo=ZONE).astimezone(UTC)
KINDS = (
    Kind.ALARM_TAMPER,
    Kind.ALARM_FORCED,
    Kind.LANE_FAULT,
    Kind.TRUST_APPLIED,
    Kind.ACCESS_DENIED,
    Kind.FIRE_ASSERTED,
)

Ask = Callable[[Queries, Random], object]


class ThatEvening(SystemClock):
    """After the last working hour of the month."""

    def now(self) -> datetime:
        return NOW


def _open(path: Path) -> Queries:
    lanes = [lane_name(number) for number in range(Size().lanes_each)]
    points = {
        lane: Point(lane, Direction.EXIT, "lobby", OUTSIDE, "main")
        if lane.endswith("out")
        else Point(lane, Direction.ENTRY, OUTSIDE, "lobby", "main")
        for lane in lanes
    }
    return Queries(path, ZONE, k=K, clock=ThatEvening(), occupancy=Settings(points, ("lobby",)))


def _asks(size: Size) -> Mapping[str, Ask]:
    month = timedelta(days=size.days)

    def gate(random: Random) -> str:
        return gate_name(random.randrange(size.gates))

    def lane(random: Random) -> str:
        return lane_name(random.randrange(size.lanes_each))

    def back(random: Random, most: timedelta = month) -> datetime:
        """Some moment of the month."""
        return NOW - most * random.random()

    def kinds(random: Random) -> list[str]:
        return random.sample(KINDS, random.randint(1, 3))

    def day(random: Random) -> tuple[datetime, datetime]:
        since = back(random) - timedelta(days=1)
        return since, since + timedelta(days=1)

    def read(random: Random) -> tuple[datetime, datetime]:
        until = back(random, timedelta(days=DETAIL_DAYS - 1))
        return until - timedelta(hours=random.randint(1, 24)), until

    return {
        "latest of every gate": lambda q, _: q.gates(),
        "timeline of the building": lambda q, r: q.timeline(NOW - month, back(r)),
        "timeline of the building, some kinds": lambda q, r: q.timeline(NOW - month, back(r), kinds=kinds(r)),
        "timeline of a gate": lambda q, r: q.timeline(NOW - month, back(r), gate=gate(r)),
        "timeline of a gate, some kinds": lambda q, r: q.timeline(NOW - month, NOW, gate=gate(r), kinds=kinds(r)),
        "timeline of a lane": lambda q, r: q.timeline(NOW - month, back(r), gate=gate(r), lane=lane(r)),
        "an officer's page of the building": lambda q, r: q.timed(*read(r)),
        "an officer's page of a gate": lambda q, r: q.timed(*read(r), gate=gate(r)),
        "an officer's page of a lane": lambda q, r: q.timed(*read(r), gate=gate(r), lane=lane(r)),
        "an officer's page of a rare kind": lambda q, r: q.timed(*read(r), gate=gate(r), kinds=["passage.unknown"]),
        "passages of a day by quarter, building": lambda q, r: q.traffic(*day(r), step="quarter"),
        "passages of a week by quarter, gate": lambda q, r: q.traffic(
            (until := back(r)) - timedelta(days=7), until, gate=gate(r), step="quarter"
        ),
        "passages of a month by day, building": lambda q, _: q.traffic(NOW - month, NOW, step="day"),
        "passages of a month by day, gate": lambda q, r: q.traffic(NOW - month, NOW, gate=gate(r), step="day"),
        "latency of a day, building": lambda q, r: q.latency(*day(r)),
        "latency of a month, gate": lambda q, r: q.latency(NOW - month, NOW, gate=gate(r)),
        "latency of a month, gate and carrier": lambda q, r: q.latency(
            NOW - month, NOW, gate=gate(r), carrier=r.choice(CARRIERS)
        ),
        "refusals of a day, building": lambda q, r: q.refusals(*day(r)),
        "refusals of a month, building": lambda q, _: q.refusals(NOW - month, NOW),
        "refusals of a month, gate": lambda q, r: q.refusals(NOW - month, NOW, gate=gate(r)),
        "muster": lambda q, r: q.muster(back(r, timedelta(hours=10))),
        "orders": lambda q, _: q.orders(),
        "open alarms": lambda q, _: q.alarms(state="raised"),
        "alarms of a gate": lambda q, r: q.alarms(gate=gate(r)),
        "history of an alarm": lambda q, r: q.alarm_history(r.randint(1, 10_000)),
    }


def _forget(path: Path) -> None:
    """The system drops what it keeps of the file in memory."""
    for each in (path, path.with_name(f"{path.name}-wal")):
        if each.exists():
            handle = os.open(each, os.O_RDONLY)
            try:
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


def _warm(path: Path, ask: Ask, runs: int) -> float:
    random, taken = Random(5), []  # noqa: S311
    queries = _open(path)
    try:
        for back in range(WARM_DAYS + 1):
            queries.warm(back)
        for _ in range(runs):
            begin = time.perf_counter()
            ask(queries, random)
            taken.append((time.perf_counter() - begin) * 1000)
    finally:
        queries.close()
    return quantile(taken, 0.95)


def _cold(path: Path, ask: Ask, runs: int) -> float:
    random, taken = Random(6), []  # noqa: S311
    for _ in range(runs):
        _forget(path)
        queries = _open(path)
        try:
            begin = time.perf_counter()
            ask(queries, random)
            taken.append((time.perf_counter() - begin) * 1000)
        finally:
            queries.close()
    return quantile(taken, 0.95)


def _ahead(path: Path) -> float:
    _forget(path)
    queries, taken = _open(path), []
    try:
        for back in range(WARM_DAYS + 1):
            begin = time.perf_counter()
            queries.warm(back)
            taken.append((time.perf_counter() - begin) * 1000)
    finally:
        queries.close()
    return max(taken)


def measure(path: Path, size: Size, runs: int = RUNS, cold_runs: int = COLD_RUNS, only: str = "") -> list[Row]:
    """Of a database that `building.build` made."""
    found = [Row("the longest step of reading a month ahead after a start", _ahead(path), "ms")]
    for name, ask in _asks(size).items():
        if only not in name:
            continue
        found.append(Row(f"{name}, p95 of {runs}, warm", _warm(path, ask, runs), "ms", None, TARGET_MS))
        found.append(Row(f"{name}, p95 of {cold_runs}, cold", _cold(path, ask, cold_runs), "ms", None, TARGET_MS))
    return found


def rows(size: Size | None = None, runs: int = RUNS, cold_runs: int = COLD_RUNS) -> list[Row]:
    size = size or Size()
    place, _ = directory()
    with tempfile.TemporaryDirectory(prefix="gwanmun-bench-", dir=place) as name:
        path = Path(name) / "controller.db"
        begin = time.perf_counter()
        events = build(path, size)
        made = Row(f"a month of {events:,} events at {size.gates} gates made", time.perf_counter() - begin, "s")
        bytes_ = Row("its database", path.stat().st_size / 1e9, "GB")
        return [made, bytes_, *measure(path, size, runs, cold_runs)]
