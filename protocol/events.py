"""Door events: CloudEvents 1.0 JSON, one record of the gate's hash-chained journal each.

The exact bytes built here are what the journal keeps, what travels and what is hashed; nothing re-encodes them. `prevhash`
(a CloudEvents extension attribute) is the SHA-256 of the record before it in hex, so the chain is inside the bytes.
Rule: no field of any event may name, number or link a person. See docs/events.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from protocol.clock import rfc3339

SPEC_VERSION = "1.0"
"""CloudEvents version."""
TYPE_PREFIX = "gwanmun."
SCHEMA = 2
"""`data.v` of what is written now. 1 (no `v`): without `boot`, `mono` and `clk` in every record."""
MAX_SCHEMA = 999
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){1,3}")
"""Form of an event's name, also of one that a newer gate raises and this program does not know."""
MAX_NAME = 64
HASH = re.compile(r"[0-9a-f]{64}")
GENESIS = "0" * 64
"""`prevhash` of the first record of a storage epoch."""
MAX_RECORD_BYTES = 8192


class Kind(StrEnum):
    """The event table: every name the product can raise."""

    GATE_BOOT = "gate.boot"
    GATE_STOPPED = "gate.stopped"
    ACCESS_GRANTED = "access.granted"
    ACCESS_DENIED = "access.denied"
    ACCESS_UNREADABLE = "access.unreadable"
    LANE_OPENED = "lane.opened"
    LANE_FAULT = "lane.fault"
    PASSAGE_COMPLETED = "passage.completed"
    PASSAGE_NOT_TAKEN = "passage.not_taken"
    PASSAGE_UNKNOWN = "passage.unknown"
    PASSAGE_REVERSED = "passage.reversed"
    EGRESS_BUTTON = "egress.button"
    ALARM_FORCED = "alarm.forced"
    ALARM_FORCED_CLEARED = "alarm.forced.cleared"
    ALARM_CRAWL = "alarm.crawl"
    ALARM_CRAWL_CLEARED = "alarm.crawl.cleared"
    ALARM_WRONG_WAY = "alarm.wrong_way"
    ALARM_WRONG_WAY_CLEARED = "alarm.wrong_way.cleared"
    ALARM_TAILGATE = "alarm.tailgate"
    ALARM_TAILGATE_CLEARED = "alarm.tailgate.cleared"
    ALARM_LOITER = "alarm.loiter"
    ALARM_LOITER_CLEARED = "alarm.loiter.cleared"
    ALARM_HELD_PRE = "alarm.held.pre"
    ALARM_HELD = "alarm.held"
    ALARM_HELD_CLEARED = "alarm.held.cleared"
    ALARM_TAMPER = "alarm.tamper"
    ALARM_TAMPER_CLEARED = "alarm.tamper.cleared"
    POWER_MAINS_LOST = "power.mains_lost"
    POWER_MAINS_RESTORED = "power.mains_restored"
    POWER_BATTERY_LOW = "power.battery_low"
    POWER_BATTERY_RESTORED = "power.battery_restored"
    DOOR_OPENED = "door.opened"
    DOOR_CLOSED = "door.closed"
    DOOR_MODE = "door.mode"
    FIRE_ASSERTED = "fire.asserted"
    FIRE_CLEARED = "fire.cleared"
    LOCKDOWN_ENTERED = "lockdown.entered"
    LOCKDOWN_RELEASED = "lockdown.released"
    COMMAND_ACCEPTED = "command.accepted"
    COMMAND_REFUSED = "command.refused"
    SENSOR_FAULT = "sensor.fault"
    SENSOR_RESTORED = "sensor.restored"
    ESCORT_BOUND = "escort.bound"
    ANTIPASSBACK_SOFT = "antipassback.soft"
    ANTIPASSBACK_FORGIVEN = "antipassback.forgiven"
    CLOCK_CHANGED = "clock.changed"
    DEVICE_DEGRADED = "device.degraded"
    DEVICE_RESTORED = "device.restored"
    TRUST_APPLIED = "trust.applied"
    TRUST_REJECTED = "trust.rejected"
    ALARM_UPLINK = "alarm.uplink"
    ALARM_UPLINK_CLEARED = "alarm.uplink.cleared"
    LOG_GAP = "log.gap"
    JOURNAL_CHECKPOINT = "journal.checkpoint"
    JOURNAL_PRUNED = "journal.pruned"


_KINDS = {TYPE_PREFIX + kind: kind for kind in Kind}
DECISIONS = frozenset({Kind.ACCESS_GRANTED, Kind.ACCESS_DENIED})
_URGENT = ("alarm.", "fire.", "lockdown.", "power.")
URGENT = frozenset(kind for kind in Kind if kind.startswith(_URGENT))
"""Copied to the alarm topic, ahead of an outbox that is behind."""
HOUSEKEEPING = frozenset(
    {
        Kind.LANE_OPENED,
        Kind.DOOR_OPENED,
        Kind.DOOR_CLOSED,
        Kind.DOOR_MODE,
        Kind.SENSOR_FAULT,
        Kind.SENSOR_RESTORED,
        Kind.CLOCK_CHANGED,
        Kind.DEVICE_DEGRADED,
        Kind.DEVICE_RESTORED,
        Kind.POWER_MAINS_LOST,
        Kind.POWER_MAINS_RESTORED,
        Kind.POWER_BATTERY_LOW,
        Kind.POWER_BATTERY_RESTORED,
    }
)
"""State and health: what a journal at its size bound gives up next after what the controller has (gate_agent.retention)."""

