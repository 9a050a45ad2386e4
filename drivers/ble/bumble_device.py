"""What the bleak backend over bumble shares per device: bounded HCI commands, one connect at a time, errors as bleak has them.

Any command that the controller does not answer in time counts as a failed radio (BleakBluetoothNotAvailableError), anything that
goes wrong with the peer is a BleakError. Texts name no address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakError,
    BleakGATTProtocolError,
)
from bumble import att, core, hci
from bumble.transport.common import TransportLostError

from drivers.ports import DriverError

HCI_SECONDS = 2.0
"""A controller answers a command within a second (Core Specification, Vol 4 Part E 4.4); bumble itself waits for ever."""

_T = TypeVar("_T")

# bumble's Device, Connection and GATT proxies are annotated in part only (untyped functions, generics without arguments), so
# they are Any from here to the classes of bleak, which are typed.
BumbleDevice = Any
BumbleConnection = Any


async def drain(device: BumbleDevice, connection: BumbleConnection) -> None:
    """Wait until the controller has taken all data queued for `connection`; bumble's writes only queue."""
    queue = device.host.get_data_packet_queue(connection.handle)
    if queue is not None:
        with suppress(ValueError):  # nothing was ever queued for this handle
            await queue.drain(connection.handle)


def _failed(what: str) -> BleakBluetoothNotAvailableError:
    return BleakBluetoothNotAvailableError(what, BleakBluetoothNotAvailableReason.UNKNOWN)


def _being_cancelled() -> bool:
    """Whether a CancelledError was meant for this task. bumble cancels futures of its own when a link or transport goes."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class SharedDevice:
    """What the scanners and clients of one device have in common."""

    def __init__(self, device: BumbleDevice) -> None:
        self.device = device
        self.dead = False
        self._lost = asyncio.Event()
        self.connecting = asyncio.Lock()  # a controller has one pending LE connection
        self._tasks: set[asyncio.Task[None]] = set()
        device.on("flush", self._on_flush)

    def _on_flush(self) -> None:
        self.dead = True  # the HCI transport is lost; a device is never reset in place
        self._lost.set()

    async def gone(self) -> None:
        """Until the HCI transport is lost; raises DriverError then."""
        await self._lost.wait()
        raise DriverError("HCI transport lost")

    @property
    def legacy(self) -> bool:
        """Use the scan commands of the same generation as bumble's connect: a controller refuses a mix (Vol 4 Part E 3.1.1)."""
        return not self.device.host.supports_command(hci.HCI_LE_EXTENDED_CREATE_CONNECTION_COMMAND)

    async def command(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """One exchange with the controller."""
        if self.dead:
            raise _failed("HCI transport lost")
        try:
            async with asyncio.timeout(HCI_SECONDS):
                return await work()
        except (TimeoutError, TransportLostError):
            raise _failed("HCI command not answered") from None
        except asyncio.CancelledError:
            if _being_cancelled():
                raise
            raise _failed("HCI transport lost") from None
        except core.BaseBumbleError as error:
            raise BleakError(type(error).__name__) from error

    async def request(self, work: Awaitable[_T]) -> _T:
        """One exchange with the peer's GATT server."""
        try:
            return await work
        except att.ATT_Error as error:
            raise BleakGATTProtocolError(int(error.error_code)) from error
        except asyncio.CancelledError:
            if _being_cancelled():
                raise
            raise BleakError("disconnected") from None  # bumble cancels the pending ATT response on link loss
        except BleakError:
            raise
        except Exception as error:  # bumble's client takes an answer for what was asked for, whatever the peer has sent
            raise BleakError(type(error).__name__) from error

    async def connect(self, address: hci.Address) -> BumbleConnection:
        """LE connect without a time limit: the caller cancels; the cancellation returns when it is withdrawn (bounded)."""
        if self.dead:
            raise _failed("HCI transport lost")
        await self.connecting.acquire()
        attempt = asyncio.ensure_future(self.device.connect(address, transport=core.PhysicalTransport.LE, timeout=None))
        try:
            connection = await asyncio.shield(attempt)
        except asyncio.CancelledError:
            if _being_cancelled():
                await asyncio.shield(self.spawn(self._withdraw(attempt)))
                raise
            self.connecting.release()
            raise _failed("HCI transport lost") from None
        except TransportLostError:
            self.connecting.release()
            raise _failed("HCI transport lost") from None
        except core.BaseBumbleError as error:
            self.connecting.release()
            raise BleakError(type(error).__name__) from error
        self.connecting.release()
        return connection

    async def _withdraw(self, attempt: asyncio.Future[Any]) -> None:
        """Cancel the pending connection, then see it end; until then no other may begin.

        The command is sent as such: device.cancel_connection() sends nothing until bumble has noted that it is connecting,
        and the host's one-command-at-a-time rule already puts ours after the connect command.
        """
        try:
            if not attempt.done():
                with suppress(BleakError):  # refused when it has just connected after all
                    await self.command(
                        lambda: self.device.send_sync_command(hci.HCI_LE_Create_Connection_Cancel_Command())
                    )
            await asyncio.wait({attempt}, timeout=HCI_SECONDS)
            if attempt.done() and not attempt.cancelled() and attempt.exception() is None:
                with suppress(BleakError):
                    await self.command(lambda: attempt.result().disconnect())
        finally:
            attempt.cancel()
            self.connecting.release()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def holds(self, connection: BumbleConnection) -> bool:
        """Whether the device still knows the connection; it may have gone before anybody could listen for that."""
        return self.device.connections.get(connection.handle) is connection
