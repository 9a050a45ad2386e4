"""What checking a device finds. `drivers/<kind>/check.py` makes these, `gwanmun selftest` prints them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """It works, but not as it should."""
    FAULT = "fault"
    """It does not work."""
    SKIPPED = "skipped"
    """Could not be looked at, or need not be."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what it found, and what is to be done about it (both empty: nothing)."""

    id: str
    """Device and check, such as `ble.hall.adapter`."""
    result: Result
    ko: str
    en: str
    do_ko: str = ""
    do_en: str = ""
