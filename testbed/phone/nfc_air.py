"""Air model of ISO/IEC 14443-4: how long an exchange of APDUs takes between a reader and a phone, as pure arithmetic.

Frames by ISO/IEC 14443-3 (start, 9 bits a byte, end) and 14443-4 (blocks, chaining, CRC, waiting time extensions). What is
standard is exact; what depends on products (reader, NFC controller, phone) is a named constant with where it comes from, and
an estimate until somebody measures it on hardware.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from mdoc.apdu import INS_ENVELOPE, INS_GET_RESPONSE, INS_SELECT, MDOC_AID

FC_HZ = 13.56e6
FRAME_OVERHEAD = 3
"""Bytes of a block that are not information: PCB and two of CRC_A (14443-4 7.1; neither CID nor NAD is used)."""
BITS_PER_BYTE = 9
"""Eight and odd parity (14443-3 6.2.3.2)."""
FRAME_ETU = 3
"""Start of communication one, end of communication two elementary time units (14443-3 6.2.3.2)."""
SUBCARRIER_START_S = 32 * 16 / FC_HZ
"""From 212 kbit/s on a card's frame begins with 32 periods of subcarrier (14443-2 8.2.5.2)."""
FRAME_DELAY_S = 1172 / FC_HZ
"""Least time from a frame to its answer, either way (14443-3 6.2.1.1)."""
FIELD_ON_S = 0.005
"""A card may take this long from field-on until it answers (14443-3 5)."""
ACTIVATION_FRAMES = ((1, 2), (2, 5), (9, 3))
"""REQA to ATQA, anticollision, select (bytes each way, a UID of four bytes). REQA is 7 bits, taken for a byte."""
RATS_BYTES, ATS_BYTES = 4, 8
PPS_FRAMES = (5, 3)
FWI = 8
"""Frame waiting time 4096/fc * 2^8 = 77 ms, as phones announce it (io-lab 1a)."""
WTX_SHARE, WTX_MULTIPLIER = 0.6, 10


class BitRate(IntEnum):
    """Divided by 106 kbit/s (14443-2 8.1): nfcpy has no PPS and stays at the first."""

    KBIT_106 = 1
    KBIT_424 = 4

    @property
    def etu(self) -> float:
        return 128 / (FC_HZ * self)


def frame_time(size: int, rate: BitRate, *, from_card: bool = False) -> float:
    """Seconds on the air of a frame of `size` bytes, CRC included."""
    start = SUBCARRIER_START_S if from_card and rate is not BitRate.KBIT_106 else 0.0
    return start + (FRAME_ETU + BITS_PER_BYTE * size) * rate.etu


def pieces(size: int, frame_size: int) -> list[int]:
    """Information bytes of each block that carries `size` bytes in frames of at most `frame_size`."""
    most = frame_size - FRAME_OVERHEAD
    return [min(most, size - at) for at in range(0, size, most)] or [0]


@dataclass(frozen=True, slots=True)
class Reader:
    """What a reader adds to the air, in seconds: per APDU, per frame, per byte between host and chip."""

    name: str
    rate: BitRate
    per_apdu: float
    per_frame: float
    per_byte: float


CHIP_COMMAND_S = 0.0005
"""Firmware of a PN53x, one host command: estimate; with nfcpy's four commands a frame it gives the 2.5 to 5 ms a frame pair
that io-lab 1a reckons with (0.1 to 0.3 s for 39 to 61 pairs)."""
UART_BYTE_S = 10 / 921_600
"""The fastest that nfcpy sets a PN532 to; start and stop bit."""
HOST_FRAME_BYTES = 9 + 6 + 10
"""Around the data of one chip command: command frame, acknowledgement, response frame (PN532 user manual 6.2.1)."""
PN532 = Reader("PN532", BitRate.KBIT_106, 0.0, CHIP_COMMAND_S + HOST_FRAME_BYTES * UART_BYTE_S, UART_BYTE_S)
"""One chip command a frame, as drivers.nfc.chipset does it."""
CCID = Reader("PC/SC", BitRate.KBIT_424, 0.0015, 0.0003, 8 / 12e6)
"""USB full speed, one exchange and pcscd's hop an APDU, block chaining in the reader's firmware: estimates; without the reader
pcscd takes 0.12 ms (io-lab 1b)."""
CCID_POLL_S = 0.05
"""How often the reader's firmware looks for a card: what we do ourselves; many products look more rarely, some can be set."""
CCID_106 = Reader("PC/SC at 106", BitRate.KBIT_106, CCID.per_apdu, CCID.per_frame, CCID.per_byte)


@dataclass(frozen=True, slots=True)
class Lognormal:
    """A time in seconds by median and spread (sigma of its logarithm): p95 = median * exp(1.645 * spread)."""

    median: float
    spread: float

    def draw(self, source: random.Random) -> float:
        return self.median * math.exp(source.gauss(0.0, self.spread))


CONTROLLER_S = 0.0004
"""A phone's NFC controller, from a block's end to its answer (chaining and WTX it deals with alone): estimate."""


@dataclass(frozen=True, slots=True)
class PhoneModel:
    """Processing times of a phone. Nobody here has measured a phone (io-lab 7): the defaults are estimates, set so that a
    wallet's payment tap (9 short APDUs, one signature) takes the 250 to 350 ms that vendors publish (access-control 2a), and
    255-byte APDUs run at the 3 to 10 kB/s of host card emulation (korea, NFC).
    """

    apdu: Lognormal = Lognormal(0.012, 0.30)
    """Controller to application and back: NCI, NFC service, binder, app."""
    byte: float = 8 / 1e6
    """Per byte between controller and host: I2C at 1 MHz."""
    answer: Lognormal = Lognormal(0.055, 0.30)
    """A request into a response: key agreement, the reader's certificate, a signature in secure hardware."""
    device: Lognormal = Lognormal(1.0, 0.15)
    """Fast phones and slow ones: a factor for a whole presentation."""

    def phone(self, source: random.Random) -> PhoneTimes:
        """One phone at one presentation."""
        return PhoneTimes(self, source, self.device.draw(source))


