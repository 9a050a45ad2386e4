"""A phone under a reader that does activation and blocks itself (PC/SC), answering after as long as `testbed.phone.nfc_air` says:
the gate's own thread and port (drivers.nfc.threaded) over whole APDUs.

`pass_time` is what lets time pass: `ModelClock.advance`, or `time.sleep` for a reader in real time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from drivers.nfc.threaded import ThreadedCard, ThreadedReader
from drivers.ports import LinkLostError
from protocol.clock import Clock
from testbed.phone.nfc_air import Air, ExchangeTime, PhoneTimes, Step, step_of

MAX_APDU = 65_544
LOOK_S = 0.01
STOP_TIMEOUT_S = 5.0


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


class DelayedPhone:
    """drivers.nfc.threaded.CardSession. `application` takes a C-APDU and returns the R-APDU, None when the phone leaves.

    `stopwatch` runs while the reader's side works and stands while the phone does.
    """

    def __init__(
        self,
        application: Callable[[bytes], bytes | None],
        air: Air,
        phone: PhoneTimes,
        pass_time: Callable[[float], None],
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self._application, self._air, self._phone, self._pass_time = application, air, phone, pass_time
        self._stopwatch = stopwatch
        self.split = Split()
        self.gone = False

    def transceive(self, command: bytes) -> bytes:
        if self._stopwatch is not None:
            self._stopwatch.stop()
        try:
            response = None if self.gone else self._application(command)
            if response is None:
                self.gone = True
                raise LinkLostError("the phone has left")
            spent = self._air.exchange(len(command), len(response), self._phone.processing(command, response))
            self.split.add(command, response, spent)
            self._pass_time(spent.total)
            return response
        finally:
            if self._stopwatch is not None:
                self._stopwatch.start()

    def activate(self) -> None:
        if self._stopwatch is not None:
            self._stopwatch.stop()
        self._pass_time(self._air.activation().total)
        if self._stopwatch is not None:
            self._stopwatch.start()

    def deselect(self) -> None:
        self.gone = True


class DelayedReader(ThreadedReader):
    """drivers.ports.NfcReader with one phone after the other before it: `present`."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, stop_timeout=STOP_TIMEOUT_S)
        self._phone: DelayedPhone | None = None

    def present(self, phone: DelayedPhone) -> None:
        self._phone = phone

    def _open(self, _interrupted: threading.Event) -> None:
        """There is nothing to be opened."""

    def _close(self) -> None:
        self._phone = None

    def _poll(self, interrupted: threading.Event) -> ThreadedCard | None:
        while not interrupted.is_set():
            phone = self._phone
            if phone is not None and not phone.gone:
                phone.activate()
                return ThreadedCard(self, phone, self._clock.monotonic(), max_command=MAX_APDU, max_response=MAX_APDU)
            interrupted.wait(LOOK_S)
        return None

    def _see_off(self, card: ThreadedCard, _interrupted: threading.Event) -> None:
        card.deselect()
