"""The virtual turnstile as a device of its own: relay, barrier, beams, display, and people who use and misuse it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from drivers.ports import Direction, LaneSignal, Light, Message
from gate_agent.passage import Key
from testbed import turnstile as virtual
from testbed.turnstile import MAX_LINE, MAX_PULSE_MS, Turnstile

GUARD_S = 10.0
A, M, B, C = LaneSignal.BEAM_A, LaneSignal.BEAM_M, LaneSignal.BEAM_B, LaneSignal.CONTACT
ON, OFF = True, False


@pytest.fixture
async def turnstile(tmp_path: Path) -> AsyncIterator[Turnstile]:
    device = Turnstile(tmp_path / "lane", tmp_path / "sign", step=0.002)
    await device.start()
    yield device
    await device.stop()


class Master:
    """A client that knows only the wire."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.changes: list[tuple[LaneSignal, bool]] = []

    @classmethod
    async def of(cls, path: Path) -> Master:
        return cls(*await asyncio.open_unix_connection(str(path)))

    def send(self, raw: bytes) -> None:
        self.writer.write(raw + b"\n")

    async def ask(self, **command: Any) -> dict[str, Any]:
        """The answer to one command; input changes before it are collected."""
        self.send(json.dumps({"id": 7, **command}).encode())
        async with asyncio.timeout(GUARD_S):
            while True:
                body: dict[str, Any] = json.loads(await self._reader.readline())
                if "in" not in body:
                    return body
                self.changes.append((LaneSignal(body["in"]), body["active"]))

    async def dropped(self) -> None:
        """Wait until the device has closed the connection."""
        async with asyncio.timeout(GUARD_S):
            with suppress(OSError):  # aborted, with our bytes unread
                await self._reader.read()
            self.writer.close()

    def close(self) -> None:
        self.writer.close()


@pytest.fixture
async def master(turnstile: Turnstile) -> AsyncIterator[Master]:
    client = await Master.of(turnstile.lane_path)
    assert await client.ask(cmd="rest") == {"ok": 7}
    yield client
    client.close()


async def beams(master: Master) -> list[tuple[LaneSignal, bool]]:
    """Changes of beams and contact since the last call."""
    assert await master.ask(cmd="rest") == {"ok": 7}
    seen, master.changes = master.changes, []
    return [change for change in seen if change[0] in {A, M, B, C}]


async def test_a_new_pulse_replaces_the_running_one(turnstile: Turnstile, master: Master) -> None:
    await master.ask(cmd="pulse", out="in", ms=MAX_PULSE_MS)
    await master.ask(cmd="pulse", out="in", ms=30)
    await turnstile.until(lambda: not turnstile.energised(Direction.IN), GUARD_S)
    assert turnstile.pulses == 2
    assert [move.energised for move in turnstile.moves] == [True, False]


async def test_the_relay_returns_to_rest_when_its_client_has_gone(turnstile: Turnstile, master: Master) -> None:
    await master.ask(cmd="pulse", out="in", ms=60)
    master.writer.transport.abort()
    assert turnstile.energised(Direction.IN)
    await turnstile.until(lambda: not turnstile.energised(Direction.IN), 2.0)


@pytest.mark.parametrize("ms", [0, -5, MAX_PULSE_MS + 1, 10**30])
async def test_the_module_itself_refuses_a_pulse_without_end(turnstile: Turnstile, master: Master, ms: int) -> None:
    answer = await master.ask(cmd="pulse", out="in", ms=ms)
    assert answer["id"] == 7
    assert "ms" in answer["error"]
    assert turnstile.pulses == 0


@pytest.mark.parametrize(
    "command", [{"cmd": "pulse", "out": "up", "ms": 100}, {"cmd": "pulse"}, {"cmd": "explode"}, {}]
)
async def test_the_module_refuses_what_it_does_not_know(
    turnstile: Turnstile, master: Master, command: dict[str, Any]
) -> None:
    assert "error" in await master.ask(**command)
    assert turnstile.pulses == 0
    assert await master.ask(cmd="pulse", out="in", ms=100) == {"ok": 7}


GARBAGE = [b"", b"no JSON", b"[]", b"[" * 4000, b"x" * (MAX_LINE + 1), b'{"cmd":"rest"}', b'{"id":true}', b"\x00\xff"]


@pytest.mark.parametrize("raw", GARBAGE, ids=range(len(GARBAGE)))
async def test_the_module_drops_a_client_that_talks_nonsense_and_serves_the_next(
    turnstile: Turnstile, master: Master, raw: bytes
) -> None:
    master.send(raw)
    await master.dropped()
    following = await Master.of(turnstile.lane_path)
    assert await following.ask(cmd="pulse", out="in", ms=100) == {"ok": 7}
    following.close()


async def test_the_module_drops_a_client_that_does_not_read(turnstile: Turnstile, master: Master) -> None:
    master.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport reads too
    for at in range(20_000):
        turnstile.set(A, at % 2 == 0)
    master.writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
    await master.dropped()
    following = await Master.of(turnstile.lane_path)
    assert await following.ask(cmd="levels") == {"ok": 7}
    assert len(following.changes) == len(LaneSignal)
    following.close()


