"""A character display on a serial port, as shop counters have them: Korean first, then English, page after page.

Command sets: `cd5220` (ESC Q A/B writes a whole line; two rows) and `escpos` (US $ sets the cursor; any number of rows).
"""

from __future__ import annotations

import asyncio
import os
import termios
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from drivers.ports import DriverError
from drivers.signal.layout import Page, pages
from drivers.signal.parts import REFRESH_S, Slot

COMMAND_SETS = ("cd5220", "escpos")
ENCODINGS = ("euc-kr", "utf-8")
BAUDS = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
PAGE_S = 2.0
"""How long a page stays before the next one."""
WRITE_S = 3.0
"""Longest wait for the port: two lines of 20 cells take 0.05 s at 9,600 baud, and 0.4 s at 1,200."""

_ESC, _US, _CLEAR, _RETURN = b"\x1b", b"\x1f", b"\x0c", b"\r"
_START = _ESC + b"@"
"""Initialise: the same in both command sets."""


@dataclass(frozen=True, slots=True)
class TextSettings:
    device: Path
    baud: int = 9600
    columns: int = 20
    """Cells of one row; Hangul takes two."""
    rows: int = 2
    encoding: str = "euc-kr"
    commands: str = "cd5220"


def command(page: Page, settings: TextSettings) -> bytes:
    """The bytes that show one page, in place of whatever is shown."""
    out = bytearray()
    for row, line in enumerate(page):
        words = line.encode(settings.encoding, errors="replace")
        if settings.commands == "cd5220":
            out += _ESC + b"Q" + bytes([ord("A") + row]) + words + _RETURN
        else:
            out += _US + b"$" + bytes([1, row + 1]) + words
    return bytes(out)


class TextDisplay:
    """drivers.signal.parts.Part."""

    name = "text"

    def __init__(self, settings: TextSettings, *, page_s: float = PAGE_S, refresh_s: float = REFRESH_S) -> None:
        """Raises ValueError for what the command set cannot show."""
        if settings.commands == "cd5220" and settings.rows > 2:
            raise ValueError("rows: a cd5220 display has at most 2")
        self._settings, self._page_s, self._refresh_s = settings, page_s, refresh_s
        self._port: int | None = None

    async def start(self) -> None:
        await self.stop()
        self._port = self._open()
        try:
            await self._write(_START + _CLEAR)
        except DriverError:
            await self.stop()
            raise

    async def stop(self) -> None:
        port, self._port = self._port, None
        if port is None:
            return
        # Words that nobody stands behind any more must not stay. Whatever waits is dropped: closing would wait for it.
        with suppress(OSError, termios.error):
            termios.tcflush(port, termios.TCOFLUSH)
            os.write(port, _CLEAR)
        with suppress(OSError):
            os.close(port)

    async def work(self, slot: Slot) -> None:
        book, at = [pages((), self._settings.columns, self._settings.rows)[0]], 0
        while True:
            try:
                async with asyncio.timeout(self._page_s if len(book) > 1 else self._refresh_s):
                    message = await slot.take()
                book, at = pages((message.ko, message.en), self._settings.columns, self._settings.rows), 0
            except TimeoutError:
                at = (at + 1) % len(book)
            await self._write(command(book[at], self._settings))

    def _open(self) -> int:
        """Raises DriverError."""
        try:
            # Without O_NONBLOCK a port whose modem lines are not wired waits for a carrier for ever.
            port = os.open(self._settings.device, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise DriverError(f"no display at {self._settings.device.name}: {error.strerror}") from error
        try:
            self._raw(port)
        except termios.error as error:
            os.close(port)
            raise DriverError(f"{self._settings.device.name} is no serial port") from error
        return port

    def _raw(self, port: int) -> None:
        """8N1, no flow control, nothing changed on its way."""
        speed = getattr(termios, f"B{self._settings.baud}")
        _, _, _, _, _, _, characters = termios.tcgetattr(port)
        control = termios.CS8 | termios.CLOCAL | termios.CREAD
        termios.tcsetattr(port, termios.TCSANOW, [termios.IGNBRK, 0, control, 0, speed, speed, characters])

    async def _write(self, data: bytes) -> None:
        """Raises DriverError."""
        try:
            async with asyncio.timeout(WRITE_S):
                while data:
                    if self._port is None:
                        raise DriverError("not started")
                    try:
                        data = data[os.write(self._port, data) :]
                    except BlockingIOError:
                        await _writable(self._port)
        except TimeoutError:
            raise DriverError("the display takes no more") from None
        except OSError as error:
            raise DriverError(f"the display is gone: {error.strerror}") from error


async def _writable(port: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(port, _done, ready)
    try:
        await ready
    finally:
        loop.remove_writer(port)


def _done(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
