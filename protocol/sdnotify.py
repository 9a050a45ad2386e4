"""What a service tells systemd (sd_notify(3), sd_watchdog_enabled(3)). Without NOTIFY_SOCKET every call does nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

MAX_STATUS = 200
"""Characters of the line that `systemctl status` shows."""


def ready(environ: Mapping[str, str] = os.environ) -> None:
    _send("READY=1", environ)


def stopping(environ: Mapping[str, str] = os.environ) -> None:
    _send("STOPPING=1", environ)


def alive(environ: Mapping[str, str] = os.environ) -> None:
    """Feed the watchdog."""
    _send("WATCHDOG=1", environ)


def status(text: str, environ: Mapping[str, str] = os.environ) -> None:
    """One line for `systemctl status`."""
    _send("STATUS=" + " ".join(text.split())[:MAX_STATUS], environ)


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between two `alive` calls (half of WatchdogSec=); None when systemd does not watch this process."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isascii() or not microseconds.isdigit() or int(microseconds) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 2_000_000


def _send(text: str, environ: Mapping[str, str]) -> None:
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.sendto(text.encode(), address)
    except OSError:
        return  # a full or vanished socket is systemd's affair; the service goes on
