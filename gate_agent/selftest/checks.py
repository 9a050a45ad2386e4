"""The checks of each kind of device: opened as configured, started within a limit, asked, and with `outputs` exercised."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drivers.ble import BleDriver, BleSettings
from drivers.ble import check as ble
from drivers.camera import CameraSettings
from drivers.camera import check as camera
from drivers.factor import check as factor
from drivers.findings import Finding, Result
from drivers.lane import check as lane
from drivers.nfc import check as nfc
from drivers.ports import BleRole, Direction, DriverError
from drivers.signal import check as signal
from gate_agent import hardware
from gate_agent.config import Barrier, ConfigError, Device, GateConfig
from gate_agent.selftest import causes, running
from protocol.clock import SystemClock

START_S = 25.0
"""Longest wait for a start: a camera's worker takes 15 s at most, the relays' holder 10 s."""
STOP_S = 15.0

Ask = Callable[[str, str], Awaitable[bool]]
"""A question, Korean and English, answered yes or no; no answer in time is no."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Every output is to be exercised."""

    ask: Ask
    say: signal.Say


async def run(config: GateConfig, device: Device, outputs: Outputs | None) -> list[Finding]:
    """All checks of one device that nobody else holds. Never raises for what it finds."""
    if device.kind == "ble":
        return await _ble(device)
    with tempfile.TemporaryDirectory() as state:
        # The tones and words of a sign are made there: those of the agent are not to become this user's files.
        try:
            return await _CHECKS[device.kind](replace(config, state_dir=Path(state)), device, outputs)
        except ConfigError as error:
            ko, en = error.expected.ko, error.expected.en
            return [Finding(device.id, Result.FAULT, ko, en, f"{error.key}을(를) 고치십시오", f"Correct {error.key}")]


async def _ble(device: Device) -> list[Finding]:
    """Asks bluetoothd, and touches no radio."""
    options = device.options
    settings = BleSettings(BleDriver(device.driver), options.get("adapter"), options.get("hci"))
    named = [each for each in options.get("roles", "").split(",") if each]
    return await ble.check(device.name, settings, [BleRole(each) for each in named] or tuple(BleRole))


