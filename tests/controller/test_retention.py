"""Retention: what is past its days goes, with proof, and nothing of it is left in the files; what should stay stays."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from controller import deletions, retention
from controller.batch import Committed
from controller.deletions import GENESIS, broken, fold
from controller.retention import CLASSES, Kept, Retention, class_of
from controller.site_time import EARLY, LATE, Window
from controller.store import Store
from protocol import events
from protocol.command import Operator
from protocol.events import TIMED, Kind

Commit = Callable[..., Committed]
START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
SEOUL = ZoneInfo("Asia/Seoul")
DAY = timedelta(days=1)


def tend(store: Store, now: datetime) -> dict[str, int]:
    """What upkeep does: count all, remove what is due at `now`, erase. Gives what was removed."""
    window = Window(now - LATE, now + EARLY, now)
    while store.rollups.step(window).rows:
        pass
    removed: dict[str, int] = {}
    for what, n in store.removal.run(now, lambda: now):
        removed[what] = removed.get(what, 0) + n
    part: int | None = 1
    while part is not None:
        part = store.erasure.part(part)
    return removed


def proofs(store: Store) -> list[deletions.Deletion]:
    return list(deletions.every(store._db))


def kinds(store: Store) -> list[str]:
    return [str(stored.event.kind) for stored in store.events(0, 10_000)]


def test_every_kind_of_the_event_table_is_in_exactly_one_class() -> None:
    for kind in Kind:
        assert [kept for kept, kinds in CLASSES.items() if kind in kinds] == [class_of(kind)], kind
    assert CLASSES[Kept.DETAIL] == TIMED


def test_an_unknown_kind_is_kept_the_shortest_unless_it_is_an_alarm() -> None:
    assert class_of("lift.called") is Kept.DETAIL
    assert class_of("alarm.flood") is Kept.ALARMS


def test_each_class_goes_after_its_own_days(store: Store, journal: Any, commit: Commit) -> None:
    for kind in Kind:
        commit(store, *journal.write(1, kind=kind))
    tend(store, START + 6 * DAY)
    assert len(kinds(store)) == len(Kind)
    tend(store, START + 8 * DAY)
    assert set(kinds(store)) == set(Kind) - TIMED
    tend(store, START + 91 * DAY)
    assert set(kinds(store)) == CLASSES[Kept.ALARMS] | CLASSES[Kept.OPERATORS]
    tend(store, START + 366 * DAY)
    assert set(kinds(store)) == CLASSES[Kept.OPERATORS]
    tend(store, START + 731 * DAY)
    assert kinds(store) == []


def test_what_is_removed_stays_counted(store: Store, journal: Any, commit: Commit) -> None:
    commit(store, *journal.write(40))
    tend(store, START + 8 * DAY)
    assert kinds(store) == []
    [[n]] = store._connection.execute("SELECT sum(n) FROM quarters").fetchall()
    assert n == 40


def test_nothing_is_removed_before_it_is_counted(store: Store, journal: Any, commit: Commit) -> None:
    commit(store, *journal.write(5))
    now = START + 30 * DAY
    store.rollups.step(Window(now - LATE, now, now), limit=2)
    assert list(store.removal.run(now, lambda: now)) == [("access.granted", 2)]
    assert len(kinds(store)) == 3


def test_a_record_behind_a_hole_stays_until_the_hole_is_filled(store: Store, journal: Any, commit: Commit) -> None:
    first, second, third = journal.write(3)
    commit(store, first, third)
    now = START + 8 * DAY
    assert tend(store, now) == {"access.granted": 1}
    assert store.removal.overdue(now) == 1
    assert commit(store, second).acks == {"gate-1": journal.ack(3)}
    assert tend(store, now) == {"access.granted": 2}
    assert store.removal.overdue(now) == 0
    assert store.alarms() == []


def test_marks_and_acknowledgements_are_untouched_and_the_chain_goes_on(
    open_store: Callable[[], Store], journal: Any, commit: Commit
) -> None:
    store = open_store()
    commit(store, *journal.write(3))
    tend(store, START + 8 * DAY)
    assert store.acks() == {"gate-1": journal.ack(3)}
    store.close()
    store = open_store()
    assert store.acks() == {"gate-1": journal.ack(3)}
    done = commit(store, *journal.write(1))
    assert done.acks == {"gate-1": journal.ack(4)}
    assert done.alarms == []


def test_a_gate_that_sends_again_what_was_removed_does_not_bring_it_back(
    store: Store, journal: Any, commit: Commit
) -> None:
    records = journal.write(6)
    commit(store, *records)
    tend(store, START + 8 * DAY)
    again = commit(store, *records)
    assert (again.stored, again.duplicates, again.acks) == ([], 6, {"gate-1": journal.ack(6)})
    tend(store, START + 8 * DAY)
    assert store._connection.execute("SELECT sum(n) FROM quarters").fetchone() == (6,)


def test_no_place_in_the_order_of_arrival_is_given_twice(
    open_store: Callable[[], Store], journal: Any, commit: Commit
) -> None:
    """Else whoever keeps a place, such as the counting itself, would miss what came after a restart."""
    store = open_store()
    commit(store, *journal.write(5))
    tend(store, START + 8 * DAY)
    store.close()
    store = open_store()
    assert [stored.arrival for stored in commit(store, *journal.write(1)).stored] == [6]
    tend(store, START + DAY)
    assert store._connection.execute("SELECT sum(n) FROM quarters").fetchone() == (6,)


@pytest.mark.parametrize("named", ["2000-01-01T00:00:00.000Z", "2199-12-31T23:59:59.999Z"])
def test_a_record_of_a_wrong_clock_is_neither_removed_at_once_nor_kept_for_ever(
    store: Store, new_journal: type[Any], commit: Commit, named: str
) -> None:
    journal = new_journal()
    [record] = journal.write(1)
    body = json.loads(record)
    body["time"] = named
    commit(store, json.dumps(body, separators=(",", ":")).encode())
    assert "access.granted" not in tend(store, START + timedelta(minutes=1))
    assert tend(store, START + 6 * DAY) == {}
    assert tend(store, START + 8 * DAY) == {"access.granted": 1}
    assert store._connection.execute("SELECT count(*) FROM misdated").fetchone() == (0,)


def test_what_was_noted_by_a_clock_that_was_ahead_is_not_kept_until_then(
    store: Store, new_journal: type[Any], commit: Commit
) -> None:
    [record] = new_journal().write(1)
    commit(store, record.replace(b"2026-11-24T", b"2000-11-24T"))
    ahead = START + 3000 * DAY
    store.rollups.step(Window(START - LATE, ahead, ahead))
    tend(store, START)
    assert tend(store, START + 6 * DAY) == {}
    assert tend(store, START + 8 * DAY) == {"access.granted": 1}


def test_each_class_and_run_leaves_one_proof_in_a_chain(
    store: Store, journal: Any, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS", 2)
    passages, refusals = journal.write(5), journal.write(3, kind=Kind.ACCESS_DENIED)
    commit(store, *passages, *refusals)
    tend(store, START + 8 * DAY)
    tend(store, START + 100 * DAY)
    found = proofs(store)
    assert [(row.what, row.n) for row in found] == [("detail", 5), ("refusals", 3)]
    assert found[0].before == "2026-11-24T15:00:00.000Z"  # midnight in Seoul
    assert found[0].digest == fold(GENESIS, (bytes.fromhex(events.record_hash(raw)) for raw in passages))
    assert found[1].digest == fold(GENESIS, (bytes.fromhex(events.record_hash(raw)) for raw in refusals))
    assert broken(found) is None


def test_a_day_of_passages_goes_as_a_whole_so_that_no_proof_tells_the_hour(
    store: Store, journal: Any, commit: Commit
) -> None:
    for hour in range(24):
        [record] = journal.write(1)
        at = (datetime(2026, 11, 23, 15, 30, tzinfo=UTC) + timedelta(hours=hour)).isoformat(timespec="milliseconds")
        commit(store, record.replace(b"2026-11-24T09:00:%02d.000Z" % (hour + 1), at.replace("+00:00", "Z").encode()))
    store._connection.execute("UPDATE chains SET mark = 24")  # the times were changed: no chain fits
    tend(store, START)
    assert len({stored.event.time[11:13] for stored in store.events(0, 100)}) == 24
    for hour in range(15 * 24):
        now = START + timedelta(hours=hour)
        list(store.removal.run(now, lambda: START))
    assert [(row.what, row.n) for row in proofs(store)] == [("detail", 24)]


def test_a_run_that_finds_nothing_leaves_no_proof(store: Store, journal: Any, commit: Commit) -> None:
    commit(store, *journal.write(5))
    assert tend(store, START + DAY) == {}
    assert proofs(store) == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE deletions SET n = 1 WHERE number = 2",
        "UPDATE deletions SET digest = replace(digest, 'a', 'b') WHERE number = 2",
        "UPDATE deletions SET before = '2026-01-01' WHERE number = 2",
        "DELETE FROM deletions WHERE number = 2",
    ],
)
def test_a_changed_or_missing_proof_is_found(store: Store, journal: Any, commit: Commit, change: str) -> None:
    for day in range(3):
        commit(store, *journal.write(2))
        tend(store, START + (8 + day) * DAY)
    assert broken(deletions.every(store._db)) is None
    store._connection.execute(change)
    assert broken(deletions.every(store._db)) in (2, 3)


def test_a_step_that_fails_removes_nothing_and_proves_nothing(store: Store, journal: Any, commit: Commit) -> None:
    commit(store, *journal.write(5))
    store._connection.execute(
        "CREATE TEMP TRIGGER cut BEFORE INSERT ON deletions BEGIN SELECT raise(ABORT, 'the power went'); END"
    )
    with pytest.raises(sqlite3.IntegrityError, match="the power went"):
        tend(store, START + 8 * DAY)
    store._connection.execute("DROP TRIGGER cut")
    assert len(kinds(store)) == 5
    assert tend(store, START + 8 * DAY) == {"access.granted": 5}
    assert [row.n for row in proofs(store)] == [5]


def test_names_of_operators_go_after_their_days(store: Store) -> None:
    for number, day in enumerate((0, 100)):
        store.orders.begin(
            f"{number:032x}", "gate-1", "l1", "free", {}, Operator("한지민", "guard"), None, START + day * DAY
        )
    assert tend(store, START + 731 * DAY) == {"orders": 1}
    assert [order.time for order in store.orders.recent(10)] == ["2027-03-04T09:00:00.000Z"]


def test_reads_go_from_the_oldest_and_the_proof_names_the_link_to_the_first_left(store: Store) -> None:
    hashes = [f"{number:064x}" for number in range(1, 4)]
    for number, (day, digest) in enumerate(zip((0, 1, 500), hashes, strict=True), 1):
        moment = (START + day * DAY).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        prev = GENESIS if number == 1 else hashes[number - 2]
        row = [number, moment, "김하늘", "security-officer", "audit", "2026-17", "{}", prev, digest]
        store._connection.execute("INSERT INTO reads VALUES (?,?,?,?,?,?,?,?,?)", row)
    assert tend(store, START + 740 * DAY) == {"reads": 2}
    [[number, prev]] = store._connection.execute("SELECT number, prev FROM reads").fetchall()
    [proof] = proofs(store)
    assert (number, prev) == (3, proof.digest)


def test_closed_alarms_go_with_their_changes_and_open_ones_stay(store: Store) -> None:
    old, new = "2026-11-24T09:00:00.000Z", "2027-11-20T09:00:00.000Z"
    for number, closed in enumerate((old, None, new, old), 1):
        store._connection.execute(
            "INSERT INTO alarm_states (id, gate, lane, kind, detail, severity, epoch, seq, count, raised, last, occurred, level, "
            "cleared, closed) VALUES (?, 'gate-1', 'l1', 'alarm.forced', '', 'critical', 'e1', ?, 1, ?, ?, ?, 0, ?, ?)",
            [number, number, old, old, old, old, closed],
        )
        store._connection.execute(
            "INSERT INTO alarm_changes (alarm, time, change, body) VALUES (?, ?, 'raised', '{}')", [number, old]
        )
    assert tend(store, START + 366 * DAY) == {"alarm_changes": 2, "alarm_states": 2}
    assert store._connection.execute("SELECT id FROM alarm_states").fetchall() == [(2,), (3,)]
    # No number is given twice: webhooks and streams go by them.
    done = store._connection.execute(
        "INSERT INTO alarm_changes (alarm, time, change, body) VALUES (3, '', 'cleared', '')"
    )
    assert done.lastrowid == 5


def test_counts_have_their_days_too_also_those_of_clocks_that_were_ahead(
    store: Store, journal: Any, commit: Commit
) -> None:
    [record] = journal.write(1)
    commit(store, record, record.replace(b"2026-11-24T", b"2150-11-24T").replace(b"/e1/1", b"/e1/2"))
    tend(store, START + DAY)
    assert [row[0] // (900 * 4) for row in store._connection.execute("SELECT quarter * 900 FROM quarters")] == [
        int(START.timestamp()) // 3600
    ]
    assert tend(store, START + 402 * DAY)["quarters"] == 1
    assert tend(store, START + 3652 * DAY)["days"] == 1
    assert {row.what for row in proofs(store)} >= {"quarters", "days", "counts"}
    assert broken(proofs(store)) is None


def test_messages_set_aside_go_with_the_shortest_days(store: Store, commit: Commit) -> None:
    """Nobody knows what is in them."""
    commit(store, b"\xff nothing of ours")
    assert tend(store, START + 6 * DAY) == {}
    assert tend(store, START + 8 * DAY) == {"poison": 1}


def test_the_bytes_of_what_was_removed_are_nowhere_in_the_files(
    store: Store, new_journal: type[Any], commit: Commit, tmp_path: Path
) -> None:
    """Rows of all sizes from many gates in any order: pages of table and indexes are split and merged all the time."""
    random = Random(17)
    sent: list[tuple[str, bytes]] = []
    timed: set[bytes] = set()
    other: set[bytes] = set()
    for number in range(8):
        journal = new_journal(f"gate-{number}")
        for _ in range(500):
            gone = random.random() < 0.7
            mark = f"{'t' if gone else 'k'}{random.getrandbits(60):015x}"
            (timed if gone else other).add(mark.encode())
            kind = random.choice(
                [Kind.ACCESS_GRANTED, Kind.DOOR_OPENED] if gone else [Kind.ALARM_FORCED, Kind.ACCESS_DENIED]
            )
            days = random.choice([0, 0, 0, 5])
            [record] = journal.write(1, kind=kind, attempt=mark, filling=mark * random.randint(0, 90))
            moved = record.replace(b"2026-11-24T", f"2026-11-{24 - days}T".encode())
            sent.append((journal.gate, moved))
    random.shuffle(sent)
    for at in range(0, len(sent), 40):
        for gate in {gate for gate, _ in sent[at : at + 40]}:
            commit(store, *(record for name, record in sent[at : at + 40] if name == gate), gate=gate)
    store._connection.execute("UPDATE chains SET mark = 1000, stopped = 0")  # the times were changed: no chain fits
    for day in (3, 4, 8):
        tend(store, START + day * DAY)
        if day < 8:
            assert marks(tmp_path, timed), "the search finds what is there"
    assert not marks(tmp_path, timed)
    assert marks(tmp_path, other) == other
    # Pages that SQLite had in memory do not bring anything back when they are written again.
    more = new_journal("gate-9").write(300, kind=Kind.ALARM_FORCED)
    commit(store, *more, gate="gate-9")
    store._connection.execute("UPDATE events SET lane = 'l2'")
    assert not marks(tmp_path, timed)
    assert store._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def marks(directory: Path, wanted: set[bytes]) -> set[bytes]:
    """Which of them are in any file of the directory, at any place."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    found: set[bytes] = set()
    for path in files:
        found |= set(re.findall(rb"(?=([tk][0-9a-f]{15}))", path.read_bytes())) & wanted
    return found


def test_a_restored_backup_brings_old_rows_back_until_the_next_run(
    open_store: Callable[[], Store], journal: Any, commit: Commit, tmp_path: Path
) -> None:
    store = open_store()
    commit(store, *journal.write(5))
    tend(store, START + DAY)
    with closing(sqlite3.connect(tmp_path / "backup")) as target:
        store._connection.backup(target)
    tend(store, START + 8 * DAY)
    store.close()
    (tmp_path / "controller.db").write_bytes((tmp_path / "backup").read_bytes())
    store = open_store()
    assert len(kinds(store)) == 5
    assert tend(store, START + 20 * DAY) == {"access.granted": 5}
    assert store.acks() == {"gate-1": journal.ack(5)}


def test_the_defaults_are_those_of_the_document() -> None:
    assert Retention().days(Kept.DETAIL) == 7 * DAY
