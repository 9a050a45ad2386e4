"""What is heard at a lane: tones that can be told apart, words by recording or espeak-ng, and which of two sounds gives way."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import sys
import wave
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from drivers.ports import DriverError, Light, Message
from drivers.signal import child, speech
from drivers.signal.parts import Slot
from drivers.signal.sound import Queue, Sound, player_command
from drivers.signal.speech import Speech
from drivers.signal.tones import RATE, TONES, encode, tone
from gate_agent import messages
from policy.reasons import Reason
from tests.gate_agent.fakes import FakeClock

GUARD_S = 20.0
HEARD = [light for light in Light if light is not Light.IDLE]
EXPIRED = messages.refusal(Reason.EXPIRED)
REVOKED = messages.refusal(Reason.REVOKED)

PLAYER = """\
#!{python}
import pathlib, sys, time
folder = pathlib.Path({folder!r})
name = pathlib.Path(sys.argv[-1]).name
if (folder / "unplugged").exists():
    sys.exit("audio open error: No such file or directory")
with (folder / "played").open("a") as notes:
    notes.write(name + "\\n")
while (folder / ("hold-" + name)).exists():
    time.sleep(0.01)
with (folder / "ended").open("a") as notes:
    notes.write(name + "\\n")
"""
SYNTHESISER = """\
#!{python}
import pathlib, sys
folder = pathlib.Path({folder!r})
with (folder / "made").open("a") as notes:
    notes.write(sys.argv[sys.argv.index("-v") + 1] + " " + sys.stdin.read() + "\\n")
if (folder / "broken").exists():
    sys.exit("no such voice")
pathlib.Path(sys.argv[sys.argv.index("-w") + 1]).write_bytes((folder / "any.wav").read_bytes())
"""


class Room:
    """A loudspeaker and a synthesiser that are scripts; what they do is noted in files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache, self.recordings = folder, folder / "cache", folder / "recordings"
        self.recordings.mkdir()
        (folder / "any.wav").write_bytes(encode([0] * 100))
        self.player = self._script("player", PLAYER)
        self.synthesiser = self._script("synthesiser", SYNTHESISER)
        self.clock = FakeClock()
        self.reports: list[tuple[str, bool, str]] = []
        self.slot = Slot()

    def _script(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text.format(python=sys.executable, folder=str(self.folder)))
        path.chmod(0o700)
        return str(path)

    def deaf_player(self) -> None:
        path = Path(self.player)
        path.write_text(path.read_text().replace("time\n", "time, signal\nsignal.signal(15, signal.SIG_IGN)\n", 1))

    def sound(self, synthesiser: str | None = None, languages: tuple[str, ...] = speech.LANGUAGES) -> Sound:
        words = Speech(
            self.cache,
            languages=languages,
            recordings=self.recordings,
            synthesiser=synthesiser or self.synthesiser,
        )
        return Sound(
            (self.player,), words, self.cache, clock=self.clock, report=lambda *report: self.reports.append(report)
        )

    def lines(self, name: str) -> list[str]:
        try:
            return (self.folder / name).read_text().splitlines()
        except FileNotFoundError:
            return []

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(GUARD_S):
            while not reached():  # noqa: ASYNC110  another process writes
                await asyncio.sleep(0.01)

    async def heard(self, *names: str) -> None:
        """Until exactly these have begun since the start, the probe apart."""
        await self.until(lambda: self.lines("played")[1:] == list(names))

    def hold(self, name: str) -> Path:
        path = self.folder / f"hold-{name}"
        path.touch()
        return path


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def rhythm(light: Light) -> tuple[bool, ...]:
    """Long or short, note by note."""
    return tuple(milliseconds > 200 for hertz, milliseconds in TONES[light] if hertz)


@pytest.mark.parametrize("pair", list(combinations(HEARD, 2)), ids=lambda pair: f"{pair[0]} {pair[1]}")
def test_two_tones_differ_in_rhythm_and_in_pitch(pair: tuple[Light, Light]) -> None:
    one, other = pair
    assert rhythm(one) != rhythm(other)
    assert {hertz for hertz, _ in TONES[one]} - {0} != {hertz for hertz, _ in TONES[other]} - {0}


