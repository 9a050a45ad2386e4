"""What a rules document says, in ONVIF's terms: zones (areas), access points, schedules, access profiles.

Rules speak of attributes only; there is no field in which a person could be named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from policy.rights import PointRights
from policy.schedule import Schedule

OUTSIDE = "outside"
"""The street: what a way in comes from and a way out leads to; it has no rules."""
WALK_UP, PIV, PKOC = "walk_up", "piv", "pkoc"
CARRIERS = ("ble", "nfc", "qr", WALK_UP, PIV, PKOC)
"""How a presentation may travel: radio after a QR code or tap, NFC data transfer, one-shot QR pass, radio to a phone that its
holder armed for whoever walks up, a plastic card's own key, and a PKOC key in a card or phone."""
DEFAULT_CARRIERS = frozenset(CARRIERS) - {WALK_UP, PIV, PKOC}
"""Walking up proves no closeness, a card no consent, and a PKOC key is the same at every reader: a zone has to say that it takes
them."""


LEAST = "access_class"
"""The attribute that says least of a person."""


class Direction(StrEnum):
    """An entry is judged by the rules of the zone it leads to. An exit is never barred."""

    ENTRY = "entry"
    EXIT = "exit"


class AntiPassbackMode(StrEnum):
    NONE = "none"
    HARD = "hard"
    """Who is inside may not enter again."""
    SOFT = "soft"
    """As hard, but only noted."""
    TIMED = "timed"
    """Who entered less than `minutes` ago may not enter again; no exit reader is needed."""


class CutOff(StrEnum):
    """What counts while the gate cannot ask the zone."""

    SOFT = "soft"
    LOCAL = "local"
    """What this gate knows itself; who is not known here passes."""
    REFUSE = "refuse"


class Passes(StrEnum):
    """What counts for a presentation without a holder handle, such as a QR pass."""

    SOFT = "soft"
    REFUSE = "refuse"


class JournalFull(StrEnum):
    """What counts while the gate has no room for records, because nobody has taken the earlier ones."""

    REFUSE = "refuse"
    CONTINUE_WITH_GAP = "continue_with_gap"
    """Entries go on; how many there were is recorded when there is room again."""


@dataclass(frozen=True, slots=True)
class AntiPassback:
    mode: AntiPassbackMode = AntiPassbackMode.NONE
    minutes: int = 0
    """For timed; 0 otherwise."""
    cut_off: CutOff = CutOff.SOFT
    passes: Passes = Passes.SOFT


@dataclass(frozen=True, slots=True)
class Escort:
    """Guests pass only after a host, at the same access point."""

    guests: frozenset[str]
    """Card types that need a host."""
    hosts: frozenset[str]
    """Card types that may be one."""
    within_s: int = 30
    guests_per_host: int = 1


@dataclass(frozen=True, slots=True)
class Responders:
    """Who may enter under lockdown, up to and including `up_to_level`: one of the card types or of the access classes."""

    card_types: frozenset[str]
    access_classes: frozenset[str]
    up_to_level: int


@dataclass(frozen=True, slots=True)
class MaxAges:
    """Oldest that trust data may be, from its own issue time; None: no limit."""

    issuer_list: timedelta | None = None
    status_list: timedelta | None = None
    crl: timedelta | None = None
    clock: timedelta | None = None
    """Longest time since the clock was last synchronised."""


@dataclass(frozen=True, slots=True)
class Zone:
    name: str
    carriers: frozenset[str] = DEFAULT_CARRIERS
    factors: int = 1
    """1: the presentation. 2: also an external second factor, such as a face terminal."""
    second_factor_s: int = 10
    """Seconds until the second factor's answer must have come."""
    antipassback: AntiPassback = AntiPassback()
    occupancy_limit: int | None = None
    escort: Escort | None = None
    two_person_s: int | None = None
    """Seconds within which a second person must follow; None: one person may enter alone."""
    responders: Responders | None = None
    visit_card_types: frozenset[str] = frozenset()
    """Card types that enter only on a visit record."""
    max_ages: MaxAges = MaxAges()
    clock_grace: timedelta = timedelta(0)
    """How long after start the zone takes entries without a trusted clock."""
    journal_full: JournalFull = JournalFull.REFUSE


@dataclass(frozen=True, slots=True)
class Point:
    """An access point: one direction through one barrier."""

    name: str
    direction: Direction
    from_zone: str
    to_zone: str
    entrance_group: str
    """Audience that a QR pass must name."""

    @property
    def zone(self) -> str:
        """The zone whose rules count: the one entered, or the one left."""
        return self.to_zone if self.direction is Direction.ENTRY else self.from_zone


@dataclass(frozen=True, slots=True)
class Profile:
    """Who may enter where and when. None: whatever the value. A profile only ever permits."""

    name: str
    doc_types: frozenset[str] | None
    issuers: frozenset[str] | None
    access_classes: frozenset[str] | None
    agencies: frozenset[str] | None
    card_types: frozenset[str] | None
    points: frozenset[str]
    """Entries, those of the zones it names among them."""
    schedule: str

    @property
    def attributes(self) -> tuple[frozenset[str] | None, ...]:
        """What it takes, in the order in which the rules look."""
        return (self.doc_types, self.issuers, self.access_classes, self.agencies, self.card_types)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a phone has to be asked for at an access point, and nothing else."""

    attributes: frozenset[str]
    """Of agency_code, card_type, access_class."""
    holder_handle: bool

    @property
    def asked(self) -> frozenset[str]:
        """`attributes`, and LEAST where a request would name nothing at all, which ISO/IEC 18013-5 8.3.2.1.2.1 does not allow."""
        return self.attributes if self.attributes or self.holder_handle else frozenset({LEAST})


@dataclass(frozen=True, slots=True)
class Policy:
    version: int
    timezone: ZoneInfo
    zones: Mapping[str, Zone]
    points: Mapping[str, Point]
    schedules: Mapping[str, Schedule]
    profiles: Mapping[str, Profile]
    rights: Mapping[str, PointRights] = field(repr=False, compare=False)
    """Profiles by access point, made for a fast look-up."""
    needs: Mapping[str, Needs] = field(repr=False, compare=False)
    """By access point."""

    def zone_of(self, point: str) -> Zone:
        """The zone whose rules count at `point`. Raises KeyError."""
        return self.zones[self.points[point].zone]
