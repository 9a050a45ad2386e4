"""Lane hardware: relay outputs and sensor inputs behind `drivers.ports.LaneHardware`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from drivers.lane.relay_module import RelayModule
from drivers.ports import LaneHardware, LaneSignal
from protocol.clock import Clock


def open_lane(*, driver: str, path: str, clock: Clock, required: Collection[LaneSignal]) -> LaneHardware:
    """`simulated`: a relay module on the Unix socket `path`, which has to know the inputs `required`.

    Raises ValueError for a driver that does not exist.
    """
    if driver != "simulated":
        raise ValueError(f"no lane driver {driver!r}")
    return RelayModule(Path(path), clock, required)
