"""One moment of the running controller, taken on its loop, so that it can be written out elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from controller.metric_gates import CameraFigures, GateView, LaneView, put_gates, put_lanes
from controller.metric_sheet import Sheet
from controller.pages import Condition


@dataclass(frozen=True, slots=True)
class Sent:
    """What one webhook did since the start."""

    webhook: str
    delivered: int
    failures: int
    given_up: int


@dataclass(frozen=True, slots=True)
class Picture:
    """Nothing in it changes any more."""

    now: datetime
    condition: Condition
    commit_s: int
    counts: Mapping[str, int]
    """Counters without labels, by name."""
    events: Mapping[str, int]
    refusals: Mapping[str, int]
    durations: Sequence[tuple[str, str, float, float]]
    """Name, key, quantile and value."""
    watchers: int
    gates: Sequence[GateView]
    lanes: Sequence[LaneView]
    cameras: Mapping[tuple[str, str], CameraFigures]
    webhooks: Sequence[Sent]


def put_picture(sheet: Sheet, picture: Picture) -> None:
    sheet.put("gwanmun_broker_connected", picture.condition.broker)
    sheet.put("gwanmun_store_writable", picture.condition.store)
    sheet.put("gwanmun_store_commit_under_way_seconds", picture.commit_s)
    sheet.put("gwanmun_watchers", picture.watchers)
    for name, n in picture.counts.items():
        sheet.put(name, n)
    for kind, n in picture.events.items():
        sheet.put("gwanmun_events", n, kind)
    for reason, n in picture.refusals.items():
        sheet.put("gwanmun_refusals", n, reason)
    for name, key, quantile, value in picture.durations:
        sheet.put(name, value, *((key,) if key else ()), f"{quantile:g}")
    for hook in picture.webhooks:
        sheet.put("gwanmun_webhook_delivered", hook.delivered, hook.webhook)
        sheet.put("gwanmun_webhook_failures", hook.failures, hook.webhook)
        sheet.put("gwanmun_webhook_given_up", hook.given_up, hook.webhook)
    put_gates(sheet, picture.gates, picture.cameras, picture.now)
    put_lanes(sheet, picture.lanes)
