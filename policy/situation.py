"""The facts of one decision besides rules and attributes: time, clock, carrier, lockdown, and what others have found out.

Each is a finding of its own part of the gate. A fact that nobody asked for counts against the person where a rule needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Attributes:
    """Verified attributes a rule may speak of. Held for the length of one decision, never stored. "" where not asked for."""

    doc_type: str
    agency_code: str
    card_type: str
    access_class: str
    issuer: str = ""
    """The issuing authority as the verifier names it."""


class ClockQuality(StrEnum):
    SYNCED = "synced"
    HOLDOVER = "holdover"
    UNSET = "unset"


class AntiPassbackFinding(StrEnum):
    NOT_ASKED = "not_asked"
    CLEAR = "clear"
    INSIDE = "inside"
    """Seen entering, not seen leaving since."""
    RECENT = "recent"
    """Entered within the zone's minutes."""
    CUT_OFF = "cut_off"
    """The zone cannot be asked; where it lets local knowledge count, this gate has nothing against the person."""
    NO_HANDLE = "no_handle"
    """The presentation has no holder handle: a QR pass, a plastic card."""


class SecondFactor(StrEnum):
    NOT_ASKED = "not_asked"
    PASSED = "passed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    """No device for it at this lane, or it is out of order."""


class EscortFinding(StrEnum):
    NOBODY = "nobody"
    HOST = "host"
    """A host passed here in time."""
    WRONG = "wrong"
    """Somebody passed here in time who may not be this guest's host."""


class SecondPerson(StrEnum):
    NOBODY = "nobody"
    ANOTHER = "another"
    """Another person waits here, in time."""
    SAME = "same"
    """The one who waits here presented again."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What a verified visit record for this presentation says; whose it is stays outside."""

    zones: frozenset[str]
    not_before: datetime
    not_after: datetime
    host_required: bool


@dataclass(frozen=True, slots=True)
class Situation:
    now: datetime
    """Aware."""
    carrier: str
    """One of policy.model.CARRIERS."""
    clock: ClockQuality = ClockQuality.SYNCED
    clock_error_s: float = 0.0
    """Bound of the clock's error, seconds either way."""
    clock_age_s: float | None = None
    """Seconds since the clock was last synchronised; None: unknown."""
    running_s: float = 0.0
    """Seconds since start: what an unset clock's grace is counted from."""
    lockdown: int = 0
    """Level; 0 is none."""
    occupancy: int | None = None
    """People in the zone; None: unknown."""
    antipassback: AntiPassbackFinding = AntiPassbackFinding.NOT_ASKED
    second_factor: SecondFactor = SecondFactor.NOT_ASKED
    escort: EscortFinding = EscortFinding.NOBODY
    second_person: SecondPerson = SecondPerson.NOBODY
    denied: bool = False
    """On the signed deny list."""
    visit: Visit | None = None
    edges: tuple[datetime, ...] = ()
    """When the credential itself begins and ends to count; whether it counts now was the verifier's to say."""
