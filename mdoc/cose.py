"""COSE (RFC 9052, 9053): Sign1 and Mac0 as mdoc uses them, keys, and the algorithms that are allowed.

Algorithm and key curve must fit each other; the algorithm is read from the protected header only (18013-5 9.1.2.4). The two
structures may carry their own tag (17, 18), which says nothing new; any other tag is refused, COSE_Sign (98) among them.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from mdoc import cbor
from mdoc.errors import MalformedError

ALG = 1
CRIT = 2
KID = 4
TYP = 16
X5CHAIN = 33
"""Header labels (RFC 9052 table 3, RFC 9360, RFC 9596)."""
ALG_OF_KEY = 3
"""Of a COSE_Key (RFC 9052 7.1): the one algorithm that the key is for."""
HMAC_256 = 5
ES256 = -7
TAG_MAC0, TAG_SIGN1 = 17, 18

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey


@dataclass(frozen=True, slots=True)
class _Curve:
    """What may sign with keys on one curve."""

    size: int
    """Bytes of a coordinate, and of r and s each."""
    schemes: Mapping[int, ec.ECDSA]


_SHA256, _SHA384, _SHA512 = ec.ECDSA(hashes.SHA256()), ec.ECDSA(hashes.SHA384()), ec.ECDSA(hashes.SHA512())
# RFC 9053 table 1 ties no curve to the hash; 18013-5 table B.2 pairs them, Brainpool of the same strength included. After
# it the fully specified numbers: as registered by RFC 9864, and as its drafts had them, which some producers still send.
_SIGNING_CURVES: Mapping[str, _Curve] = {
    "secp256r1": _Curve(32, dict.fromkeys((-7, -9), _SHA256)),
    "secp384r1": _Curve(48, dict.fromkeys((-35, -51, -48), _SHA384)),
    "secp521r1": _Curve(66, dict.fromkeys((-36, -52, -49), _SHA512)),
    "brainpoolP256r1": _Curve(32, dict.fromkeys((-7, -265, -261), _SHA256)),
    "brainpoolP384r1": _Curve(48, dict.fromkeys((-35, -267, -263), _SHA384)),
    "brainpoolP512r1": _Curve(64, dict.fromkeys((-36, -268, -264), _SHA512)),
}
_KEY_AGREEMENT = range(-34, -24)
"""What a COSE_Key may be restricted to besides (RFC 9053 6.3, 6.4): a deviceMac comes from an agreement."""
_ED25519, _ED448 = frozenset({-8, -19, -50}), frozenset({-8, -53, -51})
_CURVES: Mapping[int, ec.EllipticCurve] = {
    1: ec.SECP256R1(),
    2: ec.SECP384R1(),
    3: ec.SECP521R1(),
    256: ec.BrainpoolP256R1(),
    258: ec.BrainpoolP384R1(),
    259: ec.BrainpoolP512R1(),
}
_CURVE_NUMBERS = {curve.name: number for number, curve in _CURVES.items()}
_P25519, _P448 = 2**255 - 19, 2**448 - 2**224 - 1
_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER: Mapping[int, tuple[int, frozenset[int]]] = {
    32: (_P25519, frozenset({0, 1, _P25519 - 1, _ORDER_8, _P25519 - _ORDER_8})),
    57: (_P448, frozenset({0, 1, _P448 - 1})),
}
"""{bytes of the key: (field, y of every point of order 1, 2, 4 or 8)}, of Ed25519 and Ed448."""


@dataclass(slots=True)
class Sign1:
    """COSE_Sign1: [protected bstr, unprotected map, payload bstr / nil, signature bstr].

    Not frozen: two are made for every presentation, and freezing one costs six times as much as making it.
    """

    protected_raw: bytes
    protected: Mapping[Any, Any]
    unprotected: Mapping[Any, Any]
    payload: bytes | None
    signature: bytes

    @property
    def algorithm(self) -> object:
        return self.protected.get(ALG)


@dataclass(slots=True)
class Mac0:
    """COSE_Mac0: [protected bstr, unprotected map, payload bstr / nil, tag bstr]."""

    protected_raw: bytes
    protected: Mapping[Any, Any]
    unprotected: Mapping[Any, Any]
    payload: bytes | None
    tag: bytes


def _parts(value: Any, tag: int, what: str) -> tuple[bytes, Mapping[Any, Any], dict[Any, Any], bytes | None, bytes]:
    if type(value) is cbor.Tag and value.number == tag:
        value = value.value
    if type(value) is not list or len(value) != 4:
        raise MalformedError(f"{what}: an array of four is expected")
    protected_raw, unprotected, payload, proof = value
    if (
        type(protected_raw) is not bytes
        or type(unprotected) is not dict
        or not (payload is None or type(payload) is bytes)
        or type(proof) is not bytes
    ):
        raise MalformedError(f"{what}: bstr, map, bstr or nil, bstr are expected")
    protected = _short_header(protected_raw) if len(protected_raw) <= _SHORT_HEADER else _header(protected_raw)
    for label in unprotected:
        if label in protected:
            raise MalformedError(f"{what}: a header in both buckets")
        if label == CRIT or type(label) is bytes:
            raise MalformedError(f"{what}: critical header, or a label that is neither number nor text")
    return protected_raw, protected, unprotected, payload, proof


def _header(raw: bytes) -> Mapping[Any, Any]:
    """A protected header (RFC 9052 3): an empty byte string is an empty map."""
    header = cbor.decode_map(raw) if raw else {}
    if CRIT in header:
        # No header of ours is critical, so whatever is listed there is one we do not understand (RFC 9052 3.1).
        raise MalformedError("COSE: critical header")
    if any(type(label) is bytes for label in header):
        raise MalformedError("COSE: a header label that is neither number nor text")
    if ALG in header and type(header[ALG]) is not int:
        raise MalformedError("COSE: algorithm is not a whole number")
    return MappingProxyType(header)


_SHORT_HEADER = 8
"""Bytes of a header that holds an algorithm and nothing else: worth remembering, since all producers send the same few."""
_short_header = lru_cache(maxsize=64)(_header)


def parse_sign1(value: Any, what: str = "COSE_Sign1") -> Sign1:
    """From a decoded CBOR item, tagged 18 or not. Raises MalformedError."""
    return Sign1(*_parts(value, TAG_SIGN1, what))


def parse_mac0(value: Any, what: str = "COSE_Mac0") -> Mac0:
    """From a decoded CBOR item, tagged 17 or not. Raises MalformedError."""
    return Mac0(*_parts(value, TAG_MAC0, what))


def _bstr(value: bytes) -> bytes:
    return cbor.head(2, len(value)) + value


def signature_structure(protected_raw: bytes, payload: bytes, aad: bytes = b"") -> bytes:
    """Sig_structure of a Sign1 (RFC 9052 4.4)."""
    return b"\x84\x6aSignature1" + _bstr(protected_raw) + (_bstr(aad) if aad else b"\x40") + _bstr(payload)


def mac_structure(protected_raw: bytes, payload: bytes, aad: bytes = b"") -> bytes:
    """MAC_structure of a Mac0 (RFC 9052 6.3)."""
    return b"\x84\x64MAC0" + _bstr(protected_raw) + _bstr(aad) + _bstr(payload)


def verify_signature(key: PublicKey, algorithm: object, signature: bytes, message: bytes) -> bool:
    """True if `algorithm` is allowed, fits the key's curve, and the signature over `message` is good.

    ECDSA signatures are r || s of exactly twice the curve's size (RFC 9053 2.1); r and s outside 1 to n - 1 never verify.
    """
    if type(algorithm) is not int:
        return False
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            curve = _SIGNING_CURVES.get(key.curve.name)
            scheme = None if curve is None else curve.schemes.get(algorithm)
            if curve is None or scheme is None or len(signature) != 2 * curve.size:
                return False
            r, s = signature[: curve.size], signature[curve.size :]
            key.verify(encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big")), message, scheme)
        elif algorithm in (_ED25519 if isinstance(key, ed25519.Ed25519PublicKey) else _ED448):
            key.verify(signature, message)
        else:
            return False
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def verify_sign1(sign1: Sign1, key: PublicKey, *, detached: bytes | None = None) -> bool:
    """Check a Sign1 over its attached payload, or over `detached`.

    With `detached` an attached payload must be absent or equal: it is never used in place of the expected bytes, which
    would accept a signature made for another session.
    """
    payload = sign1.payload
    if detached is not None:
        if payload is not None and payload != detached:
            return False
        payload = detached
    if payload is None:
        return False
    return verify_signature(key, sign1.algorithm, sign1.signature, signature_structure(sign1.protected_raw, payload))


def verify_mac0(mac0: Mac0, key: bytes, detached: bytes) -> bool:
    """Check a Mac0 with HMAC-256/256 over the detached payload."""
    if mac0.protected.get(ALG) != HMAC_256 or (mac0.payload is not None and mac0.payload != detached):
        return False
    expected = hmac.digest(key, mac_structure(mac0.protected_raw, detached), "sha256")
    return hmac.compare_digest(expected, mac0.tag)


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Raw r || s with the hash that belongs to the key's curve."""
    curve = _SIGNING_CURVES[key.curve.name]
    r, s = decode_dss_signature(key.sign(message, curve.schemes[algorithm_for(key)]))
    return r.to_bytes(curve.size, "big") + s.to_bytes(curve.size, "big")


