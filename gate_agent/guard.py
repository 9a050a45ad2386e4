"""What a guard's order does: one place for every verb, each answered and recorded, whoever carries it here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gate_agent.barrier import Barrier
from gate_agent.control import ALL, RequestError
from gate_agent.passage import Orders, Verb
from gate_agent.passage.machine import MAX_LEVEL
from protocol.events import Kind

Note = Callable[[Kind, Mapping[str, Any]], None]


class Guard:
    """The orders of one gate. `op` of the events says where an order came from."""

    def __init__(self, barriers: Mapping[str, Barrier], note: Note) -> None:
        self._barriers, self._note = barriers, note

    async def handle(self, verb: str, lane: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """gate_agent.control's handler. Raises RequestError."""
        if verb == "status":
            return {"lanes": {name: _status(each) for name, each in self._barriers.items()}}
        try:
            order = Verb(verb)
        except ValueError:
            raise RequestError(f"verb: one of {', '.join(Verb)}, status is expected") from None
        level = request.get("level", 1)
        if not isinstance(level, int) or isinstance(level, bool) or not 1 <= level <= MAX_LEVEL:
            raise RequestError(f"level: a whole number from 1 to {MAX_LEVEL} is expected")
        return {"results": {name: await self._order(self._barriers[name], order, level) for name in self._named(lane)}}

    def _named(self, lane: str) -> list[str]:
        if lane == ALL:
            return list(self._barriers)
        if lane not in self._barriers:
            raise RequestError(f"lane: one of {', '.join(self._barriers)} is expected")
        return [lane]

    async def _order(self, barrier: Barrier, verb: Verb, level: int, op: str = "local") -> str | None:
        refusal = await barrier.order(verb, level=level)
        data: dict[str, Any] = {"lane": barrier.settings.id, "verb": str(verb), "op": op}
        if verb is Verb.LOCKDOWN:
            data["level"] = level
        if refusal is None:
            self._note(Kind.COMMAND_ACCEPTED, data)
            return None
        self._note(Kind.COMMAND_REFUSED, {**data, "why": str(refusal)})
        return str(refusal)


def _status(barrier: Barrier) -> dict[str, Any]:
    return {"state": str(barrier.state), "orders": _words(barrier.orders), "degraded": list(barrier.degraded)}


def _words(orders: Orders) -> list[str]:
    found = [name for name in ("fire", "disabled", "free") if getattr(orders, name)]
    return [*found, f"lockdown {orders.lockdown}"] if orders.lockdown else found
