"""A small building behind the API, in one process: store, picture, live stream, the thread that reads, and the routes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.routing import Route

from controller import web
from controller.alarm_rows import AlarmRow, AlarmUpdate
from controller.alarms_api import AlarmsApi
from controller.api import ReadApi
from controller.commands import Commands
from controller.commands_api import CommandsApi
from controller.emergency import EmergencyState
from controller.ingest import StoreThread
from controller.live import Live
from controller.officer import OfficerApi
from controller.openapi import OpenApi
from controller.pages import Condition
from controller.queries import Queries
from controller.reader import QueryThread
from controller.reads import ROLE
from controller.sorting import sort
from controller.store import Store
from controller.stream import LiveStream
from controller.stream_api import StreamApi
from policy.situation import ClockQuality
from protocol import topics
from protocol.command import Operator
from protocol.events import Kind
from protocol.health import Health
from protocol.mqtt import NOT_CONNECTED, PubResult
from protocol.status import GateState, LaneState, LaneStatus, Online
from tests.controller.conftest import SEOUL, SITE, START, Journal, Sent, keys

T = TypeVar("T")
TOKEN, OFFICER = "token-of-orders", "token-of-the-officer"
K = 5
NOW = START + timedelta(minutes=20)
ASKED = {
    "operator": "Kim",
    "role": ROLE,
    "reason": "incident",
    "reference": "2026-117",
    "since": "2026-11-24T09:00:00Z",
    "until": "2026-11-24T10:00:00Z",
}
"""What a security officer asks, in full."""


class PinnedClock:
    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at.astimezone(UTC)

    def monotonic(self) -> float:
        return self.at.timestamp()


class NoBroker:
    async def publish(self, *_: object, **__: object) -> PubResult:
        return PubResult(False, NOT_CONNECTED)


class AlarmBook:
    """What operators do about alarms, as controller.alarm_desk does it."""

    def __init__(self, building: Building) -> None:
        self._building = building

    async def acknowledge(self, alarm: int, operator: Operator) -> AlarmRow:
        return await self._do(partial(self._building.store.alarm_book.acknowledge, alarm, operator))

    async def clear(self, alarm: int, operator: Operator) -> AlarmRow:
        return await self._do(partial(self._building.store.alarm_book.clear, alarm, operator))

    async def _do(self, work: Callable[[datetime], tuple[AlarmRow, AlarmUpdate]]) -> AlarmRow:
        row, update = await self._building.keeper.call(partial(work, self._building.clock.now()))
        self._building.live.apply_alarms(update.rows)
        self._building.stream.alarms(update)
        return row


class Building:
    def __init__(self, directory: Path, clock: PinnedClock | None = None) -> None:
        self.clock = clock or PinnedClock()
        self.store = Store(directory / "controller.db", SEOUL)
        self.live = Live(self.clock, SEOUL)
        self.stream = LiveStream(self.live, "run1")
        self.condition = Condition(True, True)
        self._random = Random(1)
        self.queries = Queries(directory / "controller.db", SEOUL, k=K, clock=self.clock)
        self.keeper, self.thread = StoreThread(), QueryThread()
        self.app = web.Guard(web.application(*self.routes()))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1")

    def routes(self) -> list[Route]:
        read = ReadApi(self.live, self.queries, self.thread, lambda: self.condition, lambda: ["gate-1", "gate-2"], k=K)
        officer = OfficerApi(self.queries, self.thread, self.store.reads, self.keeper, self.clock, OFFICER)
        commands = CommandsApi(self._give(Commands), self._give(EmergencyState), TOKEN)
        alarms = AlarmsApi(AlarmBook(self), self.live.alarms.values, TOKEN)
        return [
            *read.routes(),
            *officer.routes(),
            *commands.routes(),
            *alarms.routes(),
            *StreamApi(self.stream).routes(),
            *OpenApi().routes(),
        ]

    def _give(self, what: Callable[..., T]) -> T:
        """Orders that are recorded, and find no broker."""
        key = ec.generate_private_key(ec.SECP256R1())
        chance = self._random.randbytes
        return what(
            NoBroker(), self.store.orders, self.keeper, site=SITE, key=key, clock=self.clock, random_bytes=chance
        )

    def feed(self, gate: str, records: Iterable[bytes] = (), **more: bytes) -> None:
        """Records and, by leaf, other messages of one gate, in one batch."""
        sent = [Sent(topics.event(SITE, gate), record) for record in records]
        sent += [Sent(topics.ROOT + f"/{SITE}/{gate}/{leaf}", payload) for leaf, payload in more.items()]
        done = sort(sent, SITE, keys)
        committed = self.store.commit(done.batch, self.clock.now())
        self.live.apply(done, committed)
        self.stream.apply(done, committed)

    def furnish(self) -> None:
        """Two gates: one works, one is offline; passages, refusals, three alarms of which one is acknowledged, an order."""
        one, two = Journal("gate-1"), Journal("gate-2")
        for _ in range(K + 1):
            one.write(1, kind=Kind.ACCESS_GRANTED, lat_ms={"ours": 4.0, "total": 900.0})
            one.write(1, kind=Kind.PASSAGE_COMPLETED)
        one.write(2, kind=Kind.ACCESS_DENIED, reason="revoked")
        one.write(1, kind=Kind.DEVICE_DEGRADED, device="camera.hall")
        two.write(1, kind=Kind.ACCESS_DENIED, reason="expired", lane="l9")
        two.write(1, kind=Kind.PASSAGE_COMPLETED, lane="l9")
        lanes = (LaneStatus("l1", "in", LaneState.SECURED), LaneStatus("l2", "out", LaneState.OUT_OF_SERVICE, ("nfc",)))
        self.feed(
            "gate-1",
            one.records,
            online=Online(True, "b1").encode(),
            state=GateState("b1", "e1", len(one.records), lanes).encode(),
            health=Health("b1", "0.1", 500, ClockQuality.SYNCED, 3, 4, "v9", ("camera.hall",)).encode(),
        )
        self.feed("gate-2", two.records, online=Online(False, "b1").encode())
        for kind in (Kind.ALARM_FORCED, Kind.ALARM_TAMPER):
            self.feed("gate-1", one.write(1, kind=kind))
        kim = Operator("Hong Gildong", "guard")
        self.store.alarm_book.acknowledge(2, kim, self.clock.now())
        self.store.orders.begin("c-1", "gate-1", "l1", "release", {}, kim, None, self.clock.now())
        self.store.orders.end("c-1", "done", {}, self.clock.now())

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(f"/api/v1{path}", headers=headers)

    async def ask(self, body: Any, token: str = OFFICER) -> httpx.Response:
        return await self.client.post("/api/v1/passages/query", json=body, headers={"Authorization": f"Bearer {token}"})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.client.aclose()
        self.close()

    def close(self) -> None:
        self.thread.shutdown()
        self.queries.close()
        self.keeper.shutdown()
        self.store.close()
