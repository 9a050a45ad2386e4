"""The store: each record once, the mark never over a hole, the chain checked on arrival."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller import chain, schema
from controller import store as store_module
from controller.batch import Batch, Committed, Poison
from controller.schema import SchemaError
from controller.store import Store
from protocol import events, packing
from protocol.events import Kind

Commit = Callable[..., Committed]


def test_acknowledges_the_last_record_without_a_hole_before_it(store: Store, journal: Any, commit: Commit) -> None:
    done = commit(store, *journal.write(3))
    assert done.acks == {"gate-1": journal.ack(3)}
    assert [stored.event.seq for stored in done.stored] == [1, 2, 3]
    assert [stored.arrival for stored in done.stored] == [1, 2, 3]


def test_the_mark_never_passes_a_hole(store: Store, journal: Any, commit: Commit) -> None:
    """An implementation that takes the highest sequence number as its mark would lose record 3 here."""
    first, second, third, fourth, fifth = journal.write(5)
    assert commit(store, first, second).acks == {"gate-1": journal.ack(2)}
    assert commit(store, fourth).acks == {"gate-1": journal.ack(2)}
    assert commit(store, fifth).acks == {"gate-1": journal.ack(2)}
    assert commit(store, third).acks == {"gate-1": journal.ack(5)}


def test_a_batch_with_a_hole_is_acknowledged_up_to_it_and_whole_when_it_is_filled(
    store: Store, journal: Any, commit: Commit
) -> None:
    records = journal.write(5)
    assert commit(store, packing.pack([*records[:2], *records[3:]])).acks == {"gate-1": journal.ack(2)}
    assert commit(store, packing.pack([records[2]])).acks == {"gate-1": journal.ack(5)}


def test_nothing_is_acknowledged_before_the_first_record(store: Store, journal: Any, commit: Commit) -> None:
    first, second = journal.write(2)
    assert commit(store, second).acks == {}
    assert commit(store, first).acks == {"gate-1": journal.ack(2)}


def test_the_mark_and_what_waits_behind_a_hole_outlive_a_restart(
    open_store: Callable[[], Store], journal: Any, commit: Commit
) -> None:
    first, second, third = journal.write(3)
    store = open_store()
    commit(store, first, third)
    store.close()
    again = open_store()
    assert again.acks() == {"gate-1": journal.ack(1)}
    assert commit(again, second).acks == {"gate-1": journal.ack(3)}


def test_a_repeated_record_is_stored_once_and_acknowledged_again(store: Store, journal: Any, commit: Commit) -> None:
    records = journal.write(3)
    commit(store, *records)
    again = commit(store, records[0])
    assert (again.stored, again.duplicates, again.acks) == ([], 1, {"gate-1": journal.ack(3)})
    assert len(store.events(0, 10)) == 3


def test_a_repetition_within_one_batch_is_stored_once(store: Store, journal: Any, commit: Commit) -> None:
    records = journal.write(2)
    done = commit(store, records[0], records[0], records[1], records[0])
    assert (len(done.stored), done.duplicates) == (2, 2)


@given(seed=st.integers(0, 2**32), size=st.integers(1, 40))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_order_with_any_repetition_in_any_batches_ends_whole(
    tmp_path_factory: pytest.TempPathFactory, new_journal: type[Any], commit: Commit, seed: int, size: int
) -> None:
    random, journal = Random(seed), new_journal()
    records = journal.write(size)
    sent = records + random.choices(records, k=size)
    random.shuffle(sent)
    store = Store(tmp_path_factory.mktemp("store") / "c.db", ZoneInfo("Asia/Seoul"))
    try:
        have: set[int] = set()
        while sent:
            take = random.randint(1, 9)
            some, sent = sent[:take], sent[take:]
            done = commit(store, *some)
            have |= {events.parse(each).seq for each in some}
            whole = next(seq for seq in range(size + 1) if seq + 1 not in have)
            assert done.acks == ({"gate-1": journal.ack(whole)} if whole else {})
        assert sorted(stored.event.raw for stored in store.events(0, 500)) == sorted(records)
        assert store.alarms() == []
    finally:
        store.close()


def test_a_record_that_does_not_fit_the_chain_stops_the_mark_and_raises_one_alarm(
    store: Store, journal: Any, commit: Commit
) -> None:
    good = journal.write(2)
    bad = journal.write(prevhash="ab" * 32)
    after = journal.write(2)
    commit(store, *good)
    done = commit(store, *bad)
    assert [(alarm.seq, alarm.what) for alarm in done.alarms] == [(3, "chain")]
    assert done.acks == {"gate-1": journal.ack(2)}
    assert commit(store, *after).acks == {"gate-1": journal.ack(2)}
    assert commit(store, *bad).alarms == []
    assert len(store.events(0, 10)) == 5
    assert [row.stopped for row in store.gates()] == [True]


def test_a_stopped_chain_stays_stopped_after_a_restart(
    open_store: Callable[[], Store], journal: Any, commit: Commit
) -> None:
    good, bad, after = journal.write(1), journal.write(prevhash="ab" * 32), journal.write(1)
    store = open_store()
    commit(store, *good, *bad)
    store.close()
    assert commit(open_store(), *after).acks == {"gate-1": journal.ack(1)}


def test_the_first_record_must_begin_the_chain(store: Store, journal: Any, commit: Commit) -> None:
    done = commit(store, *journal.write(prevhash="cd" * 32))
    assert done.acks == {}
    assert [alarm.what for alarm in done.alarms] == ["chain"]


def test_a_break_behind_a_hole_is_seen_on_arrival_and_stops_the_mark_there(
    store: Store, journal: Any, commit: Commit
) -> None:
    first, second, third = journal.write(3)
    bad = journal.write(prevhash="ab" * 32)
    assert [alarm.seq for alarm in commit(store, first, third, *bad).alarms] == [4]
    assert commit(store, second).acks == {"gate-1": journal.ack(3)}
    assert [alarm.seq for alarm in store.alarms()] == [4]


def test_other_bytes_under_a_known_number_raise_an_alarm_and_replace_nothing(
    store: Store, new_journal: type[Any], commit: Commit
) -> None:
    true, forged = new_journal(), new_journal()
    commit(store, *true.write(2))
    done = commit(store, *forged.write(2, reason="expired"))
    assert [(alarm.seq, alarm.what) for alarm in done.alarms] == [(1, "conflict"), (2, "conflict")]
    assert [stored.event.raw for stored in store.events(0, 10)] == true.records
    assert done.acks == {"gate-1": true.ack(2)}


def test_epochs_of_a_gate_are_independent_and_the_acknowledgement_names_its_own(
    store: Store, new_journal: type[Any], commit: Commit
) -> None:
    old, new = new_journal(epoch="e1"), new_journal(epoch="e2")
    commit(store, *old.write(3))
    assert commit(store, *new.write(1)).acks == {"gate-1": new.ack(1)}
    assert store.acks() == {"gate-1": new.ack(1)}
    late = commit(store, old.records[0])
    assert (late.acks, late.earlier_acks) == ({}, [("gate-1", old.ack(3))])
    assert store.acks() == {"gate-1": new.ack(1)}
    assert {row.gate: row.mark for row in store.gates()} == {"gate-1": 1}


def test_a_gate_that_invents_epochs_is_set_aside(store: Store, new_journal: type[Any], commit: Commit) -> None:
    for number in range(chain.MAX_EPOCHS):
        commit(store, *new_journal(epoch=f"e{number}").write(1))
    done = commit(store, *new_journal(epoch="one-more").write(1))
    assert (done.stored, done.acks) == ([], {})
    assert [row["reason"] for row in store.poison()] == ["too_many_epochs"]


def test_a_failed_commit_changes_nothing_in_memory_either(
    store: Store, journal: Any, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = journal.write(2)
    commit(store, first)

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_count", full)
        with pytest.raises(sqlite3.OperationalError):
            commit(store, second)
    assert store.acks() == {"gate-1": journal.ack(1)}
    done = commit(store, second)
    assert (done.acks, [stored.arrival for stored in done.stored]) == ({"gate-1": journal.ack(2)}, [2])


def test_a_commit_that_fails_half_way_leaves_nothing_for_the_next(
    store: Store, journal: Any, new_journal: type[Any], commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(store, *journal.write(1))
    other = new_journal(epoch="e2")
    day = store._day

    def fails_at_the_second(time: str) -> str:
        if time.endswith("02.000Z"):
            raise sqlite3.OperationalError("disk I/O error")
        return day(time)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_day", fails_at_the_second)
        with pytest.raises(sqlite3.OperationalError):
            commit(store, *other.write(2))
    assert store.epochs("gate-1") == [("e1", 1, None)]
    third = new_journal(epoch="e3")
    assert commit(store, *third.write(1)).acks == {"gate-1": third.ack(1)}
    assert [len(store.events(0, 9)), store.standings().keys()] == [2, {("gate-1", "e1"), ("gate-1", "e3")}]


def test_an_acknowledged_record_that_retention_has_removed_is_not_stored_again(
    store: Store, journal: Any, commit: Commit
) -> None:
    commit(store, *journal.write(3))
    store._connection.execute("DELETE FROM events WHERE seq = 1")
    done = commit(store, journal.records[0])
    assert (done.stored, done.duplicates, done.alarms) == ([], 1, [])


def test_a_message_set_aside_is_kept_once_and_counted(store: Store, now: Any) -> None:
    poison = Poison("pacs/1/hq/gate-1/evt", "not_an_event", b"x" * 1000)
    for _ in range(3):
        store.commit(Batch(poison=[poison]), now)
    [row] = store.poison()
    assert (row["count"], row["size"], len(row["head"])) == (3, 1000, store_module.POISON_HEAD_BYTES)
    assert store.counts("") == {"poison.not_an_event": 3}


def test_poison_is_one_alarm_for_each_gate_and_reason(store: Store, now: Any) -> None:
    def alarms(*poison: Poison) -> list[tuple[str, str]]:
        return [(alarm.gate, alarm.why) for alarm in store.commit(Batch(poison=poison), now).alarms]

    evt = "pacs/1/hq/gate-1/evt"
    assert alarms(Poison(evt, "not_an_event", b"a"), Poison(evt, "not_an_event", b"b")) == [("gate-1", "not_an_event")]
    assert alarms(Poison(evt, "not_an_event", b"c"), Poison(evt, "bad_time", b"d")) == [("gate-1", "bad_time")]
    assert alarms(Poison("x", "bad_topic", b"")) == [("", "bad_topic")]


def test_alarms_are_bounded(store: Store, now: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_ALARMS", 3)
    poison = [Poison(f"pacs/1/hq/gate-{number}/evt", "not_an_event", b"") for number in range(9)]
    assert len(store.commit(Batch(poison=poison), now).alarms) == 3
    assert len(store.alarms()) == 3


def test_what_is_set_aside_is_bounded_per_topic_and_the_first_stay(store: Store, now: Any) -> None:
    for number in range(store_module.MAX_POISON_PER_TOPIC + 20):
        store.commit(Batch(poison=[Poison("t", "not_an_event", b"%d" % number)]), now)
    kept = store.poison()
    assert len(kept) == store_module.MAX_POISON_PER_TOPIC
    assert {row["head"] for row in kept} == {b"%d" % number for number in range(store_module.MAX_POISON_PER_TOPIC)}
    assert store.counts("")["poison.not_an_event"] == store_module.MAX_POISON_PER_TOPIC + 20


def test_events_are_paged_in_order_of_arrival(store: Store, journal: Any, commit: Commit) -> None:
    first, second, third = journal.write(3)
    for record in (third, first, second):
        commit(store, record)
    assert [stored.event.seq for stored in store.events(0, 2)] == [3, 1]
    assert [stored.event.seq for stored in store.events(2, 2)] == [2]


def test_counts_are_by_the_sites_own_day(store: Store, journal: Any, commit: Commit) -> None:
    commit(store, *journal.write(2), *journal.write(1, kind=Kind.ACCESS_DENIED, reason="expired"))
    # 09:00 UTC is 18:00 in Seoul, the same day.
    assert store.counts("2026-11-24") == {"access.granted": 2, "access.denied": 1}


def test_hostile_words_in_data_stay_in_the_raw_bytes_only(
    store: Store, journal: Any, commit: Commit, tmp_path: Path
) -> None:
    commit(store, *journal.write(1, lane="'; DROP TABLE events; --", reason=["a"], carrier="x" * 500))
    with sqlite3.connect(tmp_path / "controller.db") as db:
        row = db.execute("SELECT lane, reason, carrier, raw FROM events").fetchone()
    db.close()
    assert row == (None, None, None, journal.records[0])


def test_the_database_is_durable_and_private(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    assert path.stat().st_mode & 0o077 == 0
    connection = store._db.conn
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_database_of_version_1_keeps_its_records_marks_and_alarms(
    open_store: Callable[[], Store], journal: Any, new_journal: type[Any], commit: Commit, tmp_path: Path
) -> None:
    other = new_journal("gate-2", "e7")
    records, others = journal.write(4), other.write(2)
    with closing(sqlite3.connect(tmp_path / "controller.db")) as db:
        db.executescript(
            "CREATE TABLE schema_version (version INTEGER NOT NULL); INSERT INTO schema_version VALUES (1);"
        )
        db.executescript(schema.STEPS[0])
        for arrival, raw in enumerate((records[1], records[3], others[0], records[0]), 1):
            event = events.parse(raw)
            row = (event.gate, event.epoch, event.seq, arrival, event.time, event.kind, "l1", None, None, None, raw)
            db.execute("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?)", row)
        marks = (("gate-1", "e1", 2, journal.ack(2).hash, 0), ("gate-2", "e7", 1, other.ack(1).hash, 0))
        db.executemany("INSERT INTO chains VALUES (?,?,?,?,?)", marks)
        db.execute("INSERT INTO gates VALUES ('gate-1', 'e1', '7-aa', 1, '2026-11-24T09:00:00.000Z')")
        db.execute("INSERT INTO gates VALUES ('gate-2', 'e7', NULL, NULL, '2026-11-24T09:00:00.000Z')")
        db.execute("INSERT INTO alarms VALUES ('gate-2', 'e7', 1, 'conflict', '2026-11-24T09:00:00.000Z')")
        db.commit()
    store = open_store()
    assert [stored.event.raw for stored in store.events(0, 9)] == [records[1], records[3], others[0], records[0]]
    assert [(alarm.gate, alarm.what, alarm.why) for alarm in store.alarms()] == [("gate-2", "conflict", "")]
    assert commit(store, records[2], records[0]).acks == {"gate-1": journal.ack(4)}
    assert commit(store, others[1], gate="gate-2").acks == {"gate-2": other.ack(2)}
    assert [stored.arrival for stored in store.events(4, 9)] == [5, 6]


def test_a_database_of_a_newer_version_is_refused(open_store: Callable[[], Store], tmp_path: Path) -> None:
    open_store().close()
    with sqlite3.connect(tmp_path / "controller.db") as db:
        db.execute("INSERT INTO schema_version VALUES (?)", [len(schema.STEPS) + 1])
    db.close()
    with pytest.raises(SchemaError):
        open_store()
