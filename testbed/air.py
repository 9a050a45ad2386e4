"""The virtual air: bumble's virtual controllers on one link, in this process or, through `AirHub`, for many processes.

Real ATT, L2CAP and HCI bytes; what is missing is the radio, so `Air` can shape latency, rate and loss. Each controller gets a
fresh random address. Run `python -m testbed.air /path/of/socket` for a hub, then open `unix:/path/of/socket` as HCI transport.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bumble import hci, ll
from bumble.controller import Controller
from bumble.core import InvalidArgumentError, InvalidPacketError, PhysicalTransport
from bumble.device import Device, DeviceConfiguration
from bumble.host import Host
from bumble.link import LocalLink
from bumble.transport.common import AsyncPipeSink, PacketParser

ACL_LENGTH = 251
"""Bytes of one LE data packet with data length extension (Core Specification, Vol 6 Part B 4.5.10); bumble's default is 27."""
RSSI = -50
"""Signal strength of an advertisement where a test sets none, dBm."""
CONTROL_S = 1e-5
"""Of a control PDU on a shaped air, seconds: enough to come after the data before it."""
MAX_BACKLOG = 1 << 20
"""Bytes a hub holds for a client that does not read; then the client is dropped."""

RandomBytes = Callable[[int], bytes]


def static_address(random_bytes: RandomBytes) -> hci.Address:
    """Random static device address: 46 random bits under two set ones (Vol 6 Part B 1.3.2.1)."""
    raw = random_bytes(6)
    return hci.Address(raw[:5] + bytes([raw[5] | 0xC0]), hci.Address.RANDOM_DEVICE_ADDRESS)


class AirController(Controller):
    """bumble's controller with a working LE Create Connection Cancel (upstream it answers and leaves the connect pending)."""

    le_acl_data_packet_length = ACL_LENGTH
    free_at = 0.0
    """Loop time at which this sender's last packet has left (shaped air)."""
    connectable = True
    """False: it advertises, and a connection to it stays pending."""
    answers = True
    """False: it never listens after it has advertised, so that a connection is made to nobody."""
    _hearing = RSSI

    def on_hci_le_create_connection_cancel_command(
        self, _command: hci.HCI_LE_Create_Connection_Cancel_Command
    ) -> hci.HCI_StatusReturnParameters:
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        cancelled = hci.HCI_LE_Connection_Complete_Event(
            status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
            connection_handle=0,
            role=hci.Role.CENTRAL,
            peer_address_type=pending.peer_address.address_type,
            peer_address=pending.peer_address,
            connection_interval=0,
            peripheral_latency=0,
            supervision_timeout=0,
            central_clock_accuracy=0,
        )
        asyncio.get_running_loop().call_soon(self.send_hci_packet, cancelled)
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)

    def hear(self, sender: AirController, packet: ll.AdvertisingPdu, rssi: int) -> None:
        """One packet on an advertising channel."""
        if isinstance(packet, ll.ConnectInd):
            if self.answers:
                self.on_ll_advertising_pdu(packet)
            return
        pending = self.pending_le_connection
        if not self.le_scan_enable and pending is None:
            return
        self._hearing = rssi
        if not sender.connectable:
            self.pending_le_connection = None
        self.on_ll_advertising_pdu(packet)
        if not sender.connectable:
            self.pending_le_connection = pending

    def send_hci_packet(self, packet: hci.HCI_Packet) -> None:
        if isinstance(packet, hci.HCI_LE_Advertising_Report_Event | hci.HCI_LE_Extended_Advertising_Report_Event):
            for report in packet.reports:
                report.rssi = self._hearing  # upstream has one value for all
        super().send_hci_packet(packet)

    def silence(self) -> None:
        """The device lost power: nothing is sent any more."""
        self.le_legacy_advertiser.stop()
        for advertising in self.advertising_sets.values():
            advertising.stop()
        self.host = None


