"""What every terminal on a Unix socket has in common: one connection, listened to, whose end ends every question."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

from drivers.json_lines import JsonLines
from drivers.ports import DriverError, LinkTimeoutError


class Terminal(ABC):
    """Base of the second factor's drivers."""

    def __init__(self, path: Path) -> None:
        self._lines = JsonLines(path)
        self._asked: dict[str, asyncio.Future[bool]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises DriverError when the device is not there."""
        await self.stop()
        await self._lines.open()
        self._task = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._fail("stopped")
        await self._lines.close()

    async def gone(self) -> None:
        if self._task is not None:
            await asyncio.wait({self._task})
        raise DriverError("the device is gone")

    async def _answer(self, attempt: str, timeout: float, question: dict[str, Any] | None = None) -> bool:
        """What comes for `attempt` within `timeout` seconds of `question`. Raises DriverError or LinkTimeoutError."""
        if self._task is None or self._task.done():
            raise DriverError("the device is gone")
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked[attempt] = answer
        try:
            if question is not None:
                await self._lines.send(question)
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise LinkTimeoutError("the device did not answer") from None
        finally:
            self._asked.pop(attempt, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # when sending failed too, one of both is told

    def _settle(self, attempt: str, ok: bool) -> None:
        asked = self._asked.get(attempt)
        if asked is not None and not asked.done():
            asked.set_result(ok)

    @abstractmethod
    def _on_message(self, body: dict[str, Any]) -> None:
        """One message of the device. Raises DriverError for what none of its kind sends."""

    async def _listen(self) -> None:
        try:
            while True:
                self._on_message(await self._lines.receive())
        except DriverError as error:
            self._fail(str(error))

    def _fail(self, why: str) -> None:
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(DriverError(why))
