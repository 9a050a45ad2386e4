"""Records of several gates in any order, with loss, repetition and any cut into messages and transactions.

Beside the store stands a model that keeps sets and looks at them anew each time. They must agree on what is stored, on each
mark, on each acknowledgement and on what is asked for again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.batch import Committed
from controller.replays import AGAIN_CAP_S, Replays
from controller.store import Store
from protocol import events, packing
from protocol.replay import Replay
from protocol.statement import Purpose


@dataclass
class Model:
    """What a controller should hold of one gate."""

    journal: Any
    explained: dict[int, int] = field(default_factory=dict)
    """Of each statement's own sequence number: the last record that it explains, and from which."""
    first: dict[int, int] = field(default_factory=dict)
    have: set[int] = field(default_factory=set)

    @property
    def excused(self) -> set[int]:
        return {
            seq for of in self.have & self.explained.keys() for seq in range(self.first[of], self.explained[of] + 1)
        }

    @property
    def mark(self) -> int:
        """The last of the records, from the first, of which each is held or excused; behind a hole it ends with the excuse."""
        whole, mark = self.have | self.excused, 0
        while mark + 1 in whole:
            mark += 1
        return mark

    @property
    def hole(self) -> tuple[int, int] | None:
        beyond = [seq for seq in self.have if seq > self.mark]
        return (self.mark + 1, min(beyond) - 1) if beyond else None


@contextmanager
def opened() -> Iterator[Store]:
    with TemporaryDirectory() as directory:
        store = Store(Path(directory) / "c.db", ZoneInfo("Asia/Seoul"))
        try:
            yield store
        finally:
            store.close()


def written(new_journal: type[Any], gate: str, random: Random) -> Model:
    """A journal of which the gate has given up some runs of records, and says so later."""
    model = Model(new_journal(gate))
    model.journal.write(random.randint(1, 12))
    for _ in range(random.randint(0, 2)):
        last = len(model.journal.records)
        first = random.randint(1, last)
        to = random.randint(first, last)
        model.journal.state(Purpose.GAP, first, to)
        seq = len(model.journal.records)
        model.first[seq], model.explained[seq] = first, to
        model.journal.write(random.randint(0, 6))
    return model


@given(seed=st.integers(0, 2**32), gates=st.integers(1, 4))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_the_store_is_what_was_sent_and_the_mark_never_passes_a_hole(
    new_journal: type[Any], commit: Any, seed: int, gates: int
) -> None:
    random, replays, now = Random(seed), Replays(Random(seed)), 0.0
    models = {f"gate-{number}": written(new_journal, f"gate-{number}", random) for number in range(gates)}
    waiting = [(gate, raw) for gate, model in models.items() for raw in model.journal.records if random.random() < 0.8]
    waiting += random.choices(waiting, k=len(waiting) // 2)
    random.shuffle(waiting)
    with opened() as store:
        while waiting:
            gate = waiting[0][0]
            some = [raw for _, raw in takewhile(lambda each: each[0] == gate, waiting[: random.randint(1, 5)])]  # noqa: B023
            del waiting[: len(some)]
            payloads = [packing.pack(some)] if random.random() < 0.5 else some
            done: Committed = commit(store, *payloads, gate=gate)
            model = models[gate]
            model.have |= {events.parse(raw).seq for raw in some}
            replays.note(done.standings, {}, now)
            assert done.acks == ({gate: model.journal.ack(model.mark)} if model.mark else {})
            assert done.alarms == []
        assert sorted(each.event.raw for each in store.events(0, 10_000)) == sorted(
            model.journal.records[seq - 1] for model in models.values() for seq in model.have
        )
        # Whatever is missing is asked for, until it has come.
        for _ in range(1000):
            wanted = {gate: Replay("e1", *model.hole) for gate, model in models.items() if model.hole}
            assert {gate: Replay("e1", *hole) for (gate, _), hole in replays.holes.items()} == wanted
            if not wanted:
                break
            now += AGAIN_CAP_S
            requests = replays.due(now)
            assert {gate: request.first for gate, request in requests} == {
                gate: each.first for gate, each in wanted.items()
            }
            assert all(request.last >= wanted[gate].last for gate, request in requests)
            for gate, request in requests:
                model = models[gate]
                asked = model.journal.records[request.first - 1 : request.last]
                done = commit(store, packing.pack(asked), gate=gate)
                model.have |= set(range(request.first, request.first + len(asked)))
                replays.note(done.standings, {}, now)
        else:
            raise AssertionError("it never ends")
        for gate, model in models.items():
            assert model.mark >= max(model.have, default=0)
            if model.mark:
                assert store.acks()[gate] == model.journal.ack(model.mark)
