"""Every name of the event table is raised by the gate's own code and stands in a journal on the disk.

Each scenario says which events it is about; the last test holds that together they are all of them.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from drivers.ports import DriverError, LaneSignal
from gate_agent.barrier import Barrier
from gate_agent.control import ALL
from gate_agent.journal import Journal, Record, RecordUnavailableError
from gate_agent.journal_writer import UPKEEP_S
from gate_agent.passage import Effect, Egress, Settings
from gate_agent.uplink import RESEND_CAP_S
from protocol.ack import Ack
from protocol.events import Event, Kind
from testbed.authority import Authority
from testbed.pki import DevicePki
from tests.gate_agent.conftest import BARRIER, POLICY, REST, Bench, World
from tests.gate_agent.fakes import FakeClock, beam
from tests.gate_agent.journals import held, journal_at
from tests.gate_agent.site import WAIT_S, Site, build, free_port
from tests.gate_agent.test_guard import guard_of, watch_of
from tests.gate_agent.test_judge import ANTIPASSBACK, ESCORT, IN, alone, holder, use
from tests.gate_agent.uplink_bench import DENIED, OK, uplink_bench

A, M, B = LaneSignal.BEAM_A, LaneSignal.BEAM_M, LaneSignal.BEAM_B
RAISED: set[Kind] = set()
"""By the scenarios below."""
Scenario = TypeVar("Scenario", bound=Callable[..., Awaitable[None]])


def raises(*kinds: Kind) -> Callable[[Scenario], Scenario]:
    """The scenario asserts these (`assert_raised`)."""

    def mark(scenario: Scenario) -> Scenario:
        RAISED.update(kinds)
        scenario.kinds = kinds  # type: ignore[attr-defined]  # read back by assert_raised
        return scenario

    return mark


def assert_raised(scenario: Any, found: list[Event]) -> None:
    kinds = {event.kind for event in found}
    assert set(scenario.kinds) <= kinds, set(scenario.kinds) - kinds


async def recorded(bench: Bench) -> list[Event]:
    await bench.services.background.finish(5)
    return await bench.records()


def barrier(bench: Bench, **settings: Any) -> Barrier:
    made = Barrier(
        replace(BARRIER, passage=Settings(**settings)),
        bench.lane.barrier.hardware,
        bench.services,
        call_later=bench.timers.call_later,
    )
    bench.lane.barrier = made
    for each in REST:
        made.on_input(beam(each, False))
    return made


def put(bench: Bench, *changes: tuple[LaneSignal, bool]) -> None:
    for name, active in changes:
        bench.lane.barrier.on_input(beam(name, active))


@raises(Kind.TRUST_APPLIED, Kind.ACCESS_GRANTED, Kind.LANE_OPENED, Kind.PASSAGE_COMPLETED)
async def test_somebody_passes(bench: Bench) -> None:
    await bench.present(bench.world.holder())
    bench.walk()
    found = await recorded(bench)
    assert_raised(test_somebody_passes, found)
    (granted,) = [event.data for event in found if event.kind is Kind.ACCESS_GRANTED]
    assert granted["assurance"] == ["holder_key"]
    assert granted["status_age_s"] >= 0
    assert {"pol", "trust", "clk", "lat_ms", "degraded", "point", "carrier"} <= granted.keys()


@raises(Kind.ACCESS_DENIED, Kind.ACCESS_UNREADABLE)
async def test_somebody_is_refused_and_something_cannot_be_read(bench: Bench) -> None:
    await bench.present(bench.world.holder(authority=bench.world.extra_authorities[0]))
    bench.show("no presentation")
    bench.timers.advance(11)
    found = await recorded(bench)
    assert_raised(test_somebody_is_refused_and_something_cannot_be_read, found)
    denied = next(event.data for event in found if event.kind is Kind.ACCESS_DENIED)
    assert "assurance" not in denied, "nothing was proved"


@raises(Kind.LANE_FAULT, Kind.PASSAGE_NOT_TAKEN)
async def test_the_relay_does_not_confirm(bench: Bench) -> None:
    bench.hardware.relay_error = DriverError("stuck")
    await bench.present(bench.world.holder())
    assert_raised(test_the_relay_does_not_confirm, await recorded(bench))


@raises(Kind.FIRE_ASSERTED, Kind.PASSAGE_UNKNOWN, Kind.FIRE_CLEARED)
async def test_a_fire_comes_and_goes(bench: Bench) -> None:
    await bench.present(bench.world.holder())
    put(bench, (LaneSignal.FIRE, True), (LaneSignal.FIRE, False), (LaneSignal.RESET, True))
    assert_raised(test_a_fire_comes_and_goes, await recorded(bench))


@raises(Kind.PASSAGE_REVERSED)
async def test_somebody_steps_in_and_back(bench: Bench) -> None:
    await bench.present(bench.world.holder())
    for change in ((A, True), (M, True), (A, False), (A, True), (M, False), (A, False)):
        put(bench, change)
        bench.timers.advance(0.2)
    bench.timers.advance(1)
    assert_raised(test_somebody_steps_in_and_back, await recorded(bench))


@raises(Kind.EGRESS_BUTTON)
async def test_somebody_leaves_by_the_button(bench: Bench) -> None:
    put(bench, (LaneSignal.BUTTON, True))
    assert_raised(test_somebody_leaves_by_the_button, await recorded(bench))


@raises(Kind.ALARM_FORCED, Kind.ALARM_FORCED_CLEARED, Kind.DOOR_OPENED, Kind.DOOR_CLOSED)
async def test_a_barrier_is_forced(bench: Bench) -> None:
    put(bench, (LaneSignal.CONTACT, True), (LaneSignal.CONTACT, False))
    bench.timers.advance(10)
    assert_raised(test_a_barrier_is_forced, await recorded(bench))


@raises(Kind.ALARM_CRAWL, Kind.ALARM_CRAWL_CLEARED)
async def test_somebody_crawls(bench: Bench) -> None:
    put(bench, (LaneSignal.BEAM_LOW, True))
    bench.timers.advance(1)
    put(bench, (LaneSignal.BEAM_LOW, False))
    bench.timers.advance(10)
    assert_raised(test_somebody_crawls, await recorded(bench))


@raises(Kind.ALARM_WRONG_WAY, Kind.ALARM_WRONG_WAY_CLEARED)
async def test_somebody_comes_the_wrong_way(bench: Bench) -> None:
    barrier(bench, egress=Egress.READER)
    await bench.present(bench.world.holder())
    put(bench, (B, True), (B, False))
    bench.timers.advance(10)
    assert_raised(test_somebody_comes_the_wrong_way, await recorded(bench))


@raises(Kind.ALARM_TAILGATE, Kind.ALARM_TAILGATE_CLEARED)
async def test_somebody_follows_on_one_grant(bench: Bench) -> None:
    await bench.present(bench.world.holder())
    put(bench, (A, True), (M, True), (A, False), (B, True), (M, False), (A, True))
    bench.timers.advance(0.3)
    put(bench, (M, True), (A, False), (M, False), (B, False))
    bench.timers.advance(10)
    assert_raised(test_somebody_follows_on_one_grant, await recorded(bench))


@raises(Kind.ALARM_LOITER, Kind.ALARM_LOITER_CLEARED)
async def test_somebody_stands_before_the_lane(bench: Bench) -> None:
    put(bench, (A, True))
    bench.timers.advance(100)
    put(bench, (A, False))
    bench.timers.advance(1)
    assert_raised(test_somebody_stands_before_the_lane, await recorded(bench))


@raises(Kind.ALARM_HELD_PRE, Kind.ALARM_HELD, Kind.ALARM_HELD_CLEARED)
async def test_somebody_blocks_the_lane(bench: Bench) -> None:
    await bench.present(bench.world.holder())
    put(bench, (A, True), (M, True))
    bench.timers.advance(45)
    put(bench, (B, True), (A, False), (M, False))
    bench.timers.advance(0.3)
    put(bench, (B, False))
    bench.timers.advance(1)
    assert_raised(test_somebody_blocks_the_lane, await recorded(bench))


@raises(
    Kind.ALARM_TAMPER,
    Kind.ALARM_TAMPER_CLEARED,
    Kind.POWER_MAINS_LOST,
    Kind.POWER_MAINS_RESTORED,
    Kind.POWER_BATTERY_LOW,
    Kind.POWER_BATTERY_RESTORED,
)
async def test_the_housing_and_the_power_fare_badly_and_well_again(bench: Bench) -> None:
    inputs = (LaneSignal.TAMPER, LaneSignal.MAINS_FAIL, LaneSignal.BATTERY_LOW)
    put(bench, *((each, True) for each in inputs), *((each, False) for each in inputs))
    bench.timers.advance(2)
    assert_raised(test_the_housing_and_the_power_fare_badly_and_well_again, await recorded(bench))


@raises(Kind.SENSOR_FAULT, Kind.SENSOR_RESTORED)
async def test_a_beam_is_stuck_and_comes_back(bench: Bench) -> None:
    put(bench, (A, True))
    bench.timers.advance(121)
    put(bench, (A, False))
    bench.timers.advance(60)
    put(bench, (A, True), (A, False))
    bench.timers.advance(60)
    assert_raised(test_a_beam_is_stuck_and_comes_back, await recorded(bench))


@raises(
    Kind.CLOCK_CHANGED,
    Kind.LOCKDOWN_ENTERED,
    Kind.LOCKDOWN_RELEASED,
    Kind.DOOR_MODE,
    Kind.COMMAND_ACCEPTED,
    Kind.COMMAND_REFUSED,
    Kind.ANTIPASSBACK_FORGIVEN,
)
async def test_a_guard_gives_orders(bench: Bench) -> None:
    await use(bench, ANTIPASSBACK)
    watch = watch_of(bench)
    guard = guard_of(bench, watch)
    watch.look()
    for verb in ("lockdown", "free", "release", "free", "release", "forgive"):
        await guard.handle(verb, ALL, {})
    assert_raised(test_a_guard_gives_orders, await recorded(bench))


@raises(Kind.ESCORT_BOUND)
async def test_a_guest_follows_a_host(bench: Bench) -> None:
    await use(bench, ESCORT)
    await bench.present(holder(bench, "staff"))
    bench.walk()
    await bench.present(holder(bench, "contractor"))
    assert_raised(test_a_guest_follows_a_host, await recorded(bench))


@raises(Kind.ANTIPASSBACK_SOFT)
async def test_somebody_enters_twice_where_that_is_noted(bench: Bench) -> None:
    await use(bench, ANTIPASSBACK.replace('"hard"', '"soft"'))
    one, zones = holder(bench), bench.services.judge.zones
    await alone(bench)
    for _ in range(2):
        await bench.present(one)
        bench.walk()
        attempt = [event for event in await recorded(bench) if event.kind is Kind.ACCESS_GRANTED][-1].data["attempt"]
        zones.ended(Effect.COMPLETED, attempt, IN)
    assert_raised(test_somebody_enters_twice_where_that_is_noted, await recorded(bench))


@raises(Kind.TRUST_REJECTED)
async def test_rules_that_cannot_be_used_are_refused(bench: Bench) -> None:
    path = bench.folder / "policy.toml"
    await asyncio.to_thread(path.write_text, POLICY + "[zones.lobby]\n")
    await bench.trust.reload()
    assert_raised(test_rules_that_cannot_be_used_are_refused, await recorded(bench))


@pytest.fixture
async def site(world: World, tmp_path: Path) -> AsyncIterator[Site]:
    """A whole agent; its turnstile is not there yet."""
    now = datetime.now(UTC)
    authority = Authority.create(tmp_path / "authority", name="Agent", now=now)
    made = build(
        world,
        tmp_path / "gate",
        now=now,
        authority=authority,
        pki=DevicePki(tmp_path / "pki", now),
        broker_port=free_port(socket.SOCK_STREAM),
        held=world.holder(authority=authority, now=now),
    )
    yield made
    await made.turnstile.stop()


@raises(Kind.GATE_BOOT, Kind.GATE_STOPPED, Kind.DEVICE_DEGRADED, Kind.DEVICE_RESTORED)
async def test_a_gate_starts_without_its_turnstile_gets_it_back_and_stops(site: Site) -> None:
    async with site.running() as agent:
        await site.journal.wait_for(
            lambda event: event.kind is Kind.DEVICE_DEGRADED and event.data["device"] == "lane.hall",
            after=0,
            timeout=WAIT_S,
        )
        await site.turnstile.start()
        await site.wait_for(Kind.DEVICE_RESTORED)
        agent.send_signal(signal.SIGTERM)
        await asyncio.wait_for(agent.communicate(), WAIT_S)
    assert_raised(test_a_gate_starts_without_its_turnstile_gets_it_back_and_stops, site.journal.read())


@raises(Kind.JOURNAL_CHECKPOINT, Kind.JOURNAL_PRUNED)
async def test_a_journal_vouches_for_itself_and_forgets_after_thirty_days(tmp_path: Path) -> None:
    clock, path = FakeClock(), tmp_path / "journal.db"
    async with journal_at(path, clock) as journal:
        old = await journal.append(Kind.ALARM_TAMPER, {"lane": "hall-in"})
        assert await journal.acknowledge(Ack(old.epoch, old.seq, old.hash))
        for wait in (UPKEEP_S, 31 * 86400):
            clock.elapsed += wait
            for _ in range(2):
                await journal.position()
    assert_raised(test_a_journal_vouches_for_itself_and_forgets_after_thirty_days, held(path))


@raises(Kind.LOG_GAP)
async def test_a_journal_that_could_not_be_written_says_so_once_it_can(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "journal.db"
    async with journal_at(path) as journal:
        with pytest.raises(RecordUnavailableError):
            await journal.append(Kind.ACCESS_GRANTED, {"lane": "l", "dir": "in", "attempt": "1"})
        journal.note(Kind.DEVICE_DEGRADED, {"device": "camera.hall"})
        with pytest.raises(RecordUnavailableError):
            await journal.position()
        await asyncio.to_thread(path.parent.mkdir)
        await journal.append(Kind.ALARM_TAMPER, {"lane": "hall-in"})
    assert_raised(test_a_journal_that_could_not_be_written_says_so_once_it_can, held(path))


@raises(Kind.ALARM_UPLINK, Kind.ALARM_UPLINK_CLEARED)
async def test_the_broker_refuses_a_publication_and_takes_it_later(tmp_path: Path) -> None:
    path, clock = tmp_path / "journal.db", FakeClock()

    def committed(records: Sequence[Record]) -> None:
        bench.uplink.committed(records)  # made below: journal and uplink know each other

    async with (
        journal_at(path, clock, on_commit=committed) as journal,
        uplink_bench(journal, clock=clock, report=journal.note) as bench,
    ):
        bench.broker.answer = lambda _published: DENIED
        bench.broker.connect()
        await journal.append(Kind.ALARM_TAMPER, {"lane": "hall-in"})
        await recorded_in(path, journal, Kind.ALARM_UPLINK)
        bench.broker.answer = lambda _published: OK
        bench.timers.advance(RESEND_CAP_S)
        await recorded_in(path, journal, Kind.ALARM_UPLINK_CLEARED)
    assert_raised(test_the_broker_refuses_a_publication_and_takes_it_later, held(path))


async def recorded_in(path: Path, journal: Journal, kind: Kind) -> None:
    async with asyncio.timeout(WAIT_S):
        while not any(event.kind is kind for event in held(path)):
            await journal.position()  # a turn of its thread, and of the loop


def test_every_name_of_the_table_has_its_scenario() -> None:
    assert set(Kind) - RAISED == set()
