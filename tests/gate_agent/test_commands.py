"""Orders from afar: one that counts is carried out, recorded and answered; every other has one reason and moves nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from drivers.ports import Direction
from gate_agent.command_challenges import MOST
from gate_agent.journal import Journal, RecordUnavailableError
from gate_agent.passage import State
from gate_agent.remote import LANE_VERBS
from policy.situation import ClockQuality
from protocol import command as wire
from protocol import topics
from protocol.command import CHALLENGE_S, EXPIRY_S, Asked, Command, CommandVerb, Operator
from protocol.events import Kind
from protocol.replay import Replay
from tests.conftest import NOW
from tests.gate_agent.command_bench import (
    CHIEF,
    CHIEF_KEY,
    GATE,
    GUARD,
    GUARD_KEY,
    LANE,
    SITE,
    STRANGER,
    Desk,
    desk_of,
    keys,
    listed,
    message,
    plain,
)
from tests.gate_agent.conftest import Bench

IN, OUT = Direction.IN, Direction.OUT


@pytest.fixture
async def desk(bench: Bench, tmp_path: Path) -> AsyncIterator[Desk]:
    made = desk_of(bench, tmp_path)
    await made.modes.open()
    yield made
    await made.modes.close()


async def test_open_once_is_recorded_then_opens_and_the_person_who_walks_is_counted_on_it(desk: Desk) -> None:
    assert (await desk.order("open_once")).results == {LANE: None}
    assert desk.bench.hardware.pulses == [(IN, 300)]
    desk.bench.walk()
    kinds = [kind for kind in await desk.bench.kinds() if kind is not Kind.CLOCK_CHANGED]
    assert kinds[:3] == [Kind.COMMAND_ACCEPTED, Kind.LANE_OPENED, Kind.PASSAGE_COMPLETED]
    accepted, opened, completed = await desk.events(Kind.COMMAND_ACCEPTED, Kind.LANE_OPENED, Kind.PASSAGE_COMPLETED)
    wanted = {"lane": LANE, "dir": "in", "verb": "open_once", "op": "guard", "cmd": "c-1", "reason": "visitor"}
    assert accepted.data.items() >= wanted.items()
    assert accepted.data["attempt"] == opened.data["attempt"] == completed.data["attempt"]


async def test_nothing_that_is_recorded_of_an_order_names_who_gave_it(desk: Desk) -> None:
    await desk.order("open_once")
    await desk.order("release")
    await desk.order("free", key=STRANGER)
    assert not any(GUARD.name.encode() in each.raw for each in await desk.bench.records())


async def test_open_once_lets_one_person_through_and_no_second(desk: Desk) -> None:
    await desk.order("open_once")
    desk.bench.walk()
    desk.bench.walk()
    assert [each.kind for each in await desk.events(Kind.PASSAGE_COMPLETED, Kind.ALARM_FORCED)] == [
        Kind.PASSAGE_COMPLETED,
        Kind.ALARM_FORCED,
    ]


async def test_open_once_outwards_pulses_the_way_out(desk: Desk) -> None:
    await desk.order("open_once", args={"reason": "test", "dir": "out"})
    assert [direction for direction, _ in desk.bench.hardware.pulses] == [OUT]


async def test_what_cannot_be_recorded_does_not_open_inwards_and_holds_nobody_in(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_args: Any, **_more: Any) -> Any:
        raise RecordUnavailableError("disk full")

    monkeypatch.setattr(Journal, "append", full)
    assert (await desk.order("open_once")).results == {LANE: "record_unavailable"}
    assert desk.bench.hardware.pulses == []
    await desk.order("open_once", args={"reason": "test", "dir": "out"})
    assert [direction for direction, _ in desk.bench.hardware.pulses] == [OUT]
    assert await desk.whys() == ["record_unavailable"]


async def test_an_opening_whose_relay_does_not_confirm_is_not_answered_as_done(desk: Desk) -> None:
    desk.bench.hardware.relay_error = OSError("gone")
    assert (await desk.order("open_once")).results == {LANE: "not_opened"}
    assert [each.kind for each in await desk.events(Kind.LANE_FAULT, Kind.PASSAGE_NOT_TAKEN)] == [
        Kind.LANE_FAULT,
        Kind.PASSAGE_NOT_TAKEN,
    ]


async def test_a_restart_closes_an_opening_that_nobody_has_walked(desk: Desk) -> None:
    await desk.order("open_once")
    await desk.bench.journal.stop()
    again = Journal(
        desk.bench.journal_path,
        site=SITE,
        gate=GATE,
        clock=desk.bench.clock,
        random_bytes=desk.bench.services.random_bytes,
    )
    await again.start()
    await again.position()
    await again.stop()
    with sqlite3.connect(desk.bench.journal_path) as db:
        kinds = [raw for (raw,) in db.execute("SELECT raw FROM records ORDER BY seq")]
    db.close()
    assert b"passage.unknown" in kinds[-1]


@pytest.mark.parametrize(
    ("verbs", "state"),
    [
        (["lockdown"], State.LOCKED_DOWN),
        (["lockdown", "release"], State.SECURED),
        (["disable"], State.OUT_OF_SERVICE),
        (["disable", "enable"], State.SECURED),
    ],
)
async def test_an_order_of_the_guards_own_does_what_it_does_on_the_spot(
    desk: Desk, verbs: list[str], state: State
) -> None:
    for verb in verbs:
        assert (await desk.order(verb, wire.ALL)).results == {LANE: None}
    assert desk.at(state)
    accepted = await desk.events(Kind.COMMAND_ACCEPTED)
    assert [(each.data["verb"], each.data["op"], each.data["cmd"]) for each in accepted] == [
        (verb, "guard", "c-1") for verb in verbs
    ]


async def test_a_level_goes_with_a_lockdown(desk: Desk) -> None:
    await desk.order("lockdown", args={"level": 4})
    assert desk.bench.lane.barrier.orders.lockdown == 4


async def test_the_answer_gives_the_correlation_data_back_and_expires(desk: Desk) -> None:
    await desk.order("lockdown")
    properties = desk.answers[-1][1]
    assert (properties.correlation, properties.expiry) == (b"correlation", EXPIRY_S)


# Two operators.


async def test_free_takes_two_operators_with_two_keys(desk: Desk) -> None:
    answer = await desk.order("free", second=CHIEF, second_key=CHIEF_KEY)
    assert answer.results == {LANE: None}
    assert desk.at(State.FREE)
    assert (await desk.order("end_free")).done
    assert desk.at(State.SECURED)


@pytest.mark.parametrize(
    ("second", "second_key", "why"),
    [
        (None, None, "second_missing"),
        (CHIEF, None, "second_missing"),
        (None, CHIEF_KEY, "second_missing"),
        (CHIEF, GUARD_KEY, "second_missing"),
        (Operator(GUARD.name, "chief"), CHIEF_KEY, "second_missing"),
        (CHIEF, STRANGER, "forged"),
        (Operator("Lee", "guard"), CHIEF_KEY, "not_permitted"),
    ],
)
async def test_free_with_anything_less_is_refused(
    desk: Desk, second: Operator | None, second_key: ec.EllipticCurvePrivateKey | None, why: str
) -> None:
    assert (await desk.order("free", second=second, second_key=second_key)).refused == why
    assert desk.at(State.SECURED)
    assert await desk.whys() == [why]


# Refusals.


async def test_a_retained_order_is_refused_though_its_signature_is_good(desk: Desk) -> None:
    order = Command(**plain("open_once", LANE, await desk.challenge()))
    raw = wire.order(order.id, wire.seal(order.payload(), GUARD_KEY))
    assert await desk.ask(raw, retain=True) is None
    assert desk.bench.hardware.pulses == []
    assert await desk.refused() == [{"op": "remote", "why": "retained"}]


async def test_an_order_that_comes_after_its_challenge_is_over_is_late(desk: Desk) -> None:
    challenge = await desk.challenge()
    desk.bench.timers.advance(CHALLENGE_S)
    assert (await desk.order("open_once", challenge=challenge)).refused == "late"
    assert (await desk.order("open_once", challenge=bytes(16))).refused == "late"
    assert desk.bench.hardware.pulses == []


async def test_an_order_counts_until_the_last_moment_of_its_challenge(desk: Desk) -> None:
    challenge = await desk.challenge()
    desk.bench.timers.advance(CHALLENGE_S - 0.001)
    assert (await desk.order("open_once", challenge=challenge)).done


async def test_an_order_that_comes_twice_opens_once(desk: Desk) -> None:
    challenge = await desk.challenge()
    assert (await desk.order("open_once", challenge=challenge)).done
    assert (await desk.order("open_once", challenge=challenge)).refused == "replayed"
    assert len(desk.bench.hardware.pulses) == 1
    assert (await desk.refused())[0].items() >= {"why": "replayed", "verb": "open_once", "cmd": "c-1"}.items()


async def test_a_challenge_of_another_gates_is_late_here(desk: Desk) -> None:
    await desk.challenge()
    assert (await desk.order("open_once", challenge=bytes(range(16)))).refused == "late"


async def test_no_more_challenges_stand_at_once_than_the_gate_keeps(desk: Desk) -> None:
    given = [await desk.challenge() for _ in range(MOST + 1)]
    assert (await desk.order("open_once", challenge=given[0])).refused == "late"
    assert (await desk.order("open_once", challenge=given[1])).done


async def test_a_signature_of_no_listed_key_is_forged_and_costs_no_challenge(desk: Desk) -> None:
    challenge = await desk.challenge()
    assert (await desk.order("open_once", key=STRANGER, challenge=challenge)).refused == "forged"
    assert (await desk.order("open_once", challenge=challenge)).done


async def test_a_payload_changed_after_signing_is_forged(desk: Desk) -> None:
    order = Command(**plain("open_once", LANE, await desk.challenge()))
    raw = wire.from_text(wire.seal(order.payload(), GUARD_KEY)).replace(b"open_once", b"lockdownx")
    answer = await desk.ask(wire.order(order.id, wire.to_text(raw)))
    assert answer is not None
    assert answer.refused == "forged"


@pytest.mark.parametrize("more", [{"site": "seoul-2"}, {"gate": "gate-2"}, {"lane": "no-such-lane"}])
async def test_an_order_to_another_gate_or_lane_is_misaddressed(desk: Desk, more: Any) -> None:
    assert (await desk.order("open_once", **more)).refused == "misaddressed"


async def test_an_answer_is_sent_nowhere_but_on_the_gates_own_topic(desk: Desk) -> None:
    answer = await desk.ask(Asked("c-1").encode(), response_topic=topics.result(SITE, "gate-2"))
    assert answer is not None
    assert answer.refused == "misaddressed"
    answer = await desk.ask(Asked("c-1").encode(), response_topic=topics.result(SITE, GATE))
    assert answer is not None
    assert answer.challenge is not None


async def test_without_a_list_of_keys_nobody_may_order_anything(desk: Desk) -> None:
    desk.listed = keys()
    assert (await desk.order("lockdown")).refused == "not_permitted"
    assert desk.at(State.SECURED)


@pytest.mark.parametrize(
    "entry",
    [
        listed(GUARD_KEY, "guard", verbs=frozenset({"lockdown"})),
        listed(GUARD_KEY, "chief"),
        listed(GUARD_KEY, "guard", zones=frozenset({"yard"})),
        listed(GUARD_KEY, "guard", not_after=NOW - timedelta(seconds=1)),
    ],
)
async def test_a_key_orders_only_its_verbs_for_its_roles_in_its_zones_until_its_day(desk: Desk, entry: Any) -> None:
    desk.listed = keys(entry)
    assert (await desk.order("open_once")).refused == "not_permitted"
    assert await desk.whys() == ["not_permitted"]


async def test_a_verb_that_this_gate_does_not_know_is_refused_as_such(desk: Desk) -> None:
    assert (await desk.order("open_sesame")).refused == "unknown_verb"
    for verb in ("reset", "confirm_clock", "status"):
        assert (await desk.order(verb)).refused == "unknown_verb"
    assert (await desk.whys())[0] == "unknown_verb"


@pytest.mark.parametrize(
    ("verb", "lane", "args"),
    [
        ("open_once", LANE, {}),
        ("open_once", LANE, {"reason": "because"}),
        ("open_once", LANE, {"reason": "test", "dir": "up"}),
        ("open_once", wire.ALL, {"reason": "test"}),
        ("lockdown", LANE, {"level": 0}),
        ("lockdown", LANE, {"level": "2"}),
        ("lockdown", LANE, {"more": 1}),
        ("restart", LANE, {}),
        ("forgive_zone", wire.ALL, {"zone": "../x"}),
        ("replay", wire.ALL, {"epoch": "e1", "from": 9, "to": 3}),
        ("replay", wire.ALL, {"epoch": "e1"}),
    ],
)
async def test_arguments_that_make_no_sense_are_malformed(desk: Desk, verb: str, lane: str, args: Any) -> None:
    assert (await desk.order(verb, lane, args=args)).refused == "malformed"


@pytest.mark.parametrize("verb", ["free", "lockdown", "open_once"])
async def test_fire_refuses_what_would_move_the_lane(desk: Desk, verb: str) -> None:
    desk.fire()
    answer = await desk.order(verb, second=CHIEF, second_key=CHIEF_KEY)
    assert answer.results == {LANE: "fire_active"}
    assert desk.at(State.LOCKED_OPEN)
    assert desk.bench.hardware.pulses == []


async def test_a_lockdown_refuses_free_and_open_once_and_ends_by_its_release_only(desk: Desk) -> None:
    await desk.order("lockdown")
    assert (await desk.order("free", second=CHIEF, second_key=CHIEF_KEY)).results == {LANE: "lockdown"}
    assert (await desk.order("open_once")).results == {LANE: "lockdown"}
    assert (await desk.order("enable")).results == {LANE: "nothing_to_do"}
    assert desk.at(State.LOCKED_DOWN)
    assert (await desk.order("release")).done


async def test_garbage_is_recorded_once_and_counted_and_bars_no_order(desk: Desk) -> None:
    for number in range(200):
        assert await desk.ask(b"%d" % number) is None
    for _ in range(50):
        await desk.order("open_once", key=STRANGER, challenge=bytes(16))
    assert (await desk.order("lockdown")).done
    assert [each["why"] for each in await desk.refused()] == ["malformed", "forged"]
    desk.bench.timers.advance(20)
    counted = [(each["why"], each["count"]) for each in (await desk.refused())[2:]]
    assert sorted(counted) == [("forged", 49), ("malformed", 199)]


async def test_more_messages_than_can_wait_are_refused_as_busy(desk: Desk) -> None:
    for _ in range(100):
        desk.commands.on_message(message(b"{}"))
    assert len(desk.commands._waiting) < 100
    assert await desk.whys() == ["busy"]


# What concerns no lane alone.


async def test_refresh_replay_and_restart_are_done_after_they_are_recorded(desk: Desk) -> None:
    assert (await desk.order("refresh", wire.ALL)).results == {"gate": None}
    args = {"epoch": "e1", "from": 3, "to": 9}
    assert (await desk.order("replay", wire.ALL, args=args)).results == {"gate": None}
    assert (await desk.order("restart", wire.ALL)).results == {"gate": None}
    assert (desk.refreshed, desk.replays, desk.restarts) == (1, [Replay("e1", 3, 9)], 1)
    accepted = [each.data["verb"] for each in await desk.events(Kind.COMMAND_ACCEPTED)]
    assert accepted == ["refresh", "replay", "restart"]


async def test_a_gate_that_fire_holds_open_does_not_restart(desk: Desk) -> None:
    desk.fire()
    assert (await desk.order("restart", wire.ALL)).results == {"gate": "fire_active"}
    assert desk.restarts == 0
    assert await desk.whys() == ["fire_active"]


async def test_forgiving_where_nobody_is_remembered_says_so(desk: Desk) -> None:
    assert (await desk.order("forgive")).results == {LANE: "nothing_to_do"}
    assert (await desk.order("forgive_zone", wire.ALL, args={"zone": "lobby"})).results == {"gate": "nothing_to_do"}
    assert (await desk.order("forgive_zone", wire.ALL, args={"zone": "yard"})).refused == "not_permitted"


async def test_a_fault_of_the_gates_own_is_answered_and_recorded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_args: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(desk.commands._executor, "carry_out", broken)
    assert (await desk.order("lockdown")).refused == "failed"
    assert await desk.whys() == ["failed"]


# The clock.


@pytest.mark.parametrize("off", [timedelta(days=-3650), timedelta(days=3650), timedelta(hours=-9)])
async def test_a_wrong_clock_never_locks_the_guard_out(desk: Desk, off: timedelta) -> None:
    """The battery of the clock is empty, or somebody set it: kernel time is not synchronised and says anything."""
    desk.kernel = None
    desk.bench.clock._start += off
    assert desk.watch.look().quality is not ClockQuality.SYNCED
    assert (await desk.order("open_once")).done
    assert (await desk.order("lockdown")).done
    assert (await desk.order("release")).done


def test_every_verb_from_afar_is_either_a_lanes_own_or_named_here() -> None:
    others = {
        CommandVerb.OPEN_ONCE,
        CommandVerb.FORGIVE,
        CommandVerb.FORGIVE_ZONE,
        CommandVerb.REFRESH,
        CommandVerb.REPLAY,
        CommandVerb.RESTART,
    }
    assert set(CommandVerb) == set(LANE_VERBS) | others
