"""The NDEF file of a Type 4 Tag (NFC Forum T4T 2.0), reader's side, sans-I/O: found, read, and written where it allows it.

Generators yield a command APDU or a Pause and are sent the response APDU (b"" after a Pause).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
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
MAX_HANDOVER = 4096
"""Bytes of a handover message: an engagement (2048 at most) and a few carriers. The fullest seen has 254."""
PIECE = 255
"""Bytes of one READ BINARY or UPDATE BINARY: short form, which every Type 4 Tag takes."""
MIN_COMMAND_DATA = 13
"""Bytes: the smallest MLc that a tag may give (T4T 5.1)."""
NOT_READY_POLLS, NOT_READY_PAUSE = 40, 0.025
"""NLEN = 0 in a static file is polled this often, seconds apart: one second in all."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pause:
    """The card asked for time: wait `seconds`, then send the generator b""."""

    seconds: float


Steps = Generator[bytes | Pause, bytes, T]


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


def open_ndef_file() -> Steps[NdefFile]:
    """Select the NDEF application and its file (T4T 7.2). Raises NotReadyError (6A82: locked) or HandoverError."""
    reply = yield Command(0x00, INS_SELECT, 0x04, 0x00, NDEF_AID, 256).encode()
    if _response(reply).sw == SW_NOT_FOUND:
        raise NotReadyError("the phone offers no NDEF application (locked, or not presenting)")
    _expect(reply, "NDEF application", 0)
    _expect((yield Command(0x00, INS_SELECT, 0x00, 0x0C, CC_FILE).encode()), "capability container", 0)
    file = NdefFile.parse(_expect((yield _read(0, CC_LENGTH)), "capability container", CC_LENGTH))
    _expect((yield Command(0x00, INS_SELECT, 0x00, 0x0C, file.file_id).encode()), "NDEF file", 0)
    return file


def read_message(file: NdefFile, *, polls: int, pause: float) -> Steps[bytes]:
    """The message in the file. NLEN = 0 means "not ready": asked `polls` times, `pause` seconds apart, then NotReadyError.

    Raises HandoverError for a length over the limit, a short or a long answer.
    """
    for poll in range(polls):
        if poll:
            yield Pause(pause)
        size = int.from_bytes(_expect((yield _read(0, 2)), "NDEF length", 2))
        if size:
            break
    else:
        raise NotReadyError("the NDEF file stays empty")
    if size > file.max_message:
        raise HandoverError("NDEF file: longer than the limit")
    message = bytearray()
    while len(message) < size:
        wanted = min(file.read_piece, size - len(message))
        response = _response((yield _read(2 + len(message), wanted)))
        if response.sw != SW_OK or not 0 < len(response.data) <= wanted:
            raise HandoverError(f"NDEF file: {len(response.data)} bytes, status {response.sw:04X}")
        message += response.data
    return bytes(message)


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


def read_ndef_file() -> Steps[bytes]:
    """Open the file and read its message, of whatever kind. Raises NotReadyError or HandoverError."""
    file = yield from open_ndef_file()
    return (yield from read_message(file, polls=NOT_READY_POLLS, pause=NOT_READY_PAUSE))


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
