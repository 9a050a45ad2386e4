"""A virtual IP camera: MJPEG over HTTP on loopback, showing whatever a phone holds before it; OpenCV reads it as any stream."""

from __future__ import annotations

import asyncio
import io
import random
import time
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import segno
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from testbed.sockets import Listener

WIDTH, HEIGHT = 640, 480
FPS = 15.0
QUALITY = 80
MAX_REQUEST = 8192
_BOUNDARY = "frame"


def render(text: str | bytes | None, *, seed: int = 0) -> bytes:
    """One JPEG frame: a dark hall, and a phone's screen with `text` as a QR code where there is one.

    The code is tilted a little, softened and noisy, as a phone before a camera is; `seed` fixes how.
    """
    chance = random.Random(seed)  # noqa: S311  picture noise, no secret
    frame = Image.effect_noise((WIDTH, HEIGHT), 12).point(lambda grey: grey // 3)
    if text is not None:
        code = segno.make(text, error="m", micro=False, boost_error=False)
        side = int(HEIGHT * 0.8)
        buffer = io.BytesIO()
        code.save(buffer, kind="png", border=4, scale=8)
        picture = Image.open(buffer).convert("L").resize((side, side), Image.Resampling.BILINEAR)
        picture = picture.rotate(chance.uniform(-6, 6), Image.Resampling.BILINEAR, expand=True, fillcolor=120)
        frame.paste(picture, ((WIDTH - picture.width) // 2, (HEIGHT - picture.height) // 2))
        frame = frame.filter(ImageFilter.GaussianBlur(0.6))
    return _jpeg(frame)


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()


def _picture(pixels: NDArray[np.uint8]) -> bytes:
    return _jpeg(Image.fromarray(pixels).resize((WIDTH, HEIGHT)))


@dataclass(slots=True)
class _Shown:
    """What stands before the camera."""

    jpeg: bytes
    sent_at: float | None = None


class VirtualCamera:
    """Serves one picture at a time; `show`, `show_image` and `clear` change it. Clients come and go."""

    def __init__(self, *, fps: float = FPS) -> None:
        self._fps = fps
        self._empty = render(None)
        self._shown = _Shown(self._empty)
        self._turn = 0
        self._listener = Listener(self._serve, limit=MAX_REQUEST)
        self.port = 0
        self.shown = 0

    @property
    def source(self) -> str:
        """What a gate's camera `source` is set to."""
        return f"http://127.0.0.1:{self.port}/stream.mjpg"

    @property
    def seen_at(self) -> float | None:
        """When the first frame with what is shown now left the camera, seconds on CLOCK_MONOTONIC; None before."""
        return self._shown.sent_at

    async def start(self) -> None:
        """Listen, on the same port again after `stop`."""
        self.port = await self._listener.listen_loopback(self.port)

    async def stop(self) -> None:
        """The camera is gone: connections are cut and new ones refused."""
        await self._listener.stop()

    async def show(self, text: str | bytes) -> None:
        """Hold a code before the camera. Raises ValueError for more than a QR code can hold."""
        self.shown += 1
        turn = self._next_turn()
        self._set(turn, await asyncio.to_thread(render, text, seed=self.shown))

    async def show_image(self, pixels: NDArray[np.uint8]) -> None:
        """Hold any picture before the camera: grey (height x width) or RGB (height x width x 3), scaled to the frame."""
        turn = self._next_turn()
        self._set(turn, await asyncio.to_thread(_picture, pixels))

    def show_jpeg(self, jpeg: bytes) -> None:
        """Send this very frame, of any size."""
        self._set(self._next_turn(), jpeg)

    async def clear(self) -> None:
        self._set(self._next_turn(), self._empty)

    def _next_turn(self) -> int:
        self._turn += 1
        return self._turn

    def _set(self, turn: int, frame: bytes) -> None:
        if turn == self._turn:  # a picture that took long to draw does not come after the next one
            self._shown = _Shown(frame)

    def _take(self) -> bytes:
        """The frame to send now."""
        if self._shown.sent_at is None:
            self._shown.sent_at = time.monotonic()
        return self._shown.jpeg

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                f"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary={_BOUNDARY}\r\n\r\n".encode()
            )
            while True:
                jpeg = self._take()
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                writer.write(head.encode() + jpeg + b"\r\n")
                await writer.drain()
                await asyncio.sleep(1 / self._fps)
