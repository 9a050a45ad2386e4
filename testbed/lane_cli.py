"""`gwanmun lane`: `simulate` plays people through the real passage machine on a virtual clock and draws what happened.

For tuning a lane's times before it is built, and for seeing why it behaves as it does: sensors, states, effects on one time axis.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from drivers.ports import Direction, LaneSignal
from gate_agent.config import ConfigError, passage_settings
from gate_agent.passage import Happening, LaneType, SensorChanged, Settings, State
from gate_agent.passage.sensors import REQUIRED
from protocol.toml import Table
from testbed.lane_wording import EFFECTS, FAULTS, KINDS, REFUSALS, STATES
from testbed.person import Kind, cast
from testbed.simulation import Timeline, simulate

EXIT_USAGE = 2
GRANT_AT_S = 1.0
"""When the decision falls, seconds from the start of the play."""
WIDTH = 98
"""Columns of the drawing. It is plain ASCII: block and line letters take two columns in many Korean terminals."""
MAX_SCALE = 12
"""Columns a second at most: a short play is not stretched over the whole width."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="gwanmun lane", description="통로를 시험합니다 / try out a lane")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", title="명령 / commands")
    sub = commands.add_parser(
        "simulate",
        help="사람을 통로에 지나가게 하고 시간표를 그림 / let people pass and draw the timeline",
        description="실제 통과 상태 기계를 가상 시계로 돌립니다 / the real passage machine on a virtual clock",
        epilog="사람 / people:\n"
        + "\n".join(f"  {kind:<14}{korean} / {english}" for kind, (korean, english) in KINDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.add_argument(
        "--type",
        choices=[str(each) for each in LaneType],
        default=str(LaneType.SPEED_GATE),
        help="통로 종류 / type of lane (speed_gate)",
    )
    sub.add_argument(
        "--person",
        choices=[str(each) for each in Kind],
        default=str(Kind.WALK),
        metavar="WHO",
        help="누가: 아래 목록 / who passes: the list below (walk)",
    )
    sub.add_argument("--grant", action="store_true", help="한 사람을 허가함 / one person is let in")
    sub.add_argument(
        "--direction", choices=[str(each) for each in Direction], default="in", help="통과 방향 / direction (in)"
    )
    sub.add_argument("--wide", action="store_true", help="휠체어용 넓은 통로의 시간 / times of a wide lane")
    sub.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="걸음과 크기를 조금씩 다르게 / paces and sizes vary a little (left out: exactly as described)",
    )
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="통로 설정값, 여러 번 가능 / a setting of [[lane]], repeatable: wait_for_start_s=5, tail_gap_s=0.3 "
        "(docs/configuration.md)",
    )
    sub.add_argument("--json", action="store_true", help="JSON으로 출력 / print JSON")
    return top


def main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    try:
        settings = lane_settings(arguments.type, arguments.set, wide=arguments.wide)
    except ConfigError as error:
        sys.stderr.write(f"{error.text()}\n")
        return EXIT_USAGE
    direction, kind = Direction(arguments.direction), Kind(arguments.person)
    chance = None if arguments.seed is None else Random(arguments.seed)  # noqa: S311  # paces, not keys
    actors = cast(kind, GRANT_AT_S, direction, chance)
    line = simulate(settings, actors, direction=direction, grant_at=GRANT_AT_S if arguments.grant else None)
    if arguments.json:
        text = json.dumps(as_json(line, kind, direction), ensure_ascii=False, indent=1)
    else:
        text = "\n".join(draw(line, kind, direction, wide=arguments.wide, seed=arguments.seed))
    sys.stdout.write(text + "\n")
    return 0


def lane_settings(kind: str, assignments: Sequence[str], *, wide: bool) -> Settings:
    """As gate.toml's [[lane]] would give them. Raises ConfigError."""
    body: dict[str, Any] = {"type": kind, "wide": wide}
    place = Path("--set")
    for each in assignments:
        key, equals, value = each.partition("=")
        try:
            if not equals or not key.isidentifier():
                raise ValueError(each)
            body[key] = tomllib.loads(f"value = {value}")["value"]
        except ValueError:
            # A bare word, such as egress=reader, is meant as text.
            if not equals or not value.isidentifier():
                raise Table(place, {}, "").error(key, "KEY=VALUE가 있어야 합니다", "KEY=VALUE is expected") from None
            body[key] = value
    table = Table(place, body, "")
    settings = passage_settings(table, back=False, direction=Direction.IN)
    table.done()
    return settings


# For a machine.


def as_json(line: Timeline, kind: Kind, direction: Direction) -> dict[str, Any]:
    """Times in seconds."""
    return {
        "person": kind,
        "direction": direction,
        "settings": asdict(line.settings),
        "grant_at": line.grant_at,
        "refusal": line.refusal,
        "inputs": [{"t": round(each.at, 3), "signal": each.signal, "active": each.active} for each in line.changes],
        "states": [{"t": round(each.at, 3), "state": each.state} for each in line.states],
        "events": [{"t": round(each.at, 3), **_event(each.what)} for each in line.happened],
        "barrier_closed": [round(at, 3) for at in line.turned_away],
        "outcome": list(line.outcome),
    }


def _event(what: Happening | SensorChanged) -> dict[str, Any]:
    if isinstance(what, SensorChanged):
        return {"sensor": what.signal, "fault": what.fault}
    return {"effect": what.effect, "dir": what.direction, "granted": what.attempt is not None, "cause": what.cause}


# For a person.


