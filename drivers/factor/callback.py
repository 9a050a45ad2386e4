"""A terminal that answers on the same line it is asked on: JSON lines over a Unix socket.

    to the terminal   {"attempt": "5f…", "lane": "lane-1", "timeout_ms": 5000}
    from it           {"attempt": "5f…", "ok": true}

An answer to another attempt is a late one and is passed over.
"""

from __future__ import annotations

from typing import Any

from drivers.factor.terminal import Terminal
from drivers.ports import DriverError


class CallbackFactor(Terminal):
    """drivers.ports.SecondFactor over one terminal."""

    async def confirm(self, attempt: str, lane: str, timeout: float) -> bool:
        question = {"attempt": attempt, "lane": lane, "timeout_ms": int(timeout * 1000)}
        return await self._answer(attempt, timeout, question)

    def _on_message(self, body: dict[str, Any]) -> None:
        match body:
            case {"attempt": str(attempt), "ok": bool(ok)}:
                self._settle(attempt, ok)
            case _:
                raise DriverError("an answer that no terminal gives")
