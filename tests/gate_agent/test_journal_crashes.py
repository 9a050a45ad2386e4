"""Any order of records, acknowledgements, removals and losses, with a kill or a failing disk at any statement.

The journal's thread is left out: the machine calls what the thread calls, so that a failure can be replayed. The controller's
side is a model of its own: it takes what is sent, never goes over a hole that no signed statement explains, and acknowledges.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gate_agent import chain, journal_writer
from gate_agent.gaps import Gaps
from gate_agent.journal_requests import Append, Call, RecordUnavailableError
from gate_agent.journal_writer import Place, Writer
from gate_agent.record import Entry, Record
from gate_agent.retention import Limits
from gate_agent.store import Store, stamped
from protocol import events
from protocol.events import HOUSEKEEPING, Kind
from protocol.statement import Purpose, Statement, from_data
from tests.gate_agent.fakes import FakeClock
from tests.gate_agent.journals import KEY, PUBLIC

DAY_S = 86_400.0


class Small(Limits):
    """A bound that a test can reach."""

    @property
    def reserve(self) -> int:
        return self.max_bytes // 16


LIMITS = Small(max_bytes=160 * 1024)
KINDS = (Kind.ACCESS_DENIED, Kind.ALARM_FORCED, Kind.DEVICE_DEGRADED)


class KilledError(BaseException):
    """kill -9: whatever the process had not given to the kernel is gone."""


@dataclass
class Faults:
    """What happens at a statement some way ahead. A kill keeps the files as they are at that moment."""

    kill_in: int | None = None
    fail_in: int | None = None
    after: bool = False
    """Once the statement has had its effect."""
    on_kill: Callable[[], None] = lambda: None

    def due(self) -> type[BaseException] | None:
        for name, error in (("kill_in", KilledError), ("fail_in", sqlite3.OperationalError)):
            left = getattr(self, name)
            if left is not None:
                setattr(self, name, left - 1 if left else None)
                if left == 0:
                    return error
        return None


class Brittle:
    """A connection with faults."""

    def __init__(self, db: sqlite3.Connection, faults: Faults) -> None:
        self._db, self._faults = db, faults

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction

    def close(self) -> None:
        self._db.close()

    def execute(self, *arguments: Any) -> Any:
        return self._run(lambda: self._db.execute(*arguments))

    def executemany(self, *arguments: Any) -> Any:
        return self._run(lambda: self._db.executemany(*arguments))

    def _run(self, work: Callable[[], Any]) -> Any:
        error = self._faults.due()
        if error is None:
            return work()
        if self._faults.after:
            work()
        if error is KilledError:
            self._faults.on_kill()
            raise KilledError
        raise error("disk I/O error")


@dataclass
class Controller:
    """Holds records by number, and a mark that goes over no hole that is not explained."""

    held: dict[int, bytes] = field(default_factory=dict)
    gaps: list[tuple[Statement, Purpose]] = field(default_factory=list)
    mark: int = 0
    hash: str = events.GENESIS

    def take(self, record: Record) -> None:
        assert self.held.setdefault(record.seq, record.raw) == record.raw
        event = events.parse(record.raw)
        if event.kind is Kind.JOURNAL_PRUNED:
            self.gaps.append((from_data(event.data, Purpose.PRUNED, PUBLIC), Purpose.PRUNED))
        elif event.kind is Kind.LOG_GAP and "sealed" in event.data:
            self.gaps.append((from_data(event.data, Purpose.GAP, PUBLIC), Purpose.GAP))
        while self._step():
            pass

    def _step(self) -> bool:
        raw = self.held.get(self.mark + 1)
        if raw is not None:
            assert events.parse(raw).prevhash == self.hash
            self.mark, self.hash = self.mark + 1, events.record_hash(raw)
            return True
        for statement, _ in self.gaps:
            if statement.first <= self.mark + 1 <= statement.last:
                self.mark, self.hash = statement.last, statement.hash
                return True
        return False


class Crashes(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.starts = 0
        self.clock = FakeClock()
        self.faults = Faults()
        self.controller, self.backup = Controller(), Controller()
        self.promised: dict[int, tuple[str, Kind]] = {}
        self.told_held: set[int] = set()
        """Numbers that the controller has acknowledged at some time."""
        self.asked: set[int] = set()
        """Held when the controller asked for them again, and not acknowledged since."""
        self.patch = pytest.MonkeyPatch()
        faults = self.faults

        class BrittleStore(Store):
            @property
            def _db(self) -> Any:
                return self._brittle

            @_db.setter
            def _db(self, db: sqlite3.Connection) -> None:
                self._brittle = Brittle(db, faults)

        self.patch.setattr(journal_writer, "Store", BrittleStore)
        self.faults.on_kill = self._keep_files
        self.path = self.folder / "0" / "journal.db"
        self.path.parent.mkdir()
        self._start()
        self.epoch = self._serve(lambda store: store.epoch)

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self._everything_arrives()
            self.writer._close()
            self.patch.undo()
            shutil.rmtree(self.folder)

    # What the journal's thread does.

    def _start(self) -> None:
        self.writer = Writer(
            Place(self.path, "s", "g", bytes, KEY, dict),
            clock=self.clock,
            limits=LIMITS,
            gaps=Gaps(self.clock),
            announce=lambda _records: None,
        )

    def _keep_files(self) -> None:
        self.starts += 1
        to = self.folder / str(self.starts)
        to.mkdir()
        for part in ("", "-wal"):
            name = self.path.name + part
            if (self.path.parent / name).exists():
                shutil.copy(self.path.parent / name, to / name)

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except KilledError:
            self.faults.fail_in = None
            self.writer._close()  # of the files that the kill left behind
            self.path = self.folder / str(self.starts) / "journal.db"
            self._start()

    def _serve(self, work: Callable[[Store], Any]) -> Any:
        """The answer; None where a fault came between."""
        answers: list[Any] = []
        self._run(lambda: self.writer._serve(Call(work, answers.append)))
        return None if not answers or isinstance(answers[0], RecordUnavailableError) else answers[0]

    # Rules.

    @rule(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=30), size=st.sampled_from([10, 900]))
    def write_some(self, kinds: list[Kind], size: int) -> None:
        self.write(kinds, size)

    def write(self, kinds: list[Kind], size: int) -> None:
        answers: list[Record | Exception] = []
        data = stamped(dict, {"lane": "x" * size})
        group = [Append(Entry(kind, data, self.clock.now()), answers.append) for kind in kinds]
        self._run(lambda: self.writer._write(group))
        for answer, kind in zip(answers, kinds, strict=False):
            if isinstance(answer, Record):
                self.promised[answer.seq] = (answer.hash, kind)
            else:
                assert isinstance(answer, RecordUnavailableError)

    @rule(kind=st.sampled_from(KINDS), count=st.integers(10, 30))
    def write_many(self, kind: Kind, count: int) -> None:
        self.write([kind] * count, 1500)

    @rule(count=st.integers(1, 60))
    def send(self, count: int) -> None:
        """In the order in which they wait; any message may be lost behind one that came."""
        for record in self._serve(lambda store: store.outbox.unsent(0, count)) or ():
            self.controller.take(record)

    @rule(count=st.sampled_from([0, 10, 1000]))
    def acknowledge(self, count: int) -> None:
        if count:
            self.send(count)
        if self.controller.mark:
            ack = (self.epoch, self.controller.mark, self.controller.hash)
            if self._serve(lambda store: store.outbox.acknowledge(*ack)) is not None:
                self.told_held |= set(range(1, self.controller.mark + 1))
                self.asked = {seq for seq in self.asked if seq > self.controller.mark}

    @rule(seconds=st.sampled_from([1.0, 61.0, 31 * DAY_S]))
    def wait(self, seconds: float) -> None:
        self.clock.elapsed += seconds
        for _ in range(3):
            self._run(self.writer._upkeep)

    @rule()
    def all_grows_old(self) -> None:
        self.acknowledge(1000)
        self.wait(31 * DAY_S)

    @rule()
    def lose_and_grow_old(self) -> None:
        """What the controller asks for again is old at once."""
        self.acknowledge(1000)
        self.restore_the_controller()
        self.wait(31 * DAY_S)

    @rule()
    def back_up_the_controller(self) -> None:
        mine = self.controller
        self.backup = Controller(dict(mine.held), list(mine.gaps), mine.mark, mine.hash)

    @rule()
    def restore_the_controller(self) -> None:
        """It asks for what it misses, as soon as it sees that it does."""
        old, last = self.backup, self.controller.mark
        self.controller = Controller(dict(old.held), list(old.gaps), old.mark, old.hash)
        self._ask(last)

    def _ask(self, last: int) -> None:
        first = self.controller.mark + 1
        if first <= last and self._serve(lambda store: store.outbox.requeue(self.epoch, first, last, 1000)):
            self.asked |= {seq for seq in range(first, last + 1) if seq in self._held()}

    @rule()
    def stop_and_start(self) -> None:
        self._run(self.writer._end)
        self._start()

    @precondition(lambda self: self.faults.kill_in is None)
    @rule(statements=st.integers(0, 60), after=st.booleans())
    def kill_soon(self, statements: int, after: bool) -> None:
        self.faults.kill_in, self.faults.after = statements, after

    @precondition(lambda self: self.faults.fail_in is None and self.faults.kill_in is None)
    @rule(statements=st.integers(0, 60), after=st.booleans())
    def fail_soon(self, statements: int, after: bool) -> None:
        self.faults.fail_in, self.faults.after = statements, after

    # What always holds.

    @invariant()
    def the_file_is_whole_and_nothing_promised_is_gone(self) -> None:
        if not hasattr(self, "path") or not self.path.exists():
            return
        report = chain.verify(self.path, PUBLIC)
        assert report.problems == ()
        assert report.epoch == self.epoch
        held, waiting = self._held(), self._waiting()
        for seq in self.asked & self.promised.keys():
            assert seq in waiting or self.promised[seq][1] in HOUSEKEEPING or seq <= self.controller.mark
        for seq, (digest, kind) in self.promised.items():
            if seq in held:
                assert held[seq] == digest
                assert seq in waiting or seq in self.told_held or seq <= self.controller.mark
            else:
                assert kind in HOUSEKEEPING or seq in self.told_held or seq <= self.controller.mark

    def _held(self) -> dict[int, str]:
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as db:
            return dict(db.execute("SELECT seq, hash FROM records WHERE raw IS NOT NULL").fetchall())

    def _waiting(self) -> set[int]:
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as db:
            return {row[0] for row in db.execute("SELECT seq FROM outbox")}

    def _everything_arrives(self) -> None:
        self.faults.kill_in = self.faults.fail_in = None
        for _ in range(200):
            last = self._serve(lambda store: store.seq)
            self.send(1000)
            if self.controller.mark >= last:
                break
            self._ask(last)
        assert self.controller.mark >= last
        pruned = [each for each, purpose in self.controller.gaps if purpose is Purpose.PRUNED]
        for seq, (digest, kind) in self.promised.items():
            raw = self.controller.held.get(seq)
            if raw is not None:
                assert events.record_hash(raw) == digest
            else:
                # Given up, or removed after the controller had it once and lost it.
                assert kind in HOUSEKEEPING or (seq in self.told_held and any(seq <= each.last for each in pruned))


Crashes.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class TestCrashes(Crashes.TestCase):  # type: ignore[misc,valid-type]  # hypothesis makes it untyped
    """Sequence gapless but where explained; nothing unacknowledged but housekeeping ever gone."""
