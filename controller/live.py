"""The building as it is now, in memory: gates, lanes, the last events and the counts of the day; and who is watching it.

Read once from the store at start, then kept up by what is committed and by the state, online and health topics. Watchers get
the changes of at most ten moments a second; one that does not keep up is told to take the whole picture again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from controller.alarm_rows import AlarmRow
from controller.batch import Committed, Picture, Stored
from controller.sorting import Sorted
from controller.timelines import SHOWN
from protocol import fields
from protocol.clock import Clock
from protocol.events import DECISIONS, Event, Kind
from protocol.health import EXPIRY_S, Health
from protocol.status import GateState, LaneState, Online

LAST_EVENTS = 50
MAX_GATES = 1000
MAX_LANES = 4000
MAX_WATCHERS = 64
WATCHER_QUEUE = 8
"""Changes a slow watcher may be behind before it has to take everything again."""
MIN_INTERVAL_S = 0.1
REFRESH_S = 30.0
"""Gates are shown anew after this long without news: a health grows old by itself."""
LIVE_S = 900.0
"""For so long it is shown when somebody walked. What is older, or comes later, is a history (docs/privacy.md)."""


@dataclass(slots=True)
class Gate:
    id: str
    last_seen: datetime | None = None
    online: bool | None = None
    boot: str | None = None
    health: Health | None = None
    health_at: datetime | None = None
    epoch: str | None = None
    mark: int = 0
    open: dict[int, AlarmRow] = field(default_factory=dict)
    """Its alarms that are not closed."""

    @property
    def alarms(self) -> int:
        return len(self.open)

    def fresh_health(self, now: datetime) -> Health | None:
        """None once the last one is older than its expiry."""
        if self.health is None or self.health_at is None or (now - self.health_at).total_seconds() > EXPIRY_S:
            return None
        return self.health


@dataclass(slots=True)
class Lane:
    gate: str
    id: str
    direction: str = ""
    state: LaneState = LaneState.UNKNOWN
    degraded: tuple[str, ...] = ()
    decision: Event | None = None
    ours_ms: float | None = None
    """Milliseconds of our own part of the last decision, radio and person left out."""
    attempt: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What changed since the one before. `rendered` is for the page: one rendering per language, shared by all watchers."""

    gates: frozenset[str]
    lanes: frozenset[tuple[str, str]]
    events: tuple[Stored, ...]
    alarms: bool = False
    """Some alarm did."""
    rendered: dict[str, str] = field(default_factory=dict)


class Watcher:
    def __init__(self) -> None:
        self._queue: asyncio.Queue[Change | None] = asyncio.Queue(WATCHER_QUEUE)
        self._behind = False
        self._closed = False

    def offer(self, change: Change) -> None:
        try:
            self._queue.put_nowait(change)
        except asyncio.QueueFull:
            self._behind = True

    def close(self) -> None:
        self._closed = True
        if not self._queue.full():
            self._queue.put_nowait(None)

    async def next(self, timeout: float) -> Change | str:
        """The next change; `resync` when some were dropped, `idle` after `timeout` seconds, `closed` at the end."""
        if self._closed:
            return "closed"
        if self._behind:
            self._behind = False
            while not self._queue.empty():
                self._queue.get_nowait()
            return "resync"
        try:
            async with asyncio.timeout(timeout):
                change = await self._queue.get()
        except TimeoutError:
            return "idle"
        return "closed" if change is None else change


