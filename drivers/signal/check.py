"""Exercising a started sign: every light with its tone for a second, then rest, and what a person should have noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from drivers.ports import Light, Message, Signal

SHOWN_S = 1.0
Say = Callable[[str, str], None]
"""What happens now, Korean and English."""

SHOWN: Mapping[Light, tuple[str, str, str, str]] = {
    Light.WAIT: ("대기", "wait", "짧은 소리 한 번", "one short tone"),
    Light.GREEN: ("통과(초록)", "pass (green)", "짧고 긴, 올라가는 소리", "short, long, rising"),
    Light.RED: ("거절(빨강)", "refused (red)", "짧고 짧고 긴, 내려가는 소리", "short, short, long, falling"),
    Light.FAULT: ("고장", "fault", "낮은 소리로 길고 짧고 짧게", "long, short, short, all low"),
}
"""Light -> its name and the rhythm of its tone (drivers.signal.tones), Korean and English each."""
REST = Message(Light.IDLE, "", "")


async def exercise(
    sign: Signal, say: Say, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> tuple[str, str]:
    """Show every light, then rest. Returns what should have been seen and heard. Raises DriverError."""
    try:
        for light, (ko, en, tone_ko, tone_en) in SHOWN.items():
            say(f"지금: {ko}, {tone_ko}", f"now: {en}, {tone_en}")
            await sign.show(Message(light, f"점검: {ko}", f"Test: {en}"))
            await sleep(SHOWN_S)
    finally:
        await sign.show(REST)
    return (
        "; ".join(f"{ko}, {tone}" for ko, _, tone, _ in SHOWN.values()),
        "; ".join(f"{en}, {tone}" for _, en, _, tone in SHOWN.values()),
    )
