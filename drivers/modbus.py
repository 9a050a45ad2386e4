"""One module on Modbus, TCP or RTU: a connection, one request at a time, and an end to every wait.

Nothing reconnects by itself: whoever uses a module closes it after a failure and connects anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException
from pymodbus.pdu import ModbusPDU

from drivers.lane.wiring import Bits, SerialPlace, TcpPlace, Words
from drivers.ports import DriverError

logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
"""It logs every frame of a lost answer; a failure is told once, by the DriverError."""

CONNECT_S = 2.0
QUIET_S = 0.02
"""After a lost answer, so that a late one is not taken for the next."""

Client = AsyncModbusTcpClient | AsyncModbusSerialClient
R = TypeVar("R")


class LostError(DriverError):
    """No answer came to one request."""


async def again_when_lost(attempt: Callable[[], Awaitable[R]], limit_s: float) -> R:
    """One lost frame on a bus is no failure: what ends with LostError is done again. Raises TimeoutError after `limit_s`
    seconds."""
    async with asyncio.timeout(limit_s):
        while True:
            try:
                return await attempt()
            except LostError:
                await asyncio.sleep(QUIET_S)


class Module:
    """Addresses count from 0. Every request raises LostError when no answer came, else DriverError."""

    def __init__(self, place: TcpPlace | SerialPlace, unit: int, answer_s: float) -> None:
        """`answer_s`: longest wait for one answer, seconds."""
        self._place, self._unit, self._answer_s = place, unit, answer_s
        self._client: Client | None = None
        self._line = asyncio.Lock()
        """One request at a time."""

    @property
    def opened(self) -> bool:
        return self._client is not None

    async def connect(self) -> None:
        """Raises DriverError."""
        place = self._place
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

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def bits(self, table: Bits, address: int, count: int) -> Sequence[bool]:
        """`count` levels from `address` on."""
        if table is Bits.COIL:
            answer = await self.ask(1, lambda client, unit: client.read_coils(address, count=count, device_id=unit))
        else:
            answer = await self.ask(
                2, lambda client, unit: client.read_discrete_inputs(address, count=count, device_id=unit)
            )
        if len(answer.bits) < count:
            raise DriverError("the module's answer is too short")
        return answer.bits[:count]

    async def register(self, table: Words, address: int) -> int:
        if table is Words.INPUT:
            answer = await self.ask(
                4, lambda client, unit: client.read_input_registers(address, count=1, device_id=unit)
            )
        else:
            answer = await self.ask(
                3, lambda client, unit: client.read_holding_registers(address, count=1, device_id=unit)
            )
        if len(answer.registers) != 1:
            raise DriverError("the module's answer is too short")
        return answer.registers[0]

    async def write_coil(self, coil: int, on: bool) -> None:
        await self.ask(5, lambda client, unit: client.write_coil(coil, on, device_id=unit))

    async def ask(self, function: int, request: Callable[[Client, int], Awaitable[ModbusPDU]]) -> ModbusPDU:
        """The answer to one request, made of the client and the module's unit."""
        task = asyncio.current_task()
        cancelled = 0 if task is None else task.cancelling()
        async with self._line:
            client = self._client
            if client is None:
                raise DriverError("not started")
            try:
                async with asyncio.timeout(2 * self._answer_s):  # the client has a limit of its own, which comes first
                    answer = await request(client, self._unit)
            except (ModbusIOException, TimeoutError) as error:
                if client.connected:
                    raise LostError("the module does not answer") from error
                raise DriverError("the connection to the module is lost") from error
            except Exception as error:
                # Whatever its library raises on what a module sends.
                raise DriverError(f"the module cannot be asked: {type(error).__name__}") from error
        if task is not None and task.cancelling() > cancelled:
            # An answer that comes in the same moment hides the cancellation: asyncio.wait_for before Python 3.12, within the
            # library, returns it.
            raise asyncio.CancelledError
        if answer.isError():
            raise DriverError(f"the module refuses function {function} with exception {answer.exception_code}")
        if answer.function_code != function:
            raise DriverError("the module answers another question")
        return answer
