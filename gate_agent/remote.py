"""What an order from afar does, once its signatures count: the guard's own verbs, and those that only make sense from afar.

`gate_agent.commands` decides whether an order counts. Each is recorded with the role that gave it and its id, never a name.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from drivers.ports import Direction
from gate_agent.barrier import Barrier
from gate_agent.control import RequestError
from gate_agent.guard import Guard, Origin
from gate_agent.journal import RecordUnavailableError
from gate_agent.passage import MAX_LEVEL, Refusal, Verb
from gate_agent.transaction import Stage
from protocol import topics
from protocol.clock import Clock
from protocol.command import ALL, OF_THE_GATE, Command, CommandError, CommandVerb, OpenReason, Refused
from protocol.events import Kind
from protocol.fields import WORD
from protocol.replay import Replay

_log = logging.getLogger(__name__)

GATE = "gate"
"""In the answer, in the place of a lane."""
LANE_VERBS: Mapping[CommandVerb, Verb] = {
    CommandVerb.FREE: Verb.FREE,
    CommandVerb.END_FREE: Verb.END_FREE,
    CommandVerb.LOCKDOWN: Verb.LOCKDOWN,
    CommandVerb.RELEASE: Verb.RELEASE,
    CommandVerb.DISABLE: Verb.DISABLE,
    CommandVerb.ENABLE: Verb.ENABLE,
    CommandVerb.ACKNOWLEDGE: Verb.ACKNOWLEDGE,
}
_ARGS: Mapping[CommandVerb, frozenset[str]] = {
    CommandVerb.OPEN_ONCE: frozenset({"reason", "dir"}),
    CommandVerb.LOCKDOWN: frozenset({"level"}),
    CommandVerb.FORGIVE_ZONE: frozenset({"zone"}),
    CommandVerb.REPLAY: frozenset({"epoch", "from", "to"}),
}


class Recorder(Protocol):
    """The part of gate_agent.journal.Journal that is used here."""

    async def append(self, kind: Kind, data: Mapping[str, Any], *, timeout: float | None = None) -> object:
        """Raises RecordUnavailableError."""
        ...

    def note(self, kind: Kind, data: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Done:
    """What each lane (or GATE) said, None: done. `then` is called once that is answered."""

    results: Mapping[str, str | None]
    then: Callable[[], None] | None = None


@dataclass(slots=True)
class Opening:
    """The right of one person to pass, by order (gate_agent.barrier.Attempt)."""

    id: str
    lane: str
    direction: Direction
    clock: Clock
    begun: float
    """Monotonic time at which the order came."""
    _stages: dict[Stage, float] = field(default_factory=dict)

    def base(self) -> dict[str, Any]:
        return {"lane": self.lane, "dir": str(self.direction), "attempt": self.id}

    def stage(self, stage: Stage, at: float | None = None) -> None:
        self._stages[stage] = self.clock.monotonic() if at is None else at

    def latencies(self, *stages: Stage) -> dict[str, float]:
        """Milliseconds since the order came."""
        return {
            str(stage): round((at - self.begun) * 1000, 1)
            for stage, at in self._stages.items()
            if not stages or stage in stages
        }


def check(command: Command) -> CommandVerb | None:
    """The verb, where lane and arguments make sense for it; None for a word that is no verb. Raises CommandError."""
    try:
        verb = CommandVerb(command.verb)
    except ValueError:
        return None
    args = command.args
    if verb in OF_THE_GATE and command.lane != ALL:
        raise CommandError("lane: all is expected")
    if set(args) - _ARGS.get(verb, frozenset()):
        raise CommandError("args: unknown ones")
    match verb:
        case CommandVerb.OPEN_ONCE:
            if command.lane == ALL:
                raise CommandError("lane: one lane is expected")
            if args.get("reason") not in set(OpenReason):
                raise CommandError("reason: a reason code is expected")
            if args.get("dir", "in") not in set(Direction):
                raise CommandError("dir: in or out is expected")
        case CommandVerb.LOCKDOWN:
            level = args.get("level", 1)
            if type(level) is not int or not 1 <= level <= MAX_LEVEL:
                raise CommandError(f"level: a number from 1 to {MAX_LEVEL} is expected")
        case CommandVerb.FORGIVE_ZONE:
            zone = args.get("zone")
            if type(zone) is not str or not topics.ZONE.fullmatch(zone):
                raise CommandError("zone: the name of a zone is expected")
        case CommandVerb.REPLAY:
            epoch, first, last = args.get("epoch"), args.get("from"), args.get("to")
            if type(epoch) is not str or not WORD.fullmatch(epoch):
                raise CommandError("epoch: a storage epoch is expected")
            if type(first) is not int or type(last) is not int or not 1 <= first <= last < 2**63:
                raise CommandError("from, to: sequence numbers are expected")
    return verb


class Remote:
    def __init__(
        self,
        guard: Guard,
        barriers: Mapping[str, Barrier],
        journal: Recorder,
        *,
        clock: Clock,
        record_timeout_s: float,
        random_bytes: Callable[[int], bytes],
        refresh: Callable[[], Awaitable[None]],
        replay: Callable[[Replay], None],
        restart: Callable[[], None],
    ) -> None:
        """`restart` ends the agent in good order, to be started again."""
        self._guard, self._barriers, self._journal, self._clock = guard, barriers, journal, clock
        self._timeout, self._random_bytes = record_timeout_s, random_bytes
        self._refresh, self._replay, self._restart = refresh, replay, restart

    async def carry_out(self, command: Command, verb: CommandVerb) -> Done:
        """An order that counts, with what `check` gave for it. Every lane is answered and recorded."""
        origin = Origin(command.operator.role, command.id)
        lanes = list(self._barriers) if command.lane == ALL else [command.lane]
        if verb in LANE_VERBS:
            level = command.args.get("level", 1)
            order = LANE_VERBS[verb]
            return Done({lane: await self._guard.order(lane, order, int(level), origin) for lane in lanes})
        match verb:
            case CommandVerb.OPEN_ONCE:
                return Done({command.lane: await self._open_once(command, origin)})
            case CommandVerb.FORGIVE:
                return Done({lane: self._guard.forgive(lane, origin) for lane in lanes})
            case CommandVerb.FORGIVE_ZONE:
                try:
                    return Done({GATE: self._guard.forgive_zone(command.args["zone"], origin)})
                except RequestError:
                    return Done({GATE: str(Refused.MALFORMED)})
            case CommandVerb.REFRESH:
                self._accept(verb, origin)
                await self._refresh()
                return Done({GATE: None})
            case CommandVerb.REPLAY:
                self._accept(verb, origin)
                args = command.args
                self._replay(Replay(str(args["epoch"]), int(args["from"]), int(args["to"])))
                return Done({GATE: None})
            case CommandVerb.RESTART:
                if any(barrier.orders.fire for barrier in self._barriers.values()):
                    self._refuse({"verb": str(verb)}, origin, Refused.FIRE_ACTIVE)
                    return Done({GATE: str(Refused.FIRE_ACTIVE)})
                self._accept(verb, origin)
                return Done({GATE: None}, self._restart)
        raise AssertionError(verb)

    async def _open_once(self, command: Command, origin: Origin) -> str | None:
        """Recorded first, then opened, as for a grant: the passage machine counts one person on it."""
        direction, barrier = Direction(str(command.args.get("dir", Direction.IN))), self._barriers[command.lane]
        opening = Opening(self._random_bytes(8).hex(), command.lane, direction, self._clock, self._clock.monotonic())
        about = {"lane": command.lane, "dir": str(direction), "verb": str(CommandVerb.OPEN_ONCE)}
        barred = barrier.may(direction) if barrier.hardware.available else Refusal.OUT_OF_SERVICE
        if barred is not None:
            return self._refuse(about, origin, barred)
        data = {**about, "attempt": opening.id, **origin.data(), "reason": command.args["reason"]}
        try:
            await self._journal.append(Kind.COMMAND_ACCEPTED, data, timeout=self._timeout)
        except RecordUnavailableError:
            if direction is Direction.IN:
                return self._refuse(about, origin, Refusal.RECORD_UNAVAILABLE)
            self._journal.note(Kind.COMMAND_ACCEPTED, data)  # no disk holds anybody in
        opening.stage(Stage.RECORDED)
        if await barrier.open(opening, direction):
            return None
        return str(barrier.may(direction) or Refused.NOT_OPENED)

    def _accept(self, verb: CommandVerb, origin: Origin) -> None:
        self._journal.note(Kind.COMMAND_ACCEPTED, {"verb": str(verb), **origin.data()})

    def _refuse(self, about: Mapping[str, str], origin: Origin, why: str) -> str:
        self._journal.note(Kind.COMMAND_REFUSED, {**about, **origin.data(), "why": str(why)})
        return str(why)
