"""The Modbus driver against a board on a real pymodbus server, and against boards that misbehave."""

from __future__ import annotations

import asyncio
import os
import pty
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from drivers.lane import changes, modbus
from drivers.lane.changes import MAX_PULSE_MS
from drivers.lane.modbus import Modbus, spans
from drivers.lane.wiring import (
    BitInput,
    Bits,
    ChangeOver,
    CoilOutput,
    FireRegister,
    FireState,
    Flash,
    FlashStyle,
    ModbusWiring,
    SerialPlace,
    TcpPlace,
)
from drivers.ports import Direction, DriverError, LaneInput, LaneSignal
from protocol.clock import SystemClock
from tests.drivers.lane_boards import FLASH_OFF, FLASH_ON, FLASH_REGISTER, UNIT_MS, Board

GUARD_S = 20.0
IN, OUT = Direction.IN, Direction.OUT
FLASH = Flash(FlashStyle.COIL, FLASH_ON, FLASH_OFF, UNIT_MS)
INPUTS = {
    LaneSignal.BEAM_A: BitInput(0),
    LaneSignal.BEAM_M: BitInput(1, active_low=True),
    LaneSignal.FIRE: BitInput(2),
}
OUTPUTS = {IN: CoilOutput(0), OUT: CoilOutput(1, rest_on=True)}
FEEDBACK = INPUTS | {LaneSignal.RELAY_IN: BitInput(4)}


FAILS_S = 0.9
"""For how long an input may go unseen where that is what is tested."""


@pytest.fixture
async def board() -> AsyncIterator[Board]:
    made = Board(feedback={0: 4})
    yield made
    await made.stop()


async def wires(board: Board, **changed: Any) -> ModbusWiring:
    place = TcpPlace("127.0.0.1", await board.start())
    plain = ModbusWiring(place, INPUTS, OUTPUTS, flash=FLASH, poll_s=0.005, unseen_s=5)
    return replace(plain, **changed)


@asynccontextmanager
async def started(wiring: ModbusWiring) -> AsyncIterator[Modbus]:
    lane = Modbus(wiring, SystemClock(), {LaneSignal.FIRE} & set(wiring.inputs))
    try:
        async with asyncio.timeout(GUARD_S):
            await lane.start()
            yield lane
    finally:
        await lane.stop()


async def take(lane: Modbus, count: int) -> list[tuple[LaneSignal, bool]]:
    taken: list[LaneInput] = []
    async with aclosing(lane.inputs()) as inputs:  # type: ignore[type-var]  # the port promises the iterator only
        async for change in inputs:
            taken.append(change)
            if len(taken) == count:
                break
    return [(each.signal, each.active) for each in taken]


async def fails(lane: Modbus, why: str) -> None:
    """The stream ends with this reason, and so does a pulse."""
    with pytest.raises(DriverError, match=why):
        async for _ in lane.inputs():
            pass
    with pytest.raises(DriverError):
        await lane.pulse(IN, 100)


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(GUARD_S):
        while not reached():  # noqa: ASYNC110  the board has no event for it
            await asyncio.sleep(0.005)


# Inputs.


async def test_levels_come_first_fire_before_all_and_then_each_change(board: Board) -> None:
    board.inputs[:3] = [False, True, True]
    async with started(await wires(board)) as lane:
        levels = await take(lane, 3)
        assert levels[0] == (LaneSignal.FIRE, True)
        assert set(levels[1:]) == {(LaneSignal.BEAM_A, False), (LaneSignal.BEAM_M, False)}
        board.inputs[0] = True
        assert await take(lane, 1) == [(LaneSignal.BEAM_A, True)]
        board.inputs[1] = False
        assert await take(lane, 1) == [(LaneSignal.BEAM_M, True)]


async def test_an_input_may_be_a_coil_of_the_module(board: Board) -> None:
    inputs = {LaneSignal.BEAM_A: BitInput(5, Bits.COIL)}
    board.coils[5] = False
    async with started(await wires(board, inputs=inputs)) as lane:
        assert await take(lane, 1) == [(LaneSignal.BEAM_A, False)]
        board.coils[5] = True
        assert await take(lane, 1) == [(LaneSignal.BEAM_A, True)]


def test_inputs_near_each_other_are_one_request() -> None:
    assert spans([7, 3, 3, 4]) == [(3, 5)]
    assert spans([0, 1, 500]) == [(0, 2), (500, 1)]
    assert all(count <= modbus.MAX_SPAN for _, count in spans(range(0, 2000, 3)))
    assert spans([]) == []


# The fire line.

