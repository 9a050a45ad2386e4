"""The lamps of a sign: which of them a light means, and the blinking that tells lights apart without colour."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from drivers.lane.wiring import SerialPlace, TcpPlace
from drivers.ports import DriverError, Light

CLOSE_S = 1.0
"""Longest wait for the lamps to go dark at the end."""


class Lamp(StrEnum):
    GREEN = "green"
    RED = "red"
    YELLOW = "yellow"
    BLUE = "blue"


REQUIRED = (Lamp.GREEN, Lamp.RED)
"""What every light has; the others may be left out."""

# Below three flashes a second, which are safe for photosensitive people (WCAG 2.3.1), and far enough apart to be told from
# each other at a glance.
SLOW_S = 1.0
FAST_S = 0.25


@dataclass(frozen=True, slots=True)
class Shown:
    lamp: Lamp
    blink_s: float | None = None
    """Seconds lit, then as long dark; None: lit all the time."""


SHOWN: Mapping[Light, Sequence[Shown]] = {
    Light.IDLE: (Shown(Lamp.BLUE),),
    Light.WAIT: (Shown(Lamp.YELLOW, SLOW_S), Shown(Lamp.RED, SLOW_S)),
    Light.GREEN: (Shown(Lamp.GREEN),),
    Light.RED: (Shown(Lamp.RED),),
    Light.FAULT: (Shown(Lamp.RED, FAST_S),),
}
"""Of each row the first whose lamp is there; where none is, the light is dark."""


def shown(light: Light, lamps: Collection[Lamp]) -> Shown | None:
    """What `light` looks like on a sign with `lamps`; None: all of them are dark."""
    return next((each for each in SHOWN[light] if each.lamp in lamps), None)


@dataclass(frozen=True, slots=True)
class GpioLight:
    chip: str
    """Device path, such as /dev/gpiochip0."""
    lines: Mapping[Lamp, int]
    active_low: bool = False
    """A low level lights the lamp."""


@dataclass(frozen=True, slots=True)
class ModbusLight:
    place: TcpPlace | SerialPlace
    coils: Mapping[Lamp, int]
    unit: int = 1


LightWiring = GpioLight | ModbusLight


class Outputs(Protocol):
    """What lamps hang on."""

    async def open(self) -> None:
        """All lamps are dark when it returns. Raises DriverError."""
        ...

    async def show(self, lit: Collection[Lamp]) -> None:
        """These lamps and no other; never two of them in between. The device is asked even where nothing changes, and a lamp
        that is lit already does not flicker. Raises DriverError."""
        ...

    def close(self) -> None:
        """Leaves the lamps as they are."""
        ...


class SignLight:
    """drivers.ports.LightOutput."""

    def __init__(
        self,
        outputs: Outputs,
        lamps: Collection[Lamp],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._outputs, self._lamps, self._sleep = outputs, frozenset(lamps), sleep
        self._light: Light | None = None
        self._blinking: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        """One change of the lamps at a time: a blink that has begun is ended before the next light."""

    async def start(self) -> None:
        """All dark. Raises DriverError."""
        await self.stop()
        try:
            await self._outputs.open()
        except BaseException:
            self._outputs.close()
            raise

    async def stop(self) -> None:
        self._light = None
        try:
            await self._end_blinking()
            # The device may be the thing that failed, and a hanging one is not waited for.
            with suppress(DriverError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._outputs.show(())
        finally:
            self._outputs.close()

    async def set(self, light: Light) -> None:
        blinking = self._blinking
        if light is self._light and blinking is not None:
            if blinking.done():
                blinking.result()
            return
        await self._end_blinking()
        self._light = None
        pattern = shown(light, self._lamps)
        await self._outputs.show(() if pattern is None else (pattern.lamp,))
        self._light = light
        if pattern is not None and pattern.blink_s is not None:
            self._blinking = asyncio.create_task(self._blink(pattern.lamp, pattern.blink_s))

    async def _blink(self, lamp: Lamp, seconds: float) -> None:
        """Until it is cancelled or the lamps fail: then it ends with the DriverError that `set` raises."""
        lit = True
        while True:
            await self._sleep(seconds)
            lit = not lit
            async with self._turn:
                await self._outputs.show((lamp,) if lit else ())

    async def _end_blinking(self) -> None:
        """A request that is under way is let end: the answer to one that was given up could be taken for the next one's."""
        blinking, self._blinking = self._blinking, None
        if blinking is None:
            return
        try:
            async with self._turn:
                blinking.cancel()
        finally:
            blinking.cancel()
        await asyncio.wait({blinking})
        if not blinking.cancelled():
            blinking.exception()  # the next light tells of it
