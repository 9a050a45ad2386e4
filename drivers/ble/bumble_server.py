"""Reader as GATT server over bumble: `drivers.ble.server.Host` on the same `Device` that the central uses.

Phones that connect to us get a GATT database of their own, so a phone that we connected to as central sees none of the lanes'
services. A controller has one legacy advertiser, so services advertised at the same time take turns on it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from bleak.exc import BleakBluetoothNotAvailableError, BleakError
from bumble import att, core, gatt_server, hci
from bumble.core import AdvertisingData
from bumble.gatt import (
    GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR,
    Characteristic,
    CharacteristicValue,
    Descriptor,
    Service,
)
from bumble.profiles.gap import GenericAccessService
from bumble.profiles.gatt_service import GenericAttributeProfileService

from drivers.ble.bumble_device import HCI_SECONDS, BumbleConnection, BumbleDevice, SharedDevice, drain
from drivers.ble.server import HostLostError, Notified, NotPermittedError, Published, Session
from drivers.ports import DriverError
from mdoc import ble

_log = logging.getLogger(__name__)

ADVERTISING_MS = 30
"""Advertising interval, milliseconds: the person is standing there with the phone in the hand."""
TURN_SECONDS = 0.1
"""How long one of several services is advertised before the next: three advertising events."""
REFUSED_SECONDS = 0.5
"""Before advertising is tried again that the controller refused, as it does at its limit of connections."""
START_SECONDS = 5.0
"""From connecting to State = start: MTU, discovery and two subscriptions take a phone 0.5 to 2 s."""
MAX_UNSERVED = 8
"""Phones that are connected and have not started; the next is turned away."""
FLAGS = b"\x06"
"""LE General Discoverable, BR/EDR not supported (Core Specification Supplement, Part A 1.3)."""

_LAST_HANDLE = 0xFFFF
_INCOMING = "incoming_connection"
_WRITABLE = (att.AttributeValue, att.AttributeValueV2)


class DeviceSource(Protocol):
    @property
    def device(self) -> BumbleDevice | None:
        """The powered-on device; None while the radio is not started."""
        ...


class _Database(gatt_server.Server):
    """bumble's GATT server, made fit for strangers. Upstream lets a phone overwrite declarations and names, leaves some requests
    without an answer, acts on prepared writes whose attribute has gone, and has no way to take a service out."""

    def __init__(self, device: BumbleDevice) -> None:
        super().__init__(device)
        self.max_mtu = ble.SERVER_MTU
        self._next = 1
        self.add_service(GenericAccessService(device.name))
        # with Service Changed, so that phones know not to keep what they have discovered (Vol 3 Part G 2.5.2); it is not
        # indicated, because the handles of a service stay as long as it is there
        self.add_service(GenericAttributeProfileService(database_hash_enabled=False))
        self._first_free = self._next

    def next_handle(self) -> int:
        return self._next

    def add_attribute(self, attribute: Any) -> None:
        super().add_attribute(attribute)
        self._next += 1

    def publish(self, service: Service, attributes: int) -> None:
        """Put `service` on handles that were free the longest, so that a late write never meets another session."""
        while True:
            if self._next + attributes > _LAST_HANDLE:
                self._next = self._first_free
            taken = [a.handle for a in self.attributes if self._next <= a.handle < self._next + attributes]
            if not taken:
                break
            self._next = taken[-1] + 1
        self.add_service(service)
        self.attributes = sorted(
            self.attributes, key=lambda a: a.handle
        )  # a new list: requests may be going through the old

    def withdraw(self, service: Service) -> None:
        if service not in self.services:
            return
        self.services.remove(service)
        handles = range(service.handle, service.end_group_handle + 1)
        self.attributes = [a for a in self.attributes if a.handle not in handles]
        for handle in handles:
            self.attributes_by_handle.pop(handle, None)

    def write_cccd(self, bearer: Any, characteristic: Any, value: bytes) -> None:
        if bearer in self.device.connections.values():  # else it would be remembered for ever
            super().write_cccd(bearer, characteristic, value)

    def _refuse(self, bearer: Any, request: Any, error: att.ErrorCode) -> None:
        self.send_response(
            bearer,
            att.ATT_Error_Response(
                request_opcode_in_error=request.op_code,
                attribute_handle_in_error=getattr(request, "attribute_handle", 0),
                error_code=error,
            ),
        )

    def _write(self, bearer: Any, request: Any) -> None:
        """At once, not in a task as upstream: a connection's end must not overtake what was written before it."""
        attribute = self.get_attribute(request.attribute_handle)
        if attribute is None:
            raise att.ATT_Error(att.ErrorCode.INVALID_HANDLE)
        if len(request.attribute_value) > ble.MAX_VALUE:
            raise att.ATT_Error(att.ErrorCode.INVALID_ATTRIBUTE_LENGTH)
        if not isinstance(attribute.value, _WRITABLE):
            raise att.ATT_Error(att.ErrorCode.WRITE_NOT_PERMITTED)
        attribute.value.write(bearer, request.attribute_value)

    def on_att_write_request(self, bearer: Any, request: Any) -> None:
        try:
            self._write(bearer, request)
        except att.ATT_Error as error:
            self._refuse(bearer, request, att.ErrorCode(error.error_code))
        else:
            self.send_response(bearer, att.ATT_Write_Response())

    def on_att_write_command(self, bearer: Any, request: Any) -> None:
        with suppress(att.ATT_Error):  # a command has no answer
            self._write(bearer, request)

    def on_att_prepare_write_request(self, bearer: Any, request: Any) -> None:
        self._refuse(bearer, request, att.ErrorCode.WRITE_NOT_PERMITTED)

    def on_att_read_multiple_request(self, bearer: Any, request: Any) -> None:
        self._refuse(bearer, request, att.ErrorCode.REQUEST_NOT_SUPPORTED)

    def on_att_read_multiple_variable_request(self, bearer: Any, request: Any) -> None:
        self._refuse(bearer, request, att.ErrorCode.REQUEST_NOT_SUPPORTED)


