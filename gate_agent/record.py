"""What the journal's parts hand to each other: records, what they are made of, and what can go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from protocol.events import Kind


class DamagedError(Exception):
    """The file is no journal, or its chain does not hold. Says what, never content."""


class AlreadyUsedError(Exception):
    """The mark is taken: this QR pass has opened a lane before. Nothing was written."""


class AckMismatchError(Exception):
    """The controller acknowledges a record that this journal does not have: edited, cut off or another gate's."""


class SalvageMismatchError(Exception):
    """Of a file that was set aside, the controller holds another record than the one salvaged."""


@dataclass(frozen=True, slots=True)
class Record:
    epoch: str
    seq: int
    raw: bytes
    hash: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What a record is made of. `mark` is a single-use mark and the wall-clock time (aware) until which it counts."""

    kind: Kind
    data: Mapping[str, Any]
    time: datetime
    mark: tuple[bytes, datetime] | None = None

    @property
    def opens(self) -> bool:
        """A right to pass begins with it, and waits for its outcome: a grant, or an order to open once."""
        return self.kind is Kind.ACCESS_GRANTED or (self.kind is Kind.COMMAND_ACCEPTED and "attempt" in self.data)


@dataclass(frozen=True, slots=True)
class OpenGrant:
    attempt: str
    seq: int
    """0: of an earlier epoch, whose file was set aside."""
    lane: str
    direction: str
