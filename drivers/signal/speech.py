"""Spoken words for a message: an agency's own recording, else made once by espeak-ng and kept, else none.

A recording is KEY.ko.wav or KEY.en.wav in the directory given; the keys are listed in docs/messages.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import shutil
import time
import wave
from collections.abc import Sequence
from pathlib import Path

from drivers.ports import DriverError, Message
from drivers.signal.child import run

_log = logging.getLogger(__name__)

LANGUAGES = ("ko", "en")
SYNTHESISER = "espeak-ng"
MAKE_S = 10.0
"""Longest wait for the synthesiser; a sentence takes some tens of milliseconds."""
MAX_LENGTH_S = 20.0
"""Longest recording that is played."""
PART = ".part"
STALE_S = 3600.0
"""A half-made file that is this old belongs to nobody any more."""
MAX_KEPT = 512
"""Files of words kept in the cache; twice what all messages in both languages need."""
_WORDS_PER_MINUTE = "150"
_KEY = re.compile(r"[a-z0-9_]{1,63}")


def length(path: Path) -> float:
    """Seconds of a WAV file. Raises ValueError for what is none, or is longer than is played; OSError."""
    try:
        with wave.open(str(path), "rb") as file:
            seconds = file.getnframes() / (file.getframerate() or 1)
    except (wave.Error, EOFError) as error:
        raise ValueError("no WAV file") from error
    if not 0 < seconds <= MAX_LENGTH_S:
        raise ValueError(f"longer than {MAX_LENGTH_S:g} s, or empty")
    return seconds


class Speech:
    def __init__(
        self,
        cache: Path,
        *,
        languages: Sequence[str] = LANGUAGES,
        recordings: Path | None = None,
        synthesiser: str = SYNTHESISER,
    ) -> None:
        """`languages` in the order in which they are spoken; none at all: no speech."""
        self._cache, self._languages, self._recordings = cache, tuple(languages), recordings
        self._synthesiser = shutil.which(synthesiser) or ""
        self._told: set[Path] = set()

    @property
    def wanted(self) -> bool:
        return bool(self._languages)

    def sources(self) -> str:
        """Where words come from: `recordings`, `espeak-ng`, both, or nothing."""
        found = []
        if self._recordings is not None and any(self._recordings.glob("*.wav")):
            found.append("recordings")
        if self._synthesiser:
            found.append(SYNTHESISER)
        return " and ".join(found)

    async def words(self, message: Message) -> list[Path]:
        """WAV files to play, one a language; a language without words is left out. Raises DriverError where there are none
        at all."""
        found: list[Path] = []
        problem: DriverError | None = None
        for language in self._languages:
            try:
                path = await asyncio.to_thread(self._recorded, message.key, language)
                found.append(path or await self._made(message.ko if language == "ko" else message.en, language))
            except DriverError as error:
                problem = error
        if not found and problem is not None:
            raise problem
        return found

    def _recorded(self, key: str, language: str) -> Path | None:
        if self._recordings is None or not _KEY.fullmatch(key):
            return None
        path = self._recordings / f"{key}.{language}.wav"
        try:
            length(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            if path not in self._told:
                self._told.add(path)
                _log.warning("recording %s is left out: %s", path.name, error)
            return None
        return path

    async def _made(self, text: str, language: str) -> Path:
        """From the cache, or made now. Raises DriverError."""
        path = self._cache / f"{language}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.wav"
        if await asyncio.to_thread(self._kept, path):
            return path
        if not self._synthesiser:
            raise DriverError(f"no recording, and {SYNTHESISER} is not installed")
        # Another sign may be making the same words.
        part = path.with_suffix(f".{os.getpid()}-{id(self):x}{PART}")
        await run(
            (self._synthesiser, "-v", language, "-s", _WORDS_PER_MINUTE, "-b", "1", "--stdin", "-w", str(part)),
            MAKE_S,
            text.encode(),
        )
        return await asyncio.to_thread(self._keep, part, path)

    @staticmethod
    def _kept(path: Path) -> bool:
        try:
            length(path)
        except (OSError, ValueError):
            return False
        return True

    def _keep(self, part: Path, path: Path) -> Path:
        """Rename into place, so that a half-made file is never taken; the oldest go first. Raises DriverError."""
        try:
            length(part)
            part.replace(path)
            others = sorted(self._cache.glob("??-*.wav"), key=lambda each: each.stat().st_mtime)
            for old in others[: max(0, len(others) - MAX_KEPT)]:
                old.unlink(missing_ok=True)
        except (OSError, ValueError) as error:
            raise DriverError(f"{SYNTHESISER} made no sound file") from error
        return path


def prepare(cache: Path) -> None:
    """Make the cache directory, for this user alone, and clear it of what a killed agent left half made. Raises DriverError."""
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in cache.glob(f"*{PART}"):
            if time.time() - part.stat().st_mtime > STALE_S:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise DriverError(f"no place for sound files: {error.strerror}") from error
    if not os.access(cache, os.W_OK):
        raise DriverError("no place for sound files: it cannot be written")
