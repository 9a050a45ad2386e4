"""The messages of NFC engagement (ISO/IEC 18013-5 8.2.2.1): Handover Select and Handover Request, read and built.

Record layouts: NFC Forum Connection Handover 1.5, Bluetooth CSS 1.11 and 1.16. The message bytes are kept as received,
because they go into the session transcript. How they come over: `mdoc.type4tag`, `mdoc.negotiated_handover`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from io import BytesIO
from uuid import UUID

import ndef

from mdoc import cbor, limits
from mdoc.engagement import BleOptions, NfcOptions
from mdoc.errors import HandoverError, MalformedError, NotReadyError
from mdoc.type4tag import CC_FILE, MAX_HANDOVER, NDEF_AID, Pause, read_ndef_file

__all__ = [
    "CC_FILE",
    "MAX_HANDOVER",
    "NDEF_AID",
    "BleCarrier",
    "HandoverError",
    "HandoverRequest",
    "HandoverSelect",
    "LeRole",
    "NegotiatedHandoverError",
    "NotReadyError",
    "Pause",
    "build_handover_request",
    "build_handover_select",
    "decode_message",
    "encode_record",
    "read_ndef_file",
]

MAX_RECORDS = 32

_HS, _HR, _TP, _AC = "urn:nfc:wkt:Hs", "urn:nfc:wkt:Hr", "urn:nfc:wkt:Tp", "urn:nfc:wkt:ac"
_ENGAGEMENT, _NFC = "urn:nfc:ext:iso.org:18013:deviceengagement", "urn:nfc:ext:iso.org:18013:nfc"
_BLE_OOB = "application/vnd.bluetooth.le.oob"
_ENGAGEMENT_ID = "mdoc"
_READER_ENGAGEMENT, _READER_ENGAGEMENT_ID = "urn:nfc:ext:iso.org:18013:readerengagement", "mdocreader"
_AD_UUIDS, _AD_ADDRESS, _AD_ROLE = 0x07, 0x1B, 0x1C


class NegotiatedHandoverError(HandoverError):
    """A TNEP service parameter record where a Handover Select message was expected."""


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
        by_type = _by_type(raw)
        if _TP in by_type:
            raise NegotiatedHandoverError("negotiated handover is offered, a handover select message is expected")
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


@dataclass(frozen=True, slots=True)
class HandoverRequest:
    """A Handover Request message: what a reader offers in a negotiated handover, roles from the reader's own viewpoint."""

    raw: bytes = field(repr=False)
    ble: BleCarrier | None
    nfc: NfcOptions | None

    @classmethod
    def parse(cls, raw: bytes) -> HandoverRequest:
        """Records in any order; the collision record `cr` and the reader engagement may be left out. Raises HandoverError."""
        by_type = _by_type(raw)
        request = _one(by_type, _HR)
        if request is None:
            raise HandoverError("handover request record is missing")
        payload = bytes(request.data)
        if not payload or payload[0] >> 4 != 1:
            raise HandoverError("handover request record: version 1.x is expected")
        embedded = decode_message(payload[1:], {_AC: ndef.handover.AlternativeCarrierRecord})
        offered = {record.carrier_data_reference for record in embedded if record.type == _AC}
        reader = _one(by_type, _READER_ENGAGEMENT)
        if reader is not None:
            _check_reader_engagement(bytes(reader.data))
        ble, nfc = _one(by_type, _BLE_OOB), _one(by_type, _NFC)
        return cls(
            bytes(raw),
            _parse_ble(bytes(ble.data)) if ble is not None and ble.name in offered else None,
            _parse_nfc(bytes(nfc.data)) if nfc is not None and nfc.name in offered else None,
        )


def _check_reader_engagement(payload: bytes) -> None:
    """ReaderEngagement = {0: version} (8.2.2.1); later keys are passed over."""
    try:
        version = cbor.decode_map(payload, max_bytes=limits.MAX_ENGAGEMENT).get(0)
    except MalformedError as error:
        raise HandoverError(f"reader engagement: {error}") from None
    if type(version) is not str or not version.startswith("1."):
        raise HandoverError("reader engagement: version 1.x is expected")


def _by_type(raw: bytes) -> dict[str, list[ndef.Record]]:
    found: dict[str, list[ndef.Record]] = {}
    for record in decode_message(raw, {_HS: ndef.HandoverSelectRecord}):
        found.setdefault(record.type, []).append(record)
    return found


def decode_message(raw: bytes, known: dict[str, type] | None = None) -> list[ndef.Record]:
    """The records of an NDEF message. Only `known` types are taken apart by ndeflib: its carrier classes would re-encode what
    they do not understand. Raises HandoverError."""
    if not 0 < len(raw) <= MAX_HANDOVER:
        raise HandoverError("NDEF message: length out of range")
    records: list[ndef.Record] = []
    try:
        stream = BytesIO(raw)
        for record in ndef.message_decoder(stream, "strict", known or {}):
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


def encode_record(kind: str, payload: bytes) -> bytes:
    """An NDEF message of one record without an identifier."""
    return b"".join(ndef.message_encoder([ndef.Record(kind, "", payload)]))


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
    records = _carrier_records(ble, nfc)
    select = ndef.HandoverSelectRecord("1.5")
    for record in records:
        select.add_alternative_carrier("active", record.name, _ENGAGEMENT_ID)
    return _message(select, ndef.Record(_ENGAGEMENT, _ENGAGEMENT_ID, engagement), *records)


def build_handover_request(
    *, ble: BleCarrier | None = None, nfc: NfcOptions | None = None, nfc_first: bool = False
) -> HandoverRequest:
    """A Handover Request message 1.5 for the reader's side, at least one carrier, the preferred one first. Raises HandoverError.

    No `cr` record: it settles who asks first between peers, and a tag never asks (multipaz and isomdl leave it out too).
    """
    if ble is None and nfc is None:
        raise HandoverError("a handover needs a carrier")
    records = _carrier_records(ble, nfc)
    if nfc_first:
        records.reverse()
    carriers = [ndef.handover.AlternativeCarrierRecord("active", record.name) for record in records]
    request = ndef.Record(_HR, "", b"\x15" + b"".join(ndef.message_encoder(carriers)))
    reader = ndef.Record(_READER_ENGAGEMENT, _READER_ENGAGEMENT_ID, cbor.encode({0: "1.0"}))
    return HandoverRequest(_message(request, reader, *records), ble, nfc)


def _carrier_records(ble: BleCarrier | None, nfc: NfcOptions | None) -> list[ndef.Record]:
    records = []
    if ble is not None:
        payload = b""
        if ble.address is not None:
            payload += b"\x08" + bytes((_AD_ADDRESS,)) + ble.address[::-1] + bytes((ble.address_random,))
        payload += bytes((2, _AD_ROLE, ble.role))
        if ble.uuid is not None:
            payload += bytes((17, _AD_UUIDS)) + ble.uuid.bytes[::-1]
        records.append(ndef.Record(_BLE_OOB, "0", payload))
    if nfc is not None:
        payload = b"\x01\x03\x01" + nfc.max_command.to_bytes(2) + b"\x04\x02" + nfc.max_response.to_bytes(3)
        records.append(ndef.Record(_NFC, "nfc", payload))
    return records


def _message(*records: ndef.Record) -> bytes:
    raw = b"".join(ndef.message_encoder(records))
    if len(raw) > MAX_HANDOVER:
        raise HandoverError("NDEF message: length out of range")
    return raw
