"""The emergency state of a site: the lockdown level of every zone, in one retained, signed message.

Always the whole state. It is issued again every minute with the same sequence, so that a gate that joins late learns what is in
force; a change raises the sequence. A gate adopts higher sequences only. `not_after` limits adoption by a gate that has none.

    payload   {"site": tstr, "sequence": uint, "issued": tdate, "not_after": tdate, "levels": {* tstr => 0..9}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cbor
from mdoc.errors import MdocError
from mdoc.issuerlist import format_tdate
from mdoc.mso import tdate
from protocol import fields, topics
from protocol.command import CommandError, Sealed, open_text, seal
from protocol.fields import PayloadError

TYPE = "application/gwanmun-emergency+cbor"
MAX_BYTES = 8192
MAX_ZONES = 64
MAX_LEVEL = 9
"""Highest lockdown level (gate_agent.passage)."""
MAX_SEQUENCE = 2**63 - 1
REISSUE_S = 60.0
VALID_S = 3600.0
"""From `issued` to `not_after`: how long after the controller's last word a new gate still takes it."""


@dataclass(frozen=True, slots=True)
class Emergency:
    site: str
    sequence: int
    """From 1."""
    issued: datetime
    not_after: datetime
    levels: Mapping[str, int] = field(default_factory=dict)
    """By zone; a zone that is not named is at 0."""

    def encode(self, key: ec.EllipticCurvePrivateKey) -> bytes:
        levels = {zone: level for zone, level in sorted(self.levels.items()) if level}
        payload: dict[str, Any] = {
            "site": self.site,
            "sequence": self.sequence,
            "issued": format_tdate(self.issued),
            "not_after": format_tdate(self.not_after),
            "levels": levels,
        }
        sealed = seal(cbor.encode(payload), key, TYPE)
        return fields.encode({"sequence": self.sequence, "levels": levels, "sealed": sealed})


@dataclass(frozen=True, slots=True)
class Unverified:
    """A message as it came: whose key it names, and what is to be read once the signature is checked."""

    sealed: Sealed
    beside: tuple[object, object]
    """Sequence and levels as they stand beside the sealed ones, for people to read."""


def parse(raw: bytes) -> Unverified:
    """Raises CommandError."""
    try:
        body = fields.read(raw, MAX_BYTES)
        found = Unverified(open_text(body.take("sealed"), TYPE), (body.take("sequence"), body.take("levels")))
        body.done()
    except PayloadError as error:
        raise CommandError(str(error)) from error
    return found


def read(found: Unverified) -> Emergency:
    """The state, where the signature was checked. Raises CommandError."""
    try:
        body = cbor.decode_map(found.sealed.payload)
        if set(body) != {"site", "sequence", "issued", "not_after", "levels"}:
            raise CommandError("site, sequence, issued, not_after and levels are expected")
        issued, not_after = tdate(body["issued"], "issued"), tdate(body["not_after"], "not_after")
    except MdocError as error:
        raise CommandError(str(error)) from error
    site, sequence, levels = body["site"], body["sequence"], body["levels"]
    if type(site) is not str or not topics.ID.fullmatch(site):
        raise CommandError("site: a site's name is expected")
    if type(sequence) is not int or not 1 <= sequence <= MAX_SEQUENCE:
        raise CommandError("sequence: a number from 1 is expected")
    if type(levels) is not dict or len(levels) > MAX_ZONES:
        raise CommandError(f"levels: a map of at most {MAX_ZONES} zones is expected")
    for zone, level in levels.items():
        if type(zone) is not str or not topics.ZONE.fullmatch(zone) or type(level) is not int:
            raise CommandError("levels: zones and levels are expected")
        if not 1 <= level <= MAX_LEVEL:
            raise CommandError(f"levels: levels from 1 to {MAX_LEVEL} are expected")
    if (sequence, levels) != found.beside:
        raise CommandError("the values beside the sealed ones are others")
    return Emergency(site, sequence, issued, not_after, levels)
