"""APDUs of NFC data transfer, both sides, sans-I/O: ISO/IEC 7816-4 commands and responses, the data object '53', and the
ENVELOPE / GET RESPONSE exchange that carries one session message each way (ISO/IEC 18013-5 8.3.3.1.2).

The reader's side is a generator: it yields a command APDU and is sent the response APDU, so that any driver can run it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TypeVar

from mdoc import limits
from mdoc.errors import MalformedError

MDOC_AID = bytes.fromhex("A0000002480400")
"""Application identifier of the mdoc (18013-5 8.3.3.1.2)."""

CLA_CHAINING = 0x10
INS_SELECT, INS_READ_BINARY, INS_GET_RESPONSE, INS_ENVELOPE, INS_UPDATE_BINARY = 0xA4, 0xB0, 0xC0, 0xC3, 0xD6
TAG_DATA = 0x53
SW_OK = 0x9000
SW_WRONG_LENGTH, SW_CONDITIONS, SW_NOT_FOUND, SW_WRONG_P1P2 = 0x6700, 0x6985, 0x6A82, 0x6A86
SW_UNKNOWN_INS, SW_NO_DIAGNOSIS = 0x6D00, 0x6F00
SW1_MORE = 0x61
"""61xx: xx more bytes wait for GET RESPONSE, 00 meaning 256 or more (7816-4 5.6)."""

SHORT_COMMAND_DATA, SHORT_RESPONSE_DATA = 255, 256
EXTENDED_COMMAND_DATA, EXTENDED_RESPONSE_DATA = 65_535, 65_536
EXTENDED_OVERHEAD = 9
"""Header 4, Lc 3, Le 2: what an extended command adds to its data field."""
MAX_OBJECT = limits.MAX_MESSAGE + 5
"""One session message with its tag and longest length field."""
MAX_ROUNDS = 2 * limits.MAX_MESSAGE // SHORT_RESPONSE_DATA
"""GET RESPONSE commands for one message: twice what a card needs that fills every short response."""

SW1_WRONG_LE = 0x6C
"""6Cxx: the command again with Le = xx, 00 meaning 256 (7816-4 5.6)."""

T = TypeVar("T")
Steps = Generator[bytes, bytes, T]
"""Yields command APDUs, is sent response APDUs, returns T. May raise ApduError."""


class ApduError(MalformedError):
    """An APDU, status word or data object that breaks the exchange, or a limit reached. Never holds content."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command APDU. `le` is the number of response bytes wanted (1 to 65536), None where none are."""

    cla: int
    ins: int
    p1: int = 0
    p2: int = 0
    data: bytes = b""
    le: int | None = None

    def encode(self) -> bytes:
        """Short form where data and Le fit it (7816-4 5.1), extended form otherwise. Raises ApduError."""
        if len(self.data) > EXTENDED_COMMAND_DATA or not 1 <= (self.le or 1) <= EXTENDED_RESPONSE_DATA or self.le == 0:
            raise ApduError("command APDU: length out of range")
        apdu = bytes((self.cla, self.ins, self.p1, self.p2))
        if len(self.data) <= SHORT_COMMAND_DATA and (self.le or 0) <= SHORT_RESPONSE_DATA:
            if self.data:
                apdu += bytes((len(self.data),)) + self.data
            return apdu if self.le is None else apdu + bytes((self.le & 0xFF,))
        apdu += b"\x00"
        if self.data:
            apdu += len(self.data).to_bytes(2) + self.data
        return apdu if self.le is None else apdu + (self.le & 0xFFFF).to_bytes(2)

    @classmethod
    def parse(cls, raw: bytes) -> Command:
        """Any of the seven forms of 7816-4 5.1. Raises ApduError."""
        if len(raw) < 4:
            raise ApduError("command APDU: shorter than its header")
        cla, ins, p1, p2 = raw[:4]
        body = raw[4:]
        if not body:
            return cls(cla, ins, p1, p2)
        if len(body) == 1:
            return cls(cla, ins, p1, p2, le=body[0] or SHORT_RESPONSE_DATA)
        if len(body) == 3 and body[0] == 0:
            return cls(cla, ins, p1, p2, le=int.from_bytes(body[1:]) or EXTENDED_RESPONSE_DATA)
        if len(body) > 3 and body[0] == 0:
            data, le = _split(body[3:], int.from_bytes(body[1:3]), le_bytes=2)
        else:
            data, le = _split(body[1:], body[0], le_bytes=1)
        return cls(cla, ins, p1, p2, data, le)


