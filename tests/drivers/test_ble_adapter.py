"""One adapter in both roles: what it does when it cannot play one of them."""

from __future__ import annotations

import asyncio
from random import Random
from uuid import UUID

import pytest

from drivers.ble import BleAdapter
from drivers.ble.bumble_backend import backend_for
from drivers.ble.bumble_server import BumbleHost
from drivers.ble.radio import GivenRadio
from drivers.ble.server import Host, Published, Session
from drivers.ports import BleRole, DriverError
from mdoc import ble
from protocol.clock import SystemClock
from testbed.air import Air, virtual_device
from testbed.phone.ble import PhonePeripheral
from testbed.phone.central import PhoneCentral
from tests.drivers.ble_stacks import GivenDevice

GUARD = 5.0
IDENT = bytes(range(16))


class FailingHost:
    """An adapter that cannot be peripheral."""

    async def start(self) -> None:
        raise DriverError("the adapter cannot be peripheral")

    async def stop(self) -> None:
        pass

    async def gone(self) -> None:
        await asyncio.Event().wait()

    async def publish(self, service: UUID, session: Session) -> Published:
        raise DriverError("not started")


async def adapter_on(air: Air, host: Host | None = None, roles: tuple[BleRole, ...] = tuple(BleRole)) -> BleAdapter:
    device = await virtual_device(air, "gate", Random(1).randbytes)
    return BleAdapter(
        GivenRadio(backend_for(device)), lambda: host or BumbleHost(GivenDevice(device)), SystemClock(), roles=roles
    )


async def connects(air: Air, adapter: BleAdapter, name: str) -> None:
    """A session in which the gate is central."""
    service = UUID(bytes=Random(name).randbytes(16), version=4)
    phone = PhonePeripheral(
        await virtual_device(air, name, Random(name).randbytes), random_bytes=Random(name).randbytes
    )
    await phone.advertise(service)
    link = await adapter.connect(service, GUARD)
    await link.send(b"request")
    assert await phone.receive(GUARD) == b"request"
    await link.close()
    await phone.close()


async def test_one_adapter_connects_and_serves_at_the_same_time() -> None:
    air = Air()
    adapter = await adapter_on(air)
    await adapter.start()
    service = adapter.reserve()
    serving = asyncio.ensure_future(adapter.serve(service, IDENT, GUARD))
    await connects(air, adapter, "one")
    phone = PhoneCentral(await virtual_device(air, "two", Random(2).randbytes))
    await phone.begin(service, IDENT, GUARD)
    link = await serving
    await phone.send(b"hello")
    assert await link.receive(GUARD) == b"hello"
    await connects(air, adapter, "three")
    await link.close()
    await phone.close()
    await adapter.stop()


async def test_an_adapter_that_cannot_be_peripheral_works_as_central() -> None:
    air = Air()
    adapter = await adapter_on(air, FailingHost())
    await adapter.start()
    assert adapter.roles == (BleRole.CENTRAL,)
    await connects(air, adapter, "phone")
    assert adapter.reserve() != adapter.reserve()
    await adapter.stop()
    assert adapter.roles == tuple(BleRole)


async def test_an_adapter_that_is_to_be_peripheral_alone_does_not_start_without_it() -> None:
    adapter = await adapter_on(Air(), FailingHost(), (BleRole.PERIPHERAL,))
    with pytest.raises(DriverError):
        await adapter.start()
    await adapter.stop()


async def test_an_adapter_without_the_role_serves_nobody() -> None:
    adapter = await adapter_on(Air(), roles=(BleRole.CENTRAL,))
    await adapter.start()
    with pytest.raises(DriverError):
        await adapter.serve(UUID(int=1), ble.ble_ident(b"key"), GUARD)
    await adapter.stop()
