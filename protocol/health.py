"""A gate's health, every 30 s, QoS 0, gone from the broker after 90 s: what a facility manager needs to see of the machine."""

from __future__ import annotations

from dataclasses import dataclass

from policy.situation import ClockQuality
from protocol import fields

MAX_BYTES = 4096
MAX_DEGRADED = 64
EXPIRY_S = 90
"""Message expiry: an older health says nothing."""


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
    )
    body.done()
    return health
