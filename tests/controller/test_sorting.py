"""Bad input on any topic is one reason and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.sorting import sort
from policy.situation import ClockQuality
from protocol import events, packing, topics
from protocol.health import Health
from protocol.status import GateState, LaneState, LaneStatus, Online


def nobody(_gate: str) -> None:
    """No gate is enrolled."""


EVT = topics.event("hq", "gate-1")


@dataclass(frozen=True, slots=True)
class Sent:
    topic: str
    payload: bytes


def changed(record: bytes, **fields: Any) -> bytes:
    return json.dumps({**json.loads(record), **fields}).encode()


def test_each_leaf_goes_its_way(journal: Any) -> None:
    online = Online(True, "b1")
    state = GateState("b1", "e1", 1, (LaneStatus("l1", "in", LaneState.SECURED),))
    health = Health("b1", "0.1", 1, ClockQuality.SYNCED, 0, 0, "1")
    done = sort(
        [
            Sent(EVT, journal.write(1)[0]),
            Sent(topics.online("hq", "gate-1"), online.encode()),
            Sent(topics.state("hq", "gate-1"), state.encode()),
            Sent(topics.health("hq", "gate-2"), health.encode()),
        ],
        "hq",
        nobody,
    )
    assert [record.event.seq for record in done.batch.records] == [1]
    assert done.batch.heard == {"gate-1", "gate-2"}
    assert list(done.batch.onlines) == [("gate-1", online)]
    assert done.batch.heads == {"gate-1": ("e1", 1)}
    assert (done.states, done.healths) == ({"gate-1": state}, {"gate-2": health})
    assert done.batch.poison == []


def test_births_and_wills_of_a_batch_keep_their_order() -> None:
    topic = topics.online("hq", "gate-1")
    done = sort([Sent(topic, Online(on, "b1").encode()) for on in (True, False)], "hq", nobody)
    assert done.batch.onlines == [("gate-1", Online(True, "b1")), ("gate-1", Online(False, "b1"))]


def test_every_kind_of_bad_message_has_its_reason(journal: Any) -> None:
    [good] = journal.write(1)
    cases = {
        "not_an_event": Sent(EVT, b"\x00junk"),
        "too_large": Sent(EVT, b" " * (events.MAX_RECORD_BYTES + 1)),
        "wrong_gate": Sent(topics.event("hq", "gate-2"), good),
        "bad_epoch": Sent(EVT, changed(good, id="gate-1/e 1/1")),
        "bad_time": Sent(EVT, changed(good, time="yesterday")),
        "bad_topic": Sent(topics.event("elsewhere", "gate-1"), good),
        "not_a_status": Sent(topics.state("hq", "gate-1"), good),
    }
    done = sort(list(cases.values()), "hq", nobody)
    assert [poison.reason for poison in done.batch.poison] == list(cases)
    assert done.batch.records == []
    assert done.batch.heard == frozenset()


@pytest.mark.parametrize(
    "time",
    ["2026-11-24T09:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1999-01-01T00:00:00Z", "24 Nov"],
)
def test_a_time_that_names_no_sensible_instant_is_set_aside(journal: Any, time: str) -> None:
    done = sort([Sent(EVT, changed(journal.write(1)[0], time=time))], "hq", nobody)
    assert [poison.reason for poison in done.batch.poison] == ["bad_time"]


def test_bad_messages_are_not_in_the_way_of_good_ones(journal: Any) -> None:
    records = journal.write(3)
    messages = [Sent(EVT, payload) for record in records for payload in (b"", b"[]", record, b"{" * 5000)]
    done = sort(messages, "hq", nobody)
    assert [record.event.raw for record in done.batch.records] == records
    assert len(done.batch.poison) == 9


@pytest.mark.parametrize("topic", [EVT, topics.alarm("hq", "gate-1")])
def test_a_batch_gives_the_exact_bytes_of_each_record(journal: Any, topic: str) -> None:
    records = journal.write(5)
    done = sort([Sent(topic, packing.pack(records)), Sent(topic, records[0])], "hq", nobody)
    assert [record.event.raw for record in done.batch.records] == [*records, records[0]]
    assert [record.hash for record in done.batch.records[:5]] == [events.record_hash(raw) for raw in records]


def test_one_bad_record_of_a_batch_is_set_aside_alone(journal: Any, new_journal: type[Any]) -> None:
    records = journal.write(4)
    other = new_journal("gate-2").write(1)[0]
    bad = [b"{}", b"", b"[]", other, changed(records[0], time="x"), b" " * (events.MAX_RECORD_BYTES + 1)]
    mixed = [each for pair in zip(bad, [*records, *records], strict=False) for each in pair]
    done = sort([Sent(EVT, packing.pack(mixed))], "hq", nobody)
    assert [record.event.raw for record in done.batch.records] == [*records, *records[:2]]
    assert [(poison.reason, poison.payload) for poison in done.batch.poison] == list(
        zip(["not_an_event", "not_an_event", "not_an_event", "wrong_gate", "bad_time", "too_large"], bad, strict=True)
    )


@pytest.mark.parametrize("payload", [b"[", b"[]", b"[\n\n]", b"[{}]", b"[\n{}", packing.pack([b"{}"] * 101)])
def test_what_is_no_batch_of_ours_is_set_aside_whole(payload: bytes) -> None:
    [poison] = sort([Sent(EVT, payload)], "hq", nobody).batch.poison
    assert (poison.reason, poison.payload) == ("not_a_batch", payload)


def test_a_batch_of_poison_only_is_no_sign_of_its_gate() -> None:
    assert sort([Sent(EVT, packing.pack([b"{}"]))], "hq", nobody).batch.heard == frozenset()


@given(parts=st.lists(st.binary(max_size=60).filter(lambda part: b",\n" not in part), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_any_parts_of_a_batch_have_one_reason_each(parts: list[bytes]) -> None:
    payload = packing.pack(parts)
    if payload[len(b"[\n") : -len(b"\n]")].split(b",\n") != parts:  # two parts that make a break between them
        return
    done = sort([Sent(EVT, payload)], "hq", nobody)
    assert len(done.batch.poison) == (1 if payload == b"[\n\n]" else len(parts))


@pytest.mark.parametrize(
    ("time", "stored"),
    [
        ("2026-11-24T09:00:00.123Z", "2026-11-24T09:00:00.123Z"),
        ("2026-11-24T18:00:00.1239+09:00", "2026-11-24T09:00:00.123Z"),
        ("2026-11-24T09:00:00Z", "2026-11-24T09:00:00.000Z"),
        ("2026-W48-2T09:00:00.123Z", "2026-11-24T09:00:00.123Z"),
        ("20261124T090000.123+0000", "2026-11-24T09:00:00.123Z"),
    ],
)
def test_every_form_of_an_instant_is_stored_as_the_same_text(journal: Any, time: str, stored: str) -> None:
    [record] = sort([Sent(EVT, changed(journal.write(1)[0], time=time))], "hq", nobody).batch.records
    assert record.time == stored


LEAF = st.sampled_from(["evt", "alarm", "state", "online", "health", "ack", "x"])
TOPIC = LEAF.map(lambda leaf: f"pacs/1/hq/gate-1/{leaf}") | st.text(max_size=40)


@given(messages=st.lists(st.builds(Sent, TOPIC, st.binary(max_size=300)), max_size=8))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_on_any_topic_are_set_aside_with_one_reason_each(messages: list[Sent]) -> None:
    done = sort(messages, "hq", nobody)
    assert len(done.batch.poison) == len(messages)
    assert done.batch.records == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@given(change=st.data())
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_an_event_with_any_field_changed_is_taken_or_set_aside(new_journal: type[Any], change: st.DataObject) -> None:
    [good] = new_journal().write(1)
    key = change.draw(st.sampled_from(sorted(json.loads(good))))
    done = sort([Sent(EVT, changed(good, **{key: change.draw(JSON)}))], "hq", nobody)
    assert len(done.batch.poison) + len(done.batch.records) == 1
