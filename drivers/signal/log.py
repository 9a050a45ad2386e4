"""For a lane without light or display: each message goes to the log. The `log` signal driver."""

from __future__ import annotations

import asyncio
import logging

from drivers.ports import Message

_log = logging.getLogger(__name__)


class LogSignal:
    """drivers.ports.Signal."""

    async def start(self) -> None:
        pass  # there is no device to open

    async def stop(self) -> None:
        pass

    async def gone(self) -> None:
        await asyncio.Event().wait()  # there is no device to lose

    async def show(self, message: Message) -> None:
        _log.info("%s: %s / %s", message.light.value, message.ko, message.en)
