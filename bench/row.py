"""One figure: name, value, unit, floor, ratio, target, met. A table for people, JSON for the record."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    value: float
    unit: str
    floor: float | None = None
    """The same work without ours, measured in the same run, in the same unit."""
    target: float | None = None
    """A bound of the ratio where there is a floor, else of the value: an upper one, unless `lower`."""
    lower: bool = False
    """The target is the least that is wanted, as for so many a second."""

    @property
    def ratio(self) -> float | None:
        return None if not self.floor else self.value / self.floor

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        judged = self.ratio if self.floor else self.value
        return judged is not None and (judged >= self.target if self.lower else judged <= self.target)


def alternate(work: Sequence[Callable[[], object]], *, seconds: float, batch: int = 20) -> list[float]:
    """Median microseconds per call of each, in turns, so that all see the same noise."""
    samples: list[list[float]] = [[] for _ in work]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for index, call in enumerate(work):
            begin = time.perf_counter()
            for _ in range(batch):
                call()
            samples[index].append((time.perf_counter() - begin) / batch * 1e6)
    return [statistics.median(values) for values in samples]


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of all lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"


def table(rows: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = [
        "| name | value | unit | floor | ratio | target | met |",
        "| --- | ---: | --- | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        met = "" if row.met is None else "yes" if row.met else "NO"
        least = "≥ " if row.lower and row.target is not None else ""
        lines.append(
            f"| {row.name} | {_figure(row.value)} | {row.unit} | {_figure(row.floor)} | {_figure(row.ratio)} "
            f"| {least}{_figure(row.target)} | {met} |"
        )
    return "\n".join(lines)


def write(rows: Sequence[Row], path: Path) -> None:
    path.write_text(
        json.dumps([{**asdict(row), "ratio": row.ratio, "met": row.met} for row in rows], indent=1) + "\n", "utf-8"
    )
