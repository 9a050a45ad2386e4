"""A virtual turnstile: a relay module with flash timer, beams and fire line on one Unix socket, a display on another, and people.

It is a device of its own beside the agent: its relay falls back to rest when its own timer ends, whoever is still there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers.ports import Direction, LaneSignal, Light, Message

MAX_LINE = 4096
STEP_S = 0.12
"""From one beam to the next at a walk, seconds."""
ENTRY = (LaneSignal.BEAM_A, LaneSignal.BEAM_M, LaneSignal.BEAM_B)
_FEEDBACK = {Direction.IN: LaneSignal.RELAY_IN, Direction.OUT: LaneSignal.RELAY_OUT}


@dataclass(slots=True)
class Turnstile:
    """`lane_path` and `display_path` are the sockets a gate agent's `simulated` drivers connect to."""

    lane_path: Path
    display_path: Path
    step: float = STEP_S
    levels: dict[LaneSignal, bool] = field(default_factory=lambda: dict.fromkeys(LaneSignal, False))
    shown: Message | None = None
    pulses: int = 0
    """How often a relay was energised."""
    _writer: asyncio.StreamWriter | None = None
    _timers: dict[Direction, asyncio.TimerHandle] = field(default_factory=dict)
    _servers: list[asyncio.Server] = field(default_factory=list)
    _clients: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        for path, serve in ((self.lane_path, self._lane), (self.display_path, self._display)):
            path.unlink(missing_ok=True)
            self._servers.append(await asyncio.start_unix_server(serve, str(path), limit=MAX_LINE))

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for writer in self._clients.values():
            writer.transport.abort()
        await asyncio.gather(*self._clients)
        for timer in self._timers.values():
            timer.cancel()
        self._servers.clear()

    def energised(self, direction: Direction) -> bool:
        return self.levels[_FEEDBACK[direction]]

    async def until(self, reached: Callable[[], bool], timeout: float) -> None:
        """Wait until the turnstile is in a state. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    # The module.

    async def _lane(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._note(writer)
        if self._writer is not None:
            self._writer.close()  # one master at a time, the newest
        self._writer = writer
        try:
            while line := await reader.readline():
                self._command(json.loads(line))
        except (OSError, ValueError, AttributeError):
            pass  # a client that talks nonsense is dropped; the relay's timer runs on
        finally:
            if self._writer is writer:
                self._writer = None
            writer.close()

    def _command(self, body: dict[str, Any]) -> None:
        match body:
            case {"cmd": "rest"}:
                for direction in Direction:
                    self._relay(direction, False)
            case {"cmd": "levels"}:
                for signal in LaneSignal:
                    self._tell({"in": signal.value, "active": self.levels[signal]})
            case {"cmd": "pulse", "out": str(out), "ms": int(ms), "id": int(number)}:
                self._flash(Direction(out), ms)
                self._tell({"ok": number})
            case _:
                raise ValueError("no command of this module")

    def _flash(self, direction: Direction, milliseconds: int) -> None:
        if direction in self._timers:
            self._timers[direction].cancel()
        self.pulses += 1
        self._relay(direction, True)
        loop = asyncio.get_running_loop()
        self._timers[direction] = loop.call_later(milliseconds / 1000, self._relay, direction, False)

    def _relay(self, direction: Direction, on: bool) -> None:
        if not on and direction in self._timers:
            self._timers.pop(direction).cancel()
        if self.energised(direction) != on:
            self.set(_FEEDBACK[direction], on)

    def set(self, signal: LaneSignal, active: bool) -> None:
        """Drive one input."""
        self.levels[signal] = active
        self._tell({"in": signal.value, "active": active})
        self._changed.set()

    def _tell(self, body: dict[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(body).encode() + b"\n")

    # The display.

    async def _display(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._note(writer)
        with suppress(OSError, ValueError, KeyError, TypeError):
            while line := await reader.readline():
                body = json.loads(line)
                self.shown = Message(Light(body["light"]), body["ko"], body["en"])
                self._changed.set()
        writer.close()

    def _note(self, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._clients[task] = writer
            task.add_done_callback(self._clients.pop)

    # People.

    async def walk(self, direction: Direction) -> None:
        """One person walks through: beams in order, each broken until the next one is."""
        beams = ENTRY if direction is Direction.IN else ENTRY[::-1]
        await self._tread(beams)

    async def turn_back(self, direction: Direction) -> None:
        """One person steps in, and out again the same way."""
        beams = ENTRY if direction is Direction.IN else ENTRY[::-1]
        await self._tread((beams[0], beams[1], beams[0]))

    async def _tread(self, beams: tuple[LaneSignal, ...]) -> None:
        previous: LaneSignal | None = None
        for beam in beams:
            self.set(beam, True)
            await asyncio.sleep(self.step / 2)
            if previous is not None:
                self.set(previous, False)
            previous = beam
            await asyncio.sleep(self.step / 2)
        if previous is not None:
            self.set(previous, False)
