"""Strict reading of the small JSON objects on the state, online and health topics: every field named, typed and bounded.

An unknown field is refused: nothing travels that nobody has looked at. A new field means a new `v`.
"""

from __future__ import annotations

import json
import re
from typing import Any

VERSION = 1
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,63}")
"""Identifiers, versions, enumerated words."""


class PayloadError(ValueError):
    """A payload that does not follow docs/asyncapi.yaml."""


class Fields:
    """One JSON object, taken field by field; `done` refuses what is left over."""

    def __init__(self, value: object, place: str = "") -> None:
        if not isinstance(value, dict):
            raise PayloadError(f"{place or 'payload'}: an object is expected")
        self._value: dict[str, Any] = dict(value)
        self._place = place

    def error(self, name: str, expected: str) -> PayloadError:
        return PayloadError(f"{self._place}{name}: {expected} is expected")

    def word(self, name: str) -> str:
        value = self._value.pop(name, None)
        if not isinstance(value, str) or not WORD.fullmatch(value):
            raise self.error(name, "a short word")
        return value

    def text(self, name: str, form: re.Pattern[str], expected: str) -> str:
        """A string that follows `form` from end to end."""
        value = self._value.pop(name, None)
        if not isinstance(value, str) or not form.fullmatch(value):
            raise self.error(name, expected)
        return value

    def words(self, name: str, most: int) -> tuple[str, ...]:
        value = self._value.pop(name, None)
        if not isinstance(value, list) or len(value) > most:
            raise self.error(name, f"a list of at most {most} words")
        if not all(isinstance(each, str) and WORD.fullmatch(each) for each in value):
            raise self.error(name, "a list of short words")
        return tuple(value)

    def number(self, name: str, low: int = 0, high: int = 2**63 - 1) -> int:
        value = self._value.pop(name, None)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.error(name, f"a whole number from {low} to {high}")
        return value

    def optional_number(self, name: str) -> int | None:
        if self._value.get(name) is None:
            self._value.pop(name, None)
            return None
        return self.number(name)

    def flag(self, name: str) -> bool:
        value = self._value.pop(name, None)
        if not isinstance(value, bool):
            raise self.error(name, "true or false")
        return value

    def objects(self, name: str, most: int) -> list[Fields]:
        value = self._value.pop(name, None)
        if not isinstance(value, list) or len(value) > most:
            raise self.error(name, f"a list of at most {most} objects")
        return [Fields(each, f"{self._place}{name}[{at}].") for at, each in enumerate(value)]

    def optional_objects(self, name: str, most: int) -> list[Fields]:
        """A field that older senders leave out."""
        return self.objects(name, most) if name in self._value else []

    def has(self, name: str) -> bool:
        return name in self._value

    def take(self, name: str) -> object:
        """A field as it came, for a reader of its own; None where there is none."""
        return self._value.pop(name, None)

    def done(self) -> None:
        if self._value:
            raise PayloadError(f"{self._place}: {len(self._value)} unknown fields")


def read(raw: bytes, limit: int) -> Fields:
    """Parse one payload of at most `limit` bytes and take its version. Raises PayloadError."""
    if len(raw) > limit:
        raise PayloadError(f"{len(raw)} bytes, at most {limit}")
    try:
        fields = Fields(json.loads(raw))
    except PayloadError:
        raise
    except (ValueError, RecursionError) as error:
        raise PayloadError("not JSON") from error
    fields.number("v", VERSION, VERSION)
    return fields


def encode(body: dict[str, Any]) -> bytes:
    return json.dumps({"v": VERSION, **body}, separators=(",", ":"), allow_nan=False).encode()
