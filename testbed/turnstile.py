"""A virtual turnstile: a relay module with flash timer, beams and fire line on one Unix socket, a display on another, and people.

It is a device of its own beside the agent: its relay falls back to rest when its own timer ends, whoever is still there.
The module's protocol is described in drivers.lane.relay_module, the display's in drivers.signal.display.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers.ports import Direction, LaneSignal, Light, Message
from gate_agent.passage import Key, LaneType
from testbed.lane_play import Ask, Through, play
from testbed.person import Actor
from testbed.sockets import Listener

MAX_LINE = 4096
MAX_PULSE_MS = 10_000
"""What the module's timer can be set to, whatever its client asks."""
MAX_UNSENT = 65_536
"""Bytes waiting for a client that does not read; it is dropped then."""
MAX_MOVES = 1000
STEP_S = 0.12
"""From one beam to the next at a walk, seconds."""
RELEASE_S = 5.0
"""A pulse releases the barrier for one passage, for at most this long: the turnstile's own latch, not the relay's time."""
ENTRY = (LaneSignal.BEAM_A, LaneSignal.BEAM_M, LaneSignal.BEAM_B)
_FEEDBACK = {Direction.IN: LaneSignal.RELAY_IN, Direction.OUT: LaneSignal.RELAY_OUT}


class _RefusedError(Exception):
    """A command that the module answers with an error."""


