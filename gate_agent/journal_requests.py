"""What the loop asks of the journal's thread, and how either side lets go of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gate_agent.record import Entry, Record
from gate_agent.store import Store

_T = TypeVar("_T")


class RecordUnavailableError(Exception):
    """The record is not durable within its time; whoever asked must not open."""


class JournalFullError(RecordUnavailableError):
    """The journal has reached its size with records that the controller does not have; the disk itself is well."""


@dataclass(slots=True)
class Append:
    entry: Entry
    answer: Callable[[Record | Exception], None] | None
    """Called at most once, in the journal's thread. None: nobody waits (a note)."""
    given_up: bool = False
    _settled: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def awaited(self) -> bool:
        return self.answer is not None

    def give_up(self) -> bool:
        """By the caller. True when the answer will never come, False when it is already on its way."""
        with self._lock:
            self.given_up = not self._settled
            return self.given_up

    def settle(self, result: Record | Exception) -> bool:
        """By the thread. False when the caller gave up."""
        with self._lock:
            if self.given_up:
                return False
            self._settled = True
        if self.answer is not None:
            self.answer(result)
        return True


@dataclass(slots=True)
class Call(Generic[_T]):
    work: Callable[[Store], _T]
    answer: Callable[[_T | Exception], None]
