"""bumble as the Bluetooth host of an adapter of its own: the opt-in driver, and the same code that runs on the virtual air.

The adapter is exclusive (no bluetoothd). Transports are bumble's: `usb:0`, `serial:/dev/ttyACM0,1000000`, `hci-socket:0`,
`unix:/path`.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bumble.device import Device, DeviceConfiguration
from bumble.pairing import PairingConfig, PairingDelegate
from bumble.transport import open_transport
from bumble.transport.common import Transport

from drivers.ble.bumble_backend import backend_for
from drivers.ble.bumble_device import BumbleDevice
from drivers.ble.radio import Backend
from drivers.ports import DriverError

OPEN_SECONDS = 10.0
"""Firmware download on adapters that need one takes seconds; anything longer is a dead adapter."""
CLOSE_SECONDS = 2.0


class _NoPairing(PairingDelegate):
    """18013-5 encrypts above the link; a bond would only be something to remember a phone by."""

    async def accept(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class OpenDevice:
    """A powered-on bumble device and the transport it owns."""

    device: BumbleDevice
    transport: Transport

    async def close(self) -> None:
        """Never raises."""
        for step in (self.device.power_off, self.transport.close):
            # the transport may be lost already, and bumble then fails in ways of the transport's library
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await step()


async def open_device(hci: str, name: str) -> OpenDevice:
    """Open the transport and power on, with a fresh random static address. Raises DriverError."""
    logging.getLogger("bumble").setLevel(logging.CRITICAL)  # its lines name the phones' addresses
    transport: Transport | None = None
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            transport = await open_transport(hci)
            device: Any = Device.from_config_with_hci(DeviceConfiguration(name=name), transport.source, transport.sink)
            device.pairing_config_factory = lambda _: PairingConfig(delegate=_NoPairing())
            await device.power_on()
    except BaseException as error:
        if transport is not None:
            await transport.close()
        if isinstance(error, Exception):  # each transport has its own library with its own errors; all mean one thing
            raise DriverError(f"HCI transport {hci}: {type(error).__name__}") from error
        raise
    return OpenDevice(device, transport)


class BumbleRadio:
    """`drivers.ble.radio.Radio` on an HCI transport."""

    adapter = None

    def __init__(self, hci: str) -> None:
        self._hci = hci
        self._open: OpenDevice | None = None
        self._lost = asyncio.Event()
        self.backend: Backend | None = None

    @property
    def device(self) -> BumbleDevice | None:
        """What central and GATT server share, and its HCI transport; None while not started."""
        return None if self._open is None else self._open.device

    async def start(self) -> None:
        await self.stop()
        self._open = await open_device(self._hci, "gate")
        self._lost = asyncio.Event()
        self._open.device.on("flush", self._lost.set)
        self.backend = backend_for(self._open.device)

    async def gone(self) -> None:
        """Waits until the HCI transport is lost, or given up by `stop`, and raises DriverError then."""
        await self._lost.wait()
        raise DriverError(f"HCI transport {self._hci} lost")

    async def stop(self) -> None:
        opened, self._open = self._open, None
        self._lost.set()
        self.backend = None
        if opened is not None:
            await opened.close()
