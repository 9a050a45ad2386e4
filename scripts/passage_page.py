"""docs/passage.md from gate_agent/passage: a state diagram and the whole table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from gate_agent.passage import PASSAGE, RESTING, TABLE, Effect, Input, State, Step
from gate_agent.passage.sensors import CRITICAL, REQUIRED
from gate_agent.passage.states import GRANTS, KEYS, ORDERS, LaneType, Refusal

_STATES: dict[State, tuple[str, str]] = {
    State.BOOT: ("입력을 아직 다 읽지 못함", "levels of the inputs not known yet"),
    State.SECURED: ("닫힘", "shut"),
    State.GRANTED: ("허가된 사람을 기다림", "waits for whoever was granted"),
    State.PASSING: ("통과 중", "somebody is in the lane"),
    State.EGRESS: ("신분증 없이 나가는 중", "somebody leaves who needs no credential"),
    State.HELD: ("통과가 너무 오래 걸림", "the passage takes too long"),
    State.INTRUSION: ("침입 경보", "alarm"),
    State.LOCKED_OPEN: ("화재: 현장에서 되돌릴 때까지 열림", "fire: open until it is reset on the spot"),
    State.FREE: ("자유 통행", "open to all by order"),
    State.LOCKED_DOWN: ("봉쇄: 들어올 수 없고 나갈 수 있음", "lockdown: no entry, exit as ever"),
    State.OUT_OF_SERVICE: ("사용 중지: 나갈 수만 있음", "out of service: exit only"),
}
_TYPES: dict[LaneType, tuple[str, str]] = {
    LaneType.SPEED_GATE: ("스피드게이트: 빔 세 개", "speed gate: three beams"),
    LaneType.SWING_DOOR: ("여닫이문: 문 접점", "swing door: its contact"),
    LaneType.FULL_HEIGHT: ("전신 회전문: 회전 접점", "full-height turnstile: its rotor"),
    LaneType.VENDOR: ("제조사 제어기가 맡은 통로", "a lane with the vendor's own controller"),
}
_REST = "rest"
_QUIET = frozenset({Input.FAULT_ON, Input.FAULT_OFF})


def _next(row: Step) -> str:
    return _REST if row.next is None else str(row.next)


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{each}`" for each in words)


def _does(row: Step) -> str:
    if row.refuse is not None:
        return f"refused: `{row.refuse}`"
    return ", ".join(f"`{effect}`" for effect in row.effects) or "·"


def _diagram() -> list[str]:
    """Mermaid; orders and refusals are left to the table, `rest` is the state the orders in force say."""
    edges: dict[tuple[str, str], list[str]] = defaultdict(list)
    for state, rows in TABLE.items():
        for given, row in rows.items():
            target = _next(row)
            if row.refuse is not None or target == state or given in ORDERS | KEYS | _QUIET:
                continue
            if given is Input.FIRE_ON:
                continue  # from every state, drawn once
            edges[str(state), target].append(str(given))
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> boot"]
    for (source, target), inputs in edges.items():
        shown = ", ".join(inputs[:3]) + (", …" if len(inputs) > 3 else "")
        lines.append(f"    {source} --> {target}: {shown}")
    lines += [f"    {state} --> locked_open: fire_on" for state in TABLE if state is not State.LOCKED_OPEN]
    lines.append("    locked_open --> rest: reset")
    lines += [f"    rest --> {state}" for state in TABLE if state in RESTING]
    return [*dict.fromkeys(lines), "```"]


def _section(state: State) -> list[str]:
    ko, en = _STATES[state]
    lines = [f"### `{state}`", "", f"{ko} · *{en}*", "", "| input | next | does |", "| --- | --- | --- |"]
    for given in Input:
        row = TABLE[state][given]
        if row == Step(state):
            continue
        lines.append(f"| `{given}` | `{_next(row)}` | {_does(row)} |")
    nothing = [f"`{given}`" for given in Input if TABLE[state][given] == Step(state)]
    if nothing:
        lines += ["", f"아무 일도 없음 · *changes nothing*: {', '.join(nothing)}"]
    return [*lines, ""]


def page() -> str:
    lines = [
        "# 통로의 상태와 입력 · States and inputs of a lane",
        "",
        "`gate_agent/passage`에서 만들어집니다. 상태마다 모든 입력에 줄이 하나씩 있습니다.",
        "`rest`는 효력이 있는 지시가 정하는 상태입니다.",
        "순서는 화재, 사용 중지(고장 포함), 봉쇄, 자유 통행이고, 아무것도 없으면 `secured`입니다.",
        "*Made from `gate_agent/passage`. Every state has a row for every input. `rest` is where the orders in force let the",
        "lane rest: fire, out of service (a fault counts), lockdown, free, in this order of precedence; else `secured`.*",
        "",
        "여섯 가지 규칙이 표 위에 있고 시험이 지킵니다. *Six rules stand above the rows, and tests hold them:*",
        "",
        "1. 들어오는 문은 허가 하나 또는 기록된 원인 하나로만 열린다. *An entry opens for one credit or one recorded cause.*",
        "2. 화재는 `locked_open`이 되고 아무것도 닫지 않는다. *Fire ends in `locked_open` and closes nothing.*",
        "3. 인원은 끝난 통과로만 바뀐다. *Counts change by completed passages only.*",
        "4. 모든 허가는 정확히 하나의 결과로 끝난다. *Every credit ends with exactly one outcome.*",
        "5. 봉쇄는 봉쇄 해제나 현장의 열쇠로만 끝난다. *Its release or the key on the spot alone leave a lockdown.*",
        "6. 표에는 빈칸이 없다. *The table is total.*",
        "",
        "## 통로 종류 · Lane types",
        "",
        "| `type` | | 필요한 입력 inputs it needs | 고장이면 사용 중지 out of service without |",
        "| --- | --- | --- | --- |",
    ]
    for kind, (ko, en) in _TYPES.items():
        needs = ", ".join(f"`{each}`" for each in sorted(REQUIRED[kind]))
        critical = ", ".join(f"`{each}`" for each in sorted(CRITICAL[kind]))
        lines.append(f"| `{kind}` | {ko} · *{en}* | {needs} | {critical} |")
    lines += [
        "",
        "`button`, `reset`, `beam_low`는 있으면 씁니다. *are used where there are any.*",
        "`fire_open`, `fire_short`, `key_free`, `key_locked`, `tamper`, `mains_fail`, `battery_low`도 그렇습니다"
        "([lane-hardware.md](lane-hardware.md)). *So are these.*",
        "열쇠는 지시와 같은 표를 따릅니다. 화재와 사용 중지가 열쇠보다 앞섭니다.",
        "*The key follows the same table as orders do; fire and out of service come before it.*",
        "여닫이문은 몇 사람이 지나갔는지 알지 못합니다. *A swing door cannot tell how many went through.*",
        "",
        "## 그림 · Diagram",
        "",
        "지시와 거절은 표에만 있습니다. *Orders and refusals are in the tables only.*",
        "",
        *_diagram(),
        "",
        "## 표 · Tables",
        "",
        f"거절 *refusals*: {_words(Refusal)}.",
        f"지시 *orders*: {_words(each for each in Input if each in ORDERS)}.",
        f"열쇠 *key switch*: {_words(each for each in Input if each in KEYS)}.",
        f"판단 *decisions*: {_words(each for each in Input if each in GRANTS)}.",
        f"통과 중인 상태 *states of a passage*: {_words(each for each in State if each in PASSAGE)}.",
        f"`{Effect.OPEN}`과 `{Effect.OPEN_OUT}`만 릴레이를 움직입니다. *alone move a relay.*",
        "",
    ]
    for state in State:
        lines += _section(state)
    return "\n".join(lines).rstrip() + "\n"
