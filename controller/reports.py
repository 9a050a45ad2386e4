"""Passages as a file: CSV for a spreadsheet, JSON for a program. What is left out is shown as fewer than k, totals as at least.

Every number in it is one of controller.counted's or a sum of these, so that a report tells nothing that the pages do not.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from controller.counted import MAX_CELLS, Lane, too_much
from controller.query_rows import Cell

BOM = "\ufeff"
"""Without it a spreadsheet reads Korean as another character set."""
HEADER = ("시작 begin", "게이트 gate", "통로 lane", "방향 direction", "통과 passages")
DAY_HEADER = (*HEADER[:-1], "통과(이상) passages, at least")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


@dataclass(frozen=True, slots=True)
class Report:
    step: str
    k: int
    time_zone: ZoneInfo
    rows: Sequence[tuple[str, str, str, str, int | None]]
    """Begin, gate, lane, direction, passages; None: fewer than k, perhaps nobody."""

    @classmethod
    def of(cls, cells: Iterable[Cell], grid: Sequence[str], *, step: str, k: int, time_zone: ZoneInfo) -> Report:
        """Every lane that anything is told of, at every beginning of the grid. Raises BadQueryError."""
        told = {(cell.begin, (cell.gate, cell.lane, cell.dir)): cell.n for cell in cells}
        lanes = sorted({lane for _, lane in told})
        if len(lanes) * len(grid) > 2 * MAX_CELLS:
            raise too_much()
        return cls(step, k, time_zone, [(begin, *lane, told.get((begin, lane))) for begin in grid for lane in lanes])

    def csv(self) -> str:
        """RFC 4180 with CRLF and a byte order mark; times by the site's clock."""
        out = io.StringIO()
        out.write(BOM)
        writer = csv.writer(out)
        writer.writerow(DAY_HEADER if self.step == "day" else HEADER)
        hidden = f"<{self.k}"
        writer.writerows(
            (self._local(begin), *map(_plain, words), hidden if n is None else n) for begin, *words, n in self.rows
        )
        return out.getvalue()

    def json(self) -> dict[str, Any]:
        """`passages` null: fewer than k. `totals`: sums of what is told, so at least."""
        totals: Counter[Lane] = Counter()
        for _, gate, lane, direction, n in self.rows:
            totals[gate, lane, direction] += n or 0
        return {
            "step": self.step,
            "k": self.k,
            "time_zone": self.time_zone.key,
            "rows": [
                {"begin": begin, "gate": gate, "lane": lane, "dir": direction, "passages": n}
                for begin, gate, lane, direction, n in self.rows
            ],
            "totals": [
                {"gate": gate, "lane": lane, "dir": direction, "at_least": n}
                for (gate, lane, direction), n in sorted(totals.items())
            ],
        }

    def _local(self, begin: str) -> str:
        if self.step == "day":
            return begin
        return datetime.fromisoformat(begin).astimezone(self.time_zone).strftime("%Y-%m-%d %H:%M")


def _plain(word: str) -> str:
    """Names come from gates: none may be a formula in somebody's spreadsheet."""
    return f"'{word}" if word.startswith(FORMULA) else word
