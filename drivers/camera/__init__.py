"""Cameras that read QR codes, behind `drivers.ports.Camera`. Each camera decodes in a worker process of its own."""

from __future__ import annotations

from drivers.camera.opencv import FPS, OpenCvCamera
from drivers.ports import Camera
from protocol.clock import Clock


def open_camera(*, driver: str, source: str, clock: Clock, fps: float = FPS) -> Camera:
    """`opencv`: a device number or path, a stream address or a video file, at most `fps` frames a second decoded.

    Raises ValueError for an unknown driver or a source or frame rate that no camera has.
    """
    if driver != "opencv":
        raise ValueError(f"no camera driver {driver!r}")
    return OpenCvCamera(source, clock, fps=fps)
