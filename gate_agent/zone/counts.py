"""How many people are inside: what each gate has counted in and out since the count began, added up. Of nobody in particular.

Each gate writes its own row alone, and rows only grow within a day, so the greater of two copies is the newer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from gate_agent.zone.facts import Limits
from gate_agent.zone.store import Change, Op
from protocol.zone import CountRow

_MOST = 2**32 - 1


class Counts:
    def __init__(self, zone: str, origin: bytes, day: int, rows: Iterable[CountRow] = ()) -> None:
        self._zone, self._origin = zone, origin
        self._rows = {each.origin: each for each in rows}
        self._day = day
        self._rows.setdefault(origin, CountRow(origin, day, 0, 0))
        self.changes: list[Change] = []
        self.roll(day)

    @property
    def own(self) -> CountRow:
        return self._rows[self._origin]

    @property
    def total(self) -> int:
        """Entered minus left; free ways out may count more people than came in, which is nobody, not fewer."""
        today = [each for each in self._rows.values() if each.day == self._day]
        return max(0, sum(each.entered - each.left for each in today))

    def others(self) -> list[CountRow]:
        return [each for each in self._rows.values() if each.origin != self._origin and each.day == self._day]

    def rows(self) -> Iterator[Change]:
        return (self._row(each) for each in self._rows.values())

    def roll(self, day: int) -> None:
        """Begin again at zero on another day. A row of tomorrow, from a gate whose clock is ahead, stays."""
        self._day = day
        for each in list(self._rows.values()):
            if each.day == day or (each.day == day + 1 and each.origin != self._origin):
                continue
            del self._rows[each.origin]
            self.changes.append((Op.DELETE_COUNT, (self._zone, each.origin)))
        if self._origin not in self._rows:
            self._put(CountRow(self._origin, day, 0, 0))

    def passed(self, *, inward: bool) -> None:
        own = self.own
        if inward:
            self._put(replace(own, entered=min(own.entered + 1, _MOST)))
        else:
            self._put(replace(own, left=min(own.left + 1, _MOST)))

    def merge(self, row: CountRow) -> bool:
        """False: no room for one gate more."""
        if row.origin == self._origin or not self._day <= row.day <= self._day + 1:
            return True
        known = self._rows.get(row.origin)
        if known is None and len(self._rows) >= Limits.COUNT_ROWS:
            return False
        if known is not None and known.day > row.day:
            return True
        if known is not None and known.day == row.day:
            row = replace(row, entered=max(row.entered, known.entered), left=max(row.left, known.left))
        if row != known:
            self._put(row)
        return True

    def _put(self, row: CountRow) -> None:
        self._rows[row.origin] = row
        self.changes.append(self._row(row))

    def _row(self, row: CountRow) -> Change:
        return Op.PUT_COUNT, (self._zone, row.origin, row.day, row.entered, row.left)
