"""Checks of started lane hardware: the present level of every input; and, when somebody asks for it, one pulse of one relay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from drivers.findings import Finding, Result
from drivers.lane.changes import FEEDBACK
from drivers.ports import Direction, DriverError, LaneHardware, LaneSignal

QUIET_S = 0.3
LEVELS_S = 3.0
"""Inputs that flutter for longer are not waited for."""
MOVES_S = 0.5
RETURNS_S = 1.0
"""From the end of the pulse until the relay is at rest."""

FIRE = frozenset({LaneSignal.FIRE, LaneSignal.FIRE_OPEN, LaneSignal.FIRE_SHORT, LaneSignal.VENDOR_EMERGENCY})
OCCUPIED = frozenset({LaneSignal.BEAM_A, LaneSignal.BEAM_M, LaneSignal.BEAM_B, LaneSignal.BEAM_LOW})
UNUSUAL = (FIRE | OCCUPIED | frozenset(FEEDBACK.values())) | frozenset(
    {
        LaneSignal.CONTACT,
        LaneSignal.KEY_LOCKED,
        LaneSignal.TAMPER,
        LaneSignal.MAINS_FAIL,
        LaneSignal.BATTERY_LOW,
        LaneSignal.VENDOR_ALARM,
        LaneSignal.VENDOR_FAULT,
    }
)
"""Active at a lane at rest that nobody stands in, these want a look."""


class Levels:
    """The inputs of started hardware, kept up to date until `stop`."""

    def __init__(self, hardware: LaneHardware) -> None:
        self.now: dict[LaneSignal, bool] = {}
        self.went: set[LaneSignal] = set()
        """Those that became active since it was last cleared."""
        self.failure: DriverError | None = None
        self._hardware = hardware
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the levels are in. Raises DriverError."""
        self._task = asyncio.create_task(self._follow())
        with suppress(TimeoutError):
            async with asyncio.timeout(LEVELS_S):
                while await self.until(lambda: False, QUIET_S, any_change=True):
                    pass
        self.check()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def check(self) -> None:
        """Raises DriverError when the hardware has failed."""
        if self.failure is not None:
            raise self.failure

    async def until(self, reached: Callable[[], bool], timeout: float, *, any_change: bool = False) -> bool:
        """Whether it came to that, or with `any_change` whether anything changed, within `timeout` seconds.
        Raises DriverError."""
        try:
            async with asyncio.timeout(timeout):
                while not reached():
                    self.check()
                    self._changed.clear()
                    await self._changed.wait()
                    if any_change:
                        return True
        except TimeoutError:
            return False
        return True

    async def _follow(self) -> None:
        try:
            async for change in self._hardware.inputs():
                self.now[change.signal] = change.active
                if change.active:
                    self.went.add(change.signal)
                self._changed.set()
        except DriverError as error:
            self.failure = error
            self._changed.set()

    def active(self, *signals: LaneSignal) -> list[LaneSignal]:
        return sorted(each for each in signals if self.now.get(each))


def answers(name: str, levels: Levels, relays: list[Direction]) -> list[Finding]:
    """What the hardware has and says."""
    listed = ", ".join(relays)
    found = [Finding(f"lane.{name}.relays", Result.OK, f"릴레이가 쉽니다: {listed}", f"Relays at rest: {listed}")]
    if not levels.now:
        found.append(Finding(f"lane.{name}.inputs", Result.OK, "이어진 입력이 없습니다", "No input is wired"))
        return found
    each = sorted(levels.now.items())
    unusual = levels.active(*UNUSUAL)
    ko = ", ".join(f"{signal} {'동작' if active else '쉼'}" for signal, active in each)
    en = ", ".join(f"{signal} {'active' if active else 'at rest'}" for signal, active in each)
    if not unusual:
        return [*found, Finding(f"lane.{name}.inputs", Result.OK, f"입력: {ko}", f"Inputs: {en}")]
    which = ", ".join(unusual)
    found.append(
        Finding(
            f"lane.{name}.inputs",
            Result.WARNING,
            f"입력: {ko}",
            f"Inputs: {en}",
            f"빈 통로에서 쉬어야 합니다: {which}. 실제로 그런지 보고, 아니면 배선, 빔의 방향, active_low를 확인하십시오",
            f"At rest in an empty lane: {which}. See whether it is so; if not, look at wiring, alignment and active_low",
        )
    )
    return found


