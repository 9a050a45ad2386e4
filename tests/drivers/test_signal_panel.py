"""A panel's parts: each is lost alone, told once by name, and tried again; the sign fails only when all of them are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from drivers.ports import DriverError, Light, Message
from drivers.signal import PanelSettings, SoundSettings, TextSettings, open_panel, panel
from drivers.signal.panel import Panel
from drivers.signal.parts import Lamps, Slot
from gate_agent import messages
from tests.gate_agent.fakes import FakeClock

GUARD_S = 20.0


class FakePart:
    """Notes what it shows; `broken` fails it at work and at start."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.broken, self.fault = asyncio.Event(), ""
        self.starts = self.stops = 0
        self.shown: list[Message] = []

    def break_down(self, fault: str = "unplugged") -> None:
        self.fault = fault
        self.broken.set()

    async def start(self) -> None:
        self.starts += 1
        if self.broken.is_set():
            raise DriverError(self.fault)

    async def stop(self) -> None:
        self.stops += 1

    async def work(self, slot: Slot) -> None:
        async def show() -> None:
            while True:
                self.shown.append(await slot.take())

        showing = asyncio.ensure_future(show())
        try:
            await self.broken.wait()
        finally:
            showing.cancel()
            await asyncio.wait({showing})
        if self.fault == "bug":
            raise KeyError("a bug")
        raise DriverError(self.fault)


class Bench:
    def __init__(self, *names: str) -> None:
        self.parts = [FakePart(name) for name in names]
        self.reports: list[tuple[str, bool, str]] = []
        self.pauses: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()
        self.panel = Panel(
            self.parts, report=lambda *report: self.reports.append(report), random=Random(1), sleep=self.sleep
        )

    async def sleep(self, seconds: float) -> None:
        go_on = asyncio.Event()
        await self.pauses.put((seconds, go_on))
        await go_on.wait()

    async def pause(self) -> tuple[float, asyncio.Event]:
        return await asyncio.wait_for(self.pauses.get(), GUARD_S)

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(GUARD_S):
            while not reached():  # noqa: ASYNC110  tasks of this loop
                await asyncio.sleep(0)


async def test_every_part_shows_a_message() -> None:
    bench = Bench("light", "sound", "text")
    await bench.panel.start()
    await bench.panel.show(messages.PASS)
    await bench.until(lambda: all(part.shown == [messages.PASS] for part in bench.parts))
    await bench.panel.stop()
    assert [part.stops for part in bench.parts] == [1, 1, 1]
    assert bench.reports == []


async def test_a_sound_device_that_is_gone_leaves_the_light_and_is_told_once_by_name() -> None:
    bench = Bench("light", "sound")
    light, sound = bench.parts
    await bench.panel.start()
    sound.break_down("audio open error")
    for _ in range(4):
        _, go_on = await bench.pause()
        go_on.set()
    await bench.panel.show(messages.PASS)
    await bench.until(lambda: light.shown == [messages.PASS])
    assert bench.reports == [("sound", False, "audio open error")]
    await bench.panel.stop()


async def test_a_part_that_comes_back_shows_the_message_that_stands_and_is_told_once() -> None:
    bench = Bench("light", "text")
    _, text = bench.parts
    await bench.panel.start()
    await bench.panel.show(messages.IDLE)
    await bench.until(lambda: text.shown == [messages.IDLE])
    text.break_down()
    _, go_on = await bench.pause()
    await bench.panel.show(messages.PASS)
    text.broken.clear()
    go_on.set()
    await bench.until(lambda: text.shown == [messages.IDLE, messages.PASS])
    assert bench.reports == [("text", False, "unplugged"), ("text", True, "")]
    await bench.panel.stop()


async def test_a_part_that_stays_away_is_tried_with_growing_pauses() -> None:
    bench = Bench("light", "sound")
    bench.parts[1].break_down()
    await bench.panel.start()
    pauses = []
    for _ in range(8):
        seconds, go_on = await bench.pause()
        pauses.append(seconds)
        go_on.set()
    assert all(panel.BACKOFF_BASE_S <= pause <= panel.BACKOFF_CAP_S for pause in pauses)
    assert max(pauses) > 4
    await bench.panel.stop()


async def test_the_sign_has_failed_when_every_part_is_gone() -> None:
    bench = Bench("light", "sound")
    await bench.panel.start()
    for part in bench.parts:
        part.break_down()
        await bench.pause()
    with pytest.raises(DriverError, match="light: unplugged; sound: unplugged"):
        await bench.panel.show(messages.PASS)
    await bench.panel.stop()


