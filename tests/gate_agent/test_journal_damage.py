from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate_agent import chain, salvage, writeahead
from gate_agent.journal import AlreadyUsedError, RecordUnavailableError
from gate_agent.journal_cli import main
from gate_agent.record import DamagedError, Entry, Record
from gate_agent.store import Store
from protocol import events
from protocol.ack import Ack
from protocol.events import Event, Kind
from tests.gate_agent.fakes import FakeClock
from tests.gate_agent.journals import (
    GATE,
    PUBLIC,
    SITE,
    alarms,
    change,
    grant,
    held,
    journal_at,
    kinds,
    store_at,
    write,
)

ACKNOWLEDGED, WAITING = 40, 260
SIZE = 700


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def records(path: Path) -> list[Record]:
    """A journal that was closed in good order; ACKNOWLEDGED of its records are acknowledged, WAITING are not."""
    store = store_at(path)
    found = write(store, FakeClock(), alarms(ACKNOWLEDGED + WAITING, SIZE))
    store.outbox.acknowledge(store.epoch, ACKNOWLEDGED, found[ACKNOWLEDGED - 1].hash)
    store.count_boot()
    store.close()
    return found


def beside(path: Path) -> set[str]:
    return {part.name for part in path.parent.iterdir()}


def page_of(path: Path, seq: int) -> int:
    """Offset of the page that holds the bytes of record `seq`."""
    with closing(sqlite3.connect(path)) as db:
        size = db.execute("PRAGMA page_size").fetchone()[0]
        raw = db.execute("SELECT raw FROM records WHERE seq = ?", (seq,)).fetchone()[0]
    return path.read_bytes().index(raw[:64]) // int(size) * int(size)


def overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


async def salvaged(path: Path) -> tuple[list[Record], Event]:
    """Start on what is there. What is sent first, and the first record of the new epoch."""
    async with journal_at(path) as journal:
        await journal.append(Kind.GATE_BOOT, {})
        sent = await journal.unsent(0, 10_000)
    first = held(path)[0]
    assert first.kind is Kind.LOG_GAP
    old = [record for record in sent if record.epoch != first.epoch]
    assert sent[: len(old)] == old, "they go first"
    assert chain.verify(path, PUBLIC).problems == ()
    return old, first


async def test_a_page_of_zeros_loses_what_is_behind_it_and_salvages_what_waits_before(
    path: Path, records: list[Record]
) -> None:
    overwrite(path, page_of(path, 150), bytes(4096))
    old, first = await salvaged(path)
    assert old == records[ACKNOWLEDGED : ACKNOWLEDGED + len(old)]
    assert 140 <= old[-1].seq < 150
    assert (first.data["epoch"], first.data["to"]) == (records[0].epoch, old[-1].seq)
    assert first.data["why"].startswith("damaged: ")


async def test_an_overwritten_page_is_damage_too(path: Path, records: list[Record]) -> None:
    overwrite(path, page_of(path, 200), b"\xa5" * 4096)
    old, first = await salvaged(path)
    assert old == records[ACKNOWLEDGED : ACKNOWLEDGED + len(old)]
    assert 190 <= first.data["to"] < 200


async def test_a_file_that_lost_its_end_keeps_what_is_before(path: Path, records: list[Record]) -> None:
    with path.open("r+b") as file:
        file.truncate(page_of(path, 250))
    old, first = await salvaged(path)
    assert old == records[ACKNOWLEDGED : ACKNOWLEDGED + len(old)]
    assert first.data["epoch"] == records[0].epoch


async def test_a_file_with_a_broken_beginning_still_names_its_epoch(path: Path, records: list[Record]) -> None:
    overwrite(path, 0, bytes(4096))
    old, first = await salvaged(path)
    assert (old, first.data["epoch"], first.data["to"]) == ([], records[0].epoch, 0)


async def test_an_emptied_file_is_no_new_journal(path: Path, records: list[Record]) -> None:
    os.truncate(path, 0)
    old, first = await salvaged(path)
    assert (old, first.data["why"]) == ([], "damaged: the file is empty")
    assert first.epoch != records[0].epoch


async def test_an_edited_record_ends_what_is_salvaged(path: Path, records: list[Record]) -> None:
    change(path, ("UPDATE records SET raw = x'7b7d' WHERE seq = 120", ()))
    old, first = await salvaged(path)
    assert old == records[ACKNOWLEDGED:119]
    assert first.data["to"] == 119


