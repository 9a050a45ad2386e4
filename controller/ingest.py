"""From the broker into the store, and the acknowledgement back: receive, commit, then PUBACK, then the gate's mark.

The order is what makes "no loss, no duplicates" true: the broker gets its PUBACK and the gate its acknowledgement only after
the commit. A controller killed anywhere in between is sent the message again, and the store knows it. docs/ingest.md.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from random import Random
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from controller import sorting
from controller.batch import Committed, Key
from controller.config import Ingest as Settings
from controller.replays import Replays
from controller.sorting import Keys, Sorted
from controller.store import Store
from protocol import topics
from protocol.ack import Ack
from protocol.backoff import Backoff
from protocol.clock import Clock
from protocol.mqtt import CONNECTION_LOST, NOT_CONNECTED, Message, MqttLink, PublishProperties, PubResult
from protocol.replay import EXPIRY_S, Replay

RETRY_BASE_S, RETRY_CAP_S = 0.5, 30.0
"""A store that cannot write (disk full, locked) is tried again; meanwhile the broker holds what comes."""
MAX_HEALTHS = 1000
"""QoS 0 messages in the queue; the next is dropped. Those of QoS 1 are bounded by the link's Receive Maximum."""
BATCH_BYTES = 1 << 20
"""A transaction takes no further message beyond these payload bytes: a packed message holds up to a hundred records."""
ACKS_AT_ONCE = 50
ACKS_A_SECOND = 500
"""Of all gates together. A gate waits for its own in steps of its window, so four hundred gates need no more than this; one
signature and one publication each would otherwise take a core."""
ACK_RETRY_S = 1.0
REPLAY_TICK_S = 0.5
"""Between looks for holes that have stayed."""
_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(slots=True)
class Figures:
    """Counts since the start."""

    messages: int = 0
    """Received, of every kind."""
    committed: int = 0
    """Records that were new."""
    duplicates: int = 0
    set_aside: int = 0
    dropped: int = 0
    """QoS 0 messages for which the queue had no room."""
    batches: int = 0
    """Transactions."""
    alarms: int = 0
    acks: int = 0
    replays: int = 0
    """Requests for records again."""
    failures: int = 0
    """Transactions that the store could not write."""


