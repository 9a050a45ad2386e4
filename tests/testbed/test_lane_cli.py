"""`gwanmun lane simulate`: one drawing a terminal can show, the same facts for a machine, and settings checked as gate.toml's."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from gate_agent.passage import Effect, LaneType, Refusal, State
from gate_agent.passage.conditioning import Fault
from gwanmun import cli
from testbed import lane_cli
from testbed.lane_cli import main
from testbed.lane_wording import EFFECTS, FAULTS, KINDS, REFUSALS, STATES
from testbed.person import Kind

COLUMNS = 100


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["simulate", *arguments]) == 0
    return capsys.readouterr().out


def facts(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shown(capsys, "--json", *arguments))
    return found


def width(text: str) -> int:
    """Columns in a terminal: a Korean letter takes two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def row(drawing: str, label: str) -> str:
    """What stands on the time axis behind a label."""
    return next(line for line in drawing.splitlines() if line.startswith(label + " "))


WALK = """\
통로 lane    speed_gate, 보통 폭 narrow, 방향 direction in
사람 person  walk: 걸어서 지나감 / walks through
허가 grant   1 s

초 s      0           1           2           3           4
beam_a    .........................####..........................
beam_m    ...............................####....................
beam_b    .....................................####..............
beam_low  ...............................####....................
contact   .......................................................
state     |secured    |granted     |passing         |secured
                      1                             3
                      2

  1    1.00 s  grant            허가 / granted
  2    1.00 s  open             문을 엶 / opens
  3    3.58 s  completed        통과 완료 / passed

상태 state:  secured 닫힘, granted 허가됨, passing 통과 중
결과 outcome: completed
# 켜짐 active   . 꺼짐 at rest   | 상태 바뀜 state changes   1 2 3 위 목록 the list above
"""


def test_somebody_who_walks_through_looks_like_this(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "--grant") == WALK


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("lane", LaneType)
def test_every_drawing_fits_a_terminal_of_100_columns(
    lane: LaneType, kind: Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    for grant in ((), ("--grant",)):
        drawing = shown(capsys, "--type", lane, "--person", kind, *grant)
        assert max(width(line) for line in drawing.splitlines()) <= COLUMNS
        assert "\x1b" not in drawing


def test_a_bar_stands_where_the_ruler_says(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "--grant")
    drawing = shown(capsys, "--grant")
    first = next(each["t"] for each in found["inputs"] if each["signal"] == "beam_a")
    ruler, beam = drawing.splitlines()[4], row(drawing, "beam_a")
    origin, second = ruler.index("0") + 1, ruler.index("1") + 1  # the Korean letter takes a column more than it counts
    assert beam.index("#") == pytest.approx(origin + first * (second - origin), abs=1)


def test_the_machine_reads_the_same_facts(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "--person", "tailgate", "--grant", "--seed", "3")
    assert found["outcome"] == ["completed", "tailgate", "alarms_cleared"]
    assert (found["person"], found["grant_at"], found["refusal"]) == ("tailgate", 1.0, None)
    assert [each["state"] for each in found["states"]] == ["secured", "granted", "passing", "intrusion", "secured"]
    assert {each["signal"] for each in found["inputs"]} == {"beam_a", "beam_m", "beam_b", "beam_low"}
    opened = [each for each in found["events"] if each["effect"] == "open"]
    assert opened == [{"t": 1.0, "effect": "open", "dir": "in", "granted": True, "cause": ""}]


def test_a_seed_gives_the_same_play_again_and_another_a_different_one(capsys: pytest.CaptureFixture[str]) -> None:
    first = shown(capsys, "--grant", "--seed", "1")
    assert shown(capsys, "--grant", "--seed", "1") == first
    assert shown(capsys, "--grant", "--seed", "2") != first


def test_times_can_be_tried_out(capsys: pytest.CaptureFixture[str]) -> None:
    trolley = ("--person", "trolley", "--grant")
    assert "tailgate" in facts(capsys, *trolley)["outcome"]
    assert facts(capsys, *trolley, "--set", "tail_gap_s=0.4")["outcome"] == ["completed"]
    assert facts(capsys, *trolley, "--wide")["outcome"] == ["completed"]


def test_a_word_may_be_set_without_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    leaving = ("--person", "walk", "--direction", "out")
    assert facts(capsys, *leaving)["outcome"] == ["egress", "completed"]
    assert facts(capsys, *leaving, "--set", "egress=reader")["outcome"] == []


def test_somebody_without_a_grant_finds_the_barrier_closed(capsys: pytest.CaptureFixture[str]) -> None:
    drawing = shown(capsys)
    assert "문이 닫혀 있음 / finds the barrier closed" in drawing
    assert "결과 outcome: 없음 none" in drawing
    assert "#" not in row(drawing, "beam_m")


@pytest.mark.parametrize(
    ("assignment", "key"),
    [
        ("tail_gap_s=x", "tail_gap_s"),
        ("tail_gap_s=9", "tail_gap_s"),
        ("nonsense=1", "nonsense"),
        ("alarm_s", "alarm_s"),
        ("=", ""),
    ],
)
def test_a_wrong_setting_is_refused_by_name_in_two_languages(
    assignment: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--set", assignment]) == 2
    korean, english = capsys.readouterr().err.splitlines()
    assert korean.startswith("--set: " + key)
    assert english.startswith("--set: " + key)
    assert korean != english


@pytest.mark.parametrize(("words", "table"), [(Kind, KINDS), (Effect, EFFECTS), (Refusal, REFUSALS), (State, STATES)])
def test_every_word_has_its_wording(words: type[StrEnum], table: Mapping[StrEnum, Any]) -> None:
    assert set(table) == set(words)
    assert all(all(wording) for wording in table.values())


def test_every_sensor_fault_has_its_wording() -> None:
    assert set(FAULTS) == {*Fault, None}


def test_it_is_a_subcommand_of_gwanmun(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lane", "simulate", "--grant"]) == 0
    assert capsys.readouterr().out == WALK


def test_more_happenings_than_numbers_still_fit() -> None:
    assert [lane_cli._mark(number) for number in (0, 8, 9, 34, 35)] == ["1", "9", "a", "z", "+"]
