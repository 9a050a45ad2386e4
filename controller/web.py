"""The live page, and what holds for every answer of this server, on a loopback address only: there is no log-in yet
(ARCHITECTURE section 8).

A strict Content-Security-Policy, no inline script, nothing from another host. The Host header must name the loopback
interface, or a page elsewhere could read this one through a name that resolves to 127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.live import Live, Watcher
from controller.pages import Condition, Pages
from controller.requests import HANDLERS
from controller.wording import LANGUAGES

STATIC = Path(__file__).parent / "static"
IDLE_S = 15.0
"""A comment line goes out after this long without news, so that both ends notice a dead connection."""
COOKIE = "lang"
COOKIE_S = 365 * 86400
GRACE_S = 2
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Guard:
    """Refuses foreign Host headers and adds the security headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not _is_loopback(hosts[0]):
            answer = PlainTextResponse("허용되지 않은 Host입니다.\nThis Host is not allowed.\n", status_code=421)
            await answer(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)


def _is_loopback(host: str) -> bool:
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, "0"
    return name.lower() in LOOPBACK_NAMES and port.isascii() and port.isdigit()


def application(*routes: BaseRoute) -> Starlette:
    """One form of error for all of them; a path is what it is, with nothing redirected."""
    app = Starlette(routes=list(routes), exception_handlers=HANDLERS)
    app.router.redirect_slashes = False
    return app


class Web:
    def __init__(
        self,
        *,
        live: Live,
        pages: Pages,
        condition: Callable[[], Condition],
        more: Sequence[Route] = (),
    ) -> None:
        """`more`: what others answer."""
        self._live, self._pages, self._condition = live, pages, condition
        self.routes: Sequence[BaseRoute] = (
            Route("/", self.index),
            Route("/live", self.stream),
            Route("/healthz", self.healthz),
            *more,
            Mount("/static", StaticFiles(directory=STATIC)),
        )
        self.app: ASGIApp = Guard(application(*self.routes))

    async def index(self, request: Request) -> Response:
        language = _language(request)
        response = HTMLResponse(self._pages.page(language), headers={"Content-Language": language, "Vary": "Cookie"})
        if request.query_params.get("lang") == language:
            response.set_cookie(COOKIE, language, max_age=COOKIE_S, samesite="strict", httponly=True)
        return response

    async def stream(self, request: Request) -> Response:
        watcher = self._live.watch()
        if watcher is None:
            return PlainTextResponse("too many viewers\n", status_code=503, headers={"Retry-After": "30"})
        return StreamingResponse(self._stream(watcher, _language(request)), media_type="text/event-stream")

    async def _stream(self, watcher: Watcher, language: str) -> AsyncIterator[str]:
        """`all` first and after falling behind, then `part`; both carry one line of JSON (controller.pages)."""
        try:
            yield f"retry: 2000\nevent: all\ndata: {self._pages.everything(language)}\n\n"
            while True:
                change = await watcher.next(IDLE_S)
                match change:
                    case "closed":
                        return
                    case "idle":
                        yield ": idle\n\n"
                    case "resync":
                        yield f"event: all\ndata: {self._pages.everything(language)}\n\n"
                    case str():
                        continue
                    case _:
                        yield f"event: part\ndata: {self._pages.change(change, language)}\n\n"
        finally:
            self._live.leave(watcher)

    async def healthz(self, _request: Request) -> Response:
        condition = self._condition()
        whole = condition.broker and condition.store
        return JSONResponse({"broker": condition.broker, "store": condition.store}, status_code=200 if whole else 503)


def _language(request: Request) -> str:
    for wanted in (request.query_params.get("lang"), request.cookies.get(COOKIE)):
        if wanted in LANGUAGES:
            return wanted
    return LANGUAGES[0]


class Server(uvicorn.Server):
    """uvicorn on our own loop: signals belong to controller.main."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: ASGIApp) -> Server:
    return Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE_S,
            limit_concurrency=200,
        )
    )


def listen(bind: str, port: int) -> socket.socket:
    """Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((bind, port))
        sock.listen(64)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
