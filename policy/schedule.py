"""When a schedule is open: weekly windows, public holidays, special days (ONVIF schedule and special-day terms).

For one date the first of these that speaks of it counts: a special day, a holiday the schedule has a rule for, the weekday. A
window over midnight belongs to the day on which it starts. Public holidays, substitute days included, come from `holidays`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache

import holidays

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MIN = 24 * 60
"""Minutes of a day."""
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """Minutes since local midnight of the day it starts on, half open; `end` beyond 1440 lies on the next day."""

    start: int
    end: int

    def __str__(self) -> str:
        over, minute = divmod(self.end, DAY_MIN) if self.end > DAY_MIN else (0, self.end)
        after = "+1" if over else ""
        return f"{self.start // 60:02}:{self.start % 60:02}-{minute // 60:02}:{minute % 60:02}{after}"


Windows = tuple[Window, ...]


@lru_cache(maxsize=512)
def public_holidays(country: str, year: int) -> frozenset[date]:
    """Public holidays of one year. Raises NotImplementedError for a country that `holidays` does not know."""
    return frozenset(holidays.country_holidays(country, years=year))


@dataclass(frozen=True, slots=True)
class Calendar:
    """Which dates are holidays here: those of `country` (ISO 3166-1; None: none), with `add` and without `remove`."""

    country: str | None = None
    add: frozenset[date] = frozenset()
    remove: frozenset[date] = frozenset()

    def is_holiday(self, day: date) -> bool:
        if day in self.add:
            return True
        return self.country is not None and day not in self.remove and day in public_holidays(self.country, day.year)


@dataclass(frozen=True, slots=True)
class Schedule:
    name: str
    days: tuple[Windows, ...]
    """Seven, Monday first."""
    holiday: Windows | None
    """Windows of a holiday, () closed; None: a holiday is like any other day."""
    special: Mapping[date, Windows]
    calendar: Calendar

    def windows_on(self, day: date) -> Windows:
        special = self.special.get(day)
        if special is not None:
            return special
        if self.holiday is not None and self.calendar.is_holiday(day):
            return self.holiday
        return self.days[day.weekday()]

    def weekday_windows(self, day: date) -> Windows:
        """What would count if `day` were neither special nor a holiday."""
        return self.days[day.weekday()]

    def open_at(self, local: datetime) -> bool:
        """`local`: the moment in the document's time zone."""
        return _open(self.windows_on, local)

    def ordinarily_open_at(self, local: datetime) -> bool:
        """Open, if holidays and special days did not exist."""
        return _open(self.weekday_windows, local)

    def ever_open(self) -> bool:
        return any(self.days) or bool(self.holiday) or any(self.special.values())


def _open(windows_on: Callable[[date], Windows], local: datetime) -> bool:
    day, minute = local.date(), local.hour * 60 + local.minute
    for window in windows_on(day):
        if window.start <= minute < window.end:
            return True
    minute += DAY_MIN
    return day > date.min and any(minute < window.end for window in windows_on(day - _ONE_DAY))
