"""Messages on the command and emergency topics that count for nothing, recorded so that they cannot fill the journal.

The first of a kind in ten seconds is one record, the rest are one count (gate_agent.coalesce).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, cast

from gate_agent.coalesce import Coalescer
from gate_agent.timers import CallLater, Handle
from protocol.clock import Clock
from protocol.events import Kind

REMOTE = "remote"
"""`op` of what nobody has vouched for."""


class CommandRefusals:
    def __init__(self, note: Callable[[Kind, Mapping[str, Any]], None], clock: Clock, call_later: CallLater) -> None:
        self._note, self._clock, self._call_later = note, clock, call_later
        self._coalescer = Coalescer(1, self._report)
        self._timer: Handle | None = None

    def refuse(self, why: str, **data: str) -> None:
        """`data`: what is known of the message beside that."""
        data = {"op": REMOTE, **data}
        if self._coalescer.seen((why, data.get("verb")), self._clock.monotonic()):
            self._note(Kind.COMMAND_REFUSED, {**data, "why": why})
        else:
            self._set_timer()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._coalescer.flush()

    def _set_timer(self) -> None:
        closes = self._coalescer.next_close
        if self._timer is None and closes is not None:
            self._timer = self._call_later(max(0.0, closes - self._clock.monotonic()), self._due)

    def _due(self) -> None:
        self._timer = None
        self._coalescer.tick(self._clock.monotonic())
        self._set_timer()

    def _report(self, key: Hashable, count: int) -> None:
        why, verb = cast(tuple[str, str | None], key)
        data: dict[str, Any] = {"op": REMOTE, "why": why, "count": count}
        self._note(Kind.COMMAND_REFUSED, data if verb is None else {"verb": verb, **data})