async def _started(device: Device, port: Any, then: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    """Start, go on, stop, each within a limit; what fails is a finding."""
    try:
        try:
            async with asyncio.timeout(START_S):
                await port.start()
        except TimeoutError:
            raise DriverError("it does not start in time") from None
        return await then()
    except DriverError as error:
        return [failed(device, str(error))]
    except Exception as error:
        # A driver may raise only DriverError; a fault in one must not take the other checks along.
        return [failed(device, type(error).__name__)]
    finally:
        with suppress(Exception):  # the device may be the thing that failed
            async with asyncio.timeout(STOP_S):
                await port.stop()


def failed(device: Device, why: str) -> Finding:
    return Finding(
        device.id, Result.FAULT, f"동작하지 않습니다: {why}", f"It does not work: {why}", *causes.advice(device)
    )


async def _camera(config: GateConfig, device: Device, _outputs: Outputs | None) -> list[Finding]:
    port = hardware.open_device(config, device, SystemClock())
    settings: CameraSettings = port._settings  # as open_device makes them of the options
    return await _started(device, port, lambda: camera.answers(device.name, port, settings))


async def _nfc(config: GateConfig, device: Device, _outputs: Outputs | None) -> list[Finding]:
    port = hardware.open_device(config, device, SystemClock())
    return await _started(device, port, lambda: nfc.answers(device.name, port))


async def _factor(config: GateConfig, device: Device, _outputs: Outputs | None) -> list[Finding]:
    port = hardware.open_device(config, device, SystemClock())
    return await _started(device, port, lambda: factor.answers(device.name, port))


# Signs.


async def _signal(config: GateConfig, device: Device, outputs: Outputs | None) -> list[Finding]:
    lost: dict[str, str] = {}

    def report(part: str, works: bool, why: str) -> None:
        if not works:
            lost[part.removeprefix(f"{device.id}.")] = why

    port = hardware.open_device(config, device, SystemClock(), report)
    names = list(dict.fromkeys(each.partition(".")[0] for each in device.options if "." in each))

    async def ask() -> list[Finding]:
        if device.driver == "log":
            return [Finding(device.id, Result.OK, "장치가 없고, 로그에 씁니다", "No device: messages go to the log")]
        if outputs is None:
            return [Finding(device.id, Result.OK, "표시기가 열립니다", "The sign opens")]
        outputs.say(f"{device.id}: 표시기를 보고 들으십시오", f"{device.id}: watch the sign and listen")
        ko, en = await signal.exercise(port, outputs.say)
        return [
            Finding(
                f"{device.id}.outputs",
                Result.OK,
                f"보이고 들렸어야 합니다: {ko}",
                f"Should have been seen and heard: {en}",
                "다르면 그 부분의 배선, 소리 크기, 설정을 확인하십시오",
                "If it was otherwise, look at that part's wiring, volume and settings",
            )
        ]

    found = await _started(device, port, ask)
    parts = [*names, *(each for each in lost if each not in names)]
    return [*found, *(_part(device, each, lost.get(each)) for each in parts)]


def _part(device: Device, name: str, why: str | None) -> Finding:
    check = f"{device.id}.{name}"
    if why is None:
        unseen = name == "text"  # a serial display says nothing back
        return Finding(
            check,
            Result.OK,
            "직렬 포트가 열립니다. 글자는 --outputs로 확인하십시오" if unseen else "동작합니다",
            "Its serial port opens; --outputs shows whether words appear" if unseen else "It works",
        )
    # Tones go on without words.
    result = Result.WARNING if name == "speech" else Result.FAULT
    return Finding(check, result, f"동작하지 않습니다: {why}", f"It does not work: {why}", *causes.part(device, name))


# Lanes.


async def _lane(config: GateConfig, device: Device, outputs: Outputs | None) -> list[Finding]:
    port = hardware.open_device(config, device, SystemClock())
    relays = list(Direction) if device.wiring is None else list(device.wiring.outputs)
    barrier = next((each for each in config.barriers if each.hardware == device.name), None)

    async def ask() -> list[Finding]:
        levels = lane.Levels(port)
        try:
            await levels.start()
            found = lane.answers(device.name, levels, relays)
            if outputs is None:
                return found
            moved, more = await _exercise(config, device, port, levels, relays, barrier, outputs)
            found += more
        finally:
            await levels.stop()
        return [*found, await _to_rest(device, port)] if moved else found

    return await _started(device, port, ask)


async def _exercise(
    config: GateConfig,
    device: Device,
    port: Any,
    levels: lane.Levels,
    relays: list[Direction],
    barrier: Barrier | None,
    outputs: Outputs,
) -> tuple[bool, list[Finding]]:
    """(whether any was moved, findings). Between a person's word and a pulse much may change: asked anew for each relay."""

    found: list[Finding] = []

    def not_moved(why: tuple[str, str], do: tuple[str, str]) -> Finding:
        left = ", ".join(relays[len(found) :])
        ko, en = f"움직이지 않은 릴레이 {left}: {why[0]}", f"Relays not moved, {left}: {why[1]}"
        return Finding(f"{device.id}.outputs", Result.SKIPPED, ko, en, *do)

    if barrier is None:
        unused = ("이 장치를 쓰는 [[lane]]이 없습니다", "No [[lane]] names this device")
        return False, [not_moved(unused, ("hardware를 확인하십시오", "Look at hardware"))]
    clear = ("통로를 비우고 다시 하십시오", "Clear the lane and try again")
    for relay in relays:
        why, do = lane.barred(levels), clear
        if (
            why is None
            and not found
            and not await outputs.ask(
                f"통로 {barrier.id}: 차단기가 열립니다. 통로를 비웠습니까?",
                f"Lane {barrier.id}: The barrier will open. Is the lane clear?",
            )
        ):
            why = ("통로를 비웠다는 답이 없습니다", "Nobody said that the lane is clear")
        if why is None and await running.find(config) is not None:
            why, do = ("에이전트가 그사이 시작했습니다", "The agent has started meanwhile"), (running.STOP,) * 2
        why = why or lane.barred(levels)
        if why is not None:
            return bool(found), [*found, not_moved(why, do)]
        outputs.say(f"{device.id}: 릴레이 {relay}", f"{device.id}: relay {relay}")
        found.append(await lane.exercise(device.name, port, levels, relay, barrier.pulse_ms))
        if found[-1].result is not Result.OK:
            break
    return True, found


async def _to_rest(device: Device, port: Any) -> Finding:
    """Started anew, it puts every relay to rest and confirms it, whatever the pulse left."""
    levels = lane.Levels(port)
    try:
        async with asyncio.timeout(STOP_S):
            await port.stop()
        async with asyncio.timeout(START_S):
            await port.start()
        await levels.start()
        return lane.at_rest(device.name, levels)
    except (DriverError, TimeoutError) as error:
        why = str(error) or "it does not start in time"
        return Finding(
            f"{device.id}.rest",
            Result.FAULT,
            f"릴레이가 쉬는지 확인되지 않습니다: {why}",
            f"That the relays are at rest is not confirmed: {why}",
            *causes.advice(device),
        )
    finally:
        await levels.stop()


_CHECKS: Mapping[str, Callable[[GateConfig, Device, Outputs | None], Awaitable[list[Finding]]]] = {
    "camera": _camera,
    "nfc": _nfc,
    "lane": _lane,
    "signal": _signal,
    "factor": _factor,
}
