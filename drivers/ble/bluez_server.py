"""The GATT server's host on BlueZ: `drivers.ble.server.Host` as a small D-Bus application.

Each session is one application under an object path of its own, so that it comes and goes without the others. What bluetoothd
does (read in 5.66 and later, src/gatt-database.c) shapes this file:

* AcquireNotify is asked once per characteristic, for the first phone that subscribes; phones after it are not told of and share
  the socket. Whoever starts is therefore taken as subscribed where the characteristic's socket is open; the socket closes with
  the last subscriber.
* A value written to the socket goes to every subscriber. The messages are for one phone's keys; to others they are noise.
* Linux ends an advertisement with the connection it brought, and takes it up again when that phone has gone. A phone that
  connects and stays would keep every other from the session, so the advertisement is registered anew.
* AcquireWrite is offered by a property, WriteAcquired, and garbled transfers where it was tried: there is none here. Writes
  without response come as WriteValue calls without reply, in order.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

from dbus_fast import ErrorType, Message, MessageType, Variant

from drivers.ble.bluez_bus import (
    ADAPTER,
    ADVERTISEMENT,
    ADVERTISING_MANAGER,
    DEVICE,
    GATT_CHARACTERISTIC,
    GATT_MANAGER,
    GATT_SERVICE,
    OBJECT_MANAGER,
    PROPERTIES,
    ROOT,
    SERVICE,
    BluezBus,
    Objects,
    answer,
    refuse,
    variants,
    wants_answer,
)
from drivers.ble.server import HostLostError, Notified, NotPermittedError, Session
from drivers.ports import DriverError
from mdoc import ble

_log = logging.getLogger(__name__)

APPLICATIONS = "/kr/gwanmun/gate"
"""Object path above the sessions'."""
DISCONNECT_SECONDS = 12.0
"""Device1.Disconnect itself waits for two seconds."""
SEND_BUFFER = 8192
"""Bytes that a notification socket holds before `notify` waits for bluetoothd."""
INTERVAL_MS = 20, 30
"""Advertising interval asked for. bluetoothd heeds it with --experimental only; otherwise the kernel's holds: 1.28 s, or what
main.conf says as [LE] MinAdvertisementInterval."""

START_SECONDS = 5.0
"""From connecting to State = start: MTU, discovery and two subscriptions take a phone 0.5 to 2 s."""
MAX_UNSERVED = 8
"""Phones that are connected and have not started; the next is turned away."""
MAX_STRANGERS = 64
"""Devices kept in mind that came to us unheard; bluetoothd forgets them after 30 s."""

NOT_PERMITTED = "org.bluez.Error.NotPermitted"
IN_PROGRESS = "org.bluez.Error.InProgress"
INVALID_OFFSET = "org.bluez.Error.InvalidOffset"

Properties = dict[str, tuple[str, Any]]
"""Property -> (signature, value)."""


