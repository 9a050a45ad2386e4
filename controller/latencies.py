"""How long decisions took, from the rolled-up histograms.

Only what is counted in quarters whose passages are told at all, and by carriers with k decisions there: so a percentile or a
number of decisions tells nothing of the others (docs/adr/0021-k-suppression.md).
"""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict
from collections.abc import Mapping

from controller.histogram import percentile
from controller.query_rows import Percentiles
from controller.reader import Reader

LOOK_AGAIN_S = 900.0
"""For lanes that people pass in both directions: a look at every day that is kept."""
MAX_CACHED = 3000
"""Quarters of the whole building, by stage."""

Histograms = Mapping[tuple[int, str], Mapping[int, int]]
"""By quarter and carrier: counts by bucket."""


class Latencies:
    def __init__(self, reader: Reader, k: int) -> None:
        self._reader, self._k = reader, k
        self._kept: OrderedDict[tuple[str, int], tuple[int, dict[str, Counter[int]]]] = OrderedDict()
        """By stage and quarter: the passages that were counted then, and histograms by carrier."""
        self._both, self._due = "[]", -math.inf

    def percentiles(
        self, quarters: range, *, gate: str | None, lane: str | None, carrier: str | None, stage: str
    ) -> Percentiles:
        counts: Counter[int] = Counter()
        if gate is None:
            for by_carrier in self._of_building(quarters, stage):
                for name, histogram in by_carrier.items():
                    if carrier in (None, name):
                        counts.update(histogram)
        else:
            for histogram_ in self._histograms(quarters, gate, lane, carrier, stage).values():
                counts.update(histogram_)
        p50, p95, p99 = (percentile(counts, share) for share in (0.5, 0.95, 0.99))
        return Percentiles(p50, p95, p99, sum(counts.values()))

    def _both_ways(self) -> str:
        """Lanes that people have ever passed both ways, as JSON: one direction alone would tell that the other is empty."""
        now = self._reader.clock.monotonic()
        if now >= self._due:
            rows = self._reader.rows(
                "SELECT gate || '/' || lane FROM days WHERE kind = 'passage.completed' GROUP BY gate, lane "
                "HAVING count(DISTINCT dir) > 1"
            )
            self._both, self._due = json.dumps([name for (name,) in rows]), now + LOOK_AGAIN_S
        return self._both

    def _of_building(self, quarters: range, stage: str) -> list[dict[str, Counter[int]]]:
        """A quarter that is over changes only by late records, and then the number of its passages does."""
        passed = dict(
            self._reader.rows(
                "SELECT quarter, sum(n) FROM quarters WHERE kind = 'passage.completed' AND quarter >= ? AND quarter < ? "
                "GROUP BY quarter",
                (quarters.start, quarters.stop),
            )
        )
        missing = [quarter for quarter, n in passed.items() if self._kept.get((stage, quarter), (0,))[0] != n]
        if missing:
            new: dict[int, dict[str, Counter[int]]] = {quarter: {} for quarter in passed}
            found = self._histograms(range(min(missing), max(missing) + 1), None, None, None, stage)
            for (quarter, carrier), counts in found.items():
                if quarter in new:
                    new[quarter][carrier] = Counter(counts)
            for quarter, n in passed.items():
                if min(missing) <= quarter <= max(missing):
                    self._kept[stage, quarter] = (n, new[quarter])
        told = [self._kept[stage, quarter][1] for quarter in passed]
        while len(self._kept) > MAX_CACHED:
            self._kept.popitem(last=False)
        return told

    def _histograms(
        self, quarters: range, gate: str | None, lane: str | None, carrier: str | None, stage: str
    ) -> Histograms:
        of_gate = "" if gate is None else "AND gate = :gate"
        rows = self._reader.rows(
            "WITH told AS MATERIALIZED (SELECT quarter, gate, lane FROM quarters WHERE kind = 'passage.completed' "  # noqa: S608
            f"AND quarter >= :first AND quarter < :last {of_gate} GROUP BY quarter, gate, lane HAVING min(n) >= :k "
            "AND (count(DISTINCT dir) > 1 OR gate || '/' || lane NOT IN (SELECT value FROM json_each(:both)))), "
            "cells AS MATERIALIZED (SELECT quarter, gate, lane, carrier FROM latencies WHERE stage = :stage "
            f"AND quarter >= :first AND quarter < :last {of_gate} AND lane = coalesce(:lane, lane) "
            "AND carrier = coalesce(:carrier, carrier) GROUP BY quarter, gate, lane, carrier HAVING sum(n) >= :k) "
            "SELECT l.quarter, l.carrier, l.bucket, sum(l.n) FROM cells c CROSS JOIN latencies l "
            "ON l.gate = c.gate AND l.stage = :stage AND l.quarter = c.quarter AND l.lane = c.lane AND l.carrier = c.carrier "
            "WHERE (c.quarter, c.gate, c.lane) IN (SELECT quarter, gate, lane FROM told) "
            "GROUP BY l.quarter, l.carrier, l.bucket",
            {
                "gate": gate,
                "lane": lane,
                "carrier": carrier,
                "stage": stage,
                "first": quarters.start,
                "last": quarters.stop,
                "k": self._k,
                "both": self._both_ways(),
            },
        )
        found: dict[tuple[int, str], dict[int, int]] = {}
        for quarter, name, bucket, n in rows:
            found.setdefault((quarter, name), {})[bucket] = n
        return found