@dataclass(frozen=True, slots=True)
class Move:
    """One movement of a relay's contact."""

    direction: Direction
    energised: bool
    at: float
    """Seconds on the event loop's clock (CLOCK_MONOTONIC)."""


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
    moves: deque[Move] = field(default_factory=lambda: deque(maxlen=MAX_MOVES))
    """The newest movements of both relays."""
    _writer: asyncio.StreamWriter | None = None
    _timers: dict[Direction, asyncio.TimerHandle] = field(default_factory=dict)
    _latches: dict[Direction, asyncio.TimerHandle] = field(default_factory=dict)
    _listeners: tuple[Listener, Listener] = field(init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._listeners = Listener(self._lane, limit=MAX_LINE), Listener(self._display, limit=MAX_LINE)

    async def start(self) -> None:
        for listener, path in zip(self._listeners, (self.lane_path, self.display_path), strict=True):
            await listener.listen_unix(path)

    async def stop(self) -> None:
        """Power off: clients are cut, relays and barrier fall back to rest."""
        for listener in self._listeners:
            await listener.stop()
        for direction in Direction:
            self._relay(direction, False)
            self._lock(direction)

    def energised(self, direction: Direction) -> bool:
        return self.levels[_FEEDBACK[direction]]

    def open(self, direction: Direction) -> bool:
        """Whether a person can walk through: released by a pulse not yet used, or by the hard-wired fire line, which lets go in
        an alarm and when it is cut, not when it is shorted."""
        burns = self.levels[LaneSignal.FIRE] or self.levels[LaneSignal.FIRE_OPEN]
        return burns or direction in self._latches or self.energised(direction)

    async def until(self, reached: Callable[[], bool], timeout: float) -> None:
        """Wait until the turnstile is in a state. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    # The module.

    async def _lane(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._writer is not None:
            self._writer.close()  # one master at a time, the newest
        self._writer = writer
        try:
            while line := await reader.readline():
                self._answer(_object(line))
        except (OSError, ValueError):
            pass  # a client that talks nonsense is dropped; the relay's timer runs on
        finally:
            if self._writer is writer:
                self._writer = None

    def _answer(self, body: dict[str, Any]) -> None:
        number = _whole(body.get("id"))
        try:
            self._command(body)
        except _RefusedError as error:
            self._tell({"error": str(error), "id": number})
        else:
            self._tell({"ok": number})

    def _command(self, body: dict[str, Any]) -> None:
        match body:
            case {"cmd": "rest"}:
                for direction in Direction:
                    self._relay(direction, False)
            case {"cmd": "levels"}:
                for signal in LaneSignal:
                    self._tell({"in": signal.value, "active": self.levels[signal]})
            case {"cmd": "pulse", "out": str(out), "ms": ms}:
                if not 0 < _whole(ms) <= MAX_PULSE_MS:
                    raise _RefusedError(f"ms: 1 to {MAX_PULSE_MS} is expected")
                if out not in set(Direction):
                    raise _RefusedError("out: in or out is expected")
                self._flash(Direction(out), _whole(ms))
            case _:
                raise _RefusedError("no command of this module")

    def _flash(self, direction: Direction, milliseconds: int) -> None:
        loop = asyncio.get_running_loop()
        for timers in (self._timers, self._latches):
            if direction in timers:
                timers.pop(direction).cancel()
        self.pulses += 1
        self._relay(direction, True)
        self._timers[direction] = loop.call_later(milliseconds / 1000, self._relay, direction, False)
        self._latches[direction] = loop.call_later(RELEASE_S, self._lock, direction)

    def _relay(self, direction: Direction, on: bool) -> None:
        if not on and direction in self._timers:
            self._timers.pop(direction).cancel()
        if self.energised(direction) != on:
            self.moves.append(Move(direction, on, asyncio.get_running_loop().time()))
            self.set(_FEEDBACK[direction], on)

    def _lock(self, direction: Direction) -> None:
        if direction in self._latches:
            self._latches.pop(direction).cancel()
            self._changed.set()

    def set(self, signal: LaneSignal, active: bool) -> None:
        """Drive one input."""
        self.levels[signal] = active
        self._tell({"in": signal.value, "active": active})
        self._changed.set()

    def turn_key(self, key: Key) -> None:
        """The guard's key switch: the old contact opens before the new one closes."""
        positions = {Key.FREE: LaneSignal.KEY_FREE, Key.LOCKED: LaneSignal.KEY_LOCKED}
        for position, signal in positions.items():
            if position is not key and self.levels[signal]:
                self.set(signal, False)
        if key in positions:
            self.set(positions[key], True)

    def _tell(self, body: dict[str, Any]) -> None:
        if self._writer is None or self._writer.is_closing():
            return
        self._writer.write(json.dumps(body).encode() + b"\n")
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT:
            self._writer.transport.abort()

    # The display.

    async def _display(self, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError):
            while line := await reader.readline():
                match _object(line):
                    case {"light": str(light), "ko": str(ko), "en": str(en)}:
                        self.shown = Message(Light(light), ko, en)
                        self._changed.set()
                    case _:
                        raise ValueError("no message of this display")

    # People.

    async def walk(self, direction: Direction) -> bool:
        """One person walks through: beams in order, each broken until the next one is. At a closed barrier the person
        breaks the first beam, steps back, and the answer is False."""
        beams = ENTRY if direction is Direction.IN else ENTRY[::-1]
        if not self.open(direction):
            await self._tread(beams[:1])
            return False
        await self._tread(beams)
        self._lock(direction)
        return True

    def stand(self, direction: Direction, there: bool = True) -> None:
        """One person stands before the barrier, in the near beam, until they walk or are no longer `there`."""
        self.set((ENTRY if direction is Direction.IN else ENTRY[::-1])[0], there)

    async def turn_back(self, direction: Direction) -> None:
        """One person steps in, as far as the barrier lets them, and out again the same way."""
        beams = ENTRY if direction is Direction.IN else ENTRY[::-1]
        await self._tread((beams[0], beams[1], beams[0]) if self.open(direction) else beams[:1])

    async def leave(self, patience: float = 3.0) -> bool:
        """One person comes from inside, waits before the barrier until it opens, and leaves. False: it stayed shut."""
        inside, line, outside = ENTRY[::-1]
        self.set(inside, True)
        try:
            await self.until(lambda: self.open(Direction.OUT), patience)
        except TimeoutError:
            self.set(inside, False)
            return False
        await self._tread((inside, line, outside))
        self._lock(Direction.OUT)
        return True

    async def walk_followed(self, direction: Direction) -> None:
        """One person walks through and another slips in close behind, on the same opening."""
        near, line, far = ENTRY if direction is Direction.IN else ENTRY[::-1]
        for signal, active in (
            (near, True),
            (line, True),
            (near, False),
            (far, True),
            (line, False),
            (near, True),  # the second one, while the first has not left
            (line, True),
            (near, False),
            (far, False),
            (far, True),
            (line, False),
            (far, False),
        ):
            self.set(signal, active)
            await asyncio.sleep(self.step * 2)
        self._lock(direction)

    async def play(self, actors: Sequence[Actor], lane: LaneType = LaneType.SPEED_GATE) -> int:
        """People of testbed.person pass in real time, at the pace of `step`. Gives how many got through."""
        loop = asyncio.get_running_loop()
        started, pace, passed = loop.time(), self.step / STEP_S, 0
        acts = play(actors, lane)
        answer: bool | None = None
        with suppress(StopIteration):
            while True:
                act = acts.send(answer)
                await asyncio.sleep(max(0.0, started + act.at * pace - loop.time()))
                answer = None
                if isinstance(act, Ask):
                    answer = self.open(act.direction)
                elif isinstance(act, Through):
                    passed += 1
                    self._lock(act.direction)
                else:
                    self.set(act.signal, act.active)
        return passed

    async def force(self, direction: Direction) -> None:
        """One person pushes through the barrier, open or not: its contact reports it."""
        self.set(LaneSignal.CONTACT, True)
        await self._tread(ENTRY if direction is Direction.IN else ENTRY[::-1])
        self.set(LaneSignal.CONTACT, False)

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


def _object(line: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    try:
        body = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(body, dict):
        raise ValueError("an object is expected")
    return body


def _whole(value: object) -> int:
    """Raises ValueError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("a whole number is expected")
    return value
