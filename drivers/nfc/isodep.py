"""ISO-DEP reader side (ISO/IEC 14443-4) on nfcpy's block protocol: activation with its own reading of the ATS, and a guard
around every frame.

nfcpy 1.0.4 reads the frame waiting time at a fixed place (wrong without TA(1)), repeats nothing where that time is long and
nothing at all after a waiting time extension, follows extensions and chains for ever, and indexes into short frames. The guard
turns all of that into a bounded exchange with typed errors.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import nfc.clf
import nfc.tag
import nfc.tag.tt4

from drivers.ports import LinkLostError, LinkProtocolError, LinkTimeoutError
from mdoc.apdu import EXTENDED_RESPONSE_DATA
from protocol.clock import Clock

FC_HZ = 13.56e6
FRAME_SIZES = (16, 24, 32, 40, 48, 64, 96, 128, 256)
"""FSC of FSCI 0 to 8 (14443-4 5.2.3); larger FSCI are used as 256, the most that nfcpy's devices carry."""
FWT_MAX_S = 4.949
"""Longest frame waiting time, extended ones included (14443-4 7.2 and 7.3)."""
RATS_TIMEOUT_S = 0.1
"""14443-4 gives the card 4.8 ms; the rest is room for USB, serial lines and busy machines."""
DESELECT_TIMEOUT_S = 0.1
EXCHANGE_LIMIT_S = 120.0
"""Longest single exchange: a holder may think about consent while the phone extends the waiting time."""
MIN_RETRIES = 2
"""How often a block is asked for again at least; nfcpy does so 1/FWT times, at most five."""
SILENCE_LIMIT_S = 2.0
"""Without an answer for so long, a card is gone, whatever retries are left."""
MAX_FRAMES = 16_384
"""Frames in one exchange: 64 kB each way in the smallest frames is 10,000, and 120 s of extensions 2,400."""
ISO_DEP = 0x20
"""SAK bit: the card speaks 14443-4."""
RATS, S_DESELECT, S_WTX, R_NAK = 0xE0, 0xC2, 0xF2, 0xB2


@dataclass(frozen=True, slots=True)
class Ats:
    """Answer to select (14443-4 5.2): frame size in bytes, frame waiting time and start-up guard time in seconds."""

    frame_size: int = 32
    waiting_time: float = 4096 / FC_HZ * 2**4
    guard_time: float = 0.0

    @classmethod
    def parse(cls, raw: bytes) -> Ats:
        """Interface bytes are found by the bits of T0, absent ones keep the standard's defaults. Raises LinkProtocolError."""
        if not raw or raw[0] != len(raw):
            raise LinkProtocolError("answer to select: wrong length")
        if len(raw) == 1:
            return cls()
        t0 = raw[1]
        size = FRAME_SIZES[min(t0 & 0x0F, 8)]
        tb_at = 2 + bool(t0 & 0x10)
        if not t0 & 0x20:
            return cls(size)
        if tb_at >= len(raw):
            raise LinkProtocolError("answer to select: TB(1) is missing")
        fwi, sfgi = raw[tb_at] >> 4, raw[tb_at] & 0x0F
        # 15 is reserved: use the defaults (14443-4 5.2.5)
        return cls(
            size,
            4096 / FC_HZ * 2 ** (fwi if fwi < 15 else 4),
            4096 / FC_HZ * 2**sfgi if 0 < sfgi < 15 else 0.0,
        )


