"""The radio under a `BleakCentral`: which bleak backend it drives, and how that is brought up and put away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from bleak import BleakAdapter
from bleak.backends.client import BaseBleakClient
from bleak.backends.scanner import BaseBleakScanner

from drivers.ports import DriverError

BUS_SECONDS = 5.0
"""BlueZ answers a D-Bus call in milliseconds; a bus that takes this long is as good as absent."""


async def never() -> None:
    """Waits for ever: nothing is watched."""
    await asyncio.Event().wait()


@dataclass(frozen=True, slots=True)
class Backend:
    """What bleak's public `backend=` keyword takes."""

    scanner: type[BaseBleakScanner]
    client: type[BaseBleakClient]
    gone: Callable[[], Awaitable[None]] = never
    """Returns or raises DriverError once the device below is gone."""


class Radio(Protocol):
    @property
    def adapter(self) -> str | None:
        """BlueZ name of the adapter, None = default."""
        ...

    @property
    def backend(self) -> Backend | None:
        """None = the platform's own. Valid between start and stop."""
        ...

    async def start(self) -> None:
        """Raises DriverError. May be called again after a failure."""
        ...

    async def stop(self) -> None:
        """Never raises."""
        ...

    async def gone(self) -> None:
        """Between start and stop: returns or raises DriverError once the radio is gone, used or not."""
        ...


class BluezRadio:
    """bluetoothd's adapter; bluetoothd brings it up and keeps it."""

    def __init__(self, adapter: str | None = None) -> None:
        self.adapter = adapter

    @property
    def backend(self) -> Backend:
        # dbus-fast is loaded where BlueZ is used
        from bleak.backends.bluezdbus.scanner import BleakScannerBlueZDBus  # noqa: PLC0415

        from drivers.ble.bluez_client import BluezClient  # noqa: PLC0415

        return Backend(BleakScannerBlueZDBus, BluezClient)

    async def start(self) -> None:
        # dbus-fast is loaded where BlueZ is used
        from drivers.ble.bluez_watch import adapter_there  # noqa: PLC0415

        await adapter_there(self.adapter)  # bleak goes on believing in the adapter of a bluetoothd that was killed
        try:
            async with asyncio.timeout(BUS_SECONDS):
                await BleakAdapter.get(bluez={} if self.adapter is None else {"adapter": self.adapter})
        except Exception as error:  # no phone is involved yet: whatever fails is bus, bluetoothd or adapter
            raise DriverError(f"Bluetooth is not available: {type(error).__name__}") from error

    async def stop(self) -> None:
        pass

    async def gone(self) -> None:
        # dbus-fast is loaded where BlueZ is used
        from drivers.ble.bluez_watch import adapter_gone  # noqa: PLC0415

        await adapter_gone(self.adapter)


class GivenRadio:
    """A backend whose device somebody else powers."""

    adapter = None

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def gone(self) -> None:
        await self.backend.gone()
