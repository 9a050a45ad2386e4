"""NFC engagement by static handover (ISO/IEC 18013-5 8.2.2.1): the Handover Select message read, built, and fetched from a
Type 4 Tag (NFC Forum T4T 2.0), sans-I/O. Record layouts: NFC Forum Connection Handover 1.5, Bluetooth CSS 1.11 and 1.16.

The message bytes are kept as received, because they go into the session transcript. Negotiated handover is recognised only.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from enum import IntEnum
from io import BytesIO
from uuid import UUID

import ndef

from mdoc import limits
from mdoc.apdu import INS_READ_BINARY, INS_SELECT, SW_NOT_FOUND, SW_OK, ApduError, Command, Response
from mdoc.engagement import BleOptions, NfcOptions
from mdoc.errors import MalformedError, MdocError

NDEF_AID = bytes.fromhex("D2760000850101")
CC_FILE, CC_LENGTH = bytes.fromhex("E103"), 15
MAX_HANDOVER = 4096
"""Bytes of a handover message: an engagement (2048 at most) and a few carriers. The fullest seen has 254."""
MAX_RECORDS = 32
READ_PIECE = 255
"""Bytes of one READ BINARY: short form, which every Type 4 Tag takes."""
NOT_READY_POLLS, NOT_READY_PAUSE = 40, 0.025
"""NLEN = 0 is polled this often, seconds apart: one second in all."""

_HS, _TP = "urn:nfc:wkt:Hs", "urn:nfc:wkt:Tp"
_ENGAGEMENT, _NFC = "urn:nfc:ext:iso.org:18013:deviceengagement", "urn:nfc:ext:iso.org:18013:nfc"
_BLE_OOB = "application/vnd.bluetooth.le.oob"
_ENGAGEMENT_ID = "mdoc"
_AD_UUIDS, _AD_ADDRESS, _AD_ROLE = 0x07, 0x1B, 0x1C


class HandoverError(MalformedError):
    """An NDEF file or handover message that breaks its format or a limit."""


class NegotiatedHandoverError(HandoverError):
    """The phone offers negotiated handover (a TNEP service parameter record), which this reader does not speak yet."""


class NotReadyError(MdocError):
    """The phone has no engagement to give yet: locked (6A82), or its NDEF file stays empty. Worth asking again."""


class LeRole(IntEnum):
    """LE role from the phone's own viewpoint (Bluetooth CSS 1.17)."""

    PERIPHERAL = 0
    CENTRAL = 1
    PERIPHERAL_PREFERRED = 2
    CENTRAL_PREFERRED = 3


@dataclass(frozen=True, slots=True)
class BleCarrier:
    """What the phone says of its BLE. `uuid` serves both roles; it may be absent (then the engagement has to say)."""

    role: LeRole
    uuid: UUID | None = field(default=None, repr=False)
    address: bytes | None = field(default=None, repr=False)
    """Device address, 6 bytes, most significant first."""
    address_random: bool = False

    def options(self) -> BleOptions:
        """The same as BleOptions of an engagement: peripheral = mdoc peripheral server mode, central = mdoc central client."""
        peripheral, central = self.role is not LeRole.CENTRAL, self.role is not LeRole.PERIPHERAL
        return BleOptions(
            peripheral, central, self.uuid if peripheral else None, self.uuid if central else None, self.address
        )


@dataclass(frozen=True, slots=True)
class HandoverSelect:
    """A Handover Select message. `raw` are the bytes received, `engagement` the DeviceEngagement bytes inside them."""

    raw: bytes = field(repr=False)
    engagement: bytes = field(repr=False)
    ble: BleCarrier | None
    nfc: NfcOptions | None

    @classmethod
    def parse(cls, raw: bytes) -> HandoverSelect:
        """Records in any order, carriers counted when an `ac` record names them. Raises HandoverError."""
        records = _decode(raw)
        by_type: dict[str, list[ndef.Record]] = {}
        for record in records:
            by_type.setdefault(record.type, []).append(record)
        if _TP in by_type:
            raise NegotiatedHandoverError("negotiated handover is offered, which is not supported")
        select = _one(by_type, _HS)
        if select is None:
            raise HandoverError("handover select record is missing")
        if select.version_info.major != 1:
            raise HandoverError("handover select record: version 1.x is expected")
        offered = {carrier.carrier_data_reference for carrier in select.alternative_carriers}
        engagement = _one(by_type, _ENGAGEMENT)
        if engagement is None:
            raise HandoverError("device engagement record is missing")
        if not 0 < len(engagement.data) <= limits.MAX_ENGAGEMENT:
            raise HandoverError("device engagement record: length out of range")
        ble, nfc = _one(by_type, _BLE_OOB), _one(by_type, _NFC)
        return cls(
            bytes(raw),
            bytes(engagement.data),
            _parse_ble(bytes(ble.data)) if ble is not None and ble.name in offered else None,
            _parse_nfc(bytes(nfc.data)) if nfc is not None and nfc.name in offered else None,
        )


