"""What a camera can be asked for, and what happens with it at a V4L2 device.

No camera is in reach of the tests: `FakeCapture` answers as OpenCV's V4L2 capture does, and the power line's ioctl is caught.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from pathlib import Path
from typing import Any

import cv2
import pytest

from drivers.camera import CameraSettings, Region, controls
from drivers.camera.limits import MAX_FPS
from drivers.camera.settings import MAX_EXPOSURE_US, MAX_GAIN, parse
from gate_agent import device_config as config
from gate_agent.hardware import open_device
from protocol.clock import SystemClock
from protocol.toml import ConfigError, Table

MJPG, YUYV = cv2.VideoWriter.fourcc(*"MJPG"), cv2.VideoWriter.fourcc(*"YUYV")


class FakeCapture:
    """A USB camera: takes some controls, not all; an exposure in steps; a few sizes."""

    def __init__(
        self, *, without: tuple[int, ...] = (), step: int = 1, automatic: int = controls.APERTURE_PRIORITY
    ) -> None:
        self.without, self.step, self.automatic = without, step, automatic
        self.values: dict[int, float] = {
            cv2.CAP_PROP_FOURCC: YUYV,
            cv2.CAP_PROP_FRAME_WIDTH: 640,
            cv2.CAP_PROP_FRAME_HEIGHT: 480,
            cv2.CAP_PROP_AUTO_EXPOSURE: automatic,
            cv2.CAP_PROP_EXPOSURE: 156,
            cv2.CAP_PROP_GAIN: 64,
        }
        self.asked: list[int] = []

    def set(self, control: int, value: float, /) -> bool:
        self.asked.append(control)
        if control in self.without:
            return False
        if control == cv2.CAP_PROP_AUTO_EXPOSURE and value not in (controls.MANUAL, self.automatic):
            return False
        if control == cv2.CAP_PROP_EXPOSURE:
            if self.values[cv2.CAP_PROP_AUTO_EXPOSURE] != controls.MANUAL:
                return False
            value = max(1, round(value / self.step)) * self.step
        if control == cv2.CAP_PROP_GAIN:
            value = min(value, 255)
        self.values[control] = value
        return True

    def get(self, control: int, /) -> float:
        return self.values[control]


def test_a_camera_is_left_alone_when_nothing_is_asked() -> None:
    capture = FakeCapture()
    assert controls.use(capture, CameraSettings("0")) == ()
    assert capture.asked == []


def test_a_size_is_asked_for_as_jpeg() -> None:
    capture = FakeCapture()
    assert controls.use(capture, CameraSettings("0", width=1280, height=720)) == ()
    assert [capture.values[each] for each in capture.asked] == [MJPG, 1280, 720]


def test_a_camera_without_jpeg_or_that_size_says_so() -> None:
    capture = FakeCapture(without=(cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_FRAME_WIDTH))
    assert controls.use(capture, CameraSettings("0", width=1280, height=720)) == ("mjpg", "size")


@pytest.mark.parametrize("step", [1, 10, 13])
def test_an_exposure_is_manual_in_units_of_100_us_and_may_be_rounded(step: int) -> None:
    capture = FakeCapture(step=step)
    assert controls.use(capture, CameraSettings("0", exposure_us=8000)) == ()
    assert capture.values[cv2.CAP_PROP_AUTO_EXPOSURE] == controls.MANUAL
    assert capture.values[cv2.CAP_PROP_EXPOSURE] == pytest.approx(80, rel=0.2)


def test_an_exposure_that_a_camera_cannot_come_near_is_refused() -> None:
    assert controls.use(FakeCapture(step=300), CameraSettings("0", exposure_us=8000)) == ("exposure",)


def test_a_camera_without_manual_exposure_refuses_it() -> None:
    capture = FakeCapture(without=(cv2.CAP_PROP_AUTO_EXPOSURE,))
    assert controls.use(capture, CameraSettings("0", exposure_us=8000)) == ("exposure",)
    assert cv2.CAP_PROP_EXPOSURE not in capture.asked


@pytest.mark.parametrize("automatic", [controls.APERTURE_PRIORITY, controls.AUTOMATIC])
def test_a_camera_left_manual_goes_back_to_automatic_exposure_whatever_it_calls_it(automatic: int) -> None:
    capture = FakeCapture(automatic=automatic)
    capture.values[cv2.CAP_PROP_AUTO_EXPOSURE] = controls.MANUAL
    assert controls.use(capture, CameraSettings("0", exposure_us="auto")) == ()
    assert capture.values[cv2.CAP_PROP_AUTO_EXPOSURE] == automatic


@pytest.mark.parametrize(("gain", "refused"), [(100, ()), (300, ("gain",))])
def test_a_gain_that_a_camera_clamps_is_refused(gain: int, refused: tuple[str, ...]) -> None:
    assert controls.use(FakeCapture(), CameraSettings("0", gain=gain)) == refused


@pytest.mark.parametrize(("hertz", "value"), [(50, 1), (60, 2)])
def test_the_power_line_is_set_at_the_device_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hertz: Any, value: int
) -> None:
    calls: list[tuple[int, bytes]] = []

    def ioctl(node: int, request: int, argument: bytes) -> bytes:
        assert os.fstat(node)
        calls.append((request, argument))
        return argument

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    monkeypatch.setattr(CameraSettings, "device", str(tmp_path / "video0"))
    (tmp_path / "video0").touch()
    assert controls.use(FakeCapture(), CameraSettings("0", power_line_hz=hertz)) == ()
    assert calls == [(0xC008561C, struct.pack("=Ii", 0x00980918, value))]


@pytest.mark.parametrize("device", ["/dev/null", "/dev/absent"])
def test_a_device_without_a_power_line_control_refuses_it(device: str) -> None:
    assert controls.use(FakeCapture(), CameraSettings(device, power_line_hz=60)) == ("power_line",)


@pytest.mark.parametrize(
    ("source", "device"),
    [("0", "/dev/video0"), ("12", "/dev/video12"), ("/dev/v4l/by-id/x", "/dev/v4l/by-id/x"), ("gate.avi", None)],
)
def test_a_source_is_a_device_or_none(source: str, device: str | None) -> None:
    assert CameraSettings(source).device == device


@pytest.mark.parametrize(
    "settings",
    [
        {"source": ""},
        {"source": "a\0b"},
        {"fps": 0.0},
        {"fps": MAX_FPS + 1},
        {"fps": float("nan")},
        {"width": 640},
        {"width": 8, "height": 8},
        {"width": True, "height": 480},
        {"exposure_us": 0},
        {"exposure_us": MAX_EXPOSURE_US + 1},
        {"exposure_us": "manual"},
        {"gain": MAX_GAIN + 1},
        {"gain": 1.5},
        {"power_line_hz": 55},
        {"source": "rtsp://camera/", "gain": 7},
        {"source": "gate.avi", "width": 640, "height": 480},
        {"shutter": 7},
        {"region": {"x": 0.0}},
        {"region": 7},
    ],
)
def test_settings_that_no_camera_has_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|device|settings"):
        parse({"source": "0", **settings})


@pytest.mark.parametrize(
    "settings",
    [
        CameraSettings("rtsp://viewer:swordfish@camera/"),
        CameraSettings("0", 10.0, Region(0.1, 0.2, 0.3, 0.4), 1280, 720, 8000, 0, 60),
        CameraSettings("/dev/video2", exposure_us="auto"),
    ],
)
def test_settings_go_through_the_pipe(settings: CameraSettings) -> None:
    assert parse(json.loads(json.dumps(settings.body()))) == settings


@pytest.mark.parametrize(
    "region",
    [
        (-0.1, 0, 1, 1),
        (0, 0, 0.01, 1),
        (0.5, 0, 0.6, 1),
        (0, 0.5, 1, 0.6),
        (float("nan"), 0, 1, 1),
        (0, 0, float("inf"), 1),
    ],
)
def test_a_region_outside_the_frame_is_refused(region: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="region"):
        Region(*region)


@pytest.mark.parametrize(
    ("region", "rows", "columns"),
    [
        (Region(0, 0, 1, 1), slice(0, 480), slice(0, 640)),
        (Region(0.25, 0.5, 0.5, 0.5), slice(240, 480), slice(160, 480)),
        (Region(0.3, 0.3, 0.7, 0.7), slice(144, 480), slice(192, 640)),
    ],
)
def test_a_region_is_rows_and_columns(region: Region, rows: slice, columns: slice) -> None:
    assert region.pixels(640, 480) == (rows, columns)


def read(**keys: object) -> config.Device:
    table = Table(Path("gate.toml"), {"driver": "opencv", **keys}, "device.camera.hall")
    table.choice("driver", ["opencv"])
    device = config.Device("camera", "hall", "opencv", config._source(table))
    table.done()
    return device


def opened(device: config.Device) -> CameraSettings:
    port = open_device(_Config(), device, SystemClock())  # type: ignore[arg-type]  # only `file` is used
    settings = port._settings
    assert isinstance(settings, CameraSettings)
    return settings


class _Config:
    file = Path("gate.toml")


def test_a_configured_camera_is_asked_for_every_key() -> None:
    device = read(
        source=1,
        fps=20,
        region=[0.1, 0.2, 0.5, 0.75],
        width=1280,
        height=720,
        exposure_us=6000,
        gain=10,
        power_line_hz=60,
    )
    assert opened(device) == CameraSettings("1", 20.0, Region(0.1, 0.2, 0.5, 0.75), 1280, 720, 6000, 10, 60)


def test_a_configured_camera_keeps_its_defaults() -> None:
    assert opened(read(source="/dev/video0")) == CameraSettings("/dev/video0")
    assert opened(read(source=0, exposure_us="auto")).exposure_us == "auto"


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ({"region": [0, 0, 1]}, "region"),
        ({"region": "all"}, "region"),
        ({"region": [0, 0, 1, True]}, "region"),
        ({"region": [0, 0, 2, 1]}, "region"),
        ({"width": 1}, "width"),
        ({"exposure_us": 1}, "exposure_us"),
        ({"exposure_us": "manual"}, "exposure_us"),
        ({"gain": -1}, "gain"),
        ({"power_line_hz": 55}, "power_line_hz"),
        ({"shutter": 1}, "shutter"),
    ],
)
def test_a_mistake_in_a_cameras_keys_names_the_key(keys: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigError) as mistake:
        read(source=0, **keys)
    assert mistake.value.key == f"device.camera.hall.{where}"


@pytest.mark.parametrize("keys", [{"source": "rtsp://camera/", "gain": 1}, {"source": 0, "width": 640}])
def test_keys_that_do_not_go_together_are_a_configuration_mistake(keys: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"device\.camera\.hall"):
        opened(read(**keys))
