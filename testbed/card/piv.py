"""A PIV card as a reader without a PIN sees it (SP 800-73-5 parts 1 and 2): application, data objects, and the
card-authentication key.

Sans-I/O: `transmit` takes a command APDU and returns the response APDU. Bad input is answered by a status word, never raised.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable

from cryptography.hazmat.primitives.serialization import Encoding

from mdoc.apdu import (
    CLA_CHAINING,
    INS_GET_RESPONSE,
    INS_SELECT,
    SHORT_RESPONSE_DATA,
    SW1_MORE,
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
from testbed.card.issuer import CardCredential
from testbed.card.keys import Signer, algorithm, signer
from testbed.card.tlv import TlvError, objects, tlv

RID = bytes.fromhex("A000000308")
PIX = bytes.fromhex("000010000100")
PIV_AID = RID + PIX
GSC_RID = bytes.fromhex("A000000116")
INS_VERIFY, INS_GENERAL_AUTHENTICATE, INS_GET_DATA = 0x20, 0x87, 0xCB
SW_BAD_DATA, SW_CHAIN_EXPECTED, SW_CLA, SW_NO_REFERENCE = 0x6A80, 0x6883, 0x6E00, 0x6A88

CERTIFICATE, CHUID, CAPABILITIES, DISCOVERY = 0x5FC101, 0x5FC102, 0x5FC107, 0x7E
"""Tags of data objects (part 1 table 3): card-authentication certificate, CHUID, card capability container, discovery object."""
CARD_AUTHENTICATION = 0x9E
TAG_TEMPLATE, TAG_CHALLENGE, TAG_RESPONSE = 0x7C, 0x81, 0x82
MAX_CHAIN = 1024
"""Bytes of a chained command: an RSA-3072 block in its template has 396."""
_END = tlv(0xFE)
PROPERTIES = tlv(0x61, tlv(0x4F, PIX), tlv(0x79, tlv(0x4F, RID)))
"""Application property template (part 2 table 3), as cards in the field give it: without the optional label and address."""
DISCOVERY_OBJECT = tlv(DISCOVERY, tlv(0x4F, PIV_AID), tlv(0x5F2F, bytes.fromhex("4000")))
"""PIN usage policy 4000: the application's own PIN, no other (part 1 3.3.2)."""


def certificate_object(der: bytes, *, compressed: bool = False) -> bytes:
    """The content of 5FC101: {70 certificate, 71 information, FE} (part 1 table 10); bit 1 of 71: gzip."""
    held = gzip.compress(der, mtime=0) if compressed else der
    return tlv(0x70, held) + tlv(0x71, bytes((int(compressed),))) + _END


def capabilities(identifier: bytes) -> bytes:
    """The content of 5FC107 (part 1 table 8): what GSC-IS middleware wants to see, empty but for versions and the card's
    identifier (14 bytes).
    """
    return (
        tlv(0xF0, GSC_RID, b"\xff\x02", identifier)
        + tlv(0xF1, b"\x21")
        + tlv(0xF2, b"\x21")
        + tlv(0xF3)
        + tlv(0xF4, b"\x00")
        + tlv(0xF5, b"\x10")
        + b"".join(tlv(tag) for tag in (0xF6, 0xF7, 0xFA, 0xFB, 0xFC, 0xFD))
        + _END
    )


