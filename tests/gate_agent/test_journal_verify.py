from __future__ import annotations

import csv
import io
import itertools
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gate_agent import chain
from gate_agent.chain import Problem, What
from gate_agent.journal_cli import main
from gate_agent.retention import MIB, Limits, Retention
from gate_agent.store import Store
from protocol import events
from protocol.events import Kind
from tests.gate_agent.fakes import FakeClock
from tests.gate_agent.journals import PUBLIC, alarms, change, grant, health, held, journal_at, store_at, write

COUNT = 20


def checkpoint(store: Store, clock: FakeClock) -> None:
    store.begin()
    store.checkpoint(clock.now())
    store.commit()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """COUNT alarms, then a checkpoint over them."""
    path = tmp_path / "journal.db"
    clock, store = FakeClock(), store_at(path)
    write(store, clock, alarms(COUNT))
    checkpoint(store, clock)
    store.close()
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A journal with everything in it: a removed beginning, records given up, checkpoints, decisions."""
    path = tmp_path_factory.mktemp("whole") / "journal.db"
    clock, store = FakeClock(), store_at(path)
    records = write(store, clock, alarms(10))
    store.outbox.acknowledge(store.epoch, 4, records[3].hash)
    write(store, clock, [*health(6), (Kind.ACCESS_GRANTED, grant("a1")), (Kind.PASSAGE_COMPLETED, grant("a1"))])
    write(store, clock, alarms(1))
    tight = Retention(Limits(max_bytes=MIB + 1))
    for _ in range(3):
        tight.look(store, clock.now())
    checkpoint(store, clock)
    write(store, clock, alarms(3))
    checkpoint(store, clock)
    store.close()
    report = chain.verify(path, PUBLIC)
    assert (report.problems, report.first, report.given_up) == ((), 5, 6)
    return path.read_bytes()


def problems(path: Path) -> list[tuple[What, int, int]]:
    return [(each.what, each.first, each.last) for each in chain.verify(path, PUBLIC).problems]


def names(found: tuple[Problem, ...], seq: int) -> bool:
    return any(each.first <= seq <= each.last for each in found)


def rewrite(path: Path, seq: int, edit: Callable[[dict[str, Any]], None]) -> None:
    """As a forger who knows the format: bytes and hash fit together."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        body = json.loads(db.execute("SELECT raw FROM records WHERE seq = ?", (seq,)).fetchone()[0])
        edit(body)
        raw = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        db.execute("UPDATE records SET raw = ?, hash = ? WHERE seq = ?", (raw, events.record_hash(raw), seq))


def test_a_whole_journal_has_no_problem_and_says_how_far_the_gate_vouches_for_it(path: Path) -> None:
    report = chain.verify(path, PUBLIC)
    assert (report.problems, report.first, report.last, report.checkpoint) == ((), 1, COUNT + 1, COUNT)
    assert (report.records, report.unacknowledged) == (COUNT + 1, COUNT + 1)


def test_an_empty_journal_is_whole(tmp_path: Path) -> None:
    store_at(tmp_path / "journal.db").close()
    report = chain.verify(tmp_path / "journal.db", PUBLIC)
    assert (report.problem, report.first, report.last, report.last_hash) == (None, 0, 0, events.GENESIS)


async def test_a_running_journal_can_be_verified(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "journal.db") as journal:
        await journal.append(Kind.ALARM_FORCED, {})
        assert chain.verify(tmp_path / "journal.db").records == 1
        await journal.append(Kind.ALARM_FORCED, {})


def test_an_edited_record_is_named(path: Path) -> None:
    change(
        path,
        ("UPDATE records SET raw = CAST(replace(CAST(raw AS TEXT), 'lane-6', 'lane-9') AS BLOB) WHERE seq = 7", ()),
    )
    assert problems(path) == [(What.CHANGED, 7, 7)]


def test_a_record_that_was_edited_together_with_its_hash_is_named(path: Path) -> None:
    rewrite(path, 7, lambda body: body["data"].update(lane="lane-9"))
    assert problems(path) == [(What.CHANGED, 7, 7)]


def test_a_record_that_was_edited_to_continue_another_chain_is_named(path: Path) -> None:
    rewrite(path, 7, lambda body: body.update(prevhash="a" * 64))
    assert problems(path) == [(What.CHANGED, 7, 7)]
    rewrite(path, 1, lambda body: body.update(prevhash="a" * 64))
    assert (What.CHANGED, 1, 1) in problems(path)


