"""DeviceEngagement (18013-5 8.2.1.1): read with its received bytes kept, built for the holder's side, and its QR form."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cbor, cose, limits
from mdoc.cbor import Encoded
from mdoc.errors import MalformedError

QR_SCHEME = b"mdoc:"
CIPHER_SUITE_1 = 1
"""ECDH, HKDF-SHA-256, AES-256-GCM (9.1.5.2)."""
METHOD_NFC, METHOD_BLE = 1, 2
METHOD_VERSION = 1


@dataclass(frozen=True, slots=True)
class BleOptions:
    """BleOptions (8.2.1.1): which roles the mdoc offers and the service UUID of each."""

    peripheral_server: bool = False
    central_client: bool = False
    peripheral_server_uuid: UUID | None = None
    central_client_uuid: UUID | None = None
    address: bytes | None = None
    """Device address, 6 bytes, key 20."""


@dataclass(frozen=True, slots=True)
class NfcOptions:
    """NfcOptions: longest command and response data field in bytes."""

    max_command: int
    max_response: int


def _boolean(options: dict[Any, Any], key: int) -> bool:
    value = options.get(key, False)
    if type(value) is not bool:
        raise MalformedError("BLE option: a boolean is expected")
    return value


def _uuid(options: dict[Any, Any], key: int) -> UUID | None:
    value = options.get(key)
    if value is None:
        return None
    if type(value) is not bytes or len(value) != 16:
        raise MalformedError("BLE option: a UUID of 16 bytes is expected")
    return UUID(bytes=value)


def _ble(options: dict[Any, Any]) -> BleOptions:
    address = options.get(20)
    if address is not None and (type(address) is not bytes or len(address) != 6):
        raise MalformedError("BLE option: an address of 6 bytes is expected")
    ble = BleOptions(_boolean(options, 0), _boolean(options, 1), _uuid(options, 10), _uuid(options, 11), address)
    if ble.peripheral_server and ble.peripheral_server_uuid is None:
        raise MalformedError("BLE option: peripheral server mode without its UUID")
    if ble.central_client and ble.central_client_uuid is None:
        raise MalformedError("BLE option: central client mode without its UUID")
    return ble


def _nfc(options: dict[Any, Any]) -> NfcOptions:
    command, response = options.get(0), options.get(1)
    if type(command) is not int or type(response) is not int:
        raise MalformedError("NFC option: two lengths are expected")
    if not 255 <= command <= 65535 or not 256 <= response <= 65536:
        raise MalformedError("NFC option: length out of range")
    return NfcOptions(command, response)


@dataclass(frozen=True, slots=True)
class DeviceEngagement:
    """What a phone says of itself before a session. `raw` are the bytes received: they go into the transcript."""

    raw: bytes
    version: str
    key: ec.EllipticCurvePublicKey
    key_bytes: Encoded
    """EDeviceKeyBytes with its tag: input of the BLE Ident."""
    ble: BleOptions | None
    nfc: NfcOptions | None

    @classmethod
    def parse(cls, raw: bytes) -> DeviceEngagement:
        """Unknown keys, methods and options are ignored (later versions add some). Raises MalformedError."""
        body = cbor.decode_map(raw, max_bytes=limits.MAX_ENGAGEMENT)
        version = body.get(0)
        if type(version) is not str or not version.startswith("1."):
            raise MalformedError("engagement: version 1.x is expected")
        security = body.get(1)
        if type(security) is not list or len(security) < 2:
            raise MalformedError("engagement: security is expected")
        suite, key_bytes = security[0], security[1]
        if suite != CIPHER_SUITE_1 or type(suite) is not int or type(key_bytes) is not Encoded:
            raise MalformedError("engagement: cipher suite 1 and a key are expected")
        key = cose.ec_public_key(cbor.decode(key_bytes.content), "EDeviceKey")
        ble: BleOptions | None = None
        nfc: NfcOptions | None = None
        methods = body.get(2, [])
        if type(methods) is not list:
            raise MalformedError("engagement: retrieval methods are an array")
        for method in methods:
            if type(method) is not list or len(method) < 3 or type(method[0]) is not int:
                raise MalformedError("engagement: a retrieval method is [type, version, options]")
            kind, version_, options = method[:3]
            if version_ != METHOD_VERSION or type(options) is not dict:
                continue
            if kind == METHOD_BLE and ble is None:
                ble = _ble(options)
            elif kind == METHOD_NFC and nfc is None:
                nfc = _nfc(options)
        return cls(raw, version, key, key_bytes, ble, nfc)


def build_engagement(
    key: ec.EllipticCurvePublicKey, *, ble: BleOptions | None = None, nfc: NfcOptions | None = None
) -> bytes:
    """DeviceEngagement version 1.0 with the retrieval methods given."""
    body: dict[int, Any] = {0: "1.0", 1: [CIPHER_SUITE_1, Encoded.wrap(cbor.encode(cose.cose_key(key)))]}
    methods: list[Any] = []
    if nfc is not None:
        methods.append([METHOD_NFC, METHOD_VERSION, {0: nfc.max_command, 1: nfc.max_response}])
    if ble is not None:
        options: dict[int, Any] = {0: ble.peripheral_server, 1: ble.central_client}
        if ble.peripheral_server_uuid is not None:
            options[10] = ble.peripheral_server_uuid.bytes
        if ble.central_client_uuid is not None:
            options[11] = ble.central_client_uuid.bytes
        if ble.address is not None:
            options[20] = ble.address
        methods.append([METHOD_BLE, METHOD_VERSION, options])
    if methods:
        body[2] = methods
    return cbor.encode(body)


def to_qr(engagement: bytes) -> str:
    """`mdoc:` and base64url without padding (8.2.2.3)."""
    return QR_SCHEME.decode() + base64.urlsafe_b64encode(engagement).rstrip(b"=").decode()


def from_qr(text: bytes) -> bytes:
    """The engagement bytes of a QR code. Raises MalformedError."""
    if not text.startswith(QR_SCHEME):
        raise MalformedError("not an mdoc: code")
    body = text[len(QR_SCHEME) :]
    if len(body) > limits.MAX_ENGAGEMENT * 4 // 3 + 4:
        raise MalformedError("engagement too long")
    try:
        return base64.b64decode(body + b"=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("not base64url") from error