def _decode(raw: bytes) -> list[ndef.Record]:
    """Only Hs is taken apart by ndeflib: its carrier classes would re-encode what they do not understand."""
    if not 0 < len(raw) <= MAX_HANDOVER:
        raise HandoverError("NDEF message: length out of range")
    records: list[ndef.Record] = []
    try:
        stream = BytesIO(raw)
        for record in ndef.message_decoder(stream, "strict", {_HS: ndef.HandoverSelectRecord}):
            records.append(record)
            if len(records) > MAX_RECORDS:
                raise HandoverError("NDEF message: too many records")
        if stream.tell() != len(raw):
            raise HandoverError("NDEF message: trailing bytes")
    except HandoverError:
        raise
    except Exception as error:  # ndeflib leaks DecodeError, ValueError, UnicodeDecodeError, AssertionError and others
        raise HandoverError(f"NDEF message: {type(error).__name__}") from None
    return records


def _one(by_type: dict[str, list[ndef.Record]], kind: str) -> ndef.Record | None:
    found = by_type.get(kind, [])
    if len(found) > 1:
        raise HandoverError("NDEF message: a record appears twice")
    return found[0] if found else None


def _length_type_values(payload: bytes, place: str) -> dict[int, bytes]:
    """A list of [length, type, value], where length counts type and value. Each type once."""
    fields: dict[int, bytes] = {}
    at = 0
    while at < len(payload):
        length = payload[at]
        if length == 0 or at + 1 + length > len(payload) or payload[at + 1] in fields:
            raise HandoverError(f"{place}: malformed data")
        fields[payload[at + 1]] = payload[at + 2 : at + 1 + length]
        at += 1 + length
    return fields


def _parse_ble(payload: bytes) -> BleCarrier:
    fields = _length_type_values(payload, "BLE carrier")
    role, uuid, address = fields.get(_AD_ROLE), fields.get(_AD_UUIDS), fields.get(_AD_ADDRESS)
    if role is None or len(role) != 1 or role[0] > max(LeRole):
        raise HandoverError("BLE carrier: LE role is expected")
    if uuid is not None and len(uuid) != 16:
        raise HandoverError("BLE carrier: one UUID of 128 bits is expected")
    # CSS 1.16 gives 6 bytes and a type byte (Annex D); wallets built on multipaz leave the type byte out.
    if address is not None and len(address) not in (6, 7):
        raise HandoverError("BLE carrier: an address of 6 or 7 bytes is expected")
    return BleCarrier(
        LeRole(role[0]),
        UUID(bytes=uuid[::-1]) if uuid is not None else None,
        address[5::-1] if address is not None else None,
        address is not None and len(address) == 7 and bool(address[6] & 1),
    )


def _parse_nfc(payload: bytes) -> NfcOptions:
    if payload[:1] != b"\x01":
        raise HandoverError("NFC carrier: version 1 is expected")
    fields = _length_type_values(payload[1:], "NFC carrier")
    command, response = int.from_bytes(fields.get(1, b"\x00\xff")), int.from_bytes(fields.get(2, b"\x01\x00"))
    if not 255 <= command <= 65_535 or not 256 <= response <= 65_536:
        raise HandoverError("NFC carrier: length out of range")
    return NfcOptions(command, response)