def algorithm_for(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> int:
    """The signing algorithm of a curve (18013-5 table B.2): the first of those that are taken."""
    return next(iter(_SIGNING_CURVES[key.curve.name].schemes))


def build_sign1(
    key: ec.EllipticCurvePrivateKey,
    payload: bytes,
    *,
    detached: bool = False,
    protected: Mapping[int, Any] | None = None,
    unprotected: Mapping[int, Any] | None = None,
) -> list[Any]:
    """A Sign1 as an array ready for cbor.encode; the algorithm is added to the protected header."""
    protected_raw = cbor.encode({ALG: algorithm_for(key), **(protected or {})})
    signature = sign(key, signature_structure(protected_raw, payload))
    return [protected_raw, dict(unprotected or {}), None if detached else payload, signature]


def build_mac0(key: bytes, detached: bytes) -> list[Any]:
    """A Mac0 with a nil payload, as deviceMac wants it (18013-5 9.1.3.5)."""
    protected_raw = cbor.encode({ALG: HMAC_256})
    return [protected_raw, {}, None, hmac.digest(key, mac_structure(protected_raw, detached), "sha256")]


def small_order(point: bytes) -> bool:
    """An Edwards key under which anybody can sign anything (RFC 8032 leaves such keys to the verifier).

    Reduced first: the same point has more than one encoding.
    """
    prime, orders = _SMALL_ORDER.get(len(point), (1, frozenset()))
    y = int.from_bytes(point, "little") & ~(1 << (8 * len(point) - 1)) if point else 0
    return y % prime in orders


def _algorithms(crv: int) -> Collection[int]:
    """Signature algorithms for a COSE curve."""
    if crv in _CURVES:
        return _SIGNING_CURVES[_CURVES[crv].name].schemes
    return {6: _ED25519, 7: _ED448}.get(crv, frozenset())


def public_key(value: Any, what: str = "COSE_Key", *, stripped: bool = False) -> PublicKey:
    """A COSE_Key map as a public key. A compressed point (y true or false) is accepted. Raises MalformedError.

    `stripped`: coordinates may lack leading zeros, which RFC 9053 7.1.1 wants kept.
    """
    if type(value) is not dict:
        raise MalformedError(f"{what}: a map is expected")
    kty, crv, x = value.get(1), value.get(-1), value.get(-2)
    if type(kty) is not int or type(crv) is not int or type(x) is not bytes:
        raise MalformedError(f"{what}: kty, crv and x are expected")
    algorithm = value.get(ALG_OF_KEY)
    if algorithm is not None and (
        type(algorithm) is not int or (algorithm not in _KEY_AGREEMENT and algorithm not in _algorithms(crv))
    ):
        raise MalformedError(f"{what}: restricted to an algorithm that does not fit it")
    try:
        if kty == 1 and crv in (6, 7):
            if small_order(x):
                raise MalformedError(f"{what}: a point of small order")
            return (ed25519.Ed25519PublicKey if crv == 6 else ed448.Ed448PublicKey).from_public_bytes(x)
        curve = _CURVES.get(crv)
        if kty != 2 or curve is None:
            raise MalformedError(f"{what}: key type or curve not supported")
        y = value.get(-3)
        size = (curve.key_size + 7) // 8
        if stripped:
            x, y = x.rjust(size, b"\0"), y.rjust(size, b"\0") if type(y) is bytes else y
        if len(x) != size or (type(y) is bytes and len(y) != size):
            raise MalformedError(f"{what}: a coordinate has the wrong length")
        if type(y) is bytes:
            point = b"\x04" + x + y
        elif type(y) is bool:
            point = (b"\x03" if y else b"\x02") + x
        else:
            raise MalformedError(f"{what}: y is expected")
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedError(f"{what}: not a point on its curve") from error


def ec_public_key(value: Any, what: str = "COSE_Key") -> ec.EllipticCurvePublicKey:
    """`public_key`, and it must be an EC2 key (ECDH needs one)."""
    key = public_key(value, what)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise MalformedError(f"{what}: an EC2 key is expected")
    return key


def cose_key(key: ec.EllipticCurvePublicKey, *, compressed: bool = False) -> dict[int, Any]:
    """COSE_Key map of an EC2 key."""
    numbers = key.public_numbers()
    size = (key.curve.key_size + 7) // 8
    y: Any = bool(numbers.y & 1) if compressed else numbers.y.to_bytes(size, "big")
    return {1: 2, -1: _CURVE_NUMBERS[key.curve.name], -2: numbers.x.to_bytes(size, "big"), -3: y}
