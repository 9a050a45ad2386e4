"""The zones of this gate at work: what the rules say of them, the link to the other gates, and the outcome of each passage.

`ZoneState` (gate_agent.zone) knows who is inside; this gives it the time, its messages and its zones, and turns what comes to
light into events. Its file is small and written on the loop: one commit for each grant where a zone has anti-passback.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from drivers.ports import Direction
from gate_agent.passage import Effect as Outcome
from gate_agent.timers import CallLater
from gate_agent.zone import Effect as ZoneEffect
from gate_agent.zone import (
    EnteredTwice,
    Fact,
    Finding,
    Full,
    Moment,
    ZoneKeys,
    ZoneLink,
    ZoneSettings,
    ZoneState,
    ZoneStoreError,
)
from policy.model import OUTSIDE, AntiPassbackMode, CutOff, Policy
from policy.situation import AntiPassbackFinding
from protocol import topics
from protocol.clock import Clock
from protocol.events import Kind
from protocol.mqtt import Message

_log = logging.getLogger(__name__)

NOT_ASKED = Finding(Fact.NOT_ASKED, Fact.NOT_ASKED)

Note = Callable[[Kind, Mapping[str, Any]], None]
Publish = Callable[[str, bytes], Awaitable[bool]]
"""(topic, payload) -> the broker has it."""


class NoKeys:
    """A gate without a key file: it remembers nobody, and is cut off from every zone."""

    def key(self, zone: str, period: int) -> bytes | None:  # noqa: ARG002  the port's signature
        return None


def settings_of(policy: Policy) -> dict[str, ZoneSettings]:
    """The zones that remember who is inside or count how many, by name."""
    found = {}
    for zone in policy.zones.values():
        rule = zone.antipassback
        if rule.mode is AntiPassbackMode.NONE and zone.occupancy_limit is None:
            continue
        window = timedelta(minutes=rule.minutes) if rule.mode is AntiPassbackMode.TIMED else None
        found[zone.name] = ZoneSettings(zone.name, policy.timezone, window=window)
    return found


@dataclass(frozen=True, slots=True)
class Way:
    """Through an access point: the zone it leaves, the zone it enters, and the one whose rules decide. `outside` is no zone."""

    leaves: str
    enters: str
    decides: str

    @classmethod
    def of(cls, policy: Policy, point: str, *, reverse: bool = False) -> Way:
        """`reverse`: against the point's direction, as by a free exit."""
        rule = policy.points[point]
        leaves, enters = (rule.to_zone, rule.from_zone) if reverse else (rule.from_zone, rule.to_zone)
        return cls(leaves, enters, rule.zone)

    @classmethod
    def passed(cls, policy: Policy, points: Mapping[Direction, str], direction: Direction) -> Way:
        """The way of a passage in `direction`; `points`: the lane's access points, by the direction their readers serve."""
        point = points.get(direction)
        if point is not None:
            return cls.of(policy, point)
        (point,) = points.values()
        return cls.of(policy, point, reverse=True)


