"""Gates, events and alarms as JSON: of the read API and of the live stream the same. No operator is named in any."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from controller.live import Gate, Lane, Live
from controller.orders import OrderRow
from controller.query_rows import Cell, ChangeRow, EventRow, Muster, ZoneCount
from protocol.clock import rfc3339

MAX_DEPTH = 6
"""Of what a gate puts into the data of an event; deeper is left out."""


def clean(value: Any, depth: int = MAX_DEPTH) -> Any:
    """What came from a gate, so that it can be written as JSON in UTF-8: no lone surrogate, no infinity, not too deep."""
    match value:
        case str():
            return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
        case float():
            return value if math.isfinite(value) else None
        case dict() if depth:
            return {clean(name): clean(each, depth - 1) for name, each in value.items()}
        case list() if depth:
            return [clean(each, depth - 1) for each in value]
        case None | bool() | int():
            return value
        case _:
            return None


def event(row: EventRow) -> dict[str, Any]:
    view = {
        "time": row.time,
        "gate": row.gate,
        "lane": row.lane,
        "dir": row.dir,
        "kind": row.kind,
        "reason": row.reason,
        "carrier": row.carrier,
        "detail": dict(row.detail),
    }
    if row.id is not None:
        view |= {"id": row.id, "attempt": row.attempt}
    cleaned: dict[str, Any] = clean(view)
    return cleaned


def gates(live: Live, now: datetime) -> list[dict[str, Any]]:
    lanes: dict[str, list[Lane]] = {}
    for _, each in sorted(live.lanes.items()):
        lanes.setdefault(each.gate, []).append(each)
    return [gate(each, lanes.get(name, []), now) for name, each in sorted(live.gates.items())]


def gate(found: Gate, lanes: Iterable[Lane], now: datetime) -> dict[str, Any]:
    """A gate as it is now; what its health says is null once it is too old."""
    health = found.fresh_health(now)
    return {
        "gate": found.id,
        "online": found.online,
        "boot": found.boot,
        "last_seen": None if found.last_seen is None else rfc3339(found.last_seen),
        "alarms": len(found.open),
        "health": None
        if health is None
        else {
            "version": health.version,
            "clock": health.clock,
            "outbox": health.outbox,
            "trust": health.trust,
            "degraded": list(health.degraded),
        },
        "lanes": [
            {"lane": lane.id, "dir": lane.direction or None, "state": lane.state, "degraded": list(lane.degraded)}
            for lane in lanes
        ],
    }


def cell(row: Cell) -> dict[str, Any]:
    """Of the building: neither gate nor lane."""
    found = {
        "begin": row.begin,
        "gate": row.gate or None,
        "lane": row.lane or None,
        "dir": row.dir or None,
        "n": row.n,
    }
    cleaned: dict[str, Any] = clean(found)
    return cleaned


def change(row: ChangeRow) -> dict[str, Any]:
    """As the live stream tells it (controller.stream)."""
    return {"id": row.id, "time": row.time, "change": row.change, "alarm": dict(row.body)}


def order(row: OrderRow) -> dict[str, Any]:
    """Who gave it stands in the controller's database alone (docs/privacy.md): here are the roles."""
    return {
        "id": row.id,
        "time": row.time,
        "gate": row.gate,
        "lane": row.lane,
        "verb": row.verb,
        "args": dict(row.args),
        "role": row.operator.role,
        "second_role": None if row.second is None else row.second.role,
        "outcome": row.outcome,
        "answer": None if row.answer is None else dict(row.answer),
    }


def zone(row: ZoneCount) -> dict[str, Any]:
    return {
        "zone": row.zone,
        "count": row.count,
        "uncertain": row.uncertain,
        "certain": row.certain,
        "reasons": list(row.reasons),
    }


def muster(found: Muster) -> dict[str, Any]:
    return {
        "since": found.since,
        "zones": [zone(each) for each in found.zones],
        "gates": [
            {"gate": each.gate, "why": each.why, "last_seen": each.last_seen, "zones": list(each.zones)}
            for each in found.gates
        ],
        "lanes": list(found.lanes),
    }
