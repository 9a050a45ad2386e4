"""The MQTT link against a real mosquitto with the production access list."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol import topics
from protocol.clock import SystemClock
from protocol.mqtt import (
    NOT_CONNECTED,
    TOO_LARGE,
    LinkState,
    Message,
    MqttLink,
    MqttSettings,
    PublishProperties,
    TlsFilesError,
    Will,
)
from protocol.mqtt_connection import MAX_CORRELATION
from testbed.broker import Broker
from testbed.pki import DevicePki, Identity

WITHIN_S = 10
MakeLink = Callable[..., MqttLink]


class Inbox:
    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._new = asyncio.Event()

    def __call__(self, message: Message) -> None:
        self.messages.append(message)
        self._new.set()

    async def wait(self, count: int) -> list[Message]:
        async with asyncio.timeout(WITHIN_S):
            while len(self.messages) < count:
                self._new.clear()
                await self._new.wait()
        return self.messages


class States:
    def __init__(self) -> None:
        self.seen: list[LinkState] = []
        self._new = asyncio.Event()

    def __call__(self, state: LinkState) -> None:
        self.seen.append(state)
        self._new.set()

    async def wait(self, wanted: Callable[[LinkState], bool]) -> LinkState:
        async with asyncio.timeout(WITHIN_S):
            while not (self.seen and wanted(self.seen[-1])):
                self._new.clear()
                await self._new.wait()
        return self.seen[-1]


async def up(link: MqttLink) -> MqttLink:
    link.start()
    async with asyncio.timeout(WITHIN_S):
        await link.wait_connected()
    return link


async def test_a_gate_writes_its_own_leaves_and_nothing_else(broker: Broker, make_link: MakeLink) -> None:
    broker.start()
    gate = await up(make_link("gate-1"))
    own = [topics.event, topics.alarm, topics.state, topics.online, topics.health]
    for leaf in own:
        assert (await gate.publish(leaf("hq", "gate-1"), b"x")).ok
    refused = [leaf("hq", "gate-2") for leaf in own] + [
        leaf("hq", gate) for leaf in (topics.ack, topics.replay) for gate in ("gate-1", "gate-2")
    ]
    for topic in [*refused, "pacs/1/hq/gate-1/cmd", "pacs/1/hq/gate-1/evt/more", "other"]:
        result = await gate.publish(topic, b"x")
        assert (result.ok, result.reason) == (False, "Not authorized"), topic


async def test_only_the_controller_acknowledges_and_a_gate_reads_only_its_own(
    broker: Broker, make_link: MakeLink
) -> None:
    broker.start()
    other, own = Inbox(), Inbox()
    controller = await up(make_link("controller"))
    foreign, gate = make_link("gate-2", on_message=other), make_link("gate-1", on_message=own)
    await foreign.subscribe("pacs/1/+/+/ack")
    await gate.subscribe(topics.ack("hq", "gate-1"))
    await up(foreign)
    await up(gate)
    assert (await controller.publish(topics.ack("hq", "gate-1"), b"one", retain=True)).ok
    assert (await controller.publish(topics.ack("hq", "gate-2"), b"two", retain=True)).ok
    assert [message.payload for message in await own.wait(1)] == [b"one"]
    assert [message.payload for message in await other.wait(1)] == [b"two"]


async def test_only_the_controller_tells_the_time_and_every_gate_hears_it(broker: Broker, make_link: MakeLink) -> None:
    broker.start()
    inboxes = {name: Inbox() for name in ("gate-1", "gate-2")}
    for name, inbox in inboxes.items():
        gate = make_link(name, on_message=inbox)
        await gate.subscribe(topics.time("hq"))
        await up(gate)
        result = await gate.publish(topics.time("hq"), b"forged")
        assert (result.ok, result.reason) == (False, "Not authorized")
    controller = await up(make_link("controller"))
    assert (await controller.publish(topics.time("hq"), b"beacon")).ok
    for inbox in inboxes.values():
        assert [message.payload for message in await inbox.wait(1)] == [b"beacon"]


async def test_a_gate_that_names_the_controllers_client_id_does_not_take_over_its_session(
    broker: Broker, make_link: MakeLink, pki: DevicePki
) -> None:
    broker.start()
    states = States()
    await up(make_link("controller", on_state=states))
    impostor = await up(make_link("controller", identity=pki.client("gate-9")))
    assert not (await impostor.publish(topics.ack("hq", "gate-1"), b"x")).ok
    assert [state.connected for state in states.seen] == [True]


async def test_a_certificate_of_another_authority_is_refused_with_a_reason(
    broker: Broker, make_link: MakeLink, tmp_path: Path
) -> None:
    broker.start()
    states = States()
    foreign = DevicePki(tmp_path / "foreign", datetime.now(UTC)).client("gate-1")
    make_link("gate-1", identity=foreign, on_state=states).start()
    state = await states.wait(lambda each: not each.connected)
    assert "unknown ca" in state.reason.lower().replace("_", " ")


async def test_a_broker_with_a_certificate_for_another_name_is_refused(make_link: MakeLink, pki: DevicePki) -> None:
    server = await asyncio.start_server(_say_nothing, "127.0.0.1", 0, ssl=_server_tls(pki.server(["mqtt.example"])))
    states = States()
    link = make_link("gate-1", port=server.sockets[0].getsockname()[1], on_state=states)
    link.start()
    state = await states.wait(lambda each: not each.connected)
    assert "certificate is not valid for '127.0.0.1'" in state.reason
    await link.stop()
    server.close()


async def _say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


def _server_tls(identity: Identity) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(identity.certificate, identity.key)
    return context


async def test_works_with_the_broker_absent_killed_and_restarted(broker: Broker, make_link: MakeLink) -> None:
    states, inbox = States(), Inbox()
    controller = make_link("controller", on_message=inbox)
    await controller.subscribe("pacs/1/hq/+/evt")
    gate = make_link("gate-1", on_state=states)
    gate.start()
    controller.start()
    await states.wait(lambda each: not each.connected)
    assert (await gate.publish(topics.event("hq", "gate-1"), b"x")).reason == NOT_CONNECTED
    broker.start()
    await states.wait(lambda each: each.connected)
    await controller.wait_connected()
    assert (await gate.publish(topics.event("hq", "gate-1"), b"first")).ok
    await inbox.wait(1)
    broker.kill()
    await states.wait(lambda each: not each.connected)
    broker.start()
    await states.wait(lambda each: each.connected)
    async with asyncio.timeout(WITHIN_S):
        await controller.wait_connected()
    assert (await gate.publish(topics.event("hq", "gate-1"), b"second")).ok
    assert [message.payload for message in await inbox.wait(2)] == [b"first", b"second"]


async def test_publications_in_flight_at_a_kill_are_reported_not_claimed(broker: Broker, make_link: MakeLink) -> None:
    broker.start()
    gate = await up(make_link("gate-1"))
    waiting = [asyncio.create_task(gate.publish(topics.event("hq", "gate-1"), b"x" * 4000)) for _ in range(500)]
    await asyncio.sleep(0)
    broker.kill()
    async with asyncio.timeout(WITHIN_S):
        results = await asyncio.gather(*waiting)
    assert any(not result.ok for result in results)
    assert {result.reason for result in results} <= {"ok", "connection_lost", "not_connected"}


async def test_manual_acknowledgement_holds_the_broker_to_the_receive_maximum(
    broker: Broker, make_link: MakeLink
) -> None:
    broker.start()
    inbox = Inbox()
    controller = make_link("controller", on_message=inbox, manual_ack=True, receive_maximum=3)
    await controller.subscribe("pacs/1/hq/+/evt")
    await up(controller)
    gate = await up(make_link("gate-1"))
    for number in range(6):
        assert (await gate.publish(topics.event("hq", "gate-1"), b"%d" % number)).ok
    await inbox.wait(3)
    # A round trip of another message shows that no fourth was on its way.
    assert (await controller.publish(topics.ack("hq", "gate-1"), b"x")).ok
    assert [message.payload for message in inbox.messages] == [b"0", b"1", b"2"]
    for message in inbox.messages[:3]:
        controller.ack(message)
    assert [message.payload for message in await inbox.wait(6)] == [b"%d" % number for number in range(6)]


async def test_a_broker_that_passes_the_receive_maximum_is_not_read_until_half_is_acknowledged(
    broker: Broker, make_link: MakeLink
) -> None:
    """mosquitto 2.0.11 sends ten messages for each acknowledgement once they flow: 430 were outstanding of 10 allowed."""
    broker.start()
    inbox, limit, count = Inbox(), 10, 200
    controller = make_link("controller", on_message=inbox, manual_ack=True, receive_maximum=limit)
    await controller.subscribe("pacs/1/hq/+/evt")
    await up(controller)
    gate = await up(make_link("gate-1"))
    for number in range(count):
        assert (await gate.publish(topics.event("hq", "gate-1"), b"%d" % number)).ok
    for acked in range(0, count, limit // 2):
        await inbox.wait(min(acked + limit // 2, count))
        for message in inbox.messages[acked : acked + limit // 2]:
            controller.ack(message)
        for _ in range(20):  # round trips, in which the controller could read what the broker has sent
            assert (await gate.publish(topics.state("hq", "gate-1"), b"x")).ok
        assert len(inbox.messages) - acked - limit // 2 <= limit + 1
    assert [int(message.payload) for message in inbox.messages] == list(range(count))
    assert controller.connected


async def test_unacknowledged_messages_come_again_and_a_stale_acknowledgement_acknowledges_nothing(
    broker: Broker, make_link: MakeLink
) -> None:
    """A packet identifier of an earlier connection would acknowledge some other message of the new one."""
    broker.start()
    first, second = Inbox(), Inbox()
    options = {"manual_ack": True, "clean_start": False, "session_expiry": 3600}
    before = make_link("controller", on_message=first, **options)
    await before.subscribe("pacs/1/hq/+/evt")
    await up(before)
    gate = await up(make_link("gate-1"))
    for number in range(3):
        await gate.publish(topics.event("hq", "gate-1"), b"%d" % number)
    old = list(await first.wait(3))
    await before.stop()
    assert all(message.stale for message in old)
    again = make_link("controller", on_message=second, **options)
    await again.subscribe("pacs/1/hq/+/evt")
    await up(again)
    assert again.state.session_present
    assert [message.payload for message in await second.wait(3)] == [b"0", b"1", b"2"]
    for message in old:
        again.ack(message)
    await again.stop()
    third = Inbox()
    last = make_link("controller", on_message=third, **options)
    await last.subscribe("pacs/1/hq/+/evt")
    await up(last)
    assert [message.payload for message in await third.wait(3)] == [b"0", b"1", b"2"]


async def test_the_will_is_published_when_the_connection_breaks_and_not_when_it_is_closed(
    broker: Broker, make_link: MakeLink
) -> None:
    broker.start()
    inbox = Inbox()
    controller = make_link("controller", on_message=inbox)
    await controller.subscribe("pacs/1/hq/+/online")
    await up(controller)
    polite = await up(make_link("gate-1", will=Will(topics.online("hq", "gate-1"), b"gone")))
    await polite.stop()
    torn = await up(make_link("gate-2", will=Will(topics.online("hq", "gate-2"), b"gone")))
    assert torn._connection is not None
    torn._connection.abort("the cable is out")
    received = await inbox.wait(1)
    assert [(message.topic, message.payload) for message in received] == [(topics.online("hq", "gate-2"), b"gone")]


async def test_user_properties_response_topic_and_correlation_data_travel(broker: Broker, make_link: MakeLink) -> None:
    broker.start()
    inbox = Inbox()
    controller = make_link("controller", on_message=inbox)
    await controller.subscribe("pacs/1/hq/+/evt")
    await up(controller)
    gate = await up(make_link("gate-1"))
    properties = PublishProperties("application/json", 60, (("seq", "7"),), topics.result("hq", "gate-1"), b"\x00c-1")
    await gate.publish(topics.event("hq", "gate-1"), b"{}", properties=properties)
    await gate.publish(topics.event("hq", "gate-1"), b"{}")
    full, bare = await inbox.wait(2)
    assert (full.user, full.response_topic, full.correlation) == ({"seq": "7"}, "pacs/1/hq/gate-1/res", b"\x00c-1")
    assert (bare.user, bare.response_topic, bare.correlation) == ({}, None, None)


async def test_correlation_data_over_the_limit_is_not_kept_and_its_message_is(
    broker: Broker, make_link: MakeLink
) -> None:
    broker.start()
    inbox = Inbox()
    controller = make_link("controller", on_message=inbox)
    await controller.subscribe("pacs/1/hq/+/evt")
    await up(controller)
    gate = await up(make_link("gate-1"))
    for size in (MAX_CORRELATION, MAX_CORRELATION + 1):
        properties = PublishProperties(correlation=bytes(size))
        await gate.publish(topics.event("hq", "gate-1"), b"{}", properties=properties)
    assert [message.correlation for message in await inbox.wait(2)] == [bytes(MAX_CORRELATION), None]


async def test_a_payload_over_the_limit_is_not_sent(broker: Broker, make_link: MakeLink) -> None:
    broker.start()
    gate = await up(make_link("gate-1", max_payload=100))
    assert (await gate.publish(topics.event("hq", "gate-1"), bytes(101))).reason == TOO_LARGE
    assert (await gate.publish(topics.event("hq", "gate-1"), bytes(100))).ok


async def test_what_is_longer_than_the_brokers_own_limit_is_not_sent(broker: Broker, make_link: MakeLink) -> None:
    broker.start()
    gate = await up(make_link("gate-1", max_payload=200_000))
    assert (await gate.publish(topics.event("hq", "gate-1"), bytes(65537))).reason == TOO_LARGE
    assert (await gate.publish(topics.event("hq", "gate-1"), bytes(65536))).ok
    assert (await gate.publish(topics.event("hq", "gate-1"), b"x")).ok


async def test_stops_at_once_while_nobody_answers(make_link: MakeLink) -> None:
    """The connection comes about, the TLS handshake never ends."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        link = make_link("gate-1", port=silent.getsockname()[1], connect_timeout=30)
        link.start()
        await asyncio.sleep(0)
        async with asyncio.timeout(3):
            await link.stop()


