"""A D-Bus of one's own: `dbus-daemon` in a temporary directory, and DBUS_SYSTEM_BUS_ADDRESS pointing at it meanwhile."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

VARIABLE = "DBUS_SYSTEM_BUS_ADDRESS"
START_SECONDS = 5.0

_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    {rules}
  </policy>
</busconfig>
"""


class PrivateBus:
    """The running daemon; `address` is where it listens."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self.address = f"unix:path={directory / 'bus'}"

    async def start(self, rules: str = "") -> None:
        """`rules`: further lines of policy, after those that allow everything. Raises OSError or TimeoutError."""
        config = self._directory / "bus.conf"
        config.write_text(_CONFIG.format(socket=self._directory / "bus", rules=rules))
        self._process = await asyncio.create_subprocess_exec(
            "dbus-daemon",
            f"--config-file={config}",
            "--nofork",
            "--nopidfile",
            "--print-address",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert self._process.stdout is not None  # noqa: S101  # asked for above
        async with asyncio.timeout(START_SECONDS):
            await self._process.stdout.readline()  # printed once it listens

    async def stop(self) -> None:
        """Every connection to it ends."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            await process.communicate()
        (self._directory / "bus").unlink(missing_ok=True)


@asynccontextmanager
async def private_bus(rules: str = "") -> AsyncIterator[PrivateBus]:
    """For the time of the context it is the system bus of this process."""
    directory = Path(tempfile.mkdtemp(prefix="bus"))
    before = os.environ.get(VARIABLE)
    bus = PrivateBus(directory)
    os.environ[VARIABLE] = bus.address
    try:
        await bus.start(rules)
        yield bus
    finally:
        await bus.stop()
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before
        shutil.rmtree(directory, ignore_errors=True)
