"""Lines of a GPIO chip, by libgpiod 2: what a lane's inputs and a sign's lamps have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import gpiod

CONSUMER = "gwanmun"
BUFFERED = 1024
"""Edges that the kernel keeps for us; when it keeps no more, the oldest goes and the levels are read anew."""


def request_lines(chip: str, settings: Mapping[int, gpiod.LineSettings]) -> gpiod.LineRequest:
    """`settings` by line. Raises OSError or ValueError."""
    config: dict[Iterable[int | str] | int | str, gpiod.LineSettings | None] = {
        (line,): each for line, each in settings.items()
    }
    return gpiod.request_lines(chip, consumer=CONSUMER, config=config, event_buffer_size=BUFFERED)


def reason_of(error: Exception) -> str:
    """The reason of an OSError without the path that it may name."""
    return getattr(error, "strerror", None) or type(error).__name__
