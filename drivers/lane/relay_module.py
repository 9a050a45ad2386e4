"""A relay and input module with a flash-on timer of its own, as JSON lines over a Unix socket: the `simulated` lane driver.

    to the module   {"cmd": "rest", "id": 1}                         all relays to rest level
                    {"cmd": "levels", "id": 2}                       send every input's level, then the confirmation
                    {"cmd": "pulse", "out": "in"|"out", "ms": 800, "id": 3}
    from it         {"ok": 3} | {"error": "...", "id": 3}            done (for a pulse: the relay moved), or why not
                    {"in": "beam_a", "active": true}                 an input changed, or its level was asked for

The module keeps the pulse's time, so a killed agent leaves no lane open (docs/adr/0002).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from drivers.json_lines import JsonLines
from drivers.lane.changes import MAX_PULSE_MS, Changes
from drivers.ports import Direction, DriverError, LaneInput, LaneSignal
from protocol.clock import Clock

CONFIRM_S = 1.0
"""A module answers within milliseconds; one that takes a second has failed."""
MAX_WHY = 200
"""Characters of the module's own error text that are passed on."""


class RelayModule:
    """drivers.ports.LaneHardware over one module."""

    def __init__(self, path: Path, clock: Clock, required: Collection[LaneSignal]) -> None:
        """`required`: inputs whose level the module has to know before `start` returns."""
        self._lines, self._clock, self._required = JsonLines(path), clock, frozenset(required)
        self._commands: dict[int, asyncio.Future[float]] = {}
        self._number = 0
        self._changes = Changes()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the module has confirmed rest level and sent every input's level. Raises DriverError."""
        await self.stop()
        await self._lines.open()
        self._changes.begin()
        self._task = asyncio.create_task(self._listen())
        try:
            await self._command({"cmd": "rest"})
            await self._command({"cmd": "levels"})
            self._changes.complete(self._required)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._fail("stopped")
        await self._lines.close()

    async def pulse(self, direction: Direction, milliseconds: int) -> float:
        if not 0 < milliseconds <= MAX_PULSE_MS:
            raise DriverError(f"a pulse of 1 to {MAX_PULSE_MS} ms is expected")
        return await self._command({"cmd": "pulse", "out": direction.value, "ms": milliseconds})

    def inputs(self) -> AsyncIterator[LaneInput]:
        return self._changes.stream()

    async def _command(self, body: dict[str, Any]) -> float:
        """Monotonic time of the module's confirmation. Raises DriverError."""
        self._changes.check()
        self._number += 1
        number = self._number
        confirmed: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._commands[number] = confirmed
        try:
            await self._lines.send({**body, "id": number})
            async with asyncio.timeout(CONFIRM_S):
                return await confirmed
        except TimeoutError as error:
            raise DriverError(f"the module did not confirm {body['cmd']}") from error
        finally:
            self._commands.pop(number, None)
            if confirmed.done() and not confirmed.cancelled():
                confirmed.exception()  # when sending failed too, one of both is told

    async def _listen(self) -> None:
        try:
            while True:
                self._on_message(await self._lines.receive())
        except DriverError as error:
            self._fail(str(error))

    def _fail(self, why: str) -> None:
        self._changes.fail(why)
        for confirmed in self._commands.values():
            if not confirmed.done():
                confirmed.set_exception(DriverError(why))

    def _on_message(self, body: dict[str, Any]) -> None:
        match body:
            case {"ok": int(number)} if not isinstance(number, bool):
                confirmed = self._commands.get(number)
                if confirmed is not None and not confirmed.done():
                    confirmed.set_result(self._clock.monotonic())
            case {"error": str(why), "id": int(number)} if not isinstance(number, bool):
                confirmed = self._commands.get(number)
                if confirmed is not None and not confirmed.done():
                    confirmed.set_exception(DriverError(why[:MAX_WHY]))
            case {"in": str(name), "active": bool(active)}:
                try:
                    signal = LaneSignal(name)
                except ValueError:
                    raise DriverError("an input of a name that no lane has") from None
                self._changes.put(LaneInput(signal, active, self._clock.monotonic()))
            case _:
                raise DriverError("a message that no module sends")
