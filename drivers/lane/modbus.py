"""A lane on a Modbus relay and input module, TCP or RTU: the pulse is timed by the module's own flash timer.

Inputs are polled. Whatever cannot be read for the time that the wiring allows has failed (DriverError); nothing reconnects by
itself: the supervisor starts the device anew, which puts every relay to rest first.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException
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
    TcpPlace,
    Words,
    relay_for,
)
from drivers.ports import Direction, DriverError, LaneInput, LaneSignal
from protocol.clock import Clock

_log = logging.getLogger(__name__)
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
"""It logs every frame of a lost answer; a failure is told once, by the DriverError."""

CONNECT_S = 2.0
ANSWERS = 3
"""Requests that may go unanswered one after the other within the time an input may go unseen."""
QUIET_S = 0.02
"""After a lost answer, so that a late one is not taken for the next."""
FEEDBACK_S = 0.5
GAP = 32
"""Inputs this far apart are still read in one request."""
MAX_SPAN = 256
"""Inputs in one request; the standard allows 2000, small modules less."""


class LostError(DriverError):
    """No answer came to one request."""


class FlashRequest(ModbusPDU):
    """Function 05 with a time where the standard has on or off: what relay boards take for "flash". Answered by its echo."""

    function_code = 5
    rtu_frame_size = 8

    def encode(self) -> bytes:
        return struct.pack(">HH", self.address, self.registers[0])


Client = AsyncModbusTcpClient | AsyncModbusSerialClient


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
        self._client: Client | None = None
        self._line = asyncio.Lock()
        """One request at a time."""
        self._task: asyncio.Task[None] | None = None

    @property
    def _answer_s(self) -> float:
        return self._wires.unseen_s / ANSWERS

    async def start(self) -> None:
        """Relays at rest and read back first, then the inputs. Raises DriverError."""
        await self.stop()
        self._changes.begin()
        try:
            await self._connect()
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
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def pulse(self, direction: Direction, milliseconds: int) -> float:
        if not 0 < milliseconds <= MAX_PULSE_MS:
            raise DriverError(f"a pulse of 1 to {MAX_PULSE_MS} ms is expected")
        self._changes.check()
        if self._client is None:
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
        wired, client, unit = self._wires.outputs[output], self._connected, self._wires.unit
        await self._ask(5, lambda: client.write_coil(wired.coil, wired.rest_on, device_id=unit))
        if await self._coil(output) is not wired.rest_on:
            raise DriverError("a relay does not go to rest")

    async def _flash(self, output: Direction, milliseconds: int) -> None:
        """The pulse, rounded up to the timer's unit."""
        wired, flash, unit, client = self._wires.outputs[output], self._wires.flash, self._wires.unit, self._connected
        address = (flash.off if wired.rest_on else flash.on) + wired.coil
        ticks = -(-milliseconds // flash.unit_ms)
        if flash.style is FlashStyle.REGISTER:
            answer = await self._ask(6, lambda: client.write_register(address, ticks, device_id=unit))
        else:
            request = FlashRequest(address=address, registers=[ticks], dev_id=unit)
            answer = await self._ask(5, lambda: client.execute(False, request))
        if answer.address != address:
            raise DriverError("the module confirmed something else")

    async def _coil(self, output: Direction) -> bool:
        (level,) = await self._bits(Bits.COIL, self._wires.outputs[output].coil, 1)
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
        """One lost frame on a bus is no failure; an input unseen for too long is."""
        try:
            async with asyncio.timeout(self._wires.unseen_s):
                while True:
                    try:
                        return await self._read()
                    except LostError:
                        await asyncio.sleep(QUIET_S)
        except TimeoutError:
            raise DriverError("the module's inputs cannot be read in time") from None

    async def _read(self, *, first: bool = False) -> None:
        """Every level once. Raises DriverError."""
        for table, (low, count) in self._spans:
            for address, level in enumerate(await self._bits(table, low, count), start=low):
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
                return measured.state(await self._register(measured))

    # Requests.

    async def _connect(self) -> None:
        place = self._wires.place
        try:
            if isinstance(place, TcpPlace):
                client: Client = AsyncModbusTcpClient(
                    place.host, port=place.port, timeout=self._answer_s, retries=0, reconnect_delay=0
                )
            else:
                client = AsyncModbusSerialClient(
                    place.path,
                    baudrate=place.baud,
                    parity=place.parity,
                    stopbits=place.stop_bits,
                    timeout=self._answer_s,
                    retries=0,
                    reconnect_delay=0,
                )
            self._client = client
            async with asyncio.timeout(CONNECT_S):
                connected = await client.connect()
        except Exception as error:
            raise DriverError("no module answers there") from error
        if not connected:
            raise DriverError("no module answers there")

    @property
    def _connected(self) -> Client:
        if self._client is None:
            raise DriverError("not started")
        return self._client

    async def _bits(self, table: Bits, address: int, count: int) -> Sequence[bool]:
        client, unit = self._connected, self._wires.unit
        if table is Bits.COIL:
            answer = await self._ask(1, lambda: client.read_coils(address, count=count, device_id=unit))
        else:
            answer = await self._ask(2, lambda: client.read_discrete_inputs(address, count=count, device_id=unit))
        if len(answer.bits) < count:
            raise DriverError("the module's answer is too short")
        return answer.bits[:count]

    async def _register(self, measured: FireRegister) -> int:
        client, unit, address = self._connected, self._wires.unit, measured.address
        if measured.table is Words.INPUT:
            answer = await self._ask(4, lambda: client.read_input_registers(address, count=1, device_id=unit))
        else:
            answer = await self._ask(3, lambda: client.read_holding_registers(address, count=1, device_id=unit))
        if len(answer.registers) != 1:
            raise DriverError("the module's answer is too short")
        return answer.registers[0]

    async def _ask(self, function: int, request: Callable[[], Awaitable[ModbusPDU]]) -> ModbusPDU:
        """The answer to one request. Raises LostError when none came, else DriverError."""
        async with self._line:
            try:
                async with asyncio.timeout(2 * self._answer_s):  # the client has a limit of its own, which comes first
                    answer = await request()
            except (ModbusIOException, TimeoutError) as error:
                if self._connected.connected:
                    raise LostError("the module does not answer") from error
                raise DriverError("the connection to the module is lost") from error
            except Exception as error:
                # Whatever its library raises on what a module sends.
                raise DriverError(f"the module cannot be asked: {type(error).__name__}") from error
        if answer.isError():
            raise DriverError(f"the module refuses function {function} with exception {answer.exception_code}")
        if answer.function_code != function:
            raise DriverError("the module answers another question")
        return answer


def spans(addresses: Iterable[int]) -> list[tuple[int, int]]:
    """(first, count) of the requests that read all of `addresses`."""
    found: list[tuple[int, int]] = []
    for address in sorted(set(addresses)):
        if found and address - sum(found[-1]) < GAP and address - found[-1][0] < MAX_SPAN:
            found[-1] = (found[-1][0], address - found[-1][0] + 1)
        else:
            found.append((address, 1))
    return found