TYPICAL = PhoneModel()


@dataclass(slots=True)
class PhoneTimes:
    model: PhoneModel
    source: random.Random = field(repr=False)
    factor: float = 1.0

    def processing(self, command: bytes, response: bytes) -> float:
        """Seconds from the last block of a command to the first of its response, without the controller's own time."""
        seconds = self.model.apdu.draw(self.source)
        if answers_request(command):
            seconds += self.model.answer.draw(self.source)
        return seconds * self.factor + self.model.byte * (len(command) + len(response))


def answers_request(command: bytes) -> bool:
    """The command that ends an ENVELOPE chain: on its answer the phone's cryptography runs."""
    return len(command) > 1 and command[0] == 0x00 and command[1] == INS_ENVELOPE


@dataclass(frozen=True, slots=True)
class ExchangeTime:
    """Seconds of one exchange by where they go: `down` to the phone and `up` from it are air time, `turnaround` are frame
    delays and the phone's controller, `reader` is what lies between the host and the antenna."""

    down: float = 0.0
    up: float = 0.0
    turnaround: float = 0.0
    reader: float = 0.0
    phone: float = 0.0
    frames: int = 0
    """Frame pairs."""

    @property
    def air(self) -> float:
        return self.down + self.up

    @property
    def total(self) -> float:
        return self.down + self.up + self.turnaround + self.reader + self.phone

    def __add__(self, other: ExchangeTime) -> ExchangeTime:
        return ExchangeTime(
            self.down + other.down,
            self.up + other.up,
            self.turnaround + other.turnaround,
            self.reader + other.reader,
            self.phone + other.phone,
            self.frames + other.frames,
        )


@dataclass(frozen=True, slots=True)
class Air:
    """One reader and one phone. `frame_down` and `frame_up` are FSC and FSD in bytes."""

    reader: Reader
    controller: float = CONTROLLER_S
    frame_down: int = 256
    frame_up: int = 256
    waiting_time: float = 4096 / FC_HZ * 2**FWI

    def exchange(self, command: int, response: int, processing: float) -> ExchangeTime:
        """A command of so many bytes, answered after `processing` seconds by so many."""
        down, up = pieces(command, self.frame_down), pieces(response, self.frame_up)
        found = ExchangeTime(phone=processing, reader=self.reader.per_apdu)
        for size in down[:-1]:
            found += self._pair(size, 0)
        for _ in range(self.extensions(processing)):
            found += self._pair(1, 1)
        found += self._pair(down[-1], up[0])
        for size in up[1:]:
            found += self._pair(0, size)
        return found

    def extensions(self, processing: float) -> int:
        """S(WTX) of a phone that is busy for so long (14443-4 7.3)."""
        left, count = processing - self.waiting_time * WTX_SHARE, 0
        while left > 0:
            count += 1
            left -= self.waiting_time * WTX_MULTIPLIER * WTX_SHARE
        return count

    def activation(self, field_on: float = FIELD_ON_S) -> ExchangeTime:
        """From field-on to the answer to select, all of it at 106 kbit/s; PPS for a faster reader (14443-4 5.3)."""
        slow, pps = BitRate.KBIT_106, (() if self.reader.rate is BitRate.KBIT_106 else (PPS_FRAMES,))
        found = ExchangeTime(turnaround=field_on)
        for down, up in (*ACTIVATION_FRAMES, (RATS_BYTES, ATS_BYTES), *pps):
            found += ExchangeTime(
                frame_time(down, slow), frame_time(up, slow, from_card=True), 2 * FRAME_DELAY_S, frames=1
            )
        return found

    def _pair(self, down: int, up: int) -> ExchangeTime:
        """A block with so many information bytes, and the block that answers it."""
        down, up, rate = down + FRAME_OVERHEAD, up + FRAME_OVERHEAD, self.reader.rate
        return ExchangeTime(
            frame_time(down, rate),
            frame_time(up, rate, from_card=True),
            FRAME_DELAY_S + max(FRAME_DELAY_S, self.controller),
            self.reader.per_frame + self.reader.per_byte * (down + up),
            frames=1,
        )


class Step(IntEnum):
    """Parts of a presentation, in order."""

    ENGAGEMENT = 0
    SELECT = 1
    TRANSFER = 2


def step_of(command: bytes) -> Step:
    """Which part of a presentation a command belongs to."""
    if command[1:2] in (bytes((INS_ENVELOPE,)), bytes((INS_GET_RESPONSE,))):
        return Step.TRANSFER
    return Step.SELECT if command[1:2] == bytes((INS_SELECT,)) and MDOC_AID in command else Step.ENGAGEMENT


def replay(exchanges: Sequence[tuple[bytes, bytes]], air: Air, phone: PhoneTimes) -> dict[Step, ExchangeTime]:
    """A recorded exchange of (command, response), as it would have taken on `air` with `phone`."""
    found = dict.fromkeys(Step, ExchangeTime())
    for command, response in exchanges:
        spent = air.exchange(len(command), len(response), phone.processing(command, response))
        found[step_of(command)] += spent
    return found
