"""Which records are asked for again, and when: holes that stay, and gates whose state says more than was received.

A hole is asked for when nothing has filled it for some seconds, again with the one back-off, and not all gates at once: after a
database was restored from a backup every gate of a building has a hole. Pure: the time is passed in, nothing is sent from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from controller.batch import Key, Standing
from protocol.backoff import Backoff
from protocol.replay import Replay

WAIT_S = 3.0
"""What is only delayed comes within this time."""
AGAIN_BASE_S, AGAIN_CAP_S = 5.0, 60.0
AT_ONCE = 32
"""Gates that are being waited for; the next one's turn comes when one of them has answered, or does not."""
TURN_S = 60.0
"""The longest turn, however slowly a gate answers."""
WIDER, WIDEST = 256, 65_536
"""Records asked for at least once another hole has followed the one before, fourfold each time: a store may hold scattered
records of what it has lost, and each hole by itself takes seconds. What is held already comes twice, and is known."""


@dataclass(slots=True)
class _Hole:
    first: int
    last: int
    by_state: bool
    """Only the gate's state tells of it; nothing is held beyond."""
    due: float
    """When to ask next."""
    backoff: Backoff
    waiting_until: float = 0.0
    """Its answer is being waited for."""
    turn_ends: float = 0.0
    width: int = 0
    """Records to ask for at least."""
    asked_to: int = 0
    """The last record that was asked for."""


class Replays:
    """Times are monotonic seconds."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._heads: dict[str, tuple[str, int]] = {}
        self._holes: dict[Key, _Hole] = {}

    @property
    def holes(self) -> dict[Key, tuple[int, int]]:
        """First and last record of each hole that is known."""
        return {key: (hole.first, hole.last) for key, hole in self._holes.items()}

    def note(self, standings: Mapping[Key, Standing], heads: Mapping[str, tuple[str, int]], now: float) -> None:
        """After each commit. `heads` are the gates' own words; `standings` has every chain that they name."""
        for gate, (epoch, _) in heads.items():
            before = self._heads.get(gate)
            if before is not None and before[0] != epoch:
                stale = self._holes.get((gate, before[0]))
                if stale is not None and stale.by_state:
                    del self._holes[gate, before[0]]
        self._heads.update(heads)
        for key, standing in standings.items():
            last = self._missing(key, standing)
            hole = self._holes.get(key)
            if last is None:
                if hole is not None:
                    del self._holes[key]
            elif hole is None:
                backoff = Backoff(AGAIN_BASE_S, AGAIN_CAP_S, self._random)
                self._holes[key] = _Hole(standing.mark + 1, last, standing.ahead is None, now + WAIT_S, backoff)
            elif hole.first == standing.mark + 1:
                hole.last, hole.by_state = last, standing.ahead is None
            else:  # it is being filled
                if 0 < hole.asked_to <= standing.mark:  # all that was asked for has come, and another hole follows
                    hole.width = min(max(hole.width * 4, WIDER), WIDEST)
                    hole.asked_to = 0
                hole.first, hole.last, hole.by_state = standing.mark + 1, last, standing.ahead is None
                hole.due = now + WAIT_S
                hole.backoff.reset()
                if hole.waiting_until > now:
                    hole.waiting_until = hole.due

    def _missing(self, key: Key, standing: Standing) -> int | None:
        """The last record of the first hole."""
        if standing.stopped:
            return None
        if standing.ahead is not None:
            return standing.ahead - 1
        epoch, seq = self._heads.get(key[0], ("", 0))
        return seq if epoch == key[1] and seq > standing.mark else None

    def due(self, now: float) -> list[tuple[str, Replay]]:
        """What to ask now, by gate; it counts as asked. Those that wait longest come first."""
        free = AT_ONCE - sum(hole.waiting_until > now and hole.turn_ends > now for hole in self._holes.values())
        ready = sorted((hole.due, key) for key, hole in self._holes.items() if hole.due <= now)
        found = []
        for _, key in ready[: max(free, 0)]:
            hole = self._holes[key]
            if hole.turn_ends <= now:
                hole.turn_ends = now + TURN_S
            hole.due = hole.waiting_until = now + hole.backoff.next()
            hole.asked_to = max(hole.last, hole.first + hole.width - 1)
            found.append((key[0], Replay(key[1], hole.first, hole.asked_to)))
        return found