async def test_a_power_cut_leaves_no_relay_energised(turnstile: Turnstile, master: Master) -> None:
    await master.ask(cmd="pulse", out="out", ms=MAX_PULSE_MS)
    await turnstile.stop()
    assert not turnstile.energised(Direction.OUT)
    assert not turnstile.open(Direction.OUT)
    await turnstile.start()


async def test_a_fire_line_lets_go_in_an_alarm_and_when_it_is_cut_and_not_when_it_is_shorted(
    turnstile: Turnstile,
) -> None:
    opens = {}
    for signal in (LaneSignal.FIRE, LaneSignal.FIRE_OPEN, LaneSignal.FIRE_SHORT):
        turnstile.set(signal, True)
        opens[signal] = turnstile.open(Direction.OUT)
        turnstile.set(signal, False)
    assert list(opens.values()) == [True, True, False]


async def test_a_key_that_is_turned_opens_one_contact_before_it_closes_the_other(
    turnstile: Turnstile, master: Master
) -> None:
    turnstile.turn_key(Key.LOCKED)
    turnstile.turn_key(Key.FREE)
    turnstile.turn_key(Key.NORMAL)
    await master.ask(cmd="rest")
    assert master.changes == [
        (LaneSignal.KEY_LOCKED, True),
        (LaneSignal.KEY_LOCKED, False),
        (LaneSignal.KEY_FREE, True),
        (LaneSignal.KEY_FREE, False),
    ]


# People.


@pytest.mark.parametrize(("direction", "first", "last"), [(Direction.IN, A, B), (Direction.OUT, B, A)])
async def test_a_person_breaks_the_beams_in_order_with_no_gap_between(
    turnstile: Turnstile, master: Master, direction: Direction, first: LaneSignal, last: LaneSignal
) -> None:
    await master.ask(cmd="pulse", out=direction.value, ms=5)
    assert await turnstile.walk(direction)
    assert await beams(master) == [(first, ON), (M, ON), (first, OFF), (last, ON), (M, OFF), (last, OFF)]


async def test_one_pulse_lets_one_person_through(turnstile: Turnstile, master: Master) -> None:
    await master.ask(cmd="pulse", out="in", ms=5)
    await turnstile.until(lambda: not turnstile.energised(Direction.IN), GUARD_S)
    assert await turnstile.walk(Direction.IN)
    assert not await turnstile.walk(Direction.IN)


@pytest.mark.parametrize("opened", [None, "out"], ids=["closed", "open the other way"])
async def test_a_person_turns_away_from_a_closed_barrier(
    turnstile: Turnstile, master: Master, opened: str | None
) -> None:
    if opened is not None:
        await master.ask(cmd="pulse", out=opened, ms=5)
    assert not await turnstile.walk(Direction.IN)
    await turnstile.turn_back(Direction.IN)
    assert await beams(master) == [(A, ON), (A, OFF)] * 2


async def test_the_barrier_locks_again_when_nobody_comes(
    turnstile: Turnstile, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(virtual, "RELEASE_S", 0.02)
    await master.ask(cmd="pulse", out="in", ms=5)
    assert turnstile.open(Direction.IN)
    await turnstile.until(lambda: not turnstile.open(Direction.IN), GUARD_S)
    assert not await turnstile.walk(Direction.IN)


async def test_a_person_who_turns_back_leaves_the_barrier_open(turnstile: Turnstile, master: Master) -> None:
    await master.ask(cmd="pulse", out="in", ms=5)
    await turnstile.turn_back(Direction.IN)
    assert await beams(master) == [(A, ON), (M, ON), (A, OFF), (A, ON), (M, OFF), (A, OFF)]
    assert await turnstile.walk(Direction.IN)


async def test_force_opens_the_contact_with_the_barrier_closed(turnstile: Turnstile, master: Master) -> None:
    await turnstile.force(Direction.IN)
    seen = await beams(master)
    assert (seen[0], seen[-1]) == ((C, ON), (C, OFF))
    assert (M, ON) in seen
    assert turnstile.pulses == 0


@pytest.mark.parametrize("direction", Direction)
async def test_fire_lets_everybody_through_without_any_agent(turnstile: Turnstile, direction: Direction) -> None:
    turnstile.set(LaneSignal.FIRE, True)
    assert await turnstile.walk(direction)
    assert await turnstile.walk(direction)
    assert turnstile.pulses == 0


# The display.


@pytest.mark.parametrize(
    "raw", [*GARBAGE, b'{"light":"blue","ko":"x","en":"x"}', b'{"light":"red","ko":7,"en":"x"}'], ids=range(10)
)
async def test_the_display_drops_a_client_that_talks_nonsense_and_keeps_its_message(
    turnstile: Turnstile, raw: bytes
) -> None:
    stop = Message(Light.RED, "정지", "Stop")
    client = await Master.of(turnstile.display_path)
    client.send(json.dumps({"light": "red", "ko": "정지", "en": "Stop"}).encode())
    client.send(raw)
    await client.dropped()
    assert turnstile.shown == stop
