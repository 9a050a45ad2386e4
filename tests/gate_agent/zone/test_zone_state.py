"""Anti-passback of one zone across lanes and gates, on a network in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import time, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gate_agent.zone import Drop, Fact, Finding, Moment, ZoneSettings, ZoneState, ZoneStoreError
from gate_agent.zone.facts import Limits
from protocol import topics
from tests.gate_agent.zone.network import IN, OUT, PERIOD, SITE, START, ZONE, Keys, Network, handle

Make = Callable[..., Network]
MARK = b"m" * 32
"""The single-use mark of a QR pass."""


# One gate.


def test_whoever_has_entered_is_inside_until_the_exit(make: Make) -> None:
    net = make("g1")
    assert net.find("g1", 1) == Finding(Fact.CLEAR, Fact.CLEAR)
    net.walk("g1", 1)
    assert net.find("g1", 1) == Finding(Fact.INSIDE, Fact.INSIDE)
    assert net.find("g1", 2).fact is Fact.CLEAR
    net.walk("g1", 1, OUT)
    assert net.find("g1", 1).fact is Fact.CLEAR


def test_a_reservation_bars_the_other_lane_at_once_and_a_freed_one_nobody(make: Make) -> None:
    net = make("g1")
    attempt = net.reserve("g1", 1, lane="l1")
    assert net.find("g1", 1, lane="l2").fact is Fact.INSIDE
    net.free("g1", attempt)
    assert net.find("g1", 1, lane="l2").fact is Fact.CLEAR
    net.commit("g1", attempt)
    assert net.find("g1", 1).fact is Fact.CLEAR, "a freed attempt cannot be completed"


def test_two_lanes_that_decided_on_the_same_finding_do_not_both_open(make: Make) -> None:
    net = make("g1")
    found = net.find("g1", 1)
    now = net.now()
    assert net["g1"].reserve(ZONE, handle(1), "a", "l1", IN, now, decided_on=found) is None
    second = net["g1"].reserve(ZONE, handle(1), "b", "l2", IN, now, decided_on=found)
    assert second == Finding(Fact.INSIDE, Fact.INSIDE)
    net["g1"].free("a", now)
    assert net.find("g1", 1).fact is Fact.CLEAR, "the refused one has left nothing behind"


def test_the_exit_is_never_barred(make: Make) -> None:
    net = make("g1")
    for _ in range(3):
        assert net.find("g1", 1, OUT).fact is Fact.CLEAR
        net.walk("g1", 1, OUT)
    net.walk("g1", 1)
    net.cut()
    net.wait(3600)
    assert net.find("g1", 1, OUT) == Finding(Fact.CLEAR, Fact.CLEAR)
    net.keys.missing |= {PERIOD, PERIOD + 1}
    net.wait(24 * 3600)
    assert net.find("g1", 1, OUT) == Finding(Fact.CLEAR, Fact.CLEAR)


def test_an_exit_that_is_not_taken_leaves_the_person_inside(make: Make) -> None:
    net = make("g1")
    net.walk("g1", 1)
    net.free("g1", net.reserve("g1", 1, OUT))
    assert net.find("g1", 1).fact is Fact.INSIDE


def test_a_reservation_that_nobody_settles_is_over_after_its_time(make: Make) -> None:
    net = make(reserve_s=60.0)
    attempt = net.reserve("g1", 1)
    net.drain()
    net.wait(59)
    assert net.facts(1) == {Fact.INSIDE}
    net.wait(2)
    assert net.facts(1) == {Fact.CLEAR}
    net.commit("g1", attempt)
    net.drain()
    assert net.facts(1) == {Fact.INSIDE}, "the passage was complete after all"


def test_timed_anti_passback_forgets_after_its_time_and_does_not_report_a_later_entry(make: Make) -> None:
    net = make("g1", window=timedelta(minutes=10))
    net.walk("g1", 1)
    assert net.find("g1", 1).fact is Fact.RECENT
    net.wait(599)
    assert net.find("g1", 1).fact is Fact.RECENT
    net.wait(1)
    assert net.find("g1", 1).fact is Fact.CLEAR
    net.walk("g1", 1)
    assert net.twice == 0
    net.wait(5)
    net.walk("g1", 1)
    assert net.twice == 1


@pytest.mark.parametrize("nothing", [None, b"", b"x" * 15, b"x" * 65])
def test_without_a_usable_handle_nothing_is_remembered(make: Make, nothing: bytes | None) -> None:
    net = make("g1")
    found = net["g1"].find(ZONE, nothing, "l1", IN, net.now())
    assert found == Finding(Fact.NO_HANDLE, Fact.NO_HANDLE)
    assert net["g1"].reserve(ZONE, nothing, "a", "l1", IN, net.now(), decided_on=found) is None
    assert net["g1"].commit("a", net.now()) == []
    assert net["g1"].find(ZONE, nothing, "l1", IN, net.now()) == found


def test_a_zone_that_is_not_ours_is_not_asked(make: Make) -> None:
    net = make("g1")
    found = net["g1"].find("attic", handle(1), "l1", IN, net.now())
    assert found.fact is Fact.NOT_ASKED
    assert net["g1"].reserve("attic", handle(1), "a", "l1", IN, net.now(), decided_on=found) is None
    assert net["g1"].occupancy("attic", net.now()) is None


# Several gates.


def test_what_one_gate_has_reserved_or_let_in_bars_at_the_other(make: Make) -> None:
    net = make()
    attempt = net.reserve("g1", 1)
    net.drain()
    assert net.find("g2", 1).fact is Fact.INSIDE
    net.free("g1", attempt)
    net.drain()
    assert net.find("g2", 1).fact is Fact.CLEAR
    net.walk("g1", 1)
    net.drain()
    assert net.find("g2", 1).fact is Fact.INSIDE
    net.walk("g2", 1, OUT)
    net.drain()
    assert net.facts(1) == {Fact.CLEAR}


def test_a_reservation_that_arrives_after_its_end_bars_nobody(make: Make) -> None:
    net = make()
    net.free("g1", net.reserve("g1", 1))
    net.send()
    to_g2 = [at for at, each in enumerate(net.flights) if each.to == "g2"]
    for at in reversed(to_g2):
        net.deliver(at)
    assert net.find("g2", 1).fact is Fact.CLEAR


def test_two_gates_that_grant_at_the_same_moment_both_open_and_one_of_them_reports_it_once(make: Make) -> None:
    net = make("g1", "g2", "g3")
    first, second = net.reserve("g1", 1), net.reserve("g2", 1)
    net.commit("g1", first)
    net.commit("g2", second)
    assert net.twice == 0
    net.drain()
    net.settle()
    assert net.twice == 1
    assert net.facts(1) == {Fact.INSIDE}
    net.walk("g3", 1, OUT)
    net.settle()
    assert net.facts(1) == {Fact.CLEAR}
    assert net.twice == 1


def test_a_known_double_entry_is_reported_with_the_passage(make: Make) -> None:
    net = make()
    net.walk("g1", 1)
    net.drain()
    attempt = net.reserve("g2", 1)
    assert net.twice == 0, "granted is not passed"
    net.commit("g2", attempt)
    assert net.gates["g2"].twice == 1
    net.settle()
    assert net.twice == 1


def test_a_gate_whose_clock_is_behind_still_puts_what_it_sees_after_what_it_knows(make: Make) -> None:
    net = make()
    net.ahead["g1"] = timedelta(seconds=50)
    net.walk("g1", 1)
    net.drain()
    net.walk("g2", 1, OUT)
    net.drain()
    assert net.facts(1) == {Fact.CLEAR}


# Cut off and healed.


def test_cut_off_is_told_after_the_bound_with_what_the_gate_knows_alone(make: Make) -> None:
    net = make(cut_off_s=30.0)
    net.walk("g1", 1)
    net.drain()
    net.cut("g1")
    net.wait(30)
    assert net.find("g1", 1) == Finding(Fact.INSIDE, Fact.INSIDE)
    net.wait(1)
    assert net.find("g1", 1) == Finding(Fact.CUT_OFF, Fact.INSIDE)
    assert net.find("g1", 2) == Finding(Fact.CUT_OFF, Fact.CLEAR)
    assert net["g1"].occupancy(ZONE, net.now()) is None
    assert net["g1"].degraded(net.now()) == ["zone_cut_off"]
    assert net.find("g2", 2).fact is Fact.CLEAR, "the others go on"
    assert net.gates["g1"].flags == [True]
    net.join("g1")
    net.drain()
    net.tick()
    assert net.find("g1", 1).fact is Fact.INSIDE
    assert net["g1"].occupancy(ZONE, net.now()) == 1
    assert net.gates["g1"].flags == [True, False]


@pytest.mark.parametrize(
    ("finding", "soft", "local"),
    [
        (Finding(Fact.CUT_OFF, Fact.INSIDE), Fact.CUT_OFF, Fact.INSIDE),
        (Finding(Fact.CUT_OFF, Fact.RECENT), Fact.CUT_OFF, Fact.RECENT),
        (Finding(Fact.CUT_OFF, Fact.CLEAR), Fact.CUT_OFF, Fact.CUT_OFF),
        (Finding(Fact.INSIDE, Fact.INSIDE), Fact.INSIDE, Fact.INSIDE),
        (Finding(Fact.CLEAR, Fact.CLEAR), Fact.CLEAR, Fact.CLEAR),
    ],
)
def test_local_knowledge_counts_only_where_the_zone_says_so(finding: Finding, soft: Fact, local: Fact) -> None:
    assert finding.under(local_counts=False) is soft
    assert finding.under(local_counts=True) is local


def test_a_gate_is_cut_off_from_its_start_until_it_has_heard_the_others(make: Make) -> None:
    net = make("g1", "g2", settled=False)
    net.tick()
    assert net.find("g1", 1).fact is Fact.CUT_OFF
    net.join("g1")
    net.drain()
    assert net.find("g1", 1).fact is Fact.CUT_OFF
    net.wait(Limits.SETTLE_S)
    assert net.find("g1", 1).fact is Fact.CLEAR, "alone on the network"
    net.join("g2")
    net.drain()
    assert net.find("g2", 1).fact is Fact.CLEAR, "no need to wait: the other one agrees"


def test_a_gate_that_joins_is_told_who_is_entering_elsewhere_and_which_passes_are_used(make: Make) -> None:
    net = make()
    net.cut("g2")
    net.wait(5)
    net.reserve("g1", 1)
    net["g1"].use_pass(ZONE, MARK, START + timedelta(seconds=net.elapsed + 60), net.now())
    net.walk("g1", 2)
    net.drain()
    net.join("g2")
    net.drain()
    assert net.find("g2", 1) == Finding(Fact.INSIDE, Fact.INSIDE)
    assert net["g2"].pass_used(ZONE, MARK, net.now())


def test_a_message_lost_while_all_are_joined_is_made_up_for_within_a_minute(make: Make) -> None:
    net = make("g1", "g2", "g3")
    net.walk("g1", 1)
    net.send()
    net.flights.clear()
    for _ in range(60):
        net.drain()
        net.wait(1)
    assert net.facts(1) == {Fact.INSIDE}
    assert {net[name].occupancy(ZONE, net.now()) for name in net.gates} == {1}


def test_gates_that_cannot_come_to_agree_do_not_talk_without_end(make: Make) -> None:
    net = make("g1", "g2", max_tags=1)
    net.cut()
    net.walk("g1", 1)
    net.walk("g2", 2)
    net.join()
    before = len(net.seen)
    for _ in range(60):
        net.drain()
        net.wait(1)
    assert len(net.seen) - before < 200
    assert not net["g1"].cut_off(ZONE, net.now())


def test_healing_gives_both_sides_what_they_missed_and_reports_each_double_entry_once(make: Make) -> None:
    net = make("g1", "g2", "g3")
    net.cut("g1")
    for number in range(40):
        net.walk("g1", number)
        net.wait(1)
    for number in range(30, 60):
        net.walk("g2", number)
        net.drain()
        net.wait(1)
    net.walk("g3", 59, OUT)
    net.settle()
    assert net.twice == 10
    for number in range(59):
        assert net.facts(number) == {Fact.INSIDE}, number
    assert net.facts(59) == {Fact.CLEAR}
    assert {net[name].occupancy(ZONE, net.now()) for name in net.gates} == {69}
    net.cut()
    net.settle()
    assert net.twice == 10, "told once"


def test_an_exit_that_both_sides_did_not_know_of_clears_the_suspicion(make: Make) -> None:
    net = make("g1", "g2", "g3")
    net.cut()
    net.walk("g1", 1)
    net.wait(10)
    net.walk("g3", 1, OUT)
    net.wait(10)
    net.walk("g2", 1)
    net.join("g1", "g2")
    net.drain()
    net.join("g3")
    net.settle()
    assert net.twice == 0
    assert net.facts(1) == {Fact.INSIDE}


walks = st.lists(st.tuples(st.sampled_from(["g1", "g2"]), st.integers(0, 2), st.booleans()), max_size=12)


@settings(max_examples=60, deadline=None)
@given(walks)
def test_two_separated_gates_report_exactly_the_double_entries_that_happened(
    tmp_path_factory: pytest.TempPathFactory, walks: list[tuple[str, int, bool]]
) -> None:
    walks = [each for at, each in enumerate(walks) if sum(each[1] == one[1] for one in walks[:at]) < Limits.KEEP]
    net = Network(tmp_path_factory.mktemp("zone"))
    net.settle()
    net.cut()
    for name, number, inward in walks:
        net.wait(5)
        net.walk(name, number, IN if inward else OUT)
    net.settle()
    numbered = list(enumerate(walks))
    expected = set()
    for number in range(3):
        mine = [each for each in numbered if each[1][1] == number]
        # What a gate sees at once by itself, and what only both together show.
        for seen in (mine, [e for e in mine if e[1][0] == "g1"], [e for e in mine if e[1][0] == "g2"]):
            expected |= {later[0] for before, later in pairwise(seen) if before[1][2] and later[1][2]}
    assert net.twice == len(expected)
    net.close()


# Forgiveness.


def test_a_guard_forgives_the_next_entry_at_one_lane_and_only_that(make: Make) -> None:
    net = make()
    net.walk("g1", 1)
    net.walk("g1", 2)
    net["g1"].forgive_lane(ZONE, "l1", net.now())
    assert net.find("g1", 1, lane="l2").fact is Fact.INSIDE
    assert net.find("g1", 3, lane="l1") == Finding(Fact.CLEAR, Fact.CLEAR), "whoever is clear does not use it up"
    net.walk("g1", 3, lane="l1")
    assert net.find("g1", 1, lane="l1") == Finding(Fact.CLEAR, Fact.CLEAR, forgiven=True)
    net.walk("g1", 1, lane="l1")
    assert net.find("g1", 2, lane="l1").fact is Fact.INSIDE
    net.settle()
    assert net.twice == 0, "what is forgiven is not reported"


def test_the_forgiveness_of_a_lane_ends_after_a_minute(make: Make) -> None:
    net = make("g1")
    net.walk("g1", 1)
    net["g1"].forgive_lane(ZONE, "l1", net.now())
    net.wait(60)
    assert net.find("g1", 1, lane="l1").fact is Fact.INSIDE


def test_a_forgiven_zone_knows_nobody_at_any_gate_and_keeps_its_count(make: Make) -> None:
    net = make("g1", "g2", "g3")
    for number in range(5):
        net.walk("g1", number)
    net.reserve("g2", 7)
    net.drain()
    net.cut("g3")
    net["g1"].forgive_zone(ZONE, net.now())
    net.drain()
    net.wait(5)
    net.walk("g2", 1)
    net.settle()
    for number in (0, 2, 3, 4, 7):
        assert net.facts(number) == {Fact.CLEAR}
    assert net.facts(1) == {Fact.INSIDE}
    assert net.twice == 0
    assert {net[name].occupancy(ZONE, net.now()) for name in net.gates} == {6}


# QR passes, each good for one lane of the zone.


def test_a_pass_used_at_one_gate_is_used_at_all_until_it_is_stale(make: Make) -> None:
    net = make()
    until = START + timedelta(seconds=net.elapsed + 20)
    assert not net["g1"].pass_used(ZONE, MARK, net.now())
    net["g1"].use_pass(ZONE, MARK, until, net.now())
    net.drain()
    assert all(net[name].pass_used(ZONE, MARK, net.now()) for name in net.gates)
    assert not net["g2"].pass_used(ZONE, b"n" * 32, net.now())
    net.wait(20)
    assert not any(net[name].pass_used(ZONE, MARK, net.now()) for name in net.gates)
    assert net["g2"]._members[ZONE].exchange.marks._until == {}


def test_a_pass_used_just_before_roll_over_is_used_after_it(make: Make) -> None:
    net = make()
    net.wait(4 * 3600 - net.elapsed - 5)
    net["g1"].use_pass(ZONE, MARK, START + timedelta(hours=4, seconds=10), net.now())
    net.drain()
    net.wait(6)
    assert all(net[name].pass_used(ZONE, MARK, net.now()) for name in net.gates)


def test_one_pass_used_at_two_gates_at_once_is_reported_once(make: Make) -> None:
    net = make("g1", "g2", "g3")
    until = START + timedelta(seconds=net.elapsed + 60)
    for name in ("g1", "g2"):
        net[name].use_pass(ZONE, MARK, until, net.now())
    net.drain()
    assert net.twice == 1
    net.cut("g1")
    net.join("g1")
    net.drain()
    assert net.twice == 1


def test_a_restarted_gate_is_told_again_which_passes_are_used(make: Make) -> None:
    net = make()
    until = START + timedelta(seconds=net.elapsed + 60)
    net["g1"].use_pass(ZONE, MARK, until, net.now())
    net.drain()
    net.kill("g2")
    net.start("g2")
    assert net["g2"].cut_off(ZONE, net.now())
    net.join("g2")
    net.drain()
    assert not net["g2"].cut_off(ZONE, net.now())
    assert net["g2"].pass_used(ZONE, MARK, net.now())


def test_used_passes_are_bounded_and_none_lasts_longer_than_any_pass(make: Make) -> None:
    net = make("g1")
    far = START + timedelta(days=1)
    for number in range(Limits.MARKS + 5):
        net["g1"].use_pass(ZONE, number.to_bytes(32), far, net.now())
    marks = net["g1"]._members[ZONE].exchange.marks
    assert len(marks._until) == len(marks._own) == Limits.MARKS
    net.wait(Limits.MARK_S + 1)
    assert not net["g1"].pass_used(ZONE, (100).to_bytes(32), net.now())


# Periods and counts.


def test_after_roll_over_everyone_is_unknown_and_the_tags_go_after_the_overlap(make: Make) -> None:
    net = make(roll_at=time(4), overlap_s=600.0)
    net.walk("g1", 1)
    late = net.reserve("g1", 2)
    net.drain()
    tag = net.gates["g2"].ledger().movements
    assert [each for bucket in range(32) for each in tag(bucket)]
    net.wait(4 * 3600 - net.elapsed)
    net.drain()
    assert net.facts(1) == {Fact.CLEAR}
    net.commit("g1", late)
    net.drain()
    assert len(net["g2"]._members[ZONE].periods) == 2
    net.wait(601)
    assert net["g2"]._members[ZONE].periods == [PERIOD + 1]
    for gate in net.gates.values():
        for table in ("movements", "noted", "reservations", "floors"):
            assert gate.state._store.select("period", table, ZONE) == []
    net.walk("g1", 1)
    net.drain()
    assert net.facts(1) == {Fact.INSIDE}


def test_a_deleted_tag_is_in_no_file_any_more(make: Make) -> None:
    net = make("g1")
    net.walk("g1", 1)
    tag = next(each for bucket in range(32) for each in net.gates["g1"].ledger().movements(bucket))[0].tag
    path = net.gates["g1"].path

    def holds() -> bool:
        return any(tag in each.read_bytes() for each in path.parent.iterdir())

    assert holds()
    net.wait(4 * 3600 + 601)
    assert not holds()


def test_a_forgiven_tag_is_in_no_file_any_more(make: Make) -> None:
    net = make("g1")
    net.walk("g1", 1)
    tag = next(each for bucket in range(32) for each in net.gates["g1"].ledger().movements(bucket))[0].tag
    net["g1"].forgive_zone(ZONE, net.now())
    assert not any(tag in each.read_bytes() for each in net.gates["g1"].path.parent.iterdir())


def test_tags_of_a_handle_differ_from_period_to_period(make: Make) -> None:
    net = make("g1")
    member = net["g1"]._members[ZONE]
    before = member._period_keys[PERIOD].tag(handle(1))
    net.wait(24 * 3600)
    assert member._period_keys[PERIOD + 1].tag(handle(1)) != before


def test_without_a_key_for_the_period_the_zone_is_cut_off_until_one_comes(make: Make) -> None:
    net = make("g1")
    net.keys.missing.add(PERIOD + 1)
    net.wait(4 * 3600)
    found = net.find("g1", 1)
    assert found == Finding(Fact.CUT_OFF, Fact.CLEAR)
    net.walk("g1", 1)
    assert net["g1"].occupancy(ZONE, net.now()) is None
    net.keys.missing.clear()
    assert net.find("g1", 1).fact is Fact.CLEAR
    net.walk("g1", 1)
    assert net.find("g1", 1).fact is Fact.INSIDE


def test_the_count_of_people_is_of_passages_never_negative_and_begins_again_at_its_hour(make: Make) -> None:
    net = make(reset_at=time(3), roll_at=time(4))
    net["g1"].passed(ZONE, OUT, net.now())
    assert net["g1"].occupancy(ZONE, net.now()) == 0
    for name in ("g1", "g2", "g2"):
        net[name].passed(ZONE, IN, net.now())
    net.drain()
    assert {net[name].occupancy(ZONE, net.now()) for name in net.gates} == {2}
    net.wait(3 * 3600 - net.elapsed)
    assert {net[name].occupancy(ZONE, net.now()) for name in net.gates} == {0}
    net["g1"].passed(ZONE, IN, net.now())
    net.drain()
    assert {net[name].occupancy(ZONE, net.now()) for name in net.gates} == {1}


def test_a_gate_learns_the_count_of_one_that_is_gone_from_a_third(make: Make) -> None:
    net = make("g1", "g2", "g3")
    net.cut("g3")
    net.walk("g1", 1)
    net.drain()
    net.cut("g1")
    net.join("g3")
    net.drain()
    net.wait(Limits.SETTLE_S)
    assert net["g3"].occupancy(ZONE, net.now()) == 1
    assert net.find("g3", 1).fact is Fact.INSIDE


# Restart.


def test_a_killed_gate_goes_on_from_its_file(make: Make) -> None:
    net = make()
    net.walk("g1", 1)
    net.walk("g1", 2)
    net.walk("g1", 2, OUT)
    net.reserve("g1", 3)
    net.kill("g1")
    net.start("g1")
    assert [net.find("g1", number).local for number in (1, 2, 3)] == [Fact.INSIDE, Fact.CLEAR, Fact.INSIDE]
    net.wait(61)
    assert net.find("g1", 3).local is Fact.CLEAR, "no outcome: not entered"
    net.settle()
    assert {net[name].occupancy(ZONE, net.now()) for name in net.gates} == {1}


def test_an_exit_granted_before_the_gate_was_killed_counts_as_taken(make: Make) -> None:
    net = make()
    net.walk("g1", 1)
    net.drain()
    net.reserve("g1", 1, OUT)
    net.kill("g1")
    net.start("g1")
    net.settle()
    assert net.facts(1) == {Fact.CLEAR}


def test_a_gate_that_lost_its_file_gets_everything_back_and_its_old_count_stays(make: Make) -> None:
    net = make()
    for number in range(30):
        net.walk("g1", number)
    net.drain()
    net.kill("g1")
    net.gates["g1"].path.write_bytes(b"no database at all" * 100)
    net.start("g1")
    assert net["g1"].renewed
    assert net.find("g1", 1).local is Fact.CLEAR
    net.settle()
    assert all(net.facts(number) == {Fact.INSIDE} for number in range(30))
    net.walk("g1", 99)
    net.settle()
    assert {net[name].occupancy(ZONE, net.now()) for name in net.gates} == {31}
    assert net.twice == 0


def test_a_file_that_does_not_say_whose_it_is_begins_anew(make: Make) -> None:
    net = make("g1")
    net.kill("g1")
    with closing(sqlite3.connect(net.gates["g1"].path)) as db, db:
        db.execute("DELETE FROM meta")
    net.start("g1")
    assert net["g1"].renewed


def test_a_double_entry_that_was_told_is_not_told_again_after_a_restart(make: Make) -> None:
    net = make()
    net.cut()
    net.walk("g1", 1)
    net.wait(5)
    net.walk("g2", 1)
    net.settle()
    assert net.twice == 1
    net.kill("g2")
    net.start("g2")
    net.settle()
    assert net.twice == 1


def test_a_double_entry_that_was_not_told_before_the_gate_was_killed_is_told_after(make: Make) -> None:
    net = make()
    net.cut()
    net.walk("g1", 1)
    net.wait(5)
    net.walk("g2", 1)
    net.join()
    net.drain()
    assert net.twice == 0
    net.kill("g2")
    net.start("g2")
    net.settle()
    assert net.twice == 1


def test_a_reservation_that_cannot_be_written_is_none_and_later_writes_make_up_for_it(make: Make) -> None:
    net = make("g1")
    state = net["g1"]
    net.walk("g1", 1)
    found = net.find("g1", 2)
    state._store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(ZoneStoreError):
        state.reserve(ZONE, handle(2), "a", "l1", IN, net.now(), decided_on=found)
    assert net.find("g1", 2) == found
    state.passed(ZONE, IN, net.now())
    assert state.degraded(net.now()) == ["zone_store"]
    state._store._db.execute("PRAGMA query_only = OFF")
    net.walk("g1", 3)
    assert state.degraded(net.now()) == []
    net.kill("g1")
    net.start("g1")
    assert [net.find("g1", number).local for number in (1, 2, 3)] == [Fact.INSIDE, Fact.CLEAR, Fact.INSIDE]
    net.settle()
    assert net["g1"].occupancy(ZONE, net.now()) == 3


def test_the_file_is_readable_by_its_owner_alone(make: Make) -> None:
    net = make("g1")
    net.walk("g1", 1)
    files = list(net.gates["g1"].path.parent.iterdir())
    assert len(files) == 3
    assert all(each.stat().st_mode & 0o077 == 0 for each in files)


def test_no_handle_and_no_attempt_is_in_the_file(make: Make) -> None:
    net = make("g1")
    found = net.find("g1", 1)
    attempt = "0123456789abcdef"
    net["g1"].reserve(ZONE, handle(1), attempt, "l1", IN, net.now(), decided_on=found)
    raw = b"".join(each.read_bytes() for each in net.gates["g1"].path.parent.iterdir())
    for secret in (handle(1), handle(1).hex().encode(), attempt.encode(), bytes.fromhex(attempt)):
        assert secret not in raw


# Bounds.


def test_a_full_zone_does_not_remember_more_people_and_says_so_once(make: Make) -> None:
    net = make(max_tags=3)
    for number in range(3):
        net.walk("g1", number)
    assert net.find("g1", 0).fact is Fact.INSIDE
    assert net.find("g1", 9) == Finding(Fact.CUT_OFF, Fact.CLEAR)
    net.walk("g1", 9)
    net.drain()
    assert net.find("g1", 9) == Finding(Fact.CUT_OFF, Fact.CLEAR)
    assert [gate.full for gate in net.gates.values()] == [1, 1]
    net.walk("g1", 0, OUT)
    assert net.find("g1", 0).fact is Fact.CLEAR
    net.settle()


def test_attempts_without_outcome_and_waiting_messages_are_bounded(make: Make) -> None:
    net = make("g1")
    for number in range(Limits.PENDING + 10):
        net.reserve("g1", number)
    assert len(net["g1"]._members[ZONE]._pending) == Limits.PENDING
    net.wait(Limits.PENDING_S + 1)
    assert net["g1"]._members[ZONE]._pending == {}
    for number in range(Limits.QUEUE + 10):
        net["g1"].free(net.reserve("g1", number), net.now())
    assert len(net["g1"]._members[ZONE].exchange._queue) == Limits.QUEUE
    net.cut()
    assert net["g1"].outgoing(net.now()) == []
    assert len(net["g1"]._members[ZONE].exchange._queue) == 0


def test_outgoing_gives_no_more_than_it_is_asked_for_and_goes_on_where_it_stopped(make: Make) -> None:
    net = make()
    net.cut("g2")
    for number in range(100):
        net.walk("g1", number)
    net.drain()
    net.join("g2")
    net.send()
    while net.flights:
        net.deliver()
        net.flights += []
        for name in net.gates:
            assert len(net[name].outgoing(net.now(), 0)) == 0
        net.send()
    net.settle()
    assert all(net.facts(number) == {Fact.INSIDE} for number in range(100))


# On the wire.


def test_all_messages_are_of_one_size_and_no_two_alike_even_for_one_person(make: Make) -> None:
    net = make("g1", "g2", "g3")
    net.cut("g3")
    for _ in range(3):
        net.walk("g1", 1)
        net.free("g1", net.reserve("g1", 1))
        net.walk("g1", 1, OUT)
        net.drain()
    net["g1"].forgive_zone(ZONE, net.now())
    net.walk("g2", 1)
    net.settle()
    payloads = [each.payload for each in net.seen]
    assert {len(each) for each in payloads} == {512}
    assert len({each[:5] for each in payloads}) == 1, "version and period"
    assert len({each[5:] for each in payloads}) == len(payloads)
    member = net["g1"]._members[ZONE]
    tag = member._period_keys[PERIOD].tag(handle(1))
    assert not any(tag in each or handle(1)[:16] in each for each in payloads)
    # No eight bytes occur in two messages: nothing inside repeats visibly.
    blocks = [each[at : at + 8] for each in payloads for at in range(5, 505, 8)]
    assert len(set(blocks)) == len(blocks)


def test_forged_replayed_cut_and_misdirected_messages_change_nothing_and_are_counted(make: Make) -> None:
    net = make("g1", "g2")
    net.walk("g1", 1)
    message = net["g1"].outgoing(net.now())[0]
    target, now = net["g2"], net.now("g2")
    topic, good = message.topic, message.payload
    before = target.dropped
    cases = [
        (topic, good[:-1] + bytes([good[-1] ^ 1]), Drop.FORGED),
        (topic, good[:20] + bytes([good[20] ^ 1]) + good[21:], Drop.FORGED),
        (topic, good[:100], Drop.MALFORMED),
        (topic, b"", Drop.MALFORMED),
        (topic, good + b"\0", Drop.MALFORMED),
        (topic, b"\2" + good[1:], Drop.MALFORMED),
        (topic, good[:1] + (PERIOD + 1).to_bytes(4) + good[5:], Drop.FUTURE_PERIOD),
        (topic, good[:1] + (PERIOD - 1).to_bytes(4) + good[5:], Drop.OLD_PERIOD),
        (topics.zone_tag(SITE, "g3", ZONE), good, Drop.FORGED),
        (topics.zone_tag(SITE, "g2", ZONE), good, Drop.OWN),
        (topics.zone_tag(SITE, "g1", "attic"), good, Drop.OTHER_ZONE),
        (topics.zone_tag("elsewhere", "g1", ZONE), good, Drop.OTHER_SITE),
        (topics.event(SITE, "g1"), good, Drop.NOT_A_TOPIC),
        ("", good, Drop.NOT_A_TOPIC),
    ]
    for at, payload, reason in cases:
        assert target.receive(at, payload, now) == []
        assert target.dropped[reason] == before[reason] + 1, reason
        before = target.dropped
    assert net.find("g2", 1).fact is Fact.CLEAR
    target.receive(topic, good, now)
    assert target.dropped == before
    assert net.find("g2", 1).fact is Fact.INSIDE
    target.receive(topic, good, now)
    assert target.dropped[Drop.REPLAYED] == before[Drop.REPLAYED] + 1


def test_replayed_to_a_restarted_gate_old_messages_change_nothing(make: Make) -> None:
    net = make()
    net.walk("g1", 1)
    net.walk("g1", 1, OUT)
    net.free("g1", net.reserve("g1", 2))
    net["g1"].forgive_zone(ZONE, net.now())
    net.walk("g1", 3)
    net.settle()
    before = [net.find("g2", number).local for number in range(4)]
    count = net["g2"].occupancy(ZONE, net.now())
    net.kill("g2")
    net.start("g2")
    for each in net.seen:
        net["g2"].receive(each.topic, each.payload, net.now("g2"))
    net.settle()
    assert [net.find("g2", number).local for number in range(4)] == before
    assert net["g2"].occupancy(ZONE, net.now()) == count
    assert net.twice == 0


def test_a_gate_whose_clock_is_far_ahead_is_not_believed(make: Make) -> None:
    net = make()
    net.ahead["g1"] = timedelta(seconds=Limits.SKEW_S + 1)
    net.walk("g1", 1)
    net["g1"].forgive_zone(ZONE, net.now("g1"))
    net.walk("g1", 2)
    net.drain()
    assert net.find("g2", 1).fact is Fact.CLEAR
    assert net["g2"].dropped[Drop.FROM_THE_FUTURE] >= 3


def test_messages_before_the_key_of_the_period_are_counted(make: Make) -> None:
    net = make()
    g2 = net.gates["g2"].state._members[ZONE]
    g2._period_keys.clear()
    net.keys.missing.add(PERIOD)
    net.walk("g1", 1)
    net.drain()
    assert net["g2"].dropped[Drop.NO_KEY] >= 1


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=600), st.text(max_size=40))
def test_no_message_makes_it_fail(tmp_path_factory: pytest.TempPathFactory, payload: bytes, topic: str) -> None:
    net = Network(tmp_path_factory.mktemp("zone"), ("g1",))
    net.join()
    net.tick()
    for each in (topic, topics.zone_tag(SITE, "g9", ZONE)):
        assert net["g1"].receive(each, payload, net.now()) == []
        assert net["g1"].receive(each, b"\1" + PERIOD.to_bytes(4) + payload.ljust(507)[:507], net.now()) == []
    assert net["g1"].dropped.total() == 4
    net.close()


def test_settings_of_a_zone_that_cannot_stand_in_a_topic_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="topic"):
        ZoneState(
            tmp_path / "zone.sqlite",
            site=SITE,
            gate="g1",
            zones=[ZoneSettings("로비/1층")],
            keys=Keys(),
            random_bytes=bytes,
            now=Moment(START, 0.0),
        )