TIMED = frozenset(
    {
        Kind.ACCESS_GRANTED,
        Kind.LANE_OPENED,
        Kind.PASSAGE_COMPLETED,
        Kind.PASSAGE_NOT_TAKEN,
        Kind.PASSAGE_UNKNOWN,
        Kind.PASSAGE_REVERSED,
        Kind.EGRESS_BUTTON,
        Kind.DOOR_OPENED,
        Kind.DOOR_CLOSED,
        Kind.ESCORT_BOUND,
        Kind.ANTIPASSBACK_SOFT,
        # Written in the commit of a record after a quiet minute: at night its time is that of a passage.
        Kind.JOURNAL_CHECKPOINT,
    }
)
"""Rows of these tell the exact time at which somebody who was let in, or out, walked: for the security officer alone, for days
only (docs/privacy.md)."""


class EventError(ValueError):
    """A payload that is not one of our events."""


@dataclass(frozen=True, slots=True)
class Event:
    """One parsed event. `raw` holds the bytes as received."""

    gate: str
    epoch: str
    seq: int
    kind: Kind | str
    """A plain string only for a name that a newer schema than ours has."""
    time: str
    prevhash: str
    data: Mapping[str, Any]
    raw: bytes
    version: int = SCHEMA
    """Schema of `data`."""

    @property
    def id(self) -> str:
        return event_id(self.gate, self.epoch, self.seq)

    @property
    def hash(self) -> str:
        return record_hash(self.raw)


def event_id(gate: str, epoch: str, seq: int) -> str:
    return f"{gate}/{epoch}/{seq}"


def record_hash(raw: bytes) -> str:
    """SHA-256 of the record's exact bytes, hex."""
    return hashlib.sha256(raw).hexdigest()


def build(
    *, site: str, gate: str, epoch: str, seq: int, kind: Kind, time: datetime, prevhash: str, data: Mapping[str, Any]
) -> bytes:
    """One record: UTF-8 JSON without white space. Raises EventError if it would pass MAX_RECORD_BYTES."""
    raw = json.dumps(
        {
            "specversion": SPEC_VERSION,
            "id": event_id(gate, epoch, seq),
            "source": f"/{site}/{gate}",
            "type": TYPE_PREFIX + kind,
            "time": rfc3339(time),
            "datacontenttype": "application/json",
            "prevhash": prevhash,
            "data": dict(data),
        },
        ensure_ascii=False,
        separators=(",", ":"),
        allow_nan=False,
    ).encode()
    if len(raw) > MAX_RECORD_BYTES:
        raise EventError(f"record of {len(raw)} bytes, at most {MAX_RECORD_BYTES}")
    return raw


_TYPE = b'"type":"' + TYPE_PREFIX.encode()
_URGENT_TYPES = tuple(name.encode() for name in _URGENT)


def urgent(raw: bytes) -> bool:
    """Whether a record as `build` makes it is of `URGENT`, without parsing it: `type` comes before anything of `data`."""
    return raw.startswith(_URGENT_TYPES, raw.find(_TYPE) + len(_TYPE))


def parse(raw: bytes) -> Event:
    """Read one record strictly. Raises EventError."""
    if len(raw) > MAX_RECORD_BYTES:
        raise EventError(f"record of {len(raw)} bytes, at most {MAX_RECORD_BYTES}")
    try:
        body = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise EventError(f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise EventError("not a JSON object")

    def text(key: str) -> str:
        value = body.get(key)
        if not isinstance(value, str) or not value:
            raise EventError(f"{key}: a non-empty string is expected")
        return value

    if text("specversion") != SPEC_VERSION:
        raise EventError("specversion: 1.0 is expected")
    parts = text("id").split("/")
    if len(parts) != 3 or not all(parts) or not (parts[2].isascii() and parts[2].isdigit()):
        raise EventError("id: gate/epoch/sequence is expected")
    seq = int(parts[2]) if len(parts[2]) <= 19 else 0
    if not 1 <= seq < 2**63:
        raise EventError("id: the sequence is a positive 64-bit number")
    data = body.get("data")
    if not isinstance(data, dict):
        raise EventError("data: an object is expected")
    version = data.get("v", 1)
    if type(version) is not int or not 1 <= version <= MAX_SCHEMA:
        raise EventError("v: the number of a schema is expected")
    kind = _kind(text("type"), version)
    prevhash = text("prevhash")
    if not HASH.fullmatch(prevhash):
        raise EventError("prevhash: 64 hex digits are expected")
    return Event(parts[0], parts[1], seq, kind, text("time"), prevhash, data, raw, version)


def _kind(name: str, version: int) -> Kind | str:
    """Raises EventError. A newer gate may raise what we do not know: it is kept under its name, so that no hole comes of it."""
    if not name.startswith(TYPE_PREFIX):
        raise EventError(f"type: {TYPE_PREFIX} is expected before the name")
    known = _KINDS.get(name)
    if known is not None:
        return known
    bare = name.removeprefix(TYPE_PREFIX)
    if version <= SCHEMA or len(bare) > MAX_NAME or not NAME.fullmatch(bare):
        raise EventError("type: not an event of this product")
    return bare
