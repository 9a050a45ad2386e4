"""A gate's zones as its lanes ask them: ways between two zones, and files that fail half-way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from drivers.ports import Direction
from gate_agent.passage import Effect
from gate_agent.zone import Fact, Finding, ZoneState, ZoneStoreError
from gate_agent.zones import NOT_ASKED, Way, Zones
from policy import document
from policy.model import Policy
from protocol.events import Kind
from tests.gate_agent.conftest import DailyKeys
from tests.gate_agent.fakes import FakeClock, FakeTimers

RULES = """
version = 1
timezone = "Asia/Seoul"
[schedules.always]
mon = ["00:00-24:00"]
[profiles.staff]
zones = ["lobby", "office"]
schedule = "always"
""" + "".join(
    f'[zones.{zone}.antipassback]\nmode = "hard"\n'
    f'[points.{zone}-in]\ndirection = "entry"\nfrom = "{before}"\nto = "{zone}"\nentrance_group = "hq"\n'
    f'[points.{zone}-out]\ndirection = "exit"\nfrom = "{zone}"\nto = "{before}"\nentrance_group = "hq"\n'
    for zone, before in (("lobby", "outside"), ("office", "lobby"))
)
"""Both zones remember who is inside; the office lies behind the lobby."""
HANDLE = bytes(16)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return document.parse(RULES.encode())


class Gate:
    def __init__(self, folder: Path, policy: Policy) -> None:
        clock = FakeClock()
        self.events: list[tuple[Kind, Any]] = []
        self.policy = policy
        self.zones = Zones(
            folder / "zones.db",
            site="seoul-1",
            gate="gate-1",
            keys=DailyKeys(),
            clock=clock,
            random_bytes=Random(2).randbytes,
            note=lambda kind, data: self.events.append((kind, data)),
            call_later=FakeTimers(clock).call_later,
        )
        self.zones.use(policy)

    def pass_through(self, point: str, attempt: str) -> None:
        """Granted and walked, whatever is found: cut off, the zones' rule lets everybody pass."""
        way = Way.of(self.policy, point)
        inward = Direction.IN if way.decides == way.enters else Direction.OUT
        found = self.zones.find(way.decides, HANDLE, "lane-1", inward)
        assert self.zones.reserve(way, HANDLE, attempt, "lane-1", found) is None
        self.zones.ended(Effect.COMPLETED, attempt, way)

    def local(self, zone: str) -> Fact:
        return self.zones.find(zone, HANDLE, "lane-2", Direction.IN).local


@pytest.fixture
def gate(tmp_path: Path, policy: Policy) -> Iterator[Gate]:
    made = Gate(tmp_path, policy)
    yield made
    made.zones.stop()


def test_a_way_out_into_a_zone_that_is_cut_off_is_never_asked_to_decide_again(gate: Gate) -> None:
    way = Way.of(gate.policy, "office-out")
    assert gate.zones.reserve(way, HANDLE, "5f", "lane-1", NOT_ASKED) is None


def test_a_way_out_into_a_zone_where_somebody_is_inside_already_is_open_all_the_same(gate: Gate) -> None:
    gate.pass_through("lobby-in", "01")
    assert gate.local("lobby") is Fact.INSIDE
    # Into the office behind somebody else's back, so never seen leaving the lobby.
    gate.pass_through("office-out", "02")
    assert gate.local("lobby") is Fact.INSIDE
    assert (Kind.ANTIPASSBACK_SOFT, {"zone": "lobby", "count": 1}) in gate.events


def test_a_passage_between_two_zones_leaves_the_one_and_enters_the_other(gate: Gate) -> None:
    gate.pass_through("lobby-in", "01")
    gate.pass_through("office-in", "02")
    assert (gate.local("lobby"), gate.local("office")) == (Fact.CLEAR, Fact.INSIDE)
    gate.pass_through("office-out", "03")
    assert (gate.local("lobby"), gate.local("office")) == (Fact.INSIDE, Fact.CLEAR)


def test_what_can_be_reserved_in_one_of_two_zones_only_is_reserved_in_neither(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ZoneState.reserve

    def fails_on_the_way_out(state: ZoneState, zone: str, *rest: Any, **more: Any) -> Finding | None:
        if zone == "lobby":
            raise ZoneStoreError("disk full")
        return whole(state, zone, *rest, **more)

    gate.pass_through("lobby-in", "01")
    monkeypatch.setattr(ZoneState, "reserve", fails_on_the_way_out)
    found = gate.zones.find("office", HANDLE, "lane-1", Direction.IN)
    with pytest.raises(ZoneStoreError):
        gate.zones.reserve(Way.of(gate.policy, "office-in"), HANDLE, "02", "lane-1", found)
    assert gate.local("office") is Fact.CLEAR


def test_a_passage_through_the_other_side_of_a_lane_goes_by_that_sides_own_access_point(policy: Policy) -> None:
    both = {Direction.IN: "lobby-in", Direction.OUT: "office-out"}  # unlike the front's the other way round
    assert Way.passed(policy, both, Direction.OUT) == Way("office", "lobby", "office")
    assert Way.passed(policy, both, Direction.IN) == Way("outside", "lobby", "lobby")
    assert Way.passed(policy, {Direction.IN: "lobby-in"}, Direction.OUT) == Way("lobby", "outside", "lobby")
