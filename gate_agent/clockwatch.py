"""The gate's clock under watch: the one place that reads kernel and boot time for `Timekeeper`, and tells what changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from gate_agent.timekeeping import KernelState, Settings, Source, TimeFacts, Timekeeper, boottime, read_kernel
from gate_agent.timers import CallLater, Handle
from mdoc.truststore import Trust
from protocol import beacon
from protocol.clock import Clock
from protocol.events import Kind
from protocol.mqtt import Message

_log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Between two looks that no decision has caused."""
ISSUERS_AHEAD = timedelta(minutes=10)
"""By how much the clocks of those who sign lists may be ahead of the true time."""
KEPT = "clock"
"""File in the runtime directory, which goes with the boot."""

Note = Callable[[Kind, Mapping[str, Any]], None]


class ClockWatch:
    def __init__(
        self,
        clock: Clock,
        settings: Settings,
        *,
        records: datetime | None,
        note: Note,
        call_later: CallLater,
        runtime_dir: Path | None = None,
        kernel: Callable[[], KernelState | None] = read_kernel,
        seconds: Callable[[], float] = boottime,
    ) -> None:
        """`records`: time of the newest record that was written with a trusted clock."""
        self._clock, self._note, self._call_later = clock, note, call_later
        self._kernel, self._seconds = kernel, seconds
        self._kept = None if runtime_dir is None else runtime_dir / KEPT
        self._keeper = Timekeeper(settings, records=records)
        self._told: tuple[str, str] | None = None
        self.latest: TimeFacts | None = None
        """As the last look found the clock; another thread may read this."""
        self._timer: Handle | None = None
        if self._kept is not None:
            try:
                self._keeper.restore(self._kept.read_bytes(), seconds())
            except OSError:
                _log.debug("no earlier agent of this boot has kept a time")

    def start(self) -> None:
        self._on_timer()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> TimeFacts:
        """The clock at this moment."""
        facts = self._keeper.observe(self._clock.now(), self._seconds(), self._kernel())
        self.latest = facts
        word = (str(facts.quality), str(facts.detail))
        if word != self._told:
            self._told = word
            data = {"quality": word[0], "why": word[1]}
            self._note(Kind.CLOCK_CHANGED, data if facts.error_ms is None else {**data, "err_ms": facts.error_ms})
        return facts

    def use(self, trust: Trust) -> None:
        """Signed lists are in force: time does not lie before any of them."""
        dates = [each.date for each in trust.vicals] + [each.this_update for each in trust.crls]
        now = self._clock.now()
        dates += [now - age for age in trust.status.ages(now).values()]
        if dates:
            self._keeper.raise_floor(max(dates) - ISSUERS_AHEAD)

    def confirm(self, stated: datetime) -> bool:
        """A guard states the time. False: the clock does not agree, and has to be set first."""
        done = self._keeper.confirm(stated, Source.GUARD, wall=self._clock.now(), monotonic=self._seconds())
        self.look()
        return done

    def on_message(self, message: Message) -> None:
        """The controller's beacon: it measures, and never sets anything."""
        try:
            found = beacon.parse(message.payload)
        except ValueError:
            _log.warning("a message on the time topic that is no beacon")
            return
        self._keeper.beacon(found.t, self._seconds())

    def _on_timer(self) -> None:
        self._timer = self._call_later(LOOK_S, self._on_timer)
        self.look()
        self._keep()

    def _keep(self) -> None:
        raw = self._keeper.kept()
        if self._kept is None or raw is None:
            return
        beside = self._kept.with_name(KEPT + ".new")
        try:
            beside.write_bytes(raw)
            beside.replace(self._kept)
        except OSError as error:
            _log.warning("the trusted time cannot be kept for the next start: %s", error.strerror)
