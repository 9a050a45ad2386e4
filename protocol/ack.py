"""The controller's acknowledgement: the highest record it holds without a hole before it, signed.

Only this message lets a gate forget an outbox row: an MQTT PUBACK proves that the broker has a message, not that the
controller has stored it (mosquitto loses acknowledged messages when killed). It is signed, so that neither the broker nor
another client can make a gate forget.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc.cose import PublicKey
from protocol import events, fields
from protocol.statement import Purpose, Statement, StatementError, addressed

MAX_BYTES = 1536


@dataclass(frozen=True, slots=True)
class Ack:
    epoch: str
    seq: int
    hash: str
    """Record hash (hex) of record `seq`; the gate compares its own first."""

    def encode(self, site: str, gate: str, key: ec.EllipticCurvePrivateKey) -> bytes:
        sealed = Statement(site, gate, self.epoch, 1, self.seq, self.hash).seal(Purpose.ACK, key)
        return fields.encode({"epoch": self.epoch, "seq": self.seq, "hash": self.hash, "sealed": sealed})


def parse(raw: bytes, site: str, gate: str, signer: PublicKey) -> Ack:
    """Raises ValueError on anything but an acknowledgement for this gate, signed by `signer`."""
    body = fields.read(raw, MAX_BYTES)
    shown = Ack(body.word("epoch"), body.number("seq", 1), body.text("hash", events.HASH, "a SHA-256 in hex"))
    found = addressed(body, Purpose.ACK, site, gate, signer)
    if shown != Ack(found.epoch, found.last, found.hash):
        raise StatementError("the values beside the sealed ones are others")
    return shown
