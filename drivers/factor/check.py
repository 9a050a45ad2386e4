"""Checks of a started second factor: it keeps the connection. It is asked nothing, for it would look for a face."""

from __future__ import annotations

import asyncio

from drivers.findings import Finding, Result
from drivers.ports import SecondFactor

KEEPS_S = 0.5
"""A terminal that wants another client, or sends what none of its kind does, has ended by then."""


async def answers(name: str, factor: SecondFactor) -> list[Finding]:
    """Raises DriverError."""
    try:
        async with asyncio.timeout(KEEPS_S):
            await factor.gone()
    except TimeoutError:
        pass  # it is there
    return [
        Finding(
            f"factor.{name}.terminal",
            Result.OK,
            "단말이 연결을 받습니다. 질문은 보내지 않았습니다",
            "The terminal takes the connection; it was asked nothing",
        )
    ]
