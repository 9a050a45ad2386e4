"""A phone at the virtual antenna: an NDEF application with a Handover Select message and an mdoc application that carries
the session (ISO/IEC 18013-5 8.2.2.1 and 8.3.3.1.2), over `testbed.phone.isodep`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from mdoc.apdu import (
    INS_READ_BINARY,
    INS_SELECT,
    INS_UPDATE_BINARY,
    MDOC_AID,
    SW_CONDITIONS,
    SW_NOT_FOUND,
    SW_OK,
    SW_UNKNOWN_INS,
    SW_WRONG_LENGTH,
    SW_WRONG_P1P2,
    ApduError,
    Command,
    EnvelopeApplet,
    Response,
)
from mdoc.ndef_handover import CC_FILE, NDEF_AID, HandoverError, HandoverRequest, decode_message, encode_record
from mdoc.negotiated_handover import SERVICE, TE, TP, TS
from mdoc.type4tag import SW_END_OF_FILE
from testbed.phone.isodep import Application, Ended, IsoDepTarget

OnMessage = Callable[[bytes], bytes | None]
Handover = bytes | Callable[[HandoverRequest], bytes]
NDEF_FILE = bytes.fromhex("E104")
MAX_NDEF_FILE = 0x7FFF


class NdefApplet:
    """Read-only Type 4 Tag application, mapping version 2.0 (NFC Forum T4T 5).

    `beyond_end` False: a read over the end of a file is answered by 6282 alone, as Android's identity library does.
    """

    def __init__(self, message: bytes, *, beyond_end: bool = True) -> None:
        self._beyond_end = beyond_end
        self._files = {
            CC_FILE: bytes.fromhex("000F20 7FFF 7FFF 0406") + NDEF_FILE + MAX_NDEF_FILE.to_bytes(2) + b"\x00\xff",
            NDEF_FILE: len(message).to_bytes(2) + message,
        }
        self._file: bytes | None = None

    def process(self, command: Command) -> Response:
        if command.ins == INS_SELECT:
            self._file = self._files.get(command.data)
            return Response(SW_OK if self._file is not None else SW_NOT_FOUND)
        if command.ins != INS_READ_BINARY:
            return Response(SW_UNKNOWN_INS)
        if self._file is None or command.le is None:
            return Response(SW_CONDITIONS)
        offset = command.p1 << 8 | command.p2
        if offset > len(self._file):
            return Response(SW_WRONG_P1P2)
        if not self._beyond_end and offset + command.le > len(self._file):
            return Response(SW_END_OF_FILE)
        return Response(SW_OK, self._file[offset : offset + command.le])


class NegotiatedNdefApplet:
    """A Type 4 Tag application that negotiates (TNEP 1.0): service parameters, service select, Handover Request in, Handover
    Select out. `on_request` chooses the answer; `not_ready` is how many times NLEN = 0 is read before each answer.
    """

    def __init__(
        self,
        on_request: Callable[[HandoverRequest], bytes],
        *,
        not_ready: int = 0,
        waiting: int = 0x14,
        extensions: int = 15,
        max_command: int = 0xFF,
    ) -> None:
        self._on_request, self._not_ready = on_request, not_ready
        self._container = (
            bytes.fromhex("000F20 00FF") + max_command.to_bytes(2) + b"\x04\x06" + NDEF_FILE + b"\x10\x00\x00\x00"
        )
        parameters = bytes((0x10, len(SERVICE))) + SERVICE + bytes((0, waiting, extensions)) + b"\x10\x00"
        self._message = encode_record(TP, parameters)
        self._polls = 0
        self._selected = False
        self._file: bytes | None = None
        self._written = bytearray(MAX_NDEF_FILE)

    def process(self, command: Command) -> Response:
        """One command after SELECT of the application. Errors of the reader are status words."""
        if command.ins == INS_SELECT:
            self._file = command.data if command.data in (CC_FILE, NDEF_FILE) else None
            return Response(SW_OK if self._file is not None else SW_NOT_FOUND)
        offset = command.p1 << 8 | command.p2
        if command.ins == INS_READ_BINARY and self._file is not None and command.le is not None:
            return self._read(offset, command.le)
        if command.ins == INS_UPDATE_BINARY and self._file == NDEF_FILE and command.data:
            return self._write(offset, command.data)
        return Response(SW_CONDITIONS)

    def _read(self, offset: int, size: int) -> Response:
        if self._file == CC_FILE:
            return Response(SW_OK, self._container[offset : offset + size])
        if self._polls and offset == 0:
            self._polls -= 1
            return Response(SW_OK, b"\x00\x00")
        content = len(self._message).to_bytes(2) + self._message
        return Response(SW_OK, content[offset : offset + size])

    def _write(self, offset: int, data: bytes) -> Response:
        if offset + len(data) > len(self._written):
            return Response(SW_WRONG_P1P2)
        self._written[offset : offset + len(data)] = data
        length = int.from_bytes(self._written[:2])
        if offset == 0 and length:
            self._take(bytes(self._written[2 : 2 + length]))
        return Response(SW_OK)

    def _take(self, message: bytes) -> None:
        self._polls = self._not_ready
        if self._selected:
            try:
                self._message = self._on_request(HandoverRequest.parse(message))
            except HandoverError:
                self._message = encode_record(TE, b"\x01")
            return
        records = [record for record in decode_message(message) if record.type == TS]
        self._selected = [bytes(record.data) for record in records] == [bytes((len(SERVICE),)) + SERVICE]
        self._message = encode_record(TE, b"\x00" if self._selected else b"\x01")


class PhoneApplication:
    """Dispatches C-APDUs to the applications of a phone. `unlocked` cleared: every SELECT is answered 6A82, as Android does.

    `handover` is the Handover Select message to show (static), or what chooses one for a Handover Request (negotiated).
    `beyond_end` as in NdefApplet.
    """

    def __init__(
        self, handover: Handover, on_message: OnMessage, *, data_transfer: bool = True, beyond_end: bool = True
    ) -> None:
        self.unlocked = threading.Event()
        self.unlocked.set()
        self._handover, self._on_message, self._data_transfer = handover, on_message, data_transfer
        self._beyond_end = beyond_end
        self._selected: NdefApplet | NegotiatedNdefApplet | EnvelopeApplet | None = None

    def __call__(self, raw: bytes) -> bytes:
        try:
            command = Command.parse(raw)
        except ApduError:
            return Response(SW_WRONG_LENGTH).encode()
        if command.ins == INS_SELECT and command.p1 == 0x04:
            return self._select(command.data).encode()
        if self._selected is None:
            return Response(SW_CONDITIONS).encode()
        return self._selected.process(command).encode()

    def _select(self, aid: bytes) -> Response:
        self._selected = None
        if self.unlocked.is_set():
            if aid == NDEF_AID:
                handover = self._handover
                if isinstance(handover, bytes):
                    self._selected = NdefApplet(handover, beyond_end=self._beyond_end)
                else:
                    self._selected = NegotiatedNdefApplet(handover)
            elif aid == MDOC_AID and self._data_transfer:
                self._selected = EnvelopeApplet(self._on_message)
        return Response(SW_OK if self._selected is not None else SW_NOT_FOUND)


class PhoneNfc:
    """A phone that can be held to the antenna on 127.0.0.1:`port`. `present` blocks: run it in a thread, `stop` ends it.

    Every presentation has a fresh random UID (08 and three random bytes, ISO/IEC 14443-3 6.5.4).
    """

    def __init__(self, port: int, *, random_bytes: Callable[[int], bytes] = os.urandom, fwi: int = 10) -> None:
        self._port, self._random_bytes, self._fwi = port, random_bytes, fwi
        self._lock = threading.Lock()
        self._target: IsoDepTarget | None = None
        self._stopped = False

    def present(
        self,
        handover: Handover,
        on_message: OnMessage,
        *,
        wait: float = 10.0,
        data_transfer: bool = True,
        vanish_after_messages: int | None = None,
        vanish_after_frames: int | None = None,
    ) -> Ended:
        """Hold the phone to the reader until it deselects, the field goes off, or the phone vanishes.

        `on_message` gets each session message and returns the answer (None: no answer); it runs in a thread of its own
        and may block for consent. `vanish_after_messages` = N: the phone is pulled away when message N has come, without
        an answer. Other phones at the antenna are waited for. Raises OSError when one stays over `wait` seconds, and what
        `on_message` raises.
        """
        seen = 0
        gone = threading.Event()

        def count(message: bytes) -> bytes | None:
            nonlocal seen
            seen += 1
            if seen == vanish_after_messages:
                gone.set()
                return None
            return on_message(message)

        application = PhoneApplication(handover, count, data_transfer=data_transfer)

        def until_gone(raw: bytes) -> bytes | None:
            answer = application(raw)
            return None if gone.is_set() else answer

        return self.present_application(until_gone, wait=wait, vanish_after_frames=vanish_after_frames)

    def present_application(
        self, application: Application, *, wait: float = 10.0, vanish_after_frames: int | None = None
    ) -> Ended:
        """The same with any application over APDUs."""
        uid = b"\x08" + self._random_bytes(3)
        target = IsoDepTarget(self._port, uid, fwi=self._fwi, vanish_after_frames=vanish_after_frames)
        with self._lock:
            self._target = target
            if self._stopped:
                target.stop()
        try:
            return target.serve(application, wait)
        finally:
            with self._lock:
                self._target = None
            target.close()

    def stop(self) -> None:
        """End the presentation under way, and every later one at once."""
        with self._lock:
            self._stopped = True
            if self._target is not None:
                self._target.stop()
