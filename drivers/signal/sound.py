"""Tones and speech through a player program (aplay or paplay) as a child process. Volume is the system's.

One thing sounds at a time and one waits. A new message stops what sounds; a repeat waits for a refusal to be said to its end,
and what has nothing to say (the sign falls back to idle) stops nothing.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.ports import DriverError, Light, Message
from drivers.signal import speech as spoken_words
from drivers.signal.child import run
from drivers.signal.parts import Slot
from drivers.signal.speech import MAX_LENGTH_S, Speech
from drivers.signal.tones import TONES, silence, tone
from protocol.clock import Clock

_log = logging.getLogger(__name__)

PLAYERS = ("aplay", "paplay")
MARGIN_S = 5.0
"""What a player may take beyond a file's own length: the device may be busy for a moment."""
PROBE_LIMIT_S = 4.0
REPEAT_S = 10.0
"""The same words are not spoken again within this time; its tone sounds all the same."""
EVERY = "*"
"""Stands for the key of every message."""
_REFUSALS = frozenset({Light.RED, Light.FAULT})

PartReport = Callable[[str, bool, str], None]
"""(part, works, why not)."""


def player_command(player: str, device: str = "") -> tuple[str, ...]:
    """The program and its options; the file follows. Raises ValueError."""
    if player == "aplay":
        return ("aplay", "-q", *(("-D", device) if device else ()))
    if player == "paplay":
        return ("paplay", *((f"--device={device}",) if device else ()))
    raise ValueError(f"player: one of {', '.join(PLAYERS)} is expected")


@dataclass(frozen=True, slots=True)
class Announcement:
    message: Message
    speak: bool
    """False: its tone alone."""

    @property
    def key(self) -> str:
        return self.message.key or self.message.en

    @property
    def refusal(self) -> bool:
        return self.message.light in _REFUSALS


class Queue:
    """What sounds now and the one thing that waits. No time passes in here: `now` is monotonic seconds."""

    def __init__(self, repeat_s: float = REPEAT_S) -> None:
        self._repeat_s = repeat_s
        self._spoken: dict[str, float] = {}
        self.current: Announcement | None = None
        self.waiting: Announcement | None = None

    def show(self, message: Message, now: float) -> Announcement | None:
        """What has to begin at once, in place of what sounds; None: nothing changes for now."""
        self.waiting = None
        if message.light not in TONES:
            return None
        key = message.key or message.en
        self._spoken = {each: at for each, at in self._spoken.items() if now - at < self._repeat_s}
        repeat = key in self._spoken
        if repeat and self.current is not None:
            if self.current.key == key:
                return None  # it is being said
            if self.current.refusal:
                self.waiting = Announcement(message, speak=False)
                return None
        return self._begin(Announcement(message, speak=not repeat), now)

    def ended(self, now: float) -> Announcement | None:
        """What sounded is over: what has to begin next."""
        self.current = None
        return None if self.waiting is None else self._begin(self.waiting, now)

    def _begin(self, announcement: Announcement, now: float) -> Announcement:
        self.current, self.waiting = announcement, None
        if announcement.speak:
            self._spoken[announcement.key] = now
        return announcement


class Sound:
    """drivers.signal.parts.Part."""

    name = "sound"

    def __init__(
        self,
        command: Sequence[str],
        speech: Speech,
        cache: Path,
        *,
        clock: Clock,
        report: PartReport,
        repeat_s: float = REPEAT_S,
    ) -> None:
        """`command` takes one file as its last argument. `cache` holds tones and whatever words are made."""
        self._command, self._speech, self._cache = tuple(command), speech, cache
        self._clock, self._report, self._repeat_s = clock, report, repeat_s
        self._lacking: str | None = None

    async def start(self) -> None:
        program = self._command[0]
        if shutil.which(program) is None:
            raise DriverError(f"{program.rpartition('/')[2]} is not installed")
        await asyncio.to_thread(self._write)
        await run((*self._command, str(self._cache / "silence.wav")), PROBE_LIMIT_S)
        if self._speech.wanted:
            sources = await asyncio.to_thread(self._speech.sources)
            _log.info("speech: %s", sources or "none, tones only")
            self._words(EVERY, "" if sources else "no recordings, and espeak-ng is not installed: tones only")

    async def stop(self) -> None:
        """Nothing stays open between two sounds."""

    async def work(self, slot: Slot) -> None:
        queue = Queue(self._repeat_s)
        playing: asyncio.Task[None] | None = None
        newest = asyncio.ensure_future(slot.take())
        try:
            while True:
                waiting: set[asyncio.Future[object]] = {newest, *(() if playing is None else (playing,))}  # type: ignore[arg-type]  # of any result
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                begin: Announcement | None = None
                if playing is not None and playing.done():
                    playing.result()
                    playing, begin = None, queue.ended(self._clock.monotonic())
                if newest.done():
                    message = newest.result()
                    newest = asyncio.ensure_future(slot.take())
                    begin = queue.show(message, self._clock.monotonic()) or begin
                if begin is not None:
                    await _stopped(playing)
                    playing = asyncio.ensure_future(self._announce(begin))
        finally:
            await _stopped(newest)
            await _stopped(playing)

    async def _announce(self, announcement: Announcement) -> None:
        await self._play(self._cache / f"{announcement.message.light.value}.wav")
        if not (announcement.speak and self._speech.wanted):
            return
        try:
            words = await self._speech.words(announcement.message)
        except DriverError as error:
            self._words(announcement.key, str(error))
            return
        self._words(announcement.key, "")
        for path in words:
            await self._play(path)

    async def _play(self, path: Path) -> None:
        await run((*self._command, str(path)), MAX_LENGTH_S + MARGIN_S)

    def _words(self, key: str, problem: str) -> None:
        """A lane that lacks words has its tones. Told once, and again when the words that lacked are there."""
        if problem and self._lacking is None:
            self._lacking = key
            self._report("speech", False, problem)
        elif not problem and self._lacking == key:
            self._lacking = None
            self._report("speech", True, "")

    def _write(self) -> None:
        """Raises DriverError."""
        spoken_words.prepare(self._cache)
        files = {f"{light.value}.wav": tone(light) for light in TONES} | {"silence.wav": silence()}
        try:
            for name, content in files.items():
                path = self._cache / name
                if not path.is_file() or path.read_bytes() != content:
                    path.write_bytes(content)
        except OSError as error:
            raise DriverError(f"no place for sound files: {error.strerror}") from error


async def _stopped(task: asyncio.Future[None] | asyncio.Future[Message] | None) -> None:
    """A player that is stopped may complain; nobody wants to hear it any more."""
    if task is None:
        return
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
