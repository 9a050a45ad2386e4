"""docs/events.md and docs/asyncapi.yaml say what the code says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from controller import acl
from controller.batch import What
from policy.situation import ClockQuality
from protocol import (
    ack,
    beacon,
    command,
    emergency,
    events,
    fields,
    health,
    packing,
    replay,
    statement,
    status,
    topics,
    zone,
)
from protocol.ack import Ack
from protocol.beacon import Beacon
from protocol.command import Answer, Asked, CommandVerb, Refused
from protocol.emergency import Emergency
from protocol.events import Kind
from protocol.health import CameraHealth, Health
from protocol.replay import Replay
from protocol.status import GateState, LaneState, LaneStatus, Online

CHECKOUT = Path(__file__).resolve().parents[2]
EVENTS_MD = (CHECKOUT / "docs" / "events.md").read_text(encoding="utf-8")
LEAVES: dict[str, Callable[[str, str], str]] = {
    "event": topics.event,
    "state": topics.state,
    "online": topics.online,
    "health": topics.health,
    "alarm": topics.alarm,
    "ack": topics.ack,
    "replay": topics.replay,
    "command": topics.command,
    "result": topics.result,
    "emergency": lambda site, _gate: topics.emergency(site),
    "time": lambda site, _gate: topics.time(site),
    "zoneTag": lambda site, gate: topics.zone_tag(site, gate, "{zone}"),
}
KEY = ec.generate_private_key(ec.SECP256R1())
CONTROLLER = CHECKOUT / "controller"
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def read_yaml(lines: list[str]) -> Any:
    """The block style that asyncapi.yaml keeps to: two-space mappings, lists, plain and quoted scalars, folded text."""
    if not lines:
        return None
    indent = len(lines[0]) - len(lines[0].lstrip())
    if lines[0].lstrip().startswith("- "):
        return [_item(line.strip()[2:]) for line in lines]
    found: dict[str, Any] = {}
    at = 0
    while at < len(lines):
        key, _, rest = lines[at].strip().partition(":")
        end = at + 1
        while end < len(lines) and len(lines[end]) - len(lines[end].lstrip()) > indent:
            end += 1
        assert key not in found, f"{key} twice"
        rest = rest.strip()
        found[key] = read_yaml(lines[at + 1 : end]) if not rest else _scalar(rest)
        at = end
    return found


def _item(text: str) -> Any:
    key, colon, rest = text.partition(": ")
    return {key: _scalar(rest)} if colon else _scalar(text)


def _scalar(text: str) -> Any:
    if text.startswith("["):
        return [_scalar(each.strip()) for each in text.strip("[]").split(",")]
    if text[0] in "'\"":
        return text[1:-1]
    if text.lstrip("-").isdigit():
        return int(text)
    return {"true": True, "false": False}.get(text, text)


@pytest.fixture(scope="module")
def api() -> Any:
    text = (CHECKOUT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8")
    return read_yaml([line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")])


def test_asyncapi_has_every_topic_with_its_address(api: Any) -> None:
    assert {name: channel["address"] for name, channel in api["channels"].items()} == {
        name: leaf("{site}", "{gate}") for name, leaf in LEAVES.items()
    }


def test_asyncapi_has_every_event(api: Any) -> None:
    listed = api["components"]["schemas"]["record"]["properties"]["type"]["enum"]
    assert listed == [events.TYPE_PREFIX + kind for kind in Kind]


def test_asyncapi_has_every_enumerated_word_and_limit(api: Any) -> None:
    schemas = api["components"]["schemas"]
    assert schemas["lane"]["properties"]["state"]["enum"] == list(LaneState)
    assert schemas["health"]["properties"]["clock"]["enum"] == list(ClockQuality)
    assert schemas["word"]["pattern"] == f"^{fields.WORD.pattern}$"
    assert schemas["state"]["properties"]["lanes"]["maxItems"] == status.MAX_LANES
    assert schemas["lane"]["properties"]["degraded"]["maxItems"] == status.MAX_DEGRADED
    assert schemas["health"]["properties"]["degraded"]["maxItems"] == health.MAX_DEGRADED
    assert schemas["health"]["properties"]["cameras"]["maxItems"] == health.MAX_CAMERAS
    assert schemas["camera"]["properties"]["refused"]["maxItems"] == health.MAX_REFUSED
    assert schemas["time"]["properties"]["t"]["pattern"] == f"^{beacon.TIME.pattern}$"
    assert api["operations"]["receiveTime"]["bindings"]["mqtt"]["messageExpiryInterval"] == beacon.EXPIRY_S
    assert api["operations"]["sendHealth"]["bindings"]["mqtt"]["messageExpiryInterval"] == health.EXPIRY_S
    for name in ("receiveCommand", "sendResult"):
        assert api["operations"][name]["bindings"]["mqtt"]["messageExpiryInterval"] == command.EXPIRY_S
    assert schemas["sealedOrder"]["maxLength"] == command.MAX_SEALED
    assert schemas["result"]["properties"]["results"]["maxProperties"] == command.MAX_RESULTS
    assert schemas["emergency"]["properties"]["levels"]["maxProperties"] == emergency.MAX_ZONES
    assert schemas["batch"]["maxItems"] == packing.MAX_RECORDS
    assert f"{packing.MAX_BYTES} bytes" in (CHECKOUT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8")
    assert schemas["sealed"]["maxLength"] == statement.MAX_SEALED
    assert api["operations"]["receiveReplay"]["bindings"]["mqtt"]["messageExpiryInterval"] == replay.EXPIRY_S
    assert schemas["zoneTag"]["minLength"] == schemas["zoneTag"]["maxLength"] == zone.SIZE


def test_asyncapi_has_every_field_of_every_payload(api: Any) -> None:
    lane = LaneStatus("l1", "in", LaneState.SECURED)
    state = json.loads(GateState("b", "e", 1, (lane,)).encode())
    payloads = {
        "online": json.loads(Online(True, "b").encode()),
        "state": state,
        "lane": state["lanes"][0],
        "health": json.loads(Health("b", "1", 1, ClockQuality.SYNCED, 0, 0, "1").encode()),
        "camera": CameraHealth("camera.hall", 15, 3, 2, 0, 1500, 3500).body(),
        "ack": json.loads(Ack("e", 1, "0" * 64).encode("s", "g", KEY)),
        "replay": json.loads(Replay("e", 1, 1).encode("s", "g", KEY)),
        "emergency": json.loads(Emergency("s", 1, NOW, NOW, {"z": 1}).encode(KEY)),
        "time": json.loads(Beacon(datetime(2026, 11, 24, tzinfo=UTC), 1).encode()),
    }
    for name, payload in payloads.items():
        schema = api["components"]["schemas"][name]
        assert list(schema["properties"]) == list(payload), name
        assert set(schema["required"]) == {key for key, value in payload.items() if value is not None}, name


def test_asyncapi_has_every_form_of_an_order_and_of_an_answer(api: Any) -> None:
    sealed = command.seal(b"", KEY)
    answers = [Answer("c", bytes(16)), Answer("c", refused="late"), Answer("c", results={"l": None})]
    forms = {
        "command": [Asked("c").encode(), command.order("c", sealed, sealed)],
        "result": [each.encode() for each in answers],
    }
    for name, payloads in forms.items():
        schema = api["components"]["schemas"][name]
        keys = [set(json.loads(each)) for each in payloads]
        assert set(schema["properties"]) == set.union(*keys), name
        assert set(schema["required"]) == set.intersection(*keys), name


def test_the_orders_page_has_every_verb_and_every_reason() -> None:
    page = (CHECKOUT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^\| `(\w+)` \|[^|]+\|[^|]*\|[^|]+\|$", page) == list(CommandVerb)
    reasons = re.findall(r"(?m)^\| (`[^|]+`) \| [^|]+ \|$", page)
    found = re.findall(r"`(\w+)`", " ".join(reasons))
    assert set(found) - {"why"} == {
        *Refused,
        "lockdown",
        "out_of_service",
        "lane_busy",
        "nothing_to_do",
        "record_unavailable",
    }
    assert [each for each in found if each in set(Refused)] == list(Refused)


def test_asyncapi_references_lead_somewhere(api: Any) -> None:
    text = (CHECKOUT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8")
    references = re.findall(r"\$ref: '#/([\w/]+)'", text)
    assert len(references) > 20
    for reference in references:
        place = api
        for part in reference.split("/"):
            place = place[part]
        assert place


def table(after: str) -> list[list[str]]:
    """Rows of the first table behind a heading of events.md."""
    text = EVENTS_MD.split(f"## {after}\n", 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert rows is not None
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in rows[0].splitlines()[2:]]


def test_the_event_table_has_every_event_in_order_with_all_columns() -> None:
    rows = table("Names")
    assert [row[0].strip("` ") for row in rows] == list(Kind)
    assert all(len(row) == 4 and all(row) for row in rows)


def test_the_topic_table_has_every_topic() -> None:
    assert [row[0].strip("` ") for row in table("Topics")] == [
        topics.event("<site>", "<gate>"),
        topics.alarm("<site>", "<gate>"),
        topics.state("<site>", "<gate>"),
        topics.online("<site>", "<gate>"),
        topics.health("<site>", "<gate>"),
        topics.ack("<site>", "<gate>"),
        topics.replay("<site>", "<gate>"),
        topics.command("<site>", "<gate>"),
        topics.result("<site>", "<gate>"),
        topics.emergency("<site>"),
        topics.time("<site>"),
        topics.zone_tag("<site>", "<gate>", "<zone>"),
    ]


def test_the_health_tables_have_every_field() -> None:
    body = json.loads(Health("b", "1", 1, ClockQuality.SYNCED, 0, 0, "1").encode())
    assert [row[0].strip("` ") for row in table("Health")] == list(body)
    camera = CameraHealth("camera.hall", 15, 3, 2, 0, 1500, 3500).body()
    assert [row[0].strip("` ") for row in table("Cameras")] == list(camera)


def test_the_envelope_table_has_every_attribute() -> None:
    raw = events.build(
        site="hq",
        gate="g",
        epoch="e",
        seq=1,
        kind=Kind.GATE_BOOT,
        time=datetime(2026, 11, 24, tzinfo=UTC),
        prevhash=events.GENESIS,
        data={},
    )
    assert [row[0].strip("` ") for row in table("Envelope")] == list(json.loads(raw))


def test_every_reason_for_setting_aside_is_documented() -> None:
    used: set[str] = set()
    for module in ("sorting.py", "store.py"):
        text = (CONTROLLER / module).read_text(encoding="utf-8")
        used |= set(re.findall(r'(?:_SetAsideError\(|Poison\([\w.]+, )"(\w+)"', text))
    assert len(used) >= 8
    for reason in used:
        assert f"`{reason}`" in EVENTS_MD, reason


def test_every_alarm_of_the_controller_is_documented_and_no_other() -> None:
    table = (CHECKOUT / "docs" / "ingest.md").read_text(encoding="utf-8").partition("## 경보")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| [^|]+ \| `(\w+)` \|", table, re.MULTILINE))
    assert documented == set(What)


def test_the_documented_limit_of_a_record_is_the_real_one() -> None:
    assert f"at most {events.MAX_RECORD_BYTES} bytes" in EVENTS_MD
    assert ack.MAX_BYTES < health.MAX_BYTES <= status.MAX_STATE_BYTES


def test_every_leaf_has_exactly_one_writer_in_the_access_list() -> None:
    writers: dict[str, list[str]] = {}
    user = ""
    for line in acl.render("hq", ["gate-1"]).splitlines():
        word, *rest = line.split() or ["#"]
        if word == "user":
            [user] = rest
        elif word == "topic":
            right, topic = rest
            assert right in {"read", "write"}
            assert "#" not in topic
            if right == "write":
                writers.setdefault(topic.rsplit("/", 1)[1], []).append(user)
    assert writers == {
        "evt": ["gate-1"],
        "alarm": ["gate-1"],
        "state": ["gate-1"],
        "online": ["gate-1"],
        "health": ["gate-1"],
        "ack": ["controller"],
        "replay": ["controller"],
        "cmd": ["controller"],
        "res": ["gate-1"],
        "emergency": ["controller"],
        "time": ["controller"],
        "tag": ["gate-1"],
    }
