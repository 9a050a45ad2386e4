"""`gwanmun gates`: what it says, and that the access list follows at once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gwanmun import gates_cli
from testbed.pki import DevicePki


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "controller.toml"
    path.write_text('site = "hq"\nstate_dir = "state"\n')
    (tmp_path / "state").mkdir()
    return path


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return DevicePki(tmp_path / "pki", datetime(2026, 11, 29, tzinfo=UTC)).client("gate-1").certificate


def users(config: Path) -> list[str]:
    text = (config.parent / "state" / "broker" / "acl").read_text()
    return [line.removeprefix("user ") for line in text.splitlines() if line.startswith("user ")]


def run(config: Path, *arguments: str | Path) -> int:
    return gates_cli.main(["--config", str(config), *map(str, arguments)])


def test_enrolling_and_revoking_change_the_access_list_at_once(
    config: Path, certificate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "render") == 0
    assert users(config) == ["controller"]
    assert run(config, "add", certificate) == 0
    assert users(config) == ["controller", "gate-1"]
    assert run(config, "list") == 0
    assert run(config, "revoke", "gate-1") == 0
    assert users(config) == ["controller"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["gate-1: 등록했습니다", "gate-1: enrolled"]
    assert lines[2].startswith("gate-1 ")
    assert lines[3:] == ["gate-1: 폐지했습니다", "gate-1: revoked"]


def test_what_cannot_be_done_says_why_korean_first(
    config: Path, certificate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "revoke", "gate-1") == 1
    assert run(config, "add", config) == 1
    assert run(config, "add", tmp_path / "absent.pem") == 2
    assert run(tmp_path / "absent.toml", "list") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 8
    assert lines[:2] == ["gate-1: 등록되지 않은 게이트입니다", "gate-1: not enrolled"]
    assert not any("Traceback" in line for line in lines)
