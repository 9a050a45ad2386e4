"""Reader as GATT server (mdoc central client mode, ISO/IEC 18013-5 8.3.3.1.1), whatever the stack below it is.

A `Session` is one service with its own UUID and Ident, and belongs to one lane; a `Host` (BlueZ or bumble) publishes it in the
adapter's GATT database, advertises it and tells what phones do with it. Until one phone has subscribed and written State = start,
others may come and go; from then on the session is that phone's, and whatever others write is passed over.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from drivers.ble.inbox import Inbox
from drivers.ports import Carrier, DriverError, LinkEndedError, LinkError, LinkLostError, LinkTimeoutError
from mdoc import ble
from protocol.clock import Clock
from protocol.race import race

_log = logging.getLogger(__name__)

SEND_SECONDS = 10.0
"""A message the phone's radio has not taken after this long never will be: 256 kB at 26 kB/s."""
END_SECONDS = 0.5
"""State = end is best effort; a phone that is gone must not hold the service."""
LEAVE_SECONDS = 1.0
"""What a phone gets after State = end to disconnect by itself; then it is disconnected."""
WITHDRAW_SECONDS = 12.0
"""Disconnecting takes two seconds on BlueZ."""
STOP_SECONDS = 3.0
"""What a stopping agent grants its open links."""
MAX_SESSIONS = 16
"""Services published at a time on one adapter, pool and reserved ones included: controllers keep few connections anyway."""
POOL = 2
"""Services published ahead, for handovers in which the gate names the UUID."""
MAX_RESERVED = 4
"""Reserved services that nobody has asked to serve yet; the oldest gives way, and is published anew if it is served after all."""
MAX_SUBSCRIBERS = 16
"""Phones that may be subscribed to one service before one of them starts; more are turned away."""


class Notified(StrEnum):
    """The characteristics on which a server notifies."""

    STATE = "state"
    DATA = "server2client"


class NotPermittedError(Exception):
    """The host answers with an ATT error (or, to a write without response, not at all)."""


class HostLostError(Exception):
    """The peer or its connection went away below us; never a fault of the adapter."""


class Published(Protocol):
    """One session's service in the adapter's GATT database. Errors: HostLostError (the phone), DriverError (the adapter)."""

    @property
    def value_size(self) -> int:
        """Longest value that the phone which started can be notified of, bytes: min(MTU - 3, 512)."""
        ...

    async def advertise(self) -> None:
        """Connectable, general discoverable, with the service's UUID."""
        ...

    async def hide(self) -> None:
        """Stop advertising. Never raises."""
        ...

    async def notify(self, what: Notified, value: bytes) -> None:
        """One value to the phone that started; returns when the stack below has taken it (back-pressure)."""
        ...

    async def drop(self, peer: str) -> None:
        """Disconnect a phone. May take seconds; never raises."""
        ...

    async def withdraw(self) -> None:
        """Advertising and service away. Never raises."""
        ...


class Host(Protocol):
    """One adapter as GATT server."""

    async def start(self) -> None:
        """Raises DriverError. May be called again after a failure."""
        ...

    async def stop(self) -> None:
        """Never raises."""
        ...

    async def gone(self) -> None:
        """Waits until the adapter or the stack is gone and raises DriverError then."""
        ...

    async def publish(self, service: UUID, session: Session) -> Published:
        """The service with State, Client2Server, Server2Client and Ident (table 6). Raises DriverError."""
        ...


