"""A phone under a reader that does the blocks itself (PC/SC), in modelled time: drivers.ports.NfcCard that answers after as
long as `testbed.phone.nfc_air` says. On an ordinary event loop it really takes that long; on `nfc_time.ModelLoop` none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from drivers.ports import LinkLostError
from protocol.clock import Clock
from testbed.phone.nfc_air import Air, ExchangeTime, PhoneTimes, Step, step_of

MAX_APDU = 65_544


@dataclass(slots=True)
class Split:
    """Seconds of each part of a presentation, as far as it has come."""

    parts: dict[Step, ExchangeTime] = field(default_factory=lambda: dict.fromkeys(Step, ExchangeTime()))
    exchanges: list[tuple[bytes, bytes]] = field(default_factory=list)

    def add(self, command: bytes, response: bytes, spent: ExchangeTime) -> None:
        self.parts[step_of(command)] += spent
        self.exchanges.append((command, response))

    @property
    def total(self) -> ExchangeTime:
        return sum(self.parts.values(), ExchangeTime())


class DelayedCard:
    """`application` takes a C-APDU and returns the R-APDU, None when the phone leaves. `stopwatch` runs while the reader's side
    works and stands while the phone does: see `Stopwatch`.
    """

    def __init__(
        self,
        application: Callable[[bytes], bytes | None],
        air: Air,
        phone: PhoneTimes,
        clock: Clock,
        *,
        stopwatch: Stopwatch | None = None,
        max_apdu: int = MAX_APDU,
    ) -> None:
        self._application, self._air, self._phone, self._clock = application, air, phone, clock
        self._stopwatch = stopwatch
        self._gone = False
        self.present_since = clock.monotonic()
        self.max_command = self.max_response = max_apdu
        self.split = Split()
        self.released = False

    async def transceive(self, command: bytes) -> bytes:
        if self._stopwatch is not None:
            self._stopwatch.stop()
        try:
            response = None if self._gone else self._application(command)
            if response is None:
                self._gone = True
                raise LinkLostError("the phone has left")
            spent = self._air.exchange(len(command), len(response), self._phone.processing(command, response))
            self.split.add(command, response, spent)
            await asyncio.sleep(spent.total)
            return response
        finally:
            if self._stopwatch is not None:
                self._stopwatch.start()

    async def release(self) -> None:
        self._gone = self.released = True


class Stopwatch:
    """Adds up the seconds between `start` and `stop`; `now` is time.perf_counter."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._since = now, 0.0
        self._running = False
        self.seconds = 0.0

    def start(self) -> None:
        self._since, self._running = self._now(), True

    def stop(self) -> None:
        if self._running:
            self.seconds += self._now() - self._since
        self._running = False
