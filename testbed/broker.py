"""A real mosquitto on the loopback interface, started with the configuration that deploy/mosquitto gives a building.

Only places are replaced (port, files, user, storage); the access list is made by controller.acl, as for a building.
"""

from __future__ import annotations

import getpass
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from controller import acl
from protocol import topics
from testbed.pki import DevicePki, Identity

TEMPLATES = Path(__file__).resolve().parents[1] / "deploy" / "mosquitto"
GATES = tuple(f"gate-{number}" for number in range(1, 10))
"""Who may connect where a test says nothing else."""
START_S = 10.0
"""Longest wait for the broker to listen."""
STOP_S = 5.0
_PLACES = {"mosquitto": "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"}
MISSING = (
    "mosquitto가 설치되어 있지 않습니다. `apt install mosquitto`로 설치하십시오.\n"
    "mosquitto is not installed. Install it with `apt install mosquitto`."
)


class BrokerError(Exception):
    """The broker is not installed or does not start; the text is for a person, Korean first."""


def executable() -> str | None:
    """Path of mosquitto. Debian keeps it in /usr/sbin, which is not on every user's path."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=_PLACES["mosquitto"])


def free_port() -> int:
    """A port of 127.0.0.1 that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def render(template: str, replaced: dict[str, str], added: dict[str, str]) -> str:
    """`template` with the values of the settings in `replaced` exchanged; each must be there, once. Raises BrokerError."""
    lines, left = [], dict(replaced)
    for line in template.splitlines():
        name = line.split(" ", 1)[0]
        lines.append(f"{name} {left.pop(name)}" if name in left else line)
    if left:
        raise BrokerError(f"deploy/mosquitto/gwanmun.conf: {', '.join(left)}?")
    return "\n".join([*lines, *(f"{name} {value}" for name, value in added.items()), ""])


class Broker:
    """`directory` holds its configuration, storage and log. It listens on 127.0.0.1, always on the same `port`."""

    def __init__(
        self,
        directory: Path,
        pki: DevicePki,
        identity: Identity | None = None,
        port: int | None = None,
        *,
        site: str = acl.ANY,
        gates: Sequence[str] = GATES,
        access: Path | None = None,
        observers: Sequence[str] = (),
    ) -> None:
        """`identity` is the broker's own; one is issued when absent. `access`: an access list that somebody else keeps; without
        it one is made for `gates` at `site` (default: any). `observers` may read everything; no building has such."""
        self.site, self.gates, self._access, self._observers = site, gates, access, observers
        self.directory, self.port, self.ca = directory, port or free_port(), pki.ca
        self._ca, self._identity = pki.ca, identity or pki.server()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        path = self.directory / "broker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start and wait until it listens. Raises BrokerError."""
        program = executable()
        if program is None:
            raise BrokerError(MISSING)
        self._write()
        self._write_acl()
        with (self.directory / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-c", str(self.directory / "mosquitto.conf")],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C goes to the program that started it, which then stops it
            )
        deadline = time.monotonic() + START_S
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self.log[-500:]
                self.kill()
                raise BrokerError(f"브로커가 시작되지 않습니다.\nThe broker does not start.\n{tail}")
            time.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM: it saves its state and goes."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """SIGKILL: nothing is saved."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def reload(self) -> None:
        """Hand over the access list as it is now, and SIGHUP: what the path unit does in a building."""
        self._write_acl()
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def _write_acl(self) -> None:
        text = acl.render(self.site, self.gates) if self._access is None else self._access.read_text("ascii")
        seen = "".join(f"\nuser {name}\ntopic read {topics.ROOT}/#\n" for name in self._observers)
        path = self.directory / "acl"
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_text(text + seen, "ascii")

    def _write(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        replaced = {
            "listener": f"{self.port} 127.0.0.1",
            "cafile": str(self._ca),
            "certfile": str(self._identity.certificate),
            "keyfile": str(self._identity.key),
            "acl_file": str(self.directory / "acl"),
        }
        # /etc/mosquitto/mosquitto.conf of Debian gives the first; started by root, mosquitto would change its user.
        added = {"persistence_location": f"{self.directory}/", "user": getpass.getuser(), "log_dest": "stderr"}
        template = (TEMPLATES / "gwanmun.conf").read_text(encoding="utf-8")
        (self.directory / "mosquitto.conf").write_text(render(template, replaced, added), encoding="utf-8")

    def _listens(self) -> bool:
        """A completed TLS greeting: the port alone could be another program's."""
        context = ssl.create_default_context(cafile=str(self._ca))
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as plain:
                context.wrap_socket(plain, server_hostname="127.0.0.1").close()
        except OSError:
            return False
        return True
