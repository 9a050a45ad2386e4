"""A lane display with light and text, as JSON lines over a Unix socket: the `simulated` signal driver.

{"light": "green", "ko": "...", "en": "..."} for each message; the display answers nothing.
"""

from __future__ import annotations

from pathlib import Path

from drivers.json_lines import JsonLines
from drivers.ports import Message


class Display:
    """drivers.ports.Signal."""

    def __init__(self, path: Path) -> None:
        self._lines = JsonLines(path)

    async def start(self) -> None:
        await self.stop()
        await self._lines.open()

    async def stop(self) -> None:
        await self._lines.close()

    async def gone(self) -> None:
        while True:
            await self._lines.receive()  # it answers nothing; what it says is passed over until it hangs up

    async def show(self, message: Message) -> None:
        await self._lines.send({"light": message.light.value, "ko": message.ko, "en": message.en})
