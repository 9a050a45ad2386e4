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
from testbed.vm.claims import Refuted

BLUETOOTHD = "/usr/libexec/bluetooth/bluetoothd"
CONFIG = Path("/etc/bluetooth/main.conf")
SECTIONS = {
    "ExchangeMTU": "GATT",
    "MinAdvertisementInterval": "LE",
    "MaxAdvertisementInterval": "LE",
    "Autoconnecttimeout": "LE",
}
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

    def configure(self, settings: dict[str, int]) -> None:
        """Settings by name, such as ExchangeMTU; none: the file as it was shipped. Read by the next start."""
        text = self._as_shipped
        for name, value in settings.items():
            text = re.sub(rf"(?m)^\[{SECTIONS[name]}\]$", f"[{SECTIONS[name]}]\n{name} = {value}", text)
        CONFIG.write_text(text)

    async def start(self) -> None:
        """Until an adapter is powered."""
        self._log = await asyncio.to_thread(LOG.open, "ab")
        self._process = await asyncio.create_subprocess_exec(
            BLUETOOTHD, "-n", *self._debug, stdout=self._log, stderr=self._log
        )
        async with asyncio.timeout(UP_SECONDS):
            while not await powered():  # noqa: ASYNC110  bluetoothd is asked, it tells nobody
                await asyncio.sleep(POLL_SECONDS)

    async def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):  # the kernel may have ended it
                process.send_signal(how)
            async with asyncio.timeout(DOWN_SECONDS):
                await process.wait()
        if self._log is not None:
            self._log.close()

    async def restart(self, settings: dict[str, int] | None = None) -> None:
        """With other settings, where some are given."""
        await self.end()
        if settings is not None:
            self.configure(settings)
        await self.start()


class KernelLog:
    """What the kernel says of itself from now on."""

    def __init__(self) -> None:
        self._log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._log, 0, os.SEEK_END)

    def faults(self) -> list[str]:
        """Warnings and worse since the last call, one line each."""
        found = []
        with suppress(BlockingIOError):
            while True:
                try:
                    record = os.read(self._log, 8192).decode(errors="replace")
                except BrokenPipeError:  # records were overwritten before they were read
                    continue
                text = record.partition(";")[2].partition("\n")[0]
                if re.search(r"\bBUG\b|WARNING: CPU|Oops|general protection|use-after-free", text):
                    found.append(text)
        return found


async def managed_objects() -> dict[str, dict[str, dict[str, Any]]]:
    """What bluetoothd has on the bus, by path, interface and property; empty while it is not there.

    Over a connection of its own, so that it disturbs nothing.
    """
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
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # annotated in part
    if reply is None or reply.message_type is MessageType.ERROR:
        return {}
    return {
        path: {name: {key: held.value for key, held in properties.items()} for name, properties in interfaces.items()}
        for path, interfaces in reply.body[0].items()
    }


async def having(interface: str) -> list[dict[str, Any]]:
    """The properties of each object that has `interface`."""
    return [interfaces[interface] for interfaces in (await managed_objects()).values() if interface in interfaces]


async def powered() -> bool:
    return any(adapter["Powered"] for adapter in await having("org.bluez.Adapter1"))


class Guest:
    """Open once per boot."""

    def __init__(self, air: Air, controller: KernelController) -> None:
        self.air, self.controller = air, controller
        self.bluetoothd = Bluetoothd()
        self.kernel_log = KernelLog()

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

    async def idle(self, seconds: float) -> float:
        """Seconds until nothing is connected, scanned for, being connected to or advertised. Raises Refuted."""
        begun = time.monotonic()
        busy = await self._busy()
        while busy:
            if time.monotonic() - begun > seconds:
                raise Refuted(f"still busy after {seconds:g} s: {', '.join(busy)}")
            await asyncio.sleep(POLL_SECONDS)
            busy = await self._busy()
        return time.monotonic() - begun

    async def _busy(self) -> list[str]:
        controller = self.controller
        devices = sum(device["Connected"] for device in await having("org.bluez.Device1"))
        adapters = await having("org.bluez.Adapter1")
        managers = await having("org.bluez.LEAdvertisingManager1")
        return [
            *([f"bluetoothd holds {devices} connected"] if devices else []),
            *(["bluetoothd scans"] if any(adapter["Discovering"] for adapter in adapters) else []),
            *(["bluetoothd advertises"] if any(manager["ActiveInstances"] for manager in managers) else []),
            *(
                [f"the controller has {len(controller.le_connections)} connections"]
                if controller.le_connections
                else []
            ),
            *(["the controller connects"] if controller.connecting else []),
            *(["the controller scans"] if controller.le_scan_enable else []),
            *(["the controller advertises"] if controller.advertises else []),
        ]

    def controller_of(self, device: Device) -> AirController:
        """The virtual controller below a phone."""
        sink: Any = device.host.hci_sink
        controller: AirController = sink.sink
        return controller
