"""Alarms through the controller's own API, with its token: what is open, and what an operator does about one.

GET  /api/v1/alarms/open               {"alarms": […]}: all that are not closed, with what to do in two languages
POST /api/v1/alarms/{id}/acknowledge   {"operator", "role"}: somebody has looked
POST /api/v1/alarms/{id}/clear         {"operator", "role"}: ends one that does not end by itself

Both give {"alarm": {…}}; a second time changes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from controller.alarm_book import EndsByItselfError, NoSuchAlarmError
from controller.alarm_kinds import KINDS
from controller.alarm_rows import AlarmRow
from controller.api_parameters import Parameters
from controller.commands_api import operator_of
from controller.requests import V1, ApiError, check_token, json_object, not_found, only, store_unavailable
from protocol.command import Operator

Work = Callable[[int, Operator], Awaitable[AlarmRow]]


class Desk(Protocol):
    """The part of controller.alarm_desk.AlarmDesk that is used here."""

    async def acknowledge(self, alarm: int, operator: Operator) -> AlarmRow: ...

    async def clear(self, alarm: int, operator: Operator) -> AlarmRow: ...


class AlarmsApi:
    def __init__(self, desk: Desk, open_alarms: Callable[[], Iterable[AlarmRow]], token: str) -> None:
        self._desk, self._open, self._token = desk, open_alarms, token

    def routes(self) -> list[Route]:
        return [
            Route(f"{V1}/alarms/open", self.open, methods=["GET"]),
            Route(f"{V1}/alarms/{{id:id}}/acknowledge", self.acknowledge, methods=["POST"]),
            Route(f"{V1}/alarms/{{id:id}}/clear", self.clear, methods=["POST"]),
        ]

    async def open(self, request: Request) -> Response:
        check_token(request, self._token)
        Parameters.of_query(request.query_params).done()
        return JSONResponse({"alarms": [body(row) for row in sorted(self._open(), key=lambda row: row.id)]})

    async def acknowledge(self, request: Request) -> Response:
        return await self._answer(request, self._desk.acknowledge)

    async def clear(self, request: Request) -> Response:
        return await self._answer(request, self._desk.clear)

    async def _answer(self, request: Request, work: Work) -> Response:
        check_token(request, self._token)
        asked = await json_object(request)
        only(asked, {"operator", "role"})
        operator, alarm = operator_of(asked), request.path_params["id"]
        try:
            row = await work(alarm, operator)
        except NoSuchAlarmError:
            raise not_found("이 번호의 경보가 없습니다", "no alarm has this id") from None
        except EndsByItselfError:
            raise ApiError(
                409,
                "ends_by_itself",
                "원인이 없어지면 스스로 끝나는 경보입니다. 확인만 할 수 있습니다",
                "this alarm ends with what raised it; it can only be acknowledged",
            ) from None
        except sqlite3.Error as error:
            raise store_unavailable() from error
        return JSONResponse({"alarm": body(row)})


def body(row: AlarmRow) -> dict[str, Any]:
    """An alarm with its words; who acknowledged or cleared it stays in the database."""
    kind = KINDS[row.kind]
    return {
        **row.public(),
        "acknowledged": row.acknowledged,
        "escalated": row.escalated,
        "cleared": row.cleared,
        "closed": row.closed,
        "category": kind.category.value,
        "operator_clears": kind.operator,
        "name": {"ko": kind.words.ko, "en": kind.words.en},
        "advice": {"ko": kind.words.do_ko, "en": kind.words.do_en},
    }
