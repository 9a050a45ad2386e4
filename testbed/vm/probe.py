"""Runs in the guest: `python -m testbed.vm.probe [PART...]`. The verdict (0 or 1) goes to /run/verdict."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path

from mdoc import ble
from testbed.vm.central import CentralClaims
from testbed.vm.claims import Claims
from testbed.vm.guest import Guest
from testbed.vm.server import ServerClaims

RECOMMENDED = {
    "ExchangeMTU": ble.SERVER_MTU,
    "MinAdvertisementInterval": 32,  # of 0.625 ms; 1.28 s as shipped
    "MaxAdvertisementInterval": 48,
    "Autoconnecttimeout": 1000,  # ms; 4000 as shipped
}
"""What docs/install.md says to write into main.conf, and how long Linux is to hold on to one pending connect."""
VERDICT = Path("/run/verdict")
RECORDERS = (
    ("btmon", "btmon", "-T"),
    (
        "dbus",
        "dbus-monitor",
        "--system",
        "type='signal',sender='org.bluez',member='InterfacesAdded'",
        "type='signal',sender='org.bluez',member='PropertiesChanged',arg0='org.bluez.Device1'",
    ),
)


async def _central(guest: Guest, claims: Claims) -> None:
    await guest.bluetoothd.restart(RECOMMENDED)
    await CentralClaims(guest, claims).run()


async def _pending(guest: Guest, claims: Claims) -> None:
    await guest.bluetoothd.restart(RECOMMENDED)
    await CentralClaims(guest, claims).run_pending("pending")


async def _pending_as_shipped(guest: Guest, claims: Claims) -> None:
    await guest.bluetoothd.restart({})
    await CentralClaims(guest, claims).run_pending("pending as shipped")


async def _server(guest: Guest, claims: Claims) -> None:
    await guest.bluetoothd.restart(RECOMMENDED)
    await ServerClaims(guest, claims).run()


async def _as_shipped(guest: Guest, claims: Claims) -> None:
    await guest.bluetoothd.restart({})
    await ServerClaims(guest, claims).run_as_shipped()


PARTS: dict[str, Callable[[Guest, Claims], Awaitable[None]]] = {
    "central": _central,
    "server": _server,
    "as-shipped": _as_shipped,
    "pending": _pending,
    "pending-as-shipped": _pending_as_shipped,
}
USUAL = ("as-shipped", "central", "server", "pending")
"""As shipped comes first: the kernel keeps the settings it was given. The part left out is for looking into what Linux does with
pending connects, alone in its boot."""


async def _run(parts: list[str]) -> int:
    begun = time.monotonic()
    logging.getLogger("bumble").setLevel(logging.CRITICAL)
    guest = await Guest.open()
    recorders = []
    if os.environ.get("BLE_VM_DEBUG") == "1":
        for name, *command in RECORDERS:
            record = os.open(f"/run/{name}.log", os.O_CREAT | os.O_WRONLY)
            recorders.append(await asyncio.create_subprocess_exec(*command, stdout=record))
    major, minor = await guest.bluetoothd.version()
    versions = ", ".join(f"{name} {version(name)}" for name in ("bleak", "dbus-fast", "bumble"))
    print(
        f"      Linux {platform.release()}, bluetoothd {major}.{minor}, Python {platform.python_version()}, {versions}",
        flush=True,
    )
    claims = Claims()
    for part in parts:
        await PARTS[part](guest, claims)
    await guest.bluetoothd.end()
    for recorder in recorders:
        recorder.terminate()
        await recorder.wait()
    print(f"      {claims.held} ok, {len(claims.failed)} FAIL, {time.monotonic() - begun:.0f} s", flush=True)
    return int(bool(claims.failed) or not claims.held)


def main(arguments: list[str]) -> int:
    unknown = [name for name in arguments if name not in PARTS]
    if unknown:
        print(f"FAIL  모르는 부분 / unknown part: {' '.join(unknown)}; {' '.join(PARTS)}", flush=True)
        verdict = 1
    else:
        verdict = asyncio.run(_run(arguments or list(USUAL)))
    VERDICT.write_text(f"{verdict}\n")
    return verdict


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
