"""The picture in memory and its watchers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from controller import live as live_module
from controller.live import Change, Live
from controller.sorting import sort
from controller.store import Store
from policy.situation import ClockQuality
from protocol import topics
from protocol.command import Operator
from protocol.events import TIMED, Kind
from protocol.health import EXPIRY_S, Health
from protocol.status import GateState, LaneState, LaneStatus, Online


def nobody(_gate: str) -> None:
    """No gate is enrolled."""


SEOUL = ZoneInfo("Asia/Seoul")
WITHIN_S = 10


@dataclass
class FixedClock:
    at: datetime = field(default_factory=lambda: datetime(2026, 11, 24, 9, 5, tzinfo=UTC))

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


@dataclass(frozen=True, slots=True)
class Sent:
    topic: str
    payload: bytes


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def live(clock: FixedClock) -> Live:
    return Live(clock, SEOUL)


@pytest.fixture
def feed(live: Live, store: Store, clock: FixedClock) -> Callable[..., None]:
    """Messages through sorting and store into the picture."""

    def give(*messages: tuple[str, bytes]) -> None:
        done = sort([Sent(topic, payload) for topic, payload in messages], "hq", nobody)
        live.apply(done, store.commit(done.batch, clock.now()))

    return give


def evt(record: bytes) -> tuple[str, bytes]:
    return topics.event("hq", "gate-1"), record


def test_a_decision_and_the_opening_that_follows_it_show_on_the_lane(
    live: Live, feed: Callable[..., None], journal: Any
) -> None:
    [granted] = journal.write(1, attempt="a", lat_ms={"ours": 4.0})
    [opened] = journal.write(1, kind=Kind.LANE_OPENED, attempt="a", lat_ms={"ours": 5.5})
    feed(evt(granted))
    lane = live.lanes["gate-1", "l1"]
    assert lane.decision is not None
    assert (lane.decision.kind, lane.ours_ms) == (Kind.ACCESS_GRANTED, 4.0)
    feed(evt(opened))
    assert lane.ours_ms == 5.5
    assert live.counts == {"access.granted": 1, "lane.opened": 1}
    assert live.gates["gate-1"].mark == 2


def test_a_late_older_decision_does_not_replace_the_newer(live: Live, feed: Callable[..., None], journal: Any) -> None:
    first, second = journal.write(2)
    feed(evt(second))
    feed(evt(first))
    decision = live.lanes["gate-1", "l1"].decision
    assert decision is not None
    assert decision.seq == 2


def test_a_repeated_record_counts_once(live: Live, feed: Callable[..., None], journal: Any) -> None:
    [record] = journal.write(1)
    for _ in range(3):
        feed(evt(record))
    assert live.counts == {"access.granted": 1}
    assert len(live.last) == 1


def test_lanes_that_the_state_no_longer_names_go(live: Live, feed: Callable[..., None]) -> None:
    def state(*lanes: str) -> tuple[str, bytes]:
        named = tuple(LaneStatus(lane, "in", LaneState.SECURED) for lane in lanes)
        return topics.state("hq", "gate-1"), GateState("b1", "e1", 0, named).encode()

    feed(state("l1", "l2"))
    feed(state("l2"))
    assert list(live.lanes) == [("gate-1", "l2")]


def test_a_health_grows_old(live: Live, feed: Callable[..., None], clock: FixedClock) -> None:
    health = Health("b1", "0.1", 1, ClockQuality.SYNCED, 0, 0, "1")
    feed((topics.health("hq", "gate-1"), health.encode()))
    gate = live.gates["gate-1"]
    assert gate.fresh_health(clock.now()) == health
    assert gate.fresh_health(clock.now() + timedelta(seconds=EXPIRY_S + 1)) is None


def test_the_counts_begin_again_with_the_sites_day(
    live: Live, feed: Callable[..., None], journal: Any, clock: FixedClock
) -> None:
    feed(evt(journal.write(1)[0]))
    clock.at = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)  # midnight in Seoul
    feed(evt(journal.write(1)[0]))  # written the day before
    assert live.counts == {}


def test_the_picture_is_there_again_after_a_restart(
    feed: Callable[..., None], store: Store, journal: Any, clock: FixedClock, live: Live
) -> None:
    [refused] = journal.write(1, kind=Kind.ACCESS_DENIED, reason="revoked")
    feed(evt(refused), (topics.online("hq", "gate-1"), Online(True, "b1").encode()), ("x", b"junk"))
    again = Live(clock, SEOUL)
    again.load(store.picture(again.today(), 50))
    assert (again.counts, again.set_aside) == (live.counts, 1)
    assert [stored.event.raw for stored in again.last] == [refused]
    gate = again.gates["gate-1"]
    assert (gate.online, gate.boot, gate.mark) == (True, "b1", 1)


def test_after_a_restart_nothing_stored_tells_when_somebody_walked(
    feed: Callable[..., None], store: Store, journal: Any, clock: FixedClock, live: Live
) -> None:
    for kind in Kind:
        feed(evt(journal.write(1, kind=kind)[0]))
    newer = journal.write(1, v=3)[0].replace(b"gwanmun.access.granted", b"gwanmun.access.waved")
    feed(evt(newer))
    feed(evt(journal.write(1)[0]))
    assert {stored.event.kind for stored in live.last} >= {"access.waved", "access.granted"}  # live, as it happened
    again = Live(clock, SEOUL)
    again.load(store.picture(again.today(), 100))
    assert {stored.event.kind for stored in again.last} == set(Kind) - TIMED
    assert again.lanes == {}
    assert again.counts == live.counts


def test_a_passage_is_shown_while_it_is_new_and_a_refusal_stays(
    live: Live, feed: Callable[..., None], journal: Any, clock: FixedClock
) -> None:
    [granted] = journal.write(1, lane="l1")
    [refused] = journal.write(1, lane="l2", kind=Kind.ACCESS_DENIED, reason="revoked")
    feed(evt(granted), evt(refused))
    clock.at += timedelta(seconds=live_module.LIVE_S)
    live.forget()
    assert [stored.event.raw for stored in live.last] == [refused]
    assert live.lanes["gate-1", "l1"].decision is None
    assert live.lanes["gate-1", "l2"].decision is not None


def test_a_passage_that_a_gate_tells_of_hours_later_is_counted_and_not_shown(
    live: Live, feed: Callable[..., None], journal: Any, clock: FixedClock
) -> None:
    [granted] = journal.write(1)
    [refused] = journal.write(1, kind=Kind.ACCESS_DENIED, reason="revoked")
    clock.at += timedelta(hours=3)
    feed(evt(granted), evt(refused))
    assert [stored.event.raw for stored in live.last] == [refused]
    assert live.counts == {"access.granted": 1, "access.denied": 1}


def test_a_passage_of_a_gate_whose_clock_is_ahead_is_counted_and_not_shown(
    live: Live, feed: Callable[..., None], journal: Any, clock: FixedClock
) -> None:
    clock.at -= timedelta(hours=5)
    feed(evt(journal.write(1)[0]))
    assert (list(live.last), live.lanes) == ([], {})


def test_hostile_data_makes_no_lane_and_no_figure(live: Live, feed: Callable[..., None], journal: Any) -> None:
    feed(*(evt(journal.write(1, lane=lane)[0]) for lane in ("", "a b", ["l1"], {"x": 1}, "x" * 100)))
    assert live.lanes == {}
    for ours in (True, "4", -1, 1e9, None, [1]):
        feed(evt(journal.write(1, lat_ms={"ours": ours})[0]))
    assert live.lanes["gate-1", "l1"].ours_ms is None


async def test_a_watcher_hears_a_change(live: Live, feed: Callable[..., None], journal: Any) -> None:
    watcher = live.watch()
    assert watcher is not None
    task = asyncio.create_task(live.run())
    feed(evt(journal.write(1)[0]))
    change = await watcher.next(WITHIN_S)
    assert isinstance(change, Change)
    assert change.lanes == {("gate-1", "l1")}
    assert [stored.event.raw for stored in change.events] == journal.records
    task.cancel()


async def test_a_slow_watcher_is_told_to_take_everything_again(live: Live) -> None:
    watcher = live.watch()
    assert watcher is not None
    for _ in range(live_module.WATCHER_QUEUE + 1):
        watcher.offer(Change(frozenset(), frozenset(), ()))
    assert await watcher.next(WITHIN_S) == "resync"
    assert await watcher.next(0.001) == "idle"
    watcher.offer(Change(frozenset(), frozenset(), ()))
    assert isinstance(await watcher.next(WITHIN_S), Change)


async def test_watchers_are_bounded_and_end_when_the_picture_closes(live: Live) -> None:
    watchers = [live.watch() for _ in range(live_module.MAX_WATCHERS)]
    assert live.watch() is None
    first = watchers[0]
    assert first is not None
    live.leave(first)
    assert live.watch() is not None
    live.close()
    second = watchers[1]
    assert second is not None
    assert await second.next(WITHIN_S) == "closed"


def test_open_alarms_show_on_their_gate_until_they_are_closed(
    live: Live, feed: Callable[..., None], journal: Any, store: Store, clock: FixedClock
) -> None:
    feed(evt(journal.write(1, Kind.ALARM_TAMPER)[0]), evt(journal.write(1, Kind.ALARM_LOITER)[0]))
    assert (live.gates["gate-1"].alarms, sorted(live.alarms)) == (2, [1, 2])
    feed(evt(journal.write(1, Kind.ALARM_LOITER_CLEARED)[0]), evt(journal.write(1, Kind.ALARM_TAMPER_CLEARED)[0]))
    assert live.alarms[1].state == "cleared"
    again = Live(clock, SEOUL)
    again.load(store.picture(again.today(), 50))
    assert again.alarms == live.alarms
    _, update = store.alarm_book.acknowledge(1, Operator("Kim", "guard"), clock.now())
    for picture in (live, again):
        picture.apply_alarms(update.rows)
        assert (picture.alarms, picture.gates["gate-1"].alarms) == ({}, 0)


async def test_a_watcher_is_told_whether_an_alarm_changed(live: Live, feed: Callable[..., None], journal: Any) -> None:
    watcher = live.watch()
    assert watcher is not None
    task = asyncio.create_task(live.run())
    found = []
    for kind in (Kind.ALARM_TAMPER, Kind.ACCESS_GRANTED):
        feed(evt(journal.write(1, kind)[0]))
        change = await watcher.next(WITHIN_S)
        assert isinstance(change, Change)
        found.append(change.alarms)
    assert found == [True, False]
    task.cancel()
