"""The read API: what it tells, what it never tells, and how it says what is wrong with a question."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.api_parameters import MAX_LIMIT
from controller.pages import Condition
from protocol.events import TIMED, Kind
from tests.controller.api_building import Building, K
from tests.controller.conftest import Journal

HOUR = "since=2026-11-24T09:00:00Z&until=2026-11-24T10:00:00Z"


@pytest.fixture
async def building(tmp_path: Path) -> AsyncIterator[Building]:
    async with Building(tmp_path) as found:
        found.furnish()
        yield found


async def test_gates_are_told_as_they_are_now(building: Building) -> None:
    one, two = (await building.get("/gates")).json()["gates"]
    assert (one["gate"], one["online"], one["health"]["degraded"]) == ("gate-1", True, ["camera.hall"])
    assert [(lane["lane"], lane["state"]) for lane in one["lanes"]] == [("l1", "secured"), ("l2", "out_of_service")]
    assert (two["gate"], two["online"], two["health"]) == ("gate-2", False, None)
    assert (await building.get("/gates/gate-1")).json() == one


async def test_a_health_that_is_too_old_is_not_told(building: Building) -> None:
    building.clock.at += timedelta(hours=1)
    assert (await building.get("/gates/gate-1")).json()["health"] is None


async def test_no_count_of_records_is_told_from_which_passages_could_be_counted(building: Building) -> None:
    text = (await building.get("/gates")).text + (await building.get(f"/events?{HOUR}")).text
    for name in ('"mark"', '"seq"', '"epoch"', '"arrival"', '"attempt"', '"id"'):
        assert name not in text, name


async def test_the_timeline_never_tells_when_somebody_walked(building: Building, new_journal: type[Journal]) -> None:
    journal = new_journal("gate-3")
    for kind in Kind:
        building.feed("gate-3", journal.write(1, kind=kind))
    found = (await building.get(f"/events?{HOUR}&limit=500&gate=gate-3")).json()["events"]
    assert {event["kind"] for event in found} == set(Kind) - TIMED
    for kind in TIMED:
        assert (await building.get(f"/events?{HOUR}&kind={kind}")).json()["events"] == []


async def test_events_are_paged_newest_first_and_none_is_missing_or_told_twice(building: Building) -> None:
    whole = (await building.get(f"/events?{HOUR}")).json()["events"]
    assert len(whole) == 6
    assert [event["time"] for event in whole] == sorted((event["time"] for event in whole), reverse=True)
    answer = await building.get(f"/events?{HOUR}&limit=1")
    found = answer.json()["events"]
    while "link" in answer.headers:
        target = answer.headers["link"].removeprefix("<").partition(">")[0]
        answer = await building.client.get(target)
        found += answer.json()["events"]
    assert found == whole
    assert answer.json()["next"] is None


async def test_a_page_goes_on_where_it_was_although_time_goes_on(building: Building) -> None:
    """Without since and until the next page is of the same day, not of the day before a later now."""
    answer = await building.get("/events?limit=3")
    building.clock.at += timedelta(days=2)
    target = answer.headers["link"].removeprefix("<").partition(">")[0]
    assert len((await building.client.get(target)).json()["events"]) == 3


async def test_events_are_filtered_by_gate_lane_and_kind(building: Building) -> None:
    async def kinds(query: str) -> list[str]:
        return [event["kind"] for event in (await building.get(f"/events?{HOUR}&{query}")).json()["events"]]

    assert await kinds("gate=gate-2") == ["access.denied"]
    assert await kinds("gate=gate-2&lane=l1") == []
    assert await kinds("kind=device.degraded") == ["device.degraded"]
    assert len(await kinds("kind=device.degraded&kind=access.denied")) == 4


async def test_a_count_below_k_is_left_out(building: Building) -> None:
    building.clock.at += timedelta(hours=1)
    answer = (await building.get(f"/traffic?{HOUR}&gate=gate-1")).json()
    assert [(cell["begin"], cell["n"]) for cell in answer["cells"]] == [("2026-11-24T09:00:00.000Z", K + 1)]
    assert (answer["k"], answer["step"]) == (K, "quarter")
    assert (await building.get(f"/traffic?{HOUR}&gate=gate-2")).json()["cells"] == []


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("", "*/*", "application/json"),
        ("", "text/csv", "text/csv; charset=utf-8"),
        ("", "text/html, text/csv;q=0.5, application/json;q=0.1", "text/csv; charset=utf-8"),
        ("", "application/json, text/csv", "application/json"),
        ("&format=csv", "application/json", "text/csv; charset=utf-8"),
        ("&format=json", "text/csv", "application/json"),
    ],
)
async def test_a_report_is_json_or_csv_as_it_is_asked_for(
    building: Building, query: str, accept: str, kind: str
) -> None:
    building.clock.at += timedelta(hours=1)
    answer = await building.get(f"/reports/passages?{HOUR}&gate=gate-1{query}", Accept=accept)
    assert answer.headers["content-type"] == kind
    if kind.startswith("text/csv"):
        header, *rows = csv.reader(io.StringIO(answer.content.decode("utf-8-sig")))
        assert header[0].startswith("시작")
        assert ["2026-11-24 18:00", "gate-1", "l1", "in", str(K + 1)] in rows
    else:
        assert answer.json()["rows"][0] == {
            "begin": "2026-11-24T09:00:00.000Z",
            "gate": "gate-1",
            "lane": "l1",
            "dir": "in",
            "passages": K + 1,
        }


async def test_refusals_are_told_with_their_wording(building: Building) -> None:
    answer = (await building.get("/refusals")).json()["refusals"]
    assert [(each["reason"], each["n"]) for each in answer] == [("revoked", 2), ("expired", 1)]
    assert all(each["ko"] != each["en"] for each in answer)


async def test_latency_and_occupancy_are_answered_where_there_is_nothing_to_tell(building: Building) -> None:
    assert (await building.get("/latency")).json() == {"stage": "ours", "p50": None, "p95": None, "p99": None}
    assert (await building.get("/occupancy")).json()["zones"] == []
    muster = (await building.get("/muster")).json()
    assert [gate["gate"] for gate in muster["gates"] if gate["why"] == "offline"] == ["gate-2"]


async def test_alarms_and_orders_name_no_operator(building: Building) -> None:
    for path in ("/alarms", "/alarms/1", "/alarms/2", "/orders"):
        answer = await building.get(path)
        assert answer.status_code == 200
        assert "Gildong" not in answer.text, path
    [order] = (await building.get("/orders")).json()["orders"]
    assert (order["id"], order["role"], order["outcome"]) == ("c-1", "guard", "done")


async def test_alarms_are_paged_and_filtered_by_state_and_gate(building: Building) -> None:
    async def ids(query: str) -> list[int]:
        return [alarm["alarm"] for alarm in (await building.get(f"/alarms?{query}")).json()["alarms"]]

    whole = await ids("limit=500")
    assert whole == sorted(whole, reverse=True)
    assert len(whole) == 4
    found: list[int] = []
    after: str | None = ""
    while after is not None:
        body = (await building.get(f"/alarms?limit=3{after}")).json()
        found += [alarm["alarm"] for alarm in body["alarms"]]
        after = body["next"] and f"&after={body['next']}"
    assert found == whole
    assert await ids("state=acknowledged") == [2]
    assert await ids("state=open") == whole
    assert await ids("state=closed") == []
    assert await ids("gate=gate-3") == []


async def test_an_alarm_comes_with_its_history_and_its_words(building: Building) -> None:
    found = (await building.get("/alarms/2")).json()
    assert [change["change"] for change in found["history"]] == ["raised", "acknowledged"]
    assert (found["alarm"], found["state"]) == (2, "acknowledged")
    assert found["name"]["ko"] != found["name"]["en"]


@pytest.mark.parametrize(
    "path", ["/alarms/99", "/alarms/0", "/alarms/x", "/alarms/" + "9" * 30, "/gates/nobody", "/no"]
)
async def test_what_is_not_there_is_404_in_the_one_form_of_an_error(building: Building, path: str) -> None:
    answer = await building.get(path)
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "not_found"
    assert error["ko"] != error["en"]


WRONG: dict[str, str] = {
    "since=yesterday": "since",
    "since=2026-11-24T09:00:00": "since",
    "since=2026-02-30T09:00:00Z": "since",
    "since=0001-01-01T00:00:00Z": "since",
    "since=2026-11-24T09:00:00%2B25:00": "since",
    "until=": "until",
    "since=2026-11-24T09:00:00Z&until=2026-11-24T09:00:00Z": "since",
    "limit=0": "limit",
    f"limit={MAX_LIMIT + 1}": "limit",
    "limit=ten": "limit",
    "limit=%EF%BC%91": "limit",
    "limit=" + "9" * 400: "limit",
    "after=x": "after",
    "after=" + "A" * 100: "after",
    "gate=a%20b": "gate",
    "gate=": "gate",
    "gate=a&gate=b": "gate",
    "kind=" + "k" * 65: "kind",
    "colour=red": "colour",
    "%00=1": "\x00",
}


@pytest.mark.parametrize("query", WRONG)
async def test_a_wrong_parameter_is_named(building: Building, query: str) -> None:
    answer = await building.get(f"/events?{query}")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert WRONG[query] in error["ko"]
    assert WRONG[query] in error["en"]
    assert error["code"] in {"wrong_parameter", "unknown_parameter"}


@pytest.mark.parametrize(
    "target",
    [
        "/traffic?step=quarter&since=2026-01-01T00:00:00Z&until=2026-11-24T00:00:00Z",
        "/traffic?step=day&since=2020-01-01T00:00:00Z&until=2026-11-24T00:00:00Z",
        "/latency?since=2020-01-01T00:00:00Z",
        "/refusals?since=2020-01-01T00:00:00Z",
    ],
)
async def test_a_range_that_is_too_long_is_refused(building: Building, target: str) -> None:
    answer = await building.get(target)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "wrong_parameter")


@pytest.mark.parametrize("path", ["/gates", "/health", "/occupancy", "/muster", "/gates/gate-1", "/alarms/1"])
async def test_a_parameter_where_none_is_expected_is_refused(building: Building, path: str) -> None:
    assert (await building.get(f"{path}?verbose=1")).status_code == 400


async def test_another_method_is_405_and_told_which_are_allowed(building: Building) -> None:
    for path in ("/gates", "/events", "/orders"):
        answer = await building.client.request("DELETE", f"/api/v1{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
        assert {each.strip() for each in answer.headers["allow"].split(",")} == {"GET", "HEAD"}


async def test_head_is_get_without_a_body(building: Building) -> None:
    for path in ("/gates", f"/events?{HOUR}", "/stream"):
        answer = await building.client.head(f"/api/v1{path}")
        assert (answer.status_code, answer.content) == (200, b"")


async def test_health_says_what_is_missing(building: Building) -> None:
    assert (await building.get("/health")).json() == {"broker": True, "store": True, "gates": 2, "online": 1}
    building.condition = Condition(False, True)
    assert (await building.get("/health")).status_code == 503


async def test_a_store_that_cannot_be_read_is_503_with_a_time_to_come_back(
    building: Building, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(building.queries, "refusals", broken)
    answer = await building.get("/refusals")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store")
    assert int(answer.headers["retry-after"]) > 0


HOSTILE: list[Any] = ["\ud800", float("nan"), float("inf"), "<script>", {"a": [1]}, [[[[[[[["deep"]]]]]]]], 10**40]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
async def test_what_a_gate_writes_into_its_data_spoils_no_answer_and_no_stream(
    building: Building, new_journal: type[Journal], value: Any
) -> None:
    record = new_journal("gate-4").write(1, kind=Kind.LANE_FAULT, detail="REPLACED", lane="l1")[0]
    record = record.replace(b'"REPLACED"', json.dumps(value).encode())
    building.feed("gate-4", [record])
    answer = await building.get(f"/events?{HOUR}&gate=gate-4")
    assert answer.status_code == 200
    assert [event["kind"] for event in answer.json()["events"]] == ["lane.fault"]
    assert building.stream.ring.end > 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["since", "until", "after", "limit", "gate", "lane", "kind", "step", "format", "x"]),
    value=st.text(max_size=40),
    path=st.sampled_from(["/events", "/traffic", "/latency", "/alarms", "/reports/passages", "/stream", "/orders"]),
)
async def test_whatever_is_asked_is_an_answer_of_ours(building: Building, path: str, name: str, value: str) -> None:
    if path == "/stream":
        answer = await building.client.head(f"/api/v1{path}", params={name: value})
    else:
        answer = await building.client.get(f"/api/v1{path}", params={name: value})
    assert answer.status_code in {200, 400}