MEASURED = FireRegister(2, normal=(400, 600), alarm=(150, 300))


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (500, FireState.NORMAL),
        (400, FireState.NORMAL),
        (200, FireState.ALARM),
        (350, FireState.ALARM),
        (149, FireState.SHORT),
        (0, FireState.SHORT),
        (601, FireState.OPEN),
        (65535, FireState.OPEN),
    ],
)
def test_a_measured_line_is_read_by_its_bands(value: int, state: FireState) -> None:
    assert MEASURED.state(value) is state
    swapped = {FireState.OPEN: FireState.SHORT, FireState.SHORT: FireState.OPEN}
    assert replace(MEASURED, below=FireState.OPEN).state(value) is swapped.get(state, state)


async def test_a_measured_line_reports_alarm_and_faults_as_fire_of_their_own(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "SETTLE_S", 0.02)
    board.registers[2] = 500
    async with started(await wires(board, inputs={}, fire_line=MEASURED)) as lane:
        assert not any(active for _, active in await take(lane, 3))
        board.registers[2] = 0
        assert await take(lane, 1) == [(LaneSignal.FIRE_SHORT, True)]
        board.registers[2] = 200
        assert await take(lane, 2) == [(LaneSignal.FIRE, True), (LaneSignal.FIRE_SHORT, False)]
        board.registers[2] = 500
        assert await take(lane, 1) == [(LaneSignal.FIRE, False)]


async def test_two_contacts_make_a_supervised_line(board: Board) -> None:
    board.inputs[5:7] = [False, False]
    line = ChangeOver(BitInput(5), BitInput(6))
    async with started(await wires(board, inputs={}, fire_line=line)) as lane:
        levels = await take(lane, 3)
    assert levels[0] == (LaneSignal.FIRE_OPEN, True)


# Relays.


async def test_relays_are_at_rest_and_read_back_before_start_returns(board: Board) -> None:
    async with started(await wires(board)):
        assert board.coils[:2] == [False, True]


@pytest.mark.parametrize(("direction", "coil", "rest"), [(IN, 0, False), (OUT, 1, True)])
async def test_a_pulse_is_timed_by_the_module_and_confirmed_by_reading_the_coil(
    board: Board, direction: Direction, coil: int, rest: bool
) -> None:
    async with started(await wires(board)) as lane:
        board.moves.clear()
        await lane.pulse(direction, 800)
        assert board.coils[coil] is not rest
        await until(lambda: board.coils[coil] is rest)
        assert board.moves == [(coil, not rest), (coil, rest)]


async def test_a_module_may_take_the_time_in_a_register(board: Board) -> None:
    flash = Flash(FlashStyle.REGISTER, FLASH_REGISTER, FLASH_REGISTER, UNIT_MS)
    async with started(await wires(board, flash=flash)) as lane:
        board.moves.clear()
        await lane.pulse(IN, 300)
        await until(lambda: not board.coils[0])
        assert board.moves == [(0, True), (0, False)]


