"""Certificates that no library makes: a genuine one taken apart, a part replaced, and signed anew by its authority."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from card.tlv import encode
from mdoc.certificates import der
from mdoc.certificates.structure import Certificate, read
from testbed.card.issuer import CardIssuer

KEY_INFO = 6
"""Which element of a v3 certificate's body is its SubjectPublicKeyInfo."""
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_EC_KEY = bytes.fromhex("06072a8648ce3d0201")
_RSA_KEY = bytes.fromhex("300d06092a864886f70d0101010500")


def with_key(certificate: x509.Certificate, issuer: CardIssuer, info: bytes, *, signed: bool = True) -> Certificate:
    """The certificate with another SubjectPublicKeyInfo; `signed` False keeps the signature that was made for the first."""
    raw = certificate.public_bytes(Encoding.DER)
    begin, end = der.whole(raw, der.SEQUENCE)
    parts = [raw[stop_before:stop] for stop_before, stop in _spans(raw, begin, end)]
    start, stop = der.whole(parts[0], der.SEQUENCE)
    body = [parts[0][at:after] for at, after in _spans(parts[0], start, stop)]
    body[KEY_INFO] = info
    tbs = encode(der.SEQUENCE, b"".join(body))
    if not signed:
        return read(encode(der.SEQUENCE, tbs + parts[1] + parts[2]))
    assert isinstance(issuer.key, ec.EllipticCurvePrivateKey)
    signature = issuer.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return read(encode(der.SEQUENCE, tbs + _ECDSA_SHA256 + encode(der.BIT_STRING, b"\0" + signature)))


def _spans(raw: bytes, begin: int, end: int) -> list[tuple[int, int]]:
    """(begin, end) of every element with its head."""
    found = []
    while begin < end:
        _tag, _start, stop = der.element(raw, begin, end)
        found.append((begin, stop))
        begin = stop
    return found


def rsa_info(modulus: int, exponent: int) -> bytes:
    def integer(value: int) -> bytes:
        return encode(der.INTEGER, value.to_bytes(value.bit_length() // 8 + 1))

    key = encode(der.SEQUENCE, integer(modulus) + integer(exponent))
    return encode(der.SEQUENCE, _RSA_KEY + encode(der.BIT_STRING, b"\0" + key))


def named_info(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def explicit_info(key: ec.EllipticCurvePublicKey, *, base: bytes | None = None) -> bytes:
    """P-256 spelled out in numbers (RFC 3279 2.3.5), which implementations have been made to accept with a base point of the
    attacker's choice (`base`)."""
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    usual = bytes.fromhex(
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )
    field = encode(der.SEQUENCE, bytes.fromhex("06072a8648ce3d0101") + encode(der.INTEGER, b"\0" + prime.to_bytes(32)))
    curve = encode(
        der.SEQUENCE, encode(der.OCTET_STRING, (prime - 3).to_bytes(32)) + encode(der.OCTET_STRING, b.to_bytes(32))
    )
    parameters = encode(
        der.SEQUENCE,
        b"\x02\x01\x01"
        + field
        + curve
        + encode(der.OCTET_STRING, base or usual)
        + encode(der.INTEGER, b"\0" + order.to_bytes(32)),
    )
    algorithm = encode(der.SEQUENCE, _EC_KEY + parameters)
    return encode(der.SEQUENCE, algorithm + encode(der.BIT_STRING, b"\0" + point))
