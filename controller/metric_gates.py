"""What gates report of themselves, as metrics. Nothing here moves when one person walks: docs/adr/0022."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from controller.live import Gate, Lane
from controller.metric_sheet import Sheet
from protocol.health import CameraHealth, Health
from protocol.status import LaneState

MINUTE_S = 60
MIB = 1024 * 1024
MAX_CAMERAS = 4000
"""Of all gates; those beyond have no figures."""
MIN_MOVED = 40
"""Movements before a camera's figures are told. A health says what happened in its last minute and comes every half minute, so
these are some twenty."""
STANDING: Mapping[LaneState, str] = {
    state: "in_service"
    if state in {LaneState.SECURED, LaneState.GRANTED, LaneState.PASSING, LaneState.EGRESS}
    else state.value
    for state in LaneState
}
"""A lane that opens for somebody is in service before, meanwhile and afterwards."""


@dataclass(frozen=True, slots=True)
class GateView:
    id: str
    online: bool | None
    last_seen: datetime | None
    health: Health | None
    """None where it is older than its expiry: its metrics disappear."""
    alarms: int


@dataclass(frozen=True, slots=True)
class LaneView:
    gate: str
    id: str
    direction: str
    state: LaneState
    degraded: int


def gate_views(gates: Iterable[Gate], now: datetime) -> list[GateView]:
    return [GateView(gate.id, gate.online, gate.last_seen, gate.fresh_health(now), gate.alarms) for gate in gates]


def lane_views(lanes: Iterable[Lane]) -> list[LaneView]:
    return [LaneView(lane.gate, lane.id, lane.direction, lane.state, len(lane.degraded)) for lane in lanes]


@dataclass(slots=True)
class _Sum:
    moved: int = 0
    read: int = 0
    mean_us: int = 0
    p95_us: int = 0
    n: int = 0


@dataclass(frozen=True, slots=True)
class CameraFigures:
    read_ratio: float
    mean_s: float
    p95_s: float


class Cameras:
    """Figures of cameras, gathered until enough has moved before one."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], _Sum] = {}
        self.shown: dict[tuple[str, str], CameraFigures] = {}

    def add(self, gate: str, camera: CameraHealth) -> None:
        key = (gate, camera.camera)
        found = self._sums.get(key)
        if found is None:
            if len(self._sums) >= MAX_CAMERAS:
                return
            found = self._sums[key] = _Sum()
        found.moved += camera.moved
        found.read += camera.read
        found.mean_us += camera.mean_us
        found.p95_us += camera.p95_us
        found.n += 1

    def turn(self) -> None:
        for key, gathered in self._sums.items():
            if gathered.moved < MIN_MOVED:
                continue
            self.shown[key] = CameraFigures(
                gathered.read / gathered.moved,
                gathered.mean_us / gathered.n / 1e6,
                gathered.p95_us / gathered.n / 1e6,
            )
            self._sums[key] = _Sum()


def put_gates(
    sheet: Sheet, gates: Sequence[GateView], cameras: Mapping[tuple[str, str], CameraFigures], now: datetime
) -> None:
    for gate in gates:
        if gate.online is not None:
            sheet.put("gwanmun_gate_online", gate.online, gate.id)
        if gate.last_seen is not None:
            age = max(0.0, (now - gate.last_seen).total_seconds())
            # Whole minutes: a health comes every half minute, so no other message shows.
            sheet.put("gwanmun_gate_last_seen_age_seconds", age // MINUTE_S * MINUTE_S, gate.id)
        sheet.put("gwanmun_gate_record_alarms", gate.alarms, gate.id)
        if gate.health is not None:
            _put_health(sheet, gate.id, gate.health, cameras)


def _put_health(sheet: Sheet, gate: str, health: Health, cameras: Mapping[tuple[str, str], CameraFigures]) -> None:
    sheet.info("gwanmun_gate", gate, health.version, health.trust)
    sheet.put("gwanmun_gate_uptime_seconds", health.uptime_s, gate)
    sheet.put("gwanmun_gate_clock", 1, gate, health.clock.value)
    # A record waits for its acknowledgement for some milliseconds: who sees it there knows when it was written.
    behind = health.outbox_age_s >= MINUTE_S
    sheet.put("gwanmun_gate_outbox_records", health.outbox if behind else 0, gate)
    sheet.put("gwanmun_gate_outbox_age_seconds", health.outbox_age_s if behind else 0, gate)
    if health.disk_free_mb is not None:
        sheet.put("gwanmun_gate_disk_free_bytes", health.disk_free_mb * MIB, gate)
    if health.rss_mb is not None:
        sheet.put("gwanmun_gate_resident_memory_bytes", health.rss_mb * MIB, gate)
    sheet.put("gwanmun_gate_degraded", len(health.degraded), gate)
    for camera in {each.camera: each for each in health.cameras}.values():
        sheet.put("gwanmun_camera_frames_per_second", camera.fps, gate, camera.camera)
        sheet.put("gwanmun_camera_settings_refused", len(camera.refused), gate, camera.camera)
        figures = cameras.get((gate, camera.camera))
        if figures is not None:
            sheet.put("gwanmun_camera_read_ratio", figures.read_ratio, gate, camera.camera)
            sheet.put("gwanmun_camera_decode_mean_seconds", figures.mean_s, gate, camera.camera)
            sheet.put("gwanmun_camera_decode_p95_seconds", figures.p95_s, gate, camera.camera)


def put_lanes(sheet: Sheet, lanes: Sequence[LaneView]) -> None:
    for lane in lanes:
        sheet.put("gwanmun_lane_state", 1, lane.gate, lane.id, lane.direction, STANDING[lane.state])
        sheet.put("gwanmun_lane_degraded", lane.degraded, lane.gate, lane.id, lane.direction)
