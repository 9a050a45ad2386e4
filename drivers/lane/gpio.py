"""A lane on the GPIO lines of a board, by libgpiod 2: relays in a holder process (drivers.lane.holder), inputs by edge events.

Tested against a fake of gpiod's request object and a fake gpiod module: no GPIO chip was in reach (docs/lane-hardware.md).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import gpiod
from gpiod.line import Bias, Edge, Value
from gpiod.line import Clock as EventClock
from gpiod.line import Direction as LineDirection

from drivers.gpio import reason_of, request_lines
from drivers.lane import wiring
from drivers.lane.changes import FEEDBACK, MAX_PULSE_MS, Changes, FireLine
from drivers.lane.wiring import ChangeOver, GpioInput, GpioOutput, GpioWiring, relay_for
from drivers.ports import Direction, DriverError, LaneInput, LaneSignal
from protocol.clock import Clock

HOLDER = Path(__file__).with_name("holder.py")
READY_S = 10.0
"""A Python process on a busy small board takes seconds to start."""
CONFIRM_S = 1.0
FEEDBACK_S = 0.5
"""A relay moves within 20 ms."""
STOP_S = 2.0
RECHECK_S = 1.0
"""Levels are read anew this often: an edge that the kernel did not keep is found, and so is a chip that is gone."""
MAX_LINE = 4096
_BIAS = {
    wiring.Bias.AS_IS: Bias.AS_IS,
    wiring.Bias.PULL_UP: Bias.PULL_UP,
    wiring.Bias.PULL_DOWN: Bias.PULL_DOWN,
    wiring.Bias.DISABLED: Bias.DISABLED,
}


class Edges(Protocol):
    """What is used of gpiod.LineRequest."""

    @property
    def fd(self) -> int: ...

    def get_values(self, lines: Sequence[int]) -> Sequence[Value]: ...

    def read_edge_events(self) -> Sequence[Any]: ...

    def release(self) -> None: ...


RequestLines = Callable[[str, Mapping[int, gpiod.LineSettings]], Edges]
"""(chip, settings by line); raises OSError or ValueError."""


def settings_of(each: GpioInput) -> gpiod.LineSettings:
    return gpiod.LineSettings(
        direction=LineDirection.INPUT,
        edge_detection=Edge.BOTH,
        bias=_BIAS[each.bias],
        active_low=each.active_low,
        debounce_period=timedelta(microseconds=each.debounce_us),
        event_clock=EventClock.MONOTONIC,
    )


class Gpio:
    """drivers.ports.LaneHardware on one chip."""

    def __init__(
        self,
        wires: GpioWiring,
        clock: Clock,
        required: Collection[LaneSignal],
        *,
        request: RequestLines = request_lines,
    ) -> None:
        """`required`: inputs whose level has to be known before `start` returns."""
        self._wires, self._clock, self._required, self._request_lines = wires, clock, frozenset(required), request
        self._changes = Changes()
        self._fire = FireLine(self._changes)
        self._holder = Holder(wires.chip, wires.outputs, self._changes.fail)
        self._inputs = {each.line: signal for signal, each in wires.inputs.items()}
        line = wires.fire_line
        self._fire_lines = () if line is None else (line.nc.line, line.no.line)
        self._levels: dict[int, bool] = {}
        self._numbers: dict[int, int] = {}
        """Of the newest edge of each line, as the kernel counts them."""
        self._request: Edges | None = None
        self._recheck: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Relays at rest first, then the inputs. Raises DriverError."""
        await self.stop()
        self._changes.begin()
        try:
            await self._holder.start()
            self._open_inputs()
            self._changes.complete(self._required)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        self._changes.fail("stopped")
        self._fire.stop()
        if self._recheck is not None:
            self._recheck.cancel()
            self._recheck = None
        request, self._request = self._request, None
        if request is not None:
            asyncio.get_running_loop().remove_reader(request.fd)
            with suppress(OSError):
                request.release()
        await self._holder.stop()

    async def pulse(self, direction: Direction, milliseconds: int) -> float:
        if not 0 < milliseconds <= MAX_PULSE_MS:
            raise DriverError(f"a pulse of 1 to {MAX_PULSE_MS} ms is expected")
        self._changes.check()
        output = relay_for(self._wires.outputs, direction)
        feedback = FEEDBACK[output]
        wired = self._wires.inputs.get(feedback)
        if wired is None or self._levels[wired.line]:  # no feedback, or open already: the pulse makes it longer
            await self._holder.pulse(output, milliseconds)
            return self._clock.monotonic()
        moved = self._changes.expect(feedback)
        try:
            await self._holder.pulse(output, milliseconds)
        except BaseException:
            self._changes.forget(moved)
            raise
        try:
            return await self._changes.settle(moved, FEEDBACK_S)
        except DriverError:
            with suppress(DriverError):
                await self._holder.rest(output)
            raise

    def inputs(self) -> AsyncIterator[LaneInput]:
        return self._changes.stream()

    # Inputs.

    def _open_inputs(self) -> None:
        wires = [*self._wires.inputs.values()]
        if self._wires.fire_line is not None:
            wires += [self._wires.fire_line.nc, self._wires.fire_line.no]
        if not wires:
            return
        self._levels.clear()
        self._numbers.clear()
        try:
            self._request = self._request_lines(self._wires.chip, {each.line: settings_of(each) for each in wires})
            asyncio.get_running_loop().add_reader(self._request.fd, self._on_edges)
            self._read_levels(first=True)
        except (OSError, ValueError) as error:
            raise DriverError(f"the chip does not give its inputs: {reason_of(error)}") from error

    def _read_levels(self, *, first: bool = False) -> None:
        """Every level as it is now; what no edge told is made up for. Raises OSError."""
        assert self._request is not None  # noqa: S101
        lines = [*self._inputs, *self._fire_lines]
        at = self._clock.monotonic()
        for line, value in zip(lines, self._request.get_values(lines), strict=True):
            self._see(line, value is Value.ACTIVE, at)
        self._see_fire(at, first=first)
        self._recheck = asyncio.get_running_loop().call_later(RECHECK_S, self._look_again)

    def _look_again(self) -> None:
        try:
            self._read_levels()
        except (OSError, ValueError) as error:
            self._changes.fail(f"the chip gives no levels: {reason_of(error)}")

    def _on_edges(self) -> None:
        assert self._request is not None  # noqa: S101
        try:
            edges = self._request.read_edge_events()
        except (OSError, ValueError) as error:
            asyncio.get_running_loop().remove_reader(self._request.fd)
            self._changes.fail(f"the chip gives no edges: {reason_of(error)}")
            return
        lost, at = False, self._clock.monotonic()
        for edge in edges:
            line, at = edge.line_offset, edge.timestamp_ns / 1e9
            lost |= edge.line_seqno != self._numbers.get(line, edge.line_seqno - 1) + 1
            self._numbers[line] = edge.line_seqno
            self._see(line, edge.event_type is gpiod.EdgeEvent.Type.RISING_EDGE, at)
        self._see_fire(at)
        if lost:
            if self._recheck is not None:
                self._recheck.cancel()
            self._look_again()

    def _see(self, line: int, active: bool, at: float) -> None:
        self._levels[line] = active
        signal = self._inputs.get(line)
        if signal is not None:
            self._changes.level(signal, active, at)

    def _see_fire(self, at: float, *, first: bool = False) -> None:
        if self._fire_lines:
            state = ChangeOver.state(*(self._levels[line] for line in self._fire_lines))
            (self._fire.begin if first else self._fire.see)(state, at)


