"""The relay module's client, against the virtual module and against modules that misbehave."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from drivers.lane import relay_module
from drivers.lane.changes import MAX_CHANGES, MAX_PULSE_MS
from drivers.lane.relay_module import RelayModule
from drivers.ports import Direction, DriverError, LaneInput, LaneSignal
from protocol.clock import SystemClock
from testbed.turnstile import Turnstile

GUARD_S = 10.0


@pytest.fixture
async def turnstile(tmp_path: Path) -> AsyncIterator[Turnstile]:
    device = Turnstile(tmp_path / "lane", tmp_path / "sign", step=0.002)
    await device.start()
    yield device
    await device.stop()


@asynccontextmanager
async def started(path: Path) -> AsyncIterator[RelayModule]:
    lane = RelayModule(path, SystemClock(), list(LaneSignal))
    try:
        async with asyncio.timeout(GUARD_S):
            await lane.start()
            yield lane
    finally:
        await lane.stop()


async def take(lane: RelayModule, count: int) -> list[LaneInput]:
    taken: list[LaneInput] = []
    async with aclosing(lane.inputs()) as inputs:  # type: ignore[type-var]  # the port promises the iterator only
        async for change in inputs:
            taken.append(change)
            if len(taken) == count:
                break
    return taken


async def test_reports_the_level_of_every_input_first_and_then_each_change(turnstile: Turnstile) -> None:
    turnstile.set(LaneSignal.FIRE, True)
    async with started(turnstile.lane_path) as lane:
        levels = await take(lane, len(LaneSignal))
        assert {each.signal: each.active for each in levels} == {
            signal: signal is LaneSignal.FIRE for signal in LaneSignal
        }
        turnstile.set(LaneSignal.BEAM_A, True)
        turnstile.set(LaneSignal.FIRE, False)
        changes = [(each.signal, each.active) for each in await take(lane, 2)]
        assert changes == [(LaneSignal.BEAM_A, True), (LaneSignal.FIRE, False)]


@pytest.mark.parametrize("direction", Direction)
async def test_a_pulse_is_confirmed_when_the_relay_has_moved_and_ends_by_itself(
    turnstile: Turnstile, direction: Direction
) -> None:
    async with started(turnstile.lane_path) as lane:
        before = SystemClock().monotonic()
        confirmed = await lane.pulse(direction, 50)
        assert before < confirmed <= SystemClock().monotonic()
        assert turnstile.energised(direction)
        assert turnstile.pulses == 1
        await turnstile.until(lambda: not turnstile.energised(direction), GUARD_S)
        on, off = turnstile.moves
        assert (on.direction, on.energised, off.energised) == (direction, True, False)
        assert off.at - on.at >= 0.05


async def test_the_relay_reports_back_as_an_input(turnstile: Turnstile) -> None:
    async with started(turnstile.lane_path) as lane:
        await take(lane, len(LaneSignal))
        await lane.pulse(Direction.IN, 20)
        changes = [(each.signal, each.active) for each in await take(lane, 2)]
        assert changes == [(LaneSignal.RELAY_IN, True), (LaneSignal.RELAY_IN, False)]


async def test_both_sides_can_be_pulsed_at_once(turnstile: Turnstile) -> None:
    async with started(turnstile.lane_path) as lane:
        await asyncio.gather(lane.pulse(Direction.IN, 5000), lane.pulse(Direction.OUT, 5000))
        assert turnstile.energised(Direction.IN)
        assert turnstile.energised(Direction.OUT)


async def test_outputs_are_at_rest_before_start_returns(turnstile: Turnstile) -> None:
    async with started(turnstile.lane_path) as before:
        await before.pulse(Direction.IN, MAX_PULSE_MS)
    assert turnstile.energised(Direction.IN), "the end of a client moves no relay"
    async with started(turnstile.lane_path):
        assert not turnstile.energised(Direction.IN)


AGENT = """
import asyncio, sys
from pathlib import Path
from drivers.lane import open_lane
from drivers.ports import Direction
from protocol.clock import SystemClock

async def main():
    lane = open_lane(driver="simulated", path=sys.argv[1], clock=SystemClock(), required=())
    await lane.start()
    await lane.pulse(Direction.IN, 800)
    print("open", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_killed_agent_leaves_no_lane_open(turnstile: Turnstile) -> None:
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", AGENT, str(turnstile.lane_path), stdout=subprocess.PIPE
    )
    assert agent.stdout is not None
    async with asyncio.timeout(GUARD_S):
        assert await agent.stdout.readline() == b"open\n"
    agent.kill()
    await agent.wait()
    assert turnstile.energised(Direction.IN), "killed while the lane was open"
    await turnstile.until(lambda: not turnstile.energised(Direction.IN), 2.0)
    on, off = turnstile.moves
    assert 0.8 <= off.at - on.at < 2.0


