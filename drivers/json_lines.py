"""A client for small devices that speak JSON lines over a Unix socket: bounded lines, typed errors, no hidden reconnect."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from drivers.ports import DriverError

MAX_LINE = 4096
CONNECT_S = 2.0
WRITE_S = 1.0


class JsonLines:
    """One connection. Every method raises DriverError when the device is gone or talks nonsense."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                self._reader, self._writer = await asyncio.open_unix_connection(str(self._path), limit=MAX_LINE)
        except (OSError, TimeoutError) as error:
            raise DriverError(f"no device at the socket {self._path.name}") from error

    async def send(self, body: dict[str, Any]) -> None:
        if self._writer is None:
            raise DriverError("not started")
        try:
            self._writer.write(json.dumps(body, ensure_ascii=False).encode() + b"\n")
            async with asyncio.timeout(WRITE_S):
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            raise DriverError("the device takes no more") from error

    async def receive(self) -> dict[str, Any]:
        """The next object. Anything else is a DriverError."""
        if self._reader is None:
            raise DriverError("not started")
        try:
            line = await self._reader.readline()
        except (OSError, ValueError) as error:  # ValueError: a line over the limit
            raise DriverError("the device broke the line protocol") from error
        if not line.endswith(b"\n"):
            raise DriverError("the device closed the connection")
        try:
            body = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DriverError("the device sent no JSON") from error
        if not isinstance(body, dict):
            raise DriverError("the device sent no JSON object")
        return body

    async def close(self) -> None:
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.close()
            try:
                async with asyncio.timeout(WRITE_S):
                    await writer.wait_closed()
            except (OSError, TimeoutError):
                return  # it is gone, which is what was wanted