class Holder:
    """The agent's side of drivers.lane.holder. `failed` is told when the process ends by itself."""

    def __init__(self, chip: str, outputs: Mapping[Direction, GpioOutput], failed: Callable[[str], None]) -> None:
        self._chip, self._outputs, self._failed = chip, outputs, failed
        self._process: asyncio.subprocess.Process | None = None
        self._commands: dict[int, asyncio.Future[None]] = {}
        self._number = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when every relay is at rest. Raises DriverError."""
        settings = {
            "chip": self._chip,
            "outputs": {
                direction.value: {"line": each.line, "rest_high": each.rest_high}
                for direction, each in self._outputs.items()
            },
            "parent": os.getpid(),
        }
        try:
            # -P: the directory of the script is no place to import from.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                str(HOLDER),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MAX_LINE,
            )
            self._send(settings)
            async with asyncio.timeout(READY_S):
                answer = await self._receive()
        except (OSError, TimeoutError) as error:
            raise DriverError("the holder of the relays does not start") from error
        match answer:
            case {"ready": True}:
                self._task = asyncio.create_task(self._listen())
            case {"error": str(why)}:
                raise DriverError(f"the relays cannot be held: {why[:200]}")
            case _:
                raise DriverError("the holder of the relays does not start")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._end("stopped")
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None  # noqa: S101
        process.stdin.close()  # it puts its relays to rest and ends
        try:
            async with asyncio.timeout(STOP_S):
                await process.communicate()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

    async def pulse(self, output: Direction, milliseconds: int) -> None:
        """Returns when the relay was moved. Raises DriverError."""
        await self._command({"cmd": "pulse", "out": output.value, "ms": milliseconds})

    async def rest(self, output: Direction) -> None:
        await self._command({"cmd": "rest", "out": output.value})

    async def _command(self, body: dict[str, Any]) -> None:
        if self._task is None:
            raise DriverError("not started")
        self._number += 1
        number = self._number
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._commands[number] = done
        try:
            self._send({**body, "id": number})
            async with asyncio.timeout(CONFIRM_S):
                await done
        except TimeoutError:
            raise DriverError(f"the holder did not confirm {body['cmd']}") from None
        finally:
            self._commands.pop(number, None)

    def _send(self, body: dict[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None  # noqa: S101, PT018
        # Short lines, one for each command that waits: the pipe's buffer cannot grow.
        self._process.stdin.write(json.dumps(body).encode() + b"\n")

    async def _receive(self) -> dict[str, Any]:
        """Raises DriverError when the process is gone or says what no holder says."""
        assert self._process is not None and self._process.stdout is not None  # noqa: S101, PT018
        try:
            line = await self._process.stdout.readline()
            body = json.loads(line) if line else None
        except (ValueError, RecursionError) as error:
            raise DriverError("the holder of the relays broke its protocol") from error
        if body is None:
            raise DriverError("the holder of the relays has ended")
        if not isinstance(body, dict):
            raise DriverError("the holder of the relays broke its protocol")
        return body

    async def _listen(self) -> None:
        try:
            while True:
                match await self._receive():
                    case {"ok": int(number)}:
                        done = self._commands.get(number)
                        if done is not None and not done.done():
                            done.set_result(None)
                    case {"error": str(why), "id": int(number)}:
                        done = self._commands.get(number)
                        if done is not None and not done.done():
                            done.set_exception(DriverError(f"the relay did not move: {why[:200]}"))
                    case _:
                        raise DriverError("the holder of the relays broke its protocol")
        except DriverError as error:
            self._end(str(error))
            self._failed(str(error))

    def _end(self, why: str) -> None:
        for done in self._commands.values():
            if not done.done():
                done.set_exception(DriverError(why))
