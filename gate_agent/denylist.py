"""The signed deny list: "this phone is lost, stop now". Its format can only refuse.

    deny.cose   COSE_Sign1 (tag 18), protected {1: alg, 16: "application/gwanmun-deny+cbor"}, payload
                {"version": uint, "date": tdate, "deny": [* bstr .size 32]}

Each entry is SHA-256 over one of
    status reference   "gwanmun-deny-status" || 0x00 || UTF-8 of the status list's address || 0x00 || index as 8 bytes, big-endian
    device key         the COSE Key Thumbprint (RFC 9679): the deterministic encoding of the key's required parameters only,
                       for EC2 {1: kty, -1: crv, -2: x, -3: y} with y as a byte string, for OKP {1: kty, -1: crv, -2: x},
                       for RSA {1: kty, -1: n, -2: e} (RFC 8230 4); a card's key likewise
Both look-ups are made in memory; neither a hash nor the entry that matched may reach an event, a log or a metric.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mdoc import cbor, cose
from mdoc.errors import MalformedError, TrustError
from mdoc.issuerlist import format_tdate
from mdoc.mso import tdate
from protocol.signed import open_signed, seal

TYPE = "application/gwanmun-deny+cbor"
FILE = "deny.cose"
ENTRY = 32
"""Bytes of an entry."""
MAX_ENTRIES = 4_000
"""Phones reported lost between two issues of the status list: a few a day. Bounded by the CBOR reader as well."""
MAX_FILE = MAX_ENTRIES * (ENTRY + 2) + 1024
_STATUS = b"gwanmun-deny-status\x00"

AnyKey = cose.PublicKey | rsa.RSAPublicKey
"""Of a phone, a pass or a card."""


@dataclass(frozen=True, slots=True)
class DenyList:
    """`version` rises with every issue. An empty list denies nobody."""

    version: int = 0
    date: datetime | None = None
    entries: frozenset[bytes] = field(default=frozenset(), repr=False)

    def denies(self, candidates: Iterable[bytes]) -> bool:
        """`candidates`: what `status_entry` and `key_entry` give for one presentation."""
        return any(candidate in self.entries for candidate in candidates)


def status_entry(uri: str, index: int) -> bytes:
    """The entry for a credential's status reference, 32 bytes."""
    return hashlib.sha256(_STATUS + uri.encode() + b"\x00" + index.to_bytes(8, "big")).digest()


def key_entry(key: AnyKey) -> bytes:
    """The entry for a device, pass or card key: its COSE Key Thumbprint with SHA-256 (RFC 9679 3), 32 bytes."""
    fields: dict[int, Any]
    if isinstance(key, ec.EllipticCurvePublicKey):
        fields = cose.cose_key(key)
    elif isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        modulus, exponent = (each.to_bytes((each.bit_length() + 7) // 8) for each in (numbers.n, numbers.e))
        fields = {1: 3, -1: modulus, -2: exponent}
    else:
        curve = 6 if isinstance(key, ed25519.Ed25519PublicKey) else 7
        fields = {1: 1, -1: curve, -2: key.public_bytes(Encoding.Raw, PublicFormat.Raw)}
    # Deterministic order (RFC 8949 4.2.1) of these labels is 1, -1, -2, -3, which is the order they are made in.
    return hashlib.sha256(cbor.encode(fields)).digest()


def parse(raw: bytes, signer: cose.PublicKey, *, in_force: int | None = None) -> DenyList:
    """Read and verify a list. `in_force`: version of the list in use.

    Raises MalformedError for bad bytes; TrustError where `signer` did not sign it or its version goes back.
    """
    body = open_signed(raw, signer, TYPE, "deny list")
    version, entries = body.get("version"), body.get("deny")
    if type(version) is not int or version < 0 or type(entries) is not list or set(body) != {"version", "date", "deny"}:
        raise MalformedError("deny list: version, date and deny are expected, and nothing else")
    if len(entries) > MAX_ENTRIES or not all(type(entry) is bytes and len(entry) == ENTRY for entry in entries):
        raise MalformedError(f"deny list: at most {MAX_ENTRIES} entries of {ENTRY} bytes are expected")
    if in_force is not None and version < in_force:
        raise TrustError(f"deny list: version {version} goes back behind {in_force}")
    return DenyList(version, tdate(body["date"], "deny list date"), frozenset(entries))


def load(directory: Path, signer: cose.PublicKey, *, in_force: int | None = None) -> DenyList:
    """The list of a trust directory, empty where there is none. Raises MalformedError or TrustError: then the old one stays."""
    try:
        with (directory / FILE).open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        if in_force:
            raise TrustError("deny list: the list in force was taken away") from None
        return DenyList()
    except OSError as error:
        raise TrustError(f"deny list: {error.strerror}") from error
    if len(raw) > MAX_FILE:
        raise MalformedError(f"deny list: at most {MAX_FILE} bytes are expected")
    return parse(raw, signer, in_force=in_force)


def build(entries: Iterable[bytes], *, version: int, date: datetime, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A signed list (the issuer's side). Sorted, so that its order tells nothing."""
    payload: dict[str, Any] = {"version": version, "date": format_tdate(date), "deny": sorted(set(entries))}
    return seal(payload, TYPE, key)
