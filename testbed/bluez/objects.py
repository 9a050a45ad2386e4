"""D-Bus objects as bluetoothd serves them: a tree of interfaces with properties and methods, and the signals about both."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from dbus_fast import DBusError, ErrorType, Message, MessageFlag, MessageType, NameFlag, Variant
from dbus_fast.aio import MessageBus

from drivers.ble.bluez_bus import OBJECT_MANAGER, PROPERTIES, SERVICE, variants

Properties = dict[str, tuple[str, Any]]
"""Property -> (signature, value)."""


class BluezError(DBusError):
    def __init__(self, kind: str, text: str = "") -> None:
        super().__init__(f"org.bluez.Error.{kind}", text)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a method: who calls, and the arguments."""

    sender: str
    arguments: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """`fds` are closed once they have been sent."""

    signature: str = ""
    body: Sequence[Any] = ()
    fds: Sequence[int] = ()


Method = Callable[[Call], Awaitable[Answer | None]]


@dataclass(slots=True)
class Interface:
    properties: Properties = field(default_factory=dict)
    methods: Mapping[str, Method] = field(default_factory=dict)


class ObjectTree:
    """One connection that owns `org.bluez`."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._bus: MessageBus | None = None
        self._objects: dict[str, dict[str, Interface]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.on_signal: Callable[[Message], None] = lambda _: None
        self.on_caller_gone: Callable[[str], None] = lambda _: None
        """A connection that may have registered something has left the bus."""

    @property
    def bus(self) -> MessageBus:
        if self._bus is None:
            raise RuntimeError("not connected")
        return self._bus

    async def start(self) -> None:
        bus = MessageBus(bus_address=self._address, negotiate_unix_fd=True)
        await bus.connect()
        self._bus = bus
        bus.add_message_handler(self._on_message)
        await self.request("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", [
            "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged'"
        ])  # fmt: skip
        await bus.request_name(SERVICE, NameFlag.DO_NOT_QUEUE)

    async def stop(self) -> None:
        """The name is released and calls under way are never answered."""
        bus, self._bus = self._bus, None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._objects.clear()
        if bus is not None:
            bus.disconnect()
            disconnected: Any = bus.wait_for_disconnect
            with suppress(OSError, EOFError):  # the bus went first
                await disconnected()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def request(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", body: Sequence[Any] = ()
    ) -> Message:
        """Call somebody. Raises DBusError."""
        reply = await self.bus.call(
            Message(
                destination=destination,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=[*body],
            )
        )
        if reply is None or reply.message_type is MessageType.ERROR:
            raise DBusError(reply.error_name or "" if reply is not None else ErrorType.FAILED, "", reply)
        return reply

    def tell(
        self, destination: str, path: str, interface: str, member: str, signature: str, body: Sequence[Any]
    ) -> None:
        """Call somebody without waiting for an answer; such calls arrive in order."""
        self._send(
            Message(
                destination=destination,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=[*body],
                flags=MessageFlag.NO_REPLY_EXPECTED,
            )
        )

    def _send(self, message: Message) -> None:
        if self._bus is not None and self._bus.connected:
            with suppress(OSError):  # the bus has gone
                self._bus.send(message).add_done_callback(lambda sent: sent.cancelled() or sent.exception())

    # --- the tree -----------------------------------------------------------------------------------------------------

    def add(self, path: str, interfaces: Mapping[str, Interface]) -> None:
        self._objects[path] = dict(interfaces)
        added = {name: variants(interface.properties) for name, interface in interfaces.items()}
        self._signal("/", OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", [path, added])

    def remove(self, path: str) -> None:
        interfaces = self._objects.pop(path, None)
        if interfaces is not None:
            self._signal("/", OBJECT_MANAGER, "InterfacesRemoved", "oas", [path, list(interfaces)])

    def has(self, path: str) -> bool:
        return path in self._objects

    def get(self, path: str, interface: str, name: str) -> Any:
        return self._objects[path][interface].properties[name][1]

    def set(self, path: str, interface: str, **values: Any) -> None:
        """New values, and the signal about them. Nothing where the object has gone."""
        found = self._objects.get(path, {}).get(interface)
        if found is None:
            return
        for name, value in values.items():
            signature = "n" if name == "RSSI" else found.properties[name][0]  # absent until it is known
            found.properties[name] = (signature, value)
        changed = variants({name: found.properties[name] for name in values})
        self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", [interface, changed, []])

    def _signal(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        self._send(Message.new_signal(path, interface, member, signature, body))

    # --- incoming -----------------------------------------------------------------------------------------------------

    def _on_message(self, message: Message) -> bool:
        if message.message_type is MessageType.SIGNAL:
            if message.member == "NameOwnerChanged" and message.body[0].startswith(":") and not message.body[2]:
                self.on_caller_gone(message.body[0])
            return False
        if message.message_type is not MessageType.METHOD_CALL:
            return False
        self.spawn(self._answer(message))
        return True

    async def _answer(self, message: Message) -> None:
        fds: Sequence[int] = ()
        try:
            found = await self._handle(message) or Answer()
            fds = found.fds
            reply = Message.new_method_return(message, found.signature, [*found.body], [*fds])
        except DBusError as error:
            reply = Message.new_error(message, error.type, error.text)
        try:
            if MessageFlag.NO_REPLY_EXPECTED not in message.flags and self._bus is not None:
                with suppress(OSError):
                    await self._bus.send(reply)
        finally:
            for fd in fds:
                os.close(fd)

    async def _handle(self, message: Message) -> Answer | None:
        path = message.path or ""
        if message.interface == OBJECT_MANAGER:
            return Answer("a{oa{sa{sv}}}", [self._tree()])
        interfaces = self._objects.get(path)
        if interfaces is None:
            raise DBusError(ErrorType.UNKNOWN_OBJECT, "")
        if message.interface == PROPERTIES:
            return self._property(interfaces, message)
        interface = interfaces.get(message.interface or "")
        method = interface.methods.get(message.member or "") if interface is not None else None
        if method is None:
            raise DBusError(ErrorType.UNKNOWN_METHOD, "")
        return await method(Call(message.sender or "", message.body))

    def _property(self, interfaces: Mapping[str, Interface], message: Message) -> Answer:
        interface = interfaces.get(message.body[0])
        if interface is None:
            raise DBusError(ErrorType.UNKNOWN_INTERFACE, "")
        if message.member == "GetAll":
            return Answer("a{sv}", [variants(interface.properties)])
        found = interface.properties.get(message.body[1])
        if message.member != "Get" or found is None:
            raise DBusError(ErrorType.UNKNOWN_PROPERTY, "")
        return Answer("v", [Variant(*found)])

    def _tree(self) -> dict[str, dict[str, dict[str, Variant]]]:
        return {
            path: {name: variants(interface.properties) for name, interface in interfaces.items()}
            for path, interfaces in self._objects.items()
        }
