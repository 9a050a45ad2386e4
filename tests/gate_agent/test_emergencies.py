"""The emergency state at a gate: newer ones count and outlive a restart, all others are refused, fire and the spot come first."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.ports import LaneSignal
from gate_agent.modes import KeptModes
from gate_agent.passage import Orders, State, Verb
from protocol.command import CHALLENGE_S
from protocol.emergency import VALID_S, Emergency
from protocol.events import Kind
from tests.gate_agent.command_bench import (
    CHIEF,
    CHIEF_KEY,
    GUARD_KEY,
    LANE,
    SITE,
    STRANGER,
    Desk,
    desk_of,
    keys,
    message,
)
from tests.gate_agent.conftest import Bench
from tests.gate_agent.fakes import beam


@pytest.fixture
async def desk(bench: Bench, tmp_path: Path) -> AsyncIterator[Desk]:
    made = desk_of(bench, tmp_path)
    await made.modes.open()
    yield made
    await made.modes.close()


async def test_a_level_for_the_lanes_zone_bars_entry_and_a_newer_state_without_it_ends_that(desk: Desk) -> None:
    await desk.emergency(1, lobby=3)
    assert desk.at(State.LOCKED_DOWN)
    assert desk.bench.lane.barrier.orders.lockdown == 3
    await desk.emergency(2)
    assert desk.at(State.SECURED)
    accepted = [each.data["cmd"] for each in await desk.events(Kind.COMMAND_ACCEPTED)]
    assert accepted == ["emergency-1", "emergency-2"]


async def test_a_level_elsewhere_changes_nothing_here(desk: Desk) -> None:
    await desk.emergency(1, yard=3)
    assert desk.at(State.SECURED)


async def test_state_and_sequence_outlive_a_restart(desk: Desk, tmp_path: Path) -> None:
    await desk.emergency(7, lobby=2)
    again = KeptModes(tmp_path / "modes.db", [LANE])
    modes = await again.open()
    assert modes.load() == {LANE: Orders(lockdown=2)}
    assert await again.emergency() == (7, {"lobby": 2})
    await again.close()


async def test_an_older_state_is_refused_as_replayed_and_the_same_again_is_no_news(desk: Desk) -> None:
    await desk.emergency(5, lobby=2)
    await desk.emergency(4)
    await desk.emergency(5)
    assert desk.at(State.LOCKED_DOWN)
    assert await desk.refused() == [{"verb": "emergency", "op": "remote", "why": "replayed"}]


async def test_a_forged_state_and_one_of_another_site_are_refused(desk: Desk) -> None:
    await desk.emergency(1, key=STRANGER, lobby=2)
    other = Emergency("seoul-2", 1, desk.bench.clock.now(), desk.bench.clock.now(), {"lobby": 2})
    await desk.emergencies.handle(other.encode(CHIEF_KEY))
    await desk.emergencies.handle(b"garbage")
    assert desk.at(State.SECURED)
    assert await desk.whys() == ["forged", "misaddressed", "malformed"]


async def test_a_key_that_may_order_but_not_for_the_whole_site_signs_no_emergency(desk: Desk) -> None:
    await desk.emergency(1, key=GUARD_KEY, lobby=2)
    desk.listed = keys()
    await desk.emergency(1, lobby=2)
    assert desk.at(State.SECURED)
    assert (await desk.refused())[0].items() >= {"why": "not_permitted", "verb": "emergency"}.items()


async def test_a_flood_of_states_that_nobody_signed_is_one_record_and_a_count(desk: Desk) -> None:
    for sequence in range(1, 50):
        await desk.emergency(sequence, key=STRANGER, lobby=2)
    assert await desk.whys() == ["forged"]
    desk.bench.timers.advance(CHALLENGE_S * 2)
    assert (await desk.refused())[1]["count"] == 48


async def test_a_state_past_its_time_is_not_taken_by_a_gate_that_has_none_and_is_by_one_that_has(desk: Desk) -> None:
    issued = desk.bench.clock.now() - timedelta(seconds=VALID_S + 1)
    state = Emergency(SITE, 3, issued, issued + timedelta(seconds=VALID_S), {"lobby": 2})
    await desk.emergencies.handle(state.encode(CHIEF_KEY))
    assert desk.at(State.SECURED)
    assert await desk.whys() == ["late"]
    await desk.emergency(1)
    await desk.emergencies.handle(state.encode(CHIEF_KEY))
    assert desk.at(State.LOCKED_DOWN)


async def test_the_key_switch_ends_a_lockdown_and_no_repetition_or_change_elsewhere_brings_it_back(desk: Desk) -> None:
    await desk.emergency(1, lobby=2)
    barrier = desk.bench.lane.barrier
    barrier.on_input(beam(LaneSignal.KEY_FREE, True))
    barrier.on_input(beam(LaneSignal.KEY_FREE, False))
    desk.bench.timers.advance(1)
    assert desk.at(State.SECURED)
    await desk.emergency(1, lobby=2)
    await desk.emergency(2, lobby=2, yard=1)
    assert desk.at(State.SECURED)
    await desk.emergency(3, lobby=4)
    assert desk.at(State.LOCKED_DOWN)


async def test_a_lockdown_ordered_on_the_spot_does_not_end_by_a_change_elsewhere(desk: Desk) -> None:
    await desk.order("lockdown")
    await desk.emergency(1, yard=2)
    await desk.emergency(2)
    assert desk.at(State.LOCKED_DOWN)


async def test_fire_wins_over_a_state_that_comes_meanwhile_which_counts_after_the_reset(desk: Desk) -> None:
    desk.fire()
    await desk.emergency(1, lobby=2)
    assert desk.at(State.LOCKED_OPEN)
    desk.fire(active=False)
    desk.bench.lane.barrier.on_input(beam(LaneSignal.RESET, True))
    assert desk.at(State.LOCKED_DOWN)


async def test_what_cannot_be_written_bars_entry_all_the_same_and_releases_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_args: Any) -> None:
        raise sqlite3.OperationalError("disk full")

    await desk.emergency(1)
    monkeypatch.setattr(desk.modes, "adopt", full)
    await desk.emergency(2, lobby=2)
    assert desk.at(State.LOCKED_DOWN)
    monkeypatch.undo()
    await desk.emergency(2, lobby=2)
    monkeypatch.setattr(desk.modes, "adopt", full)
    await desk.emergency(3)
    assert desk.at(State.LOCKED_DOWN)
    assert (await desk.refused())[0]["why"] == "record_unavailable"


async def test_a_waiting_state_is_dealt_with_by_the_running_work(desk: Desk) -> None:
    work = asyncio.create_task(desk.emergencies.run())
    now = desk.bench.clock.now()
    raw = Emergency(SITE, 1, now, now, {"lobby": 1}).encode(CHIEF_KEY)
    told = asyncio.Event()
    desk.bench.lane.barrier.listen(lambda _problem: told.set())
    desk.emergencies.on_message(message(raw))
    async with asyncio.timeout(10):
        await told.wait()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert desk.at(State.LOCKED_DOWN)


def _template() -> Any:
    from tests.gate_agent.command_bench import message

    return message(b"")


async def test_an_order_given_at_the_moment_of_a_fire_reset_is_what_outlives_a_restart(
    desk: Desk, tmp_path: Path
) -> None:
    """The reset was written late, and with what was in force before the order."""
    barrier = desk.bench.lane.barrier
    desk.fire()
    desk.fire(active=False)
    barrier.on_input(beam(LaneSignal.RESET, True))
    assert await barrier.order(Verb.DISABLE) is None
    await desk.bench.services.background.finish(5)
    again = KeptModes(tmp_path / "modes.db", [LANE])
    assert (await again.open()).load() == {LANE: Orders(disabled=True)}
    await again.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("emergency"), st.integers(1, 6), st.integers(0, 3)),
        st.tuples(st.just("forged"), st.integers(1, 6), st.integers(0, 3)),
        st.tuples(st.just("order"), st.sampled_from(["lockdown", "release", "disable", "enable", "end_free"])),
        st.tuples(st.just("free")),
        st.tuples(st.just("alone")),
        st.tuples(st.just("open")),
        st.tuples(st.just("replay")),
        st.tuples(st.just("stale")),
        st.tuples(st.just("fire")),
        st.tuples(st.just("garbage"), st.binary(max_size=40)),
    ),
    max_size=14,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=STEPS)
async def test_whatever_comes_in_whatever_order_only_orders_that_count_move_the_lane(
    desk: Desk, steps: list[tuple[Any, ...]]
) -> None:
    """Against a model: orders in force as the signed messages leave them; relays move for recorded orders only."""
    barrier = desk.bench.lane.barrier
    for signal in (True, False):
        barrier.on_input(beam(LaneSignal.RESET, signal))
    for verb in (Verb.RELEASE, Verb.ENABLE, Verb.END_FREE):
        await barrier.order(verb)
    sequence, levels = await desk.modes.emergency()
    for step in steps:
        pulses, before, state = len(desk.bench.hardware.pulses), barrier.kept, desk.state
        match step:
            case ("emergency", number, level):
                await desk.emergency(number, lobby=level)
                if number > sequence:
                    if level != levels.get("lobby", 0):
                        assert barrier.kept == replace(before, lockdown=level)
                    sequence, levels = number, {"lobby": level} if level else {}
                else:
                    assert barrier.kept == before
                assert await desk.modes.emergency() == (sequence, levels)
            case ("forged", number, level):
                await desk.emergency(number, key=STRANGER, lobby=level)
                assert barrier.kept == before
            case ("order", verb):
                answer = await desk.order(verb)
                assert (barrier.kept != before) <= answer.done
            case ("free",):
                answer = await desk.order("free", second=CHIEF, second_key=CHIEF_KEY)
                assert answer.done == (barrier.kept != before)
            case ("alone",):
                assert (await desk.order("free")).refused == "second_missing"
                assert barrier.kept == before
            case ("open",):
                answer = await desk.order("open_once")
                assert (len(desk.bench.hardware.pulses) == pulses + 1) == (answer.done and state is not State.GRANTED)
                desk.bench.timers.advance(61)
            case ("replay",):
                challenge = await desk.challenge()
                await desk.order("acknowledge", challenge=challenge)
                assert (await desk.order("open_once", challenge=challenge)).refused == "replayed"
            case ("stale",):
                challenge = await desk.challenge()
                desk.bench.timers.advance(CHALLENGE_S)
                assert (await desk.order("open_once", challenge=challenge)).refused == "late"
            case ("fire",):
                desk.fire()
                desk.fire(active=False)
                assert desk.at(State.LOCKED_OPEN)
            case ("garbage", raw):
                await desk.ask(raw)
                assert barrier.kept == before
        if step[0] not in {"open", "free"}:
            assert len(desk.bench.hardware.pulses) == pulses
        if before.fire:
            assert desk.at(State.LOCKED_OPEN), "no order ends what fire opened"
    await desk.bench.services.background.finish(5)
    modes = KeptModes(desk.modes._path, [LANE])
    assert (await modes.open()).load().get(LANE, Orders()) == barrier.kept
    await modes.close()
