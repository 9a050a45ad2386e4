"""The worker process of one camera: capture, decode, report. `python -m drivers.camera.worker`, settings on standard input.

    in    one line of settings (drivers.camera.settings); the worker ends when its standard input does (its agent is gone)
    out   {"open": true, "refused": ["exposure"]} with the first frame, then
          {"code": base64, "seen": s, "decoded": s, "by": "zxing"}, times on CLOCK_MONOTONIC, and
          {"figures": {...}} (drivers.camera.figures)

The source comes by the pipe, not by argument: a stream address may hold a password. The worker ends with SOURCE_FAILED when
the source does; whoever started it starts it again.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
from numpy import ascontiguousarray

from drivers.camera import controls
from drivers.camera.decode import Decoder, Frame
from drivers.camera.figures import FIRST_S, REPORT_S, Meter
from drivers.camera.limits import MAX_LINE, SETTINGS_BAD, SOURCE_FAILED
from drivers.camera.settings import CameraSettings, parse

REPEAT_S = 1.0
"""A code held before the camera is reported once a second."""
REMEMBERED = 64
OPEN_MS, READ_MS = 3000, 3000
STALL_S = 5.0
"""Without a frame for this long the source has failed; a device that hangs inside its driver reports nothing itself."""
STREAM_OPTIONS = "rtsp_flags;prefer_tcp|fflags;nobuffer|flags;low_delay|probesize;4096|analyzeduration;0"
"""FFmpeg: small probing and no buffering, so that a stream does not lag behind the person in front of it."""


class Capture:
    """Grabs frames in a thread of its own, takes at most `fps` of them a second; only the newest waits to be decoded."""

    def __init__(self, settings: CameraSettings) -> None:
        """Raises OSError when the source does not open."""
        source = settings.source
        self._capture = open_source(settings)
        self.refused = controls.use(self._capture, settings)
        self._gap, self._region = 1 / settings.fps, settings.region
        # A file has no pace of its own; a camera or stream has.
        self._pause = 1 / max(self._capture.get(cv2.CAP_PROP_FPS), 1.0) if Path(source).is_file() else 0.0
        self._ready = threading.Condition()
        self._newest: tuple[Any, float] | None = None
        self._ended = False
        threading.Thread(target=self._run, name="grab", daemon=True).start()

    def _run(self) -> None:
        try:
            self._grab()
        finally:  # whatever OpenCV raised: the source has ended, and nobody may wait for its next frame
            with self._ready:
                self._ended = True
                self._ready.notify()

    def _grab(self) -> None:
        due = float("-inf")
        while self._capture.grab():
            taken = time.monotonic()
            if taken >= due:
                # A schedule, not a pause after each frame: else 10 of a camera's 15 frames become 7.5.
                due = max(due + self._gap, taken)
                good, frame = self._capture.retrieve()
                if not good:
                    return
                with self._ready:
                    self._newest = (frame, taken)
                    self._ready.notify()
            if self._pause:
                time.sleep(self._pause)

    def next(self) -> tuple[Frame, float] | None:
        """The newest frame not yet seen, its region, in grey, and when it was taken. None when the source has ended."""
        with self._ready:
            self._ready.wait_for(lambda: self._newest is not None or self._ended, STALL_S)
            if self._newest is None:
                return None
            (frame, taken), self._newest = self._newest, None
        if self._region is not None:
            frame = frame[self._region.pixels(frame.shape[1], frame.shape[0])]
        return (ascontiguousarray(frame) if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)), taken


def open_source(settings: CameraSettings) -> Any:
    """Raises OSError when the source does not open."""
    source, device = settings.source, settings.device
    if "://" in source:
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", STREAM_OPTIONS)
        options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS]
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, options)
    elif device is not None:
        capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    else:
        capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        raise OSError("the source does not open")
    return capture


class Repeats:
    """Lets a payload through once per REPEAT_S; remembers the REMEMBERED newest payloads and forgets older ones."""

    def __init__(self) -> None:
        self._reported: dict[bytes, float] = {}

    def fresh(self, payload: bytes, now: float) -> bool:
        if now - self._reported.get(payload, float("-inf")) < REPEAT_S:
            return False
        self._reported.pop(payload, None)
        self._reported[payload] = now
        while len(self._reported) > REMEMBERED:
            self._reported.pop(next(iter(self._reported)))
        return True


def _report(body: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(body) + "\n")
    sys.stdout.flush()


def _end_with_the_agent() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the agent's to handle; this process ends after it
    try:
        settings = parse(json.loads(sys.stdin.buffer.readline(MAX_LINE)))
    except (ValueError, RecursionError):
        return SETTINGS_BAD
    threading.Thread(target=_end_with_the_agent, name="stdin", daemon=True).start()
    cv2.setNumThreads(1)
    try:
        capture = Capture(settings)
    except OSError:
        return SOURCE_FAILED
    newest = capture.next()
    if newest is not None:
        # Not before: many a source opens and then sends nothing that is a picture.
        _report({"open": True, "refused": list(capture.refused)})
        _read(capture, newest)
    return SOURCE_FAILED


def _read(capture: Capture, newest: tuple[Frame, float] | None) -> None:
    """Until the source ends."""
    decoder, repeats, meter = Decoder(), Repeats(), Meter(time.monotonic())
    due = time.monotonic() + FIRST_S
    while newest is not None:
        frame, taken = newest
        begin = time.monotonic()
        found = decoder.read(frame, taken)
        decoded = time.monotonic()
        for payload, by in found:
            if repeats.fresh(payload, taken):
                code = base64.b64encode(payload).decode()
                _report({"code": code, "seen": taken, "decoded": decoded, "by": by})
        taken_ms = (decoded - begin) * 1000
        meter.count(decoded, taken_ms, moved=decoder.moved, read=bool(found), second=decoder.second)
        if decoded >= due:
            due = decoded + REPORT_S
            _report({"figures": meter.figures(decoded).body()})
        newest = capture.next()


if __name__ == "__main__":
    try:
        status = main()
    except BrokenPipeError:  # the agent went away while we wrote
        status = 0
    os._exit(status)  # the grab thread may hang inside a device: an orderly exit would wait for it
