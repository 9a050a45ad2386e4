"""The MQTT v5 client of agent and controller: one link to the broker that is always being kept up.

It works with the broker absent at start, killed or restarted; the one back-off (protocol.backoff) spaces the attempts. It
queues nothing across connections: a publication that did not get its PUBACK is reported, and the caller's durable outbox
sends again. PUBACK means that the broker has it, not that the controller has stored it (protocol.ack).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from protocol.backoff import Backoff
from protocol.clock import Clock
from protocol.mqtt_connection import ConnectError, Connection, Message
from protocol.mqtt_settings import (
    CONNECTION_LOST,
    NO_SUBSCRIBERS,
    NOT_CONNECTED,
    OK,
    QUEUE_FULL,
    TIMEOUT,
    TOO_LARGE,
    MqttSettings,
    PublishProperties,
    PubResult,
    Will,
)
from protocol.mqtt_tls import TlsFilesError, tls_context

__all__ = [
    "CONNECTION_LOST",
    "NOT_CONNECTED",
    "NO_SUBSCRIBERS",
    "OK",
    "QUEUE_FULL",
    "TIMEOUT",
    "TOO_LARGE",
    "LinkState",
    "Message",
    "MqttLink",
    "MqttSettings",
    "PubResult",
    "PublishProperties",
    "Publisher",
    "TlsFilesError",
    "Will",
]

STABLE_S = 10.0
"""A connection that lasted this long starts its next back-off from the base; two clients with one id cannot storm."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinkState:
    connected: bool
    session_present: bool
    """The broker still had this client's session: what it queued comes by itself."""
    reason: str
    """Why it is not connected; empty while it is."""


class Publisher(Protocol):
    """The part of MqttLink that whoever publishes needs."""

    @property
    def connected(self) -> bool: ...

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: PublishProperties | None = None,
    ) -> PubResult: ...


class MqttLink:
    """All methods belong to the loop that called `start`. Callbacks run on that loop and must not block or raise."""

    def __init__(
        self,
        settings: MqttSettings,
        *,
        clock: Clock,
        random: Random,
        will: Will | None = None,
        on_message: Callable[[Message], None] | None = None,
        on_state: Callable[[LinkState], None] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.settings, self._clock, self._will, self._sleep = settings, clock, will, sleep
        self._on_message, self._on_state = on_message, on_state
        self._backoff = Backoff(settings.backoff_base, settings.backoff_cap, random)
        self._filters: dict[str, int] = {}
        self._connection: Connection | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._stop_within: float | None = None
        self.state = LinkState(False, False, "not started")

    @property
    def connected(self) -> bool:
        return self._connection is not None

    async def wait_connected(self) -> None:
        await self._up.wait()

    def start(self) -> None:
        """Begin to keep the link up; does not wait for it. Raises TlsFilesError when certificate or key cannot be used."""
        tls_context(self.settings)
        self._keeper = asyncio.create_task(self._keep(), name="mqtt-link")

    async def stop(self, timeout: float = 2.0) -> None:
        """DISCONNECT (so that no will is published), at most `timeout` seconds; then the link is gone."""
        if self._keeper is None:
            return
        self._stop_within = timeout
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        self._keeper = None

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: PublishProperties | None = None,
    ) -> PubResult:
        """Resolves at PUBACK with the broker's answer; never waits for a connection, never raises for a broker's fault."""
        if len(payload) > self.settings.max_payload:
            return PubResult(False, TOO_LARGE)
        if self._connection is None:
            return PubResult(False, NOT_CONNECTED)
        return await self._connection.publish(topic, payload, qos, retain, properties)

    async def subscribe(self, topic_filter: str, qos: int = 1) -> PubResult:
        """Subscribe now, if connected, and at every connection to come. A broker that refuses one at connection time counts
        as a failed connection, which `on_state` reports."""
        self._filters[topic_filter] = qos
        if self._connection is None:
            return PubResult(False, NOT_CONNECTED)
        return await self._connection.subscribe({topic_filter: qos})

    def ack(self, message: Message) -> None:
        """With `manual_ack`: the message is dealt with. One of an earlier connection is left alone: it comes again."""
        message.connection.ack(message)

    async def _keep(self) -> None:
        while True:
            reason, lasted = await self._once()
            if lasted >= STABLE_S:
                self._backoff.reset()
            self._change(LinkState(False, False, reason))
            await self._sleep(self._backoff.next())

    async def _once(self) -> tuple[str, float]:
        """One connection from open to end; gives the reason of its end and the seconds it was up."""
        connection = Connection(self.settings, self._will, self._receive)
        try:
            try:
                session_present = await connection.open(self._filters)
            except ConnectError as error:
                return str(error), 0.0
            since = self._clock.monotonic()
            self._connection = connection
            self._change(LinkState(True, session_present, ""))
            return await connection.ended(), self._clock.monotonic() - since
        except asyncio.CancelledError:
            self._connection = None
            await connection.disconnect(self._stop_within or 0)
            self._change(LinkState(False, False, "stopped"))
            raise
        finally:
            self._connection = None

    def _change(self, state: LinkState) -> None:
        if state == self.state:
            return
        if state.connected != self.state.connected or not state.connected:
            _log.info("mqtt %s", "connected" if state.connected else f"not connected: {state.reason}")
        self.state = state
        if state.connected:
            self._up.set()
        else:
            self._up.clear()
        if self._on_state is not None:
            self._on_state(state)

    def _receive(self, message: Message) -> None:
        if self._on_message is not None:
            try:
                self._on_message(message)
            except Exception:
                # A fault in the receiver must not take the link down, or one message could do so for ever.
                _log.exception("receiver failed on a message of %d bytes", len(message.payload))
        if not self.settings.manual_ack:
            message.connection.ack(message)
