"""What a part of a run comes to, and the table at its end."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from testbed.chaos.compare import Comparison, Difference, What
from testbed.chaos.plan import KILLS, PARTITIONS, Action

SHOWN = 10
"""Differences that are listed one by one."""


@dataclass(frozen=True, slots=True)
class Tally:
    part: str
    kills: int = 0
    partitions: int = 0
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    """By gate."""
    waiting: int = 0
    """Records that were still not acknowledged when the time for it was over."""
    untold: int = 0
    """Refusals that are neither recorded nor counted in a `log.gap`."""
    skipped: str = ""
    """Why the part could not be run here; Korean and English."""
    failed: str = ""
    """What of the rig itself did not work."""

    @property
    def records(self) -> int:
        return sum(each.records for each in self.comparisons.values())

    @property
    def lost(self) -> int:
        return sum(each.lost for each in self.comparisons.values()) + self.untold

    @property
    def doubled(self) -> int:
        return sum(each.doubled for each in self.comparisons.values())

    @property
    def unexplained(self) -> int:
        """Differences of every other kind."""
        return sum(len(each.differences) - each.lost - each.doubled for each in self.comparisons.values())

    @property
    def explained(self) -> int:
        return sum(each.explained + each.told for each in self.comparisons.values())

    @property
    def passed(self) -> bool:
        """Also of a part that was skipped, which claims nothing."""
        return not (self.lost or self.doubled or self.unexplained or self.waiting or self.failed)

    def differences(self) -> list[tuple[str, Difference]]:
        return [(gate, each) for gate, found in self.comparisons.items() for each in found.differences]


def of_actions(played: Counter[Action]) -> tuple[int, int]:
    """Kills and partitions among what was played."""
    return sum(played[each] for each in KILLS), sum(played[each] for each in PARTITIONS)


_COLUMNS = (
    ("부분 part", 24, "part"),
    ("강제 종료 kills", 16, "kills"),
    ("단절 partitions", 16, "partitions"),
    ("기록 records", 13, "records"),
    ("유실 lost", 10, "lost"),
    ("중복 doubled", 13, "doubled"),
    ("설명된 누락 explained", 22, "explained"),
    ("그 밖의 차이 other", 19, "unexplained"),
    ("미확인 waiting", 15, "waiting"),
)


def _wide(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def table(tallies: Sequence[Tally]) -> list[str]:
    """Lines for a terminal, the sum last."""
    lines = ["".join(f"{head}{' ' * (width - _wide(head))}" for head, width, _ in _COLUMNS).rstrip()]
    for tally in tallies:
        if tally.skipped:
            width = _COLUMNS[0][1]
            lines.append(f"{tally.part:<{width}}건너뜀 skipped: {tally.skipped}")
        else:
            cells = "".join(f"{getattr(tally, name)!s:<{width}}" for _, width, name in _COLUMNS)
            lines.append(f"{cells}{'' if tally.passed else '✖'}".rstrip())
    return [*lines, *_details(tallies)]


def _details(tallies: Iterable[Tally]) -> Iterable[str]:
    for tally in tallies:
        if tally.failed:
            yield f"{tally.part}: {tally.failed}"
        found = tally.differences()
        kinds = Counter(difference.what for _, difference in found)
        if kinds:
            yield f"{tally.part}: {', '.join(f'{what} {kinds[what]}' for what in What if kinds[what])}"
        yield from (f"  {gate} {each.epoch} {each.seq}: {each.what}" for gate, each in found[:SHOWN])
