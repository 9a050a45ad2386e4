"""A gate's health, every 30 s, QoS 0, gone from the broker after 90 s: what a facility manager needs to see of the machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from policy.situation import ClockQuality
from protocol import fields

MAX_BYTES = 32 * 1024
"""A gate of 64 lanes with a camera on either side fills it with the longest names and figures."""
MAX_DEGRADED = 64
MAX_CAMERAS = 128
MAX_REFUSED = 8
EXPIRY_S = 90
"""Message expiry: an older health says nothing."""


@dataclass(frozen=True, slots=True)
class CameraHealth:
    """How well one camera reads, over the last minute; nothing of what was read."""

    camera: str
    """The device's id, such as `camera.hall`."""
    fps: int
    """Frames decoded a second."""
    moved: int
    """Times that something moved or was read before it, and then came to rest."""
    read: int
    """Those in which a code was read: read / moved is the hit rate, which falls against the same camera's earlier days when its
    lens is dirty or the light bad."""
    second: int
    """Frames that only the second look could read."""
    mean_us: int
    """Microseconds of decoding a frame: mean, and the value that 95 of 100 stay below."""
    p95_us: int
    refused: tuple[str, ...] = ()
    """Settings that the camera did not take: `mjpg`, `size`, `exposure`, `gain`, `power_line`."""

    def body(self) -> dict[str, Any]:
        return {**asdict(self), "refused": list(self.refused)}


@dataclass(frozen=True, slots=True)
class Health:
    boot: str
    version: str
    """Of the agent."""
    uptime_s: int
    clock: ClockQuality
    outbox: int
    """Records not yet acknowledged by the controller."""
    outbox_age_s: int
    """Age of the oldest of them; 0 with none."""
    trust: str
    """Version of the trust data in force."""
    degraded: tuple[str, ...] = ()
    """Devices and services that do not work, such as `camera.hall` or `stale_status`."""
    disk_free_mb: int | None = None
    rss_mb: int | None = None
    cameras: tuple[CameraHealth, ...] = ()
    """Of the cameras that work."""

    def encode(self) -> bytes:
        return fields.encode(
            {
                "boot": self.boot,
                "version": self.version,
                "uptime_s": self.uptime_s,
                "clock": self.clock,
                "outbox": self.outbox,
                "outbox_age_s": self.outbox_age_s,
                "trust": self.trust,
                "degraded": list(self.degraded),
                "disk_free_mb": self.disk_free_mb,
                "rss_mb": self.rss_mb,
                "cameras": [each.body() for each in self.cameras],
            }
        )


def parse(raw: bytes) -> Health:
    """Raises PayloadError."""
    body = fields.read(raw, MAX_BYTES)
    clock = body.word("clock")
    if clock not in set(ClockQuality):
        raise body.error("clock", ", ".join(ClockQuality))
    health = Health(
        boot=body.word("boot"),
        version=body.word("version"),
        uptime_s=body.number("uptime_s"),
        clock=ClockQuality(clock),
        outbox=body.number("outbox"),
        outbox_age_s=body.number("outbox_age_s"),
        trust=body.word("trust"),
        degraded=body.words("degraded", MAX_DEGRADED),
        disk_free_mb=body.optional_number("disk_free_mb"),
        rss_mb=body.optional_number("rss_mb"),
        # Older agents send none.
        cameras=tuple(_camera(each) for each in body.optional_objects("cameras", MAX_CAMERAS)),
    )
    body.done()
    return health


def _camera(body: fields.Fields) -> CameraHealth:
    moved = body.number("moved", 0, 9_999)
    found = CameraHealth(
        camera=body.word("camera"),
        fps=body.number("fps", 0, 999),
        moved=moved,
        read=body.number("read", 0, moved),
        second=body.number("second", 0, 9_999),
        mean_us=body.number("mean_us", 0, 99_999_999),
        p95_us=body.number("p95_us", 0, 99_999_999),
        refused=body.words("refused", MAX_REFUSED),
    )
    body.done()
    return found
