"""A network of its own for the gates, joined to this machine by one virtual cable that can be pulled. Needs root and iproute2."""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
from contextlib import suppress

BITS = 30
PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class NamespaceError(Exception):
    """`ip` refused; the text is its own."""


def _ip(*arguments: str) -> None:
    program = shutil.which("ip", path=PATHS) or "ip"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NamespaceError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def reason_against() -> str | None:
    """Why this machine cannot have one, Korean and English; None: it can."""
    if os.geteuid() != 0:
        return "root가 아님 / not root"
    if shutil.which("ip", path=PATHS) is None:
        return "iproute2가 없음 / iproute2 is missing"
    return None


class Cable:
    """`lay` first, `remove` last. Names and addresses follow this process's number, so that two runs do not meet."""

    def __init__(self) -> None:
        number = os.getpid() % 100_000
        self.namespace, self._here, self._there = f"chaos-{number}", f"ch{number}a", f"ch{number}b"
        begin = ipaddress.ip_address("10.254.0.0") + 4 * (os.getpid() % (1 << 14))
        self.here, self.there = str(begin + 1), str(begin + 2)
        """Addresses of its ends: of this machine, and in the namespace."""

    def lay(self) -> None:
        """Raises NamespaceError."""
        _ip("netns", "add", self.namespace)
        _ip("link", "add", self._here, "type", "veth", "peer", "name", self._there, "netns", self.namespace)
        _ip("address", "add", f"{self.here}/{BITS}", "dev", self._here)
        _ip("link", "set", self._here, "up")
        _ip("-n", self.namespace, "address", "add", f"{self.there}/{BITS}", "dev", self._there)
        for device in (self._there, "lo"):
            _ip("-n", self.namespace, "link", "set", device, "up")

    def remove(self) -> None:
        for command in (("link", "delete", self._here), ("netns", "delete", self.namespace)):
            with suppress(NamespaceError):
                _ip(*command)

    def pull(self) -> None:
        """The link goes down; connections stay, and nobody is told."""
        _ip("link", "set", self._here, "down")

    def plug(self) -> None:
        _ip("link", "set", self._here, "up")

    def inside(self, _gate: str) -> list[str]:
        """What goes before a command that is to run there."""
        return [shutil.which("ip", path=PATHS) or "ip", "netns", "exec", self.namespace]