class _Channel:
    """Our end of the socket over which bluetoothd takes one characteristic's notifications; SEQPACKET keeps values apart."""

    def __init__(self, on_closed: Callable[[], None]) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._writable: asyncio.Future[None] | None = None
        self._loop.add_reader(self._ours, self._on_readable)

    @property
    def open(self) -> bool:
        """Asks the socket itself: bluetoothd may have closed its end and acquired anew before the loop looked."""
        self._on_readable()
        return self._ours.fileno() >= 0

    def _on_readable(self) -> None:
        if self._ours.fileno() < 0:
            return
        try:
            closed = not self._ours.recv(16)  # bluetoothd sends nothing this way
        except BlockingIOError:
            return
        except OSError:
            closed = True
        if closed:
            self.close()
            self._on_closed()

    async def send(self, value: bytes) -> None:
        """Returns when the socket has taken it. Raises HostLostError."""
        async with self._turn:
            while True:
                try:
                    self._ours.send(value)
                except BlockingIOError:
                    await self._until_writable()
                except OSError:
                    raise HostLostError from None
                else:
                    return

    async def _until_writable(self) -> None:
        writable = self._writable = self._loop.create_future()
        self._loop.add_writer(self._ours, _settle, writable)
        try:
            await writable
        finally:
            self._writable = None
            if self._ours.fileno() >= 0:
                self._loop.remove_writer(self._ours)

    def close(self) -> None:
        if self._ours.fileno() < 0:
            return
        self._loop.remove_reader(self._ours)
        self._loop.remove_writer(self._ours)
        self._ours.close()
        if self._writable is not None:
            _settle(self._writable)  # the next attempt to send finds the socket closed


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Application:
    """One session: `drivers.ble.server.Published`."""

    def __init__(self, host: BluezHost, path: str, service: UUID, session: Session) -> None:
        self._host, self._service, self._session = host, service, session
        self.path = path
        self.advertisement = f"{path}/advertisement"
        self._att_mtu = ble.ATT_MTU_DEFAULT
        self._channels: dict[Notified, _Channel] = {}
        self._subscribers: dict[Notified, set[str]] = {what: set() for what in Notified}
        self._registered = False
        self.advertising = False
        self._used_up = False
        self._renewing: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        """Registering and unregistering the advertisement must not overlap."""
        self._instances = host.instances  # a host started again has others
        service_path = f"{path}/service"
        self._state = f"{service_path}/state"
        self._incoming = f"{service_path}/client2server"
        self._outgoing = f"{service_path}/server2client"
        self._ident = f"{service_path}/ident"
        table = ble.CENTRAL_CLIENT

        def characteristic(uuid: UUID | None, flags: list[str]) -> dict[str, Properties]:
            properties: Properties = {"UUID": ("s", str(uuid)), "Service": ("o", service_path), "Flags": ("as", flags)}
            if "notify" in flags:
                properties["NotifyAcquired"] = ("b", False)
            return {GATT_CHARACTERISTIC: properties}

        self.objects: Mapping[str, dict[str, Properties]] = {
            service_path: {GATT_SERVICE: {"UUID": ("s", str(service)), "Primary": ("b", True)}},
            self._state: characteristic(table.state, ["notify", "write-without-response"]),
            self._incoming: characteristic(table.client_to_server, ["write-without-response"]),
            self._outgoing: characteristic(table.server_to_client, ["notify"]),
            self._ident: characteristic(table.ident, ["read"]),
        }
        self._advertised: Properties = {
            "Type": ("s", "peripheral"),
            "ServiceUUIDs": ("as", [str(service)]),
            "Discoverable": ("b", True),
            "MinInterval": ("u", INTERVAL_MS[0]),
            "MaxInterval": ("u", INTERVAL_MS[1]),
        }

    @property
    def value_size(self) -> int:
        return ble.fragment_size(self._att_mtu)

    async def register(self) -> None:
        """Raises DriverError."""
        self._registered = True  # from here on it may be, whatever becomes of the call
        await self._host.call(GATT_MANAGER, "RegisterApplication", "oa{sv}", self.path, {})

    async def advertise(self) -> None:
        """Waits for a free advertising instance: a controller has few."""
        await self._instances.acquire()
        self.advertising = True
        try:
            async with self._turn:
                await self._register_advertisement()
        except BaseException:
            self._host.spawn(self.hide())
            raise

    async def hide(self) -> None:
        if not self.advertising:
            return
        self.advertising = False
        try:
            async with self._turn:
                await self._unregister_advertisement()
        finally:
            self._instances.release()
            self._host.on_hidden()

    async def _register_advertisement(self) -> None:
        await self._host.call(ADVERTISING_MANAGER, "RegisterAdvertisement", "oa{sv}", self.advertisement, {})

    async def _unregister_advertisement(self) -> None:
        with suppress(DriverError):
            await self._host.call(ADVERTISING_MANAGER, "UnregisterAdvertisement", "o", self.advertisement)

    def on_came(self) -> None:
        """A phone has connected to us, by which advertisement nobody tells: this one may be used up."""
        if not self.advertising or self._session.started.is_set():
            return
        self._used_up = True
        if self._renewing is None or self._renewing.done():
            self._renewing = self._host.spawn(self._renew())

    async def _renew(self) -> None:
        while self._used_up:
            self._used_up = False
            async with self._turn:
                if self.advertising:
                    await self._unregister_advertisement()
                if self.advertising:  # hidden meanwhile, it stays so
                    with suppress(DriverError):  # a phone that comes in spite of it is served
                        await self._register_advertisement()

    def _on_release(self) -> None:
        """bluetoothd has dropped the advertisement by itself."""
        if self.advertising:
            self.advertising = False
            self._instances.release()

    async def notify(self, what: Notified, value: bytes) -> None:
        channel = self._channels.get(what)
        if channel is None:
            raise HostLostError
        await channel.send(value)

    async def drop(self, peer: str) -> None:
        with suppress(DriverError):
            await self._host.disconnect(peer)

    async def withdraw(self) -> None:
        try:
            await self.hide()
            if self._registered:
                self._registered = False
                with suppress(DriverError):
                    await self._host.call(GATT_MANAGER, "UnregisterApplication", "o", self.path)
        finally:
            for peer in set().union(*self._subscribers.values()):
                self._host.turn_away(peer, self)
            self.close()
            self._host.forget(self)

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def on_gone(self, peer: str) -> None:
        for peers in self._subscribers.values():
            peers.discard(peer)
        self._session.on_gone(peer)

    def on_lost(self) -> None:
        """bluetoothd or the adapter has gone, and every connection with it."""
        self.close()
        peers = set().union(*self._subscribers.values())
        if self._session.peer is not None:
            peers.add(self._session.peer)
        for peer in peers:
            self.on_gone(peer)

    # --- what bluetoothd asks of us -----------------------------------------------------------------------------------

    def handle(self, call: Message) -> Message | None:
        """The answer to one call; None where it has been sent already. Raises NotPermittedError."""
        path = call.path or ""
        if call.interface == OBJECT_MANAGER and call.member == "GetManagedObjects" and path == self.path:
            return answer(call, "a{oa{sa{sv}}}", [self._tree()])
        if call.interface == PROPERTIES and call.member == "GetAll" and call.signature == "s":
            properties = self._interfaces(path).get(call.body[0])
            if properties is None:
                return refuse(call, ErrorType.UNKNOWN_INTERFACE.value)
            return answer(call, "a{sv}", [variants(properties)])
        if call.interface == ADVERTISEMENT and call.member == "Release" and path == self.advertisement:
            self._on_release()
            return answer(call)
        if call.interface == GATT_CHARACTERISTIC and GATT_CHARACTERISTIC in self.objects.get(path, {}):
            return self._handle_characteristic(call)
        return refuse(call, ErrorType.UNKNOWN_METHOD.value)

    def _interfaces(self, path: str) -> dict[str, Properties]:
        return {ADVERTISEMENT: self._advertised} if path == self.advertisement else self.objects.get(path, {})

    def _tree(self) -> dict[str, dict[str, dict[str, Variant]]]:
        return {
            path: {interface: variants(properties) for interface, properties in interfaces.items()}
            for path, interfaces in self.objects.items()
        }

    def _handle_characteristic(self, call: Message) -> Message | None:
        match call.member, call.signature:
            case "ReadValue", "a{sv}":
                return self._read(call)
            case "WriteValue", "aya{sv}":
                self._write(call.path or "", bytes(call.body[0]), call.body[1])
                return answer(call)
            case "AcquireNotify", "a{sv}":
                return self._acquire_notify(call)
            case (("StartNotify" | "StopNotify" | "Confirm"), ""):
                return answer(call)  # bluetoothd's own way out when a socket is refused; the socket there is holds
        return refuse(call, ErrorType.UNKNOWN_METHOD.value)

    def _read(self, call: Message) -> Message:
        if call.path != self._ident:
            raise NotPermittedError
        self._host.on_seen(_option(call.body[0], "device", ""))
        value = self._session.read_ident()
        offset = _option(call.body[0], "offset", 0)
        if not 0 <= offset <= len(value):
            return refuse(call, INVALID_OFFSET)
        return answer(call, "ay", [value[offset:]])

    def _write(self, path: str, value: bytes, options: Mapping[str, Variant]) -> None:
        peer = _option(options, "device", "")
        if not peer or _option(options, "offset", 0) or not self._host.free_for(peer, self):
            raise NotPermittedError
        self._host.on_seen(peer)
        if path == self._incoming:
            self._session.on_data(peer, value)
        elif path == self._state:
            if self._session.peer is None:
                self._att_mtu = _option(options, "mtu", ble.ATT_MTU_DEFAULT)
                self._share_channels(peer)
            self._session.on_state(peer, value)
            self._host.on_started(peer, self)
        else:
            raise NotPermittedError

    def _share_channels(self, peer: str) -> None:
        """Phones after the first subscriber are not told of: who writes State counts as one. Raises NotPermittedError."""
        for what, channel in list(self._channels.items()):
            if channel.open:
                self._subscribe(peer, what)

    def _subscribe(self, peer: str, what: Notified) -> None:
        self._host.on_seen(peer)
        self._session.on_subscribed(peer, what, True)
        self._subscribers[what].add(peer)

    def _acquire_notify(self, call: Message) -> Message | None:
        peer = _option(call.body[0], "device", "")
        what = {self._state: Notified.STATE, self._outgoing: Notified.DATA}.get(call.path or "")
        if not peer or what is None or not self._host.free_for(peer, self):
            raise NotPermittedError
        held = self._channels.get(what)
        if held is not None and held.open:
            # Two phones subscribed at once. bluetoothd would give up the socket it has; refused, it keeps that and counts on.
            self._subscribe(peer, what)
            return refuse(call, IN_PROGRESS)
        self._subscribe(peer, what)
        channel = self._channels[what] = _Channel(lambda: self._on_unsubscribed(what))
        mtu = _option(call.body[0], "mtu", ble.ATT_MTU_DEFAULT)
        self._host.reply_with_fd(answer(call, "hq", [0, mtu], [channel.theirs.fileno()]), channel.theirs)
        return None

    def _on_unsubscribed(self, what: Notified) -> None:
        """The last subscriber has gone."""
        self._channels.pop(what, None)
        peers = self._subscribers[what]
        while peers:
            with suppress(NotPermittedError):  # one that did not start; it counts no more anyway
                self._session.on_subscribed(peers.pop(), what, False)


