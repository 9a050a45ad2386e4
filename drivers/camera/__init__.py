"""Cameras that read QR codes, behind `drivers.ports.Camera`. Each camera decodes in a worker process of its own."""

from __future__ import annotations

from drivers.camera.figures import CameraFigures
from drivers.camera.opencv import OpenCvCamera
from drivers.camera.settings import FPS, CameraSettings, Region
from protocol.clock import Clock

__all__ = ["FPS", "CameraFigures", "CameraSettings", "OpenCvCamera", "Region", "open_camera"]


def open_camera(*, driver: str, settings: CameraSettings, clock: Clock) -> OpenCvCamera:
    """`opencv`: a device, a stream or a video file, read in a worker process of its own; also tells its figures.

    Raises ValueError for an unknown driver.
    """
    if driver != "opencv":
        raise ValueError(f"no camera driver {driver!r}")
    return OpenCvCamera(settings, clock)
