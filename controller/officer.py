"""Exact times of passages, for a security officer with a reason: written down first, then told.

    POST /api/v1/passages/query   {"operator", "role", "reason", "reference", "since", "until"}
                                  and as wanted "gate", "lane", "kind", "after", "limit"

A token of its own (state_dir/officer-token), so that whoever may give orders cannot read this, and the other way round. Every
page is a read and has a row of its own in `reads`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from controller import views
from controller.api import MAX_KINDS, answered
from controller.api_parameters import Parameters
from controller.queries import Queries
from controller.query_rows import BadQueryError
from controller.reader import QueryThread
from controller.reads import MAX_QUERY, NotPermittedError, Officer, Reads
from controller.requests import V1, ApiError, check_token, json_object, only, unavailable, wrong
from protocol.clock import Clock, rfc3339

MAX_TEXT = 100
NEEDED = {"operator", "role", "reason", "reference", "since", "until"}
MORE = {"gate", "lane", "kind", "after", "limit"}
T = TypeVar("T")


class Keeper(Protocol):
    """The store's thread (controller.ingest.StoreThread)."""

    async def call(self, work: Callable[[], T]) -> T: ...


class OfficerApi:
    def __init__(
        self, queries: Queries, thread: QueryThread, reads: Reads, keeper: Keeper, clock: Clock, token: str
    ) -> None:
        """`reads` belongs to `keeper`, `queries` to `thread`."""
        self._queries, self._thread, self._reads, self._keeper = queries, thread, reads, keeper
        self._clock, self._token = clock, token

    def routes(self) -> list[Route]:
        return [Route(f"{V1}/passages/query", self.query, methods=["POST"])]

    async def query(self, request: Request) -> Response:
        check_token(request, self._token)
        body = await json_object(request)
        only(body, NEEDED, MORE)
        given = Parameters.of_body(body)
        officer = _officer(given)
        now = self._clock.now()
        since, until = given.range(now)
        asked: dict[str, Any] = {
            "gate": given.word("gate"),
            "lane": given.word("lane"),
            "kinds": given.words("kind", MAX_KINDS),
            "after": given.after(),
            "limit": given.limit(),
        }
        with answered():
            self._queries.check_timed(since, until, asked["limit"])
        number = await self._log(officer, _text(since, until, asked), now)
        with answered():
            found = await self._thread.call(partial(self._queries.timed, since, until, **asked))
        return JSONResponse(
            {
                "read": number,
                "events": [views.event(row) for row in found.rows],
                "next": None if found.next is None else str(found.next),
            }
        )

    async def _log(self, officer: Officer, query: str, now: datetime) -> int:
        try:
            return await self._keeper.call(partial(self._reads.log, officer, query, now))
        except (sqlite3.Error, OSError) as error:
            raise unavailable(
                "store",
                "열람을 기록할 수 없어 보여 주지 않았습니다",
                "the read cannot be recorded, so nothing was told",
            ) from error


def _officer(given: Parameters) -> Officer:
    """Raises ApiError."""
    operator, role, reason, reference = (
        given.text(name, MAX_TEXT) for name in ("operator", "role", "reason", "reference")
    )
    try:
        return Officer.of(operator, role, reason, reference)
    except NotPermittedError as error:
        raise ApiError(403, "not_permitted", error.ko, error.en) from None
    except BadQueryError as error:
        raise ApiError(400, "wrong_parameter", error.ko, error.en) from None


def _text(since: datetime, until: datetime, asked: dict[str, Any]) -> str:
    """What is written down: the question, so that it can be asked again."""
    told = {
        "since": rfc3339(since),
        "until": rfc3339(until),
        **{name: str(value) if name == "after" else value for name, value in asked.items() if value is not None},
    }
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    if len(text) > MAX_QUERY:
        raise wrong("kind", "너무 많아 기록할 수 없습니다", "more than can be written down")
    return text
