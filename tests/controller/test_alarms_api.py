"""Alarms by HTTP and from the command line: nothing without the token, and every answer says what came of it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from controller import alarms, web
from controller.alarm_book import EndsByItselfError, NoSuchAlarmError
from controller.alarm_rows import AlarmRow
from controller.alarms_api import AlarmsApi
from controller.requests import HANDLERS
from gwanmun import alarms_cli
from protocol.command import Operator

TOKEN = "token-of-this-test"
WHO: dict[str, Any] = {"operator": "Kim", "role": "guard"}
AT = "2026-11-24T09:00:00.000Z"
TAMPER = alarms.begin(1, ("gate-1", "l1", "alarm.tamper", ""), "e1", 5, 2, AT, AT)
GAP = alarms.begin(2, ("gate-1", "", "log.gap", ""), "e1", 6, 1, AT, AT)


class Desk:
    def __init__(self) -> None:
        self.rows = {1: TAMPER, 2: GAP}
        self.asked: list[tuple[str, int, Operator]] = []
        self.broken = False

    def _row(self, what: str, alarm: int, operator: Operator) -> AlarmRow:
        if self.broken:
            raise sqlite3.OperationalError("disk is full")
        self.asked.append((what, alarm, operator))
        if alarm not in self.rows:
            raise NoSuchAlarmError
        return self.rows[alarm]

    async def acknowledge(self, alarm: int, operator: Operator) -> AlarmRow:
        row = alarms.acknowledge(self._row("acknowledge", alarm, operator), AT, operator.name, operator.role)
        self.rows[alarm] = row
        return row

    async def clear(self, alarm: int, operator: Operator) -> AlarmRow:
        row = self._row("clear", alarm, operator)
        if row.kind == "alarm.tamper":
            raise EndsByItselfError
        return replace(alarms.clear(row, AT, operator.name, operator.role))


class Place:
    def __init__(self) -> None:
        self.desk = Desk()
        api = AlarmsApi(self.desk, self.desk.rows.values, TOKEN)
        self.server = web.server(web.Guard(Starlette(routes=api.routes(), exception_handlers=HANDLERS)))
        self.sock = web.listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.sock.getsockname()[1]}"

    async def ask(self, path: str, body: object = None, token: str = TOKEN) -> tuple[int, Any]:
        def work() -> tuple[int, Any]:
            raw = None if body is None else json.dumps(body).encode()
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
            request = urllib.request.Request(f"{self.url}{path}", raw, headers)  # noqa: S310  loopback
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  loopback
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.load(error)

        return await asyncio.to_thread(work)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    found = Place()
    task = asyncio.create_task(found.server.serve([found.sock]))
    yield found
    found.server.should_exit = True
    await task
    found.sock.close()


async def test_open_alarms_are_listed_with_what_to_do_and_without_who_looked(place: Place) -> None:
    place.desk.rows[1] = alarms.acknowledge(TAMPER, AT, "Kim", "guard")
    status, answer = await place.ask("/api/v1/alarms/open")
    assert status == 200
    first, second = answer["alarms"]
    assert (first["alarm"], first["state"], first["count"], first["operator_clears"]) == (1, "acknowledged", 2, False)
    assert first["advice"]["en"].startswith("Go at once")
    assert (second["kind"], second["category"], second["operator_clears"]) == ("log.gap", "alarms", True)
    assert "Kim" not in json.dumps(answer)


async def test_an_alarm_is_acknowledged_under_a_name_and_the_answer_has_none(place: Place) -> None:
    status, answer = await place.ask("/api/v1/alarms/1/acknowledge", WHO)
    assert (status, answer["alarm"]["state"]) == (200, "acknowledged")
    assert place.desk.asked == [("acknowledge", 1, Operator("Kim", "guard"))]
    assert "Kim" not in json.dumps(answer)


async def test_an_operator_ends_only_what_does_not_end_by_itself(place: Place) -> None:
    status, answer = await place.ask("/api/v1/alarms/2/clear", WHO)
    assert (status, answer["alarm"]["state"]) == (200, "closed")
    status, answer = await place.ask("/api/v1/alarms/1/clear", WHO)
    assert (status, answer["error"]["code"]) == (409, "ends_by_itself")


@pytest.mark.parametrize("path", ["/api/v1/alarms/1/acknowledge", "/api/v1/alarms/2/clear"])
async def test_nothing_is_done_without_the_token_or_without_saying_who(place: Place, path: str) -> None:
    assert (await place.ask(path, WHO, token="wrong"))[0] == 401
    assert (await place.ask("/api/v1/alarms/open", token=""))[0] == 401
    for body in ({}, {"operator": "Kim"}, {**WHO, "more": 1}, {**WHO, "role": "a b"}, {**WHO, "operator": 3}):
        assert (await place.ask(path, body))[0] == 400
    assert place.desk.asked == []


@pytest.mark.parametrize("alarm", ["3", "99999999999999999999999", "x", "-1", "1.5"])
async def test_an_alarm_that_is_not_there_is_not_found(place: Place, alarm: str) -> None:
    assert (await place.ask(f"/api/v1/alarms/{alarm}/acknowledge", WHO))[0] == 404


async def test_a_store_that_cannot_write_is_told(place: Place) -> None:
    place.desk.broken = True
    status, answer = await place.ask("/api/v1/alarms/1/acknowledge", WHO)
    assert (status, answer["error"]["code"]) == (503, "store")


# The command line.


@pytest.fixture
def run(place: Place, tmp_path: Path) -> Callable[..., Any]:
    file = tmp_path / "controller.toml"
    file.write_text('site = "hq"\nstate_dir = "state"\n')
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "api-token").write_text(f"{TOKEN}\n")

    async def command(*words: str) -> int:
        return await asyncio.to_thread(alarms_cli.main, ["--config", str(file), "--url", place.url, *words])

    return command


async def test_the_command_line_lists_what_is_open_korean_first(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run() == 0
    text = capsys.readouterr().out
    assert "1  [위급 critical] 훼손 감지 / Tamper ×2" in text
    assert "gate-1 l1" in text
    assert text.index("훼손") < text.index("기록 누락")


async def test_the_command_line_says_when_nothing_is_open(
    place: Place, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    place.desk.rows.clear()
    assert await run() == 0
    assert "열린 경보가 없습니다" in capsys.readouterr().out


async def test_the_command_line_acknowledges_and_clears(
    place: Place, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    who = ["--operator", "Kim", "--role", "guard"]
    assert await run("acknowledge", "1", *who) == 0
    assert await run("clear", "2", *who) == 0
    assert [(what, alarm) for what, alarm, _ in place.desk.asked] == [("acknowledge", 1), ("clear", 2)]
    capsys.readouterr()
    assert await run("clear", "1", *who) == alarms_cli.EXIT_REFUSED
    error = capsys.readouterr().err
    assert "스스로 끝나는" in error
    assert "acknowledged" in error


async def test_nobody_acknowledges_without_a_name(run: Callable[..., Any]) -> None:
    with pytest.raises(SystemExit):
        await run("acknowledge", "1", "--role", "guard")
