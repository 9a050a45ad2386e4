"""The lane's sign: the newest message wins, a message for a while falls back to the standing one, and nobody waits for it."""

from __future__ import annotations

import asyncio

from drivers.ports import DriverError, Message, Signal
from gate_agent.devices import Supervised
from gate_agent.timers import CallLater, Handle
from protocol.race import race

SHOW_S = 2.0
"""Longest wait for the sign to take a message."""


class Display:
    def __init__(self, signal: Supervised[Signal], standing: Message, call_later: CallLater) -> None:
        self._signal, self._standing, self._call_later = signal, standing, call_later
        self._wanted = standing
        self._shown: Message | None = None
        self._changed = asyncio.Event()
        self._changed.set()
        self._fallback: Handle | None = None

    @property
    def standing(self) -> Message:
        """What is shown once nothing else is."""
        return self._standing

    def stand(self, message: Message) -> None:
        """Show `message` until something else is shown."""
        self._standing = message
        self._want(message)

    def flash(self, message: Message, seconds: float) -> None:
        """Show `message`, then the standing one again."""
        self._want(message)
        self._fallback = self._call_later(seconds, self._fall_back)

    def _fall_back(self) -> None:
        self._fallback = None
        self._want(self._standing)

    def _want(self, message: Message) -> None:
        if self._fallback is not None:
            self._fallback.cancel()
            self._fallback = None
        self._wanted = message
        self._changed.set()

    async def watch(self, signal: Signal) -> None:
        """Hand messages to the sign; the work of its supervisor. Raises DriverError, also when the sign goes with nothing new
        to be shown."""
        self._shown = None  # a sign that was restarted shows nothing yet
        self._changed.set()
        await race(self._hand_over(), signal.gone())

    async def _hand_over(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            message = self._wanted
            if message == self._shown:
                continue
            try:
                async with asyncio.timeout(SHOW_S):
                    await self._signal.device.show(message)
            except TimeoutError:
                raise DriverError("the sign takes no message") from None
            self._shown = message
