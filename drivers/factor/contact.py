"""A terminal that closes a contact when it has recognised somebody: an input module, as JSON lines over a Unix socket.

    from the module   {"in": "ok", "active": true}      the contact closes or opens
                      {"in": "no", "active": true}      a second contact, where the terminal has one: not recognised

A contact that was closed before the question says nothing about the person who is asked now: only an edge counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drivers.factor.terminal import Terminal
from drivers.ports import DriverError


class ContactFactor(Terminal):
    """drivers.ports.SecondFactor over one pair of contacts; it can be asked for one attempt at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._levels: dict[str, bool] = {}

    async def start(self) -> None:
        self._levels.clear()
        await super().start()

    async def confirm(self, attempt: str, lane: str, timeout: float) -> bool:
        del lane  # a contact carries no words: one terminal stands at one lane
        if self._asked:
            raise DriverError("the terminal is asked for another attempt")
        return await self._answer(attempt, timeout)

    def _on_message(self, body: dict[str, Any]) -> None:
        match body:
            case {"in": ("ok" | "no") as name, "active": bool(active)}:
                rose = active and not self._levels.get(name, False)
                self._levels[name] = active
                if rose:
                    for attempt in tuple(self._asked):
                        self._settle(attempt, name == "ok")
            case _:
                raise DriverError("a message that no such module sends")
