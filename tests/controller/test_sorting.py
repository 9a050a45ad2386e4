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
from protocol import events, topics
from protocol.health import Health
from protocol.status import GateState, LaneState, LaneStatus, Online

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
    )
    assert [record.event.seq for record in done.batch.records] == [1]
    assert done.batch.seen == {"gate-1": online, "gate-2": None}
    assert (done.states, done.healths) == ({"gate-1": state}, {"gate-2": health})
    assert done.batch.poison == []


def test_the_last_birth_or_will_of_a_batch_counts() -> None:
    topic = topics.online("hq", "gate-1")
    done = sort([Sent(topic, Online(on, "b1").encode()) for on in (True, False)], "hq")
    assert done.batch.seen == {"gate-1": Online(False, "b1")}


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
    done = sort(list(cases.values()), "hq")
    assert [poison.reason for poison in done.batch.poison] == list(cases)
    assert done.batch.records == []
    assert done.batch.seen == {}


@pytest.mark.parametrize(
    "time",
    ["2026-11-24T09:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1999-01-01T00:00:00Z", "24 Nov"],
)
def test_a_time_that_names_no_sensible_instant_is_set_aside(journal: Any, time: str) -> None:
    done = sort([Sent(EVT, changed(journal.write(1)[0], time=time))], "hq")
    assert [poison.reason for poison in done.batch.poison] == ["bad_time"]


def test_bad_messages_are_not_in_the_way_of_good_ones(journal: Any) -> None:
    records = journal.write(3)
    messages = [Sent(EVT, payload) for record in records for payload in (b"", b"[]", record, b"{" * 5000)]
    done = sort(messages, "hq")
    assert [record.event.raw for record in done.batch.records] == records
    assert len(done.batch.poison) == 9


LEAF = st.sampled_from(["evt", "state", "online", "health", "ack", "x"])
TOPIC = LEAF.map(lambda leaf: f"pacs/1/hq/gate-1/{leaf}") | st.text(max_size=40)


@given(messages=st.lists(st.builds(Sent, TOPIC, st.binary(max_size=300)), max_size=8))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_on_any_topic_are_set_aside_with_one_reason_each(messages: list[Sent]) -> None:
    done = sort(messages, "hq")
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
    done = sort([Sent(EVT, changed(good, **{key: change.draw(JSON)}))], "hq")
    assert len(done.batch.poison) + len(done.batch.records) == 1
