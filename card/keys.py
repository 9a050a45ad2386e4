"""Keys and signatures of cards and their issuers (SP 800-78-5 tables 1 to 5): P-256, P-384, RSA.

18013-5 allows no RSA, so these are not `mdoc`'s tables. The AlgorithmIdentifier of a key has to be one of three byte strings, so
that a curve spelled out in numbers, of whatever kind, is no key at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mdoc.certificates import der
from mdoc.certificates.structure import Certificate, signature_holds
from mdoc.errors import MalformedError

CardKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

CARD_RSA_BITS = frozenset({2048, 3072})
AUTHORITY_RSA_BITS = frozenset({2048, 3072, 4096})
RSA_EXPONENT = 65_537
"""The one exponent that SP 800-78-5 gives card keys. With 1 everything is its own signature."""


def _oid(dotted: str) -> bytes:
    content = der.oid(dotted)
    return bytes((der.OID, len(content))) + content


_NULL = bytes((der.NULL, 0))
_EC_KEY = _oid("1.2.840.10045.2.1")
_RSA_KEY = _oid("1.2.840.113549.1.1.1") + _NULL
_KEY_KINDS = frozenset({_EC_KEY + _oid("1.2.840.10045.3.1.7"), _EC_KEY + _oid("1.3.132.0.34"), _RSA_KEY})
"""AlgorithmIdentifier contents: named curve P-256 or P-384 (RFC 5480 2.1.1), RSA with its NULL (RFC 3279 2.3.1)."""
_RSA_SIGNATURES: Mapping[bytes, hashes.HashAlgorithm] = {
    _oid("1.2.840.113549.1.1.11") + _NULL: hashes.SHA256(),
    _oid("1.2.840.113549.1.1.12") + _NULL: hashes.SHA384(),
    _oid("1.2.840.113549.1.1.13") + _NULL: hashes.SHA512(),
}
_EC_SIGNATURES = frozenset(_oid(f"1.2.840.10045.4.3.{last}") for last in (2, 3, 4))
SIGNATURES = frozenset({*_RSA_SIGNATURES, *_EC_SIGNATURES})
"""Of certificates and revocation lists: ECDSA or RSA PKCS #1 v1.5, with SHA-256, SHA-384 or SHA-512. Never SHA-1."""


@lru_cache(maxsize=128)
def authority_key(info: bytes) -> CardKey:
    """An issuing authority's key from its SubjectPublicKeyInfo. Raises MalformedError."""
    return _read(info, AUTHORITY_RSA_BITS)


def card_key(info: bytes) -> CardKey:
    """A card's key from its SubjectPublicKeyInfo. Raises MalformedError."""
    return _read(info, CARD_RSA_BITS)


def _read(info: bytes, rsa_bits: frozenset[int]) -> CardKey:
    begin, end = der.whole(info, der.SEQUENCE)
    start, stop = der.expect(info, begin, end, der.SEQUENCE)
    if info[start:stop] not in _KEY_KINDS:
        raise MalformedError("key: P-256, P-384 or RSA is expected")
    try:
        key = load_der_public_key(info)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedError("key: it cannot be read") from error
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key
    if not isinstance(key, rsa.RSAPublicKey):
        raise MalformedError("key: P-256, P-384 or RSA is expected")
    if key.key_size not in rsa_bits or key.public_numbers().e != RSA_EXPONENT:
        raise MalformedError("key: RSA of another size or exponent")
    return key


def holds(authority: Certificate, algorithm: bytes, signature: bytes, message: bytes) -> bool:
    """The authority's key made the signature of a certificate or revocation list (mdoc.crl.Holds)."""
    try:
        key = authority_key(authority.public_key_info)
        if isinstance(key, ec.EllipticCurvePublicKey):
            return signature_holds(key, algorithm, signature, message)
        scheme = _RSA_SIGNATURES.get(algorithm)
        if scheme is None:
            return False
        key.verify(signature, message, padding.PKCS1v15(), scheme)
    except (InvalidSignature, ValueError, MalformedError):
        return False
    return True
