"""A client that comes back: whether the broker publishes its will. Against a real mosquitto."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from protocol import topics
from protocol.mqtt import NO_SUBSCRIBERS, OK, Message, MqttLink, PubResult, Will
from testbed.broker import Broker

WITHIN_S = 10
ONLINE = topics.online("hq", "gate-1")
MakeLink = Callable[..., MqttLink]


async def test_a_client_that_takes_its_session_up_again_before_its_will_is_due_leaves_no_trace(
    broker: Broker, make_link: MakeLink
) -> None:
    broker.start()
    came: list[bytes] = []
    arrived = asyncio.Event()

    def on_message(message: Message) -> None:
        came.append(message.payload)
        if message.payload == b"second birth":
            arrived.set()

    async def up(link: MqttLink) -> MqttLink:
        link.start()
        async with asyncio.timeout(WITHIN_S):
            await link.wait_connected()
        return link

    watcher = make_link("controller", on_message=on_message)
    await watcher.subscribe(ONLINE)
    await up(watcher)

    def gate() -> MqttLink:
        will = Will(ONLINE, b"will", delay=15)
        # The one that is thrown out must not come back at once and throw out the other.
        return make_link("gate-1", will=will, clean_start=False, session_expiry=60, backoff_base=60, backoff_cap=60)

    assert (await (await up(gate())).publish(ONLINE, b"first birth", retain=True)).ok
    assert (await (await up(gate())).publish(ONLINE, b"second birth", retain=True)).ok
    async with asyncio.timeout(WITHIN_S):
        await arrived.wait()
    assert came == [b"first birth", b"second birth"]


async def test_a_publication_that_nobody_hears_is_taken_and_says_so(broker: Broker, make_link: MakeLink) -> None:
    broker.start()
    gate, controller = make_link("gate-1"), make_link("controller")
    gate.start()
    controller.start()
    async with asyncio.timeout(WITHIN_S):
        await gate.wait_connected()
        await controller.wait_connected()
    topic = topics.event("hq", "gate-1")
    assert await gate.publish(topic, b"x") == PubResult(True, NO_SUBSCRIBERS)
    assert (await controller.subscribe(topic)).ok
    assert await gate.publish(topic, b"x") == PubResult(True, OK)
