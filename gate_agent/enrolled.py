"""The signed list of PKOC keys: a PKOC card has no issuer, so somebody enrols its key and says whose it is like.

    cards/keys.cose   COSE_Sign1 (tag 18), protected {1: alg, 16: "application/gwanmun-pkoc+cbor"}, payload
                      {"version": uint, "date": tdate, "groups": [* {"agency_code": tstr, "card_type": tstr,
                       "access_class": tstr, "from": tdate, "until": tdate, "keys": [+ bstr .size 32]}]}

A key is written as its thumbprint (gate_agent.denylist.key_entry), so that the list tells nobody's key. It is compared in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from card.anchors import Terms
from card.verify import Enrolment
from gate_agent.denylist import key_entry
from mdoc import cose
from mdoc.errors import MalformedError, TrustError
from mdoc.freshness import ListFacts, ListKind
from mdoc.issuerlist import format_tdate
from mdoc.mso import tdate
from protocol.signed import open_signed, seal

TYPE = "application/gwanmun-pkoc+cbor"
FILE = "keys.cose"
ENTRY = 32
"""Bytes of a thumbprint."""
MAX_KEYS = 4_000
"""Keys of one complex; bounded by the CBOR reader as well."""
MAX_GROUPS = 100
MAX_VALUE = 128
"""Characters of an attribute, as in the rules."""
MAX_FILE = MAX_KEYS * (ENTRY + 2) + MAX_GROUPS * 512
_TERMS = ("agency_code", "card_type", "access_class")
_GROUP = frozenset({*_TERMS, "from", "until", "keys"})


@dataclass(frozen=True, slots=True)
class Enrolled:
    """`version` rises with every issue. An empty list enrols nobody."""

    version: int = 0
    date: datetime | None = None
    keys: Mapping[bytes, Enrolment] = field(default_factory=dict, repr=False)

    def find(self, key: ec.EllipticCurvePublicKey) -> Enrolment | None:
        return self.keys.get(key_entry(key)) if self.keys else None

    @property
    def facts(self) -> tuple[ListFacts, ...]:
        """For its age: it ages as a list of issuers does."""
        if self.date is None:
            return ()
        return (ListFacts(ListKind.ISSUER_LIST, FILE, str(self.version), self.date, None),)


def parse(raw: bytes, signer: cose.PublicKey, *, in_force: int | None = None) -> Enrolled:
    """Read and verify a list. `in_force`: version of the list in use.

    Raises MalformedError for bad bytes; TrustError where `signer` did not sign it or its version goes back.
    """
    body = open_signed(raw, signer, TYPE, "key list")
    version, groups = body.get("version"), body.get("groups")
    if (
        type(version) is not int
        or version < 0
        or type(groups) is not list
        or set(body) != {"version", "date", "groups"}
    ):
        raise MalformedError("key list: version, date and groups are expected, and nothing else")
    if in_force is not None and version < in_force:
        raise TrustError(f"key list: version {version} goes back behind {in_force}")
    if len(groups) > MAX_GROUPS:
        raise MalformedError(f"key list: at most {MAX_GROUPS} groups are expected")
    found: dict[bytes, Enrolment] = {}
    for group in groups:
        keys, enrolment = _group(group)
        for key in keys:
            if key in found:
                raise MalformedError("key list: a key twice")
            found[key] = enrolment
    if len(found) > MAX_KEYS:
        raise MalformedError(f"key list: at most {MAX_KEYS} keys are expected")
    return Enrolled(version, tdate(body["date"], "key list date"), found)


def _group(value: Any) -> tuple[list[bytes], Enrolment]:
    if type(value) is not dict or set(value) != _GROUP:
        raise MalformedError(f"key list: a group of {', '.join(sorted(_GROUP))} is expected")
    texts, keys = [value[name] for name in _TERMS], value["keys"]
    if not all(type(text) is str and len(text) <= MAX_VALUE for text in texts):
        raise MalformedError("key list: a group's attributes are texts")
    if type(keys) is not list or not keys or not all(type(key) is bytes and len(key) == ENTRY for key in keys):
        raise MalformedError(f"key list: keys are thumbprints of {ENTRY} bytes")
    begin, end = tdate(value["from"], "key list from"), tdate(value["until"], "key list until")
    if not begin < end:
        raise MalformedError("key list: until lies after from")
    return keys, Enrolment(Terms(*texts), begin, end)


def load(folder: Path, signer: cose.PublicKey, *, in_force: int | None = None) -> Enrolled:
    """The list of a folder, empty where there is none. Raises MalformedError or TrustError: then the old one stays."""
    try:
        with (folder / FILE).open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        if in_force:
            raise TrustError("key list: the list in force was taken away") from None
        return Enrolled()
    except OSError as error:
        raise TrustError(f"key list: {error.strerror}") from error
    if len(raw) > MAX_FILE:
        raise MalformedError(f"key list: at most {MAX_FILE} bytes are expected")
    return parse(raw, signer, in_force=in_force)


def build(
    groups: Iterable[tuple[Enrolment, Iterable[bytes]]],
    *,
    version: int,
    date: datetime,
    key: ec.EllipticCurvePrivateKey,
) -> bytes:
    """A signed list (the issuer's side). Keys are sorted, so that their order tells nothing."""
    made = [
        {
            "agency_code": enrolment.terms.agency_code,
            "card_type": enrolment.terms.card_type,
            "access_class": enrolment.terms.access_class,
            "from": format_tdate(enrolment.valid_from),
            "until": format_tdate(enrolment.valid_until),
            "keys": sorted(set(keys)),
        }
        for enrolment, keys in groups
    ]
    return seal({"version": version, "date": format_tdate(date), "groups": made}, TYPE, key)
