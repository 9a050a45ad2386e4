"""`gwanmun selftest`: are the devices of gate.toml there and set up, and if not, what is to be done. It changes nothing."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from drivers.ble import BleDriver, BleSettings
from drivers.ble import check as ble
from drivers.findings import Finding, Result
from drivers.ports import BleRole
from gate_agent import config as configuration
from gate_agent.config import ConfigError, Device, GateConfig

EXIT_FAULT = 1
EXIT_CONFIG = 2
CREDENTIALS = Path("/etc/gwanmun/credentials/gate")
"""Where the unit takes them from; a person's shell has no $CREDENTIALS_DIRECTORY."""

_WORDS = {
    Result.OK: "정상 ok",
    Result.WARNING: "주의 warning",
    Result.FAULT: "고장 fault",
    Result.SKIPPED: "생략 skipped",
}


async def _ble(device: Device) -> list[Finding]:
    options = device.options
    settings = BleSettings(BleDriver(device.driver), options.get("adapter"), options.get("hci"))
    named = [each for each in options.get("roles", "").split(",") if each]
    return await ble.check(device.name, settings, [BleRole(each) for each in named] or tuple(BleRole))


CHECKS: Mapping[str, Callable[[Device], Awaitable[list[Finding]]]] = {"ble": _ble}
"""Kind of device -> its checks. Kinds that are not here have none yet."""


async def run_checks(config: GateConfig) -> list[Finding]:
    """All findings, device by device in the order of the configuration."""
    found: list[Finding] = []
    for device in config.devices.values():
        check = CHECKS.get(device.kind)
        found += await check(device) if check is not None else [_unchecked(device)]
    return found


def _unchecked(device: Device) -> Finding:
    return Finding(
        device.id, Result.SKIPPED, "이 종류의 장치는 아직 점검하지 않습니다", "Devices of this kind are not checked yet"
    )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="gwanmun selftest",
        description="설정된 장치를 점검합니다. 아무것도 바꾸지 않습니다 / checks the configured devices; changes nothing",
        epilog="종료 코드 / exit status: 0 고장 없음 no fault, 1 고장 있음 a fault, 2 설정 configuration",
    )
    top.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="설정 파일 (TOML) / configuration file (TOML)"
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
        sys.stderr.write(
            f"gwanmun: 읽을 권한이 없습니다: {error.filename}. sudo로 실행하십시오.\n"
            f"gwanmun: not permitted to read {error.filename}: run it with sudo.\n"
        )
        return EXIT_CONFIG
    found = asyncio.run(run_checks(config))
    show(found, sys.stdout, as_json=arguments.json)
    return EXIT_FAULT if any(each.result is Result.FAULT for each in found) else 0


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