async def test_a_pulse_is_rounded_up_to_what_the_timer_can_do(board: Board) -> None:
    async with started(await wires(board)) as lane:
        for milliseconds in (1, UNIT_MS, UNIT_MS + 1, MAX_PULSE_MS):
            await lane.pulse(IN, milliseconds)
    assert board.ticks == [1, 1, 2, MAX_PULSE_MS // UNIT_MS]


async def test_with_a_feedback_contact_the_contact_confirms(board: Board) -> None:
    board.inputs[4] = True
    async with started(await wires(board, inputs=FEEDBACK)) as lane:
        await take(lane, 4)
        before = SystemClock().monotonic()
        assert await lane.pulse(IN, 200) >= before
        assert await take(lane, 1) == [(LaneSignal.RELAY_IN, True)]
        assert await lane.pulse(IN, 200) >= before, "open already: made longer"


@pytest.mark.parametrize("inputs", [INPUTS, FEEDBACK], ids=["coil", "contact"])
async def test_a_relay_that_does_not_move_is_a_fault(
    board: Board, monkeypatch: pytest.MonkeyPatch, inputs: dict[LaneSignal, BitInput]
) -> None:
    monkeypatch.setattr(modbus, "FEEDBACK_S", 0.05)
    async with started(await wires(board, inputs=inputs)) as lane:
        board.stuck = True
        with pytest.raises(DriverError, match="did not move"):
            await lane.pulse(IN, 300)


async def test_a_relay_that_does_not_go_to_rest_does_not_start(board: Board) -> None:
    board.stuck = True
    with pytest.raises(DriverError, match="go to rest"):
        async with started(await wires(board)):
            pass


@pytest.mark.parametrize("milliseconds", [0, MAX_PULSE_MS + 1])
async def test_a_pulse_that_no_lane_means_is_refused(board: Board, milliseconds: int) -> None:
    async with started(await wires(board)) as lane:
        with pytest.raises(DriverError, match="1 to"):
            await lane.pulse(IN, milliseconds)


async def test_many_pulses_and_the_polling_share_one_line(board: Board) -> None:
    async with started(await wires(board)) as lane:
        await asyncio.gather(*(lane.pulse(direction, 5000) for direction in (IN, OUT) * 10))
        assert board.coils[:2] == [True, False]


# Modules that misbehave.


async def test_nobody_there_is_an_error(board: Board) -> None:
    wiring = await wires(board)
    await board.stop()
    with pytest.raises(DriverError, match="no module answers"):
        async with started(wiring):
            pass


async def test_a_module_that_goes_away_ends_the_stream(board: Board) -> None:
    async with started(await wires(board, unseen_s=FAILS_S)) as lane:
        await take(lane, 3)
        await board.stop()
        await fails(lane, "lost|in time|asked")


async def test_a_module_that_says_nothing_any_more_ends_the_stream_in_time(board: Board) -> None:
    async with started(await wires(board, unseen_s=FAILS_S)) as lane:
        await take(lane, 3)
        board.answer = lambda _frame: b""
        await fails(lane, "in time|lost")


async def test_one_lost_answer_is_no_failure(board: Board) -> None:
    lost: list[bytes] = []

    def lose(frame: bytes) -> bytes:
        lost.append(frame)
        return b"" if len(lost) == 1 else frame

    async with started(await wires(board)) as lane:
        await take(lane, 3)
        board.answer = lose
        await until(lambda: len(lost) > 1)
        board.inputs[0] = True
        assert await take(lane, 1) == [(LaneSignal.BEAM_A, True)]


@pytest.mark.parametrize(
    "mangle",
    [
        lambda frame: frame[:5] + bytes([3, 1, 0x82, 4]),  # exception 04, device failure
        lambda frame: frame[:5] + bytes([4, 1, 0x01, 1, 0]),  # another function's answer
        lambda frame: frame[:5] + bytes([3, 1, 0x02, 0]),  # no bits at all
        lambda frame: frame[:5] + bytes([4, 9, 0x02, 1, 0]),  # another unit
        lambda frame: bytes([0xFF, 0xFF]) + frame[2:],  # another transaction
        lambda frame: b"HTTP/1.1 400 Bad Request\r\n\r\n",
        lambda frame: b"\x00" * 300,
        lambda frame: frame[:-1],
    ],
    ids=["exception", "function", "empty", "unit", "transaction", "http", "zeros", "short"],
)
async def test_a_wrong_answer_ends_the_stream_and_hangs_nobody(board: Board, mangle: Callable[[bytes], bytes]) -> None:
    async with started(await wires(board, unseen_s=FAILS_S)) as lane:
        await take(lane, 3)
        board.answer = mangle
        async with asyncio.timeout(GUARD_S):
            await fails(lane, ".")


async def test_an_input_that_the_module_does_not_have_does_not_start(board: Board) -> None:
    with pytest.raises(DriverError, match="exception 2"):
        async with started(await wires(board, inputs={LaneSignal.BEAM_A: BitInput(200)})):
            pass


async def test_a_pulse_that_the_module_refuses_is_a_fault(board: Board) -> None:
    async with started(await wires(board, flash=Flash(on=0x7000))) as lane:
        with pytest.raises(DriverError, match=r"refuses|something else"):
            await lane.pulse(IN, 300)


async def test_a_stopped_lane_says_so() -> None:
    lane = Modbus(ModbusWiring(TcpPlace("127.0.0.1"), {}, OUTPUTS), SystemClock(), ())
    with pytest.raises(DriverError):
        await lane.pulse(IN, 100)
    await lane.stop()
    with pytest.raises(DriverError, match="stopped"):
        await take(lane, 1)


# RTU.


@asynccontextmanager
async def bus() -> AsyncIterator[tuple[str, str]]:
    """Two serial ports with a cable between them."""
    loop = asyncio.get_running_loop()
    (here, one), (there, other) = pty.openpty(), pty.openpty()
    for each in (here, one, there, other):
        tty.setraw(each)
        os.set_blocking(each, False)
    loop.add_reader(here, lambda: os.write(there, os.read(here, 4096)))
    loop.add_reader(there, lambda: os.write(here, os.read(there, 4096)))
    try:
        yield os.ttyname(one), os.ttyname(other)
    finally:
        for each in (here, there):
            loop.remove_reader(each)
        for each in (here, one, there, other):
            os.close(each)


async def test_a_module_on_a_serial_line_opens_and_reports(board: Board) -> None:
    async with bus() as (ours, theirs):
        await board.start_serial(theirs)
        place = SerialPlace(ours, baud=115200)
        async with started(ModbusWiring(place, INPUTS, OUTPUTS, flash=FLASH, unseen_s=3)) as lane:
            await take(lane, 3)
            await lane.pulse(IN, 800)
            assert board.coils[0]
            board.inputs[0] = True
            assert await take(lane, 1) == [(LaneSignal.BEAM_A, True)]
            await until(lambda: not board.coils[0])
        await board.stop()


async def test_a_serial_port_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DriverError, match="no module answers"):
        async with started(ModbusWiring(SerialPlace("/dev/gwanmun-none"), INPUTS, OUTPUTS)):
            pass
