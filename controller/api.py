"""The read API under /api/v1: what the building is and was, as docs/api.md and openapi.yaml describe it.

What is now comes from the picture in memory, what was from the database by a connection that cannot write, in a thread of its
own. Nobody is named; when somebody walked is told to a security officer alone, and written down first (controller.officer).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeVar, cast
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from controller import alarms_api, views, wording
from controller.alarm_rows import AlarmRow
from controller.api_parameters import DAY, Parameters
from controller.live import Live
from controller.occupancy import Seen, seen
from controller.pages import Condition
from controller.queries import STATES, Queries
from controller.query_rows import BusyError, ChangeRow, Cursor, Page, QueryError, TooLongError, TooOldError
from controller.reader import QueryThread
from controller.requests import V1, ApiError, not_found, store_unavailable, unavailable
from protocol.clock import rfc3339

MAX_KINDS = 100
T = TypeVar("T")


@contextmanager
def answered() -> Iterator[None]:
    """What a question to the database may end with, as ApiError."""
    try:
        yield
    except BusyError as error:
        raise unavailable("busy", error.ko, error.en) from error
    except TooLongError as error:
        raise ApiError(400, "too_long", error.ko, error.en) from error
    except TooOldError as error:
        raise ApiError(400, "too_old", error.ko, error.en) from error
    except QueryError as error:
        raise ApiError(400, "wrong_parameter", error.ko, error.en) from error
    except (sqlite3.Error, OSError) as error:
        raise store_unavailable() from error


class ReadApi:
    def __init__(
        self,
        live: Live,
        queries: Queries,
        thread: QueryThread,
        condition: Callable[[], Condition],
        enrolled: Callable[[], Iterable[str]],
        *,
        k: int,
    ) -> None:
        """`k`: what is suppressed below it, said beside the figures. `enrolled`: names of the gates that ought to be heard."""
        self._live, self._queries, self._thread = live, queries, thread
        self._condition, self._enrolled, self._k = condition, enrolled, k

    def routes(self) -> list[Route]:
        return [
            Route(f"{V1}/health", self.health),
            Route(f"{V1}/gates", self.gates),
            Route(f"{V1}/gates/{{gate}}", self.gate),
            Route(f"{V1}/events", self.events),
            Route(f"{V1}/traffic", self.traffic),
            Route(f"{V1}/latency", self.latency),
            Route(f"{V1}/refusals", self.refusals),
            Route(f"{V1}/occupancy", self.occupancy),
            Route(f"{V1}/muster", self.muster),
            Route(f"{V1}/alarms", self.alarms),
            Route(f"{V1}/alarms/{{id:id}}", self.alarm),
            Route(f"{V1}/orders", self.orders),
            Route(f"{V1}/reports/passages", self.passages),
        ]

    # What is now

    async def health(self, request: Request) -> Response:
        """503 while the broker or the store is missing; the gates work on."""
        Parameters.of_query(request.query_params).done()
        condition = self._condition()
        gates = self._live.gates.values()
        body = {
            "broker": condition.broker,
            "store": condition.store,
            "gates": len(gates),
            "online": sum(gate.online is True for gate in gates),
        }
        return JSONResponse(body, status_code=200 if condition.broker and condition.store else 503)

    async def gates(self, request: Request) -> Response:
        Parameters.of_query(request.query_params).done()
        now = self._now()
        return JSONResponse({"time": rfc3339(now), "gates": views.gates(self._live, now)})

    async def gate(self, request: Request) -> Response:
        Parameters.of_query(request.query_params).done()
        found = self._live.gates.get(request.path_params["gate"])
        if found is None:
            raise not_found("그런 게이트가 없습니다", "no such gate")
        return JSONResponse(views.gate(found, self._live.lanes_of(found.id), self._now()))

    # What was

    async def events(self, request: Request) -> Response:
        given = Parameters.of_query(request.query_params)
        since, until = given.range(self._now(), DAY)
        work = partial(
            self._queries.timeline,
            since,
            until,
            gate=given.word("gate"),
            lane=given.word("lane"),
            kinds=given.words("kind", MAX_KINDS),
            after=given.after(),
            limit=given.limit(),
        )
        given.done()
        return page(
            request, "events", await self._ask(work), views.event, {"until": rfc3339(until), "since": rfc3339(since)}
        )

    async def traffic(self, request: Request) -> Response:
        given = Parameters.of_query(request.query_params)
        step, since, until = self._step(given)
        work = partial(self._queries.traffic, since, until, gate=given.word("gate"), lane=given.word("lane"), step=step)
        given.done()

        def write() -> Response:
            return JSONResponse({"step": step, "k": self._k, "cells": [views.cell(each) for each in work()]})

        return await self._ask(write)

    async def passages(self, request: Request) -> Response:
        """The same by lane, to be printed and filed."""
        given = Parameters.of_query(request.query_params)
        wanted = given.choice("format", ("json", "csv"))
        step, since, until = self._step(given)
        work = partial(self._queries.report, since, until, gate=given.word("gate"), step=step)
        given.done()
        as_csv = wanted == "csv" or (wanted is None and _prefers_csv(request.headers.get("accept", "")))

        def write() -> Response:
            """In the thread of questions: half a second of a large report is not taken from the loop."""
            report = work()
            if as_csv:
                file = f'attachment; filename="passages-{step}.csv"'
                return Response(
                    report.csv().encode("utf-8", "replace"),
                    media_type="text/csv; charset=utf-8",
                    headers={"Content-Disposition": file, "Vary": "Accept"},
                )
            return JSONResponse(views.clean(report.json()), headers={"Vary": "Accept"})

        return await self._ask(write)

    def _step(self, given: Parameters) -> tuple[Literal["quarter", "day"], datetime, datetime]:
        step = cast(Literal["quarter", "day"], given.choice("step", ("quarter", "day")) or "quarter")
        return step, *given.range(self._now(), DAY if step == "quarter" else 31 * DAY)

    async def latency(self, request: Request) -> Response:
        given = Parameters.of_query(request.query_params)
        since, until = given.range(self._now(), DAY)
        stage = given.choice("stage", ("ours", "total")) or "ours"
        work = partial(
            self._queries.latency,
            since,
            until,
            gate=given.word("gate"),
            lane=given.word("lane"),
            carrier=given.word("carrier"),
            stage=stage,
        )
        given.done()
        found = await self._ask(work)
        return JSONResponse({"stage": stage, "p50": found.p50, "p95": found.p95, "p99": found.p99})

    async def refusals(self, request: Request) -> Response:
        given = Parameters.of_query(request.query_params)
        since, until = given.range(self._now(), DAY)
        work = partial(self._queries.refusals, since, until, gate=given.word("gate"))
        given.done()
        return JSONResponse({"refusals": [_refusal(each.reason, each.n) for each in await self._ask(work)]})

    async def occupancy(self, request: Request) -> Response:
        Parameters.of_query(request.query_params).done()
        now = self._now()
        zones = await self._ask(partial(self._queries.occupancy, now, self._seen()))
        return JSONResponse({"time": rfc3339(now), "zones": [views.zone(each) for each in zones]})

    async def muster(self, request: Request) -> Response:
        Parameters.of_query(request.query_params).done()
        now = self._now()
        found = await self._ask(partial(self._queries.muster, now, self._seen()))
        return JSONResponse({"time": rfc3339(now), **views.muster(found)})

    async def alarms(self, request: Request) -> Response:
        given = Parameters.of_query(request.query_params)
        work = partial(
            self._queries.alarms,
            state=given.choice("state", STATES),
            gate=given.word("gate"),
            after=given.after(),
            limit=given.limit(),
        )
        given.done()
        return page(request, "alarms", await self._ask(work), alarms_api.body)

    async def alarm(self, request: Request) -> Response:
        """One alarm and what became of it."""
        Parameters.of_query(request.query_params).done()
        found, history = await self._ask(partial(self._alarm, request.path_params["id"]))
        if found is None:
            raise not_found("그런 경보가 없습니다", "no such alarm")
        return JSONResponse({**alarms_api.body(found), "history": [views.change(each) for each in history]})

    def _alarm(self, alarm: int) -> tuple[AlarmRow | None, list[ChangeRow]]:
        """In the thread that reads: the first of those up to this one."""
        rows = self._queries.alarms(after=Cursor("", alarm + 1), limit=1).rows
        if not rows or rows[0].id != alarm:
            return None, []
        return rows[0], self._queries.alarm_history(alarm)

    async def orders(self, request: Request) -> Response:
        given = Parameters.of_query(request.query_params)
        work = partial(self._queries.orders, given.after(), given.limit())
        given.done()
        return page(request, "orders", await self._ask(work), views.order)

    def _seen(self) -> Seen:
        """What the database does not know about who is inside."""
        return seen(self._live, self._enrolled())

    def _now(self) -> datetime:
        return self._live.clock.now()

    async def _ask(self, work: Callable[[], T]) -> T:
        with answered():
            return await self._thread.call(work)


def page(
    request: Request,
    name: str,
    found: Page[T],
    view: Callable[[T], dict[str, Any]],
    pinned: Mapping[str, str] | None = None,
) -> Response:
    """Rows under `name`, and where the next page is: as `next`, and as a link (RFC 8288) to the same question, of which `pinned`
    stands for what was left to the time of asking."""
    following = None if found.next is None else str(found.next)
    headers = {}
    if following is not None:
        own = [
            (key, value)
            for key, value in request.query_params.multi_items()
            if key != "after" and key not in (pinned or {})
        ]
        query = urlencode([*own, *(pinned or {}).items(), ("after", following)])
        headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return JSONResponse({name: [view(each) for each in found.rows], "next": following}, headers=headers)


def _refusal(reason: str, n: int) -> dict[str, Any]:
    return {"reason": reason, "n": n, **{language: wording.reason(reason, language) for language in wording.LANGUAGES}}


def _prefers_csv(accept: str) -> bool:
    """The first of the two that is named; weights are not looked at."""
    named = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return next((each == "text/csv" for each in named if each in {"text/csv", "application/json"}), False)
