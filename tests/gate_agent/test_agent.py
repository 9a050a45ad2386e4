"""The agent as a process of its own: real nfcpy, relay module, journal and MQTT over TLS; the tests are what stands around it."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from drivers.ports import Direction, LaneSignal
from gate_agent import chain
from gate_agent.agent import run
from protocol import events, packing, topics
from protocol.ack import Ack
from protocol.clock import SystemClock
from protocol.events import Kind
from protocol.mqtt import Message, MqttLink
from testbed.authority import Authority
from testbed.broker import Broker, executable
from testbed.pki import DevicePki
from tests.gate_agent.conftest import World
from tests.gate_agent.site import GATE, REPOSITORY, SITE, WAIT_S, Site, build, free_port


@pytest.fixture
async def site(world: World, tmp_path: Path) -> AsyncIterator[Site]:
    now = datetime.now(UTC)
    authority = Authority.create(tmp_path / "authority", name="Agent", now=now)
    held = world.holder(authority=authority, now=now)
    pki = DevicePki(tmp_path / "pki", now)
    port = free_port(socket.SOCK_STREAM)
    made = build(world, tmp_path / "gate", now=now, authority=authority, pki=pki, broker_port=port, held=held)
    await made.turnstile.start()
    yield made
    await made.turnstile.stop()


async def test_a_tap_goes_all_the_way_and_a_stop_is_clean(site: Site) -> None:
    async with site.running() as agent:
        await site.phone.by_nfc(site.nfc_port)
        opened = await site.wait_for(Kind.LANE_OPENED)
        await site.turnstile.walk(Direction.IN)
        await site.wait_for(Kind.PASSAGE_COMPLETED)
        await site.journal.wait_for(
            lambda event: event.kind is Kind.DEVICE_DEGRADED and event.data["device"] == "camera.hall",
            after=0,
            timeout=WAIT_S,
        )
        agent.send_signal(signal.SIGHUP)
        loaded = (await site.wait_for(Kind.TRUST_APPLIED)).seq + 1
        await site.wait_for(Kind.TRUST_APPLIED, after=loaded)
        agent.send_signal(signal.SIGTERM)
        _, log = await asyncio.wait_for(agent.communicate(), WAIT_S)
        assert agent.returncode == 0
    found = site.journal.read()
    kinds = [event.kind for event in found]
    assert (kinds[0], kinds[-2:]) == (Kind.GATE_BOOT, [Kind.GATE_STOPPED, Kind.JOURNAL_CHECKPOINT])
    assert kinds.count(Kind.ACCESS_GRANTED) == site.turnstile.pulses == 1
    assert opened.data["lat_ms"]["ours"] > 0
    # A camera that is not there is told once and takes nothing else along.
    assert [event.data["device"] for event in found if event.kind is Kind.DEVICE_DEGRADED].count("camera.hall") == 1
    assert chain.verify(site.folder / "state" / "journal.db").problem is None
    assert b"Traceback" not in log
    await site.turnstile.until(lambda: not site.turnstile.energised(Direction.IN), WAIT_S)


async def test_a_phone_taken_away_with_the_request_in_hand_is_served_when_it_comes_back(site: Site) -> None:
    async with site.running() as agent:
        await site.phone.by_nfc(site.nfc_port, vanish_after_messages=1)
        await site.phone.by_nfc(site.nfc_port)
        await site.wait_for(Kind.LANE_OPENED)
        agent.send_signal(signal.SIGTERM)
        await asyncio.wait_for(agent.communicate(), WAIT_S)
    kinds = [event.kind for event in site.journal.read()]
    assert Kind.ACCESS_DENIED not in kinds
    assert kinds.count(Kind.ACCESS_GRANTED) == site.turnstile.pulses == 1


async def test_an_agent_killed_with_the_lane_open_leaves_it_to_the_relay_and_never_opens_for_that_grant_again(
    site: Site,
) -> None:
    async with site.running() as agent:
        await site.phone.by_nfc(site.nfc_port)
        granted = await site.wait_for(Kind.ACCESS_GRANTED)
        await site.wait_for(Kind.LANE_OPENED)
        agent.kill()
    await site.turnstile.until(lambda: not site.turnstile.energised(Direction.IN), WAIT_S)
    async with site.running() as agent:
        unknown = await site.wait_for(Kind.PASSAGE_UNKNOWN)
        assert unknown.data["attempt"] == granted.data["attempt"]
        assert site.turnstile.pulses == 1
        await site.phone.by_nfc(site.nfc_port)
        await site.wait_for(Kind.LANE_OPENED, after=unknown.seq)
        agent.send_signal(signal.SIGTERM)
        await asyncio.wait_for(agent.communicate(), WAIT_S)
    assert chain.verify(site.folder / "state" / "journal.db").problem is None


def fire_is_kept(path: Path) -> None:
    """Look until the file says so; the agent tells nobody."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            if db.execute("SELECT fire FROM modes").fetchall() == [(1,)]:
                return
    raise TimeoutError


