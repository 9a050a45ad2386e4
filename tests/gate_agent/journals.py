"""Journals for tests: made by the product's own store and thread, with a pinned clock and a key."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from gate_agent.journal import Journal
from gate_agent.record import Entry, Record
from gate_agent.store import Store
from protocol import events
from protocol.events import Event, Kind
from tests.gate_agent.fakes import FakeClock

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = KEY.public_key()
SITE, GATE = "seoul-1", "gate-1"


@asynccontextmanager
async def journal_at(path: Path, clock: FakeClock | None = None, **more: Any) -> AsyncIterator[Journal]:
    journal = Journal(
        path, site=SITE, gate=GATE, **{"clock": clock or FakeClock(), "random_bytes": os.urandom, "sign": KEY, **more}
    )
    await journal.start()
    try:
        yield journal
    finally:
        await journal.stop()


def store_at(path: Path, random_bytes: Callable[[int], bytes] = os.urandom, **more: Any) -> Store:
    return Store(path, site=SITE, gate=GATE, random_bytes=random_bytes, **{"sign": KEY, **more})


def write(store: Store, clock: FakeClock, entries: Iterable[tuple[Kind, dict[str, Any]]]) -> list[Record]:
    """In one commit."""
    store.begin()
    found = [store.add(Entry(kind, data, clock.now())) for kind, data in entries]
    store.commit()
    return found


def alarms(count: int, size: int = 0) -> list[tuple[Kind, dict[str, Any]]]:
    return [(Kind.ALARM_FORCED, {"lane": f"lane-{number}", "pad": "x" * size}) for number in range(count)]


def health(count: int, size: int = 400) -> list[tuple[Kind, dict[str, Any]]]:
    return [(Kind.DEVICE_DEGRADED, {"device": f"camera-{number}", "pad": "x" * size}) for number in range(count)]


def grant(attempt: str, way: str = "in") -> dict[str, Any]:
    return {"lane": "lane-1", "dir": way, "attempt": attempt}


def held(path: Path) -> list[Event]:
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT raw FROM records WHERE raw IS NOT NULL ORDER BY seq").fetchall()
    return [events.parse(raw) for (raw,) in rows]


def kinds(path: Path) -> list[Kind | str]:
    return [event.kind for event in held(path)]


def change(path: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    """As somebody with the file and sqlite3 would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for sql, values in statements:
            db.execute(sql, values)
