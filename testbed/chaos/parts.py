"""The parts of a run: each sets up its own rig, breaks it in its own way and counts. What cannot be done here is skipped."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from protocol.clock import SystemClock
from testbed.building import GATE, Building, StartError
from testbed.chaos import disks, namespaces
from testbed.chaos.compare import compare, read_journals, read_store, untold, waiting
from testbed.chaos.disks import Disk, Throttle
from testbed.chaos.load import SEOUL, Ledgered, planned
from testbed.chaos.namespaces import Cable
from testbed.chaos.plan import Action, Step, steps
from testbed.chaos.play import Player
from testbed.chaos.proxy import Mode
from testbed.chaos.rig import ChaosError, Gate, Rig
from testbed.chaos.tally import Tally, of_actions
from testbed.people import Crowd
from testbed.runner import Runner
from testbed.scenario import GRANTED, Attempt, Script

SETTLE_S = 150.0
"""Longest wait for the count: two of the uplink's longest pauses, and the catching up."""
WORK_S = 60.0
PAUSE_S = 10.0
GATES = 2
LONGEST = 1000
"""Most records that one step of the random plan lasts."""
OUTAGE_HOURS = 72
OUTAGE_S = 180.0
"""Longest time that the machine takes for half of these hours."""
DISK_MIB = 12
SLOW_BYTES, SLOW_WRITES = 1 << 19, 40
"""A second: some 100 ms for a commit, of which a worn-out memory card is capable."""
LEFT_OUT_S = 30.0
"""The random plan is given at least this long."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What one part is told."""

    directory: Path
    seed: int
    until_s: float
    """Monotonic time at which the random plan stops."""
    say: Callable[[Step], None] = lambda _step: None
    without: Collection[Action] = frozenset()
    """Left out of the random plan."""
    hours: int = OUTAGE_HOURS


Part = Callable[[Terms], Awaitable[Tally]]


@asynccontextmanager
async def _started(rig: Rig) -> AsyncIterator[Rig]:
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()


async def _count(part: str, rig: Rig, *, kills: int = 0, partitions: int = 0, refusals: bool = False) -> Tally:
    """`refusals`: no process was killed, so that every refusal must be recorded or counted."""
    found = await rig.settle(SETTLE_S)
    left = sum(gate.waits() for gate in rig.gates)
    missing = 0
    if refusals:
        for gate in rig.gates:
            missing += untold(read_journals(gate.state), gate.recorded().refused)
    return Tally(part, kills, partitions, found, left, missing)


async def _more(gate: Gate, durable: int = 0, refused: int = 0) -> None:
    """Until so many more appends have returned, or have been refused."""
    begun = gate.recorded()

    def enough(now: Ledgered) -> bool:
        made, not_made = len(now.promises) - len(begun.promises), len(now.refused) - len(begun.refused)
        return made >= durable and not_made >= refused

    await gate.until(enough, f"{durable} records, {refused} refusals", WORK_S)


async def at_random(terms: Terms) -> Tally:
    """Everything that a process, a line, a clock and a store can do, by the seed's plan."""
    async with _started(Rig(terms.directory, seed=terms.seed, gates=GATES)) as rig:
        player = Player(rig, terms.say)
        end = max(terms.until_s, time.monotonic() + LEFT_OUT_S)
        names = [gate.id for gate in rig.gates]
        plan = steps(terms.seed, names, longest=LONGEST, without=terms.without)
        await player.play(plan, lambda: time.monotonic() >= end)
        kills, partitions = of_actions(player.played)
        return await _count("random", rig, kills=kills, partitions=partitions)


