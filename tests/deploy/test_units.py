"""The files of deploy/ as systemd and the shell read them: nothing misspelt, and a small surface."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from controller.config import Place

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = (
    "gwanmun-agent.service",
    "gwanmun-controller.service",
    "gwanmun-broker.service",
    "gwanmun-broker-again.service",
)
MAX_EXPOSURE = 2.5
"""Of 10, as `systemd-analyze security` counts."""
SCRIPTS = sorted([DEPLOY / "install.sh", ROOT / ".ci" / "run", *(ROOT / "scripts").glob("*.sh")])

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (apt-get install systemd)"
)


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_exposes_little(unit: str) -> None:
    done = _run(
        "systemd-analyze", "security", "--offline=true", f"--threshold={MAX_EXPOSURE * 10:g}", DEPLOY / "systemd" / unit
    )
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    assert re.search(rf"exposure level for {re.escape(unit)}: [\d.]+ OK", done.stdout)


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_the_exposure_threshold_is_not_met_by_a_bare_unit(unit: str, tmp_path: Path) -> None:
    bare = tmp_path / unit
    bare.write_text("[Service]\nExecStart=/bin/true\n", "utf-8")
    assert (
        _run("systemd-analyze", "security", "--offline=true", f"--threshold={MAX_EXPOSURE * 10:g}", bare).returncode
        == 1
    )


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_verifies_without_a_word(unit: str, tmp_path: Path) -> None:
    done = _verify(unit, _with_a_program(unit, tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize(("good", "bad"), [("WatchdogSec=", "WatchdogSecs="), ("Restart=always", "Restart=allways")])
def test_verifying_notices_a_misspelt_unit(good: str, bad: str, tmp_path: Path) -> None:
    unit = UNITS[0]
    directory = _with_a_program(unit, tmp_path)
    text = (directory / unit).read_text("utf-8")
    assert good in text
    (directory / unit).write_text(text.replace(good, bad), "utf-8")
    done = _verify(unit, directory)
    assert done.returncode != 0
    assert done.stderr != ""


@needs_systemd
def test_the_brokers_drop_in_verifies_without_a_word(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "systemd" / "mosquitto.service.d", tmp_path / "mosquitto.service.d")
    (tmp_path / "mosquitto.service").write_text(
        "[Service]\nType=notify\nExecStart=/bin/true\nExecStartPre=/bin/true\n", "utf-8"
    )
    done = _verify("mosquitto.service", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_the_watch_over_the_access_list_verifies_without_a_word(tmp_path: Path) -> None:
    _with_a_program("gwanmun-broker-again.service", tmp_path)
    shutil.copy(DEPLOY / "systemd" / "gwanmun-broker.path", _with_a_program("gwanmun-broker.service", tmp_path))
    done = _verify("gwanmun-broker.path", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_watch_copy_broker_and_controller_name_the_same_access_list() -> None:
    made, in_force = Place("hq", Path("/var/lib/gwanmun/controller")).access_list, "/etc/mosquitto/gwanmun/acl"
    watch = (DEPLOY / "systemd" / "gwanmun-broker.path").read_text("utf-8")
    copy = (DEPLOY / "systemd" / "gwanmun-broker.service").read_text("utf-8")
    broker = (DEPLOY / "mosquitto" / "gwanmun.conf").read_text("utf-8")
    assert f"PathChanged={made}\n" in watch
    assert f" {made} {in_force} systemctl " in copy
    again = (DEPLOY / "systemd" / "gwanmun-broker-again.service").read_text("utf-8")
    assert f" again {made} {in_force} systemctl --no-block start gwanmun-broker.service\n" in again
    assert f"acl_file {in_force}\n" in broker
    [revoked] = re.findall(r"(?m)^#crlfile (.+)$", broker)
    assert f"PathChanged={revoked}\n" in watch
    assert Path(revoked) == Path(in_force).with_name("revoked.crl")


def _with_a_program(unit: str, directory: Path) -> Path:
    """A copy of the unit whose program exists here: verify wants to see it."""
    text, replaced = re.subn(
        r"(?m)^(ExecStart=)/(?:opt/gwanmun/\w+/bin/gwanmun|usr/local/lib/gwanmun/apply-acl) ",
        r"\1/bin/true ",
        (DEPLOY / "systemd" / unit).read_text("utf-8"),
    )
    assert replaced == 1
    (directory / unit).write_text(text, "utf-8")
    return directory


def _verify(unit: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return _run("systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", directory / unit)


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_users_and_directories_can_be_made_in_an_empty_root(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("making users in a root directory needs root")
    (tmp_path / "etc").mkdir()
    for kind, tool in (("sysusers", ["systemd-sysusers"]), ("tmpfiles", ["systemd-tmpfiles", "--create"])):
        done = _run(*tool, f"--root={tmp_path}", DEPLOY / f"{kind}.d" / "gwanmun.conf")
        assert done.returncode == 0, done.stderr
    users = (tmp_path / "etc" / "passwd").read_text()
    assert "gwanmun-gate:" in users
    assert "gwanmun-controller:" in users
    assert (tmp_path / "etc/gwanmun/credentials").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "etc/gwanmun").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses_and_is_executable(script: Path) -> None:
    done = _run("bash", "-n", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text("utf-8")


@pytest.mark.parametrize("arguments", [[], ["--role", "turnstile"], ["--role"], ["--roll", "gate"]])
def test_the_installer_explains_a_wrong_command_line_in_korean_first(arguments: list[str]) -> None:
    done = _run(DEPLOY / "install.sh", *arguments)
    assert done.returncode == 2
    korean, english = done.stderr.splitlines()[-2:]
    assert korean.startswith("오류: ")
    assert english.startswith("error: ")


def test_examples_use_the_places_that_the_units_give(tmp_path: Path) -> None:
    """State, sockets and keys of config/gate.toml and config/controller.toml are where the units allow them."""
    for unit, example, state in (
        ("gwanmun-agent.service", "gate.toml", "gwanmun/gate"),
        ("gwanmun-controller.service", "controller.toml", "gwanmun/controller"),
    ):
        unit_text = (DEPLOY / "systemd" / unit).read_text("utf-8")
        text = (ROOT / "config" / example).read_text("utf-8")
        assert f"StateDirectory={state}\n" in unit_text
        assert re.findall(r'(?m)^state_dir = "([^"]+)"', text) == [f"/var/lib/{state}"]
        assert re.findall(r'(?m)^runtime_dir = "([^"]+)"', text) == [f"/run/{state}"] * (
            unit == "gwanmun-agent.service"
        )
        for socket in re.findall(r'(?m)^(?!runtime_dir).*"/run/([^"]+)/[^"/]+"', text):
            assert f"RuntimeDirectory={socket}\n" in unit_text
        given = set(re.findall(r"(?m)^LoadCredential=([^:]+):", unit_text))
        assert set(re.findall(r'(?m)^\w+ = "credential:([^"]+)"', text)) == given


def test_the_agent_may_read_the_kernels_clock_and_has_no_right_to_set_it() -> None:
    """`ProtectClock=yes` would bar the reading too (systemd issue 26413); what allows it stands last, so that it counts."""
    lines = (DEPLOY / "systemd" / "gwanmun-agent.service").read_text("utf-8").splitlines()
    filters = [line.removeprefix("SystemCallFilter=") for line in lines if line.startswith("SystemCallFilter=")]
    assert filters == ["@system-service", "~@privileged @resources", "adjtimex clock_adjtime"]
    assert {"CapabilityBoundingSet=", "AmbientCapabilities=", "NoNewPrivileges=yes", "DevicePolicy=closed"} <= set(
        lines
    )
    assert not [line for line in lines if line.startswith(("ProtectClock=", "DeviceAllow=char-rtc"))]


def test_every_unit_option_of_the_security_report_is_known(tmp_path: Path) -> None:
    """The report itself is checked: a systemd that stops printing JSON would make the exposure test blind."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (apt-get install systemd)")
    done = _run("systemd-analyze", "security", "--offline=true", "--json=short", DEPLOY / "systemd" / UNITS[0])
    rows = {row["json_field"]: row for row in json.loads(done.stdout)}
    for option in ("NoNewPrivileges", "MemoryDenyWriteExecute", "ProtectSystem", "SystemCallFilter_module"):
        assert rows[option]["set"] is True, option
