"""What lanes and transactions share, built once by the agent and passed in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from gate_agent.config import Limits, Request, Times
from gate_agent.journal import Journal
from gate_agent.trust import TrustCache
from mdoc.reader import ReaderIdentity
from protocol.clock import Clock

_log = logging.getLogger(__name__)


class Background:
    """Work nobody waits for, such as closing a BLE link for two seconds after the lane has opened."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("work in the background failed", exc_info=task.exception())

    async def finish(self, timeout: float) -> None:
        """Give what runs `timeout` seconds, then cancel it."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Services:
    clock: Clock
    journal: Journal
    trust: TrustCache
    identity: ReaderIdentity
    request: Request
    times: Times
    limits: Limits
    random_bytes: Callable[[int], bytes]
    new_key: Callable[[ec.EllipticCurve], ec.EllipticCurvePrivateKey]
    """A fresh ephemeral key on the curve of the phone's engagement key."""
    degraded: Callable[[], list[str]]
    """What is missing right now, such as `no_uplink`, for the event's `degraded` field."""
    background: Background = field(default_factory=Background)
