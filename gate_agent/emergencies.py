"""The emergency state at a gate: adopted when it is newer, durable before it counts, refused otherwise (protocol.emergency).

Only what a state changes against the one before is ordered, so that neither a change elsewhere nor the minute's repetition
undoes what the key switch or a guard on the spot has done meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Protocol

from gate_agent.barrier import Barrier
from gate_agent.command_keys import ANY, CommandKeys
from gate_agent.command_refusals import CommandRefusals
from gate_agent.passage import Orders, Refusal
from gate_agent.timekeeping import TimeFacts
from policy.situation import ClockQuality
from protocol import emergency
from protocol.command import EMERGENCY, CommandError, Refused
from protocol.emergency import Emergency
from protocol.events import Kind
from protocol.mqtt import Message

_log = logging.getLogger(__name__)

MAX_WAITING = 8
"""Messages; of more the oldest goes, since each is the whole state and comes again within the minute."""


class Kept(Protocol):
    """The part of gate_agent.modes.KeptModes that is used here. Each may raise OSError or sqlite3.Error."""

    async def adopt(self, sequence: int, orders: Mapping[str, Orders], levels: Mapping[str, int]) -> None: ...

    async def emergency(self) -> tuple[int, Mapping[str, int]]: ...


class Emergencies:
    def __init__(
        self,
        site: str,
        barriers: Mapping[str, Barrier],
        kept: Kept,
        *,
        zones_of: Callable[[str], Collection[str]],
        keys: Callable[[], CommandKeys],
        time: Callable[[], TimeFacts],
        note: Callable[[Kind, Mapping[str, Any]], None],
        refusals: CommandRefusals,
    ) -> None:
        self._site, self._barriers, self._kept, self._zones_of = site, barriers, kept, zones_of
        self._keys, self._time, self._note, self._refusals = keys, time, note, refusals
        self._waiting: deque[Message] = deque(maxlen=MAX_WAITING)
        self._wake = asyncio.Event()

    def on_message(self, message: Message) -> None:
        """Whatever came on the topic; retained or not makes no difference."""
        self._waiting.append(message)
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self.handle(self._waiting.popleft().payload)

    async def handle(self, payload: bytes) -> None:
        why: str | None
        try:
            why = await self._take(payload)
        except CommandError:
            why = Refused.MALFORMED
        except (OSError, sqlite3.Error) as error:
            _log.error("the emergency state cannot be kept: %s", type(error).__name__)
            why = Refusal.RECORD_UNAVAILABLE
        if why is not None:
            self._refusals.refuse(why, verb=EMERGENCY)

    async def _take(self, payload: bytes) -> Refused | None:
        """Why it is not taken. Raises CommandError, OSError or sqlite3.Error."""
        found = emergency.parse(payload)
        keys = self._keys()
        if not keys.by_kid:
            return Refused.NOT_PERMITTED
        key = keys.by_kid.get(found.sealed.kid)
        if key is None or not found.sealed.verify(key.key):
            return Refused.FORGED
        facts = self._time()
        now = None if facts.quality is ClockQuality.UNSET else facts.now
        if EMERGENCY not in key.verbs or ANY not in key.zones or (now is not None and now > key.not_after):
            return Refused.NOT_PERMITTED
        state = emergency.read(found)
        if state.site != self._site:
            return Refused.MISADDRESSED
        sequence, before = await self._kept.emergency()
        if state.sequence <= sequence:
            return Refused.REPLAYED if state.sequence < sequence else None
        if not sequence and now is not None and now > state.not_after:
            return Refused.LATE
        await self._adopt(state, before)
        return None

    async def _adopt(self, state: Emergency, before: Mapping[str, int]) -> None:
        """Raises OSError or sqlite3.Error; what bars entry counts all the same, until the next restart."""
        levels = {lane: self._level(lane, state.levels) for lane in self._barriers}
        changed = {lane: level for lane, level in levels.items() if level != self._level(lane, before)}
        orders = {lane: replace(self._barriers[lane].kept, lockdown=level) for lane, level in changed.items()}
        try:
            await self._kept.adopt(state.sequence, orders, state.levels)
        except (OSError, sqlite3.Error):
            for lane, level in changed.items():
                if level > self._barriers[lane].kept.lockdown:
                    await self._barriers[lane].impose(level, orders[lane])
            raise
        self._note(Kind.COMMAND_ACCEPTED, {"verb": EMERGENCY, "op": EMERGENCY, "cmd": f"{EMERGENCY}-{state.sequence}"})
        for lane, level in changed.items():
            await self._barriers[lane].impose(level, orders[lane])

    def _level(self, lane: str, levels: Mapping[str, int]) -> int:
        """The highest of the zones that a lane leads to."""
        return max((levels.get(zone, 0) for zone in self._zones_of(lane)), default=0)
