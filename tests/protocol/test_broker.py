"""What the broker of deploy/mosquitto allows, to whom, and for how long: a real mosquitto, the controller's own access list."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.acl import AclFile
from controller.enrolled import Enrolled
from protocol import topics
from protocol.mqtt import LinkState, Message, MqttLink, Will
from testbed.broker import Broker
from testbed.pki import DevicePki, Identity

WITHIN_S = 10
MakeLink = Callable[..., MqttLink]
CONNECT = bytes.fromhex("100f00044d5154540502003c000000") + b"\x00\x00"
"""MQTT v5 CONNECT, clean start, keep-alive 60 s, no client id."""
CONNACK = b"\x20"
GATE_LEAVES = (topics.event, topics.alarm, topics.state, topics.online, topics.health)
CONTROLLER_LEAVES = (topics.ack, topics.replay)


class Inbox:
    """Messages in their order, and the wait for one."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._new = asyncio.Event()

    def __call__(self, message: Message) -> None:
        self.messages.append((message.topic, message.payload))
        self._new.set()

    async def until(self, payload: bytes) -> list[bytes]:
        """Everything up to `payload`, which must come."""
        async with asyncio.timeout(WITHIN_S):
            while not self.messages or self.messages[-1][1] != payload:
                self._new.clear()
                await self._new.wait()
        return [payload for _, payload in self.messages]


async def up(link: MqttLink, *filters: str) -> MqttLink:
    for each in filters:
        await link.subscribe(each)
    link.start()
    async with asyncio.timeout(WITHIN_S):
        await link.wait_connected()
    return link


async def refused(link: MqttLink, topic: str) -> bool:
    result = await link.publish(topic, b"x")
    assert result.ok or result.reason == "Not authorized", result
    return not result.ok


async def test_a_gate_writes_every_leaf_of_its_own_and_nothing_of_anybody_else(
    broker: Broker, make_link: MakeLink
) -> None:
    broker.start()
    gate = await up(make_link("gate-1"))
    for leaf in GATE_LEAVES:
        assert not await refused(gate, leaf("hq", "gate-1"))
        assert await refused(gate, leaf("hq", "gate-2"))
        assert await refused(gate, leaf("branch", "gate-1"))
    for leaf in CONTROLLER_LEAVES:
        for name in ("gate-1", "gate-2"):
            assert await refused(gate, leaf("hq", name))
    assert await refused(gate, topics.time("hq"))
    assert await refused(gate, topics.zone_tag("hq", "gate-2", "lobby"))
    assert not await refused(gate, topics.zone_tag("hq", "gate-1", "lobby"))


async def test_the_controller_writes_what_gates_read_and_nothing_that_gates_write(
    broker: Broker, make_link: MakeLink
) -> None:
    broker.start()
    controller = await up(make_link("controller"))
    for leaf in CONTROLLER_LEAVES:
        assert not await refused(controller, leaf("hq", "gate-1"))
    assert not await refused(controller, topics.time("hq"))
    for leaf in GATE_LEAVES:
        assert await refused(controller, leaf("hq", "gate-1"))
    assert await refused(controller, topics.zone_tag("hq", "controller", "lobby"))


@pytest.mark.parametrize("subscribed", [topics.ack("hq", "gate-1"), topics.replay("hq", "gate-1"), "pacs/1/+/+/+", "#"])
async def test_a_gate_hears_nothing_that_is_meant_for_another(
    broker: Broker, make_link: MakeLink, subscribed: str
) -> None:
    """The subscription itself is granted; what counts is that nothing comes."""
    broker.start()
    overheard, own = Inbox(), Inbox()
    controller = await up(make_link("controller"))
    await up(make_link("gate-1", on_message=own), topics.ack("hq", "gate-1"), topics.replay("hq", "gate-1"))
    other = make_link("gate-2", on_message=overheard)
    await up(other, subscribed, topics.time("hq"))
    for leaf in CONTROLLER_LEAVES:
        assert (await controller.publish(leaf("hq", "gate-1"), leaf.__name__.encode(), retain=True)).ok
    assert await own.until(b"replay") == [b"ack", b"replay"]
    assert (await controller.publish(topics.time("hq"), b"end")).ok
    assert set(await overheard.until(b"end")) == {b"end"}


async def test_a_gate_does_not_hear_what_another_gate_reports(broker: Broker, make_link: MakeLink) -> None:
    broker.start()
    overheard = Inbox()
    controller, one = await up(make_link("controller")), await up(make_link("gate-1"))
    await up(make_link("gate-2", on_message=overheard), "pacs/#")
    for leaf in GATE_LEAVES:
        assert (await one.publish(leaf("hq", "gate-1"), b"secret", retain=True)).ok
    assert (await controller.publish(topics.time("hq"), b"end")).ok
    assert await overheard.until(b"end") == [b"end"]