@pytest.mark.parametrize("light", HEARD)
def test_a_tone_is_low_enough_for_old_ears_short_and_a_sound_file(light: Light) -> None:
    assert all(hertz < 1000 for hertz, _ in TONES[light])
    with wave.open(io.BytesIO(tone(light))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        assert 0.05 < file.getnframes() / RATE < 1.5


# -- which sound gives way ----------------------------------------------------------------------------------------------------


def test_a_new_message_takes_the_place_of_what_sounds() -> None:
    queue = Queue()
    queue.show(EXPIRED, 0)
    begun = queue.show(messages.PASS, 1)
    assert begun is not None
    assert (begun.key, begun.speak) == ("pass", True)


def test_falling_back_to_idle_lets_a_refusal_be_said_to_its_end() -> None:
    queue = Queue()
    begun = queue.show(EXPIRED, 0)
    assert queue.show(messages.IDLE, 3) is None
    assert queue.current == begun
    assert queue.ended(5) is None


def test_the_same_words_are_not_spoken_again_at_once_but_their_tone_sounds() -> None:
    queue = Queue(repeat_s=10)
    queue.show(messages.PASS, 0)
    assert queue.show(messages.PASS, 1) is None  # it is being said
    queue.ended(2)
    again = queue.show(messages.PASS, 3)
    assert again is not None
    assert not again.speak
    queue.ended(4)
    later = queue.show(messages.PASS, 10)
    assert later is not None
    assert later.speak


def test_a_repeat_waits_for_a_refusal_and_is_dropped_when_it_is_no_longer_meant() -> None:
    queue = Queue()
    queue.show(messages.PASS, 0)
    queue.ended(1)
    queue.show(EXPIRED, 2)
    assert queue.show(messages.PASS, 3) is None
    assert queue.waiting is not None
    assert queue.show(messages.IDLE, 4) is None
    assert queue.ended(5) is None
    queue.show(REVOKED, 6)
    assert queue.show(messages.PASS, 7) is None
    waited = queue.ended(8)
    assert waited is not None
    assert (waited.key, waited.speak) == ("pass", False)


def test_whatever_comes_one_thing_sounds_one_waits_and_no_refusal_is_cut_by_a_repeat() -> None:
    random, queue, now = Random(1), Queue(), 0.0
    said: dict[str, float] = {}
    for _ in range(3000):
        now += random.random() * 3
        before = queue.current
        if before is not None and random.random() < 0.4:
            queue.ended(now)
            continue
        message = random.choice([*messages.GUIDANCE, *messages.REFUSALS[:5]])
        begun = queue.show(message, now)
        if begun is not None:
            if before is not None and before.refusal:
                assert begun.speak
            assert not begun.speak or now - said.get(begun.key, -99) >= 10
            if begun.speak:
                said[begun.key] = now
        assert queue.waiting is None or queue.waiting.message == message
    assert len(queue._spoken) <= len(messages.GUIDANCE) + 5


# -- player and words ---------------------------------------------------------------------------------------------------------


class Working:
    """A sound part at work."""

    def __init__(self, room: Room, sound: Sound) -> None:
        self.room, self.sound = room, sound

    async def __aenter__(self) -> asyncio.Task[None]:
        await self.sound.start()
        self.task = asyncio.create_task(self.sound.work(self.room.slot))
        return self.task

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.sound.stop()


async def test_a_refusal_sounds_and_is_spoken_in_korean_then_english(room: Room) -> None:
    async with Working(room, room.sound()):
        room.slot.put(EXPIRED)
        await room.until(lambda: len(room.lines("ended")) == 4)
    assert room.lines("played")[:2] == ["silence.wav", "red.wav"]
    assert [name.partition("-")[0] for name in room.lines("played")[2:]] == ["ko", "en"]
    assert room.lines("made") == [f"ko {EXPIRED.ko}", f"en {EXPIRED.en}"]


async def test_words_are_made_once_and_kept_for_the_next_start(room: Room) -> None:
    for _ in range(2):
        async with Working(room, room.sound()):
            ended = len(room.lines("ended"))
            room.slot.put(EXPIRED)
            await room.until(lambda: len(room.lines("ended")) == ended + 3)  # noqa: B023  awaited at once
    assert len(room.lines("made")) == 2


async def test_an_agencys_recording_comes_before_made_words(room: Room) -> None:
    (room.recordings / "expired.ko.wav").write_bytes(encode([0] * 100))
    (room.recordings / "expired.en.wav").write_bytes(b"no sound file")
    async with Working(room, room.sound()):
        room.slot.put(EXPIRED)
        await room.until(lambda: len(room.lines("ended")) == 4)
    assert room.lines("played")[2] == "expired.ko.wav"
    assert room.lines("played")[3].startswith("en-")
    assert room.lines("made") == [f"en {EXPIRED.en}"]


async def test_a_message_that_comes_stops_what_is_being_said(room: Room) -> None:
    room.hold("red.wav")
    async with Working(room, room.sound(languages=())):
        room.slot.put(EXPIRED)
        await room.heard("red.wav")
        room.slot.put(messages.PASS)
        await room.until(lambda: "green.wav" in room.lines("ended"))
    assert "red.wav" not in room.lines("ended")


async def test_a_player_that_ignores_being_stopped_is_killed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "STOP_S", 0.05)
    room.deaf_player()
    room.hold("red.wav")
    async with Working(room, room.sound(languages=())):
        room.slot.put(EXPIRED)
        await room.heard("red.wav")
        room.slot.put(messages.PASS)
        await room.until(lambda: "green.wav" in room.lines("ended"))
    assert "red.wav" not in room.lines("ended")


