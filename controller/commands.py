"""Orders to gates: recorded, challenged, signed, sent, answered (protocol.command).

The operators' names stay here; a gate's events have the role and the order's id. An order that needs a second operator is
prepared first: whoever holds the second key signs the same bytes, wherever that key is kept, and only then it is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from controller.orders import Orders
from protocol import command as wire
from protocol import topics
from protocol.clock import Clock
from protocol.command import (
    ALL,
    CHALLENGE_S,
    EXPIRY_S,
    OF_THE_GATE,
    TWO_OPERATORS,
    Answer,
    Asked,
    Command,
    CommandError,
    CommandVerb,
    Operator,
)
from protocol.fields import PayloadError
from protocol.mqtt import Message, PublishProperties, PubResult

ANSWER_S = 8.0
"""What a gate is given to answer; less than its challenge lasts."""
MAX_OPEN = 64
"""Orders that get their challenge, or wait for a second signature, at once."""
DONE, REFUSED, NO_ANSWER, NOT_SENT = "done", "refused", "no_answer", "not_sent"
"""Outcomes. `no_answer`: nobody knows whether it was carried out; the gate's events say it."""

T = TypeVar("T")
Call = Callable[[Callable[[], T]], Awaitable[T]]


class BusyError(Exception):
    """As many orders are under way as are taken at once."""


class Link(Protocol):
    """The part of protocol.mqtt.MqttLink that is used here."""

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: PublishProperties | None = None,
    ) -> PubResult: ...


class Keeper(Protocol):
    """The store's thread (controller.ingest.StoreThread)."""

    async def call(self, work: Callable[[], T]) -> T: ...


@dataclass(frozen=True, slots=True)
class Order:
    gate: str
    lane: str
    verb: CommandVerb
    operator: Operator
    args: Mapping[str, str | int] = field(default_factory=dict)
    second: Operator | None = None

    @property
    def needs_second(self) -> bool:
        return self.verb in TWO_OPERATORS


@dataclass(frozen=True, slots=True)
class Result:
    id: str
    outcome: str
    reason: str | None = None
    """Why the whole order was refused or not sent."""
    results: Mapping[str, str | None] = field(default_factory=dict)
    """What each lane said; None: done."""

    def body(self) -> dict[str, Any]:
        return {"id": self.id, "outcome": self.outcome, "reason": self.reason, "results": dict(self.results)}


@dataclass(frozen=True, slots=True)
class Prepared:
    """An order that has its challenge and waits for its signatures."""

    id: str
    gate: str
    payload: bytes = field(repr=False)
    until: float
    """Monotonic time at which the challenge is over."""