class Zones:
    """`use` for the first rules and after each change of them; `start` when the link is there; `stop` at the end."""

    def __init__(
        self,
        path: Path,
        *,
        site: str,
        gate: str,
        keys: ZoneKeys,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        note: Note,
        call_later: CallLater,
    ) -> None:
        self._path, self._site, self._gate, self._keys = path, site, gate, keys
        self._clock, self._random_bytes, self._note = clock, random_bytes, note
        self._call_later = call_later
        self._settings: dict[str, ZoneSettings] = {}
        self._state: ZoneState | None = None
        self._publish: Publish | None = None
        self._link: ZoneLink | None = None
        self._task: asyncio.Task[None] | None = None
        self._linked = self._broken = False

    def use(self, policy: Policy) -> None:
        """Take the zones of these rules; what is known of a zone that stays is kept."""
        wanted = settings_of(policy)
        if wanted == self._settings and (self._state is not None or not wanted):
            return
        self._settings = wanted
        self._close()
        self._open()

    def _open(self) -> None:
        if not self._settings:
            return
        try:
            state = self._state = ZoneState(
                self._path,
                site=self._site,
                gate=self._gate,
                zones=self._settings.values(),
                keys=self._keys,
                random_bytes=self._random_bytes,
                now=self._now(),
            )
        except (ZoneStoreError, ValueError) as error:
            # Entry goes on as if every zone were cut off; the rules say what that means.
            _log.error("anti-passback cannot be kept: %s", error)
            self._broken = True
            return
        self._broken = False
        if state.renewed:
            _log.warning("the anti-passback file was damaged and begins anew")
        if self._publish is not None:
            self._carry(state, self._publish)

    def _carry(self, state: ZoneState, publish: Publish) -> None:
        self._link = ZoneLink(state, publish, clock=self._clock, effects=self._tell, sleep=self._sleep)
        self._task = asyncio.create_task(self._link.run(), name="zones")
        self._task.add_done_callback(_end_of_link)
        if self._linked:
            self._link.connection(True)

    def _close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = self._link = None
        if self._state is not None:
            self._state.close()
            self._state = None

    # The link.

    @property
    def subscription(self) -> str:
        """Of every zone at this site: which of them are ours changes with the rules."""
        return topics.zone_tags(self._site, "+")

    def start(self, publish: Publish) -> None:
        self._publish = publish
        if self._state is not None:
            self._carry(self._state, publish)

    def stop(self) -> None:
        self._publish = None
        self._close()

    def on_link(self, connected: bool) -> None:
        self._linked = connected
        if self._link is not None:
            self._link.connection(connected)

    def on_message(self, message: Message) -> None:
        """One sealed message of another gate."""
        if self._link is not None:
            self._link.message(message.topic, message.payload)

    def _wake(self) -> None:
        if self._link is not None:
            self._link.wake()

    def _tell(self, effect: ZoneEffect) -> None:
        if isinstance(effect, EnteredTwice):
            self._note(Kind.ANTIPASSBACK_SOFT, {"zone": effect.zone, "count": effect.count})
        elif isinstance(effect, Full):
            _log.warning("zone %s remembers as many people as it may; further ones pass unremembered", effect.zone)

    async def _sleep(self, seconds: float) -> None:
        """On the loop's timers, which a test may hold."""
        over = asyncio.get_running_loop().create_future()
        timer = self._call_later(seconds, lambda: None if over.done() else over.set_result(None))
        try:
            await over
        finally:
            timer.cancel()

    # The lanes.

    @property
    def degraded(self) -> list[str]:
        if self._broken:
            return ["zone_store"]
        return [] if self._state is None else self._state.degraded(self._now())

    def find(self, zone: str, handle: bytes | None, lane: str, direction: Direction) -> Finding:
        if self._state is None:
            return Finding(Fact.CUT_OFF, Fact.CLEAR) if zone in self._settings else NOT_ASKED
        return self._state.find(zone, handle, lane, direction, self._now())

    def occupancy(self, zone: str) -> int | None:
        return None if self._state is None else self._state.occupancy(zone, self._now())

    def reserve(self, way: Way, handle: bytes | None, attempt: str, lane: str, decided_on: Finding) -> Finding | None:
        """Out of the one zone and into the other, durable when it returns. None: go on. A Finding of the zone that decides:
        another lane was faster; decide again. Raises ZoneStoreError; nothing is reserved then."""
        state, now = self._state, self._now()
        if state is None or handle is None:
            return None
        found = None
        if way.enters != OUTSIDE:
            # A way out is never barred: what the zone it leads into has against the person decides nothing.
            asked = way.decides == way.enters
            decides = decided_on if asked else state.find(way.enters, handle, lane, Direction.IN, now)
            found = state.reserve(way.enters, handle, attempt, lane, Direction.IN, now, decided_on=decides)
        if found is None and way.leaves != OUTSIDE:
            try:
                state.reserve(way.leaves, handle, attempt, lane, Direction.OUT, now, decided_on=NOT_ASKED)
            except ZoneStoreError:
                state.free(attempt, now)
                raise
        self._wake()
        return found

    def free(self, attempt: str) -> None:
        if self._state is not None:
            self._state.free(attempt, self._now())
            self._wake()

    def pass_used(self, zone: str, mark: bytes) -> bool:
        """Some gate of the zone has opened for this QR pass."""
        return self._state is not None and self._state.pass_used(zone, mark, self._now())

    def use_pass(self, zone: str, mark: bytes, until: datetime) -> None:
        """This gate has: the others are told."""
        if self._state is not None:
            self._state.use_pass(zone, mark, until, self._now())
            self._wake()

    def ended(self, outcome: Outcome, attempt: str | None, way: Way) -> None:
        """How a passage ended."""
        state = self._state
        if state is None:
            return
        now = self._now()
        if outcome is Outcome.COMPLETED:
            if attempt is not None:
                for effect in state.commit(attempt, now):
                    self._tell(effect)
            if way.leaves != OUTSIDE:
                state.passed(way.leaves, Direction.OUT, now)
            if way.enters != OUTSIDE:
                state.passed(way.enters, Direction.IN, now)
        elif attempt is not None:
            state.free(attempt, now)
        self._wake()

    # The guard.

    def forgive_lane(self, zone: str, lane: str) -> bool:
        """False where the zone remembers nobody."""
        if self._state is None or zone not in self._settings:
            return False
        self._state.forgive_lane(zone, lane, self._now())
        return True

    def forgive_zone(self, zone: str) -> bool:
        if self._state is None or zone not in self._settings:
            return False
        self._state.forgive_zone(zone, self._now())
        self._wake()
        return True

    def _now(self) -> Moment:
        return Moment.of(self._clock)


def _end_of_link(task: asyncio.Task[None]) -> None:
    """It never ends by itself; where it does, the zones go on as this gate alone knows them."""
    if not task.cancelled() and task.exception() is not None:
        _log.critical("the link between the gates of a zone has failed", exc_info=task.exception())


def judged(policy: Policy, point: str, finding: Finding) -> AntiPassbackFinding:
    """What the rules have to go by. Cut off, local knowledge counts against somebody where the zone lets it count."""
    local = policy.zone_of(point).antipassback.cut_off is CutOff.LOCAL
    return AntiPassbackFinding(finding.under(local_counts=local))
