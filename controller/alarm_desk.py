"""Alarms on the loop: what the controller sees by itself, what is escalated, and what operators do.

A gate is away when nothing came from it for a while (its health comes every 30 s), counted on the monotonic clock, and only while
this controller hears anybody: while the broker is away, no gate is judged by its silence.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from controller.alarm_book import AlarmBook
from controller.alarm_kinds import BROKER, CONTROLLER_DISK, KINDS, OFFLINE, STORE
from controller.alarm_rows import AlarmRow, AlarmUpdate, Key
from controller.batch import Committed, GateRow
from controller.config import Alarms as Settings
from controller.sorting import Sorted
from protocol.clock import Clock
from protocol.command import Operator

TICK_S = 5.0
BROKER_S = 30.0
"""Without a connection to the broker for this long is an alarm."""
DISK_RELIEF = 1.25
"""A disk is well again with so much more than the limit, so that the alarm does not come and go."""
MAX_GATES = 2000
_BROKER: Key = ("", "", BROKER, "")
_STORE: Key = ("", "", STORE, "")
_DISK: Key = ("", "", CONTROLLER_DISK, "")
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Thread(Protocol):
    """The store's (controller.ingest.StoreThread)."""

    async def call(self, work: Callable[[], T]) -> T: ...


class AlarmDesk:
    def __init__(
        self,
        book: AlarmBook,
        thread: Thread,
        *,
        settings: Settings,
        clock: Clock,
        directory: Path,
        connected: Callable[[], bool],
        store_ok: Callable[[], bool],
        enrolled: Callable[[str], bool],
        on_update: Callable[[AlarmUpdate], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`directory` is where the database lies; `connected` and `store_ok` say how broker and store are; `enrolled` may be
        called from any thread. `on_update` is called on the loop after each transaction of this desk that changed something."""
        self._book, self._thread, self._settings, self._clock = book, thread, settings, clock
        self._directory, self._connected, self._store_ok = directory, connected, store_ok
        self._enrolled, self._on_update, self._sleep = enrolled, on_update, sleep
        self._heard: dict[str, float] = {}
        """By gate, when something came last: monotonic."""
        self._gone: set[str] = set()
        """Gates whose will has come: what the broker still has of them is no sign of life."""
        self._connected_before = False
        self._cut_off_since = clock.monotonic()
        self._store_failed = False
        self._disk_low = False

    def load(self, gates: Iterable[GateRow]) -> None:
        """At start. All have their time once more: nobody knows what came while this controller was not running."""
        for row in gates:
            self._hear(row.gate)
            if row.online is False:
                self._gone.add(row.gate)

    def note(self, done: Sorted, committed: Committed) -> None:
        """One committed batch."""
        for gate, online in committed.onlines:
            if online.online:
                self._gone.discard(gate)
                self._hear(gate)
            elif gate not in self._gone:  # a retained one comes again at every connection
                self._gone.add(gate)
                self._hear(gate)
        wills = {gate for gate, online in done.batch.onlines if not online.online}
        for gate in done.batch.heard - wills:
            if gate not in self._gone:
                self._hear(gate)

    def _hear(self, gate: str) -> None:
        if gate in self._heard or len(self._heard) < MAX_GATES:
            self._heard[gate] = self._clock.monotonic()

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.step()
            except (sqlite3.Error, OSError) as error:
                if not self._store_failed:
                    _log.error("alarms cannot be written: %s", error)
                self._store_failed = True
            await self._sleep(TICK_S)

    async def step(self) -> None:
        """One look at everything. Raises sqlite3.Error or OSError; the next look sees the same again."""
        if not self._store_ok():
            self._store_failed = True
            return
        if self._store_failed:
            # It could not be written while it was so; that it was so must not be lost.
            await self._judge({_STORE: True})
            self._store_failed = False
        await self._judge({_STORE: False, **self._silences()})
        self._tell(await self._thread.call(self._look_at_disk))
        work = partial(self._book.escalate, self._settings.escalate_s, self._clock.now(), self._clock.monotonic())
        self._tell(await self._thread.call(work))

    def _silences(self) -> dict[Key, bool]:
        """The broker's and the gates'."""
        now = self._clock.monotonic()
        if not self._connected():
            self._connected_before = False
            return {_BROKER: now - self._cut_off_since >= BROKER_S}
        if not self._connected_before:  # whatever they sent meanwhile has not come yet
            self._connected_before = True
            self._heard = {gate: now if gate not in self._gone else at for gate, at in self._heard.items()}
        self._cut_off_since = now
        found: dict[Key, bool] = {_BROKER: False}
        for gate, at in self._heard.items():
            found[gate, "", OFFLINE, ""] = self._enrolled(gate) and now - at >= self._settings.offline_s
        return found

    def _look_at_disk(self) -> AlarmUpdate:
        """In the store's thread."""
        limit = self._settings.disk_free_mb * (DISK_RELIEF if self._disk_low else 1)
        self._disk_low = shutil.disk_usage(self._directory).free < limit * 1_000_000
        return self._book.judge({_DISK: self._disk_low}, self._clock.now())

    async def _judge(self, conditions: dict[Key, bool]) -> None:
        self._tell(await self._thread.call(partial(self._book.judge, conditions, self._clock.now())))

    def _tell(self, update: AlarmUpdate) -> None:
        if update.rows:
            self._on_update(update)

    async def trouble(self, kind: str, detail: str, *, holds: bool) -> None:
        """A part of the controller begins or ends to be in trouble; the same again changes nothing. Raises sqlite3.Error."""
        if not kind.startswith("controller.") or kind not in KINDS:
            raise ValueError(f"{kind} is no alarm of the controller's own")
        await self._judge({("", "", kind, detail): holds})

    async def acknowledge(self, alarm: int, operator: Operator) -> AlarmRow:
        """Raises NoSuchAlarmError, sqlite3.Error."""
        row, update = await self._thread.call(partial(self._book.acknowledge, alarm, operator, self._clock.now()))
        self._tell(update)
        return row

    async def clear(self, alarm: int, operator: Operator) -> AlarmRow:
        """Raises NoSuchAlarmError, EndsByItselfError, sqlite3.Error."""
        work = partial(self._book.clear, alarm, operator, self._clock.now(), enrolled=self._enrolled)
        row, update = await self._thread.call(work)
        self._tell(update)
        return row
