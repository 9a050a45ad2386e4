"""Settings, will, properties and results of the MQTT link."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """Times in seconds. `client_id` should be the certificate's common name."""

    host: str
    port: int
    ca: Path
    certificate: Path
    key: Path
    client_id: str
    keepalive: int = 30
    clean_start: bool = True
    session_expiry: int = 0
    """How long the broker keeps the session after the connection ends. A will delay longer than this has no effect (MQTT 5.0
    3.1.3.2.2: the will goes out when the session ends)."""
    receive_maximum: int = 20
    """QoS 1 messages the broker may send before the first is acknowledged: the back-pressure of the receiving side. A broker
    that sends more is not read until half of them are."""
    in_flight: int = 20
    """Our unacknowledged messages at a time; the broker's own Receive Maximum can only lower it."""
    max_waiting: int = 1000
    """Publications that may wait for a place in flight; the next one is refused as `queue_full`."""
    max_payload: int = 65536
    """Bytes, both ways: a longer one is not sent, and the broker is told not to send one."""
    manual_ack: bool = False
    """True: `MqttLink.ack` acknowledges; False: a message is acknowledged when its callback returns."""
    backoff_base: float = 0.5
    backoff_cap: float = 30.0
    connect_timeout: float = 5.0
    """TCP, TLS and CONNACK, each."""
    ack_timeout: float = 10.0
    """A PUBACK later than this ends the connection."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when the connection ends without a DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True
    delay: int = 0
    """Seconds; a client that is back within them leaves no trace."""


@dataclass(frozen=True, slots=True)
class PublishProperties:
    content_type: str | None = None
    expiry: int | None = None
    """Seconds after which the broker drops the message."""
    user: tuple[tuple[str, str], ...] = ()
    response_topic: str | None = None
    """Where an answer is expected (MQTT 5.0 4.10)."""
    correlation: bytes | None = None
    """What the answer gives back."""


@dataclass(frozen=True, slots=True)
class PubResult:
    """`reason` is `ok`, the broker's own reason (such as `Not authorized`), or one of the constants below. `ok` with
    `NO_SUBSCRIBERS`: the broker took the message and has nobody to give it to."""

    ok: bool
    reason: str


OK = "ok"
NOT_CONNECTED = "not_connected"
CONNECTION_LOST = "connection_lost"
QUEUE_FULL = "queue_full"
TOO_LARGE = "too_large"
TIMEOUT = "timeout"
NO_SUBSCRIBERS = "No matching subscribers"
"""MQTT 5.0 3.4.2.1, 0x10: a success."""
