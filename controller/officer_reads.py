"""Exact times of passages for the security officer: the question is written down first, then answered.

A question that cannot be written down is not answered.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from functools import partial

from controller.ingest import StoreThread
from controller.queries import Queries
from controller.query_rows import BadQueryError, Cursor, EventRow, Page
from controller.reader import QueryThread
from controller.reads import MAX_QUERY, Officer, Reads
from protocol.clock import Clock, rfc3339


class OfficerReads:
    """Rows with exact times, each question logged first. On the loop."""

    def __init__(
        self, store_thread: StoreThread, reads: Reads, query_thread: QueryThread, queries: Queries, clock: Clock
    ) -> None:
        self._store_thread, self._reads = store_thread, reads
        self._query_thread, self._queries, self._clock = query_thread, queries, clock

    async def timed(
        self,
        officer: Officer,
        since: datetime,
        until: datetime,
        *,
        gate: str | None = None,
        lane: str | None = None,
        kinds: Collection[str] | None = None,
        after: Cursor | None = None,
        limit: int = 100,
    ) -> Page[EventRow]:
        """Raises QueryError; sqlite3.Error where the read cannot be logged, and then nothing is given."""
        self._queries.check_timed(since, until, limit)
        asked = {
            "since": rfc3339(since),
            "until": rfc3339(until),
            "gate": gate,
            "lane": lane,
            "kinds": None if kinds is None else sorted(kinds),
            "after": None if after is None else str(after),
            "limit": limit,
        }
        query = json.dumps({name: value for name, value in asked.items() if value is not None}, ensure_ascii=False)
        if len(query) > MAX_QUERY:
            raise BadQueryError("조건이 너무 깁니다", "a shorter question is expected")
        await self._store_thread.call(partial(self._reads.log, officer, query, self._clock.now()))
        return await self._query_thread.call(
            partial(self._queries.timed, since, until, gate=gate, lane=lane, kinds=kinds, after=after, limit=limit)
        )
