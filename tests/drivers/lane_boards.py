"""Boards for the tests of lane hardware: gpiod faked for other processes and for this one, and a board on a Modbus server."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gpiod
from gpiod.line import Value
from pymodbus.constants import ExcCodes
from pymodbus.datastore import ModbusServerContext
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import WriteSingleCoilRequest
from pymodbus.server import ModbusBaseServer, ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

GPIOD = '''
"""Output lines are files of "<monotonic> <level>" in $GPIO_LEVELS; inputs are at rest for ever."""
import os, sys, time, types
from pathlib import Path

line = types.ModuleType("gpiod.line")


class _Word:
    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return self.name


class _Words:
    def __init__(self, *names):
        for name in names:
            setattr(self, name, _Word(name))


line.Direction = _Words("INPUT", "OUTPUT")
line.Value = _Words("ACTIVE", "INACTIVE")
line.Edge = _Words("BOTH")
line.Bias = _Words("AS_IS", "PULL_UP", "PULL_DOWN", "DISABLED")
line.Clock = _Words("MONOTONIC")
sys.modules["gpiod.line"] = line


class LineSettings:
    def __init__(self, **settings):
        self.settings = settings


class EdgeEvent:
    pass


class LineRequest:
    def __init__(self, config):
        self.fd, self._writer = os.pipe()
        for number, each in config.items():
            if each.settings["direction"] is line.Direction.OUTPUT:
                self.set_value(number, each.settings["output_value"])

    def set_value(self, number, value):
        if (Path(os.environ["GPIO_LEVELS"]) / "broken").exists():
            raise OSError(5, "Input/output error")
        with open(os.path.join(os.environ["GPIO_LEVELS"], str(number)), "a") as file:
            file.write(f"{time.monotonic()} {value.name}\\n")

    def get_values(self, lines):
        return [line.Value.INACTIVE for _ in lines]

    def release(self):
        os.close(self.fd)
        os.close(self._writer)


def request_lines(chip, *, consumer, config, event_buffer_size=None):
    if not os.path.isdir(os.environ["GPIO_LEVELS"]):
        raise OSError(2, "No such file or directory")
    return LineRequest(config)
'''


class Pins:
    """What the fake module's output lines have been set to."""

    def __init__(self, folder: Path) -> None:
        self.levels, self.modules = folder / "levels", folder / "modules"
        self.levels.mkdir()
        self.modules.mkdir()
        (self.modules / "gpiod.py").write_text(GPIOD)

    @property
    def environ(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.modules), "GPIO_LEVELS": str(self.levels)}

    def history(self, line: int) -> list[tuple[float, bool]]:
        """(monotonic, high), oldest first."""
        path = self.levels / str(line)
        rows = [each.split() for each in path.read_text().splitlines()] if path.exists() else []
        return [(float(at), name == "ACTIVE") for at, name in rows if name]

    def high(self, line: int) -> bool:
        found = self.history(line)
        return bool(found) and found[-1][1]

    def break_chip(self) -> None:
        (self.levels / "broken").touch()


@dataclass(frozen=True, slots=True)
class Edge:
    """As gpiod.EdgeEvent, which cannot be made by hand."""

    line_offset: int
    event_type: gpiod.EdgeEvent.Type
    timestamp_ns: int
    line_seqno: int


@dataclass
class FakeRequest:
    """As gpiod.LineRequest: `fd` can be read while edges wait."""

    settings: Mapping[int, gpiod.LineSettings]
    levels: dict[int, bool]
    edges: list[Edge] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)
    error: OSError | None = None
    released: bool = False

    def __post_init__(self) -> None:
        self.fd, self._writer = os.pipe()

    def get_values(self, lines: Sequence[int]) -> list[Value]:
        if self.error is not None:
            raise self.error
        return [Value.ACTIVE if self.levels[line] else Value.INACTIVE for line in lines]

    def read_edge_events(self) -> list[Edge]:
        os.read(self.fd, 4096)
        if self.error is not None:
            raise self.error
        found, self.edges = self.edges, []
        return found

    def release(self) -> None:
        self.released = True
        os.close(self.fd)
        os.close(self._writer)

    def wake(self) -> None:
        os.write(self._writer, b".")

    def drive(self, line: int, active: bool, at: float, *, told: bool = True) -> None:
        """One edge at monotonic `at`; not `told`: the kernel had no room for it."""
        self.levels[line] = active
        number = self.numbers[line] = self.numbers.get(line, 0) + 1
        if told:
            kind = gpiod.EdgeEvent.Type.RISING_EDGE if active else gpiod.EdgeEvent.Type.FALLING_EDGE
            self.edges.append(Edge(line, kind, int(at * 1e9), number))
            self.wake()


