"""The live page as HTML, whole and in parts, in Korean or English. Jinja2 escapes everything that came from outside."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from controller import wording
from controller.alarm_kinds import KINDS as ALARM_KINDS
from controller.alarm_kinds import Severity
from controller.alarm_rows import AlarmRow
from controller.batch import Stored
from controller.live import Change, Live, ours_ms
from protocol.events import Kind

TEMPLATES = Path(__file__).parent / "templates"
SHOWN_ALARMS = 24


@dataclass(frozen=True, slots=True)
class Condition:
    """What the picture stands on."""

    broker: bool
    store: bool


class Pages:
    def __init__(self, live: Live, site: str, condition: Callable[[], Condition]) -> None:
        self._live, self._site, self._condition = live, site, condition
        self._jinja = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def page(self, language: str) -> str:
        return self._render("page.html", language)

    def everything(self, language: str) -> str:
        """Data of the `all` event: the whole of the page's content."""
        return json.dumps({"main": self._render("main.html", language)}, ensure_ascii=False)

    def change(self, change: Change, language: str) -> str:
        """Data of the `part` event: new HTML of what changed, by element id; null for what is gone."""
        rendered = change.rendered.get(language)
        if rendered is None:
            parts = {
                "summary": self._render("summary.html", language),
                "gates": {f"gate:{name}": self._gate(name, language) for name in sorted(change.gates)},
                "lanes": {
                    f"lane:{gate}/{name}": self._lane(gate, name, language) for gate, name in sorted(change.lanes)
                },
                "events": [self._render("event.html", language, stored=stored) for stored in change.events],
                "alarms": self._render("alarms.html", language) if change.alarms else None,
                "open": self._render("open.html", language),
            }
            rendered = change.rendered[language] = json.dumps(parts, ensure_ascii=False)
        return rendered

    def _gate(self, name: str, language: str) -> str | None:
        gate = self._live.gates.get(name)
        return None if gate is None else self._render("gate.html", language, gate=gate)

    def _lane(self, gate: str, name: str, language: str) -> str | None:
        lane = self._live.lanes.get((gate, name))
        return None if lane is None else self._render("lane.html", language, lane=lane)

    def _render(self, template: str, language: str, **more: Any) -> str:
        live = self._live
        zone = live.time_zone

        def clock(moment: datetime | str | None) -> str:
            """`2026-11-24 18:00:00` in the site's time zone."""
            try:
                at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
                return "" if at is None else at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
            except (ValueError, OverflowError):
                return ""

        return self._jinja.get_template(template).render(
            site=self._site,
            language=language,
            other="en" if language == "ko" else "ko",
            live=live,
            lanes=[live.lanes[key] for key in sorted(live.lanes)],
            gates=[live.gates[key] for key in sorted(live.gates)],
            online=sum(gate.online is True for gate in live.gates.values()),
            condition=self._condition(),
            now=live.clock.now(),
            zone=zone.key,
            clock=clock,
            t=lambda key: wording.text(key, language),
            kind=lambda stored: wording.KINDS.get(stored.event.kind, wording.UNKNOWN_KIND),
            decision=lambda lane: wording.KINDS[lane.decision.kind],
            state=lambda lane: wording.STATES[lane.state],
            uplink=lambda gate: wording.ONLINE[gate.online],
            clock_label=lambda health: wording.CLOCKS[health.clock],
            carrier=carrier,
            direction=lambda code: wording.DIRECTIONS.get(code, ("", ""))[wording.LANGUAGES.index(language)],
            reason=lambda event: reason(event.data, language),
            detail=detail,
            gate_of=lambda lane: live.gates.get(lane.gate),
            duration=duration,
            counted=counted,
            ours=lambda stored: ours_ms(stored.event),
            worst_alarms=worst,
            shown_alarms=SHOWN_ALARMS,
            severities=severities,
            severity=lambda row: wording.SEVERITIES[row.severity],
            alarm_state=lambda row: wording.ALARM_STATES[row.state],
            alarm_words=lambda row: ALARM_KINDS[row.kind].words,
            **more,
        )


def worst(rows: Iterable[AlarmRow]) -> list[AlarmRow]:
    """What goes on and nobody has acknowledged first, then by severity, then the oldest."""
    return sorted(rows, key=lambda row: (not row.active, row.acknowledged is not None, _rank(row), row.id))


def severities(rows: Iterable[AlarmRow]) -> list[tuple[wording.Label, int]]:
    """How many of each, the worst first, none left out that there is."""
    counted = Counter(row.severity for row in rows)
    return [(wording.SEVERITIES[each], counted[each]) for each in Severity if counted[each]]


def _rank(row: AlarmRow) -> int:
    return Severity(row.severity).rank


def carrier(data: Any) -> str:
    code = data.get("carrier")
    return wording.CARRIERS.get(code, "") if isinstance(code, str) else ""


def reason(data: Any, language: str) -> str:
    return wording.reason(data.get("reason"), language)


def counted(stored: Stored) -> str:
    """`×12` for an event that stands for several."""
    count = stored.event.data.get("count")
    several = isinstance(count, int) and not isinstance(count, bool) and count > 1
    return f"×{count}" if several and stored.event.kind is not Kind.LOG_GAP else ""


DETAIL: dict[str, tuple[str, ...]] = {
    Kind.GATE_BOOT: ("version",),
    Kind.LANE_FAULT: ("detail", "what"),
    Kind.DEVICE_DEGRADED: ("device", "detail", "why"),
    Kind.DEVICE_RESTORED: ("device",),
    Kind.TRUST_APPLIED: ("trust", "what", "version"),
    Kind.TRUST_REJECTED: ("what", "why"),
    Kind.LOG_GAP: ("count", "dropped", "why"),
    Kind.ALARM_FORCED: ("cause",),
    Kind.EGRESS_BUTTON: ("cause",),
    Kind.DOOR_MODE: ("mode",),
    Kind.LOCKDOWN_ENTERED: ("level",),
    Kind.COMMAND_ACCEPTED: ("verb", "op"),
    Kind.COMMAND_REFUSED: ("verb", "why"),
    Kind.SENSOR_FAULT: ("sensor", "what"),
    Kind.SENSOR_RESTORED: ("sensor",),
    Kind.ANTIPASSBACK_SOFT: ("count",),
    Kind.CLOCK_CHANGED: ("quality", "why"),
    Kind.PASSAGE_NOT_TAKEN: ("why",),
    Kind.PASSAGE_UNKNOWN: ("why",),
}
"""Fields of an event's data worth showing beside its name."""


def detail(stored: Stored) -> str:
    shown = (stored.event.data.get(name) for name in DETAIL.get(stored.event.kind, ()))
    return " ".join(str(value)[:80] for value in shown if isinstance(value, str | int) and value != "")


def duration(milliseconds: float | None) -> str:
    if milliseconds is None:
        return ""
    return f"{milliseconds:.1f} ms" if milliseconds < 100 else f"{milliseconds:,.0f} ms"
