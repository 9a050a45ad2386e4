"""What goes from sorting into the store, and what the store gives back, one batch at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from controller.alarm_rows import AlarmChange, AlarmRow
from protocol.ack import Ack
from protocol.events import Event
from protocol.health import Health
from protocol.statement import Purpose, Statement
from protocol.status import Online

Key = tuple[str, str]
"""Gate and storage epoch: one hash chain."""


class What(StrEnum):
    """Kinds of findings about records; docs/ingest.md says what each means."""

    CHAIN = "chain"
    CONFLICT = "conflict"
    CHECKPOINT = "checkpoint"
    STATEMENT = "statement"
    NOT_ENROLLED = "not_enrolled"
    HOLE = "hole"
    NEW_EPOCH = "new_epoch"
    REWIND = "rewind"
    NEWER_SCHEMA = "newer_schema"
    POISON = "poison"


@dataclass(frozen=True, slots=True)
class Alarm:
    """A finding about records that somebody has to look at, told once for the same five values before `time`.

    What comes of it is a row of `alarm_states` (controller.alarm_book)."""

    gate: str
    """Empty where the topic names none."""
    epoch: str
    """Empty where it is not about one record."""
    seq: int
    what: What
    time: str
    """RFC 3339, UTC, by the controller's clock."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Poison:
    """A message, or one record of a batch, that is no event, state, online or health of the gate whose topic it came by."""

    topic: str
    reason: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Remark:
    """What sorting found wrong with a record that is stored all the same."""

    what: What
    why: str


NOT_ENROLLED = Remark(What.NOT_ENROLLED, "")


@dataclass(slots=True)  # not frozen: one is made for every record, and a frozen one costs three times as much
class Record:
    """One event, checked by controller.sorting."""

    event: Event
    time: str
    """The instant it names: UTC, milliseconds."""
    hash: str
    """Of its exact bytes, hex."""
    topic: str
    statement: Statement | None = None
    """What its gate has signed about records that will not come."""
    purpose: Purpose | None = None
    """Of the statement: GAP or PRUNED."""
    remark: Remark | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    records: Sequence[Record] = ()
    poison: Sequence[Poison] = ()
    heard: frozenset[str] = frozenset()
    """Gates that sent anything good."""
    onlines: Sequence[tuple[str, Online]] = ()
    """Births and wills in the order of their arrival."""
    heads: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """By gate, what its state says: the epoch it writes in and the last record it had written."""
    healths: Mapping[str, Health] = field(default_factory=dict)
    """By gate, the last of this batch."""


@dataclass(slots=True)
class Stored:
    """One event with its place in the order of arrival."""

    arrival: int
    event: Event


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one chain is whole."""

    mark: int
    """Every record up to it is held, or its absence explained by its gate."""
    ahead: int | None
    """The lowest record held beyond the mark: between them is a hole. None: nothing is held beyond."""
    stopped: bool
    """A record did not fit: nothing is asked for any more."""


@dataclass(frozen=True, slots=True)
class Committed:
    stored: Sequence[Stored]
    duplicates: int
    acks: Mapping[str, Ack]
    """By gate, for every gate that sent a record of the epoch it writes in: a repeated one is acknowledged again."""
    earlier_acks: Sequence[tuple[str, Ack]]
    """The same for records of an earlier epoch, sent after all."""
    alarms: Sequence[Alarm]
    """Findings that were not there before."""
    set_aside: int
    onlines: Sequence[tuple[str, Online]] = ()
    """Births and wills that count: none of an earlier boot."""
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """What was added, by the site's own day and the event's name; day "" holds the messages set aside."""
    standings: Mapping[Key, Standing] = field(default_factory=dict)
    """Of every chain that got a record or was named by a state."""
    changes: Sequence[AlarmChange] = ()
    """Of alarms."""
    alarm_rows: Sequence[AlarmRow] = ()
    """Alarms that are new or differ, as they are now."""


@dataclass(frozen=True, slots=True)
class GateRow:
    gate: str
    epoch: str | None
    mark: int
    stopped: bool
    boot: str | None
    online: bool | None
    last_seen: str
    alarms: int
    """Open ones."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What the live page starts from."""

    gates: Sequence[GateRow]
    last: Sequence[Stored]
    """Without those whose exact time is for the security officer alone (protocol.events.TIMED)."""
    counts: Mapping[str, int]
    """Of today, by event name."""
    set_aside: int
    alarms: Sequence[AlarmRow] = ()
    """Those that are not closed."""
