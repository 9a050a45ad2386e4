"""The worker process of one camera: capture, decode, report. `python -m drivers.camera.worker`, settings on standard input.

    in    one line {"source": "...", "fps": 15}; the worker ends when its standard input does (its agent is gone)
    out   {"open": true} with the first frame, then {"code": base64, "seen": s, "decoded": s, "by": "zxing"};
          times on CLOCK_MONOTONIC

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

from drivers.camera.decode import Decoder, Frame
from drivers.camera.limits import MAX_FPS, MAX_LINE, SETTINGS_BAD, SOURCE_FAILED

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

    def __init__(self, source: str, fps: float) -> None:
        """Raises OSError when the source does not open."""
        self._capture = open_source(source)
        self._gap = 1 / fps
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
        """The newest frame not yet seen, in grey, and when it was taken. None when the source has ended."""
        with self._ready:
            self._ready.wait_for(lambda: self._newest is not None or self._ended, STALL_S)
            if self._newest is None:
                return None
            (frame, taken), self._newest = self._newest, None
        return (frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)), taken


def open_source(source: str) -> Any:
    """A stream address, a device number or path, or a video file. Raises OSError when it does not open."""
    if "://" in source:
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", STREAM_OPTIONS)
        options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS]
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, options)
    elif source.startswith("/dev/") or (source.isascii() and source.isdigit() and len(source) <= 3):
        capture = cv2.VideoCapture(source if source.startswith("/") else int(source), cv2.CAP_V4L2)
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


def _settings(line: bytes) -> tuple[str, float]:
    """Raises ValueError."""
    match json.loads(line):
        case {"source": str(source), "fps": int() | float() as fps} if source and 0 < fps <= MAX_FPS:
            return source, float(fps)
        case _:
            raise ValueError("settings: a source and a frame rate are expected")


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
        source, fps = _settings(sys.stdin.buffer.readline(MAX_LINE))
    except (ValueError, RecursionError):
        return SETTINGS_BAD
    threading.Thread(target=_end_with_the_agent, name="stdin", daemon=True).start()
    cv2.setNumThreads(1)
    try:
        capture = Capture(source, fps)
    except OSError:
        return SOURCE_FAILED
    decoder, repeats = Decoder(), Repeats()
    newest = capture.next()
    if newest is not None:
        _report({"open": True})  # not before: many a source opens and then sends nothing that is a picture
    while newest is not None:
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
        newest = capture.next()
    return SOURCE_FAILED


if __name__ == "__main__":
    try:
        status = main()
    except BrokenPipeError:  # the agent went away while we wrote
        status = 0
    os._exit(status)  # the grab thread may hang inside a device: an orderly exit would wait for it
