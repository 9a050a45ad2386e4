"""Counts of durations in log-scaled buckets: each is ten per cent wider than the one before, from 0.1 ms to 100 s.

A percentile read from them is off by at most one bucket, whatever they were summed over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

LEAST_MS = 0.1
"""Upper edge of bucket 0; whatever is shorter counts there."""
GROWTH = 1.1
LAST = 145
"""The first bucket that reaches 100 s; whatever is longer counts there."""
_LOG = math.log(GROWTH)


def bucket_of(ms: float) -> int:
    """The bucket of a duration in milliseconds, 0 to LAST."""
    if not ms > LEAST_MS:  # also NaN
        return 0
    if ms >= upper_ms(LAST):
        return LAST
    found = max(0, math.ceil(math.log(ms / LEAST_MS) / _LOG))
    # The logarithm may be off by its last digit at an edge.
    if ms > upper_ms(found):
        return found + 1
    return found - 1 if found and ms <= upper_ms(found - 1) else found


def upper_ms(bucket: int) -> float:
    """The longest duration that counts in a bucket, milliseconds."""
    return float(LEAST_MS * GROWTH**bucket)


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """The upper edge, in milliseconds, of the bucket below which `share` (0 to 1) of all lie; None without any."""
    wanted = share * sum(counts.values())
    passed = 0
    for bucket in sorted(counts):
        passed += counts[bucket]
        if passed and passed >= wanted:
            return upper_ms(bucket)
    return None
