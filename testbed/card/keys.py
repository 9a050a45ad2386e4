"""Card keys and the algorithm numbers by which a PIV card knows them (SP 800-78-5 table 9)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, StrEnum

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

CardKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
Signer = Callable[[int, bytes], bytes]
"""(algorithm number, challenge) to response. Raises ValueError for a challenge that does not fit the key."""


class Algorithm(IntEnum):
    """P1 of GENERAL AUTHENTICATE."""

    RSA_3072 = 0x05
    RSA_1024 = 0x06
    RSA_2048 = 0x07
    P256 = 0x11
    P384 = 0x14


class KeyKind(StrEnum):
    """What a card-authentication key may be; RSA-1024 is of the past and only there to be refused."""

    P256 = "p256"
    P384 = "p384"
    RSA_2048 = "rsa2048"
    RSA_3072 = "rsa3072"
    RSA_1024 = "rsa1024"


_CURVES = {KeyKind.P256: ec.SECP256R1, KeyKind.P384: ec.SECP384R1}
_BITS = {KeyKind.RSA_1024: 1024, KeyKind.RSA_2048: 2048, KeyKind.RSA_3072: 3072}
_ALGORITHMS = {
    1024: Algorithm.RSA_1024,
    2048: Algorithm.RSA_2048,
    3072: Algorithm.RSA_3072,
    256: Algorithm.P256,
    384: Algorithm.P384,
}
_HASHES = {Algorithm.P256: hashes.SHA256, Algorithm.P384: hashes.SHA384}


def generate(kind: KeyKind) -> CardKey:
    """A new key. RSA takes a second or so."""
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind]())
    return rsa.generate_private_key(65537, _BITS[kind])


def algorithm(key: CardKey | PublicKey) -> Algorithm:
    """The number a card gives such a key. Raises KeyError for another size."""
    return _ALGORITHMS[key.key_size]


def signer(key: CardKey) -> Signer:
    """What a card does with a challenge: ECDSA over it as the hash (DER, SP 800-73-5 part 2, A.4.1), or bare RSA over the
    block that the host padded (as long as the modulus).
    """

    def sign(_algorithm: int, challenge: bytes) -> bytes:
        if isinstance(key, rsa.RSAPrivateKey):
            numbers = key.private_numbers()
            modulus, size = numbers.public_numbers.n, key.key_size // 8
            block = int.from_bytes(challenge)
            if len(challenge) != size or block >= modulus:
                raise ValueError("not a block of the modulus")
            return pow(block, numbers.d, modulus).to_bytes(size)
        digest = _HASHES[algorithm(key)]()
        if len(challenge) != digest.digest_size:
            raise ValueError("not a hash of the curve's size")
        return key.sign(challenge, ec.ECDSA(Prehashed(digest)))

    return sign


def key_hash(key: CardKey) -> hashes.SHA256 | hashes.SHA384:
    """The hash that an authority with this key signs certificates by."""
    return hashes.SHA384() if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256 else hashes.SHA256()
