"""A phone on a virtual PC/SC reader: the card side of vsmartcard's vpcd, over TCP on this machine.

Each message is two bytes of length and a body; one byte is a command of the reader (off, on, reset, give the ATR), more is a
C-APDU. The reader counts a card as lying there while the connection stands.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from testbed.phone.isodep import Application

PHONE_ATR = bytes.fromhex("3B80800101")
"""T=1, no historical bytes: an ISO-DEP card without any in its ATS (PC/SC part 3, 3.1.3.2.3.1)."""
STORAGE_ATR = bytes.fromhex("3B8F8001804F0CA000000306030001000000006A")
"""MIFARE Classic 1K, as PC/SC names it."""
OFF, ON, RESET, GIVE_ATR = 0, 1, 2, 4


class VirtualCard:
    """One presentation at the reader on 127.0.0.1:`port`. `new_application` is called at each power-on, as a field does.

    The application runs in the card's thread and may block; None instead of an answer: the phone leaves.
    """

    def __init__(self, port: int, new_application: Callable[[], Application], *, atr: bytes = PHONE_ATR) -> None:
        """Lays the card on the reader. Raises OSError when no reader listens."""
        self.powered_off = threading.Event()
        """The reader has let go of the card."""
        self._new_application, self._atr = new_application, atr
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=self._serve, name="virtual-card", daemon=True)
        self._thread.start()

    def remove(self) -> None:
        """Take the card away, in the middle of whatever it does."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        application = self._new_application()
        with contextlib.suppress(OSError):
            while (message := self._receive()) is not None:
                answer: bytes | None = b""
                if len(message) > 1:
                    answer = application(message)
                elif message[0] == GIVE_ATR:
                    answer = self._atr
                else:
                    application = self._new_application()
                    if message[0] == OFF:
                        self.powered_off.set()
                if answer is None:
                    self._socket.shutdown(socket.SHUT_RDWR)
                    return
                if answer:
                    self._socket.sendall(len(answer).to_bytes(2) + answer)

    def _receive(self) -> bytes | None:
        head = self._exactly(2)
        return None if head is None else self._exactly(int.from_bytes(head))

    def _exactly(self, size: int) -> bytes | None:
        found = bytearray()
        while len(found) < size:
            # Length and body come apart: without this the reader's Nagle and our delayed acknowledgement add 40 ms each time.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            piece = self._socket.recv(size - len(found))
            if not piece:
                return None
            found += piece
        return bytes(found)
