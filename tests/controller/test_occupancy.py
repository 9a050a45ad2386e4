"""How many are inside, and what a fire warden is told that nobody knows."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from pathlib import Path

import pytest

from controller.occupancy import Seen, Settings, settings
from controller.query_rows import Muster, ZoneCount
from policy.model import OUTSIDE, Direction, Point
from policy.problems import PolicyError
from protocol.events import Kind
from tests.controller.past import DAY, Past

NINE = DAY + timedelta(hours=9)
POINTS = {
    "lobby-in": Point("lobby-in", Direction.ENTRY, OUTSIDE, "lobby", "main"),
    "lobby-out": Point("lobby-out", Direction.EXIT, "lobby", OUTSIDE, "main"),
    "lab-in": Point("lab-in", Direction.ENTRY, "lobby", "lab", "lab"),
}
ZONES = Settings(POINTS, ("lobby", "lab"))


def grant(past: Past, lane: str, point: str, dir: str = "in", gate: str = "gate-1") -> None:  # noqa: A002
    past.event(DAY - timedelta(days=1), Kind.ACCESS_GRANTED, gate=gate, lane=lane, dir=dir, point=point, rolled=True)


def muster(past: Past, now: datetime = NINE, seen: Seen | None = None, zones: Settings = ZONES) -> Muster:
    return past.queries(occupancy=zones).muster(now, seen)


def zone(found: Muster, name: str = "lobby") -> ZoneCount:
    return next(each for each in found.zones if each.zone == name)


@pytest.fixture
def lobby(past: Past) -> Past:
    """Gate 1, whose lane l1 leads into the lobby and l2 from there into the lab."""
    past.gate()
    grant(past, "l1", "lobby-in")
    grant(past, "l2", "lab-in")
    return past


def test_who_came_in_and_did_not_leave_is_inside(lobby: Past) -> None:
    lobby.count(NINE - timedelta(hours=1), 12)
    lobby.count(NINE - timedelta(hours=1), 2, dir="out")
    lobby.count(NINE - timedelta(hours=1), 3, lane="l2")
    lobby.count(NINE - timedelta(hours=1), 1, lane="l2", dir="out")
    found = muster(lobby)
    assert zone(found) == ZoneCount("lobby", 8, 0, certain=True)
    assert zone(found, "lab") == ZoneCount("lab", 2, 0, certain=True)
    assert found.gates == []
    assert found.lanes == []


def test_an_exit_with_readers_of_its_own_leads_out_and_its_other_way_in(past: Past) -> None:
    past.gate()
    grant(past, "l9", "lobby-out", "out")
    past.count(NINE, 5, lane="l9")
    past.count(NINE, 3, lane="l9", dir="out")
    assert zone(muster(past)).count == 2


def test_passages_that_are_not_rolled_up_yet_count(lobby: Past) -> None:
    lobby.event(NINE - timedelta(minutes=1), Kind.PASSAGE_COMPLETED, dir="in")
    lobby.event(NINE - timedelta(minutes=1), Kind.PASSAGE_UNKNOWN, dir="in")
    assert zone(muster(lobby)) == ZoneCount("lobby", 1, 1, certain=False, reasons=("passages_unknown",))


@pytest.mark.parametrize(("hour", "since"), [(9, "2026-11-23T19:00:00.000Z"), (3, "2026-11-22T19:00:00.000Z")])
def test_the_counts_begin_at_the_last_quiet_hour(lobby: Past, hour: int, since: str) -> None:
    lobby.count(DAY - timedelta(hours=21), 2)
    lobby.count(DAY + timedelta(hours=2), 5)
    if hour == 9:
        lobby.count(DAY + timedelta(hours=5), 9)
    found = muster(lobby, DAY + timedelta(hours=hour))
    assert found.since == since
    assert zone(found).count == (9 if hour == 9 else 5)


def test_a_gate_whose_clock_is_an_hour_ahead_counts_and_one_that_is_days_ahead_does_not(lobby: Past) -> None:
    lobby.count(NINE + timedelta(hours=1), 3)
    lobby.count(NINE + timedelta(days=400), 5)
    lobby.event(NINE + timedelta(days=400), Kind.PASSAGE_COMPLETED, dir="in")
    assert zone(muster(lobby)).count == 3


def test_at_the_quiet_hour_itself_the_counts_begin_anew(lobby: Past) -> None:
    lobby.count(DAY + timedelta(hours=2), 5)
    assert zone(muster(lobby, DAY + timedelta(hours=4))).count == 0
    assert zone(muster(lobby, DAY + timedelta(hours=4, seconds=-1))).count == 5


def test_more_who_left_than_came_are_nobody_and_uncertain(lobby: Past) -> None:
    lobby.count(NINE, 4, dir="out")
    assert zone(muster(lobby)) == ZoneCount("lobby", 0, 4, certain=False, reasons=("below_zero",))


@pytest.mark.parametrize("kind", [Kind.ALARM_TAILGATE, Kind.ALARM_FORCED, Kind.ALARM_CRAWL])
def test_somebody_may_have_passed_uncounted(lobby: Past, kind: Kind) -> None:
    lobby.count(NINE, 2, kind)
    assert zone(muster(lobby)) == ZoneCount("lobby", 0, 2, certain=False, reasons=("passages_uncounted",))


@pytest.mark.parametrize("kind", [Kind.FIRE_ASSERTED, Kind.DOOR_MODE])
def test_a_lane_that_stood_open_makes_both_its_zones_uncertain(lobby: Past, kind: Kind) -> None:
    lobby.count(NINE, 1, kind, lane="l2")
    found = muster(lobby)
    assert zone(found).reasons == zone(found, "lab").reasons == ("lane_stood_open",)
    assert not zone(found).certain


def test_a_lane_that_stands_open_now_makes_it_uncertain_however_long_it_does(lobby: Past) -> None:
    found = muster(lobby, seen=Seen(open_lanes=frozenset({("gate-1", "l1")})))
    assert zone(found).reasons == ("lane_open",)
    assert zone(found, "lab").certain


def test_records_that_a_gate_lost_make_its_zones_uncertain(lobby: Past) -> None:
    lobby.count(NINE, 1, Kind.LOG_GAP, lane="", dir="")
    assert zone(muster(lobby)).reasons == zone(muster(lobby), "lab").reasons == ("records_lost",)


@pytest.mark.parametrize(
    ("online", "stopped", "seen", "why"),
    [
        (0, 0, Seen(), "offline"),
        (None, 0, Seen(), "unknown"),
        (1, 1, Seen(), "stopped"),
        (1, 0, Seen(behind=frozenset({"gate-1"})), "behind"),
    ],
)
def test_a_gate_that_does_not_report_is_named_with_the_zones_it_serves(
    past: Past, online: int | None, stopped: int, seen: Seen, why: str
) -> None:
    past.gate(online=online, stopped=stopped)
    past.gate("gate-2")
    grant(past, "l1", "lobby-in")
    found = muster(past, seen=seen)
    assert [(each.gate, each.why, each.zones) for each in found.gates] == [("gate-1", why, ["lobby"])]
    assert zone(found).reasons == (f"gate_{why}",)
    assert zone(found, "lab").certain


def test_a_gate_with_a_hole_in_its_records_is_named(past: Past) -> None:
    past.gate(mark=0)
    grant(past, "l1", "lobby-in")
    assert [each.why for each in muster(past).gates] == ["hole"]


def test_a_gate_that_is_enrolled_and_was_never_heard_may_serve_any_zone(lobby: Past) -> None:
    found = muster(lobby, seen=Seen(expected=frozenset({"gate-1", "gate-7"})))
    assert [(each.gate, each.why, each.last_seen) for each in found.gates] == [("gate-7", "never_heard", None)]
    assert zone(found).reasons == zone(found, "lab").reasons == ("gate_never_heard",)


def test_passages_of_a_lane_that_no_grant_told_of_are_in_no_zone_and_said(lobby: Past) -> None:
    lobby.count(NINE, 7, lane="l5")
    found = muster(lobby)
    assert found.lanes == ["gate-1/l5"]
    assert zone(found) == ZoneCount("lobby", 0, 0, certain=False, reasons=("lanes_unassigned",))


def test_where_a_lane_leads_is_remembered_after_its_grants_are_deleted_and_learned_anew_the_next_day(
    lobby: Past,
) -> None:
    lobby.count(NINE, 3)
    queries = lobby.queries(occupancy=ZONES)
    assert zone(queries.muster(NINE)).count == 3
    lobby.db.execute("DELETE FROM events")
    lobby.clock.ticks += 10_000
    assert zone(queries.muster(NINE)).count == 3
    lobby.count(NINE + timedelta(days=1), 2)
    assert queries.muster(NINE + timedelta(days=1)).lanes == ["gate-1/l1"]


def test_a_lane_that_is_new_is_looked_for_again_soon(lobby: Past) -> None:
    queries = lobby.queries(occupancy=ZONES)
    queries.muster(NINE)
    lobby.count(NINE, 3, lane="l5")
    grant(lobby, "l5", "lobby-in")
    assert queries.muster(NINE).lanes == ["gate-1/l5"]
    lobby.clock.ticks += 60
    assert queries.muster(NINE).lanes == []


def test_without_rules_no_zone_is_counted(lobby: Past) -> None:
    assert lobby.queries().occupancy(NINE) == []


def test_zones_and_access_points_are_those_of_the_rules(tmp_path: Path) -> None:
    found = settings(Path("config/policy.toml"), time(5, 30))
    assert found.zones == ("lobby", "server-room")
    assert found.points["server-room-in"].to_zone == "server-room"
    assert found.reset == time(5, 30)
    assert settings(None).zones == ()
    bad = tmp_path / "policy.toml"
    bad.write_text("version = 'x'")
    with pytest.raises(PolicyError):
        settings(bad)
    with pytest.raises(OSError, match="nowhere"):
        settings(tmp_path / "nowhere")
