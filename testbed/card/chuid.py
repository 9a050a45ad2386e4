"""The card holder unique identifier of a virtual card, signed by its issuer (SP 800-73-5 part 1 3.1.2 and table 9, FIPS 201-3
4.2.1): CMS SignedData (RFC 5652) over everything in the object but the signature itself.
"""

from __future__ import annotations

import hashlib
from datetime import date

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding

from testbed.card.keys import CardKey
from testbed.card.tlv import INTEGER, OCTET_STRING, SEQUENCE, SET, oid, tlv

TAG_FASC_N, TAG_GUID, TAG_EXPIRY, TAG_SIGNATURE, TAG_ERROR_DETECTION = 0x30, 0x34, 0x35, 0x3E, 0xFE
SECURITY_OBJECT = "2.16.840.1.101.3.6.1"
"""id-PIV-CHUIDSecurityObject, the content type."""
_SIGNER_NAME = "2.16.840.1.101.3.6.5"
_SIGNED_DATA, _CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_SHA_256 = tlv(SEQUENCE, oid("2.16.840.1.101.3.4.2.1"))
_ECDSA_SHA_256 = tlv(SEQUENCE, oid("1.2.840.10045.4.3.2"))
_RSA_SHA_256 = tlv(SEQUENCE, oid("1.2.840.113549.1.1.11"), b"\x05\x00")


def signed(fasc_n: bytes, guid: bytes, expires: date) -> bytes:
    """What the signature is over: the other data objects with their tags and lengths, in their order."""
    return (
        tlv(TAG_FASC_N, fasc_n)
        + tlv(TAG_GUID, guid)
        + tlv(TAG_EXPIRY, expires.strftime("%Y%m%d").encode())
        + tlv(TAG_ERROR_DETECTION)
    )


def build(fasc_n: bytes, guid: bytes, expires: date, certificate: x509.Certificate, key: CardKey) -> bytes:
    """The content of 5FC102, with the signature of the content signer whose certificate and key these are."""
    content = signed(fasc_n, guid, expires)
    end = tlv(TAG_ERROR_DETECTION)
    return content.removesuffix(end) + tlv(TAG_SIGNATURE, signature(content, certificate, key)) + end


def signature(content: bytes, certificate: x509.Certificate, key: CardKey) -> bytes:
    """A detached CMS signature, DER."""
    attributes = sorted(
        (
            _attribute(_CONTENT_TYPE, oid(SECURITY_OBJECT)),
            _attribute(_MESSAGE_DIGEST, tlv(OCTET_STRING, hashlib.sha256(content).digest())),
            _attribute(_SIGNER_NAME, certificate.subject.public_bytes()),
        )
    )
    serial = certificate.serial_number
    issuer_and_serial = tlv(
        SEQUENCE, certificate.issuer.public_bytes(), tlv(INTEGER, serial.to_bytes(serial.bit_length() // 8 + 1))
    )
    # Signed as a SET, sent as [0] (RFC 5652 5.4).
    value, algorithm = _sign(tlv(SET, *attributes), key)
    signer = tlv(
        SEQUENCE,
        tlv(INTEGER, b"\x01"),
        issuer_and_serial,
        _SHA_256,
        tlv(0xA0, *attributes),
        algorithm,
        tlv(OCTET_STRING, value),
    )
    data = tlv(
        SEQUENCE,
        tlv(INTEGER, b"\x03"),
        tlv(SET, _SHA_256),
        tlv(SEQUENCE, oid(SECURITY_OBJECT)),
        tlv(0xA0, certificate.public_bytes(Encoding.DER)),
        tlv(SET, signer),
    )
    return tlv(SEQUENCE, oid(_SIGNED_DATA), tlv(0xA0, data))


def _attribute(dotted: str, value: bytes) -> bytes:
    return tlv(SEQUENCE, oid(dotted), tlv(SET, value))


def _sign(content: bytes, key: CardKey) -> tuple[bytes, bytes]:
    """(signature, AlgorithmIdentifier)."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(content, ec.ECDSA(hashes.SHA256())), _ECDSA_SHA_256
    return key.sign(content, padding.PKCS1v15(), hashes.SHA256()), _RSA_SHA_256