def barred(levels: Levels) -> tuple[str, str] | None:
    """Why no relay of this lane may be moved just now, Korean and English; None: none is known."""
    for signals, ko, en in (
        (FIRE, "화재 신호가 있습니다", "The fire input is active"),
        (frozenset({LaneSignal.KEY_LOCKED}), "열쇠 스위치가 잠김에 있습니다", "The key switch stands at locked"),
        (OCCUPIED, "통로에 누가 있거나 빔이 막혔습니다", "Somebody stands in the lane, or a beam is blocked"),
    ):
        active = levels.active(*signals)
        if active:
            return f"{ko}: {', '.join(active)}", f"{en}: {', '.join(active)}"
    return None


async def exercise(name: str, hardware: LaneHardware, levels: Levels, relay: Direction, milliseconds: int) -> Finding:
    """One pulse of one relay, and whether it came back. A fault: no further relay of this lane is to be moved."""
    check, contact = f"lane.{name}.relay_{relay}", FEEDBACK[relay]
    wired = contact in levels.now
    levels.went.clear()
    try:
        levels.check()
        await hardware.pulse(relay, milliseconds)
        if wired:
            moved = await levels.until(lambda: contact in levels.went, MOVES_S)
            if not moved:
                raise DriverError("the relay's feedback contact did not move")
            back = await levels.until(lambda: not levels.now[contact], milliseconds / 1000 + RETURNS_S)
        else:
            await levels.until(lambda: False, milliseconds / 1000 + RETURNS_S)
            back = await _coil_at_rest(hardware, relay)
    except DriverError as error:
        return Finding(
            check,
            Result.FAULT,
            f"릴레이 {relay}이(가) 움직이지 않습니다: {error}",
            f"The relay {relay} does not move: {error}",
            f"릴레이의 전원과 배선, outputs.{relay}, 되먹임 접점 {contact}을(를) 확인하십시오",
            f"Look at the relay's power and wiring, outputs.{relay} and the feedback contact {contact}",
        )
    if not back:
        return Finding(
            check,
            Result.FAULT,
            f"릴레이 {relay}이(가) {milliseconds} ms 뒤에 돌아오지 않았습니다",
            f"The relay {relay} did not come back after {milliseconds} ms",
            "통로를 지키고, 릴레이와 모듈의 타이머(flash) 설정, 되먹임 접점을 확인하십시오",
            "Watch the lane, and look at the relay, the module's timer (flash) and the feedback contact",
        )
    contact_ko = "되먹임 접점이 움직였다 돌아왔습니다" if wired else "되먹임 접점이 없으니 눈으로 확인하십시오"
    contact_en = "the feedback contact moved and came back" if wired else "it has no feedback contact: see for yourself"
    barrier = LaneSignal.CONTACT in levels.went
    ko, en = ("차단기가 열렸습니다", "the barrier opened") if barrier else ("", "")
    return Finding(
        check,
        Result.OK,
        ", ".join(each for each in (f"릴레이 {relay}, {milliseconds} ms: {contact_ko}", ko) if each),
        ", ".join(each for each in (f"Relay {relay}, {milliseconds} ms: {contact_en}", en) if each),
    )


async def _coil_at_rest(hardware: Any, relay: Direction) -> bool:
    """A module can be asked for its coil; where nothing can be asked, True. The port has no word for it, for a lane that runs
    has no use for one. Raises DriverError."""
    read = getattr(hardware, "_coil", None)
    if read is None:
        return True
    rest: bool = hardware._wires.outputs[relay].rest_on
    return await read(relay) is rest


def at_rest(name: str, levels: Levels) -> Finding:
    """After the hardware was started anew, which puts every relay to rest and confirms it."""
    active = levels.active(*FEEDBACK.values())
    if active:
        listed = ", ".join(active)
        return Finding(
            f"lane.{name}.rest",
            Result.FAULT,
            f"쉬게 한 뒤에도 동작 중입니다: {listed}",
            f"Still active after all relays were put to rest: {listed}",
            "통로를 지키고, 붙은 릴레이인지 배선이 거꾸로인지 확인하십시오",
            "Watch the lane; a relay sticks, or a feedback contact is wired the other way round",
        )
    return Finding(f"lane.{name}.rest", Result.OK, "릴레이가 모두 다시 쉽니다", "Every relay is at rest again")
