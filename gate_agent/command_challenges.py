"""Challenges for orders from afar: sixteen random bytes, ten seconds on the monotonic clock, one use.

No wall clock is asked, so that a wrong one neither locks the guard out nor lets an old order in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from protocol.command import CHALLENGE, CHALLENGE_S, Refused

MOST = 8
"""Given and neither used nor over; of more the oldest goes, so that asking for many bars nobody for longer than that."""
REMEMBERED = 64
"""Used ones by which a repetition is told from what this gate never gave."""


class CommandChallenges:
    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._given: dict[bytes, float] = {}
        """Until when each counts, oldest first."""
        self._used: deque[bytes] = deque(maxlen=REMEMBERED)

    def give(self, now: float) -> bytes:
        """`now`: monotonic seconds, here and below."""
        self._forget(now)
        if len(self._given) >= MOST:
            del self._given[next(iter(self._given))]
        challenge = self._random_bytes(CHALLENGE)
        self._given[challenge] = now + CHALLENGE_S
        return challenge

    def use(self, challenge: bytes, now: float) -> Refused | None:
        """Why it does not count; None: it did, once."""
        self._forget(now)
        if challenge in self._used:
            return Refused.REPLAYED
        if self._given.pop(challenge, None) is None:
            return Refused.LATE
        self._used.append(challenge)
        return None

    def _forget(self, now: float) -> None:
        for challenge in [each for each, until in self._given.items() if now >= until]:
            del self._given[challenge]
