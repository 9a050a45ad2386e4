"""What a person can do at a lane of the running demo, over a Unix socket: hold a code before the camera, read the sign, walk.

JSON lines: {"lane", "show": text} | {"lane", "clear": true} | {"lane", "sign": seconds} | {"lane", "stand": true} |
{"lane", "walk": true}.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from drivers.ports import Light
from testbed.building import LaneRig
from testbed.sockets import Listener

MAX_LINE = 8192
_DECISIVE = (Light.GREEN, Light.RED, Light.FAULT)


class ControlError(Exception):
    """There is no demo, or it does not know what was asked. The message is for a person, Korean first."""


class ControlServer:
    def __init__(self, path: Path, lanes: dict[str, LaneRig]) -> None:
        self._path, self._lanes = path, lanes
        self._listener = Listener(self._serve, limit=MAX_LINE)

    async def start(self) -> None:
        await self._listener.listen_unix(self._path)

    async def stop(self) -> None:
        await self._listener.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            while line := await reader.readline():
                answer = await self._do(json.loads(line))
                writer.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
                await writer.drain()

    async def _do(self, body: dict[str, Any]) -> dict[str, Any]:
        rig = self._lanes[body["lane"]]
        match body:
            case {"show": str(text)}:
                rig.turnstile.shown = None
                await rig.camera.show(text)
            case {"clear": True}:
                await rig.camera.clear()
            case {"ready": True}:
                rig.turnstile.shown = None
            case {"sign": int() | float() as seconds}:
                shown = rig.turnstile
                with suppress(TimeoutError):
                    await shown.until(lambda: shown.shown is not None and shown.shown.light in _DECISIVE, seconds)
                message = shown.shown
                return {"sign": f"{message.ko}\n{message.en}" if message is not None else ""}
            case {"stand": bool() as there}:
                rig.turnstile.stand(rig.direction, there)
            case {"walk": True}:
                await rig.turnstile.walk(rig.direction)
        return {"ok": True}


class RemoteScreen:
    """testbed.phone.phone.Screen over the socket, for a phone in another process."""

    def __init__(self, path: Path, lane: str) -> None:
        self._path, self._lane = path, lane

    async def __aenter__(self) -> RemoteScreen:
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(str(self._path), limit=MAX_LINE)
        except OSError:
            raise ControlError("데모에 연결할 수 없습니다\nThe demo cannot be reached") from None
        await self._ask({"ready": True})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    async def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        self._writer.write(json.dumps({"lane": self._lane, **body}).encode() + b"\n")
        line = await self._reader.readline()
        if not line:
            raise ControlError("데모가 끝났습니다\nThe demo has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def show(self, text: str) -> None:
        await self._ask({"show": text})

    async def clear(self) -> None:
        await self._ask({"clear": True})

    async def sign(self, timeout: float) -> str:
        """The lane's sign once it says yes or no; empty after `timeout` seconds."""
        return str((await self._ask({"sign": timeout}))["sign"])

    async def stand(self, there: bool = True) -> None:
        """Step into the lane's entry beam, or out of it."""
        await self._ask({"stand": there})

    async def walk(self) -> None:
        """Walk through, if the lane is open."""
        await self._ask({"walk": True})
