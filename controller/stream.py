"""The live stream for consoles and other programs: `GET /api/v1/stream`, server-sent events (docs/api.md).

    event   a door event, as it is committed
    alarm   a change of an alarm
    gate    a gate as it is now, when that has changed
    resync  something was left out: ask the read API, then go on

Messages are rendered once and kept in one bounded ring in memory, which every watcher reads at its own pace from its own place;
a watcher that falls out of the ring is told so. Nothing waits for a watcher. The ring is also what a reconnecting client resumes
from (`Last-Event-ID`): for minutes, and not beyond a restart, so that it is no store of exact times.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controller import views
from controller.alarm_rows import AlarmChange, AlarmUpdate
from controller.batch import Committed
from controller.live import Live, is_live
from controller.sorting import CANONICAL, Sorted
from controller.timelines import row
from protocol.clock import Clock, rfc3339

EVENT, ALARM, GATE = "event", "alarm", "gate"
TYPES = (EVENT, ALARM, GATE)
KEPT = 10_000
KEPT_BYTES = 8 << 20
KEPT_S = 300.0
MAX_WATCHERS = 64
CHUNK_BYTES = 1 << 18
"""Given to a connection at once."""
PACE_S = 0.05
"""Between two chunks for the same watcher: at thousands of messages a second they go out together."""
IDLE_S = 15.0
"""A comment goes out after this long without news, so that both ends notice a dead connection."""
RETRY_MS = 2000
MAX_ID = 64


@dataclass(slots=True)
class Message:
    type: str
    gate: str
    at: float
    """Monotonic time."""
    raw: bytes


class Ring:
    """The last messages by number: at most so many, so many bytes, and so old."""

    def __init__(self, clock: Clock, kept: int, kept_bytes: int, kept_s: float) -> None:
        self._clock, self._kept_bytes, self._kept_s = clock, kept_bytes, kept_s
        self._slots: list[Message | None] = [None] * kept
        self.first = self.end = 0
        """Number of the oldest that is kept, and of the next that comes."""
        self.size = 0
        """Bytes."""

    def add(self, message: Message) -> None:
        if self.end - self.first == len(self._slots):
            self._drop()
        self._slots[self.end % len(self._slots)] = message
        self.end += 1
        self.size += len(message.raw)
        while self.size > self._kept_bytes:
            self._drop()

    def forget(self) -> None:
        """What is too old."""
        oldest = self._clock.monotonic() - self._kept_s
        while self.first < self.end and self[self.first].at < oldest:
            self._drop()

    def __getitem__(self, number: int) -> Message:
        message = self._slots[number % len(self._slots)]
        if message is None:
            raise IndexError(number)
        return message

    def _drop(self) -> None:
        self.size -= len(self[self.first].raw)
        self._slots[self.first % len(self._slots)] = None
        self.first += 1


class Watcher:
    """One connection's place in the ring."""

    def __init__(self, stream: LiveStream, types: Collection[str] | None, gates: Collection[str] | None) -> None:
        self._stream = stream
        self._types = None if types is None else frozenset(types)
        self._gates = None if gates is None else frozenset(gates)
        self.at = stream.ring.end
        """Number of the next message it has not seen."""
        self.lost: str | None = None
        """Why it has to take everything again, until it is told."""
        self.news = asyncio.Event()

    def take(self) -> bytes:
        """What came since, at most some CHUNK_BYTES; empty: nothing that this one wants."""
        ring = self._stream.ring
        ring.forget()
        if self.at < ring.first:
            self.lost = self.lost or "behind"
        if self.lost is not None:
            why, self.lost, self.at = self.lost, None, ring.end
            return b'event: resync\nid: %b\ndata: {"why":"%b"}\n\n' % (self._stream.id_of(self.at), why.encode())
        found: list[bytes] = []
        size = 0
        while self.at < ring.end and size < CHUNK_BYTES:
            message = ring[self.at]
            self.at += 1
            if self._wants(message):
                found.append(message.raw)
                size += len(message.raw)
        return b"".join(found)

    def _wants(self, message: Message) -> bool:
        return (self._types is None or message.type in self._types) and (
            self._gates is None or message.gate in self._gates
        )

    async def chunks(self, idle_s: float = IDLE_S) -> AsyncIterator[bytes]:
        """Bytes for the connection, until the stream closes."""
        yield b"retry: %d\nid: %b\n\n" % (RETRY_MS, self._stream.id_of(self.at))
        while not self._stream.closed:
            self.news.clear()
            chunk = self.take()
            if chunk:
                yield chunk
                await asyncio.sleep(PACE_S)
                continue
            if self.at < self._stream.ring.end:
                continue
            try:
                async with asyncio.timeout(idle_s):
                    await self.news.wait()
            except TimeoutError:
                # With the id, so that one who wants little resumes from here, not from the last that it wanted.
                yield b": idle\nid: %b\n\n" % self._stream.id_of(self.at)