def _split(rest: bytes, lc: int, le_bytes: int) -> tuple[bytes, int | None]:
    if lc == 0 or len(rest) not in (lc, lc + le_bytes):
        raise ApduError("command APDU: Lc does not fit its length")
    return rest[:lc], (int.from_bytes(rest[lc:]) or 1 << 8 * le_bytes) if len(rest) > lc else None


@dataclass(frozen=True, slots=True)
class Response:
    """A response APDU: data field and status word SW1 SW2."""

    sw: int
    data: bytes = b""

    @property
    def more(self) -> bool:
        return self.sw >> 8 == SW1_MORE

    def encode(self) -> bytes:
        return self.data + self.sw.to_bytes(2)

    @classmethod
    def parse(cls, raw: bytes) -> Response:
        """Raises ApduError when there is no status word or more than 65536 bytes of data."""
        if not 2 <= len(raw) <= EXTENDED_RESPONSE_DATA + 2:
            raise ApduError("response APDU: length out of range")
        return cls(int.from_bytes(raw[-2:]), raw[:-2])


def wrap(message: bytes) -> bytes:
    """Data object '53' around `message`, shortest length form (7816-4 5.2.2.2). Raises ApduError."""
    size = len(message)
    if size > limits.MAX_MESSAGE:
        raise ApduError("message: longer than the limit")
    if size < 0x80:
        return bytes((TAG_DATA, size)) + message
    width = (size.bit_length() + 7) // 8
    return bytes((TAG_DATA, 0x80 | width)) + size.to_bytes(width) + message


def object_size(start: bytes) -> tuple[int, int] | None:
    """(header bytes, content bytes) of the data object '53' that begins with `start`; None while too few bytes are there.

    Raises ApduError for another tag, a length form other than 00-7F, 81, 82, 83, or a length over the limit.
    """
    if start and start[0] != TAG_DATA:
        raise ApduError("data object: tag 53 is expected")
    if len(start) < 2:
        return None
    width = 0
    size = start[1]
    if size >= 0x80:
        width = size & 0x7F
        if not 1 <= width <= 3:
            raise ApduError("data object: length form not allowed")
        if len(start) < 2 + width:
            return None
        size = int.from_bytes(start[2 : 2 + width])
    if size > limits.MAX_MESSAGE:
        raise ApduError("data object: longer than the limit")
    return 2 + width, size


def unwrap(data_object: bytes) -> bytes:
    """The content of one whole data object '53'. Raises ApduError for another tag, missing or trailing bytes."""
    sizes = object_size(data_object)
    if sizes is None or len(data_object) < sum(sizes):
        raise ApduError("data object: incomplete")
    if len(data_object) > sum(sizes):
        raise ApduError("data object: trailing bytes")
    return data_object[sizes[0] :]


def command_data(max_command: int) -> int:
    """Longest command data field in a C-APDU of at most `max_command` bytes; extended only where it carries more than 255."""
    return min(max(SHORT_COMMAND_DATA, max_command - EXTENDED_OVERHEAD), EXTENDED_COMMAND_DATA)


def response_data(max_response: int) -> int:
    """Longest response data field in an R-APDU of at most `max_response` bytes, at least the 256 of the short form."""
    return min(max(SHORT_RESPONSE_DATA, max_response - 2), EXTENDED_RESPONSE_DATA)


def transmit(command: Command) -> Steps[Response]:
    """One command, and once more with the Le that the card asks for. Raises ApduError for what is no response."""
    response = Response.parse((yield command.encode()))
    if response.sw >> 8 == SW1_WRONG_LE and command.le is not None:
        again = replace(command, le=response.sw & 0xFF or SHORT_RESPONSE_DATA)
        response = Response.parse((yield again.encode()))
    return response


