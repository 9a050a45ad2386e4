"""A relay and input module with a flash-on timer of its own, as JSON lines over a Unix socket: the `simulated` lane driver.

    to the module   {"cmd": "rest"}                                  all relays to rest level
                    {"cmd": "pulse", "out": "in"|"out", "ms": 800, "id": 7}
                    {"cmd": "levels"}                                 send every input's level
    from it         {"ok": 7} | {"error": "...", "id": 7}             relay confirmed, or why not
                    {"in": "beam_a", "active": true}                  an input changed, or its level was asked for

The module keeps the pulse's time, so a killed agent leaves no lane open (docs/adr/0002).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from drivers.json_lines import JsonLines
from drivers.ports import Direction, DriverError, LaneInput, LaneSignal
from protocol.clock import Clock

MAX_PULSE_MS = 10_000
CONFIRM_S = 1.0
"""A module answers within milliseconds; one that takes a second has failed."""
MAX_CHANGES = 256
"""Input changes waiting for the lane. When full, the oldest change of the noisiest input is dropped: levels stay true."""


class RelayModule:
    """drivers.ports.LaneHardware over one module."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._lines, self._clock = JsonLines(path), clock
        self._pulses: dict[int, asyncio.Future[float]] = {}
        self._number = 0
        self._changes: list[LaneInput] = []
        self._arrived = asyncio.Event()
        self._failure: DriverError | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.stop()
        await self._lines.open()
        self._failure = None
        self._changes.clear()
        await self._lines.send({"cmd": "rest"})
        await self._lines.send({"cmd": "levels"})
        self._task = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._fail(DriverError("stopped"))
        await self._lines.close()

    async def pulse(self, direction: Direction, milliseconds: int) -> float:
        if not 0 < milliseconds <= MAX_PULSE_MS:
            raise DriverError(f"a pulse of 1 to {MAX_PULSE_MS} ms is expected")
        if self._failure is not None:
            raise self._failure
        self._number += 1
        number = self._number
        confirmed: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._pulses[number] = confirmed
        try:
            await self._lines.send({"cmd": "pulse", "out": direction.value, "ms": milliseconds, "id": number})
            async with asyncio.timeout(CONFIRM_S):
                return await confirmed
        except TimeoutError as error:
            raise DriverError("the relay was not confirmed") from error
        finally:
            self._pulses.pop(number, None)

    async def inputs(self) -> AsyncIterator[LaneInput]:
        while True:
            while self._changes:
                yield self._changes.pop(0)
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()

    async def _listen(self) -> None:
        try:
            while True:
                self._on_message(await self._lines.receive())
        except DriverError as error:
            self._fail(error)

    def _fail(self, error: DriverError) -> None:
        self._failure = error
        for confirmed in self._pulses.values():
            if not confirmed.done():
                confirmed.set_exception(error)
        self._arrived.set()

    def _on_message(self, body: dict[str, Any]) -> None:
        match body:
            case {"ok": int(number)}:
                confirmed = self._pulses.get(number)
                if confirmed is not None and not confirmed.done():
                    confirmed.set_result(self._clock.monotonic())
            case {"error": str(why), "id": int(number)}:
                confirmed = self._pulses.get(number)
                if confirmed is not None and not confirmed.done():
                    confirmed.set_exception(DriverError(why[:200]))
            case {"in": str(name), "active": bool(active)}:
                try:
                    signal = LaneSignal(name)
                except ValueError:
                    raise DriverError("an input of a name that no lane has") from None
                self._change(LaneInput(signal, active, self._clock.monotonic()))
            case _:
                raise DriverError("a message that no module sends")

    def _change(self, change: LaneInput) -> None:
        if len(self._changes) >= MAX_CHANGES:
            # Of one input only the newest level matters once the lane lags this far behind.
            self._changes = [waiting for waiting in self._changes if waiting.signal is not change.signal]
        self._changes.append(change)
        self._arrived.set()
