"""Committed events a second from the gates' publications to the controller's store, and how soon a backlog is caught up."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.disk import directory
from bench.ingest_run import Load, Machines, floor, measure, ours
from bench.row import Row

GATES = (1, 64, 400)
EVENTS = 40_000
"""In one measurement: some five seconds."""
RUNS = 5
RATIO = 0.7
PACKED = (10, 100)
"""Records in a message."""
PACKED_EVENTS = 150_000
PACKED_A_SECOND = 25_000
BEHIND = 300_000
BEHIND_GATES = (1, 64)
BEHIND_S = 60
AHEAD = 4 * max(PACKED)
"""Records of one gate without the controller's acknowledgement while its outbox is caught up: four full messages, the agent's
own default."""


@contextmanager
def _machines(gates: int) -> Iterator[tuple[Machines, Path]]:
    """Certificates, and a place on a real disk."""
    place, _ = directory()
    with tempfile.TemporaryDirectory(prefix="gwanmun-bench-", dir=place) as name:
        yield Machines(Path(name) / "pki", gates), Path(name)


def rows(gates: Sequence[int] = GATES, events: int = EVENTS, runs: int = RUNS) -> list[Row]:
    """One event a message, floor and ours in turns."""
    found = []
    with _machines(max(gates)) as (machines, place):
        for number in gates:
            with Load(place / f"load-{number}", machines.plan(number, events)) as load:
                bare, whole = [], []
                for _ in range(runs):
                    bare.append(load.records / measure(floor, machines, load, load.records, place))
                    whole.append(load.records / measure(ours, machines, load, load.records, place))
            name = f"ingest, {number} gate{'s' if number > 1 else ''}, one event a message, median of {runs}"
            found.append(Row(name, statistics.median(whole), "events/s", statistics.median(bare), RATIO, lower=True))
    return found


def packed_rows(
    gates: int = 1,
    events: int = PACKED_EVENTS,
    runs: int = RUNS,
    behind: int = BEHIND,
    each: Sequence[int] = BEHIND_GATES,
) -> list[Row]:
    """Several events a message, as a gate sends whose outbox is behind; and a large backlog as a whole."""
    found = []
    with _machines(max(gates, *each)) as (machines, place):
        for packed in PACKED:
            with Load(place / f"packed-{packed}", machines.plan(gates, events, packed)) as load:
                rates = [load.records / measure(ours, machines, load, load.records, place) for _ in range(runs)]
            name = f"ingest, packed {packed} a message, median of {runs}"
            target = PACKED_A_SECOND if packed == max(PACKED) else None
            found.append(Row(name, statistics.median(rates), "events/s", None, target, lower=True))
        for number in each:
            with Load(place / f"behind-{number}", machines.plan(number, behind, max(PACKED), AHEAD)) as load:
                seconds = measure(ours, machines, load, load.records, place)
            name = f"{load.records:,} events of {number} gate{'s' if number > 1 else ''} caught up"
            found.append(Row(name, seconds, "s", None, BEHIND_S))
    return found