def test_the_last_two_records_can_only_be_named_together(path: Path) -> None:
    change(path, ("DELETE FROM records WHERE seq > ?", (COUNT,)), ("DELETE FROM outbox", ()), ("DELETE FROM meta", ()))
    change(path, ("INSERT INTO meta VALUES ('epoch', ?)", (held(path)[0].epoch,)))
    rewrite(path, COUNT - 1, lambda body: body["data"].update(lane="lane-x"))
    assert problems(path) == [(What.LINK, COUNT - 1, COUNT)]


def test_the_record_before_those_given_up_is_held_to_what_the_first_of_them_said(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as db:
        raw = db.execute("SELECT raw FROM records WHERE seq = 10").fetchone()[0].replace(b"lane-", b"gate-")
    change(path, ("UPDATE records SET raw = ?, hash = ? WHERE seq = 10", (raw, events.record_hash(raw))))
    assert problems(path) == [(What.CHANGED, 10, 10)]


def test_missing_records_are_named(path: Path) -> None:
    change(path, ("DELETE FROM records WHERE seq IN (5, 6, 9)", ()))
    assert problems(path) == [(What.MISSING, 5, 6), (What.MISSING, 9, 9)]


def test_a_beginning_that_is_gone_without_a_word_is_named(path: Path) -> None:
    change(path, ("DELETE FROM records WHERE seq <= 3", ()))
    assert problems(path) == [(What.UNEXPLAINED, 1, 3)]


def test_reordered_records_are_named(path: Path) -> None:
    change(
        path,
        ("UPDATE records SET seq = -1 WHERE seq = 5", ()),
        ("UPDATE records SET seq = 5 WHERE seq = 9", ()),
        ("UPDATE records SET seq = 9 WHERE seq = -1", ()),
    )
    assert problems(path) == [(What.REPLACED, 5, 5), (What.REPLACED, 9, 9)]


def test_an_end_that_was_cut_off_is_named_as_long_as_anything_mentions_it(path: Path) -> None:
    change(path, ("DELETE FROM records WHERE seq > ?", (COUNT - 5,)))
    assert problems(path) == [(What.MISSING, COUNT - 4, COUNT + 1)]


def test_several_problems_are_all_named(path: Path) -> None:
    change(path, ("UPDATE records SET raw = x'00' WHERE seq IN (3, 12)", ()), ("DELETE FROM records WHERE seq = 8", ()))
    assert problems(path) == [(What.CHANGED, 3, 3), (What.MISSING, 8, 8), (What.CHANGED, 12, 12)]


def test_a_checkpoint_of_another_key_is_named(path: Path) -> None:
    report = chain.verify(path, ec.generate_private_key(ec.SECP256R1()).public_key())
    assert [(each.what, each.first) for each in report.problems] == [(What.STATEMENT, COUNT + 1)]
    assert report.checkpoint == 0


def test_a_chain_that_was_rebuilt_to_its_end_fails_at_the_first_signature(path: Path) -> None:
    """Whoever edits a record and makes every later hash fit cannot sign."""
    previous = ""
    for seq in range(3, COUNT + 2):

        def edit(body: dict[str, Any], seq: int = seq, previous: str = previous) -> None:
            if seq == 3:
                body["data"]["lane"] = "forged"
            else:
                body["prevhash"] = previous
            if seq == COUNT + 1:
                body["data"]["hash"] = previous

        rewrite(path, seq, edit)
        previous = held(path)[seq - 1].hash
    assert problems(path) == [(What.STATEMENT, COUNT + 1, COUNT + 1)]
    assert chain.verify(path).problems == (), "without the key nothing can be seen"


def restored(tmp_path: Path, raw: bytes) -> Path:
    path = tmp_path / "journal.db"
    for part in tmp_path.iterdir():
        part.unlink()
    path.write_bytes(raw)
    return path


def sequence(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as db:
        return [seq for (seq,) in db.execute("SELECT seq FROM records WHERE raw IS NOT NULL ORDER BY seq")]


@given(data=st.data())
def test_any_byte_of_any_record_that_is_changed_is_found_and_named(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: st.DataObject
) -> None:
    path = restored(tmp_path_factory.mktemp("one"), whole)
    seq = data.draw(st.sampled_from(sequence(path)))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        raw = bytearray(db.execute("SELECT raw FROM records WHERE seq = ?", (seq,)).fetchone()[0])
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] ^= data.draw(st.integers(1, 255))
        db.execute("UPDATE records SET raw = ? WHERE seq = ?", (bytes(raw), seq))
        if data.draw(st.booleans()):
            db.execute("UPDATE records SET hash = ? WHERE seq = ?", (events.record_hash(bytes(raw)), seq))
    assert names(chain.verify(path, PUBLIC).problems, seq)


@given(data=st.data())
def test_any_rows_that_are_deleted_swapped_or_copied_are_found_and_named(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: st.DataObject
) -> None:
    path = restored(tmp_path_factory.mktemp("one"), whole)
    there = sequence(path)
    one = data.draw(st.sampled_from(there))
    other = data.draw(st.sampled_from([seq for seq in there if seq != one]))
    deed = data.draw(st.sampled_from(["delete", "swap", "copy", "hash", "blank"]))
    if deed == "delete":
        change(path, ("DELETE FROM records WHERE seq = ?", (one,)))
    elif deed == "copy":
        change(
            path,
            ("UPDATE records SET raw = (SELECT raw FROM records WHERE seq = ?) WHERE seq = ?", (other, one)),
            ("UPDATE records SET hash = (SELECT hash FROM records WHERE seq = ?) WHERE seq = ?", (other, one)),
        )
    elif deed == "swap":
        change(
            path,
            ("UPDATE records SET seq = -1 WHERE seq = ?", (one,)),
            ("UPDATE records SET seq = ? WHERE seq = ?", (one, other)),
            ("UPDATE records SET seq = ? WHERE seq = -1", (other,)),
        )
        assert names(chain.verify(path, PUBLIC).problems, other)
    elif deed == "hash":
        change(path, ("UPDATE records SET hash = ? WHERE seq = ?", ("e" * 64, one)))
    else:
        change(path, ("UPDATE records SET raw = NULL WHERE seq = ?", (one,)))
    assert names(chain.verify(path, PUBLIC).problems, one)


@given(st.data())
def test_any_damage_to_the_file_itself_is_one_answer_and_no_traceback(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: st.DataObject
) -> None:
    raw = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        size = data.draw(st.integers(1, 5000))
        raw[at : at + size] = data.draw(st.sampled_from([b"\0", b"\xff", b"x"])) * min(size, len(raw) - at)
    path = restored(tmp_path_factory.mktemp("one"), bytes(raw))
    assert main(["verify", str(path)]) in (0, 1, 2)


# The command.


def pem(tmp_path: Path) -> str:
    file = tmp_path / "gate.pub.pem"
    file.write_bytes(PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return str(file)


def test_verify_says_that_a_journal_is_whole_in_korean_first(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(path), "--key", pem(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "온전합니다. / whole."


def test_verify_names_what_is_wrong_and_ends_with_1(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(path, ("DELETE FROM records WHERE seq IN (5, 6)", ()))
    assert main(["verify", str(path)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "기록 5-6: 없음 / record 5-6: missing"


@pytest.mark.parametrize("content", [None, b"", b"no database" * 1000])
def test_a_file_that_is_no_journal_ends_with_2(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.db"
    if content is not None:
        file.write_bytes(content)
    assert main(["verify", str(file)]) == 2
    assert capsys.readouterr().err.startswith("gwanmun: 저널을 쓸 수 없습니다")


def test_export_gives_the_exact_bytes_of_each_record_a_line(
    path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["export", str(path), "--from", "3", "--to", "5"]) == 0
    assert capfdbinary.readouterr().out == b"".join(event.raw + b"\n" for event in held(path)[2:5])


def test_what_was_exported_can_be_checked_with_nothing_but_sha_256(
    path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    main(["export", str(path)])
    lines = capfdbinary.readouterr().out.splitlines()
    assert len(lines) == COUNT + 1
    for before, line in itertools.pairwise(lines):
        assert json.loads(line)["prevhash"] == events.record_hash(before)


def test_export_as_a_table_has_one_row_for_each_record(path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["export", str(path), "--format", "csv", "--to", "2"]) == 0
    rows = list(csv.DictReader(io.StringIO(capfdbinary.readouterr().out.decode())))
    assert [(row["seq"], row["type"], row["lane"]) for row in rows] == [
        ("1", "alarm.forced", "lane-0"),
        ("2", "alarm.forced", "lane-1"),
    ]