async def test_where_nothing_waits_the_last_whole_record_is_named(path: Path, records: list[Record]) -> None:
    store = store_at(path)
    store.outbox.acknowledge(records[0].epoch, len(records), records[-1].hash)
    store.close()
    change(path, ("UPDATE records SET hash = ? WHERE seq = 7", ("f" * 64,)))
    change(path, ("DELETE FROM records WHERE seq = 290", ()))
    old, first = await salvaged(path)
    assert (old, first.data["epoch"]) == ([], records[0].epoch)


def crashed(path: Path, to: Path) -> Path:
    """What a machine that stops now leaves: the file and its write-ahead log as they are."""
    to.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{to / path.name}{suffix}")
    return to / path.name


@pytest.fixture
def left(path: Path, records: list[Record], tmp_path: Path) -> Path:
    """A journal whose machine stopped with five more records in its write-ahead log."""
    store = store_at(path)
    write(store, FakeClock(), alarms(5))
    found = crashed(path, tmp_path / "left")
    store.close()
    return found


async def test_a_crash_alone_loses_nothing_and_begins_no_epoch(left: Path, records: list[Record]) -> None:
    async with journal_at(left) as journal:
        record = await journal.append(Kind.GATE_BOOT, {})
    assert (record.epoch, record.seq) == (records[0].epoch, len(records) + 6)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda log: log.unlink(), "damaged: the write-ahead log is missing"),
        (lambda log: log.write_bytes(b""), "damaged: the write-ahead log is blank"),
        (lambda log: log.write_bytes(bytes(log.stat().st_size)), "damaged: the write-ahead log is blank"),
    ],
)
async def test_a_lost_write_ahead_log_is_damage_since_records_were_in_it(
    left: Path, records: list[Record], harm: Callable[[Path], None], why: str
) -> None:
    harm(Path(f"{left}-wal"))
    old, first = await salvaged(left)
    assert first.data["why"] == why
    assert old == records[ACKNOWLEDGED:]


async def test_a_journal_that_was_closed_in_good_order_needs_no_log(path: Path, records: list[Record]) -> None:
    assert beside(path) == {"journal.db"}
    async with journal_at(path) as journal:
        assert (await journal.position())[0] == records[0].epoch


async def test_a_removed_mark_leaves_no_blank_log_behind(path: Path) -> None:
    clock, store = FakeClock(), store_at(path)
    store.begin()
    store.add(Entry(Kind.ACCESS_GRANTED, grant("a"), clock.now(), (b"m" * 32, clock.now())))
    store.commit()
    clock.elapsed = 1
    store.prune_marks(clock.now())
    copy = crashed(path, path.parent / "left")
    store.close()
    async with journal_at(copy) as journal:
        await journal.append(Kind.PASSAGE_COMPLETED, grant("a"))
    assert Kind.LOG_GAP not in kinds(copy)


