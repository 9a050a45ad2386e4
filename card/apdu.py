"""Commands to a card in short APDUs, which every card and reader takes: command chaining (7816-4 5.3.3) one way, GET RESPONSE
(61xx) the other, and 6Cxx once. `mdoc.apdu` has the APDUs themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from card import limits
from mdoc.apdu import (
    CLA_CHAINING,
    INS_GET_RESPONSE,
    INS_SELECT,
    SHORT_COMMAND_DATA,
    SHORT_RESPONSE_DATA,
    SW_OK,
    ApduError,
    Command,
    Response,
    Steps,
    transmit,
)

HEADER = 6
"""Bytes of a short command around its data: header, Lc, Le."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Longest data fields in bytes, Lc and Le."""

    command: int = SHORT_COMMAND_DATA
    response: int = SHORT_RESPONSE_DATA

    @classmethod
    def carried(cls, max_command: int, max_response: int) -> Sizes:
        """Of a reader that carries APDUs of so many bytes; some have buffers below the short form's 261 and 258."""
        return cls(
            min(SHORT_COMMAND_DATA, max(1, max_command - HEADER)), min(SHORT_RESPONSE_DATA, max(1, max_response - 2))
        )


def exchange(command: Command, sizes: Sizes, *, most: int) -> Steps[Response]:
    """One command and its whole answer of at most `most` bytes. The status word is the caller's to judge; Le is set here.

    Raises ApduError for what is no response, too much of it, or GET RESPONSE without progress.
    """
    pieces = [command.data[at : at + sizes.command] for at in range(0, len(command.data), sizes.command)] or [b""]
    for piece in pieces[:-1]:
        chained = replace(command, cla=command.cla | CLA_CHAINING, data=piece, le=None)
        response = Response.parse((yield chained.encode()))
        if response.sw != SW_OK or response.data:
            return response
    response = yield from transmit(replace(command, data=pieces[-1], le=sizes.response))
    received = bytearray(response.data)
    rounds = 0
    while response.more:
        rounds += 1
        if rounds > limits.MAX_ROUNDS or len(received) > most:
            raise ApduError("GET RESPONSE: more rounds or bytes than allowed")
        announced = response.sw & 0xFF or SHORT_RESPONSE_DATA
        response = yield from transmit(Command(0x00, INS_GET_RESPONSE, le=min(announced, sizes.response)))
        if not response.data and response.more:
            raise ApduError("GET RESPONSE: no data")
        received += response.data
    if len(received) > most:
        raise ApduError("response: longer than allowed")
    return Response(response.sw, bytes(received))


def select(aid: bytes) -> bytes:
    """SELECT by application identifier, as sent."""
    return Command(0x00, INS_SELECT, 0x04, 0x00, aid, SHORT_RESPONSE_DATA).encode()


def selected(raw: bytes) -> bool:
    """The response to `select` says that the application is there. Raises ApduError."""
    response = Response.parse(raw)
    return response.sw == SW_OK or response.more
