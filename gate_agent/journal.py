"""The durable, hash-chained journal: one thread owns the file, the loop awaits commits (ARCHITECTURE sections 4 and 7).

Record first, then open: `append` resolves only after the commit is on the disk, and appends that arrive together share one
commit. A caller that gives up after its time-out must not find a grant in the log later:

* given up before the commit began: the transaction is rolled back and written again without that entry;
* given up while the commit was under way, or after a commit that reported failure and yet proves durable on reopening: the
  next transaction gives its mark back and, for a grant, adds `passage.not_taken` with `opened: false, why: late_record`.
  A crash in between leaves a grant without outcome, which the next start closes as `passage.unknown`.

Either way the lane stays shut: only a caller that got its Record may open. Nothing is lost silently: what could not be
written is counted, and the first transaction that succeeds again begins with `log.gap`.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from gate_agent.store import TAIL, AckMismatchError, AlreadyUsedError, DamagedError, Entry, OpenGrant, Record, Store
from protocol.ack import Ack
from protocol.clock import Clock, rfc3339
from protocol.events import DECISIONS, Kind

__all__ = ["AckMismatchError", "AlreadyUsedError", "Journal", "Record", "RecordUnavailableError"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

MAX_QUEUE = 1024
"""Requests waiting for the thread: a minute of the busiest host while a disk hangs. Beyond it, notes are counted as lost."""
MAX_GROUP = 64
"""Appends that share one commit."""
PRUNE_S = 30.0
"""Seconds between two looks for marks whose time is over."""
MAX_WHY = 200
"""Characters of a reason in `log.gap`."""
REOPEN_TAIL = 1
"""Records checked when reopening within one process."""


class RecordUnavailableError(Exception):
    """The record is not durable within its time; whoever asked must not open."""


@dataclass(slots=True)
class _Append:
    entry: Entry
    answer: Callable[[Record | Exception], None] | None
    """Called at most once, in the journal's thread. None: nobody waits (a note)."""
    given_up: bool = False
    settled: bool = False


@dataclass(slots=True)
class _Call(Generic[_T]):
    work: Callable[[Store], _T]
    answer: Callable[[_T | Exception], None]


