"""Mistakes of a rules document, all of them at once: each with its place and what is expected, in Korean and English."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policy import limits


@dataclass(frozen=True, slots=True)
class Problem:
    """`place` is the key path in the document, "" for the document as a whole."""

    place: str
    ko: str
    en: str

    def __str__(self) -> str:
        return f"{self.place}: {self.en}" if self.place else self.en


class PolicyError(ValueError):
    """The document cannot be used. `problems` has every mistake, at least one; `place` and `expected` are the first's."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)
        self.place, self.expected = problems[0].place, problems[0].en

    @classmethod
    def one(cls, place: str, ko: str, en: str) -> PolicyError:
        return cls((Problem(place, ko, en),))


class Problems:
    """Collects mistakes in the order they are found; what goes beyond MAX_PROBLEMS is counted."""

    def __init__(self) -> None:
        self._found: list[Problem] = []
        self._more = 0

    def add(self, place: str, ko: str, en: str) -> None:
        if len(self._found) < limits.MAX_PROBLEMS:
            self._found.append(Problem(place, ko, en))
        else:
            self._more += 1

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_any(self) -> None:
        """Raises PolicyError if there is a mistake."""
        if self._more:
            self._found.append(Problem("", f"그 밖에 {self._more}건", f"and {self._more} more"))
        if self._found:
            raise PolicyError(self._found)
