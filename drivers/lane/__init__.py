"""Lane hardware: relay outputs and sensor inputs behind `drivers.ports.LaneHardware`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from drivers.lane.relay_module import RelayModule
from drivers.lane.wiring import GpioWiring, Wiring
from drivers.ports import LaneHardware, LaneSignal
from protocol.clock import Clock


def open_lane(*, driver: str, path: str, clock: Clock, required: Collection[LaneSignal]) -> LaneHardware:
    """`simulated`: a relay module on the Unix socket `path`, which has to know the inputs `required`.

    Raises ValueError for a driver that does not exist.
    """
    if driver != "simulated":
        raise ValueError(f"no lane driver {driver!r}")
    return RelayModule(Path(path), clock, required)


def open_wired(wiring: Wiring, *, clock: Clock, required: Collection[LaneSignal]) -> LaneHardware:
    """`gpio` and `modbus`, by the kind of wiring. Raises ValueError where the library is not installed."""
    # Each library is loaded only where hardware of its own is configured.
    try:
        if isinstance(wiring, GpioWiring):
            from drivers.lane.gpio import Gpio  # noqa: PLC0415

            return Gpio(wiring, clock, required)
        from drivers.lane.modbus import Modbus  # noqa: PLC0415

        return Modbus(wiring, clock, required)
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed") from error
