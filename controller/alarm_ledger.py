"""The open alarms in memory and on the disk, and what one key becomes when something about it is new.

The picture in memory is that of the tables; a transaction that fails leaves both as they were. Everything belongs to the
store's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from controller import alarms
from controller.alarm_kinds import CLEARED_BY_OPERATORS, FULL, RESTARTING, word
from controller.alarm_rows import ACKNOWLEDGED, CLEARED, RAISED, AlarmChange, AlarmRow, AlarmUpdate, Key, changed
from controller.alarm_table import AlarmTable
from controller.alarms import NO_MARK, NO_MARKS, Marks
from controller.draft import Draft
from protocol.command import Operator
from protocol.events import Kind

MAX_OPEN, MAX_OPEN_OF_GATE = 5000, 500
"""Open alarms; beyond it a new one is not raised, and one alarm says so."""
MAX_KEYS_OF_GATE = 4096
"""Alarms of one gate of which places are remembered: 64 lanes with every kind of them are some 1,300."""
MAX_EPOCHS_OF_KEY = 4
BOOT, ACK = str(Kind.GATE_BOOT), "command.acknowledge"
"""Places of a gate's starts, and of acknowledgements at a lane, stand among the marks under these names."""


@dataclass(slots=True)
class Hit:
    """Events of one batch that raise one alarm."""

    count: int
    occurred: str
    epoch: str = ""
    seq: int = 0


