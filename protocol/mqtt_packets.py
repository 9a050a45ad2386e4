"""The MQTT v5 packets that come and go by the thousand: PUBLISH to us and its PUBACK (OASIS MQTT 5.0, 2.1, 3.3, 3.4).

Bytes in, values out. paho-mqtt reads every packet in pieces of one and two bytes and unpacks every property; a controller that
receives from hundreds of gates spends most of its time there. All other packets stay with paho, whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

PUBLISH = 3
MAX_LENGTH_BYTES = 4
"""Of the remaining length (2.1.4)."""
RESPONSE_TOPIC, CORRELATION_DATA, USER_PROPERTY = 0x08, 0x09, 0x26
BYTE, FOUR, NUMBER, TEXT, PAIR = range(5)
PROPERTIES = {
    0x01: BYTE,  # payload format indicator
    0x02: FOUR,  # message expiry interval
    0x03: TEXT,  # content type
    RESPONSE_TOPIC: TEXT,
    CORRELATION_DATA: TEXT,
    0x0B: NUMBER,  # subscription identifier
    USER_PROPERTY: PAIR,
}
"""Of a PUBLISH (3.3.2.3). A topic alias (0x23) is none of them: we allow the broker none."""
_FIXED = {BYTE: 1, FOUR: 4}
_KEPT = frozenset({RESPONSE_TOPIC, CORRELATION_DATA})


class PacketError(ValueError):
    """Bytes that break the protocol; the connection cannot go on."""


@dataclass(slots=True)  # not frozen: one is made for every message, and a frozen one costs three times as much
class Publish:
    topic: str
    payload: bytes
    qos: int
    """0 or 1."""
    retain: bool
    mid: int
    """Packet identifier; 0 with QoS 0."""
    user: list[tuple[str, str]] = field(default_factory=list)
    response_topic: str | None = None
    """As its sender wrote it: a broker hands on what is no name of a topic, so that refusing it here would end our connection by
    another's fault. Compare it with the one that is expected; never publish to it."""
    correlation: bytes | None = None


class Cutter:
    """Cuts what arrives into packets. Holds at most one packet that is not whole, and what was fed at once."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of a packet at most, as the broker was told."""
        self._limit = limit
        self._buffer = b""
        self._at = 0

    def feed(self, data: bytes) -> None:
        self._buffer = self._buffer[self._at :] + data
        self._at = 0

    def packets(self) -> Iterator[bytes]:
        """Whole packets, as far as they have come; whoever stops in between goes on with the next call. Raises PacketError."""
        while True:
            buffer, start = self._buffer, self._at
            body = start + 2
            if len(buffer) < body:
                return
            length = buffer[start + 1]
            if length >= 0x80:
                found = _number(buffer, start + 1, len(buffer))
                if found is None:
                    return
                length, body = found
            if body + length - start > self._limit:
                raise PacketError(f"a packet of {length} bytes")
            if body + length > len(buffer):
                return
            self._at = body + length
            yield buffer[start : self._at]


def _number(data: bytes, at: int, end: int) -> tuple[int, int] | None:
    """A Variable Byte Integer (1.5.5) and where it ends; None: it does not end before `end`. Raises PacketError."""
    value = 0
    for place in range(MAX_LENGTH_BYTES):
        if at + place >= end:
            return None
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise PacketError("a number of more than four bytes")


def publish(packet: bytes) -> Publish:
    """A whole PUBLISH of QoS 0 or 1. Raises PacketError."""
    first, end = packet[0], len(packet)
    at = 2
    while packet[at - 1] >= 0x80:
        at += 1
    qos = (first >> 1) & 3
    if qos > 1:
        raise PacketError("QoS 2 was not asked for")
    topic_at = at + 2
    at = topic_at + int.from_bytes(packet[at:topic_at])
    try:
        topic = packet[topic_at:at].decode()
    except UnicodeDecodeError as error:
        raise PacketError("a topic that is no text") from error
    mid = 0
    if qos:
        mid = int.from_bytes(packet[at : at + 2])
        at += 2
    if at >= end:
        raise PacketError("a packet that ends early")
    if not topic or (qos and not mid):
        raise PacketError("no topic, or no packet identifier")
    length = packet[at]
    if length >= 0x80:
        number = _number(packet, at, end)
        if number is None:
            raise PacketError("a packet that ends early")
        length, at = number
    else:
        at += 1
    found = Publish(topic, packet[at + length :], qos, bool(first & 1), mid)
    if length:
        _read_properties(found, packet, at, at + length)
    return found


def _read_properties(into: Publish, packet: bytes, at: int, end: int) -> None:
    """Walks through all properties and keeps the user's, the response topic and the correlation data. Raises PacketError."""
    if end > len(packet):
        raise PacketError("properties that end early")
    while at < end:
        name = packet[at]
        kind = PROPERTIES.get(name)
        at += 1
        if kind is None:
            raise PacketError("a property that no PUBLISH has")
        if kind == PAIR:
            name_at = at + 2
            name_end = name_at + int.from_bytes(packet[at:name_at])
            value_at = name_end + 2
            at = value_at + int.from_bytes(packet[name_end:value_at])
            try:
                into.user.append((packet[name_at:name_end].decode(), packet[value_at:at].decode()))
            except UnicodeDecodeError as error:
                raise PacketError("a property that is no text") from error
        elif kind == TEXT:
            value_at = at + 2
            at = value_at + int.from_bytes(packet[at:value_at])
            if name in _KEPT:
                _keep(into, name, packet[value_at:at])
        elif kind == NUMBER:
            found = _number(packet, at, end)
            if found is None:
                raise PacketError("properties that end early")
            at = found[1]
        else:
            at += _FIXED[kind]
    if at != end:
        raise PacketError("properties that end early")


def _keep(into: Publish, name: int, value: bytes) -> None:
    """Raises PacketError for a second one, or a response topic that is no text (3.3.2.3.5, 3.3.2.3.6)."""
    if (into.response_topic if name == RESPONSE_TOPIC else into.correlation) is not None:
        raise PacketError("a property that is there twice")
    if name == CORRELATION_DATA:
        into.correlation = value
        return
    try:
        into.response_topic = value.decode()
    except UnicodeDecodeError as error:
        raise PacketError("a property that is no text") from error


def puback(mid: int) -> bytes:
    """Success, without properties (3.4.2.1)."""
    return b"\x40\x02" + mid.to_bytes(2)
