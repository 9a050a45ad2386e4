"""From the broker into the store, and the acknowledgement back: receive, commit, then PUBACK, then the gate's mark.

The order is what makes "no loss, no duplicates" true: the broker gets its PUBACK and the gate its acknowledgement only after
the commit. A controller killed anywhere in between is sent the message again, and the store knows it.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from controller import sorting
from controller.config import Ingest as Settings
from controller.sorting import Sorted
from controller.store import Committed, Store
from protocol import topics
from protocol.ack import Ack
from protocol.backoff import Backoff
from protocol.clock import Clock
from protocol.mqtt import Message, MqttLink

RETRY_BASE_S, RETRY_CAP_S = 0.5, 30.0
"""A store that cannot write (disk full, locked) is tried again; meanwhile the broker holds what comes."""
MAX_HEALTHS = 1000
"""QoS 0 messages in the queue; the next is dropped. Those of QoS 1 are bounded by the link's Receive Maximum."""
ACKS_AT_ONCE = 200
ACK_RETRY_S = 1.0
_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(slots=True)
class Figures:
    """Counts since the start."""

    committed: int = 0
    duplicates: int = 0
    set_aside: int = 0
    dropped: int = 0
    """QoS 0 messages for which the queue had no room."""
    acks: int = 0
    batches: int = 0


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
        on_batch: Callable[[Sorted, Committed], None],
        on_condition: Callable[[], None],
    ) -> None:
        """`key` signs acknowledgements. `on_batch` is called on the loop after each commit, `on_condition` when `store_ok`
        changes."""
        self._store, self._thread, self._link, self._site = store, thread, link, site
        self._key, self._settings, self._clock = key, settings, clock
        self._on_batch, self._on_condition = on_batch, on_condition
        self._backoff = Backoff(RETRY_BASE_S, RETRY_CAP_S, random)
        self._queue: deque[Message] = deque()
        self._healths = 0
        """QoS 0 messages in the queue."""
        self._connection: object = None
        self._arrived = asyncio.Event()
        self._dirty: dict[str, Ack] = {}
        self._to_ack = asyncio.Event()
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
        ]

    async def stop(self) -> None:
        """A commit under way is finished in its thread; what it held is sent again at the next start."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def receive(self, message: Message) -> None:
        """The link's `on_message`."""
        if message.connection is not self._connection:
            # A new connection: what an earlier one left unacknowledged comes again.
            self._connection = message.connection
            self._queue = deque(each for each in self._queue if not each.stale)
        if message.qos == 0:
            if self._healths >= MAX_HEALTHS:
                self.figures.dropped += 1
                return
            self._healths += 1
        self._queue.append(message)
        self._arrived.set()

    async def acknowledge_all(self) -> None:
        """Every gate's mark again: at a new connection, the broker may have lost the retained one."""
        self._mark_dirty(await self._thread.call(self._store.acks))

    async def _commit_batches(self) -> None:
        while True:
            await self._arrived.wait()
            if len(self._queue) < self._settings.batch and self._settings.linger_s:
                await asyncio.sleep(self._settings.linger_s)
            messages = [self._queue.popleft() for _ in range(min(len(self._queue), self._settings.batch))]
            self._healths -= sum(message.qos == 0 for message in messages)
            if not self._queue:
                self._arrived.clear()
            if messages:
                await self._commit(messages)

    async def _commit(self, messages: list[Message]) -> None:
        self.busy_since = self._clock.monotonic()
        while True:
            try:
                done, committed = await self._thread.call(partial(self._work, messages))
                break
            except (sqlite3.Error, OSError) as error:
                # Nothing is acknowledged until it is stored: the gates' outboxes and the broker keep what is not.
                if self.store_ok:
                    _log.error("store cannot write: %s", error)
                    self.store_ok = False
                    self._on_condition()
                self.busy_since = None
                await asyncio.sleep(self._backoff.next())
                self.busy_since = self._clock.monotonic()
        self.busy_since = None
        if not self.store_ok:
            _log.warning("store writes again")
            self.store_ok = True
            self._on_condition()
        self._backoff.reset()
        for message in messages:
            self._link.ack(message)
        self._mark_dirty(committed.acks)
        self.figures.batches += 1
        self.figures.committed += len(committed.stored)
        self.figures.duplicates += committed.duplicates
        self.figures.set_aside += committed.set_aside
        for alarm in committed.alarms:
            _log.error("gate %s epoch %s record %d: %s", alarm.gate, alarm.epoch, alarm.seq, alarm.what)
        self._on_batch(done, committed)

    def _work(self, messages: list[Message]) -> tuple[Sorted, Committed]:
        """In the store's thread."""
        done = sorting.sort(messages, self._site)
        return done, self._store.commit(done.batch, self._clock.now())

    def _mark_dirty(self, acks: Mapping[str, Ack]) -> None:
        if acks:
            self._dirty.update(acks)
            self._to_ack.set()

    async def _send_acks(self) -> None:
        """Only the newest mark of each gate is sent: while some are on their way, later ones replace each other."""
        while True:
            await self._to_ack.wait()
            await self._link.wait_connected()
            some = [self._dirty.popitem() for _ in range(min(len(self._dirty), ACKS_AT_ONCE))]
            if not self._dirty:
                self._to_ack.clear()
            results = await asyncio.gather(
                *(
                    self._link.publish(
                        topics.ack(self._site, gate), ack.encode(self._site, gate, self._key), retain=True
                    )
                    for gate, ack in some
                )
            )
            failed = [each for each, result in zip(some, results, strict=True) if not result.ok]
            self.figures.acks += len(some) - len(failed)
            for gate, ack in failed:
                self._dirty.setdefault(gate, ack)
            if failed:
                _log.warning(
                    "%d acknowledgements not sent: %s", len(failed), next(r.reason for r in results if not r.ok)
                )
                self._to_ack.set()
                await asyncio.sleep(ACK_RETRY_S)