class Live:
    def __init__(self, clock: Clock, time_zone: ZoneInfo) -> None:
        self.clock, self.time_zone = clock, time_zone
        self.gates: dict[str, Gate] = {}
        self.lanes: dict[tuple[str, str], Lane] = {}
        self.last: deque[Stored] = deque(maxlen=LAST_EVENTS)
        self.counts: dict[str, int] = {}
        self.set_aside = 0
        self.alarms: dict[int, AlarmRow] = {}
        """Those that are not closed; controller.alarm_ledger bounds them."""
        self._day = ""
        self._watchers: set[Watcher] = set()
        self._gates_changed: set[str] = set()
        self._lanes_changed: set[tuple[str, str]] = set()
        self._new: deque[Stored] = deque(maxlen=LAST_EVENTS)
        self._alarms_changed = False
        self._dirty = asyncio.Event()
        self._forgot = 0.0
        """Monotonic time at which old passages were last looked for."""

    def today(self) -> str:
        return self.clock.now().astimezone(self.time_zone).date().isoformat()

    def load(self, picture: Picture) -> None:
        """What the store knows, at start; not when somebody last walked through a lane (docs/privacy.md)."""
        for row in picture.gates:
            gate = self._gate(row.gate)
            gate.last_seen = datetime.fromisoformat(row.last_seen)
            gate.online, gate.boot = row.online, row.boot
            gate.epoch, gate.mark = row.epoch, row.mark
        self._on_alarms(picture.alarms)
        self.last.extend(picture.last)
        self._day, self.counts, self.set_aside = self.today(), dict(picture.counts), picture.set_aside

    def apply(self, done: Sorted, committed: Committed) -> None:
        """One committed batch."""
        now = self.clock.now()
        if self._day != self.today():
            self._day, self.counts = self.today(), {}
        for name in done.batch.heard:
            self._gate(name).last_seen = now
        for name, online in committed.onlines:
            self._on_online(self._gate(name), online)
        for name, state in done.states.items():
            self._on_state(name, state)
        for name, health in done.healths.items():
            gate = self._gate(name)
            gate.health, gate.health_at = health, now
        shown = [stored for stored in committed.stored if is_live(stored.event, now)]
        for stored in shown:
            self._on_event(stored.event)
        newest = shown[-LAST_EVENTS:]
        self.last.extend(newest)
        self._new.extend(newest)
        for (day, kind), n in committed.counts.items():
            if day == self._day:
                self.counts[kind] = self.counts.get(kind, 0) + n
        for name, ack in committed.acks.items():
            gate = self._gate(name)
            gate.epoch, gate.mark = ack.epoch, ack.seq
        self._on_alarms(committed.alarm_rows)
        self.set_aside += committed.set_aside
        self._dirty.set()

    def lanes_of(self, gate: str) -> list[Lane]:
        return [self.lanes[key] for key in sorted(key for key in self.lanes if key[0] == gate)]

    def _gate(self, name: str) -> Gate:
        gate = self.gates.get(name)
        if gate is None:
            gate = Gate(name)
            if len(self.gates) < MAX_GATES:
                self.gates[name] = gate
        self._gates_changed.add(name)
        return gate

    def _lane(self, gate: str, lane: str) -> Lane:
        key = (gate, lane)
        found = self.lanes.get(key)
        if found is None:
            found = Lane(gate, lane)
            if len(self.lanes) < MAX_LANES:
                self.lanes[key] = found
        self._lanes_changed.add(key)
        return found

    def _on_online(self, gate: Gate, online: Online) -> None:
        """Of those that count (controller.presence)."""
        gate.online, gate.boot = online.online, online.boot
        if not online.online:
            gate.health = None
        self._lanes_changed.update(key for key in self.lanes if key[0] == gate.id)

    def _on_state(self, gate: str, state: GateState) -> None:
        self._gate(gate)
        for each in state.lanes:
            lane = self._lane(gate, each.lane)
            lane.direction, lane.state, lane.degraded = each.direction, each.state, each.degraded
        named = {each.lane for each in state.lanes}
        for key in [key for key in self.lanes if key[0] == gate and key[1] not in named]:
            del self.lanes[key]  # the state names every lane: others are of an earlier configuration
            self._lanes_changed.add(key)

    def _on_event(self, event: Event) -> None:
        name = event.data.get("lane")
        if not isinstance(name, str) or not fields.WORD.fullmatch(name):
            return
        if event.kind in DECISIONS:
            lane = self._lane(event.gate, name)
            if lane.decision is not None and lane.decision.epoch == event.epoch and lane.decision.seq > event.seq:
                return
            lane.decision, lane.ours_ms = event, ours_ms(event)
            lane.direction = lane.direction or str(event.data.get("dir", ""))
        elif event.kind is Kind.LANE_OPENED:
            # The decision is recorded before the lane opens; the time to the relay is known only here.
            lane = self._lane(event.gate, name)
            if lane.decision is not None and lane.decision.data.get("attempt") == event.data.get("attempt"):
                lane.ours_ms = ours_ms(event) or lane.ours_ms

    def apply_alarms(self, rows: Iterable[AlarmRow]) -> None:
        """What became of alarms without a batch (controller.alarm_desk)."""
        self._on_alarms(rows)
        self._dirty.set()

    def _on_alarms(self, rows: Iterable[AlarmRow]) -> None:
        for row in rows:
            places = [self.alarms] if not row.gate else [self.alarms, self._gate(row.gate).open]
            for place in places:
                if row.closed is None:
                    place[row.id] = row
                else:
                    place.pop(row.id, None)
            self._alarms_changed = True

    def forget(self) -> None:
        """What tells when somebody walked, once it is no live view any more."""
        now = self.clock.now()
        kept = [stored for stored in self.last if is_live(stored.event, now)]
        if len(kept) < len(self.last):
            self.last.clear()
            self.last.extend(kept)
        for key, lane in self.lanes.items():
            if lane.decision is not None and not is_live(lane.decision, now):
                lane.decision = lane.ours_ms = None
                self._lanes_changed.add(key)
                self._dirty.set()

    # Watching

    @property
    def watching(self) -> int:
        return len(self._watchers)

    def watch(self) -> Watcher | None:
        """None when there are too many watchers."""
        if len(self._watchers) >= MAX_WATCHERS:
            return None
        watcher = Watcher()
        self._watchers.add(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    def close(self) -> None:
        """Every watcher's stream ends."""
        for watcher in self._watchers:
            watcher.close()

    def touch(self) -> None:
        """Something outside this picture changed, such as the connection to the broker."""
        self._gates_changed.update(self.gates)
        self._dirty.set()

    async def run(self) -> None:
        """Hand changes to the watchers, for ever."""
        while True:
            try:
                async with asyncio.timeout(REFRESH_S):
                    await self._dirty.wait()
            except TimeoutError:
                self.touch()
            if self.clock.monotonic() - self._forgot >= REFRESH_S:
                self._forgot = self.clock.monotonic()
                self.forget()
            self._dirty.clear()
            change = Change(
                frozenset(self._gates_changed), frozenset(self._lanes_changed), tuple(self._new), self._alarms_changed
            )
            self._gates_changed.clear()
            self._lanes_changed.clear()
            self._new.clear()
            self._alarms_changed = False
            for watcher in self._watchers:
                watcher.offer(change)
            await asyncio.sleep(MIN_INTERVAL_S)


def is_live(event: Event, now: datetime) -> bool:
    """Whether an event may be shown without an officer's reason: of the kinds that tell when somebody walked, and of names that
    only a newer gate knows, only a new one."""
    if event.kind in SHOWN:
        return True
    try:
        # Neither later nor of a clock that is ahead, by which it would be shown for hours.
        return abs((now - datetime.fromisoformat(event.time)).total_seconds()) <= LIVE_S
    except (ValueError, OverflowError, TypeError):
        return False


def ours_ms(event: Event) -> float | None:
    """`lat_ms.ours` of an event, where it is a number."""
    latencies = event.data.get("lat_ms")
    value = latencies.get("ours") if isinstance(latencies, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1e7 else None
