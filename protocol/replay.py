"""The controller asks a gate for records again: a hole that does not close, or a database restored from a backup. Signed.

Whoever repeats an old request makes the gate send what the controller holds already, which changes nothing; the gate answers
one request at a time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc.cose import PublicKey
from protocol.events import GENESIS
from protocol.statement import Purpose, Statement, StatementError, open_sealed

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
        body = {"v": 1, "epoch": self.epoch, "from": self.first, "to": self.last, "sealed": sealed}
        return json.dumps(body, separators=(",", ":")).encode()


def parse(raw: bytes, site: str, gate: str, signer: PublicKey) -> Replay:
    """Raises ValueError on anything but a request to this gate, signed by `signer`."""
    if len(raw) > MAX_BYTES:
        raise ValueError("replay request too long")
    try:
        body = json.loads(raw)
    except RecursionError as error:
        raise ValueError("not a replay request") from error
    match body:
        case {"v": 1, "epoch": str(epoch), "from": int(first), "to": int(last), "sealed": str(sealed)}:
            found = open_sealed(sealed, Purpose.REPLAY, signer)
        case _:
            raise ValueError("not a replay request")
    if (found.site, found.gate) != (site, gate):
        raise StatementError("a request to another gate")
    if (found.epoch, found.first, found.last) != (epoch, first, last):
        raise StatementError("the values beside the sealed ones are others")
    return Replay(epoch, first, last)
