"""Reader as central: `BleakCentral` over bleak's BlueZ backend, phones as GATT servers."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from uuid import UUID

from drivers.ble import BleakCentral
from drivers.ble.radio import BluezRadio
from drivers.ports import DriverError, Link, LinkError, LinkLostError, LinkTimeoutError
from protocol.clock import SystemClock
from testbed.phone.ble import PhonePeripheral
from testbed.vm.claims import Claims, Stopwatch, expect, hold
from testbed.vm.guest import Guest, until

REQUEST = 1000
CONNECT_SECONDS = 30.0
TURN_SECONDS = 20.0
GONE_SECONDS = 5.0
IDLE_SECONDS = 10.0
"""BlueZ needs two to four seconds to disconnect."""
CANCELS = 8
CROSSED_SECONDS = 0.06
"""bluetoothd takes some ten milliseconds from our cancelling to the kernel's command."""
SMALL, LARGE = 4096, 30_000


class CentralClaims:
    def __init__(self, guest: Guest, claims: Claims) -> None:
        self._guest, self._claims = guest, claims
        self._random = Random(3)  # noqa: S311  contents of messages, the same in every run
        self._central = BleakCentral(BluezRadio(), SystemClock())

    async def run(self) -> None:
        claim = self._claims.claim
        await claim("central: bluetoothd's adapter is found", self._central.start)
        await claim("central: a session of 4 kB", lambda: self._session(SMALL))
        await claim("central: a session of 30 kB", lambda: self._session(LARGE))
        await claim("central: two sessions at once", self._two_at_once)
        await claim("central: three phones at each other's heels", self._at_heels)
        await claim(
            "central: a phone that vanishes before its answer is a lost link, and the next is served", self._vanished
        )
        await claim("central: a phone that ends is told from one that is lost", self._ended)
        await claim("central: nobody advertises: a time-out in time", self._nobody)
        await claim("central: afterwards nothing is connected and nothing scans", self._idle)
        await claim(
            "central: bluetoothd killed in a session is noticed, and after a new start there is a session", self._killed
        )
        await claim("central: bluetoothd restarted while idle: an error or a session, then a session", self._restarted)
        await claim("central: the kernel reports no fault", self._kernel)
        await self._central.stop()

    async def run_pending(self, part: str) -> None:
        """Phones that are heard and never connect. Linux 6.1 does not always stand them: a part of its own, run last."""
        claim = self._claims.claim
        await claim(f"{part}: bluetoothd's adapter is found", self._central.start)
        await claim(f"{part}: a connect cancelled while it is pending, and the next phone", self._cancelled)
        await claim(f"{part}: a phone that never connects is given up in time", self._unreachable)
        await claim(f"{part}: a phone that never connects, and a good one beside it", self._beside)
        await claim(
            f"{part}: {CANCELS} connects cancelled while they are pending, each with the next phone", self._many
        )
        await claim(
            f"{part}: {CANCELS} connects that come about as they are cancelled leave nothing behind", self._crossed
        )
        await claim(f"{part}: afterwards nothing is connected and nothing scans", self._idle)
        await claim(f"{part}: the kernel reports no fault", self._kernel)
        await self._central.stop()

    def _service(self) -> UUID:
        return UUID(bytes=self._random.randbytes(16), version=4)

    @asynccontextmanager
    async def _phone(self) -> AsyncIterator[PhonePeripheral]:
        device = await self._guest.device()
        async with PhonePeripheral(device) as phone:
            yield phone
        self._guest.air.lose(self._guest.controller_of(device))

    async def _session(self, size: int) -> Stopwatch:
        watch = Stopwatch()
        async with self._phone() as phone:
            service = self._service()
            await phone.advertise(service)
            link = await self._central.connect(service, CONNECT_SECONDS)
            watch.step("scan and connect")
            await self._exchange(link, phone, size)
            watch.step("exchange")
            await link.close()
            watch.step("close")
        return watch

    async def _exchange(self, link: Link, phone: PhonePeripheral, size: int) -> None:
        request, response = self._random.randbytes(REQUEST), self._random.randbytes(size)
        await link.send(request)
        hold(await phone.receive(TURN_SECONDS) == request, "the request arrived changed")
        await phone.send(response)
        hold(await link.receive(TURN_SECONDS) == response, "the response arrived changed")

    async def _two_at_once(self) -> str:
        begun = time.monotonic()
        one, other = await asyncio.gather(self._session(SMALL), self._session(SMALL))
        return f"{one}; {other}; together {(time.monotonic() - begun) * 1000:.0f} ms"

    async def _at_heels(self) -> str:
        """Three phones, each while the one before is still being disconnected in the background."""
        closing, connects = [], []
        for _ in range(3):
            device = await self._guest.device()
            phone, service = PhonePeripheral(device), self._service()
            await phone.advertise(service)
            begun = time.monotonic()
            link = await self._central.connect(service, CONNECT_SECONDS)
            connects.append(time.monotonic() - begun)
            await self._exchange(link, phone, SMALL)
            closing.append(asyncio.create_task(link.close()))
        await asyncio.gather(*closing)
        return "connected in " + ", ".join(f"{seconds * 1000:.0f}" for seconds in connects) + " ms"

    async def _vanished(self) -> str:
        watch = Stopwatch()
        device = await self._guest.device()
        phone, service = PhonePeripheral(device), self._service()
        await phone.advertise(service)
        link = await self._central.connect(service, CONNECT_SECONDS)
        await link.send(self._random.randbytes(REQUEST))
        watch.step("connect and send")
        self._guest.air.lose(self._guest.controller_of(device))
        await expect(link.receive(TURN_SECONDS), LinkLostError)
        watch.step("lost after")
        closing = asyncio.create_task(link.close())
        after = await self._session(SMALL)
        watch.step("next session in")
        await closing
        return f"{watch} ({after})"

    async def _ended(self) -> None:
        async with self._phone() as phone:
            service = self._service()
            await phone.advertise(service)
            link = await self._central.connect(service, CONNECT_SECONDS)
            await phone.wait_started(TURN_SECONDS)
            await phone.end()
            error = await expect(link.receive(TURN_SECONDS), LinkError)
            hold(type(error).__name__ == "LinkEndedError", type(error).__name__)
            await link.close()

    async def _nobody(self) -> Stopwatch:
        watch = Stopwatch()
        await expect(self._central.connect(self._service(), 2.0), LinkTimeoutError)
        watch.step("asked for 2000 ms, took")
        return watch

    @asynccontextmanager
    async def _deaf_phone(self) -> AsyncIterator[UUID]:
        """Is heard, and never connects."""
        controller, service = self._guest.controller, self._service()
        device = await self._guest.device()
        async with PhonePeripheral(device) as phone:
            await phone.advertise(service)
            controller.unreachable.add(str(device.random_address))
            yield service
        # It stays unreachable: connected to as it leaves, it would be a connection to nobody, and this air never loses those.
        self._guest.air.lose(self._guest.controller_of(device))

    async def _cancelled(self) -> str:
        watch = Stopwatch()
        async with self._deaf_phone() as service:
            pending = asyncio.create_task(self._central.connect(service, CONNECT_SECONDS))
            await until(lambda: self._guest.controller.connecting, CONNECT_SECONDS)
            watch.step("pending after")
            pending.cancel()
            await asyncio.wait({pending})
            watch.step("cancelled in")
            after = await self._session(SMALL)
            watch.step("next session in")
        return f"{watch} ({after})"

    async def _beside(self) -> Stopwatch:
        async with self._deaf_phone() as service:
            hostile = asyncio.create_task(self._central.connect(service, CONNECT_SECONDS))
            await until(lambda: self._guest.controller.connecting, CONNECT_SECONDS)
            try:
                return await self._session(SMALL)
            finally:
                hostile.cancel()
                await asyncio.wait({hostile})

    async def _many(self) -> str:
        took = []
        for _ in range(CANCELS):
            begun = time.monotonic()
            await self._cancelled()
            took.append(time.monotonic() - begun)
        return f"each {min(took) * 1000:.0f} to {max(took) * 1000:.0f} ms"

    async def _crossed(self) -> str:
        controller, took = self._guest.controller, []
        for _ in range(CANCELS):
            service, device = self._service(), await self._guest.device()
            async with PhonePeripheral(device) as phone:
                await phone.advertise(service)
                address = str(device.random_address)
                controller.unreachable.add(address)
                pending = asyncio.create_task(self._central.connect(service, CONNECT_SECONDS))
                await until(lambda: controller.connecting, CONNECT_SECONDS)
                pending.cancel()
                await asyncio.sleep(self._random.uniform(0, CROSSED_SECONDS))
                controller.unreachable.discard(address)
                await asyncio.wait({pending})
                took.append(await self._guest.idle(IDLE_SECONDS))
            self._guest.air.lose(self._guest.controller_of(device))
        return f"idle after {min(took) * 1000:.0f} to {max(took) * 1000:.0f} ms"

    async def _kernel(self) -> None:
        faults = self._guest.kernel_log.faults()
        hold(not faults, "; ".join(faults))

    async def _unreachable(self) -> Stopwatch:
        watch = Stopwatch()
        async with self._deaf_phone() as service:
            await expect(self._central.connect(service, 8.0), LinkError)
            watch.step("asked for 8000 ms, took")
        return watch

    async def _idle(self) -> str:
        return f"after {await self._guest.idle(IDLE_SECONDS) * 1000:.0f} ms"

    async def _killed(self) -> Stopwatch:
        watch = Stopwatch()
        async with self._phone() as phone:
            service = self._service()
            await phone.advertise(service)
            link = await self._central.connect(service, CONNECT_SECONDS)
            gone = asyncio.create_task(expect(self._central.gone(), DriverError))
            receiving = asyncio.create_task(expect(link.receive(TURN_SECONDS), LinkError))
            await asyncio.sleep(0)
            watch.step("connect")
            await self._guest.bluetoothd.end(signal.SIGKILL)
            async with asyncio.timeout(GONE_SECONDS):
                await gone
            watch.step("gone() after")
            await self._central.stop()
            error = await receiving
            watch.step(f"stopped; the link ends in {type(error).__name__}, after")
            await expect(self._central.start(), DriverError)
            watch.step("refuses to start while there is none")
            await self._guest.bluetoothd.start()
            watch.step("bluetoothd is back")
        await self._restart_session()
        watch.step("start and session")
        return watch

    async def _restarted(self) -> Stopwatch:
        watch = Stopwatch()
        await self._guest.bluetoothd.restart()
        watch.step("bluetoothd again")
        try:
            await self._session(SMALL)
            watch.step("session")
        except (DriverError, LinkError) as error:
            watch.step(f"{type(error).__name__} after")
            await self._restart_session()
            watch.step("start and session")
        return watch

    async def _restart_session(self) -> None:
        """As the supervisor does it after a DriverError."""
        await self._central.start()
        await self._session(SMALL)
