"""A real systemd to install into: a fresh Debian 12 booted by systemd-nspawn, with no network but its own loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOOT_S = 90
"""Seconds until systemd in the container answers; under 15 s on a quiet machine."""
PACKAGES = ("systemd", "dbus", "bluez", "python3-venv", "mosquitto", "procps", "libzbar0", "libusb-1.0-0", "tzdata")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COPIED = (
    "mdoc",
    "card",
    "policy",
    "protocol",
    "drivers",
    "gate_agent",
    "controller",
    "gwanmun",
    "testbed",
    "config",
    "deploy",
    "docs",
)
FILES = ("pyproject.toml", "requirements-build.lock", "README.md", "LICENSE")


@dataclass(frozen=True, slots=True)
class Machine:
    """The booted container: `leader` is its first process, `root` its directory."""

    root: Path
    leader: int

    def run(self, command: str, *, timeout: float = 120, check: bool = True) -> str:
        """Run a shell line inside and give its output; fails the test with that output when it fails and `check` is set."""
        environment = ("/usr/bin/env", "-i", "LANG=C.UTF-8", "HOME=/root", f"PATH={PATH}")
        done = subprocess.run(
            ("nsenter", "--target", str(self.leader), "--all", "--", *environment, "/bin/bash", "-c", command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            text=True,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"$ {command}\nexit {done.returncode}\n{done.stdout}")
        return done.stdout.strip()

    def until(self, command: str, expected: str, *, timeout: float = 60) -> None:
        """Run the shell line until its output is `expected`: systemd offers no event that could be waited for from outside."""
        deadline = time.monotonic() + timeout
        while (seen := self.run(command, check=False)) != expected:
            if time.monotonic() > deadline:
                pytest.fail(f"$ {command}\nexpected {expected!r}, still {seen!r} after {timeout:g} s\n{self.journal()}")
            time.sleep(0.3)

    def show(self, unit: str, key: str) -> str:
        return self.run(f"systemctl show --value --property={key} {unit}")

    def journal(self, unit: str = "") -> str:
        return self.run(
            f"journalctl --boot --no-pager --output=cat {f'--unit={unit}' if unit else '--lines=80'}", check=False
        )


def _missing() -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "booting a container needs root on Linux"
    absent = [name for name in ("debootstrap", "systemd-nspawn", "nsenter") if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} missing: make test-all installs debootstrap and systemd-container"
    if sys.version_info[:2] != (3, 11):
        return "wheels are downloaded for this interpreter, and Debian 12 has Python 3.11"
    return ""


def _copy_checkout(target: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in COPIED:
        shutil.copytree(ROOT / name, target / name, ignore=ignore)
    for name in FILES:
        shutil.copy(ROOT / name, target / name)


def _children(process: int) -> list[int]:
    with suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


@contextmanager
def booted(work: Path) -> Iterator[Machine]:
    """A booted Debian 12 with the checkout in /root/gwanmun and every locked package as a file in /root/wheels.

    Skips the test where that is not possible. Half a gigabyte under `work`, removed at the end.
    """
    if why := _missing():
        pytest.skip(why)
    root = work / "root"
    try:
        subprocess.run([ROOT / "scripts" / "debian-root.sh", root, *PACKAGES], check=True, timeout=600)
        subprocess.run(
            [ROOT / "scripts" / "wheels.sh", root / "root" / "wheels", "gate", "controller"],
            check=True,
            timeout=600,
            env={**os.environ, "PYTHON": sys.executable},
        )
        _copy_checkout(root / "root" / "gwanmun")
        with (work / "console.log").open("wb") as console:
            options = ("--register=no", "--keep-unit", "--private-network", "--quiet", "--console=pipe")
            nspawn = subprocess.Popen(
                ("systemd-nspawn", "--boot", f"--directory={root}", f"--machine=gwanmun-{os.getpid()}", *options),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
            try:
                deadline = time.monotonic() + BOOT_S
                while not (leaders := _children(nspawn.pid)):
                    if nspawn.poll() is not None or time.monotonic() > deadline:
                        pytest.fail(
                            f"the container did not start:\n{(work / 'console.log').read_text(errors='replace')}"
                        )
                    time.sleep(0.1)
                machine = Machine(root, leaders[0])
                machine.until("systemctl is-system-running --wait 2>/dev/null", "running", timeout=BOOT_S)
                yield machine
            finally:
                for leader in _children(nspawn.pid):
                    os.kill(leader, signal.SIGRTMIN + 4)  # systemd(1): power off
                try:
                    nspawn.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    nspawn.kill()
                    nspawn.wait()
    finally:
        shutil.rmtree(work, ignore_errors=True)
