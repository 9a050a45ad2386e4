"""The table of alarms: how bad each is, what raises and clears it, who has to look, and what to do about it.

Severities as in ITU-T X.733; states and acknowledging as in ISA-18.2 (docs/alarms.md). Every kind of event is in EFFECTS or in
NO_ALARM, which a test holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from controller.alarm_words import WORDS, Words
from controller.batch import What
from protocol.command import CommandVerb
from protocol.events import Event, Kind
from protocol.fields import WORD


class Severity(StrEnum):
    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"
    WARNING = "warning"

    @property
    def rank(self) -> int:
        """0 is the worst."""
        return RANKS[self]


RANKS = {severity: rank for rank, severity in enumerate(Severity)}


class Category(StrEnum):
    """Words of the configuration too (controller.webhook_settings)."""

    ALARM = "alarms"
    """Somebody or something at a lane, or records that do not fit."""
    HEALTH = "health"
    """Machines: gates, devices, disks, the controller itself."""


@dataclass(frozen=True, slots=True)
class AlarmKind:
    name: str
    severity: Severity
    category: Category
    acknowledge: bool
    """Somebody must have acknowledged it before it is closed."""
    operator: bool
    """An operator may clear it; where no event does, nobody else."""
    restarts: bool
    """It ends with a restart of its gate, which raises it again where it still holds."""
    words: Words


_C, _M, _N, _W = Severity.CRITICAL, Severity.MAJOR, Severity.MINOR, Severity.WARNING
RECORD = "record."
"""Before the name of a finding about records (controller.batch.What)."""
OFFLINE, OUTBOX, DISK = "gate.offline", "gate.outbox", "gate.disk"
UNSET, DEVICE, FORGED = "clock.unset", str(Kind.DEVICE_DEGRADED), "command.forged"
BROKER, STORE, FULL = "controller.broker", "controller.store", "controller.alarms"
CONTROLLER_DISK, WEBHOOK = "controller.disk", "controller.webhook"
INTEGRITY, RETENTION = "controller.integrity", "controller.retention"

_TABLE: tuple[tuple[str, Severity, Category, str], ...] = (
    # Last column: a must be acknowledged, o an operator may clear it, r ends with a restart of the gate.
    (Kind.ALARM_FORCED, _C, Category.ALARM, "ar"),
    (Kind.ALARM_CRAWL, _C, Category.ALARM, "ar"),
    (Kind.ALARM_WRONG_WAY, _M, Category.ALARM, "ar"),
    (Kind.ALARM_TAILGATE, _M, Category.ALARM, "ar"),
    (Kind.ALARM_LOITER, _W, Category.ALARM, "r"),
    (Kind.ALARM_HELD_PRE, _W, Category.ALARM, "r"),
    (Kind.ALARM_HELD, _M, Category.ALARM, "ar"),
    (Kind.ALARM_TAMPER, _C, Category.ALARM, "ar"),
    (Kind.POWER_MAINS_LOST, _M, Category.ALARM, "r"),
    (Kind.POWER_BATTERY_LOW, _C, Category.ALARM, "r"),
    # Fire and lockdown outlive a restart of the gate.
    (Kind.FIRE_ASSERTED, _C, Category.ALARM, "a"),
    (Kind.LOCKDOWN_ENTERED, _M, Category.ALARM, ""),
    (Kind.LANE_FAULT, _M, Category.ALARM, "ao"),
    (FORGED, _C, Category.ALARM, "ao"),
    (Kind.LOG_GAP, _M, Category.ALARM, "ao"),
    (Kind.TRUST_REJECTED, _M, Category.ALARM, "ao"),
    (Kind.SENSOR_FAULT, _N, Category.HEALTH, "r"),
    (DEVICE, _N, Category.HEALTH, "r"),
    (Kind.ALARM_UPLINK, _M, Category.HEALTH, "r"),
    (UNSET, _M, Category.HEALTH, "r"),
    (RECORD + What.CHAIN, _C, Category.ALARM, "ao"),
    (RECORD + What.CONFLICT, _C, Category.ALARM, "ao"),
    (RECORD + What.CHECKPOINT, _C, Category.ALARM, "ao"),
    (RECORD + What.STATEMENT, _M, Category.ALARM, "ao"),
    (RECORD + What.NOT_ENROLLED, _M, Category.ALARM, "ao"),
    (RECORD + What.HOLE, _M, Category.ALARM, "ao"),
    (RECORD + What.NEW_EPOCH, _M, Category.ALARM, "ao"),
    (RECORD + What.REWIND, _M, Category.ALARM, "ao"),
    (RECORD + What.POISON, _N, Category.ALARM, "ao"),
    (RECORD + What.NEWER_SCHEMA, _W, Category.HEALTH, "ao"),
    (OFFLINE, _M, Category.HEALTH, ""),
    (OUTBOX, _N, Category.HEALTH, ""),
    (DISK, _N, Category.HEALTH, ""),
    (BROKER, _C, Category.HEALTH, ""),
    (STORE, _C, Category.HEALTH, ""),
    (CONTROLLER_DISK, _M, Category.HEALTH, ""),
    (WEBHOOK, _N, Category.HEALTH, ""),
    (INTEGRITY, _C, Category.HEALTH, "ao"),
    (RETENTION, _M, Category.HEALTH, ""),
    (FULL, _M, Category.HEALTH, "ao"),
)
KINDS: Mapping[str, AlarmKind] = {
    str(name): AlarmKind(str(name), severity, category, "a" in flags, "o" in flags, "r" in flags, WORDS[str(name)])
    for name, severity, category, flags in _TABLE
}
RESTARTING = frozenset(name for name, kind in KINDS.items() if kind.restarts)
_CONDITIONS = frozenset({OFFLINE, OUTBOX, DISK, BROKER, STORE, CONTROLLER_DISK, WEBHOOK, RETENTION})


@dataclass(frozen=True, slots=True)
class Effect:
    """What one event does to alarms of its lane."""

    raises: str | None = None
    clears: tuple[str, ...] = ()
    detail: str | None = None
    """Field of `data` that tells one alarm of a kind from another; alarms and their end have the same."""


def _pair(raised: Kind, cleared: Kind, detail: str | None = None) -> dict[Kind, Effect]:
    return {raised: Effect(raised, (), detail), cleared: Effect(None, (raised,), detail)}


EFFECTS: Mapping[Kind, Effect] = {
    **_pair(Kind.ALARM_FORCED, Kind.ALARM_FORCED_CLEARED),
    **_pair(Kind.ALARM_CRAWL, Kind.ALARM_CRAWL_CLEARED),
    **_pair(Kind.ALARM_WRONG_WAY, Kind.ALARM_WRONG_WAY_CLEARED),
    **_pair(Kind.ALARM_TAILGATE, Kind.ALARM_TAILGATE_CLEARED),
    **_pair(Kind.ALARM_LOITER, Kind.ALARM_LOITER_CLEARED),
    Kind.ALARM_HELD_PRE: Effect(Kind.ALARM_HELD_PRE),
    Kind.ALARM_HELD: Effect(Kind.ALARM_HELD, (Kind.ALARM_HELD_PRE,)),  # the warning has become the alarm
    Kind.ALARM_HELD_CLEARED: Effect(None, (Kind.ALARM_HELD_PRE, Kind.ALARM_HELD)),
    **_pair(Kind.ALARM_TAMPER, Kind.ALARM_TAMPER_CLEARED),
    **_pair(Kind.POWER_MAINS_LOST, Kind.POWER_MAINS_RESTORED),
    **_pair(Kind.POWER_BATTERY_LOW, Kind.POWER_BATTERY_RESTORED),
    **_pair(Kind.FIRE_ASSERTED, Kind.FIRE_CLEARED),
    **_pair(Kind.LOCKDOWN_ENTERED, Kind.LOCKDOWN_RELEASED),
    **_pair(Kind.SENSOR_FAULT, Kind.SENSOR_RESTORED, "sensor"),
    **_pair(Kind.DEVICE_DEGRADED, Kind.DEVICE_RESTORED, "device"),
    **_pair(Kind.ALARM_UPLINK, Kind.ALARM_UPLINK_CLEARED, "what"),
    **_pair(Kind.TRUST_REJECTED, Kind.TRUST_APPLIED, "what"),
    Kind.LANE_FAULT: Effect(Kind.LANE_FAULT),
    Kind.LOG_GAP: Effect(Kind.LOG_GAP),
    # Of the next two `effect` says which it is.
    Kind.CLOCK_CHANGED: Effect(UNSET, (UNSET,)),
    Kind.COMMAND_REFUSED: Effect(FORGED, (), "why"),
    # A lane's alarm was acknowledged at its gate.
    Kind.COMMAND_ACCEPTED: Effect(),
    # Ends every alarm of RESTARTING.
    Kind.GATE_BOOT: Effect(),
}
NO_ALARM = frozenset(
    {
        Kind.GATE_STOPPED,
        Kind.ACCESS_GRANTED,
        Kind.ACCESS_DENIED,
        Kind.ACCESS_UNREADABLE,
        Kind.LANE_OPENED,
        Kind.PASSAGE_COMPLETED,
        Kind.PASSAGE_NOT_TAKEN,
        Kind.PASSAGE_UNKNOWN,
        Kind.PASSAGE_REVERSED,
        Kind.EGRESS_BUTTON,
        Kind.DOOR_OPENED,
        Kind.DOOR_CLOSED,
        Kind.DOOR_MODE,
        Kind.ESCORT_BOUND,
        Kind.ANTIPASSBACK_SOFT,
        Kind.ANTIPASSBACK_FORGIVEN,
        Kind.JOURNAL_CHECKPOINT,
        Kind.JOURNAL_PRUNED,
    }
)
WATCHED = frozenset(EFFECTS)
"""Events that concern alarms: the only ones that cost more than this look."""
_FORGERIES = frozenset({"forged", "replayed"})
"""`why` of command.refused that only somebody brings about who gives orders without the right key, or has recorded one."""
_NOTHING = Effect()
_CLOCK_SET = Effect(None, (UNSET,))
_CLOCK_UNSET = Effect(UNSET)
CLEARED_BY_EVENTS = frozenset(name for effect in EFFECTS.values() for name in effect.clears)
CLEARED_BY_OPERATORS = frozenset(KINDS) - CLEARED_BY_EVENTS - _CONDITIONS
"""Nothing but an operator ends them (record.hole also by itself, when the records come after all): each event is one more of the
same, whatever its place."""


def effect(event: Event) -> Effect:
    """Of an event whose kind is in WATCHED."""
    match event.kind:
        case Kind.CLOCK_CHANGED:
            return _CLOCK_UNSET if event.data.get("quality") == "unset" else _CLOCK_SET
        case Kind.COMMAND_REFUSED:
            return EFFECTS[Kind.COMMAND_REFUSED] if event.data.get("why") in _FORGERIES else _NOTHING
    return EFFECTS[Kind(event.kind)]


def acknowledges(event: Event) -> bool:
    """An alarm was acknowledged at the gate: by order from afar, or on the spot."""
    return event.kind is Kind.COMMAND_ACCEPTED and event.data.get("verb") == str(CommandVerb.ACKNOWLEDGE)


def word(event: Event, field: str | None) -> str:
    """A short word of the event's data; empty for none."""
    value = None if field is None else event.data.get(field)
    return value if isinstance(value, str) and WORD.fullmatch(value) else ""
