"""Lamps on the GPIO lines of a board, by libgpiod 2. The agent holds the lines itself: where it dies, the kernel has them back.

Tested against a fake of gpiod's request object: no GPIO chip was in reach (docs/signal.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import gpiod
from gpiod.line import Direction, Value

from drivers.gpio import reason_of, request_lines
from drivers.ports import DriverError
from drivers.signal.light import GpioLight, Lamp


class Lines(Protocol):
    """What is used of gpiod.LineRequest."""

    def get_values(self, lines: Sequence[int]) -> Sequence[Value]: ...

    def set_values(self, values: dict[int | str, Value]) -> None: ...

    def release(self) -> None: ...


RequestLines = Callable[[str, Mapping[int, gpiod.LineSettings]], Lines]
"""(chip, settings by line); raises OSError or ValueError."""


class GpioLamps:
    """drivers.signal.light.Outputs on one chip."""

    def __init__(self, wires: GpioLight, *, request: RequestLines = request_lines) -> None:
        self._wires, self._request_lines = wires, request
        self._request: Lines | None = None

    async def open(self) -> None:
        dark = gpiod.LineSettings(
            direction=Direction.OUTPUT, output_value=Value.INACTIVE, active_low=self._wires.active_low
        )
        try:
            self._request = self._request_lines(self._wires.chip, dict.fromkeys(self._wires.lines.values(), dark))
        except (OSError, ValueError) as error:
            raise DriverError(f"the chip does not give the lamps' lines: {reason_of(error)}") from error

    async def show(self, lit: Collection[Lamp]) -> None:
        request, lines = self._request, self._wires.lines
        if request is None:
            raise DriverError("not started")
        try:
            request.set_values({line: Value.ACTIVE if lamp in lit else Value.INACTIVE for lamp, line in lines.items()})
            # An expander on a bus may swallow the error of a write, and tells that of a read. The levels do not count: what
            # an output reads back as differs from chip to chip.
            request.get_values(list(lines.values()))
        except (OSError, ValueError) as error:
            raise DriverError(f"the chip does not move the lamps: {reason_of(error)}") from error

    def close(self) -> None:
        request, self._request = self._request, None
        if request is not None:
            with suppress(OSError):
                request.release()