def select(aid: bytes) -> Steps[None]:
    """SELECT by application identifier; what the card says of itself is passed over. Raises ApduError unless it is there."""
    response = yield from transmit(Command(0x00, INS_SELECT, 0x04, 0x00, aid, SHORT_RESPONSE_DATA))
    if response.sw != SW_OK and not response.more:
        raise ApduError(f"SELECT: status {response.sw:04X}")


def exchange(message: bytes, *, max_command: int, max_response: int) -> Steps[bytes]:
    """Send one session message, return the answer (18013-5 8.3.3.1.2).

    `max_command` and `max_response` are the longest data fields in bytes that phone and reader both take (Lc and Le).
    Raises ApduError: wrong status word, wrong tag, missing or trailing bytes, over 256 kB, GET RESPONSE without progress.
    """
    out = wrap(message)
    pieces = [out[at : at + max_command] for at in range(0, len(out), max_command)]
    for piece in pieces[:-1]:
        response = Response.parse((yield Command(CLA_CHAINING, INS_ENVELOPE, data=piece).encode()))
        if response.sw != SW_OK or response.data:
            raise ApduError(f"ENVELOPE: status {response.sw:04X} inside a chain")
    response = yield from transmit(Command(0x00, INS_ENVELOPE, data=pieces[-1], le=max_response))
    received = bytearray(response.data)
    _check_progress(received)
    rounds = 0
    while response.more:
        rounds += 1
        if rounds > MAX_ROUNDS:
            raise ApduError("GET RESPONSE: too many rounds")
        announced = response.sw & 0xFF
        response = yield from transmit(Command(0x00, INS_GET_RESPONSE, le=announced or max_response))
        if not response.data:
            raise ApduError(f"GET RESPONSE: no data, status {response.sw:04X}")
        received += response.data
        _check_progress(received)
    if response.sw != SW_OK:
        raise ApduError(f"ENVELOPE: status {response.sw:04X}")
    return unwrap(bytes(received))


def _check_progress(received: bytearray) -> None:
    """Refuse a wrong tag or an overrun as soon as it shows, not after 256 kB."""
    sizes = object_size(bytes(received[:5]))
    if sizes is not None and len(received) > sum(sizes):
        raise ApduError("data object: trailing bytes")


class EnvelopeApplet:
    """Card side of `exchange`: collects an ENVELOPE chain, hands the message on, gives the answer out in pieces.

    `on_message` takes a message and returns the answer, or None for no answer (status 9000 without data).
    """

    def __init__(self, on_message: Callable[[bytes], bytes | None]) -> None:
        self._on_message = on_message
        self._chain = bytearray()
        self._answer = b""

    def process(self, command: Command) -> Response:
        """One command after SELECT. Never raises for what the reader sent; errors are status words."""
        if command.ins == INS_ENVELOPE:
            return self._envelope(command)
        if command.ins == INS_GET_RESPONSE:
            return self._give(command.le) if self._answer else Response(SW_CONDITIONS)
        return Response(SW_UNKNOWN_INS)

    def _envelope(self, command: Command) -> Response:
        self._answer = b""
        self._chain += command.data
        if len(self._chain) > MAX_OBJECT:
            self._chain.clear()
            return Response(SW_WRONG_LENGTH)
        if command.cla & CLA_CHAINING:
            return Response(SW_OK)
        whole = bytes(self._chain)
        self._chain.clear()
        try:
            message = unwrap(whole)
        except ApduError:
            return Response(SW_WRONG_LENGTH)
        answer = self._on_message(message)
        if answer is None:
            return Response(SW_OK)
        self._answer = wrap(answer)
        return self._give(command.le)

    def _give(self, le: int | None) -> Response:
        """Up to `le` bytes of the answer; without Le nothing yet, only how much there is."""
        data, self._answer = self._answer[: le or 0], self._answer[le or 0 :]
        if not self._answer:
            return Response(SW_OK, data)
        return Response(SW1_MORE << 8 | (len(self._answer) if len(self._answer) <= 0xFF else 0), data)
