"""A second factor's two drivers, against terminals that answer, refuse, are silent, late, or talk nonsense."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.factor import open_factor
from drivers.factor.contact import ContactFactor
from drivers.ports import DriverError, LinkTimeoutError, SecondFactor
from testbed.sockets import Listener

GUARD_S = 10.0


class Terminal:
    """The other side: `answer` gives the lines that follow a question, None for hanging up."""

    def __init__(self, path: Path, answer: Callable[[Any], list[Any] | None]) -> None:
        self.path, self._answer = path, answer
        self.asked: list[Any] = []
        self.writer: asyncio.StreamWriter | None = None
        self.connected = asyncio.Event()
        self._listener = Listener(self._serve, limit=4096)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.connected.set()
        while line := await reader.readline():
            self.asked.append(json.loads(line))
            lines = self._answer(self.asked[-1])
            if lines is None:
                writer.close()
                return
            for each in lines:
                self.say(each)

    def say(self, body: Any) -> None:
        assert self.writer is not None
        self.writer.write(json.dumps(body).encode() + b"\n")

    async def start(self) -> None:
        await self._listener.listen_unix(self.path)

    async def stop(self) -> None:
        await self._listener.stop()


@asynccontextmanager
async def terminal(
    tmp_path: Path, driver: str, answer: Callable[[Any], list[Any] | None] = lambda _asked: []
) -> AsyncIterator[tuple[Terminal, SecondFactor]]:
    other = Terminal(tmp_path / "terminal", answer)
    await other.start()
    factor = open_factor(driver=driver, path=str(other.path))
    try:
        async with asyncio.timeout(GUARD_S):
            await factor.start()
            await other.connected.wait()
            yield other, factor
    finally:
        await factor.stop()
        await other.stop()


@pytest.mark.parametrize("ok", [True, False])
async def test_a_terminal_answers_for_the_attempt_it_was_asked_for(tmp_path: Path, ok: bool) -> None:
    async with terminal(tmp_path, "callback", lambda asked: [{"attempt": asked["attempt"], "ok": ok}]) as (
        other,
        factor,
    ):
        assert await factor.confirm("a1", "lane-1", 5) is ok
        assert other.asked == [{"attempt": "a1", "lane": "lane-1", "timeout_ms": 5000}]


async def test_a_late_answer_to_another_attempt_is_none_of_this_one(tmp_path: Path) -> None:
    answers = [{"attempt": "a0", "ok": True}, {"attempt": "a1", "ok": False}]
    async with terminal(tmp_path, "callback", lambda _asked: answers) as (_, factor):
        assert await factor.confirm("a1", "lane-1", 5) is False


@pytest.mark.parametrize("driver", ["callback", "contact"])
async def test_silence_is_a_timeout(tmp_path: Path, driver: str) -> None:
    async with terminal(tmp_path, driver) as (_, factor):
        with pytest.raises(LinkTimeoutError):
            await factor.confirm("a1", "lane-1", 0.01)


@pytest.mark.parametrize("answer", [None, [{"hello": 1}], [[]], [{"attempt": "a1", "ok": 1}]])
async def test_a_terminal_that_hangs_up_or_talks_nonsense_has_failed(tmp_path: Path, answer: Any) -> None:
    async with terminal(tmp_path, "callback", lambda _asked: answer) as (_, factor):
        with pytest.raises(DriverError):
            await factor.confirm("a1", "lane-1", 5)
        with pytest.raises(DriverError):
            await factor.confirm("a2", "lane-1", 5)


async def until(reached: Callable[[], bool]) -> None:
    """Let the loop turn until something private to the driver has happened; it makes no event of its own."""
    async with asyncio.timeout(GUARD_S):
        while not reached():  # noqa: ASYNC110  there is no event to wait on
            await asyncio.sleep(0)


async def asked(factor: SecondFactor) -> asyncio.Task[bool]:
    """A question under way."""
    task = asyncio.create_task(factor.confirm("a1", "lane-1", 5))
    assert isinstance(factor, ContactFactor)
    await until(lambda: bool(factor._asked))
    return task


@pytest.mark.parametrize(("name", "ok"), [("ok", True), ("no", False)])
async def test_an_edge_of_a_contact_is_the_answer(tmp_path: Path, name: str, ok: bool) -> None:
    async with terminal(tmp_path, "contact") as (other, factor):
        question = await asked(factor)
        other.say({"in": name, "active": True})
        assert await question is ok


async def test_a_contact_that_was_closed_before_says_nothing_of_this_person(tmp_path: Path) -> None:
    async with terminal(tmp_path, "contact") as (other, factor):
        other.say({"in": "ok", "active": True})
        assert isinstance(factor, ContactFactor)
        await until(lambda: factor._levels.get("ok", False))
        question = await asked(factor)
        other.say({"in": "ok", "active": True})
        other.say({"in": "ok", "active": False})
        other.say({"in": "no", "active": True})
        assert await question is False


async def test_a_contact_can_be_asked_for_one_attempt_at_a_time(tmp_path: Path) -> None:
    async with terminal(tmp_path, "contact") as (other, factor):
        question = await asked(factor)
        with pytest.raises(DriverError):
            await factor.confirm("a2", "lane-1", 5)
        other.say({"in": "ok", "active": True})
        assert await question


@pytest.mark.parametrize("driver", ["callback", "contact"])
async def test_a_terminal_that_is_not_there_does_not_start(tmp_path: Path, driver: str) -> None:
    factor = open_factor(driver=driver, path=str(tmp_path / "absent"))
    with pytest.raises(DriverError):
        await factor.start()
    with pytest.raises(DriverError):
        await factor.confirm("a1", "lane-1", 1)


@pytest.mark.parametrize("driver", ["callback", "contact"])
async def test_a_terminal_that_hangs_up_is_missed_before_it_is_asked(tmp_path: Path, driver: str) -> None:
    async with terminal(tmp_path, driver) as (other, factor):
        missed = asyncio.create_task(factor.gone())
        await asyncio.sleep(0)
        assert not missed.done()
        assert other.writer is not None
        other.writer.close()
        with pytest.raises(DriverError):
            await missed


def test_no_other_driver_exists() -> None:
    with pytest.raises(ValueError, match="no second factor driver"):
        open_factor(driver="retina", path="x")