class Commands:
    def __init__(
        self,
        link: Link,
        orders: Orders,
        thread: Keeper,
        *,
        site: str,
        key: ec.EllipticCurvePrivateKey,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        answer_s: float = ANSWER_S,
    ) -> None:
        """`key` signs orders; gates have it in their list of command keys."""
        self._link, self._orders, self._thread, self._site = link, orders, thread, site
        self._key, self._clock, self._random_bytes, self._answer_s = key, clock, random_bytes, answer_s
        self._open: dict[str, tuple[str, asyncio.Future[Answer]]] = {}
        """By id: gate, and who waits for its answer."""
        self._preparing = 0
        self._prepared: dict[str, Prepared] = {}
        """Those that wait for a second signature."""

    def receive(self, message: Message) -> None:
        """A message on a gate's `res`. What nobody waits for, or another gate sends, is dropped."""
        try:
            gate = topics.gate_of(message.topic)
            answer = wire.parse_answer(message.payload)
        except (ValueError, PayloadError):
            return
        asked, waiting = self._open.get(answer.id, ("", None))
        if waiting is None or asked != gate or message.correlation != answer.id.encode() or waiting.done():
            return
        waiting.set_result(answer)

    async def give(self, order: Order) -> Result:
        """A whole order of one operator. Raises CommandError, BusyError or sqlite3.Error."""
        if order.needs_second:
            raise CommandError(f"{order.verb}: a second operator is expected")
        prepared = await self.prepare(order)
        return prepared if isinstance(prepared, Result) else await self.send(prepared)

    async def prepare(self, order: Order) -> Prepared | Result:
        """Record the order and get its challenge; a Result where that has failed. Raises CommandError, BusyError or
        sqlite3.Error."""
        command = self._command(order)
        if order.needs_second and (order.second is None or order.second.name == order.operator.name):
            raise CommandError(f"{order.verb}: a second operator is expected")
        wire.read(command.payload())  # what a gate would not read is not sent
        self._forget_old()
        if self._preparing + len(self._prepared) >= MAX_OPEN:
            raise BusyError
        self._preparing += 1
        try:
            return await self._prepare(order, command)
        finally:
            self._preparing -= 1

    async def _prepare(self, order: Order, command: Command) -> Prepared | Result:
        now = self._clock.now()
        work = partial(
            self._orders.begin,
            command.id,
            order.gate,
            order.lane,
            str(order.verb),
            order.args,
            order.operator,
            order.second,
            now,
        )
        await self._thread.call(work)
        answer = await self._ask(order.gate, command.id, Asked(command.id).encode())
        if isinstance(answer, Result):
            return await self._end(answer)
        if answer.challenge is None:
            return await self._end(Result(command.id, REFUSED, answer.refused or "no_challenge"))
        payload = self._command(order, command.id, answer.challenge).payload()
        prepared = Prepared(command.id, order.gate, payload, self._clock.monotonic() + CHALLENGE_S)
        if order.needs_second:
            self._prepared[prepared.id] = prepared
        return prepared

    def prepared(self, order_id: str) -> Prepared | None:
        """One that waits for its second signature; taken out."""
        self._forget_old()
        return self._prepared.pop(order_id, None)

    async def send(self, prepared: Prepared, second: str | None = None) -> Result:
        """Sign, send and wait for the answer. `second`: what protocol.command.seal gave for `prepared.payload` under the second
        operator's key. Raises sqlite3.Error."""
        raw = wire.order(prepared.id, wire.seal(prepared.payload, self._key), second)
        answer = await self._ask(prepared.gate, prepared.id, raw)
        if isinstance(answer, Result):
            return await self._end(answer)
        if answer.refused is not None or not answer.results:
            return await self._end(Result(prepared.id, REFUSED, answer.refused or "no_results"))
        return await self._end(Result(prepared.id, DONE if answer.done else REFUSED, None, answer.results))

    def _command(self, order: Order, order_id: str | None = None, challenge: bytes = bytes(wire.CHALLENGE)) -> Command:
        """Raises CommandError."""
        if not topics.ID.fullmatch(order.gate) or order.gate == topics.ALL:
            raise CommandError("gate: the name of a gate is expected")
        if order.lane != ALL and not topics.ID.fullmatch(order.lane):
            raise CommandError("lane: the name of a lane, or all, is expected")
        if order.verb in OF_THE_GATE and order.lane != ALL:
            raise CommandError("lane: all is expected")
        return Command(
            self._site,
            order.gate,
            order.lane,
            str(order.verb),
            order.operator,
            order_id or self._random_bytes(8).hex(),
            challenge,
            order.args,
            order.second,
        )

    async def _ask(self, gate: str, order_id: str, payload: bytes) -> Answer | Result:
        """Publish and wait for the answer with this id."""
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open[order_id] = gate, waiting
        properties = PublishProperties(
            expiry=EXPIRY_S, response_topic=topics.result(self._site, gate), correlation=order_id.encode()
        )
        try:
            sent = await self._link.publish(topics.command(self._site, gate), payload, properties=properties)
            if not sent.ok:
                return Result(order_id, NOT_SENT, sent.reason)
            async with asyncio.timeout(self._answer_s):
                return await waiting
        except TimeoutError:
            return Result(order_id, NO_ANSWER)
        finally:
            del self._open[order_id]

    async def _end(self, result: Result) -> Result:
        answer = {"reason": result.reason, "results": dict(result.results)}
        await self._thread.call(partial(self._orders.end, result.id, result.outcome, answer, self._clock.now()))
        return result

    def _forget_old(self) -> None:
        now = self._clock.monotonic()
        for order_id in [each for each, prepared in self._prepared.items() if now >= prepared.until]:
            del self._prepared[order_id]
