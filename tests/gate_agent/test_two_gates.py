"""Anti-passback across two gates: two agents, one broker with the shipped access list, one zone."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from drivers.ports import Direction
from gate_agent.zone import write_keys
from protocol.events import Kind
from testbed.authority import Authority
from testbed.broker import Broker, executable
from testbed.pki import DevicePki
from tests.gate_agent.conftest import World
from tests.gate_agent.site import SITE, WAIT_S, Site, build, free_port

RULES = """
[zones.hall.antipassback]
mode = "hard"
[points.hall-out]
direction = "exit"
from = "hall"
to = "outside"
entrance_group = "hall"
"""


@pytest.fixture
async def gates(world: World, tmp_path: Path) -> AsyncIterator[list[Site]]:
    now = datetime.now(UTC)
    authority = Authority.create(tmp_path / "authority", name="Zone", now=now)
    held = world.holder(authority=authority, now=now)
    pki = DevicePki(tmp_path / "pki", now)
    port = free_port(socket.SOCK_STREAM)
    keys = tmp_path / "zone-keys.toml"
    days = [now.date() + timedelta(days=apart) for apart in (-2, -1, 0, 1, 2)]
    write_keys(keys, {("hall", day.toordinal()): bytes([at]) * 32 for at, day in enumerate(days)})
    found = [
        build(
            world,
            tmp_path / name,
            now=now,
            authority=authority,
            pki=pki,
            broker_port=port,
            held=held,
            gate=name,
            rules=RULES,
            settings=f'[zones]\nkeys = "{keys}"\n',
        )
        for name in ("gate-1", "gate-2")
    ]
    broker = Broker(tmp_path / "broker", pki, port=port, site=SITE)
    await asyncio.to_thread(broker.start)
    for each in found:
        await each.turnstile.start()
    yield found
    for each in found:
        await each.turnstile.stop()
    await asyncio.to_thread(broker.stop)


async def joined(site: Site) -> None:
    """Until the gate knows what its zone knows."""
    async with asyncio.timeout(WAIT_S):
        while {"no_uplink", "zone_cut_off"} & set((await site.guard("status"))["degraded"]):  # noqa: ASYNC110  another process
            await asyncio.sleep(0.05)


@pytest.mark.skipif(executable() is None, reason="mosquitto is not installed")
async def test_who_entered_by_one_gate_is_inside_for_the_other_until_a_guard_forgives(gates: list[Site]) -> None:
    one, two = gates
    async with AsyncExitStack() as stack:
        for each in gates:
            await stack.enter_async_context(each.running())
        for each in gates:
            await joined(each)
        await one.phone.by_nfc(one.nfc_port)
        await one.wait_for(Kind.LANE_OPENED)
        await one.turnstile.walk(Direction.IN)
        await one.wait_for(Kind.PASSAGE_COMPLETED)
        await two.phone.by_nfc(two.nfc_port)
        denied = await two.wait_for(Kind.ACCESS_DENIED)
        assert denied.data["reason"] == "antipassback_hard"
        assert (await two.guard("forgive"))["results"] == {"hall-in": None}
        await two.phone.by_nfc(two.nfc_port)
        await two.wait_for(Kind.LANE_OPENED)
    assert two.turnstile.pulses == 1


@pytest.mark.skipif(executable() is None, reason="mosquitto is not installed")
async def test_keys_of_the_days_to_come_are_taken_without_a_restart(gates: list[Site]) -> None:
    site = gates[0]
    path = site.folder.parent / "zone-keys.toml"
    keys = path.read_text()
    write_keys(path, {})
    async with site.running() as agent:
        while "zone_cut_off" not in (await site.guard("status"))["degraded"]:  # noqa: ASYNC110  another process
            await asyncio.sleep(0.05)
        path.write_text(keys)
        agent.send_signal(signal.SIGHUP)
        await joined(site)
        path.write_text("[[keys]]\nzone = 7\n")
        agent.send_signal(signal.SIGHUP)
        rejected = await site.wait_for(Kind.TRUST_REJECTED)
        assert rejected.data["what"] == "zone_keys"
        assert str(path) not in str(rejected.data)
        assert "zone_cut_off" not in (await site.guard("status"))["degraded"]
