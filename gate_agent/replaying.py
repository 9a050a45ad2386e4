"""The controller's requests for records that it misses (protocol.replay), answered one at a time.

An answer puts the records back into the outbox, durably and in short steps, so that no decision waits behind it; they leave as
any others do. Whoever repeats an old request costs little: answers are spaced, and one whose records still wait is not begun
again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from gate_agent.journal import RecordUnavailableError
from gate_agent.timers import CallLater
from mdoc.cose import PublicKey
from protocol import replay
from protocol.replay import Replay

STEP = 1000
"""Records put back in one transaction."""
MOST = 100_000
"""Records put back for one request; the controller asks again for what it still misses."""
APART_S = 1.0
_log = logging.getLogger(__name__)


class Keeper(Protocol):
    """The part of gate_agent.journal.Journal that is used here."""

    async def position(self) -> tuple[str, int]: ...

    async def requeue(self, epoch: str, first: int, last: int, limit: int) -> int:
        """Put what is held of `first` to `last`, or what explains its absence, back into the outbox; at most `limit` records.
        Returns how many of them wait now. Raises RecordUnavailableError."""
        ...


class Replays:
    def __init__(
        self,
        journal: Keeper,
        *,
        site: str,
        gate: str,
        controller_key: PublicKey,
        call_later: CallLater,
        answered: Callable[[], None],
    ) -> None:
        """`answered` is called when the outbox has got records before those being sent."""
        self._journal, self._site, self._gate, self._key = journal, site, gate, controller_key
        self._call_later, self._answered = call_later, answered
        self._asked: Replay | None = None
        """The next one to answer; of several the newest."""
        self._waiting: Replay | None = None
        """The last one answered, while its records wait for their acknowledgement."""
        self._wake, self._rested = asyncio.Event(), asyncio.Event()
        self._rested.set()
        self.ignored = 0
        """Messages that were no request of this controller to this gate."""

    def on_message(self, payload: bytes) -> None:
        """Whatever came on the topic; nothing that is not signed has any effect."""
        try:
            request = replay.parse(payload, self._site, self._gate, self._key)
        except ValueError:
            self.ignored += 1
            if self.ignored == 1:
                _log.warning(
                    "a message on the replay topic that is no request of the controller; further ones are counted"
                )
            return
        self.ask(request)

    def ask(self, request: Replay) -> None:
        """A request whose signature was checked; the one that is being answered is not begun again."""
        if request == self._waiting:
            return
        self._asked = request
        self._wake.set()

    def acknowledged(self, epoch: str, seq: int) -> None:
        """The controller holds every record of `epoch` up to `seq`."""
        if self._waiting is not None and self._waiting.epoch == epoch and self._waiting.last <= seq:
            self._waiting = None

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            await self._rested.wait()
            self._wake.clear()
            request, self._asked = self._asked, None
            if request is None:
                continue
            self._rested.clear()
            self._call_later(APART_S, self._rested.set)
            try:
                count = await self._answer(request)
            except RecordUnavailableError:
                continue  # the controller asks again
            _log.info("replay of %d to %d asked for, %d records wait", request.first, request.last, count)
            if count:
                self._waiting = request
                self._answered()

    async def _answer(self, request: Replay) -> int:
        """How many records wait."""
        epoch, seq = await self._journal.position()
        # Numbers to come are no hole. Of another epoch there may be nothing at all: one step, and the controller asks again.
        last = min(request.last, seq) if request.epoch == epoch else min(request.last, request.first + STEP - 1)
        last = min(last, request.first + MOST - 1)
        found = 0
        for first in range(request.first, last + 1, STEP):
            found += await self._journal.requeue(request.epoch, first, min(first + STEP - 1, last), STEP)
        return found