def test_a_kill_while_the_log_is_blank_is_no_damage(
    path: Path, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(path)
    left: list[Path] = []
    begin = writeahead.begin

    def killed(db: sqlite3.Connection) -> None:
        left.append(crashed(path, path.parent / "left"))
        begin(db)

    monkeypatch.setattr(writeahead, "begin", killed)
    writeahead.truncate(store.db)
    monkeypatch.undo()
    store.close()
    assert writeahead.size(left[0]) == 0
    again = store_at(left[0])
    assert (again.epoch, again.seq) == (store.epoch, len(records))
    again.close()


def test_a_disk_that_fails_at_the_end_keeps_the_log_that_the_next_start_looks_for(
    path: Path, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(path)

    def fails(_db: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(writeahead, "end", fails)
    store.close()
    monkeypatch.undo()
    assert writeahead.size(path)
    again = store_at(path)
    assert (again.epoch, again.seq) == (store.epoch, len(records))
    again.close()


async def test_salvaged_records_leave_on_the_acknowledgement_of_their_own_epoch(
    path: Path, records: list[Record]
) -> None:
    change(path, ("UPDATE records SET raw = x'7b7d' WHERE seq = 60", ()))
    async with journal_at(path) as journal:
        await journal.append(Kind.GATE_BOOT, {})
        waiting = await journal.waiting()
        assert await journal.acknowledge(Ack(records[0].epoch, 50, records[49].hash))
        assert await journal.waiting() == waiting - 10
        assert (await journal.unsent(0, 1))[0] == records[50]
        assert await journal.requeue(records[0].epoch, 55, 58, 10) == 4
        # The controller had some of the damaged ones before.
        assert await journal.acknowledge(Ack(records[0].epoch, 70, records[69].hash))
        assert [record.seq for record in await journal.unsent(0, 10)] == [1, 2]
        assert not await journal.acknowledge(Ack(records[0].epoch, 70, records[69].hash))


async def test_salvaged_records_that_the_controller_contradicts_are_let_go_and_told(
    path: Path, records: list[Record]
) -> None:
    """Or an operator who sets a contradicted journal aside would be where he was."""
    assert main(["set-aside", "--config", str(gate_toml(path.parent))]) == 0
    async with journal_at(path) as journal:
        waiting = await journal.waiting()
        assert await journal.acknowledge(Ack(records[0].epoch, 50, "0" * 64))
        assert (await journal.unsent(0, 1))[0] == records[50]
        assert await journal.waiting() == waiting - 10 + 1
        assert not await journal.acknowledge(Ack(records[0].epoch, 50, "0" * 64))
    gap = [event.data for event in held(path) if event.kind is Kind.LOG_GAP][-1]
    assert (gap["why"], gap["epoch"]) == ("ack_mismatch", records[0].epoch)
    assert (gap["from"], gap["to"], gap["dropped"]) == (41, 50, 10)


async def test_salvaged_records_survive_a_second_damage(path: Path, records: list[Record]) -> None:
    for _ in range(2):
        async with journal_at(path) as journal:
            await journal.append(Kind.ALARM_FORCED, {})
            newest = await journal.append(Kind.ALARM_FORCED, {})
        change(path, ("UPDATE records SET raw = x'7b7d' WHERE seq = ?", (newest.seq,)))
    async with journal_at(path) as journal:
        sent = await journal.unsent(0, 10_000)
    assert [record.epoch for record in sent] == sorted(
        (record.epoch for record in sent), key=[record.epoch for record in sent].index
    ), "one epoch after the other"
    assert len({record.epoch for record in sent}) == 3
    assert sent[: WAITING + 1][:WAITING] == records[ACKNOWLEDGED:]


async def test_a_pass_that_was_used_stays_used_and_starts_stay_counted(path: Path, records: list[Record]) -> None:
    clock = FakeClock()
    mark = (b"m" * 32, clock.now() + timedelta(seconds=20))
    async with journal_at(path, clock) as journal:
        await journal.append(Kind.ACCESS_GRANTED, grant("a1"), mark=mark)
        await journal.append(Kind.COMMAND_ACCEPTED, grant("a3"))
    change(path, ("UPDATE records SET raw = x'7b7d' WHERE seq = 250", ()))
    async with journal_at(path, clock) as journal:
        with pytest.raises(AlreadyUsedError):
            await journal.append(Kind.ACCESS_GRANTED, grant("a2"), mark=mark)
        assert await journal.count_boot() == 2
    assert kinds(path)[:3] == [Kind.LOG_GAP, Kind.PASSAGE_UNKNOWN, Kind.PASSAGE_UNKNOWN]
    assert [event.data["attempt"] for event in held(path)[1:3]] == ["a1", "a3"], (
        "of a grant and of an order to open once"
    )


async def test_damage_that_shows_while_running_begins_a_new_epoch_at_once(path: Path, records: list[Record]) -> None:
    at = page_of(path, 100)
    async with journal_at(path) as journal:
        epoch = (await journal.position())[0]
        overwrite(path, at, bytes(4096))
        await journal._call(lambda store: store.db.execute("PRAGMA shrink_memory").fetchall())
        with pytest.raises(RecordUnavailableError):
            await journal.unsent(0, 10_000)
        record = await journal.append(Kind.GATE_BOOT, {})
        assert record.epoch != epoch
    assert held(path)[0].data["epoch"] == epoch


# Whatever moment the power goes at.


def test_a_crash_at_any_step_of_setting_aside_leaves_a_whole_journal(
    path: Path, records: list[Record], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock, kept = FakeClock(), path.read_bytes()

    class PowerCutError(Exception):
        pass

    def aside(after: int) -> bool:
        """Set aside with the power cut before the rename or removal number `after`. False: it came to its end."""
        left = after

        def counted(real: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **more: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    raise PowerCutError
                return real(*args, **more)

            return call

        with monkeypatch.context() as patch:
            for name in ("rename", "unlink"):
                patch.setattr(Path, name, counted(getattr(Path, name)))
            try:
                salvage.set_aside(path, "damaged: test", {}, clock.now(), lambda at: store_at(at, reopened=True))
            except PowerCutError:
                return True
        return False

    for after in range(20):
        for part in list(path.parent.iterdir()):
            part.unlink()
        path.write_bytes(kept)
        cut = aside(after)
        clock.elapsed += 1
        salvage.recover(path, clock.now())
        store = store_at(path)
        sent = store.outbox.unsent(0, 10_000)
        if store.epoch != records[0].epoch:
            assert held(path)[0].kind is Kind.LOG_GAP
        assert [record for record in sent if record.epoch == records[0].epoch] == records[ACKNOWLEDGED:]
        store.close()
        if not cut:
            return
    pytest.fail("it never came to its end")


def test_a_disk_that_takes_nothing_more_leaves_the_damaged_journal_where_it_is(
    path: Path, records: list[Record]
) -> None:
    class Full(Store):
        def begin(self) -> None:
            raise sqlite3.OperationalError("database or disk is full")

    def opener(at: Path) -> Store:
        return Full(at, site=SITE, gate=GATE, random_bytes=os.urandom, reopened=True)

    kept = path.read_bytes()
    with pytest.raises(OSError, match="full"):
        salvage.set_aside(path, "damaged: test", {}, FakeClock().now(), opener)
    assert path.read_bytes() == kept
    assert not [part for part in path.parent.iterdir() if ".new" in part.name or "damaged" in part.name]


@given(st.data())
def test_whatever_happens_to_the_file_it_opens_or_is_damaged_and_a_new_one_is_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.db"
    clock, store = FakeClock(), store_at(path)
    records = write(store, clock, alarms(60, 300))
    store.close()
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        size = min(data.draw(st.sampled_from([1, 16, 512, 4096])), len(raw) - at)
        raw[at : at + size] = data.draw(st.sampled_from([b"\0", b"\xff", b"x"])) * size
    path.write_bytes(bytes(raw[: data.draw(st.integers(len(raw) // 2, len(raw)))]))
    try:
        store = store_at(path)
    except (DamagedError, sqlite3.OperationalError):
        salvage.set_aside(path, "damaged: test", {}, clock.now(), lambda at: store_at(at, reopened=True))
        store = store_at(path)
        first = held(path)[0]
        assert first.kind is Kind.LOG_GAP
        found = [record for record in store.outbox.unsent(0, 1000) if record.epoch != store.epoch]
        # What is salvaged is what was written, from the oldest on and without a hole.
        assert [record.raw for record in found] == [record.raw for record in records[: len(found)]]
        assert chain.verify(path, PUBLIC).problems == ()
    store.close()


# By an operator.


def gate_toml(folder: Path) -> Path:
    file = folder / "gate.toml"
    file.write_text(f'[gate]\nid = "{GATE}"\nsite = "{SITE}"\nstate_dir = "."\n[mqtt]\nkey = "credential:mqtt.key"\n')
    return file


async def test_an_operator_sets_aside_a_journal_that_the_controller_contradicts(
    path: Path, records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["set-aside", "--config", str(gate_toml(path.parent))]) == 0
    assert f"먼저 보낼 이전 기록 {WAITING}건" in capsys.readouterr().out
    first = held(path)[0]
    assert (first.kind, first.data["why"]) == (Kind.LOG_GAP, "set aside by an operator")
    assert (first.data["epoch"], first.data["to"]) == (records[0].epoch, len(records))
    assert (first.data["v"], first.data["clk"]) == (events.SCHEMA, {"q": "unset"})
    assert first.data["boot"].startswith("2-")
    async with journal_at(path) as journal:
        assert await journal.count_boot() == 3
        assert await journal.unsent(0, WAITING) == records[ACKNOWLEDGED:]
    assert [part for part in path.parent.iterdir() if part.suffix == ".damaged"]


async def test_a_journal_that_is_in_use_is_not_set_aside(path: Path, records: list[Record]) -> None:
    async with journal_at(path) as journal:
        assert main(["set-aside", "--config", str(gate_toml(path.parent))]) == 2
        assert (await journal.append(Kind.GATE_BOOT, {})).epoch == records[0].epoch


def test_a_journal_that_is_not_there_is_not_set_aside(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["set-aside", "--config", str(gate_toml(path.parent))]) == 2
    assert capsys.readouterr().err.startswith("gwanmun: 저널을 쓸 수 없습니다")


def test_the_command_line_knows_the_journal(path: Path, records: list[Record]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gwanmun.cli", "journal", "verify", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "온전합니다. / whole.")
