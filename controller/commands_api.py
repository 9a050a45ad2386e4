"""Orders through the controller's own API: POST, JSON, loopback, and a token that only its own user can read.

POST /api/v1/commands               {"gate", "lane", "verb", "args", "operator", "role"}
                                    200 what came of it; 202 {"id", "sign"} where "second": {"operator", "role"} is given
POST /api/v1/commands/{id}/second   {"sealed"}: the second operator's signature over the bytes of "sign"
POST /api/v1/emergency              {"levels": {zone: level}, "operator", "role"}
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from controller.commands import BusyError, Commands, Order, Result
from controller.emergency import EmergencyState
from controller.requests import V1, ApiError, check_token, json_object, not_found, only, unavailable, wrong
from protocol import command as wire
from protocol.command import CommandError, CommandVerb, Operator
from protocol.fields import WORD

Work = Callable[[Mapping[str, Any]], Awaitable[tuple[int, Mapping[str, Any]]]]


class CommandsApi:
    def __init__(self, commands: Commands | None, emergency: EmergencyState | None, token: str) -> None:
        """None: this controller has no key for such orders."""
        self._commands, self._emergency, self._token = commands, emergency, token

    def routes(self) -> list[Route]:
        return [
            Route(f"{V1}/commands", self.command, methods=["POST"]),
            Route(f"{V1}/commands/{{id}}/second", self.second, methods=["POST"]),
            Route(f"{V1}/emergency", self.emergency, methods=["POST"]),
        ]

    async def command(self, request: Request) -> Response:
        commands = self._commands
        return await self._answer(request, None if commands is None else lambda body: _order(commands, body))

    async def second(self, request: Request) -> Response:
        commands, order_id = self._commands, str(request.path_params["id"])
        return await self._answer(
            request, None if commands is None else lambda body: _countersign(commands, order_id, body)
        )

    async def emergency(self, request: Request) -> Response:
        state = self._emergency
        return await self._answer(request, None if state is None else lambda body: _levels(state, body))

    async def _answer(self, request: Request, work: Work | None) -> Response:
        check_token(request, self._token)
        body = await json_object(request)
        if work is None:
            raise ApiError(
                503,
                "no_key",
                "이 관제 서버에는 이런 지시에 쓸 키가 없습니다([commands])",
                "this controller has no key for such orders ([commands])",
            )
        try:
            status, answer = await work(body)
        except CommandError as error:
            raise ApiError(400, "wrong_order", f"지시를 받아들일 수 없습니다: {error}", str(error)) from error
        except BusyError:
            raise unavailable("busy", "진행 중인 지시가 너무 많습니다", "too many orders are under way") from None
        except (sqlite3.Error, OSError) as error:
            raise unavailable(
                "store",
                "지시를 기록할 수 없어 내리지 않았습니다",
                "the order cannot be recorded, so it was not given",
            ) from error
        return JSONResponse(dict(answer), status_code=status)


async def _order(commands: Commands, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    only(body, {"gate", "lane", "verb", "operator", "role"}, {"args", "second"})
    try:
        verb = CommandVerb(_text(body["verb"], "verb"))
    except ValueError:
        expected = ", ".join(CommandVerb)
        raise wrong("verb", f"{expected} 가운데 하나여야 합니다", f"one of {expected} is expected") from None
    args, second = body.get("args", {}), body.get("second")
    if not isinstance(args, dict) or not all(isinstance(each, str | int) for each in args.values()):
        raise wrong("args", "글과 수여야 합니다", "texts and numbers are expected")
    if second is not None:
        if not isinstance(second, dict):
            raise wrong("second", "operator와 role이 있어야 합니다", "operator and role are expected")
        only(second, {"operator", "role"})
    order = Order(
        _text(body["gate"], "gate"),
        _text(body["lane"], "lane"),
        verb,
        operator_of(body),
        args,
        None if second is None else operator_of(second),
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
    only(body, {"sealed"})
    sealed = wire.open_text(body["sealed"])
    prepared = commands.prepared(order_id)
    if prepared is None:
        raise not_found("이 서명을 기다리는 지시가 없습니다", "no order waits for this signature")
    if sealed.payload != prepared.payload:
        raise wrong("sealed", "같은 내용에 대한 서명이어야 합니다", "a signature over the same bytes is expected")
    return 200, (await commands.send(prepared, str(body["sealed"]))).body()


async def _levels(state: EmergencyState, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    only(body, {"levels", "operator", "role"})
    levels = body["levels"]
    if not isinstance(levels, dict):
        raise wrong("levels", "구역과 단계가 있어야 합니다", "zones and levels are expected")
    return 200, (await state.set(levels, operator_of(body))).body()


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= wire.MAX_TEXT:
        raise wrong(
            name,
            f"{wire.MAX_TEXT}자까지의 글이어야 합니다",
            f"a text of at most {wire.MAX_TEXT} characters is expected",
        )
    return value


def operator_of(body: Mapping[str, Any]) -> Operator:
    """Raises ApiError."""
    role = _text(body["role"], "role")
    if not WORD.fullmatch(role):
        raise wrong("role", "짧은 낱말이어야 합니다", "a short word is expected")
    return Operator(_text(body["operator"], "operator"), role)
