"""A PKOC card, version 1 over NFC (PSIA): it signs the reader's transaction identifier and shows its public key.

The reader's and the site's identifier are not signed, and the key is always the same: whoever relays a challenge passes for the
card, and whoever asks twice knows that it was the same card.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mdoc.apdu import (
    INS_SELECT,
    SW_CONDITIONS,
    SW_NOT_FOUND,
    SW_OK,
    SW_UNKNOWN_INS,
    SW_WRONG_LENGTH,
    SW_WRONG_P1P2,
    ApduError,
    Command,
    Response,
)
from testbed.card.tlv import TlvError, objects, tlv

PKOC_AID = bytes.fromhex("A000000898000001")
VERSION = bytes.fromhex("0100")
INS_AUTHENTICATE = 0x80
SW_FAILURE = 0x6F00
TAG_VERSION, TAG_TRANSACTION, TAG_READER, TAG_KEY, TAG_SIGNATURE = 0x5C, 0x4C, 0x4D, 0x5A, 0x9E
_SIZES = {TAG_VERSION: 2, TAG_TRANSACTION: 16, TAG_READER: 32}


class Order(StrEnum):
    """Of the two parts of the answer: cards of either kind are about."""

    KEY_FIRST = "key_first"
    SIGNATURE_FIRST = "signature_first"


def transaction_signer(key: ec.EllipticCurvePrivateKey) -> Callable[[bytes], bytes]:
    """ECDSA with SHA-256 over the transaction identifier alone: r and s, 32 bytes each."""

    def sign(transaction: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(transaction, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)

    return sign


class VirtualPkocCard:
    """One card with one P-256 key. `point` and `sign` may be replaced to make another kind of card."""

    def __init__(
        self, key: ec.EllipticCurvePrivateKey, *, order: Order = Order.KEY_FIRST, uid: bytes = b"\x08\x50\x4b\x43"
    ) -> None:
        """Raises ValueError for a key of another curve."""
        if not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("PKOC: a P-256 key is expected")
        self.uid = uid
        self.point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.sign = transaction_signer(key)
        self._order = order
        self.power_on()

    def power_on(self) -> None:
        """What a new field does."""
        self._selected = False

    def transmit(self, apdu: bytes) -> bytes:
        """One exchange. Bad input is answered by a status word."""
        try:
            command = Command.parse(apdu)
        except ApduError:
            return Response(SW_WRONG_LENGTH).encode()
        if (command.cla, command.ins) == (0x00, INS_SELECT):
            return self._select(command).encode()
        if (command.cla, command.ins) != (0x80, INS_AUTHENTICATE):
            return Response(SW_UNKNOWN_INS).encode()
        return self._authenticate(command).encode()

    def _select(self, command: Command) -> Response:
        if command.p1 != 0x04:
            return Response(SW_WRONG_P1P2)
        self._selected = command.data == PKOC_AID
        return Response(SW_OK, tlv(TAG_VERSION, VERSION)) if self._selected else Response(SW_NOT_FOUND)

    def _authenticate(self, command: Command) -> Response:
        if not self._selected:
            return Response(SW_CONDITIONS)
        if (command.p1, command.p2) != (0x00, 0x01):
            return Response(SW_WRONG_P1P2)
        try:
            asked = list(objects(command.data))
        except TlvError:
            return Response(SW_FAILURE)
        parts = dict(asked)
        sizes = {tag: len(value) for tag, value in asked}
        if len(asked) != len(_SIZES) or sizes != _SIZES or parts[TAG_VERSION] != VERSION:
            return Response(SW_FAILURE)
        key = tlv(TAG_KEY, self.point)
        signature = tlv(TAG_SIGNATURE, self.sign(parts[TAG_TRANSACTION]))
        return Response(SW_OK, key + signature if self._order is Order.KEY_FIRST else signature + key)
