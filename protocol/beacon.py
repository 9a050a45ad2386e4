"""The controller's time, every 30 s to every gate, QoS 0. Unsigned: a gate measures its drift by it, no more."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from protocol import fields
from protocol.clock import rfc3339

MAX_BYTES = 256
INTERVAL_S = 30.0
EXPIRY_S = 5
"""Message expiry: an older beacon measures the queue, not the clock."""
TIME = re.compile(r"2\d{3}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z")
"""RFC 3339 as protocol.clock.rfc3339 writes it."""


@dataclass(frozen=True, slots=True)
class Beacon:
    t: datetime
    """Controller's time when it was sent; aware, whole milliseconds."""
    seq: int
    """From 1, anew with each start of the controller; a gate that sees it go back knows of the restart."""

    def encode(self) -> bytes:
        return fields.encode({"t": rfc3339(self.t), "seq": self.seq})


def parse(raw: bytes) -> Beacon:
    """Raises PayloadError."""
    body = fields.read(raw, MAX_BYTES)
    stated = body.text("t", TIME, "a time such as 2026-11-24T01:02:03.456Z")
    try:
        moment = datetime.fromisoformat(stated).astimezone(UTC)
    except ValueError:
        raise body.error("t", "a time that exists") from None
    beacon = Beacon(moment, body.number("seq", 1))
    body.done()
    return beacon