class AlarmLedger:
    def __init__(self, connection: sqlite3.Connection, order: Callable[[str], Sequence[str]]) -> None:
        """`order` gives a gate's epochs, the newest last. Raises sqlite3.Error."""
        self._order_of = order
        self._table = AlarmTable(connection)
        self._rows: Draft[Key, AlarmRow] = Draft(self._table.open_rows())
        self._marks: Draft[Key, Marks] = Draft(self._table.marks())
        self._conditions: Draft[Key, bool] = Draft()
        """As they were last told since the start; one that is not here is not known."""
        self._keys: dict[str, set[Key]] = {}
        """By gate, of rows and marks; of a transaction that failed, some may be here that are nowhere else."""
        for key in (*self._rows.kept(), *self._marks.kept()):
            self._keys.setdefault(key[0], set()).add(key)
        self._ids = self._new_ids = self._table.last_ids()
        self._moment = ""
        self._touched: dict[int, AlarmRow] = {}
        self._changes: list[AlarmChange] = []
        self._orders: dict[str, Sequence[str]] = {}

    def write(self) -> None:
        """In the transaction, after everything was taken; `keep` follows or, where it failed, `forget`."""
        if self._touched or self._marks.changed:
            self._table.write(self._touched.values(), self._changes, self._marks.changed)

    def keep(self) -> AlarmUpdate:
        update = AlarmUpdate(list(self._touched.values()), self._changes)
        for key in (*self._rows.changed, *self._marks.changed):
            if self._rows.get(key) is None and self._marks.get(key) is None:
                self._keys[key[0]].discard(key)
        for draft in (self._rows, self._marks, self._conditions):
            draft.keep()
        self._ids = self._new_ids
        self._end()
        return update

    def forget(self) -> None:
        for draft in (self._rows, self._marks, self._conditions):
            draft.forget()
        self._new_ids = self._ids
        self._end()

    def _end(self) -> None:
        self._touched, self._changes, self._orders = {}, [], {}

    def _order(self, gate: str) -> Sequence[str]:
        found = self._orders.get(gate)
        if found is None:
            found = self._orders[gate] = self._order_of(gate)
        return found

    def _keys_of(self, gate: str) -> set[Key]:
        return self._keys.setdefault(gate, set())

    def _mark(self, key: Key, epoch: str, *, raised: int = 0, cleared: int = 0) -> bool:
        """Remember a place. False: this gate has too many alarms of different names."""
        keys, marks = self._keys_of(key[0]), self._marks.get(key) or NO_MARKS
        if key not in keys and len(keys) >= MAX_KEYS_OF_GATE and key[2] != BOOT:
            return False
        marks = {**marks, epoch: marks.get(epoch, NO_MARK).with_raised(raised).with_cleared(cleared)}
        if len(marks) > MAX_EPOCHS_OF_KEY:
            order = self._order(key[0])
            oldest = min(marks, key=lambda each: order.index(each) if each in order else -1)
            marks = {each: mark for each, mark in marks.items() if each != oldest}
        keys.add(key)
        self._marks.put(key, marks)
        return True

    def _condition(self, key: Key, *, holds: bool) -> None:
        if not self._differs(key, holds=holds):
            return
        self._conditions.put(key, holds)
        self._settle(key, Hit(1, self._moment) if holds and key[2] in CLEARED_BY_OPERATORS else None)
        if not holds and self._rows.get(key) is None:
            self._conditions.put(key, None)

    def _differs(self, key: Key, *, holds: bool) -> bool:
        known = self._conditions.get(key)
        return known is not holds and (known is not None or holds or self._rows.get(key) is not None)

    def _settle(self, key: Key, hit: Hit | None) -> None:
        """Bring one alarm to where its marks and conditions say it is."""
        row = self._rows.get(key)
        on = self._goes_on(key, row, hit)
        if hit is not None or (on and (row is None or not row.active)):
            row = self._raise(key, row, hit, on=on)
        if row is None:
            return
        if row.active and not on:
            row = self._cleared(row, None)
        if row.closed is None and row.acknowledged is None:
            self._acknowledge_as_at_gate(row)

    def _goes_on(self, key: Key, row: AlarmRow | None, hit: Hit | None) -> bool:
        gate, _, kind, _ = key
        if kind in CLEARED_BY_OPERATORS:
            return hit is not None or (row is not None and row.active)
        condition, marks = self._conditions.get(key), self._marks.get(key)
        if condition:
            return True
        boots = self._marks.get((gate, "", BOOT, "")) or NO_MARKS
        if marks is not None and alarms.goes_on(kind, self._order(gate), marks, boots):
            return True
        if marks is not None and kind in RESTARTING:
            # What is older than a start of its own epoch says nothing that the start does not say.
            left = {
                epoch: mark
                for epoch, mark in marks.items()
                if max(mark.raised, mark.cleared) > boots.get(epoch, NO_MARK).raised
            }
            if len(left) < len(marks):
                self._marks.put(key, left or None)
        # Raised by a condition that was not told again since the start: as it was.
        return condition is None and row is not None and not row.epoch and row.active

    def _raise(self, key: Key, row: AlarmRow | None, hit: Hit | None, *, on: bool) -> AlarmRow | None:
        if row is None:
            if not self._room(key):
                self._full(key[0])
                return None
            hit = hit or Hit(1, self._moment)
            self._new_ids = (self._new_ids[0] + 1, self._new_ids[1])
            row = alarms.begin(self._new_ids[0], key, hit.epoch, hit.seq, hit.count, hit.occurred, self._moment)
            self._keys_of(key[0]).add(key)
            return self._change(self._placed(row, hit), RAISED)
        if hit is not None:
            row = self._placed(alarms.repeat(row, hit.count, self._moment), hit)
        if on and not row.active:
            return self._change(alarms.reopen(row, self._moment), RAISED)
        return self._put(row)

    def _placed(self, row: AlarmRow, hit: Hit) -> AlarmRow:
        """With the place of its newest record."""
        order, marks = self._order(row.gate), self._marks.get(row.key)
        if marks is not None:
            index, seq = alarms.newest(order, marks)
            return row if index < 0 else replace(row, epoch=order[index], seq=seq)
        old, new = _place(order, row.epoch, row.seq), _place(order, hit.epoch, hit.seq)
        return replace(row, epoch=hit.epoch, seq=hit.seq) if new > old else row

    def _room(self, key: Key) -> bool:
        if key[2] == FULL:
            return True
        if len(self._rows) >= MAX_OPEN:
            return False
        return sum(self._rows.get(each) is not None for each in self._keys_of(key[0])) < MAX_OPEN_OF_GATE

    def _full(self, gate: str) -> None:
        self._settle(("", "", FULL, gate), Hit(1, self._moment))

    def _cleared(self, row: AlarmRow, operator: Operator | None) -> AlarmRow:
        name, role = (None, None) if operator is None else (operator.name, operator.role)
        return self._change(alarms.clear(row, self._moment, name, role), CLEARED)

    def _acknowledged(self, row: AlarmRow, name: str | None, role: str | None) -> AlarmRow:
        return self._change(alarms.acknowledge(row, self._moment, name, role), ACKNOWLEDGED)

    def _acknowledge_as_at_gate(self, row: AlarmRow) -> None:
        """Where somebody acknowledged at the lane after the last record that raised it."""
        marks = self._marks.get((row.gate, row.lane, ACK, "")) if row.lane and row.epoch else None
        if marks is None:
            return
        order = self._order(row.gate)
        index, seq = alarms.newest(order, marks)
        if (index, seq) <= _place(order, row.epoch, row.seq):
            return
        event = self._table.event(row.gate, order[index], seq)
        role = word(event, "op") if event is not None else ""
        who = self._table.who_ordered(word(event, "cmd")) if event is not None else None
        self._acknowledged(row, *(who or (None, role or None)))

    def _change(self, row: AlarmRow, change: str) -> AlarmRow:
        self._new_ids = (self._new_ids[0], self._new_ids[1] + 1)
        self._changes.append(changed(self._new_ids[1], row, change, self._moment))
        return self._put(row)

    def _put(self, row: AlarmRow) -> AlarmRow:
        self._touched[row.id] = row
        self._rows.put(row.key, None if row.closed is not None else row)
        return row


def _place(order: Sequence[str], epoch: str, seq: int) -> tuple[int, int]:
    """To compare with another of the same gate."""
    return (order.index(epoch) if epoch in order else -1), seq
