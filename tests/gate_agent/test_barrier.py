"""The barrier: what the machine says becomes events, pulses and durable orders."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from random import Random

import pytest

from drivers.lane import modbus
from drivers.lane.modbus import Modbus
from drivers.lane.wiring import BitInput, CoilOutput, Flash, ModbusWiring, TcpPlace
from drivers.ports import Carrier, Direction, DriverError, LaneHardware, LaneSignal
from gate_agent.barrier import Barrier
from gate_agent.devices import Supervised
from gate_agent.passage import Orders, Refusal, Settings, State, Verb
from gate_agent.transaction import Attempt, Stage
from protocol.backoff import Backoff
from protocol.events import Event, Kind
from tests.drivers.lane_boards import FLASH_ON, UNIT_MS, Board
from tests.gate_agent.conftest import BARRIER, LANE, REST, Bench
from tests.gate_agent.fakes import beam


class Kept:
    """Where orders are kept; `error` makes the next ones fail."""

    def __init__(self) -> None:
        self.saved: list[Orders] = []
        self.error: Exception | None = None

    async def save(self, lane: str, orders: Orders) -> None:
        assert lane == "hall-in"
        await asyncio.sleep(0)  # a disk takes its time
        if self.error is not None:
            raise self.error
        self.saved.append(orders)


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def barrier(bench: Bench, kept: Kept) -> Barrier:
    made = Barrier(
        replace(BARRIER, passage=Settings(max_credits=2)),
        bench.lane.barrier.hardware,
        bench.services,
        call_later=bench.timers.call_later,
        keep=kept,
    )
    for signal in REST:
        made.on_input(beam(signal, False))
    return made


async def events(bench: Bench) -> list[Event]:
    await bench.services.background.finish(5)
    return [event for event in await bench.records() if event.kind is not Kind.TRUST_APPLIED]


def tread(bench: Bench, barrier: Barrier, *beams: LaneSignal) -> None:
    for number, each in enumerate(beams):
        barrier.on_input(beam(each, True))
        if number:
            barrier.on_input(beam(beams[number - 1], False))
        bench.timers.advance(0.2)
    barrier.on_input(beam(beams[-1], False))
    bench.timers.advance(0.7)


async def test_leaving_freely_opens_the_exit_and_is_recorded_without_an_attempt(bench: Bench, barrier: Barrier) -> None:
    tread(bench, barrier, LaneSignal.BEAM_B, LaneSignal.BEAM_M, LaneSignal.BEAM_A)
    found = await events(bench)
    assert [event.kind for event in found] == [Kind.EGRESS_BUTTON, Kind.PASSAGE_COMPLETED]
    assert found[1].data == {"lane": "hall-in", "dir": "out", "cause": "egress"}
    assert bench.hardware.pulses == [(Direction.OUT, 300)]


async def test_an_order_is_durable_before_it_counts(bench: Bench, barrier: Barrier, kept: Kept) -> None:
    assert await barrier.order(Verb.LOCKDOWN, level=2) is None
    assert kept.saved == [Orders(lockdown=2)]
    assert barrier.state is State.LOCKED_DOWN
    (event,) = await events(bench)
    assert (event.kind, event.data["level"]) == (Kind.LOCKDOWN_ENTERED, 2)


@pytest.mark.parametrize("error", [OSError("disk full"), sqlite3.OperationalError("disk I/O error")])
async def test_on_a_dead_disk_a_bar_counts_and_nothing_is_opened_or_released(
    bench: Bench, barrier: Barrier, kept: Kept, error: Exception
) -> None:
    kept.error = error
    assert await barrier.order(Verb.LOCKDOWN) is None
    assert barrier.state is State.LOCKED_DOWN
    assert await barrier.order(Verb.RELEASE) is Refusal.RECORD_UNAVAILABLE
    assert barrier.state is State.LOCKED_DOWN


async def test_fire_counts_first_and_is_kept_at_once_after(bench: Bench, barrier: Barrier, kept: Kept) -> None:
    barrier.on_input(beam(LaneSignal.FIRE, True))
    assert barrier.state is State.LOCKED_OPEN
    assert [event.kind for event in await events(bench)] == [Kind.FIRE_ASSERTED]
    assert kept.saved == [Orders(fire=True)]
    barrier.on_input(beam(LaneSignal.FIRE, False))
    barrier.on_input(beam(LaneSignal.RESET, True))
    assert [event.kind for event in await events(bench)][-1] is Kind.FIRE_CLEARED
    assert kept.saved[-1] == Orders()


async def test_two_orders_written_at_the_same_time_are_both_kept(barrier: Barrier, kept: Kept) -> None:
    refused = await asyncio.gather(barrier.order(Verb.LOCKDOWN, level=2), barrier.order(Verb.DISABLE))
    assert not any(refused)
    assert kept.saved[-1] == barrier.orders == Orders(disabled=True, lockdown=2)


async def test_a_lockdown_that_is_being_written_when_fire_comes_is_kept_beside_the_fire(
    bench: Bench, barrier: Barrier, kept: Kept
) -> None:
    order = asyncio.create_task(barrier.order(Verb.DISABLE))
    await asyncio.sleep(0)
    barrier.on_input(beam(LaneSignal.FIRE, True))
    assert await order is Refusal.FIRE_ACTIVE
    await bench.services.background.finish(5)
    assert kept.saved[-1] == barrier.orders == Orders(fire=True)


async def test_a_fault_in_what_follows_does_not_stop_the_lanes_clock(
    bench: Bench, barrier: Barrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr(bench.journal, "note", fails)
        with pytest.raises(RuntimeError):
            barrier.on_input(beam(LaneSignal.BUTTON, True))
    before = barrier.state
    bench.timers.advance(6)
    assert (before, barrier.state) == (State.EGRESS, State.SECURED)


async def test_an_exit_relay_that_does_not_confirm_is_a_fault_without_an_attempt(
    bench: Bench, barrier: Barrier
) -> None:
    bench.hardware.relay_error = DriverError("stuck")
    barrier.on_input(beam(LaneSignal.BUTTON, True))
    found = await events(bench)
    assert [event.kind for event in found] == [Kind.EGRESS_BUTTON, Kind.LANE_FAULT]
    assert found[1].data == {"lane": "hall-in", "dir": "out", "what": "relay"}


async def test_a_sensor_that_is_set_aside_is_an_event_and_a_flag(bench: Bench, barrier: Barrier) -> None:
    barrier.on_input(beam(LaneSignal.BEAM_A, True))
    bench.timers.advance(121)
    assert barrier.degraded == ["sensor.beam_a"]
    faults = [event.data for event in await events(bench) if event.kind is Kind.SENSOR_FAULT]
    assert faults == [{"lane": "hall-in", "sensor": "beam_a", "what": "stuck"}]
    barrier.on_input(beam(LaneSignal.BEAM_A, False))
    assert barrier.degraded == []


async def test_a_fire_line_says_why_each_cause_once_until_the_reset(bench: Bench, barrier: Barrier) -> None:
    for _ in range(3):
        barrier.on_input(beam(LaneSignal.FIRE_OPEN, True))
        barrier.on_input(beam(LaneSignal.FIRE_OPEN, False))
    barrier.on_input(beam(LaneSignal.FIRE, True))
    barrier.on_input(beam(LaneSignal.FIRE, False))
    barrier.on_input(beam(LaneSignal.RESET, True))
    barrier.on_input(beam(LaneSignal.FIRE_SHORT, True))
    found = [(event.kind, event.data.get("cause")) for event in await events(bench)]
    assert found == [
        (Kind.FIRE_ASSERTED, "open"),
        (Kind.FIRE_ASSERTED, "alarm"),
        (Kind.FIRE_CLEARED, None),
        (Kind.FIRE_ASSERTED, "short"),
    ]


async def test_the_key_works_by_itself_and_says_so_in_the_same_events(
    bench: Bench, barrier: Barrier, kept: Kept
) -> None:
    barrier.on_input(beam(LaneSignal.KEY_LOCKED, True))
    assert barrier.state is State.LOCKED_DOWN
    barrier.on_input(beam(LaneSignal.KEY_LOCKED, False))
    bench.timers.advance(0.3)
    barrier.on_input(beam(LaneSignal.KEY_FREE, True))
    barrier.on_input(beam(LaneSignal.KEY_FREE, False))
    bench.timers.advance(0.3)
    found = [(event.kind, {**event.data}) for event in await events(bench)]
    plain = {"lane": "hall-in", "dir": "in", "cause": "key"}
    assert found == [
        (Kind.LOCKDOWN_ENTERED, {**plain, "level": 9}),
        (Kind.LOCKDOWN_RELEASED, plain),
        (Kind.DOOR_MODE, {**plain, "mode": "free"}),
        (Kind.DOOR_MODE, {**plain, "mode": "secured"}),
    ]
    assert all(orders == Orders() for orders in kept.saved), "the position is the memory"


async def test_a_lockdown_that_the_key_ended_stays_ended_after_a_restart(
    bench: Bench, barrier: Barrier, kept: Kept
) -> None:
    await barrier.order(Verb.LOCKDOWN, level=2)
    barrier.on_input(beam(LaneSignal.KEY_FREE, True))
    await bench.services.background.finish(5)
    assert kept.saved == [Orders(lockdown=2), Orders()]
    assert (barrier.state, barrier.orders) == (State.FREE, Orders(free=True))


async def test_an_order_under_the_key_keeps_what_was_ordered_and_not_what_the_key_says(
    barrier: Barrier, kept: Kept
) -> None:
    barrier.on_input(beam(LaneSignal.KEY_LOCKED, True))
    assert await barrier.order(Verb.RELEASE) is Refusal.LOCKDOWN
    assert await barrier.order(Verb.DISABLE) is None
    assert kept.saved == [Orders(disabled=True)]


@pytest.mark.parametrize("stuck", [False, True], ids=["moves", "stuck"])
async def test_a_relay_with_a_feedback_contact_opens_the_lane_or_is_its_fault(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, stuck: bool
) -> None:
    monkeypatch.setattr(modbus, "FEEDBACK_S", 0.1 if stuck else 5.0)
    board = Board(feedback={0: 4})
    wiring = ModbusWiring(
        TcpPlace("127.0.0.1", await board.start()),
        {LaneSignal.RELAY_IN: BitInput(4)},
        {Direction.IN: CoilOutput(0)},
        unseen_s=5,
        flash=Flash(on=FLASH_ON, unit_ms=UNIT_MS),
    )
    relay = Supervised[LaneHardware](
        Modbus(wiring, bench.clock, ()),
        "lane.hall",
        clock=bench.clock,
        backoff=Backoff(1, 30, Random(1)),
        report=lambda _name, _up, _why: None,
    )
    wired = Barrier(BARRIER, relay, bench.services, call_later=bench.timers.call_later)
    for signal in REST:
        wired.on_input(beam(signal, False))
    try:
        await relay.start()
        board.stuck = stuck
        attempt = Attempt(bench.services, LANE, Carrier.NFC, bench.clock.monotonic())
        attempt.stage(Stage.RECORDED, bench.clock.monotonic())
        assert await wired.open(attempt, Direction.IN) is not stuck
    finally:
        await relay.stop()
        await board.stop()
        wired.stop()
    kinds = [event.kind for event in await events(bench)]
    assert kinds == ([Kind.LANE_FAULT, Kind.PASSAGE_NOT_TAKEN] if stuck else [Kind.LANE_OPENED])


@pytest.mark.parametrize(
    ("signal", "begins", "ends"),
    [
        (LaneSignal.TAMPER, Kind.ALARM_TAMPER, Kind.ALARM_TAMPER_CLEARED),
        (LaneSignal.MAINS_FAIL, Kind.POWER_MAINS_LOST, Kind.POWER_MAINS_RESTORED),
        (LaneSignal.BATTERY_LOW, Kind.POWER_BATTERY_LOW, Kind.POWER_BATTERY_RESTORED),
    ],
)
async def test_how_the_hardware_fares_is_an_event_and_a_flag_and_opens_nothing(
    bench: Bench, barrier: Barrier, signal: LaneSignal, begins: Kind, ends: Kind
) -> None:
    barrier.on_input(beam(signal, True))
    assert (barrier.degraded, barrier.state) == ([str(signal)], State.SECURED)
    assert barrier.may(Direction.IN) is None
    barrier.on_input(beam(signal, False))
    bench.timers.advance(1.1)
    assert barrier.degraded == []
    found = [(event.kind, {**event.data}) for event in await events(bench)]
    assert found == [(begins, {"lane": "hall-in"}), (ends, {"lane": "hall-in"})]
    assert bench.hardware.pulses == []


async def test_held_is_cleared_once_though_warned_and_alarmed(bench: Bench, barrier: Barrier) -> None:
    barrier.on_input(beam(LaneSignal.BUTTON, True))
    barrier.on_input(beam(LaneSignal.BEAM_B, True))
    barrier.on_input(beam(LaneSignal.BEAM_M, True))
    bench.timers.advance(45)
    barrier.on_input(beam(LaneSignal.BEAM_B, False))
    bench.timers.advance(0.3)
    barrier.on_input(beam(LaneSignal.BEAM_A, True))
    barrier.on_input(beam(LaneSignal.BEAM_M, False))
    bench.timers.advance(0.3)
    barrier.on_input(beam(LaneSignal.BEAM_A, False))
    bench.timers.advance(1)
    kinds = [event.kind for event in await events(bench)]
    assert kinds == [
        Kind.EGRESS_BUTTON,
        Kind.ALARM_HELD_PRE,
        Kind.ALARM_HELD,
        Kind.PASSAGE_COMPLETED,
        Kind.ALARM_HELD_CLEARED,
    ]


async def test_what_was_in_force_before_a_restart_is_in_force_after(bench: Bench) -> None:
    again = Barrier(
        BARRIER,
        bench.lane.barrier.hardware,
        bench.services,
        call_later=bench.timers.call_later,
        orders=Orders(lockdown=1),
    )
    for signal in REST:
        again.on_input(beam(signal, False))
    assert again.state is State.LOCKED_DOWN
    assert again.may(Direction.IN) is Refusal.LOCKDOWN
    assert again.may(Direction.OUT) is None


async def test_every_effect_that_is_an_event_has_a_name_and_every_alarm_its_end() -> None:
    from gate_agent import barrier as module
    from gate_agent.passage import HOUSING, Effect

    silent = {Effect.OPEN, Effect.OPEN_OUT, Effect.ALARMS_CLEARED}
    assert set(module._EVENT) == set(Effect) - silent
    alarms = {effect for effect in Effect if module._EVENT.get(effect, Kind.GATE_BOOT).startswith("alarm.")}
    assert set(module._CLEARED) == alarms - HOUSING
