"""The one back-off: exponential with full jitter, so that four hundred gates do not come back in the same second."""

from __future__ import annotations

from random import Random


class Backoff:
    """Seconds to wait before the next try: uniform in [base, min(cap, base * 2**n)]."""

    def __init__(self, base: float, cap: float, random: Random) -> None:
        if not 0 < base <= cap:
            raise ValueError("back-off wants 0 < base <= cap")
        self._base, self._cap, self._random, self._tries = base, cap, random, 0

    def next(self) -> float:
        top = min(self._cap, self._base * 2.0 ** min(self._tries, 60))
        self._tries += 1
        return self._random.uniform(self._base, top)

    def reset(self) -> None:
        self._tries = 0
