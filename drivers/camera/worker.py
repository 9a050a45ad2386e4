"""The worker process of one camera: capture, decode, report. `python -m drivers.camera.worker`, settings on standard input.

    in    one line {"source": "...", "fps": 10}; the worker ends when its standard input does (its agent is gone)
    out   {"open": true} once, then {"code": base64, "seen": s, "decoded": s, "by": "zxing"}; times on CLOCK_MONOTONIC

The source comes by the pipe, not by argument: a stream address may hold a password. The worker ends with status 3 when the
source fails; whoever started it starts it again.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
from typing import Any

import cv2

from drivers.camera.decode import Decoder, Frame

SOURCE_FAILED = 3
REPEAT_S = 1.0
"""A code held before the camera is reported once a second."""
OPEN_MS, READ_MS = 3000, 3000
REMEMBERED = 64


class Capture:
    """Reads frames in a thread of its own; only the newest waits to be decoded."""

    def __init__(self, source: str) -> None:
        self._capture = open_source(source)
        # A file has no pace of its own; a camera or stream has.
        self._pause = 1 / max(self._capture.get(cv2.CAP_PROP_FPS), 1.0) if os.path.isfile(source) else 0.0  # noqa: PTH113  a number or address is no path
        self._ready = threading.Condition()
        self._newest: tuple[Any, float] | None = None
        self._ended = False
        threading.Thread(target=self._grab, name="grab", daemon=True).start()

    def _grab(self) -> None:
        while True:
            good, frame = self._capture.read()
            with self._ready:
                self._ended = not good
                if good:
                    self._newest = (frame, time.monotonic())
                self._ready.notify()
            if not good:
                return
            if self._pause:
                time.sleep(self._pause)

    def next(self) -> tuple[Frame, float] | None:
        """The newest frame not yet seen, in grey, and when it was taken. None when the source has ended."""
        with self._ready:
            while self._newest is None:
                if self._ended:
                    return None
                self._ready.wait()
            (frame, taken), self._newest = self._newest, None
        return (frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)), taken


def open_source(source: str) -> Any:
    """Raises OSError when the camera does not open."""
    if "://" in source:
        # Small probing and no buffering: a stream must not lag behind the person in front of it.
        os.environ.setdefault(
            "OPENCV_FFMPEG_CAPTURE_OPTIONS", "fflags;nobuffer|flags;low_delay|probesize;4096|analyzeduration;0"
        )
        options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS]
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, options)
    else:
        capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    if not capture.isOpened():
        raise OSError("the source does not open")
    return capture


def _report(body: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(body) + "\n")
    sys.stdout.flush()


def _end_with_the_agent() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


class Repeats:
    """Lets a payload through once per REPEAT_S."""

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


def main() -> int:
    settings = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_agent, name="stdin", daemon=True).start()
    cv2.setNumThreads(1)
    try:
        capture = Capture(str(settings["source"]))
    except OSError:
        return SOURCE_FAILED
    gap = 1 / float(settings["fps"])
    decoder, repeats = Decoder(), Repeats()
    _report({"open": True})
    while (newest := capture.next()) is not None:
        frame, taken = newest
        for payload, by in decoder.read(frame, taken):
            if repeats.fresh(payload, taken):
                _report(
                    {
                        "code": base64.b64encode(payload).decode(),
                        "seen": taken,
                        "decoded": time.monotonic(),
                        "by": by,
                    }
                )
        time.sleep(max(0.0, taken + gap - time.monotonic()))
    return SOURCE_FAILED


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # the agent went away while we wrote
        os._exit(0)
