"""Copies of urgent records (protocol.events.URGENT), sent ahead of an outbox that is behind.

A copy promises nothing: the record itself is in the outbox and leaves in its turn. Only the newest few are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from gate_agent.journal import Record
from gate_agent.uplink_faults import Answer
from protocol import events

KEPT = 64
"""Copies that wait; of more the oldest go."""


class AlarmCopies:
    def __init__(self) -> None:
        self._waiting: deque[Record] = deque(maxlen=KEPT)

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, records: Sequence[Record]) -> None:
        """Records that have just been committed; the urgent ones are kept."""
        self._waiting.extend(record for record in records if events.urgent(record.raw))

    def drop(self, sent: Callable[[Record], bool]) -> None:
        """Those that are on their way themselves need no copy."""
        if self._waiting:
            self._waiting = deque((record for record in self._waiting if not sent(record)), maxlen=KEPT)

    async def send(self, publish: Callable[[Record], Awaitable[Answer]]) -> None:
        """One after the other, until none waits or the link is gone."""
        while self._waiting:
            record = self._waiting.popleft()
            if await publish(record) is Answer.AGAIN:
                if len(self._waiting) < KEPT:
                    self._waiting.appendleft(record)
                return
