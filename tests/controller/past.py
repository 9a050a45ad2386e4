"""A past for the queries: passages and refusals put straight into the tables, as the rollups would have them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from controller.queries import Queries
from controller.store import Store
from protocol import events
from protocol.clock import rfc3339
from protocol.events import Kind

SEOUL = ZoneInfo("Asia/Seoul")
DAY = datetime(2026, 11, 24, tzinfo=SEOUL)
"""Midnight of a Tuesday, at the site."""
K = 5


@dataclass
class Pinned:
    """A clock that stands, the day after DAY."""

    at: datetime = DAY + timedelta(days=1, hours=9)
    ticks: float = 100.0

    def now(self) -> datetime:
        return self.at.astimezone(UTC)

    def monotonic(self) -> float:
        return self.ticks


@dataclass
class Past:
    path: Path
    clock: Pinned = field(default_factory=Pinned)

    def __post_init__(self) -> None:
        Store(self.path, SEOUL).close()
        self.db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self.opened: list[Queries] = []
        self._seqs: dict[str, int] = {}

    def queries(self, **more: Any) -> Queries:
        settings: dict[str, Any] = {"k": K, "clock": self.clock, **more}
        self.opened.append(Queries(self.path, SEOUL, **settings))
        return self.opened[-1]

    def close(self) -> None:
        for each in self.opened:
            each.close()
        self.db.close()

    def event(
        self,
        at: datetime,
        kind: str = Kind.ALARM_HELD,
        *,
        gate: str = "gate-1",
        lane: str | None = "l1",
        rolled: bool = False,
        more: Mapping[str, Any] | None = None,
        **data: Any,
    ) -> int:
        """One event as it came; gives its arrival. `rolled`: the rollups have everything up to it."""
        seq = self._seqs[gate] = self._seqs.get(gate, 0) + 1
        body = {"v": events.SCHEMA, **({} if lane is None else {"lane": lane}), **data, **(more or {})}
        known = kind in set(Kind)
        raw = events.build(
            site="hq",
            gate=gate,
            epoch="e1",
            seq=seq,
            kind=Kind(kind) if known else Kind.GATE_BOOT,
            time=at,
            prevhash=events.GENESIS,
            data=body,
        )
        if not known:
            raw = raw.replace(b'"gwanmun.gate.boot"', f'"gwanmun.{kind}"'.encode()).replace(b'"v":2', b'"v":3')
        ((arrival,),) = self.db.execute("SELECT coalesce(max(arrival), 0) + 1 FROM events").fetchall()
        words = [body.get(name) for name in ("lane", "attempt", "reason", "carrier")]
        self.db.execute(
            "INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            (arrival, gate, "e1", seq, rfc3339(at), str(kind), *words, raw),
        )
        if rolled:
            self.roll(arrival)
        return int(arrival)

    def roll(self, arrival: int = 2**40) -> None:
        """The rollups have everything up to here."""
        self.db.execute("UPDATE rolled SET arrival = ?", [arrival])

    def count(
        self,
        at: datetime,
        n: int,
        kind: str = Kind.PASSAGE_COMPLETED,
        *,
        gate: str = "gate-1",
        lane: str = "l1",
        dir: str = "in",  # noqa: A002
        reason: str = "",
        carrier: str = "",
    ) -> None:
        """`n` events of a quarter of an hour in the rollups."""
        quarter = int(at.timestamp()) // 900
        day = at.astimezone(SEOUL).date().isoformat()
        for table, first in (("quarters", quarter), ("days", day)):
            self.db.execute(
                f"INSERT INTO {table} VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET n = n + excluded.n",  # noqa: S608
                (first, gate, lane, dir, str(kind), reason, carrier, n),
            )

    def day(self, counts: Iterable[int], day: datetime = DAY, **more: Any) -> None:
        """Passages of one lane, quarter after quarter."""
        for number, n in enumerate(counts):
            if n:
                self.count(day + timedelta(minutes=15 * number), n, **more)

    def took(self, at: datetime, bucket: int, n: int, *, lane: str = "l1", carrier: str = "nfc") -> None:
        self.db.execute(
            "INSERT INTO latencies VALUES (?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
            (int(at.timestamp()) // 900, "gate-1", lane, carrier, "ours", bucket, n),
        )

    def gate(self, gate: str = "gate-1", online: int | None = 1, mark: int = 10**6, stopped: int = 0) -> None:
        """A gate that was heard; its chain is whole up to `mark`."""
        self.db.execute("INSERT INTO gates VALUES (?,?,?,?,?)", (gate, "e1", "1-a", online, rfc3339(self.clock.now())))
        self.db.execute("INSERT INTO chains VALUES (?,?,?,?,?,NULL)", (gate, "e1", mark, events.GENESIS, stopped))
