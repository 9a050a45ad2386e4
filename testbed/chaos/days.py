"""Planned load: when people come to a gate, over days, for a gate that has no uplink."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

PASSAGES_A_DAY = 5500
"""Of one gate: some 50,000 records in three days. Its busiest hour stays below the 20 passages a minute that a lane can take."""
WEIGHTS = (1, 1, 1, 1, 2, 4, 12, 40, 90, 40, 20, 30, 70, 60, 25, 20, 20, 30, 80, 40, 15, 8, 4, 2)
"""Share of each hour of the day, local time: arrival, lunch, leaving."""


def moments(start: datetime, hours: int, random: Random, passages_a_day: int = PASSAGES_A_DAY) -> Iterator[datetime]:
    """Times of passages in order, from `start` (aware, local time), each hour by its share."""
    for hour in range(hours):
        begin = start + timedelta(hours=hour)
        share = passages_a_day * WEIGHTS[begin.hour] / sum(WEIGHTS)
        count = int(share) + (random.random() < share % 1)
        yield from sorted(begin + timedelta(seconds=random.uniform(0, 3600)) for _ in range(count))