@dataclass
class FakeChip:
    """A chip whose input lines the test drives. `levels` are those at the next request."""

    levels: dict[int, bool] = field(default_factory=dict)
    error: OSError | None = None
    request: FakeRequest | None = None

    def __call__(self, _chip: str, settings: Mapping[int, gpiod.LineSettings]) -> FakeRequest:
        if self.error is not None:
            raise self.error
        self.request = FakeRequest(settings, {line: self.levels.get(line, False) for line in settings})
        return self.request

    def drive(self, line: int, active: bool, at: float = 1.0, *, told: bool = True) -> None:
        assert self.request is not None
        self.request.drive(line, active, at, told=told)


# A Modbus board on a real pymodbus server.

FLASH_ON, FLASH_OFF, FLASH_REGISTER = 0x0200, 0x0400, 0x10
UNIT_MS = 20


class BoardCoil(WriteSingleCoilRequest):
    """Function 05 as relay boards take it: beyond the coils, the value is a time."""

    board: ClassVar[Board]
    value = 0

    def decode(self, data: bytes) -> None:
        self.address, self.value = struct.unpack(">HH", data[:4])
        self.bits = [self.value == 0xFF00]

    def encode(self) -> bytes:
        return struct.pack(">HH", self.address, self.value)

    async def datastore_update(self, context: ModbusServerContext, device_id: int) -> ModbusPDU:
        for base, on in ((FLASH_ON, True), (FLASH_OFF, False)):
            if base <= self.address < base + Board.COILS:
                self.board.flash(self.address - base, on, self.value)
                return self
        return await super().datastore_update(context, device_id)


class Board:
    """Eight coils with a flash timer of UNIT_MS, eight discrete inputs and four input registers. `stuck`: relays do not move."""

    COILS = 8

    def __init__(self, *, feedback: Mapping[int, int] | None = None) -> None:
        """`feedback`: coil -> discrete input that follows it."""
        self.coils = [True] * self.COILS
        """As they were left by whoever was there before."""
        self.inputs = [False] * self.COILS
        self.registers = [0, 0, 0, 0]
        self.moves: list[tuple[int, bool]] = []
        self.ticks: list[int] = []
        self.answer: Callable[[bytes], bytes] = bytes
        """What becomes of each frame that the board sends; may raise."""
        self.stuck = False
        self._feedback = feedback or {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self.server: ModbusBaseServer | None = None

    async def _act(
        self, function: int, start: int, address: int, count: int, registers: list[int], values: Any
    ) -> ExcCodes | None:
        match function:
            case 5 if values:
                self.move(address, bool(values[0]))
            case 6 if values:
                self.flash(address - FLASH_REGISTER, True, values[0])
            case 4:
                registers[:4] = self.registers
        if function in {1, 2, 5}:
            registers[0] = sum(bit << at for at, bit in enumerate(self.inputs if function == 2 else self.coils))
        return None

    def move(self, coil: int, on: bool) -> None:
        if coil in self._timers:
            self._timers.pop(coil).cancel()
        if self.stuck:
            return
        self.coils[coil] = on
        self.moves.append((coil, on))
        if coil in self._feedback:
            self.inputs[self._feedback[coil]] = on

    def flash(self, coil: int, on: bool, ticks: int) -> None:
        self.ticks.append(ticks)
        self.move(coil, on)
        self._timers[coil] = asyncio.get_running_loop().call_later(ticks * UNIT_MS / 1000, self.move, coil, not on)

    def _device(self) -> SimDevice:
        bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
        words = [SimData(0, count=64, values=0, datatype=DataType.REGISTERS)]
        few = [SimData(0, count=4, values=0, datatype=DataType.REGISTERS)]
        return SimDevice(1, simdata=(bits, bits, words, few), action=self._act)

    def _trace(self, sending: bool, frame: bytes) -> bytes:
        return self.answer(frame) if sending else frame

    def _class(self) -> type[BoardCoil]:
        return type("Coil", (BoardCoil,), {"board": self})

    async def start(self) -> int:
        """The TCP port."""
        server = ModbusTcpServer(
            self._device(), address=("127.0.0.1", 0), trace_packet=self._trace, custom_pdu=[self._class()]
        )
        await server.serve_forever(background=True)
        self.server = server
        port: int = server.transport.sockets[0].getsockname()[1]  # type: ignore[attr-defined]  # an asyncio.Server
        return port

    async def start_serial(self, path: str) -> None:
        server = ModbusSerialServer(
            self._device(), port=path, baudrate=115200, trace_packet=self._trace, custom_pdu=[self._class()]
        )
        await server.serve_forever(background=True)
        self.server = server

    async def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        if self.server is not None:
            await self.server.shutdown()  # type: ignore[no-untyped-call]
            self.server = None
