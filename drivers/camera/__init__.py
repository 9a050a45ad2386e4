"""Cameras that read QR codes, behind `drivers.ports.Camera`. Each camera decodes in a worker process of its own."""

from __future__ import annotations

from drivers.camera.opencv import OpenCvCamera
from drivers.ports import Camera
from protocol.clock import Clock


def open_camera(*, driver: str, source: str, clock: Clock) -> Camera:
    """`opencv`: a device number or path, a stream address or a video file. Raises ValueError for an unknown driver."""
    if driver != "opencv":
        raise ValueError(f"no camera driver {driver!r}")
    return OpenCvCamera(source, clock)
