"""The count at the end of a chaos run finds each kind of deviation: what it cannot see, no run can show."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocol import events
from protocol.events import Kind
from testbed.chaos.compare import (
    Difference,
    Held,
    Promise,
    Stored,
    What,
    compare,
    count_store,
    read_journals,
    read_store,
    untold,
    waiting,
)

START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
Body = tuple[Kind, dict[str, Any]]


def passages(count: int) -> list[Body]:
    return [(Kind.ACCESS_GRANTED, {"lane": "l", "dir": "in", "attempt": f"a{number}"}) for number in range(count)]


def journal(bodies: list[Body], epoch: str = "e1", begin: datetime = START) -> list[Held]:
    """A journal as the product writes it: gapless, each record with the hash of the one before."""
    rows: list[Held] = []
    for seq, (kind, data) in enumerate(bodies, 1):
        raw = events.build(
            site="s",
            gate="g",
            epoch=epoch,
            seq=seq,
            kind=kind,
            time=begin + timedelta(seconds=seq),
            prevhash=rows[-1].hash if rows else events.GENESIS,
            data=data,
        )
        rows.append(Held(epoch, seq, raw, events.record_hash(raw)))
    return rows


def whole(rows: list[Held]) -> list[Stored]:
    return [Stored(row.epoch, row.seq, row.raw) for row in rows if row.raw is not None]


def promised(rows: list[Held]) -> list[Promise]:
    return [Promise(row.epoch, row.seq, row.hash) for row in rows]


def only(what: What, *seqs: int, epoch: str = "e1") -> list[Difference]:
    return [Difference(what, epoch, seq) for seq in seqs]


def gap(**data: Any) -> Body:
    return Kind.LOG_GAP, data


def test_journal_store_and_promises_that_agree_have_no_difference() -> None:
    rows = journal(passages(5))
    found = compare(rows, whole(rows), promised(rows))
    assert found.agrees
    assert (found.records, found.stored, found.promises, found.lost, found.doubled) == (5, 5, 5, 0, 0)


@given(count=st.integers(1, 12), data=st.data())
def test_whatever_is_missing_in_the_store_is_lost(count: int, data: st.DataObject) -> None:
    rows = journal(passages(count))
    gone = data.draw(st.sets(st.sampled_from(range(1, count + 1)), min_size=1))
    found = compare(rows, [row for row in whole(rows) if row.seq not in gone])
    assert list(found.differences) == only(What.LOST, *sorted(gone))
    assert found.lost == len(gone)


@given(count=st.integers(1, 12), data=st.data())
def test_any_changed_byte_in_the_store_is_told_with_its_number(count: int, data: st.DataObject) -> None:
    rows = journal(passages(count))
    stored = whole(rows)
    at = data.draw(st.integers(0, count - 1))
    raw = bytearray(stored[at].raw)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    stored[at] = Stored("e1", at + 1, bytes(raw))
    assert list(compare(rows, stored).differences) == only(What.ALTERED, at + 1)


def test_a_row_that_is_there_twice_is_doubled() -> None:
    rows = journal(passages(3))
    found = compare(rows, [*whole(rows), whole(rows)[1]])
    assert list(found.differences) == only(What.DOUBLED, 2)
    assert found.doubled == 1


def test_one_record_under_two_numbers_is_doubled_though_each_number_is_there_once() -> None:
    rows = journal(passages(3))
    found = compare(rows, [*whole(rows), Stored("e1", 4, whole(rows)[2].raw)])
    assert Difference(What.DOUBLED, "e1", 4) in found.differences


def test_a_record_that_was_never_in_the_journal_is_foreign() -> None:
    rows, more = journal(passages(3)), journal(passages(4))
    assert list(compare(rows, whole(more)).differences) == only(What.FOREIGN, 4)


def test_a_number_that_nobody_holds_and_nothing_explains_is_a_hole() -> None:
    rows = [row for row in journal(passages(5)) if row.seq != 3]
    assert list(compare(rows, whole(rows)).differences) == only(What.HOLE, 3)


def test_a_hole_that_a_log_gap_names_is_explained() -> None:
    rows = journal([*passages(5), gap(**{"from": 2, "to": 3})])
    rows = [row for row in rows if row.seq not in {2, 3}]
    found = compare(rows, whole(rows))
    assert (found.agrees, found.explained) == (True, 2)


def test_a_log_gap_explains_only_what_it_names() -> None:
    rows = [row for row in journal([*passages(5), gap(**{"from": 2, "to": 3})]) if row.seq not in {2, 3, 4}]
    assert list(compare(rows, whole(rows)).differences) == only(What.HOLE, 4)


def test_what_is_left_of_a_given_up_record_needs_an_explanation_too() -> None:
    def given_up(rows: list[Held]) -> list[Held]:
        return [Held(row.epoch, row.seq, None, row.hash) if row.seq == 2 else row for row in rows]

    explained = given_up(journal([*passages(3), gap(**{"from": 2, "to": 2})]))
    assert compare(explained, whole(explained), promised(explained)).agrees
    silent = given_up(journal(passages(3)))
    assert list(compare(silent, whole(silent)).differences) == only(What.HOLE, 2)


def test_pruned_records_live_on_in_the_store_and_are_lost_where_it_has_them_not() -> None:
    full = journal([*passages(5), (Kind.JOURNAL_PRUNED, {"from": 1, "to": 3})])
    kept = [row for row in full if row.seq > 3]
    good = compare(kept, whole(full), promised(full))
    assert (good.agrees, good.explained) == (True, 3)
    bad = compare(kept, [row for row in whole(full) if row.seq != 2], promised(full))
    assert [each.what for each in bad.differences] == [What.LOST, What.FORGOTTEN]


def test_a_second_epoch_has_to_begin_with_a_log_gap() -> None:
    first = journal(passages(2))
    later = START + timedelta(hours=1)
    silent = journal(passages(2), "e2", later)
    assert list(compare([*first, *silent], whole([*first, *silent])).differences) == only(What.EPOCH, 1, epoch="e2")
    told = journal([gap(why="damaged"), *passages(1)], "e2", later)
    assert compare([*first, *told], whole([*first, *told])).agrees


def test_a_journal_whose_chain_is_broken_is_told_though_the_store_has_the_same_bytes() -> None:
    rows, others = journal(passages(4)), journal(passages(4), begin=START + timedelta(days=1))
    mixed = [*rows[:2], others[2], others[3]]
    assert list(compare(mixed, whole(mixed)).differences) == only(What.CHAIN, 3)


def test_a_promised_record_that_the_journal_does_not_hold_is_forgotten() -> None:
    rows = journal(passages(3))
    found = compare(rows[:2], whole(rows[:2]), promised(rows))
    assert list(found.differences) == only(What.FORGOTTEN, 3)
    assert found.lost == 1


def test_a_promised_record_with_other_bytes_is_forgotten() -> None:
    rows = journal(passages(2))
    promises = [promised(rows)[0], Promise("e1", 2, events.record_hash(b"other"))]
    assert list(compare(rows, whole(rows), promises).differences) == only(What.FORGOTTEN, 2)


def test_a_refusal_is_told_by_a_record_or_by_the_count_of_a_log_gap() -> None:
    denied = (Kind.ACCESS_DENIED, {"attempt": "a1", "reason": "record_unavailable"})
    rows = journal([denied, gap(why="disk full", dropped=1, refused=1)])
    assert untold(rows, ["a1", "a2", "a3"]) == 0
    assert untold(rows, ["a1", "a2", "a3", "a4"]) == 1
    assert compare(rows, whole(rows)).told == 2


def test_both_databases_and_files_that_were_set_aside_are_read(tmp_path: Path) -> None:
    first, second = journal(passages(2)), journal([gap(why="damaged"), *passages(1)], "e2")
    for name, rows in (("journal-20261124.damaged", first), ("journal.db", second)):
        with closing(sqlite3.connect(tmp_path / name)) as db:
            db.execute("CREATE TABLE meta (key, value)")
            db.execute("INSERT INTO meta VALUES ('epoch', ?)", (rows[0].epoch,))
            db.execute("CREATE TABLE records (seq, raw, hash)")
            db.executemany("INSERT INTO records VALUES (?, ?, ?)", [(row.seq, row.raw, row.hash) for row in rows])
            db.execute("CREATE TABLE outbox (seq)")
            db.execute("CREATE TABLE salvaged (epoch, seq)")
            db.execute("INSERT INTO outbox VALUES (2)")
            db.execute("INSERT INTO salvaged VALUES ('e1', 1)")
            db.commit()
    with closing(sqlite3.connect(tmp_path / "controller.db")) as db:
        db.execute("CREATE TABLE events (gate, epoch, seq, raw)")
        stored = [(row.epoch, row.seq, row.raw) for row in whole([*first, *second])]
        db.executemany("INSERT INTO events VALUES ('g', ?, ?, ?)", stored)
        db.execute("INSERT INTO events VALUES ('other', 'e1', 1, x'00')")
        db.commit()
    assert compare(read_journals(tmp_path), read_store(tmp_path / "controller.db", "g")).agrees
    assert waiting(tmp_path) == 2
    assert count_store(tmp_path / "controller.db", "g") == 4
