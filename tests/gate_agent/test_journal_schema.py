from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from gate_agent import chain, journal_schema
from gate_agent.record import DamagedError
from gate_agent.retention import Limits, Retention
from protocol import events
from protocol.events import Kind
from tests.conftest import NOW
from tests.gate_agent.fakes import FakeClock
from tests.gate_agent.journals import GATE, SITE, held, journal_at, store_at

VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (seq INTEGER PRIMARY KEY, raw BLOB NOT NULL, hash TEXT NOT NULL, acked TEXT);
CREATE TABLE outbox (seq INTEGER PRIMARY KEY);
CREATE TABLE pass_marks (mark BLOB PRIMARY KEY, until REAL NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE open_grants (attempt TEXT PRIMARY KEY, seq INTEGER NOT NULL, lane TEXT NOT NULL, dir TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('epoch', '00112233aabbccdd');
PRAGMA user_version = 1;
"""
"""As the first version made it."""
EPOCH = "00112233aabbccdd"


def version_1(path: Path, count: int, acknowledged: int) -> None:
    """`count` records of schema 1, one an hour; the first ones acknowledged an hour after they were written."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript("PRAGMA journal_mode = WAL;" + VERSION_1)
        previous = events.GENESIS
        for seq in range(1, count + 1):
            at = NOW + timedelta(hours=seq)
            raw = events.build(
                site=SITE,
                gate=GATE,
                epoch=EPOCH,
                seq=seq,
                kind=Kind.ALARM_FORCED,
                time=at,
                prevhash=previous,
                data={"lane": f"lane-{seq}"},
            )
            previous = events.record_hash(raw)
            acked = (at + timedelta(hours=1)).isoformat() if seq <= acknowledged else None
            db.execute("INSERT INTO records VALUES (?, ?, ?, ?)", (seq, raw, previous, acked))
            if acked is None:
                db.execute("INSERT INTO outbox VALUES (?)", (seq,))
        db.commit()


async def test_a_journal_of_version_1_goes_on_in_its_epoch(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    version_1(path, 10, 6)
    before = [event.raw for event in held(path)]
    async with journal_at(path) as journal:
        assert [record.seq for record in await journal.unsent(0, 20)] == [7, 8, 9, 10]
        record = await journal.append(Kind.GATE_BOOT, {})
        assert (record.epoch, record.seq) == (EPOCH, 11)
    found = held(path)
    assert [event.raw for event in found[:10]] == before
    assert [event.version for event in found[8:12]] == [1, 1, 2, 2]
    assert chain.verify(path).problems == ()


def test_when_its_records_were_acknowledged_is_still_known(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    version_1(path, 10, 6)
    store = store_at(path)
    assert store.outbox.acknowledged == 6
    assert store.outbox.acknowledged_before(NOW + timedelta(hours=4, minutes=30)) == 3
    clock = FakeClock(NOW + timedelta(days=30, hours=5, minutes=30))
    assert Retention(Limits()).age(store, clock.now())
    assert store.first == 5
    store.close()


def test_both_ways_lead_to_the_same_tables(tmp_path: Path) -> None:
    version_1(tmp_path / "old.db", 0, 0)
    found = []
    for name in ("old.db", "new.db"):
        store_at(tmp_path / name).close()
        with closing(sqlite3.connect(tmp_path / name)) as db:
            found.append(dict(db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall()))
    assert found[0] == found[1]


def test_a_step_that_fails_leaves_the_old_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.db"
    version_1(path, 3, 1)
    with monkeypatch.context() as patch:
        patch.setattr(journal_schema, "_FROM_1", (*journal_schema._FROM_1, "SELECT no_such_function()"))
        with pytest.raises(sqlite3.OperationalError):
            store_at(path)
    store = store_at(path)
    assert (store.seq, store.epoch, store.outbox.acknowledged) == (3, EPOCH, 1)
    store.close()


def test_a_version_of_the_future_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    store_at(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(DamagedError, match="version 99"):
        store_at(path)
