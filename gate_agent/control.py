"""Orders a guard gives at the gate itself: JSON lines on a Unix socket that only the gate's own group may open.

    request   {"verb": "lockdown", "lane": "lane-1" | "*", "level": 2}      lane "*": every lane of this gate
    answer    {"results": {"lane-1": null | "why not"}}                       null: done
              {"lanes": {...}, "clock": {...}}                               for the verb "status"
              {"error": "what is expected"}

Needs neither controller nor broker. Whoever can open the socket is the guard on the spot; the event says `op: local`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from protocol import topics

_log = logging.getLogger(__name__)

SOCKET = "control"
"""Its name in the runtime directory."""
MAX_LINE = 4096
MAX_CLIENTS = 8
IDLE_S = 30.0
"""A client that says nothing for this long is let go."""
MODE = 0o660
ALL = "*"


class RequestError(ValueError):
    """The text says what is expected."""


Handler = Callable[[str, str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""(verb, lane or ALL, the whole request) -> the answer. Raises RequestError."""


def parse(line: bytes) -> tuple[str, str, Mapping[str, Any]]:
    """(verb, lane, request). Raises RequestError."""
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        raise RequestError("one JSON object a line is expected") from None
    if not isinstance(body, dict):
        raise RequestError("one JSON object a line is expected")
    verb, lane = body.get("verb"), body.get("lane", ALL)
    if not isinstance(verb, str) or len(verb) > 32:
        raise RequestError("verb: a word is expected")
    if lane != ALL and not (isinstance(lane, str) and topics.ID.fullmatch(lane)):
        raise RequestError("lane: the name of a lane, or *, is expected")
    return verb, lane, body


class Control:
    """`start` and `stop` once each."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path, self._handler = path, handler
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises OSError."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, self._path, limit=MAX_LINE)
        self._path.chmod(MODE)

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for client in tuple(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a stream's callback runs in a task of its own
        self._clients.add(task)
        try:
            if len(self._clients) <= MAX_CLIENTS:
                await self._serve(reader, writer)
        except (OSError, ValueError, TimeoutError):
            _log.debug("a client of the control socket went away")
        finally:
            self._clients.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(IDLE_S):
                line = await reader.readline()
            if not line:
                return
            writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
            await writer.drain()

    async def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            return await self._handler(*parse(line))
        except RequestError as error:
            return {"error": str(error)}
        except Exception:
            # A guard is told that it failed; the gate goes on.
            _log.exception("an order failed")
            return {"error": "failed; the gate's log says why"}
