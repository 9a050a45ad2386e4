"""The relay module keeps the pulse's time; the lane sees levels and changes; nonsense from the module is a DriverError."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drivers.lane import open_lane
from drivers.lane.relay_module import MAX_CHANGES, MAX_PULSE_MS, RelayModule
from drivers.ports import Direction, DriverError, LaneInput, LaneSignal, Light, Message
from drivers.signal import open_signal
from protocol.clock import SystemClock
from testbed.turnstile import Turnstile

GUARD_S = 10.0
_AGENT = """
import asyncio, sys
from pathlib import Path
from drivers.lane.relay_module import RelayModule
from drivers.ports import Direction
from protocol.clock import SystemClock
async def main():
    module = RelayModule(Path(sys.argv[1]), SystemClock())
    await module.start()
    await module.pulse(Direction.IN, 600)
    print("open", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture
async def turnstile(tmp_path: Path) -> AsyncIterator[Turnstile]:
    built = Turnstile(tmp_path / "lane", tmp_path / "sign", step=0.01)
    await built.start()
    yield built
    await built.stop()


async def test_relay_opens_for_its_pulse_and_falls_back_by_itself(turnstile: Turnstile) -> None:
    module = RelayModule(turnstile.lane_path, SystemClock())
    async with asyncio.timeout(GUARD_S):
        await module.start()
        at = await module.pulse(Direction.IN, 80)
        assert at > 0
        assert turnstile.energised(Direction.IN)
        assert not turnstile.energised(Direction.OUT)
        await turnstile.until(lambda: not turnstile.energised(Direction.IN), 5)
        await module.stop()


async def test_a_killed_agent_leaves_no_lane_open(turnstile: Turnstile) -> None:
    async with asyncio.timeout(GUARD_S):
        agent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _AGENT, str(turnstile.lane_path), stdout=asyncio.subprocess.PIPE
        )
        assert agent.stdout is not None
        assert await agent.stdout.readline() == b"open\n"
        assert turnstile.energised(Direction.IN)
        agent.send_signal(signal.SIGKILL)
        await agent.wait()
        await turnstile.until(lambda: not turnstile.energised(Direction.IN), 2.0)


async def test_all_levels_first_then_each_change(turnstile: Turnstile) -> None:
    turnstile.levels[LaneSignal.FIRE] = True
    module = RelayModule(turnstile.lane_path, SystemClock())
    async with asyncio.timeout(GUARD_S):
        await module.start()
        inputs = module.inputs()
        levels = {change.signal: change.active for change in [await anext(inputs) for _ in LaneSignal]}
        assert levels == {signal: signal is LaneSignal.FIRE for signal in LaneSignal}
        walking = asyncio.create_task(turnstile.walk(Direction.IN))
        seen: list[tuple[LaneSignal, bool]] = []
        while (LaneSignal.BEAM_B, False) not in seen:
            change = await anext(inputs)
            seen.append((change.signal, change.active))
        await walking
        order = [name for name, active in seen if active]
        assert order == [LaneSignal.BEAM_A, LaneSignal.BEAM_M, LaneSignal.BEAM_B]
        await module.stop()


async def test_relays_are_at_rest_once_started(turnstile: Turnstile) -> None:
    async with asyncio.timeout(GUARD_S):
        turnstile._flash(Direction.OUT, 60_000)
        module = RelayModule(turnstile.lane_path, SystemClock())
        await module.start()
        await turnstile.until(lambda: not turnstile.energised(Direction.OUT), 5)
        await module.stop()


@pytest.mark.parametrize("milliseconds", [0, -1, MAX_PULSE_MS + 1])
async def test_a_pulse_out_of_bounds_is_refused(turnstile: Turnstile, milliseconds: int) -> None:
    module = RelayModule(turnstile.lane_path, SystemClock())
    await module.start()
    with pytest.raises(DriverError, match="pulse"):
        await module.pulse(Direction.IN, milliseconds)
    assert turnstile.pulses == 0
    await module.stop()


async def test_a_module_that_goes_away_is_an_error_and_comes_back(turnstile: Turnstile) -> None:
    module = RelayModule(turnstile.lane_path, SystemClock())
    async with asyncio.timeout(GUARD_S):
        await module.start()
        await anext(module.inputs())
        await turnstile.stop()
        with pytest.raises(DriverError):
            async for _ in module.inputs():
                pass
        with pytest.raises(DriverError):
            await module.pulse(Direction.IN, 100)
        await turnstile.start()
        await module.start()
        assert await module.pulse(Direction.IN, 20) > 0
        await module.stop()


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b"[1]\n",
        b'{"in": "door", "active": true}\n',
        b'{"in": "beam_a", "active": 1}\n',
        b'{"what": 1}\n',
        b"x" * 10_000,
    ],
)
async def test_nonsense_from_the_module_is_a_driver_error(tmp_path: Path, line: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(line)
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(serve, str(tmp_path / "module"))
    module = RelayModule(tmp_path / "module", SystemClock())
    async with asyncio.timeout(GUARD_S):
        with pytest.raises(DriverError):
            await module.start()
        with pytest.raises(DriverError):
            async for _ in module.inputs():
                pass
        server.close()


def test_a_chattering_input_cannot_grow_memory_and_keeps_the_newest_level(tmp_path: Path) -> None:
    module = RelayModule(tmp_path / "none", SystemClock())
    for number in range(10 * MAX_CHANGES):
        module._change(LaneInput(LaneSignal.BEAM_A, number % 2 == 0, 0.0))
    module._change(LaneInput(LaneSignal.FIRE, True, 0.0))
    assert len(module._changes) <= MAX_CHANGES + 1
    assert module._changes[-1].signal is LaneSignal.FIRE
    assert [change.active for change in module._changes if change.signal is LaneSignal.BEAM_A][-1] is False


async def test_garbage_at_the_turnstile_drops_only_that_client(turnstile: Turnstile) -> None:
    async with asyncio.timeout(GUARD_S):
        for garbage in (b"{}\n", b"[]\n", b"\xff\n", json.dumps({"cmd": "pulse"}).encode() + b"\n"):
            reader, writer = await asyncio.open_unix_connection(str(turnstile.lane_path))
            writer.write(garbage)
            assert await reader.read() == b""
            writer.close()
        module = RelayModule(turnstile.lane_path, SystemClock())
        await module.start()
        assert await module.pulse(Direction.OUT, 20) > 0
        await module.stop()


async def test_the_display_shows_what_it_is_told(turnstile: Turnstile) -> None:
    sign = open_signal(driver="simulated", path=str(turnstile.display_path))
    async with asyncio.timeout(GUARD_S):
        await sign.start()
        message = Message(Light.GREEN, "들어가세요", "Please enter")
        await sign.show(message)
        await turnstile.until(lambda: turnstile.shown == message, 5)
        await sign.stop()
        with pytest.raises(DriverError):
            await sign.show(message)


async def test_absent_devices_and_unknown_drivers(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="no device"):
        await open_lane(driver="simulated", path=str(tmp_path / "none"), clock=SystemClock()).start()
    with pytest.raises(DriverError, match="no device"):
        await open_signal(driver="simulated", path=str(tmp_path / "none")).start()
    with pytest.raises(ValueError, match="no lane driver"):
        open_lane(driver="gpio", path="", clock=SystemClock())
    with pytest.raises(ValueError, match="no signal driver"):
        open_signal(driver="lamp", path="")