def _option(options: Mapping[str, Variant], name: str, default: Any) -> Any:
    """One option of a call, or the default where it is absent or of another type."""
    variant = options.get(name)
    return variant.value if variant is not None and isinstance(variant.value, type(default)) else default


class BluezHost:
    """`adapter` as BlueZ names it, e.g. `hci0`; None: the first powered one that can be peripheral."""

    def __init__(self, adapter: str | None) -> None:
        self._wanted = adapter
        self._bus: BluezBus | None = None
        self._owner = ""
        self._adapter = ""
        self._applications: dict[str, _Application] = {}
        self._strangers: OrderedDict[str, None] = OrderedDict()
        self._unserved: dict[str, asyncio.TimerHandle] = {}
        self._serving: dict[str, _Application] = {}
        self._numbers = itertools.count(1)
        self._ended = asyncio.Event()
        self._reason = "the radio is not started"
        self._ended.set()
        self._daemon_left = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.instances = asyncio.Semaphore(1)

    async def start(self) -> None:
        await self.stop()
        bus = self._bus = await BluezBus.open(self._on_message)
        self._daemon_left = False
        try:
            # Signals first: what changes while the objects are read must not be missed.
            await bus.match(
                "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                f"member='NameOwnerChanged',arg0='{SERVICE}'"
            )
            for interface in (ADAPTER, DEVICE):
                await bus.match(
                    f"type='signal',sender='{SERVICE}',interface='{PROPERTIES}',member='PropertiesChanged',"
                    f"path_namespace='{ROOT}',arg0='{interface}'"
                )
            for member in ("InterfacesAdded", "InterfacesRemoved"):
                await bus.match(f"type='signal',sender='{SERVICE}',interface='{OBJECT_MANAGER}',member='{member}'")
            objects = await bus.objects()
            self._owner = await bus.owner()
            self._adapter = choose_adapter(objects, self._wanted)
            supported = objects[self._adapter].get(ADVERTISING_MANAGER, {}).get("SupportedInstances", 1)
            self.instances = asyncio.Semaphore(max(1, int(supported)))
        except BaseException:
            await self.stop()
            raise
        self._ended = asyncio.Event()
        self.spawn(self._watch(bus, self._ended))

    async def stop(self) -> None:
        self._lost("the radio was stopped")
        bus, self._bus = self._bus, None
        for application in list(self._applications.values()):
            application.on_lost()
        self._applications.clear()
        for overdue in self._unserved.values():
            overdue.cancel()
        for known in (self._unserved, self._strangers, self._serving):
            known.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if bus is not None:
            await bus.close()  # bluetoothd unregisters what is left

    async def gone(self) -> None:
        await self._ended.wait()
        raise DriverError(self._reason)

    async def publish(self, service: UUID, session: Session) -> _Application:
        application = _Application(self, f"{APPLICATIONS}/s{next(self._numbers)}", service, session)
        self._applications[application.path] = application
        try:
            await application.register()
        except BaseException:
            self.spawn(application.withdraw())
            raise
        return application

    # --- for the applications -----------------------------------------------------------------------------------------

    async def call(self, interface: str, member: str, signature: str, *body: Any) -> None:
        """One call to the adapter. Raises DriverError."""
        await self._call(self._adapter, interface, member, signature, *body)

    async def disconnect(self, peer: str) -> None:
        """Takes two seconds or more. Raises DriverError."""
        await self._call(peer, DEVICE, "Disconnect", timeout=DISCONNECT_SECONDS)

    async def _call(
        self, path: str, interface: str, member: str, signature: str = "", *body: Any, timeout: float | None = None
    ) -> None:
        # A call to a name without owner would start bluetoothd again, or wait for that.
        if self._bus is None or self._daemon_left:
            raise DriverError(self._reason)
        await self._bus.call(path, interface, member, signature, *body, timeout=timeout)

    def reply_with_fd(self, message: Message, theirs: socket.socket) -> None:
        if self._bus is None:
            theirs.close()
        else:
            self._bus.send(message, theirs.close)

    def forget(self, application: _Application) -> None:
        self._applications.pop(application.path, None)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- phones that come to us ---------------------------------------------------------------------------------------
    #
    # bluetoothd does not say who began a connection, and the central of the same adapter has connections of its own. Whoever
    # uses one of our services came to us; so did a device that bluetoothd had never heard advertise when it connected.

    def on_seen(self, peer: str) -> None:
        """Connected to us: until it has started it is on the clock."""
        if not peer or peer in self._unserved or peer in self._serving:
            return
        self._unserved[peer] = asyncio.get_running_loop().call_later(START_SECONDS, self.turn_away, peer, None)
        if len(self._unserved) > MAX_UNSERVED:
            self.turn_away(peer, None)

    def on_started(self, peer: str, application: _Application) -> None:
        """Called for every value of State that was taken."""
        self._serving[peer] = application
        self._settle(peer)

    def _settle(self, peer: str) -> None:
        overdue = self._unserved.pop(peer, None)
        if overdue is not None:
            overdue.cancel()

    def free_for(self, peer: str, application: _Application) -> bool:
        """One connection is one session."""
        return self._serving.get(peer, application) is application

    def turn_away(self, peer: str, application: _Application | None) -> None:
        """Disconnect a phone in the background, unless another session has it."""
        if peer in self._serving and self._serving[peer] is not application:
            return
        self._serving.pop(peer, None)
        self._settle(peer)
        self.spawn(self._turn_away(peer))

    async def _turn_away(self, peer: str) -> None:
        with suppress(DriverError):
            await self.disconnect(peer)

    def on_hidden(self) -> None:
        """Nobody is waited for any more: who has not started has no business here."""
        if not any(each.advertising for each in self._applications.values()):
            for peer in list(self._unserved):
                self.turn_away(peer, None)

    def _on_device(self, peer: str, properties: Mapping[str, Variant], *, new: bool) -> None:
        connected = properties.get("Connected")
        if "RSSI" in properties:
            self._strangers.pop(peer, None)  # heard: now the central may be who connects
        elif new:
            self._strangers[peer] = None
            if len(self._strangers) > MAX_STRANGERS:
                self._strangers.popitem(last=False)
        if connected is not None and connected.value is True and peer in self._strangers:
            self.on_seen(peer)
            for application in self._applications.values():
                application.on_came()
        elif _is_false(connected) and not new:
            self._on_device_gone(peer)

    # --- what comes over the bus --------------------------------------------------------------------------------------

    async def _watch(self, bus: BluezBus, ended: asyncio.Event) -> None:
        await bus.ended()
        if self._ended is ended:
            self._daemon_left = True
            self._lost("the bus connection ended")

    def _lost(self, reason: str) -> None:
        if self._ended.is_set():
            return
        self._reason = reason
        self._ended.set()
        for application in list(self._applications.values()):
            application.on_lost()

    def _on_message(self, message: Message) -> bool:
        """Whatever goes wrong here is answered without a text: the library would log and return it."""
        if message.message_type is MessageType.SIGNAL:
            with _reported():
                self._on_signal(message)
        elif message.message_type is MessageType.METHOD_CALL:
            reply: Message | None = refuse(message, ErrorType.FAILED.value)
            with _reported():
                reply = self._answer(message)
            if reply is not None and wants_answer(message) and self._bus is not None:
                self._bus.send(reply)
            return True
        return False

    def _answer(self, call: Message) -> Message | None:
        if self._owner and call.sender != self._owner:
            return refuse(call, ErrorType.ACCESS_DENIED.value)  # nobody but bluetoothd has business here
        for path, application in self._applications.items():
            if f"{call.path}/".startswith(f"{path}/"):
                try:
                    return application.handle(call)
                except NotPermittedError:
                    return refuse(call, NOT_PERMITTED)
        return refuse(call, ErrorType.UNKNOWN_OBJECT.value)

    def _on_signal(self, signal: Message) -> None:
        if signal.member == "NameOwnerChanged" and signal.sender == "org.freedesktop.DBus":
            if signal.body[0] == SERVICE and signal.body[1] == self._owner:
                self._daemon_left = True
                self._lost("bluetoothd left the bus")
            return
        if signal.sender != self._owner:
            return
        if signal.member == "InterfacesAdded":
            path, added = signal.body
            if DEVICE in added and path.startswith(f"{self._adapter}/"):
                self._on_device(path, added[DEVICE], new=True)
        elif signal.member == "InterfacesRemoved":
            path, interfaces = signal.body
            if path == self._adapter and ADAPTER in interfaces:
                self._lost("the adapter was removed")
            elif DEVICE in interfaces:
                self._strangers.pop(path, None)
                self._on_device_gone(path)
        elif signal.member == "PropertiesChanged":
            interface, changed, _ = signal.body
            if interface == ADAPTER and signal.path == self._adapter and _is_false(changed.get("Powered")):
                self._lost("the adapter was switched off")
            elif interface == DEVICE and (signal.path or "").startswith(f"{self._adapter}/"):
                self._on_device(signal.path or "", changed, new=False)

    def _on_device_gone(self, peer: str) -> None:
        self._settle(peer)
        self._serving.pop(peer, None)
        for application in list(self._applications.values()):
            application.on_gone(peer)


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        _log.error("a D-Bus message could not be handled: %s", type(error).__name__)


def _is_false(variant: Variant | None) -> bool:
    return variant is not None and variant.value is False


def choose_adapter(objects: Objects, wanted: str | None) -> str:
    """Object path of the adapter to be peripheral on. Raises DriverError."""
    adapters = {path: found[ADAPTER] for path, found in objects.items() if ADAPTER in found}
    if wanted is not None:
        path = f"{ROOT}/{wanted}"
        if path not in adapters:
            raise DriverError("there is no such adapter")
        adapters = {path: adapters[path]}
    if not adapters:
        raise DriverError("there is no adapter")
    able = {path: found for path, found in adapters.items() if "peripheral" in found.get("Roles", ())}
    if not able:
        raise DriverError("the adapter cannot be peripheral")
    powered = sorted(path for path, found in able.items() if found.get("Powered"))
    if not powered:
        raise DriverError("the adapter is switched off")
    return powered[0]
