"""The emergency state of the site, at the controller: changed by order, kept, and issued every minute (protocol.emergency).

The broker holds the last that was issued. A controller whose database is older than that, because it was put back from a backup,
takes it over before it says anything: gates take nothing that is older, and a change is made from what is in force.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial

from cryptography.hazmat.primitives.asymmetric import ec

from controller.commands import DONE, NOT_SENT, Keeper, Link, Result
from controller.orders import Orders
from protocol import emergency, topics
from protocol.clock import Clock
from protocol.command import ALL, EMERGENCY, CommandError, Operator
from protocol.emergency import MAX_LEVEL, MAX_ZONES, REISSUE_S, VALID_S, Emergency

HEAR_S = 3.0
"""The broker sends what it holds at once with a subscription; where it holds nothing, it is waited for so long."""
_log = logging.getLogger(__name__)


class EmergencyState:
    def __init__(
        self,
        link: Link,
        orders: Orders,
        thread: Keeper,
        *,
        site: str,
        key: ec.EllipticCurvePrivateKey,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        hear_s: float = HEAR_S,
    ) -> None:
        """`key` signs the state; gates have it in their list of command keys, for `emergency` and every zone."""
        self._link, self._orders, self._thread, self._site = link, orders, thread, site
        self._key, self._clock, self._random_bytes, self._sleep = key, clock, random_bytes, sleep
        self._hear_s = hear_s
        self._changing = asyncio.Lock()
        self._heard: bytes | None = None
        """The last message on the topic that was not looked at yet."""
        self._said = asyncio.Event()
        self._listened = False
        """What the broker held was taken over, or there was nothing."""

    def receive(self, payload: bytes) -> None:
        """What stands on the topic: of an earlier life of this controller, or what it has just said."""
        self._heard = payload
        self._said.set()

    async def joined(self) -> None:
        """A connection to the broker is up, and the topic subscribed. Raises sqlite3.Error."""
        if not self._listened:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._hear_s):
                    await self._said.wait()
            self._listened = True
        await self.issue()  # the broker may have lost the retained one

    async def set(self, levels: Mapping[str, int], operator: Operator) -> Result:
        """New levels of these zones, 0 to end a lockdown; the others stay. Kept before it is sent.

        `not_sent`: it is kept, and goes out with the next issue. Raises CommandError or sqlite3.Error.
        """
        for zone, level in levels.items():
            if not topics.ZONE.fullmatch(zone) or type(level) is not int or not 0 <= level <= MAX_LEVEL:
                raise CommandError(f"levels: zones with levels from 0 to {MAX_LEVEL} are expected")
        if not levels:
            raise CommandError("levels: a zone is expected")
        order_id, now = self._random_bytes(8).hex(), self._clock.now()
        async with self._changing:
            sequence, before = await self._newest()
            after = {zone: level for zone, level in {**before, **levels}.items() if level}
            if len(after) > MAX_ZONES:
                raise CommandError(f"levels: at most {MAX_ZONES} zones are expected")
            begin = partial(self._orders.begin, order_id, topics.ALL, ALL, EMERGENCY, dict(levels), operator, None, now)
            await self._thread.call(begin)
            # Not below the seconds of the clock: a database put back from a backup must not say what gates take for old.
            sequence = max(sequence + 1, int(now.timestamp()))
            await self._thread.call(partial(self._orders.set_emergency, sequence, after))
            why = await self._publish(sequence, after)
        result = Result(order_id, DONE if why is None else NOT_SENT, why)
        await self._thread.call(
            partial(self._orders.end, order_id, result.outcome, {"sequence": sequence, "reason": why}, now)
        )
        return result

    async def issue(self) -> bool:
        """Send what is in force once more, where anything was ever ordered. Raises sqlite3.Error."""
        async with self._changing:
            sequence, levels = await self._newest()
            return bool(sequence) and await self._publish(sequence, levels) is None

    async def run(self) -> None:
        """Every minute, for ever; nothing before the broker was listened to."""
        while True:
            try:
                if self._listened:
                    await self.issue()
            except sqlite3.Error as error:
                _log.error("the emergency state cannot be read: %s", error)
            await self._sleep(REISSUE_S)

    async def _newest(self) -> tuple[int, Mapping[str, int]]:
        """Sequence and levels: what is kept here, or what was heard where that is newer. Raises sqlite3.Error."""
        sequence, levels = await self._thread.call(self._orders.emergency)
        heard, self._heard = self._heard, None
        if heard is None:
            return sequence, levels
        try:
            found = emergency.parse(heard)
            if not found.sealed.verify(self._key.public_key()):
                raise CommandError("another key has signed it")
            state = emergency.read(found)
            if state.site != self._site:
                raise CommandError("it is another site's")
        except CommandError as error:
            _log.warning("the emergency state at the broker counts for nothing: %s", error)
            return sequence, levels
        if state.sequence <= sequence:
            return sequence, levels
        try:
            await self._thread.call(partial(self._orders.set_emergency, state.sequence, state.levels))
        except BaseException:
            self._heard = self._heard or heard  # nothing older may go out before this is kept
            raise
        _log.warning("emergency state %d taken over from the broker; %d was kept here", state.sequence, sequence)
        return state.sequence, state.levels

    async def _publish(self, sequence: int, levels: Mapping[str, int]) -> str | None:
        """Why it did not go out; None: the broker has it."""
        now = self._clock.now()
        state = Emergency(self._site, sequence, now, now + timedelta(seconds=VALID_S), levels)
        sent = await self._link.publish(topics.emergency(self._site), state.encode(self._key), retain=True)
        return None if sent.ok else sent.reason
