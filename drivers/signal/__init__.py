"""Light, sound and text for the person at the lane, behind `drivers.ports.Signal`."""

from __future__ import annotations

from pathlib import Path

from drivers.ports import Signal
from drivers.signal.display import Display
from drivers.signal.log import LogSignal


def open_signal(*, driver: str, path: str = "") -> Signal:
    """`simulated`: a display on the Unix socket `path`. `log`: no device, messages go to the log.

    Raises ValueError for a driver that does not exist and for a display without a path.
    """
    if driver == "log":
        return LogSignal()
    if driver != "simulated":
        raise ValueError(f"no signal driver {driver!r}")
    if not path:
        raise ValueError("a display needs the path of its socket")
    return Display(Path(path))
