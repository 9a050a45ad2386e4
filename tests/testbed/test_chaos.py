"""Nothing lost, nothing doubled: the short form of `make chaos`, and proof that the suite can fail."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from protocol import ack, events, topics
from protocol.ack import Ack
from protocol.mqtt import Message
from protocol.packing import packed, split
from testbed import broker
from testbed.chaos import parts
from testbed.chaos.compare import Difference, What, first_waiting, read_journals, read_store
from testbed.chaos.parts import PARTS, Terms
from testbed.chaos.plan import SHORT, Action, steps
from testbed.chaos.play import Player
from testbed.chaos.proxy import Mode
from testbed.chaos.rig import SITE, Gate, Rig, until

SEED = 20261124
WITHIN_S = 60.0
"""Only a machine that has failed takes as long."""

pytestmark = pytest.mark.skipif(
    broker.executable() is None, reason="mosquitto is not installed (apt install mosquitto)"
)


@asynccontextmanager
async def stopped_at_the_end(rig: Rig) -> AsyncIterator[Rig]:
    try:
        yield rig
    finally:
        await rig.stop()


async def durable(gate: Gate, count: int) -> None:
    await gate.until(lambda found: len(found.promises) >= count, f"{count} records", WITHIN_S)


async def test_after_kills_a_half_open_line_and_an_old_backup_every_record_is_there_once(tmp_path: Path) -> None:
    async with stopped_at_the_end(Rig(tmp_path, seed=SEED, rate=100)) as rig:
        await rig.start()
        player = Player(rig)
        plan = steps(SEED, ["gate-1"], longest=15, a_round=SHORT)
        await player.play(islice(plan, len(SHORT)))
        (found,) = (await rig.settle(WITHIN_S)).values()
        assert found.differences == ()
        assert rig.gates[0].waits() == 0
        assert min(found.records, found.promises) > player.played[Action.KILL_GATE] == 6


class Controller:
    """Stands in for the real one: keeps what it hears, but for one record that is lost on the way to it the first time.

    `over_holes`: acknowledges the highest number it holds, the fault that random kills hardly ever show.
    """

    def __init__(self, rig: Rig, *, loses: int, over_holes: bool) -> None:
        self._rig, self._loses, self._over_holes = rig, loses, over_holes
        self._held: dict[int, bytes] = {}
        self._gone = False
        self._sending: set[asyncio.Task[object]] = set()
        self._link = rig.link("controller", self._hear)

    async def start(self) -> None:
        with closing(sqlite3.connect(self._rig.database)) as db:
            db.execute("CREATE TABLE events (gate, epoch, seq, raw, PRIMARY KEY (gate, epoch, seq))")
        await self._link.subscribe(topics.event(SITE, "+"))
        self._link.start()

    async def stop(self) -> None:
        await asyncio.gather(*self._sending)
        await self._link.stop()

    def _hear(self, message: Message) -> None:
        for raw in split(message.payload) if packed(message.payload) else [message.payload]:
            event = events.parse(raw)
            if event.seq == self._loses and not self._gone:
                self._gone = True
                continue
            self._held[event.seq] = raw
            with closing(sqlite3.connect(self._rig.database)) as db, db:
                row = (event.gate, event.epoch, event.seq, raw)
                db.execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?)", row)
        whole = next(seq for seq in range(1, len(self._held) + 2) if seq not in self._held) - 1
        mark = max(self._held, default=0) if self._over_holes else whole
        if mark:
            found = Ack(event.epoch, mark, events.record_hash(self._held[mark]))
            payload = found.encode(SITE, event.gate, self._rig.pki.records)
            self._spawn(self._link.publish(topics.ack(SITE, event.gate), payload, retain=True))

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)


@pytest.mark.parametrize(
    ("over_holes", "lost"), [(False, ()), (True, (3,))], ids=["contiguous", "acknowledges the newest"]
)
async def test_a_controller_that_acknowledges_over_a_hole_loses_a_record_and_is_caught(
    tmp_path: Path, over_holes: bool, lost: tuple[int, ...]
) -> None:
    async with stopped_at_the_end(Rig(tmp_path, seed=SEED, rate=100, controls=False)) as rig:
        await rig.prepare()
        (gate,) = rig.gates
        controller = Controller(rig, loses=3, over_holes=over_holes)
        await controller.start()
        try:
            rig.start_gate(gate)
            await durable(gate, 30)
            # The gate starts anew: whatever it still keeps it sends again at once.
            await gate.program.stop()
            rig.start_gate(gate, rate=0.0)
            await until(lambda: read_journals(gate.state)[-1].seq in stored(rig), "the last record", WITHIN_S)
            await until(lambda: gate.waits() == 0, "every record acknowledged", WITHIN_S)
            gate.program.kill()
            epoch = read_journals(gate.state)[0].epoch
            differences = rig.compare()["gate-1"].differences
            assert list(differences) == [Difference(What.LOST, epoch, seq) for seq in lost]
        finally:
            await controller.stop()


def stored(rig: Rig) -> set[int]:
    return {row.seq for row in read_store(rig.database, "gate-1")}


async def test_the_mark_stays_before_a_hole_and_the_gate_keeps_what_is_behind_it(tmp_path: Path) -> None:
    """Records 1, 2, 4 and 5 reach the real controller, 3 does not."""
    async with stopped_at_the_end(Rig(tmp_path, seed=SEED, rate=100)) as rig:
        await rig.prepare()
        (gate,) = rig.gates
        gate.proxy.worsen(Mode.REFUSE)
        rig.start_gate(gate)
        await durable(gate, 5)
        gate.program.kill()
        journal = [row.raw for row in read_journals(gate.state) if row.raw is not None]
        heard: list[int] = []

        def hear(message: Message) -> None:
            heard.append(ack.parse(message.payload, SITE, "gate-1", rig.pki.records.public_key()).seq)

        link = rig.link("gate-1", hear)
        await link.subscribe(topics.ack(SITE, "gate-1"))
        link.start()
        await link.wait_connected()

        async def send(*seqs: int) -> None:
            for seq in seqs:
                await link.publish(topics.event(SITE, "gate-1"), journal[seq - 1])

        await send(1, 2, 4, 5)
        await until(lambda: stored(rig) == {1, 2, 4, 5}, "four records", WITHIN_S)
        count = len(heard)
        await send(2)  # whoever repeats a record is owed an acknowledgement
        await until(lambda: len(heard) > count and heard[-1] >= 2, "an acknowledgement", WITHIN_S)
        assert max(heard) == 2
        await link.stop()

        # The broker tells the gate the last acknowledgement; nobody is there to give another.
        rig.controller.kill()
        gate.proxy.mend()
        rig.start_gate(gate, rate=0.0)
        await until(lambda: first_waiting(gate.state) != 1, "an acknowledgement at the gate", WITHIN_S)
        assert first_waiting(gate.state) == 3
        assert gate.waits() >= len(journal) - 2
        rig.controller.start()
        (found,) = (await rig.settle(WITHIN_S)).values()
        assert found.differences == ()
        assert {1, 2, 3, 4, 5} <= stored(rig)


@pytest.mark.slow
@pytest.mark.xdist_group("machine")  # they wear the disk out
@pytest.mark.parametrize("part", [name for name in PARTS if name != "random"])
async def test_each_part_of_the_long_form_passes_where_the_machine_has_what_it_needs(
    part: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # The name of a socket has a hundred bytes.
    tally = await parts.run(part, Terms(tmp_path_factory.mktemp("c") / "p", SEED, 0.0))
    if tally.skipped:
        pytest.skip(tally.skipped)
    assert tally.passed, tally
    assert tally.records > 0
