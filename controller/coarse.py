"""Figures that move whenever somebody walks, told by the quarter hour and of no fewer than k: docs/adr/0022.

A counter that is read every fifteen seconds is a list of exact times. What is added here is shown once the quarter hour is over.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from datetime import datetime
from typing import Generic, TypeVar

QUARTER_S = 900
K = 5
"""As reports (docs/privacy.md)."""
MAX_VALUES = 10_000
"""Durations kept of a quarter hour, the last ones."""
T = TypeVar("T", bound=Hashable)


class Quarters:
    """Says when a quarter hour is over, by the wall clock."""

    def __init__(self, now: datetime) -> None:
        self._quarter = _quarter(now)

    def turned(self, now: datetime) -> bool:
        """Once for each quarter that ends. A clock that is set back by less than a quarter ends none twice."""
        quarter = _quarter(now)
        if quarter < self._quarter - 1:
            self._quarter = quarter
        if quarter <= self._quarter:
            return False
        self._quarter = quarter
        return True


def _quarter(now: datetime) -> int:
    return int(now.timestamp()) // QUARTER_S


class People:
    """A counter of people: it grows by k or more, or not at all. What is held back is added later."""

    def __init__(self, k: int = K) -> None:
        self._k, self._held, self.shown = k, 0, 0

    def add(self, n: int = 1) -> None:
        self._held += n

    def turn(self) -> None:
        if self._held >= self._k:
            self.shown, self._held = self.shown + self._held, 0


class Durations(Generic[T]):
    """Quantiles of the quarter hour that has ended, by key; never how many there were."""

    def __init__(self, quantiles: Sequence[float], least: int = K) -> None:
        """A key with fewer than `least` in a quarter is not shown in the next."""
        self._quantiles, self._least = tuple(quantiles), least
        self._values: dict[T, deque[float]] = {}
        self._shown: dict[T, tuple[float, ...]] = {}

    def add(self, key: T, value: float) -> None:
        values = self._values.get(key)
        if values is None:
            values = self._values[key] = deque(maxlen=MAX_VALUES)
        values.append(value)

    def turn(self) -> None:
        self._shown = {
            key: tuple(_quantile(sorted(values), each) for each in self._quantiles)
            for key, values in self._values.items()
            if len(values) >= self._least
        }
        self._values.clear()

    def items(self) -> Iterator[tuple[T, float, float]]:
        """Key, quantile and value."""
        for key, values in self._shown.items():
            for quantile, value in zip(self._quantiles, values, strict=True):
                yield key, quantile, value


def _quantile(rising: Sequence[float], quantile: float) -> float:
    """The least value that `quantile` (0 to 1) of all do not exceed."""
    return rising[max(0, math.ceil(quantile * len(rising)) - 1)]
