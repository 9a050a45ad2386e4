"""A pcscd with a virtual reader (vpcd) for tests: one of its own for each run, in a mount namespace, so that it meets neither the
machine's nor another run's.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

GUARD_S = 15.0
"""Nothing here takes that long."""
NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
VPCD = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")


def missing() -> str:
    """What is not there; "" when all is."""
    try:
        import smartcard.scard  # noqa: F401
    except ImportError:
        return "pyscard"
    if shutil.which("pcscd", path=os.environ.get("PATH", "") + ":/usr/sbin") is None:
        return "pcscd"
    if not VPCD.exists():
        return "vsmartcard-vpcd"
    found = subprocess.run([*NAMESPACE, "true"], capture_output=True, timeout=GUARD_S, check=False)
    return "" if found.returncode == 0 else "a mount namespace"


@dataclass
class Pcscd:
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """For programs that are to find this daemon."""
        return {**os.environ, "PCSCLITE_CSOCK_NAME": str(self.folder / "run" / "pcscd.comm")}

    def start(self) -> None:
        """Raises RuntimeError with its output when it does not come up."""
        run, config, log = self.folder / "run", self.folder / "reader.conf", self.folder / "log"
        run.mkdir(exist_ok=True)
        config.write_text(
            f'FRIENDLYNAME "Virtual PCD"\nDEVICENAME /dev/null:0x{self.port:X}\nLIBPATH {VPCD}\nCHANNELID 0x{self.port:X}\n'
        )
        script = (
            "mount -t tmpfs tmpfs /run && mkdir /run/pcscd"
            ' && mount --bind "$0" /run/pcscd && exec pcscd --foreground --config "$1"'
        )
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*NAMESPACE, "sh", "-c", script, str(run), str(config)],
                stdout=output,
                stderr=output,
                env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"},
            )
        end = time.monotonic() + GUARD_S
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(run / "pcscd.comm"))
                return
            threading.Event().wait(0.02)
        raise RuntimeError(log.read_text(errors="replace"))

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(GUARD_S)
            self.process = None


def free_ports() -> int:
    """vpcd takes this one and the next."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port if port < 65_000 else port - 5_000


_shared: Pcscd | None = None
"""libpcsclite remembers for the life of a process where its daemon is: one of them serves every module."""


def running(folder: Path) -> Pcscd:
    """For a module's fixture: a started daemon that PC/SC calls of this process go to, with its files in the first `folder` that
    is given. Skips the test where a part is missing."""
    global _shared  # noqa: PLW0603  see above
    absent = missing()
    if absent:
        # `make test-all` installs what is missing; in CI nothing may be.
        assert os.environ.get("CI") != "true", f"missing: {absent}"
        pytest.skip(f"missing: {absent}")
    if _shared is None:
        _shared = Pcscd(folder, free_ports())
        os.environ["PCSCLITE_CSOCK_NAME"] = _shared.environment["PCSCLITE_CSOCK_NAME"]
        atexit.register(_shared.stop)
    if _shared.process is None:
        _shared.start()
    return _shared
