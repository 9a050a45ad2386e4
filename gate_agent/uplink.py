"""Journal to controller: records in sequence with a window, acknowledgements, replays, copies of alarms.

An outbox row leaves only on the controller's own acknowledgement, whose hash is compared first (protocol.ack); a PUBACK is
not one. A publication that the broker refuses is an alarm, never a success. Nothing here can hold up a lane: the journal
tells that there is something to send, and this sends it when it can. See docs/uplink.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Protocol

from paho.mqtt.client import topic_matches_sub

from gate_agent import replaying
from gate_agent.alarm_copies import AlarmCopies
from gate_agent.journal import AckMismatchError, Record, RecordUnavailableError
from gate_agent.presence import Presence, last_will
from gate_agent.replaying import Replays
from gate_agent.sending import Sending
from gate_agent.timers import CallLater, Handle
from gate_agent.uplink_faults import ACK, FORGED, LINK, MISMATCH, Answer, Faults, answer
from mdoc.cose import PublicKey
from protocol import ack, mqtt, packing, topics
from protocol.ack import Ack
from protocol.backoff import Backoff
from protocol.events import Kind
from protocol.health import Health
from protocol.mqtt import LinkState, Message, Publisher, PublishProperties, PubResult, Will
from protocol.replay import Replay
from protocol.status import GateState

_log = logging.getLogger(__name__)

RESEND_BASE_S, RESEND_CAP_S = 5.0, 60.0
"""Without any acknowledgement moving, everything in the window is sent again after this long, then with back-off. What the broker
refuses is tried again at the same pace."""
FORGED_APART_S = 600.0
"""Between two alarms for acknowledgements that nobody signed: whoever can write to the topic must not fill the journal."""
MAX_ACKS = 64
"""Acknowledgements waiting for the journal; of more the oldest go, since a later one says more."""
DRAIN_S = 2.0
"""What a stopping gate grants its last records."""
CONTENT_TYPE = "application/cloudevents+json"


class Broker(Publisher, Protocol):
    """The part of protocol.mqtt.MqttLink that is used here."""

    def start(self) -> None: ...

    async def stop(self, timeout: float = 2.0) -> None: ...

    async def subscribe(self, topic_filter: str, qos: int = 1) -> PubResult: ...


class Outbox(replaying.Keeper, Protocol):
    """The part of gate_agent.journal.Journal that is used here. Every method may raise RecordUnavailableError."""

    async def unsent(self, after: int, limit: int) -> Sequence[Record]:
        """Records without acknowledgement, in sequence, of numbers over `after` in the current epoch; those salvaged from an
        earlier epoch come first."""
        ...

    async def acknowledge(self, ack: Ack) -> bool:
        """As Journal's: False where nothing was forgotten. Raises AckMismatchError."""
        ...


Connect = Callable[[Will, Callable[[Message], None], Callable[[LinkState], None]], Broker]


