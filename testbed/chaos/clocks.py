"""The load's wall clock: the machine's, moved by what stands in a file, or one that stands where the plan puts it.

The machine's clock is never touched. Monotonic time stays the machine's, as it does when somebody sets a clock.
"""

from __future__ import annotations

import os
import struct
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

_SECONDS = struct.Struct("<d")


def write_offset(path: Path, seconds: float) -> None:
    """What `OffsetClock` adds from now on. The file stays the same, so that a process that has it open sees the change."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, _SECONDS.pack(seconds), 0)
    finally:
        os.close(descriptor)


class OffsetClock:
    def __init__(self, path: Path) -> None:
        """The file must be there (`write_offset`). Raises OSError."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def now(self) -> datetime:
        (seconds,) = _SECONDS.unpack(os.pread(self._descriptor, _SECONDS.size, 0))
        return datetime.now(UTC) + timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return time.monotonic()


class PlannedClock:
    """Stands at the moment of the record that is being made: hours pass in milliseconds."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def set(self, moment: datetime) -> None:
        self._now = max(self._now, moment)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return time.monotonic()
