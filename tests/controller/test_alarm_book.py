"""Alarms through the store: raised with their records, once, and none lost over a restart or a transaction that fails."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controller import alarm_ledger, schema
from controller.alarm_book import EndsByItselfError, Limits, NoSuchAlarmError
from controller.alarm_kinds import BROKER, DISK, INTEGRITY, OUTBOX, UNSET, Severity
from controller.alarm_rows import AlarmRow
from controller.batch import Batch, Committed, Poison
from controller.store import Store
from policy.situation import ClockQuality
from protocol.command import Operator
from protocol.events import Kind
from protocol.health import Health
from protocol.statement import Purpose
from tests.controller.conftest import START

Commit = Callable[..., Committed]
KIM = Operator("Kim", "guard")
AFTER = {Severity.CRITICAL: 120.0, Severity.MAJOR: 600.0, Severity.MINOR: 3600.0, Severity.WARNING: 0.0}


def names(store: Store) -> list[tuple[str, str]]:
    return [(row.kind, row.state) for row in store.alarm_book.open()]


def only(store: Store) -> AlarmRow:
    (row,) = store.alarm_book.open()
    return row


def health(store: Store, now: datetime = START, gate: str = "gate-1", **changes: Any) -> Committed:
    told = {"boot": "b", "version": "1", "uptime_s": 600, "clock": ClockQuality.SYNCED, "outbox": 0, "outbox_age_s": 0}
    return store.commit(Batch(healths={gate: Health(trust="1", **{**told, **changes})}), now)


def test_an_alarm_is_raised_with_its_record_and_closed_after_its_end_and_a_look(
    store: Store, journal: Any, commit: Commit
) -> None:
    done = commit(store, *journal.write(1, Kind.ALARM_FORCED))
    assert [(each.id, each.alarm, each.change) for each in done.changes] == [(1, 1, "raised")]
    row = only(store)
    assert (row.gate, row.lane, row.kind, row.severity, row.epoch, row.seq) == (
        "gate-1", "l1", "alarm.forced", "critical", "e1", 1,
    )  # fmt: skip
    assert commit(store, *journal.write(1, Kind.ALARM_FORCED_CLEARED)).changes[0].change == "cleared"
    assert names(store) == [("alarm.forced", "cleared")]
    row, update = store.alarm_book.acknowledge(row.id, KIM, START)
    assert (row.state, row.operator, [each.change for each in update.changes]) == ("closed", "Kim", ["acknowledged"])
    assert names(store) == []


def test_the_body_of_a_change_says_what_it_is_about_and_names_no_operator(
    store: Store, journal: Any, commit: Commit
) -> None:
    commit(store, *journal.write(1, Kind.SENSOR_FAULT, sensor="mid"))
    _, update = store.alarm_book.acknowledge(1, KIM, START)
    (change,) = update.changes
    body = json.loads(change.body)
    assert (body["alarm"], body["gate"], body["lane"], body["kind"]) == (1, "gate-1", "l1", "sensor.fault")
    assert (body["detail"], body["severity"], body["state"], body["count"]) == ("mid", "minor", "acknowledged", 1)
    assert body["occurred"] == "2026-11-24T09:00:01.000Z"
    assert "Kim" not in change.body


def test_a_record_that_is_no_alarm_changes_nothing(store: Store, journal: Any, commit: Commit) -> None:
    done = commit(store, *journal.write(50))
    assert (done.changes, done.alarm_rows) == ([], [])


def test_an_alarm_that_comes_again_is_counted_and_no_new_one(store: Store, journal: Any, commit: Commit) -> None:
    records = journal.write(3, Kind.ALARM_TAMPER)
    commit(store, *records[:2])
    assert commit(store, records[2]).changes == []
    commit(store, *records)
    assert (only(store).count, only(store).seq) == (3, 3)


def test_a_copy_ahead_of_the_outbox_raises_at_once_and_the_record_itself_changes_nothing(
    store: Store, journal: Any, commit: Commit
) -> None:
    journal.write(5)
    [forced] = journal.write(1, Kind.ALARM_FORCED)
    assert len(commit(store, forced).changes) == 1
    assert commit(store, *journal.records).changes == []
    assert only(store).count == 1


def test_an_alarm_that_arrives_after_its_end_is_not_left_raised_but_somebody_still_has_to_look(
    store: Store, journal: Any, commit: Commit
) -> None:
    [forced] = journal.write(1, Kind.ALARM_FORCED)
    [cleared] = journal.write(1, Kind.ALARM_FORCED_CLEARED)
    assert commit(store, cleared).changes == []
    assert [each.change for each in commit(store, forced).changes] == ["raised", "cleared"]
    assert names(store) == [("alarm.forced", "cleared")]


def test_a_warning_that_arrives_after_its_end_is_history_and_nothing_open(
    store: Store, journal: Any, commit: Commit
) -> None:
    [loiter] = journal.write(1, Kind.ALARM_LOITER)
    commit(store, *journal.write(1, Kind.ALARM_LOITER_CLEARED))
    done = commit(store, loiter)
    assert [each.change for each in done.changes] == ["raised", "cleared"]
    assert done.alarm_rows[0].state == "closed"
    assert names(store) == []


def test_the_same_holds_when_both_come_in_one_batch_the_wrong_way_round(
    store: Store, journal: Any, commit: Commit
) -> None:
    [held] = journal.write(1, Kind.ALARM_HELD)
    [cleared] = journal.write(1, Kind.ALARM_HELD_CLEARED)
    commit(store, cleared, held)
    assert names(store) == [("alarm.held", "cleared")]


def test_a_warning_that_becomes_an_alarm_is_one_alarm(store: Store, journal: Any, commit: Commit) -> None:
    commit(store, *journal.write(1, Kind.ALARM_HELD_PRE), *journal.write(1, Kind.ALARM_HELD))
    assert names(store) == [("alarm.held", "raised")]


def test_lanes_and_sensors_are_told_apart(store: Store, journal: Any, commit: Commit) -> None:
    commit(
        store, *journal.write(1, Kind.SENSOR_FAULT, sensor="near"), *journal.write(1, Kind.SENSOR_FAULT, sensor="far")
    )
    commit(store, *journal.write(1, Kind.SENSOR_FAULT, sensor="far", lane="l2"))
    commit(store, *journal.write(1, Kind.SENSOR_RESTORED, sensor="far"))
    assert [(row.lane, row.detail) for row in store.alarm_book.open()] == [("l1", "near"), ("l2", "far")]


def test_a_start_of_the_gate_ends_what_it_would_raise_again_but_neither_fire_nor_lockdown(
    store: Store, journal: Any, commit: Commit
) -> None:
    commit(store, *journal.write(1, Kind.POWER_MAINS_LOST), *journal.write(1, Kind.FIRE_ASSERTED))
    commit(store, *journal.write(1, Kind.LOCKDOWN_ENTERED, level=1), *journal.write(1, Kind.GATE_BOOT, boot="b"))
    assert names(store) == [("fire.asserted", "raised"), ("lockdown.entered", "raised")]
    commit(store, *journal.write(1, Kind.POWER_MAINS_LOST))
    assert ("power.mains_lost", "raised") in names(store)


def test_a_new_epoch_is_a_new_start_also_when_its_first_record_comes_late(
    store: Store, journal: Any, new_journal: type[Any], commit: Commit
) -> None:
    commit(store, *journal.write(1, Kind.POWER_MAINS_LOST))
    second = new_journal("gate-1", "e2")
    [first] = second.write(1, Kind.LOG_GAP, epoch="e1", why="damaged")
    [boot] = second.write(1, Kind.GATE_BOOT)
    commit(store, boot)
    commit(store, *journal.write(1, Kind.ALARM_TAMPER))  # salvaged, and sent after all
    commit(store, first)
    assert ("power.mains_lost", "raised") not in names(store)
    assert ("alarm.tamper", "cleared") in names(store)


def test_none_is_lost_over_a_restart_and_the_places_outlive_it(
    open_store: Callable[[], Store], journal: Any, commit: Commit
) -> None:
    [late] = journal.write(1, Kind.ALARM_FORCED)
    [cleared] = journal.write(1, Kind.ALARM_FORCED_CLEARED)
    store = open_store()
    commit(store, cleared, *journal.write(1, Kind.ALARM_TAMPER))
    before = store.alarm_book.open()
    store.close()
    again = open_store()
    assert again.alarm_book.open() == before
    done = commit(again, late)
    assert names(again) == [("alarm.tamper", "raised"), ("alarm.forced", "cleared")]
    assert [each.id for each in done.changes] == [2, 3]


def test_a_transaction_that_fails_leaves_no_alarm_behind_and_the_next_tells_it_once(
    store: Store, journal: Any, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    [forced] = journal.write(1, Kind.ALARM_FORCED)

    def full(_counts: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(store, "_count", full)
        with pytest.raises(sqlite3.OperationalError):
            commit(store, forced)
    assert names(store) == []
    assert [each.id for each in commit(store, forced).changes] == [1]


def test_ids_are_never_given_twice_whatever_was_removed(
    open_store: Callable[[], Store], journal: Any, commit: Commit
) -> None:
    store = open_store()
    commit(store, *journal.write(1, Kind.ALARM_LOITER), *journal.write(1, Kind.ALARM_LOITER_CLEARED))
    with store._db.atomic():
        store._db.execute("DELETE FROM alarm_states")
        store._db.execute("DELETE FROM alarm_changes")
    store.close()
    done = commit(open_store(), *journal.write(1, Kind.ALARM_LOITER))
    assert [(each.id, each.alarm) for each in done.changes] == [(3, 2)]


# Findings about records.


def test_findings_about_records_are_alarms_in_the_same_list(store: Store, journal: Any, commit: Commit) -> None:
    good = journal.write(3)
    commit(store, *good)
    bad = [raw.replace(b'"carrier":"qr"', b'"carrier":"xx"') for raw in good[:2]]
    done = commit(store, *bad)
    assert [(each.kind, each.detail, each.count) for each in done.alarm_rows] == [("record.conflict", "e1", 2)]
    assert commit(store, *bad).alarm_rows == []
    assert store.gates()[0].alarms == 1


def test_what_is_about_a_gate_is_raised_again_after_an_operator_ended_it(store: Store) -> None:
    poison = Batch(poison=[Poison("pacs/1/hq/gate-1/evt", "not_an_event", b"x")])
    store.commit(poison, START)
    store.commit(poison, START)
    assert (only(store).kind, only(store).detail, only(store).count) == ("record.poison", "not_an_event", 2)
    store.alarm_book.clear(only(store).id, KIM, START)
    assert names(store) == []
    store.commit(poison, START)
    assert only(store).count == 1


def test_lost_records_end_their_alarm_when_all_of_them_have_come_after_all(
    store: Store, journal: Any, commit: Commit
) -> None:
    records = journal.write(5)
    pruned = journal.state(Purpose.PRUNED, 1, 4)
    commit(store, pruned, records[4])
    assert (only(store).kind, only(store).detail) == ("record.hole", "e1:1-4")
    commit(store, *records[:3])
    assert only(store).state == "raised"
    commit(store, records[3])
    assert only(store).state == "cleared"


def test_findings_of_before_are_in_the_list_of_an_older_database(
    open_store: Callable[[], Store], tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "controller.db")) as db:
        db.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
        for version, step in enumerate(schema.STEPS[:4], 1):
            for statement in step.split(";"):
                db.execute(statement)
            db.execute("INSERT INTO schema_version VALUES (?)", [version])
        found = [
            ("g", "e1", 3, "conflict", "", "2026-11-24T09:00:00.000Z"),
            ("g", "e1", 4, "conflict", "", "2026-11-24T09:01:00.000Z"),
            ("g", "", 0, "poison", "not_an_event", "2026-11-24T09:00:00.000Z"),
        ]
        db.executemany("INSERT INTO alarms (gate, epoch, seq, what, why, time) VALUES (?,?,?,?,?,?)", found)
        db.commit()
    rows = {row.kind: row for row in open_store().alarm_book.open()}
    conflict, poison = rows["record.conflict"], rows["record.poison"]
    assert (conflict.count, conflict.seq, conflict.severity, conflict.detail) == (2, 4, "critical", "e1")
    assert (poison.count, poison.severity, poison.detail) == (1, "minor", "not_an_event")


# Healths and conditions.


def test_a_health_over_its_limits_is_an_alarm_until_it_is_well_below(open_store: Callable[[], Store]) -> None:
    store, limits = open_store(), Limits()
    health(store, outbox_age_s=int(limits.outbox_s), disk_free_mb=limits.disk_free_mb - 1)
    assert names(store) == [(OUTBOX, "raised"), (DISK, "raised")]
    health(store, outbox_age_s=int(limits.outbox_s) - 1, disk_free_mb=limits.disk_free_mb + 1)
    assert len(names(store)) == 2
    health(store, outbox_age_s=0, disk_free_mb=limits.disk_free_mb * 2)
    assert names(store) == []


def test_devices_that_a_gate_is_only_opening_are_no_alarm_and_those_that_were_one_stay(store: Store) -> None:
    health(store, uptime_s=1, degraded=("camera.hall",))
    assert not store.alarm_book.open()
    health(store, uptime_s=31, degraded=("camera.hall",))
    assert only(store).detail == "camera.hall"
    health(store, uptime_s=1, degraded=("camera.hall", "ble.hall"))
    assert only(store).detail == "camera.hall"


def test_the_same_health_again_changes_nothing(store: Store) -> None:
    health(store, clock=ClockQuality.UNSET, degraded=("camera.hall",))
    done = health(store, clock=ClockQuality.UNSET, degraded=("camera.hall",))
    assert done.alarm_rows == []
    assert names(store) == [(UNSET, "raised"), ("device.degraded", "raised")]


def test_a_health_and_an_event_about_the_same_device_are_one_alarm_which_ends_when_both_say_so(
    store: Store, journal: Any, commit: Commit
) -> None:
    device = {"device": "camera.hall", "lane": None}
    commit(store, *journal.write(1, Kind.DEVICE_DEGRADED, **device))
    health(store, degraded=("camera.hall",))
    commit(store, *journal.write(1, Kind.DEVICE_RESTORED, **device))
    assert only(store).count == 1
    health(store)
    assert names(store) == []


def test_a_condition_stays_as_it_was_over_a_restart_until_it_is_told_again(open_store: Callable[[], Store]) -> None:
    store = open_store()
    health(store, clock=ClockQuality.UNSET)
    store.close()
    again = open_store()
    assert names(again) == [(UNSET, "raised")]
    health(again)
    assert names(again) == []


def test_what_the_controller_judges_is_raised_and_ended_once(store: Store) -> None:
    book, broker = store.alarm_book, ("", "", BROKER, "")
    assert book.judge({broker: False}, START).changes == ()
    assert [each.change for each in book.judge({broker: True}, START).changes] == ["raised"]
    assert book.judge({broker: True}, START).changes == ()
    assert [each.change for each in book.judge({broker: False}, START).changes] == ["cleared"]
    assert names(store) == []


def test_a_failed_check_of_the_database_stands_until_an_operator_ends_it(store: Store) -> None:
    book, key = store.alarm_book, ("", "", INTEGRITY, "")
    book.judge({key: True}, START)
    book.judge({key: False}, START)
    assert names(store) == [(INTEGRITY, "raised")]
    book.clear(only(store).id, KIM, START)
    book.judge({key: True}, START)
    assert names(store) == [(INTEGRITY, "raised")]


# Operators.


def test_acknowledging_twice_changes_nothing_the_second_time_and_keeps_who_was_first(
    store: Store, journal: Any, commit: Commit
) -> None:
    commit(store, *journal.write(1, Kind.ALARM_TAMPER))
    store.alarm_book.acknowledge(1, KIM, START)
    row, update = store.alarm_book.acknowledge(1, Operator("Lee", "chief"), START)
    assert (row.operator, update.changes, update.rows) == ("Kim", [], [])


def test_an_alarm_that_is_not_there_is_an_error_of_its_own(store: Store) -> None:
    with pytest.raises(NoSuchAlarmError):
        store.alarm_book.acknowledge(7, KIM, START)
    with pytest.raises(NoSuchAlarmError):
        store.alarm_book.clear(7, KIM, START)


def test_an_alarm_that_ends_by_itself_is_ended_by_no_operator(store: Store, journal: Any, commit: Commit) -> None:
    commit(store, *journal.write(1, Kind.ALARM_TAMPER))
    with pytest.raises(EndsByItselfError):
        store.alarm_book.clear(1, KIM, START)
    assert names(store) == [("alarm.tamper", "raised")]


def test_an_alarm_of_a_gate_that_is_enrolled_no_more_is_ended_by_an_operator_and_stays_ended(
    store: Store, journal: Any, commit: Commit
) -> None:
    commit(store, *journal.write(1, Kind.ALARM_TAMPER))
    row, _ = store.alarm_book.clear(1, KIM, START, enrolled=lambda _: False)
    assert (row.state, row.cleared_by) == ("closed", "Kim")
    commit(store, *journal.write(1, Kind.ALARM_TAMPER_CLEARED))
    assert names(store) == []


def test_a_fire_of_an_earlier_epoch_is_ended_by_an_operator(
    store: Store, journal: Any, new_journal: type[Any], commit: Commit
) -> None:
    commit(store, *journal.write(1, Kind.FIRE_ASSERTED))
    with pytest.raises(EndsByItselfError):
        store.alarm_book.clear(1, KIM, START)
    commit(store, *new_journal("gate-1", "e2").write(1, Kind.LOG_GAP, epoch="e1", why="replaced"))
    assert store.alarm_book.clear(1, KIM, START)[0].state == "closed"


def test_a_lane_fault_is_ended_by_an_operator_and_the_next_is_a_new_alarm(
    store: Store, journal: Any, commit: Commit
) -> None:
    first, second = journal.write(2, Kind.LANE_FAULT)
    commit(store, second)
    store.alarm_book.clear(1, KIM, START)
    commit(store, first)  # late: nobody has looked at this one
    assert names(store) == [("lane.fault", "raised")]
    assert only(store).id == 2


def test_rejected_trust_data_ends_with_the_next_that_is_taken(store: Store, journal: Any, commit: Commit) -> None:
    commit(
        store,
        *journal.write(1, Kind.TRUST_REJECTED, what="policy"),
        *journal.write(1, Kind.TRUST_REJECTED, what="trust"),
    )
    commit(store, *journal.write(1, Kind.TRUST_APPLIED, what="policy"))
    assert names(store) == [("trust.rejected", "cleared"), ("trust.rejected", "raised")]


def test_what_an_operator_ended_stays_ended_when_its_gate_is_looked_at_anew(
    open_store: Callable[[], Store], journal: Any, new_journal: type[Any], commit: Commit
) -> None:
    store = open_store()
    commit(store, *journal.write(1, Kind.TRUST_REJECTED, what="policy"))
    store.alarm_book.clear(1, KIM, START)
    store.close()
    again = open_store()
    commit(again, *new_journal("gate-1", "e2").write(1, Kind.LOG_GAP, epoch="e1", why="damaged"))
    assert names(again) == [("log.gap", "raised")]


# Acknowledged at the gate.


def accept(journal: Any, **data: str) -> bytes:
    [record] = journal.write(1, Kind.COMMAND_ACCEPTED, verb="acknowledge", **data)
    return bytes(record)


def test_an_order_that_silences_a_lane_acknowledges_its_alarms_under_the_name_of_who_gave_it(
    store: Store, journal: Any, commit: Commit
) -> None:
    store.orders.begin("c-1", "gate-1", "l1", "acknowledge", {}, KIM, None, START)
    commit(store, *journal.write(1, Kind.ALARM_TAMPER), *journal.write(1, Kind.ALARM_TAMPER, lane="l2"))
    done = commit(store, accept(journal, op="guard", cmd="c-1"))
    assert [(each.lane, each.operator, each.role) for each in done.alarm_rows] == [("l1", "Kim", "guard")]
    assert names(store) == [("alarm.tamper", "acknowledged"), ("alarm.tamper", "raised")]


def test_a_guard_who_acknowledges_on_the_spot_is_known_by_role_alone(
    store: Store, journal: Any, commit: Commit
) -> None:
    commit(store, *journal.write(1, Kind.ALARM_TAMPER), accept(journal, op="local"))
    assert (only(store).state, only(store).operator, only(store).role) == ("acknowledged", None, "local")


def test_what_is_raised_after_it_was_silenced_is_not_acknowledged_whichever_comes_first(
    store: Store, journal: Any, commit: Commit
) -> None:
    [before] = journal.write(1, Kind.ALARM_TAMPER)
    silenced = accept(journal, op="local")
    [after] = journal.write(1, Kind.ALARM_FORCED)
    commit(store, silenced)
    commit(store, after)
    commit(store, before)
    assert names(store) == [("alarm.forced", "raised"), ("alarm.tamper", "acknowledged")]


# Escalation.


def test_an_alarm_that_nobody_acknowledges_is_escalated_once_a_level(
    store: Store, journal: Any, commit: Commit
) -> None:
    book = store.alarm_book
    commit(store, *journal.write(1, Kind.ALARM_TAMPER))
    found = [
        (second, [json.loads(each.body)["level"] for each in book.escalate(AFTER, START, float(second)).changes])
        for second in (0, 119, 120, 121, 359, 360, 361, 9999)
    ]
    assert [(second, levels) for second, levels in found if levels] == [(120, [1]), (360, [2])]


def test_what_was_acknowledged_or_closed_is_not_escalated(store: Store, journal: Any, commit: Commit) -> None:
    commit(store, *journal.write(1, Kind.ALARM_TAMPER), *journal.write(1, Kind.POWER_MAINS_LOST))
    store.alarm_book.escalate(AFTER, START, 0.0)
    store.alarm_book.acknowledge(1, KIM, START)
    commit(store, *journal.write(1, Kind.POWER_MAINS_RESTORED))
    assert store.alarm_book.escalate(AFTER, START, 1e6).changes == ()


def test_waiting_goes_on_over_a_restart_and_a_level_is_told_once(
    open_store: Callable[[], Store], journal: Any, commit: Commit
) -> None:
    store = open_store()
    commit(store, *journal.write(1, Kind.ALARM_TAMPER))
    store.close()
    again = open_store()
    assert again.alarm_book.escalate(AFTER, START + timedelta(seconds=100), 5000.0).changes == ()
    later = again.alarm_book.escalate(AFTER, START + timedelta(seconds=120), 5020.0)
    assert [each.change for each in later.changes] == ["escalated"]
    again.close()
    third = open_store()
    assert third.alarm_book.escalate(AFTER, START + timedelta(seconds=130), 9.0).changes == ()
    assert only(third).level == 1


@pytest.mark.parametrize("jump", [timedelta(days=3650), timedelta(days=-3650), timedelta(hours=9)])
def test_a_clock_that_was_set_escalates_nothing(
    open_store: Callable[[], Store], journal: Any, commit: Commit, jump: timedelta
) -> None:
    store = open_store()
    commit(store, *journal.write(1, Kind.ALARM_TAMPER))
    store.alarm_book.escalate(AFTER, START, 0.0)
    assert store.alarm_book.escalate(AFTER, START + jump, 5.0).changes == ()
    store.close()
    again = open_store()
    assert again.alarm_book.escalate(AFTER, START + jump, 0.0).changes == ()
    assert len(again.alarm_book.escalate(AFTER, START + jump, 120.0).changes) == 1


# Bounds.


def test_beyond_the_bound_of_a_gate_one_alarm_says_so_and_nothing_fails(
    store: Store, journal: Any, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarm_ledger, "MAX_OPEN_OF_GATE", 3)
    for number in range(6):
        commit(store, *journal.write(1, Kind.DEVICE_DEGRADED, device=f"d{number}"))
    assert [row.detail for row in store.alarm_book.open()] == ["d0", "d1", "d2", "gate-1"]
    assert (store.alarm_book.open()[-1].kind, store.alarm_book.open()[-1].count) == ("controller.alarms", 3)
    assert store.gates()[0].alarms == 3


def test_a_gate_that_invents_names_is_bounded_and_its_next_start_forgets_them(
    store: Store, journal: Any, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarm_ledger, "MAX_KEYS_OF_GATE", 5)
    for number in range(9):
        commit(store, *journal.write(1, Kind.DEVICE_DEGRADED, device=f"d{number}"))
        commit(store, *journal.write(1, Kind.DEVICE_RESTORED, device=f"d{number}"))
    assert names(store) == [("controller.alarms", "raised")]
    assert store._db.execute("SELECT count(*) FROM alarm_marks").fetchone()[0] == 5
    commit(store, *journal.write(1, Kind.GATE_BOOT, boot="b"))
    commit(store, *journal.write(1, Kind.DEVICE_DEGRADED, device="new"))
    assert ("device.degraded", "raised") in names(store)


def test_hostile_words_make_no_alarm_of_their_own(store: Store, journal: Any, commit: Commit) -> None:
    for device in (None, 3, "", "a b", ["x"], "x" * 65, {"a": 1}):
        commit(store, *journal.write(1, Kind.DEVICE_DEGRADED, device=device))
    assert (only(store).detail, only(store).count) == ("", 7)
