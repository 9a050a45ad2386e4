"""What the gate says of its own machine (protocol.health): disk, memory, clock, age of the outbox."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from drivers.camera import CameraFigures
from gate_agent.devices import Supervised
from gate_agent.journal import Journal, RecordUnavailableError
from policy.situation import ClockQuality
from protocol import events
from protocol.clock import Clock
from protocol.health import MAX_CAMERAS, MAX_DEGRADED, CameraHealth, Health

MIB = 1024 * 1024


def software_version() -> str:
    try:
        return version("gwanmun")
    except PackageNotFoundError:
        return "source"


def _resident_mb() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") // MIB


def _disk_free_mb(directory: Path) -> int | None:
    try:
        return shutil.disk_usage(directory).free // MIB
    except OSError:
        return None


def cameras(devices: Mapping[str, Supervised[Any]]) -> tuple[CameraHealth, ...]:
    """Of the cameras among `devices` that work and have told figures, by id."""
    found = []
    for name, device in sorted(devices.items()):
        if not name.startswith("camera.") or not device.available:
            continue
        figures = getattr(device.device, "figures", None)  # a driver need not measure itself
        if isinstance(figures, CameraFigures):
            found.append(_camera(name, figures))
    return tuple(found[:MAX_CAMERAS])


def _camera(name: str, figures: CameraFigures) -> CameraHealth:
    return CameraHealth(
        camera=name,
        fps=round(figures.fps),
        moved=figures.movements,
        read=figures.read,
        second=figures.second,
        mean_us=round(figures.mean_ms * 1000),
        p95_us=round(figures.p95_ms * 1000),
        refused=figures.refused,
    )


async def measure(
    journal: Journal,
    *,
    clock: Clock,
    boot: str,
    started_at: float,
    state_dir: Path,
    trust: str,
    quality: ClockQuality,
    degraded: Callable[[], list[str]],
    devices: Mapping[str, Supervised[Any]] | None = None,
) -> Health:
    now = clock.now()
    waiting, age = 0, 0
    try:
        waiting = await journal.waiting()
        oldest = await journal.unsent(0, 1)
        if oldest:
            age = max(0, int((now - datetime.fromisoformat(events.parse(oldest[0].raw).time)).total_seconds()))
    except RecordUnavailableError:
        waiting, age = 0, 0  # `degraded` says that the journal is not writable
    return Health(
        boot=boot,
        version=software_version(),
        uptime_s=int(clock.monotonic() - started_at),
        clock=quality,
        outbox=waiting,
        outbox_age_s=age,
        trust=trust,
        degraded=tuple(degraded()[:MAX_DEGRADED]),
        disk_free_mb=_disk_free_mb(state_dir),
        rss_mb=_resident_mb(),
        cameras=cameras(devices or {}),
    )
