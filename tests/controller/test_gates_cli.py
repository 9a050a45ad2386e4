"""`gwanmun gates`: what it says, what it leaves behind, and that a revocation goes all the way."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.acl import render
from controller.enrolled import Refusal
from gwanmun import gates_cli
from protocol import topics
from testbed.broker import Broker
from testbed.pki import DevicePki
from tests.controller.test_enrolled import KEYS, certificate

Gates = Callable[..., int]
LIST = "state/broker/acl"


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    """Runs the command for a controller under tmp_path, none of whose keys is there."""
    config = tmp_path / "controller.toml"
    config.write_text('site = "hq"\nstate_dir = "state"\n[mqtt]\nkey = "credential:mqtt.key"\n')
    (tmp_path / "state").mkdir(exist_ok=True)

    def run(*arguments: str) -> int:
        return gates_cli.main([*arguments, "--config", str(config)])

    return run


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "gate-1.pem"
    path.write_bytes(certificate("gate-1"))
    return path


def test_adding_and_revoking_write_the_access_list_at_once(gates: Gates, pem: Path, tmp_path: Path) -> None:
    assert gates("render") == 0
    assert (tmp_path / LIST).read_text() == render("hq", [])
    assert gates("add", str(pem)) == 0
    assert (tmp_path / LIST).read_text() == render("hq", ["gate-1"])
    assert gates("revoke", "gate-1") == 0
    assert (tmp_path / LIST).read_text() == render("hq", [])


def test_the_list_shows_gate_certificate_and_dates(gates: Gates, pem: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gates("add", str(pem))
    os.utime(pem.parent / "state" / "gates" / "gate-1.pem", (1_800_000_000, 1_800_000_000))
    capsys.readouterr()
    assert gates("list") == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.startswith("게이트 / gate\t")
    gate, fingerprint, until, since = row.split("\t")
    assert (gate, until, since) == ("gate-1", "2027-02-22T09:00:00.000Z", "2027-01-15T08:00:00.000Z")
    assert int(fingerprint, 16) > 0
    assert len(fingerprint) == 16


def test_the_list_names_a_file_that_enrols_nobody(gates: Gates, pem: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gates("add", str(pem))
    (pem.parent / "state" / "gates" / "gate-2.pem").write_text("x")
    assert gates("list") == 0
    korean, english = capsys.readouterr().err.splitlines()
    assert korean == "오류: gate-2.pem: 아무도 등록하지 않습니다. PEM 인증서 하나가 있어야 합니다"
    assert english == "error: gate-2.pem: enrols nobody. one certificate in PEM is expected"


def test_says_what_was_done_in_korean_first(gates: Gates, pem: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gates("add", str(pem))
    gates("revoke", "gate-1")
    assert capsys.readouterr().out.splitlines() == [
        "등록했습니다: gate-1",
        "enrolled: gate-1",
        "폐기했습니다: gate-1",
        "revoked: gate-1",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["revoke", "gate-1"], "no such gate is enrolled"),
        (["add", "/nowhere/gate-1.pem"], "a file cannot be used. /nowhere/gate-1.pem: No such file or directory"),
        (["add", "/proc/self/cmdline"], "one certificate in PEM is expected"),
    ],
)
def test_a_refusal_has_one_reason_and_exit_status_1(
    gates: Gates, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gates(*arguments) == 1
    korean, english = capsys.readouterr().err.splitlines()
    assert korean.startswith("오류: ")
    assert english.startswith("error: ")
    assert english.endswith(words)


def test_a_wrong_configuration_has_exit_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "controller.toml"
    config.write_text('site = "Head Office"\nstate_dir = "state"\n')
    assert gates_cli.main(["list", "--config", str(config)]) == 2
    assert "a name of lower-case letters" in capsys.readouterr().err


def test_every_refusal_has_words_in_both_languages() -> None:
    assert set(gates_cli.WORDS) == set(Refusal)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_root_works_as_the_owner_of_the_controllers_directory(pem: Path) -> None:
    """Otherwise the controller could not write its own list any more, or root would follow links that the controller laid."""
    nobody = 65534
    with tempfile.TemporaryDirectory() as name:  # not under tmp_path, which is closed to others
        place = Path(name)
        place.chmod(0o755)
        state, config = place / "state", place / "controller.toml"
        state.mkdir(0o700)
        os.chown(state, nobody, nobody)
        config.write_text('site = "hq"\nstate_dir = "state"\n')
        done = subprocess.run(
            [sys.executable, "-m", "gwanmun", "gates", "add", pem, "--config", config],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert {path.stat().st_uid for path in state.rglob("*")} == {nobody}
        assert (place / LIST).read_text() == render("hq", ["gate-1"])


async def test_a_revocation_beside_the_running_controller_ends_a_connected_gates_rights(
    run_controller: Any, connect_gate: Any, config_file: Path, broker: Broker, pki: DevicePki, tmp_path: Path
) -> None:
    """Command, list, broker: only the watching of the file is left out, which the caller does here."""
    gate = await connect_gate("gate-1")
    (tmp_path / "state").mkdir()
    assert gates_cli.main(["add", str(pki.directory / "gate-1.pem"), "--config", str(config_file)]) == 0
    controller = await run_controller()
    assert controller.enrolled.public_key("gate-1") is not None
    await asyncio.to_thread(broker.apply, tmp_path / LIST)
    assert (await gate.link.publish(topics.state("hq", "gate-1"), b"x")).ok
    assert gates_cli.main(["revoke", "gate-1", "--config", str(config_file)]) == 0
    await asyncio.to_thread(broker.apply, tmp_path / LIST)
    result = await gate.link.publish(topics.state("hq", "gate-1"), b"x")
    assert (result.ok, result.reason) == (False, "Not authorized")
    await controller.access_list.keep()
    assert controller.enrolled.public_key("gate-1") is None


async def test_the_controller_writes_the_list_when_it_starts(run_controller: Any, tmp_path: Path) -> None:
    gates = tmp_path / "state" / "gates"
    gates.mkdir(parents=True)
    (gates / "gate-5.pem").write_bytes(certificate("gate-5", key=KEYS["two"]))
    await run_controller()
    assert (tmp_path / LIST).read_text() == render("hq", ["gate-5"])
