"""Our reading of PUBLISH, held against paho's writing of it; and against any bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from protocol.mqtt_packets import Cutter, PacketError, Publish, puback, publish

LIMIT = 70_000


def number(value: int) -> bytes:
    found = bytearray()
    while True:
        value, low = divmod(value, 128)
        found.append(low | (128 if value else 0))
        if not value:
            return bytes(found)


def packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + number(len(body)) + body


def text(value: str) -> bytes:
    return struct.pack(">H", len(value.encode())) + value.encode()


def properties_of_publish() -> Properties:
    return Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this constructor untyped


def made(of: Publish, more: Properties | None = None) -> bytes:
    """The packet, its properties packed by paho."""
    properties = more or properties_of_publish()
    if of.user:
        properties.UserProperty = of.user
    if of.response_topic is not None:
        properties.ResponseTopic = of.response_topic
    if of.correlation is not None:
        properties.CorrelationData = of.correlation
    head = text(of.topic) + (struct.pack(">H", of.mid) if of.qos else b"")
    packed = bytes(properties.pack())  # type: ignore[no-untyped-call]
    return packet(0x30 | of.qos << 1 | of.retain, head + packed + of.payload)


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
PAYLOADS = st.binary(max_size=300) | st.integers(0, 40_000).map(bytes)


@st.composite
def publishes(draw: st.DrawFn) -> Publish:
    qos = draw(st.integers(0, 1))
    user = draw(st.lists(st.tuples(WORDS, WORDS), max_size=3))
    mid = draw(st.integers(1, 65535)) if qos else 0
    response_topic = draw(st.none() | WORDS.filter(lambda text: not {*text} & {"#", "+"}))
    correlation = draw(st.none() | st.binary(max_size=80))
    return Publish(
        draw(WORDS.filter(len)), draw(PAYLOADS), qos, draw(st.booleans()), mid, user, response_topic, correlation
    )


@given(of=publishes())
def test_reads_what_paho_writes(of: Publish) -> None:
    assert publish(made(of)) == of


def test_every_other_property_of_a_publish_is_passed_over() -> None:
    properties = properties_of_publish()
    properties.PayloadFormatIndicator = 1
    properties.MessageExpiryInterval = 60
    properties.ContentType = "application/json"
    properties.SubscriptionIdentifier = 300
    of = Publish("t", b"payload", 1, True, 7, [("a", "b"), ("c", "")], "a/b", b"123")
    assert publish(made(of, properties)) == of


@pytest.mark.parametrize("topic", ["", "#", "a/+/b"])
def test_a_response_topic_that_is_no_topics_name_is_given_as_it_is_for_a_broker_hands_it_on(topic: str) -> None:
    body = b"\x08" + text(topic)
    assert publish(packet(0x30, text("t") + number(len(body)) + body)).response_topic == topic


@pytest.mark.parametrize(
    "properties",
    [
        b"\x08" + text("a") + b"\x08" + text("a"),
        b"\x08" + text("") + b"\x08" + text("a"),
        b"\x09" + text("1") + b"\x26" + text("a") + text("b") + b"\x09" + text("2"),
        b"\x09" + text("") + b"\x09" + text(""),
    ],
)
def test_a_second_response_topic_or_second_correlation_data_is_refused(properties: bytes) -> None:
    with pytest.raises(PacketError, match="twice"):
        publish(packet(0x30, text("t") + number(len(properties)) + properties))


def test_a_topic_alias_is_refused_for_we_allow_none() -> None:
    properties = properties_of_publish()
    properties.TopicAlias = 1
    with pytest.raises(PacketError):
        publish(made(Publish("t", b"", 0, False, 0, []), properties))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        text("t"),
        text("") + b"\x00",
        b"\x00\x02\xff\xfe\x00",
        text("t") + b"\x05",
        text("t") + b"\x80\x80\x80\x80\x01",
        text("t") + b"\x02\x26\x00",
        text("t") + b"\x05\x26\x00\x01\xff\x00\x00",
        text("t") + b"\x01\x02",
        text("t") + b"\x02\x0b\x80",
        text("t") + b"\x05\x08\x00\x02\xff\xfe",
        text("t") + b"\x01\x08",
        text("t") + b"\x02\x09\x00",
        text("t") + b"\x04\x08\x00\x05a",
        text("t") + b"\x04\x09\x00\x02a" + b"payload",
    ],
)
def test_a_publish_that_breaks_the_protocol_is_one_typed_error(body: bytes) -> None:
    with pytest.raises(PacketError):
        publish(packet(0x30, body))


@pytest.mark.parametrize("first", [0x34, 0x36])
def test_other_qualities_of_service_are_refused(first: int) -> None:
    with pytest.raises(PacketError):
        publish(packet(first, text("t") + b"\x00\x01\x00"))


def test_a_packet_identifier_of_0_is_refused() -> None:
    with pytest.raises(PacketError):
        publish(packet(0x32, text("t") + b"\x00\x00\x00"))


@given(first=st.integers(0x30, 0x3F), body=st.binary(max_size=60))
@settings(max_examples=500)
def test_any_bytes_are_a_publish_or_one_typed_error(first: int, body: bytes) -> None:
    try:
        found = publish(packet(first, body))
    except PacketError:
        return
    assert found.qos in {0, 1}
    assert len(found.payload) + len(found.response_topic or "") + len(found.correlation or b"") <= len(body)


@given(whole=st.lists(publishes().map(made) | st.just(b"\xd0\x00"), max_size=8), cuts=st.data())
def test_any_cut_of_the_stream_gives_the_same_packets(whole: list[bytes], cuts: st.DataObject) -> None:
    stream, cutter, found = b"".join(whole), Cutter(LIMIT), []
    while stream:
        size = cuts.draw(st.integers(1, len(stream)))
        cutter.feed(stream[:size])
        stream = stream[size:]
        found += list(cutter.packets())
    assert found == whole


def test_whoever_stops_between_packets_goes_on_with_the_next() -> None:
    whole = [b"\xd0\x00", b"\xd0\x01a", b"\xd0\x01b"]
    cutter = Cutter(LIMIT)
    cutter.feed(b"".join(whole))
    assert [next(cutter.packets()) for _ in whole] == whole
    assert list(cutter.packets()) == []


def test_a_packet_over_the_limit_is_refused_before_it_has_come() -> None:
    cutter = Cutter(1000)
    cutter.feed(b"\x30" + number(998))
    with pytest.raises(PacketError):
        list(cutter.packets())


def test_a_packet_at_the_limit_is_taken() -> None:
    cutter = Cutter(1000)
    cutter.feed(b"\x30" + number(997) + bytes(997))
    assert [len(each) for each in cutter.packets()] == [1000]


@given(st.binary(max_size=40))
def test_a_length_of_more_than_four_bytes_is_refused(tail: bytes) -> None:
    cutter = Cutter(LIMIT)
    cutter.feed(b"\x30\xff\xff\xff\xff" + tail)
    with pytest.raises(PacketError):
        list(cutter.packets())


def test_an_acknowledgement_is_four_bytes() -> None:
    assert puback(0x1234) == b"\x40\x02\x12\x34"
