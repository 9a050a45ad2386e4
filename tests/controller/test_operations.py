"""Orders, alarms and their history, page by page."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.query_rows import BadQueryError, Cursor
from protocol.clock import rfc3339
from tests.controller.past import DAY, Past


def order(past: Past, number: int, second: int) -> None:
    past.db.execute(
        "INSERT INTO orders VALUES (?,?,'gate-1','l1','open_once','{\"reason\":\"visitor\"}','Kim','guard',NULL,NULL,'done',"
        "'{\"results\":{}}',NULL)",
        (f"o{number}", rfc3339(DAY + timedelta(seconds=second))),
    )


def alarm(
    past: Past, number: int, *, gate: str = "gate-1", acknowledged: str | None = None, cleared: str | None = None
) -> None:
    past.db.execute(
        "INSERT INTO alarm_states (id, gate, lane, kind, detail, severity, epoch, seq, count, raised, last, occurred, level, "
        "acknowledged, operator, role, cleared, closed) VALUES (?,?,'l1','alarm.held',?,'major','e1',?,1,?,?,?,0,?,?,?,?,?)",
        (
            number,
            gate,
            str(number),
            number,
            rfc3339(DAY),
            rfc3339(DAY),
            rfc3339(DAY),
            acknowledged,
            acknowledged and "Kim",
            acknowledged and "guard",
            cleared,
            acknowledged and cleared,
        ),
    )


def change(past: Past, of: int, what: str) -> None:
    past.db.execute(
        "INSERT INTO alarm_changes (alarm, time, change, body) VALUES (?,?,?,?)",
        (of, rfc3339(DAY), what, f'{{"alarm":{of},"state":"{what}"}}'),
    )


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_orders_come_newest_first_each_once_also_of_one_millisecond(past: Past, limit: int) -> None:
    for number, second in enumerate([0, 3, 3, 3, 1, 2]):
        order(past, number, second)
    queries, after, found = past.queries(), None, []
    for _ in range(10):
        page = queries.orders(after, limit)
        found += [row.id for row in page.rows]
        if page.next is None:
            break
        after = Cursor.parse(str(page.next))
    assert found == ["o1", "o2", "o3", "o5", "o4", "o0"]


def test_an_order_says_who_gave_it_and_how_it_ended(past: Past) -> None:
    order(past, 1, 0)
    (row,) = past.queries().orders().rows
    assert (row.operator.name, row.operator.role, row.second, row.outcome) == ("Kim", "guard", None, "done")
    assert (row.args, row.answer) == ({"reason": "visitor"}, {"results": {}})


def test_alarms_come_newest_first_by_state_and_gate(past: Past) -> None:
    alarm(past, 1)
    alarm(past, 2, gate="gate-2")
    alarm(past, 3, acknowledged="2026-11-24T00:00:00.000Z")
    alarm(past, 4, acknowledged="2026-11-24T00:00:00.000Z", cleared="2026-11-24T00:00:00.000Z")
    alarm(past, 5, cleared="2026-11-24T00:00:00.000Z")
    queries = past.queries()
    assert [row.id for row in queries.alarms().rows] == [5, 4, 3, 2, 1]
    assert [row.state for row in queries.alarms().rows] == ["cleared", "closed", "acknowledged", "raised", "raised"]
    assert [row.id for row in queries.alarms(state="raised").rows] == [2, 1]
    assert [row.id for row in queries.alarms(state="acknowledged").rows] == [3]
    assert [row.id for row in queries.alarms(state="cleared").rows] == [5]
    assert [row.id for row in queries.alarms(state="closed").rows] == [4]
    assert [row.id for row in queries.alarms(state="open").rows] == [5, 3, 2, 1]
    assert [row.id for row in queries.alarms(gate="gate-1", state="raised").rows] == [1]
    first = queries.alarms(limit=2)
    assert [row.id for row in queries.alarms(after=first.next, limit=2).rows] == [3, 2]


def test_an_alarm_that_comes_between_two_pages_moves_no_row(past: Past) -> None:
    for number in (1, 2, 3):
        alarm(past, number)
    queries = past.queries()
    first = queries.alarms(limit=2)
    alarm(past, 4)
    assert [row.id for row in queries.alarms(after=first.next).rows] == [1]


def test_a_state_that_no_alarm_has_is_refused(past: Past) -> None:
    with pytest.raises(BadQueryError):
        past.queries().alarms(state="open' OR 1")


def test_the_history_of_an_alarm_is_its_newest_changes_in_order(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    for what in ("raised", "acknowledged", "cleared"):
        change(past, 1, what)
        change(past, 2, what)
    assert [row.change for row in past.queries().alarm_history(1)] == ["raised", "acknowledged", "cleared"]
    assert past.queries().alarm_history(1)[0].body == {"alarm": 1, "state": "raised"}
    assert past.queries().alarm_history(9) == []
    monkeypatch.setattr("controller.queries.MAX_CHANGES", 2)
    assert [row.change for row in past.queries().alarm_history(1)] == ["acknowledged", "cleared"]


def test_every_gate_is_shown_as_it_was_heard_last(past: Past) -> None:
    past.gate("gate-2", online=0, mark=7)
    past.gate("gate-1", online=None)
    found = past.queries().gates()
    assert [(row.gate, row.online, row.mark) for row in found] == [("gate-1", None, 10**6), ("gate-2", False, 7)]
