"""A gate without people: the whole real agent, and beside its lanes a seeded source of the records that passages make.

Every append that returned is written to the ledger before anything else happens: that is what a caller counts on. The process
may be killed at any moment and started again on the same files.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from gate_agent import config as configuration
from gate_agent import log
from gate_agent.agent import Agent
from gate_agent.config import GateConfig
from gate_agent.journal import Journal, Record, RecordUnavailableError
from policy.reasons import Reason
from protocol.clock import Clock
from protocol.events import Kind
from testbed.chaos.clocks import OffsetClock, PlannedClock
from testbed.chaos.compare import Promise
from testbed.chaos.days import moments

LANE = "hall-in"
WORKERS = 8
"""People who are on their way at once; they share commits as those of several lanes do."""
SEOUL = ZoneInfo("Asia/Seoul")


@dataclass(frozen=True, slots=True)
class Load:
    """What one process does. Every field survives JSON."""

    config: str
    ledger: str
    clock: str
    """File of OffsetClock."""
    seed: int
    """Of this process: a later one on the same files needs another."""
    rate: float
    """Passages a second; 0: none."""
    start: str | None = None
    """Begin of planned hours (RFC 3339), whose records are made as fast as they become durable; None: by `rate`, for ever."""
    hours: int = 0
    skip: int = 0
    """Passages of the planned hours that an earlier process has made."""


@dataclass(frozen=True, slots=True)
class Say:
    """One record: whether its maker waits until it is durable."""

    kind: Kind
    data: Mapping[str, Any]
    waits: bool


def passage(random: Random) -> list[Say]:
    """What one person leaves in the journal, as lane and barrier write it: mostly grant, opening, outcome."""
    attempt = f"{random.getrandbits(64):016x}"
    base = {"lane": LANE, "dir": "in", "attempt": attempt}
    decision = {**base, "point": LANE, "carrier": random.choice(("nfc", "ble", "qr"))}
    luck = random.random()
    if luck < 0.08:
        reason = random.choice((Reason.REVOKED, Reason.EXPIRED, Reason.OUTSIDE_SCHEDULE))
        return [Say(Kind.ACCESS_DENIED, {**decision, "reason": str(reason)}, True)]
    opened = Say(Kind.LANE_OPENED, {**base, "lat_ms": {"ours": random.randint(20, 80)}}, False)
    outcome = Kind.PASSAGE_NOT_TAKEN if luck < 0.12 else Kind.PASSAGE_COMPLETED
    return [Say(Kind.ACCESS_GRANTED, decision, True), opened, Say(outcome, base, luck < 0.7)]


def planned(start: datetime, hours: int) -> list[datetime]:
    """Times of the passages of planned hours: the same for the same start, whoever asks."""
    begin = start.astimezone(SEOUL)
    return list(moments(begin, hours, Random(begin.isoformat())))  # noqa: S311  a plan that can be repeated, no secret


class LoadedAgent(Agent):
    """The agent, whose journal may be written from outside its lanes."""

    def __init__(self, config: GateConfig, clock: Clock) -> None:
        super().__init__(config, clock)
        self.opened: Journal | None = None

    async def _open_journal(self) -> Journal:
        self.opened = await super()._open_journal()
        return self.opened


class Ledger:
    """Appended line by line with one write each: a killed process leaves whole lines, since the page cache outlives it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def promise(self, record: Record) -> None:
        os.write(self._descriptor, f"durable {record.epoch} {record.seq} {record.hash}\n".encode())

    def refused(self, attempt: str) -> None:
        os.write(self._descriptor, f"refused {attempt}\n".encode())

    def passed(self) -> None:
        """A passage of the planned hours is over, with all of its records."""
        os.write(self._descriptor, b"passed\n")


@dataclass(frozen=True, slots=True)
class Ledgered:
    """What a ledger holds."""

    promises: list[Promise]
    refused: list[str]
    passed: int