def build_handover_select(engagement: bytes, *, ble: BleCarrier | None = None, nfc: NfcOptions | None = None) -> bytes:
    """A Handover Select message 1.5 for the phone's side, at least one carrier. Raises HandoverError."""
    if ble is None and nfc is None:
        raise HandoverError("a handover needs a carrier")
    select = ndef.HandoverSelectRecord("1.5")
    records = [select, ndef.Record(_ENGAGEMENT, _ENGAGEMENT_ID, engagement)]
    if ble is not None:
        payload = b""
        if ble.address is not None:
            payload += b"\x08" + bytes((_AD_ADDRESS,)) + ble.address[::-1] + bytes((ble.address_random,))
        payload += bytes((2, _AD_ROLE, ble.role))
        if ble.uuid is not None:
            payload += bytes((17, _AD_UUIDS)) + ble.uuid.bytes[::-1]
        select.add_alternative_carrier("active", "0", _ENGAGEMENT_ID)
        records.append(ndef.Record(_BLE_OOB, "0", payload))
    if nfc is not None:
        payload = b"\x01\x03\x01" + nfc.max_command.to_bytes(2)
        payload += b"\x04\x02" + nfc.max_response.to_bytes(3)
        select.add_alternative_carrier("active", "nfc", _ENGAGEMENT_ID)
        records.append(ndef.Record(_NFC, "nfc", payload))
    raw = b"".join(ndef.message_encoder(records))
    if len(raw) > MAX_HANDOVER:
        raise HandoverError("NDEF message: length out of range")
    return raw


@dataclass(frozen=True, slots=True)
class Pause:
    """The card asked for time: wait `seconds`, then send the generator b""."""

    seconds: float


TagSteps = Generator[bytes | Pause, bytes, bytes]


def read_ndef_file() -> TagSteps:
    """Read the NDEF message of a Type 4 Tag (T4T 7.2). Yields command APDUs or a Pause; is sent response APDUs.

    Returns the message. Raises NotReadyError (6A82 on SELECT, NLEN = 0 for a second) or HandoverError.
    """
    reply = yield Command(0x00, INS_SELECT, 0x04, 0x00, NDEF_AID, 256).encode()
    if _response(reply).sw == SW_NOT_FOUND:
        raise NotReadyError("the phone offers no NDEF application (locked, or not presenting)")
    _expect(reply, "NDEF application", 0)
    _expect((yield Command(0x00, INS_SELECT, 0x00, 0x0C, CC_FILE).encode()), "capability container", 0)
    container = _expect((yield _read(0, CC_LENGTH)), "capability container", CC_LENGTH)
    file_id, piece, max_size = _parse_container(container)
    _expect((yield Command(0x00, INS_SELECT, 0x00, 0x0C, file_id).encode()), "NDEF file", 0)
    for _ in range(NOT_READY_POLLS):
        size = int.from_bytes(_expect((yield _read(0, 2)), "NDEF length", 2))
        if size:
            break
        yield Pause(NOT_READY_PAUSE)
    else:
        raise NotReadyError("the NDEF file stays empty")
    if size > min(max_size - 2, MAX_HANDOVER):
        raise HandoverError("NDEF file: longer than the limit")
    message = bytearray()
    while len(message) < size:
        wanted = min(piece, size - len(message))
        response = _response((yield _read(2 + len(message), wanted)))
        if response.sw != SW_OK or not 0 < len(response.data) <= wanted:
            raise HandoverError(f"NDEF file: {len(response.data)} bytes, status {response.sw:04X}")
        message += response.data
    return bytes(message)


def _read(offset: int, size: int) -> bytes:
    return Command(0x00, INS_READ_BINARY, offset >> 8, offset & 0xFF, le=size).encode()


def _response(raw: bytes) -> Response:
    try:
        return Response.parse(raw)
    except ApduError as error:
        raise HandoverError(str(error)) from None


def _expect(raw: bytes, place: str, size: int) -> bytes:
    """The data of a 9000 response of exactly `size` bytes; for 0 any data is passed over (a SELECT may return some)."""
    response = _response(raw)
    if response.sw != SW_OK or (size and len(response.data) != size):
        raise HandoverError(f"{place}: {len(response.data)} bytes, status {response.sw:04X}")
    return response.data


def _parse_container(container: bytes) -> tuple[bytes, int, int]:
    """(NDEF file id, bytes per READ BINARY, file size) of a capability container (T4T 5.1)."""
    max_le, max_size = int.from_bytes(container[3:5]), int.from_bytes(container[11:13])
    if container[2] >> 4 not in (2, 3) or container[7:9] != b"\x04\x06" or container[13] != 0x00:
        raise HandoverError("capability container: a readable NDEF file of mapping version 2 or 3 is expected")
    if max_le < CC_LENGTH or max_size < 5:
        raise HandoverError("capability container: length out of range")
    return container[9:11], min(max_le, READ_PIECE), max_size
