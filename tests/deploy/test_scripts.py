"""The set-up scripts: what they say when something is missing, and how they read a machine's apt settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / "scripts" / "setup.sh"
MIRROR = ROOT / "scripts" / "apt_mirror.py"


def _setup(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def setup_without_broker(tmp_path: Path) -> Path:
    """The script on a machine where the broker's program is not found."""
    text = SETUP.read_text("utf-8")
    assert "have_program mosquitto\n" in text
    script = tmp_path / "setup.sh"
    script.write_text(text.replace("have_program mosquitto\n", "have_program no-such-broker\n"), "utf-8")
    script.chmod(0o755)
    return script


def test_a_missing_package_is_named_with_the_command_to_type_korean_first(setup_without_broker: Path) -> None:
    done = _setup(setup_without_broker, "run", GWANMUN_NO_APT="1")
    assert done.returncode == 2
    korean, english = done.stderr.index("시스템 패키지가 없습니다"), done.stderr.index("Missing system packages")
    assert korean < english
    assert "sudo apt-get update && sudo apt-get install --no-install-recommends mosquitto" in done.stderr


def test_an_optional_missing_package_is_reported_and_not_fatal(setup_without_broker: Path) -> None:
    done = _setup(setup_without_broker, "--optional", "run", GWANMUN_NO_APT="1")
    assert done.returncode == 0
    assert "mosquitto" in done.stderr


def test_an_unknown_group_is_refused() -> None:
    done = _setup(SETUP, "everything")
    assert done.returncode == 2
    assert "everything" in done.stderr


def _mirror(apt: Path, release: str = "bookworm") -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, MIRROR, release, apt], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout.splitlines()


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_reads_one_line_entries_with_options_and_comments(apt: Path) -> None:
    (apt / "sources.list").write_text(
        "# deb http://old.example/debian bookworm main\n"
        "deb-src http://a.example/debian bookworm main\n"
        "deb http://a.example/debian-security bookworm-security main  # security\n"
        "deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://a.example/debian bookworm main contrib\n"
        "deb http://b.example/apt stable main\n",
        "utf-8",
    )
    assert _mirror(apt) == (
        0,
        [
            "deb http://a.example/debian bookworm main contrib",
            "deb http://a.example/debian-security bookworm-security main",
        ],
    )


def test_reads_stanzas_with_several_suites_folded_lines_and_switched_off_entries(apt: Path) -> None:
    (apt / "sources.list.d" / "debian.sources").write_text(
        "Types: deb deb-src\n# a comment\nURIs: http://a.example/debian\nSuites: bookworm\n bookworm-updates\n"
        "Components: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
        "\n"
        "Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n",
        "utf-8",
    )
    (apt / "sources.list.d" / "old.sources.save").write_text("Types: deb\nURIs: http://x\nSuites: bookworm\n", "utf-8")
    assert _mirror(apt) == (
        0,
        ["deb http://a.example/debian bookworm main", "deb http://a.example/debian bookworm-updates main"],
    )


def test_a_machine_without_the_release_is_told_so(apt: Path) -> None:
    (apt / "sources.list").write_text("deb http://a.example/debian trixie main\n", "utf-8")
    assert _mirror(apt) == (2, [])