class _Phone:
    """One incoming connection. `name` is never used again."""

    def __init__(self, connection: BumbleConnection, name: str) -> None:
        self.connection, self.name = connection, name
        self.overdue: asyncio.TimerHandle | None = None
        self.serving: _Service | None = None
        self.gone = asyncio.Event()
        self.dropping = False

    def settle(self) -> None:
        """It has started, or it has gone: no longer overdue."""
        if self.overdue is not None:
            self.overdue.cancel()


def _deny_read(_: BumbleConnection) -> bytes:
    raise att.ATT_Error(att.ErrorCode.READ_NOT_PERMITTED)  # bumble's server does not look at properties itself


def _deny_write(_: BumbleConnection, __: bytes) -> None:
    raise att.ATT_Error(att.ErrorCode.WRITE_NOT_PERMITTED)


@dataclass(frozen=True, slots=True)
class _Radio:
    """What there is between start and stop."""

    shared: SharedDevice
    database: _Database


class _Service:
    """`drivers.ble.server.Published` in the database of a `BumbleHost`. Writes with response are taken like those without."""

    attributes = 11
    """Handles: the service, four declarations, four values, two Client Characteristic Configurations."""

    def __init__(self, host: BumbleHost, uuid: UUID, session: Session) -> None:
        self._host, self._session = host, session
        self.advertised = core.UUID(str(uuid))
        self._subscribed: dict[_Phone, set[Notified]] = {}
        table, properties = ble.CENTRAL_CLIENT, Characteristic.Properties
        self._notifying: dict[Notified, Any] = {
            Notified.STATE: Characteristic(
                str(table.state),
                properties.NOTIFY | properties.WRITE_WITHOUT_RESPONSE,
                Characteristic.WRITEABLE,
                CharacteristicValue(read=_deny_read, write=self._on_state),
                [self._configuration(Notified.STATE)],
            ),
            Notified.DATA: Characteristic(
                str(table.server_to_client),
                properties.NOTIFY,
                Characteristic.Permissions(0),
                CharacteristicValue(read=_deny_read, write=_deny_write),
                [self._configuration(Notified.DATA)],
            ),
        }
        incoming: Any = Characteristic(
            str(table.client_to_server),
            properties.WRITE_WITHOUT_RESPONSE,
            Characteristic.WRITEABLE,
            CharacteristicValue(read=_deny_read, write=self._on_data),
        )
        ident: Any = Characteristic(
            str(table.ident),
            properties.READ,
            Characteristic.READABLE,
            CharacteristicValue(read=self._read_ident, write=_deny_write),
        )
        self.service = Service(
            str(uuid), [self._notifying[Notified.STATE], incoming, self._notifying[Notified.DATA], ident]
        )

    def _configuration(self, what: Notified) -> Descriptor:
        return Descriptor(
            GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR,
            Characteristic.READABLE | Characteristic.WRITEABLE,
            CharacteristicValue(
                read=lambda connection: self._read_configuration(connection, what),
                write=lambda connection, value: self._on_configuration(connection, what, value),
            ),
        )

    def _read_ident(self, _: BumbleConnection) -> bytes:
        try:
            return self._session.read_ident()
        except NotPermittedError:
            raise att.ATT_Error(att.ErrorCode.READ_NOT_PERMITTED) from None

    def _read_configuration(self, connection: BumbleConnection, what: Notified) -> bytes:
        phone = self._host.phone(connection)
        return b"\x01\x00" if phone and what in self._subscribed.get(phone, ()) else b"\x00\x00"

    def _on_configuration(self, connection: BumbleConnection, what: Notified, value: bytes) -> None:
        if len(value) != 2:
            raise att.ATT_Error(att.ErrorCode.INVALID_ATTRIBUTE_LENGTH)
        if value not in (b"\x00\x00", b"\x01\x00"):
            raise att.ATT_Error(att.ErrorCode.CCCD_IMPROPERLY_CONFIGURED)
        on = value == b"\x01\x00"
        phone = self._permit(connection, lambda phone: self._session.on_subscribed(phone.name, what, on))
        (set.add if on else set.discard)(self._subscribed.setdefault(phone, set()), what)

    def _on_state(self, connection: BumbleConnection, value: bytes) -> None:
        phone = self._permit(connection, lambda phone: self._session.on_state(phone.name, value))
        if phone.serving is None:
            phone.serving = self
            phone.settle()

    def _on_data(self, connection: BumbleConnection, value: bytes) -> None:
        self._permit(connection, lambda phone: self._session.on_data(phone.name, value))

    def _permit(self, connection: BumbleConnection, act: Callable[[_Phone], None]) -> _Phone:
        phone = self._host.phone(connection)
        try:
            if phone is None or phone.dropping or phone.serving not in (None, self):
                raise NotPermittedError  # one connection is one session
            act(phone)
        except NotPermittedError:
            raise att.ATT_Error(att.ErrorCode.WRITE_NOT_PERMITTED) from None
        return phone

    def on_gone(self, phone: _Phone) -> None:
        self._subscribed.pop(phone, None)
        self._session.on_gone(phone.name)

    def _started(self) -> _Phone | None:
        return next((phone for phone in self._subscribed if phone.serving is self), None)

    @property
    def value_size(self) -> int:
        phone = self._started()
        return ble.fragment_size(phone.connection.att_mtu if phone else ble.ATT_MTU_DEFAULT)

    async def advertise(self) -> None:
        await self._host.advertise(self)

    async def hide(self) -> None:
        await self._host.hide(self)

    async def notify(self, what: Notified, value: bytes) -> None:
        self._host.check()
        phone = self._started()
        if phone is None or what not in self._subscribed[phone]:
            raise HostLostError("no phone is subscribed")
        if len(value) > phone.connection.att_mtu - ble.ATT_HEADER:
            raise HostLostError("the phone has lowered the MTU")  # bumble would send the value cut short
        await self._host.notify(phone, self._notifying[what], value)

    async def drop(self, peer: str) -> None:
        await self._host.drop([phone for phone in self._host.phones if phone.name == peer])

    async def withdraw(self) -> None:
        await self._host.withdraw(self, list(self._subscribed))


