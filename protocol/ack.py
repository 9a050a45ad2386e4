"""The controller's acknowledgement: the highest record it holds without a hole before it, signed.

Only this message lets a gate forget an outbox row: an MQTT PUBACK proves that the broker has a message, not that the
controller has stored it (mosquitto loses acknowledged messages when killed). It is signed, so that neither the broker nor
another client can make a gate forget.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc.cose import PublicKey
from protocol.statement import Purpose, Statement, StatementError, open_sealed

MAX_BYTES = 1536


@dataclass(frozen=True, slots=True)
class Ack:
    epoch: str
    seq: int
    hash: str
    """Record hash (hex) of record `seq`; the gate compares its own first."""

    def encode(self, site: str, gate: str, key: ec.EllipticCurvePrivateKey) -> bytes:
        sealed = Statement(site, gate, self.epoch, 1, self.seq, self.hash).seal(Purpose.ACK, key)
        body = {"v": 1, "epoch": self.epoch, "seq": self.seq, "hash": self.hash, "sealed": sealed}
        return json.dumps(body, separators=(",", ":")).encode()


def parse(raw: bytes, site: str, gate: str, signer: PublicKey) -> Ack:
    """Raises ValueError on anything but an acknowledgement for this gate, signed by `signer`."""
    if len(raw) > MAX_BYTES:
        raise ValueError("acknowledgement too long")
    try:
        body = json.loads(raw)
    except RecursionError as error:
        raise ValueError("not an acknowledgement") from error
    match body:
        case {"v": 1, "epoch": str(epoch), "seq": int(seq), "hash": str(record), "sealed": str(sealed)}:
            found = open_sealed(sealed, Purpose.ACK, signer)
        case _:
            raise ValueError("not an acknowledgement")
    if (found.site, found.gate) != (site, gate):
        raise StatementError("an acknowledgement for another gate")
    if (found.epoch, found.last, found.hash) != (epoch, seq, record):
        raise StatementError("the values beside the sealed ones are others")
    return Ack(epoch, seq, record)
