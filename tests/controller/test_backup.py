"""Backups of a running controller, and the way back: whole or not at all, and never over what is there."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import backup as copies
from controller import checksum, deletions, integrity
from controller.backup import BackupError, NoRoomError, back_up
from controller.batch import Committed
from controller.integrity import DamagedError, UnfinishedError, beside, restoring
from controller.restore import check, restore
from controller.schema import STEPS
from controller.site_time import EARLY, LATE, Window
from controller.state_lock import HeldError, StateLock
from controller.store import OtherSiteError, Store
from gwanmun import backup_cli, controller_cli
from protocol import events
from protocol.events import TIMED, Kind

Commit = Callable[..., Committed]
START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
SEOUL = ZoneInfo("Asia/Seoul")
SITE = "hq"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "controller.db"


def rows(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


def seqs(path: Path) -> list[int]:
    return [seq for (seq,) in rows(path, "SELECT seq FROM events ORDER BY seq")]


def save(database: Path, target: Path, **more: Any) -> copies.Summary:
    return back_up(database, target, time_zone=SEOUL, now=START, **more)


def put_back(source: Path, database: Path, site: str = SITE) -> Path | None:
    return restore(source, database, site=site, now=START).kept


def seal(source: Path) -> None:
    """The checksum of what is there now, where something is there."""
    if source.exists():
        checksum.beside(source).write_bytes(checksum.line(source, source.name))


def test_a_backup_is_one_private_file_with_everything(
    store: Store, journal: Any, commit: Commit, database: Path, tmp_path: Path
) -> None:
    commit(store, *journal.write(30))
    target = tmp_path / "copies" / "monday.db"
    target.parent.mkdir()
    found = save(database, target)
    assert (found.records, found.detail, found.left_out) == (30, 30, 0)
    assert sorted(path.name for path in target.parent.iterdir()) == ["monday.db", "monday.db.sha256"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert seqs(target) == list(range(1, 31))
    assert rows(target, "PRAGMA integrity_check") == [("ok",)]


def test_a_backup_holds_one_moment_while_the_controller_writes(
    store: Store,
    new_journal: type[Any],
    commit: Commit,
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every page a step, and a commit between any two of them: it neither starts over nor mixes two moments."""
    monkeypatch.setattr(copies, "PAGES", 1)
    journal = new_journal()
    commit(store, *journal.write(200, filling="x" * 500))
    pages: list[int] = []

    def write(left: int, _pages: int) -> None:
        pages.append(left)
        if len(pages) <= 20:
            commit(store, *journal.write(3))

    save(database, tmp_path / "b.db", progress=write)
    assert pages == sorted(pages, reverse=True)
    assert pages[-1] == 0
    assert seqs(tmp_path / "b.db") == list(range(1, 201))
    assert rows(tmp_path / "b.db", "SELECT mark FROM chains") == [(200,)]
    assert len(seqs(database)) == 260


def test_a_backup_is_never_written_over_a_file(store: Store, database: Path, tmp_path: Path) -> None:
    (tmp_path / "b.db").write_text("mine")
    with pytest.raises(BackupError):
        save(database, tmp_path / "b.db")
    assert (tmp_path / "b.db").read_text() == "mine"


