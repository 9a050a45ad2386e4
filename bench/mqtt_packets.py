"""The few MQTT v5 packets a load generator needs (OASIS MQTT 5.0, section 3): made once beforehand, read with little work."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CONNACK, PUBLISH, PUBACK, SUBACK = 2, 3, 4, 9
"""Packet types."""
FAILURE = 0x80
"""Reason codes from here on say that something was not done (2.4)."""
MAX_REMAINING_BYTES = 4


class PacketError(Exception):
    """The broker refused something, or said what was not expected here."""


@dataclass(frozen=True, slots=True)
class Packet:
    type: int
    body: bytes
    """Everything behind the fixed header."""


def variable(number: int) -> bytes:
    """A Variable Byte Integer (1.5.5)."""
    found = bytearray()
    while True:
        number, low = divmod(number, 128)
        found.append(low | (128 if number else 0))
        if not number:
            return bytes(found)


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack(">H", len(raw)) + raw


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + variable(len(body)) + body


def connect(client_id: str, keepalive_s: int) -> bytes:
    """Clean start, no will, no session afterwards."""
    return _packet(0x10, text("MQTT") + struct.pack(">BBH", 5, 0x02, keepalive_s) + b"\0" + text(client_id))


def publish(
    topic: str, packet_id: int, payload: bytes, content_type: str, user: Sequence[tuple[str, str]] = ()
) -> bytes:
    """QoS 1, not retained."""
    properties = b"\x03" + text(content_type) + b"".join(b"\x26" + text(name) + text(value) for name, value in user)
    head = text(topic) + struct.pack(">H", packet_id) + variable(len(properties)) + properties
    return _packet(0x32, head + payload)


def subscribe(packet_id: int, topic_filter: str) -> bytes:
    """QoS 0: nothing that comes wants an answer."""
    return _packet(0x82, struct.pack(">H", packet_id) + b"\0" + text(topic_filter) + b"\0")


def packets(buffer: bytearray) -> Iterator[Packet]:
    """Takes the complete packets from the front of `buffer`. Raises PacketError."""
    at, end = 0, len(buffer)
    try:
        while at + 2 <= end:
            length, shift, start = 0, 0, at + 1
            while start < end:
                byte = buffer[start]
                length |= (byte & 127) << shift
                shift, start = shift + 7, start + 1
                if byte < 128:
                    break
                if shift == 7 * MAX_REMAINING_BYTES:
                    raise PacketError("a length of more than four bytes")
            else:
                return
            if start + length > end:
                return
            kind, body = buffer[at] >> 4, bytes(buffer[start : start + length])
            at = start + length
            yield Packet(kind, body)
    finally:
        del buffer[:at]


def check_connack(packet: Packet) -> None:
    """Raises PacketError unless the broker accepts."""
    if packet.type != CONNACK or len(packet.body) < 2 or packet.body[1] >= FAILURE:
        raise PacketError(f"connection refused: packet {packet.type}, {packet.body[:2].hex()}")


def check_suback(packet: Packet) -> None:
    """Raises PacketError unless the one subscription is granted."""
    if packet.type != SUBACK or len(packet.body) < 4 or packet.body[-1] >= FAILURE:
        raise PacketError(f"subscription refused: packet {packet.type}, {packet.body.hex()}")


def puback(packet: Packet) -> int:
    """The packet identifier. Raises PacketError for a publication that was refused (3.4.2.1)."""
    body = packet.body
    if packet.type != PUBACK or len(body) < 2 or (len(body) > 2 and body[2] >= FAILURE):
        raise PacketError(f"publication refused: packet {packet.type}, {body[:3].hex()}")
    return body[0] << 8 | body[1]


def acknowledged(packet: Packet) -> int:
    """`seq` of the controller's acknowledgement in a PUBLISH of QoS 0 without or with properties."""
    body = packet.body
    at = 2 + int.from_bytes(body[:2])
    properties, shift = 0, 0
    while True:
        byte = body[at]
        properties |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            break
    return int(json.loads(body[at + properties :])["seq"])
