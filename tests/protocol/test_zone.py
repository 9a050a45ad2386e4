"""Sealed anti-passback messages: what opens, what does not, and what the broker lets through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import topics, zone
from protocol.mqtt import Message, MqttLink
from protocol.zone import (
    Ask,
    Body,
    Commit,
    Count,
    CountRow,
    Digest,
    Envelope,
    Exit,
    ForgedError,
    Forgive,
    Free,
    Movement,
    Movements,
    PeriodKey,
    Reserve,
    Used,
    ZoneMessageError,
)
from testbed.broker import Broker

WITHIN_S = 10
KEY = bytes(range(32))
PERIOD = 739_944
TOPIC = topics.zone_tag("hq", "gate-1", "lobby")
TAG, REF, ORIGIN = b"\x80" + bytes(15), b"ref-0001", b"origin-1"
OWN = CountRow(ORIGIN, PERIOD, 2**32 - 1, 7)
ENTRY, EXIT = Movement(1, ORIGIN, True, TAG), Movement(2**64 - 1, ORIGIN, False, TAG)
BODIES: tuple[Body, ...] = (
    Reserve(TAG, REF, 5),
    Commit(REF, ENTRY),
    Free(TAG, REF, 5),
    Exit(EXIT),
    Forgive(2**64 - 1),
    Count(),
    Count((OWN,) * zone.MAX_COUNT_ROWS),
    Digest(3, False, tuple(range(zone.BUCKETS))),
    Digest(3, True, (2**64 - 1,) * zone.BUCKETS),
    Ask(ORIGIN, 2**32 - 1),
    Movements(()),
    Used(TAG, 5),
    Movements((ENTRY, EXIT, *(ENTRY,) * (zone.MAX_MOVEMENTS - 2))),
)


def key(period: int = PERIOD) -> PeriodKey:
    return PeriodKey(KEY, period)


def seal(body: Body, topic: str = TOPIC, period: int = PERIOD) -> bytes:
    return key(period).seal(topic, Envelope(2**64 - 1, 9, OWN, body), Random(1).randbytes)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_a_message_opens_to_what_was_sealed_and_has_the_one_size(body: Body) -> None:
    payload = seal(body)
    assert len(payload) == zone.SIZE
    assert zone.period_of(payload) == PERIOD
    assert key().open(TOPIC, payload) == Envelope(2**64 - 1, 9, OWN, body)


def test_a_tag_is_the_same_for_a_handle_within_a_period_and_key_and_differs_outside() -> None:
    handle = b"h" * 32
    tag = key().tag(handle)
    assert len(tag) == zone.TAG_BYTES
    assert key().tag(handle) == tag
    others = {key(PERIOD + 1).tag(handle), PeriodKey(bytes(32), PERIOD).tag(handle), key().tag(b"i" * 32)}
    assert len(others | {tag}) == 4


def test_the_bytes_of_tag_reference_and_seal_stay_what_they_are() -> None:
    """Gates of different versions meet in one zone: a change here needs a new version."""
    assert key().tag(b"h" * 32).hex() == "4b0571112a267977791a78bb2943e1ca"
    assert key().ref("0123456789abcdef").hex() == "ff83ff6dd827d1d8"
    assert (
        seal(Forgive(1))[:40].hex()
        == "01000b4a68f5b165224a58b791df6af1d8b2618f661ad60751d50d59fc5a745f2763453880328ce3"
    )


@pytest.mark.parametrize(
    "topic",
    [
        topics.zone_tag("hq", "gate-2", "lobby"),
        topics.zone_tag("hq", "gate-1", "attic"),
        topics.zone_tag("annex", "gate-1", "lobby"),
    ],
)
def test_a_message_moved_to_another_gate_zone_or_site_does_not_open(topic: str) -> None:
    with pytest.raises(ForgedError):
        key().open(topic, seal(Forgive(1)))


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, zone.SIZE - 1), bit=st.integers(0, 7))
def test_a_message_with_any_bit_changed_does_not_open(at: int, bit: int) -> None:
    payload = bytearray(seal(Forgive(1)))
    payload[at] ^= 1 << bit
    with pytest.raises((ForgedError, ZoneMessageError)):
        key().open(TOPIC, bytes(payload))


@pytest.mark.parametrize("payload", [b"", seal(Forgive(1))[:-1], seal(Forgive(1)) + b"\0"])
def test_a_message_of_another_size_is_not_tried(payload: bytes) -> None:
    with pytest.raises(ZoneMessageError):
        key().open(TOPIC, payload)


def test_under_another_zone_key_or_for_another_period_nothing_opens() -> None:
    with pytest.raises(ForgedError):
        PeriodKey(bytes(32), PERIOD).open(TOPIC, seal(Forgive(1)))
    with pytest.raises(ForgedError):
        key().open(TOPIC, seal(Forgive(1), period=PERIOD + 1))


def test_a_zone_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        PeriodKey(KEY[:31], PERIOD)


def test_more_movements_than_fit_are_refused_by_the_sender() -> None:
    with pytest.raises(ValueError, match="13"):
        seal(Movements((ENTRY,) * (zone.MAX_MOVEMENTS + 1)))


@pytest.mark.parametrize(
    ("body", "at", "value"),
    [
        (Forgive(1), 0, 0),  # kind
        (Forgive(1), 0, 11),
        (Forgive(1), 37 + 8, 1),  # behind the body
        (Forgive(1), 478, 1),
        (Count(), 37, zone.MAX_COUNT_ROWS + 1),  # rows
        (Movements(()), 37, zone.MAX_MOVEMENTS + 1),
        (Exit(EXIT), 37 + 32, 1),  # direction
        (Exit(EXIT), 37 + 32, 2),
        (Commit(REF, ENTRY), 37 + 8 + 32, 0),
        (Digest(0, False, (0,) * zone.BUCKETS), 37 + 8, 2),  # greeting
    ],
)
def test_what_opens_and_is_not_a_message_is_refused(body: Body, at: int, value: int) -> None:
    plain = bytearray(zone.encode(Envelope(1, 1, OWN, body)))
    plain[at] = value
    with pytest.raises(ZoneMessageError):
        zone.decode(bytes(plain))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 12), st.binary(max_size=478))
def test_whatever_opens_is_read_or_refused_and_read_means_the_same_bytes(kind: int, rest: bytes) -> None:
    plain = bytes([kind]) + rest.ljust(478, b"\0")
    try:
        envelope = zone.decode(plain)
    except ZoneMessageError:
        return
    assert zone.encode(envelope) == plain


def test_only_its_topic_is_taken_for_one() -> None:
    assert topics.zone_tag_of(TOPIC) == ("hq", "gate-1", "lobby")
    assert topics.zone_tag_of(topics.zone_tag("hq", "gate-1", "본관_1.층")) == ("hq", "gate-1", "본관_1.층")
    for topic in (
        topics.event("hq", "gate-1"),
        TOPIC + "/x",
        TOPIC.replace("zone", "zona"),
        topics.zone_tag("hq", "+", "lobby"),
        topics.zone_tag("HQ", "gate-1", "lobby"),
        topics.zone_tag("hq", "gate-1", ""),
        "pacs/2/hq/gate-1/zone/lobby/tag",
    ):
        with pytest.raises(ValueError, match="topic"):
            topics.zone_tag_of(topic)


def test_the_own_count_travels_with_every_message() -> None:
    for body in BODIES:
        envelope = Envelope(1, 1, replace(OWN, entered=12), body)
        assert zone.decode(zone.encode(envelope)).own.entered == 12


async def test_gates_read_each_other_and_none_writes_under_another_name(
    broker: Broker, make_link: Callable[..., MqttLink]
) -> None:
    broker.start()
    heard: list[Message] = []
    new = asyncio.Event()

    def hear(message: Message) -> None:
        heard.append(message)
        new.set()

    first, second = make_link("gate-1"), make_link("gate-2", on_message=hear)
    async with asyncio.timeout(WITHIN_S):
        for link in (first, second):
            link.start()
            await link.wait_connected()
        assert (await second.subscribe(topics.zone_tags("hq", "lobby"))).ok
        refused = await second.publish(TOPIC, seal(Forgive(1)))
        assert not refused.ok
        assert (await first.publish(TOPIC, seal(Forgive(2)))).ok
        await new.wait()
    assert [(each.topic, each.payload) for each in heard] == [(TOPIC, seal(Forgive(2)))]
