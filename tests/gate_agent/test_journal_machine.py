"""Whatever happens in whatever order, the sequence has no hole that nobody explains, and nothing that waits is ever gone."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gate_agent import chain
from gate_agent.record import Entry, Record
from gate_agent.retention import MIB, Limits, Retention
from gate_agent.store import Store
from protocol import events
from protocol.events import HOUSEKEEPING, Kind
from protocol.statement import Purpose, from_data
from tests.gate_agent.fakes import FakeClock
from tests.gate_agent.journals import GATE, KEY, PUBLIC, SITE

KINDS = (Kind.ACCESS_GRANTED, Kind.ACCESS_DENIED, Kind.PASSAGE_COMPLETED, Kind.FIRE_ASSERTED, Kind.DEVICE_DEGRADED)
DAY_S = 86400.0


class PowerCutError(Exception):
    pass


class Cut:
    """A connection that lets so many statements through."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self.left = db, -1

    def _count(self) -> None:
        if self.left == 0:
            raise PowerCutError
        self.left -= 1

    def execute(self, *args: Any) -> Any:
        self._count()
        return self._db.execute(*args)

    def executemany(self, *args: Any) -> Any:
        self._count()
        return self._db.executemany(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


class JournalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="gwanmun-journal-"))
        self.path = self.folder / "journal.db"
        self.clock, self.random = FakeClock(), Random(1)
        self.retention = Retention(Limits(max_bytes=MIB + 1))
        self.attempts = 0
        self.durable: dict[int, Record] = {}
        """What a caller was promised, and what turned out to be durable."""
        self.kinds: dict[int, Kind | str] = {}
        self.acknowledged = 0
        self.store = self.open()
        self.epoch = self.store.epoch

    def open(self) -> Store:
        store = Store(self.path, site=SITE, gate=GATE, random_bytes=self.random.randbytes, sign=KEY)
        self.cut = Cut(store.db)
        store._db = store.outbox._db = self.cut  # type: ignore[assignment]  # counts statements
        return store

    def learn(self) -> None:
        """Everything that is in the file now is promised to whoever reads it."""
        rows = self.store.db.execute(
            "SELECT seq, raw, hash FROM records WHERE raw IS NOT NULL AND seq > ?", (self.known,)
        )
        for seq, raw, digest in rows.fetchall():
            self.durable[seq] = Record(self.epoch, seq, raw, digest)
            self.kinds[seq] = events.parse(raw).kind

    @property
    def known(self) -> int:
        return max(self.durable, default=0)

    def entry(self, kind: Kind, size: int) -> Entry:
        self.attempts += 1
        data: dict[str, Any] = {"lane": "l", "dir": "in", "pad": "x" * size}
        if kind in (Kind.ACCESS_GRANTED, Kind.PASSAGE_COMPLETED):
            data["attempt"] = str(self.attempts)
        return Entry(kind, data, self.clock.now())

    def write(self, kinds: list[Kind], size: int, checkpoint: bool) -> None:
        self.store.begin()
        for kind in kinds:
            self.store.add(self.entry(kind, size))
        if checkpoint:
            self.store.checkpoint(self.clock.now())
        self.store.commit()

    # What happens.

    @rule(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=8), size=st.integers(0, 900), vouch=st.booleans())
    def append(self, kinds: list[Kind], size: int, vouch: bool) -> None:
        self.write(kinds, size, vouch)

    @rule(count=st.integers(3, 12))
    def health(self, count: int) -> None:
        self.write([Kind.DEVICE_DEGRADED] * count, 700, False)

    @precondition(lambda self: self.known > self.acknowledged)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from([seq for seq in self.durable if seq > self.acknowledged]))
        if self.store.outbox.acknowledge(self.epoch, seq, self.durable[seq].hash):
            self.acknowledged = seq
        self.store.outbox.note_acknowledged(self.clock.now())

    @precondition(lambda self: self.known > self.acknowledged)
    @rule()
    def acknowledge_all(self) -> None:
        assert self.store.outbox.acknowledge(self.epoch, self.known, self.durable[self.known].hash)
        self.acknowledged = self.known
        self.store.outbox.note_acknowledged(self.clock.now())

    @rule(first=st.integers(1, 60), count=st.integers(1, 30))
    def requeue(self, first: int, count: int) -> None:
        self.store.outbox.requeue(self.epoch, first, first + count, 100)

    @rule(days=st.sampled_from([0.01, 20.0, 31.0]))
    def wait(self, days: float) -> None:
        self.clock.elapsed += days * DAY_S

    @rule()
    def remove_the_old(self) -> None:
        self.retention.age(self.store, self.clock.now())

    @rule()
    def make_room(self) -> None:
        self.retention.look(self.store, self.clock.now())

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = self.open()
        self.retention = Retention(Limits(max_bytes=MIB + 1))

    @rule(
        after=st.integers(0, 30),
        deed=st.sampled_from(["write", "age", "look", "look", "acknowledge", "requeue"]),
        restart=st.booleans(),
    )
    def power_cut(self, after: int, deed: str, restart: bool) -> None:
        """At any statement of anything; then the machine starts on what is there."""
        self.learn()
        self.cut.left = after
        with suppress(PowerCutError):
            if deed == "write":
                self.write([Kind.ACCESS_DENIED, Kind.DEVICE_DEGRADED], 100, True)
            elif deed == "age":
                self.retention.age(self.store, self.clock.now())
            elif deed == "look":
                self.retention.look(self.store, self.clock.now())
            elif deed == "requeue":
                self.store.outbox.requeue(self.epoch, 1, 50, 100)
            elif self.known:
                self.store.outbox.acknowledge(self.epoch, self.known, self.durable[self.known].hash)
        self.cut.left = -1
        if not restart:
            # The process lives, and a statement failed: roll back and open anew.
            self.store.rollback()
            self.store.close()
        else:
            left = Path(tempfile.mkdtemp(dir=self.folder))
            for suffix in ("", "-wal"):
                with suppress(FileNotFoundError):
                    shutil.copy(f"{self.path}{suffix}", f"{left / 'journal.db'}{suffix}")
            self.store.db.close()
            self.path = left / "journal.db"
        self.store = self.open()
        self.retention = Retention(Limits(max_bytes=MIB + 1))
        self.acknowledged = self.store.outbox.acknowledged

    # What always holds.

    @invariant()
    def the_epoch_goes_on(self) -> None:
        assert self.store.epoch == self.epoch

    @invariant()
    def every_hole_is_explained_and_the_chain_verifies(self) -> None:
        assert chain.verify(self.path, PUBLIC).problems == ()

    @invariant()
    def nothing_durable_that_waits_is_gone_but_housekeeping(self) -> None:
        self.learn()
        there = {seq for (seq,) in self.store.db.execute("SELECT seq FROM records WHERE raw IS NOT NULL").fetchall()}
        for seq, kind in self.kinds.items():
            if seq not in there and kind not in HOUSEKEEPING:
                assert seq <= self.store.outbox.acknowledged, f"{seq} {kind}"

    @invariant()
    def whatever_waits_is_held_whole_and_whatever_is_held_and_not_acknowledged_waits(self) -> None:
        db = self.store.db
        waiting = {seq for (seq,) in db.execute("SELECT seq FROM outbox").fetchall()}
        there = {seq for (seq,) in db.execute("SELECT seq FROM records WHERE raw IS NOT NULL").fetchall()}
        assert waiting <= there
        assert {seq for seq in there if seq > self.store.outbox.acknowledged} <= waiting

    @invariant()
    def a_replay_of_everything_can_be_followed_to_the_end(self) -> None:
        """As a controller would that has lost its store: records, and the gate's word for the others."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as db:
            rows = db.execute("SELECT raw FROM records WHERE raw IS NOT NULL ORDER BY seq").fetchall()
        found = [events.parse(raw) for (raw,) in rows]
        stated = {}
        for event in found:
            if event.kind is Kind.JOURNAL_PRUNED or (event.kind is Kind.LOG_GAP and "sealed" in event.data):
                purpose = Purpose.PRUNED if event.kind is Kind.JOURNAL_PRUNED else Purpose.GAP
                statement = from_data(event.data, purpose, PUBLIC)
                for seq in range(statement.first, statement.last + 1):
                    stated[seq] = statement
        by_seq = {event.seq: event for event in found}
        mark, digest = 0, events.GENESIS
        while mark < self.store.seq:
            following = by_seq.get(mark + 1)
            if following is not None:
                assert following.prevhash == digest
                mark, digest = following.seq, following.hash
            else:
                assert mark + 1 in stated, f"nothing says why {mark + 1} is gone"
                mark, digest = stated[mark + 1].last, stated[mark + 1].hash

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)


JournalMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, phases=[Phase.generate]
)
TestJournal = JournalMachine.TestCase
