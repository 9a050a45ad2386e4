"""The signed list of keys that may order something from afar: which key, which verbs, for whom, where, until when.

    commands.cose   COSE_Sign1 (tag 18), protected {1: alg, 16: "application/gwanmun-command-keys+cbor"}, payload
                    {"version": uint, "date": tdate, "keys": [* {"key": COSE_Key, "verbs": [+ tstr], "roles": [+ tstr],
                     "zones": [+ tstr], "not_after": tdate}]}

An officer's own key signs it (`[trust] command_key`), so that whoever takes over the controller cannot widen it. A zone "*" is
every zone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cose
from mdoc.errors import MalformedError, TrustError
from mdoc.issuerlist import format_tdate
from mdoc.mso import tdate
from protocol import topics
from protocol.command import kid_of
from protocol.fields import WORD
from protocol.signed import open_signed, seal

TYPE = "application/gwanmun-command-keys+cbor"
FILE = "commands.cose"
MAX_KEYS = 64
MAX_WORDS = 64
"""Verbs, roles or zones of one key."""
MAX_FILE = 131_072
ANY = "*"
_FIELDS = frozenset({"key", "verbs", "roles", "zones", "not_after"})


@dataclass(frozen=True, slots=True)
class CommandKey:
    key: ec.EllipticCurvePublicKey
    verbs: frozenset[str]
    """protocol.command.CommandVerb, or protocol.command.EMERGENCY."""
    roles: frozenset[str]
    """Who may speak through this key."""
    zones: frozenset[str]
    not_after: datetime

    def may(self, verb: str, role: str, zones: Collection[str], now: datetime | None) -> bool:
        """In `zones`, all of them. `now` None: the gate does not know the time, and no key has run out."""
        everywhere = ANY in self.zones
        return (
            verb in self.verbs
            and role in self.roles
            and (everywhere or (bool(zones) and self.zones.issuperset(zones)))
            and (now is None or now <= self.not_after)
        )


@dataclass(frozen=True, slots=True)
class CommandKeys:
    """`version` rises with every issue. An empty list lets nobody order anything."""

    version: int = 0
    date: datetime | None = None
    by_kid: Mapping[bytes, CommandKey] = field(default_factory=dict)


def parse(raw: bytes, signer: cose.PublicKey, *, in_force: int | None = None) -> CommandKeys:
    """Read and verify a list. `in_force`: version of the list in use.

    Raises MalformedError for bad bytes; TrustError where `signer` did not sign it or its version goes back.
    """
    body = open_signed(raw, signer, TYPE, "command keys")
    if set(body) != {"version", "date", "keys"}:
        raise MalformedError("command keys: version, date and keys are expected, and nothing else")
    version, keys = body["version"], body["keys"]
    if type(version) is not int or version < 0:
        raise MalformedError("command keys: version is a whole number")
    if type(keys) is not list or len(keys) > MAX_KEYS:
        raise MalformedError(f"command keys: at most {MAX_KEYS} keys are expected")
    if in_force is not None and version < in_force:
        raise TrustError(f"command keys: version {version} goes back behind {in_force}")
    found: dict[bytes, CommandKey] = {}
    for entry in keys:
        key = _key(entry)
        kid = kid_of(key.key)
        if kid in found:
            raise MalformedError("command keys: a key is named twice")
        found[kid] = key
    return CommandKeys(version, tdate(body["date"], "command keys date"), found)


def _key(entry: object) -> CommandKey:
    if type(entry) is not dict or set(entry) != _FIELDS:
        raise MalformedError(f"command keys: {', '.join(sorted(_FIELDS))} are expected for each key")
    verbs, roles = (_words(entry[name], name) for name in ("verbs", "roles"))
    zones = entry["zones"]
    if not _list(zones) or not all(zone == ANY or topics.ZONE.fullmatch(zone) for zone in zones):
        raise MalformedError("command keys: zones are names of zones, or *")
    return CommandKey(
        cose.ec_public_key(entry["key"], "command key"),
        verbs,
        roles,
        frozenset(zones),
        tdate(entry["not_after"], "command key not_after"),
    )


def _list(value: object) -> bool:
    return type(value) is list and 0 < len(value) <= MAX_WORDS and all(type(each) is str for each in value)


def _words(value: Any, name: str) -> frozenset[str]:
    """Verbs that this program does not know are kept: a newer controller may have them."""
    if not _list(value) or not all(WORD.fullmatch(each) for each in value):
        raise MalformedError(f"command keys: {name} are one to {MAX_WORDS} short words")
    return frozenset(value)


def load(directory: Path, signer: cose.PublicKey, *, in_force: int | None = None) -> CommandKeys:
    """The list of a trust directory, empty where there is none. Raises MalformedError or TrustError: then the old one stays."""
    try:
        with (directory / FILE).open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        if in_force:
            raise TrustError("command keys: the list in force was taken away") from None
        return CommandKeys()
    except OSError as error:
        raise TrustError(f"command keys: {error.strerror}") from error
    if len(raw) > MAX_FILE:
        raise MalformedError(f"command keys: at most {MAX_FILE} bytes are expected")
    return parse(raw, signer, in_force=in_force)


def build(keys: Iterable[CommandKey], *, version: int, date: datetime, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A signed list (the officer's side)."""
    entries = [
        {
            "key": cose.cose_key(each.key),
            "verbs": sorted(each.verbs),
            "roles": sorted(each.roles),
            "zones": sorted(each.zones),
            "not_after": format_tdate(each.not_after),
        }
        for each in keys
    ]
    return seal({"version": version, "date": format_tdate(date), "keys": entries}, TYPE, key)
