"""A lane on a Modbus relay and input module, TCP or RTU: the pulse is timed by the module's own flash timer.

Inputs are polled. Whatever cannot be read for the time that the wiring allows has failed (DriverError); nothing reconnects by
itself: the supervisor starts the device anew, which puts every relay to rest first.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import suppress

from pymodbus.pdu import ModbusPDU

from drivers.lane.changes import FEEDBACK, MAX_PULSE_MS, Changes, FireLine
from drivers.lane.wiring import (
    BitInput,
    Bits,
    ChangeOver,
    FireRegister,
    FireState,
    FlashStyle,
    ModbusWiring,
    relay_for,
)
from drivers.modbus import Module, again_when_lost
from drivers.ports import Direction, DriverError, LaneInput, LaneSignal
from protocol.clock import Clock

_log = logging.getLogger(__name__)

ANSWERS = 3
"""Requests that may go unanswered one after the other within the time an input may go unseen."""
FEEDBACK_S = 0.5
GAP = 32
"""Inputs this far apart are still read in one request."""
MAX_SPAN = 256
"""Inputs in one request; the standard allows 2000, small modules less."""


class FlashRequest(ModbusPDU):
    """Function 05 with a time where the standard has on or off: what relay boards take for "flash". Answered by its echo."""

    function_code = 5
    rtu_frame_size = 8

    def encode(self) -> bytes:
        return struct.pack(">HH", self.address, self.registers[0])


class Modbus:
    """drivers.ports.LaneHardware on one module."""

    def __init__(self, wires: ModbusWiring, clock: Clock, required: Collection[LaneSignal]) -> None:
        """`required`: inputs whose level has to be known before `start` returns."""
        self._wires, self._clock, self._required = wires, clock, frozenset(required)
        self._changes = Changes()
        self._fire = FireLine(self._changes)
        bits = [*wires.inputs.values()]
        if isinstance(wires.fire_line, ChangeOver):
            bits += [wires.fire_line.nc, wires.fire_line.no]
        self._spans = [(table, span) for table in Bits for span in spans(b.address for b in bits if b.table is table)]
        self._levels: dict[tuple[Bits, int], bool] = {}
        self._module = Module(wires.place, wires.unit, wires.unseen_s / ANSWERS)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Relays at rest and read back first, then the inputs. Raises DriverError."""
        await self.stop()
        self._changes.begin()
        try:
            await self._module.connect()
            for output in self._wires.outputs:
                await self._rest(output)
            await self._read(first=True)
            self._changes.complete(self._required)
        except BaseException:
            await self.stop()
            raise
        self._task = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._changes.fail("stopped")
        self._fire.stop()
        self._module.close()

    async def pulse(self, direction: Direction, milliseconds: int) -> float:
        if not 0 < milliseconds <= MAX_PULSE_MS:
            raise DriverError(f"a pulse of 1 to {MAX_PULSE_MS} ms is expected")
        self._changes.check()
        if not self._module.opened:
            raise DriverError("not started")
        output = relay_for(self._wires.outputs, direction)
        wired = self._wires.inputs.get(FEEDBACK[output])
        if wired is None:
            await self._flash(output, milliseconds)
            if await self._coil(output) is self._wires.outputs[output].rest_on:
                raise DriverError("the relay did not move")
            return self._clock.monotonic()
        if self._level(wired):  # open already: the pulse makes it longer
            await self._flash(output, milliseconds)
            return self._clock.monotonic()
        moved = self._changes.expect(FEEDBACK[output])
        try:
            await self._flash(output, milliseconds)
        except BaseException:
            self._changes.forget(moved)
            raise
        try:
            return await self._changes.settle(moved, FEEDBACK_S)
        except DriverError:
            with suppress(DriverError):
                await self._rest(output)
            raise

    def inputs(self) -> AsyncIterator[LaneInput]:
        return self._changes.stream()

    # Relays.

    async def _rest(self, output: Direction) -> None:
        wired = self._wires.outputs[output]
        await self._module.write_coil(wired.coil, wired.rest_on)
        if await self._coil(output) is not wired.rest_on:
            raise DriverError("a relay does not go to rest")

    async def _flash(self, output: Direction, milliseconds: int) -> None:
        """The pulse, rounded up to the timer's unit."""
        wired, flash = self._wires.outputs[output], self._wires.flash
        address = (flash.off if wired.rest_on else flash.on) + wired.coil
        ticks = -(-milliseconds // flash.unit_ms)
        if flash.style is FlashStyle.REGISTER:
            answer = await self._module.ask(
                6, lambda client, unit: client.write_register(address, ticks, device_id=unit)
            )
        else:
            request = FlashRequest(address=address, registers=[ticks], dev_id=self._wires.unit)
            answer = await self._module.ask(5, lambda client, _unit: client.execute(False, request))
        if answer.address != address:
            raise DriverError("the module confirmed something else")

    async def _coil(self, output: Direction) -> bool:
        (level,) = await self._module.bits(Bits.COIL, self._wires.outputs[output].coil, 1)
        return level

    # Inputs.

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                await self._read_in_time()
                await asyncio.sleep(max(0.0, began + self._wires.poll_s - loop.time()))
        except DriverError as error:
            self._changes.fail(str(error))
        except Exception as error:
            _log.exception("modbus: unexpected error")
            self._changes.fail(type(error).__name__)

    async def _read_in_time(self) -> None:
        try:
            await again_when_lost(self._read, self._wires.unseen_s)
        except TimeoutError:
            raise DriverError("the module's inputs cannot be read in time") from None

    async def _read(self, *, first: bool = False) -> None:
        """Every level once. Raises DriverError."""
        for table, (low, count) in self._spans:
            for address, level in enumerate(await self._module.bits(table, low, count), start=low):
                self._levels[table, address] = level
        state = await self._fire_state()
        at = self._clock.monotonic()
        if state is not None:
            (self._fire.begin if first else self._fire.see)(state, at)
        for signal, wired in self._wires.inputs.items():
            self._changes.level(signal, self._level(wired), at)

    def _level(self, wired: BitInput) -> bool:
        return self._levels[wired.table, wired.address] is not wired.active_low

    async def _fire_state(self) -> FireState | None:
        match self._wires.fire_line:
            case None:
                return None
            case ChangeOver(nc, no):
                return ChangeOver.state(self._level(nc), self._level(no))
            case FireRegister() as measured:
                return measured.state(await self._module.register(measured.table, measured.address))


def spans(addresses: Iterable[int]) -> list[tuple[int, int]]:
    """(first, count) of the requests that read all of `addresses`."""
    found: list[tuple[int, int]] = []
    for address in sorted(set(addresses)):
        if found and address - sum(found[-1]) < GAP and address - found[-1][0] < MAX_SPAN:
            found[-1] = (found[-1][0], address - found[-1][0] + 1)
        else:
            found.append((address, 1))
    return found
