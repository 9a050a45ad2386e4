"""The whole way: a gate's alarm over a broker into a running controller, acknowledged from the command line, over a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from controller.alarm_kinds import WEBHOOK
from controller.live import Live
from controller.main import Controller
from gwanmun import alarms_cli
from protocol import topics
from protocol.events import Kind
from tests.controller.conftest import SITE, WITHIN_S


async def until(live: Live, condition: Callable[[Live], bool]) -> None:
    """Looks whenever the picture changes."""
    watcher = live.watch()
    assert watcher is not None
    async with asyncio.timeout(WITHIN_S):
        while not condition(live):
            await watcher.next(WITHIN_S)
    live.leave(watcher)


async def test_an_alarm_goes_all_the_way_and_no_restart_loses_it(
    run_controller: Callable[[], Awaitable[Controller]],
    connect_gate: Callable[[], Awaitable[Any]],
    journal: Any,
    config_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = await run_controller()
    gate = await connect_gate()
    journal.write(3)
    [tamper] = journal.write(1, Kind.ALARM_TAMPER)
    # The copy comes ahead of an outbox that is behind; then all the records, this one too.
    assert (await gate.link.publish(topics.alarm(SITE, "gate-1"), tamper)).ok
    await until(first.live, lambda live: bool(live.alarms))
    await gate.send(*journal.records)
    await gate.wait_ack(journal.ack(4))
    assert [(row.kind, row.count) for row in first.live.alarms.values()] == [("alarm.tamper", 1)]
    await first.stop()

    second = await run_controller()
    assert [row.kind for row in second.live.alarms.values()] == ["alarm.tamper"]
    base = ["--config", str(config_file), "--url", second.url]
    who = ["--operator", "Kim", "--role", "guard"]
    assert await asyncio.to_thread(alarms_cli.main, [*base, "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["alarms"]
    assert await asyncio.to_thread(alarms_cli.main, [*base, "acknowledge", str(listed["alarm"]), *who]) == 0
    assert [row.state for row in second.live.alarms.values()] == ["acknowledged"]
    await gate.send(*journal.write(1, Kind.ALARM_TAMPER_CLEARED))
    await until(second.live, lambda live: not live.alarms)


async def test_the_alarm_of_a_webhook_that_is_configured_no_more_ends_at_the_next_start(
    run_controller: Callable[[], Awaitable[Controller]],
) -> None:
    first = await run_controller()
    assert first.desk is not None
    await first.desk.trouble(WEBHOOK, "gone", holds=True)
    assert [row.detail for row in first.live.alarms.values()] == ["gone"]
    await first.stop()
    second = await run_controller()
    assert not second.live.alarms
