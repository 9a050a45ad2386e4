"""A sign's lamps: what each light looks like, how it blinks, and that a light that is gone is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

import gpiod
import pytest
from gpiod.line import Direction, Value
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsResponse

from drivers.lane.wiring import TcpPlace
from drivers.modbus import Module
from drivers.ports import DriverError, Light
from drivers.signal import PanelSettings, light_modbus, open_light, open_panel, parts
from drivers.signal.light import FAST_S, REQUIRED, SHOWN, SLOW_S, GpioLight, Lamp, ModbusLight, Shown, SignLight, shown
from drivers.signal.light_gpio import GpioLamps
from drivers.signal.light_modbus import ModbusLamps
from gate_agent import messages
from tests.drivers.lane_boards import Board
from tests.gate_agent.fakes import FakeClock

GUARD_S = 20.0
ALL = frozenset(Lamp)
DARK: frozenset[Lamp] = frozenset()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(GUARD_S):
        while not reached():  # noqa: ASYNC110  the lamps have no event for it
            await asyncio.sleep(0)


class FakeOutputs:
    """Notes what is lit; `error` fails every call."""

    def __init__(self) -> None:
        self.shown: list[frozenset[Lamp]] = []
        self.closes = 0
        self.opened = False
        self.error: Exception | None = None
        self.hold: asyncio.Event | None = None
        """A show waits for it."""
        self.busy = 0

    async def open(self) -> None:
        self.opened = True
        await self.show(())

    async def show(self, lit: Collection[Lamp]) -> None:
        if not self.opened:
            raise DriverError("not started")
        assert not self.busy, "one show at a time"
        self.busy += 1
        try:
            if self.hold is not None:
                await self.hold.wait()
            if self.error is not None:
                raise self.error
            self.shown.append(frozenset(lit))
        finally:
            self.busy -= 1

    def close(self) -> None:
        self.closes += 1
        self.opened = False


class Sign:
    """A light whose blinking the test drives."""

    def __init__(self, lamps: Collection[Lamp] = ALL) -> None:
        self.outputs = FakeOutputs()
        self.pauses: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()
        self.light = SignLight(self.outputs, lamps, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        go_on = asyncio.Event()
        await self.pauses.put((seconds, go_on))
        await go_on.wait()

    async def tick(self) -> float:
        """One half of a blink goes by; its length."""
        seconds, go_on = await asyncio.wait_for(self.pauses.get(), GUARD_S)
        before = len(self.outputs.shown)
        go_on.set()
        await until(lambda: len(self.outputs.shown) > before or self.outputs.error is not None)
        return seconds


@pytest.fixture
async def sign() -> AsyncIterator[Sign]:
    made = Sign()
    await made.light.start()
    made.outputs.shown.clear()
    yield made
    made.outputs.error = None
    await made.light.stop()


# What a light looks like.


def looks(lamps: Collection[Lamp]) -> dict[Light, Shown | None]:
    return {light: shown(light, lamps) for light in Light}


def test_every_light_has_its_look() -> None:
    assert set(SHOWN) == set(Light)
    assert looks(ALL) == {
        Light.IDLE: Shown(Lamp.BLUE),
        Light.WAIT: Shown(Lamp.YELLOW, SLOW_S),
        Light.GREEN: Shown(Lamp.GREEN),
        Light.RED: Shown(Lamp.RED),
        Light.FAULT: Shown(Lamp.RED, FAST_S),
    }


@pytest.mark.parametrize("more", [(), (Lamp.YELLOW,), (Lamp.BLUE,), (Lamp.YELLOW, Lamp.BLUE)])
def test_no_two_lights_look_alike_whatever_lamps_there_are(more: tuple[Lamp, ...]) -> None:
    assert len(set(looks({*REQUIRED, *more}).values())) == len(Light)


@pytest.mark.parametrize("more", [(), (Lamp.YELLOW,)])
def test_wait_red_and_fault_are_told_apart_without_colour(more: tuple[Lamp, ...]) -> None:
    found = looks({*REQUIRED, *more})
    rhythms = [each and each.blink_s for each in (found[Light.WAIT], found[Light.RED], found[Light.FAULT])]
    assert len(set(rhythms)) == 3


def test_only_green_lights_the_green_lamp() -> None:
    assert [light for light, rows in SHOWN.items() if any(each.lamp is Lamp.GREEN for each in rows)] == [Light.GREEN]


def test_no_blinking_is_faster_than_three_flashes_a_second() -> None:
    rates = [1 / (2 * each.blink_s) for rows in SHOWN.values() for each in rows if each.blink_s is not None]
    assert max(rates) < 3
    assert all(slower * 3 < faster for slower, faster in pairwise(sorted(set(rates))))


# Blinking.


async def test_a_sign_is_dark_at_start_and_after_the_end() -> None:
    sign = Sign()
    await sign.light.start()
    assert sign.outputs.shown == [DARK]
    await sign.light.set(Light.GREEN)
    await sign.light.stop()
    assert sign.outputs.shown == [DARK, {Lamp.GREEN}, DARK]
    assert sign.outputs.closes == 2


@pytest.mark.parametrize(("light", "lamp", "seconds"), [(Light.WAIT, Lamp.YELLOW, 1.0), (Light.FAULT, Lamp.RED, 0.25)])
async def test_wait_and_fault_blink_each_at_its_own_rate(sign: Sign, light: Light, lamp: Lamp, seconds: float) -> None:
    await sign.light.set(light)
    assert [await sign.tick() for _ in range(4)] == [seconds] * 4
    assert sign.outputs.shown == [{lamp}, DARK, {lamp}, DARK, {lamp}]


async def test_a_light_that_is_asked_for_again_keeps_its_rhythm(sign: Sign) -> None:
    await sign.light.set(Light.WAIT)
    await sign.tick()
    await sign.light.set(Light.WAIT)
    assert sign.outputs.shown == [{Lamp.YELLOW}, DARK]
    await sign.tick()
    assert sign.outputs.shown == [{Lamp.YELLOW}, DARK, {Lamp.YELLOW}]


async def test_a_steady_light_that_is_asked_for_again_is_looked_at(sign: Sign) -> None:
    await sign.light.set(Light.GREEN)
    await sign.light.set(Light.GREEN)
    assert sign.outputs.shown == [{Lamp.GREEN}, {Lamp.GREEN}]
    sign.outputs.error = DriverError("unplugged")
    with pytest.raises(DriverError, match="unplugged"):
        await sign.light.set(Light.GREEN)


async def test_a_new_light_ends_the_blinking(sign: Sign) -> None:
    await sign.light.set(Light.FAULT)
    _, go_on = await sign.pauses.get()
    await sign.light.set(Light.GREEN)
    go_on.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert sign.outputs.shown == [{Lamp.RED}, {Lamp.GREEN}]
    assert sign.pauses.empty()


async def test_a_new_light_lets_a_change_that_is_under_way_end(sign: Sign) -> None:
    await sign.light.set(Light.FAULT)
    sign.outputs.hold = asyncio.Event()
    _, go_on = await sign.pauses.get()
    go_on.set()
    await until(lambda: sign.outputs.busy == 1)
    green = asyncio.create_task(sign.light.set(Light.GREEN))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not green.done()
    sign.outputs.hold.set()
    await asyncio.wait_for(green, GUARD_S)
    assert sign.outputs.shown == [{Lamp.RED}, DARK, {Lamp.GREEN}]


@pytest.mark.parametrize("light", [Light.WAIT, Light.FAULT])
async def test_lamps_that_fail_while_they_blink_are_told_at_the_next_look(sign: Sign, light: Light) -> None:
    await sign.light.set(light)
    sign.outputs.error = DriverError("unplugged")
    await sign.tick()
    await until(lambda: sign.light._blinking is not None and sign.light._blinking.done())
    with pytest.raises(DriverError, match="unplugged"):
        await sign.light.set(light)


async def test_a_light_without_its_optional_lamps_still_waits_and_idles() -> None:
    sign = Sign(REQUIRED)
    await sign.light.start()
    await sign.light.set(Light.IDLE)
    await sign.light.set(Light.WAIT)
    await sign.tick()
    assert sign.outputs.shown == [DARK, DARK, {Lamp.RED}, DARK]
    await sign.light.stop()


async def test_lamps_that_hang_hold_the_end_up_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.signal.light.CLOSE_S", 0.02)
    sign = Sign()
    await sign.light.start()
    sign.outputs.hold = asyncio.Event()
    await asyncio.wait_for(sign.light.stop(), GUARD_S)
    assert sign.outputs.closes == 2


async def test_lamps_that_do_not_open_are_given_back() -> None:
    sign = Sign()
    sign.outputs.error = DriverError("unplugged")
    with pytest.raises(DriverError, match="unplugged"):
        await sign.light.start()
    assert sign.outputs.closes == 2


# GPIO.

LINES = {Lamp.GREEN: 5, Lamp.RED: 6, Lamp.YELLOW: 7}


@dataclass
class FakeLines:
    """As gpiod.LineRequest and as what asks for one."""

    settings: Mapping[int, gpiod.LineSettings] = field(default_factory=dict)
    levels: dict[int, bool] = field(default_factory=dict)
    error: OSError | None = None
    error_at_read: OSError | None = None
    released: bool = False

    def __call__(self, _chip: str, settings: Mapping[int, gpiod.LineSettings]) -> FakeLines:
        if self.error is not None:
            raise self.error
        self.settings = settings
        self.levels = {line: each.output_value is Value.ACTIVE for line, each in settings.items()}
        return self

    def set_values(self, values: dict[int | str, Value]) -> None:
        assert values, "the kernel refuses none"
        if self.error is not None:
            raise self.error
        self.levels |= {int(line): value is Value.ACTIVE for line, value in values.items()}

    def get_values(self, lines: Sequence[int]) -> list[Value]:
        if self.error_at_read is not None:
            raise self.error_at_read
        return [Value.INACTIVE for _ in lines]

    def release(self) -> None:
        self.released = True


def on_gpio(lines: FakeLines, **changed: Any) -> SignLight:
    return SignLight(GpioLamps(GpioLight("/dev/gpiochip0", LINES, **changed), request=lines), LINES)


@pytest.mark.parametrize("active_low", [False, True])
async def test_lamps_on_gpio_are_outputs_that_begin_dark(active_low: bool) -> None:
    lines = FakeLines()
    light = on_gpio(lines, active_low=active_low)
    await light.start()
    assert lines.levels == {5: False, 6: False, 7: False}
    assert {each.direction for each in lines.settings.values()} == {Direction.OUTPUT}
    assert {each.active_low for each in lines.settings.values()} == {active_low}
    await light.stop()


async def test_a_light_on_gpio_moves_its_line_and_no_other() -> None:
    lines = FakeLines()
    light = on_gpio(lines)
    await light.start()
    await light.set(Light.GREEN)
    assert lines.levels == {5: True, 6: False, 7: False}
    await light.set(Light.RED)
    assert lines.levels == {5: False, 6: True, 7: False}
    await light.stop()
    assert lines.levels == {5: False, 6: False, 7: False}
    assert lines.released


@pytest.mark.parametrize("at_read", [False, True])
async def test_a_chip_that_is_gone_fails_the_light_without_naming_a_path(at_read: bool) -> None:
    lines = FakeLines()
    light = on_gpio(lines)
    await light.start()
    await light.set(Light.GREEN)
    gone = OSError(19, "No such device", "/dev/gpiochip0")
    if at_read:
        lines.error_at_read = gone
    else:
        lines.error = gone
    with pytest.raises(DriverError, match=r"does not move the lamps: No such device$"):
        await light.set(Light.GREEN)
    await light.stop()


async def test_a_chip_that_does_not_give_its_lines_does_not_start() -> None:
    light = on_gpio(FakeLines(error=OSError(16, "Device or resource busy")))
    with pytest.raises(DriverError, match="does not give the lamps' lines: Device or resource busy"):
        await light.start()
    with pytest.raises(DriverError, match="not started"):
        await light.set(Light.GREEN)


async def test_a_machine_without_the_chip_says_so() -> None:
    with pytest.raises(DriverError, match="does not give the lamps' lines"):
        await open_light(GpioLight("/dev/gpiochip-that-is-not-there", LINES)).start()


# Modbus.

COILS = {Lamp.GREEN: 2, Lamp.RED: 3, Lamp.BLUE: 6}


@pytest.fixture
async def board() -> AsyncIterator[Board]:
    made = Board()
    yield made
    await made.stop()


async def on_modbus(board: Board, coils: Mapping[Lamp, int] = COILS) -> ModbusLight:
    return ModbusLight(TcpPlace("127.0.0.1", await board.start()), coils)


def lit(board: Board) -> set[int]:
    return {coil for coil in COILS.values() if board.coils[coil]}


async def test_lamps_on_a_module_go_dark_at_start_and_show_each_light(board: Board) -> None:
    light = open_light(await on_modbus(board))
    await light.start()
    assert lit(board) == set()
    for each, coil in ((Light.IDLE, 6), (Light.GREEN, 2), (Light.RED, 3), (Light.FAULT, 3)):
        await light.set(each)
        assert lit(board) == {coil}
    await light.stop()
    assert lit(board) == set()


async def test_coils_that_are_no_lamps_are_left_alone(board: Board) -> None:
    light = open_light(await on_modbus(board))
    await light.start()
    await light.set(Light.GREEN)
    await light.stop()
    assert {coil for coil, _ in board.moves} <= set(COILS.values())


async def test_red_and_green_are_never_lit_together(board: Board) -> None:
    light = open_light(await on_modbus(board))
    await light.start()
    board.moves.clear()
    for each in (Light.GREEN, Light.RED, Light.GREEN):
        await light.set(each)
    await light.stop()
    on: set[int] = set()
    for coil, level in board.moves:
        on = on | {coil} if level else on - {coil}
        assert len(on) <= 1


async def test_a_light_that_stands_is_read_and_not_written_again(board: Board) -> None:
    light = open_light(await on_modbus(board))
    await light.start()
    await light.set(Light.GREEN)
    board.moves.clear()
    await light.set(Light.GREEN)
    assert board.moves == []
    await light.stop()


async def test_a_module_that_lost_power_shows_the_light_again(board: Board) -> None:
    light = open_light(await on_modbus(board))
    await light.start()
    await light.set(Light.RED)
    board.coils = [False] * Board.COILS
    await light.set(Light.RED)
    assert lit(board) == {3}
    await light.stop()


async def test_coils_far_apart_are_read_one_by_one(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(light_modbus, "MAX_SPAN", 2)
    light = open_light(await on_modbus(board))
    await light.start()
    await light.set(Light.IDLE)
    assert lit(board) == {6}
    await light.stop()


async def test_a_coil_that_does_not_follow_fails_the_light(board: Board) -> None:
    light = open_light(await on_modbus(board))
    await light.start()
    board.stuck = True
    with pytest.raises(DriverError, match="does not follow"):
        await light.set(Light.GREEN)
    await light.stop()


async def test_one_lost_answer_is_no_failure(board: Board) -> None:
    light = open_light(await on_modbus(board))
    await light.start()
    lost = 1

    def lose(frame: bytes) -> bytes:
        nonlocal lost
        lost -= 1
        return b"" if lost >= 0 else frame

    board.answer = lose
    await light.set(Light.GREEN)
    assert lost < 0
    assert lit(board) == {2}
    await light.stop()


async def test_a_module_that_falls_silent_fails_the_light_in_limited_time(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(light_modbus, "ANSWER_S", 0.02)
    monkeypatch.setattr(light_modbus, "SHOW_S", 0.1)
    light = SignLight(ModbusLamps(await on_modbus(board)), COILS)
    await light.start()
    board.answer = lambda _frame: b""
    with pytest.raises(DriverError, match="in time"):
        await asyncio.wait_for(light.set(Light.GREEN), GUARD_S)
    await light.stop()


async def test_a_module_that_is_not_there_does_not_start(board: Board) -> None:
    wires = await on_modbus(board)
    await board.stop()
    light = open_light(wires)
    with pytest.raises(DriverError, match="no module answers there"):
        await light.start()
    with pytest.raises(DriverError, match="not started"):
        await light.set(Light.GREEN)


async def test_a_request_that_is_given_up_ends_though_its_answer_comes_in_the_same_moment(board: Board) -> None:
    module = Module((await on_modbus(board)).place, 1, 1.0)
    await module.connect()
    begun = asyncio.Event()

    async def request(_client: object, _unit: int) -> ModbusPDU:
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return ReadCoilsResponse(bits=[True] * 8)

    asking = asyncio.create_task(module.ask(1, request))
    await begun.wait()
    asking.cancel()
    await asyncio.wait({asking}, timeout=GUARD_S)
    assert asking.cancelled()
    module.close()


def test_a_light_that_is_gone_is_told_within_five_seconds() -> None:
    """The longest half of a blink with its change, and then the next look and its change."""
    assert SLOW_S + light_modbus.SHOW_S + parts.LAMPS_S < 5
    assert 2 * parts.LAMPS_S < 5


async def test_a_panel_reports_the_light_that_is_lost_and_that_came_back(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.signal.panel.BACKOFF_BASE_S", 0.01)
    monkeypatch.setattr("drivers.signal.panel.BACKOFF_CAP_S", 0.02)
    wires = await on_modbus(board)
    told: list[tuple[str, bool]] = []
    panel = open_panel(
        PanelSettings(light=open_light(wires)),
        clock=FakeClock(),
        random=Random(1),
        report=lambda part, works, _why: told.append((part, works)),
    )
    await panel.start()
    try:
        await panel.show(messages.PASS)
        await until(lambda: lit(board) == {2})
        board.stuck = True
        await panel.show(messages.ALARM)
        await until(lambda: bool(told))
        board.stuck = False
        await until(lambda: lit(board) == {3})
        assert told == [("light", False), ("light", True)]
    finally:
        await panel.stop()
    assert lit(board) == set()
