"""bleak's BlueZ client, which believes bluetoothd that all services are known when it says so.

bluetoothd may say ServicesResolved before it has told of the services: its signals wait for the end of the loop's turn, and any
other message in between, such as a value written to the GATT server of the same adapter, sends them in the order in which their
objects first changed (gdbus/object.c, g_dbus_flush; seen on 5.66). bleak then sees a phone without services.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bleak.backends.bluezdbus.client import BleakClientBlueZDBus
from bleak.backends.bluezdbus.manager import get_global_bluez_manager
from bleak.backends.device import BLEDevice

CHARACTERISTICS = 3
"""State, Client2Server, Server2Client: a service with fewer is not all there, or not ours."""
READS = 6
PAUSE_SECONDS = 0.05
"""The signals left together; a phone that lacks the service costs a third of a second more."""


class BluezClient(BleakClientBlueZDBus):
    """`services`: as of BleakClient, the UUIDs that are looked for."""

    def __init__(self, address_or_ble_device: BLEDevice | str, services: set[str] | None = None, **kwargs: Any) -> None:
        super().__init__(address_or_ble_device, services, **kwargs)
        self._wanted = set(services or ())

    async def connect(self, pair: bool, dangerous_use_bleak_cache: bool = False, **kwargs: Any) -> None:
        await super().connect(pair, dangerous_use_bleak_cache, **kwargs)
        if self._complete():
            return
        manager = await get_global_bluez_manager()
        for _ in range(READS):
            await asyncio.sleep(PAUSE_SECONDS)
            path = self._device_path
            if path is None or not self.is_connected:
                return
            complete = self._complete()
            self.services = await manager.get_services(path, use_cached=False, requested_services=self._wanted or None)
            if complete:
                return  # one more reading than it took: descriptors come last

    def _complete(self) -> bool:
        whole = {service.uuid for service in self.services or () if len(service.characteristics) >= CHARACTERISTICS}
        return self._wanted <= whole