class LiveStream:
    def __init__(
        self, live: Live, run: str, *, kept: int = KEPT, kept_bytes: int = KEPT_BYTES, kept_s: float = KEPT_S
    ) -> None:
        """`run` names this run of the controller: ids of another one are not resumed from."""
        self._live, self._run = live, run
        self.ring = Ring(live.clock, kept, kept_bytes, kept_s)
        self.closed = False
        self._watchers: set[Watcher] = set()
        self._gates: dict[str, Mapping[str, Any]] = {}
        """Each gate as it was told last."""

    # What happens

    def apply(self, done: Sorted, committed: Committed) -> None:
        """One committed batch, after the picture in memory has taken it."""
        now = self._live.clock.now()
        for stored in committed.stored:
            if is_live(stored.event, now):
                view = views.event(row(stored.event, _utc(stored.event.time), whole=False))
                self._add(EVENT, stored.event.gate, json.dumps(view, ensure_ascii=False, separators=(",", ":")))
        self._tell_alarms(committed.changes)
        alarmed = {alarm.gate for alarm in committed.alarm_rows}
        for name in {*(gate for gate, _ in committed.onlines), *done.states, *done.healths, *alarmed}:
            self._tell_gate(name, now)
        self._wake()

    def alarms(self, update: AlarmUpdate) -> None:
        """What became of alarms without a batch, after the picture in memory has taken it."""
        self._tell_alarms(update.changes)
        for name in {alarm.gate for alarm in update.rows}:
            self._tell_gate(name, self._live.clock.now())
        self._wake()

    def _tell_alarms(self, changes: Iterable[AlarmChange]) -> None:
        for each in changes:
            gate = json.loads(each.body)["gate"]
            head = json.dumps({"id": each.id, "time": each.time, "change": each.change})
            self._add(ALARM, gate, f'{head[:-1]}, "alarm": {each.body}}}')

    def _tell_gate(self, name: str, now: datetime) -> None:
        gate = self._live.gates.get(name)
        if gate is None:
            return
        view = views.gate(gate, self._live.lanes_of(name), now)
        # Without what changes all the time.
        health = view["health"] and {**view["health"], "outbox": None}
        told = {**view, "last_seen": None, "health": health}
        if self._gates.get(name) != told:
            self._gates[name] = told
            self._add(GATE, name, json.dumps(view, ensure_ascii=False, separators=(",", ":")))

    def _add(self, kind: str, gate: str, data: str) -> None:
        raw = b"event: %b\nid: %b\ndata: %b\n\n" % (kind.encode(), self.id_of(self.ring.end + 1), data.encode())
        self.ring.add(Message(kind, gate, self._live.clock.monotonic(), raw))

    def _wake(self) -> None:
        for each in self._watchers:
            each.news.set()

    # Watching

    def watch(
        self, types: Collection[str] | None = None, gates: Collection[str] | None = None, last_id: str | None = None
    ) -> Watcher | None:
        """None when there are too many watchers, or the stream is closed."""
        if self.closed or len(self._watchers) >= MAX_WATCHERS:
            return None
        watcher = Watcher(self, types, gates)
        if last_id is not None:
            number = self._number(last_id)
            if number is None:
                watcher.lost = "restarted"
            else:
                watcher.at = number
        self._watchers.add(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    def close(self) -> None:
        """Every stream ends."""
        self.closed = True
        self._wake()

    @property
    def watching(self) -> int:
        return len(self._watchers)

    def id_of(self, number: int) -> bytes:
        """What a client that has seen everything before message `number` gives back as Last-Event-ID."""
        return f"{self._run}-{number}".encode()

    def _number(self, last_id: str) -> int | None:
        """None where it is of another run, or was never given."""
        run, dash, number = last_id.rpartition("-")
        if not dash or run != self._run or not (number.isascii() and number.isdigit() and len(number) <= 18):
            return None
        return int(number) if int(number) <= self.ring.end else None


def _utc(time: str) -> str:
    """As timelines have it: UTC, milliseconds."""
    return time if CANONICAL.fullmatch(time) else rfc3339(datetime.fromisoformat(time))