class StoreThread:
    """The one thread that touches the store."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")

    async def call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def shutdown(self) -> None:
        self._executor.shutdown(wait=True)


class Ingest:
    def __init__(
        self,
        *,
        store: Store,
        thread: StoreThread,
        link: MqttLink,
        site: str,
        key: ec.EllipticCurvePrivateKey,
        settings: Settings,
        clock: Clock,
        random: Random,
        keys: Keys,
        on_batch: Callable[[Sorted, Committed], None],
        on_condition: Callable[[], None],
        on_commit: Callable[[float, int], None] = lambda _seconds, _messages: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`key` signs acknowledgements and requests, `keys` are those of the gates. `on_batch` is called on the loop after each
        commit, `on_condition` when `store_ok` changes, `on_commit` before `on_batch` with the seconds that the transaction
        took and the number of its messages."""
        self._store, self._thread, self._link, self._site = store, thread, link, site
        self._key, self._settings, self._clock = key, settings, clock
        self._keys, self._on_batch, self._on_condition, self._sleep = keys, on_batch, on_condition, sleep
        self._on_commit = on_commit
        self._backoff = Backoff(RETRY_BASE_S, RETRY_CAP_S, random)
        self._queue: deque[Message] = deque()
        self._healths = 0
        """QoS 0 messages in the queue."""
        self._connection: object = None
        self._arrived = asyncio.Event()
        self._replays = Replays(random)
        self._owed: dict[Key, tuple[Ack, bool]] = {}
        """Acknowledgements to be sent, by chain, and whether as a retained message."""
        self._marks: dict[Key, int] = {}
        """Of the last that was owed."""
        self._to_ack = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self.tasks: list[asyncio.Task[None]] = []
        """They run for ever: one that ends has failed."""
        self.figures = Figures()
        self.store_ok = True
        self.busy_since: float | None = None
        """Monotonic time at which the commit under way began."""

    def start(self) -> None:
        self.tasks = [
            asyncio.create_task(self._commit_batches(), name="ingest"),
            asyncio.create_task(self._send_acks(), name="acks"),
            asyncio.create_task(self._ask_again(), name="replays"),
        ]

    async def stop(self) -> None:
        """A commit under way is finished in its thread; what it held is sent again at the next start."""
        tasks = [*self.tasks, *self._sending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def receive(self, message: Message) -> None:
        """The link's `on_message`."""
        if message.connection is not self._connection:
            # A new connection: what an earlier one left unacknowledged comes again.
            self._connection = message.connection
            self._queue = deque(each for each in self._queue if not each.stale)
        self.figures.messages += 1
        if message.qos == 0:
            if self._healths >= MAX_HEALTHS:
                self.figures.dropped += 1
                return
            self._healths += 1
        self._queue.append(message)
        self._arrived.set()

    async def acknowledge_all(self) -> None:
        """Every gate's mark again: at a new connection, the broker may have lost the retained one."""
        self._owe((await self._thread.call(self._store.acks)).items(), retain=True)

    async def _commit_batches(self) -> None:
        begun = -self._settings.linger_s
        while True:
            await self._arrived.wait()
            early = begun + self._settings.linger_s - self._clock.monotonic()
            if early > 0 and len(self._queue) < self._settings.batch:
                await self._sleep(early)
            begun = self._clock.monotonic()
            messages = self._next_batch()
            if not self._queue:
                self._arrived.clear()
            if messages:
                await self._commit(messages)

    def _next_batch(self) -> list[Message]:
        messages: list[Message] = []
        size = 0
        while self._queue and len(messages) < self._settings.batch and size < BATCH_BYTES:
            message = self._queue.popleft()
            messages.append(message)
            size += len(message.payload)
            self._healths -= message.qos == 0
        return messages

    async def _commit(self, messages: list[Message]) -> None:
        self.busy_since = self._clock.monotonic()
        while True:
            try:
                done, committed = await self._thread.call(partial(self._work, messages))
                break
            except (sqlite3.Error, OSError) as error:
                # Nothing is acknowledged until it is stored: the gates' outboxes and the broker keep what is not.
                self.figures.failures += 1
                if self.store_ok:
                    _log.error("store cannot write: %s", error)
                    self.store_ok = False
                    self._on_condition()
                self.busy_since = None
                await self._sleep(self._backoff.next())
                self.busy_since = self._clock.monotonic()
        self._on_commit(self._clock.monotonic() - self.busy_since, len(messages))
        self.busy_since = None
        if not self.store_ok:
            _log.warning("store writes again")
            self.store_ok = True
            self._on_condition()
        self._backoff.reset()
        for message in messages:
            self._link.ack(message)
        self._owe(committed.earlier_acks, retain=False)
        self._owe(committed.acks.items(), retain=True)
        self._replays.note(committed.standings, done.batch.heads, self._clock.monotonic())
        self.figures.batches += 1
        self.figures.committed += len(committed.stored)
        self.figures.duplicates += committed.duplicates
        self.figures.set_aside += committed.set_aside
        self.figures.alarms += len(committed.alarms)
        for alarm in committed.alarms:
            _log.error(
                "alarm %s: gate %s epoch %s record %d %s", alarm.what, alarm.gate, alarm.epoch, alarm.seq, alarm.why
            )
        self._on_batch(done, committed)

    def _work(self, messages: list[Message]) -> tuple[Sorted, Committed]:
        """In the store's thread."""
        done = sorting.sort(messages, self._site, self._keys)
        return done, self._store.commit(done.batch, self._clock.now())

    def _owe(self, acks: Iterable[tuple[str, Ack]], retain: bool) -> None:
        """One chain has one acknowledgement on its way; until it leaves, a later one takes its place."""
        for gate, ack in acks:
            self._owed[gate, ack.epoch] = ack, retain
            self._marks[gate, ack.epoch] = ack.seq
            self._to_ack.set()

    async def _send_acks(self) -> None:
        """Of each chain the newest only, those that wait longest first, and in all no more than ACKS_A_SECOND."""
        while True:
            await self._to_ack.wait()
            await self._link.wait_connected()
            some = list(islice(self._owed.items(), ACKS_AT_ONCE))
            for key, owed in some:
                del self._owed[key]
                task = asyncio.create_task(self._send_ack(key, *owed))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)
            if not self._owed:
                self._to_ack.clear()
            await self._sleep(len(some) / ACKS_A_SECOND)
            if (
                len(self._sending) > ACKS_AT_ONCE
            ):  # the broker is slow: later ones take the place of earlier ones meanwhile
                await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)

    async def _send_ack(self, key: Key, ack: Ack, retain: bool) -> None:
        gate = key[0]
        result = await self._link.publish(
            topics.ack(self._site, gate), ack.encode(self._site, gate, self._key), retain=retain
        )
        if result.ok:
            self.figures.acks += 1
            return
        if result.reason not in {CONNECTION_LOST, NOT_CONNECTED}:  # of those the link tells itself
            _log.warning("gate %s: acknowledgement not sent: %s", gate, result.reason)
        await self._sleep(ACK_RETRY_S)
        if ack.seq >= self._marks[key]:  # else a later one has gone out, and must stay the last
            self._owed.setdefault(key, (ack, retain))
            self._to_ack.set()

    async def _ask_again(self) -> None:
        """For records that do not come by themselves."""
        standings = await self._thread.call(self._store.standings)
        self._replays.note(standings, {}, self._clock.monotonic())
        while True:
            await self._sleep(REPLAY_TICK_S)
            await self._link.wait_connected()
            requests = self._replays.due(self._clock.monotonic())
            results = await asyncio.gather(*(self._ask(gate, request) for gate, request in requests))
            self.figures.replays += sum(result.ok for result in results)

    async def _ask(self, gate: str, request: Replay) -> PubResult:
        _log.info("gate %s epoch %s: asked for %d to %d again", gate, request.epoch, request.first, request.last)
        return await self._link.publish(
            topics.replay(self._site, gate),
            request.encode(self._site, gate, self._key),
            properties=PublishProperties(expiry=EXPIRY_S),
        )