async def test_without_recordings_and_synthesiser_tones_go_on_and_it_is_told_once(room: Room) -> None:
    async with Working(room, room.sound(synthesiser="no-such-synthesiser")):
        for message in (EXPIRED, messages.PASS, REVOKED):
            ended = len(room.lines("ended"))
            room.slot.put(message)
            await room.until(lambda: len(room.lines("ended")) > ended)  # noqa: B023  awaited at once
    assert [(part, works) for part, works, _ in room.reports] == [("speech", False)]
    assert "tones only" in room.reports[0][2]
    assert {"red.wav", "green.wav"} <= set(room.lines("ended"))


async def test_a_synthesiser_that_fails_costs_the_words_and_not_the_tone(room: Room) -> None:
    (room.folder / "broken").touch()
    async with Working(room, room.sound()):
        room.slot.put(EXPIRED)
        await room.until(lambda: len(room.reports) == 1)
        assert room.reports == [("speech", False, "synthesiser: no such voice")]
        assert room.lines("ended")[-1] == "red.wav"
        (room.folder / "broken").unlink()
        room.slot.put(messages.PASS)
        await room.until(lambda: len(room.lines("ended")) == 5)
        assert len(room.reports) == 1  # the words that lacked are still to come
        room.clock.elapsed += 60
        room.slot.put(EXPIRED)
        await room.until(lambda: room.reports[1:] == [("speech", True, "")])


async def test_speech_that_is_switched_off_is_no_failure(room: Room) -> None:
    async with Working(room, room.sound(synthesiser="no-such-synthesiser", languages=())):
        room.slot.put(EXPIRED)
        await room.until(lambda: "red.wav" in room.lines("ended"))
    assert room.reports == []
    assert room.lines("played") == ["silence.wav", "red.wav"]


async def test_a_sound_device_that_is_not_there_is_found_at_start(room: Room) -> None:
    (room.folder / "unplugged").touch()
    with pytest.raises(DriverError, match="audio open error"):
        await room.sound().start()


async def test_a_player_that_is_not_installed_is_found_at_start(room: Room) -> None:
    room.player = "no-such-player"
    with pytest.raises(DriverError, match="no-such-player is not installed"):
        await room.sound().start()


async def test_a_sound_device_that_goes_away_ends_the_work_with_its_own_words(room: Room) -> None:
    async with Working(room, room.sound()) as task:
        (room.folder / "unplugged").touch()
        room.slot.put(EXPIRED)
        with pytest.raises(DriverError, match="audio open error"):
            await asyncio.wait_for(asyncio.shield(task), GUARD_S)


async def test_a_full_disk_is_an_error_of_the_device(room: Room) -> None:
    room.cache.write_text("a file where the directory should be")
    with pytest.raises(DriverError, match="no place for sound files"):
        await room.sound().start()


async def test_the_cache_keeps_a_bounded_number_of_files(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "MAX_KEPT", 4)
    words = Speech(room.cache, synthesiser=room.synthesiser)
    speech.prepare(room.cache)
    for at in range(6):
        assert len(await words.words(Message(Light.RED, f"번호 {at}", f"number {at}", "x"))) == 2
    assert len(kept(room.cache)) == 4


