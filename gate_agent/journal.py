"""The durable, hash-chained journal: one thread owns the file, the loop awaits commits (ARCHITECTURE sections 4 and 7).

Record first, then open: `append` resolves only after the commit is on the disk, and appends that arrive together share one
commit. A caller that gives up after its time-out must not find a grant in the log later:

* given up before the commit began: the transaction is rolled back and written again without that entry;
* given up while the commit was under way, or after a commit that reported failure and yet proves durable on reopening: the
  next transaction gives its mark back and, for a grant, adds `passage.not_taken` with `opened: false, why: late_record`.
  A crash in between leaves a grant without outcome, which the next start closes as `passage.unknown`.

Either way the lane stays shut: only a caller that got its Record may open. Nothing is lost silently: what could not be
written is counted, and the first transaction that succeeds again begins with `log.gap`. See docs/journal.md.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from gate_agent.gaps import FULL, Gaps
from gate_agent.journal_requests import Append, Call, JournalFullError, RecordUnavailableError
from gate_agent.journal_writer import Place, Writer
from gate_agent.record import AckMismatchError, AlreadyUsedError, Entry, Record, SalvageMismatchError
from gate_agent.retention import Limits
from gate_agent.store import Stamp, Store, stamped
from protocol.ack import Ack
from protocol.clock import Clock
from protocol.events import Kind

__all__ = [
    "FILE",
    "FULL",
    "AckMismatchError",
    "AlreadyUsedError",
    "Journal",
    "JournalFullError",
    "Limits",
    "Record",
    "RecordUnavailableError",
]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

FILE = "journal.db"
"""In the state directory."""
MAX_QUEUE = 1024
"""Requests waiting for the thread: a minute of the busiest host while a disk hangs. Beyond it, notes are counted as lost."""


class Journal:
    """`start` and `stop` once each, from the loop; the other methods between them."""

    def __init__(
        self,
        path: Path,
        *,
        site: str,
        gate: str,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        on_commit: Callable[[Sequence[Record]], None] = lambda _records: None,
        sign: ec.EllipticCurvePrivateKey | None = None,
        stamp: Stamp = dict,
        limits: Limits | None = None,
    ) -> None:
        """`on_commit` is called on the loop after each commit that added records, with these in sequence.

        `sign` is the gate's key, for checkpoints and for the word that records are gone; without it nothing is vouched for, and
        nothing is ever removed. `stamp` gives fields that every record has under its caller's own: it is called on the loop for
        callers' records and in the journal's thread for the journal's own, so it must be safe in both.
        """
        self._clock, self._stamp, self._on_commit = clock, stamp, on_commit
        self._queue: queue.Queue[Append | Call[Any] | None] = queue.Queue(MAX_QUEUE)
        self._gaps = Gaps(clock)
        self._writer = Writer(
            Place(path, site, gate, random_bytes, sign, stamp),
            clock=clock,
            limits=limits or Limits(),
            gaps=self._gaps,
            announce=self._announce,
        )
        self._thread = threading.Thread(target=self._writer.run, args=(self._queue,), name="journal", daemon=True)
        self._loop: asyncio.AbstractEventLoop

    @property
    def writable(self) -> bool:
        """False from a failed write to the next successful one."""
        return self._writer.writable

    @property
    def full(self) -> bool:
        """The journal has reached its size: decisions are no longer written until the controller acknowledges."""
        return self._writer.full

    async def start(self) -> None:
        """Open the file and verify its tail. An unusable disk is no error here: writes fail until it is usable again. Grants of
        an earlier run that have no outcome are closed with the first record."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        try:
            await self._call(lambda _store: None)
        except RecordUnavailableError:
            _log.error("journal not writable at start")

    async def stop(self) -> None:
        """Write what is queued, vouch for all of it and close the file."""
        await asyncio.to_thread(self._queue.put, None)
        await asyncio.to_thread(self._thread.join)

    async def append(
        self, kind: Kind, data: Mapping[str, Any], *, mark: Any = None, timeout: float | None = None
    ) -> Record:
        """Add one record and wait until it is durable, at most `timeout` seconds.

        `mark` is (bytes, datetime until which it counts), taken in the same transaction. Raises AlreadyUsedError (the mark
        is taken; nothing written), RecordUnavailableError (JournalFullError: there is no room for a decision), or
        events.EventError for a record over the size limit.
        """
        future: asyncio.Future[Record | Exception] = self._loop.create_future()
        request = Append(Entry(kind, stamped(self._stamp, data), self._clock.now(), mark), self._answer(future))
        try:
            self._queue.put_nowait(request)
        except queue.Full:
            raise RecordUnavailableError("queue full") from None
        try:
            async with asyncio.timeout(timeout):
                result = await asyncio.shield(future)
        except TimeoutError:
            if request.give_up():
                raise RecordUnavailableError("too slow") from None
            result = await future
        except asyncio.CancelledError:
            request.give_up()
            raise
        if isinstance(result, Exception):
            raise result
        return result

    def note(self, kind: Kind, data: Mapping[str, Any]) -> None:
        """Add one record without waiting. What cannot be written is counted and becomes part of a `log.gap`."""
        try:
            self._queue.put_nowait(Append(Entry(kind, stamped(self._stamp, data), self._clock.now()), None))
        except queue.Full:
            self._gaps.count(kind, "queue full")

    async def pass_unrecorded(self, mark: tuple[bytes, datetime] | None, *, timeout: float | None = None) -> None:
        """After JournalFullError, where the zone's rules let entries go on: the mark is taken all the same, and the entry is
        counted for `log.gap`. Raises AlreadyUsedError or RecordUnavailableError; then nothing may open."""
        if mark is not None:
            taken = mark
            try:
                async with asyncio.timeout(timeout):
                    await self._call(lambda store: store.take_mark(*taken))
            except TimeoutError:
                raise RecordUnavailableError("too slow") from None
        self._gaps.count_granted()

    async def count_boot(self) -> int:
        """One more start of the agent: how many this journal has seen, and those before it that were set aside. 0: it cannot be
        written."""
        try:
            return await self._call(lambda store: store.count_boot())
        except RecordUnavailableError:
            return 0

    async def unsent(self, after: int, limit: int) -> Sequence[Record]:
        """At most `limit` records without acknowledgement, in sequence, of numbers over `after` in the current epoch; from the
        beginning (0), those salvaged of earlier epochs come first. Raises RecordUnavailableError."""
        return await self._call(lambda store: store.outbox.unsent(after, limit))

    async def waiting(self) -> int:
        """Number of records without acknowledgement. Raises RecordUnavailableError."""
        return await self._call(lambda store: store.outbox.waiting())

    async def trusted_time(self) -> datetime | None:
        """As `Store.trusted_time`. Raises RecordUnavailableError."""
        return await self._call(lambda store: store.trusted_time())

    async def position(self) -> tuple[str, int]:
        """Storage epoch and last sequence number. Raises RecordUnavailableError."""
        return await self._call(lambda store: (store.epoch, store.seq))

    async def acknowledge(self, ack: Ack) -> bool:
        """Forget outbox rows up to `ack`, of this epoch or of one that was salvaged; the own hash is compared first. False:
        nothing new.

        Where the controller holds other records of an earlier epoch than those salvaged, these cannot be delivered and must not
        stop what follows: they are let go, a `log.gap` says so, and the file set aside still has them. Raises AckMismatchError
        (alarm; nothing was forgotten) or RecordUnavailableError.
        """
        now = self._clock.now()

        def acknowledge(store: Store) -> bool:
            try:
                return store.outbox.acknowledge(ack.epoch, ack.seq, ack.hash)
            except SalvageMismatchError as error:
                _log.error("the controller holds other records than were salvaged: %s", error)
            store.begin()
            first, last, count = store.outbox.let_go(ack.epoch, ack.seq)
            data = {"why": "ack_mismatch", "epoch": ack.epoch, "from": first, "to": last, "dropped": count}
            store.own(Kind.LOG_GAP, data, now)
            store.commit()
            return True

        return await self._call(acknowledge)

    async def requeue(self, epoch: str, first: int, last: int, limit: int) -> int:
        """The controller asks again for `first` to `last`: what is held of them waits again, at most `limit` records, and what
        explains the absence of the others. Returns how many of these wait now; 0 for an epoch of which nothing is held.

        Raises RecordUnavailableError.
        """
        return await self._call(lambda store: store.outbox.requeue(epoch, first, last, limit))

    def _announce(self, records: list[Record]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_commit, records)

    def _answer(self, future: asyncio.Future[Any]) -> Callable[[Any], None]:
        loop = self._loop

        def settle(value: Any) -> None:
            if not future.done():
                future.set_result(value)

        def answer(value: Any) -> None:
            # A loop that is already closed has nobody left who waits.
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, value)

        return answer

    async def _call(self, work: Callable[[Store], _T]) -> _T:
        future: asyncio.Future[_T | Exception] = self._loop.create_future()
        try:
            self._queue.put_nowait(Call(work, self._answer(future)))
        except queue.Full:
            raise RecordUnavailableError("queue full") from None
        result = await future
        if isinstance(result, Exception):
            raise result
        return result