async def test_bytes_that_are_no_mqtt_end_the_connection_and_nothing_else(make_link: MakeLink, pki: DevicePki) -> None:
    """Whatever a broken broker sends after the TLS handshake is one failed connection."""
    answers = [
        b"\x20\xff\xff\xff\xff\xff",  # a length of five bytes
        b"\x20\x00",  # CONNACK without content
        b"\x30\x02\xff\xff",  # PUBLISH whose topic is longer than itself
        b"\x90\x01\x00",  # half a SUBACK
        b"\x20\x03\x00\x87\x00",  # CONNACK: not authorized
        b"\xf0\x00",  # AUTH out of place
        b"\x30\x06\x00\x01t\x00hi",  # PUBLISH before CONNACK
        b"\x20\x03\x00\x00\x00\x34\x08\x00\x01t\x00\x01\x00hi",  # QoS 2, which nobody subscribed to
        b"\x20\x03\x00\x00\x00\x32\xff\xff\x7f",  # PUBLISH longer than we allow
    ]

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answers:
            writer.write(answers.pop(0))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=_server_tls(pki.server()))
    states = States()
    link = make_link("gate-1", port=server.sockets[0].getsockname()[1], on_state=states, connect_timeout=2)
    link.start()
    async with asyncio.timeout(20):
        while answers:
            await states.wait(lambda each: not each.connected)
            states.seen.clear()
    assert not link.connected
    await link.stop()
    server.close()
    await server.wait_closed()


