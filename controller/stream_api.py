"""`GET /api/v1/stream`: who watches, what they want, and how long a connection may hold a place without reading."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from controller.api_parameters import Parameters
from controller.requests import V1, unavailable
from controller.stream import TYPES, LiveStream, Watcher

MAX_GATES = 100
STUCK_S = 60.0
"""A connection that takes nothing for so long loses its place: it may resume."""
RETRY_S = 30
MEDIA_TYPE = "text/event-stream"


class StreamApi:
    def __init__(self, stream: LiveStream) -> None:
        self._stream = stream

    def routes(self) -> list[Route]:
        return [Route(f"{V1}/stream", self.watch)]

    async def watch(self, request: Request) -> Response:
        given = Parameters.of_query(request.query_params)
        types, gates = given.choices("type", TYPES), given.words("gate", MAX_GATES)
        given.done()
        if request.method == "HEAD":
            return Response(media_type=MEDIA_TYPE)
        watcher = self._stream.watch(types, gates, request.headers.get("last-event-id"))
        if watcher is None:
            raise unavailable("too_many", "보고 있는 곳이 너무 많습니다", "too many watchers", RETRY_S)
        return _Watching(self._stream, watcher)


class _Watching(StreamingResponse):
    """Leaves when it ends, whyever."""

    def __init__(self, stream: LiveStream, watcher: Watcher) -> None:
        super().__init__(watcher.chunks(), media_type=MEDIA_TYPE)
        self._stream, self._watcher = stream, watcher

    async def stream_response(self, send: Send) -> None:
        async def in_time(message: MutableMapping[str, Any]) -> None:
            async with asyncio.timeout(STUCK_S):
                await send(message)

        try:
            await super().stream_response(in_time)
        except TimeoutError:
            return

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.leave(self._watcher)
