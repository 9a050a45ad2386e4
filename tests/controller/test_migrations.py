"""Databases of every released schema become the newest with nothing lost, or stay what they were."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlite_utils import Database

from controller import schema
from controller.batch import What
from controller.schema import STEPS, SchemaError
from controller.store import Store
from protocol import events

DATABASES = Path(__file__).parent / "databases"
"""Text dumps of databases that the code of those days has written (sqlite3's `.dump`)."""
OLD = sorted(DATABASES.glob("v*.sql"))
SEOUL = ZoneInfo("Asia/Seoul")
KEPT = ("events", "chains", "gates", "poison", "counts", "gaps", "boots", "orders", "emergency", "alarms")
"""Tables whose rows no step may touch, as far as they had the same columns."""


@pytest.fixture(params=OLD, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "controller.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(request.param.read_text("utf-8"))
    return path


def rows(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def sorted_rows(path: Path, table: str, names: list[str]) -> list[Any]:
    chosen = ", ".join(names)
    return rows(path, f"SELECT {chosen} FROM {table} ORDER BY {chosen}")  # noqa: S608  names of the schema


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


def columns(path: Path, table: str) -> list[str]:
    return [row[1] for row in rows(path, f"PRAGMA table_info({table})")]


def test_there_is_a_database_of_every_schema_before_the_one_in_work() -> None:
    assert [path.stem for path in OLD] == ["v1", "v2", "v3"]
    for number, path in enumerate(OLD, 1):
        assert f'INSERT INTO "schema_version" VALUES({number});' in path.read_text("utf-8")


def test_an_old_database_keeps_every_record_and_row(old: Path) -> None:
    before = {table: (names, sorted_rows(old, table, names)) for table in KEPT if (names := columns(old, table))}
    assert len(before["events"][1]) > 20
    Store(old, SEOUL).close()
    for table, (names, found) in before.items():
        assert sorted_rows(old, table, names) == found, table
    assert rows(old, "SELECT max(version) FROM schema_version") == [(len(STEPS),)]
    assert rows(old, "PRAGMA integrity_check") == [("ok",)]


def test_an_upgraded_database_has_the_tables_and_indexes_of_a_new_one(old: Path, tmp_path: Path) -> None:
    Store(old, SEOUL).close()
    Store(tmp_path / "new.db", SEOUL).close()
    assert _shape(old) == _shape(tmp_path / "new.db")


def _shape(path: Path) -> dict[str, Any]:
    names = rows(path, "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name")
    return {
        f"{kind} {name}": [
            row[1:] for row in rows(path, f"PRAGMA {kind}_{'info' if kind == 'table' else 'xinfo'}({name})")
        ]
        for kind, name in names
    }


def test_ingest_goes_on_where_the_old_database_was(old: Path) -> None:
    """The hole of gate-1 stays one, the chain of gate-3 stays stopped, what was acknowledged stays acknowledged."""
    marks = dict(rows(old, "SELECT gate, mark FROM chains"))
    store = Store(old, SEOUL)
    try:
        standings = store.standings()
        assert {key[0]: standing.mark for key, standing in standings.items()} == marks
        assert standings["gate-1", "e1"].ahead == 11
        assert standings["gate-3", "e1"].stopped
        assert {alarm.gate for alarm in store.alarms() if alarm.what is What.CHAIN} == {"gate-3"}
        assert all(events.parse(stored.event.raw) == stored.event for stored in store.events(0, 100))
    finally:
        store.close()


def test_a_newer_database_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    Store(path, SEOUL).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO schema_version VALUES (?)", [len(STEPS) + 1])
    before = dump(path)
    with pytest.raises(SchemaError):
        Store(path, SEOUL)
    assert dump(path) == before


class _CutError(Exception):
    """The power went."""


class _Cutting(Database):
    """Fails instead of carrying out statement number `left`."""

    def __init__(self, connection: sqlite3.Connection, left: int) -> None:
        self.left = -1
        super().__init__(connection)
        self.left = left

    def execute(self, *arguments: Any) -> Any:
        if self.left == 0:
            raise _CutError
        self.left -= 1
        return super().execute(*arguments)


def test_a_migration_cut_short_anywhere_leaves_a_version_whole(old: Path) -> None:
    """Whatever statement it breaks off at: the database is exactly that of some version, and the next start completes it."""
    content = old.read_bytes()
    at_version = _dumps_by_version(content, old.with_name("steps.db"))
    statements = 0
    while True:
        old.write_bytes(content)
        with closing(sqlite3.connect(old, isolation_level=None)) as connection:
            db = _Cutting(connection, statements)
            try:
                schema.migrate(db)
            except _CutError:
                pass
            else:
                break
        found = dump(old)
        assert found == at_version[rows(old, "SELECT max(version) FROM schema_version")[0][0]], statements
        statements += 1
    assert statements > len(STEPS)
    assert dump(old) == at_version[len(STEPS)]


def _dumps_by_version(content: bytes, path: Path) -> dict[int, list[str]]:
    path.write_bytes(content)
    found = {}
    oldest = rows(path, "SELECT max(version) FROM schema_version")[0][0]
    for newest in range(oldest, len(STEPS) + 1):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            schema.migrate(Database(connection), STEPS[:newest])
        found[newest] = dump(path)
    return found
