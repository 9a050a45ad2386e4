"""Alarms and health told to others by HTTP: each webhook on its own, in order, at least once, and in nobody's way.

A change that was not taken is tried again with back-off. Where nothing was taken for `give_up_hours`, what is older than that is
given up; what a receiver refuses is given up after a few tries. Both raise an alarm. docs/webhooks.md.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import TypeVar

from controller.alarm_kinds import WEBHOOK
from controller.alarm_rows import Troubles
from controller.ingest import StoreThread
from controller.webhook_message import Message, compose, wanted
from controller.webhook_post import Answer, Outcome, Post
from controller.webhook_rows import WebhookRows
from controller.webhook_settings import Webhook, read_secrets
from protocol.backoff import Backoff
from protocol.clock import Clock

BASE_S, CAP_S = 1.0, 300.0
STORE_CAP_S = 30.0
"""While the store cannot be read or written."""
REFUSALS = 3
"""A message that was refused so often is given up."""
ROWS = 100
"""Changes read at once."""
LOOK_S = 30.0
"""Between looks into the table where nobody has called `wake`."""
_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(slots=True)
class Figures:
    """Counts since the start."""

    delivered: int = 0
    failures: int = 0
    """Attempts that failed."""
    given_up: int = 0


@dataclass(frozen=True, slots=True)
class _Waiting:
    change: int
    time: datetime
    message: Message


class Sender:
    """One webhook. `run` is for ever."""

    def __init__(
        self,
        webhook: Webhook,
        *,
        site: str,
        rows: WebhookRows,
        thread: StoreThread,
        post: Callable[[Message], Awaitable[Answer]],
        clock: Clock,
        random: Random,
        troubles: Troubles,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.webhook, self._site, self._rows, self._thread = webhook, site, rows, thread
        self._post, self._clock, self._troubles, self._sleep = post, clock, troubles, sleep
        self._backoff = Backoff(BASE_S, CAP_S, random)
        self._store_backoff = Backoff(BASE_S, STORE_CAP_S, random)
        self._next: deque[_Waiting] = deque()
        self._position = 0
        self._attempts = 0
        self._failing: datetime | None = None
        """Since when every attempt has failed."""
        self._refused = 0
        """How often the message at hand was."""
        self._fine = False
        """Known to be without an alarm about it."""
        self._woken = asyncio.Event()
        self.figures = Figures()

    def wake(self) -> None:
        """There are new changes."""
        self._woken.set()

    async def run(self) -> None:
        name = self.webhook.name
        position = await self._store(partial(self._rows.begin, name))
        self._position, self._attempts = position.change, position.attempts
        if position.failing is not None:
            self._failing = datetime.fromisoformat(position.failing)
        if position.due is not None:
            ahead = (datetime.fromisoformat(position.due) - self._clock.now()).total_seconds()
            if ahead > 0:
                await self._sleep(min(ahead, CAP_S))
        while True:
            waiting = await self._following()
            answer = await self._post(waiting.message)
            if answer.outcome is Outcome.DELIVERED:
                await self._delivered(waiting)
            elif answer.outcome is Outcome.GONE:
                await self._gone(answer)
            else:
                await self._failed(waiting, answer)

    async def _following(self) -> _Waiting:
        """The next change that this webhook wants; it stays the next until it is taken or given up."""
        while not self._next:
            self._woken.clear()
            if not await self._read():
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._woken.wait()
                except TimeoutError:
                    continue
        return self._next[0]

    async def _read(self) -> bool:
        """Whether there was anything."""
        rows = await self._store(partial(self._rows.after, self._position, ROWS))
        for row in rows:
            message = compose(self._site, row)
            if message is None:
                _log.warning("webhook %s: change %d is not for others", self.webhook.name, row.id)
            elif wanted(message, self.webhook):
                self._next.append(_Waiting(row.id, _instant(row.time, self._clock.now()), message))
        if rows and not self._next:
            self._position = rows[-1].id
            await self._store(partial(self._rows.passed_over, self.webhook.name, self._position))
        return bool(rows)

    async def _delivered(self, waiting: _Waiting) -> None:
        self.figures.delivered += 1
        self._backoff.reset()
        if self._attempts:
            _log.info("webhook %s: taken again after %d attempts", self.webhook.name, self._attempts)
        self._attempts, self._refused, self._failing = 0, 0, None
        self._done(1)
        await self._store(partial(self._rows.delivered, self.webhook.name, waiting.change, self._clock.now()))
        if not self._fine:  # an alarm of before this start may be open too
            self._fine = True
            await self._tell(holds=False)

    async def _failed(self, waiting: _Waiting, answer: Answer) -> None:
        name, now = self.webhook.name, self._clock.now()
        self.figures.failures += 1
        self._attempts += 1
        self._failing = self._failing or now
        if self._attempts == 1:
            _log.warning("webhook %s: not taken: %s", name, answer.why)
        delay = max(self._backoff.next(), answer.wait_s)
        await self._store(
            partial(self._rows.failed, name, self._attempts, now + timedelta(seconds=delay), answer.why, now)
        )
        self._refused = self._refused + 1 if answer.outcome is Outcome.REFUSED else 0
        if self._refused >= REFUSALS:
            await self._give_up([waiting], f"refused: {answer.why}")
        # A refusal says nothing about the messages behind it.
        while answer.outcome is Outcome.LATER and (old := self._too_old(now)):
            await self._give_up(old, f"too old: {answer.why}")
            if not self._next:
                await self._read()
        await self._sleep(delay)

    def _too_old(self, now: datetime) -> list[_Waiting]:
        """Those that the receiver has had its time with. One failure gives up nothing, however long a controller was off."""
        oldest = now - timedelta(seconds=self.webhook.give_up_s)
        old: list[_Waiting] = []
        if self._failing is None or self._failing > oldest:
            return old
        for each in self._next:
            if each.time >= oldest:
                break
            old.append(each)
        return old

    async def _give_up(self, given_up: Sequence[_Waiting], why: str) -> None:
        self.figures.given_up += len(given_up)
        self._refused = 0
        self._done(len(given_up))
        numbers = [each.change for each in given_up]
        _log.error("webhook %s: %d messages given up: %s", self.webhook.name, len(numbers), why)
        await self._store(partial(self._rows.give_up, self.webhook.name, numbers, why, self._clock.now()))
        # Two webhooks that fail would otherwise tell of each other for ever.
        if not all(each.message.about_a_webhook for each in given_up):
            await self._tell(holds=True)

    async def _gone(self, answer: Answer) -> None:
        """The receiver wants no more: nothing is sent until the controller starts again, and nothing is lost until then."""
        self.figures.failures += 1
        _log.error("webhook %s: disabled by its receiver: %s", self.webhook.name, answer.why)
        await self._store(
            partial(
                self._rows.failed,
                self.webhook.name,
                self._attempts + 1,
                None,
                answer.why,
                self._clock.now(),
                disabled=True,
            )
        )
        await self._tell(holds=True)
        await asyncio.Event().wait()

    def _done(self, count: int) -> None:
        for _ in range(count):
            self._position = self._next.popleft().change

    async def _tell(self, *, holds: bool) -> None:
        if holds:
            self._fine = False
        await self._done_at_last(partial(self._troubles.trouble, WEBHOOK, self.webhook.name, holds=holds))

    async def _store(self, work: Callable[[], T]) -> T:
        return await self._done_at_last(partial(self._thread.call, work))

    async def _done_at_last(self, work: Callable[[], Awaitable[T]]) -> T:
        """Tried until it is done: a disk that is full for an hour ends no webhook."""
        while True:
            try:
                found = await work()
            except (sqlite3.Error, OSError) as error:
                _log.warning("webhook %s: the store cannot be used: %s", self.webhook.name, error)
                await self._sleep(self._store_backoff.next())
                continue
            self._store_backoff.reset()
            return found


class Webhooks:
    """All of a controller."""

    def __init__(
        self,
        settings: Sequence[Webhook],
        *,
        site: str,
        rows: WebhookRows,
        thread: StoreThread,
        clock: Clock,
        random: Random,
        troubles: Troubles,
    ) -> None:
        """Raises SecretError, CaError."""
        self._rows, self._thread, self._troubles = rows, thread, troubles
        self._posts = {each.name: Post(each, read_secrets(each), clock) for each in settings}
        self.senders = [
            Sender(
                each,
                site=site,
                rows=rows,
                thread=thread,
                post=self._posts[each.name],
                clock=clock,
                random=random,
                troubles=troubles,
            )
            for each in settings
        ]

    async def start(self) -> list[asyncio.Task[None]]:
        """Tasks that run for ever."""
        try:
            await self._thread.call(partial(self._rows.keep, set(self._posts)))
            for name in await self._thread.call(partial(self._rows.troubled, set(self._posts))):
                await self._troubles.trouble(WEBHOOK, name, holds=False)
        except (sqlite3.Error, OSError) as error:
            _log.warning("webhooks that are gone cannot be forgotten now: %s", error)
        return [asyncio.create_task(each.run(), name=f"webhook {each.webhook.name}") for each in self.senders]

    def wake(self) -> None:
        for sender in self.senders:
            sender.wake()

    async def close(self) -> None:
        """After the tasks have ended."""
        for post in self._posts.values():
            await post.close()


def _instant(time: str, now: datetime) -> datetime:
    """A row whose time cannot be read is of now."""
    try:
        found = datetime.fromisoformat(time)
    except ValueError:
        return now
    return found if found.tzinfo is not None else now
