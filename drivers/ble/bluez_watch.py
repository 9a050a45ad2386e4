"""Whether BlueZ and an adapter of it are still there, used or not. One D-Bus connection per watch."""

from __future__ import annotations

import asyncio

from dbus_fast import Message, MessageType

from drivers.ble.bluez_bus import ADAPTER, DAEMON, OBJECT_MANAGER, PROPERTIES, SERVICE, BluezBus, Objects
from drivers.ports import DriverError
from protocol.race import race

RULES = (
    f"type='signal',sender='{DAEMON}',interface='{DAEMON}',member='NameOwnerChanged',arg0='{SERVICE}'",
    f"type='signal',sender='{SERVICE}',interface='{OBJECT_MANAGER}',member='InterfacesRemoved'",
    f"type='signal',sender='{SERVICE}',interface='{PROPERTIES}',member='PropertiesChanged',arg0='{ADAPTER}'",
)
MAX_EARLY = 64
"""A machine has a handful of adapters."""


async def adapter_gone(adapter: str | None) -> None:
    """Waits until bluetoothd ends, the adapter is unplugged or powered off, or the bus is lost; raises DriverError then.

    `adapter`: BlueZ's name such as `hci0`; None: whichever one is powered now. Raises DriverError at once when there is none.
    """
    watch = _Watch()
    bus = await BluezBus.open(watch.heard)  # before the present state is asked for: no change falls in between
    try:
        for rule in RULES:
            await bus.match(rule)
        watch.look_at(_powered(await bus.objects(), adapter))
        await race(bus.ended(), watch.gone.wait())
    finally:
        await bus.close()
    raise DriverError(watch.why)


async def adapter_there(adapter: str | None) -> None:
    """Raises DriverError when bluetoothd is not there, or has no such adapter, or none that is powered."""
    bus = await BluezBus.open()
    try:
        _powered(await bus.objects(), adapter)
    finally:
        await bus.close()


class _Watch:
    """Signals until the adapter is known are kept as one fact: something went."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.why = "the D-Bus connection is lost"
        self._path: str | None = None
        self._early: list[tuple[str | None, str]] = []

    def look_at(self, path: str) -> None:
        self._path = path
        for gone, why in self._early:
            self._lost(gone, why)
        self._early.clear()

    def heard(self, message: Message) -> bool:
        if message.message_type is MessageType.SIGNAL:
            self._signal(message)
        return False

    def _signal(self, message: Message) -> None:
        body = message.body
        match message.member:
            case "NameOwnerChanged" if body[0] == SERVICE and not body[2]:
                self._lost(None, "bluetoothd is gone")
            case "InterfacesRemoved" if ADAPTER in body[1]:
                self._lost(body[0], "the adapter is gone")
            case "PropertiesChanged" if body[0] == ADAPTER and "Powered" in body[1] and not body[1]["Powered"].value:
                self._lost(message.path, "the adapter is powered off")

    def _lost(self, path: str | None, why: str) -> None:
        if self._path is None:
            if len(self._early) < MAX_EARLY:
                self._early.append((path, why))
        elif path in (None, self._path) and not self.gone.is_set():
            self.why = why
            self.gone.set()


def _powered(objects: Objects, adapter: str | None) -> str:
    """Object path of the adapter. Raises DriverError."""
    for path, interfaces in sorted(objects.items()):
        properties = interfaces.get(ADAPTER)
        if properties is not None and adapter in (None, path.rsplit("/", 1)[-1]) and properties.get("Powered"):
            return path
    raise DriverError("no powered adapter")
