"""Cards whose certificate, genuinely signed, holds a public key that nobody should take: keys for which anybody can answer, or
that a reader may understand otherwise than the authority did.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from testbed.card.issuer import CardCredential, CardIssuer
from testbed.card.keys import Algorithm, KeyKind, key_hash
from testbed.card.piv import VirtualPivCard
from testbed.card.tlv import INTEGER, OCTET_STRING, SEQUENCE, oid, tlv

BIT_STRING, NULL = 0x03, 0x05
_EC, _PRIME_FIELD, _RSA = "1.2.840.10045.2.1", "1.2.840.10045.1.1", "1.2.840.113549.1.1.1"
_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_A, _B = _P - 3, 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""P-256 (FIPS 186-5, SP 800-186 3.2.1.3)."""


def with_public_key(credential: CardCredential, info: bytes, issuer: CardIssuer) -> CardCredential:
    """The same certificate over another SubjectPublicKeyInfo (DER), signed anew by the authority."""
    certificate = credential.certificate
    before = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    tbs = certificate.tbs_certificate_bytes
    if tbs.count(before) != 1:
        raise ValueError("the public key is not found once")
    tbs = tlv(SEQUENCE, tbs[1 + _length_octets(tbs) :].replace(before, info))
    digest, key = key_hash(issuer.key), issuer.key
    signature = (
        key.sign(tbs, ec.ECDSA(digest))
        if isinstance(key, ec.EllipticCurvePrivateKey)
        else key.sign(tbs, padding.PKCS1v15(), digest)
    )
    raw = certificate.public_bytes(Encoding.DER)
    outer = raw[1 + _length_octets(raw) :]
    algorithm = outer[len(certificate.tbs_certificate_bytes) : len(outer) - len(_bits(certificate.signature))]
    forged = tlv(SEQUENCE, tbs, algorithm, _bits(signature))
    return replace(credential, certificate=x509.load_der_x509_certificate(forged))


def explicit_curve(issuer: CardIssuer, now: datetime) -> VirtualPivCard:
    """P-256 by its parameters, with the card's own public key for a generator: to it the private key is 1, which anybody has."""
    credential = issuer.issue(now)
    point = credential.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)[-65:]
    parameters = tlv(
        SEQUENCE,
        _number(1),
        tlv(SEQUENCE, oid(_PRIME_FIELD), _number(_P)),
        tlv(SEQUENCE, tlv(OCTET_STRING, _A.to_bytes(32)), tlv(OCTET_STRING, _B.to_bytes(32))),
        tlv(OCTET_STRING, point),
        _number(_ORDER),
        _number(1),
    )
    info = tlv(SEQUENCE, tlv(SEQUENCE, oid(_EC), parameters), _bits(point))
    return VirtualPivCard(with_public_key(credential, info, issuer))


def point_off_curve(issuer: CardIssuer, now: datetime) -> VirtualPivCard:
    """A named curve, and a point that is not on it."""
    credential = issuer.issue(now)
    info = credential.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return VirtualPivCard(with_public_key(credential, info[:-1] + bytes((info[-1] ^ 1,)), issuer))


def rsa_exponent_one(issuer: CardIssuer, now: datetime) -> VirtualPivCard:
    """Public exponent 1: every block is its own signature."""
    credential = issuer.issue(now, kind=KeyKind.RSA_2048)
    # The modulus as the genuine key gives it; what follows it there is the exponent 65537 (RFC 8017 A.1.1).
    key = credential.key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    key = tlv(SEQUENCE, key[1 + _length_octets(key) :].removesuffix(_number(65537)), _number(1))
    info = tlv(SEQUENCE, tlv(SEQUENCE, oid(_RSA), tlv(NULL)), _bits(key))
    card = VirtualPivCard(with_public_key(credential, info, issuer))
    card.algorithm, card.sign = Algorithm.RSA_2048, lambda _number, challenge: challenge
    return card


def _length_octets(raw: bytes) -> int:
    return 1 if raw[1] < 0x80 else 1 + (raw[1] & 0x7F)


def _bits(content: bytes) -> bytes:
    return tlv(BIT_STRING, b"\x00", content)


def _number(value: int) -> bytes:
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1))
