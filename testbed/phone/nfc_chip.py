"""A PN532 on a serial line with a phone before its antenna, in modelled time, behind nfcpy's own driver: nfcpy writes command
frames and reads answers as from the chip (PN532 user manual 6.2 and 7), while a clock advances by what line, firmware, air and
phone take (`testbed.phone.nfc_air`).
"""

from __future__ import annotations

import errno
import os
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Protocol

import nfc.clf
from nfc.clf import pn532

from drivers.nfc.reader import NfcpyReader
from protocol.clock import Clock
from testbed.phone.nfc_air import (
    ACTIVATION_FRAMES,
    CHIP_COMMAND_S,
    CONTROLLER_S,
    FIELD_ON_S,
    FRAME_DELAY_S,
    FWI,
    PN532,
    UART_BYTE_S,
    WTX_SHARE,
    Air,
    BitRate,
    PhoneTimes,
    frame_time,
)
from testbed.phone.nfc_blocks import WTXM, Blocks, Deselected, Granted, Process, Send
from testbed.phone.nfc_delay import Split, Stopwatch

ACK = bytes.fromhex("0000ff00ff00")
EPILOGUE = 2
"""CRC_A, which the chip adds and takes off."""
DIAGNOSE, GET_FIRMWARE, READ_REGISTER, WRITE_REGISTER, SET_BAUDRATE = 0x00, 0x02, 0x06, 0x08, 0x10
SET_PARAMETERS, SAM_CONFIGURATION, POWER_DOWN, RF_CONFIGURATION = 0x12, 0x14, 0x16, 0x32
IN_COMMUNICATE_THRU, IN_LIST_PASSIVE_TARGET = 0x42, 0x4A
RF_FIELD, RF_TIMINGS, RF_RETRIES = 0x01, 0x02, 0x05
NO_ANSWER = 0x01
FIFO = 0x6339
"""CIU_FIFOData: still holds the SENS_REQ when nothing answered."""
SENS_REQ = 0x26
SENS_TIMEOUT_S = 0.0051
"""The chip waits this long for an answer to a SENS_REQ: what RFConfiguration item 2 gives as its default."""
RATE = BitRate.KBIT_106


class Clockwork(Protocol):
    def monotonic(self) -> float: ...

    def advance(self, seconds: float) -> None: ...


class Presentation:
    """One phone in the field: its blocks, its application, and how long each takes. `split` is where the time of its exchanges
    goes, by the arithmetic of `nfc_air`."""

    def __init__(
        self,
        application: Callable[[bytes], bytes | None],
        phone: PhoneTimes,
        *,
        fwi: int = FWI,
        uid: bytes = b"\x08abc",
    ) -> None:
        self.blocks = Blocks(fwi=fwi)
        self.uid = uid
        self.split = Split()
        self.frames = 0
        self.extensions = 0
        self.deselected = False
        self._application, self._phone = application, phone
        self._command = self._response = b""
        self._processing = self._busy = 0.0
        self._air = Air(PN532, waiting_time=self.blocks.waiting_time)
        self._gone = False

    def receive(self, frame: bytes) -> tuple[bytes | None, float]:
        """The phone's answer to a frame and the seconds until it begins; None: it says nothing."""
        self.frames += 1
        if self._gone:
            return None, 0.0
        if frame[:1] == b"\xe0":
            return self.blocks.activate(frame), FRAME_DELAY_S
        step = self.blocks.receive(frame)
        if isinstance(step, Deselected):
            self.deselected = True
            return step.frame, CONTROLLER_S
        if isinstance(step, Send):
            return step.frame, CONTROLLER_S
        if isinstance(step, Process):
            response = self._application(step.command)
            if response is None:
                self._gone = True
                return None, 0.0
            self._command, self._response = step.command, response
            self._processing = self._busy = self._phone.processing(step.command, response)
            return self._work(self.blocks.waiting_time)
        return self._work(self.blocks.waiting_time * WTXM) if isinstance(step, Granted) else (None, 0.0)

    def _work(self, granted: float) -> tuple[bytes | None, float]:
        left, patience = self._busy, granted * WTX_SHARE
        if left > patience:
            self._busy = left - patience
            self.extensions += 1
            return self.blocks.ask_for_time(), patience + CONTROLLER_S
        command, response = self._command, self._response
        self.split.add(command, response, self._air.exchange(len(command), len(response), self._processing))
        return self.blocks.respond(response), left + CONTROLLER_S


