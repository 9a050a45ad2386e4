"""The emergency state with a real broker, where the controller's database is older than what it has said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from controller.backup import back_up
from controller.config import ControllerConfig, load
from controller.main import Controller
from controller.restore import restore
from controller.store import Store
from protocol import emergency, topics
from protocol.clock import SystemClock
from protocol.command import Operator
from protocol.emergency import Emergency
from protocol.mqtt import MqttLink, MqttSettings
from testbed.broker import Broker
from testbed.pki import DevicePki
from tests.controller.conftest import SEOUL, SITE, START, WITHIN_S

KIM = Operator("Kim", "guard")


@pytest.fixture
def config(config_file: Path, pki: DevicePki, tmp_path: Path) -> ControllerConfig:
    """Of a controller that issues the emergency state."""
    key = pki.records.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "emergency.key").write_bytes(key)
    config_file.write_text(config_file.read_text() + '[commands]\nemergency_key = "emergency.key"\n')
    return load(config_file)


@pytest.fixture
async def heard(broker: Broker, pki: DevicePki) -> AsyncIterator[list[Emergency]]:
    """What a gate hears."""
    found: list[Emergency] = []
    identity = pki.client("gate-1")
    gate = MqttLink(
        MqttSettings("127.0.0.1", broker.port, pki.ca, identity.certificate, identity.key, "gate-1"),
        clock=SystemClock(),
        random=Random(1),
        on_message=lambda message: found.append(emergency.read(emergency.parse(message.payload))),
    )
    await gate.subscribe(topics.emergency(SITE))
    gate.start()
    yield found
    await gate.stop()


def grow_old(path: Path) -> None:
    """The database is one of before both orders."""
    store = Store(path, SEOUL)
    store.orders.set_emergency(3, {"yard": 1})
    store.close()


async def test_a_lockdown_that_an_older_database_does_not_know_outlives_it(
    config: ControllerConfig,
    run_controller: Callable[[], Awaitable[Controller]],
    heard: list[Emergency],
) -> None:
    """Gates hear nothing older than what they have, and an order for another zone does not end it."""
    first = await run_controller()
    assert first.emergency is not None
    await first.emergency.set({"yard": 1}, KIM)
    await first.emergency.set({"yard": 0, "lobby": 2}, KIM)
    await first.stop()
    await asyncio.to_thread(grow_old, config.database)
    again = await run_controller()
    assert again.emergency is not None
    await again.emergency.joined()
    assert (await again.emergency.set({"hall": 1}, KIM)).outcome == "done"
    async with asyncio.timeout(WITHIN_S):
        while not heard or "hall" not in heard[-1].levels:  # noqa: ASYNC110  the broker has it
            await asyncio.sleep(0.02)
    assert dict(heard[-1].levels) == {"hall": 1, "lobby": 2}
    sequences = [each.sequence for each in heard]
    assert sequences == sorted(sequences)


def put_back(config: ControllerConfig, backup: Path) -> None:
    restored = restore(backup, config.database, site=SITE, now=START)
    assert restored.levels == {"yard": 1}


async def test_the_levels_of_a_backup_are_never_issued_again(
    config: ControllerConfig,
    run_controller: Callable[[], Awaitable[Controller]],
    heard: list[Emergency],
    tmp_path: Path,
) -> None:
    first = await run_controller()
    assert first.emergency is not None
    await first.emergency.set({"yard": 1}, KIM)
    await asyncio.to_thread(back_up, config.database, tmp_path / "b.db", time_zone=SEOUL, now=START)
    await first.emergency.set({"yard": 0, "lobby": 2}, KIM)
    await first.stop()
    await asyncio.to_thread(put_back, config, tmp_path / "b.db")
    async with asyncio.timeout(WITHIN_S):
        while not heard or "lobby" not in heard[-1].levels:  # noqa: ASYNC110  the broker has it
            await asyncio.sleep(0.02)
    before = len(heard)
    again = await run_controller()
    assert again.emergency is not None
    await again.emergency.joined()
    async with asyncio.timeout(WITHIN_S):
        while len(heard) == before:  # noqa: ASYNC110  the broker has it
            await asyncio.sleep(0.02)
    assert {tuple(each.levels.items()) for each in heard[before:]} == {(("lobby", 2),)}


async def test_a_controller_put_back_where_the_broker_holds_nothing_issues_nothing(
    config: ControllerConfig,
    run_controller: Callable[[], Awaitable[Controller]],
    heard: list[Emergency],
    tmp_path: Path,
) -> None:
    await asyncio.to_thread(grow_old, config.database)
    await asyncio.to_thread(back_up, config.database, tmp_path / "b.db", time_zone=SEOUL, now=START)
    await asyncio.to_thread(put_back, config, tmp_path / "b.db")
    controller = await run_controller()
    assert controller.emergency is not None
    await controller.emergency.joined()
    assert not await controller.emergency.issue()
    assert heard == []
