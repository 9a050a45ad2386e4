"""A guard's orders on the spot: the socket, what it takes, and what is recorded."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gate_agent import guard_cli
from gate_agent.clockwatch import ClockWatch
from gate_agent.control import MAX_LINE, MODE, Control, RequestError, parse
from gate_agent.guard import Guard
from gate_agent.passage import State, Verb
from gate_agent.timekeeping import KernelState, Settings
from protocol.events import Kind
from tests.gate_agent.conftest import Bench


def guard_of(bench: Bench, watch: ClockWatch) -> Guard:
    return Guard(
        {"hall-in": bench.lane.barrier},
        bench.journal.note,
        zones=bench.services.judge.zones,
        watch=watch,
        zones_of=lambda _lane: ["lobby"],
        degraded=lambda: ["no_uplink"],
    )


def watch_of(bench: Bench) -> ClockWatch:
    """A synchronised clock."""
    return ClockWatch(
        bench.clock,
        Settings(),
        records=None,
        note=bench.journal.note,
        call_later=bench.timers.call_later,
        kernel=lambda: KernelState(True, 12, 0.0),
        seconds=bench.clock.monotonic,
    )


@pytest.fixture
async def socket(bench: Bench, tmp_path: Path) -> AsyncIterator[Path]:
    guard = guard_of(bench, watch_of(bench))
    control = Control(tmp_path / "guard", guard.handle)
    await control.start()
    yield tmp_path / "guard"
    await control.stop()


async def ask(path: Path, **request: Any) -> Any:
    return await asyncio.to_thread(guard_cli.ask, path, request)


async def test_a_lockdown_and_its_release_are_done_answered_and_recorded(bench: Bench, socket: Path) -> None:
    assert await ask(socket, verb="lockdown", lane="hall-in", level=2) == {"results": {"hall-in": None}}
    assert bench.lane.state is State.LOCKED_DOWN
    assert await ask(socket, verb="free") == {"results": {"hall-in": "lockdown"}}
    assert await ask(socket, verb="release") == {"results": {"hall-in": None}}
    assert [kind for kind in await bench.kinds() if kind is not Kind.CLOCK_CHANGED] == [
        Kind.LOCKDOWN_ENTERED,
        Kind.COMMAND_ACCEPTED,
        Kind.COMMAND_REFUSED,
        Kind.LOCKDOWN_RELEASED,
        Kind.COMMAND_ACCEPTED,
    ]
    accepted = [event.data for event in await bench.records() if event.kind is Kind.COMMAND_ACCEPTED]
    assert accepted[0] == {"lane": "hall-in", "verb": "lockdown", "op": "local", "level": 2}


async def test_status_says_what_is_in_force(bench: Bench, socket: Path) -> None:
    await ask(socket, verb="lockdown", level=3)
    status = await ask(socket, verb="status")
    assert status["degraded"] == ["no_uplink"]
    lanes = status["lanes"]
    assert lanes == {"hall-in": {"state": "locked_down", "orders": ["lockdown 3"], "degraded": []}}


async def test_status_tells_the_clock_and_a_guard_may_confirm_it(bench: Bench, socket: Path) -> None:
    assert (await ask(socket, verb="status"))["clock"]["quality"] == "synced"
    now = bench.clock.now().isoformat()
    assert await ask(socket, verb="confirm_clock", time=now) == {"results": {"clock": None}}
    other = (bench.clock.now() + timedelta(hours=1)).isoformat()
    assert await ask(socket, verb="confirm_clock", time=other) == {"results": {"clock": "clock_disagrees"}}
    for wrong in ("now", "2026-11-24T09:00:00", 5, None):
        assert "expected" in (await ask(socket, verb="confirm_clock", time=wrong))["error"]


async def test_there_is_nothing_to_forgive_where_nobody_is_remembered(bench: Bench, socket: Path) -> None:
    assert await ask(socket, verb="forgive") == {"results": {"hall-in": "nothing_to_do"}}
    assert await ask(socket, verb="forgive_zone", zone="lobby") == {"results": {"zone": "nothing_to_do"}}
    assert "zone" in (await ask(socket, verb="forgive_zone", zone="../x"))["error"]


async def test_only_the_gates_own_group_may_open_the_socket(socket: Path) -> None:
    assert stat.S_IMODE((await asyncio.to_thread(socket.stat)).st_mode) == MODE


BAD: list[Mapping[str, Any]] = [
    {"verb": "open_sesame"},
    {"verb": "lockdown", "lane": "no-such-lane"},
    {"verb": "lockdown", "level": 0},
    {"verb": "lockdown", "level": True},
    {"verb": "lockdown", "level": "2"},
]


@pytest.mark.parametrize("request_", BAD)
async def test_a_wrong_order_says_what_is_expected_and_changes_nothing(
    bench: Bench, socket: Path, request_: Mapping[str, Any]
) -> None:
    assert "expected" in (await ask(socket, **request_))["error"]
    assert bench.lane.state is State.SECURED


@pytest.mark.parametrize("line", [b"", b"[]", b"{", b"\xff", b'{"verb":5}', b'{"verb":"x","lane":7}', b"[" * 4000])
def test_anything_else_on_a_line_is_a_request_error(line: bytes) -> None:
    with pytest.raises(RequestError):
        parse(line)


async def test_a_client_that_sends_no_line_is_dropped_and_the_next_is_served(bench: Bench, socket: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(b"x" * (4 * MAX_LINE))
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    assert "lanes" in await ask(socket, verb="status")


def test_the_command_line_has_every_order() -> None:
    assert set(Verb) <= set(guard_cli.VERBS)


async def test_the_command_line_prints_the_answer_and_its_exit_status_says_how_it_went(
    bench: Bench, socket: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(*arguments: str) -> int:
        return await asyncio.to_thread(guard_cli.main, ["--socket", str(socket), *arguments])

    assert await run("lockdown", "--lane", "hall-in", "--level", "2") == 0
    assert await run("free") == 1
    assert "lockdown" in capsys.readouterr().out
    assert await run("lockdown", "--lane", "nowhere") == 2
    assert await run("status") == 0
    assert "locked_down" in capsys.readouterr().out
    assert await asyncio.to_thread(guard_cli.main, ["--socket", "/nonexistent", "status"]) == 2
    assert "agent" in capsys.readouterr().err
    await run("--json", "release")
    assert json.loads(capsys.readouterr().out) == {"results": {"hall-in": None}}
