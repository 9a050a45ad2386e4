"""Signed visit records: who presents may enter these zones in this time, with or without a host.

    visits/*.cose   COSE_Sign1 (tag 18), protected {1: alg, 16: "application/gwanmun-visit+cbor"}, payload
                    {"version": 1, "visitor": bstr .size 32, "zones": [+ tstr], "from": tdate, "until": tdate,
                     "hostRequired": bool, ? "host": bstr .size 32}

`visitor` and `host` are SHA-256 of a holder handle under "gwanmun-visit-handle" || 0x00, or the thumbprint of a pass key
(gate_agent.denylist.key_entry). They are compared in memory and never leave it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cose
from mdoc.errors import MalformedError, MdocError
from mdoc.issuerlist import format_tdate
from mdoc.mso import tdate
from policy.situation import Visit
from protocol.signed import open_signed, seal

TYPE = "application/gwanmun-visit+cbor"
FOLDER = "visits"
TOKEN = 32
MAX_FILE = 4096
"""Bytes of one record; 32 zones with long names take under 3,000."""
MAX_RECORDS = 2_000
"""Records held at once: the visitors of a large complex on one day."""
MAX_ZONES = 32
MAX_LENGTH = timedelta(days=31)
"""Longest visit; what lasts longer is a contractor's own credential."""
_KEYS = frozenset({"version", "visitor", "zones", "from", "until", "hostRequired"})
_HANDLE = b"gwanmun-visit-handle\x00"


@dataclass(frozen=True, slots=True)
class Record:
    visitor: bytes = field(repr=False)
    visit: Visit
    host: bytes | None = field(default=None, repr=False)
    """The one host who counts; None: any."""


class Visits:
    """The records in use, by visitor."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        found: dict[bytes, list[Record]] = {}
        for record in records:
            found.setdefault(record.visitor, []).append(record)
        self._by_visitor: Mapping[bytes, list[Record]] = found

    def __len__(self) -> int:
        return sum(map(len, self._by_visitor.values()))

    def find(self, candidates: Iterable[bytes], zone: str, now: datetime) -> Record | None:
        """The record that helps this presentation most: one that holds here and now, else for this zone, else any."""
        found = [record for candidate in candidates for record in self._by_visitor.get(candidate, ())]

        def fits(record: Record) -> tuple[bool, bool, datetime]:
            visit = record.visit
            here = zone in visit.zones
            return here and visit.not_before <= now < visit.not_after, here, visit.not_after

        return max(found, key=fits, default=None)


def load(folder: Path, signer: cose.PublicKey) -> tuple[Visits, list[str]]:
    """Every record of a folder, and `file: what is wrong` for those left out. A folder that is absent holds none."""
    records: list[Record] = []
    problems: list[str] = []
    for number, path in enumerate(sorted(folder.glob("*.cose")) if folder.is_dir() else ()):
        if number >= MAX_RECORDS:
            problems.append(f"{folder.name}: more than {MAX_RECORDS} records")
            break
        try:
            with path.open("rb") as file:
                records.append(parse(file.read(MAX_FILE + 1), signer))
        except (MdocError, OSError) as error:
            # The number in place of the name: whoever wrote the file may have named it after the visitor.
            problems.append(
                f"{folder.name}: record {number + 1}: {error if isinstance(error, MdocError) else error.strerror}"
            )
    return Visits(records), problems


def handle_token(handle: bytes) -> bytes:
    """`visitor` or `host` for a holder handle, 32 bytes."""
    return hashlib.sha256(_HANDLE + handle).digest()


def parse(raw: bytes, signer: cose.PublicKey) -> Record:
    """Read and verify one record. Raises MalformedError, or TrustError where `signer` did not sign it."""
    if len(raw) > MAX_FILE:
        raise MalformedError(f"visit: at most {MAX_FILE} bytes are expected")
    body = open_signed(raw, signer, TYPE, "visit")
    if set(body) - {"host"} != _KEYS or body["version"] != 1:
        raise MalformedError(f"visit: version 1 with {', '.join(sorted(_KEYS))} is expected")
    zones, host = body["zones"], body.get("host")
    if type(zones) is not list or not 0 < len(zones) <= MAX_ZONES or not all(type(z) is str and z for z in zones):
        raise MalformedError(f"visit: zones are one to {MAX_ZONES} names")
    if type(body["hostRequired"]) is not bool or ("host" in body and not body["hostRequired"]):
        raise MalformedError("visit: hostRequired is true or false, and true with a host")
    for name in ("visitor", "host"):
        if name in body and (type(body[name]) is not bytes or len(body[name]) != TOKEN):
            raise MalformedError(f"visit: {name} is {TOKEN} bytes")
    begin, end = tdate(body["from"], "visit from"), tdate(body["until"], "visit until")
    if not begin < end <= begin + MAX_LENGTH:
        raise MalformedError(f"visit: until lies after from, by at most {MAX_LENGTH.days} days")
    return Record(body["visitor"], Visit(frozenset(zones), begin, end, body["hostRequired"]), host)


def build(record: Record, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A signed record (the issuer's side)."""
    payload: dict[str, Any] = {
        "version": 1,
        "visitor": record.visitor,
        "zones": sorted(record.visit.zones),
        "from": format_tdate(record.visit.not_before),
        "until": format_tdate(record.visit.not_after),
        "hostRequired": record.visit.host_required,
    }
    if record.host is not None:
        payload["host"] = record.host
    return seal(payload, TYPE, key)
