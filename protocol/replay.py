"""The controller asks a gate for records again: a hole that does not close, or a database restored from a backup. Signed.

Whoever repeats an old request makes the gate send what the controller holds already, which changes nothing; the gate answers
one request at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc.cose import PublicKey
from protocol import fields
from protocol.events import GENESIS
from protocol.statement import Purpose, Statement, StatementError, addressed

MAX_BYTES = 1536
EXPIRY_S = 60
"""Message expiry: a gate that is away is asked again when it is back."""


@dataclass(frozen=True, slots=True)
class Replay:
    epoch: str
    first: int
    last: int
    """Inclusive."""

    def encode(self, site: str, gate: str, key: ec.EllipticCurvePrivateKey) -> bytes:
        sealed = Statement(site, gate, self.epoch, self.first, self.last, GENESIS).seal(Purpose.REPLAY, key)
        return fields.encode({"epoch": self.epoch, "from": self.first, "to": self.last, "sealed": sealed})


def parse(raw: bytes, site: str, gate: str, signer: PublicKey) -> Replay:
    """Raises ValueError on anything but a request to this gate, signed by `signer`."""
    body = fields.read(raw, MAX_BYTES)
    shown = Replay(body.word("epoch"), body.number("from", 1), body.number("to", 1))
    found = addressed(body, Purpose.REPLAY, site, gate, signer)
    if shown != Replay(found.epoch, found.first, found.last):
        raise StatementError("the values beside the sealed ones are others")
    return shown
