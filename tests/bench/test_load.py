from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import _packet
from paho.mqtt.enums import MQTTProtocolVersion

from bench import mqtt_packets as mqtt
from bench import records
from bench.load import BATCH_BYTES, batches
from bench.row import Row
from protocol import events

TOPIC = "pacs/1/bench/gate-1/evt"
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
ANSWERS = (
    bytes.fromhex("20060000032102ff"),
    bytes.fromhex("40020001"),
    bytes.fromhex("4003000210"),
    b"\x30" + mqtt.variable(210) + bytes(210),
)
"""CONNACK, PUBACK without and with a reason code, and a PUBLISH whose length takes two bytes."""


@given(
    packet_id=st.integers(1, 65535),
    payload=st.binary(max_size=300),
    kind=NAMES,
    user=st.lists(st.tuples(NAMES, NAMES), max_size=3),
)
def test_paho_reads_a_publication_as_it_was_meant(
    packet_id: int, payload: bytes, kind: str, user: list[tuple[str, str]]
) -> None:
    raw = bytearray(mqtt.publish(TOPIC, packet_id, payload, kind, user))
    (packet,) = mqtt.packets(raw)
    read = _packet.decode_publish(0x32, bytearray(packet.body), MQTTProtocolVersion.MQTTv5)
    assert (read.topic, read.mid, read.qos, bytes(read.payload)) == (TOPIC.encode(), packet_id, 1, payload)
    assert getattr(read.properties, "ContentType", None) == kind
    assert getattr(read.properties, "UserProperty", []) == user
    assert not raw


@given(cuts=st.lists(st.integers(0, sum(map(len, ANSWERS))), max_size=6))
def test_packets_come_out_the_same_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    stream = b"".join(ANSWERS)
    buffer, at = bytearray(), 0
    found: list[mqtt.Packet] = []
    for cut in [*sorted(cuts), len(stream)]:
        buffer += stream[at:cut]
        at = cut
        found += mqtt.packets(buffer)
    assert [packet.type for packet in found] == [mqtt.CONNACK, mqtt.PUBACK, mqtt.PUBACK, mqtt.PUBLISH]
    assert [mqtt.puback(packet) for packet in found[1:3]] == [1, 2]
    assert not buffer


@given(noise=st.binary(max_size=60))
def test_noise_is_packets_or_a_packet_error(noise: bytes) -> None:
    buffer = bytearray(noise)
    try:
        taken = sum(1 + len(mqtt.variable(len(packet.body))) + len(packet.body) for packet in mqtt.packets(buffer))
    except mqtt.PacketError:
        return
    assert taken <= len(noise) - len(buffer), "a length may be written longer than need be"


@pytest.mark.parametrize("check", [mqtt.check_connack, mqtt.check_suback, mqtt.puback])
def test_an_answer_cut_short_is_refused(check: Callable[[mqtt.Packet], object]) -> None:
    for kind in (mqtt.CONNACK, mqtt.SUBACK, mqtt.PUBACK):
        with pytest.raises(mqtt.PacketError):
            check(mqtt.Packet(kind, b"\0"))


@pytest.mark.parametrize("code", [0x80, 0x87, 0x97])
def test_a_refused_publication_is_no_acknowledged_one(code: int) -> None:
    with pytest.raises(mqtt.PacketError, match="publication refused"):
        mqtt.puback(mqtt.Packet(mqtt.PUBACK, bytes((0, 1, code))))


def test_a_refused_connection_is_noticed() -> None:
    with pytest.raises(mqtt.PacketError, match="connection refused"):
        mqtt.check_connack(mqtt.Packet(mqtt.CONNACK, bytes.fromhex("008700")))


def test_the_records_are_one_chain_that_the_controller_reads() -> None:
    previous = events.GENESIS
    for seq, raw in enumerate(records.chain("bench", "gate-1", 31), 1):
        event = events.parse(raw)
        assert (event.gate, event.epoch, event.seq, event.prevhash) == ("gate-1", records.EPOCH, seq, previous)
        previous = event.hash


@given(sizes=st.lists(st.integers(1, events.MAX_RECORD_BYTES), max_size=60), most=st.integers(1, 100))
def test_batches_keep_the_sequence_and_their_limits(sizes: list[int], most: int) -> None:
    chain = [bytes(size) for size in sizes]
    found = batches(chain, most)
    assert [raw for batch in found for raw in batch] == chain
    for batch in found:
        assert 1 <= len(batch) <= most
        assert len(b"[\n" + b",\n".join(batch) + b"\n]") <= BATCH_BYTES


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("", 7, "", 10, 0.7, lower=True), True),
        (Row("", 6.9, "", 10, 0.7, lower=True), False),
        (Row("", 7, "", 10, 0.7), True),
        (Row("", 7.1, "", 10, 0.7), False),
        (Row("", 5, "", None, 5, lower=True), True),
        (Row("", 4, "", None, 5, lower=True), False),
        (Row("", 4, "", None, None, lower=True), None),
    ],
)
def test_a_lower_bound_is_met_from_above_and_an_upper_one_from_below(row: Row, met: bool | None) -> None:
    assert row.met is met