def draw(line: Timeline, kind: Kind, direction: Direction, *, wide: bool, seed: int | None) -> list[str]:
    """Lines of at most WIDTH columns, no colour. One row a sensor, the states, and the numbers of the list below."""
    shown = _shown(line)
    axis = _Axis(line.end, max(len(signal) for signal in shown))
    notes = _notes(line)
    korean, english = KINDS[kind]
    width = "넓은 통로 wide" if wide else "보통 폭 narrow"
    granted = f"{line.grant_at:g} s" if line.grant_at is not None else "없음 none"
    return [
        f"통로 lane    {line.settings.type}, {width}, 방향 direction {direction}",
        f"사람 person  {kind}: {korean} / {english}" + ("" if seed is None else f" (seed {seed})"),
        f"허가 grant   {granted}",
        "",
        axis.ruler(),
        *(axis.bars(signal, line) for signal in shown),
        axis.states(line),
        *axis.marks([at for at, _, _ in notes]),
        "",
        *(f"{_mark(number):>3} {at:7.2f} s  {word:<16} {text}" for number, (at, word, text) in enumerate(notes)),
        "",
        "상태 state:  " + ", ".join(f"{state} {STATES[state]}" for state in _entered(line)),
        f"결과 outcome: {', '.join(line.outcome) or '없음 none'}",
        "# 켜짐 active   . 꺼짐 at rest   | 상태 바뀜 state changes   1 2 3 위 목록 the list above",
    ]


def _shown(line: Timeline) -> list[LaneSignal]:
    """What this type of lane has, and whatever else moved; the fire line and the vendor's health only when they did."""
    moved = {each.signal for each in line.changes}
    quiet = {LaneSignal.FIRE, LaneSignal.VENDOR_READY, LaneSignal.VENDOR_FAULT, LaneSignal.VENDOR_EMERGENCY}
    return [signal for signal in LaneSignal if signal in moved | (REQUIRED[line.settings.type] - quiet)]


def _entered(line: Timeline) -> list[State]:
    return list(dict.fromkeys(each.state for each in line.states))


def _notes(line: Timeline) -> list[tuple[float, str, str]]:
    """(seconds, word, Korean / English), in order of time."""
    found: list[tuple[float, int, str, str]] = []
    if line.grant_at is not None:
        if line.refusal is None:
            found.append((line.grant_at, 0, "grant", "허가 / granted"))
        else:
            korean, english = REFUSALS[line.refusal]
            found.append((line.grant_at, 0, "grant refused", f"허가 거절: {korean} / refused: {english}"))
    for each in line.happened:
        what = each.what
        if isinstance(what, SensorChanged):
            korean, english = FAULTS[what.fault]
            found.append((each.at, 1, str(what.signal), f"{korean} / {english}"))
        else:
            korean, english = EFFECTS[what.effect]
            cause = f" ({what.cause})" if what.cause else ""
            found.append((each.at, 1, str(what.effect), f"{korean} / {english}{cause}"))
    closed = "문이 닫혀 있음 / finds the barrier closed"
    found += [(at, 2, "barrier closed", closed) for at in line.turned_away]
    return [(at, word, text) for at, _, word, text in sorted(found, key=lambda note: note[:2])]


_MARKS = "123456789abcdefghijklmnopqrstuvwxyz"


def _mark(number: int) -> str:
    return _MARKS[number] if number < len(_MARKS) else "+"


class _Axis:
    """Seconds to columns."""

    def __init__(self, end: float, label: int) -> None:
        """`label`: columns of the longest name at the left."""
        self._label = label
        room = WIDTH - label - 2
        self._scale = min(MAX_SCALE, room / end)
        self._columns = max(1, min(room, round(end * self._scale)))

    def column(self, at: float) -> int:
        return min(self._columns - 1, max(0, int(at * self._scale)))

    def _row(self, label: str, text: str) -> str:
        return f"{label:<{self._label}}  {text}".rstrip()

    def ruler(self) -> str:
        step = next(each for each in (1, 2, 5, 10, 20, 50, 100, 1000) if each * self._scale >= 6)
        text = [" "] * self._columns
        second = 0
        while (at := round(second * self._scale)) + len(str(second)) <= self._columns:
            text[at : at + len(str(second))] = str(second)
            second += step
        # The Korean letter takes two columns.
        return f"{'초 s':<{self._label - 1}}  {''.join(text)}".rstrip()

    def bars(self, signal: LaneSignal, line: Timeline) -> str:
        text = ["."] * self._columns
        risen: float | None = None
        for change in [each for each in line.changes if each.signal is signal]:
            if change.active:
                risen = change.at
            elif risen is not None:
                self._fill(text, risen, change.at)
                risen = None
        if risen is not None:
            self._fill(text, risen, line.end)
        return self._row(str(signal), "".join(text))

    def _fill(self, text: list[str], start: float, end: float) -> None:
        # At least one column: a short touch is not lost. A gap between two bars stays visible where there is room.
        first = self.column(start)
        for at in range(first, max(first + 1, self.column(end))):
            text[at] = "#"

    def states(self, line: Timeline) -> str:
        text = [" "] * self._columns
        starts = [self.column(each.at) for each in line.states]
        for number, each in enumerate(line.states):
            start = starts[number]
            end = next((later for later in starts[number + 1 :] if later > start), self._columns)
            if number + 1 < len(starts) and starts[number + 1] == start:
                continue  # too short to be drawn; the list below has it
            label = f"|{each.state}"
            text[start:end] = label[: end - start].ljust(end - start)
        return self._row("state", "".join(text))

    def marks(self, times: Sequence[float]) -> list[str]:
        """The numbers of the list below, in as many rows as keep them apart."""
        rows: list[list[str]] = []
        for number, at in enumerate(times):
            column = self.column(at)
            row = next((row for row in rows if row[column] == " "), None)
            if row is None:
                row = [" "] * self._columns
                rows.append(row)
            row[column] = _mark(number)
        return [self._row("", "".join(row)) for row in rows]
