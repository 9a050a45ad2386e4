"""The controller's acknowledgement: the highest record it holds without a hole before it.

Only this message lets a gate forget an outbox row: an MQTT PUBACK proves that the broker has a message, not that the
controller has stored it (mosquitto loses acknowledged messages when killed).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

MAX_BYTES = 512


@dataclass(frozen=True, slots=True)
class Ack:
    epoch: str
    seq: int
    hash: str
    """Record hash (hex) of record `seq`; the gate compares its own first."""

    def encode(self) -> bytes:
        return json.dumps({"v": 1, "epoch": self.epoch, "seq": self.seq, "hash": self.hash}).encode()


def parse(raw: bytes) -> Ack:
    """Raises ValueError on anything but an acknowledgement."""
    if len(raw) > MAX_BYTES:
        raise ValueError("acknowledgement too long")
    try:
        body = json.loads(raw)
    except RecursionError as error:
        raise ValueError("not an acknowledgement") from error
    match body:
        case {"v": 1, "epoch": str(epoch), "seq": int(seq), "hash": str(record)} if (
            not isinstance(seq, bool) and seq >= 1 and len(record) == 64
        ):
            return Ack(epoch, seq, record)
        case _:
            raise ValueError("not an acknowledgement")
