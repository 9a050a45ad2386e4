"""Which profiles take these attributes, in a time that does not grow with the number of profiles.

Every profile of a zone is one bit; each attribute's value has the mask of the profiles that take it, so a decision is a handful
of look-ups and ANDs. A value that no rule names has the mask of the profiles that take any value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from policy.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Match:
    """Masks of one attribute."""

    by_value: Mapping[str, int]
    rest: int
    """For any other value."""

    def of(self, value: str) -> int:
        return self.by_value.get(value, self.rest)

    @classmethod
    def index(cls, allowed: Iterable[Collection[str] | None]) -> Match:
        """`allowed`: what each profile takes, in the order of the bits; None for any value."""
        rest = 0
        named: dict[str, int] = {}
        for bit, values in enumerate(allowed):
            if values is None:
                rest |= 1 << bit
            else:
                for value in values:
                    named[value] = named.get(value, 0) | 1 << bit
        return cls({value: mask | rest for value, mask in named.items()}, rest)

    def unasked(self) -> Match:
        """For an access point whose own rules do not look at the attribute: every value counts as any other."""
        return Match({}, self.rest)


@dataclass(frozen=True, slots=True)
class PointRights:
    """The profiles that lead into a zone, seen from one of its access points."""

    names: Sequence[str]
    """Of the profiles, in the order of the bits."""
    every: int
    here: int
    """Those that name this access point."""
    doc_type: Match
    issuer: Match
    access_class: Match
    agency_code: Match
    card_type: Match
    schedules: Sequence[tuple[Schedule, int]]
    """Each schedule with the profiles of this access point that follow it."""

    def profiles(self, mask: int) -> list[str]:
        return [name for bit, name in enumerate(self.names) if mask >> bit & 1]


NOBODY = PointRights((), 0, 0, *(Match({}, 0),) * 5, ())
"""An exit's: no profile speaks of it."""
