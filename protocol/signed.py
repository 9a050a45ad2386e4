"""A CBOR map in a COSE_Sign1 with a type header (RFC 9052 4.2, RFC 9596): deny list, visit records, statements of journals."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cbor, cose
from mdoc.cbor import Tag
from mdoc.errors import MalformedError, TrustError


def open_signed(raw: bytes, signer: cose.PublicKey, kind: str, what: str) -> dict[Any, Any]:
    """The payload of a tagged COSE_Sign1 whose type header is `kind`.

    Raises MalformedError for bad bytes and TrustError where `signer` did not sign it. `what` names it in messages.
    """
    item = cbor.decode(raw)
    if type(item) is not Tag or item.number != cose.TAG_SIGN1:
        raise MalformedError(f"{what}: COSE_Sign1 with its tag is expected")
    sign1 = cose.parse_sign1(item, what)
    if sign1.protected.get(cose.TYP) != kind or sign1.payload is None:
        raise MalformedError(f"{what}: type header or payload is missing")
    if not cose.verify_sign1(sign1, signer):
        raise TrustError(f"{what}: signature does not verify")
    return cbor.decode_map(sign1.payload)


def seal(payload: dict[str, Any], kind: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The other side of `open_signed`."""
    return cbor.encode(Tag(cose.TAG_SIGN1, cose.build_sign1(key, cbor.encode(payload), protected={cose.TYP: kind})))
