"""One MQTT v5 connection (OASIS MQTT 5.0) over TLS with a client certificate, from TCP to its end; never used again after that.

paho-mqtt speaks the protocol, but for the messages that come (protocol.mqtt_packets). Its socket is served by the asyncio loop,
so there are no threads to hand over to. Only the blocking part (name look-up, TCP, TLS handshake) runs in a thread.
protocol.mqtt makes connections one after the other.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paho.mqtt.client import (
    MQTT_ERR_SUCCESS,
    MQTT_LOG_ERR,
    Client,
    ConnectFlags,
    DisconnectFlags,
    MQTTv5,
)
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from protocol.daemon_thread import in_thread
from protocol.mqtt_packets import PUBLISH, Cutter, PacketError, Publish, puback, publish
from protocol.mqtt_settings import (
    CONNECTION_LOST,
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
from protocol.mqtt_socket import PacketSocket
from protocol.mqtt_tls import TlsFilesError, tls_context

MISC_S = 1.0
"""Seconds between looks at the keep-alive timers."""
MAX_PROPERTIES = 32
"""User properties kept of one message."""
MAX_CORRELATION = 64
"""Bytes of correlation data; of a longer one none is kept."""
MAX_OVERHEAD_BYTES = 1024
"""Room in a packet for everything but the payload: topic and properties."""


class ConnectError(Exception):
    """No connection came about; the text says why in a few words."""


@dataclass(slots=True)  # not frozen: one is made for every message, and a frozen one costs three times as much
class Message:
    """One message as received."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    user: Mapping[str, str]
    """User properties; of a name given twice the last counts."""
    mid: int = field(repr=False)
    connection: Connection = field(repr=False)
    """The connection it came by: a packet identifier means nothing to another one."""
    response_topic: str | None = None
    """Where its sender expects an answer (MQTT 5.0 4.10), as it wrote it: no broker checks that it is a topic's name."""
    correlation: bytes | None = field(default=None, repr=False)
    """What the answer has to give back; of at most MAX_CORRELATION bytes."""

    @property
    def stale(self) -> bool:
        """Its connection has ended: an unacknowledged QoS 1 message comes again."""
        return self.qos > 0 and not self.connection.live


