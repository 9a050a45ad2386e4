"""Checks of a started camera: how many frames come, of what size, and which settings it refused.

As a program (`python -m drivers.camera.check`): settings on standard input, {"width": 1280, "height": 720} out.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from drivers.camera.figures import CameraFigures
from drivers.camera.limits import MAX_LINE, SOURCE_FAILED
from drivers.camera.opencv import OpenCvCamera
from drivers.camera.settings import CameraSettings, parse
from drivers.findings import Finding, Result
from drivers.ports import DriverError

FIGURES_S = 6.0
"""The first figures come after a second of frames."""
LOOK_S = 0.05
SIZE_S = 15.0
"""Includes the start of a Python process on a small board."""
SLOW = 0.5
"""Less than this share of the frames asked for is worth a word."""


async def answers(name: str, camera: OpenCvCamera, settings: CameraSettings) -> list[Finding]:
    """Of a camera that has sent its first frame. It is stopped before the size is read: a device opens once.
    Raises DriverError."""
    figures = await _figures(camera)
    await camera.stop()
    found = [_frames(f"camera.{name}.frames", figures, await frame_size(settings), settings.fps)]
    if figures.refused:
        listed = ", ".join(figures.refused)
        found.append(
            Finding(
                f"camera.{name}.settings",
                Result.WARNING,
                f"카메라가 받지 않은 설정: {listed}",
                f"Settings that the camera did not take: {listed}",
                "v4l2-ctl --list-formats-ext --list-ctrls로 되는 값을 보고 고치십시오(docs/camera.md)",
                "See what it can: v4l2-ctl --list-formats-ext --list-ctrls, and correct them (docs/camera.md)",
            )
        )
    return found


async def _figures(camera: OpenCvCamera) -> CameraFigures:
    """Raises DriverError."""
    for _ in range(int(FIGURES_S / LOOK_S)):
        figures = camera.figures
        if figures is not None:
            return figures
        await asyncio.sleep(LOOK_S)
    raise DriverError("the camera sends no more frames")


def _frames(check: str, figures: CameraFigures, size: tuple[int, int] | None, asked: float) -> Finding:
    pixels = "" if size is None else f"{size[0]}x{size[1]}, "
    if figures.fps >= SLOW * asked:
        return Finding(
            check,
            Result.OK,
            f"영상이 옵니다: {pixels}초당 {figures.fps:.0f}장",
            f"Frames come: {pixels}{figures.fps:.0f} a second",
        )
    return Finding(
        check,
        Result.WARNING,
        f"영상이 느립니다: {pixels}초당 {figures.fps:.0f}장, 설정은 {asked:.0f}장",
        f"Frames come slowly: {pixels}{figures.fps:.0f} a second of the {asked:.0f} asked for",
        "조명과 exposure_us, 크기, USB 포트를 확인하십시오(docs/camera.md)",
        "Look at the light, exposure_us, the size and the USB port (docs/camera.md)",
    )


async def frame_size(settings: CameraSettings) -> tuple[int, int] | None:
    """Width and height of one frame, read in a process of its own, for a device may hang inside its driver. None: not told."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "drivers.camera.check",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # FFmpeg writes stream addresses there
        env={**os.environ, "OPENCV_LOG_LEVEL": "SILENT", "OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        async with asyncio.timeout(SIZE_S):
            output, _ = await process.communicate(json.dumps(settings.body()).encode() + b"\n")
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        answer = json.loads(output)
    except ValueError:
        return None
    match answer:
        case {"width": int(width), "height": int(height)}:
            return width, height
    return None


def main() -> int:
    # Here, and not above: whoever only asks for the checks has no use for OpenCV in its process.
    import cv2  # noqa: PLC0415

    from drivers.camera import controls, worker  # noqa: PLC0415

    cv2.setNumThreads(1)
    settings = parse(json.loads(sys.stdin.buffer.readline(MAX_LINE)))
    try:
        capture = worker.open_source(settings)
    except OSError:
        return SOURCE_FAILED
    controls.use(capture, settings)
    good, frame = capture.read()
    if not good:
        return SOURCE_FAILED
    sys.stdout.write(json.dumps({"width": int(frame.shape[1]), "height": int(frame.shape[0])}) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    os._exit(main())  # a device may hang as it closes
