"""A small reader of PIV and PKOC cards for tests of the virtual ones: strict about what a card has to answer, and no part of the
product, so that a card is not checked by the code that will be checked by it.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from testbed.card.card import Card
from testbed.card.keys import CardKey, KeyKind, PublicKey, algorithm, generate
from testbed.card.piv import CERTIFICATE
from testbed.card.tlv import objects, tlv

GUARD_S = 10.0
KINDS = (KeyKind.P256, KeyKind.P384, KeyKind.RSA_2048, KeyKind.RSA_3072)
CONTAINER = 1905
"""Bytes that a card has room for in its certificate object (SP 800-73-4 part 1 table 7)."""
SELECT = bytes.fromhex("00A404000BA00000030800001000010000")
SELECT_PKOC = bytes.fromhex("00A4040008A00000089800000100")
MDOC = bytes.fromhex("00A4040007A000000248040000")
Transmit = Callable[[bytes], bytes | None]


class Gone(Exception):  # noqa: N818  not an error of the card's
    """The card gave no answer."""


def ask(transmit: Transmit, apdu: bytes) -> tuple[bytes, int]:
    """(whole data, status word), with as many GET RESPONSE as a card may need for 16 kB."""
    data = b""
    for _ in range(64):
        answer = transmit(apdu)
        if answer is None:
            raise Gone
        data, status = data + answer[:-2], int.from_bytes(answer[-2:])
        if status >> 8 != 0x61:
            return data, status
        apdu = bytes((0x00, 0xC0, 0x00, 0x00, status & 0xFF))
    return data, status


def read(transmit: Transmit, tag: int) -> tuple[bytes, int]:
    name = tlv(0x5C, tag.to_bytes((tag.bit_length() + 7) // 8))
    return ask(transmit, b"\x00\xcb\x3f\xff" + bytes((len(name),)) + name + b"\x00")


def challenge_template(block: bytes) -> bytes:
    return tlv(0x7C, tlv(0x82), tlv(0x81, block))


def authenticate(transmit: Transmit, number: int, block: bytes, piece: int = 255) -> tuple[bytes, int]:
    """GENERAL AUTHENTICATE with key 9E, in a chain where it is longer than `piece`: (response, status word)."""
    template = challenge_template(block)
    pieces = [template[at : at + piece] for at in range(0, len(template), piece)]
    for part in pieces[:-1]:
        assert ask(transmit, bytes((0x10, 0x87, number, 0x9E, len(part))) + part) == (b"", 0x9000)
    last = bytes((0x00, 0x87, number, 0x9E, len(pieces[-1]))) + pieces[-1] + b"\x00"
    data, status = ask(transmit, last)
    if status != 0x9000:
        return data, status
    ((tag, inner),) = objects(data)
    ((inner_tag, response),) = objects(inner)
    assert (tag, inner_tag) == (0x7C, 0x82)
    return response, status


def block_of(key: CardKey, nonce: bytes) -> bytes:
    """What a host asks to be signed: the hash, or its PKCS #1 v1.5 block."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return (hashlib.sha384 if key.key_size == 384 else hashlib.sha256)(nonce).digest()
    information = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(nonce).digest()
    return b"\x00\x01" + b"\xff" * (key.key_size // 8 - len(information) - 3) + b"\x00" + information


def verify(public: PublicKey, nonce: bytes, signature: bytes) -> None:
    """Raises InvalidSignature."""
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, nonce, padding.PKCS1v15(), hashes.SHA256())
    else:
        public.verify(signature, nonce, ec.ECDSA(hashes.SHA384() if public.key_size == 384 else hashes.SHA256()))


def shown(transmit: Transmit) -> x509.Certificate:
    data, status = read(transmit, CERTIFICATE)
    assert status == 0x9000
    ((tag, content),) = objects(data)
    parts = dict(objects(content))
    assert (tag, sorted(parts), parts[0xFE]) == (0x53, [0x70, 0x71, 0xFE], b"")
    return x509.load_der_x509_certificate(gzip.decompress(parts[0x70]) if parts[0x71] == b"\x01" else parts[0x70])


def proves(card: Card, nonce: bytes = b"a nonce") -> bool:
    """The card's key answers for the certificate that it shows."""
    certificate = shown(card.transmit)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    private = generate(KeyKind(f"rsa{key.key_size}")) if isinstance(key, rsa.RSAPublicKey) else None
    block = block_of(private or ec.generate_private_key(key.curve), nonce)  # type: ignore[union-attr]
    response, status = authenticate(card.transmit, algorithm(key), block)
    if status != 0x9000:
        return False
    try:
        verify(key, nonce, response)
    except InvalidSignature:
        return False
    return True


def pkoc_answer(card: Card, transaction: bytes) -> tuple[list[int], bytes, bytes]:
    """(order of tags, key, signature)."""
    assert card.transmit(SELECT_PKOC) == bytes.fromhex("5C0201009000")
    data = tlv(0x5C, b"\x01\x00") + tlv(0x4C, transaction) + tlv(0x4D, bytes(32))
    answer, status = ask(card.transmit, b"\x80\x80\x00\x01" + bytes((len(data),)) + data + b"\x00")
    assert status == 0x9000
    parts = dict(objects(answer))
    return list(parts), parts[0x5A], parts[0x9E]


def pkoc_proves(card: Card, transaction: bytes) -> bool:
    _, point, signature = pkoc_answer(card, transaction)
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    try:
        public.verify(der, transaction, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
