"""The external second factor (face terminal, PIN pad): one question per attempt, its time-out, its one answer. No I/O.

The device is asked with the attempt's random id and nothing else; it answers with that id. What it saw stays with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from policy.situation import SecondFactor


@dataclass(frozen=True, slots=True)
class Question:
    """One attempt that waits for its second factor. Times are monotonic seconds."""

    attempt: str
    asked_at: float
    timeout_s: float

    @property
    def deadline(self) -> float:
        return self.asked_at + self.timeout_s

    def answered(self, attempt: str, *, passed: bool, at: float) -> SecondFactor | None:
        """What an answer means; None for one to another attempt, which changes nothing. A late one is a time-out."""
        if attempt != self.attempt:
            return None
        if at >= self.deadline:
            return SecondFactor.TIMEOUT
        return SecondFactor.PASSED if passed else SecondFactor.FAILED

    def looked_at(self, at: float) -> SecondFactor | None:
        """TIMEOUT once the time is over, None before."""
        return SecondFactor.TIMEOUT if at >= self.deadline else None
