"""Values that may stand nowhere but on a phone, and the search for them in whatever agent, controller and broker leave behind.

Each value is searched for in the forms in which it might be written: raw, hex, base64, JSON, decimal. What is too short to be
told from chance is searched for as a word of text only.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

WORD = 8
"""Bytes that every searched form has at least: they find it, the rest is compared."""
_NUMBER = re.compile(rb"(?<![0-9A-Za-z])[0-9]{7,10}(?![0-9A-Za-z])")
_HEX = re.compile(rb"(?<![0-9A-Za-z])(?:[0-9A-Fa-f]{8}|[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){3})(?![0-9A-Za-z])")


@dataclass(frozen=True, slots=True)
class Find:
    kind: str
    """What was found, such as `ble_address`; never its value."""
    place: str


class Canaries:
    def __init__(self) -> None:
        self._forms: dict[bytes, str] = {}
        self._numbers: dict[bytes, str] = {}
        self._short: dict[bytes, str] = {}
        self.counts: Counter[str] = Counter()
        """Values by kind."""

    def __len__(self) -> int:
        return self.counts.total()

    def text(self, kind: str, value: str) -> None:
        self.counts[kind] += 1
        escaped = json.dumps(value)[1:-1].encode()
        for form in {value.encode(), escaped}:
            self._form(kind, form)
        self._encoded(kind, value.encode())

    def number(self, kind: str, value: int) -> None:
        """Seven to ten digits, so that chance does not write it."""
        digits = str(value).encode()
        if not 7 <= len(digits) <= 10:
            raise ValueError("a number of 7 to 10 digits is expected")
        self.counts[kind] += 1
        self._numbers[digits] = kind

    def octets(self, kind: str, value: bytes) -> None:
        """Four octets are searched for in hex only; more in every form."""
        self.counts[kind] += 1
        if len(value) == 4:
            self._short[value.hex().encode()] = kind
            return
        if len(value) < 6:
            raise ValueError("four octets, or six and more, are expected")
        if len(value) >= WORD:
            self._form(kind, value)
        for separator in (":", "-"):
            for order in (value, value[::-1]):
                joined = order.hex(separator)
                self._form(kind, joined.encode())
                self._form(kind, joined.upper().encode())
        self._encoded(kind, value)

    def digest(self, kind: str, value: bytes) -> None:
        """A value, and its SHA-256 as well."""
        self.octets(kind, value)
        self.octets(f"{kind}_hash", sha256(value).digest())

    def _form(self, kind: str, form: bytes) -> None:
        if len(form) < WORD:
            raise ValueError(f"{kind}: too short to be told from chance")
        self._forms[form] = kind

    def _encoded(self, kind: str, value: bytes) -> None:
        self._form(kind, value.hex().encode())
        self._form(kind, value.hex().upper().encode())
        for skip in range(3):
            # Wherever it begins in what was encoded: characters that hold bits of neighbours are left out.
            whole = base64.b64encode(bytes(skip) + value).rstrip(b"=")
            inner = whole[(skip * 8 + 5) // 6 : (skip + len(value)) * 8 // 6]
            if len(inner) >= WORD:
                self._form(kind, inner)
                self._form(kind, inner.replace(b"+", b"-").replace(b"/", b"_"))

    def search(self, contents: Iterable[tuple[str, bytes]]) -> list[Find]:
        """What was found, each kind once for each place."""
        by_word: dict[int, list[bytes]] = defaultdict(list)
        for form in self._forms:
            by_word[int.from_bytes(form[:WORD], "little")].append(form)
        words = np.fromiter(by_word, np.uint64, len(by_word))
        found: set[Find] = set()
        for place, content in contents:
            for at in _offsets(content, words):
                for form in by_word[int.from_bytes(content[at : at + WORD], "little")]:
                    if content.startswith(form, at):
                        found.add(Find(self._forms[form], place))
            for each in _NUMBER.findall(content):
                if each in self._numbers:
                    found.add(Find(self._numbers[each], place))
            for each in _HEX.findall(content):
                plain = each.replace(b":", b"").replace(b"-", b"").lower()
                if plain in self._short:
                    found.add(Find(self._short[plain], place))
        return sorted(found, key=lambda each: (each.place, each.kind))


def _offsets(content: bytes, words: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> list[int]:
    """Where one of `words` begins, at any offset."""
    offsets: list[int] = []
    for shift in range(WORD):
        count = (len(content) - shift) // WORD
        if count > 0:
            view = np.frombuffer(content, np.dtype("<u8"), count, shift)
            offsets += (np.flatnonzero(np.isin(view, words)) * WORD + shift).tolist()
    return offsets
