"""Orders from the controller: whether a message on `cmd` is one that counts, and the answer to it on `res`.

The checks, in the order of protocol.command.Refused; the first that fails is the one reason. What fails before the challenge is
used was sent by somebody who may repeat it without end, and is coalesced; from then on each order costs a fresh challenge and a
good signature, and is recorded by itself. See docs/commands.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gate_agent import remote
from gate_agent.command_challenges import CommandChallenges
from gate_agent.command_keys import CommandKey, CommandKeys
from gate_agent.command_refusals import CommandRefusals
from gate_agent.remote import Remote
from gate_agent.timekeeping import TimeFacts
from policy.situation import ClockQuality
from protocol import command as wire
from protocol import topics
from protocol.clock import Clock
from protocol.command import (
    ALL,
    EXPIRY_S,
    TWO_OPERATORS,
    Answer,
    Asked,
    Command,
    CommandError,
    CommandVerb,
    Ordered,
    Refused,
    Sealed,
)
from protocol.events import Kind
from protocol.mqtt import Message, PublishProperties

_log = logging.getLogger(__name__)

MAX_WAITING = 16
"""Messages that wait while one is dealt with; the next is refused as busy."""

Send = Callable[[str, bytes, PublishProperties], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Site:
    """What this gate is and what it looks after."""

    site: str
    gate: str
    lanes: Sequence[str]
    zones_of: Callable[[str], Collection[str]]
    """Zones that the readers of a lane decide for."""


class RefusedError(Exception):
    """A message that counts for nothing. `known`: what its signature vouches for. `fresh`: it has cost a challenge."""

    def __init__(self, why: Refused, known: Mapping[str, str] = MappingProxyType({}), *, fresh: bool = False) -> None:
        super().__init__(why)
        self.why, self.known, self.fresh = why, known, fresh


class Commands:
    def __init__(
        self,
        here: Site,
        executor: Remote,
        *,
        keys: Callable[[], CommandKeys],
        time: Callable[[], TimeFacts],
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        note: Callable[[Kind, Mapping[str, Any]], None],
        refusals: CommandRefusals,
        send: Send,
    ) -> None:
        """`time` is what the gate's clock is worth now; only a key's `not_after` is held against it."""
        self._here, self._executor, self._keys, self._time, self._clock = here, executor, keys, time, clock
        self._note, self._refusals, self._send = note, refusals, send
        self._challenges = CommandChallenges(random_bytes)
        self._waiting: deque[Message] = deque()
        self._wake = asyncio.Event()
        self.topic = topics.command(here.site, here.gate)
        self._answers = topics.result(here.site, here.gate)

    def on_message(self, message: Message) -> None:
        """Whatever came on the topic."""
        if message.retain:
            self._refusals.refuse(Refused.RETAINED)
        elif len(self._waiting) >= MAX_WAITING:
            self._refusals.refuse(Refused.BUSY)
        else:
            self._waiting.append(message)
            self._wake.set()

    async def run(self) -> None:
        """Deal with messages one after the other, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self.handle(self._waiting.popleft())

    async def handle(self, message: Message) -> None:
        """One message that is not retained: checked, carried out, recorded, answered."""
        try:
            found = wire.parse(message.payload)
        except CommandError:
            self._refusals.refuse(Refused.MALFORMED)
            return
        then: Callable[[], None] | None = None
        try:
            if message.response_topic not in {None, self._answers}:
                raise RefusedError(Refused.MISADDRESSED)
            if isinstance(found, Asked):
                answer = Answer(found.id, challenge=self._challenges.give(self._clock.monotonic()))
            else:
                command, verb = self.check(found)
                answer, then = await self._carry_out(command, verb)
        except RefusedError as error:
            answer = Answer(found.id, refused=str(error.why))
            self._record(error)
        await self._answer(message, answer)
        if then is not None:
            then()

    def check(self, found: Ordered) -> tuple[Command, CommandVerb]:
        """The order, where it counts; its challenge is used then. Raises RefusedError."""
        keys = self._keys()
        if not keys.by_kid:
            raise RefusedError(Refused.NOT_PERMITTED)
        key = _signer(keys, found.first)
        second_key = None if found.second is None else _signer(keys, found.second)
        try:
            command = wire.read(found.first.payload)
        except CommandError:
            raise RefusedError(Refused.MALFORMED) from None
        known = _known(command)
        if command.id != found.id:
            raise RefusedError(Refused.MALFORMED, known)
        here = self._here
        if (command.site, command.gate) != (here.site, here.gate) or command.lane not in {ALL, *here.lanes}:
            raise RefusedError(Refused.MISADDRESSED, known)
        stale = self._challenges.use(command.challenge, self._clock.monotonic())
        if stale is not None:
            raise RefusedError(stale, known)
        try:
            verb = remote.check(command)
        except CommandError:
            raise RefusedError(Refused.MALFORMED, known, fresh=True) from None
        if verb is None:
            raise RefusedError(Refused.UNKNOWN_VERB, known, fresh=True)
        why = self._permitted(command, verb, key, second_key)
        if why is not None:
            raise RefusedError(why, known, fresh=True)
        return command, verb

    def _permitted(
        self, command: Command, verb: CommandVerb, key: CommandKey, second_key: CommandKey | None
    ) -> Refused | None:
        facts = self._time()
        now = None if facts.quality is ClockQuality.UNSET else facts.now
        zones = self._zones(command, verb)
        if not key.may(verb, command.operator.role, zones, now):
            return Refused.NOT_PERMITTED
        if verb not in TWO_OPERATORS:
            return None
        second = command.second
        if second is None or second_key is None or second_key is key or second.name == command.operator.name:
            return Refused.SECOND_MISSING
        return None if second_key.may(verb, second.role, zones, now) else Refused.NOT_PERMITTED

    def _zones(self, command: Command, verb: CommandVerb) -> set[str]:
        if verb is CommandVerb.FORGIVE_ZONE:
            return {str(command.args["zone"])}
        lanes = self._here.lanes if command.lane == ALL else [command.lane]
        return {zone for lane in lanes for zone in self._here.zones_of(lane)}

    async def _carry_out(self, command: Command, verb: CommandVerb) -> tuple[Answer, Callable[[], None] | None]:
        try:
            done = await self._executor.carry_out(command, verb)
        except Exception:
            # The controller is told that it failed; the gate goes on.
            _log.exception("an order failed")
            raise RefusedError(Refused.FAILED, _known(command), fresh=True) from None
        return Answer(command.id, results=done.results), done.then

    def _record(self, error: RefusedError) -> None:
        if error.fresh:
            self._note(Kind.COMMAND_REFUSED, {**error.known, "why": str(error.why)})
        else:
            self._refusals.refuse(error.why, **error.known)

    async def _answer(self, message: Message, answer: Answer) -> None:
        """An answer that does not get through is not sent again: the controller says then that there was none."""
        properties = PublishProperties(expiry=EXPIRY_S, correlation=message.correlation)
        await self._send(self._answers, answer.encode(), properties)


def _known(command: Command) -> dict[str, str]:
    return {"lane": command.lane, "verb": command.verb, "op": command.operator.role, "cmd": command.id}


def _signer(keys: CommandKeys, sealed: Sealed) -> CommandKey:
    """Raises RefusedError."""
    key = keys.by_kid.get(sealed.kid)
    if key is None or not sealed.verify(key.key):
        raise RefusedError(Refused.FORGED)
    return key
