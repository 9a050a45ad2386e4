"""Every payload on the wire: what is built parses back, anything else is one typed error."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.camera.figures import CONTROLS
from policy.situation import ClockQuality
from protocol import ack, beacon, events, fields, health, replay, status, topics
from protocol.ack import Ack
from protocol.beacon import Beacon
from protocol.events import Kind
from protocol.health import CameraHealth, Health
from protocol.replay import Replay
from protocol.status import GateState, LaneState, LaneStatus, Online

ONLINE = Online(True, "b-17")
STATE = GateState(
    "b-17", "e1", 12, (LaneStatus("l1", "in", LaneState.SECURED), LaneStatus("l2", "out", LaneState.PASSING, ("nfc",)))
)
CAMERA = CameraHealth("camera.yard", 15, 9, 7, 2, 1450, 3900, ("exposure",))
HEALTH = Health(
    "b-17", "0.1.0", 77, ClockQuality.HOLDOVER, 3, 9, "2026-11-20.3", ("camera.hall",), 900, None, (CAMERA,)
)
KEY = ec.generate_private_key(ec.SECP256R1())
REPLAY = Replay("e1", 3, 9)
ACK = Ack("e1", 7, "ab" * 32)
BEACON = Beacon(datetime(2026, 11, 24, 1, 2, 3, 456000, tzinfo=UTC), 7)
EVENT = events.build(
    site="hq",
    gate="gate-1",
    epoch="e1",
    seq=1,
    kind=Kind.ACCESS_GRANTED,
    time=datetime(2026, 11, 24, tzinfo=UTC),
    prevhash=events.GENESIS,
    data={"lane": "l1"},
)
PARSERS: dict[str, tuple[Callable[[bytes], object], bytes, int]] = {
    "online": (status.parse_online, ONLINE.encode(), status.MAX_ONLINE_BYTES),
    "state": (status.parse_state, STATE.encode(), status.MAX_STATE_BYTES),
    "health": (health.parse, HEALTH.encode(), health.MAX_BYTES),
    "ack": (
        partial(ack.parse, site="hq", gate="gate-1", signer=KEY.public_key()),
        ACK.encode("hq", "gate-1", KEY),
        ack.MAX_BYTES,
    ),
    "replay": (
        partial(replay.parse, site="hq", gate="gate-1", signer=KEY.public_key()),
        REPLAY.encode("hq", "gate-1", KEY),
        replay.MAX_BYTES,
    ),
    "time": (beacon.parse, BEACON.encode(), beacon.MAX_BYTES),
    "event": (events.parse, EVENT, events.MAX_RECORD_BYTES),
}
parsers = pytest.mark.parametrize("name", PARSERS)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def test_what_is_built_parses_back() -> None:
    assert status.parse_online(ONLINE.encode()) == ONLINE
    assert status.parse_state(STATE.encode()) == STATE
    assert health.parse(HEALTH.encode()) == HEALTH
    assert ack.parse(ACK.encode("hq", "gate-1", KEY), "hq", "gate-1", KEY.public_key()) == ACK
    assert replay.parse(REPLAY.encode("hq", "gate-1", KEY), "hq", "gate-1", KEY.public_key()) == REPLAY
    assert beacon.parse(BEACON.encode()) == BEACON
    event = events.parse(EVENT)
    assert (event.id, event.kind, event.raw) == ("gate-1/e1/1", Kind.ACCESS_GRANTED, EVENT)


@parsers
@given(raw=st.binary(max_size=400))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_are_one_typed_error(name: str, raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        PARSERS[name][0](raw)


@parsers
@given(change=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_changed_field_is_taken_or_refused_never_worse(name: str, change: st.DataObject) -> None:
    parse, good, _ = PARSERS[name]
    body = json.loads(good)
    key = change.draw(st.sampled_from(sorted(body)))
    body[key] = change.draw(JSON)
    with contextlib.suppress(ValueError):
        parse(json.dumps(body).encode())


@parsers
def test_a_missing_field_is_refused(name: str) -> None:
    parse, good, _ = PARSERS[name]
    body = json.loads(good)
    optional = {"disk_free_mb", "rss_mb", "cameras", "source", "datacontenttype"}
    for key in body.keys() - optional:
        with pytest.raises(ValueError, match=r"."):
            parse(json.dumps({other: value for other, value in body.items() if other != key}).encode())


@parsers
def test_too_long_too_deep_and_huge_numbers_are_refused(name: str) -> None:
    parse, good, limit = PARSERS[name]
    for raw in (good + b" " * limit, b"[" * limit, b'{"v":' * (limit // 6), b"9" * limit, b'{"v":1e999}', b"\xff\xfe"):
        with pytest.raises(ValueError, match=r"."):
            parse(raw)


def test_the_health_of_an_agent_without_camera_figures_is_taken() -> None:
    body = json.loads(HEALTH.encode())
    del body["cameras"]
    assert health.parse(json.dumps(body).encode()) == replace(HEALTH, cameras=())


def test_the_health_of_the_fullest_gate_fits() -> None:
    name = "x" * 64
    camera = CameraHealth(name, 60, 9_999, 9_999, 9_999, 9_999_999, 9_999_999, CONTROLS)
    full = Health(
        name, name, 2**40, ClockQuality.HOLDOVER, 2**40, 2**40, name, (name,) * 64, 2**40, 2**40, (camera,) * 128
    )
    assert health.parse(full.encode()) == full


@pytest.mark.parametrize("name", ["online", "state", "health"])
def test_a_field_nobody_has_looked_at_is_refused(name: str) -> None:
    parse, good, _ = PARSERS[name]
    with pytest.raises(fields.PayloadError, match="unknown"):
        parse(json.dumps({**json.loads(good), "holder": "x"}).encode())


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("online", "online", 1),
        ("online", "boot", "a b"),
        ("online", "v", 2),
        ("online", "v", True),
        ("state", "seq", -1),
        ("state", "seq", True),
        ("state", "seq", 2**63),
        ("state", "lanes", [{"lane": "l1", "dir": "in", "state": "ajar", "degraded": []}]),
        ("state", "lanes", [{"lane": "l1", "dir": "up", "state": "secured", "degraded": []}]),
        ("state", "lanes", [{"lane": "l1", "dir": "in", "state": "secured", "degraded": []}] * 2),
        ("state", "lanes", [{"lane": f"l{n}", "dir": "in", "state": "secured", "degraded": []} for n in range(129)]),
        ("health", "clock", "fine"),
        ("health", "degraded", ["x"] * 65),
        ("health", "outbox", 1.5),
        ("health", "cameras", [{**CAMERA.body(), "read": 10}]),
        ("health", "cameras", [{**CAMERA.body(), "mean_us": 1.5}]),
        ("health", "cameras", [{**CAMERA.body(), "payload": "x"}]),
        ("health", "cameras", [{"camera": "camera.yard"}]),
        ("health", "cameras", [CAMERA.body()] * 129),
        ("health", "cameras", None),
        ("ack", "seq", 0),
        ("ack", "seq", True),
        ("ack", "hash", "ab"),
        ("time", "t", "2026-11-24T01:02:03Z"),
        ("time", "t", "2026-11-24T01:02:03.456+09:00"),
        ("time", "t", "2026-02-30T01:02:03.456Z"),
        ("time", "t", 1764000000),
        ("time", "seq", 0),
    ],
)
def test_a_value_out_of_bounds_is_refused(name: str, field: str, value: Any) -> None:
    parse, good, _ = PARSERS[name]
    with pytest.raises(ValueError, match=r"."):
        parse(json.dumps({**json.loads(good), field: value}).encode())


@given(topic=st.text(max_size=80))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_topic_is_ours_or_refused(topic: str) -> None:
    try:
        gate = topics.gate_of(topic)
    except ValueError:
        return
    assert topics.ID.fullmatch(gate)


def test_what_is_said_to_all_gates_is_no_gates_topic() -> None:
    assert topics.time("hq") == "pacs/1/hq/all/time"
    with pytest.raises(ValueError, match="topic"):
        topics.gate_of(topics.time("hq"))