class _Disk:
    """A disk with so many bytes free, by directory."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.free: dict[Path, int] = {}
        patch.setattr(shutil, "disk_usage", self._usage)

    def _usage(self, directory: Path) -> SimpleNamespace:
        return SimpleNamespace(free=self.free[directory])


@pytest.mark.parametrize(("detail", "times"), [(True, 1), (False, 2)])
def test_a_backup_without_room_for_it_is_not_begun(
    store: Store,
    journal: Any,
    commit: Commit,
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    detail: bool,
    times: int,
) -> None:
    commit(store, *journal.write(200, filling="x" * 500))
    place = tmp_path / "copies"
    place.mkdir()
    disk, log = _Disk(monkeypatch), beside(database, "-wal").stat().st_size
    assert log
    enough = times * (database.stat().st_size + log) + copies.MARGIN
    disk.free[place] = enough - 1
    with pytest.raises(NoRoomError) as caught:
        save(database, place / "b.db", detail=detail)
    korean, english = str(caught.value).split("\n")
    assert "자리가 모자랍니다" in korean
    assert "too little room: 65 MiB are needed, 64 MiB are free" in english
    assert list(place.iterdir()) == []
    disk.free[place] = enough
    save(database, place / "b.db", detail=detail)


def test_a_restore_without_room_for_it_is_not_begun(
    store: Store, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "copies"
    place.mkdir()
    save(database, place / "b.db")
    store.close()
    disk, before = _Disk(monkeypatch), sorted(tmp_path.iterdir())
    enough = (place / "b.db").stat().st_size + copies.MARGIN
    disk.free = {tmp_path: enough - 1}
    with pytest.raises(NoRoomError):
        put_back(place / "b.db", database)
    assert sorted(tmp_path.iterdir()) == before
    disk.free = {tmp_path: enough}
    assert put_back(place / "b.db", database) is not None


def test_a_backup_of_a_damaged_database_is_refused_and_leaves_nothing(
    open_store: Callable[[], Store], journal: Any, commit: Commit, database: Path, tmp_path: Path
) -> None:
    store = open_store()
    commit(store, *journal.write(300))
    store.close()
    _damage(database)
    before = sorted(tmp_path.iterdir())
    with pytest.raises((BackupError, sqlite3.DatabaseError)):
        save(database, tmp_path / "b.db")
    assert [
        path for path in tmp_path.iterdir() if path not in before and not path.name.endswith(("-shm", "-wal"))
    ] == []


def test_a_backup_without_detail_holds_no_byte_of_it_and_what_it_left_out_is_counted_and_acknowledged(
    store: Store, journal: Any, commit: Commit, database: Path, tmp_path: Path
) -> None:
    for kind in Kind:
        commit(store, *journal.write(2, kind=kind))
    commit(store, b"\xff nothing of ours, 03:12")
    target = tmp_path / "b.db"
    found = save(database, target, detail=False)
    assert (found.left_out, found.detail) == (2 * len(TIMED) + 1, 0)
    assert {kind for (kind,) in rows(target, "SELECT kind FROM events")} == set(Kind) - TIMED
    content = target.read_bytes()
    timed = [event for event in map(events.parse, journal.records) if event.kind in TIMED]
    assert len(timed) == 2 * len(TIMED)
    assert not [event.id for event in timed if f'{event.data["attempt"]}"'.encode() in content]
    assert b"03:12" not in content
    assert rows(target, "SELECT sum(n) FROM quarters") == [(2 * len(Kind),)]
    assert [row[2] for row in rows(target, "SELECT * FROM deletions")] == ["detail", "poison"]
    # The database itself is untouched.
    assert len(seqs(database)) == 2 * len(Kind)
    assert rows(database, "SELECT arrival FROM rolled") == [(0,)]


def test_gates_that_send_again_after_such_a_restore_bring_back_what_is_newer_and_nothing_else(
    open_store: Callable[[], Store], journal: Any, commit: Commit, database: Path, tmp_path: Path
) -> None:
    store = open_store()
    commit(store, *journal.write(10))
    save(database, tmp_path / "b.db", detail=False)
    commit(store, *journal.write(5))
    store.close()
    put_back(tmp_path / "b.db", database)
    store = open_store()
    assert store.acks() == {"gate-1": journal.ack(10)}
    done = commit(store, *journal.records)
    assert (len(done.stored), done.duplicates, done.acks) == (5, 10, {"gate-1": journal.ack(15)})
    while store.rollups.step(Window(START - LATE, START + EARLY, START)).rows:
        pass
    assert store._connection.execute("SELECT sum(n) FROM quarters").fetchone() == (15,)
    assert deletions.broken(deletions.every(store._db)) is None


def test_a_restore_keeps_the_old_database_with_its_log(
    open_store: Callable[[], Store], journal: Any, commit: Commit, database: Path, tmp_path: Path
) -> None:
    store = open_store()
    commit(store, *journal.write(3))
    save(database, tmp_path / "b.db")
    commit(store, *journal.write(4))
    log = beside(database, "-wal").read_bytes()
    content = database.read_bytes()
    store.close()
    database.write_bytes(content)  # as a kill leaves them: the last commits are in the log alone
    beside(database, "-wal").write_bytes(log)
    kept = put_back(tmp_path / "b.db", database)
    assert kept is not None
    assert seqs(database) == [1, 2, 3]
    assert seqs(kept) == [1, 2, 3, 4, 5, 6, 7]
    assert not beside(database, "-wal").exists() or not beside(database, "-wal").stat().st_size
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    assert integrity.check(database)


def test_what_came_after_the_backup_is_asked_for_again(
    open_store: Callable[[], Store], journal: Any, commit: Commit, database: Path, tmp_path: Path
) -> None:
    store = open_store()
    commit(store, *journal.write(3))
    save(database, tmp_path / "b.db")
    commit(store, *journal.write(4))
    store.close()
    put_back(tmp_path / "b.db", database)
    store = open_store()
    done = commit(store, *journal.write(1))
    assert done.standings["gate-1", "e1"].mark == 3
    assert done.standings["gate-1", "e1"].ahead == 8
    assert commit(store, *journal.records).acks == {"gate-1": journal.ack(8)}


def test_a_restore_into_an_empty_place(
    store: Store, journal: Any, commit: Commit, database: Path, tmp_path: Path
) -> None:
    commit(store, *journal.write(3))
    save(database, tmp_path / "b.db")
    place = tmp_path / "new"
    place.mkdir()
    assert put_back(tmp_path / "b.db", place / "controller.db") is None
    assert seqs(place / "controller.db") == [1, 2, 3]
    assert [path.name for path in place.iterdir()] == ["controller.db"]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        ("absent", "there is no"),
        ("text", "is no backup"),
        ("empty", "is no backup"),
        ("other tables", "is no backup of a controller"),
        ("newer", "newer version"),
        ("damaged", "damaged|cannot be read"),
        ("cut", "damaged|cannot be read"),
        ("site", "another site, annex"),
        ("site of records", "another site, annex"),
    ],
)
def test_what_is_no_sound_backup_of_this_site_changes_nothing(
    store: Store, journal: Any, commit: Commit, database: Path, tmp_path: Path, spoil: str, expected: str
) -> None:
    commit(store, *journal.write(200))
    source = tmp_path / "b.db"
    save(database, source)
    store.close()
    with closing(sqlite3.connect(source)) as db, db:
        match spoil:
            case "newer":
                db.execute("INSERT INTO schema_version VALUES (?)", [len(STEPS) + 1])
            case "other tables":
                db.execute("DROP TABLE chains")
            case "site":
                db.execute("INSERT INTO site VALUES (1, 'annex')")
            case "site of records":
                last = "SELECT max(arrival) FROM events"
                db.execute(f"UPDATE events SET raw = replace(raw, '\"/hq/', '\"/annex/') WHERE arrival = ({last})")  # noqa: S608
    match spoil:
        case "absent":
            source.unlink()
        case "text":
            source.write_text("SELECT 1;")
        case "empty":
            source.write_bytes(b"")
        case "damaged":
            _damage(source)
        case "cut":
            os.truncate(source, source.stat().st_size // 2)
    seal(source)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(BackupError, match=expected):
        check(source, site=SITE)
    with pytest.raises(BackupError, match=expected):
        put_back(source, database)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert {name: content for name, content in after.items() if not name.endswith(("-shm", "-wal"))} == before


@pytest.mark.parametrize("old", ["v1", "v2", "v3"])
def test_a_backup_of_an_older_version_is_upgraded_at_the_start(tmp_path: Path, old: str) -> None:
    source = tmp_path / "b.db"
    with closing(sqlite3.connect(source)) as db:
        db.executescript((Path(__file__).parent / "databases" / f"{old}.sql").read_text("utf-8"))
    database = tmp_path / "state" / "controller.db"
    database.parent.mkdir()
    with pytest.raises(BackupError, match="there is no checksum"):
        put_back(source, database)
    restore(source, database, site=SITE, now=START, unsealed=True)
    Store(database, SEOUL, site=SITE).close()
    assert rows(database, "SELECT max(version) FROM schema_version") == [(len(STEPS),)]
    assert rows(database, "SELECT name FROM site") == [(SITE,)]


MOVES = 12
"""More steps than a restore has that change a name."""


@pytest.mark.parametrize("second", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("first", range(MOVES))
def test_a_restore_cut_short_at_any_move_keeps_the_old_database_with_its_log_and_can_be_repeated(
    open_store: Callable[[], Store],
    journal: Any,
    commit: Commit,
    database: Path,
    tmp_path: Path,
    first: int,
    second: int | None,
) -> None:
    store = open_store()
    commit(store, *journal.write(3))
    save(database, tmp_path / "b.db")
    commit(store, *journal.write(2))
    _as_after_a_kill(store, database)
    done = _cut_short(tmp_path / "b.db", database, first)
    if restoring(database).exists():
        with pytest.raises(UnfinishedError):
            integrity.check(database)
    if not done and second is not None:
        _cut_short(tmp_path / "b.db", database, second)
    put_back(tmp_path / "b.db", database)
    assert integrity.check(database)
    assert seqs(database) == [1, 2, 3]
    assert not restoring(database).exists()
    kept = {path.name: seqs(path) for path in tmp_path.glob("*.before-*") if not path.name.endswith(("-wal", "-shm"))}
    old = kept.pop(min(kept))
    assert old == [1, 2, 3, 4, 5]
    assert all(each == [1, 2, 3] for each in kept.values())  # what a restore that was done has put in place


def test_a_restore_removes_what_killed_ones_have_left_half_made_and_nothing_else(
    store: Store, database: Path, tmp_path: Path
) -> None:
    save(database, tmp_path / "b.db")
    store.close()
    half = copies.new_part(database)
    beside(half, "-journal").write_bytes(b"03:12")
    running = copies.new_part(tmp_path / "controller.db.monday")
    (tmp_path / ".controller.db.keep").touch()
    put_back(tmp_path / "b.db", database)
    hidden = {path.name for path in tmp_path.iterdir() if path.name.startswith(".")}
    assert hidden == {running.name, ".controller.db.keep"}


def test_a_log_without_its_database_is_never_kept_beside_another_database(
    open_store: Callable[[], Store], journal: Any, commit: Commit, database: Path, tmp_path: Path
) -> None:
    store = open_store()
    commit(store, *journal.write(3))
    save(database, tmp_path / "b.db")
    commit(store, *journal.write(2))
    _as_after_a_kill(store, database)
    database.unlink()
    beside(database, "-shm").unlink(missing_ok=True)
    log = beside(database, "-wal").read_bytes()
    assert not _cut_short(tmp_path / "b.db", database, 3)
    assert put_back(tmp_path / "b.db", database) is None
    assert [path.read_bytes() for path in tmp_path.glob("*.before-*")] == [log]


def test_what_a_restore_kept_can_be_put_back_with_what_its_log_holds(
    open_store: Callable[[], Store], journal: Any, commit: Commit, database: Path, tmp_path: Path
) -> None:
    store = open_store()
    commit(store, *journal.write(3))
    save(database, tmp_path / "b.db")
    commit(store, *journal.write(2))
    _as_after_a_kill(store, database)
    kept = put_back(tmp_path / "b.db", database)
    assert kept is not None
    restore(kept, database, site=SITE, now=START, unsealed=True)
    assert seqs(database) == [1, 2, 3, 4, 5]


def test_what_an_earlier_restore_kept_is_never_written_over(
    store: Store, journal: Any, commit: Commit, database: Path, tmp_path: Path
) -> None:
    commit(store, *journal.write(3))
    save(database, tmp_path / "b.db")
    commit(store, *journal.write(2))
    store.close()
    kept = [put_back(tmp_path / "b.db", database) for _ in range(3)]
    assert [seqs(path) for path in kept if path] == [[1, 2, 3, 4, 5], [1, 2, 3], [1, 2, 3]]


def _as_after_a_kill(store: Store, database: Path) -> None:
    """The last commits are in the log alone."""
    log, content = beside(database, "-wal").read_bytes(), database.read_bytes()
    store.close()
    database.write_bytes(content)
    beside(database, "-wal").write_bytes(log)


def _cut_short(source: Path, database: Path, moves: int) -> bool:
    """A restore after whose first `moves` changes of a name the power goes. Whether it was done by then."""
    left = [moves]

    def cut(whole: Callable[..., Any]) -> Callable[..., Any]:
        def move(path: Path, *arguments: Any, **options: Any) -> Any:
            if left[0] < 0:
                return None  # what it would clear away afterwards
            left[0] -= 1
            if left[0] < 0:
                raise OSError("the power went")
            return whole(path, *arguments, **options)

        return move

    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "replace", "unlink"):
            patch.setattr(Path, name, cut(getattr(Path, name)))
        try:
            put_back(source, database)
        except OSError:
            return False
    return True


@pytest.mark.parametrize("levels", [{"b1": 2, "lobby": 1}, {}])
def test_the_emergency_state_of_a_backup_is_told_and_not_put_back(
    store: Store,
    database: Path,
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    levels: dict[str, int],
) -> None:
    store.orders.set_emergency(1_795_000_000, levels)
    save(database, tmp_path / "b.db")
    store.orders.set_emergency(1_795_000_001, {"annex": 3})
    store.close()
    assert restore(tmp_path / "b.db", database, site=SITE, now=START).levels == levels
    assert rows(database, "SELECT * FROM emergency") == []
    assert rows(tmp_path / "b.db", "SELECT sequence FROM emergency") == [(1_795_000_000,)]
    assert backup_cli.restore(["--config", str(config), str(tmp_path / "b.db")]) == 0
    told = capsys.readouterr().out
    listed = "b1=2, lobby=1" if levels else "none"
    assert f"at the time of the backup: {listed}. It was not put back." in told
    assert "비상 상태" in told


def test_a_restore_tells_of_no_emergency_state_where_none_was_ever_ordered(
    store: Store, database: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(database, tmp_path / "b.db")
    store.close()
    assert backup_cli.restore(["--config", str(config), str(tmp_path / "b.db")]) == 0
    assert "emergency" not in capsys.readouterr().out


def test_an_emergency_state_that_cannot_be_read_changes_nothing(store: Store, database: Path, tmp_path: Path) -> None:
    save(database, tmp_path / "b.db")
    store.close()
    for levels in ("{", "[1]", "7"):
        with closing(sqlite3.connect(tmp_path / "b.db")) as db, db:
            db.execute("INSERT OR REPLACE INTO emergency VALUES (1, 5, ?)", [levels])
        seal(tmp_path / "b.db")
        with pytest.raises(BackupError, match="cannot be read"):
            put_back(tmp_path / "b.db", database)
        assert not list(tmp_path.glob("*.before-*"))


def test_a_database_of_another_site_is_not_opened(tmp_path: Path) -> None:
    Store(tmp_path / "c.db", SEOUL, site="annex").close()
    with pytest.raises(OtherSiteError, match="annex"):
        Store(tmp_path / "c.db", SEOUL, site=SITE)


def test_only_one_holds_the_state_directory(tmp_path: Path) -> None:
    with StateLock(tmp_path / "lock"), pytest.raises(HeldError):
        StateLock(tmp_path / "lock")
    StateLock(tmp_path / "lock").release()


# The checksum.


def test_the_checksum_is_one_that_sha256sum_reads(
    store: Store, commit: Commit, journal: Any, database: Path, tmp_path: Path
) -> None:
    commit(store, *journal.write(3))
    target = tmp_path / "월요일.db"
    save(database, target)
    told = subprocess.run(
        ["sha256sum", "-c", "월요일.db.sha256"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert stat.S_IMODE(checksum.beside(target).stat().st_mode) == 0o600


def test_a_bit_turned_anywhere_in_a_backup_or_its_checksum_is_noticed(
    store: Store, commit: Commit, journal: Any, database: Path, tmp_path: Path
) -> None:
    commit(store, *journal.write(20))
    source = tmp_path / "b.db"
    save(database, source)
    store.close()
    digest = checksum.beside(source).read_bytes()[:64]
    state = database.read_bytes()

    @settings(max_examples=200, deadline=None)
    @given(data=st.data())
    def turned(data: st.DataObject) -> None:
        path, size = data.draw(
            st.sampled_from([(source, source.stat().st_size), (checksum.beside(source), len(digest))])
        )
        at, bit = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 7))
        _turn(path, at, bit)
        try:
            with pytest.raises(BackupError):
                put_back(source, database)
            with pytest.raises(BackupError):
                check(source, site=SITE)
        finally:
            _turn(path, at, bit)

    turned()
    assert database.read_bytes() == state
    assert check(source, site=SITE).records == 20


def test_a_bit_turned_inside_a_stored_record_is_noticed_by_the_checksum_alone(
    store: Store, commit: Commit, journal: Any, database: Path, tmp_path: Path
) -> None:
    commit(store, *journal.write(20))
    source = tmp_path / "b.db"
    save(database, source)
    _turn(source, source.read_bytes().index(b"gate-1-e1-7"), 0)
    with pytest.raises(BackupError, match="not what its checksum says"):
        check(source, site=SITE)
    with pytest.raises(BackupError, match="not what its checksum says"):
        check(source, site=SITE, unsealed=True)  # excuses one that is missing, not one that is wrong
    checksum.beside(source).unlink()
    with pytest.raises(BackupError, match="--without-checksum"):
        check(source, site=SITE)
    assert check(source, site=SITE, unsealed=True).records == 20


@pytest.mark.parametrize("content", [b"", b"\n", b"0" * 64, b"g" * 64 + b"  b.db\n", b"0" * 64 + b"  " + b"n" * 5000])
def test_a_checksum_that_is_none_is_refused(store: Store, database: Path, tmp_path: Path, content: bytes) -> None:
    save(database, tmp_path / "b.db")
    checksum.beside(tmp_path / "b.db").write_bytes(content)
    with pytest.raises(BackupError, match="not what its checksum says"):
        check(tmp_path / "b.db", site=SITE)


def test_a_backup_may_be_renamed_together_with_its_checksum(store: Store, database: Path, tmp_path: Path) -> None:
    save(database, tmp_path / "b.db")
    (tmp_path / "b.db").rename(tmp_path / "c.db")
    checksum.beside(tmp_path / "b.db").rename(tmp_path / "c.db.sha256")
    assert check(tmp_path / "c.db", site=SITE).version == len(STEPS)


def test_a_backup_never_takes_the_checksum_of_another(store: Store, database: Path, tmp_path: Path) -> None:
    checksum.beside(tmp_path / "b.db").write_text("mine")
    with pytest.raises(BackupError, match=r"b\.db\.sha256 exists already"):
        save(database, tmp_path / "b.db")
    assert checksum.beside(tmp_path / "b.db").read_text() == "mine"
    assert not (tmp_path / "b.db").exists()
    with pytest.raises(BackupError, match="no backslash"):
        save(database, tmp_path / "b\n.db")


def test_a_backup_whose_name_is_taken_meanwhile_leaves_no_checksum(
    store: Store, database: Path, tmp_path: Path
) -> None:
    target = tmp_path / "b.db"
    with pytest.raises(BackupError, match="exists already"):
        save(database, target, progress=lambda *_: target.write_text("mine"))
    assert target.read_text() == "mine"
    assert not checksum.beside(target).exists()


def _turn(path: Path, at: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(1)[0]
        file.seek(at)
        file.write(bytes([old ^ 1 << bit]))


# Whether a database is whole.


def test_a_whole_database_is_read_before_the_start_and_a_large_one_beside_it(
    store: Store, journal: Any, commit: Commit, database: Path
) -> None:
    commit(store, *journal.write(10))
    assert integrity.check(database)
    assert not integrity.check(database, large=1000)


def test_a_place_without_a_database_is_whole(tmp_path: Path) -> None:
    assert integrity.check(tmp_path / "controller.db")


def _damage(path: Path) -> None:
    """Overwrites the middle of the largest b-tree's pages, as a failing disk does."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = db.execute("PRAGMA page_count").fetchone()[0]
    with path.open("r+b") as file:
        for page in range(pages // 2, pages):
            file.seek(page * 4096 + 3)
            file.write(b"\xff" * 64)


@pytest.mark.parametrize("spoil", ["pages", "cut", "header", "schema", "chain", "log alone"])
def test_a_damaged_database_is_told_before_the_start_and_left_as_it_is(
    open_store: Callable[[], Store], journal: Any, commit: Commit, database: Path, spoil: str
) -> None:
    store = open_store()
    commit(store, *journal.write(300))
    store.close()
    match spoil:
        case "pages":
            _damage(database)
        case "cut":
            os.truncate(database, database.stat().st_size // 2)
        case "header":
            with database.open("r+b") as file:
                file.write(b"\0" * 64)
        case "schema":
            with closing(sqlite3.connect(database)) as db, db:
                db.execute("DROP TABLE events")
        case "chain":
            with closing(sqlite3.connect(database)) as db, db:
                db.execute("UPDATE chains SET hash = 'zz'")
        case "log alone":
            database.rename(beside(database, "-wal"))
    before = {path.name: path.read_bytes() for path in database.parent.iterdir() if path.name.endswith((".db", "-wal"))}
    with pytest.raises(DamagedError) as caught:
        integrity.check(database)
    korean, english = str(caught.value).split("\n")
    assert "gwanmun restore" in korean
    assert "gwanmun restore" in english
    found = {path.name: path.read_bytes() for path in database.parent.iterdir() if path.name.endswith((".db", "-wal"))}
    assert {name: content for name, content in found.items() if content} == before


async def test_damage_in_a_large_database_is_found_beside_the_running_controller(
    open_store: Callable[[], Store], journal: Any, commit: Commit, database: Path
) -> None:
    store = open_store()
    commit(store, *journal.write(300))
    assert await integrity.check_beside(database) == []
    store.close()
    _damage(database)
    assert await integrity.check_beside(database) != []


# The command line.


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "controller.toml"
    file.write_text(f'site = "{SITE}"\nstate_dir = "."\n[mqtt]\n', "utf-8")
    return file


def test_the_commands_back_up_and_restore(
    store: Store,
    journal: Any,
    commit: Commit,
    config: Path,
    database: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commit(store, *journal.write(3))
    target = str(tmp_path / "b.db")
    assert backup_cli.backup(["--config", str(config), target]) == 0
    told = capsys.readouterr().out
    assert "3 exact times of passages" in told
    assert "Not in it: keys" in told
    commit(store, *journal.write(3))
    store.close()
    with StateLock(tmp_path / "controller.lock"):
        assert backup_cli.restore(["--config", str(config), "--check", target]) == 0
        assert "a whole backup: 3 records" in capsys.readouterr().out
        assert backup_cli.restore(["--config", str(config), target]) == 1
        assert "the controller is running" in capsys.readouterr().err
        assert len(seqs(database)) == 6
    assert backup_cli.restore(["--config", str(config), target]) == 0
    assert "The old database" in capsys.readouterr().out
    assert len(seqs(database)) == 3
    checksum.beside(tmp_path / "b.db").unlink()
    assert backup_cli.restore(["--config", str(config), target]) == 1
    assert "there is no checksum" in capsys.readouterr().err
    assert backup_cli.restore(["--config", str(config), "--without-checksum", target]) == 0


def test_the_commands_say_what_is_wrong(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert backup_cli.backup(["--config", str(config), str(tmp_path / "b.db")]) == 1
    assert "there is no database" in capsys.readouterr().err
    assert backup_cli.restore(["--config", str(config), str(tmp_path / "b.db")]) == 1
    assert "there is no" in capsys.readouterr().err
    assert backup_cli.backup(["--config", str(tmp_path / "none.toml"), str(tmp_path / "b.db")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_the_proofs_of_deletion_are_shown_and_checked(
    store: Store, journal: Any, commit: Commit, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(store, *journal.write(7))
    now = START + timedelta(days=8)
    while store.rollups.step(Window(now - LATE, now, now)).rows:
        pass
    assert list(store.removal.run(now, lambda: now))
    assert controller_cli.main(["deletions", "--config", str(config)]) == 0
    told = capsys.readouterr().out
    assert "\tdetail\t< 2026-11-24T15:00:00.000Z\t7\t" in told
    assert f"whole: 1 proofs of 7 rows removed, head {store.deletions_head()}" in told
    store._connection.execute("UPDATE deletions SET n = 6")
    assert controller_cli.main(["deletions", "--config", str(config)]) == 1
    assert "broken at number 1" in capsys.readouterr().err


def test_two_backups_at_once_do_not_meet(
    store: Store, journal: Any, commit: Commit, database: Path, tmp_path: Path
) -> None:
    commit(store, *journal.write(50))
    results: list[object] = []

    def one() -> None:
        try:
            results.append(save(database, tmp_path / "b.db"))
        except BackupError as error:
            results.append(error)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(result).__name__ for result in results) == ["BackupError", "Summary"]
    assert len(seqs(tmp_path / "b.db")) == 50
