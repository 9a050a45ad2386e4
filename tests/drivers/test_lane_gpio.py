"""The GPIO driver against a fake of gpiod's request object, and the holder of the relays as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import gpiod
import pytest
from gpiod.line import Bias, Edge

from drivers.lane import changes, gpio
from drivers.lane.changes import MAX_PULSE_MS
from drivers.lane.gpio import HOLDER, Gpio
from drivers.lane.wiring import Bias as WiredBias
from drivers.lane.wiring import ChangeOver, GpioInput, GpioOutput, GpioWiring
from drivers.ports import Direction, DriverError, LaneInput, LaneSignal
from protocol.clock import SystemClock
from tests.drivers.lane_boards import FakeChip, Pins

GUARD_S = 20.0
IN, OUT = Direction.IN, Direction.OUT
A, M, FEEDBACK = 5, 6, 7
NC, NO = 8, 9
RELAY_IN, RELAY_OUT = 20, 21
INPUTS = {
    LaneSignal.BEAM_A: GpioInput(A, active_low=True, bias=WiredBias.PULL_UP, debounce_us=500),
    LaneSignal.BEAM_M: GpioInput(M),
    LaneSignal.KEY_LOCKED: GpioInput(10),
    LaneSignal.FIRE: GpioInput(11),
}
OUTPUTS = {IN: GpioOutput(RELAY_IN), OUT: GpioOutput(RELAY_OUT, rest_high=True)}
PLAIN = GpioWiring("/dev/gpiochip0", INPUTS, OUTPUTS)
FED_BACK = GpioWiring("/dev/gpiochip0", {LaneSignal.RELAY_IN: GpioInput(FEEDBACK)}, OUTPUTS)
SUPERVISED = GpioWiring("/dev/gpiochip0", {}, OUTPUTS, ChangeOver(GpioInput(NC), GpioInput(NO)))


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pins:
    """Holders started from here find the fake module in place of gpiod."""
    made = Pins(tmp_path)
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    return made


async def until(reached: Callable[[], bool], timeout: float = GUARD_S) -> None:
    async with asyncio.timeout(timeout):
        while not reached():  # noqa: ASYNC110  another process moves the pins
            await asyncio.sleep(0.01)


@asynccontextmanager
async def started(chip: FakeChip, wires: GpioWiring = PLAIN) -> AsyncIterator[Gpio]:
    lane = Gpio(wires, SystemClock(), {LaneSignal.FIRE} & set(wires.inputs), request=chip)
    try:
        async with asyncio.timeout(GUARD_S):
            await lane.start()
            yield lane
    finally:
        await lane.stop()


async def take(lane: Gpio, count: int) -> list[LaneInput]:
    taken: list[LaneInput] = []
    async with aclosing(lane.inputs()) as inputs:  # type: ignore[type-var]  # the port promises the iterator only
        async for change in inputs:
            taken.append(change)
            if len(taken) == count:
                break
    return taken


def said(taken: list[LaneInput]) -> list[tuple[LaneSignal, bool]]:
    return [(each.signal, each.active) for each in taken]


# Inputs.


async def test_levels_come_first_fire_before_all_and_the_key_next(pins: Pins) -> None:
    async with started(FakeChip({A: True, 10: True, 11: True})) as lane:
        levels = said(await take(lane, 4))
    assert levels[:2] == [(LaneSignal.FIRE, True), (LaneSignal.KEY_LOCKED, True)]
    assert set(levels[2:]) == {(LaneSignal.BEAM_A, True), (LaneSignal.BEAM_M, False)}


async def test_an_edge_carries_the_kernels_time(pins: Pins) -> None:
    chip = FakeChip()
    async with started(chip) as lane:
        await take(lane, 4)
        chip.drive(M, True, at=123.5)
        chip.drive(M, False, at=123.75)
        (rise, fall) = await take(lane, 2)
    assert (rise.signal, rise.active, rise.at) == (LaneSignal.BEAM_M, True, 123.5)
    assert (fall.active, fall.at) == (False, 123.75)


async def test_a_line_is_asked_for_as_it_is_wired(pins: Pins) -> None:
    chip = FakeChip()
    async with started(chip):
        assert chip.request is not None
        found = chip.request.settings[A]
        assert (found.bias, found.active_low, found.edge_detection) == (Bias.PULL_UP, True, Edge.BOTH)
        assert found.debounce_period.microseconds == 500
        assert chip.request.settings[M].bias is Bias.AS_IS
    assert chip.request.released


async def test_an_edge_that_the_kernel_dropped_is_made_up_for(pins: Pins) -> None:
    chip = FakeChip()
    async with started(chip) as lane:
        await take(lane, 4)
        chip.drive(M, True)
        await take(lane, 1)
        chip.drive(M, False, told=False)
        chip.drive(A, True, told=False)
        chip.drive(M, True)  # its number says that one before it is missing
        assert said(await take(lane, 1)) == [(LaneSignal.BEAM_A, True)]


async def test_an_edge_nobody_was_told_of_is_found_when_levels_are_read_again(
    pins: Pins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpio, "RECHECK_S", 0.02)
    chip = FakeChip()
    async with started(chip) as lane:
        await take(lane, 4)
        chip.drive(M, True, told=False)
        assert said(await take(lane, 1)) == [(LaneSignal.BEAM_M, True)]


async def test_a_chip_that_is_gone_ends_the_stream(pins: Pins) -> None:
    chip = FakeChip()
    async with started(chip) as lane:
        await take(lane, 4)
        assert chip.request is not None
        chip.request.error = OSError(19, "No such device")
        chip.request.wake()
        with pytest.raises(DriverError, match="No such device"):
            await take(lane, 1)
        with pytest.raises(DriverError):
            await lane.pulse(IN, 100)


async def test_a_chip_that_gives_no_inputs_does_not_start_and_leaves_no_holder(pins: Pins) -> None:
    chip = FakeChip(error=OSError(16, "Device or resource busy"))
    lane = Gpio(PLAIN, SystemClock(), (), request=chip)
    with pytest.raises(DriverError, match="busy"):
        await lane.start()
    assert lane._holder._process is None


async def test_an_input_that_a_lane_needs_and_nobody_wired_does_not_start(pins: Pins) -> None:
    lane = Gpio(PLAIN, SystemClock(), {LaneSignal.CONTACT}, request=FakeChip())
    with pytest.raises(DriverError, match="contact"):
        await lane.start()


# The supervised fire line.


@pytest.mark.parametrize(
    ("nc", "no", "signal"),
    [
        (True, False, None),
        (False, True, LaneSignal.FIRE),
        (False, False, LaneSignal.FIRE_OPEN),
        (True, True, LaneSignal.FIRE_SHORT),
    ],
)
async def test_a_fire_line_says_alarm_open_and_short(pins: Pins, nc: bool, no: bool, signal: LaneSignal | None) -> None:
    async with started(FakeChip({NC: nc, NO: no}), SUPERVISED) as lane:
        levels = said(await take(lane, 3))
    assert [each for each, active in levels if active] == ([] if signal is None else [signal])


async def test_a_contact_that_changes_over_is_an_alarm_and_no_cut_wire(
    pins: Pins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "SETTLE_S", GUARD_S)
    chip = FakeChip({NC: True})
    async with started(chip, SUPERVISED) as lane:
        await take(lane, 3)
        chip.drive(NC, False)
        await asyncio.sleep(0)
        chip.drive(NO, True)
        assert said(await take(lane, 1)) == [(LaneSignal.FIRE, True)]


async def test_a_wire_that_stays_cut_is_told_and_an_alarm_after_it_begins_before_it_ends(
    pins: Pins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "SETTLE_S", 0.02)
    chip = FakeChip({NC: True})
    async with started(chip, SUPERVISED) as lane:
        await take(lane, 3)
        chip.drive(NC, False)
        assert said(await take(lane, 1)) == [(LaneSignal.FIRE_OPEN, True)]
        chip.drive(NO, True)
        assert said(await take(lane, 2)) == [(LaneSignal.FIRE, True), (LaneSignal.FIRE_OPEN, False)]


# Relays.


async def test_relays_are_at_rest_before_any_input_is_read(pins: Pins) -> None:
    seen: list[bool] = []

    class Looking(FakeChip):
        def __call__(self, _chip: str, settings: Any) -> Any:
            seen.append((pins.high(RELAY_IN), pins.high(RELAY_OUT)) == (False, True) and bool(pins.history(RELAY_IN)))
            return super().__call__(_chip, settings)

    async with started(Looking()):
        assert seen == [True]


@pytest.mark.parametrize(("direction", "line", "rest"), [(IN, RELAY_IN, False), (OUT, RELAY_OUT, True)])
async def test_a_pulse_leaves_rest_and_comes_back_by_itself(
    pins: Pins, direction: Direction, line: int, rest: bool
) -> None:
    async with started(FakeChip()) as lane:
        before = SystemClock().monotonic()
        confirmed = await lane.pulse(direction, 60)
        assert before < confirmed <= SystemClock().monotonic()
        await until(lambda: len(pins.history(line)) == 3)
        (_, first), (on, moved), (off, last) = pins.history(line)
        assert (first, moved, last) == (rest, not rest, rest)
        assert off - on >= 0.05


async def test_a_door_with_one_relay_opens_both_ways_by_it(pins: Pins) -> None:
    async with started(FakeChip(), GpioWiring("chip", {}, {IN: GpioOutput(RELAY_IN)})) as lane:
        await lane.pulse(OUT, MAX_PULSE_MS)
        assert pins.high(RELAY_IN)


@pytest.mark.parametrize("milliseconds", [0, -1, MAX_PULSE_MS + 1])
async def test_a_pulse_that_no_lane_means_is_refused(pins: Pins, milliseconds: int) -> None:
    async with started(FakeChip()) as lane:
        with pytest.raises(DriverError, match="1 to"):
            await lane.pulse(IN, milliseconds)


async def test_with_a_feedback_contact_a_pulse_is_confirmed_when_it_moves(pins: Pins) -> None:
    chip = FakeChip()
    async with started(chip, FED_BACK) as lane:
        pulse = asyncio.create_task(lane.pulse(IN, 5000))
        await until(lambda: pins.high(RELAY_IN))
        assert not pulse.done()
        chip.drive(FEEDBACK, True, at=77.5)
        assert await pulse == 77.5
        assert await lane.pulse(IN, 100) > 0, "open already: made longer, and confirmed by its level"


async def test_a_relay_that_does_not_move_is_a_fault_and_is_put_to_rest(
    pins: Pins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpio, "FEEDBACK_S", 0.05)
    async with started(FakeChip(), FED_BACK) as lane:
        with pytest.raises(DriverError, match="feedback"):
            await lane.pulse(IN, MAX_PULSE_MS)
        assert not pins.high(RELAY_IN)


async def test_a_chip_that_does_not_take_a_level_is_a_fault(pins: Pins) -> None:
    async with started(FakeChip()) as lane:
        pins.break_chip()
        with pytest.raises(DriverError, match="Input/output error"):
            await lane.pulse(IN, 100)
        (pins.levels / "broken").unlink()


async def test_a_chip_that_is_not_there_says_why(pins: Pins) -> None:
    pins.levels.rename(pins.levels.with_name("elsewhere"))
    with pytest.raises(DriverError, match="No such file"):
        async with started(FakeChip()):
            pass


async def test_a_holder_that_is_killed_ends_the_device_and_the_next_one_begins_at_rest(pins: Pins) -> None:
    async with started(FakeChip()) as lane:
        await take(lane, 4)
        await lane.pulse(IN, MAX_PULSE_MS)
        assert lane._holder._process is not None
        lane._holder._process.kill()
        with pytest.raises(DriverError, match="has ended"):
            await take(lane, 1)
        with pytest.raises(DriverError):
            await lane.pulse(IN, 100)
        assert pins.high(RELAY_IN), "nobody was left to do it"
        await lane.start()
        assert not pins.high(RELAY_IN)


async def test_stopping_puts_the_relays_to_rest_at_once(pins: Pins) -> None:
    async with started(FakeChip()) as lane:
        await lane.pulse(IN, MAX_PULSE_MS)
    assert not pins.high(RELAY_IN)


async def test_a_stopped_lane_says_so() -> None:
    lane = Gpio(PLAIN, SystemClock(), ())
    with pytest.raises(DriverError):
        await lane.pulse(IN, 100)
    await lane.stop()
    with pytest.raises(DriverError, match="stopped"):
        await take(lane, 1)


# Other processes: an agent that is killed, and the holder by itself.

AGENT = """
import asyncio, sys
from drivers.lane import open_wired
from drivers.lane.wiring import GpioOutput, GpioWiring
from drivers.ports import Direction
from protocol.clock import SystemClock

