from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

from drivers.ports import Camera, DriverError
from gate_agent.devices import STABLE_S, Supervised
from protocol.backoff import Backoff
from tests.gate_agent.fakes import FakeBle, FakeCamera, FakeClock


class Bench:
    """One supervised device; pauses of the supervisor end when the test lets them."""

    def __init__(self, device: Any) -> None:
        self.clock = FakeClock()
        self.reports: list[tuple[str, bool, str]] = []
        self.pauses: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()
        self.supervised: Supervised[Any] = Supervised(
            device,
            "camera.hall",
            clock=self.clock,
            backoff=Backoff(1, 30, Random(1)),
            report=lambda name, up, why: self.reports.append((name, up, why)),
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        go_on = asyncio.Event()
        await self.pauses.put((seconds, go_on))
        await go_on.wait()

    async def pause(self) -> tuple[float, asyncio.Event]:
        return await asyncio.wait_for(self.pauses.get(), 5)

    async def working(self) -> None:
        """Until the supervisor waits for the device to fail."""
        for _ in range(1000):
            if self.supervised._failure is not None:
                return
            await asyncio.sleep(0)
        raise AssertionError("not working")

    @asynccontextmanager
    async def running(self, work: Callable[[Any], Awaitable[None]] | None = None) -> AsyncIterator[None]:
        task = asyncio.create_task(self.supervised.run(work))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_a_device_absent_at_start_is_reported_once_and_taken_up_when_it_comes() -> None:
    camera = FakeCamera()
    camera.broken = True
    bench = Bench(camera)
    await bench.supervised.start()
    assert bench.supervised.available is False
    seen = asyncio.Event()

    async def work(device: Camera) -> None:
        async for _ in device.codes():
            seen.set()

    async with bench.running(work):
        for _ in range(3):
            _, go_on = await bench.pause()
            go_on.set()
        assert bench.reports == [("camera.hall", False, "not plugged in")]
        camera.broken = False
        await camera.queue.put("code")
        await asyncio.wait_for(seen.wait(), 5)
    assert bench.reports[1:] == [("camera.hall", True, "")]


async def test_a_stream_that_fails_is_started_again_with_growing_pauses() -> None:
    camera = FakeCamera()
    bench = Bench(camera)
    await bench.supervised.start()

    async def work(device: Camera) -> None:
        async for _ in device.codes():
            pass

    async with bench.running(work):
        pauses = []
        for _ in range(5):
            await camera.queue.put(DriverError("unplugged"))
            seconds, go_on = await bench.pause()
            pauses.append(seconds)
            go_on.set()
    assert all(1 <= pause <= 30 for pause in pauses)
    assert max(pauses) > 2
    assert [report[1] for report in bench.reports[:4]] == [False, True, False, True]


async def test_a_device_that_ran_long_starts_its_back_off_anew() -> None:
    camera = FakeCamera()
    bench = Bench(camera)

    async def work(device: Camera) -> None:
        async for _ in device.codes():
            pass

    async with bench.running(work):
        for _ in range(6):
            await camera.queue.put(DriverError("unplugged"))
            (await bench.pause())[1].set()
        await bench.working()
        bench.clock.elapsed += STABLE_S
        await camera.queue.put(DriverError("unplugged"))
        seconds, _ = await bench.pause()
        assert seconds == 1  # base: uniform in [1, 1]


async def test_a_user_of_the_device_can_tell_that_it_failed() -> None:
    central = FakeBle()
    bench = Bench(central)
    await bench.supervised.start()
    async with bench.running():
        await bench.working()
        bench.supervised.failed(DriverError("radio gone"))
        bench.supervised.failed(DriverError("radio gone"))
        await bench.pause()
        assert bench.reports == [("camera.hall", False, "radio gone")]
        assert central.stops == 1


async def test_a_fault_in_a_driver_is_contained() -> None:
    bench = Bench(FakeCamera())

    async def work(_device: Camera) -> None:
        raise KeyError("a bug")

    async with bench.running(work):
        await bench.pause()
    assert bench.reports == [("camera.hall", False, "KeyError")]


async def test_a_stream_that_just_ends_counts_as_a_failure() -> None:
    bench = Bench(FakeCamera())

    async def work(_device: Camera) -> None:
        return

    async with bench.running(work):
        await bench.pause()
    assert bench.reports == [("camera.hall", False, "its stream ended")]
