"""The guest as the claims use it: bluetoothd to start and kill, the kernel's controller, phones on the same air."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from bumble import hci
from bumble.device import Device
from bumble.transport import open_transport
from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from testbed.air import Air, AirController, virtual_device

BLUETOOTHD = "/usr/libexec/bluetooth/bluetoothd"
CONFIG = Path("/etc/bluetooth/main.conf")
LOG = Path("/run/bluetoothd.log")
UP_SECONDS = 20.0
"""Emulated, bluetoothd needs one to three seconds until its adapter is powered."""
DOWN_SECONDS = 10.0
ENHANCED_COMPLETE = 1 << 9
"""Bit of LE Enhanced Connection Complete in the LE event mask (Vol 4 Part E 7.8.1)."""
POLL_SECONDS = 0.05


async def until(holds: Callable[[], bool], seconds: float) -> float:
    """Seconds until `holds`. Raises TimeoutError."""
    begun = time.monotonic()
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  what is watched belongs to others and tells nobody
            await asyncio.sleep(POLL_SECONDS)
    return time.monotonic() - begun


class KernelController(AirController):
    """The controller that the guest's kernel drives. Phones in `unreachable` are heard but never connect."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.unreachable: set[str] = set()

    def send_hci_packet(self, packet: hci.HCI_Packet) -> None:
        """A host that has unmasked LE Enhanced Connection Complete gets that event alone (Vol 4 Part E 7.7.65.10).

        bumble sends the older event; Linux then waits four seconds for the one it asked for, and with it whatever else the
        adapter was to do: the disconnect of this phone and the connect of the next.
        """
        if isinstance(packet, hci.HCI_LE_Connection_Complete_Event) and self.le_event_mask & ENHANCED_COMPLETE:
            packet = hci.HCI_LE_Enhanced_Connection_Complete_Event(
                status=packet.status,
                connection_handle=packet.connection_handle,
                role=packet.role,
                peer_address_type=packet.peer_address_type,
                peer_address=packet.peer_address,
                local_resolvable_private_address=hci.Address.ANY,
                peer_resolvable_private_address=hci.Address.ANY,
                connection_interval=packet.connection_interval,
                peripheral_latency=packet.peripheral_latency,
                supervision_timeout=packet.supervision_timeout,
                central_clock_accuracy=packet.central_clock_accuracy,
            )
        super().send_hci_packet(packet)

    def create_le_connection(self, peer_address: hci.Address) -> None:
        if str(peer_address) not in self.unreachable:
            super().create_le_connection(peer_address)

    @property
    def connecting(self) -> bool:
        return self.pending_le_connection is not None

    @property
    def connections(self) -> int:
        return len(self.le_connections)

    @property
    def advertises(self) -> bool:
        return self.le_legacy_advertiser.enabled or any(one.enabled for one in self.advertising_sets.values())


class Bluetoothd:
    """One daemon at a time, with the machine's main.conf and one setting changed in it."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._log: IO[bytes] | None = None
        self._debug = ["-d"] if os.environ.get("BLE_VM_DEBUG") == "1" else []
        self._as_shipped = CONFIG.read_text()

    async def version(self) -> tuple[int, int]:
        process = await asyncio.create_subprocess_exec(BLUETOOTHD, "--version", stdout=asyncio.subprocess.PIPE)
        answer, _ = await process.communicate()
        major, minor = answer.split(b".")[:2]
        return int(major), int(minor)

    def configure(self, exchange_mtu: int | None) -> None:
        """`[GATT] ExchangeMTU`, or the file as it was shipped. Read by the next start."""
        setting = "" if exchange_mtu is None else f"\nExchangeMTU = {exchange_mtu}"
        CONFIG.write_text(re.sub(r"(?m)^\[GATT\]$", f"[GATT]{setting}", self._as_shipped))

    async def start(self) -> None:
        """Until an adapter is powered."""
        self._log = LOG.open("ab")
        self._process = await asyncio.create_subprocess_exec(
            BLUETOOTHD, "-n", *self._debug, stdout=self._log, stderr=self._log
        )
        async with asyncio.timeout(UP_SECONDS):
            while not await adapter_property("Powered"):
                await asyncio.sleep(POLL_SECONDS)

    async def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            async with asyncio.timeout(DOWN_SECONDS):
                await process.wait()
        if self._log is not None:
            self._log.close()

    async def restart(self, exchange_mtu: int | None = None) -> None:
        await self.end()
        self.configure(exchange_mtu)
        await self.start()


async def managed_objects() -> dict[str, dict[str, dict[str, Any]]]:
    """What bluetoothd has on the bus, by path and interface; empty while it is not there. A connection of its own: it
    disturbs nothing."""
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    try:
        reply = await bus.call(
            Message(
                destination="org.bluez",
                path="/",
                interface="org.freedesktop.DBus.ObjectManager",
                member="GetManagedObjects",
            )
        )
    finally:
        bus.disconnect()
        with suppress(Exception):
            await bus.wait_for_disconnect()
    if reply is None or reply.message_type is MessageType.ERROR:
        return {}
    objects: dict[str, dict[str, dict[str, Any]]] = reply.body[0]
    return objects


async def adapter_property(name: str) -> Any:
    for interfaces in (await managed_objects()).values():
        if "org.bluez.Adapter1" in interfaces:
            return interfaces["org.bluez.Adapter1"][name].value
    return None


async def connected_devices() -> int:
    """How many phones bluetoothd holds connected."""
    return sum(
        interfaces["org.bluez.Device1"]["Connected"].value
        for interfaces in (await managed_objects()).values()
        if "org.bluez.Device1" in interfaces
    )


class Guest:
    """Open once per boot."""

    def __init__(self, air: Air, controller: KernelController) -> None:
        self.air, self.controller = air, controller
        self.bluetoothd = Bluetoothd()

    @classmethod
    async def open(cls) -> Guest:
        air = Air()
        transport = await open_transport("vhci")
        controller = KernelController(
            "kernel",
            host_source=transport.source,
            host_sink=transport.sink,
            link=air,
            public_address="F6:F7:F8:F9:FA:FB",
        )
        return cls(air, controller)

    async def device(self) -> Device:
        """A phone's radio, on the same air."""
        return await virtual_device(self.air, "phone")

    def controller_of(self, device: Device) -> AirController:
        """The virtual controller below a phone."""
        sink: Any = device.host.hci_sink
        controller: AirController = sink.sink
        return controller