class Session:
    """What the phones do with one service; the host calls it on the loop. `peer` tells connections apart."""

    def __init__(self, clock: Clock) -> None:
        self.ident: bytes | None = None
        """Set before the service is advertised; until then it cannot be read."""
        self.peer: str | None = None
        """The phone that started."""
        self.inbox = Inbox(clock)
        self.started, self.left = asyncio.Event(), asyncio.Event()
        self._subscribed: OrderedDict[str, set[Notified]] = OrderedDict()

    def read_ident(self) -> bytes:
        """Raises NotPermittedError while there is none."""
        if self.ident is None:
            raise NotPermittedError
        return self.ident

    def on_subscribed(self, peer: str, what: Notified, on: bool) -> None:
        """Raises NotPermittedError for one phone too many, and for others than the one that started."""
        if self.peer not in (None, peer):
            raise NotPermittedError
        if not on:
            self._subscribed.get(peer, set()).discard(what)
            return
        if peer not in self._subscribed and len(self._subscribed) >= MAX_SUBSCRIBERS:
            raise NotPermittedError
        self._subscribed.setdefault(peer, set()).add(what)

    def on_state(self, peer: str, value: bytes) -> None:
        """One value of State. Raises NotPermittedError for what is passed over."""
        if self.peer is None:
            if value != ble.STATE_START or self.ident is None or self._subscribed.get(peer) != set(Notified):
                raise NotPermittedError  # the framing starts only for a phone that can hear us
            self.peer = peer
            self.started.set()
        elif peer == self.peer:
            self.inbox.on_state(value)
        else:
            raise NotPermittedError

    def on_data(self, peer: str, value: bytes) -> None:
        """One value of Client2Server. Raises NotPermittedError for what is passed over."""
        if peer != self.peer:
            raise NotPermittedError
        self.inbox.on_data(value)

    def on_gone(self, peer: str) -> None:
        """The connection has ended."""
        self._subscribed.pop(peer, None)
        if peer == self.peer:
            self.left.set()
            self.inbox.on_lost()


class ServerLink:
    """Made by `GattServer`; `end` withdraws the service and never raises."""

    carrier = Carrier.BLE

    def __init__(
        self,
        session: Session,
        published: Published,
        *,
        opened_at: float,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        end: Callable[[ServerLink], Coroutine[Any, Any, None]],
    ) -> None:
        self.session, self.published = session, published
        self._last_byte_at = opened_at
        self._spawn, self._end = spawn, end
        self._turn = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None
        self._told = False

    @property
    def last_byte_at(self) -> float:
        """Before the first message: when the link was opened."""
        return self._last_byte_at

    @property
    def parting(self) -> bool:
        """One side has told the other State = end, so the phone disconnects by itself."""
        try:
            self.session.inbox.check()
        except LinkEndedError:
            return True
        except LinkError:
            pass
        return self._told

    async def send(self, message: bytes) -> None:
        async with self._turn:
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    for chunk in ble.chunks(message, min(self.published.value_size, ble.MAX_VALUE)):
                        self.session.inbox.check()
                        await self.published.notify(Notified.DATA, chunk)
            except TimeoutError:
                raise LinkTimeoutError(f"the phone did not take a message within {SEND_SECONDS:g} s") from None
            except (HostLostError, DriverError):
                self.session.inbox.check()
                raise LinkLostError("notification failed") from None

    async def receive(self, timeout: float) -> bytes:
        message, self._last_byte_at = await self.session.inbox.take(timeout)
        return message

    def close_soon(self) -> asyncio.Task[None]:
        """Start closing and go on; the same task every time."""
        if self._closing is None:
            self._closing = self._spawn(self._close())
        return self._closing

    async def close(self) -> None:
        await asyncio.shield(self.close_soon())

    async def _close(self) -> None:
        try:
            if self.session.inbox.open:
                self.session.inbox.finish(LinkLostError, "closed by the gate")
                with suppress(TimeoutError, HostLostError, DriverError):
                    async with asyncio.timeout(END_SECONDS):
                        await self.published.notify(Notified.STATE, ble.STATE_END)
                        self._told = True
        finally:
            await self._end(self)


