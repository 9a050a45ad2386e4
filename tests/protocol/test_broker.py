"""What the generated access list does in a real broker, also to who is connected already."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.acl import AclFile
from controller.enrolled import Enrolled
from protocol import topics
from protocol.mqtt import MqttLink
from testbed.broker import Broker, executable
from testbed.pki import DevicePki, Identity
from tests.protocol.conftest import MakeLink
from tests.protocol.test_mqtt import WITHIN_S, Inbox, up

SITE = "hq"
pytestmark = pytest.mark.skipif(executable() is None, reason="mosquitto is not installed (apt install mosquitto)")


class Register:
    """A register of gates, its access list, and the broker that is handed it."""

    def __init__(self, folder: Path, pki: DevicePki, *gates: str) -> None:
        self.enrolled = Enrolled(folder / "gates")
        for gate in gates:
            self.enrolled.add(pki.client(gate).certificate.read_bytes())
        self.acl = AclFile(folder / "broker-acl" / "acl", SITE, self.enrolled)
        self.acl.write()
        self.path = folder / "broker-acl" / "acl"


@pytest.fixture
def register(tmp_path: Path, pki: DevicePki) -> Register:
    return Register(tmp_path, pki, "gate-1", "gate-2")


@pytest.fixture
def broker(tmp_path: Path, pki: DevicePki, register: Register) -> Broker:
    return Broker(tmp_path / "broker", pki, access=register.path)


@pytest.fixture(autouse=True)
def running(broker: Broker) -> Iterator[None]:
    broker.start()
    yield
    broker.stop()


async def refused(link: MqttLink, topic: str) -> str:
    """Publish until the broker says no; the SIGHUP takes it a moment."""
    async with asyncio.timeout(WITHIN_S):
        while (result := await link.publish(topic, b"x")).ok:
            pass
    return result.reason


async def test_a_revoked_gate_that_is_connected_can_publish_nothing_any_more(
    broker: Broker, register: Register, make_link: MakeLink
) -> None:
    one, two = await up(make_link("gate-1")), await up(make_link("gate-2"))
    leaves = [topics.event, topics.alarm, topics.state, topics.online, topics.health]
    for leaf in leaves:
        assert (await one.publish(leaf(SITE, "gate-1"), b"x")).ok
    other = Enrolled(
        register.path.parents[1] / "gates"
    )  # another process revokes; the controller sees it at its next look
    other.revoke("gate-1")
    assert register.enrolled.changed()
    assert register.acl.write()
    broker.reload()
    for leaf in leaves:
        assert await refused(one, leaf(SITE, "gate-1")) == "Not authorized"
    assert one.connected, "its session lives on, and is worth nothing"
    assert (await two.publish(topics.event(SITE, "gate-2"), b"x")).ok


async def test_a_revoked_gate_that_is_connected_hears_nothing_any_more(
    broker: Broker, register: Register, make_link: MakeLink
) -> None:
    heard = Inbox()
    one = make_link("gate-1", on_message=heard)
    for topic in (topics.ack(SITE, "gate-1"), topics.replay(SITE, "gate-1"), topics.time(SITE)):
        await one.subscribe(topic)
    await up(one)
    controller = await up(make_link("controller"))
    assert (await controller.publish(topics.ack(SITE, "gate-1"), b"before")).ok
    assert [message.payload for message in await heard.wait(1)] == [b"before"]
    register.enrolled.revoke("gate-1")
    register.acl.write()
    broker.reload()
    assert await refused(one, topics.event(SITE, "gate-1")) == "Not authorized"
    for topic in (topics.ack(SITE, "gate-1"), topics.replay(SITE, "gate-1"), topics.time(SITE)):
        assert (await controller.publish(topic, b"after")).ok
    # A message of its own that the broker does deliver comes after whatever it would have delivered before.
    register.enrolled.add((register.path.parents[1] / "pki" / "gate-1.pem").read_bytes())
    register.acl.write()
    broker.reload()
    async with asyncio.timeout(WITHIN_S):
        while not (await one.publish(topics.event(SITE, "gate-1"), b"x")).ok:
            pass
    assert (await controller.publish(topics.ack(SITE, "gate-1"), b"last")).ok
    assert [message.payload for message in await heard.wait(2)] == [b"before", b"last"]


async def test_what_a_revoked_gate_had_retained_is_not_handed_out_any_more(
    broker: Broker, register: Register, make_link: MakeLink
) -> None:
    one, two = await up(make_link("gate-1")), await up(make_link("gate-2"))
    for link, gate in ((one, "gate-1"), (two, "gate-2")):
        assert (await link.publish(topics.state(SITE, gate), gate.encode(), retain=True)).ok
    register.enrolled.revoke("gate-1")
    register.acl.write()
    broker.reload()
    assert await refused(one, topics.event(SITE, "gate-1")) == "Not authorized"
    heard = Inbox()
    controller = make_link("controller", on_message=heard)
    await controller.subscribe(f"{topics.ROOT}/{SITE}/+/state")
    await up(controller)
    assert [message.payload for message in await heard.wait(1)] == [b"gate-2"]


async def test_a_gate_can_neither_read_anothers_orders_nor_write_acknowledgements_nor_publish_as_another(
    make_link: MakeLink,
) -> None:
    heard = Inbox()
    spy = make_link("gate-2", on_message=heard)
    await spy.subscribe("pacs/#")
    await up(spy)
    controller, one = await up(make_link("controller")), await up(make_link("gate-1"))
    for leaf in (topics.ack, topics.replay):
        assert (await controller.publish(leaf(SITE, "gate-1"), b"for gate-1")).ok
        for gate in ("gate-1", "gate-2"):
            assert (await spy.publish(leaf(SITE, gate), b"forged")).reason == "Not authorized"
    for leaf in (topics.event, topics.alarm, topics.state, topics.online, topics.health):
        assert (await one.publish(leaf(SITE, "gate-1"), b"of gate-1")).ok
        assert (await spy.publish(leaf(SITE, "gate-1"), b"as gate-1")).reason == "Not authorized"
        assert (await spy.publish(leaf("other-site", "gate-2"), b"x")).reason == "Not authorized"
    assert (await controller.publish(topics.ack(SITE, "gate-2"), b"own")).ok
    assert [message.payload for message in await heard.wait(1)] == [b"own"]


async def test_a_gate_that_is_not_enrolled_may_nothing(make_link: MakeLink) -> None:
    stranger = await up(make_link("gate-3"))
    assert (await stranger.publish(topics.event(SITE, "gate-3"), b"x")).reason == "Not authorized"


def test_only_tls_1_3_with_a_certificate_of_ours_connects(broker: Broker, pki: DevicePki, tmp_path: Path) -> None:
    def greets(context: ssl.SSLContext) -> bool:
        try:
            with (
                socket.create_connection(("127.0.0.1", broker.port), timeout=WITHIN_S) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
            ):
                # CONNECT of gate-1, MQTT 5: with TLS 1.3 a refused certificate shows at the first read.
                secure.sendall(bytes.fromhex("1013 0004 4d515454 05 02 001e 00 0006 676174652d31"))
                return bool(secure.recv(4))
        except (ssl.SSLError, ConnectionError):
            return False

    def context(identity: Identity | None = None, **more: ssl.TLSVersion) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(pki.ca))
        for name, value in more.items():
            setattr(made, name, value)
        if identity is not None:
            made.load_cert_chain(identity.certificate, identity.key)
        return made

    ours, foreign = pki.client("gate-1"), DevicePki(tmp_path / "foreign", datetime.now(UTC)).client("gate-1")
    assert greets(context(ours))
    assert not greets(context())
    assert not greets(context(foreign))
    assert not greets(context(ours, maximum_version=ssl.TLSVersion.TLSv1_2))