class VirtualPivCard:
    """One card. `objects` (tag to whole answer) and `sign` may be replaced to make another kind of card.

    `compressed`: the certificate is stored as gzip. `extended`: takes extended APDUs too.
    """

    def __init__(self, credential: CardCredential, *, compressed: bool = False, extended: bool = False) -> None:
        self.uid = credential.uid
        der = credential.certificate.public_bytes(Encoding.DER)
        self.objects: dict[int, bytes] = {
            CERTIFICATE: tlv(0x53, certificate_object(der, compressed=compressed)),
            CHUID: tlv(0x53, credential.chuid),
            CAPABILITIES: tlv(0x53, capabilities(credential.capability_identifier)),
            DISCOVERY: DISCOVERY_OBJECT,
        }
        self.algorithm: int = algorithm(credential.key)
        self.sign: Signer | None = signer(credential.key)
        self._extended = extended
        self.power_on()

    def power_on(self) -> None:
        """What a new field does: nothing is selected, nothing is half done."""
        self._selected = False
        self._answer = b""
        self._chain: tuple[tuple[int, int, int], bytes] | None = None

    def transmit(self, apdu: bytes) -> bytes:
        """One exchange."""
        try:
            command = Command.parse(apdu)
        except ApduError:
            return Response(SW_WRONG_LENGTH).encode()
        if not self._extended and len(apdu) > 5 and apdu[4] == 0:
            return Response(SW_WRONG_LENGTH).encode()
        if command.ins == INS_GET_RESPONSE and command.cla == 0:
            return self._get_response(command).encode()
        self._answer = b""
        if command.cla not in (0, CLA_CHAINING):
            return Response(SW_CLA).encode()
        return self._collect(command).encode()

    def _collect(self, command: Command) -> Response:
        """Command chaining (7816-4 5.3.3): the parts of one command, all with the same INS, P1 and P2."""
        header = (command.ins, command.p1, command.p2)
        before, self._chain = self._chain, None
        if before is not None and before[0] != header:
            return Response(SW_CHAIN_EXPECTED)
        data = (before[1] if before is not None else b"") + command.data
        if len(data) > MAX_CHAIN:
            return Response(SW_WRONG_LENGTH)
        if command.cla & CLA_CHAINING:
            self._chain = (header, data)
            return Response(SW_OK)
        handler = self._handlers().get(command.ins)
        if handler is None or not (self._selected or command.ins == INS_SELECT):
            return Response(SW_UNKNOWN_INS)
        response = handler(Command(0, *header, data, command.le))
        if response.sw != SW_OK:
            return response
        self._answer = response.data
        # yubico-piv-tool sends no Le and takes an answer all the same, as cards give it.
        return self._give(command.le or SHORT_RESPONSE_DATA)

    def _handlers(self) -> dict[int, Callable[[Command], Response]]:
        return {
            INS_SELECT: self._select,
            INS_GET_DATA: self._get_data,
            INS_GENERAL_AUTHENTICATE: self._authenticate,
            INS_VERIFY: self._verify,
        }

    def _give(self, le: int) -> Response:
        data, self._answer = self._answer[:le], self._answer[le:]
        if not self._answer:
            return Response(SW_OK, data)
        left = len(self._answer)
        return Response(SW1_MORE << 8 | (left if left < SHORT_RESPONSE_DATA else 0), data)

    def _get_response(self, command: Command) -> Response:
        if not self._answer:
            return Response(SW_CONDITIONS)
        if command.p1 or command.p2:
            return Response(SW_WRONG_P1P2)
        return self._give(command.le or SHORT_RESPONSE_DATA)

    def _select(self, command: Command) -> Response:
        """By the whole application identifier or its beginning, at least the RID: no other application shares it.

        An application that is not there leaves the one selected before (part 2 3.1.1).
        """
        if (command.p1, command.p2) != (0x04, 0x00):
            return Response(SW_WRONG_P1P2)
        if len(command.data) < len(RID) or not PIV_AID.startswith(command.data):
            return Response(SW_NOT_FOUND)
        self._selected = True
        return Response(SW_OK, PROPERTIES)

    def _get_data(self, command: Command) -> Response:
        if (command.p1, command.p2) != (0x3F, 0xFF):
            return Response(SW_WRONG_P1P2)
        try:
            asked = list(objects(command.data))
        except TlvError:
            return Response(SW_BAD_DATA)
        if len(asked) != 1 or asked[0][0] != 0x5C or len(asked[0][1]) not in (1, 3):
            return Response(SW_BAD_DATA)
        found = self.objects.get(int.from_bytes(asked[0][1]))
        return Response(SW_NOT_FOUND) if found is None else Response(SW_OK, found)

    def _authenticate(self, command: Command) -> Response:
        """Only what a card-authentication key does: a challenge in, a response out (part 2 A.4)."""
        if self.sign is None or (command.p1, command.p2) != (self.algorithm, CARD_AUTHENTICATION):
            return Response(SW_WRONG_P1P2)
        try:
            ((tag, template),) = objects(command.data)
            parts = dict(objects(template))
            if tag != TAG_TEMPLATE or parts.keys() != {TAG_CHALLENGE, TAG_RESPONSE} or parts[TAG_RESPONSE]:
                return Response(SW_BAD_DATA)
            signature = self.sign(command.p1, parts[TAG_CHALLENGE])
        except ValueError:
            return Response(SW_BAD_DATA)
        return Response(SW_OK, tlv(TAG_TEMPLATE, tlv(TAG_RESPONSE, signature)))

    def _verify(self, _command: Command) -> Response:
        """This card has no PIN."""
        return Response(SW_NO_REFERENCE)
