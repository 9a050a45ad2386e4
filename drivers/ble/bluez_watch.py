"""Whether BlueZ and an adapter of it are still there, used or not. One D-Bus connection per watch."""

from __future__ import annotations

import asyncio
from typing import Any

from dbus_fast import BusType, DBusError, Message, MessageType
from dbus_fast.aio import MessageBus

from drivers.ports import DriverError

CALL_SECONDS = 5.0
"""A D-Bus call takes milliseconds; a bus that takes this long is as good as absent."""
BLUEZ = "org.bluez"
ADAPTER = "org.bluez.Adapter1"
DBUS = "org.freedesktop.DBus"
OBJECTS = "org.freedesktop.DBus.ObjectManager"
PROPERTIES = "org.freedesktop.DBus.Properties"
RULES = (
    f"type='signal',sender='{DBUS}',interface='{DBUS}',member='NameOwnerChanged',arg0='{BLUEZ}'",
    f"type='signal',sender='{BLUEZ}',interface='{OBJECTS}',member='InterfacesRemoved'",
    f"type='signal',sender='{BLUEZ}',interface='{PROPERTIES}',member='PropertiesChanged',arg0='{ADAPTER}'",
)


async def adapter_gone(adapter: str | None) -> None:
    """Waits until bluetoothd ends, the adapter is unplugged or powered off, or the bus is lost; raises DriverError then.

    `adapter`: BlueZ's name such as `hci0`; None: whichever one is powered now. Raises DriverError at once when there is none.
    """
    bus = MessageBus(bus_type=BusType.SYSTEM)
    try:
        async with asyncio.timeout(CALL_SECONDS):
            await bus.connect()
            watch = _Watch()
            bus.add_message_handler(watch.heard)  # before the present state is asked for: no change falls in between
            for rule in RULES:
                await _call(bus, DBUS, "/org/freedesktop/DBus", DBUS, "AddMatch", "s", [rule])
            (objects,) = await _call(bus, BLUEZ, "/", OBJECTS, "GetManagedObjects")
            watch.look_at(_powered(objects, adapter))
        ended = asyncio.ensure_future(bus.wait_for_disconnect())  # type: ignore[no-untyped-call]  # annotated in part
        waiting = asyncio.ensure_future(watch.gone.wait())
        try:
            await asyncio.wait({ended, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            waiting.cancel()
            await asyncio.gather(ended, waiting, return_exceptions=True)
    except Exception as error:  # no phone is involved: whatever fails is bus, bluetoothd or adapter
        raise DriverError(f"Bluetooth is not available: {type(error).__name__}") from error
    finally:
        bus.disconnect()
    raise DriverError(watch.why)


async def adapter_there(adapter: str | None) -> None:
    """Raises DriverError when bluetoothd is not there, or has no such adapter, or none that is powered."""
    bus = MessageBus(bus_type=BusType.SYSTEM)
    try:
        async with asyncio.timeout(CALL_SECONDS):
            await bus.connect()
            (objects,) = await _call(bus, BLUEZ, "/", OBJECTS, "GetManagedObjects")
            _powered(objects, adapter)
    except Exception as error:  # as above
        raise DriverError(f"Bluetooth is not available: {type(error).__name__}") from error
    finally:
        bus.disconnect()


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

    def heard(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        body = message.body
        match message.member:
            case "NameOwnerChanged" if body[0] == BLUEZ and not body[2]:
                self._lost(None, "bluetoothd is gone")
            case "InterfacesRemoved" if ADAPTER in body[1]:
                self._lost(body[0], "the adapter is gone")
            case "PropertiesChanged" if body[0] == ADAPTER and "Powered" in body[1] and not body[1]["Powered"].value:
                self._lost(message.path, "the adapter is powered off")

    def _lost(self, path: str | None, why: str) -> None:
        if self._path is None:
            if len(self._early) < 64:  # a machine has a handful of adapters
                self._early.append((path, why))
        elif path in (None, self._path) and not self.gone.is_set():
            self.why = why
            self.gone.set()


def _powered(objects: dict[str, dict[str, Any]], adapter: str | None) -> str:
    for path, interfaces in sorted(objects.items()):
        properties = interfaces.get(ADAPTER)
        if properties is None or (adapter is not None and path.rsplit("/", 1)[-1] != adapter):
            continue
        if properties["Powered"].value:
            return path
    raise DBusError("org.bluez.Error.NotReady", "no powered adapter")


async def _call(
    bus: MessageBus, destination: str, path: str, interface: str, member: str, signature: str = "", body: Any = ()
) -> list[Any]:
    reply = await bus.call(
        Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
    )
    if reply is None or reply.message_type is MessageType.ERROR:
        raise DBusError(str(reply and reply.error_name), "")
    return list(reply.body)