class Air(LocalLink):
    """`latency` in seconds and `rate` in bytes per second apply to each sender; `cut` loses all data while it is set."""

    rssi: Callable[[AirController, AirController], int]
    """Signal strength at which the second hears the first advertise, dBm."""

    def __init__(self, latency: float = 0.0, rate: float | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # bumble annotates its classes in part
        self.latency = latency
        self.rate = rate
        self.cut = False
        self.rssi = lambda _sender, _receiver: RSSI

    def controller_of(self, device: Any) -> AirController:
        """The controller of a device in this process. Raises LookupError when it is not on this air."""
        for controller in self.controllers:
            if isinstance(controller, AirController) and controller.random_address == device.random_address:
                return controller
        raise LookupError("not on this air")

    def send_advertising_pdu(self, sender_controller: Any, packet: ll.AdvertisingPdu) -> None:
        loop = asyncio.get_running_loop()
        for controller in self.controllers:
            if isinstance(controller, AirController) and controller is not sender_controller:
                rssi = self.rssi(sender_controller, controller)
                loop.call_soon(controller.hear, sender_controller, packet, rssi)

    def send_acl_data(
        self, sender_controller: Any, destination_address: hci.Address, transport: PhysicalTransport, data: bytes
    ) -> None:
        destination = self.find_le_controller(destination_address)
        if transport != PhysicalTransport.LE or destination is None or self.cut:
            return
        # upstream takes the random address even where the sender connected with its public one
        connection = sender_controller.le_connections.get(destination_address)
        source = connection.self_address if connection else sender_controller.random_address
        loop = asyncio.get_running_loop()
        if not self.latency and not self.rate:
            loop.call_soon(destination.on_link_acl_data, source, transport, data)
            return
        sent_at = max(loop.time(), sender_controller.free_at) + (len(data) / self.rate if self.rate else 0.0)
        sender_controller.free_at = sent_at
        loop.call_at(sent_at + self.latency, destination.on_link_acl_data, source, transport, data)

    def send_ll_control_pdu(
        self, sender_address: hci.Address, receiver_address: hci.Address, packet: ll.ControlPdu
    ) -> None:
        sender = self.find_le_controller(sender_address)
        if isinstance(sender, AirController) and (self.latency or self.rate):
            # behind the data that this sender has handed over before
            loop = asyncio.get_running_loop()
            at = max(loop.time(), sender.free_at) + self.latency + CONTROL_S
            loop.call_at(at, self._send_ll_control_pdu, sender_address, receiver_address, packet)
        else:
            self._send_ll_control_pdu(sender_address, receiver_address, packet)

    def _send_ll_control_pdu(self, sender: hci.Address, receiver: hci.Address, packet: ll.ControlPdu) -> None:
        with suppress(InvalidArgumentError):  # upstream's Disconnect fails half-way when the peer has left the air
            super().send_ll_control_pdu(sender, receiver, packet)

    def lose(self, controller: AirController) -> None:
        """The device is gone: its peers see the connection time out (at once: the air keeps no supervision timers)."""
        for connection in list(controller.le_connections.values()):
            connection.send_ll_control_pdu(ll.TerminateInd(hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR))
        controller.silence()
        if controller in self.controllers:
            self.remove_controller(controller)


def _controller(air: Air, name: str, random_bytes: RandomBytes) -> AirController:
    controller = AirController(name, link=air, public_address=bytes(static_address(random_bytes)))
    controller.random_address = static_address(random_bytes)
    return controller


async def virtual_device(air: Air, name: str, random_bytes: RandomBytes = secrets.token_bytes) -> Device:
    """A powered-on bumble device with a controller of its own on `air`, both in this process."""
    controller = _controller(air, name, random_bytes)
    config = DeviceConfiguration(name=name, address=static_address(random_bytes))
    device = Device(config=config, host=Host(controller, AsyncPipeSink(controller)))
    await device.power_on()
    return device


class _ClientSink:
    """HCI packets to one client of the hub; a client that does not read is dropped, not waited for."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def on_packet(self, packet: bytes) -> None:
        transport = self._writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > MAX_BACKLOG:
            transport.abort()
            return
        self._writer.write(packet)


class AirHub:
    """One air for many processes: every client of the unix socket (HCI H4) gets a controller; a dead client is a lost device."""

    def __init__(self, path: Path, air: Air | None = None, random_bytes: RandomBytes = secrets.token_bytes) -> None:
        self.path = path
        self.air = air or Air()
        self._random_bytes = random_bytes
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    @property
    def hci(self) -> str:
        """The transport name that bumble opens."""
        return f"unix:{self.path}"

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._client, self.path)
        self.path.chmod(0o600)

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for task in self._clients:
            task.cancel()
        if self._clients:
            await asyncio.wait(self._clients)
        await self._server.wait_closed()
        self._server = None
        self.path.unlink(missing_ok=True)

    async def __aenter__(self) -> AirHub:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)
        controller = _controller(self.air, "client", self._random_bytes)
        controller.host = _ClientSink(writer)
        parser = PacketParser(controller)
        try:
            while data := await reader.read(65536):
                parser.feed_data(data)
        except (OSError, InvalidPacketError):
            pass  # as good as gone
        except asyncio.CancelledError:
            pass  # stop(): end in order, so that asyncio's stream callback has nothing to report
        finally:
            self.air.lose(controller)
            writer.transport.abort()


async def _serve(path: Path) -> None:
    async with AirHub(path):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    logging.getLogger("bumble").setLevel(logging.CRITICAL)  # its lines name addresses
    asyncio.run(_serve(Path(sys.argv[1])))
