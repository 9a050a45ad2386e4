"""The TLS socket that paho works on: many packets come by one read, and what one turn of the loop says leaves in one write.

paho asks for one or two bytes at a time and writes each packet by itself. Here `fill` reads what there is, the connection hands
paho the packets that are for it, and `send` only gathers; `flush` writes. Nothing else touches the stream, so packets of paho
and our own acknowledgements never mix.
"""

from __future__ import annotations

import ssl
from typing import Any

FILL_BYTES = 65536
"""Read at a time, so that the loop serves others in between."""
RECORD_BYTES = 16384
"""A TLS record has no more (RFC 8446 5.1)."""
MAX_UNSENT_BYTES = 1 << 20
"""Gathered while the broker does not read; then paho keeps the next packet itself."""
_LATER = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


class PacketSocket(ssl.SSLSocket):
    """Made by an SSLContext whose `sslsocket_class` it is, which calls no constructor of ours: hence the values of the class."""

    _inbox = b""
    """For paho, not read by it yet."""
    _end: OSError | None = None
    _closed = False
    _unsent: bytearray | None = None
    _room: bytearray | None = None

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()  # paho leaves the socket of a failed handshake to the garbage collector
            raise

    def fill(self) -> bytes:
        """What has come, at most FILL_BYTES; nothing at the end of the stream, of which paho is told at its next `recv`."""
        if self._room is None:
            self._room = bytearray(FILL_BYTES)
        room, size = memoryview(self._room), 0
        try:
            while size <= FILL_BYTES - RECORD_BYTES:
                some = self.recv_into(room[size:])
                if not some:
                    self._closed = True
                    break
                size += some
        except _LATER:
            pass
        except OSError as error:
            self._end = error
        return bytes(room[:size])

    @property
    def full(self) -> bool:
        """There may be more that wakes no selector, for TLS has it already."""
        return self.pending() > 0

    @property
    def ended(self) -> bool:
        return self._closed or self._end is not None

    def hand_over(self, packet: bytes) -> None:
        """To paho's next reads."""
        self._inbox += packet

    def recv(self, buflen: int = 1024, _flags: int = 0) -> bytes:
        """For paho: from what was handed over."""
        found = self._inbox[:buflen]
        if found:
            self._inbox = self._inbox[buflen:]
            return found
        if self._end is not None:
            raise self._end
        if self._closed:
            return b""
        raise ssl.SSLWantReadError("nothing was handed over")

    def send(self, data: Any, _flags: int = 0) -> int:
        """Gathers, so that packets leave whole and in order. Raises SSLWantWriteError when there is no room."""
        if self._unsent is None:
            self._unsent = bytearray()
        if len(self._unsent) >= MAX_UNSENT_BYTES:
            raise ssl.SSLWantWriteError("the broker does not read")
        self._unsent += data
        return len(data)

    def flush(self) -> bool:
        """Writes what was gathered; False: some of it has to wait. Raises OSError."""
        unsent = self._unsent
        try:
            while unsent:
                del unsent[: super().send(unsent)]
        except _LATER:
            return False
        return True

    def close(self) -> None:
        """What was said last, such as DISCONNECT, still leaves if it can."""
        try:
            if self.fileno() >= 0:
                self.flush()
        except (OSError, ValueError):
            pass
        super().close()
