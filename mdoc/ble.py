"""BLE data retrieval without a radio: characteristics, State values, chunk framing, Ident (ISO/IEC 18013-5 8.3.3.1.1).

Sans-I/O and the same on both sides of the air; who connects to whom, and how, is the business of the drivers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mdoc import limits
from mdoc.errors import MalformedError

ATT_MTU = 515
"""ATT MTU to ask for, bytes: with it one write carries exactly MAX_VALUE (8.3.3.1.1.3)."""
ATT_MTU_DEFAULT = 23
"""ATT MTU before any exchange, bytes (Core Specification, Vol 3 Part F 3.2.8)."""
ATT_HEADER = 3
"""Opcode and handle in front of a written or notified value, bytes (Vol 3 Part F 3.4.5.3, 3.4.7.1)."""
MAX_VALUE = 512
"""Longest attribute value, bytes (Vol 3 Part F 3.2.9). At MTU 517 a stack offers 514: two too many."""
SERVER_MTU = 512
"""Largest ATT MTU to grant as GATT server: bluetoothd before 5.69 drops writes of 511 and 512 bytes without a word, so phones
are made to write 509 (MTU - 3) at most."""
MIN_VALUE = 2
"""A prefix and one byte of payload."""
MAX_CHUNKS = 2 * limits.MAX_MESSAGE // (ATT_MTU_DEFAULT - ATT_HEADER - 1)
"""Chunks of one message: twice what the longest needs at the smallest MTU, so that an endless run of empty chunks ends."""

STATE_START = b"\x01"
"""State, written by the GATT client once it is subscribed (table 11)."""
STATE_END = b"\x02"
"""State, written by the client or notified by the server, no answer expected (table 11)."""

PREFIX_LAST = 0x00
PREFIX_MORE = 0x01
"""First byte of each Client2Server and Server2Client value (8.3.3.1.1.6)."""

IDENT_INFO = b"BLEIdent"
IDENT_LENGTH = 16
"""Bytes (8.3.3.1.1.3)."""


def _uuid(number: int) -> UUID:
    return UUID(f"{number:08x}-a123-48ce-896b-4c76973373e6")


@dataclass(frozen=True, slots=True)
class Characteristics:
    """The characteristics of one role. `ident` exists only where the reader is the server."""

    state: UUID
    client_to_server: UUID
    server_to_client: UUID
    ident: UUID | None
    l2cap_psm: UUID


PERIPHERAL_SERVER = Characteristics(_uuid(0x1), _uuid(0x2), _uuid(0x3), None, _uuid(0xA))
"""mdoc peripheral server mode: the phone is the GATT server (table 5)."""
CENTRAL_CLIENT = Characteristics(_uuid(0x5), _uuid(0x6), _uuid(0x7), _uuid(0x8), _uuid(0xB))
"""mdoc central client mode: the reader is the GATT server (table 6)."""


WALK_UP_SERVICE = UUID("8f0c5a1e-3f5d-4a8b-9c6e-2d7b1e40a6c1")
"""Advertised by a phone whose holder has armed one presentation for whoever walks up to a gate. Ours, like the next."""
WALK_UP_ENGAGEMENT = UUID("8f0c5a1f-3f5d-4a8b-9c6e-2d7b1e40a6c1")
"""Read: the DeviceEngagement, at most MAX_VALUE bytes. The service's other characteristics are those of PERIPHERAL_SERVER."""


class FramingError(MalformedError):
    """A chunk that breaks the framing, or a message over the limit. Says what, never the content."""


def fragment_size(att_mtu: int) -> int:
    """Longest value of one write or notification at `att_mtu`, prefix included: min(MTU - 3, 512)."""
    return min(att_mtu - ATT_HEADER, MAX_VALUE)


def chunks(message: bytes, fragment: int) -> Iterator[bytes]:
    """Characteristic values of at most `fragment` bytes, prefix included; an empty message is one bare last chunk.

    Raises ValueError for a fragment size no attribute can have.
    """
    if not MIN_VALUE <= fragment <= MAX_VALUE:
        raise ValueError(f"fragment of {fragment} bytes, {MIN_VALUE} to {MAX_VALUE} expected")
    return _chunks(message, fragment - 1)


def _chunks(message: bytes, payload: int) -> Iterator[bytes]:
    last = max(0, (len(message) - 1) // payload * payload)
    for start in range(0, last, payload):
        yield bytes([PREFIX_MORE]) + message[start : start + payload]
    yield bytes([PREFIX_LAST]) + message[last:]


class Reassembler:
    """Puts whole messages together from chunks. A chunk with more to follow may be shorter than the maximum: phones do it."""

    def __init__(self, max_message: int = limits.MAX_MESSAGE) -> None:
        self._max_message = max_message
        self._buffer = bytearray()
        self._chunks = 0

    def feed(self, value: bytes) -> bytes | None:
        """One characteristic value in; the message once its last chunk is there. Raises FramingError and starts afresh."""
        try:
            return self._feed(value)
        except FramingError:
            self._reset()
            raise

    def _feed(self, value: bytes) -> bytes | None:
        if not value:
            raise FramingError("chunk without a prefix")
        if len(value) > MAX_VALUE:
            raise FramingError(f"chunk of {len(value)} bytes, at most {MAX_VALUE}")
        if value[0] not in (PREFIX_LAST, PREFIX_MORE):
            raise FramingError("chunk prefix is neither 00 nor 01")
        self._chunks += 1
        if self._chunks > MAX_CHUNKS:
            raise FramingError(f"message in more than {MAX_CHUNKS} chunks")
        if len(self._buffer) + len(value) - 1 > self._max_message:
            raise FramingError(f"message longer than {self._max_message} bytes")
        self._buffer += value[1:]
        if value[0] == PREFIX_MORE:
            return None
        message = bytes(self._buffer)
        self._reset()
        return message

    def _reset(self) -> None:
        self._buffer = bytearray()
        self._chunks = 0


def ble_ident(e_device_key_bytes: bytes) -> bytes:
    """Ident of mdoc central client mode, 16 bytes, from EDeviceKeyBytes with its tag 24 (8.3.3.1.1.3)."""
    return HKDF(hashes.SHA256(), IDENT_LENGTH, b"", IDENT_INFO).derive(e_device_key_bytes)
