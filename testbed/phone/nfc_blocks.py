"""Card side of the block protocol of ISO/IEC 14443-4, sans-I/O: frames in, what to do next out. Rule numbers are those of
14443-4 7.5.5.

Neither time nor an antenna is here: `testbed.phone.isodep` adds real ones, `testbed.phone.nfc_chip` modelled ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FC_HZ = 13.56e6
FRAME_SIZES = (16, 24, 32, 40, 48, 64, 96, 128, 256)
EPILOGUE = 3
"""Bytes of a frame that are not information: PCB and two of CRC."""
WTXM = 10
"""Multiplier asked for in a waiting time extension."""


@dataclass(frozen=True, slots=True)
class Send:
    """Answer with `frame`; None: stay silent."""

    frame: bytes | None


@dataclass(frozen=True, slots=True)
class Process:
    """A whole command has come: hand its response to `Blocks.respond`, and ask for time meanwhile."""

    command: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Granted:
    """The reader waits longer: `Blocks.waiting_time` * WTXM seconds."""


@dataclass(frozen=True, slots=True)
class Deselected:
    """The reader is done; `frame` is the last to send."""

    frame: bytes


Step = Send | Process | Granted | Deselected


class Blocks:
    """One activation. `fwi` 10 is a frame waiting time of 0.3 s. `with_ta` False: an ATS without TA(1), as many cards have."""

    def __init__(self, *, fwi: int = 10, fsci: int = 8, with_ta: bool = True) -> None:
        self.waiting_time: float = 4096 / FC_HZ * 2**fwi
        self._fwi, self._fsci, self._with_ta = fwi, fsci, with_ta
        self._piece = 16 - EPILOGUE
        self._number = 1
        self._last: bytes | None = None
        self._command = bytearray()
        self._pending: list[bytes] = []
        self._extending = False

    def activate(self, rats: bytes) -> bytes:
        """The answer to select for a RATS."""
        if len(rats) == 2:
            self._piece = FRAME_SIZES[min(rats[1] >> 4, 8)] - EPILOGUE
        body = bytes((0x60 | self._fsci | self._with_ta << 4,)) + (b"\x80" if self._with_ta else b"")
        body += bytes((self._fwi << 4, 0x00))
        return bytes((len(body) + 1,)) + body

    def receive(self, frame: bytes) -> Step:
        """One frame of at least one byte from the reader, without its CRC."""
        pcb = frame[0]
        if pcb & 0xF7 == 0xC2:
            return Deselected(frame[:1])
        if self._extending:
            return self._while_extending(pcb)
        if pcb & 0xE6 == 0xA2:  # R-block
            return Send(self._acknowledged(pcb))
        if pcb & 0xE2 == 0x02:  # I-block
            self._number ^= 1  # rule D
            self._command += frame[1 + bool(pcb & 8) + bool(pcb & 4) :]
            if pcb & 0x10:  # rule 2: more of the chain
                return self._send(bytes((0xA2 | self._number,)))
            command = bytes(self._command)
            self._command.clear()
            return Process(command)
        return Send(None)

    def respond(self, response: bytes) -> bytes:
        """The first block of a response."""
        self._pending = [response[at : at + self._piece] for at in range(0, len(response), self._piece)]
        self._last = self._next_block()
        return self._last

    def ask_for_time(self) -> bytes:
        """S(WTX) (rules 3 and 9); the reader's answer is Granted."""
        self._extending = True
        self._last = bytes((0xF2, WTXM))
        return self._last

    def _while_extending(self, pcb: int) -> Step:
        if pcb & 0xF7 == 0xF2:
            self._extending = False
            return Granted()
        # a NAK because the request came late: ask again; anything else is not for this moment
        return Send(self._last if pcb & 0xE6 == 0xA2 else None)

    def _acknowledged(self, pcb: int) -> bytes | None:
        if pcb & 1 == self._number:  # rule 11: send the last block again
            return self._last
        if pcb & 0x10:  # rule 12: NAK for a block that never came
            return self._send(bytes((0xA2 | self._number,))).frame
        self._number ^= 1  # rules E and 13: next piece of the chain
        return self._send(self._next_block()).frame if self._pending else None

    def _send(self, frame: bytes) -> Send:
        self._last = frame
        return Send(frame)

    def _next_block(self) -> bytes:
        piece = self._pending.pop(0) if self._pending else b""
        return bytes((0x02 | self._number | bool(self._pending) << 4,)) + piece