class Connection:
    def __init__(self, settings: MqttSettings, will: Will | None, on_message: Callable[[Message], None]) -> None:
        self._settings, self._on_message = settings, on_message
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._connack: asyncio.Future[bool] = self._loop.create_future()
        self._unacked: dict[int, asyncio.Future[PubResult]] = {}
        self._subscribing: dict[int, asyncio.Future[Sequence[ReasonCode]]] = {}
        self._places = asyncio.Semaphore(settings.in_flight)
        self._waiting = 0
        self._max_packet = settings.max_payload + MAX_OVERHEAD_BYTES
        self._owed: set[int] = set()
        """Packet identifiers received and not yet acknowledged by us."""
        self._paused = self._flushing = self._blocked = False
        """Nothing is read; a write is about to happen; the broker does not read."""
        self._cutter = Cutter(self._max_packet)
        self._misc: asyncio.TimerHandle | None = None
        self._sock: PacketSocket | None = None
        self._last_error = ""
        # manual_ack is always on: an automatic acknowledgement would leave before our callback has run.
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = settings.connect_timeout
        client.max_inflight_messages_set(65535)  # ours is bounded by `_places`
        client.on_log = self._note
        client.on_connect = self._on_connack
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_puback
        client.on_subscribe = self._on_suback
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_want_write
        if will is not None:
            properties = _empty(PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = will.delay
            client.will_set(will.topic, will.payload, will.qos, will.retain, properties)
        self._client = client

    # Life

    async def open(self, filters: Mapping[str, int]) -> bool:
        """Connect and subscribe to `filters` (filter -> QoS). Gives CONNACK's session-present flag. Raises ConnectError."""
        try:
            await in_thread(self._connect, self._abandon, "mqtt-connect")
            self._attach()
            async with asyncio.timeout(self._settings.connect_timeout):
                session_present = await self._connack
                if filters:
                    await self._subscribe(filters)
        except (OSError, ValueError, TlsFilesError) as error:
            # TimeoutError (ours and the socket's), refused, unreachable, no such name and every TLS error are OSErrors.
            reason = self._last_error or str(error) or type(error).__name__
            self.abort(reason)
            raise ConnectError(reason) from error
        except BaseException:
            self.abort("given up")
            raise
        self._client.on_log = None  # from here on paho would only format a line for every packet
        return session_present

    def _connect(self) -> None:
        settings, client = self._settings, self._client
        properties = _empty(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = settings.session_expiry
        properties.ReceiveMaximum = settings.receive_maximum
        properties.MaximumPacketSize = settings.max_payload + MAX_OVERHEAD_BYTES
        client.tls_set_context(tls_context(settings))
        client.connect(
            settings.host, settings.port, settings.keepalive, clean_start=settings.clean_start, properties=properties
        )

    def _abandon(self) -> None:
        """Nobody waits any more for a connect that has come about."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _attach(self) -> None:
        sock = self._client.socket()
        if not isinstance(sock, PacketSocket):
            raise ConnectionError("closed at once")
        # Without it an acknowledgement that follows another write waits for the broker's delayed TCP ACK, 40 ms.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._loop.add_reader(sock, self._readable)
        if self._client.want_write():
            self._flush_soon()
        self._misc = self._loop.call_later(MISC_S, self._tick)

    @property
    def live(self) -> bool:
        return not self._ended.done()

    async def ended(self) -> str:
        """Wait for the end of the connection; gives the reason."""
        return await asyncio.shield(self._ended)

    async def disconnect(self, timeout: float) -> None:
        """Say goodbye (no will is published) and wait at most `timeout` seconds for it to leave."""
        if not self._ended.done():
            self._client.disconnect()
            await asyncio.wait([self._ended], timeout=timeout)
        self.abort("stopped")

    def abort(self, reason: str) -> None:
        """Drop the connection. Everything that waits gets `connection_lost`."""
        if self._ended.done():
            return
        self._ended.set_result(reason)
        if self._misc is not None:
            self._misc.cancel()
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
            sock.close()
        if not self._connack.done():
            self._connack.set_exception(ConnectionError(reason))
            self._connack.exception()  # nobody may be waiting
        for waiting in self._unacked.values():
            if not waiting.done():
                waiting.set_result(PubResult(False, CONNECTION_LOST))
        for subscribing in self._subscribing.values():
            if not subscribing.done():
                subscribing.set_exception(ConnectionError(reason))

    # Socket

    def _readable(self) -> None:
        sock = self._sock
        if sock is None or self._paused:
            return
        try:
            self._take_packets()  # what a pause has left: nothing more is read before it is gone
            if self._paused or self._sock is not sock:
                return
            self._cutter.feed(sock.fill())
            self._take_packets()
            if self._sock is not sock:
                return
            if sock.ended:
                self._client.loop_read()  # paho finds the end, and says why
            elif sock.full:
                self._loop.call_soon(self._readable)
            if self._blocked:
                self._flush()
        except Exception as error:
            # paho raises whatever its parsers meet (IndexError, struct.error, ...) on packets that break the protocol.
            self.abort(f"protocol error: {type(error).__name__}")

    def _take_packets(self) -> None:
        """All whole ones, until we owe too many acknowledgements."""
        for packet in self._cutter.packets():
            if packet[0] >> 4 == PUBLISH:
                self._on_publish(publish(packet))
            elif self._sock is not None:
                self._sock.hand_over(packet)
                self._client.loop_read()
            if self._sock is None or self._paused:
                return

    def _flush_soon(self) -> None:
        """Once a turn: acknowledgements and publications of one turn leave together."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._sock is not None and self._client.want_write():
            self._client.loop_write()
        sock = self._sock  # gone after a DISCONNECT
        if sock is None:
            return
        try:
            blocked = not sock.flush()
        except OSError as error:
            self._readable()  # why the broker has closed is in what it said last
            self.abort(self._last_error or error.strerror or type(error).__name__)
            return
        if blocked != self._blocked:
            self._blocked = blocked
            if blocked:
                self._loop.add_writer(sock, self._flush)
            else:
                self._loop.remove_writer(sock)
                if self._client.want_write():
                    self._flush_soon()

    def _tick(self) -> None:
        self._misc = self._loop.call_later(MISC_S, self._tick)
        self._client.loop_misc()

    def _on_want_write(self, _client: Client, _userdata: Any, _sock: Any) -> None:
        if self._sock is not None:  # else still connecting, in the thread
            self._flush_soon()

    def _on_socket_close(self, _client: Client, _userdata: Any, sock: Any) -> None:
        if self._sock is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
            self._sock = None

    def _note(self, _client: Client, _userdata: Any, level: int, text: str) -> None:
        if level == MQTT_LOG_ERR:
            self._last_error = text

    # Packets

    def _on_connack(
        self, _client: Client, _userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if self._connack.done():
            return
        if reason.is_failure:
            self._connack.set_exception(ConnectionRefusedError(str(reason)))
            return
        allowed = getattr(properties, "ReceiveMaximum", self._settings.in_flight)
        self._places = asyncio.Semaphore(min(self._settings.in_flight, allowed))
        self._max_packet = getattr(properties, "MaximumPacketSize", self._max_packet)
        self._connack.set_result(bool(flags.session_present))

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: Any,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.abort(self._last_error or str(reason))

    async def _subscribe(self, filters: Mapping[str, int]) -> None:
        rc, mid = self._client.subscribe([(each, SubscribeOptions(qos=qos)) for each, qos in filters.items()])
        if rc != MQTT_ERR_SUCCESS or mid is None:
            raise ConnectionError("lost while subscribing")
        answer = self._subscribing[mid] = self._loop.create_future()
        try:
            for each, reason in zip(filters, await answer, strict=True):
                if reason.is_failure:
                    raise ConnectionRefusedError(f"subscription to {each}: {reason}")
        finally:
            del self._subscribing[mid]

    async def subscribe(self, filters: Mapping[str, int]) -> PubResult:
        """Subscribe on a live connection; `ok` is false when the broker refuses one of them."""
        try:
            async with asyncio.timeout(self._settings.ack_timeout):
                await self._subscribe(filters)
        except TimeoutError:
            self.abort(TIMEOUT)
            return PubResult(False, TIMEOUT)
        except (OSError, ValueError) as error:
            return PubResult(False, str(error))
        return PubResult(True, OK)

    def _on_suback(
        self, _client: Client, _userdata: Any, mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        answer = self._subscribing.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(reasons)

    async def publish(
        self, topic: str, payload: bytes, qos: int, retain: bool, wanted: PublishProperties | None
    ) -> PubResult:
        """Resolves at PUBACK (QoS 1) or when the packet has left (QoS 0)."""
        if self._ended.done():
            return PubResult(False, NOT_CONNECTED)
        if len(payload) + MAX_OVERHEAD_BYTES > self._max_packet:
            return PubResult(False, TOO_LARGE)  # a broker cuts off whoever passes its limit (MQTT 5.0 3.2.2.3.6)
        if self._waiting >= self._settings.max_waiting:
            return PubResult(False, QUEUE_FULL)
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            if self._ended.done():
                return PubResult(False, CONNECTION_LOST)
            sent = self._client.publish(topic, payload, qos, retain, _properties(wanted))
            if sent.rc != MQTT_ERR_SUCCESS:
                return PubResult(False, CONNECTION_LOST)
            answer: asyncio.Future[PubResult] = self._loop.create_future()
            self._unacked[sent.mid] = answer
            try:
                async with asyncio.timeout(self._settings.ack_timeout):
                    return await answer
            except TimeoutError:
                self.abort(TIMEOUT)
                return PubResult(False, TIMEOUT)
            finally:
                del self._unacked[sent.mid]
        finally:
            self._places.release()

    def _on_puback(
        self, _client: Client, _userdata: Any, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        answer = self._unacked.get(mid)
        if answer is not None and not answer.done():
            # A refused publication must not pass for a delivered one: MQTT 5.0 3.4.2.1, 0x80 and above.
            answer.set_result(PubResult(not reason.is_failure, OK if reason.value == 0 else str(reason)))

    def _on_publish(self, received: Publish) -> None:
        if not self._connack.done():
            raise PacketError("a message before CONNACK")
        if received.qos:
            self._owed.add(received.mid)
            # mosquitto 2.0.11 passes our Receive Maximum once acknowledgements flow; what is not read waits in its queue.
            if len(self._owed) > self._settings.receive_maximum and self._sock is not None:
                self._paused = True
                self._loop.remove_reader(self._sock)
        correlation = received.correlation
        self._on_message(
            Message(
                received.topic,
                received.payload,
                received.qos,
                received.retain,
                dict(received.user[:MAX_PROPERTIES]),
                received.mid,
                self,
                received.response_topic,
                None if correlation is None or len(correlation) > MAX_CORRELATION else correlation,
            )
        )

    def ack(self, message: Message) -> None:
        """PUBACK, unless the connection it came by has ended: then the broker sends it again."""
        sock = self._sock
        if message.connection is not self or message.mid not in self._owed or sock is None:
            return
        self._owed.discard(message.mid)
        sock.send(puback(message.mid))
        self._flush_soon()
        if self._paused and len(self._owed) <= self._settings.receive_maximum // 2:
            self._paused = False
            self._loop.add_reader(sock, self._readable)
            self._loop.call_soon(self._readable)  # what TLS or we hold wakes no selector


def _empty(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves this constructor untyped


def _properties(wanted: PublishProperties | None) -> Properties | None:
    if wanted is None:
        return None
    properties = _empty(PacketTypes.PUBLISH)
    if wanted.content_type is not None:
        properties.ContentType = wanted.content_type
    if wanted.expiry is not None:
        properties.MessageExpiryInterval = wanted.expiry
    if wanted.response_topic is not None:
        properties.ResponseTopic = wanted.response_topic
    if wanted.correlation is not None:
        properties.CorrelationData = wanted.correlation
    if wanted.user:
        properties.UserProperty = list(wanted.user)
    return properties
