"""An Open DID issuer as an entry of the signed issuer list: its key from its DID document, its name as credentials carry it.

A DID document lists `verificationMethod` [{"id", "type", "publicKeyMultibase"}]; a key's full name is
`<did>?versionId=<version>#<id>`, which is the `kid` in issuerAuth. The document itself is trusted because the officer who signs
the list has checked it, not by its own proofs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc.issuerlist import ListedIssuer

_MAX_DOCUMENT = 64 * 1024
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_CURVES = {"Secp256r1VerificationKey2018": ec.SECP256R1()}


def base58btc(text: str) -> bytes:
    """Multibase `z`: base58 in Bitcoin's alphabet. Raises ValueError."""
    if not text.startswith("z") or len(text) > 128:
        raise ValueError("publicKeyMultibase: base58btc (z...) is expected")
    digits = text[1:]
    number = 0
    for digit in digits:
        number = number * 58 + _ALPHABET.index(digit)
    zeros = len(digits) - len(digits.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _member(value: Any, name: str) -> str:
    if not isinstance(value, dict) or not isinstance(value.get(name), str) or not value[name]:
        raise ValueError(f"DID document: {name} is expected")
    return str(value[name])


def listed_issuer(
    document: bytes,
    *,
    key: str,
    doc_types: Sequence[str],
    not_before: datetime,
    not_after: datetime,
    status_lists: Sequence[str] = (),
) -> ListedIssuer:
    """The entry for the key with id `key` of a DID document (JSON). Raises ValueError."""
    if len(document) > _MAX_DOCUMENT:
        raise ValueError("DID document: too long")
    parsed = json.loads(document)
    did, version = _member(parsed, "id"), _member(parsed, "versionId")
    if parsed.get("deactivated") not in (None, False):
        raise ValueError("DID document: deactivated")
    methods, assertion = parsed.get("verificationMethod"), parsed.get("assertionMethod")
    if not isinstance(methods, list) or not isinstance(assertion, list) or key not in assertion:
        raise ValueError(f"DID document: no key named {key} that makes assertions")
    found = [entry for entry in methods if isinstance(entry, dict) and entry.get("id") == key]
    if len(found) != 1:
        raise ValueError(f"DID document: one key named {key} is expected")
    curve = _CURVES.get(_member(found[0], "type"))
    if curve is None:
        raise ValueError("DID document: a key type that is not supported")
    point = base58btc(_member(found[0], "publicKeyMultibase"))
    return ListedIssuer(
        f"{did}?versionId={version}#{key}".encode(),
        ec.EllipticCurvePublicKey.from_encoded_point(curve, point),
        tuple(doc_types),
        not_before,
        not_after,
        tuple(status_lists),
    )
