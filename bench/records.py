"""Records as a gate in a lobby writes them: people are granted, the lane opens, they pass."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from protocol import events
from protocol.events import Kind

EPOCH, BOOT = "9f3c61d07be2a845", "4be1c07d92a35f68"
BEGIN = datetime(2026, 11, 24, 0, 0, tzinfo=UTC)
BETWEEN, STEP = timedelta(seconds=3), timedelta(milliseconds=700)
KINDS = (Kind.ACCESS_GRANTED, Kind.LANE_OPENED, Kind.PASSAGE_COMPLETED)
"""Of one passage, in this order."""
LANES = 2


def data(kind: Kind, passage: int) -> dict[str, Any]:
    """What the agent hands to its journal for one of KINDS; `passage` counts from 0."""
    base = {
        "lane": f"lane-{passage % LANES + 1}",
        "dir": "in" if passage % 2 else "out",
        "attempt": f"{passage:016x}",
    }
    last_byte = 412.5 + passage % 100
    if kind is Kind.LANE_OPENED:
        return base | {"lat_ms": {"recorded": last_byte + 2.1, "opened": last_byte + 2.9, "ours": 2.9}}
    if kind is Kind.PASSAGE_COMPLETED:
        return base
    stages = {
        "engage": 61.4,
        "connect": 88.9,
        "request_sent": 90.2,
        "last_byte": last_byte,
        "verified": last_byte + 1.3,
        "decided": last_byte + 1.5,
        "ours": 1.5,
    }
    return base | {
        "point": "main-hall",
        "carrier": "nfc",
        "assurance": ["holder_key"],
        "notes": ["near_edge"] if passage % 50 == 0 else [],
        "pol": "2026-11-20.3",
        "trust": "2026-11-23.17",
        "status_age_s": 1740,
        "clk": {"q": "synced", "err_ms": 12},
        "lat_ms": stages,
        "degraded": [],
    }


def chain(site: str, gate: str, count: int, begin: datetime = BEGIN) -> list[bytes]:
    """The first `count` records of a storage epoch that begins then, each naming the hash of the one before."""
    found: list[bytes] = []
    previous = events.GENESIS
    for number in range(count):
        passage, step = divmod(number, len(KINDS))
        always = {
            "v": events.SCHEMA,
            "boot": BOOT,
            "mono": 86_400_000 + number * 1000,
            "clk": {"q": "synced", "err_ms": 12},
        }
        raw = events.build(
            site=site,
            gate=gate,
            epoch=EPOCH,
            seq=number + 1,
            kind=KINDS[step],
            time=begin + passage * BETWEEN + step * STEP,
            prevhash=previous,
            data=always | data(KINDS[step], passage),
        )
        previous = events.record_hash(raw)
        found.append(raw)
    return found
