"""GET /metrics on the loopback page: the controller and what gates report of themselves, for Prometheus (docs/metrics.md).

A scrape takes a picture on the loop and is written out in a thread; another one within a second gets the same text.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from controller import ingest, webhooks
from controller.batch import Committed
from controller.coarse import Durations, People, Quarters
from controller.live import Live, ours_ms
from controller.metric_gates import Cameras, gate_views, lane_views
from controller.metric_picture import Picture, Sent, put_picture
from controller.metric_process import put_process
from controller.metric_sheet import Sheet, written
from controller.metric_store import put_files, put_store, read
from controller.pages import Condition
from controller.sorting import Sorted
from policy.reasons import Reason
from protocol.events import TIMED, Event, Kind

FRESH_S = 1.0
OTHER = "other"
"""Of a gate that is newer than this program."""
CARRIERS = frozenset({"ble", "nfc", "qr", "walk_up", "piv", "pkoc"})
MAX_COUNT = 1_000_000
MIN_RECORDS, MIN_COMMITS = 100, 500
"""In a quarter hour, before anything of them is told: the few of one person must not move it."""
_REASONS = frozenset(map(str, Reason))


class Metrics:
    def __init__(
        self,
        live: Live,
        *,
        database: Path,
        version: str,
        condition: Callable[[], Condition],
        figures: Callable[[], ingest.Figures],
        busy_since: Callable[[], float | None],
        senders: Callable[[], Sequence[webhooks.Sender]],
    ) -> None:
        self._live, self._clock, self._database, self._version = live, live.clock, database, version
        self._condition, self._figures, self._busy_since, self._senders = condition, figures, busy_since, senders
        self._started = self._clock.now()
        self._quarters = Quarters(self._started)
        self._events: dict[str, int] = {}
        self._refusals: dict[str, int] = {}
        self._passages = People()
        self._healths = 0
        self._commit = Durations[str]((0.5, 0.95), MIN_COMMITS)
        self._batch = Durations[str]((0.5, 0.95), MIN_COMMITS)
        self._lag = Durations[str]((0.5, 0.95), MIN_RECORDS)
        self._decision = Durations[str]((0.5, 0.95, 0.99))
        self._cameras = Cameras()
        self._scrape = asyncio.Lock()
        self._last: tuple[float, str, bytes, str] | None = None

    def routes(self) -> list[Route]:
        return [Route("/metrics", self.answer, methods=["GET"])]

    # What happens

    def on_commit(self, seconds: float, messages: int) -> None:
        """Of one transaction, before `on_batch`."""
        self._turn()
        self._commit.add("", seconds)
        self._batch.add("", messages)

    def on_batch(self, done: Sorted, committed: Committed) -> None:
        now = self._clock.now()
        self._turn()
        self._healths += len(done.healths)
        for stored in committed.stored:
            self._on_event(stored.event, now)
        for gate, health in done.healths.items():
            for camera in health.cameras:
                self._cameras.add(gate, camera)

    def _on_event(self, event: Event, now: datetime) -> None:
        kind = event.kind
        if kind is Kind.PASSAGE_COMPLETED:
            self._passages.add()
        elif isinstance(kind, Kind) and kind not in TIMED:  # of one that a newer gate has nobody knows what it tells
            self._events[kind.value] = self._events.get(kind.value, 0) + 1
        # Sorting has refused what is no time.
        self._lag.add("", max(0.0, (now - datetime.fromisoformat(event.time)).total_seconds()))
        if kind is Kind.ACCESS_DENIED:
            reason, count = event.data.get("reason"), event.data.get("count")
            reason = reason if isinstance(reason, str) and reason in _REASONS else OTHER
            n = count if isinstance(count, int) and 0 < count <= MAX_COUNT else 1
            self._refusals[reason] = self._refusals.get(reason, 0) + n
        # Grants alone: refusals are counted one by one, and could be subtracted.
        if kind is Kind.ACCESS_GRANTED and (took := ours_ms(event)) is not None:
            carrier = event.data.get("carrier")
            self._decision.add(carrier if isinstance(carrier, str) and carrier in CARRIERS else OTHER, took / 1000)

    def _turn(self) -> None:
        if self._quarters.turned(self._clock.now()):
            self._passages.turn()
            for durations in (self._commit, self._batch, self._lag, self._decision):
                durations.turn()
            self._cameras.turn()

    # A scrape

    async def answer(self, request: Request) -> Response:
        body, media_type = await self.text(request.headers.get("accept", ""))
        return Response(body, media_type=None, headers={"content-type": media_type})

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The text and its media type."""
        async with self._scrape:
            moment, last = self._clock.monotonic(), self._last
            if last is not None and last[1] == accept and 0 <= moment - last[0] < FRESH_S:
                return last[2], last[3]
            body, media_type = await asyncio.to_thread(self._text, self._picture(), accept)
            self._last = (moment, accept, body, media_type)
            return body, media_type

    def _picture(self) -> Picture:
        self._turn()
        now, figures, busy = self._clock.now(), self._figures(), self._busy_since()
        return Picture(
            now=now,
            condition=self._condition(),
            commit_s=0 if busy is None else int(self._clock.monotonic() - busy),
            counts={
                "gwanmun_store_failures": figures.failures,
                "gwanmun_ingest_duplicates": figures.duplicates,
                "gwanmun_ingest_set_aside": figures.set_aside,
                "gwanmun_ingest_dropped": figures.dropped,
                "gwanmun_replay_requests": figures.replays,
                "gwanmun_record_alarms": figures.alarms,
                "gwanmun_ingest_healths": self._healths,
                "gwanmun_passages": self._passages.shown,
            },
            events=dict(self._events),
            refusals=dict(self._refusals),
            durations=[
                (name, *each)
                for name, durations in (
                    ("gwanmun_store_commit_seconds", self._commit),
                    ("gwanmun_store_batch_messages", self._batch),
                    ("gwanmun_ingest_lag_seconds", self._lag),
                    ("gwanmun_decision_seconds", self._decision),
                )
                for each in durations.items()
            ],
            watchers=self._live.watching,
            gates=gate_views(self._live.gates.values(), now),
            lanes=lane_views(self._live.lanes.values()),
            cameras=dict(self._cameras.shown),
            webhooks=[
                Sent(each.webhook.name, each.figures.delivered, each.figures.failures, each.figures.given_up)
                for each in self._senders()
            ],
        )

    def _text(self, picture: Picture, accept: str) -> tuple[bytes, str]:
        """In a thread of its own."""
        sheet = Sheet()
        sheet.info("gwanmun_build", self._version)
        put_picture(sheet, picture)
        put_process(sheet, self._started)
        put_files(sheet, self._database)
        try:
            put_store(sheet, read(self._database), picture.now)
        except sqlite3.Error:
            sheet.put("gwanmun_store_readable", 0)
        else:
            sheet.put("gwanmun_store_readable", 1)
        return written(sheet, accept)