async def main():
    lane = open_wired(GpioWiring("chip", {}, {Direction.IN: GpioOutput(20)}), clock=SystemClock(), required=())
    await lane.start()
    await lane.pulse(Direction.IN, 10_000)
    print("open", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_an_agent_killed_with_the_relay_on_leaves_it_at_rest_within_two_seconds(pins: Pins) -> None:
    path = os.pathsep.join([str(pins.modules), *sys.path])
    agent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        AGENT,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert agent.stdout is not None
    async with asyncio.timeout(GUARD_S):
        assert await agent.stdout.readline() == b"open\n"
    assert pins.high(RELAY_IN), "open when it is killed"
    killed = SystemClock().monotonic()
    agent.kill()
    await agent.wait()
    await until(lambda: not pins.high(RELAY_IN))
    off, _ = pins.history(RELAY_IN)[-1]
    assert off - killed < 2.0


class Held:
    """The holder by itself, on pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self.stdin, self.stdout = process, process.stdin, process.stdout

    def send(self, body: object) -> None:
        self.stdin.write(json.dumps(body).encode() + b"\n")

    async def answer(self) -> Any:
        async with asyncio.timeout(GUARD_S):
            return json.loads(await self.stdout.readline())

    async def ended(self) -> int:
        async with asyncio.timeout(GUARD_S):
            return await self.process.wait()


def settings(parent: int | None = None) -> dict[str, Any]:
    outputs = {"in": {"line": RELAY_IN, "rest_high": False}, "out": {"line": RELAY_OUT, "rest_high": True}}
    return {"chip": "chip", "outputs": outputs, "parent": os.getpid() if parent is None else parent}


@pytest.fixture
async def holder(pins: Pins) -> AsyncIterator[Held]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", str(HOLDER), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    held = Held(process)
    yield held
    async with asyncio.timeout(GUARD_S):
        await process.communicate()


async def opened(holder: Held) -> None:
    holder.send(settings())
    assert await holder.answer() == {"ready": True}
    holder.send({"cmd": "pulse", "out": "in", "ms": MAX_PULSE_MS, "id": 1})
    assert await holder.answer() == {"ok": 1}


async def test_the_holder_rests_when_it_is_told_to_end(holder: Held, pins: Pins) -> None:
    await opened(holder)
    holder.process.send_signal(signal.SIGINT)
    holder.send({"cmd": "pulse", "out": "out", "ms": MAX_PULSE_MS, "id": 2})
    assert await holder.answer() == {"ok": 2}, "an interrupt is the agent's business"
    holder.process.send_signal(signal.SIGTERM)
    assert await holder.ended() == 0
    assert (pins.high(RELAY_IN), pins.high(RELAY_OUT)) == (False, True)


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON\n",
        b"[]\n",
        b'{"cmd": "pulse", "out": "in", "id": 2}\n',
        b'{"cmd": "pulse", "out": "in", "ms": 10001, "id": 2}\n',
        b'{"cmd": "pulse", "out": "roof", "ms": 100, "id": 2}\n',
        b'{"cmd": "open", "out": "in", "id": 2}\n',
        b"x" * 9000,
    ],
    ids=range(7),
)
async def test_the_holder_rests_and_ends_on_what_no_agent_sends(holder: Held, pins: Pins, line: bytes) -> None:
    await opened(holder)
    holder.stdin.write(line)
    await holder.ended()
    assert not pins.high(RELAY_IN)


async def test_the_holder_of_a_parent_that_is_another_ends(holder: Held, pins: Pins) -> None:
    holder.send(settings(parent=1))
    assert await holder.answer() == {"ready": True}
    assert await holder.ended() == 0
    assert not pins.high(RELAY_IN)


async def test_the_holder_says_what_is_wrong_with_its_lines(holder: Held) -> None:
    holder.send({"chip": "chip", "outputs": {"in": {}}, "parent": 1})
    assert await holder.answer() == {"error": "KeyError"}
    assert await holder.ended() == 1


MIDDLE = """
import subprocess, sys
subprocess.Popen([sys.executable, "-P", sys.argv[1]], stdin=int(sys.argv[2]), stdout=int(sys.argv[3]))
print("started", flush=True)
sys.stdin.read()
"""


async def test_the_holder_rests_when_its_parent_is_dead_though_somebody_keeps_the_pipe(pins: Pins) -> None:
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    try:
        middle = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            MIDDLE,
            str(HOLDER),
            str(to_read),
            str(from_write),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(to_read, from_write),
        )
        assert middle.stdout is not None
        assert await middle.stdout.readline() == b"started\n"
        body = settings(parent=middle.pid)
        os.write(to_write, json.dumps(body).encode() + b"\n")
        os.write(to_write, json.dumps({"cmd": "pulse", "out": "in", "ms": MAX_PULSE_MS, "id": 1}).encode() + b"\n")
        await until(lambda: pins.high(RELAY_IN))
        middle.kill()
        await middle.wait()
        await until(lambda: not pins.high(RELAY_IN))
    finally:
        for each in (to_read, to_write, from_read, from_write):
            os.close(each)


async def test_the_holder_rests_when_nobody_takes_its_answers(holder: Held, pins: Pins) -> None:
    await opened(holder)
    pipe = holder.process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
    pipe.pause_reading()
    command = json.dumps({"cmd": "rest", "out": "out", "id": 2}).encode() + b"\n"
    with suppress(OSError):
        for _ in range(40):
            holder.stdin.write(command * 500)
            await holder.stdin.drain()
    await until(lambda: not pins.high(RELAY_IN))
    pipe.resume_reading()


def test_what_is_used_of_gpiod_is_there() -> None:
    used = {"fd", "get_values", "read_edge_events", "release", "set_value"}
    assert used <= set(dir(gpiod.LineRequest))
