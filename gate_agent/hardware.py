"""From [device.*] to drivers: the one place that names driver packages' factories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from drivers.ble import BleDriver, BleSettings, open_ble
from drivers.camera import open_camera
from drivers.factor import open_factor
from drivers.lane import open_lane
from drivers.nfc import open_reader
from drivers.ports import BleRole
from drivers.signal import open_signal
from gate_agent.config import ConfigError, Device, Expected, GateConfig
from gate_agent.devices import Startable
from gate_agent.passage.sensors import REQUIRED
from protocol.clock import Clock


def _ble(device: Device, clock: Clock) -> Startable:
    options = device.options
    roles = tuple(BleRole(each) for each in options["roles"].split(","))
    return open_ble(BleSettings(BleDriver(device.driver), options.get("adapter"), options.get("hci"), roles), clock)


def _camera(device: Device, clock: Clock) -> Startable:
    options = device.options
    return open_camera(driver=device.driver, source=options["source"], fps=float(options["fps"]), clock=clock)


def _nfc(device: Device, clock: Clock) -> Startable:
    options = device.options
    if device.driver == "pcsc":
        longest = options["max_apdu"]
        return open_reader(
            driver=device.driver, reader=options["reader"], max_apdu=int(longest) if longest else None, clock=clock
        )
    return open_reader(driver=device.driver, path=options["path"], ecp=options["ecp"] == "True", clock=clock)


def _lane(config: GateConfig, device: Device, clock: Clock) -> Startable:
    """Which inputs the hardware has to know follows from what stands in the lane; a device no lane names has none."""
    types = [each.passage.type for each in config.barriers if each.hardware == device.name]
    required = REQUIRED[types[0]] if types else frozenset()
    return open_lane(driver=device.driver, path=device.options["path"], clock=clock, required=required)


_OPEN: Mapping[str, Callable[[GateConfig, Device, Clock], Startable]] = {
    "camera": lambda _config, device, clock: _camera(device, clock),
    "nfc": lambda _config, device, clock: _nfc(device, clock),
    "ble": lambda _config, device, clock: _ble(device, clock),
    "lane": _lane,
    "factor": lambda _config, device, _clock: open_factor(driver=device.driver, path=device.options["path"]),
    "signal": lambda _config, device, _clock: open_signal(driver=device.driver, path=device.options.get("path", "")),
}


def open_device(config: GateConfig, device: Device, clock: Clock) -> Any:
    """The port of one device, not started. Raises ConfigError when its options cannot be meant.

    The result's type follows from `device.kind`: Camera, NfcReader, Ble, LaneHardware, SecondFactor or Signal.
    """
    try:
        return _OPEN[device.kind](config, device, clock)
    except ValueError as error:
        raise ConfigError(
            config.file, f"device.{device.id}", Expected(f"장치 설정이 잘못되었습니다: {error}", str(error))
        ) from error
