"""One connection to BlueZ on the system bus: every call has a limit, every failure is a DriverError with the D-Bus error's name.

Error texts and bodies of bluetoothd are left out: they name phones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dbus_fast import BusType, Message, MessageFlag, MessageType, Variant, unpack_variants
from dbus_fast.aio import MessageBus

from drivers.ports import DriverError

SERVICE = "org.bluez"
ROOT = "/org/bluez"
ADAPTER = "org.bluez.Adapter1"
DEVICE = "org.bluez.Device1"
GATT_MANAGER = "org.bluez.GattManager1"
GATT_SERVICE = "org.bluez.GattService1"
GATT_CHARACTERISTIC = "org.bluez.GattCharacteristic1"
ADVERTISING_MANAGER = "org.bluez.LEAdvertisingManager1"
ADVERTISEMENT = "org.bluez.LEAdvertisement1"
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
DAEMON, DAEMON_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"

CALL_SECONDS = 5.0
"""bluetoothd answers in milliseconds; one that takes this long has hung."""
CLOSE_SECONDS = 1.0

Objects = dict[str, dict[str, dict[str, Any]]]
"""Object path -> interface -> property -> value."""


class BusError(DriverError):
    """The other side answered with an error."""

    def __init__(self, member: str, name: str) -> None:
        super().__init__(f"{member}: {name}")
        self.name = name
        """D-Bus error name, such as `org.bluez.Error.NotReady`."""


class BluezBus:
    """`handler` sees every incoming signal and call on the loop and must not raise; True: a call has been seen to."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._answers: dict[int, asyncio.Future[Message]] = {}
        bus.add_message_handler(self._on_answer)
        self._ended = asyncio.ensure_future(self._disconnected())

    async def _disconnected(self) -> None:
        disconnected: Any = self._bus.wait_for_disconnect  # not annotated
        with suppress(Exception):  # why it broke tells nothing more
            await disconnected()
        for answer in self._answers.values():
            answer.cancel()

    def _on_answer(self, message: Message) -> bool:
        answer = self._answers.get(message.reply_serial)
        if answer is None or message.message_type not in (MessageType.METHOD_RETURN, MessageType.ERROR):
            return False
        if not answer.done():
            answer.set_result(message)
        return True

    @classmethod
    async def open(cls, handler: Callable[[Message], bool] | None = None) -> BluezBus:
        """Raises DriverError."""
        logging.getLogger("dbus_fast").setLevel(logging.CRITICAL)  # its lines hold messages, and so payloads
        try:
            bus = MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True)
            async with asyncio.timeout(CALL_SECONDS):
                await bus.connect()
        except Exception as error:  # socket, handshake and address each fail in their own way; all mean one thing
            raise DriverError(f"system bus: {type(error).__name__}") from error
        if handler is not None:
            bus.add_message_handler(handler)
        return cls(bus)

    async def call(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *body: Any,
        destination: str = SERVICE,
        timeout: float | None = None,
    ) -> list[Any]:
        """One method call; its results without variants. Raises DriverError, as BusError where there was an answer."""
        limit = CALL_SECONDS if timeout is None else timeout
        if not self._bus.connected:
            raise DriverError("the bus connection ended")
        message = Message(
            destination=destination, path=path, interface=interface, member=member, signature=signature, body=list(body)
        )
        # The library's own call leaves the fate of the sending to nobody, and asyncio then reports it as lost.
        message.serial = self._bus.next_serial()
        answer = self._answers[message.serial] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(limit):
                await self._bus.send(message)
                await asyncio.wait({answer})
        except TimeoutError:
            raise DriverError(f"{member}: no answer within {limit:g} s") from None
        except OSError as error:
            raise DriverError(f"{member}: {type(error).__name__}") from error
        finally:
            del self._answers[message.serial]
            answer.cancel()
        if answer.cancelled():
            raise DriverError("the bus connection ended")
        reply = answer.result()
        if reply.message_type is MessageType.ERROR:
            raise BusError(member, reply.error_name or "unknown error")
        results: list[Any] = unpack_variants(reply.body)
        return results

    async def match(self, rule: str) -> None:
        """Receive the signals that `rule` describes. Raises DriverError."""
        await self.call(DAEMON_PATH, DAEMON, "AddMatch", "s", rule, destination=DAEMON)

    async def owner(self) -> str:
        """Unique name of bluetoothd's connection. Raises DriverError."""
        return str((await self.call(DAEMON_PATH, DAEMON, "GetNameOwner", "s", SERVICE, destination=DAEMON))[0])

    async def objects(self) -> Objects:
        """All of bluetoothd's objects; starts it where the bus can. Raises DriverError."""
        found: Objects = (await self.call("/", OBJECT_MANAGER, "GetManagedObjects"))[0]
        return found

    def send(self, message: Message, close: Callable[[], None] = lambda: None) -> None:
        """Send an answer; `close` is called when it has left, or never will (a file descriptor that it carries)."""

        def sent(done: asyncio.Future[Any]) -> None:
            if not done.cancelled():
                done.exception()  # the end of the connection is noticed elsewhere
            close()

        try:
            self._bus.send(message).add_done_callback(sent)
        except OSError:  # the library raises at times what it also puts into the future
            close()

    async def ended(self) -> None:
        """Waits until the connection is closed by whichever side."""
        await asyncio.wait({self._ended})  # cancelling the library's own wait would spoil it for everybody

    async def close(self) -> None:
        """Never raises; bluetoothd then forgets whatever was registered over this connection."""
        with suppress(Exception):
            self._bus.disconnect()
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.ended()


def answer(call: Message, signature: str = "", body: list[Any] | None = None, fds: list[int] | None = None) -> Message:
    return Message.new_method_return(call, signature, body or [], fds or [])


def refuse(call: Message, name: str) -> Message:
    """An error without a text."""
    return Message.new_error(call, name, "")


def wants_answer(call: Message) -> bool:
    """bluetoothd passes writes without response on as calls without reply."""
    return MessageFlag.NO_REPLY_EXPECTED not in call.flags


def variants(properties: dict[str, tuple[str, Any]]) -> dict[str, Variant]:
    """Property -> (signature, value), as D-Bus carries them."""
    return {name: Variant(signature, value) for name, (signature, value) in properties.items()}
