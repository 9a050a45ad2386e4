"""Orders through the controller's own API: POST, JSON, loopback, and a token that only its own user can read.

    POST /api/commands               {"gate", "lane", "verb", "args", "operator", "role"}
                                     200 what came of it; 202 {"id", "sign"} where "second": {"operator", "role"} is given
    POST /api/commands/{id}/second   {"sealed"}: the second operator's signature over the bytes of "sign"
    POST /api/emergency              {"levels": {zone: level}, "operator", "role"}

A page of another origin can neither read the token nor send JSON without being asked first (CORS), which nothing here allows.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from controller import files
from controller.commands import BusyError, Commands, Order, Result
from controller.emergency import EmergencyState
from protocol import command as wire
from protocol.command import CommandError, CommandVerb, Operator
from protocol.fields import WORD

MAX_BODY = 8192
TOKEN_BYTES, TOKEN_MODE = 32, 0o600

Work = Callable[[Mapping[str, Any]], Awaitable[tuple[int, Mapping[str, Any]]]]


class NoSuchOrderError(Exception):
    """No order of this id waits for a signature, or not any more."""


def make_token(path: Path) -> str:
    """The token of this API, made once; readable by the controller's user only. Raises OSError."""
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        files.replace(path, f"{token}\n".encode("ascii"), TOKEN_MODE)
        return token


class CommandsApi:
    def __init__(self, commands: Commands | None, emergency: EmergencyState | None, token: str) -> None:
        """None: this controller has no key for such orders."""
        self._commands, self._emergency, self._token = commands, emergency, token

    def routes(self) -> list[Route]:
        return [
            Route("/api/commands", self.command, methods=["POST"]),
            Route("/api/commands/{id}/second", self.second, methods=["POST"]),
            Route("/api/emergency", self.emergency, methods=["POST"]),
        ]

    async def command(self, request: Request) -> Response:
        commands = self._commands
        return _unconfigured() if commands is None else await self._answer(request, lambda body: _order(commands, body))

    async def second(self, request: Request) -> Response:
        commands, order_id = self._commands, str(request.path_params["id"])
        if commands is None:
            return _unconfigured()
        return await self._answer(request, lambda body: _countersign(commands, order_id, body))

    async def emergency(self, request: Request) -> Response:
        state = self._emergency
        return _unconfigured() if state is None else await self._answer(request, lambda body: _levels(state, body))

    async def _answer(self, request: Request, work: Work) -> Response:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return _error(401, "the token of this API is expected")
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _error(415, "application/json is expected")
        try:
            status, answer = await work(await _body(request))
        except CommandError as error:
            return _error(400, str(error))
        except NoSuchOrderError:
            return _error(404, "no order waits for this signature")
        except BusyError:
            return _error(503, "too many orders are under way")
        except (sqlite3.Error, OSError):
            return _error(503, "the order cannot be recorded, so it was not given")
        return JSONResponse(dict(answer), status_code=status)


async def _order(commands: Commands, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    _only(body, {"gate", "lane", "verb", "operator", "role"}, {"args", "second"})
    try:
        verb = CommandVerb(_text(body["verb"], "verb"))
    except ValueError:
        raise CommandError(f"verb: one of {', '.join(CommandVerb)} is expected") from None
    args, second = body.get("args", {}), body.get("second")
    if not isinstance(args, dict) or not all(isinstance(each, str | int) for each in args.values()):
        raise CommandError("args: texts and numbers are expected")
    if second is not None:
        if not isinstance(second, dict):
            raise CommandError("second: operator and role are expected")
        _only(second, {"operator", "role"})
    order = Order(
        _text(body["gate"], "gate"),
        _text(body["lane"], "lane"),
        verb,
        _operator(body),
        args,
        None if second is None else _operator(second),
    )
    if second is None:
        return 200, (await commands.give(order)).body()
    prepared = await commands.prepare(order)
    if isinstance(prepared, Result):
        return 200, prepared.body()
    if not order.needs_second:
        return 200, (await commands.send(prepared)).body()
    return 202, {"id": prepared.id, "sign": wire.to_text(prepared.payload)}


async def _countersign(commands: Commands, order_id: str, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    _only(body, {"sealed"})
    sealed = wire.open_text(body["sealed"])
    prepared = commands.prepared(order_id)
    if prepared is None:
        raise NoSuchOrderError
    if sealed.payload != prepared.payload:
        raise CommandError("sealed: a signature over the same bytes is expected")
    return 200, (await commands.send(prepared, str(body["sealed"]))).body()


async def _levels(state: EmergencyState, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    _only(body, {"levels", "operator", "role"})
    levels = body["levels"]
    if not isinstance(levels, dict):
        raise CommandError("levels: zones and levels are expected")
    return 200, (await state.set(levels, _operator(body))).body()


async def _body(request: Request) -> Mapping[str, Any]:
    """Raises CommandError."""
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > MAX_BODY:
            raise CommandError(f"at most {MAX_BODY} bytes are expected")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise CommandError("one JSON object is expected") from None
    if not isinstance(body, dict):
        raise CommandError("one JSON object is expected")
    return body


def _only(body: Mapping[str, Any], needed: set[str], more: set[str] | None = None) -> None:
    if not needed <= set(body) <= needed | (more or set()):
        raise CommandError(f"{', '.join(sorted(needed))} are expected")


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= wire.MAX_TEXT:
        raise CommandError(f"{name}: a text of at most {wire.MAX_TEXT} characters is expected")
    return value


def _operator(body: Mapping[str, Any]) -> Operator:
    role = _text(body["role"], "role")
    if not WORD.fullmatch(role):
        raise CommandError("role: a short word is expected")
    return Operator(_text(body["operator"], "operator"), role)


def _error(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status_code=status)


def _unconfigured() -> Response:
    return _error(503, "this controller has no key for such orders ([commands])")
