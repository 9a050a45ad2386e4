"""One TOML table of the rules document: every key asked for, of the right type, none left over. Mistakes are collected.

A reader gives its default after a mistake, so that the rest of the document is still looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Any, TypeVar

from policy import limits
from policy.problems import Problems
from policy.schedule import DAY_MIN, Window, Windows

_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])(\+1)?", re.ASCII)
_NAME = re.compile(r"[\w.-]+")

Choice = TypeVar("Choice", bound=StrEnum)


class Table:
    def __init__(self, value: object, place: str, problems: Problems) -> None:
        self.place, self.problems = place, problems
        self._asked: set[str] = set()
        self._value: Mapping[str, Any] = value if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            problems.add(place, "표([…])가 있어야 합니다", "a table is expected")

    def at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def mistake(self, key: str, ko: str, en: str) -> None:
        self.problems.add(self.at(key), ko, en)

    def has(self, key: str) -> bool:
        return key in self._value

    def _raw(self, key: str) -> Any:
        self._asked.add(key)
        return self._value.get(key)

    def text(self, key: str, ko: str, en: str) -> str:
        """A required text; "" after a mistake."""
        value = self._raw(key)
        if isinstance(value, str) and 0 < len(value) <= limits.MAX_VALUE and value.isprintable():
            return value
        self.mistake(key, f"{ko}이(가) 있어야 합니다", f"{en} is expected")
        return ""

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self._raw(key)
        if value is None and default is not None and not self.has(key):
            return default
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.mistake(
            key, f"{low}에서 {high} 사이의 정수가 있어야 합니다", f"a whole number from {low} to {high} is expected"
        )
        return low if default is None else default

    def optional_whole(self, key: str, low: int, high: int) -> int | None:
        """None where the key is left out."""
        self._asked.add(key)
        return self.whole(key, low, high) if self.has(key) else None

    def choice(self, key: str, default: Choice) -> Choice:
        value = self._raw(key) if self.has(key) else str(default)
        kind = type(default)
        if isinstance(value, str) and value in set(kind):
            return kind(value)
        listed = ", ".join(kind)
        self.mistake(key, f"다음 중 하나여야 합니다: {listed}", f"one of these is expected: {listed}")
        return default

    def strings(self, key: str) -> frozenset[str] | None:
        """A list of one or more texts; None where the key is left out, or after a mistake."""
        if not self.has(key):
            self._asked.add(key)
            return None
        value = self._raw(key)
        if (
            isinstance(value, list)
            and 0 < len(value) <= limits.MAX_VALUES
            and all(isinstance(one, str) and 0 < len(one) <= limits.MAX_VALUE and one.isprintable() for one in value)
        ):
            found = frozenset(value)
            if len(found) < len(value):
                self.mistake(key, "같은 값이 두 번 있습니다", "a value stands there twice")
            return found
        self.mistake(
            key, "비어 있지 않은 문자열의 목록이 있어야 합니다", "a list of one or more non-empty strings is expected"
        )
        return None

    def table(self, key: str) -> Table | None:
        """None where the key is left out."""
        if not self.has(key):
            self._asked.add(key)
            return None
        return Table(self._raw(key), self.at(key), self.problems)

    def tables(self, key: str, most: int, *, optional: bool = False) -> dict[str, Table]:
        """`[key.NAME]` tables by name. At least one, unless `optional`."""
        if optional and not self.has(key):
            self._asked.add(key)
            return {}
        value = self._raw(key)
        if not isinstance(value, dict) or not value:
            self.mistake(
                key, f"[{key}.이름] 표가 하나 이상 있어야 합니다", f"one or more tables [{key}.NAME] are expected"
            )
            return {}
        if len(value) > most:
            self.mistake(key, f"최대 {most}개까지 쓸 수 있습니다", f"at most {most} are allowed")
            return {}
        found = {}
        for name, entry in value.items():
            place = f"{self.at(key)}.{name[: limits.MAX_NAME]}"
            if len(name) > limits.MAX_NAME or not _NAME.fullmatch(name):
                self.problems.add(
                    place,
                    f"이름은 글자, 숫자, '.', '_', '-'로 {limits.MAX_NAME}자까지입니다",
                    f"a name has letters, digits, '.', '_' and '-', at most {limits.MAX_NAME}",
                )
            found[name] = Table(entry, place, self.problems)
        return found

    def dates(self, key: str, *, optional: bool = False) -> frozenset[date]:
        if optional and not self.has(key):
            self._asked.add(key)
            return frozenset()
        value = self._raw(key)
        if (
            not isinstance(value, list)
            or not 0 < len(value) <= limits.MAX_DATES
            or not all(isinstance(one, date) and not isinstance(one, datetime) for one in value)
        ):
            self.mistake(
                key, "2026-12-31 같은 날짜의 목록이 있어야 합니다", "a list of dates such as 2026-12-31 is expected"
            )
            return frozenset()
        found = frozenset(value)
        if len(found) < len(value):
            self.mistake(key, "같은 날짜가 두 번 있습니다", "a date stands there twice")
        return found

    def windows(self, key: str) -> Windows:
        """A list of "08:00-19:30" or, ending the next day, "22:00-06:00+1". () where left out, or after a mistake."""
        if not self.has(key):
            self._asked.add(key)
            return ()
        value = self._raw(key)
        if not isinstance(value, list) or len(value) > limits.MAX_WINDOWS:
            self.mistake(key, '"08:00-19:30"의 목록이 있어야 합니다', 'a list of "HH:MM-HH:MM" is expected')
            return ()
        windows = []
        for entry in value:
            match = _HOURS.fullmatch(entry) if isinstance(entry, str) else None
            if match is None:
                self.mistake(
                    key,
                    '"08:00-19:30" 같은 시간이 있어야 합니다(끝은 24:00까지, 다음 날까지면 "22:00-06:00+1")',
                    'hours as "08:00-19:30" are expected (end up to 24:00, or "22:00-06:00+1" for the next day)',
                )
                return ()
            h1, m1, h2, m2 = (int(group) for group in match.groups()[:4])
            start, end = h1 * 60 + m1, h2 * 60 + m2
            if match.group(5):
                if not 0 < end <= start:
                    self.mistake(
                        key,
                        "+1 구간은 하루를 넘을 수 없습니다",
                        "a window with +1 lasts a day at most, and ends after midnight",
                    )
                    return ()
                end += DAY_MIN
            elif not start < end <= DAY_MIN:
                self.mistake(
                    key,
                    '끝은 시작보다 늦어야 합니다(다음 날까지면 "+1")',
                    'the end must lie after the start, on the same day ("+1" ends the next day)',
                )
                return ()
            windows.append(Window(start, end))
        windows.sort()
        if any(first.end > second.start for first, second in pairwise(windows)):
            self.mistake(key, "구간이 서로 겹칩니다", "two windows overlap")
        return tuple(windows)

    def done(self) -> None:
        """Every key that nobody asked for is a mistake."""
        for key in self._value:
            if key not in self._asked:
                known = ", ".join(sorted(self._asked))
                self.mistake(
                    key[: limits.MAX_NAME],
                    f"모르는 항목입니다. 쓸 수 있는 것: {known}",
                    f"unknown key; known here: {known}",
                )
