"""Holes: never skipped unless the gate itself has signed what will not come; checkpoints and epochs are looked at on arrival."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from controller.batch import Alarm, Committed, What
from controller.store import Store
from protocol.events import Kind
from protocol.statement import Purpose


def nobody(_gate: str) -> None:
    """No gate is enrolled."""


Commit = Callable[..., Committed]
STRANGER = ec.generate_private_key(ec.SECP256R1())


def whats(done: Committed) -> list[tuple[int, str]]:
    return [(alarm.seq, alarm.what) for alarm in done.alarms]


@pytest.mark.parametrize("purpose", [Purpose.GAP, Purpose.PRUNED])
def test_the_mark_passes_a_hole_that_the_gate_explains(
    store: Store, journal: Any, commit: Commit, purpose: Purpose
) -> None:
    records = journal.write(6)
    statement = journal.state(purpose, 3, 5)
    assert commit(store, *records[:2], records[5]).acks == {"gate-1": journal.ack(2)}
    assert commit(store, statement).acks == {"gate-1": journal.ack(7)}
    assert store.gaps("gate-1") == [("e1", 3, 5, purpose.value)]


def test_what_was_pruned_and_is_not_held_was_lost_here_and_is_an_alarm(
    store: Store, journal: Any, commit: Commit
) -> None:
    records = journal.write(6)
    done = commit(store, *records[:2], records[5], journal.state(Purpose.PRUNED, 1, 5))
    assert [(alarm.seq, alarm.what, alarm.why) for alarm in done.alarms] == [(3, "hole", "3-5")]


def test_what_was_pruned_and_is_held_is_no_hole(store: Store, journal: Any, commit: Commit) -> None:
    done = commit(store, *journal.write(5), journal.state(Purpose.PRUNED, 1, 4))
    assert (done.acks, done.alarms, store.gaps("gate-1")) == ({"gate-1": journal.ack(6)}, [], [])


def test_a_statement_that_came_before_the_hole_is_reached_counts_when_it_is(
    store: Store, journal: Any, commit: Commit
) -> None:
    records = journal.write(8)
    assert commit(store, records[0], journal.state(Purpose.GAP, 4, 6)).acks == {"gate-1": journal.ack(1)}
    assert commit(store, *records[6:8]).acks == {"gate-1": journal.ack(1)}
    assert commit(store, records[2]).acks == {"gate-1": journal.ack(1)}
    assert commit(store, records[1]).acks == {"gate-1": journal.ack(9)}


def test_an_explained_hole_outlives_a_restart(open_store: Callable[[], Store], journal: Any, commit: Commit) -> None:
    records = journal.write(6)
    store = open_store()
    commit(store, records[0], journal.state(Purpose.GAP, 3, 5))
    store.close()
    again = open_store()
    assert commit(again, records[5]).acks == {"gate-1": journal.ack(1)}
    assert commit(again, records[1]).acks == {"gate-1": journal.ack(7)}


def test_a_record_from_inside_an_explained_hole_is_still_stored(store: Store, journal: Any, commit: Commit) -> None:
    records = journal.write(6)
    commit(store, *records[:2], records[5], journal.state(Purpose.GAP, 3, 5))
    done = commit(store, records[3], records[4], records[3])
    assert ([stored.event.seq for stored in done.stored], done.duplicates, done.alarms) == ([4, 5], 1, [])
    assert done.acks == {"gate-1": journal.ack(7)}


def test_another_record_inside_an_explained_hole_breaks_the_chain(
    store: Store, journal: Any, new_journal: type[Any], commit: Commit
) -> None:
    forged = new_journal()
    forged.write(5, reason="expired")
    records = journal.write(6)
    commit(store, *records[:2], records[5], journal.state(Purpose.GAP, 3, 5))
    assert whats(commit(store, forged.records[4])) == [(6, "chain"), (5, "chain")]


def test_the_record_behind_an_explained_hole_must_fit_it(store: Store, journal: Any, commit: Commit) -> None:
    records = journal.write(3)
    wrong = journal.state(Purpose.GAP, 2, 2, hash="ab" * 32)
    done = commit(store, records[0], records[2], wrong)
    assert whats(done) == [(3, "chain")]
    assert [row.stopped for row in store.gates()] == [True]
    before = store.acks()
    assert commit(store, *journal.write(1)).acks == before


def test_a_hole_that_ends_in_another_record_than_is_held_stops_the_mark(
    store: Store, journal: Any, commit: Commit
) -> None:
    records = journal.write(4)
    done = commit(store, records[0], records[2], records[3], journal.state(Purpose.GAP, 2, 3, hash="ab" * 32))
    assert whats(done) == [(3, "chain")]
    assert done.acks == {"gate-1": journal.ack(1)}


def test_a_journal_whose_beginning_is_gone_is_taken_from_where_it_begins(
    store: Store, journal: Any, commit: Commit
) -> None:
    records = journal.write(4)
    done = commit(store, *records[2:], journal.state(Purpose.PRUNED, 1, 2))
    assert done.acks == {"gate-1": journal.ack(5)}


@pytest.mark.parametrize(
    "changes",
    [{"site": "elsewhere"}, {"gate": "gate-2"}, {"epoch": "e 1"}],
    ids=["another site", "another gate", "no epoch"],
)
def test_a_statement_about_something_else_explains_nothing(
    store: Store, journal: Any, commit: Commit, changes: dict[str, str]
) -> None:
    records = journal.write(4)
    done = commit(store, records[0], records[3], journal.state(Purpose.GAP, 2, 3, **changes))
    assert (done.acks, whats(done)) == ({"gate-1": journal.ack(1)}, [(5, "statement")])


def test_a_statement_that_another_key_has_signed_explains_nothing(store: Store, journal: Any, commit: Commit) -> None:
    records = journal.write(4)
    done = commit(store, records[0], records[3], journal.state(Purpose.GAP, 2, 3, key=STRANGER))
    assert (done.acks, whats(done)) == ({"gate-1": journal.ack(1)}, [(5, "statement")])


def test_a_gate_that_is_not_enrolled_explains_nothing_and_that_is_said_once(
    store: Store, journal: Any, commit: Commit
) -> None:
    records = journal.write(4)
    done = commit(store, records[0], records[3], journal.state(Purpose.GAP, 2, 3), keys=nobody)
    assert (done.acks, whats(done)) == ({"gate-1": journal.ack(1)}, [(0, "not_enrolled")])
    assert commit(store, journal.state(Purpose.CHECKPOINT, 1, 5), keys=nobody).alarms == []


def test_a_gap_without_numbers_needs_no_signature(store: Store, journal: Any, commit: Commit) -> None:
    done = commit(store, *journal.write(1, Kind.LOG_GAP, dropped=7, why="journal"), keys=nobody)
    assert (done.acks, done.alarms) == ({"gate-1": journal.ack(1)}, [])


def test_a_checkpoint_that_holds_is_silent(store: Store, journal: Any, commit: Commit) -> None:
    done = commit(store, *journal.write(3), journal.state(Purpose.CHECKPOINT, 1, 3))
    assert (done.acks, done.alarms) == ({"gate-1": journal.ack(4)}, [])


@pytest.mark.parametrize(
    "changes",
    [{"hash": "ab" * 32}, {"last": 2}, {"epoch": "e2"}, {"gate": "gate-2"}, {"site": "x"}, {"key": STRANGER}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_bad_checkpoint_is_stored_and_is_an_alarm(
    store: Store, journal: Any, commit: Commit, changes: dict[str, Any]
) -> None:
    done = commit(store, *journal.write(3), journal.state(Purpose.CHECKPOINT, 1, 3, **changes))
    assert (done.acks, whats(done)) == ({"gate-1": journal.ack(4)}, [(4, "checkpoint")])


def test_a_checkpoint_without_a_signature_is_a_bad_one(store: Store, journal: Any, commit: Commit) -> None:
    assert whats(commit(store, *journal.write(1, Kind.JOURNAL_CHECKPOINT))) == [(1, "checkpoint")]


# Epochs


def test_a_new_epoch_that_names_the_one_before_is_listed_without_an_alarm(
    store: Store, new_journal: type[Any], commit: Commit
) -> None:
    old, new = new_journal(epoch="e1"), new_journal(epoch="e2")
    commit(store, *old.write(3))
    done = commit(store, *new.write(1, Kind.LOG_GAP, epoch="e1", to=3, why="damaged"), *new.write(1))
    assert (done.alarms, done.acks) == ([], {"gate-1": new.ack(2)})
    assert store.epochs("gate-1") == [("e1", 3, None), ("e2", 2, "e1")]


@pytest.mark.parametrize("named", [None, "e9", 7, ["e1"]])
def test_a_new_epoch_that_does_not_is_an_alarm(
    store: Store, new_journal: type[Any], commit: Commit, named: object
) -> None:
    old, new = new_journal(epoch="e1"), new_journal(epoch="e2")
    commit(store, *old.write(3))
    done = commit(store, *new.write(1, Kind.LOG_GAP, epoch=named))
    assert done.alarms == [Alarm("gate-1", "e2", 1, What.NEW_EPOCH, done.alarms[0].time)]
    assert done.acks == {"gate-1": new.ack(1)}


def test_a_new_epoch_whose_beginning_is_gone_is_an_alarm(store: Store, new_journal: type[Any], commit: Commit) -> None:
    old, new = new_journal(epoch="e1"), new_journal(epoch="e2")
    commit(store, *old.write(3))
    new.write(4)
    done = commit(store, new.records[3], new.state(Purpose.GAP, 1, 3))
    assert whats(done) == [(1, "new_epoch")]


def test_the_first_epoch_of_a_gate_is_no_news(store: Store, journal: Any, commit: Commit) -> None:
    assert commit(store, *journal.write(1)).alarms == []


def test_records_that_were_saved_from_an_earlier_epoch_are_acknowledged_beside_the_current_one(
    store: Store, new_journal: type[Any], commit: Commit
) -> None:
    old, new = new_journal(epoch="e1"), new_journal(epoch="e2")
    old.write(4)
    commit(store, *old.records[:2])
    commit(store, *new.write(1, Kind.LOG_GAP, epoch="e1", to=4))
    done = commit(store, *old.records[2:], *new.write(2))
    assert (done.acks, done.earlier_acks) == ({"gate-1": new.ack(3)}, [("gate-1", old.ack(4))])
    assert store.acks() == {"gate-1": new.ack(3)}


def test_an_earlier_epoch_that_comes_after_the_one_that_names_it_is_no_news_and_not_current(
    store: Store, new_journal: type[Any], commit: Commit
) -> None:
    first, old, new = new_journal(epoch="e0"), new_journal(epoch="e1"), new_journal(epoch="e2")
    commit(store, *first.write(1), *old.write(1, Kind.LOG_GAP, epoch="e0"))
    commit(store, *new.write(1, Kind.LOG_GAP, epoch="e1"))
    assert commit(store, *old.write(1)).earlier_acks == [("gate-1", old.ack(2))]
    assert store.acks() == {"gate-1": new.ack(1)}


def test_a_statement_of_the_current_epoch_explains_the_end_of_an_earlier_one(
    store: Store, new_journal: type[Any], commit: Commit
) -> None:
    old, new = new_journal(epoch="e1"), new_journal(epoch="e2")
    old.write(4)
    new.write(1, Kind.LOG_GAP, epoch="e1", to=4)
    commit(store, old.records[0], old.records[3], *new.records)
    lost = new.state(Purpose.GAP, 1, 1, epoch="e1", first=2, last=3, hash=old.ack(3).hash)
    done = commit(store, lost)
    assert (done.acks, done.earlier_acks) == ({"gate-1": new.ack(2)}, [("gate-1", old.ack(4))])


# Schemas side by side


def test_records_of_older_and_newer_schemas_are_kept_in_one_chain(store: Store, journal: Any, commit: Commit) -> None:
    journal.write(1, v=1)
    journal.write(1)
    newer = journal.write(2, v=3, lane={"id": "l1"}, reason=7)
    done = commit(store, *journal.records)
    assert done.acks == {"gate-1": journal.ack(4)}
    assert [(alarm.epoch, alarm.seq, alarm.what) for alarm in done.alarms] == [("", 3, "newer_schema")]
    assert [stored.event.raw for stored in store.events(2, 9)] == newer
    assert whats(commit(store, *journal.write(1, v=3), *journal.write(1, v=4))) == [(4, "newer_schema")]
