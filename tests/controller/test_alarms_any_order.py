"""Alarms of a gate from records in any order, with repetition, restarts and any cut into transactions: the same are open."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.alarm_kinds import EFFECTS, KINDS, RECORD
from controller.store import Store
from protocol.events import Kind
from tests.controller.conftest import SEOUL
from tests.controller.test_any_order import opened

KIND_LIST = [*EFFECTS, Kind.ACCESS_GRANTED, Kind.LANE_OPENED, Kind.DOOR_OPENED]
WORDS: dict[str, list[Any]] = {
    "lane": ["l1", "l2"],
    "sensor": ["near", "far"],
    "device": ["camera", "lane.l1"],
    "what": ["policy", "ack"],
    "quality": ["unset", "synced"],
    "why": ["forged", "lane_busy"],
    "op": ["local"],
}


def journals(new_journal: type[Any], random: Random, epochs: int, *, silences: bool) -> list[Any]:
    """Each names the one before."""
    found = []
    values = {**WORDS, "verb": ["acknowledge", "release"] if silences else ["release"]}
    for number in range(1, epochs + 1):
        journal = new_journal("gate-1", f"e{number}")
        if number > 1:
            journal.write(1, Kind.LOG_GAP, epoch=f"e{number - 1}", why="damaged")
        for _ in range(random.randint(1, 25)):
            words = {name: random.choice(each) for name, each in values.items()}
            journal.write(1, random.choice(KIND_LIST), **words)
        found.append(journal)
    return found


def standing(store: Store) -> set[tuple[object, ...]]:
    """Open alarms of events with their state; with their number where each is kept until somebody has looked."""
    return {
        (row.key, row.state, row.count if KINDS[row.kind].acknowledge and row.acknowledged is None else None)
        for row in store.alarm_book.open()
        if not row.kind.startswith(RECORD)
    }


def active(store: Store) -> set[tuple[object, ...]]:
    return {row.key for row in store.alarm_book.open() if row.active and not row.kind.startswith(RECORD)}


@given(seed=st.integers(0, 2**32), epochs=st.integers(1, 3), silences=st.booleans())
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_the_order_in_which_records_come_changes_no_alarm(
    new_journal: type[Any], commit: Any, seed: int, epochs: int, silences: bool
) -> None:
    random = Random(seed)
    written = journals(new_journal, random, epochs, silences=silences)
    in_order = [raw for journal in written for raw in journal.records]
    shuffled = in_order + random.choices(in_order, k=len(in_order) // 2)
    random.shuffle(shuffled)
    with ExitStack() as stack:
        first = stack.enter_context(opened())
        path = Path(stack.enter_context(TemporaryDirectory())) / "c.db"
        second = Store(path, SEOUL)
        for raw in in_order:
            commit(first, raw)
        while shuffled:
            if random.random() < 0.1:
                second.close()
                second = Store(path, SEOUL)
            size = random.randint(1, 6)
            commit(second, *shuffled[:size])
            del shuffled[:size]
        assert active(second) == active(first)
        if not silences:
            assert standing(second) == standing(first)
        second.close()
