"""The controller as a process: exit statuses, signals, systemd, and kill -9 at any moment."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from controller import integrity, upkeep
from controller.main import run
from controller.site_time import SiteTime
from controller.state_lock import StateLock
from controller.store import Store
from protocol.clock import SystemClock
from testbed.chaos.rig import until

WITHIN_S = 20
SEOUL = ZoneInfo("Asia/Seoul")
CHECKOUT = Path(__file__).resolve().parents[2]


async def launch(config_file: Path, **environ: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "controller",
        "--config",
        str(config_file),
        cwd=CHECKOUT,
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def test_a_wrong_configuration_exits_with_2_and_says_so_in_two_languages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "controller.toml"
    file.write_text('site = "hq"\n')
    assert run(file) == 2
    korean, english = capsys.readouterr().err.splitlines()
    assert korean == f"{file}: state_dir: 비어 있지 않은 문자열이 있어야 합니다"
    assert english == f"{file}: state_dir: a non-empty string is expected"


def test_a_port_that_is_taken_exits_with_1(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config_file.write_text(config_file.read_text().replace("[web]\nport = 0", f"[web]\nport = {port}"))
        assert run(config_file) == 1
    assert str(port) in capsys.readouterr().err


async def test_tells_systemd_and_stops_cleanly_on_sigterm(config_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.setblocking(False)
        process = await launch(config_file, NOTIFY_SOCKET=str(path), WATCHDOG_USEC="200000")
        heard: list[str] = []

        async def hear(wanted: str) -> None:
            async with asyncio.timeout(WITHIN_S):
                while wanted not in heard:
                    heard.append((await asyncio.get_running_loop().sock_recv(notify, 500)).decode())

        await hear("READY=1")
        await hear("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        await hear("STOPPING=1")
        async with asyncio.timeout(WITHIN_S):
            _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert b"Traceback" not in err


@pytest.mark.slow
async def test_killed_again_and_again_it_loses_and_doubles_nothing(
    config_file: Path, connect_gate: Callable[..., Awaitable[Any]], journal: Any, tmp_path: Path
) -> None:
    gate, done = await connect_gate(), asyncio.Event()
    journal.write(400)

    async def send() -> None:
        """A gate's outbox: everything behind the acknowledged mark, again and again."""
        while not gate.acks or gate.acks[-1] != journal.ack(400):
            mark = gate.acks[-1].seq if gate.acks else 0
            await gate.send(*journal.records[mark : mark + 20])
            await asyncio.sleep(0)
        done.set()

    sender = asyncio.create_task(send())
    async with asyncio.timeout(120):
        for mark in (*range(40, 400, 60), 400):  # in the middle of the stream, whatever its speed
            process = await launch(config_file)
            await gate.wait_mark(mark)
            process.kill()
            await process.communicate()
        await done.wait()
        await sender
    with sqlite3.connect(tmp_path / "state" / "controller.db") as db:
        rows = db.execute("SELECT raw FROM events ORDER BY seq").fetchall()
        alarms = db.execute("SELECT count(*) FROM alarms").fetchone()[0]
    db.close()
    assert [row[0] for row in rows] == journal.records
    assert alarms == 0
    store = Store(tmp_path / "state" / "controller.db", SEOUL)
    try:  # what the killed ones had counted, and the rest
        while store.rollups.step(SiteTime(SystemClock(), None).window()).rows:
            pass
        assert store._connection.execute("SELECT sum(n) FROM quarters").fetchone() == (400,)
        assert store._connection.execute("SELECT sum(n) FROM days").fetchone() == (400,)
    finally:
        store.close()


def test_a_damaged_database_exits_with_1_says_what_to_do_and_is_left_alone(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "state" / "controller.db"
    Store(database, SEOUL).close()
    os.truncate(database, database.stat().st_size // 2)
    before = database.read_bytes()
    assert run(config_file) == 1
    told = capsys.readouterr().err
    assert "손상" in told
    assert "put a backup back (gwanmun restore)" in told
    assert database.read_bytes() == before


def test_a_database_of_another_site_exits_with_1(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(tmp_path / "state" / "controller.db", SEOUL, site="annex").close()
    assert run(config_file) == 1
    assert "belongs to another site, annex" in capsys.readouterr().err


def test_a_second_controller_on_the_same_directory_exits_with_1(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with StateLock(tmp_path / "state" / "controller.lock"):
        assert run(config_file) == 1
    assert "another controller, or a restore, is at work" in capsys.readouterr().err


async def test_a_large_database_that_proves_damaged_is_told_while_the_controller_runs(
    run_controller: Callable[[], Awaitable[Any]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def damaged(_database: Path) -> list[str]:
        return ["wrong # of entries in index events_record"]

    monkeypatch.setattr(integrity, "check", lambda _database: False)
    monkeypatch.setattr(integrity, "check_beside", damaged)
    controller = await run_controller()
    await until(lambda: not controller.condition().store, "the store's condition", WITHIN_S)
    assert "wrong # of entries in index events_record" in caplog.text


async def test_a_running_controller_counts_what_comes(
    run_controller: Callable[[], Awaitable[Any]],
    connect_gate: Callable[..., Awaitable[Any]],
    journal: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep, "TICK_S", 0.01)
    await run_controller()
    gate = await connect_gate()
    await gate.send(*journal.write(5))
    db = sqlite3.connect(tmp_path / "state" / "controller.db")
    try:
        count = "SELECT sum(n) FROM days"
        await until(lambda: db.execute(count).fetchone() == (5,), "counts", WITHIN_S)
    finally:
        db.close()
