"""What a zone's state is told and what it says: settings, moments, findings, effects, reasons for dropping a message."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import StrEnum

from protocol.clock import Clock


class Fact(StrEnum):
    """What the decision asks: is this person inside already?"""

    NOT_ASKED = "not_asked"
    """The zone has no anti-passback here."""
    CLEAR = "clear"
    """Not known to be inside."""
    INSIDE = "inside"
    """Has entered and not left, or is entering at another lane at this moment."""
    RECENT = "recent"
    """Timed anti-passback: has entered within the time."""
    CUT_OFF = "cut_off"
    """This gate does not know what the others know; `Finding.local` is what it knows alone."""
    NO_HANDLE = "no_handle"
    """Nothing to make a tag of: a QR pass, or a document without holder_handle."""


@dataclass(frozen=True, slots=True)
class Finding:
    fact: Fact
    local: Fact
    """The same question answered from this gate's own knowledge; differs from `fact` only where that is CUT_OFF."""
    forgiven: bool = False
    """A guard has forgiven the next entry at this lane: both facts are CLEAR for that."""

    def under(self, *, local_counts: bool) -> Fact:
        """The one fact for the decision. Where the zone lets local knowledge count while cut off, what this gate has against
        the person; CUT_OFF where it has nothing."""
        if self.fact is Fact.CUT_OFF and local_counts and self.local is not Fact.CLEAR:
            return self.local
        return self.fact


@dataclass(frozen=True, slots=True)
class Moment:
    """Both clocks at one moment: days and stamps go by the wall clock, waiting times by the one that never steps."""

    wall: datetime
    """Aware."""
    mono: float
    """Seconds."""

    @classmethod
    def of(cls, clock: Clock) -> Moment:
        return cls(clock.now(), clock.monotonic())

    @property
    def ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self.wall.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class ZoneSettings:
    """One zone with anti-passback, as every gate of the zone must have it. Times in seconds."""

    zone: str
    timezone: tzinfo = UTC
    roll_at: time = time(4)
    """Local time at which a tag period begins: a quiet hour."""
    reset_at: time = time(4)
    """Local time at which the count of people begins again at zero."""
    window: timedelta | None = None
    """Timed anti-passback: an entry counts for so long. None: until the exit."""
    reserve_s: float = 60.0
    """A reservation that nobody settles is over after this long; longer than a lane stays granted and passing."""
    cut_off_s: float = 30.0
    """A lost link counts as cut off after this long."""
    overlap_s: float = 600.0
    """How long the tags of the period before are still kept and exchanged."""
    max_tags: int = 100_000
    """Tags of one period; a person who would be one more is not remembered."""


@dataclass(frozen=True, slots=True)
class EnteredTwice:
    """Somebody has entered who had entered already and not left, or one QR pass has opened two lanes: `antipassback.soft` with
    zone and count."""

    zone: str
    count: int


@dataclass(frozen=True, slots=True)
class CutOff:
    """The zone is cut off (True) or joined again (False), as a flag for events and health."""

    zone: str
    cut_off: bool


@dataclass(frozen=True, slots=True)
class Full:
    """The zone holds as many tags as it may; once per period."""

    zone: str


Effect = EnteredTwice | CutOff | Full


class Drop(StrEnum):
    """Why a message of another gate changed nothing."""

    OWN = "own"
    """Our own, heard back: no fault."""
    NOT_A_TOPIC = "not_a_topic"
    OTHER_SITE = "other_site"
    OTHER_ZONE = "other_zone"
    MALFORMED = "malformed"
    """Wrong size, wrong version, or open and yet not what a gate would say."""
    OLD_PERIOD = "old_period"
    FUTURE_PERIOD = "future_period"
    NO_KEY = "no_key"
    FORGED = "forged"
    """Does not open: forged, cut, or of another gate, zone or key."""
    REPLAYED = "replayed"
    TOO_MANY_GATES = "too_many_gates"
    FROM_THE_FUTURE = "from_the_future"
    """Stamped later than clocks may differ."""
    FULL = "full"
    """Movements of tags for which there is no room."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """To be published with QoS 1, not retained."""

    topic: str
    payload: bytes


class Limits:
    """Bounds of one zone's memory, and the exchange's own times (seconds)."""

    KEEP = 4
    """Movements kept of a tag: enough to see a double entry when two gates that could not hear each other meet again."""
    QUEUE = 1024
    """Messages waiting to be published; beyond it the oldest is dropped, and the next comparison makes up for it."""
    PENDING = 1024
    """Attempts of this gate without outcome."""
    PENDING_S = 600.0
    """After this the lane will not speak of an attempt any more."""
    RESERVATIONS = 4096
    COUNT_ROWS = 256
    MARKS = 4096
    """QR passes used within their seconds; the oldest is forgotten first."""
    MARK_S = 600.0
    """A pass cannot be fresh for longer than this."""
    SKEW_S = 120.0
    """A stamp further ahead of this gate's clock is not believed."""
    DIGEST_S = 30.0
    """Between two comparisons that nothing has caused."""
    ANSWER_S = 2.0
    """The same share of the tags is not sent again sooner, nor a comparison in answer to one."""
    GREET_S = 0.25
    """The same while a gate joins: it waits for the answer."""
    ASK_S = 5.0
    """One question at a time: a new one after an answer or after this long."""
    SETTLE_S = 10.0
    """A gate that has its link back and hears nobody for this long is alone, and knows what there is to know."""
    SUSPECT_S = 10.0
    """A double entry that came to light by an exchange is judged so much later: the exit between may still be on its way."""
    FORGIVE_LANE_S = 60.0
    MIN_HANDLE, MAX_HANDLE = 16, 64
    """Bytes of a holder_handle; a shorter one could be guessed by whoever holds the zone key."""
