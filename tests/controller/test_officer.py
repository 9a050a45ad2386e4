"""Exact times of passages: to a security officer with a reason, and not before it is written down."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocol.events import TIMED
from tests.controller.api_building import ASKED, OFFICER, TOKEN, Building


@pytest.fixture
async def building(tmp_path: Path) -> AsyncIterator[Building]:
    async with Building(tmp_path) as found:
        found.furnish()
        yield found


def reads(building: Building) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = building.store._db.execute(
        "SELECT operator, role, reason, reference, query FROM reads ORDER BY number"
    ).fetchall()
    return found


async def test_an_officer_sees_exact_times_and_the_question_is_written_down(building: Building) -> None:
    answer = await building.ask(
        {**ASKED, "gate": "gate-1", "limit": 4, "kind": ["access.granted", "passage.completed"]}
    )
    assert answer.status_code == 200
    body = answer.json()
    assert {event["kind"] for event in body["events"]} <= TIMED
    assert len(body["events"]) == 4
    assert all(event["id"].startswith("gate-1/e1/") for event in body["events"])
    [(operator, role, reason, reference, query)] = reads(building)
    assert (operator, role, reason, reference) == ("Kim", "security-officer", "incident", "2026-117")
    assert json.loads(query) == {
        "since": "2026-11-24T09:00:00.000Z",
        "until": "2026-11-24T10:00:00.000Z",
        "gate": "gate-1",
        "kinds": ["access.granted", "passage.completed"],
        "limit": 4,
    }


async def test_every_page_is_a_read_of_its_own_and_none_is_missing(building: Building) -> None:
    whole = (await building.ask(ASKED)).json()["events"]
    found: list[Any] = []
    after = None
    while True:
        body = (await building.ask({**ASKED, "limit": 5, "after": after})).json()
        found += body["events"]
        after = body["next"]
        if after is None:
            break
    assert found == whole
    assert len(reads(building)) == body["read"] == 1 + -(-len(whole) // 5)


@pytest.mark.parametrize("token", ["", "wrong", TOKEN, OFFICER + "x"])
async def test_without_the_officers_own_token_nothing_is_told_or_written(building: Building, token: str) -> None:
    answer = await building.ask(ASKED, token)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert reads(building) == []


async def test_another_role_is_turned_away_with_the_reason(building: Building) -> None:
    answer = await building.ask({**ASKED, "role": "manager"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_permitted")
    assert "security-officer" in answer.json()["error"]["ko"]
    assert reads(building) == []


WRONG: list[dict[str, Any]] = [
    {"reason": "curiosity"},
    {"reference": ""},
    {"reference": "a\nb"},
    {"operator": "x" * 65},
    {"since": "2026-11-24T10:00:00Z"},
    {"since": 5},
    {"limit": 501},
    {"limit": True},
    {"limit": [1, 2]},
    {"gate": {"a": 1}},
    {"kind": []},
    {"kind": ["k" * 60] * 60},
    {"colour": "red"},
    {"after": "x"},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
async def test_what_is_no_such_question_is_refused_and_nothing_is_told(
    building: Building, change: dict[str, Any]
) -> None:
    answer = await building.ask({**ASKED, **change})
    assert answer.status_code == 400
    assert next(iter(change)) in answer.json()["error"]["en"]
    assert reads(building) == []


@pytest.mark.parametrize("missing", ["operator", "role", "reason", "reference", "since", "until"])
async def test_nothing_of_the_question_may_be_left_out(building: Building, missing: str) -> None:
    answer = await building.ask({name: value for name, value in ASKED.items() if name != missing})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "missing_field")
    assert reads(building) == []


async def test_a_read_that_cannot_be_written_down_is_not_answered(
    building: Building, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(building.store.reads, "log", full)
    answer = await building.ask(ASKED)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store")
    assert "events" not in answer.json()
    assert "retry-after" in answer.headers


async def test_more_than_a_day_at_once_is_refused(building: Building) -> None:
    answer = await building.ask({**ASKED, "since": "2026-11-23T09:00:00Z"})
    assert answer.status_code == 400
