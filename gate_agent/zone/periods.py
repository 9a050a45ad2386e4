"""Tag periods and days of the count: both are days that begin at a local time of their own."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo


def day_of(moment: datetime, begins: time, timezone: tzinfo) -> int:
    """date.toordinal() of the local date on which the day that `moment` lies in began."""
    local = moment.astimezone(timezone)
    ordinal = local.date().toordinal()
    return ordinal if local.time() >= begins else ordinal - 1


def begin_of(day: int, begins: time, timezone: tzinfo) -> datetime:
    """When that day began, UTC."""
    return datetime.combine(date.fromordinal(day), begins, timezone).astimezone(UTC)


def since_begin(moment: datetime, begins: time, timezone: tzinfo) -> timedelta:
    """How long the day that `moment` lies in has lasted."""
    return moment.astimezone(UTC) - begin_of(day_of(moment, begins, timezone), begins, timezone)
