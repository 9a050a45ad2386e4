"""Claims, one after the other, one line each: `ok` or `FAIL`, the claim, its figures."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

CLAIM_SECONDS = 120.0
"""No claim takes a third of it, emulated or not; one that does has hung."""


class Refuted(Exception):  # noqa: N818  it is a finding, not an error
    """The claim does not hold; says what was seen instead."""


def hold(condition: bool, seen: str) -> None:
    """Raises Refuted."""
    if not condition:
        raise Refuted(seen)


class Stopwatch:
    """Milliseconds of each step, as text."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._steps: list[str] = []

    def step(self, name: str) -> None:
        now = time.monotonic()
        self._steps.append(f"{name} {(now - self._at) * 1000:.0f} ms")
        self._at = now

    def __str__(self) -> str:
        return ", ".join(self._steps)


@dataclass
class Claims:
    held: int = 0
    failed: list[str] = field(default_factory=list)

    async def claim(self, name: str, check: Callable[[], Awaitable[object]]) -> None:
        """`check` gives the figures. Whatever it raises, and no end in time, is a failure."""
        try:
            async with asyncio.timeout(CLAIM_SECONDS):
                figures = await check()
        except Exception as error:  # the report is the place where every failure ends
            self.failed.append(name)
            seen = str(error) if isinstance(error, Refuted) else f"{type(error).__name__}: {error}"
            print(f"FAIL  {name}: {seen}", flush=True)
            if not isinstance(error, Refuted):
                traceback.print_exc()
        else:
            self.held += 1
            print(f"ok    {name}" + (f": {figures}" if figures else ""), flush=True)


async def expect(work: Awaitable[object], *kinds: type[Exception]) -> Exception:
    """The error, one of `kinds`, that `work` is to end in. Raises Refuted when it ends well."""
    try:
        await work
    except kinds as error:
        return error
    raise Refuted("it ended well")
