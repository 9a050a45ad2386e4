"""Pinned clock and timers, and ports whose other side the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from drivers.ports import (
    Approached,
    BleRole,
    Carrier,
    CodeSeen,
    Direction,
    DriverError,
    LaneInput,
    LaneSignal,
    Link,
    LinkLostError,
    Message,
    NfcCard,
    Sighting,
)
from tests.conftest import NOW


class FakeClock:
    """Wall and monotonic time that move together, when told."""

    def __init__(self, now: datetime = NOW) -> None:
        self._start, self.elapsed = now, 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return 1000.0 + self.elapsed


class _Handle:
    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at, self.callback, self.cancelled = at, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class FakeTimers:
    """`call_later` on a FakeClock; `advance` moves the clock and fires what is due, in order."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self._handles: list[_Handle] = []

    def call_later(self, delay: float, callback: Callable[[], None], /) -> _Handle:
        handle = _Handle(self.clock.elapsed + delay, callback)
        self._handles.append(handle)
        return handle

    def advance(self, seconds: float) -> None:
        end = self.clock.elapsed + seconds
        while True:
            self._handles = [handle for handle in self._handles if not handle.cancelled]
            due = min((handle for handle in self._handles if handle.at <= end), key=lambda each: each.at, default=None)
            if due is None:
                break
            self._handles.remove(due)
            self.clock.elapsed = max(self.clock.elapsed, due.at)
            due.callback()
        self.clock.elapsed = end


class _Device:
    def __init__(self) -> None:
        self.starts = self.stops = 0
        self.broken = False

    async def start(self) -> None:
        if self.broken:
            raise DriverError("not plugged in")
        self.starts += 1

    async def stop(self) -> None:
        self.stops += 1


class FakeStream(_Device):
    """A device whose inputs the test puts into `queue`; an exception there is raised."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[Any] = asyncio.Queue()

    async def _stream(self) -> AsyncIterator[Any]:
        while True:
            item = await self.queue.get()
            if isinstance(item, Exception):
                raise item
            yield item


class FakeCamera(FakeStream):
    def codes(self) -> AsyncIterator[CodeSeen]:
        return self._stream()


class FakeNfcReader(FakeStream):
    def cards(self) -> AsyncIterator[NfcCard]:
        return self._stream()


class FakeHardware(FakeStream):
    """Pulses are noted; `relay_error` makes the next ones fail."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock
        self.pulses: list[tuple[Direction, int]] = []
        self.relay_error: Exception | None = None

    async def pulse(self, direction: Direction, milliseconds: int) -> float:
        if self.relay_error is not None:
            raise self.relay_error
        self.pulses.append((direction, milliseconds))
        return self._clock.monotonic()

    def inputs(self) -> AsyncIterator[LaneInput]:
        return self._stream()


class FakeSignal(_Device):
    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Message] = []
        self.changed, self.lost = asyncio.Event(), asyncio.Event()

    async def gone(self) -> None:
        await self.lost.wait()
        raise DriverError("unplugged")

    async def show(self, message: Message) -> None:
        self.shown.append(message)
        self.changed.set()


class FakeLink:
    """A channel to a phone: `answer` turns each message sent into what `receive` gives, an exception included."""

    def __init__(self, clock: FakeClock, answer: Callable[[bytes], bytes | Exception | None]) -> None:
        self._clock, self._answer = clock, answer
        self._answers: list[bytes | Exception | None] = []
        self.sent: list[bytes] = []
        self.closed = asyncio.Event()
        self.last_byte_at = 0.0

    @property
    def carrier(self) -> Carrier:
        return Carrier.BLE

    async def send(self, message: bytes) -> None:
        self.sent.append(message)
        if len(self.sent) == 1:
            self._answers.append(self._answer(message))

    async def receive(self, timeout: float) -> bytes:
        answer = self._answers.pop(0)
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, bytes):
            self.last_byte_at = self._clock.monotonic()
            return answer
        raise answer or LinkLostError("gone")

    async def close(self) -> None:
        self.closed.set()


class FakeBle(_Device):
    """`links` by service or sighted peer; an exception there is raised. What it was asked for is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.roles: tuple[BleRole, ...] = tuple(BleRole)
        self.links: dict[UUID | str, Link | Exception] = {}
        self.engagements: dict[str, bytes] = {}
        self.asked: list[tuple[str, UUID | str]] = []
        self.idents: dict[UUID, bytes] = {}
        self.queue: asyncio.Queue[Sighting | Exception] = asyncio.Queue()
        self.lost = asyncio.Event()

    def _link(self, how: str, key: UUID | str) -> Link:
        self.asked.append((how, key))
        found = self.links[key]
        if isinstance(found, Exception):
            raise found
        return found

    async def gone(self) -> None:
        await self.lost.wait()
        raise DriverError("unplugged")

    async def connect(self, service: UUID, timeout: float) -> Link:
        return self._link("connect", service)

    def reserve(self) -> UUID:
        return uuid4()

    async def serve(self, service: UUID, ident: bytes, timeout: float) -> Link:
        self.idents[service] = ident
        return self._link("serve", service)

    async def sightings(self) -> AsyncIterator[Sighting]:
        while True:
            item = await self.queue.get()
            if isinstance(item, Exception):
                raise item
            yield item

    async def approach(self, peer: str, timeout: float) -> Approached:
        return Approached(self.engagements[peer], self._link("approach", peer))


def beam(signal: LaneSignal, active: bool, at: float = 0.0) -> LaneInput:
    return LaneInput(signal, active, at)