async def outage(terms: Terms) -> Tally:
    """72 planned hours without an uplink, a kill in the middle, then the line again."""
    rig = Rig(terms.directory, seed=terms.seed, rate=0.0)
    try:
        await rig.prepare()
        (gate,) = rig.gates
        # The days before today: the records' time is past when the line comes back, as it would be.
        begin = datetime.now(SEOUL).replace(minute=0, second=0, microsecond=0) - timedelta(hours=terms.hours)
        gate.proxy.worsen(Mode.REFUSE)
        rig.start_gate(gate, start=begin.isoformat(), hours=terms.hours)
        count = len(planned(begin, terms.hours))
        await gate.until(lambda found: found.passed >= count // 2, "first half", OUTAGE_S)
        gate.program.kill()
        rig.start_gate(gate, skip=gate.recorded().passed)
        # Whoever was on the way when it was killed has not passed.
        await gate.until(lambda found: found.passed >= count, "second half", OUTAGE_S)
        return await _count("72 h", rig, kills=1, partitions=1)
    finally:
        await rig.stop()


def _disk_rig(terms: Terms, disk: Disk) -> Rig:
    return Rig(terms.directory, seed=terms.seed, states=lambda gate: disk.point / gate)


@asynccontextmanager
async def _on_disk(terms: Terms) -> AsyncIterator[tuple[Disk, Rig, Gate]]:
    terms.directory.mkdir(parents=True)
    disk = Disk(terms.directory, DISK_MIB)
    try:
        await asyncio.to_thread(disk.attach)
        async with _started(_disk_rig(terms, disk)) as rig:
            yield disk, rig, rig.gates[0]
    finally:
        await asyncio.to_thread(disk.detach)


async def full_disk(terms: Terms) -> Tally:
    """No byte is free for a while: entries are refused, every refusal is counted, and nothing recorded before is touched."""
    if (reason := disks.reason_against()) is not None:
        return Tally("full disk", skipped=reason)
    async with _on_disk(terms) as (disk, rig, gate):
        await _more(gate, durable=50)
        await asyncio.to_thread(disk.fill)
        await _more(gate, refused=20)
        await asyncio.to_thread(disk.free)
        await _more(gate, durable=50)
        return await _count("full disk", rig, refusals=True)


@contextmanager
def _paused(pid: int) -> Iterator[None]:
    """All threads of a process stand still, none of them within a system call."""
    os.kill(pid, signal.SIGSTOP)
    try:
        end = time.monotonic() + PAUSE_S
        while not all(_stopped(task) for task in Path(f"/proc/{pid}/task").iterdir()):
            if time.monotonic() > end:
                raise ChaosError("a gate does not pause")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _stopped(task: Path) -> bool:
    return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"


async def read_only_disk(terms: Terms) -> Tally:
    """Read-only at a start, then writable; later broken while in use, then repaired."""
    if (reason := disks.reason_against()) is not None:
        return Tally("read-only disk", skipped=reason)
    async with _on_disk(terms) as (disk, rig, gate):
        await _more(gate, durable=50)
        gate.program.kill()
        await asyncio.to_thread(disk.read_only, True)
        rig.start_gate(gate)
        await _more(gate, refused=10)
        await asyncio.to_thread(disk.read_only, False)
        await _more(gate, durable=50)
        with _paused(gate.program.pid):
            # With nothing on its way: an fdatasync that ext4's abort overtakes may report success for what fsck then drops.
            await asyncio.to_thread(disk.break_down)
        await _more(gate, refused=10)
        gate.program.kill()
        await asyncio.to_thread(disk.repair)
        rig.start_gate(gate)
        await _more(gate, durable=50)
        return await _count("read-only disk", rig, kills=2)


def _throttle(gate: Gate, disk: Disk) -> Throttle:
    name = f"gwanmun-chaos-{gate.program.pid}"
    return Throttle(name, disk, bytes_per_s=SLOW_BYTES, writes_per_s=SLOW_WRITES)


async def power_cuts(terms: Terms) -> Tally:
    """The gate loses its power: of its files only that remains which was forced to the disk. A kill alone cannot show this, for
    the page cache outlives a process. The disk is slow, so that there is something on its way at most moments."""
    reason = disks.reason_against() or Throttle.reason_against()
    if reason is not None:
        return Tally("power cuts", skipped=reason)
    cuts = 8
    async with _on_disk(terms) as (disk, rig, gate):
        for _ in range(cuts):
            throttle = _throttle(gate, disk)
            throttle.limit(gate.program.pid)
            try:
                await _more(gate, durable=rig.random.randint(5, 30))
                # Stopped at once, it sends nothing more while the disk is being copied.
                os.kill(gate.program.pid, signal.SIGSTOP)
                await asyncio.to_thread(disk.remember)
                await asyncio.to_thread(gate.program.kill)
            finally:
                throttle.release()
            await asyncio.to_thread(disk.cut_power)
            rig.start_gate(gate)
        await _more(gate, durable=20)
        return await _count("power cuts", rig, kills=cuts)


async def slow_disk(terms: Terms) -> Tally:
    """It hangs until lanes give up, then it is slow for a while."""
    reason = disks.reason_against() or Throttle.reason_against()
    if reason is not None:
        return Tally("slow disk", skipped=reason)
    async with _on_disk(terms) as (disk, rig, gate):
        await _more(gate, durable=50)
        await asyncio.to_thread(disk.freeze)
        await _more(gate, refused=8)
        await asyncio.to_thread(disk.thaw)
        await _more(gate, durable=50)
        throttle = _throttle(gate, disk)
        throttle.limit(gate.program.pid)
        try:
            await _more(gate, durable=100)
        finally:
            throttle.release()
        return await _count("slow disk", rig, refusals=True)


async def pulled_cable(terms: Terms) -> Tally:
    """The gates stand in a network of their own, whose only cable is pulled again and again."""
    if (reason := namespaces.reason_against()) is not None:
        return Tally("pulled cable", skipped=reason)
    cable = Cable()
    try:
        await asyncio.to_thread(cable.lay)
        rig = Rig(terms.directory, seed=terms.seed, gates=GATES, address=cable.here, wrap=cable.inside)
        async with _started(rig):
            pulls = 5
            for _ in range(pulls):
                gate = rig.random.choice(rig.gates)
                await _more(gate, durable=40)
                await asyncio.to_thread(cable.pull)
                await _more(gate, durable=int(LONGEST ** rig.random.random()))
                await asyncio.to_thread(cable.plug)
            return await _count("pulled cable", rig, partitions=pulls)
    finally:
        await asyncio.to_thread(cable.remove)


async def building(terms: Terms) -> Tally:
    """A whole building with phones, cameras and turnstiles; each of its processes is killed between two people."""
    place = Building(terms.directory, SystemClock())
    place.directory.mkdir(parents=True)
    failed = ""
    kills = 0
    try:
        await place.start()
        crowd, runner = Crowd(place), Runner(place)
        phone, play = crowd.phone(), Script(place, crowd, runner.decided)
        for _round in range(2):
            for name in ("agent", "controller", "broker"):
                result = await runner.present(Attempt("", "", "lane-1", play.nfc(phone), GRANTED))
                if not result.expected:
                    failed = f"{result.outcome}, {GRANTED} expected"
                if name == "agent":
                    await place.agent.kill()
                    await place.start_agent()
                elif name == "controller":
                    await place.controller.kill()
                    await place.controller.start()
                else:
                    await asyncio.to_thread(place.broker.kill)
                    await asyncio.to_thread(place.broker.start)
                kills += 1
        database = place.controller_state / "controller.db"
        end = time.monotonic() + SETTLE_S
        while True:
            found = compare(read_journals(place.agent_state), read_store(database, GATE))
            left = waiting(place.agent_state)
            if (found.agrees and not left) or time.monotonic() > end:
                return Tally("building", kills, comparisons={GATE: found}, waiting=left, failed=failed)
            await asyncio.sleep(0.1)
    except StartError as error:
        return Tally("building", kills, failed=str(error))
    finally:
        await place.stop()


PARTS: dict[str, Part] = {
    "outage": outage,
    "full-disk": full_disk,
    "read-only-disk": read_only_disk,
    "slow-disk": slow_disk,
    "power-cuts": power_cuts,
    "cable": pulled_cable,
    "building": building,
    "random": at_random,
}
"""In this order; the random plan takes the time that is left."""


async def run(name: str, terms: Terms) -> Tally:
    """One part; what of the rig fails becomes part of its tally."""
    try:
        return await PARTS[name](terms)
    except (ChaosError, disks.DiskError, namespaces.NamespaceError) as error:
        return Tally(name, failed=str(error))
