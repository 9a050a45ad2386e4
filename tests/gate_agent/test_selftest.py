"""`gwanmun selftest`: which devices are checked, what is printed, and what the exit status says."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from drivers.findings import Finding, Result
from gate_agent import selftest
from gate_agent.config import Device
from tests.gate_agent.test_config import BASE, FILES

Check = Callable[[Device], Awaitable[list[Finding]]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "trust").mkdir()
    for name in FILES:
        (tmp_path / name).write_text("-")
    path = tmp_path / "gate.toml"
    path.write_text(BASE)
    return path


def answering(*results: Result) -> Check:
    async def check(device: Device) -> list[Finding]:
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
    monkeypatch.setattr(selftest, "CHECKS", {"ble": answering(*results)})
    assert selftest.main(["--config", str(config)]) == status


def test_the_table_says_what_was_found_and_what_to_do_korean_first(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selftest, "CHECKS", {"ble": answering(Result.FAULT)})
    selftest.main(["--config", str(config)])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    at = next(number for number, line in enumerate(lines) if line.endswith("ble.hall.0"))
    assert lines[at].startswith("고장 fault")
    assert lines[at + 1 : at + 5] == ["0번", "number 0", "-> 고치십시오", "-> mend it"]


def test_json_has_every_check_and_the_counts(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selftest, "CHECKS", {"ble": answering(Result.OK, Result.FAULT)})
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
    assert found["camera.hall"]["result"] == "skipped"  # a kind without checks is not passed over in silence
    assert answer["counts"] == {"ok": 1, "warning": 0, "fault": 1, "skipped": 4}


def test_a_wrong_configuration_is_status_2(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(BASE.replace('driver = "bluez"', 'driver = "infrared"'))
    assert selftest.main(["--config", str(config)]) == 2
    assert "device.ble.hall" in capsys.readouterr().err


def test_keys_that_systemd_hands_over_are_looked_for_where_the_unit_takes_them(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setattr(selftest, "CREDENTIALS", tmp_path)
    monkeypatch.setattr(selftest, "CHECKS", {})
    config.write_text(BASE.replace('"reader.key"', '"credential:reader.key"'))
    assert selftest.main(["--config", str(config)]) == 0


def test_the_real_checks_of_a_gate_without_a_bus_end_in_faults(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    assert selftest.main(["--config", str(config)]) == 1
    assert "ble.hall.bus" in capsys.readouterr().out