async def test_a_receiver_that_raises_does_not_take_the_link_down(
    broker: Broker, make_link: MakeLink, caplog: pytest.LogCaptureFixture
) -> None:
    broker.start()
    seen = Inbox()

    def receive(message: Message) -> None:
        seen(message)
        if message.payload == b"bad":
            raise RuntimeError("fault")

    controller = make_link("controller", on_message=receive)
    await controller.subscribe("pacs/1/hq/+/evt")
    await up(controller)
    gate = await up(make_link("gate-1"))
    for payload in (b"bad", b"good"):
        await gate.publish(topics.event("hq", "gate-1"), payload)
    assert [message.payload for message in await seen.wait(2)] == [b"bad", b"good"]
    assert "receiver failed" in caplog.text
    assert "bad" not in caplog.text.replace("b'bad'", "")


def test_a_key_that_cannot_be_used_is_named_at_start(tmp_path: Path, pki: DevicePki) -> None:
    identity = pki.client("gate-1")
    identity.key.write_text("not a key")
    link = MqttLink(
        MqttSettings("127.0.0.1", 1, pki.ca, identity.certificate, identity.key, "gate-1"),
        clock=SystemClock(),
        random=Random(1),
    )
    with pytest.raises(TlsFilesError, match=r"gate-1\.key"):
        link.start()


def test_private_files_are_readable_by_their_owner_only(pki: DevicePki) -> None:
    pki.client("gate-1")
    pki.server()
    modes: dict[str, Any] = {path.name: path.stat().st_mode & 0o777 for path in pki.directory.iterdir()}
    assert len(modes) == 7
    assert set(modes.values()) == {0o600}
