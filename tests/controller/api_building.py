"""A small building behind the API, in one process: store, picture, live stream, the thread that reads, and the routes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from starlette.routing import Route

from controller import web
from controller.api import ReadApi
from controller.commands_api import CommandsApi
from controller.ingest import StoreThread
from controller.live import Live
from controller.officer import OfficerApi
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
from protocol.events import Kind
from protocol.health import Health
from protocol.status import GateState, LaneState, LaneStatus, Online
from tests.controller.conftest import SEOUL, SITE, START, Journal, Sent, keys

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


class Building:
    def __init__(self, directory: Path, clock: PinnedClock | None = None) -> None:
        self.clock = clock or PinnedClock()
        self.store = Store(directory / "controller.db", SEOUL)
        self.live = Live(self.clock, SEOUL)
        self.stream = LiveStream(self.live, "run1")
        self.condition = Condition(True, True)
        self.queries = Queries(directory / "controller.db", SEOUL, k=K, clock=self.clock)
        self.keeper, self.thread = StoreThread(), QueryThread()
        self.app = web.Guard(web.application(*self.routes()))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1")

    def routes(self) -> list[Route]:
        read = ReadApi(self.live, self.queries, self.thread, lambda: self.condition, lambda: ["gate-1", "gate-2"], k=K)
        officer = OfficerApi(self.queries, self.thread, self.store.reads, self.keeper, self.clock, OFFICER)
        commands = CommandsApi(None, None, TOKEN)
        return [*read.routes(), *officer.routes(), *commands.routes(), *StreamApi(self.stream).routes()]

    def feed(self, gate: str, records: Iterable[bytes] = (), **more: bytes) -> None:
        """Records and, by leaf, other messages of one gate, in one batch."""
        sent = [Sent(topics.event(SITE, gate), record) for record in records]
        sent += [Sent(topics.ROOT + f"/{SITE}/{gate}/{leaf}", payload) for leaf, payload in more.items()]
        done = sort(sent, SITE, keys)
        committed = self.store.commit(done.batch, self.clock.now())
        self.live.apply(done, committed)
        self.stream.apply(done, committed)

    def furnish(self) -> None:
        """Two gates: one works, one is offline; passages, refusals, an alarm, an order."""
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
            health=Health("b1", "0.1", 5, ClockQuality.SYNCED, 3, 4, "v9", ("camera.hall",)).encode(),
        )
        self.feed("gate-2", two.records, online=Online(False, "b1").encode())
        self._insert(
            "orders", {"id": "c-1", "time": time(1), "gate": "gate-1", "lane": "l1", "verb": "release", "args": "{}"}
        )
        body = json.dumps({"gate": "gate-1", "lane": "l1", "kind": "alarm.forced", "state": "raised"})
        for number in (1, 2, 3):
            alarm: dict[str, Any] = {
                "id": number,
                "gate": "gate-1",
                "lane": "l1",
                "kind": "alarm.forced",
                "detail": str(number),
                "severity": "high",
            }
            alarm |= {"epoch": "e1", "seq": 1, "count": 1, "raised": time(number), "last": time(number)}
            alarm |= {"occurred": time(number), "level": 0, "closed": time(9) if number == 2 else None}
            self._insert("alarm_states", alarm | {"acknowledged": time(9) if number == 2 else None})
            self._insert(
                "alarm_changes",
                {"id": number, "alarm": number, "time": time(number), "change": "raised", "body": body},
                named=False,
            )

    def _insert(self, table: str, row: dict[str, Any], named: bool = True) -> None:
        """`named`: with somebody who gave an order, or saw to an alarm."""
        columns = {name for (name,) in self.store._db.execute("SELECT name FROM pragma_table_info(?)", [table])}
        whole = row | ({"operator": "Hong Gildong", "role": "guard"} if named else {})
        whole = {name: value for name, value in whole.items() if name in columns}
        marks = ",".join("?" * len(whole))
        self.store._db.execute(f"INSERT INTO {table} ({','.join(whole)}) VALUES ({marks})", list(whole.values()))  # noqa: S608

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


def time(minute: int) -> str:
    return f"2026-11-24T09:{minute:02d}:00.000Z"
