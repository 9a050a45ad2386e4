"""Alarms as a pure state machine: raised, acknowledged and cleared in either order, then closed; escalated while nobody looks.

Whether an alarm goes on is judged by the places of records in their gate's journal, never by the order in which they came: of
each key the last raise and the last end are remembered, which is the same whatever came first, twice or late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from controller.alarm_kinds import KINDS, RESTARTING
from controller.alarm_rows import AlarmRow, Key

LEVEL_TIMES = (1, 3)
"""An alarm is escalated when nobody has acknowledged it after its time, and once more after three times as long."""
MAX_GAP_S = 1800
"""More time than this between two moments of the wall clock, or less than none, is not believed: a clock may have been set. The
alarm then waits its time once more, which is better than that all are escalated at once."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Sequence numbers of the last record of one epoch that raised an alarm, and of the last that ended it; 0 for none."""

    raised: int = 0
    cleared: int = 0

    def with_raised(self, seq: int) -> Mark:
        return Mark(max(self.raised, seq), self.cleared)

    def with_cleared(self, seq: int) -> Mark:
        return Mark(self.raised, max(self.cleared, seq))


Marks = Mapping[str, Mark]
"""By epoch."""
NO_MARKS: Marks = {}
NO_MARK = Mark()


def goes_on(kind: str, order: Sequence[str], marks: Marks, boots: Marks) -> bool:
    """Whether the last word about an alarm is that it was raised. `order`: the gate's epochs, the newest last; `boots`: its
    starts, as marks that were raised."""
    restarts = kind in RESTARTING
    for epoch in reversed(order):
        mark = marks.get(epoch, NO_MARK)
        ended = max(mark.cleared, boots.get(epoch, NO_MARK).raised) if restarts else mark.cleared
        if mark.raised > ended:
            return True
        if ended or restarts:  # a new epoch is a new start
            return False
    return False


def newest(order: Sequence[str], marks: Marks) -> tuple[int, int]:
    """Place of the last raise, as index in `order` and sequence number; (-1, 0) for none."""
    for index in range(len(order) - 1, -1, -1):
        mark = marks.get(order[index], NO_MARK)
        if mark.raised:
            return index, mark.raised
    return -1, 0


def begin(alarm_id: int, key: Key, epoch: str, seq: int, count: int, occurred: str, moment: str) -> AlarmRow:
    gate, lane, kind, detail = key
    return AlarmRow(
        alarm_id, gate, lane, kind, detail, KINDS[kind].severity.value, epoch, seq, count, moment, moment, occurred
    )


def repeat(row: AlarmRow, count: int, moment: str) -> AlarmRow:
    return replace(row, count=row.count + count, last=moment)


def reopen(row: AlarmRow, moment: str) -> AlarmRow:
    """It had ended and nobody had acknowledged it."""
    return replace(row, cleared=None, last=moment)


def clear(row: AlarmRow, moment: str, operator: str | None = None, role: str | None = None) -> AlarmRow:
    """An operator who clears has looked."""
    row = replace(row, cleared=moment, cleared_by=operator, cleared_role=role)
    if operator is not None and row.acknowledged is None:
        row = replace(row, acknowledged=moment, operator=operator, role=role)
    needed = KINDS[row.kind].acknowledge and row.acknowledged is None
    return row if needed else replace(row, closed=moment)


def acknowledge(row: AlarmRow, moment: str, operator: str | None, role: str | None) -> AlarmRow:
    row = replace(row, acknowledged=moment, operator=operator, role=role)
    return row if row.active else replace(row, closed=moment)


def escalate(row: AlarmRow, level: int, moment: str) -> AlarmRow:
    return replace(row, level=level, escalated=moment)


def level_due(waited_s: float, after_s: float) -> int:
    """`after_s` 0: never."""
    return sum(waited_s >= after_s * times for times in LEVEL_TIMES) if after_s > 0 else 0


def believed_s(since: datetime, until: datetime) -> float:
    """Seconds between two moments of the wall clock, as far as a clock that was set is not what lies between them."""
    seconds = (until - since).total_seconds()
    return seconds if 0 <= seconds <= MAX_GAP_S else 0.0
