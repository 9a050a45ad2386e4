"""Many records in one message, for an outbox that is behind: the JSON batch of CloudEvents 1.0, one record a line.

A record holds no line break (protocol.events.build writes none, and JSON escapes them), so the exact bytes of each come back
by cutting at the lines; nothing is re-encoded.
"""

from __future__ import annotations

from collections.abc import Sequence

CONTENT_TYPE = "application/cloudevents-batch+json"
MAX_RECORDS = 100
MAX_BYTES = 60_000
"""Below the limit of a packet, with room for topic and properties (protocol.mqtt_settings)."""
_OPEN, _BETWEEN, _CLOSE = b"[\n", b",\n", b"\n]"


class PackError(ValueError):
    """A message that is no batch of this form."""


def pack(records: Sequence[bytes]) -> bytes:
    """At least one record; `split` gives the same back. The caller keeps to the limits (`fitting`)."""
    return _OPEN + _BETWEEN.join(records) + _CLOSE


def fitting(records: Sequence[bytes]) -> int:
    """How many of `records`, from the first, one message takes; at least one."""
    size, found = len(_OPEN) + len(_CLOSE), 0
    for record in records[:MAX_RECORDS]:
        size += len(record) + len(_BETWEEN)
        if size > MAX_BYTES:
            break
        found += 1
    return max(found, 1) if records else 0


def packed(payload: bytes) -> bool:
    """A batch begins as no single record does."""
    return payload.startswith(b"[")


def split(payload: bytes) -> list[bytes]:
    """The records, their exact bytes; that each is one is for the caller to see. Raises PackError."""
    if not (payload.startswith(_OPEN) and payload.endswith(_CLOSE)) or len(payload) <= len(_OPEN) + len(_CLOSE):
        raise PackError("a batch, one record a line, is expected")
    if payload.count(_BETWEEN) >= MAX_RECORDS:
        raise PackError(f"at most {MAX_RECORDS} records are expected")
    return payload[len(_OPEN) : -len(_CLOSE)].split(_BETWEEN)
