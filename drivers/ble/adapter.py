"""`drivers.ports.Ble`: one adapter as central and as GATT server, for all lanes that name it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from uuid import UUID, uuid4

from drivers.ble.central import BleakCentral, ConnectBudget
from drivers.ble.radio import Radio
from drivers.ble.server import GattServer, Host
from drivers.ports import Approached, BleRole, DriverError, Link, Sighting
from protocol.clock import Clock
from protocol.race import race

_log = logging.getLogger(__name__)


class BleAdapter:
    """`roles` in order of preference. `host` makes the GATT server's side of the radio; it is called once, and only for an
    adapter that is to be peripheral. One that can connect and cannot serve works as central alone until it is started anew."""

    def __init__(
        self,
        radio: Radio,
        host: Callable[[], Host],
        clock: Clock,
        *,
        roles: Sequence[BleRole] = tuple(BleRole),
        budget: ConnectBudget | None = None,
    ) -> None:
        self._roles, self._central_only = tuple(roles), False
        self._central = BleakCentral(radio, clock, budget)
        self._server = GattServer(host(), clock) if BleRole.PERIPHERAL in self._roles else None

    @property
    def roles(self) -> Sequence[BleRole]:
        return (BleRole.CENTRAL,) if self._central_only else self._roles

    async def start(self) -> None:
        """Bring the radio up; also after a failure. Raises DriverError."""
        await self.stop()
        await self._central.start()
        if self._server is None:
            return
        try:
            await self._server.start()
        except DriverError as error:
            if BleRole.CENTRAL not in self._roles:
                raise
            self._central_only = True
            _log.warning("the adapter works as central only: %s", error)

    async def stop(self) -> None:
        """End open links, then put the radio away. Never raises."""
        self._central_only = False
        if self._server is not None:
            await self._server.stop()
        await self._central.stop()

    async def gone(self) -> None:
        """Waits until the radio is gone and raises DriverError then."""
        if self._server is None or self._central_only:
            await self._central.gone()
        else:
            await race(self._central.gone(), self._server.gone())

    async def connect(self, service: UUID, timeout: float) -> Link:
        """As central. Raises LinkError or DriverError."""
        return await self._central.connect(service, timeout)

    def reserve(self) -> UUID:
        return uuid4() if self._server is None or self._central_only else self._server.reserve()

    async def serve(self, service: UUID, ident: bytes, timeout: float) -> Link:
        """As peripheral. Raises LinkError or DriverError."""
        if self._server is None:
            raise DriverError("this adapter is not configured as peripheral")
        return await self._server.serve(service, ident, timeout)

    def sightings(self) -> AsyncIterator[Sighting]:
        return self._central.sightings()

    async def approach(self, peer: str, timeout: float) -> Approached:
        """As central, to a phone that was sighted. Raises LinkError or DriverError."""
        return await self._central.approach(peer, timeout)