class _Guard:
    """Stands between nfcpy's block protocol and the frontend and watches each frame of one exchange."""

    def __init__(self, frontend: nfc.ContactlessFrontend, clock: Clock, interrupted: threading.Event) -> None:
        self._frontend, self._clock, self._interrupted = frontend, clock, interrupted
        self._end = self._silent = 0.0
        self._frames = self._bytes = self._number = 0

    def arm(self) -> None:
        self._end = self._clock.monotonic() + EXCHANGE_LIMIT_S
        self._silent = 0.0
        self._frames = self._bytes = 0

    def exchange(self, frame: bytes, timeout: float) -> bytes:
        """Called by nfcpy. Raises LinkError, or nfc.clf errors where nfcpy may try again."""
        if frame[0] != S_WTX:
            self._number = frame[0] & 1
            return self._exchange(frame, timeout)
        for again in range(MIN_RETRIES + 1):
            try:
                # The card says its last block again, be that another extension or the answer (14443-4 7.5.5.2, rule 11).
                return self._exchange(bytes((R_NAK | self._number,)) if again else frame, timeout)
            except (nfc.clf.TimeoutError, nfc.clf.TransmissionError):
                continue
        raise LinkLostError("the card stopped answering")

    def _exchange(self, frame: bytes, timeout: float) -> bytes:
        left = self._end - self._clock.monotonic()
        if self._interrupted.is_set():
            raise LinkLostError("the exchange was given up")
        if left <= 0:
            raise LinkTimeoutError("the card extended its waiting time over the limit")
        self._frames += 1
        if self._frames > MAX_FRAMES:
            raise LinkProtocolError("too many frames in one exchange")
        timeout = min(timeout, FWT_MAX_S, left)
        try:
            answer = self._frontend.exchange(bytearray(frame), timeout)
        except nfc.clf.TimeoutError:
            self._silent += timeout
            if self._silent >= SILENCE_LIMIT_S:
                raise LinkLostError("the card stopped answering") from None
            raise
        self._silent = 0.0
        if not answer:
            raise nfc.clf.TransmissionError("empty frame")
        if answer[0] & 0xFE == S_WTX:
            return self._waiting_time_extension(bytes(answer))
        self._bytes += len(answer) - 1
        if self._bytes > EXTENDED_RESPONSE_DATA + 2:
            raise LinkProtocolError("response longer than an APDU can be")
        return bytes(answer)

    @staticmethod
    def _waiting_time_extension(answer: bytes) -> bytes:
        """S(WTX) with the multiplier alone: the power bits are not sent back (14443-4 7.3)."""
        multiplier = answer[1] & 0x3F if len(answer) == 2 else 0
        if not 1 <= multiplier <= 59:
            raise LinkProtocolError("waiting time extension out of range")
        return bytes((S_WTX, multiplier))


class IsoDepSession:
    """One activated card. Every method blocks and belongs to the thread that owns the frontend."""

    def __init__(self, frontend: nfc.ContactlessFrontend, ats: Ats, clock: Clock, interrupted: threading.Event) -> None:
        self._frontend = frontend
        self._guard = _Guard(frontend, clock, interrupted)
        size = min(ats.frame_size, frontend.max_send_data_size)
        self._blocks: Any = nfc.tag.tt4.IsoDepInitiator(self._guard, size, ats.waiting_time)
        self._blocks.n_retry_ack = self._blocks.n_retry_nak = max(MIN_RETRIES, self._blocks.n_retry_nak)

    @classmethod
    def activate(
        cls,
        frontend: nfc.ContactlessFrontend,
        target: nfc.clf.RemoteTarget,
        clock: Clock,
        interrupted: threading.Event,
    ) -> IsoDepSession | None:
        """RATS and ATS. None when the target is no ISO-DEP card, left, or answered nonsense. Raises OSError (device)."""
        if not target.sel_res or not target.sel_res[0] & ISO_DEP:
            return None
        size_index = 8 if frontend.max_recv_data_size >= 256 else 7
        try:
            answer = frontend.exchange(bytearray((RATS, size_index << 4)), RATS_TIMEOUT_S)
            ats = Ats.parse(bytes(answer or b""))
        except (nfc.clf.CommunicationError, LinkProtocolError):
            return None
        if ats.guard_time and interrupted.wait(ats.guard_time):
            return None
        return cls(frontend, ats, clock, interrupted)

    def transceive(self, command: bytes) -> bytes:
        """One C-APDU out, one R-APDU back. Raises LinkError, or OSError when the device is gone."""
        if not command:
            raise LinkProtocolError("empty command")
        self._guard.arm()
        try:
            response = bytes(self._blocks.exchange(bytearray(command)))
        except nfc.tag.TagCommandError as error:
            if error.errno == nfc.tag.PROTOCOL_ERROR:
                raise LinkProtocolError("block protocol error") from None
            raise LinkLostError("the card stopped answering") from None
        except nfc.clf.ProtocolError:
            raise LinkProtocolError("block protocol error") from None
        except nfc.clf.CommunicationError:
            raise LinkLostError("the card stopped answering") from None
        except (IndexError, ValueError, TypeError) as error:  # nfcpy trips over frames that it did not expect
            raise LinkProtocolError(f"block protocol error: {type(error).__name__}") from None
        if len(response) < 2:
            raise LinkProtocolError("response without status word")
        return response

    def deselect(self) -> None:
        """S(DESELECT) (14443-4 8): the card may tell its application that the reader is done. Raises OSError (device)."""
        for _ in range(2):
            try:
                answer = self._frontend.exchange(bytearray((S_DESELECT,)), DESELECT_TIMEOUT_S)
            except nfc.clf.CommunicationError:
                continue
            if answer and answer[0] & 0xF7 == S_DESELECT:
                return
