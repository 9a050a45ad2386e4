"""A whole building in one test: nothing listens beyond loopback, and the gate outlives its camera, its reader and its relay."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from policy.reasons import Reason
from protocol.clock import SystemClock
from protocol.events import Event, Kind
from testbed import broker
from testbed.building import Building
from testbed.people import Crowd
from testbed.runner import Runner
from testbed.scenario import GRANTED, Attempt, Script

GUARD_S = 90.0

pytestmark = [
    pytest.mark.skipif(broker.executable() is None, reason="mosquitto is not installed (apt install mosquitto)"),
    pytest.mark.xdist_group("machine"),  # not beside a test that wears the disk out
]


@pytest.fixture
def elsewhere() -> set[tuple[int, object]]:
    """What listens before the building stands: sockets of other tests in this process."""
    return set(listeners())


@pytest.fixture
async def building(elsewhere: set[tuple[int, object]], tmp_path: Path) -> AsyncIterator[Building]:
    built = Building(tmp_path, SystemClock())
    try:
        await built.start()
        yield built
    finally:
        await built.stop()


def listeners() -> list[tuple[int, Any]]:
    """Process and address of everything on which this process and its children listen, by TCP or UDP."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return [
        (process.pid, connection.laddr)
        for process in processes
        for connection in process.net_connections(kind="inet")
        if connection.status in {psutil.CONN_LISTEN, psutil.CONN_NONE}
    ]


async def test_nothing_listens_beyond_loopback_and_the_gate_outlives_its_devices(
    building: Building, elsewhere: set[tuple[int, object]]
) -> None:
    async with asyncio.timeout(GUARD_S):
        addresses = [each for each in listeners() if each not in elsewhere]
        assert addresses
        assert [each for each in addresses if not ipaddress.ip_address(each[1].ip).is_loopback] == []

        runner, crowd = Runner(building), Crowd(building)
        script, phone = Script(building, crowd, runner.decided), crowd.phone()
        rig = building.lanes["lane-1"]

        async def presents(act: Any, expected: str) -> None:
            result = await runner.present(Attempt("", "", "lane-1", act, expected))
            assert result.outcome == expected

        async def reported(kind: Kind, device: str, after: int) -> Event:
            return await building.journal.wait_for(
                lambda event: event.kind is kind and event.data.get("device") == device, after=after, timeout=30
            )

        after = building.journal.last()
        await rig.camera.stop()
        await reported(Kind.DEVICE_DEGRADED, "camera.lane-1", after)
        await presents(script.nfc(phone), GRANTED)
        await rig.camera.start()
        await reported(Kind.DEVICE_RESTORED, "camera.lane-1", after)
        await presents(script.qr_pass(phone), GRANTED)

        after = building.journal.last()
        await rig.turnstile.stop()
        await reported(Kind.DEVICE_DEGRADED, "lane.lane-1", after)
        refused = await runner.present(Attempt("", "", "lane-1", script.nfc(phone), Reason.OUT_OF_SERVICE))
        assert refused.outcome == Reason.OUT_OF_SERVICE
        await rig.turnstile.start()
        await reported(Kind.DEVICE_RESTORED, "lane.lane-1", after)
        await presents(script.nfc(phone), GRANTED)


async def test_a_phone_calls_nobody_but_the_reader(building: Building) -> None:
    called: list[Any] = []
    watching = True

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event in {"socket.connect", "socket.sendto", "socket.getaddrinfo"}:
            called.append(arguments[1] if event != "socket.getaddrinfo" else arguments[0])

    sys.addaudithook(audit)
    async with asyncio.timeout(GUARD_S):
        runner, crowd = Runner(building), Crowd(building)
        script, phone = Script(building, crowd, runner.decided), crowd.phone()
        for act in (script.nfc(phone), script.qr_ble(phone)):
            result = await runner.present(Attempt("", "", "lane-1", act, GRANTED))
            assert result.expected, result
    watching = False
    antenna = ("127.0.0.1", building.lanes["lane-1"].nfc_port)
    air = building.hci.removeprefix("unix:")
    others = [
        address
        for address in called
        if address != air and not (isinstance(address, tuple) and address[0] == antenna[0])
    ]
    assert others == []
    assert [line["outcome"] for line in phone.wallet.history] == ["shared", "shared"]
