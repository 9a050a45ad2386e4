"""One part of a panel (lamps, sound, text): what it has to do, and the slot that its newest message waits in."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

from drivers.ports import DriverError, LightOutput, Message

REFRESH_S = 5.0
"""What a part shows is written again this often: a device that lost power shows it again, one that is gone is noticed."""
LAMPS_S = 2.0
"""The same for lamps: one that is gone is told within 5 s, also where the device lets every wait run out."""


class Slot:
    """Room for one message: a newer one takes its place."""

    def __init__(self) -> None:
        self._newest: Message | None = None
        self._fresh = asyncio.Event()

    def put(self, message: Message) -> None:
        self._newest = message
        self._fresh.set()

    def again(self) -> None:
        """A part that starts anew has shown nothing yet."""
        if self._newest is not None:
            self._fresh.set()

    async def take(self) -> Message:
        """Waits for a message that was not taken yet."""
        await self._fresh.wait()
        self._fresh.clear()
        assert self._newest is not None  # noqa: S101  `put` and `again` see to it
        return self._newest


class Part(Protocol):
    """Lost alone and started again alone; its panel sees to that."""

    @property
    def name(self) -> str: ...

    async def start(self) -> None:
        """Raises DriverError."""
        ...

    async def stop(self) -> None: ...

    async def work(self, slot: Slot) -> None:
        """Show what comes into the slot, for ever. Raises DriverError when the device is gone."""
        ...


class Lamps:
    """The light of a panel, on outputs of whatever kind."""

    name = "light"

    def __init__(self, output: LightOutput, refresh_s: float = LAMPS_S) -> None:
        self._output, self._refresh_s = output, refresh_s

    async def start(self) -> None:
        await self._output.start()

    async def stop(self) -> None:
        await self._output.stop()

    async def work(self, slot: Slot) -> None:
        light = (await slot.take()).light
        while True:
            try:
                async with asyncio.timeout(self._refresh_s):
                    await self._output.set(light)
            except TimeoutError:
                raise DriverError("the lamps do not answer") from None
            with suppress(TimeoutError):  # the same once more
                async with asyncio.timeout(self._refresh_s):
                    light = (await slot.take()).light
