"""A virtual network camera that speaks RTSP (RFC 2326) and sends JPEG over RTP (RFC 2435), interleaved in the same connection."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from dataclasses import dataclass

from testbed.camera import VirtualCamera

PAYLOAD_TYPE = 26
CLOCK_HZ = 90_000
FRAGMENT = 1400
"""Bytes of a packet's share of the picture."""
_SDP = f"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=gate\r\nt=0 0\r\nm=video 0 RTP/AVP {PAYLOAD_TYPE}\r\na=control:track1\r\n"
_LUMINANCE_SAMPLING = {0x21: 0, 0x22: 1}
"""Sampling factors of the first component -> RFC 2435 type: 4:2:2, 4:2:0."""


@dataclass(frozen=True, slots=True)
class _Scan:
    """What of a JPEG travels: a receiver puts the rest together again."""

    kind: int
    width: int
    height: int
    tables: bytes
    data: bytes


def _scan(jpeg: bytes) -> _Scan:
    """Raises ValueError for what RFC 2435 cannot carry: anything but baseline with the standard Huffman tables."""
    at, tables, kind, width, height = 2, b"", -1, 0, 0
    while True:
        marker, length = struct.unpack_from(">HH", jpeg, at)
        body = jpeg[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == 0xFFDB:
            while body:
                tables, body = tables + body[1:65], body[65:]
        elif marker == 0xFFC0:
            height, width = struct.unpack_from(">HH", body, 1)
            kind = _LUMINANCE_SAMPLING.get(body[7], -1)
        elif marker == 0xFFDA:
            break
    if kind < 0 or len(tables) != 128 or width % 8 or height % 8:
        raise ValueError("a baseline JPEG, 4:2:2 or 4:2:0, with two tables is expected")
    return _Scan(kind, width, height, tables, jpeg[at:-2])


def _packets(jpeg: bytes, number: int, timestamp: int) -> list[bytes]:
    """RTP packets of one frame, the first with sequence number `number`."""
    scan = _scan(jpeg)
    found: list[bytes] = []
    for offset in range(0, len(scan.data), FRAGMENT):
        part = scan.data[offset : offset + FRAGMENT]
        last = offset + FRAGMENT >= len(scan.data)
        head = struct.pack(
            ">BBHII",
            0x80,
            PAYLOAD_TYPE | (0x80 if last else 0),
            (number + len(found)) & 0xFFFF,
            timestamp & 0xFFFFFFFF,
            1,
        )
        head += struct.pack(">IBBBB", offset, scan.kind, 255, scan.width // 8, scan.height // 8)
        if offset == 0:
            head += struct.pack(">BBH", 0, 0, len(scan.tables)) + scan.tables
        found.append(head + part)
    return found


class RtspCamera(VirtualCamera):
    """As VirtualCamera, by another way."""

    @property
    def source(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/gate"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        playing: asyncio.Task[None] | None = None
        try:
            while (request := await _request(reader)) is not None:
                method, number = request
                writer.write(_answer(method, number, self.source))
                await writer.drain()
                if method == "PLAY" and playing is None:
                    playing = asyncio.create_task(self._play(writer))
                if method == "TEARDOWN":
                    return
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client is gone, or is none
        finally:
            if playing is not None:
                playing.cancel()
                with suppress(asyncio.CancelledError, OSError):
                    await playing

    async def _play(self, writer: asyncio.StreamWriter) -> None:
        number = 0
        for timestamp in range(0, 2**32, int(CLOCK_HZ / self._fps)):
            packets = _packets(self._take(), number, timestamp)
            number += len(packets)
            writer.write(b"".join(struct.pack(">cBH", b"$", 0, len(packet)) + packet for packet in packets))
            await writer.drain()
            await asyncio.sleep(1 / self._fps)


async def _request(reader: asyncio.StreamReader) -> tuple[str, str] | None:
    """Method and CSeq; None at the end. Receiver reports in between are passed over. Raises ValueError."""
    while True:
        first = await reader.read(1)
        if first == b"$":
            _, length = struct.unpack(">BH", await reader.readexactly(3))
            await reader.readexactly(length)
            continue
        if not first:
            return None
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("ascii")
        method, *lines = head.split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return method.split(" ")[0], headers.get("cseq", "0")


def _answer(method: str, number: str, source: str) -> bytes:
    body, lines = "", [f"CSeq: {number}", "Session: 1"]
    if method == "OPTIONS":
        lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
    elif method == "DESCRIBE":
        body = _SDP
        lines += ["Content-Type: application/sdp", f"Content-Base: {source}/", f"Content-Length: {len(body)}"]
    elif method == "SETUP":
        lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
    return "\r\n".join(["RTSP/1.0 200 OK", *lines, "", body]).encode()
