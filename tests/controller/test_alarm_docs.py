"""docs/alarms.md says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from controller import alarm_ledger, alarms
from controller.alarm_kinds import EFFECTS, KINDS
from controller.alarms import LEVEL_TIMES
from controller.alarms_api import AlarmsApi

PAGE = (Path(__file__).parents[2] / "docs" / "alarms.md").read_text("utf-8")
ROWS = {
    row[0]: row
    for row in re.findall(r"^\| `([a-z_.]+)` \| (\w+) \| (\w+) \| (\S+) \w+ \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
}


def test_every_kind_has_its_row_with_its_words() -> None:
    assert list(ROWS) == list(KINDS)
    for name, kind in KINDS.items():
        _, severity, category, acknowledge, ends, words = ROWS[name]
        assert (severity, category) == (kind.severity, kind.category)
        assert acknowledge == ("예" if kind.acknowledge else "아니요")
        assert words == f"{kind.words.ko} · {kind.words.en}"
        assert ("운영자" in ends) is kind.operator


def test_every_event_that_ends_an_alarm_stands_in_its_row() -> None:
    for kind, effect in EFFECTS.items():
        for name in effect.clears:
            assert f"`{kind}`" in ROWS[str(name)][4]


def test_bounds_and_times_are_those_of_the_code() -> None:
    for number in (alarm_ledger.MAX_OPEN, alarm_ledger.MAX_OPEN_OF_GATE, alarm_ledger.MAX_KEYS_OF_GATE):
        assert f"{number:,}" in PAGE
    assert alarms.MAX_GAP_S == 30 * 60
    assert "30 minutes" in PAGE
    assert LEVEL_TIMES == (1, 3)


def test_every_route_is_named() -> None:
    for route in AlarmsApi(None, list, "").routes():  # type: ignore[arg-type]  # nothing is asked of it
        assert route.path.replace(":id", "") in PAGE
