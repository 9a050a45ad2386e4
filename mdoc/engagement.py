"""DeviceEngagement (18013-5 8.2.1.1): read with its received bytes kept, built for the holder's side, and its QR form.

{0: version, 1: [cipher suite, EDeviceKeyBytes], ? 2: [+ [type, version, options]], ? 5: [origin infos], ? 6: {capability: value}}

Versions 1.x are read alike; what this reader does not know (server retrieval, protocol info, later keys) is kept as bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec

from mdoc import cbor, cose, limits
from mdoc.cbor import Encoded, ItemBudget
from mdoc.errors import MalformedError

QR_SCHEME = b"mdoc:"
CIPHER_SUITE_1 = 1
"""ECDH, HKDF-SHA-256, AES-256-GCM (9.1.5.2)."""
METHOD_NFC, METHOD_BLE = 1, 2
METHOD_VERSION = 1
MAX_METHODS = 16
"""Retrieval methods of one engagement; five kinds exist."""
CAPABILITY_HANDOVER_SESSION_ESTABLISHMENT, CAPABILITY_READER_AUTH_ALL, CAPABILITY_EXTENDED_REQUEST = 2, 3, 4
"""Capabilities of the second edition (key 6)."""
_VERSION = re.compile(r"1\.[0-9]{1,2}")
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]*={0,2}")


@dataclass(frozen=True, slots=True)
class BleOptions:
    """BleOptions (8.2.1.1): which roles the mdoc offers and the service UUID of each.

    The PSM (key 21, second edition) is passed over: this reader speaks GATT; announced L2CAP channels are broken in the field.
    """

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


def _merged(first: BleOptions | None, more: BleOptions) -> BleOptions:
    """Two BLE methods in one engagement: each mode as the first one offers it that does."""
    if first is None:
        return more
    server = first if first.peripheral_server else more
    client = first if first.central_client else more
    return BleOptions(
        server.peripheral_server,
        client.central_client,
        server.peripheral_server_uuid,
        client.central_client_uuid,
        first.address or more.address,
    )


@dataclass(frozen=True, slots=True)
class DeviceEngagement:
    """What a phone says of itself before a session. `raw` are the bytes received: they go into the transcript."""

    raw: bytes = field(repr=False)
    version: str
    key: ec.EllipticCurvePublicKey = field(repr=False)
    key_bytes: Encoded = field(repr=False)
    """EDeviceKeyBytes with its tag: input of the BLE Ident."""
    ble: BleOptions | None = field(repr=False)
    nfc: NfcOptions | None
    method_types: tuple[int, ...] = ()
    """Type of every retrieval method in order, those this reader does not speak included."""
    origin_infos: tuple[Mapping[Any, Any], ...] = ()
    """Key 5 (ISO/IEC TS 18013-7); Apple sends an empty array."""
    capabilities: Mapping[int, Any] = field(default_factory=dict)
    """Key 6 (second edition)."""
    other: Mapping[Any, bytes] = field(default_factory=dict, repr=False)
    """Keys this reader does not know, each value as received."""

    @classmethod
    def parse(cls, raw: bytes) -> DeviceEngagement:
        """Unknown keys, methods and options are no error (later versions add some). Raises MalformedError."""
        budget = ItemBudget(limits.MAX_ENGAGEMENT_ITEMS)
        body = cbor.decode_map(raw, max_bytes=limits.MAX_ENGAGEMENT, budget=budget)
        version = body.get(0)
        if type(version) is not str or not _VERSION.fullmatch(version):
            raise MalformedError("engagement: version 1.x is expected")
        security = body.get(1)
        if type(security) is not list or len(security) < 2:
            raise MalformedError("engagement: security is expected")
        suite, key_bytes = security[0], security[1]
        if suite != CIPHER_SUITE_1 or type(suite) is not int or type(key_bytes) is not Encoded:
            raise MalformedError("engagement: cipher suite 1 and a key are expected")
        key = cose.ec_public_key(cbor.decode(key_bytes.content, budget=budget), "EDeviceKey")
        types, ble, nfc = _methods(body.get(2, []))
        origins, capabilities = body.get(5, []), body.get(6, {})
        if type(origins) is not list or any(type(entry) is not dict for entry in origins):
            raise MalformedError("engagement: origin infos are an array of maps")
        if type(capabilities) is not dict or any(type(number) is not int for number in capabilities):
            raise MalformedError("engagement: capabilities are a map by number")
        other = {}
        if not _KNOWN_KEYS.issuperset(body):
            other = {key: value for key, value in cbor.entries(raw).items() if key not in _KNOWN_KEYS}
        return cls(bytes(raw), version, key, key_bytes, ble, nfc, types, tuple(origins), capabilities, other)


_KNOWN_KEYS = frozenset({0, 1, 2, 5, 6})


def _methods(value: Any) -> tuple[tuple[int, ...], BleOptions | None, NfcOptions | None]:
    """Retrieval methods (key 2). Of NFC the first counts; BLE may come in several, one mode each."""
    if type(value) is not list or len(value) > MAX_METHODS:
        raise MalformedError("engagement: retrieval methods are a short array")
    types: list[int] = []
    ble: BleOptions | None = None
    nfc: NfcOptions | None = None
    for method in value:
        if type(method) is not list or len(method) < 2 or type(method[0]) is not int or type(method[1]) is not int:
            raise MalformedError("engagement: a retrieval method is [type, version, options]")
        kind, version = method[:2]
        types.append(kind)
        if version != METHOD_VERSION or kind not in (METHOD_BLE, METHOD_NFC):
            continue
        if len(method) < 3 or type(method[2]) is not dict:
            raise MalformedError("engagement: options of a retrieval method are a map")
        if kind == METHOD_BLE:
            ble = _merged(ble, _ble(method[2]))
        elif nfc is None:
            nfc = _nfc(method[2])
    return tuple(types), ble, nfc


def build_engagement(
    key: ec.EllipticCurvePublicKey,
    *,
    ble: BleOptions | None = None,
    nfc: NfcOptions | None = None,
    capabilities: Mapping[int, Any] | None = None,
) -> bytes:
    """DeviceEngagement with the retrieval methods given: version 1.0, or 1.1 with capabilities."""
    version = "1.0" if capabilities is None else "1.1"
    body: dict[int, Any] = {0: version, 1: [CIPHER_SUITE_1, Encoded.wrap(cbor.encode(cose.cose_key(key)))]}
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
    if capabilities is not None:
        body[6] = dict(capabilities)
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
    if not _BASE64URL.fullmatch(body):  # Python's decoder would take + and / as well
        raise MalformedError("not base64url")
    try:
        return base64.b64decode(body + b"=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("not base64url") from error
