"""A listening socket that ends its clients when it stops: what the building's virtual devices have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Calls `handle` for each client and closes the connection when it returns. Lines have at most `limit` bytes."""

    def __init__(self, handle: Handle, *, limit: int) -> None:
        self._handle, self._limit = handle, limit
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def listen_unix(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._client, str(path), limit=self._limit)

    async def listen_loopback(self, port: int = 0) -> int:
        """On 127.0.0.1; returns the port (0: any free one)."""
        self._server = await asyncio.start_server(self._client, "127.0.0.1", port, limit=self._limit)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Refuse new clients and cut the present ones."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for writer in self._clients.values():
            writer.transport.abort()
        await asyncio.gather(*self._clients)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if self._server is None or task is None:
            writer.transport.abort()  # accepted in the very moment of `stop`
            return
        self._clients[task] = writer
        try:
            await self._handle(reader, writer)
        finally:
            self._clients.pop(task, None)
            writer.close()
