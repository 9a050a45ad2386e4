"""What a gate does with its machine, in one small service: run in the agent's own unit to prove that its sandbox allows it.

Not a part of the product. Says READY to systemd when every step went well, then feeds the watchdog until it gets SIGUSR1.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import multiprocessing
import os
import signal
import socket
import sqlite3
import sys
import threading
from pathlib import Path


def notify(state: str) -> None:
    address = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


def decode(code: bytes) -> str:
    """A camera worker's job: find a QR code in a frame with both decoders' libraries loaded."""
    import cv2
    import numpy as np
    import zxingcpp
    from pyzbar import pyzbar

    frame = cv2.resize(np.frombuffer(code, np.uint8).reshape(21, 21), None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
    frame = cv2.copyMakeBorder(frame, 64, 64, 64, 64, cv2.BORDER_CONSTANT, value=255)
    first = zxingcpp.read_barcodes(frame)[0].text
    second = pyzbar.decode(frame)[0].data.decode()
    return first if first == second else f"{first} != {second}"


def main() -> None:
    state = Path(os.environ["STATE_DIRECTORY"])
    report: dict[str, object] = {}

    # Journal: SQLite as the agent opens it.
    with sqlite3.connect(state / "probe.db") as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE IF NOT EXISTS t (a)")
        db.execute("INSERT INTO t VALUES (1)")
    report["journal"] = "written"

    # Libraries of the radios and readers; ctypes callbacks are what libusb needs under MemoryDenyWriteExecute=.
    bleak, bumble, nfc, usb1 = (importlib.import_module(name) for name in ("bleak", "bumble.device", "nfc", "usb1"))
    report["libraries"] = len({bleak, bumble, nfc, usb1})

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda value: value + 1)
    report["callback"] = callback(41)
    with usb1.USBContext() as context:
        report["usb"] = len(context.getDeviceList()) >= 0
    importlib.import_module("cryptography.hazmat.primitives.asymmetric.ec")

    # A camera worker process, as multiprocessing spawns it.
    code = bytes.fromhex((Path(__file__).parent / "probe.qr").read_text())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        report["qr"] = pool.apply(decode, (code,))

    # Private keys come from systemd and from nowhere else.
    report["credentials"] = sorted(path.name for path in Path(os.environ["CREDENTIALS_DIRECTORY"]).iterdir())
    for name, path in {"keys": "/etc/gwanmun/credentials/gate/mqtt.key", "home": "/root/gwanmun/README.md"}.items():
        try:
            Path(path).read_bytes()
            report[name] = "readable"
        except OSError:
            report[name] = "refused"
    try:
        Path("/etc/gwanmun/probe").touch()
        report["etc"] = "writable"
    except OSError:
        report["etc"] = "refused"
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
        report["packets"] = "readable"
    except OSError as error:
        report["packets"] = os.strerror(error.errno or 0)
    (state / "probe.json").write_text(json.dumps(report), encoding="utf-8")

    stopped, hung = threading.Event(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGUSR1, lambda *_: hung.set())
    notify("READY=1")
    period = int(os.environ["WATCHDOG_USEC"]) / 2_000_000
    while not stopped.wait(period):
        if not hung.is_set():
            notify("WATCHDOG=1")


if __name__ == "__main__":
    main()
    sys.exit(0)
