"""`gwanmun selftest`: which devices are checked, what is printed, and what the exit status says."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.findings import Finding, Result
from gate_agent import config as configuration
from gate_agent.config import Device, GateConfig
from gate_agent.control import SOCKET, Control
from gate_agent.selftest import cli as selftest
from gate_agent.selftest import running
from gate_agent.selftest.checks import Outputs
from gate_agent.selftest.cli import Check
from tests.gate_agent.test_config import BASE, FILES


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "trust").mkdir()
    for name in FILES:
        (tmp_path / name).write_text("-")
    path = tmp_path / "gate.toml"
    path.write_text(BASE)
    return path


def answering(*results: Result, kind: str = "ble") -> Check:
    async def check(_config: GateConfig, device: Device, _outputs: Outputs | None) -> list[Finding]:
        if device.kind != kind:
            return []
        return [
            Finding(f"{device.id}.{number}", result, f"{number}번", f"number {number}", "고치십시오", "mend it")
            for number, result in enumerate(results)
        ]

    return check


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([], 0),
        ([Result.OK, Result.WARNING, Result.SKIPPED], 0),
        ([Result.OK, Result.FAULT], 1),
    ],
)
def test_the_exit_status_is_1_where_there_is_a_fault(
    config: Path, monkeypatch: pytest.MonkeyPatch, results: list[Result], status: int
) -> None:
    monkeypatch.setattr(selftest, "CHECK", answering(*results))
    assert selftest.main(["--config", str(config)]) == status


def test_the_table_says_what_was_found_and_what_to_do_korean_first(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selftest, "CHECK", answering(Result.FAULT))
    selftest.main(["--config", str(config)])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    at = next(number for number, line in enumerate(lines) if line.endswith("ble.hall.0"))
    assert lines[at].startswith("고장 fault")
    assert lines[at + 1 : at + 5] == ["0번", "number 0", "-> 고치십시오", "-> mend it"]


def test_json_has_every_check_and_the_counts(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selftest, "CHECK", answering(Result.OK, Result.FAULT))
    assert selftest.main(["--json", "--config", str(config)]) == 1
    answer = json.loads(capsys.readouterr().out)
    found = {each["id"]: each for each in answer["checks"]}
    assert found["ble.hall.1"] == {
        "id": "ble.hall.1",
        "result": "fault",
        "ko": "1번",
        "en": "number 1",
        "do_ko": "고치십시오",
        "do_en": "mend it",
    }
    assert answer["counts"] == {"ok": 1, "warning": 0, "fault": 1, "skipped": 0}


def test_a_wrong_configuration_is_status_2(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(BASE.replace('driver = "bluez"', 'driver = "infrared"'))
    assert selftest.main(["--config", str(config)]) == 2
    assert "device.ble.hall" in capsys.readouterr().err


def test_keys_that_systemd_hands_over_are_looked_for_where_the_unit_takes_them(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setattr(selftest, "CREDENTIALS", tmp_path)
    monkeypatch.setattr(selftest, "CHECK", answering())
    config.write_text(BASE.replace('"reader.key"', '"credential:reader.key"'))
    assert selftest.main(["--config", str(config)]) == 0


def test_the_real_checks_of_a_gate_without_a_bus_end_in_faults(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    assert selftest.main(["--config", str(config), "--device", "ble.hall"]) == 1
    assert "ble.hall.bus" in capsys.readouterr().out


def test_one_device_is_checked_where_it_is_named(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selftest, "CHECK", answering(Result.FAULT))
    assert selftest.main(["--config", str(config), "--device", "nfc.hall"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("wrong", [["--device", "nfc.roof"], ["--yes"]])
def test_a_wrong_argument_is_status_2(config: Path, wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert selftest.main(["--config", str(config), *wrong]) == 2
    assert wrong[0] in capsys.readouterr().err


def test_nothing_is_moved_where_nobody_can_tell_whether_the_agent_runs(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert selftest.main(["--config", str(config), "--outputs", "--yes"]) == 2
    assert "runtime_dir" in capsys.readouterr().err


# The running agent.


def with_runtime(config: Path) -> GateConfig:
    folder = config.parent / "run"
    folder.mkdir(exist_ok=True)
    config.write_text(BASE.replace("[gate]\n", f'[gate]\nruntime_dir = "{folder}"\n'))
    os.utime(config, (1, 1))
    return configuration.load(config, {})


@asynccontextmanager
async def agent(config: GateConfig, answer: Mapping[str, Any]) -> AsyncIterator[None]:
    async def handle(verb: str, _lane: str, _request: Mapping[str, Any]) -> Mapping[str, Any]:
        assert verb == "status"
        return answer

    assert config.runtime_dir is not None
    control = Control(config.runtime_dir / SOCKET, handle)
    await control.start()
    try:
        yield
    finally:
        await control.stop()


async def told(config: GateConfig, kind: str) -> Finding:
    found = await running.find(config)
    assert found is not None
    return found.finding(config.device(kind, "hall"))


async def test_a_device_that_the_agent_holds_is_told_by_the_agent(config: Path) -> None:
    loaded = with_runtime(config)
    async with agent(loaded, {"degraded": ["no_uplink", "camera.hall", "signal.hall.sound"]}):
        assert (await told(loaded, "nfc")).result is Result.OK
        assert (await told(loaded, "camera")).result is Result.FAULT
        sign = await told(loaded, "signal")
        assert sign.result is Result.FAULT
        assert "signal.hall.sound" in sign.en
        assert "systemctl stop gwanmun-agent" in sign.do_en


async def test_an_agent_that_started_before_the_configuration_changed_is_not_asked(config: Path) -> None:
    loaded = with_runtime(config)
    async with agent(loaded, {"degraded": []}):
        later = time.time() + 60
        os.utime(config, (later, later))
        found = await told(loaded, "nfc")
    assert found.result is Result.SKIPPED
    assert "systemctl stop gwanmun-agent" in found.do_en


@pytest.mark.parametrize("answer", [{"error": "no"}, {"degraded": "all"}, {"degraded": [f"x{n}" for n in range(16)]}])
async def test_an_agent_that_says_nothing_of_use_still_keeps_its_devices(config: Path, answer: dict[str, Any]) -> None:
    loaded = with_runtime(config)
    async with agent(loaded, answer):
        assert (await told(loaded, "nfc")).result is Result.SKIPPED


async def test_a_socket_that_an_agent_left_behind_is_no_agent(config: Path) -> None:
    loaded = with_runtime(config)
    assert await running.find(loaded) is None
    assert loaded.runtime_dir is not None
    (loaded.runtime_dir / SOCKET).write_text("")
    assert await running.find(loaded) is None


async def test_while_the_agent_runs_devices_are_left_alone_and_outputs_refused(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = with_runtime(config)
    asked: list[str] = []

    async def check(_config: GateConfig, device: Device, _outputs: Outputs | None) -> list[Finding]:
        asked.append(device.id)
        return []

    monkeypatch.setattr(selftest, "CHECK", check)
    arguments = selftest.parser().parse_args(["--config", str(config)])
    outputs = selftest.parser().parse_args(["--config", str(config), "--outputs", "--yes"])
    devices = list(loaded.devices.values())
    async with agent(loaded, {"degraded": []}):
        assert await selftest._main(loaded, devices, arguments) == 0
        assert asked == ["ble.hall"]
        capsys.readouterr()
        assert await selftest._main(loaded, devices, outputs) == 2
    assert asked == ["ble.hall"]
    assert "systemctl stop gwanmun-agent" in capsys.readouterr().err


# The question.


@pytest.mark.parametrize(
    ("typed", "yes"),
    [
        ("y\n", True),
        ("YES\n", True),
        ("예\n", True),
        ("n\n", False),
        ("\n", False),
        ("", False),
        ("yes please\n", False),
    ],
)
async def test_only_a_plain_yes_is_a_yes(typed: str, yes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.write(writing, typed.encode())
    os.close(writing)
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert await selftest.ask("비웠습니까?", "Clear?") is yes


async def test_a_question_that_nobody_answers_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "ANSWER_S", 0.2)
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "w"):
        monkeypatch.setattr("sys.stdin", stdin)
        assert not await selftest.ask("비웠습니까?", "Clear?")
