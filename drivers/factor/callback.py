"""A terminal that answers on the same line it is asked on: JSON lines over a Unix socket.

    to the terminal   {"attempt": "5f…", "lane": "lane-1", "timeout_ms": 5000}
    from it           {"attempt": "5f…", "ok": true}

An answer to another attempt is a late one and is passed over.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from drivers.json_lines import JsonLines
from drivers.ports import DriverError, LinkTimeoutError


class CallbackFactor:
    """drivers.ports.SecondFactor over one terminal."""

    def __init__(self, path: Path) -> None:
        self._lines = JsonLines(path)
        self._asked: dict[str, asyncio.Future[bool]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises DriverError when the terminal is not there."""
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

    async def confirm(self, attempt: str, lane: str, timeout: float) -> bool:
        if self._task is None or self._task.done():
            raise DriverError("the terminal is gone")
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked[attempt] = answer
        try:
            await self._lines.send({"attempt": attempt, "lane": lane, "timeout_ms": int(timeout * 1000)})
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise LinkTimeoutError("the terminal did not answer") from None
        finally:
            self._asked.pop(attempt, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # when sending failed too, one of both is told

    async def _listen(self) -> None:
        try:
            while True:
                match await self._lines.receive():
                    case {"attempt": str(attempt), "ok": bool(ok)}:
                        asked = self._asked.get(attempt)
                        if asked is not None and not asked.done():
                            asked.set_result(ok)
                    case _:
                        raise DriverError("an answer that no terminal gives")
        except DriverError as error:
            self._fail(str(error))

    def _fail(self, why: str) -> None:
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(DriverError(why))
