"""Each message of a gate once: its epoch grows with every start, its sequence with every message (as RFC 4303 3.4.3 does it).

What slips through after this gate's own restart does no harm: all that a message says is a member of a set or the greater of
two numbers, and a reservation names the time at which it ends.
"""

from __future__ import annotations

WIDTH = 1024
"""Messages of one gate that may overtake each other."""


class ReplayWindow:
    def __init__(self) -> None:
        self._epoch = self._highest = self._seen = 0

    def accept(self, epoch: int, seq: int) -> bool:
        """False: seen before, or too old to tell."""
        if epoch < self._epoch:
            return False
        if epoch > self._epoch:
            self._epoch, self._highest, self._seen = epoch, 0, 0
        ahead = seq - self._highest
        if ahead > 0:
            # Bit n stands for the sequence number n below the highest.
            self._seen = ((self._seen << ahead) | 1) & ((1 << WIDTH) - 1) if ahead < WIDTH else 1
            self._highest = seq
            return True
        if -ahead >= WIDTH or seq < 1 or self._seen >> -ahead & 1:
            return False
        self._seen |= 1 << -ahead
        return True
