"""The command line of `gwanmun selftest`: which devices, what is printed, and what the exit status says."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import select
import sys
import termios
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from drivers.findings import Finding, Result
from gate_agent import config as configuration
from gate_agent.config import ConfigError, Device, GateConfig
from gate_agent.selftest import checks, running
from gate_agent.selftest.checks import Outputs

EXIT_FAULT = 1
EXIT_CONFIG = 2
CREDENTIALS = Path("/etc/gwanmun/credentials/gate")
"""Where the unit takes them from; a person's shell has no $CREDENTIALS_DIRECTORY."""
ANSWER_S = 120.0
"""A question without an answer for this long is answered no."""
LOOK_S = 0.1
YES = frozenset({"y", "yes", "예", "네"})

_WORDS = {
    Result.OK: "정상 ok",
    Result.WARNING: "주의 warning",
    Result.FAULT: "고장 fault",
    Result.SKIPPED: "생략 skipped",
}

Check = Callable[[GateConfig, Device, Outputs | None], Awaitable[list[Finding]]]
CHECK: Check = checks.run


async def run_checks(
    config: GateConfig, devices: Sequence[Device], agent: running.Running | None, outputs: Outputs | None = None
) -> list[Finding]:
    """All findings, device by device. What `agent` holds is not touched."""
    found: list[Finding] = []
    for device in devices:
        # An adapter's checks ask bluetoothd and take nothing from anybody.
        if agent is not None and device.kind != "ble":
            found.append(agent.finding(device))
        else:
            found += await CHECK(config, device, outputs)
    return found


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="gwanmun selftest",
        description="설정된 장치를 점검합니다. --outputs가 없으면 아무것도 움직이지 않습니다 / "
        "checks the configured devices; moves nothing without --outputs",
        epilog="종료 코드 / exit status: 0 고장 없음 no fault, 1 고장 있음 a fault, 2 설정이나 사용법 configuration or usage",
    )
    top.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="설정 파일 (TOML) / configuration file (TOML)"
    )
    top.add_argument("--device", metavar="KIND.NAME", help="이 장치만 / this device only, such as lane.hall")
    top.add_argument(
        "--outputs",
        action="store_true",
        help="표시기와 릴레이를 하나씩 움직여 봄. 통로마다 먼저 묻습니다 / exercise signs and relays; asks first for each lane",
    )
    top.add_argument(
        "--yes",
        action="store_true",
        help="통로를 비웠으니 묻지 않음 / every lane is clear: do not ask (with --outputs)",
    )
    top.add_argument("--json", action="store_true", help="JSON으로 출력 / print JSON")
    return top


def main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    environ = {"CREDENTIALS_DIRECTORY": str(CREDENTIALS), **os.environ}
    try:
        config = configuration.load(arguments.config, environ)
    except ConfigError as error:
        sys.stderr.write(error.text() + "\n")
        return EXIT_CONFIG
    except PermissionError as error:
        return _refused(
            f"읽을 권한이 없습니다: {error.filename}. sudo로 실행하십시오",
            f"not permitted to read {error.filename}: run it with sudo",
        )
    if arguments.device is not None and arguments.device not in config.devices:
        listed = ", ".join(config.devices)
        return _refused(f"--device: 다음 중 하나여야 합니다: {listed}", f"--device: one of these is expected: {listed}")
    if arguments.yes and not arguments.outputs:
        return _refused("--yes는 --outputs와 함께 씁니다", "--yes goes with --outputs")
    devices = list(config.devices.values()) if arguments.device is None else [config.devices[arguments.device]]
    try:
        return asyncio.run(_main(config, devices, arguments))
    except KeyboardInterrupt:  # what was open is closed by now, and its relays are at rest
        return EXIT_FAULT


async def _main(config: GateConfig, devices: Sequence[Device], arguments: argparse.Namespace) -> int:
    agent = await running.find(config)
    outputs: Outputs | None = None
    if arguments.outputs:
        if agent is not None:
            return _refused(
                f"에이전트가 실행 중이면 움직이지 않습니다. 먼저 멈추십시오: {running.STOP}",
                f"nothing is moved while the agent runs; stop it first: {running.STOP}",
            )
        if config.runtime_dir is None:
            return _refused(
                "[gate] runtime_dir이 없어 에이전트가 실행 중인지 알 수 없으므로 움직이지 않습니다",
                "nothing is moved: without runtime_dir in [gate] nobody can tell whether the agent runs",
            )
        outputs = Outputs(_said if arguments.yes else ask, _say)
    found = await run_checks(config, devices, agent, outputs)
    show(found, sys.stdout, as_json=arguments.json)
    return EXIT_FAULT if any(each.result is Result.FAULT for each in found) else 0


def _refused(ko: str, en: str) -> int:
    sys.stderr.write(f"gwanmun: {ko}\ngwanmun: {en}\n")
    return EXIT_CONFIG


def _say(ko: str, en: str) -> None:
    sys.stderr.write(f"{ko}\n{en}\n")
    sys.stderr.flush()


async def _said(ko: str, en: str) -> bool:
    """As `ask`, of somebody who has answered by --yes."""
    _say(f"{ko} --yes", f"{en} --yes")
    return True


async def ask(ko: str, en: str) -> bool:
    """At the terminal; standard output stays the result's. No answer in time, or nobody there to give one, is no."""
    sys.stderr.write(f"{ko} (예/아니요)\n{en} (y/n) ")
    sys.stderr.flush()
    try:
        return (await _line()).strip().casefold() in YES
    except (OSError, ValueError, termios.error):  # standard input is closed
        return False


async def _line() -> str:
    """Empty where none is typed in time. A thread that reads could not be told to end."""
    if sys.stdin.isatty():
        termios.tcflush(sys.stdin, termios.TCIFLUSH)  # what was typed before the question is no answer to it
    for _ in range(int(ANSWER_S / LOOK_S)):
        if select.select([sys.stdin], [], [], 0)[0]:
            return sys.stdin.readline()
        await asyncio.sleep(LOOK_S)
    return ""


def show(found: Sequence[Finding], stream: TextIO, *, as_json: bool) -> None:
    if as_json:
        counts = Counter(each.result.value for each in found)
        answer = {"checks": [asdict(each) for each in found], "counts": {each.value: counts[each] for each in Result}}
        stream.write(json.dumps(answer, ensure_ascii=False, indent=1) + "\n")
        return
    for each in found:
        stream.write(f"{_WORDS[each.result]:<14} {each.id}\n")
        for line in dict.fromkeys((each.ko, each.en)):
            stream.write(f"    {line}\n")
        for line in dict.fromkeys((each.do_ko, each.do_en)):
            if line:
                stream.write(f"    -> {line}\n")
