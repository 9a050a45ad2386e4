"""From [device.*] to drivers: the one place that names driver packages' factories.

What stands for no hardware is opened only where the testbed is (docs/adr/0015): an installed gate has none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from drivers.ble import BleDriver, BleSettings, open_ble
from drivers.camera import CameraSettings, Region, open_camera
from drivers.factor import open_factor
from drivers.lane import open_lane, open_wired
from drivers.nfc import open_reader
from drivers.ports import BleRole
from drivers.signal import PanelSettings, SoundSettings, TextSettings, open_light, open_panel, open_signal
from gate_agent import installation
from gate_agent.config import ConfigError, Device, Expected, GateConfig
from gate_agent.devices import Startable
from gate_agent.passage.sensors import REQUIRED
from protocol.clock import Clock

PartReport = Callable[[str, bool, str], None]
SPEECH = "speech"
"""Tones and spoken words are kept there, under the state directory."""


def _ble(device: Device, clock: Clock) -> Startable:
    options = device.options
    roles = tuple(BleRole(each) for each in options["roles"].split(","))
    return open_ble(BleSettings(BleDriver(device.driver), options.get("adapter"), options.get("hci"), roles), clock)


def _camera(device: Device, clock: Clock) -> Startable:
    options = device.options

    def whole(name: str) -> int | None:
        return int(options[name]) if name in options else None

    region, hertz = options.get("region"), options.get("power_line_hz")
    settings = CameraSettings(
        source=options["source"],
        fps=float(options["fps"]),
        region=None if region is None else Region(*map(float, region.split(","))),
        width=whole("width"),
        height=whole("height"),
        exposure_us="auto" if options.get("exposure_us") == "auto" else whole("exposure_us"),
        gain=whole("gain"),
        power_line_hz=None if hertz is None else 50 if hertz == "50" else 60,
    )
    return open_camera(driver=device.driver, settings=settings, clock=clock)


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
    if device.wiring is not None:
        return open_wired(device.wiring, clock=clock, required=required)
    return open_lane(driver=device.driver, path=device.options["path"], clock=clock, required=required)


def _signal(config: GateConfig, device: Device, clock: Clock, report: PartReport) -> Startable:
    if device.driver != "panel":
        return open_signal(driver=device.driver, path=device.options.get("path", ""))
    sound, text = _part("sound", device), _part("text", device)
    return open_panel(
        PanelSettings(
            light=None if device.light is None else open_light(device.light),
            sound=SoundSettings(
                player=sound["player"],
                cache=config.state_dir / SPEECH,
                device=sound["device"],
                speech=tuple(sound["speech"].split(",")) if sound["speech"] else (),
                recordings=Path(sound["recordings"]) if "recordings" in sound else None,
                repeat_s=float(sound["repeat_s"]),
            )
            if sound
            else None,
            text=TextSettings(
                device=Path(text["device"]),
                baud=int(text["baud"]),
                columns=int(text["columns"]),
                rows=int(text["rows"]),
                encoding=text["encoding"],
                commands=text["commands"],
            )
            if text
            else None,
        ),
        clock=clock,
        random=random.Random(),  # noqa: S311  back-off jitter, no secret
        report=lambda part, works, why: report(f"{device.id}.{part}", works, why),
    )


def _part(name: str, device: Device) -> Mapping[str, str]:
    """A part's own options; none for a part that is not there."""
    return {key.removeprefix(f"{name}."): value for key, value in device.options.items() if key.startswith(f"{name}.")}


_OPEN: Mapping[str, Callable[[GateConfig, Device, Clock], Startable]] = {
    "camera": lambda _config, device, clock: _camera(device, clock),
    "nfc": lambda _config, device, clock: _nfc(device, clock),
    "ble": lambda _config, device, clock: _ble(device, clock),
    "lane": _lane,
    "factor": lambda _config, device, _clock: open_factor(driver=device.driver, path=device.options["path"]),
}


def open_device(
    config: GateConfig, device: Device, clock: Clock, report: PartReport = lambda _part, _works, _why: None
) -> Any:
    """The port of one device, not started. Raises ConfigError when its options cannot be meant, or when it stands for no
    hardware and this is an installed gate.

    The result's type follows from `device.kind`: Camera, NfcReader, Ble, LaneHardware, SecondFactor or Signal.
    `report(part, works, why)` tells of a part that is lost or back, `signal.NAME.PART`; of a whole device its supervisor tells.
    """
    key = installation.simulated_by(device)
    if key is not None and not installation.is_checkout():
        raise ConfigError(config.file, f"device.{device.id}.{key}", installation.NO_HARDWARE)
    try:
        if device.kind == "signal":
            return _signal(config, device, clock, report)
        return _OPEN[device.kind](config, device, clock)
    except ValueError as error:
        raise ConfigError(
            config.file, f"device.{device.id}", Expected(f"장치 설정이 잘못되었습니다: {error}", str(error))
        ) from error
