"""How well a camera reads, over the last minute: counts and times, nothing of what was read. No heavy import."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from drivers.camera.limits import MAX_FPS

WINDOW_S = 60.0
FIRST_S, REPORT_S = 1.0, 10.0
"""The worker reports after the first second, then every ten."""
REST_S = 2.0
"""A movement ends when nothing has moved for this long: a person brings a phone, holds it still, and it is read at rest."""
MOVEMENT_S = 10.0
"""A hall in which something always moves: one movement after another."""
CONTROLS = ("mjpg", "size", "exposure", "gain", "power_line")
"""What a camera may refuse."""
MAX_MS = 60_000.0


@dataclass(frozen=True, slots=True)
class CameraFigures:
    fps: float
    """Frames decoded a second."""
    movements: int
    """Times that something moved or was read before the camera, and then nothing for REST_S."""
    read: int
    """Movements in which a code was read. The hit rate is read / movements: people who walk past count too, so that it is
    compared with the same camera's earlier days, not with another's."""
    second: int
    """Frames that only the second look could read: more of them, and the lens is out of focus or dirty, or the light bad."""
    mean_ms: float
    """Decoding one frame."""
    p95_ms: float
    refused: tuple[str, ...] = ()
    """Settings that the camera did not take, of CONTROLS."""

    def body(self) -> dict[str, Any]:
        """For JSON, without `refused`; `parse` reads it."""
        found = asdict(self)
        del found["refused"]
        return found


def parse(body: object, refused: tuple[str, ...]) -> CameraFigures:
    """Raises ValueError."""
    match body:
        case {
            "fps": float(fps),
            "movements": int(movements),
            "read": int(read),
            "second": int(second),
            "mean_ms": float(mean),
            "p95_ms": float(p95),
        }:
            rates = 0 <= fps <= 2 * MAX_FPS and 0 <= mean <= MAX_MS and 0 <= p95 <= MAX_MS
            most = math.ceil(2 * MAX_FPS * WINDOW_S)
            if rates and 0 <= read <= movements <= most and 0 <= second <= most:
                return CameraFigures(fps, movements, read, second, mean, p95, refused)
    raise ValueError("figures of a camera are expected")


class Meter:
    """Counts frame by frame; times are seconds on one monotonic clock."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._frames: deque[tuple[float, float, bool]] = deque(maxlen=int(MAX_FPS * WINDOW_S))
        """When, milliseconds, read by the second look only."""
        self._movements: deque[tuple[float, bool]] = deque(maxlen=int(MAX_FPS * WINDOW_S))
        """When it ended, whether a code was read in it."""
        self._began: float | None = None
        self._moved_at = now
        self._read = False

    def count(self, now: float, milliseconds: float, *, moved: bool, read: bool, second: bool) -> None:
        """One frame, decoded. A code that is read counts as motion: held still it is one movement, and a small one far off moves
        too little to be seen."""
        self._end(now)
        self._frames.append((now, milliseconds, second))
        if moved or read:
            self._moved_at = now
            if self._began is None:
                self._began, self._read = now, False
        self._read = self._read or read

    def _end(self, now: float) -> None:
        if self._began is not None and (now - self._moved_at >= REST_S or now - self._began >= MOVEMENT_S):
            self._movements.append((now, self._read))
            self._began = None

    def figures(self, now: float) -> CameraFigures:
        """Over the last WINDOW_S, or since the start."""
        self._end(now)
        for old in (self._frames, self._movements):
            while old and now - old[0][0] > WINDOW_S:
                old.popleft()
        times = sorted(each for _, each, _ in self._frames)
        seconds = min(WINDOW_S, max(now - self._since, 1e-3))
        return CameraFigures(
            fps=round(len(times) / seconds, 2),
            movements=len(self._movements),
            read=sum(read for _, read in self._movements),
            second=sum(second for _, _, second in self._frames),
            mean_ms=round(sum(times) / len(times), 3) if times else 0.0,
            p95_ms=round(times[int(0.95 * (len(times) - 1))], 3) if times else 0.0,
        )