class GattServer:
    """One adapter for all lanes of an agent: several `serve` and several links at a time."""

    def __init__(
        self, host: Host, clock: Clock, random_bytes: Callable[[int], bytes] = secrets.token_bytes, *, pool: int = POOL
    ) -> None:
        self._host, self._clock, self._random_bytes, self._pool_size = host, clock, random_bytes, pool
        self._running = False
        self._stopped = asyncio.Event()
        self._pool: dict[UUID, tuple[Session, Published]] = {}
        self._reserved: OrderedDict[UUID, tuple[Session, Published]] = OrderedDict()
        self._slots = asyncio.Semaphore(MAX_SESSIONS - pool - MAX_RESERVED)
        self._links: set[ServerLink] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._filling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bring the adapter up and fill the pool; also after a failure. Raises DriverError."""
        await self.stop()
        await self._host.start()
        self._running, self._stopped = True, asyncio.Event()
        await self._fill()

    async def stop(self) -> None:
        """End open links, then withdraw everything. Never raises."""
        self._running = False
        self._stopped.set()
        for link in list(self._links):
            link.close_soon()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=STOP_SECONDS)
        ahead = [*self._pool.values(), *self._reserved.values()]
        self._pool.clear()
        self._reserved.clear()
        await asyncio.gather(*(self._withdraw(published) for _, published in ahead))
        await self._host.stop()

    async def gone(self) -> None:
        """Waits until the adapter is gone and raises DriverError then."""
        await self._host.gone()

    def reserve(self) -> UUID:
        """A fresh service UUID, known to nobody yet; one that is published already where the pool has any."""
        if not self._pool:
            return self._fresh()
        service = next(iter(self._pool))
        self._reserved[service] = self._pool.pop(service)
        self._fill_soon()
        while len(self._reserved) > MAX_RESERVED:
            _, (_, published) = self._reserved.popitem(last=False)
            self._spawn(self._withdraw(published))
        return service

    def _fresh(self) -> UUID:
        return UUID(bytes=self._random_bytes(16), version=4)

    async def serve(self, service: UUID, ident: bytes, timeout: float) -> ServerLink:
        """Advertise `service` until a phone has subscribed and written State = start.

        LinkTimeoutError: nobody did in time, or no slot came free; DriverError: the adapter failed, start it again.
        """
        if not self._running:
            raise DriverError("the radio is not started")
        try:
            async with asyncio.timeout(timeout):
                return await self._serve(service, ident)
        except TimeoutError:
            raise LinkTimeoutError(f"no phone began a session within {timeout:g} s") from None

    async def _serve(self, service: UUID, ident: bytes) -> ServerLink:
        await self._slots.acquire()
        try:
            session, published = (
                self._reserved.pop(service) if service in self._reserved else await self._publish(service)
            )
        except BaseException:
            self._slots.release()
            raise
        try:
            session.ident = ident  # before anybody can have seen the service
            await published.advertise()
            await self._start_of(session)
        except BaseException:
            self._spawn(self._retire(published))
            raise
        self._spawn(published.hide())
        link = ServerLink(session, published, opened_at=self._clock.monotonic(), spawn=self._spawn, end=self._end)
        self._links.add(link)
        session.inbox.on_violation = link.close_soon
        return link

    async def _publish(self, service: UUID) -> tuple[Session, Published]:
        session = Session(self._clock)
        return session, await self._host.publish(service, session)

    async def _start_of(self, session: Session) -> None:
        """Until a phone starts; an adapter that goes or is stopped meanwhile is noticed. Raises DriverError."""
        await race(session.started.wait(), self._host.gone(), self._stopped.wait())
        if not session.started.is_set():
            raise DriverError("the radio was lost or stopped while a phone was waited for")

    async def _end(self, link: ServerLink) -> None:
        """A phone disconnects after State = end; one that does not is disconnected."""
        session = link.session
        try:
            if session.peer is not None and not session.left.is_set():
                if link.parting:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LEAVE_SECONDS):
                            await session.left.wait()
                if not session.left.is_set():
                    await link.published.drop(session.peer)
        finally:
            self._links.discard(link)
            await self._retire(link.published)

    async def _retire(self, published: Published) -> None:
        """Its slot is free only when the service is gone."""
        try:
            await self._withdraw(published)
        finally:
            self._slots.release()

    async def _withdraw(self, published: Published) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(WITHDRAW_SECONDS):
                await published.withdraw()

    def _fill_soon(self) -> None:
        if self._filling is None or self._filling.done():
            self._filling = self._spawn(self._fill_quietly())

    async def _fill_quietly(self) -> None:
        with suppress(DriverError):  # whoever serves next finds out
            await self._fill()

    async def _fill(self) -> None:
        while self._running and len(self._pool) < self._pool_size:
            service = self._fresh()
            self._pool[service] = await self._publish(service)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