async def test_tones_are_not_pushed_out_by_words_and_half_made_words_of_a_killed_agent_are_cleared(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "MAX_KEPT", 1)
    speech.prepare(room.cache)
    old, fresh = room.cache / "ko-1.1-a.part", room.cache / "ko-2.1-a.part"
    old.touch()
    fresh.touch()
    os.utime(old, (0, 0))
    sound = room.sound()
    await sound.start()
    await Speech(room.cache, synthesiser=room.synthesiser).words(EXPIRED)
    names = kept(room.cache)
    assert {f"{light}.wav" for light in HEARD} | {"silence.wav", fresh.name} <= {*names}
    assert old.name not in names
    assert sum(name.startswith(("ko-", "en-")) and name.endswith(".wav") for name in names) == 1


@pytest.mark.parametrize(
    ("complaint", "why"),
    [
        ("ALSA lib: cannot find card\\nsh: main:831: audio  open error\\n\\n", "sh: main:831: audio open error"),
        ("busy", "sh: busy"),
        ("", "sh ended with 3"),
    ],
)
async def test_of_what_a_program_says_its_last_line_is_the_reason(complaint: str, why: str) -> None:
    with pytest.raises(DriverError) as caught:
        await child.run(("/bin/sh", "-c", f"printf '{complaint}' >&2; exit 3"), GUARD_S)
    assert str(caught.value) == why


async def test_a_program_that_never_ends_is_ended() -> None:
    with pytest.raises(DriverError, match="sh does not end"):
        await child.run(("/bin/sh", "-c", "while :; do :; done"), 0.05)


async def test_a_program_that_talks_without_end_fills_no_memory_and_is_ended() -> None:
    with pytest.raises(DriverError, match="sh does not end"):
        await child.run(("/bin/sh", "-c", "while :; do echo still here >&2; done"), 0.2)


@pytest.mark.skipif(shutil.which("aplay") is None, reason="aplay is not installed")
async def test_the_real_aplay_plays_every_tone_to_alsas_null_device_and_names_a_card_that_is_not_there(
    tmp_path: Path,
) -> None:
    def sound(device: str) -> Sound:
        words = Speech(tmp_path, languages=())
        return Sound(player_command("aplay", device), words, tmp_path, clock=FakeClock(), report=lambda *_: None)

    await sound("null").start()
    for light in HEARD:
        await child.run((*player_command("aplay", "null"), str(tmp_path / f"{light}.wav")), GUARD_S)
    with pytest.raises(DriverError, match=r"aplay: .*(error|No such)"):
        await sound("hw:CARD=nobody").start()


@pytest.mark.parametrize("key", ["", "../escape", "a/b", "A", "x" * 64])
async def test_a_key_that_is_no_plain_word_never_becomes_a_file_name(room: Room, key: str) -> None:
    (room.folder / "escape.ko.wav").write_bytes(encode([0] * 100))
    words = Speech(room.cache, recordings=room.recordings, synthesiser=room.synthesiser)
    speech.prepare(room.cache)
    assert all(path.parent == room.cache for path in await words.words(Message(Light.RED, "가", "a", key)))


def test_only_known_players_are_run() -> None:
    assert player_command("aplay", "plughw:1,0") == ("aplay", "-q", "-D", "plughw:1,0")
    assert player_command("paplay") == ("paplay",)
    with pytest.raises(ValueError, match="aplay, paplay"):
        player_command("mpg123")


def kept(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.skipif(shutil.which(speech.SYNTHESISER) is None, reason="espeak-ng is not installed")
async def test_espeak_ng_speaks_every_message_in_both_languages(tmp_path: Path) -> None:
    words = Speech(tmp_path)
    spoken = [message for message in (*messages.GUIDANCE, *messages.REFUSALS) if message.light in TONES]
    for message in spoken:
        found = await words.words(message)
        assert [path.name[:3] for path in found] == ["ko-", "en-"]
        assert all(0.5 < speech.length(path) < 10 for path in found)
    names = kept(tmp_path)
    assert len(names) <= speech.MAX_KEPT
    assert all(name.endswith(".wav") for name in names)
