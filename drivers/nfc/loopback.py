"""nfcpy's udp device for one machine: virtual antenna on 127.0.0.1, used by tests, demo and the simulated phone.

Against the device as shipped (nfcpy 1.0.4): it never binds 0.0.0.0, takes ports that have a name in /etc/services, looks
into an empty field for 60 ms instead of 1 s, hears only its own partner, and can be interrupted from another thread.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import select
import socket
import threading
import time
from binascii import unhexlify

import nfc.clf
import nfc.clf.udp

HOST = "127.0.0.1"
EMPTY_FIELD_S = 0.06
"""Seconds a SENS_REQ waits for an answer. It bounds how late a phone is seen; a phone that is there answers within 2 ms."""
SLICE_S = 0.05
"""Seconds between two looks at the interrupt flag while waiting."""
DATAGRAM = 2048
"""Bytes: a frame of 290 bytes in hex with its bit rate needs 585."""
SENS_REQ = b"\x26"


def silence_nfcpy() -> None:
    """nfcpy logs card identifiers and whole APDUs; nothing of a holder may reach a log, whatever the level set elsewhere."""
    logging.getLogger("nfc").setLevel(logging.CRITICAL)


def parse_path(path: str) -> int:
    """The port of `udp:HOST:PORT`. Raises ValueError unless HOST is an IPv4 loopback address, `localhost` or empty."""
    parts = path.split(":")
    if len(parts) != 3 or parts[0] != "udp" or not parts[2].isdecimal() or not 0 < int(parts[2]) < 65_536:
        raise ValueError("NFC device: udp:127.0.0.1:PORT is expected")
    host = parts[1]
    if host not in ("", "localhost"):
        try:
            loopback = ipaddress.IPv4Address(host).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise ValueError("NFC device: a udp path works on loopback addresses only")
    return int(parts[2])


class LoopbackUdp(nfc.clf.udp.Device):  # type: ignore[misc]  # nfcpy ships no types
    """`port` is where the phone listens. `interrupted` ends a wait within 50 ms as if nothing had been heard."""

    def __init__(self, port: int, interrupted: threading.Event) -> None:
        # The base constructor resolves host and port to names and back, and fails on named ports.
        self.addr = (HOST, port)
        self._path = f"udp:{HOST}:{port}"
        self._vendor_name, self._device_name, self._chipset_name = "loopback", "udp", "UDP"
        self._interrupted = interrupted
        self.socket: socket.socket | None = None
        self._create_socket()

    def sense_tta(self, target: nfc.clf.RemoteTarget) -> nfc.clf.RemoteTarget | None:
        """One short look for a type A card; nfcpy's own activation only when something answered."""
        channel = self._open()
        if channel.getsockname()[1] == 0:
            channel.bind((HOST, 0))
        try:
            self._send_data(target.brty, SENS_REQ, self.addr)
            self._recv_data(EMPTY_FIELD_S, target.brty)
        except nfc.clf.TimeoutError:
            return None
        return super().sense_tta(target)

    def send_cmd_recv_rsp(self, target: nfc.clf.RemoteTarget, data: bytes | None, timeout: float) -> bytearray | None:
        """As over the air, what came outside the reader's listening window is lost."""
        channel = self._open()
        while select.select([channel], [], [], 0)[0]:
            channel.recvfrom(DATAGRAM)
        return super().send_cmd_recv_rsp(target, data, timeout)  # type: ignore[no-any-return]  # nfcpy ships no types

    def field_off(self) -> bool:
        """For the listening side while it is busy: whether the next thing to be heard is that the reader switched off."""
        channel = self._open()
        if not select.select([channel], [], [], 0)[0]:
            return False
        return channel.recvfrom(DATAGRAM, socket.MSG_PEEK)[0].startswith(b"RFOFF")

    def _open(self) -> socket.socket:
        self._create_socket()
        if self.socket is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return self.socket

    def _bind_socket(self, _time_to_return: float) -> bool:
        """Called by the listening side. Raises OSError when another phone holds the antenna."""
        self._open().bind(self.addr)
        return True

    def _recv_data(self, timeout: float | None, *brty_list: str) -> tuple[str, bytearray, tuple[str, int]]:
        """(bit rate, frame, sender). Raises nfc.clf errors only: nothing heard, field off, or a frame that is not one."""
        channel = self._open()
        end = None if timeout is None else time.monotonic() + timeout
        while not self._interrupted.is_set():
            left = SLICE_S if end is None else min(SLICE_S, end - time.monotonic())
            if left <= 0:
                break
            if not select.select([channel], [], [], left)[0]:
                continue
            datagram, sender = channel.recvfrom(DATAGRAM)
            if channel.getsockname()[1] != self.addr[1] and sender != self.addr:
                continue
            if datagram.startswith(b"RFOFF"):
                raise nfc.clf.BrokenLinkError("RFOFF")
            try:
                rate, frame = datagram.split()
                brty, data = rate.decode("ascii"), bytearray(unhexlify(frame))
            except ValueError:
                raise nfc.clf.TransmissionError("not a frame") from None
            self.rcvd_data += len(data)
            if brty in brty_list:
                return brty, data, sender
        raise nfc.clf.TimeoutError("no data received")
