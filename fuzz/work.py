"""A work counter: lines of Python executed. It is the same on every machine, so a test can bound it where a clock cannot."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


class WorkExceededError(Exception):
    """More lines than allowed: input made the parser work out of proportion."""


def lines(call: Callable[[], object], *, at_most: int | None = None) -> int:
    """Run `call` and return how many lines it executed. Raises WorkExceededError over `at_most`, and what `call` raises."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            if at_most is not None and count > at_most:
                raise WorkExceededError(f"more than {at_most} lines")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    if at_most is not None and count > at_most:  # raised above already, unless the call swallowed it
        raise WorkExceededError(f"more than {at_most} lines")
    return count
