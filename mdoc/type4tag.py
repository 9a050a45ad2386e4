"""The NDEF file of a Type 4 Tag (NFC Forum T4T 2.0), reader's side, sans-I/O: found, read, and written where it allows it.

Every command costs a phone's operating system ten milliseconds or more, so there are two short cuts (`Shortcuts`), each given
up for a while when a phone does not take it.

Generators yield a command APDU or a Pause and are sent the response APDU (b"" after a Pause).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TypeVar

from mdoc.apdu import (
    INS_READ_BINARY,
    INS_SELECT,
    INS_UPDATE_BINARY,
    SW_NOT_FOUND,
    SW_OK,
    ApduError,
    Command,
    Response,
)
from mdoc.errors import HandoverError, NotReadyError

NDEF_AID = bytes.fromhex("D2760000850101")
CC_FILE, CC_LENGTH = bytes.fromhex("E103"), 15
USUAL_NDEF_FILE = bytes.fromhex("E104")
"""What every wallet's capability container names; for other names the container is read."""
MAX_HANDOVER = 4096
"""Bytes of a handover message: an engagement (2048 at most) and a few carriers. The fullest seen has 254."""
PIECE = 255
"""Bytes of one READ BINARY or UPDATE BINARY: short form, which every Type 4 Tag takes."""
MIN_COMMAND_DATA = 13
"""Bytes: the smallest MLc that a tag may give (T4T 5.1)."""
NOT_READY_POLLS, NOT_READY_PAUSE = 40, 0.025
"""NLEN = 0 in a static file is polled this often, seconds apart: one second in all."""
SW_END_OF_FILE = 0x6282
"""Fewer bytes than asked for, because the file ends (7816-4 7.2.3). Some send the bytes, some only the status word."""
SHORTCUT_REST = 100
"""Times that a short cut is left alone after a phone did not take it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pause:
    """The card asked for time: wait `seconds`, then send the generator b""."""

    seconds: float


Steps = Generator[bytes | Pause, bytes, T]


@dataclass(slots=True)
class Shortcut:
    """Whether to try. Phones at one gate are much alike: what the last one refused, the next would too."""

    _rest: int = 0

    def due(self) -> bool:
        self._rest = max(0, self._rest - 1)
        return self._rest == 0

    def refused(self) -> None:
        self._rest = SHORTCUT_REST + 1


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """What one reader has learnt of phones, none of them in particular. Shared by its presentations."""

    direct: Shortcut = field(default_factory=Shortcut)
    """The NDEF file is selected by its usual name, without reading the capability container: two commands less."""
    whole: Shortcut = field(default_factory=Shortcut)
    """Length and message are read at once, beyond the end of the file: one command less for each message. Android's
    identity library and what was made from it answer such a read with 6282 and nothing else."""


@dataclass(frozen=True, slots=True)
class NdefFile:
    """What the capability container says of the NDEF file (T4T 5.1). Lengths in bytes."""

    file_id: bytes
    read_piece: int
    write_piece: int
    max_message: int
    writable: bool

    @classmethod
    def parse(cls, container: bytes) -> NdefFile:
        """From the first 15 bytes of the capability container. Raises HandoverError."""
        if len(container) != CC_LENGTH:
            raise HandoverError("capability container: 15 bytes are expected")
        max_le, max_lc, max_size = (int.from_bytes(container[at : at + 2]) for at in (3, 5, 11))
        if container[2] >> 4 not in (2, 3) or container[7:9] != b"\x04\x06" or container[13] != 0x00:
            raise HandoverError("capability container: a readable NDEF file of mapping version 2 or 3 is expected")
        if max_le < CC_LENGTH or max_size < 5:
            raise HandoverError("capability container: length out of range")
        return cls(
            container[9:11],
            min(max_le, PIECE),
            min(max_lc, PIECE),
            min(max_size - 2, MAX_HANDOVER),
            container[14] == 0x00 and max_lc >= MIN_COMMAND_DATA,
        )


USUAL = NdefFile(USUAL_NDEF_FILE, PIECE, 0, MAX_HANDOVER, writable=False)
"""As far as it can be known without the capability container."""


SELECT_APPLICATION = Command(0x00, INS_SELECT, 0x04, 0x00, NDEF_AID, 256).encode()
"""Always the first command of an engagement."""


def select_application() -> Steps[None]:
    """Select the NDEF application (T4T 7.2). Raises NotReadyError (6A82: locked) or HandoverError."""
    reply = yield SELECT_APPLICATION
    if _response(reply).sw == SW_NOT_FOUND:
        raise NotReadyError("the phone offers no NDEF application (locked, or not presenting)")
    _expect(reply, "NDEF application", 0)


def open_file() -> Steps[NdefFile]:
    """Read the capability container and select the NDEF file that it names. Raises HandoverError."""
    yield from _select_file(CC_FILE, "capability container")
    file = NdefFile.parse(_expect((yield _read(0, CC_LENGTH)), "capability container", CC_LENGTH))
    yield from _select_file(file.file_id, "NDEF file")
    return file


def read_first(shortcuts: Shortcuts | None) -> Steps[tuple[NdefFile | None, bytes]]:
    """Select the application, read the first message. The file is None where its container has not been read yet.

    Without `shortcuts`, or where the phone does not take one, as T4T 7.2 says. Raises NotReadyError or HandoverError.
    """
    if shortcuts is not None and shortcuts.direct.due():
        yield from select_application()
        try:
            yield from _select_file(USUAL_NDEF_FILE, "NDEF file")
            return None, (
                yield from read_message(USUAL, polls=NOT_READY_POLLS, pause=NOT_READY_PAUSE, whole=shortcuts.whole)
            )
        except NotReadyError:
            raise
        except HandoverError:
            shortcuts.direct.refused()
    yield from select_application()
    file = yield from open_file()
    whole = None if shortcuts is None else shortcuts.whole
    return file, (yield from read_message(file, polls=NOT_READY_POLLS, pause=NOT_READY_PAUSE, whole=whole))


def read_message(file: NdefFile, *, polls: int, pause: float, whole: Shortcut | None = None) -> Steps[bytes]:
    """The message in the file. NLEN = 0 means "not ready": asked `polls` times, `pause` seconds apart, then NotReadyError.

    Raises HandoverError for a length over the limit, a short or a long answer.
    """
    for poll in range(polls):
        if poll:
            yield Pause(pause)
        start = yield from _read_start(file, whole)
        size = int.from_bytes(start[:2])
        if size:
            break
    else:
        raise NotReadyError("the NDEF file stays empty")
    if size > file.max_message:
        raise HandoverError("NDEF file: longer than the limit")
    message = bytearray(start[2 : 2 + size])
    while len(message) < size:
        wanted = min(file.read_piece, size - len(message))
        response = _response((yield _read(2 + len(message), wanted)))
        if response.sw != SW_OK or not 0 < len(response.data) <= wanted:
            raise HandoverError(f"NDEF file: {len(response.data)} bytes, status {response.sw:04X}")
        message += response.data
    return bytes(message)


def _read_start(file: NdefFile, whole: Shortcut | None) -> Steps[bytes]:
    """NLEN, and of the message what came with it."""
    if whole is not None and whole.due():
        response = _response((yield _read(0, file.read_piece)))
        if response.sw in (SW_OK, SW_END_OF_FILE) and 2 <= len(response.data) <= file.read_piece:
            return response.data
        whole.refused()
    return _expect((yield _read(0, 2)), "NDEF length", 2)


def write_message(file: NdefFile, message: bytes) -> Steps[None]:
    """Write the file: at once where length and message fit one command, else NLEN = 0, the pieces, NLEN (T4T 7.5.4).

    Raises HandoverError when the file does not take the message or a command fails.
    """
    if not file.writable or not 0 < len(message) <= file.max_message:
        raise HandoverError("NDEF file: it cannot be written, or not with so much")
    length = len(message).to_bytes(2)
    if len(message) + 2 <= file.write_piece:
        yield from _update(0, length + message)
        return
    yield from _update(0, b"\x00\x00")
    for at in range(0, len(message), file.write_piece):
        yield from _update(2 + at, message[at : at + file.write_piece])
    yield from _update(0, length)


def read_ndef_file(shortcuts: Shortcuts | None = None) -> Steps[bytes]:
    """Open the file and read its message, of whatever kind. Raises NotReadyError or HandoverError."""
    _, message = yield from read_first(shortcuts)
    return message


def _select_file(file_id: bytes, place: str) -> Steps[None]:
    _expect((yield Command(0x00, INS_SELECT, 0x00, 0x0C, file_id).encode()), place, 0)


def _read(offset: int, size: int) -> bytes:
    return Command(0x00, INS_READ_BINARY, offset >> 8, offset & 0xFF, le=size).encode()


def _update(offset: int, data: bytes) -> Steps[None]:
    _expect(
        (yield Command(0x00, INS_UPDATE_BINARY, offset >> 8, offset & 0xFF, data).encode()), "NDEF file, writing", 0
    )


def _response(raw: bytes) -> Response:
    try:
        return Response.parse(raw)
    except ApduError as error:
        raise HandoverError(str(error)) from None


def _expect(raw: bytes, place: str, size: int) -> bytes:
    """The data of a 9000 response of exactly `size` bytes; for 0 any data is passed over (a SELECT may return some)."""
    response = _response(raw)
    if response.sw != SW_OK or (size and len(response.data) != size):
        raise HandoverError(f"{place}: {len(response.data)} bytes, status {response.sw:04X}")
    return response.data
