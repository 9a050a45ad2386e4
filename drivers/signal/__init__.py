"""Light, sound and text for the person at the lane, behind `drivers.ports.Signal`."""

from __future__ import annotations

from pathlib import Path

from drivers.ports import Signal
from drivers.signal.display import Display


def open_signal(*, driver: str, path: str) -> Signal:
    """`simulated`: a display on the Unix socket `path`. Raises ValueError for a driver that does not exist."""
    if driver != "simulated":
        raise ValueError(f"no signal driver {driver!r}")
    return Display(Path(path))