def read_ledger(path: Path) -> Ledgered:
    """A last line without its end is left out: its append has not returned. Empty for a file that is not there."""
    text = path.read_text(encoding="ascii") if path.exists() else ""
    lines = [line.split(" ") for line in text[: text.rfind("\n") + 1].splitlines()]
    return Ledgered(
        [Promise(line[1], int(line[2]), line[3]) for line in lines if line[0] == "durable"],
        [line[1] for line in lines if line[0] == "refused"],
        sum(line[0] == "passed" for line in lines),
    )


class Source:
    """Makes records in `journal` until it is cancelled or the planned hours are over."""

    def __init__(self, load: Load, journal: Journal, ledger: Ledger, clock: Clock, patience_s: float) -> None:
        """`patience_s`: longest wait for one record to be durable, as a lane's."""
        self._load, self._journal, self._ledger, self._clock = load, journal, ledger, clock
        self._patience_s = patience_s
        self._random = Random(load.seed)  # noqa: S311  a plan that can be repeated, no secret

    async def run(self) -> None:
        if self._load.start is not None:
            await self._by_plan(datetime.fromisoformat(self._load.start))
        elif self._load.rate > 0:
            async with asyncio.TaskGroup() as group:
                for _ in range(WORKERS):
                    group.create_task(self._by_rate(Random(self._random.getrandbits(64))))  # noqa: S311

    async def _by_rate(self, random: Random) -> None:
        while True:
            await asyncio.sleep(random.expovariate(self._load.rate / WORKERS))
            await self._pass(passage(random))

    async def _by_plan(self, start: datetime) -> None:
        rest = iter(planned(start, self._load.hours)[self._load.skip :])

        async def work() -> None:
            for moment in rest:
                if isinstance(self._clock, PlannedClock):
                    self._clock.set(moment)
                await self._pass(passage(self._random))
                self._ledger.passed()

        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(work())

    async def _pass(self, says: list[Say]) -> None:
        for say in says:
            if not say.waits:
                self._journal.note(say.kind, say.data)
                continue
            try:
                record = await self._journal.append(say.kind, say.data, timeout=self._patience_s)
            except RecordUnavailableError:
                # As a lane does: what cannot be recorded is refused, and the refusal is noted.
                data = {**say.data, "reason": str(Reason.RECORD_UNAVAILABLE)}
                self._ledger.refused(str(say.data["attempt"]))
                self._journal.note(Kind.ACCESS_DENIED, data)
                return
            self._ledger.promise(record)


def run(load: Load) -> None:
    """Until SIGTERM (a clean stop) or SIGKILL."""
    log.set_up()
    faulthandler.register(signal.SIGUSR1)
    asyncio.run(_serve(load))


async def _serve(load: Load) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    clock: Clock = OffsetClock(Path(load.clock))
    if load.start is not None:
        clock = PlannedClock(datetime.fromisoformat(load.start))
    config = configuration.load(Path(load.config))
    agent = LoadedAgent(config, clock)
    work: asyncio.Task[None] | None = None
    try:
        await agent.start()
        if agent.opened is not None:
            ledger = Ledger(Path(load.ledger))
            source = Source(load, agent.opened, ledger, clock, config.times.record_timeout_s)
            work = asyncio.create_task(source.run())
        asked = asyncio.create_task(stop.wait())
        await asyncio.wait([asked] if work is None else [asked, work], return_when=asyncio.FIRST_COMPLETED)
        if work is not None and work.done():
            work.result()
        await asked
    finally:
        if work is not None:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        await agent.stop("asked")


def arguments(load: Load) -> Iterator[str]:
    """Of `python -m testbed.chaos.load`, for a process that has to be started in a namespace or a control group."""
    yield from ("-m", "testbed.chaos.load", json.dumps(asdict(load)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("load", type=json.loads)
    run(Load(**parser.parse_args().load))
