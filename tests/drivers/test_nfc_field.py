"""The empty field: how often it is looked into and how late a tap is seen, on a modelled clock and a modelled PN532."""

from __future__ import annotations

import random
import threading

import pytest

from drivers.nfc.reader import POLL_PERIOD_S
from testbed.phone.nfc_air import TYPICAL, UART_BYTE_S
from testbed.phone.nfc_chip import IN_LIST_PASSIVE_TARGET, ChipReader, Pn532, Presentation
from testbed.phone.nfc_time import ModelClock

SEEN_WITHIN_S = 0.1
SLOW_BYTE_S = 10 / 115_200
"""The first serial port of a Raspberry Pi, which nfcpy leaves at its slowest."""


class Interrupt(threading.Event):
    """Waits on the modelled clock, and comes at `end`."""

    def __init__(self, clock: ModelClock, end: float) -> None:
        super().__init__()
        self._clock, self._end = clock, end

    def is_set(self) -> bool:
        return self._clock.monotonic() >= self._end

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.advance(timeout or 0.0)
        return self.is_set()


def polling(
    byte_s: float, *, end: float, phone_at: float | None = None, ecp: bool = True
) -> tuple[Pn532, float | None, float]:
    """The chip after a time of polling, when the phone was seen, and when the polling began."""
    clock = ModelClock()
    chip, interrupt = Pn532(clock, byte_s=byte_s), Interrupt(clock, end)
    reader = ChipReader(chip, clock, ecp=ecp)
    reader._prepare()
    reader._open(interrupt)
    chip.commands.clear()
    if phone_at is not None:
        chip.present(Presentation(lambda _: b"\x90\x00", TYPICAL.phone(random.Random(1))), at=phone_at)
    begin = clock.monotonic()
    card = reader._poll(interrupt)
    return chip, None if card is None else card.present_since, begin


@pytest.mark.parametrize("ecp", [True, False])
@pytest.mark.parametrize("byte_s", [UART_BYTE_S, SLOW_BYTE_S])
def test_a_tap_is_seen_within_100_ms_whenever_it_comes(byte_s: float, ecp: bool) -> None:
    late = []
    for step in range(100):
        at = 1.0 + step * 0.0013
        _, seen, _ = polling(byte_s, end=3.0, phone_at=at, ecp=ecp)
        assert seen is not None
        late.append(seen - at)
    assert 0.0 < min(late) < max(late) < SEEN_WITHIN_S


@pytest.mark.parametrize("byte_s", [UART_BYTE_S, SLOW_BYTE_S])
def test_the_field_is_not_looked_into_more_often_than_that_needs(byte_s: float) -> None:
    chip, seen, begin = polling(byte_s, end=10.0)
    assert seen is None
    looks, time = chip.commands[IN_LIST_PASSIVE_TARGET], 10.0 - begin
    assert time / SEEN_WITHIN_S < looks <= time / POLL_PERIOD_S + 1


def test_a_chip_slower_than_the_period_is_looked_at_without_a_pause() -> None:
    chip, _, begin = polling(0.001, end=10.0)
    assert chip.commands[IN_LIST_PASSIVE_TARGET] < (10.0 - begin) / POLL_PERIOD_S / 2


def test_an_interrupted_look_ends_without_a_card() -> None:
    chip, seen, _ = polling(UART_BYTE_S, end=0.0)
    assert seen is None
    assert chip.commands[IN_LIST_PASSIVE_TARGET] == 0
