"""How a lane's hardware is wired: which line, coil or register carries which input and relay (docs/lane-hardware.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from drivers.ports import Direction, DriverError, LaneSignal

Place = TypeVar("Place")


class FireState(StrEnum):
    """What a supervised fire line says. All but NORMAL count as fire."""

    NORMAL = "normal"
    ALARM = "alarm"
    OPEN = "open"
    SHORT = "short"


def relay_for(outputs: Mapping[Direction, object], direction: Direction) -> Direction:
    """The relay that opens for `direction`: its own, or the only one there is (a door has one strike for both ways)."""
    if direction in outputs:
        return direction
    if len(outputs) != 1:
        raise DriverError(f"no relay opens {direction.value}")
    return next(iter(outputs))


@dataclass(frozen=True, slots=True)
class ChangeOver(Generic[Place]):
    """Both contacts of the fire panel's changeover relay: healthy closes `nc` alone, an alarm closes `no` alone."""

    nc: Place
    no: Place

    @staticmethod
    def state(nc: bool, no: bool) -> FireState:
        """Neither closed: a wire is cut. Both: the wires touch."""
        if nc:
            return FireState.SHORT if no else FireState.NORMAL
        return FireState.ALARM if no else FireState.OPEN


# GPIO.


class Bias(StrEnum):
    AS_IS = "as-is"
    PULL_UP = "pull-up"
    PULL_DOWN = "pull-down"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class GpioInput:
    line: int
    active_low: bool = False
    bias: Bias = Bias.AS_IS
    debounce_us: int = 0


@dataclass(frozen=True, slots=True)
class GpioOutput:
    line: int
    rest_high: bool = False
    """Level at rest; a pulse is the other one."""


@dataclass(frozen=True, slots=True)
class GpioWiring:
    chip: str
    """Device path, such as /dev/gpiochip0."""
    inputs: Mapping[LaneSignal, GpioInput]
    outputs: Mapping[Direction, GpioOutput]
    fire_line: ChangeOver[GpioInput] | None = None


# Modbus.


class Bits(StrEnum):
    DISCRETE = "discrete"
    """Discrete inputs, function 02."""
    COIL = "coil"
    """Coils, function 01."""


class Words(StrEnum):
    INPUT = "input"
    """Input registers, function 04."""
    HOLDING = "holding"
    """Holding registers, function 03."""


@dataclass(frozen=True, slots=True)
class BitInput:
    address: int
    table: Bits = Bits.DISCRETE
    active_low: bool = False


@dataclass(frozen=True, slots=True)
class FireRegister:
    """An analogue input that measures the fire line over its end-of-line resistors. Bands are register values, both ends in."""

    address: int
    normal: tuple[int, int]
    alarm: tuple[int, int]
    table: Words = Words.INPUT
    below: FireState = FireState.SHORT
    """What a value below both bands means; one above both means the other of OPEN and SHORT."""

    def state(self, value: int) -> FireState:
        """A value between the bands is an alarm: in doubt it burns."""
        if self.normal[0] <= value <= self.normal[1]:
            return FireState.NORMAL
        if value < min(self.normal[0], self.alarm[0]):
            return self.below
        if value > max(self.normal[1], self.alarm[1]):
            return FireState.OPEN if self.below is FireState.SHORT else FireState.SHORT
        return FireState.ALARM


class FlashStyle(StrEnum):
    COIL = "coil"
    """Function 05 with the time in place of on and off."""
    REGISTER = "register"
    """Function 06, one holding register per output."""


@dataclass(frozen=True, slots=True)
class Flash:
    """The module's own timer: writing a time there moves the output and moves it back."""

    style: FlashStyle = FlashStyle.COIL
    on: int = 0x0200
    """Address for output 0 that closes it and lets it fall; output n has `on + n`. For outputs that rest open."""
    off: int = 0x0400
    """The same the other way round, for outputs that rest closed."""
    unit_ms: int = 100


@dataclass(frozen=True, slots=True)
class CoilOutput:
    coil: int
    rest_on: bool = False
    """State of the coil at rest; a pulse is the other one."""


@dataclass(frozen=True, slots=True)
class TcpPlace:
    host: str
    port: int = 502


@dataclass(frozen=True, slots=True)
class SerialPlace:
    path: str
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1


@dataclass(frozen=True, slots=True)
class ModbusWiring:
    place: TcpPlace | SerialPlace
    inputs: Mapping[LaneSignal, BitInput]
    outputs: Mapping[Direction, CoilOutput]
    fire_line: ChangeOver[BitInput] | FireRegister | None = None
    unit: int = 1
    poll_s: float = 0.02
    unseen_s: float = 0.5
    """An input that could not be read for this long has failed."""
    flash: Flash = field(default_factory=Flash)


Wiring = GpioWiring | ModbusWiring


def wired(wiring: Wiring) -> frozenset[LaneSignal]:
    """The inputs that the hardware reports."""
    line = {LaneSignal.FIRE, LaneSignal.FIRE_OPEN, LaneSignal.FIRE_SHORT} if wiring.fire_line is not None else set()
    return frozenset(wiring.inputs) | frozenset(line)