async def test_a_lockdown_and_a_fire_nobody_has_reset_outlive_a_killed_agent(site: Site) -> None:
    async with site.running() as agent:
        assert (await site.guard("lockdown"))["results"] == {"hall-in": None}
        agent.kill()
    async with site.running() as agent:
        assert (await site.guard("status"))["lanes"]["hall-in"]["state"] == "locked_down"
        await site.phone.by_nfc(site.nfc_port)
        denied = await site.wait_for(Kind.ACCESS_DENIED)
        assert denied.data["reason"] == "lockdown"
        site.turnstile.set(LaneSignal.FIRE, True)
        asserted = await site.wait_for(Kind.FIRE_ASSERTED)
        site.turnstile.set(LaneSignal.FIRE, False)
        await asyncio.to_thread(
            fire_is_kept, site.folder / "state" / "modes.db"
        )  # fire counts first, then it is written
        agent.kill()
    async with site.running() as agent:
        assert (await site.guard("status"))["lanes"]["hall-in"]["state"] == "locked_open"
        assert (await site.guard("reset"))["results"] == {"hall-in": None}
        await site.wait_for(Kind.FIRE_CLEARED, after=asserted.seq)
        assert (await site.guard("status"))["lanes"]["hall-in"]["state"] == "locked_down"
        assert (await site.guard("release"))["results"] == {"hall-in": None}
        agent.send_signal(signal.SIGTERM)
        await asyncio.wait_for(agent.communicate(), WAIT_S)
    assert site.turnstile.pulses == 0


@pytest.mark.skipif(executable() is None, reason="mosquitto is not installed")
async def test_every_record_reaches_the_controller_and_leaves_the_outbox(site: Site) -> None:
    broker = Broker(site.folder / "broker", site.pki, port=site.broker_port, site=SITE)
    received: dict[int, bytes] = {}
    complete, empty = asyncio.Event(), asyncio.Event()

    def on_message(message: Message) -> None:
        if message.topic == topics.health(SITE, GATE):
            if json.loads(message.payload)["outbox"] == 0 and complete.is_set():
                empty.set()
        elif message.topic == topics.event(SITE, GATE):
            batch = packing.split(message.payload) if packing.packed(message.payload) else [message.payload]
            received.update({events.parse(raw).seq: raw for raw in batch})
            if any(events.parse(raw).kind is Kind.GATE_STOPPED for raw in received.values()):
                complete.set()

    controller = MqttLink(
        site.mqtt("controller"), clock=SystemClock(), random=Random(1), on_message=on_message, on_state=None
    )
    await asyncio.to_thread(broker.start)
    try:
        await controller.subscribe(topics.event(SITE, GATE))
        controller.start()
        await asyncio.wait_for(controller.wait_connected(), WAIT_S)
        async with site.running() as agent:
            await site.phone.by_nfc(site.nfc_port)
            await site.wait_for(Kind.LANE_OPENED)
            agent.send_signal(signal.SIGTERM)
            await asyncio.wait_for(agent.communicate(), WAIT_S)
        await asyncio.wait_for(complete.wait(), WAIT_S)
        stored = site.journal.read()
        assert [received[event.seq] for event in stored] == [event.raw for event in stored]
        await controller.publish(
            topics.ack(SITE, GATE),
            Ack(stored[-1].epoch, stored[-1].seq, stored[-1].hash).encode(SITE, GATE, site.pki.records),
            retain=True,
        )
        assert chain.verify(site.folder / "state" / "journal.db").unacknowledged == len(stored)
        async with site.running() as agent:
            database = site.folder / "state" / "journal.db"
            async with asyncio.timeout(WAIT_S):
                while chain.verify(database).unacknowledged >= len(stored):  # noqa: ASYNC110  another process writes
                    await asyncio.sleep(0.02)
    finally:
        await controller.stop()
        await asyncio.to_thread(broker.stop)


def test_a_configuration_mistake_ends_with_2_in_both_languages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gate.toml"
    path.write_text('[gate]\nid = "Gate 1"\n')
    assert run(path) == 2
    korean, english = capsys.readouterr().err.splitlines()
    assert korean.startswith(f"{path}: gate.id: ")
    assert english.startswith(f"{path}: gate.id: a name of ")


async def test_rules_that_cannot_be_used_at_start_end_with_2(site: Site) -> None:
    policy = site.folder / "policy.toml"
    text = await asyncio.to_thread(policy.read_text)
    await asyncio.to_thread(policy.write_text, text.replace("points.hall-in", "points.other"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gate_agent",
        "--config",
        str(site.config),
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
    )
    _, log = await asyncio.wait_for(process.communicate(), WAIT_S)
    assert process.returncode == 2
    assert f"{policy}: points.hall-in: ".encode() in log
