"""`gwanmun controller passages`: through the running controller, with the officers' token and none other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller import web
from gwanmun.controller_cli import main
from gwanmun.passages_cli import EXIT_DONE, EXIT_REFUSED, EXIT_USAGE, _plain
from tests.controller.api_building import OFFICER, TOKEN, Building

WHO = ["--operator", "Kim", "--reason", "incident", "--reference", "2026-117"]
WHEN = ["--since", "2026-11-24T09:00:00Z", "--until", "2026-11-24T18:30:00+09:00"]
CONFIG = """\
site = "hq"
state_dir = "state"
[web]
port = 0
"""


class Place:
    def __init__(self, directory: Path, building: Building, port: int) -> None:
        self.state, self.building = directory / "state", building
        self._common = ["--config", str(directory / "controller.toml"), "--url", f"http://127.0.0.1:{port}"]

    async def ask(self, *words: str) -> int:
        return await asyncio.to_thread(main, ["passages", *self._common, *words])

    @property
    def reads(self) -> int:
        count: int = self.building.store._db.execute("SELECT count(*) FROM reads").fetchone()[0]
        return count


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    building = Building(tmp_path)
    building.furnish()
    (tmp_path / "controller.toml").write_text(CONFIG, "utf-8")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "officer-token").write_text(f"{OFFICER}\n", "ascii")
    (tmp_path / "state" / "api-token").write_text(f"{TOKEN}\n", "ascii")
    server, sock = web.server(building.app), web.listen("127.0.0.1", 0)
    task = asyncio.create_task(server.serve([sock]))
    yield Place(tmp_path, building, sock.getsockname()[1])
    server.should_exit = True
    await task
    sock.close()
    building.close()


async def test_an_officer_sees_exact_times_and_is_told_the_number_of_the_read(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await place.ask(*WHO, *WHEN, "--kind", "access.granted", "--limit", "2") == EXIT_DONE
    out, err = capsys.readouterr()
    header, *rows = out.splitlines()
    assert header.startswith("시각 time")
    assert [row.split("\t")[4] for row in rows] == ["access.granted", "access.granted"]
    assert "열람 1번" in err
    after = err.rpartition("--after ")[2].strip()
    assert await place.ask(*WHO, *WHEN, "--kind", "access.granted", "--after", after, "--json") == EXIT_DONE
    assert len(json.loads(capsys.readouterr().out)["events"]) == 4
    assert place.reads == 2


async def test_another_role_is_refused_in_both_languages(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert await place.ask(*WHO, *WHEN, "--role", "manager") == EXIT_REFUSED
    err = capsys.readouterr().err
    assert "받아들여지지 않았습니다" in err
    assert "only security-officer" in err
    assert place.reads == 0


async def test_the_token_of_orders_is_not_that_of_officers(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.state / "officer-token").write_text(TOKEN, "ascii")
    assert await place.ask(*WHO, *WHEN) == EXIT_REFUSED
    (place.state / "officer-token").unlink()
    assert await place.ask(*WHO, *WHEN) == EXIT_USAGE
    assert "officer-token" in capsys.readouterr().err
    assert place.reads == 0


def test_what_a_gate_writes_moves_no_cursor_of_a_terminal() -> None:
    assert _plain("l\x1b[2J1\n") == "l?[2J1?"
    assert _plain(None) == ""
