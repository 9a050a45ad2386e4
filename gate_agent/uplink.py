"""Journal to controller: records in sequence with a window, birth and will, retained state, health.

An outbox row leaves only on the controller's own acknowledgement, whose hash is compared first (protocol.ack); a PUBACK is
not one. A publication that the broker refuses is an alarm, never a success. Nothing here can hold up a lane: the journal
tells that there is something to send, and this sends it when it can.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Protocol

from paho.mqtt.client import topic_matches_sub

from gate_agent.journal import AckMismatchError, Journal, Record, RecordUnavailableError
from gate_agent.timers import CallLater, Handle
from mdoc.cose import PublicKey
from protocol import ack, mqtt, topics
from protocol.ack import Ack
from protocol.backoff import Backoff
from protocol.events import Kind
from protocol.health import EXPIRY_S, Health
from protocol.mqtt import LinkState, Message, PublishProperties, PubResult, Will
from protocol.status import GateState, Online

_log = logging.getLogger(__name__)

RESEND_BASE_S, RESEND_CAP_S = 5.0, 60.0
"""Without any acknowledgement moving, everything in the window is sent again after this long, then with back-off."""
WILL_DELAY_S = 15
"""A gate that is back within it leaves no trace of having been offline."""
DRAIN_S = 2.0
"""What a stopping gate grants its last records."""
NAME = "uplink"
"""Stands in device.degraded and device.restored as any device does."""
_PASSING = frozenset({mqtt.NOT_CONNECTED, mqtt.CONNECTION_LOST, mqtt.QUEUE_FULL, mqtt.TIMEOUT})
"""Ends of a publication that say nothing about the record: it is sent again."""
CONTENT_TYPE = "application/cloudevents+json"


class Broker(Protocol):
    """The part of protocol.mqtt.MqttLink that is used here."""

    @property
    def connected(self) -> bool: ...

    def start(self) -> None: ...

    async def stop(self, timeout: float = 2.0) -> None: ...

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: PublishProperties | None = None,
    ) -> PubResult: ...

    async def subscribe(self, topic_filter: str, qos: int = 1) -> PubResult: ...


Connect = Callable[[Will, Callable[[Message], None], Callable[[LinkState], None]], Broker]


class Uplink:
    def __init__(
        self,
        connect: Connect,
        journal: Journal,
        *,
        site: str,
        gate: str,
        boot: str,
        controller_key: PublicKey,
        in_flight: int,
        random: Random,
        call_later: CallLater,
        state: Callable[[str, int], GateState],
        health: Callable[[], Awaitable[Health]],
        health_s: float,
        report: Callable[[Kind, dict[str, str]], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`controller_key` signs acknowledgements. `connect` makes the (not yet started) broker link from will, message and state
        callbacks. `state` gives the retained state for an epoch and sequence. `report` records device.degraded and
        device.restored."""
        self._journal, self._site, self._gate, self._boot = journal, site, gate, boot
        self._controller_key = controller_key
        self._window, self._call_later = in_flight, call_later
        self._state, self._health, self._health_s, self._sleep = state, health, health_s, sleep
        self._report = report
        self._backoff = Backoff(RESEND_BASE_S, RESEND_CAP_S, random)
        self._online_topic = topics.online(site, gate)
        will = Will(self._online_topic, Online(False, boot).encode(), retain=True, delay=WILL_DELAY_S)
        self._broker = connect(will, self._on_message, self._on_state)
        self._wake, self._state_changed, self._acked = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._connected = asyncio.Event()
        self._ack: Ack | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._publishing: set[asyncio.Task[None]] = set()
        self._resend: Handle | None = None
        self._floor = 0
        """Highest sequence number that is known not to wait in the outbox."""
        self._sent = 0
        """Highest sequence number published on this connection and not rewound; 0: begin with the oldest."""
        self._round = 0
        """Counts connections and rewinds: what was read from the outbox for an earlier one is not sent."""
        self._born = False
        self._problems: dict[str, str] = {}
        self._listeners: dict[str, Callable[[Message], None]] = {}
        self._links: list[Callable[[bool], None]] = []
        self._halted = False
        self._stopping = False

    async def listen(self, topic_filter: str, qos: int, on_message: Callable[[Message], None]) -> None:
        """Another topic of this link; before `start`. The first filter that matches a message gets it."""
        self._listeners[topic_filter] = on_message
        await self._broker.subscribe(topic_filter, qos)

    def on_link(self, told: Callable[[bool], None]) -> None:
        """`told` is called when the link comes and goes; before `start`."""
        self._links.append(told)

    async def send(self, topic: str, payload: bytes) -> bool:
        """One message that is no record. True: the broker has it. One it refuses is a problem as any other."""
        result = await self._broker.publish(topic, payload)
        self._judge(topic.rsplit("/", 1)[-1], result)
        return result.ok

    @property
    def degraded(self) -> list[str]:
        """Flags for events and health."""
        if self._halted:
            return ["ack_mismatch"]
        if not self._broker.connected:
            return ["no_uplink"]
        return ["uplink_refused"] if self._problems else []

    async def start(self) -> None:
        """Raises protocol.mqtt.TlsFilesError. Does not wait for a connection."""
        await self._broker.subscribe(topics.ack(self._site, self._gate))
        self._broker.start()
        work = (self._acknowledge_forever(), self._send_forever(), self._state_forever(), self._health_forever())
        self._tasks = [asyncio.create_task(each) for each in work]

    async def stop(self) -> None:
        """Send what is left, say goodbye and disconnect; a few seconds at most."""
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks[1:], return_exceptions=True)
        try:
            async with asyncio.timeout(DRAIN_S):
                while self._broker.connected and not self._halted and await self._fill():
                    await asyncio.gather(*self._publishing)
                await asyncio.gather(*self._publishing)
                await self._publish_online(online=False)
        except (TimeoutError, RecordUnavailableError):
            _log.info("stopped with records still to send; they stay in the outbox")
        # From here on a lost connection is our own doing: no event, which nobody would send any more.
        self._stopping = True
        for task in (*self._tasks, *self._publishing):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._publishing, return_exceptions=True)
        if self._resend is not None:
            self._resend.cancel()
        await self._broker.stop()

    def records_waiting(self) -> None:
        """The journal has committed."""
        self._wake.set()

    def state_changed(self) -> None:
        """A lane or device changed."""
        self._state_changed.set()

    # The broker's callbacks.

    def _on_state(self, state: LinkState) -> None:
        if state.connected:
            self._connected.set()
            self._born = False
            self._rewind()
            self._arm(0)
            self._state_changed.set()
            self._mend("connection")
            for told in self._links:
                told(True)
        elif not self._stopping:
            self._break("connection", f"not connected: {state.reason}")
            for told in self._links:
                told(False)

    def _on_message(self, message: Message) -> None:
        for topic_filter, listener in self._listeners.items():
            if topic_matches_sub(topic_filter, message.topic):
                listener(message)
                return
        try:
            self._ack = ack.parse(message.payload, self._site, self._gate, self._controller_key)
        except ValueError:
            _log.warning("a message on the ack topic that is no acknowledgement")
            return
        self._acked.set()

    # Records.

    async def _send_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._broker.connected or self._halted:
                continue
            try:
                if not self._born:
                    self._born = True
                    await self._publish_online(online=True)
                await self._fill()
            except RecordUnavailableError:
                self._arm(RESEND_BASE_S)

    async def _fill(self) -> bool:
        """Publish what the window has room for, in sequence. False: nothing more to send now."""
        begun = self._round
        if self._sent == 0:
            records = await self._journal.unsent(0, self._window)
            if records:
                self._floor = records[0].seq - 1
        else:
            room = self._window - (self._sent - self._floor)
            records = await self._journal.unsent(self._sent, room) if room > 0 else ()
        if begun != self._round:
            return True  # rewound meanwhile: the next call reads anew
        for record in records:
            self._sent = record.seq
            # Tasks start in the order of their making, so records leave in sequence.
            task = asyncio.create_task(self._publish(record))
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)
        if records and self._resend is None:
            self._arm(self._backoff.next())
        return bool(records)

    async def _publish(self, record: Record) -> None:
        properties = PublishProperties(CONTENT_TYPE, user=(("seq", str(record.seq)), ("boot", self._boot)))
        result = await self._broker.publish(
            topics.event(self._site, self._gate), record.raw, qos=1, properties=properties
        )
        # Whatever failed goes again with the resend timer, which is armed while anything is in flight.
        self._judge("evt", result)

    def _judge(self, leaf: str, result: PubResult) -> None:
        if result.ok:
            self._mend(leaf)
        elif result.reason not in _PASSING:
            self._break(leaf, f"refused: {result.reason}")

    def _rewind(self) -> None:
        """Begin again with the oldest record that waits."""
        self._round += 1
        self._sent = 0
        self._wake.set()

    def _arm(self, seconds: float) -> None:
        """(Re)start the resend timer; 0 stops it."""
        if self._resend is not None:
            self._resend.cancel()
        self._resend = self._call_later(seconds, self._on_resend) if seconds else None

    def _on_resend(self) -> None:
        self._resend = None
        self._rewind()

    async def _acknowledge_forever(self) -> None:
        while True:
            await self._acked.wait()
            self._acked.clear()
            found = self._ack
            if found is None:
                continue
            try:
                moved = await self._journal.acknowledge(found)
            except AckMismatchError as error:
                _log.critical("the controller acknowledges what this journal does not hold: %s", error)
                self._halted = True
                self._break("ack", "ack_mismatch")
                continue
            except RecordUnavailableError:
                continue  # the controller repeats its acknowledgement with the next record
            if self._halted and moved:
                self._halted = False
                self._rewind()
                self._mend("ack")
            if moved:
                self._floor = max(self._floor, found.seq)
                self._backoff.reset()
                self._arm(self._backoff.next() if self._sent > self._floor else 0)
                self._wake.set()

    def _break(self, what: str, why: str) -> None:
        if not self._problems:
            self._report(Kind.DEVICE_DEGRADED, {"device": NAME, "why": why[:200]})
        self._problems[what] = why

    def _mend(self, what: str) -> None:
        if self._problems.pop(what, None) is not None and not self._problems:
            self._report(Kind.DEVICE_RESTORED, {"device": NAME})

    # Online, state, health.

    async def _publish_online(self, *, online: bool) -> None:
        payload = Online(online, self._boot).encode()
        self._judge("online", await self._broker.publish(self._online_topic, payload, qos=1, retain=True))

    async def _state_forever(self) -> None:
        topic = topics.state(self._site, self._gate)
        while True:
            await self._state_changed.wait()
            self._state_changed.clear()
            if not self._broker.connected:
                continue  # connecting sets the event again
            try:
                epoch, seq = await self._journal.position()
            except RecordUnavailableError:
                epoch, seq = "none", 0
            payload = self._state(epoch, seq).encode()
            self._judge("state", await self._broker.publish(topic, payload, qos=1, retain=True))

    async def _health_forever(self) -> None:
        topic = topics.health(self._site, self._gate)
        properties = PublishProperties("application/json", expiry=EXPIRY_S)
        while True:
            await self._connected.wait()
            payload = (await self._health()).encode()
            self._judge("health", await self._broker.publish(topic, payload, qos=0, properties=properties))
            await self._sleep(self._health_s)
