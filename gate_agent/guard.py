"""What a guard's order does: one place for every verb, each answered and recorded, whoever carries it here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gate_agent.barrier import Barrier
from gate_agent.clockwatch import ClockWatch
from gate_agent.control import ALL, RequestError
from gate_agent.passage import Orders, Refusal, Verb
from gate_agent.passage.machine import MAX_LEVEL
from gate_agent.zones import Zones
from protocol import topics
from protocol.clock import rfc3339
from protocol.events import Kind


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an order comes from, as its events say it: never a person's name."""

    op: str
    """`local`, or the role of whoever ordered it from afar."""
    cmd: str | None = None
    """Id of the order, under which the controller knows who gave it; None on the spot."""

    def data(self) -> dict[str, str]:
        return {"op": self.op} if self.cmd is None else {"op": self.op, "cmd": self.cmd}


LOCAL = Origin("local")
"""An order given on the spot."""
OTHERS = ("status", "forgive", "forgive_zone", "confirm_clock")
CLOCK_DISAGREES = "clock_disagrees"
"""The gate's clock is not what the guard's watch says; it has to be set first."""

NOTHING_TO_DO = str(Refusal.NOTHING_TO_DO)

Note = Callable[[Kind, Mapping[str, Any]], None]


class Guard:
    """The orders of one gate. `op` of the events says where an order came from."""

    def __init__(
        self,
        barriers: Mapping[str, Barrier],
        note: Note,
        *,
        zones: Zones,
        watch: ClockWatch,
        zones_of: Callable[[str], Sequence[str]],
        degraded: Callable[[], Sequence[str]],
    ) -> None:
        """`zones_of` gives the zones whose anti-passback the readers of a lane ask; `degraded` what the gate lacks."""
        self._barriers, self._note, self._zones, self._watch = barriers, note, zones, watch
        self._zones_of, self._degraded = zones_of, degraded

    async def handle(self, verb: str, lane: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """gate_agent.control's handler. Raises RequestError."""
        match verb:
            case "status":
                return self._status()
            case "forgive":
                return {"results": {name: self.forgive(name) for name in self._named(lane)}}
            case "forgive_zone":
                return {"results": {"zone": self.forgive_zone(request.get("zone"))}}
            case "confirm_clock":
                return {"results": {"clock": self._confirm(request.get("time"))}}
        try:
            order = Verb(verb)
        except ValueError:
            raise RequestError(f"verb: one of {', '.join((*Verb, *OTHERS))} is expected") from None
        level = request.get("level", 1)
        if not isinstance(level, int) or isinstance(level, bool) or not 1 <= level <= MAX_LEVEL:
            raise RequestError(f"level: a whole number from 1 to {MAX_LEVEL} is expected")
        return {"results": {name: await self.order(name, order, level) for name in self._named(lane)}}

    def _named(self, lane: str) -> list[str]:
        if lane == ALL:
            return list(self._barriers)
        if lane not in self._barriers:
            raise RequestError(f"lane: one of {', '.join(self._barriers)} is expected")
        return [lane]

    def _status(self) -> Mapping[str, Any]:
        clock = self._watch.look()
        bound = "" if clock.error_ms is None else f"± {clock.error_ms} ms "
        return {
            "lanes": {name: _status(each) for name, each in self._barriers.items()},
            "degraded": list(self._degraded()),
            "clock": {"quality": str(clock.quality), "detail": f"{rfc3339(clock.now)} {bound}({clock.detail})"},
        }

    def forgive(self, lane: str, origin: Origin = LOCAL) -> str | None:
        """The next presentation at a lane. Gives the reason why not, or None."""
        done = [self._zones.forgive_lane(zone, lane) for zone in self._zones_of(lane)]
        return self._forgiven({"lane": lane}, origin, done=any(done))

    def forgive_zone(self, zone: object, origin: Origin = LOCAL) -> str | None:
        """Raises RequestError where `zone` is no zone's name."""
        if not isinstance(zone, str) or not topics.ZONE.fullmatch(zone):
            raise RequestError("zone: the name of a zone is expected")
        return self._forgiven({"zone": zone}, origin, done=self._zones.forgive_zone(zone))

    def _forgiven(self, what: Mapping[str, str], origin: Origin, *, done: bool) -> str | None:
        if not done:
            if origin.cmd is not None:
                self._note(Kind.COMMAND_REFUSED, {**what, "verb": "forgive", **origin.data(), "why": NOTHING_TO_DO})
            return NOTHING_TO_DO
        self._note(Kind.ANTIPASSBACK_FORGIVEN, {**what, **origin.data()})
        return None

    def _confirm(self, stated: object) -> str | None:
        """The guard's watch says `stated` (RFC 3339 with its offset)."""
        try:
            moment = datetime.fromisoformat(stated) if isinstance(stated, str) else None
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise RequestError("time: RFC 3339 with an offset, such as 2026-11-24T09:00:00+09:00, is expected")
        data = {"verb": "confirm_clock", **LOCAL.data()}
        if self._watch.confirm(moment):
            self._note(Kind.COMMAND_ACCEPTED, data)
            return None
        self._note(Kind.COMMAND_REFUSED, {**data, "why": CLOCK_DISAGREES})
        return CLOCK_DISAGREES

    async def order(self, lane: str, verb: Verb, level: int, origin: Origin = LOCAL) -> str | None:
        """Gives the reason why not, or None. `level` is that of a lockdown, 1 to MAX_LEVEL."""
        refusal = await self._barriers[lane].order(verb, level=level)
        data: dict[str, Any] = {"lane": lane, "verb": str(verb), **origin.data()}
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