async def test_a_second_master_replaces_the_first(turnstile: Turnstile) -> None:
    async with started(turnstile.lane_path) as old, started(turnstile.lane_path) as new:
        await take(old, len(LaneSignal))
        with pytest.raises(DriverError):
            await take(old, 1)
        await new.pulse(Direction.IN, 100)


async def test_a_stopped_lane_says_so() -> None:
    lane = RelayModule(Path("unused"), SystemClock(), list(LaneSignal))
    with pytest.raises(DriverError, match="not started"):
        await lane.pulse(Direction.IN, 100)
    await lane.stop()
    with pytest.raises(DriverError, match="stopped"):
        await take(lane, 1)


async def test_keeps_the_newest_levels_when_the_lane_is_behind_and_says_what_it_drops(
    turnstile: Turnstile, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(turnstile.lane_path) as lane:
        for at in range(3 * MAX_CHANGES):
            turnstile.set(LaneSignal.BEAM_A, at % 2 == 0)
        turnstile.set(LaneSignal.BEAM_A, True)
        await lane.pulse(Direction.OUT, 5000)  # its confirmation comes after all of them
        levels: dict[LaneSignal, bool] = {}
        taken = 0
        async for change in lane.inputs():
            levels[change.signal] = change.active
            taken += 1
            if change.signal is LaneSignal.RELAY_OUT and change.active:
                break
    assert taken <= MAX_CHANGES + len(LaneSignal)
    assert levels == turnstile.levels | {LaneSignal.BEAM_A: True, LaneSignal.RELAY_OUT: True}
    assert "changes of beam_a dropped" in caplog.text


# Modules that misbehave: each answers every command with the lines given.

LEVELS = [json.dumps({"in": signal.value, "active": False}) for signal in LaneSignal]


@asynccontextmanager
async def module(path: Path, *, levels: list[str], pulse: list[str]) -> AsyncIterator[None]:
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            command = json.loads(line)
            confirmed = json.dumps({"ok": command["id"]})
            lines = {"rest": [confirmed], "levels": [*levels, confirmed], "pulse": pulse}[command["cmd"]]
            writer.write("".join(f"{line}\n" for line in lines).replace("ID", str(command["id"])).encode())
        await done.wait()
        writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield
    finally:
        done.set()
        server.close()


async def test_passes_on_why_the_module_refused(tmp_path: Path) -> None:
    refusal = '{"error": "coil is broken", "id": ID}'
    async with module(tmp_path / "lane", levels=LEVELS, pulse=[refusal]), started(tmp_path / "lane") as lane:
        with pytest.raises(DriverError, match="coil is broken"):
            await lane.pulse(Direction.IN, 100)
        await take(lane, len(LaneSignal))


async def test_does_not_start_on_a_module_that_does_not_know_its_levels(tmp_path: Path) -> None:
    known = [line for line in LEVELS if "fire" not in line]
    async with module(tmp_path / "lane", levels=known, pulse=[]):
        with pytest.raises(DriverError, match="fire"):
            async with started(tmp_path / "lane"):
                pass


@pytest.mark.parametrize("answer", [[], ['{"ok": 999}'], ['{"error": "not yours", "id": 999}']], ids=range(3))
async def test_fails_when_the_pulse_is_not_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: list[str]
) -> None:
    async with module(tmp_path / "lane", levels=LEVELS, pulse=answer), started(tmp_path / "lane") as lane:
        monkeypatch.setattr(relay_module, "CONFIRM_S", 0.05)
        with pytest.raises(DriverError, match="did not confirm pulse"):
            await lane.pulse(Direction.IN, 100)


async def test_does_not_start_on_a_module_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "CONFIRM_S", 0.05)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(serve, str(tmp_path / "lane"))
    with pytest.raises(DriverError, match="did not confirm rest"):
        async with started(tmp_path / "lane"):
            pass
    server.close()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        "[" * 4000,
        '{"in": "beam_a", "active": true, "x": "' + "x" * 5000 + '"}',
        '{"in": "beam_z", "active": true}',
        '{"in": "beam_a", "active": 1}',
        '{"in": ["beam_a"], "active": true}',
        '{"ok": true}',
        '{"ok": "ID"}',
        '{"error": 7, "id": ID}',
        "\x00\xff",
    ],
    ids=range(13),
)
async def test_fails_on_a_message_that_no_module_sends(tmp_path: Path, line: str) -> None:
    async with module(tmp_path / "lane", levels=LEVELS, pulse=[line]), started(tmp_path / "lane") as lane:
        with pytest.raises(DriverError):
            await lane.pulse(Direction.IN, 100)
        await take(lane, len(LaneSignal))
        with pytest.raises(DriverError):
            await take(lane, 1)
