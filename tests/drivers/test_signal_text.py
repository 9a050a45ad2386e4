"""A character display: how words are laid out, and what goes over the serial port."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from drivers.ports import DriverError, Light, Message
from drivers.signal import text
from drivers.signal.layout import lines, pages, width
from drivers.signal.parts import Slot
from drivers.signal.text import TextDisplay, TextSettings, command
from gate_agent import messages
from policy.reasons import Reason

GUARD_S = 20.0
EVERY = [*messages.GUIDANCE, *messages.REFUSALS]


def test_hangul_takes_two_cells() -> None:
    assert (width("통과 OK"), width("pass")) == (7, 4)


def test_words_are_broken_at_spaces() -> None:
    assert lines("휴대전화에서 제출을 확인해 주세요", 20) == ["휴대전화에서 제출을", "확인해 주세요"]


def test_only_a_word_wider_than_the_display_is_cut() -> None:
    assert lines("a abcdefghij b", 4) == ["a", "abcd", "efgh", "ij b"]
    assert lines("가나다", 5) == ["가나", "다"]


def test_both_languages_stand_together_where_they_fit() -> None:
    assert pages(("통과하세요", "Please pass"), 20, 2) == [("통과하세요          ", "Please pass         ")]


def test_what_does_not_fit_comes_korean_first_and_page_after_page() -> None:
    words = ("휴대전화 잠금을 풀고 신분증을 열어 주세요", "Unlock your phone and open your ID")
    book = pages(words, 20, 2)
    assert [tuple(line.rstrip() for line in page) for page in book] == [
        ("휴대전화 잠금을 풀고", "신분증을 열어 주세요"),
        ("Unlock your phone", "and open your ID"),
    ]


def test_nothing_to_say_is_an_empty_page() -> None:
    assert pages(("", ""), 4, 2) == [("    ", "    ")]


@pytest.mark.parametrize("columns", [8, 16, 20, 40])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_every_message_fills_its_pages_exactly_and_loses_no_word(columns: int, rows: int) -> None:
    for message in EVERY:
        book = pages((message.ko, message.en), columns, rows)
        assert all(len(page) == rows and {width(line) for line in page} == {columns} for page in book)
        shown = "".join(line for page in book for line in page).replace(" ", "")
        assert shown == (message.ko + message.en).replace(" ", "")


def test_any_text_at_all_is_laid_out_without_a_command_in_it() -> None:
    random = Random(1)
    for _ in range(300):
        words = "".join(chr(random.choice((*range(0x20), 0x7F, 0x20, 0x41, 0xAC00, 0x200B))) for _ in range(40))
        for page in pages((words, words), random.randint(2, 30), random.randint(1, 4)):
            assert all(each.isprintable() for line in page for each in line)


def test_a_cd5220_gets_each_line_by_its_own_command_in_euc_kr() -> None:
    page = pages(("통과하세요", "Please pass"), 20, 2)[0]
    assert command(page, TextSettings(Path("/dev/x"))) == (
        b"\x1bQA" + "통과하세요".encode("euc-kr") + b" " * 10 + b"\r" + b"\x1bQBPlease pass" + b" " * 9 + b"\r"
    )


def test_an_escpos_display_gets_its_cursor_set_and_utf_8_where_it_wants_it() -> None:
    settings = TextSettings(Path("/dev/x"), rows=1, columns=12, encoding="utf-8", commands="escpos")
    assert command(("통과하세요  ",), settings) == b"\x1f$\x01\x01" + "통과하세요  ".encode()


def test_every_korean_message_can_be_said_in_euc_kr() -> None:
    for message in EVERY:
        assert message.ko.encode("euc-kr").decode("euc-kr") == message.ko


def test_a_character_the_display_does_not_know_is_a_question_mark() -> None:
    assert command(("ñ ", "  "), TextSettings(Path("/dev/x"), columns=2)).startswith(b"\x1bQA? \r")


def test_a_cd5220_has_two_rows() -> None:
    with pytest.raises(ValueError, match="rows"):
        TextDisplay(TextSettings(Path("/dev/x"), rows=4))


# -- the port -----------------------------------------------------------------------------------------------------------------


class Wire:
    """The far end of a pseudo-terminal."""

    def __init__(self) -> None:
        self.far, near = os.openpty()
        tty.setraw(near)
        os.set_blocking(self.far, False)
        self.settings = TextSettings(Path(os.ttyname(near)))
        # Held open: a pseudo-terminal that nobody has open loses what was written to it.
        self.near = near
        self.seen = b""

    def read(self) -> bytes:
        with suppress(BlockingIOError):  # nothing yet
            self.seen += os.read(self.far, 65536)
        return self.seen

    async def until(self, wanted: bytes) -> None:
        async with asyncio.timeout(GUARD_S):
            while wanted not in self.read():  # noqa: ASYNC110  read by hand, as the far end does
                await asyncio.sleep(0.005)

    def unplug(self) -> None:
        self.close()

    def close(self) -> None:
        for end in (self.far, self.near):
            if end >= 0:
                os.close(end)
        self.far = self.near = -1


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


class Working:
    def __init__(self, display: TextDisplay) -> None:
        self.display, self.slot = display, Slot()

    async def __aenter__(self) -> Working:
        await self.display.start()
        self.task = asyncio.create_task(self.display.work(self.slot))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.display.stop()


@pytest.fixture
async def working(wire: Wire) -> AsyncIterator[Working]:
    async with Working(TextDisplay(wire.settings, page_s=0.02, refresh_s=0.02)) as made:
        yield made


async def test_a_display_is_set_up_and_shows_what_comes(wire: Wire, working: Working) -> None:
    working.slot.put(messages.PASS)
    await wire.until(b"\x1bQA" + "통과하세요".encode("euc-kr"))
    assert wire.seen.startswith(b"\x1b@\x0c")


async def test_pages_take_turns_for_as_long_as_a_message_stands(wire: Wire, working: Working) -> None:
    working.slot.put(messages.UNLOCK)
    await wire.until("휴대전화 잠금을 풀고".encode("euc-kr"))
    await wire.until(b"Unlock your phone")
    wire.seen = b""
    await wire.until("휴대전화 잠금을 풀고".encode("euc-kr"))


async def test_a_display_that_lost_power_shows_the_message_again(wire: Wire, working: Working) -> None:
    working.slot.put(messages.PASS)
    await wire.until(b"Please pass")
    wire.seen = b""
    await wire.until(b"Please pass")


async def test_a_display_that_is_unplugged_ends_the_work(wire: Wire, working: Working) -> None:
    working.slot.put(messages.PASS)
    await wire.until(b"Please pass")
    wire.unplug()
    with pytest.raises(DriverError, match="gone"):
        await asyncio.wait_for(asyncio.shield(working.task), GUARD_S)


async def test_no_words_stay_on_a_display_whose_agent_stops(wire: Wire) -> None:
    async with Working(TextDisplay(wire.settings)) as working:
        working.slot.put(messages.PASS)
        await wire.until(b"Please pass")
    await wire.until(b"Please pass" + b" " * 9 + b"\r\x0c")


async def test_a_display_that_takes_nothing_is_a_failed_device_and_holds_nobody_up(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "WRITE_S", 0.05)
    display = TextDisplay(replace(wire.settings, columns=40, commands="escpos", rows=4), page_s=0.001, refresh_s=0.001)
    async with Working(display) as working:
        working.slot.put(Message(Light.RED, "가" * 2000, "a" * 2000))
        with pytest.raises(DriverError, match="takes no more"):
            await asyncio.wait_for(asyncio.shield(working.task), GUARD_S)


async def test_no_port_and_no_serial_port_are_found_at_start(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="no display at"):
        await TextDisplay(TextSettings(tmp_path / "ttyUSB0")).start()
    (tmp_path / "file").touch()
    with pytest.raises(DriverError, match="no serial port"):
        await TextDisplay(TextSettings(tmp_path / "file")).start()


@pytest.mark.parametrize("baud", text.BAUDS)
async def test_every_speed_that_may_be_configured_can_be_set(wire: Wire, baud: int) -> None:
    display = TextDisplay(replace(wire.settings, baud=baud))
    await display.start()
    await display.stop()


def test_the_longest_refusal_is_read_within_a_few_pages() -> None:
    longest = max(len(pages((each.ko, each.en), 20, 2)) for each in messages.REFUSALS)
    assert longest <= 5
    assert len(pages((messages.refusal(Reason.EXPIRED).ko,), 20, 2)) == 1
