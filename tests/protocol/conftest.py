"""A real broker with the access list that the controller makes, and links to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.clock import SystemClock
from protocol.mqtt import MqttLink, MqttSettings
from testbed.broker import Broker, executable
from testbed.pki import DevicePki

MakeLink = Callable[..., MqttLink]


@pytest.fixture
def pki(tmp_path: Path) -> DevicePki:
    return DevicePki(tmp_path / "pki", datetime.now(UTC))


@pytest.fixture
def broker(tmp_path: Path, pki: DevicePki) -> Iterator[Broker]:
    """Not started yet."""
    if executable() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    broker = Broker(tmp_path / "broker", pki)
    yield broker
    broker.stop()


@pytest.fixture
async def make_link(broker: Broker, pki: DevicePki) -> AsyncIterator[MakeLink]:
    """Give a link for a certificate name; it is stopped at the end."""
    links: list[MqttLink] = []

    def make(name: str, *, on_message: Any = None, on_state: Any = None, will: Any = None, **more: Any) -> MqttLink:
        identity = more.pop("identity", None) or pki.client(name)
        settings: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": broker.port,
            "ca": pki.ca,
            "certificate": identity.certificate,
            "key": identity.key,
            "client_id": name,
            "backoff_base": 0.02,
            "backoff_cap": 0.1,
        }
        link = MqttLink(
            MqttSettings(**{**settings, **more}),
            clock=SystemClock(),
            random=Random(20261124),
            will=will,
            on_message=on_message,
            on_state=on_state,
        )
        links.append(link)
        return link

    yield make
    for link in links:
        await link.stop()
