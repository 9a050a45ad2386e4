"""One camera read by OpenCV in a worker process (drivers.camera.worker): a slow or crashing decoder never stalls a lane.

The worker does not reconnect: a lost source is a DriverError here, and the device's supervisor, which also reports it, starts
the camera again with the one back-off.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import math
import os
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from drivers.camera import figures
from drivers.camera.figures import CameraFigures
from drivers.camera.limits import MAX_LINE, MAX_PAYLOAD, MAX_WAITING, SOURCE_FAILED
from drivers.camera.settings import CameraSettings
from drivers.ports import CodeSeen, DriverError
from protocol.clock import Clock

_log = logging.getLogger(__name__)

OPEN_S = 15.0
"""Includes the start of a Python process on a small board."""
END_S = 2.0
_ENVIRONMENT = {
    "OPENCV_LOG_LEVEL": "SILENT",
    "OPENBLAS_NUM_THREADS": "1",
    # Exposure and gain in the camera's own units, not from 0 to 1.
    "OPENCV_VIDEOIO_V4L_RANGE_NORMALIZED": "0",
}
_BROKEN = "the camera's worker broke its protocol"


class OpenCvCamera:
    """drivers.ports.Camera."""

    def __init__(self, settings: CameraSettings, clock: Clock, *, python: str = sys.executable) -> None:
        self._settings, self._clock, self._python = settings, clock, python
        self._process: asyncio.subprocess.Process | None = None
        self._codes: deque[CodeSeen] = deque(maxlen=MAX_WAITING)
        self._arrived = asyncio.Event()
        self._failure: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._refused: tuple[str, ...] = ()
        self._figures: CameraFigures | None = None

    @property
    def figures(self) -> CameraFigures | None:
        """The newest from the worker, at most figures.REPORT_S old; None while it does not run."""
        return self._figures if self._failure is None else None

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker while it runs (health figures)."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Returns when the source has sent its first frame. Raises DriverError."""
        await self.stop()
        self._codes.clear()
        self._failure = self._figures = None
        try:
            self._process = await asyncio.create_subprocess_exec(
                self._python,
                "-m",
                "drivers.camera.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # FFmpeg writes stream addresses there
                limit=MAX_LINE,
                env={**os.environ, **_ENVIRONMENT},
            )
        except OSError as error:
            raise DriverError("the camera's worker does not start") from error
        try:
            await self._open(self._process)
        except BaseException:
            await self.stop()
            raise
        self._task = asyncio.create_task(self._listen(self._process))

    async def _open(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None  # noqa: S101  a pipe was asked for
        try:
            async with asyncio.timeout(OPEN_S):
                process.stdin.write(json.dumps(self._settings.body()).encode() + b"\n")
                with suppress(OSError):  # a worker that is gone already: its end is told by its output
                    await process.stdin.drain()
                opened = await _line(process)
        except TimeoutError:
            raise DriverError("the camera does not open in time") from None
        refused = _refused(opened)
        if refused and refused != self._refused:
            _log.warning("the camera does not take every setting: %s", ", ".join(refused))
        self._refused = refused

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()  # the worker ends with its standard input
            try:
                async with asyncio.timeout(END_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        self._failure = self._failure or "stopped"
        self._arrived.set()

    async def codes(self) -> AsyncIterator[CodeSeen]:
        while True:
            while self._codes:
                yield self._codes.popleft()
            if self._failure is not None:
                raise DriverError(self._failure)
            self._arrived.clear()
            await self._arrived.wait()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        # The worker's times are CLOCK_MONOTONIC; the port's are those of the clock passed in (the same but in tests).
        ahead = self._clock.monotonic() - time.monotonic()
        try:
            while True:
                body = await _line(process)
                if "figures" in body:
                    self._figures = _figures(body, self._refused)
                    continue
                code = _code(body, ahead)
                if len(self._codes) == MAX_WAITING:
                    _log.warning("lane behind: the oldest code seen is dropped")
                self._codes.append(code)
                self._arrived.set()
        except DriverError as error:
            self._failure = str(error)
            self._arrived.set()


async def _line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """Raises DriverError."""
    assert process.stdout is not None  # noqa: S101  a pipe was asked for
    try:
        line = await process.stdout.readline()
        if not line.endswith(b"\n"):
            raise DriverError(await _why(process))
        body = json.loads(line)
    except (ValueError, RecursionError, OSError) as error:
        raise DriverError(_BROKEN) from error
    if not isinstance(body, dict):
        raise DriverError(_BROKEN)
    return body


async def _why(process: asyncio.subprocess.Process) -> str:
    """What the end of a worker means."""
    with suppress(TimeoutError):
        async with asyncio.timeout(END_S):
            await process.wait()
    if process.returncode == SOURCE_FAILED:
        return "the camera does not open, or sends no more frames"
    return f"the camera's worker has failed (status {process.returncode})"


def _refused(body: dict[str, Any]) -> tuple[str, ...]:
    match body:
        case {"open": True, "refused": list(refused)} if all(each in figures.CONTROLS for each in refused):
            return tuple(refused)
    raise DriverError(_BROKEN)


def _figures(body: dict[str, Any], refused: tuple[str, ...]) -> CameraFigures:
    try:
        return figures.parse(body["figures"], refused)
    except ValueError as error:
        raise DriverError(_BROKEN) from error


def _code(body: dict[str, Any], ahead: float) -> CodeSeen:
    match body:
        case {"code": str(text), "seen": float(seen), "decoded": float(decoded), "by": ("zxing" | "zbar") as by} if (
            math.isfinite(seen) and math.isfinite(decoded)
        ):
            try:
                payload = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:  # ValueError: text that is not ASCII
                raise DriverError(_BROKEN) from error
            if 0 < len(payload) <= MAX_PAYLOAD:
                return CodeSeen(payload, seen + ahead, decoded + ahead, by)
    raise DriverError(_BROKEN)
