"""Counts that outlive the records: each record once, in the quarter and on the day it names, whatever happens in between."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from controller.batch import Committed
from controller.histogram import bucket_of
from controller.rollups import Rollups
from controller.schema import STEPS, migrate
from controller.site_time import Window
from controller.store import Store
from protocol import events
from protocol.events import Kind

Commit = Callable[..., Committed]
START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
WINDOW = Window(START - timedelta(days=60), START + timedelta(hours=1), START)
SEOUL = ZoneInfo("Asia/Seoul")


def roll(store: Store, limit: int = 1000) -> int:
    """All there is; gives the number of records."""
    total = 0
    while done := store.rollups.step(WINDOW, limit).rows:
        total += done
    return total


def table(path: Path, name: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return sorted(db.execute(f"SELECT * FROM {name}").fetchall())  # noqa: S608  a name of this file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "controller.db"


def test_a_record_is_counted_in_its_quarter_and_on_the_sites_own_day(
    store: Store, journal: Any, commit: Commit, path: Path
) -> None:
    commit(store, *journal.write(3, kind=Kind.PASSAGE_COMPLETED, carrier=None))
    assert roll(store) == 3
    quarter = int(START.timestamp()) // 900
    assert table(path, "quarters") == [(quarter, "gate-1", "l1", "in", "passage.completed", "", "", 3)]
    assert table(path, "days") == [("2026-11-24", "gate-1", "l1", "in", "passage.completed", "", "", 3)]


def test_the_day_changes_at_the_sites_midnight(
    store: Store, new_journal: type[Any], commit: Commit, path: Path
) -> None:
    """15:00 UTC is midnight in Seoul."""
    for gate, at in (("gate-1", "2026-11-24T14:59:59.999Z"), ("gate-2", "2026-11-24T15:00:00.000Z")):
        [record] = new_journal(gate).write(1)
        commit(store, _at(record, at), gate=gate)
    roll(store)
    assert [(row[0], row[1]) for row in table(path, "days")] == [("2026-11-24", "gate-1"), ("2026-11-25", "gate-2")]


def test_a_late_record_is_counted_in_its_own_quarter(
    store: Store, new_journal: type[Any], commit: Commit, path: Path
) -> None:
    [late] = new_journal("gate-2").write(1)
    commit(store, *new_journal().write(1))
    roll(store)
    commit(store, _at(late, "2026-11-20T01:00:00.000Z"), gate="gate-2")
    roll(store)
    assert {(row[0], row[1]) for row in table(path, "days")} == {("2026-11-24", "gate-1"), ("2026-11-20", "gate-2")}
    assert table(path, "misdated") == []


def test_reasons_and_carriers_are_counted_apart_and_an_unknown_newer_kind_by_its_name(
    store: Store, journal: Any, commit: Commit, path: Path
) -> None:
    records = [
        *journal.write(2, kind=Kind.ACCESS_DENIED, reason="expired"),
        *journal.write(1, kind=Kind.ACCESS_DENIED, reason="revoked", carrier="ble"),
    ]
    newer = json.loads(journal.write(1, v=3)[0])
    newer["type"] = "gwanmun.lift.called"
    commit(store, *records, json.dumps(newer, separators=(",", ":")).encode())
    roll(store)
    assert [row[4:] for row in table(path, "quarters")] == [
        ("access.denied", "expired", "qr", 2),
        ("access.denied", "revoked", "ble", 1),
        ("lift.called", "", "qr", 1),
    ]


def test_how_long_a_decision_took_is_counted_by_stage(store: Store, journal: Any, commit: Commit, path: Path) -> None:
    commit(
        store,
        *journal.write(2, lat_ms={"decided": 411.5, "ours": 1.5}),
        *journal.write(1, lat_ms={"ours": "soon", "decided": None}),
        *journal.write(1, kind=Kind.LANE_OPENED, lat_ms={"opened": 414, "ours": 4}),
    )
    roll(store)
    assert [row[3:] for row in table(path, "latencies")] == [
        ("qr", "ours", bucket_of(1.5), 2),
        ("qr", "total", bucket_of(411.5), 2),
    ]


@pytest.mark.parametrize(
    "data", [{"dir": "sideways"}, {"dir": ["in"]}, {"dir": 7}, {"lat_ms": "fast"}, {"lat_ms": [1]}]
)
def test_what_makes_no_sense_inside_a_record_is_counted_without_it(
    store: Store, journal: Any, commit: Commit, path: Path, data: dict[str, Any]
) -> None:
    commit(store, *journal.write(1, **data))
    assert roll(store) == 1
    assert table(path, "quarters")[0][3] == ("" if "dir" in data else "in")
    assert table(path, "latencies") == []


def test_a_record_that_sqlite_cannot_read_stops_nothing(store: Store, journal: Any, commit: Commit, path: Path) -> None:
    """Python's reader takes NaN, SQLite's does not."""
    [record, after] = journal.write(2)
    commit(store, record.replace(b'"carrier":"qr"', b'"carrier":"qr","x":NaN'), after)
    assert roll(store) == 2
    assert [row[3:] for row in table(path, "quarters")] == [
        ("", "access.granted", "", "qr", 1),
        ("in", "access.granted", "", "qr", 1),
    ]


def test_a_record_of_a_wrong_clock_is_noted(store: Store, new_journal: type[Any], commit: Commit, path: Path) -> None:
    for gate, at in (("gate-1", "2000-01-01T00:00:00.000Z"), ("gate-2", "2031-01-01T00:00:00.000Z"), ("gate-3", None)):
        [record] = new_journal(gate).write(1)
        commit(store, record if at is None else _at(record, at), gate=gate)
    roll(store)
    now = "2026-11-24T09:00:00.000Z"
    assert table(path, "misdated") == [(1, "access.granted", now), (2, "access.granted", now)]


def test_a_step_that_fails_counts_nothing(store: Store, journal: Any, commit: Commit, path: Path) -> None:
    commit(store, *journal.write(5))
    store.rollups.step(WINDOW, 2)
    before = table(path, "quarters")
    store._connection.execute(
        "CREATE TEMP TRIGGER cut BEFORE UPDATE ON rolled BEGIN SELECT raise(ABORT, 'the power went'); END"
    )
    with pytest.raises(sqlite3.IntegrityError, match="the power went"):
        store.rollups.step(WINDOW, 2)
    store._connection.execute("DROP TRIGGER cut")
    assert table(path, "quarters") == before
    assert roll(store) == 3
    assert table(path, "quarters")[0][-1] == 5


@given(seed=st.integers(0, 2**32), size=st.integers(1, 60))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_order_in_any_batches_with_any_kills_counts_as_all_rows_do(
    tmp_path_factory: pytest.TempPathFactory, new_journal: type[Any], commit: Commit, seed: int, size: int
) -> None:
    random = Random(seed)
    sent = [(gate, record) for gate in ("gate-1", "gate-2") for record in _various(random, new_journal(gate), size)]
    expected_quarters, expected_days, expected_latencies = _counted(record for _, record in sent)
    sent += random.choices(sent, k=size)
    random.shuffle(sent)
    path = tmp_path_factory.mktemp("store") / "c.db"
    store = Store(path, SEOUL)
    try:
        while sent:
            take = random.randint(1, 9)
            for gate, record in sent[:take]:
                commit(store, record, gate=gate)
            del sent[:take]
            match random.randrange(4):
                case 0:
                    _cut_short(store, random)
                case 1:  # killed between two transactions
                    store.close()
                    store = Store(path, SEOUL)
                case 2:
                    store.rollups.step(WINDOW, random.randint(1, 7))
        roll(store, random.randint(1, 50))
        assert {row[:-1]: row[-1] for row in table(path, "quarters")} == expected_quarters
        assert {row[:-1]: row[-1] for row in table(path, "days")} == expected_days
        assert {row[:-1]: row[-1] for row in table(path, "latencies")} == expected_latencies
    finally:
        store.close()


def _various(random: Random, journal: Any, size: int) -> list[bytes]:
    records: list[bytes] = []
    for _ in range(size):
        kind = random.choice([Kind.ACCESS_GRANTED, Kind.ACCESS_DENIED, Kind.PASSAGE_COMPLETED, Kind.ALARM_FORCED])
        data = {"dir": random.choice(["in", "out"]), "lane": random.choice(["l1", "l2"])}
        if kind is Kind.ACCESS_DENIED:
            data["reason"] = random.choice(["expired", "revoked"])
        if kind is Kind.ACCESS_GRANTED:
            ours = random.choice([0, 0.5, 3.25, 80])
            records += journal.write(1, kind=kind, lat_ms={"ours": ours, "decided": ours * 7}, **data)
        else:
            records += journal.write(1, kind=kind, **data)
    return [_at(record, _moment(random)) for record in records]  # the chain is of no matter here


def _moment(random: Random) -> str:
    moment = START - timedelta(seconds=random.randrange(3 * 86400), milliseconds=random.randrange(1000))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cut_short(store: Store, random: Random) -> None:
    """Breaks off somewhere within a step, as a kill does: nothing of the transaction is left."""

    class CutError(Exception):
        pass

    class Cutting(Database):
        left = 10**6

        def execute(self, *arguments: Any) -> Any:
            self.left -= 1
            if not self.left:
                raise CutError
            return super().execute(*arguments)

    db = Cutting(store._connection)
    db.left = random.randint(1, 8)
    try:
        Rollups(db, SEOUL).step(WINDOW, 5)
    except CutError:
        return


def _counted(records: Any) -> tuple[Counter[Any], Counter[Any], Counter[Any]]:
    """What a count over all rows gives, in plain Python."""
    quarters: Counter[Any] = Counter()
    days: Counter[Any] = Counter()
    latencies: Counter[Any] = Counter()
    for event in map(events.parse, records):
        moment = datetime.fromisoformat(event.time)
        quarter, data = int(moment.timestamp()) // 900, event.data
        place = (event.gate, data["lane"], data["dir"], str(event.kind), data.get("reason", ""), data["carrier"])
        quarters[quarter, *place] += 1
        days[moment.astimezone(SEOUL).date().isoformat(), *place] += 1
        if event.kind is Kind.ACCESS_GRANTED:
            for stage, name in (("ours", "ours"), ("total", "decided")):
                bucket = bucket_of(data["lat_ms"][name])
                latencies[quarter, event.gate, data["lane"], data["carrier"], stage, bucket] += 1
    return quarters, days, latencies


def test_an_upgraded_database_is_counted_from_its_first_record(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript((Path(__file__).parent / "databases" / "v3.sql").read_text("utf-8"))
        migrate(Database(connection))
        assert connection.execute("SELECT max(version) FROM schema_version").fetchone() == (len(STEPS),)
    store = Store(path, SEOUL)
    try:
        assert roll(store, 7) == 25
        assert sum(row[-1] for row in table(path, "quarters")) == 25
        assert {row[3] for row in table(path, "latencies")} == {"ble", "nfc", "qr"}
    finally:
        store.close()


def _at(record: bytes, time: str) -> bytes:
    body = json.loads(record)
    body["time"] = time
    return json.dumps(body, separators=(",", ":")).encode()


def test_what_a_gate_writes_where_a_number_belongs_holds_up_no_count(
    store: Store, journal: Any, commit: Commit, path: Path
) -> None:
    for odd in ("\ud800", [1], {"a": 1}, None, True):
        [record] = journal.write(1, lat_ms={"ours": 7, "total": 7})
        journal.records[-1] = record.replace(b'"ours":7,"total":7', b'"ours":%s,"total":7' % json.dumps(odd).encode())
        commit(store, journal.records[-1])
    assert roll(store) == 5
    assert [row[-1] for row in table(path, "latencies")] == [5]
