"""Orders end to end: the command line, the controller, a real mosquitto with the shipped access list, an agent of its own."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controller.config import load
from controller.main import Controller
from drivers.ports import Direction
from gate_agent import command_keys
from gate_agent.agent import EXIT_RESTART
from gate_agent.command_keys import ANY, CommandKey
from gwanmun import controller_cli
from protocol import command as wire
from protocol import topics
from protocol.clock import SystemClock
from protocol.command import EMERGENCY, Command, CommandVerb, Operator
from protocol.emergency import Emergency
from protocol.events import Event, Kind
from protocol.mqtt import MqttLink
from testbed.authority import Authority, write_private
from testbed.broker import Broker, executable
from testbed.pki import DevicePki
from tests.gate_agent.conftest import World
from tests.gate_agent.site import GATE, SITE, WAIT_S, Site, build, free_port

LANE = "hall-in"
WHO = ["--operator", "Kim", "--role", "guard"]


@dataclass
class Building:
    site: Site
    broker: Broker
    key: ec.EllipticCurvePrivateKey
    second: ec.EllipticCurvePrivateKey
    config: Path
    """The controller's."""

    @asynccontextmanager
    async def controller(self) -> AsyncIterator[Controller]:
        controller = Controller(load(self.config))
        await controller.start()
        try:
            yield controller
        finally:
            await controller.stop()

    async def order(self, controller: Controller, *words: str) -> int:
        argv = ["command", "--config", str(self.config), "--url", controller.url, *words]
        return await asyncio.to_thread(controller_cli.main, argv)

    def sealed(self, challenge: bytes = bytes(16)) -> bytes:
        """An order to open once whose signature is good."""
        who = Operator("Kim", "guard")
        order = Command(SITE, GATE, LANE, "open_once", who, "c-1", challenge, {"reason": "test"})
        return wire.order("c-1", wire.seal(order.payload(), self.key))

    @asynccontextmanager
    async def link(self, name: str) -> AsyncIterator[MqttLink]:
        link = MqttLink(self.site.mqtt(name), clock=SystemClock(), random=Random(1))
        link.start()
        async with asyncio.timeout(WAIT_S):
            await link.wait_connected()
        try:
            yield link
        finally:
            await link.stop()

    async def refused(self) -> Event:
        return await self.site.wait_for(Kind.COMMAND_REFUSED)


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not met():  # noqa: ASYNC110  another process tells nobody
            await asyncio.sleep(0.01)


def online(controller: Controller) -> bool:
    gate = controller.live.gates.get(GATE)
    return gate is not None and gate.online is True


def write_public(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))


@pytest.fixture
def broker_of(tmp_path: Path) -> Iterator[Callable[[DevicePki, int], Broker]]:
    if executable() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    started: list[Broker] = []

    def start(pki: DevicePki, port: int) -> Broker:
        started.append(Broker(tmp_path / "broker", pki, port=port, site=SITE))
        started[-1].start()
        return started[-1]

    yield start
    for broker in started:
        broker.stop()


@pytest.fixture
async def building(
    world: World, tmp_path: Path, broker_of: Callable[[DevicePki, int], Broker]
) -> AsyncIterator[Building]:
    now = datetime.now(UTC)
    authority = Authority.create(tmp_path / "authority", name="Orders", now=now)
    held = world.holder(authority=authority, now=now)
    pki, port = DevicePki(tmp_path / "pki", now), free_port(socket.SOCK_STREAM)
    site = build(world, tmp_path / "gate", now=now, authority=authority, pki=pki, broker_port=port, held=held)
    officer, key, second, emergency = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
    write_public(site.folder / "officer.pem", officer)
    site.config.write_text(site.config.read_text().replace("[trust]\n", '[trust]\ncommand_key = "officer.pem"\n'))
    verbs, everywhere, long = frozenset(map(str, CommandVerb)), frozenset({ANY}), now + timedelta(days=1)
    entries = [
        CommandKey(key.public_key(), verbs, frozenset({"guard"}), frozenset({"hall"}), long),
        CommandKey(second.public_key(), verbs, frozenset({"chief"}), frozenset({"hall"}), long),
        CommandKey(emergency.public_key(), frozenset({EMERGENCY}), frozenset({"chief"}), everywhere, long),
    ]
    listed = command_keys.build(entries, version=1, date=now, key=officer)
    (site.folder / "trust" / command_keys.FILE).write_bytes(listed)
    for name, private in (("command.key", key), ("second.key", second), ("emergency.key", emergency)):
        write_private(tmp_path / name, private)
    identity = pki.client("controller")
    config = tmp_path / "controller.toml"
    config.write_text(
        f'site = "{SITE}"\nstate_dir = "controller"\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\nca = "{pki.ca}"\n'
        f'certificate = "{identity.certificate}"\nkey = "{identity.key}"\n[records]\nkey = "{pki.records_key}"\n'
        '[web]\nport = 0\n[commands]\nkey = "command.key"\nemergency_key = "emergency.key"\n'
    )
    await site.turnstile.start()
    yield Building(site, broker_of(pki, port), key, second, config)
    await site.turnstile.stop()


