"""A real mosquitto on the loopback interface, started with the configuration that deploy/mosquitto gives a building.

Only places are replaced (port, files, user, storage). The access list is made by controller.acl and comes into force by
deploy/mosquitto/apply-acl.sh, as in a building: what it allows here is what it allows there.
"""

from __future__ import annotations

import asyncio
import getpass
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from controller import acl
from testbed.pki import DevicePki, Identity

TEMPLATES = Path(__file__).resolve().parents[1] / "deploy" / "mosquitto"
START_S = 10.0
"""Longest wait for the broker to listen."""
STOP_S = 5.0
APPLY_S = 20.0
"""Longest wait for a new access list to be checked and put in place."""
FOLLOW_S = 0.1
"""Seconds between two looks at the controller's access list."""
LOADED = "Reloading config."
"""What mosquitto logs when it has taken up a SIGHUP; its access list is exchanged before it reads the next packet."""
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
        site: str = "hq",
        gates: Iterable[str] = ("gate-1", "gate-2"),
        observers: Iterable[str] = (),
        revoked: Path | None = None,
    ) -> None:
        """`identity` is the broker's own; one is issued when absent. `gates` have rights at `site` from the start. `observers`
        are common names that may read everything, which no building has: the testbed adds them to whatever list is in force.
        `revoked` is a list of revoked certificates (PEM)."""
        self.directory, self.port, self.ca = directory, port or free_port(), pki.ca
        self._ca, self._identity = pki.ca, identity or pki.server()
        self._first, self._observers = acl.render(site, gates), tuple(observers)
        self._revoked = revoked
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

    @property
    def access_list(self) -> Path:
        """What the broker reads."""
        return self.directory / "acl"

    def apply(self, source: Path) -> bool:
        """Put the controller's access list into force, as gwanmun-broker.service does; says whether it was taken. It is in
        force when this returns."""
        copy = self.directory / "controller.acl"
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        done = subprocess.run(
            [TEMPLATES / "apply-acl.sh", source, copy, "true"], capture_output=True, timeout=APPLY_S, check=False
        )
        if copy.exists():
            self._put(copy.read_text(encoding="ascii"))
            self.reload()
        return done.returncode == 0

    def reload(self) -> None:
        """SIGHUP: access list and revoked certificates are read again. Returns when that has been done. Raises BrokerError."""
        if not self.running or self._process is None:
            return
        before = self.log.count(LOADED)
        self._process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + START_S
        while (
            self.running and self.log.count(LOADED) == before
        ):  # one that has stopped meanwhile reads them when it starts
            if time.monotonic() > deadline:
                raise BrokerError("브로커가 설정을 다시 읽지 않습니다.\nThe broker does not load its files again.")
            time.sleep(0.01)

    async def follow(self, source: Path) -> None:
        """Apply the access list whenever it is replaced, for ever: what gwanmun-broker.path does in a building."""
        before = _version(source)
        while True:
            await asyncio.sleep(FOLLOW_S)
            if (version := _version(source)) != before:
                await asyncio.to_thread(self.apply, source)
                before = version

    def _put(self, rights: str) -> None:
        extra = "".join(f"\nuser {name}\ntopic read pacs/#\n" for name in self._observers)
        part = self.access_list.with_suffix(".part")
        part.write_text(rights + extra, encoding="ascii")
        part.chmod(0o600)
        part.replace(self.access_list)

    def _write(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.access_list.exists():
            self._put(self._first)
        replaced = {
            "listener": f"{self.port} 127.0.0.1",
            "cafile": str(self._ca),
            "certfile": str(self._identity.certificate),
            "keyfile": str(self._identity.key),
            "acl_file": str(self.access_list),
        }
        # /etc/mosquitto/mosquitto.conf of Debian gives the first; started by root, mosquitto would change its user.
        added = {"persistence_location": f"{self.directory}/", "user": getpass.getuser(), "log_dest": "stderr"}
        if self._revoked is not None:
            added["crlfile"] = str(self._revoked)
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


def _version(file: Path) -> tuple[int, int] | None:
    try:
        about = file.stat()
    except FileNotFoundError:
        return None
    return about.st_ino, about.st_mtime_ns
