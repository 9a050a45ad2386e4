"""systemd notification against a socket of our own."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from protocol import sdnotify


def test_says_ready_alive_status_and_stopping(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    environ = {"NOTIFY_SOCKET": str(path)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sdnotify.ready(environ)
        sdnotify.alive(environ)
        sdnotify.status("연결됨\nMAINPID=1", environ)
        sdnotify.stopping(environ)
        heard = [sock.recv(500).decode() for _ in range(4)]
    # A status can hold no second assignment.
    assert heard == ["READY=1", "WATCHDOG=1", "STATUS=연결됨 MAINPID=1", "STOPPING=1"]


def test_an_abstract_socket_is_reached() -> None:
    name = f"gwanmun-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sdnotify.ready({"NOTIFY_SOCKET": f"@{name}"})
        assert sock.recv(100) == b"READY=1"


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}, {"NOTIFY_SOCKET": "vsock:2"}):
        sdnotify.ready(environ)


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "20000000"}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_per_period(environ: dict[str, str], seconds: float | None) -> None:
    assert sdnotify.watchdog_interval(environ) == seconds