async def test_open_once_goes_from_the_command_line_through_the_lane_and_nobodys_name_reaches_the_gate(
    building: Building, capsys: pytest.CaptureFixture[str]
) -> None:
    site = building.site
    async with building.controller() as controller, site.running():
        await until(lambda: online(controller))
        words = ["open-once", "--gate", GATE, "--lane", LANE, "--reason", "visitor", *WHO]
        assert await building.order(controller, *words) == controller_cli.EXIT_DONE
        assert "수행됨 / done" in capsys.readouterr().out
        await site.turnstile.walk(Direction.IN)
        completed = await site.wait_for(Kind.PASSAGE_COMPLETED)
        accepted = next(each for each in site.journal.read() if each.kind is Kind.COMMAND_ACCEPTED)
        assert accepted.data["attempt"] == completed.data["attempt"]
        assert site.turnstile.pulses == 1
        assert await building.order(controller, "lockdown", "--gate", GATE, "--level", "2", *WHO) == 0
        assert await building.order(controller, "--json", *words) == controller_cli.EXIT_REFUSED
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["results"] == {LANE: "lockdown"}
        assert await building.order(controller, "release", "--gate", GATE, *WHO) == 0
        free = ["free", "--gate", GATE, *WHO, "--second", "Lee", "--second-role", "chief", "--second-key"]
        command_key = building.config.parent / "command.key"
        assert await building.order(controller, *free, str(command_key)) == controller_cli.EXIT_REFUSED
        assert await building.order(controller, *free, str(building.config.parent / "second.key")) == 0
        assert (await site.guard("status"))["lanes"][LANE]["state"] == "free"
    assert not any(b"Kim" in each.raw or b"Lee" in each.raw for each in site.journal.read())


async def test_a_retained_order_at_boot_is_refused_and_reported_and_moves_no_relay(building: Building) -> None:
    site = building.site
    async with building.link("controller") as link:
        assert (await link.publish(topics.command(SITE, GATE), building.sealed(), retain=True)).ok
    async with site.running():
        refused = await building.refused()
        assert refused.data["why"] == "retained"
        assert (await site.guard("status"))["lanes"][LANE]["state"] == "secured"
    assert site.turnstile.pulses == 0
    assert Kind.COMMAND_ACCEPTED not in [each.kind for each in site.journal.read()]


async def test_a_gate_that_starts_into_an_emergency_bars_entry_and_a_release_ends_that(building: Building) -> None:
    site = building.site
    async with building.controller() as controller:
        emergency = ["emergency", "--zone", "hall", *WHO, "--level"]
        await until(lambda: controller.link.connected)
        assert await building.order(controller, *emergency, "3") == 0
        async with site.running():
            entered = await site.wait_for(Kind.LOCKDOWN_ENTERED)
            assert entered.data["level"] == 3
            assert await building.order(controller, *emergency, "0") == 0
            await site.wait_for(Kind.LOCKDOWN_RELEASED)


async def test_an_order_to_restart_ends_the_agent_in_good_order_after_it_has_answered(building: Building) -> None:
    site = building.site
    async with building.controller() as controller, site.running() as agent:
        await until(lambda: online(controller))
        assert await building.order(controller, "restart", "--gate", GATE, *WHO) == 0
        _, log = await asyncio.wait_for(agent.communicate(), WAIT_S)
        assert agent.returncode == EXIT_RESTART
        assert b"Traceback" not in log
    kinds = [each.kind for each in site.journal.read()]
    assert kinds[-2:] == [Kind.GATE_STOPPED, Kind.JOURNAL_CHECKPOINT]


async def test_no_gate_may_write_orders_answers_of_others_or_the_emergency_state(building: Building) -> None:
    state = Emergency(SITE, 9, datetime.now(UTC), datetime.now(UTC) + timedelta(hours=1), {"hall": 9})
    async with building.link("gate-2") as link:
        results: list[Any] = [
            await link.publish(topics.command(SITE, GATE), building.sealed()),
            await link.publish(topics.result(SITE, GATE), b"{}"),
            await link.publish(topics.emergency(SITE), state.encode(building.key), retain=True),
        ]
    assert [each.ok for each in results] == [False] * 3


async def test_a_controller_that_does_not_run_or_a_wrong_token_is_told(
    building: Building, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", str(building.config), "release", "--gate", GATE, *WHO]
    assert controller_cli.command(words) == controller_cli.EXIT_USAGE
    assert "--url" in capsys.readouterr().err
    async with building.controller() as controller:
        token = building.config.parent / "controller" / "api-token"
        assert token.stat().st_mode & 0o777 == 0o600
        token.write_text("another")
        assert await building.order(controller, "release", "--gate", GATE, *WHO) == controller_cli.EXIT_USAGE
        assert "token" in capsys.readouterr().err
        url = controller.url
    argv = ["command", "--config", str(building.config), "--url", url, "release", "--gate", GATE, *WHO]
    assert await asyncio.to_thread(controller_cli.main, argv) == controller_cli.EXIT_USAGE
