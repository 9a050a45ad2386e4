"""What the questions are measured on is a database as the controller keeps it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from bench.building import LAST_DAY, ZONE, Size, build
from bench.queries import measure
from controller.histogram import bucket_of
from protocol import events
from protocol.events import Kind

SMALL = Size(events=3000, gates=4, lanes_each=2, days=3)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("building") / "controller.db"
    assert 3000 < build(made, SMALL) < 8000  # the gates' own events are as many however few people come
    return made


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as found:
        yield found


def parsed(db: sqlite3.Connection) -> list[tuple[tuple[object, ...], events.Event]]:
    return [
        (columns, events.parse(raw))
        for *columns_, raw in db.execute(
            "SELECT gate, epoch, seq, time, kind, lane, attempt, reason, carrier, raw FROM events"
        )
        if (columns := tuple(columns_))
    ]


def test_every_row_is_a_record_and_its_columns_say_the_same(db: sqlite3.Connection) -> None:
    for columns, event in parsed(db):
        named = tuple(event.data.get(name) or None for name in ("lane", "attempt", "reason", "carrier"))
        assert columns == (event.gate, event.epoch, event.seq, event.time, str(event.kind), *named)
        assert event.kind in set(Kind)


def test_the_rollups_hold_what_the_events_are(db: sqlite3.Connection) -> None:
    quarters: Counter[tuple[object, ...]] = Counter()
    days: Counter[tuple[object, ...]] = Counter()
    taken: Counter[tuple[object, ...]] = Counter()
    for _, event in parsed(db):
        at = datetime.fromisoformat(event.time)
        get = event.data.get
        words = (
            event.gate,
            get("lane") or "",
            get("dir") or "",
            str(event.kind),
            get("reason") or "",
            get("carrier") or "",
        )
        quarters[int(at.timestamp()) // 900, *words] += 1
        days[at.astimezone(ZONE).date().isoformat(), *words] += 1
        if event.kind == Kind.ACCESS_GRANTED:
            bucket = bucket_of(event.data["lat_ms"]["ours"])
            taken[int(at.timestamp()) // 900, event.gate, get("lane"), get("carrier"), "ours", bucket] += 1
    assert {tuple(row[:-1]): row[-1] for row in db.execute("SELECT * FROM quarters")} == quarters
    assert sum(days.values()) == sum(n for (n,) in db.execute("SELECT n FROM days"))
    assert {tuple(row[:-1]): row[-1] for row in db.execute("SELECT * FROM latencies WHERE stage = 'ours'")} == taken


def test_events_are_in_the_order_of_time_but_for_seconds_and_gapless_in_each_gate(db: sqlite3.Connection) -> None:
    for gate, count, last in db.execute("SELECT gate, count(*), max(seq) FROM events GROUP BY gate"):
        assert count == last, gate
    (first,) = db.execute("SELECT min(time) FROM events").fetchone()
    assert datetime.fromisoformat(first).astimezone(ZONE).date() < LAST_DAY


def test_the_indexes_are_those_of_the_controller(db: sqlite3.Connection, tmp_path: Path) -> None:
    from controller.store import Store

    Store(tmp_path / "c.db", ZONE).close()
    sql = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_stat%' ORDER BY name"
    with closing(sqlite3.connect(tmp_path / "c.db")) as other:
        assert db.execute(sql).fetchall() == other.execute(sql).fetchall()


def test_every_question_is_answered(path: Path) -> None:
    found = measure(path, SMALL, runs=2, cold_runs=1)
    assert len(found) > 40
    assert all(row.value > 0 for row in found)
