"""One camera read by OpenCV in a worker process (drivers.camera.worker): a slow or crashing decoder never stalls a lane."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from drivers.camera.decode import MAX_PAYLOAD
from drivers.ports import CodeSeen, DriverError
from protocol.clock import Clock

FPS = 15.0
"""Frames decoded a second at most: a code is seen within 70 ms, and some ten cameras of 720p fit one core."""
OPEN_S = 15.0
"""Includes the start of a Python process on a small board."""
END_S = 2.0
MAX_WAITING = 32
"""Codes waiting for the lane; the oldest is dropped. One camera sees a handful a second at most."""
MAX_LINE = 4 * MAX_PAYLOAD


class OpenCvCamera:
    """drivers.ports.Camera."""

    def __init__(self, source: str, clock: Clock, *, fps: float = FPS) -> None:
        """`source` is never logged: it may hold a password."""
        self._source, self._clock, self._fps = source, clock, fps
        self._process: asyncio.subprocess.Process | None = None
        self._codes: deque[CodeSeen] = deque(maxlen=MAX_WAITING)
        self._arrived = asyncio.Event()
        self._failure: DriverError | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker while it runs (health figures)."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        await self.stop()
        self._codes.clear()
        self._failure = None
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "drivers.camera.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # FFmpeg writes stream addresses there
                limit=MAX_LINE,
                env={**os.environ, "OPENCV_LOG_LEVEL": "SILENT", "OPENBLAS_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise DriverError("the camera's worker does not start") from error
        settings = json.dumps({"source": self._source, "fps": self._fps}).encode() + b"\n"
        try:
            async with asyncio.timeout(OPEN_S):
                assert self._process.stdin is not None  # noqa: S101  a pipe was asked for
                self._process.stdin.write(settings)
                await self._process.stdin.drain()
                opened = await self._line()
        except TimeoutError:
            await self.stop()
            raise DriverError("the camera does not open in time") from None
        except (OSError, DriverError):
            await self.stop()
            raise DriverError("the camera does not open") from None
        if opened != {"open": True}:
            await self.stop()
            raise DriverError("the camera's worker broke its protocol")
        self._task = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            if process.stdin is not None:
                process.stdin.close()  # the worker ends with its standard input
            try:
                async with asyncio.timeout(END_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        self._failure = self._failure or DriverError("stopped")
        self._arrived.set()

    async def codes(self) -> AsyncIterator[CodeSeen]:
        while True:
            while self._codes:
                yield self._codes.popleft()
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()

    async def _listen(self) -> None:
        try:
            while True:
                self._codes.append(_code(await self._line()))
                self._arrived.set()
        except DriverError as error:
            self._failure = error
            self._arrived.set()

    async def _line(self) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdout is None:
            raise DriverError("not started")
        try:
            line = await process.stdout.readline()
            body = json.loads(line) if line else None
        except (ValueError, OSError) as error:
            raise DriverError("the camera's worker broke its protocol") from error
        if not isinstance(body, dict):
            raise DriverError("the camera or its worker has failed")
        return body


def _code(body: dict[str, Any]) -> CodeSeen:
    match body:
        case {"code": str(text), "seen": float(seen), "decoded": float(decoded), "by": ("zxing" | "zbar") as by}:
            try:
                return CodeSeen(base64.b64decode(text, validate=True), seen, decoded, by)
            except binascii.Error:
                pass
    raise DriverError("the camera's worker broke its protocol")
