"""All that crosses the broker, in a file: the demo's search for issued values looks there too. No building has such a client."""

from __future__ import annotations

from pathlib import Path
from random import Random

from protocol import topics
from protocol.clock import Clock
from protocol.mqtt import Message, MqttLink, MqttSettings

OBSERVER = "observer"
"""Common name of its certificate; testbed.broker lets it read everything."""


class Capture:
    """`start` and `stop` once each. Lost connections come back by themselves; what went by meanwhile is not seen."""

    def __init__(self, settings: MqttSettings, path: Path, clock: Clock) -> None:
        self._file = path.open("ab")
        self.messages = 0
        self._link = MqttLink(settings, clock=clock, random=Random(), on_message=self._write)  # noqa: S311  back-off only

    async def start(self) -> None:
        """Returns when it hears."""
        await self._link.subscribe(f"{topics.ROOT}/#")
        self._link.start()
        await self._link.wait_connected()

    async def stop(self) -> None:
        await self._link.stop()
        self._file.close()

    def _write(self, message: Message) -> None:
        self.messages += 1
        properties = repr(sorted(message.user.items())).encode()
        self._file.write(message.topic.encode() + b" " + properties + b"\n" + message.payload + b"\n")