async def test_a_sign_does_not_start_without_any_part_and_tells_no_part_twice() -> None:
    bench = Bench("light", "sound")
    for part in bench.parts:
        part.break_down()
    for _ in range(3):
        with pytest.raises(DriverError, match="light: unplugged; sound: unplugged"):
            await bench.panel.start()
    assert sorted(bench.reports) == [("light", False, "unplugged"), ("sound", False, "unplugged")]
    bench.parts[0].broken.clear()
    await bench.panel.start()
    assert bench.reports[2:] == [("light", True, "")]
    await bench.panel.stop()


async def test_what_was_shown_before_the_sign_failed_is_not_shown_after_it() -> None:
    bench = Bench("light")
    await bench.panel.start()
    await bench.panel.show(messages.PASS)
    await bench.until(lambda: bench.parts[0].shown == [messages.PASS])
    await bench.panel.stop()
    await bench.panel.start()
    await bench.panel.show(messages.IDLE)
    await bench.until(lambda: bench.parts[0].shown == [messages.PASS, messages.IDLE])
    await bench.panel.stop()


async def test_a_fault_in_one_part_is_contained() -> None:
    bench = Bench("light", "sound")
    await bench.panel.start()
    bench.parts[1].break_down("bug")
    await bench.pause()
    await bench.panel.show(messages.PASS)
    await bench.until(lambda: bench.parts[0].shown == [messages.PASS])
    assert bench.reports == [("sound", False, "KeyError")]
    await bench.panel.stop()


async def test_a_part_that_never_starts_holds_the_others_up_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel, "START_S", 0.05)
    bench = Bench("light", "sound")

    async def hang() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(bench.parts[1], "start", hang)
    await bench.panel.start()
    assert bench.reports == [("sound", False, "it does not start")]
    await bench.panel.stop()


async def test_of_messages_that_come_at_once_a_part_shows_the_newest() -> None:
    bench = Bench("light")
    await bench.panel.start()
    for message in (messages.CONNECTING, messages.CONSENT, messages.PASS):
        await bench.panel.show(message)
    await bench.until(lambda: bool(bench.parts[0].shown))
    assert bench.parts[0].shown == [messages.PASS]
    await bench.panel.stop()


async def test_a_sign_shows_nothing_before_it_is_started() -> None:
    with pytest.raises(DriverError, match="not started"):
        await Bench("light").panel.show(messages.PASS)


# -- lamps --------------------------------------------------------------------------------------------------------------------


class FakeLamps:
    def __init__(self) -> None:
        self.lit: list[Light] = []
        self.hangs = False

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def set(self, light: Light) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        self.lit.append(light)


async def test_lamps_follow_the_message_and_are_set_again_now_and_then() -> None:
    output, slot = FakeLamps(), Slot()
    slot.put(messages.PASS)
    task = asyncio.create_task(Lamps(output, refresh_s=0.01).work(slot))
    async with asyncio.timeout(GUARD_S):
        while output.lit[:2] != [Light.GREEN, Light.GREEN]:  # noqa: ASYNC110  the lamps are outside
            await asyncio.sleep(0.001)
    slot.put(messages.ALARM)
    async with asyncio.timeout(GUARD_S):
        while output.lit[-1:] != [Light.RED]:  # noqa: ASYNC110  the lamps are outside
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait({task})


async def test_lamps_that_do_not_answer_have_failed() -> None:
    output, slot = FakeLamps(), Slot()
    output.hangs = True
    slot.put(messages.PASS)
    with pytest.raises(DriverError, match="do not answer"):
        await asyncio.wait_for(Lamps(output, refresh_s=0.01).work(slot), GUARD_S)


# -- by configuration ---------------------------------------------------------------------------------------------------------


def opened(settings: PanelSettings) -> Panel:
    made = open_panel(settings, clock=FakeClock(), random=Random(1), report=lambda *_: None)
    assert isinstance(made, Panel)
    return made


def test_a_panel_has_the_parts_that_it_is_given(tmp_path: Path) -> None:
    made = opened(
        PanelSettings(FakeLamps(), SoundSettings("aplay", tmp_path / "speech"), TextSettings(tmp_path / "ttyUSB0"))
    )
    assert [kept.part.name for kept in made._kept] == ["light", "sound", "text"]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (PanelSettings(), "one part"),
        (PanelSettings(sound=SoundSettings("mpg123", Path("/x"))), "player"),
        (PanelSettings(text=TextSettings(Path("/x"), rows=3)), "rows"),
    ],
)
def test_a_panel_that_cannot_be_meant_is_refused(settings: PanelSettings, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        opened(settings)
