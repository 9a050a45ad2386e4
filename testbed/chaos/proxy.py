"""A TCP proxy between a gate or the controller and the broker, to be made worse and mended at run time.

TLS passes through it unread, so it can delay, thin out, hold, swallow, cut and refuse, but not single out one message. A lost
IP packet shows in TCP as a delay and cannot be made here; what loss comes to in the end can: bytes that never arrive on a
connection that looks alive (`swallow`), then its end (`mend` cuts it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from random import Random

CHUNK = 16_384
CONNECT_S = 5.0


class Mode(StrEnum):
    OPEN = "open"
    HOLD = "hold"
    """Nothing moves; nothing is lost: a short break, after which TCP goes on."""
    SWALLOW = "swallow"
    """Everything is read and thrown away: the connection is half open, and neither side is told."""
    REFUSE = "refuse"
    """Every connection is reset, a new one at once."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Of each direction by itself."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Up to this much more; order is kept, as TCP keeps it."""
    bytes_per_s: float | None = None


@dataclass(eq=False, slots=True)
class _Pair:
    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None
    torn: bool = False
    """Bytes were swallowed: whatever came after would be no TLS."""

    def abort(self) -> None:
        for writer in (self.near, self.far):
            if writer is not None:
                writer.transport.abort()


class Proxy:
    """`start` and `stop` once each; everything on one loop."""

    def __init__(
        self,
        target: tuple[str, int],
        random: Random,
        *,
        host: str = "127.0.0.1",
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._target, self._random, self._host, self._sleep = target, random, host, sleep
        self.mode, self.pace = Mode.OPEN, Pace()
        self.port = 0
        """Known after `start`."""
        self.swallowed = 0
        """Bytes."""
        self._moves = asyncio.Event()
        self._moves.set()
        self._server: asyncio.Server | None = None
        self._pairs: dict[asyncio.Task[None], _Pair] = {}

    @property
    def connections(self) -> int:
        return len(self._pairs)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._client, self._host, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = list(self._pairs)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def worsen(self, mode: Mode) -> None:
        """From the next byte on."""
        self.mode = mode
        if mode is Mode.HOLD:
            self._moves.clear()
        else:
            self._moves.set()
        if mode is Mode.REFUSE:
            self.cut()

    def cut(self) -> None:
        """Reset every connection; new ones are taken."""
        for pair in self._pairs.values():
            pair.abort()

    def mend(self) -> None:
        """As at the beginning. Connections that lost bytes are reset: nothing good can come of them."""
        self.mode, self.pace = Mode.OPEN, Pace()
        self._moves.set()
        for pair in self._pairs.values():
            if pair.torn:
                pair.abort()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self.mode is Mode.REFUSE:
            writer.transport.abort()
            return
        pair = self._pairs[task] = _Pair(writer)
        try:
            await self._moves.wait()
            async with asyncio.timeout(CONNECT_S):
                far_reader, pair.far = await asyncio.open_connection(*self._target)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(pair, reader, pair.far))
                both.create_task(self._pump(pair, far_reader, pair.near))
        except* (OSError, TimeoutError, _EndedError):
            pass  # either end is gone; the other is told below
        except* asyncio.CancelledError:
            pass
        finally:
            pair.abort()
            self._pairs.pop(task, None)

    async def _pump(self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            if self.mode is Mode.SWALLOW:
                pair.torn = True
                self.swallowed += len(chunk)
                continue
            if pair.torn:
                break
            await self._moves.wait()
            pause = self.pace.delay_s + self._random.uniform(0, self.pace.jitter_s)
            if self.pace.bytes_per_s is not None:
                pause += len(chunk) / self.pace.bytes_per_s
            if pause > 0:
                await self._sleep(pause)
            writer.write(chunk)
            await writer.drain()
        # A half-closed connection serves nobody here: MQTT over TLS ends as a whole.
        with suppress(OSError):
            await writer.drain()
        raise _EndedError


class _EndedError(Exception):
    """One direction has come to its end."""