class Uplink:
    def __init__(
        self,
        connect: Connect,
        journal: Outbox,
        *,
        site: str,
        gate: str,
        boot: str,
        controller_key: PublicKey,
        in_flight: int,
        batches_in_flight: int,
        random: Random,
        call_later: CallLater,
        state: Callable[[str, int], GateState],
        health: Callable[[], Awaitable[Health]],
        health_s: float,
        report: Callable[[Kind, dict[str, str]], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`controller_key` signs acknowledgements and replay requests. `connect` makes the (not yet started) broker link from
        will, message and state callbacks. `state` gives the retained state for an epoch and sequence. `report` records what
        gate_agent.uplink_faults raises."""
        self._journal, self._site, self._gate, self._boot = journal, site, gate, boot
        self._controller_key, self._call_later = controller_key, call_later
        self._sending = Sending(in_flight, batches_in_flight)
        self._faults = Faults(report)
        self._copies = AlarmCopies()
        self._replays = Replays(
            journal,
            site=site,
            gate=gate,
            controller_key=controller_key,
            call_later=call_later,
            answered=self._rewind,
        )
        self._resend, self._refused = (Backoff(RESEND_BASE_S, RESEND_CAP_S, random) for _ in range(2))
        self._event_topic, self._ack_topic = topics.event(site, gate), topics.ack(site, gate)
        self._replay_topic = topics.replay(site, gate)
        self._broker = connect(last_will(site, gate, boot), self._on_message, self._on_state)
        self._wake, self._acked, self._copy = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._presence = Presence(
            self._broker,
            self._faults,
            site=site,
            gate=gate,
            boot=boot,
            position=journal.position,
            state=state,
            health=health,
            health_s=health_s,
            random=random,
            later=self._later,
            birth_due=self._wake.set,
            sleep=sleep,
        )
        self._acks: deque[Ack] = deque(maxlen=MAX_ACKS)
        self._tasks: list[asyncio.Task[None]] = []
        self._publishing: set[asyncio.Task[None]] = set()
        self._timers: dict[str, Handle] = {}
        self._begun = False
        """False: what is on its way counts no more, and sending begins anew with the oldest record that waits."""
        self._held = False
        """The broker has refused a record: nothing is sent until the back-off is over."""
        self._listeners: dict[str, Callable[[Message], None]] = {}
        self._links: list[Callable[[bool], None]] = []
        self._stopping = False
        self.ignored_acks = 0
        """Messages on the acknowledgement topic that were none of this controller for this gate."""

    async def listen(self, topic_filter: str, qos: int, on_message: Callable[[Message], None]) -> None:
        """Another topic of this link; before `start`. The first filter that matches a message gets it."""
        self._listeners[topic_filter] = on_message
        await self._broker.subscribe(topic_filter, qos)

    def on_link(self, told: Callable[[bool], None]) -> None:
        """`told` is called when the link comes and goes; before `start`."""
        self._links.append(told)

    async def send(self, topic: str, payload: bytes, properties: PublishProperties | None = None) -> bool:
        """One message that is no record. True: the broker has it. One it refuses is an alarm as any other."""
        result = await self._broker.publish(topic, payload, properties=properties)
        self._faults.judge(topic.rsplit("/", 1)[-1], result)
        return result.ok

    def replay(self, request: Replay) -> None:
        """Send these records again, as if the controller had asked for them on its own topic."""
        self._replays.ask(request)

    @property
    def degraded(self) -> list[str]:
        """Flags for events and health."""
        flags = ("ack_mismatch", self._faults.mismatch), ("no_uplink", not self._broker.connected)
        return [flag for flag, raised in (*flags, ("uplink_refused", self._faults.refused)) if raised]

    async def start(self) -> None:
        """Raises protocol.mqtt.TlsFilesError. Does not wait for a connection."""
        await self._broker.subscribe(self._ack_topic)
        await self._broker.subscribe(self._replay_topic)
        self._broker.start()
        work = (self._acknowledge_forever, self._send_forever, self._copy_forever)
        more = (self._replays.run, self._presence.keep_state, self._presence.report_health)
        self._tasks = [asyncio.create_task(each()) for each in (*work, *more)]
        for task in self._tasks:
            task.add_done_callback(_ended)

    async def stop(self) -> None:
        """Send what is left, say goodbye and disconnect; a few seconds at most."""
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks[1:], return_exceptions=True)
        self._sending.committed()  # the journal answers in order: what was noted just now is read, though not yet announced
        try:
            async with asyncio.timeout(DRAIN_S):
                await asyncio.gather(*self._publishing)
                while self._broker.connected and await self._fill():
                    await asyncio.gather(*self._publishing)
                await self._presence.say_goodbye()
        except (TimeoutError, RecordUnavailableError):
            _log.info("stopped with records still to send; they stay in the outbox")
        # From here on a lost connection is our own doing: no event, which nobody would send any more.
        self._stopping = True
        for task in (*self._tasks, *self._publishing):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._publishing, return_exceptions=True)
        for timer in self._timers.values():
            timer.cancel()
        await self._broker.stop()

    def committed(self, records: Sequence[Record]) -> None:
        """The journal has got these."""
        self._copies.offer(records)
        if self._begun and any(record.epoch != self._sending.epoch for record in records):
            self._rewind()  # a new file: the cursor means nothing in it
        self._sending.committed()
        self._wake.set()

    def state_changed(self) -> None:
        """A lane or device changed."""
        self._presence.state_changed()

    # The broker's callbacks.

    def _on_state(self, state: LinkState) -> None:
        if state.connected:
            self._held = False
            self._arm(0)
            self._rewind()
            self._presence.connected()
            self._faults.end(LINK)
        else:
            self._sending.lost()
            if self._stopping:
                return
            self._faults.begin(LINK, f"not connected: {state.reason}")
        for told in self._links:
            told(state.connected)

    def _on_message(self, message: Message) -> None:
        if message.topic == self._ack_topic:
            self._on_ack(message.payload)
        elif message.topic == self._replay_topic:
            self._replays.on_message(message.payload)
        else:
            for topic_filter, listener in self._listeners.items():
                if topic_matches_sub(topic_filter, message.topic):
                    listener(message)
                    return

    def _on_ack(self, payload: bytes) -> None:
        try:
            found = ack.parse(payload, self._site, self._gate, self._controller_key)
        except ValueError:
            self.ignored_acks += 1
            if "forged" not in self._timers:
                _log.warning("a message on the ack topic that is no acknowledgement; further ones are counted")
                self._faults.begin(ACK, FORGED)
                self._later("forged", FORGED_APART_S, lambda: None)
            return
        if self._acks and self._acks[-1].epoch == found.epoch and self._acks[-1].seq <= found.seq:
            self._acks.pop()  # its hash stands for the whole chain before it
        self._acks.append(found)
        self._acked.set()

    # Records.

    async def _send_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._broker.connected:
                continue
            try:
                await self._presence.give_birth()
                await self._fill()
            except RecordUnavailableError:
                self._arm(RESEND_BASE_S)
            self._copy_what_waits()

    async def _fill(self) -> bool:
        """Publish what the window has room for, in sequence. False: nothing was sent."""
        if not self._begun:
            if self._faults.mismatch or self._held:
                return False
            if self._publishing:
                return False  # what is still on its way would come on top; each ends within the link's own time
            epoch, _ = await self._journal.position()
            self._begun = True
            self._sending.begin(epoch)
        sent = False
        while self._may_send():
            wanted = self._sending.wanted()
            if wanted is not None:
                records = await self._journal.unsent(*wanted)
                if not self._may_send():
                    break  # rewound meanwhile: read for nothing
                self._sending.read(records)
            message = self._sending.take()
            if not message:
                break
            # Tasks start in the order of their making, so records leave in sequence.
            task = asyncio.create_task(self._publish(message))
            self._publishing.add(task)
            task.add_done_callback(self._published)
            if "resend" not in self._timers:
                self._arm(self._resend.next())
            sent = True
        return sent

    def _may_send(self) -> bool:
        return self._begun and not self._faults.mismatch

    async def _publish(self, message: Sequence[Record]) -> None:
        if len(message) == 1:
            result = await self._publish_record(self._event_topic, message[0])
        else:
            payload = packing.pack([record.raw for record in message])
            properties = PublishProperties(packing.CONTENT_TYPE, user=(("boot", self._boot),))
            result = await self._broker.publish(self._event_topic, payload, qos=1, properties=properties)
        if not self._begun:
            return  # of an earlier round: one refusal in it has been told, and no success ends that
        found = answer(result)
        if found is Answer.SMALLER and len(message) > 1:
            _log.warning("a batch of %d records is not taken (%s), trying smaller ones", len(message), result.reason)
            if result.reason != mqtt.TOO_LARGE:
                self._faults.judge("evt", result)
            self._sending.shrink()
            self._rewind()
            return
        self._faults.judge("evt", result)
        # Whatever was lost on the way goes again with the resend timer, which is armed while anything is in flight.
        if found is Answer.REFUSED or found is Answer.SMALLER:
            self._begun, self._held = False, True
            self._arm(self._refused.next())

    def _published(self, task: asyncio.Task[None]) -> None:
        self._publishing.discard(task)
        if not self._begun and not self._publishing:
            self._wake.set()

    async def _publish_record(self, topic: str, record: Record) -> PubResult:
        properties = PublishProperties(CONTENT_TYPE, user=(("seq", str(record.seq)), ("boot", self._boot)))
        return await self._broker.publish(topic, record.raw, qos=1, properties=properties)

    def _copy_what_waits(self) -> None:
        if not self._begun:
            self._copy.set()
        elif self._sending.behind:
            self._copies.drop(self._sending.taken)
            self._copy.set()
        else:
            self._copies.drop(lambda _record: True)

    async def _copy_forever(self) -> None:
        topic = topics.alarm(self._site, self._gate)

        async def publish(record: Record) -> Answer:
            return self._faults.judge("alarm", await self._publish_record(topic, record))

        while True:
            await self._copy.wait()
            self._copy.clear()
            await self._copies.send(publish)

    def _rewind(self) -> None:
        """Begin again with the oldest record that waits."""
        self._begun = False
        self._wake.set()

    def _later(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        """(Re)start the timer of this name."""

        def due() -> None:
            del self._timers[name]
            callback()

        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = self._call_later(seconds, due)

    def _arm(self, seconds: float) -> None:
        """(Re)start the resend timer; 0 stops it."""
        if seconds:
            self._later("resend", seconds, self._on_resend)
        elif (timer := self._timers.pop("resend", None)) is not None:
            timer.cancel()

    def _on_resend(self) -> None:
        self._held = False
        self._rewind()

    async def _acknowledge_forever(self) -> None:
        while True:
            await self._acked.wait()
            self._acked.clear()
            while self._acks:
                await self._acknowledge(self._acks.popleft())

    async def _acknowledge(self, found: Ack) -> None:
        try:
            moved = await self._journal.acknowledge(found)
        except AckMismatchError as error:
            _log.critical("the controller acknowledges what this journal does not hold: %s", error)
            self._faults.begin(ACK, MISMATCH)
            return
        except RecordUnavailableError:
            return  # the controller repeats its acknowledgement with the next record
        if not moved and found.epoch != self._sending.epoch:
            return  # an old retained one: nothing was compared
        if self._faults.mismatch:
            self._rewind()
        self._faults.end(ACK)
        self._replays.acknowledged(found.epoch, found.seq)
        self._sending.acknowledged(found.epoch, found.seq)
        if moved:
            self._resend.reset()
            if "evt" not in self._faults:
                self._refused.reset()
            if not self._held:
                self._arm(0 if self._sending.empty else self._resend.next())
            self._wake.set()


def _ended(task: asyncio.Task[None]) -> None:
    """They run until they are cancelled: one that ends has failed, and must be seen."""
    if not task.cancelled() and task.exception() is not None:
        _log.critical("a part of the uplink has failed", exc_info=task.exception())