def _finish(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
    futures.clear()


class BumbleHost:
    """`drivers.ble.server.Host`. `source` is started before and stopped after this; `start_seconds` from connecting to State =
    start."""

    def __init__(self, source: DeviceSource, *, start_seconds: float = START_SECONDS) -> None:
        self._source, self._start_seconds = source, start_seconds
        self._radio: _Radio | None = None
        self._names = itertools.count(1)
        self.phones: list[_Phone] = []
        self._services: list[_Service] = []
        self._lost = asyncio.Event()
        self._active: list[_Service] = []
        self._applied: list[asyncio.Future[None]] = []
        self._changed = asyncio.Event()
        self._interrupted = False
        self._advertiser: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self.stop()
        device = self._source.device
        if device is None:
            raise DriverError("the radio is not started")
        self._lost = asyncio.Event()
        self._radio = _Radio(SharedDevice(device), _Database(device))
        device.gatt_server.max_mtu = ble.SERVER_MTU
        self._tell_incoming_apart(device)
        device.on(_INCOMING, self._on_connection)
        device.on("flush", self._on_lost)
        self._advertiser = asyncio.create_task(self._advertise_in_turns(self._radio.shared))

    async def stop(self) -> None:
        radio, self._radio = self._radio, None
        self._lost.set()
        if radio is None:
            return
        shared = radio.shared
        if self._advertiser is not None:
            self._advertiser.cancel()
            await asyncio.wait({self._advertiser}, timeout=HCI_SECONDS)
        with suppress(BleakError):
            await shared.command(shared.device.stop_advertising)
        await asyncio.gather(*(self._drop(shared, phone) for phone in self.phones))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=HCI_SECONDS)
        shared.device.remove_listener(_INCOMING, self._on_connection)
        shared.device.remove_listener("flush", self._on_lost)
        del shared.device.emit
        for phone in list(self.phones):
            self._on_gone(phone, radio.database)
        self._services.clear()
        self._active.clear()

    async def gone(self) -> None:
        await self._lost.wait()
        raise DriverError("the radio was lost or stopped")

    def check(self) -> _Radio:
        """Raises DriverError when the radio is not there."""
        if self._radio is None or self._lost.is_set():
            raise DriverError("the radio was lost or stopped")
        return self._radio

    async def publish(self, service: UUID, session: Session) -> Published:
        published = _Service(self, service, session)
        self.check().database.publish(published.service, published.attributes)
        self._services.append(published)
        return published

    async def withdraw(self, service: _Service, phones: list[_Phone]) -> None:
        """With the phones that are subscribed to it: what they came for is over."""
        await self.hide(service)
        await self.drop(phones)
        if service in self._services:
            self._services.remove(service)
            if self._radio is not None:
                self._radio.database.withdraw(service.service)

    # --- phones -------------------------------------------------------------------------------------------------------

    @staticmethod
    def _tell_incoming_apart(device: BumbleDevice) -> None:
        """Device.connect() takes the next connection of any kind for the one it asked for. The central would get a phone that has
        just connected to us: so those are announced under a name of their own."""
        emit = device.emit

        def emit_apart(event: str, *args: Any, **kwargs: Any) -> Any:
            incoming = event == device.EVENT_CONNECTION and args[0].role == hci.Role.PERIPHERAL
            return emit(_INCOMING if incoming else event, *args, **kwargs)

        device.emit = emit_apart

    def phone(self, connection: BumbleConnection) -> _Phone | None:
        return next((phone for phone in self.phones if phone.connection is connection), None)

    def _on_connection(self, connection: BumbleConnection) -> None:
        radio = self._radio
        if radio is None:
            return
        connection.gatt_server = radio.database
        phone = _Phone(connection, str(next(self._names)))
        phone.overdue = asyncio.get_running_loop().call_later(self._start_seconds, self._drop_soon, phone)
        connection.on("disconnection", lambda _: self._on_gone(phone, radio.database))
        full = sum(other.serving is None for other in self.phones) >= MAX_UNSERVED
        self.phones.append(phone)
        self._interrupted = True  # a connection ends advertising
        self._changed.set()
        if full:
            self._drop_soon(phone)

    def _on_gone(self, phone: _Phone, database: _Database) -> None:
        if phone.gone.is_set():
            return
        phone.gone.set()
        phone.settle()
        self.phones.remove(phone)
        database.on_disconnection(phone.connection)
        for service in self._services:
            service.on_gone(phone)

    def _drop_soon(self, phone: _Phone) -> None:
        if self._radio is not None and not phone.gone.is_set():
            task = asyncio.get_running_loop().create_task(self._drop(self._radio.shared, phone))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drop(self, phones: list[_Phone]) -> None:
        if self._radio is not None:
            await asyncio.gather(*(self._drop(self._radio.shared, phone) for phone in phones))

    @staticmethod
    async def _drop(shared: SharedDevice, phone: _Phone) -> None:
        """Never raises. A phone out of reach stays connected until the supervision timeout of its link: no fault of the radio."""
        if not phone.dropping and not phone.gone.is_set():
            phone.dropping = True
            with suppress(BleakError):
                await shared.command(phone.connection.disconnect)

    async def notify(self, phone: _Phone, characteristic: Any, value: bytes) -> None:
        radio = self.check()
        try:
            # the subscription is ours to know, so bumble need not look
            await radio.database.notify_subscriber(phone.connection, characteristic, value, force=True)
            await drain(radio.shared.device, phone.connection)
        except core.BaseBumbleError as error:
            raise HostLostError(type(error).__name__) from None
        self.check()
        if phone.gone.is_set():
            raise HostLostError("disconnected")

    def _on_lost(self) -> None:
        """The HCI transport is lost: nothing more is heard, and whoever waits for the controller would do so for ever."""
        self._lost.set()
        self._changed.set()
        if self._radio is None:
            return
        for phone in list(self.phones):
            queue = self._radio.shared.device.host.get_data_packet_queue(phone.connection.handle)
            self._on_gone(phone, self._radio.database)
            if queue is not None:
                queue.flush(phone.connection.handle)

    # --- advertising --------------------------------------------------------------------------------------------------

    async def advertise(self, service: _Service) -> None:
        self.check()
        if service not in self._active:
            self._active.append(service)
        await self._apply()
        self.check()

    async def hide(self, service: _Service) -> None:
        if service in self._active:
            self._active.remove(service)
            if not self._active:
                for phone in self.phones:
                    if phone.serving is None:  # it cannot find anything to start any more
                        self._drop_soon(phone)
        if self._radio is not None and not self._lost.is_set():
            await self._apply()

    async def _apply(self) -> None:
        """Until the advertiser has seen the change; within its own limits."""
        applied = asyncio.get_running_loop().create_future()
        self._applied.append(applied)
        self._changed.set()
        await asyncio.wait({applied}, timeout=2 * HCI_SECONDS)

    async def _advertise_in_turns(self, shared: SharedDevice) -> None:
        on_air: _Service | None = None
        waiting: list[asyncio.Future[None]] = []
        try:
            while not self._lost.is_set():
                self._changed.clear()
                waiting, self._applied = waiting + self._applied, []
                turn, pause = self._turn(on_air), TURN_SECONDS if len(self._active) > 1 else None
                try:
                    if turn is not on_air or (turn is not None and self._interrupted):
                        self._interrupted = False
                        await self._put_on_air(shared, turn)
                    on_air = turn
                except BleakBluetoothNotAvailableError:
                    self._on_lost()
                except BleakError as error:
                    _log.warning("advertising was refused: %s", error)
                    on_air, pause = None, REFUSED_SECONDS
                except (
                    Exception
                ) as error:  # bumble's own account of its advertising does not hold: only a new start helps
                    _log.error("advertising failed: %s", type(error).__name__)
                    self._on_lost()
                self._adopt(shared)
                _finish(waiting)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._changed.wait()
        finally:
            self._lost.set()  # nobody could be found any more
            _finish(waiting)
            _finish(self._applied)

    def _turn(self, on_air: _Service | None) -> _Service | None:
        if not self._active:
            return None
        if on_air not in self._active:
            return self._active[0]
        return self._active[(self._active.index(on_air) + 1) % len(self._active)]

    @staticmethod
    async def _put_on_air(shared: SharedDevice, service: _Service | None) -> None:
        device = shared.device
        if service is None:
            await shared.command(device.stop_advertising)
            return
        data = AdvertisingData(
            [
                (AdvertisingData.FLAGS, FLAGS),
                (AdvertisingData.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, bytes(service.advertised)),
            ]
        )
        await shared.command(
            lambda: device.start_advertising(
                advertising_data=bytes(data),
                scan_response_data=b"",
                auto_restart=False,
                advertising_interval_min=ADVERTISING_MS,
                advertising_interval_max=ADVERTISING_MS,
            )
        )

    def _adopt(self, shared: SharedDevice) -> None:
        """A phone that connects just as extended advertising is stopped is known to bumble and never announced."""
        for connection in list(shared.device.connections.values()):
            if connection.role == hci.Role.PERIPHERAL and self.phone(connection) is None:
                self._on_connection(connection)
