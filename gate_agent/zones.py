"""The zones of this gate at work: what the rules say of them, the link to the other gates, and the outcome of each passage.

`ZoneState` (gate_agent.zone) knows who is inside; this gives it the time, its messages and its zones, and turns what comes to
light into events. Its file is small and written on the loop: one commit for each grant where a zone has anti-passback.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from drivers.ports import Direction
from gate_agent.background import Background
from gate_agent.passage import Effect as Outcome
from gate_agent.timers import CallLater, Handle
from gate_agent.zone import (
    EnteredTwice,
    Fact,
    Finding,
    Full,
    Moment,
    Outgoing,
    ZoneKeys,
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

TICK_S = 1.0
NOT_ASKED = Finding(Fact.NOT_ASKED, Fact.NOT_ASKED)

Note = Callable[[Kind, Mapping[str, Any]], None]
Publish = Callable[[str, bytes], Awaitable[bool]]
"""(topic, payload) -> the broker has it."""


class NoKeys:
    """A gate without a key file: each zone is known to it alone, and cut off."""

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
        background: Background,
    ) -> None:
        self._path, self._site, self._gate, self._keys = path, site, gate, keys
        self._clock, self._random_bytes, self._note = clock, random_bytes, note
        self._call_later, self._background = call_later, background
        self._settings: dict[str, ZoneSettings] = {}
        self._state: ZoneState | None = None
        self._publish: Publish | None = None
        self._linked = self._flushing = self._broken = False
        self._timer: Handle | None = None

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
            self._state = ZoneState(
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
        if self._state.renewed:
            _log.warning("the anti-passback file was damaged and begins anew")
        if self._linked:
            self._state.link_up(self._now())
        self._flush()

    def _close(self) -> None:
        if self._state is not None:
            self._state.close()
            self._state = None

    # The link.

    @property
    def subscription(self) -> str:
        """Of every zone at this site: which of them are ours changes with the rules."""
        return topics.zone_tag(self._site, "+", "+")

    def start(self, publish: Publish) -> None:
        self._publish = publish
        self._timer = self._call_later(TICK_S, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._publish = None
        self._close()

    def on_link(self, connected: bool) -> None:
        self._linked = connected
        if self._state is None:
            return
        if connected:
            self._state.link_up(self._now())
        else:
            self._state.link_down(self._now())
        self._flush()

    def on_message(self, message: Message) -> None:
        """One sealed message of another gate."""
        if self._state is not None:
            self._tell(self._state.receive(message.topic, message.payload, self._now()))
            self._flush()

    def _tick(self) -> None:
        self._timer = self._call_later(TICK_S, self._tick)
        if self._state is None:
            self._open()  # the disk may be back
        else:
            self._tell(self._state.tick(self._now()))
            self._flush()

    def _flush(self) -> None:
        """Publish what waits, in order, one flight at a time."""
        if self._publish is None or not self._linked or self._flushing or self._state is None:
            return
        waiting = self._state.outgoing(self._now())
        if waiting:
            self._flushing = True
            self._background.spawn(self._send(waiting, self._publish))

    async def _send(self, waiting: Sequence[Outgoing], publish: Publish) -> None:
        try:
            for each in waiting:
                # A message that is lost is made up for by the next comparison between gates.
                await publish(each.topic, each.payload)
        finally:
            self._flushing = False
        self._flush()

    def _tell(self, effects: Sequence[object]) -> None:
        for effect in effects:
            if isinstance(effect, EnteredTwice):
                self._note(Kind.ANTIPASSBACK_SOFT, {"zone": effect.zone, "count": effect.count})
            elif isinstance(effect, Full):
                _log.warning("zone %s remembers as many people as it may; further ones pass unremembered", effect.zone)

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

    def reserve(
        self, zone: str, handle: bytes | None, attempt: str, lane: str, direction: Direction, decided_on: Finding
    ) -> Finding | None:
        """None: reserved, or nothing to reserve. A Finding: another lane was faster; decide again. Raises ZoneStoreError."""
        if self._state is None or handle is None:
            return None
        found = self._state.reserve(zone, handle, attempt, lane, direction, self._now(), decided_on=decided_on)
        self._flush()
        return found

    def free(self, attempt: str) -> None:
        if self._state is not None:
            self._state.free(attempt, self._now())
            self._flush()

    def ended(self, outcome: Outcome, attempt: str | None, leaves: str, enters: str) -> None:
        """How a passage from zone `leaves` into zone `enters` ended; `outside` is no zone."""
        state = self._state
        if state is None:
            return
        if outcome is Outcome.COMPLETED:
            if attempt is not None:
                self._tell(state.commit(attempt, self._now()))
            if leaves != OUTSIDE:
                state.passed(leaves, Direction.OUT, self._now())
            if enters != OUTSIDE:
                state.passed(enters, Direction.IN, self._now())
        elif attempt is not None:
            state.free(attempt, self._now())
        self._flush()

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
        self._flush()
        return True

    def _now(self) -> Moment:
        return Moment.of(self._clock)


def judged(policy: Policy, point: str, finding: Finding) -> AntiPassbackFinding:
    """What the rules have to go by. Cut off, local knowledge counts against somebody where the zone lets it count."""
    if finding.fact is Fact.CUT_OFF:
        local = policy.zone_of(point).antipassback.cut_off is CutOff.LOCAL
        if local and finding.local in {Fact.INSIDE, Fact.RECENT}:
            return AntiPassbackFinding(finding.local)
    return AntiPassbackFinding(finding.fact)