@dataclass(slots=True)
class _Gap:
    """What could not be written since the last success."""

    dropped: int = 0
    refused: int = 0
    since: str = ""
    why: str = ""


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
    ) -> None:
        """`on_commit` is called on the loop after each commit that added records, with these in sequence."""
        self._path, self._site, self._gate, self._clock = path, site, gate, clock
        self._random_bytes, self._on_commit = random_bytes, on_commit
        self._queue: queue.Queue[_Append | _Call[Any] | None] = queue.Queue(MAX_QUEUE)
        self._lock = threading.Lock()
        self._gap: _Gap | None = None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        # The thread's own state.
        self._store: Store | None = None
        self._known_seq: int | None = None
        self._late: dict[str, OpenGrant] = {}
        self.writable = True
        """False from a failed write to the next successful one."""

    # From the loop.

    async def start(self) -> None:
        """Open the file, verify its tail and close grants that have no outcome. An unusable disk is no error here: writes
        fail until it is usable again."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        try:
            await self._call(lambda _store: None)
        except RecordUnavailableError:
            _log.error("journal not writable at start")

    async def stop(self) -> None:
        """Write what is queued and close the file."""
        await asyncio.to_thread(self._queue.put, None)
        await asyncio.to_thread(self._thread.join)

    async def append(
        self, kind: Kind, data: Mapping[str, Any], *, mark: Any = None, timeout: float | None = None
    ) -> Record:
        """Add one record and wait until it is durable, at most `timeout` seconds.

        `mark` is (bytes, datetime until which it counts), taken in the same transaction. Raises AlreadyUsedError (the mark
        is taken; nothing written), RecordUnavailableError, or events.EventError for a record over the size limit.
        """
        future: asyncio.Future[Record | Exception] = self._loop.create_future()
        request = _Append(Entry(kind, dict(data), self._clock.now(), mark), self._answer(future))
        try:
            self._queue.put_nowait(request)
        except queue.Full:
            raise RecordUnavailableError("queue full") from None
        try:
            async with asyncio.timeout(timeout):
                result = await asyncio.shield(future)
        except TimeoutError:
            if self._give_up(request):
                raise RecordUnavailableError("too slow") from None
            result = await future
        except asyncio.CancelledError:
            self._give_up(request)
            raise
        if isinstance(result, Exception):
            raise result
        return result

    def note(self, kind: Kind, data: Mapping[str, Any]) -> None:
        """Add one record without waiting. What cannot be written is counted and becomes part of a `log.gap`."""
        try:
            self._queue.put_nowait(_Append(Entry(kind, dict(data), self._clock.now()), None))
        except queue.Full:
            self._count(kind, "queue full")

    async def unsent(self, after: int, limit: int) -> Sequence[Record]:
        """Records without acknowledgement, in sequence. Raises RecordUnavailableError."""
        return await self._call(lambda store: store.unsent(after, limit))

    async def waiting(self) -> int:
        """Number of records without acknowledgement. Raises RecordUnavailableError."""
        return await self._call(lambda store: store.waiting())

    async def trusted_time(self) -> datetime | None:
        """As `Store.trusted_time`. Raises RecordUnavailableError."""
        return await self._call(lambda store: store.trusted_time())

    async def position(self) -> tuple[str, int]:
        """Storage epoch and last sequence number. Raises RecordUnavailableError."""
        return await self._call(lambda store: (store.epoch, store.seq))

    async def acknowledge(self, ack: Ack) -> bool:
        """Forget outbox rows up to `ack`; the own hash is compared first. False: nothing new.

        Raises AckMismatchError (alarm; nothing was forgotten) or RecordUnavailableError.
        """
        now = self._clock.now()
        return await self._call(lambda store: store.acknowledge(ack.epoch, ack.seq, ack.hash, now))

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
            self._queue.put_nowait(_Call(work, self._answer(future)))
        except queue.Full:
            raise RecordUnavailableError("queue full") from None
        result = await future
        if isinstance(result, Exception):
            raise result
        return result

    def _give_up(self, request: _Append) -> bool:
        """True when the answer will never come, False when it is already on its way."""
        with self._lock:
            request.given_up = not request.settled
            return request.given_up

    def _count(self, kind: Kind, why: str) -> None:
        with self._lock:
            gap = self._gap = self._gap or _Gap(since=rfc3339(self._clock.now()), why=why[:MAX_WHY])
            if kind in DECISIONS:
                gap.refused += 1
            else:
                gap.dropped += 1

    # In the journal's thread.

    def _run(self) -> None:
        carried: _Append | _Call[Any] | None
        pruned_at = self._clock.monotonic()
        while True:
            if self._clock.monotonic() - pruned_at >= PRUNE_S:
                pruned_at = self._clock.monotonic()
                self._prune()
            try:
                carried = self._queue.get(timeout=PRUNE_S)
            except queue.Empty:
                continue
            group: list[_Append] = []
            while isinstance(carried, _Append):
                group.append(carried)
                if len(group) == MAX_GROUP:
                    break
                try:
                    carried = self._queue.get_nowait()
                except queue.Empty:
                    break
            if group:
                self._write(group)
            if carried is None:
                break
            if isinstance(carried, _Call):
                self._serve(carried)
        self._close()

    def _ready(self) -> Store:
        """The open store, or opened anew. Raises sqlite3.Error."""
        if self._store is not None:
            return self._store
        first = self._known_seq is None
        try:
            store = self._open(TAIL if first else REOPEN_TAIL)
        except DamagedError as error:
            self._set_aside(str(error))
            store = self._open(TAIL)
            self._known_seq = 0
        try:
            if first:
                self._close_old_grants(store)
            else:
                # A commit that reported failure may be durable after all, also the one that was to settle late grants.
                found = {grant.attempt: grant for grant in store.open_grants()}
                late = {attempt for attempt, grant in found.items() if grant.seq > (self._known_seq or 0)}
                self._late = {attempt: found[attempt] for attempt in found if attempt in late | self._late.keys()}
        except BaseException:
            store.close()
            raise
        self._known_seq = store.seq
        self._store = store
        return store

    def _open(self, tail: int) -> Store:
        return Store(self._path, site=self._site, gate=self._gate, random_bytes=self._random_bytes, tail=tail)

    def _set_aside(self, why: str) -> None:
        """Keep a damaged file for inspection and go on with a new epoch; the gap is the new file's first record."""
        stamp = self._clock.now().strftime("%Y%m%dT%H%M%S%f")
        _log.error("journal damaged, set aside: %s", why)
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            try:
                part.rename(part.with_name(f"{self._path.stem}-{stamp}.damaged{suffix}"))
            except FileNotFoundError:
                continue
            except OSError as error:
                # A read-only disk: the caller sees an unavailable journal, as for any other failed write.
                raise sqlite3.OperationalError(str(error)) from error
        with self._lock:
            gap = self._gap = self._gap or _Gap(since=rfc3339(self._clock.now()))
            gap.why = f"damaged: {why}"[:MAX_WHY]

    def _close_old_grants(self, store: Store) -> None:
        """Grants of an earlier run that nobody closed. The lane is not opened again for them."""
        grants = store.open_grants()
        if not grants:
            return
        store.begin()
        for grant in grants:
            store.add(_outcome(Kind.PASSAGE_UNKNOWN, grant, self._clock, why="restart"))
        store.commit()

    def _write(self, group: Sequence[_Append]) -> None:
        try:
            done = self._transaction(group)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            for request in group:
                self._settle(request, RecordUnavailableError(str(error)))
                if request.answer is None:
                    # A caller that waited knows, and notes its own refusal.
                    self._count(request.entry.kind, str(error))
            return
        for request, result in done:
            kept = self._settle(request, result)
            if isinstance(result, Record):
                if not kept and request.entry.kind is Kind.ACCESS_GRANTED:
                    data = request.entry.data
                    self._late[data["attempt"]] = OpenGrant(data["attempt"], result.seq, data["lane"], data["dir"])
            elif request.answer is None:
                _log.error("%s cannot be recorded: %r", request.entry.kind, result)
                self._count(request.entry.kind, "unrecordable")
        if self._late:
            self._write(())

    def _transaction(self, group: Sequence[_Append]) -> list[tuple[_Append, Record | Exception]]:
        """Write `group` in one commit, leaving out whoever gives up before it begins. Raises sqlite3.Error."""
        store = self._ready()
        while True:
            wanted = [request for request in group if not request.given_up]
            store.begin()
            added: list[Record] = []
            gap = self._add_gap(store, added)
            for grant in self._late.values():
                store.free_mark(grant.seq)
                late = _outcome(Kind.PASSAGE_NOT_TAKEN, grant, self._clock, opened=False, why="late_record")
                added.append(store.add(late))
            done: list[tuple[_Append, Record | Exception]] = []
            for request in wanted:
                try:
                    record = store.add(request.entry)
                    added.append(record)
                    done.append((request, record))
                except (AlreadyUsedError, ValueError, TypeError, KeyError) as error:
                    # ValueError and the like: data that is no record. Its caller hears of it; the thread goes on.
                    done.append((request, error))
            if any(request.given_up for request in wanted):
                store.rollback()
                continue
            store.commit()
            self._late.clear()
            if added and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._on_commit, added)
            self._known_seq = store.seq
            self._forget_gap(gap)
            if not self.writable:
                _log.warning("journal writable again")
            self.writable = True
            return done

    def _add_gap(self, store: Store, added: list[Record]) -> _Gap | None:
        with self._lock:
            if self._gap is None:
                return None
            gap = replace(self._gap)
        data = {"why": gap.why, "dropped": gap.dropped, "refused": gap.refused, "since": gap.since}
        added.append(store.add(Entry(Kind.LOG_GAP, data, self._clock.now())))
        return gap

    def _forget_gap(self, written: _Gap | None) -> None:
        """Keep what was counted while `written` was being written."""
        with self._lock:
            if written is None or self._gap is None:
                return
            dropped, refused = self._gap.dropped - written.dropped, self._gap.refused - written.refused
            self._gap = _Gap(dropped, refused, self._gap.since, self._gap.why) if dropped or refused else None

    def _settle(self, request: _Append, result: Record | Exception) -> bool:
        """False when the caller gave up."""
        with self._lock:
            if request.given_up:
                return False
            request.settled = True
        if request.answer is not None:
            request.answer(result)
        return True

    def _serve(self, call: _Call[Any]) -> None:
        try:
            result: Any = call.work(self._ready())
        except AckMismatchError as error:
            result = error
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            result = RecordUnavailableError(str(error))
        call.answer(result)

    def _failed(self, error: Exception) -> None:
        if self.writable:
            _log.error("journal not writable: %s", error)
        self.writable = False
        self._close()

    def _close(self) -> None:
        if self._store is not None:
            try:
                self._store.rollback()
            except sqlite3.Error:
                _log.debug("rollback failed; the next opening recovers the file")
            self._store.close()
            self._store = None

    def _prune(self) -> None:
        try:
            self._ready().prune_marks(self._clock.now())
        except (sqlite3.Error, OSError) as error:
            self._failed(error)


def _outcome(kind: Kind, grant: OpenGrant, clock: Clock, **more: Any) -> Entry:
    """The outcome of a grant that the journal itself has to settle."""
    data = {"lane": grant.lane, "dir": grant.direction, "attempt": grant.attempt, **more}
    return Entry(kind, data, clock.now())
