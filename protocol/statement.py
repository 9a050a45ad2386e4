"""Signed statements about a gate's records: what the controller holds or asks for again, what a gate vouches for or has lost.

One form for all of them, so that there is one place to sign and one to check. `first` to `last` are sequence numbers of one
storage epoch of one gate, `hash` is the record hash of `last`. The COSE_Sign1 travels as base64url text inside JSON, beside the
same values for people to read; the signed ones count, and others beside them are refused.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc.cose import PublicKey
from mdoc.errors import MdocError
from protocol.fields import Fields
from protocol.signed import open_signed, seal

MAX_SEALED = 1024
"""Characters of the sealed form; some 420 are used."""
_SEALED = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_SEALED}}}")
_NAMES = ("site", "gate", "epoch", "from", "to", "hash")


class Purpose(StrEnum):
    """The type header of each kind: a signature made for one is none for another."""

    ACK = "ack"
    """By the controller: it holds every record up to `last` (protocol.ack)."""
    REPLAY = "replay"
    """By the controller: it asks for these records again (protocol.replay)."""
    CHECKPOINT = "checkpoint"
    """By the gate: its journal up to `last` is as it wrote it."""
    GAP = "gap"
    """By the gate: these records are gone before the controller had them."""
    PRUNED = "pruned"
    """By the gate: these records were held by the controller and have been removed."""

    @property
    def type(self) -> str:
        return f"application/gwanmun-{self}+cbor"


class StatementError(ValueError):
    """No statement of this purpose, or not signed by whom it should be."""


@dataclass(frozen=True, slots=True)
class Statement:
    site: str
    gate: str
    epoch: str
    first: int
    last: int
    hash: str
    """Hex."""

    def seal(self, purpose: Purpose, key: ec.EllipticCurvePrivateKey) -> str:
        values = (self.site, self.gate, self.epoch, self.first, self.last, bytes.fromhex(self.hash))
        signed = seal(dict(zip(_NAMES, values, strict=True)), purpose.type, key)
        return base64.urlsafe_b64encode(signed).decode("ascii").rstrip("=")

    def data(self, purpose: Purpose, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
        """As a record's data has it: the values to read, and the sealed form."""
        return {"from": self.first, "to": self.last, "hash": self.hash, "sealed": self.seal(purpose, key)}


def open_sealed(text: object, purpose: Purpose, signer: PublicKey) -> Statement:
    """The statement in its sealed form. Raises StatementError."""
    if not isinstance(text, str) or len(text) > MAX_SEALED:
        raise StatementError("sealed: base64url text is expected")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        body = open_signed(raw, signer, purpose.type, "statement")
    except (binascii.Error, ValueError, MdocError) as error:
        raise StatementError(f"sealed: {error}") from error
    if set(body) != set(_NAMES):
        raise StatementError("sealed: its six fields are expected")
    site, gate, epoch, first, last, digest = (body[name] for name in _NAMES)
    if not all(isinstance(each, str) and len(each) <= 64 for each in (site, gate, epoch)):
        raise StatementError("sealed: names of at most 64 characters are expected")
    if not (type(first) is int and type(last) is int and 1 <= first <= last < 2**63):
        raise StatementError("sealed: sequence numbers are expected")
    if not isinstance(digest, bytes) or len(digest) != 32:
        raise StatementError("sealed: a SHA-256 is expected")
    return Statement(site, gate, epoch, first, last, digest.hex())


def from_data(data: Any, purpose: Purpose, signer: PublicKey) -> Statement:
    """The statement in a record's data. Raises StatementError, also where the values beside it are others."""
    found = open_sealed(data.get("sealed"), purpose, signer)
    if (found.first, found.last, found.hash) != (data.get("from"), data.get("to"), data.get("hash")):
        raise StatementError("the values beside the sealed ones are others")
    return found


def addressed(body: Fields, purpose: Purpose, site: str, gate: str, signer: PublicKey) -> Statement:
    """The statement in a message of the controller to one gate, whose other fields have been taken. Raises ValueError, also for
    one that is meant for another gate."""
    sealed = body.text("sealed", _SEALED, "base64url text")
    body.done()
    found = open_sealed(sealed, purpose, signer)
    if (found.site, found.gate) != (site, gate):
        raise StatementError("it is about another gate")
    return found
