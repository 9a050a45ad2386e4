"""Several waits of which the first to end counts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def race(*work: Coroutine[Any, Any, Any]) -> None:
    """Until the first of `work` ends; the others are cancelled and waited for. Raises what the first raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
