"""PKOC over NFC, version 1 (PSIA Public Key Open Credential), reader's side, sans-I/O: the card signs a fresh transaction id.

    SELECT A000000898000001                               -> 5C L versions (2 bytes each)
    80 80 00 01 38 { 5C 02 0100; 4C 10 transaction id; 4D 20 site, reader } 00
                                                          -> 5A 41 04 X Y and 9E 40 r s, in either order

The signature is over the transaction id alone: neither site nor reader is bound, so an answer can be relayed from elsewhere while
it is fresh, and the public key is the same at every reader. What that means for a zone is in docs/cards.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from card import limits, tlv
from card.apdu import Sizes, exchange
from mdoc.apdu import SW_OK, Command, Response, Steps
from mdoc.errors import MalformedError

AID = bytes.fromhex("A000000898000001")
VERSION = b"\x01\x00"
TRANSACTION_ID, READER_ID = 16, 32
"""Bytes; the reader's is 16 of the site and 16 of the reader."""
INS_AUTHENTICATE = 0x80
TAG_VERSIONS, TAG_TRANSACTION, TAG_READER, TAG_KEY, TAG_SIGNATURE = 0x5C, 0x4C, 0x4D, 0x5A, 0x9E
_POINT, _SIGNATURE = 65, 64


@dataclass(frozen=True, slots=True)
class PkocAnswer:
    """What the card said; unverified."""

    point: bytes = field(repr=False)
    """04, X, Y."""
    signature: bytes = field(repr=False)
    """r, s."""

    @classmethod
    def parse(cls, data: bytes) -> PkocAnswer:
        """The response's data. Both orders are in use. Raises MalformedError."""
        found = tlv.once(data, "PKOC")
        point, signature = found.get(TAG_KEY, b""), found.get(TAG_SIGNATURE, b"")
        if found.keys() != {TAG_KEY, TAG_SIGNATURE} or len(point) != _POINT or len(signature) != _SIGNATURE:
            raise MalformedError("PKOC: a key of 65 bytes and a signature of 64 are expected, and nothing else")
        return cls(point, signature)

    def key(self) -> ec.EllipticCurvePublicKey:
        """Raises MalformedError where the point does not lie on P-256."""
        try:
            if self.point[0] != 0x04:
                raise MalformedError("PKOC: an uncompressed point is expected")
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.point)
        except ValueError as error:
            raise MalformedError("PKOC: not a point of P-256") from error

    def signed_by(self, key: ec.EllipticCurvePublicKey, transaction_id: bytes) -> bool:
        r, s = int.from_bytes(self.signature[:32]), int.from_bytes(self.signature[32:])
        try:
            key.verify(encode_dss_signature(r, s), transaction_id, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError):
            return False
        return True


def selected(raw: bytes) -> bool:
    """The response to SELECT says that a PKOC application of version 1 is there. Raises ApduError."""
    response = Response.parse(raw)
    if response.sw != SW_OK or len(response.data) > limits.MAX_SELECT:
        return False
    try:
        versions = dict(tlv.items(response.data, "PKOC")).get(TAG_VERSIONS, b"")
    except MalformedError:
        return False
    return any(versions[at : at + 2] == VERSION for at in range(0, len(versions), 2))


def read(transaction_id: bytes, reader_id: bytes, sizes: Sizes) -> Steps[PkocAnswer]:
    """Authenticate a card whose PKOC application is selected. `transaction_id`: fresh, 16 bytes. Raises MalformedError."""
    if len(transaction_id) != TRANSACTION_ID or len(reader_id) != READER_ID:
        raise ValueError("PKOC: a transaction id of 16 bytes and a reader id of 32 are expected")
    fields = ((TAG_VERSIONS, VERSION), (TAG_TRANSACTION, transaction_id), (TAG_READER, reader_id))
    data = b"".join(tlv.encode(tag, value) for tag, value in fields)
    command = Command(0x80, INS_AUTHENTICATE, 0x00, 0x01, data)
    response = yield from exchange(command, sizes, most=limits.MAX_SIGNATURE)
    if response.sw != SW_OK:
        raise MalformedError(f"PKOC: status {response.sw:04X}")
    return PkocAnswer.parse(response.data)
