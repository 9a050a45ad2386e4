"""A terminal that closes a contact when it has recognised somebody: an input module, as JSON lines over a Unix socket.

    from the module   {"in": "ok", "active": true}      the contact closes or opens
                      {"in": "no", "active": true}      a second contact, where the terminal has one: not recognised

A contact that was closed before the question says nothing about the person who is asked now: only an edge counts.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from drivers.json_lines import JsonLines
from drivers.ports import DriverError, LinkTimeoutError


class ContactFactor:
    """drivers.ports.SecondFactor over one pair of contacts; it can be asked for one attempt at a time."""

    def __init__(self, path: Path) -> None:
        self._lines = JsonLines(path)
        self._asked: asyncio.Future[bool] | None = None
        self._levels: dict[str, bool] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises DriverError when the module is not there."""
        await self.stop()
        await self._lines.open()
        self._levels.clear()
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
        del attempt, lane  # a contact carries no words: one terminal stands at one lane
        if self._task is None or self._task.done():
            raise DriverError("the module is gone")
        if self._asked is not None:
            raise DriverError("the terminal is asked for another attempt")
        asked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked = asked
        try:
            async with asyncio.timeout(timeout):
                return await asked
        except TimeoutError:
            raise LinkTimeoutError("the terminal's contact did not close") from None
        finally:
            self._asked = None

    async def _listen(self) -> None:
        try:
            while True:
                match await self._lines.receive():
                    case {"in": ("ok" | "no") as name, "active": bool(active)}:
                        rose = active and not self._levels.get(name, False)
                        self._levels[name] = active
                        if rose and self._asked is not None and not self._asked.done():
                            self._asked.set_result(name == "ok")
                    case _:
                        raise DriverError("a message that no such module sends")
        except DriverError as error:
            self._fail(str(error))

    def _fail(self, why: str) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(DriverError(why))