async def test_a_gate_that_is_not_enrolled_connects_and_can_do_nothing(broker: Broker, make_link: MakeLink) -> None:
    broker.start()
    stranger = await up(make_link("gate-7"))
    for leaf in (*GATE_LEAVES, *CONTROLLER_LEAVES):
        assert await refused(stranger, leaf("hq", "gate-7"))
    assert await refused(stranger, topics.zone_tag("hq", "gate-7", "lobby"))


async def test_an_observer_of_the_testbed_hears_everything_and_says_nothing(
    tmp_path: Path, broker: Broker, make_link: MakeLink, pki: DevicePki
) -> None:
    watched = Broker(tmp_path / "watched", pki, port=broker.port, observers=["observer"])
    watched.start()
    try:
        heard = Inbox()
        observer = await up(make_link("observer", on_message=heard), "pacs/#")
        gate = await up(make_link("gate-1"))
        for leaf in GATE_LEAVES:
            assert (await gate.publish(leaf("hq", "gate-1"), leaf.__name__.encode())).ok
            assert await refused(observer, leaf("hq", "gate-1"))
        assert len(await heard.until(b"health")) == len(GATE_LEAVES)
    finally:
        watched.stop()


# -- TLS ----------------------------------------------------------------------------------------------------------------------


def answer(
    broker: Broker, identity: Identity | None, said: bytes = b"", highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> bytes:
    """The first byte that the broker gives. Raises ssl.SSLError, with the broker's reason as long as nothing is said:
    a TLS 1.3 client has done its part of the handshake before its certificate is judged, and would write into a closed line."""
    context = ssl.create_default_context(cafile=broker.ca)
    context.maximum_version = highest
    if identity is not None:
        context.load_cert_chain(identity.certificate, identity.key)
    with (
        socket.create_connection(("127.0.0.1", broker.port), timeout=WITHIN_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(said)
        return connection.recv(1)


def test_a_certificate_of_the_authority_over_tls_1_3_is_what_connects(broker: Broker, pki: DevicePki) -> None:
    broker.start()
    assert answer(broker, pki.client("gate-1"), CONNECT) == CONNACK


def test_nobody_connects_without_a_certificate(broker: Broker) -> None:
    broker.start()
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        answer(broker, None)


def test_nobody_connects_with_a_certificate_of_another_authority(broker: Broker, tmp_path: Path) -> None:
    broker.start()
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        answer(broker, DevicePki(tmp_path / "foreign", datetime.now(UTC)).client("gate-1"))


def test_nobody_connects_as_a_client_with_the_brokers_own_certificate(broker: Broker, pki: DevicePki) -> None:
    broker.start()
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_CERTIFICATE"):
        answer(broker, pki.server())


def test_tls_1_2_is_refused(broker: Broker, pki: DevicePki) -> None:
    broker.start()
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        answer(broker, pki.client("gate-1"), highest=ssl.TLSVersion.TLSv1_2)


# -- revocation ---------------------------------------------------------------------------------------------------------------


class Chain:
    """From the directory of certificates to the broker, step by step, each by the code that does it in a building."""

    def __init__(self, directory: Path, broker: Broker, pki: DevicePki) -> None:
        self.gates = Enrolled(directory / "gates")
        self._file = AclFile(directory / "broker-list" / "acl", "hq", Enrolled(directory / "gates"))
        self._broker = broker
        self.identities = {name: pki.client(name) for name in ("gate-1", "gate-2")}
        for identity in self.identities.values():
            self.gates.add(identity.certificate.read_bytes())

    def go(self) -> None:
        assert self._file.step()
        assert self._broker.apply(self._file.path)


@pytest.fixture
def chain(tmp_path: Path, broker: Broker, pki: DevicePki) -> Chain:
    broker.start()
    made = Chain(tmp_path, broker, pki)
    made.go()
    return made


async def test_a_revoked_gate_that_is_connected_publishes_nothing_more_and_hears_nothing_more(
    chain: Chain, make_link: MakeLink
) -> None:
    states: list[LinkState] = []
    heard = Inbox()
    gate = make_link("gate-1", identity=chain.identities["gate-1"], on_message=heard, on_state=states.append)
    await up(gate, topics.ack("hq", "gate-1"), topics.time("hq"))
    controller = await up(make_link("controller"))
    assert not await refused(gate, topics.event("hq", "gate-1"))
    assert (await controller.publish(topics.time("hq"), b"before")).ok
    await heard.until(b"before")

    chain.gates.revoke("gate-1")
    chain.go()

    for leaf in GATE_LEAVES:
        assert await refused(gate, leaf("hq", "gate-1"))
    assert await refused(gate, topics.zone_tag("hq", "gate-1", "lobby"))
    for topic in (topics.ack("hq", "gate-1"), topics.time("hq")):
        assert (await controller.publish(topic, b"after")).ok
    assert await refused(gate, topics.event("hq", "gate-1"))  # a round trip: whatever was sent to it has come
    assert heard.messages == [(topics.time("hq"), b"before")]
    assert [state.connected for state in states] == [True]  # it was never thrown out: only the access list holds it


async def test_the_other_gates_notice_nothing_of_a_revocation(chain: Chain, make_link: MakeLink) -> None:
    states: list[LinkState] = []
    gate = await up(make_link("gate-2", identity=chain.identities["gate-2"], on_state=states.append))
    chain.gates.revoke("gate-1")
    chain.go()
    assert not await refused(gate, topics.event("hq", "gate-2"))
    assert [state.connected for state in states] == [True]


async def test_a_gate_that_is_enrolled_while_it_is_connected_may_publish_at_once(
    chain: Chain, make_link: MakeLink, pki: DevicePki
) -> None:
    identity = pki.client("gate-3")
    gate = await up(make_link("gate-3", identity=identity))
    assert await refused(gate, topics.event("hq", "gate-3"))
    chain.gates.add(identity.certificate.read_bytes())
    chain.go()
    assert not await refused(gate, topics.event("hq", "gate-3"))


@pytest.mark.parametrize("restart", [False, True], ids=["at once", "after a restart"])
async def test_what_a_revoked_gate_left_retained_is_not_handed_out(
    chain: Chain, make_link: MakeLink, broker: Broker, restart: bool
) -> None:
    for name, identity in chain.identities.items():
        gate = await up(make_link(name, identity=identity))
        assert (await gate.publish(topics.state("hq", name), name.encode(), retain=True)).ok
    before, after = Inbox(), Inbox()
    both = [topics.state("hq", name) for name in chain.identities]
    first = await up(make_link("controller", on_message=before), *both)
    assert await before.until(b"gate-2") == [b"gate-1", b"gate-2"]
    await first.stop()

    chain.gates.revoke("gate-1")
    chain.go()
    if restart:
        broker.restart()

    await up(make_link("controller", on_message=after), *both)
    assert await after.until(b"gate-2") == [b"gate-2"]


async def test_a_revoked_gates_will_is_not_published(chain: Chain, make_link: MakeLink) -> None:
    heard, back = Inbox(), asyncio.Event()

    def on_state(state: LinkState) -> None:
        if state.connected:
            back.set()

    await up(make_link("controller", on_message=heard), topics.online("hq", "+"), topics.state("hq", "+"))
    will = Will(topics.online("hq", "gate-1"), b"gone")
    gate = make_link("gate-1", identity=chain.identities["gate-1"], will=will, on_state=on_state)
    await up(gate)
    other = await up(make_link("gate-2", identity=chain.identities["gate-2"]))
    chain.gates.revoke("gate-1")
    chain.go()
    back.clear()
    assert gate._connection is not None
    gate._connection.abort("the cable is out")
    async with asyncio.timeout(WITHIN_S):
        await back.wait()  # connected anew: the broker is done with the connection before
    assert (await other.publish(topics.state("hq", "gate-2"), b"end")).ok
    assert await heard.until(b"end") == [b"end"]


# -- certificates revoked by the authority --------------------------------------------------------------------------------------


def test_a_list_of_revoked_certificates_is_read_again_and_bars_new_connections(tmp_path: Path, pki: DevicePki) -> None:
    file = tmp_path / "revoked.crl"
    file.write_bytes(pki.revoked())
    broker, gate = Broker(tmp_path / "broker", pki, revoked=file), pki.client("gate-1")
    broker.start()
    try:
        assert answer(broker, gate, CONNECT) == CONNACK
        file.write_bytes(pki.revoked(gate))
        broker.reload()
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REVOKED"):
            answer(broker, gate)
        assert answer(broker, pki.client("gate-2"), CONNECT) == CONNACK
    finally:
        broker.stop()


def test_a_list_that_is_out_of_date_bars_everybody(tmp_path: Path, pki: DevicePki) -> None:
    """Not wanted, but so it is (OpenSSL); the documentation says it."""
    file = tmp_path / "revoked.crl"
    file.write_bytes(pki.revoked(now=datetime.now(UTC) - timedelta(days=2), lifetime=timedelta(days=1)))
    broker = Broker(tmp_path / "broker", pki, revoked=file)
    broker.start()
    try:
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_EXPIRED"):
            answer(broker, pki.client("gate-1"))
    finally:
        broker.stop()