class Pn532:
    """nfcpy's transport (`nfc.clf.transport.TTY`). `present` puts a phone before the antenna, from a time on.

    `commands` counts what the host asked of the chip, by command code.
    """

    TYPE = "virtual"
    manufacturer_name = product_name = None
    port = "virtual"

    def __init__(self, clock: Clockwork, *, byte_s: float = UART_BYTE_S, stopwatch: Stopwatch | None = None) -> None:
        self._clock, self._byte_s, self._stopwatch = clock, byte_s, stopwatch
        self.baudrate = 115_200
        self.commands: Counter[int] = Counter()
        self._answers: deque[bytes] = deque()
        self.timeout = 0.1
        self._tries = 1
        self.field = False
        self._presentation: Presentation | None = None
        self._from = 0.0
        self.raw_frames: list[bytes] = []
        """Frames sent while no phone was active: what a polling loop emits."""

    def present(self, presentation: Presentation | None, *, at: float = 0.0) -> None:
        """From monotonic time `at` on; None: the field is empty."""
        self._presentation, self._from = presentation, at

    # nfcpy's transport ------------------------------------------------------------------------------------------------

    def write(self, frame: bytes) -> None:
        if self._stopwatch is not None:
            self._stopwatch.stop()
        try:
            self._line(len(frame))
            frame = bytes(frame)
            if frame == ACK:
                self._answers.clear()
                return
            body = frame[8:-2] if frame[3:5] == b"\xff\xff" else frame[5:-2]
            self.commands[body[1]] += 1
            self._clock.advance(CHIP_COMMAND_S)
            data = self._answer(body[1], body[2:])
            self._answers += (ACK, _frame(bytes((0xD5, body[1] + 1)) + data))
        finally:
            if self._stopwatch is not None:
                self._stopwatch.start()

    def read(self, timeout: int) -> bytearray:
        """`timeout` in milliseconds. Raises OSError when nothing is there."""
        if not self._answers:
            self._clock.advance(timeout / 1000)
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        if self._stopwatch is not None:
            self._stopwatch.stop()
        answer = self._answers.popleft()
        self._line(len(answer))
        if self._stopwatch is not None:
            self._stopwatch.start()
        return bytearray(answer)

    def close(self) -> None:
        self._answers.clear()

    def answers(self) -> list[bytes]:
        """What the chip has to say, taken all at once: for a real line instead of `read`."""
        found = list(self._answers)
        self._answers.clear()
        return found

    # The chip ---------------------------------------------------------------------------------------------------------

    def _line(self, size: int) -> None:
        self._clock.advance(size * self._byte_s)

    def _answer(self, command: int, data: bytes) -> bytes:
        if command == DIAGNOSE:  # of the line: what was sent comes back
            return data
        if command == GET_FIRMWARE:
            return bytes.fromhex("32010607")
        if command == READ_REGISTER:
            return bytes(self._register(int.from_bytes(data[at : at + 2])) for at in range(0, len(data), 2))
        if command == RF_CONFIGURATION:
            self._configure(data[0], data[1:])
            return b""
        if command == IN_LIST_PASSIVE_TARGET:
            return self._list_target()
        if command == IN_COMMUNICATE_THRU:
            return self._communicate(data)
        return b"\x00" if command == POWER_DOWN else b""

    def _register(self, address: int) -> int:
        return SENS_REQ if address == FIFO and not self._present() else 0

    def _configure(self, item: int, data: bytes) -> None:
        if item == RF_FIELD and not data[0] & 1:
            self.field = False
        elif item == RF_TIMINGS:
            self.timeout = 0.0001 * 2 ** (data[2] - 1) if data[2] else 1.0
        elif item == RF_RETRIES:
            self._tries = data[2] + 1

    def _present(self) -> bool:
        """A phone that has been deselected is taken away."""
        presentation = self._presentation
        return presentation is not None and not presentation.deselected and self._clock.monotonic() >= self._from

    def _switch_on(self) -> None:
        if not self.field:
            self.field = True
            self._clock.advance(FIELD_ON_S)

    def _list_target(self) -> bytes:
        self._switch_on()
        for _ in range(self._tries):
            self._clock.advance(frame_time(ACTIVATION_FRAMES[0][0], RATE))
            if self._present():
                break
            self._clock.advance(SENS_TIMEOUT_S)
        presentation = self._presentation
        if presentation is None or not self._present():
            return b"\x00"
        self._clock.advance(2 * FRAME_DELAY_S + frame_time(ACTIVATION_FRAMES[0][1], RATE, from_card=True))
        for down, up in ACTIVATION_FRAMES[1:]:
            self._clock.advance(frame_time(down, RATE) + frame_time(up, RATE, from_card=True) + 2 * FRAME_DELAY_S)
        return b"\x01\x01\x00\x04\x20" + bytes((len(presentation.uid),)) + presentation.uid

    def _communicate(self, frame: bytes) -> bytes:
        self._switch_on()
        self._clock.advance(frame_time(len(frame) + EPILOGUE, RATE))
        answer, wait = None, 0.0
        if self._presentation is not None and self._present():
            answer, wait = self._presentation.receive(frame)
        else:
            self.raw_frames.append(frame)
        if answer is None or wait > self.timeout:
            self._clock.advance(self.timeout)
            return bytes((NO_ANSWER,))
        self._clock.advance(wait + frame_time(len(answer) + EPILOGUE, RATE, from_card=True) + FRAME_DELAY_S)
        return b"\x00" + answer


def _frame(data: bytes) -> bytes:
    """A normal or an extended information frame (PN532 user manual 6.2.1.1 and 6.2.1.2)."""
    check = bytes((-sum(data) & 0xFF, 0))
    if len(data) < 256:
        return b"\x00\x00\xff" + bytes((len(data), -len(data) & 0xFF)) + data + check
    size = len(data).to_bytes(2)
    return b"\x00\x00\xff\xff\xff" + size + bytes((-sum(size) & 0xFF,)) + data + check


class _Frontend(nfc.clf.ContactlessFrontend):  # type: ignore[misc]  # nfcpy ships no types
    def __init__(self, chip: Pn532) -> None:
        super().__init__()
        self._chip = chip

    def open(self, _path: str) -> bool:
        self.device = pn532.Device(pn532.Chipset(self._chip, logger=pn532.log), logger=pn532.log)
        return True


class ChipReader(NfcpyReader):
    """The gate's own nfcpy reader, with `chip` where a PN532 is plugged in."""

    def __init__(self, chip: Pn532, clock: Clock, **options: Any) -> None:
        super().__init__("tty:virtual:pn532", clock, **options)
        self._chip = chip

    def _prepare(self) -> None:
        super()._prepare()
        self._frontend = _Frontend(self._chip)
