"""A blocking call in a daemon thread: unlike an executor's, it never holds up the end of the process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], abandon: Callable[[], None], name: str) -> T:
    """Run `work` in a daemon thread. A caller that gives up never waits for it; `abandon` then cleans up in the thread."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: Exception | None) -> None:
        if answer.done():
            abandon()
        elif error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]  # `work` gave it: T, which may itself be None

    def run() -> None:
        try:
            outcome: tuple[T | None, Exception | None] = (work(), None)
        except Exception as error:
            outcome = (None, error)
        try:
            loop.call_soon_threadsafe(deliver, *outcome)
        except RuntimeError:  # the loop has closed meanwhile
            abandon()

    threading.Thread(target=run, name=name, daemon=True).start()
    return await answer
