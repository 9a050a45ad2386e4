"""What time it is for retention: a clock set wrong, here or at a gate, must neither delete what is new nor keep what is old.

The controller's own clock is believed as far as it goes on as time does. A jump of more than a day is believed when most of the
gates that are heard name the new time too, or when for a day none of them contradicts. Until then time goes on from what was
believed before, by the monotonic clock. docs/store.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from protocol.clock import Clock

JUMP = timedelta(days=1)
"""A change of the clock up to this is believed at once; and so far a gate's time may be off to agree."""
HEARD_S = 86400.0
"""A gate counts as a witness for so long; and for so long a jump waits where there is none."""
EARLY, LATE = timedelta(hours=1), timedelta(days=60)
"""A record that names a time further ahead, or further back, does not know the time: no gate is cut off for so long."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a record that is counted now may name as its time, and what counts for one that names another."""

    earliest: datetime
    latest: datetime
    instead: datetime


class SiteTime:
    """Not for several threads."""

    def __init__(self, clock: Clock, kept: datetime | None) -> None:
        """`kept`: what was believed last, before a restart. None: nothing is stored yet."""
        self._clock = clock
        self._believed, self._at = kept or clock.now(), clock.monotonic()
        self._heard: dict[str, tuple[datetime, float]] = {}
        """By gate: the time its last record named, and when that was (monotonic)."""
        self._strange: float | None = None
        """Monotonic time since which the clock is not where it should be."""

    @property
    def doubted(self) -> bool:
        """The controller's clock has jumped, and nobody confirms it."""
        return self._strange is not None

    def window(self) -> Window:
        believed = self.now()
        # While the clock is doubted it may be right all the same; retention takes back what proves too late.
        latest = max(believed, self._clock.now())
        return Window(believed - LATE, latest + EARLY, latest)

    def hear(self, times: Mapping[str, datetime]) -> None:
        """By gate, the time that its newest record names."""
        at = self._clock.monotonic()
        self._heard.update((gate, (time, at)) for gate, time in times.items())

    def now(self) -> datetime:
        clock, at = self._clock.now(), self._clock.monotonic()
        expected = self._believed + timedelta(seconds=at - self._at)
        if abs(clock - expected) <= JUMP or self._confirmed(clock, expected, at):
            expected, self._strange = clock, None
        self._believed, self._at = expected, at
        return expected

    def _confirmed(self, clock: datetime, expected: datetime, at: float) -> bool:
        if self._strange is None:
            self._strange = at
        self._heard = {gate: heard for gate, heard in self._heard.items() if at - heard[1] <= HEARD_S}
        times = [time for time, _ in self._heard.values()]
        agree = sum(abs(time - clock) <= JUMP for time in times)
        against = sum(abs(time - expected) <= JUMP for time in times)
        return agree > against or (not against and at - self._strange >= HEARD_S)
