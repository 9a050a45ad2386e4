"""The controller's side of an order: recorded before it is sent, answered or not, and never given without who gave it."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from controller import schema
from controller.commands import BusyError, Commands, Order, Prepared
from controller.emergency import EmergencyState
from controller.ingest import StoreThread
from controller.orders import Orders
from controller.store import Store
from protocol import command as wire
from protocol import emergency, topics
from protocol.command import CHALLENGE_S, Answer, Asked, Command, CommandError, CommandVerb, Operator, Ordered
from protocol.emergency import REISSUE_S, Emergency
from protocol.mqtt import NO_SUBSCRIBERS, NOT_CONNECTED, OK, Message, PublishProperties, PubResult
from tests.conftest import NOW

SITE, GATE = "hq", "gate-1"
KEY, SECOND_KEY = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
KIM, LEE = Operator("Kim", "guard"), Operator("Lee", "chief")
OPEN = Order(GATE, "lane-1", CommandVerb.OPEN_ONCE, KIM, {"reason": "visitor"})
FREE = Order(GATE, "lane-1", CommandVerb.FREE, KIM, {}, LEE)


class Clock:
    elapsed = 0.0

    def now(self) -> Any:
        return NOW + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return 100 + self.elapsed


@dataclass
class Gate:
    """A broker with one gate behind it, which answers as told."""

    results: dict[str, str | None] = field(default_factory=lambda: {"lane-1": None})
    refuse_challenge: str | None = None
    refuse: str | None = None
    silent: bool = False
    answers_as: str = GATE
    correlation: bytes | None = None
    sent: list[tuple[str, bytes, bool, PublishProperties | None]] = field(default_factory=list)
    orders: list[Command] = field(default_factory=list)
    seconds: list[wire.Sealed | None] = field(default_factory=list)
    reason: str = OK
    receive: Callable[[Message], None] = lambda _message: None
    before_order: Callable[[], None] = lambda: None

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: PublishProperties | None = None,
    ) -> PubResult:
        assert qos == 1
        self.sent.append((topic, payload, retain, properties))
        if self.reason != OK:
            return PubResult(self.reason == NO_SUBSCRIBERS, self.reason)
        if topic == topics.command(SITE, GATE) and not self.silent:
            assert properties is not None
            correlation = self.correlation or properties.correlation
            found = wire.parse(payload)
            asyncio.get_running_loop().call_soon(self._answer, self._say(found), correlation)
        return PubResult(True, OK)

    def _say(self, found: Asked | Ordered) -> Answer:
        if isinstance(found, Asked):
            if self.refuse_challenge is not None:
                return Answer(found.id, refused=self.refuse_challenge)
            return Answer(found.id, challenge=bytes(range(16)))
        self.before_order()
        assert found.first.verify(KEY.public_key())
        self.orders.append(wire.read(found.first.payload))
        self.seconds.append(found.second)
        return Answer(found.id, refused=self.refuse) if self.refuse else Answer(found.id, results=self.results)

    def _answer(self, answer: Answer, correlation: bytes | None) -> None:
        topic = topics.result(SITE, self.answers_as)
        self.receive(Message(topic, answer.encode(), 1, False, {}, 1, cast(Any, None), None, correlation))


@dataclass
class Desk:
    commands: Commands
    emergency: EmergencyState
    gate: Gate
    orders: Orders
    thread: StoreThread
    clock: Clock
    slept: list[float]

    async def rows(self) -> list[Any]:
        return await self.thread.call(lambda: self.orders.recent(10))


@pytest.fixture
async def desk(store: Store) -> AsyncIterator[Desk]:
    gate, thread, clock = Gate(), StoreThread(), Clock()
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 2:
            await asyncio.Event().wait()

    commands = Commands(
        gate, store.orders, thread, site=SITE, key=KEY, clock=clock, random_bytes=os.urandom, answer_s=0.05
    )
    state = EmergencyState(
        gate, store.orders, thread, site=SITE, key=KEY, clock=clock, random_bytes=os.urandom, sleep=sleep, hear_s=0.0
    )
    gate.receive = commands.receive
    yield Desk(commands, state, gate, store.orders, thread, clock, slept)
    thread.shutdown()


async def test_an_order_is_challenged_signed_sent_and_what_came_of_it_is_kept(desk: Desk) -> None:
    result = await desk.commands.give(OPEN)
    assert (result.outcome, result.results) == ("done", {"lane-1": None})
    wanted = Command(SITE, GATE, "lane-1", "open_once", KIM, result.id, bytes(range(16)), {"reason": "visitor"})
    assert desk.gate.orders == [wanted]
    (row,) = await desk.rows()
    assert (row.id, row.operator, row.second, row.outcome) == (result.id, KIM, None, "done")
    assert row.answer == {"reason": None, "results": {"lane-1": None}}


async def test_no_order_is_retained_and_each_expires_and_says_where_its_answer_goes(desk: Desk) -> None:
    result = await desk.commands.give(OPEN)
    assert len(desk.gate.sent) == 2
    for topic, payload, retain, properties in desk.gate.sent:
        assert (topic, retain) == (topics.command(SITE, GATE), False)
        assert properties == PublishProperties(
            expiry=10, response_topic=topics.result(SITE, GATE), correlation=result.id.encode()
        )
        assert len(payload) <= wire.MAX_BYTES


async def test_an_order_is_on_the_disk_before_it_leaves(desk: Desk, tmp_path: Path) -> None:
    seen: list[Any] = []

    def look() -> None:
        with sqlite3.connect(tmp_path / "controller.db") as db:
            seen.extend(db.execute("SELECT verb, operator, outcome FROM orders").fetchall())
        db.close()

    desk.gate.before_order = look
    await desk.commands.give(OPEN)
    assert seen == [("open_once", "Kim", None)]


async def test_an_order_that_cannot_be_recorded_is_not_given(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: Any) -> None:
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(desk.orders, "begin", full)
    with pytest.raises(sqlite3.OperationalError):
        await desk.commands.give(OPEN)
    assert desk.gate.sent == []


async def test_what_one_lane_refuses_is_no_success(desk: Desk) -> None:
    desk.gate.results = {"lane-1": None, "lane-2": "lockdown"}
    result = await desk.commands.give(OPEN)
    assert (result.outcome, result.results) == ("refused", desk.gate.results)


async def test_a_refusal_is_told_with_its_reason_at_either_step(desk: Desk) -> None:
    desk.gate.refuse = "not_permitted"
    assert (await desk.commands.give(OPEN)).reason == "not_permitted"
    desk.gate.refuse_challenge = "misaddressed"
    assert (await desk.commands.give(OPEN)).reason == "misaddressed"
    assert [row.outcome for row in await desk.rows()] == ["refused", "refused"]


async def test_without_an_answer_it_says_that_there_was_none(desk: Desk) -> None:
    desk.gate.silent = True
    result = await desk.commands.give(OPEN)
    assert (result.outcome, result.reason) == ("no_answer", None)
    assert (await desk.rows())[0].outcome == "no_answer"


async def test_without_a_broker_it_says_that_nothing_was_sent(desk: Desk) -> None:
    desk.gate.reason = NOT_CONNECTED
    result = await desk.commands.give(OPEN)
    assert (result.outcome, result.reason) == ("not_sent", NOT_CONNECTED)


@pytest.mark.parametrize("other", [{"answers_as": "gate-2"}, {"correlation": b"another"}])
async def test_an_answer_of_another_gate_or_to_another_order_counts_for_nothing(
    desk: Desk, other: dict[str, Any]
) -> None:
    for name, value in other.items():
        setattr(desk.gate, name, value)
    assert (await desk.commands.give(OPEN)).outcome == "no_answer"


@pytest.mark.parametrize("payload", [b"", b"{}", b"[" * 1000, b'{"v":1,"id":"x","results":{}}'])
async def test_garbage_where_answers_come_is_dropped(desk: Desk, payload: bytes) -> None:
    for topic in (topics.result(SITE, GATE), "pacs/1/hq/all/res", "elsewhere"):
        desk.commands.receive(Message(topic, payload, 1, False, {}, 1, cast(Any, None)))
    assert (await desk.commands.give(OPEN)).outcome == "done"


async def test_free_is_not_sent_before_a_second_operator_has_signed_the_same_bytes(desk: Desk) -> None:
    with pytest.raises(CommandError):
        await desk.commands.give(Order(GATE, "lane-1", CommandVerb.FREE, KIM))
    with pytest.raises(CommandError):
        await desk.commands.prepare(Order(GATE, "lane-1", CommandVerb.FREE, KIM, {}, Operator("Kim", "chief")))
    prepared = await desk.commands.prepare(FREE)
    assert isinstance(prepared, Prepared)
    assert desk.gate.orders == []
    assert desk.commands.prepared(prepared.id) is prepared
    assert desk.commands.prepared(prepared.id) is None
    result = await desk.commands.send(prepared, wire.seal(prepared.payload, SECOND_KEY))
    assert result.outcome == "done"
    assert desk.gate.orders[0].second == LEE
    sealed = desk.gate.seconds[0]
    assert sealed is not None
    assert sealed.verify(SECOND_KEY.public_key())
    assert (await desk.rows())[0].second == LEE


async def test_what_waits_for_a_signature_is_forgotten_with_its_challenge(desk: Desk) -> None:
    prepared = await desk.commands.prepare(FREE)
    assert isinstance(prepared, Prepared)
    desk.clock.elapsed += CHALLENGE_S
    assert desk.commands.prepared(prepared.id) is None


async def test_no_more_orders_are_under_way_than_are_taken(desk: Desk) -> None:
    desk.gate.silent = True
    results = await asyncio.gather(*(desk.commands.give(OPEN) for _ in range(80)), return_exceptions=True)
    assert sum(isinstance(each, BusyError) for each in results) == 16


@pytest.mark.parametrize(
    "order",
    [
        Order("all", "lane-1", CommandVerb.RELEASE, KIM),
        Order("../x", "lane-1", CommandVerb.RELEASE, KIM),
        Order(GATE, "lane 1", CommandVerb.RELEASE, KIM),
        Order(GATE, "lane-1", CommandVerb.RESTART, KIM),
        Order(GATE, "lane-1", CommandVerb.RELEASE, Operator("x" * 65, "guard")),
        Order(GATE, "lane-1", CommandVerb.RELEASE, Operator("Kim", "a b")),
        Order(GATE, "lane-1", CommandVerb.RELEASE, KIM, {"x" * 65: 1}),
    ],
)
async def test_what_no_gate_would_read_is_neither_recorded_nor_sent(desk: Desk, order: Order) -> None:
    with pytest.raises(CommandError):
        await desk.commands.give(order)
    assert desk.gate.sent == []
    assert await desk.rows() == []


# The emergency state.


def issued(desk: Desk) -> list[Emergency]:
    found = []
    for topic, payload, retain, _ in desk.gate.sent:
        assert (topic, retain) == (topics.emergency(SITE), True)
        unverified = emergency.parse(payload)
        assert unverified.sealed.verify(KEY.public_key())
        found.append(emergency.read(unverified))
    return found


async def test_a_change_is_the_whole_state_under_a_higher_sequence(desk: Desk) -> None:
    assert (await desk.emergency.set({"lobby": 2}, KIM)).outcome == "done"
    await desk.emergency.set({"yard": 1}, KIM)
    await desk.emergency.set({"lobby": 0}, KIM)
    states = issued(desk)
    assert [dict(each.levels) for each in states] == [{"lobby": 2}, {"lobby": 2, "yard": 1}, {"yard": 1}]
    assert states[0].sequence < states[1].sequence < states[2].sequence
    assert [(row.verb, row.operator) for row in await desk.rows()] == [("emergency", KIM)] * 3


async def test_it_is_issued_every_minute_with_the_same_sequence_and_a_later_time(desk: Desk) -> None:
    await desk.emergency.joined()
    await desk.emergency.set({"lobby": 2}, KIM)
    desk.clock.elapsed += 30
    work = asyncio.create_task(desk.emergency.run())
    async with asyncio.timeout(10):
        while len(desk.slept) < 3:  # noqa: ASYNC110  each turn of the loop is a step of the work
            await asyncio.sleep(0)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    states = issued(desk)
    assert desk.slept == [REISSUE_S] * 3
    assert {each.sequence for each in states} == {states[0].sequence}
    assert len(states) == 4
    assert states[1].not_after > states[0].not_after


async def test_a_site_that_never_had_an_emergency_issues_nothing(desk: Desk) -> None:
    assert not await desk.emergency.issue()
    assert desk.gate.sent == []


async def test_a_database_put_back_from_a_backup_says_nothing_that_gates_take_for_old(desk: Desk) -> None:
    await desk.emergency.set({"lobby": 2}, KIM)
    await desk.thread.call(lambda: desk.orders.set_emergency(3, {}))
    desk.clock.elapsed += 5
    await desk.emergency.set({"lobby": 0}, KIM)
    before, after = issued(desk)
    assert after.sequence > before.sequence


OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


def earlier(sequence: int, levels: dict[str, int], key: Any = KEY, site: str = SITE) -> bytes:
    """What the broker has kept of what was issued before."""
    return Emergency(site, sequence, NOW, NOW + timedelta(hours=1), levels).encode(key)


async def test_what_the_broker_has_kept_is_taken_over_where_the_database_is_older(desk: Desk) -> None:
    await desk.thread.call(lambda: desk.orders.set_emergency(3, {"yard": 1}))
    desk.emergency.receive(earlier(2**40, {"lobby": 2}))
    await desk.emergency.joined()
    await desk.emergency.set({"hall": 1}, KIM)
    again, changed = issued(desk)
    assert (again.sequence, dict(again.levels)) == (2**40, {"lobby": 2})
    assert (changed.sequence, dict(changed.levels)) == (2**40 + 1, {"hall": 1, "lobby": 2})


async def test_what_was_heard_is_not_forgotten_while_it_cannot_be_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    await desk.thread.call(lambda: desk.orders.set_emergency(3, {"yard": 1}))
    desk.emergency.receive(earlier(2**40, {"lobby": 2}))
    with monkeypatch.context() as patch:
        patch.setattr(desk.orders, "set_emergency", full)
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError):
                await desk.emergency.issue()
    assert issued(desk) == []
    await desk.emergency.issue()
    assert dict(issued(desk)[0].levels) == {"lobby": 2}


async def test_a_change_is_made_from_what_was_heard_even_before_it_was_looked_at(desk: Desk) -> None:
    desk.emergency.receive(earlier(2**40, {"lobby": 2}))
    await desk.emergency.set({"hall": 1}, KIM)
    assert dict(issued(desk)[0].levels) == {"hall": 1, "lobby": 2}


async def test_nothing_is_issued_before_the_broker_was_listened_to(store: Store) -> None:
    gate, thread, slept = Gate(), StoreThread(), asyncio.Event()

    async def sleep(_seconds: float) -> None:
        slept.set()
        await asyncio.Event().wait()

    state = EmergencyState(
        gate, store.orders, thread, site=SITE, key=KEY, clock=Clock(), random_bytes=os.urandom, sleep=sleep, hear_s=60.0
    )
    await thread.call(lambda: store.orders.set_emergency(3, {"yard": 1}))
    minute, joining = asyncio.create_task(state.run()), asyncio.create_task(state.joined())
    async with asyncio.timeout(10):
        await slept.wait()
        assert gate.sent == []
        state.receive(earlier(4, {}))
        await joining
    assert [emergency.read(emergency.parse(payload)).sequence for _, payload, _, _ in gate.sent] == [4]
    minute.cancel()
    await asyncio.gather(minute, return_exceptions=True)
    thread.shutdown()


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(earlier(2, {"lobby": 2}), id="older"),
        pytest.param(earlier(3, {"lobby": 2}), id="the same"),
        pytest.param(earlier(9, {"lobby": 2}, OTHER_KEY), id="another key"),
        pytest.param(earlier(9, {"lobby": 2}, site="other"), id="another site"),
        pytest.param(b"", id="removed"),
        pytest.param(b"{", id="garbage"),
        pytest.param(earlier(9, {"lobby": 2}).replace(b'"lobby":2', b'"lobby":0'), id="changed beside the signature"),
    ],
)
async def test_what_is_older_or_not_its_own_changes_nothing(desk: Desk, payload: bytes) -> None:
    await desk.thread.call(lambda: desk.orders.set_emergency(3, {"yard": 1}))
    desk.emergency.receive(payload)
    await desk.emergency.joined()
    (state,) = issued(desk)
    assert (state.sequence, dict(state.levels)) == (3, {"yard": 1})


async def test_a_change_without_a_broker_is_kept_and_goes_out_later(desk: Desk) -> None:
    desk.gate.reason = NOT_CONNECTED
    assert (await desk.emergency.set({"lobby": 2}, KIM)).outcome == "not_sent"
    desk.gate.reason, desk.gate.sent = OK, []
    assert await desk.emergency.issue()
    assert dict(issued(desk)[0].levels) == {"lobby": 2}


@pytest.mark.parametrize("levels", [{}, {"lobby": 10}, {"lobby": -1}, {"../x": 1}, {"lobby": True}])
async def test_levels_that_make_no_sense_are_refused(desk: Desk, levels: dict[str, int]) -> None:
    with pytest.raises(CommandError):
        await desk.emergency.set(levels, KIM)
    assert desk.gate.sent == []


def test_a_database_of_before_orders_gets_their_tables_and_keeps_what_it_has(
    open_store: Callable[[], Store], journal: Any, tmp_path: Path
) -> None:
    records = journal.write(2)
    with closing(sqlite3.connect(tmp_path / "controller.db")) as db:
        db.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
        for version, step in enumerate(schema.STEPS[:2], 1):
            db.executescript(step)
            db.execute("INSERT INTO schema_version VALUES (?)", [version])
        db.executemany(
            "INSERT INTO events (arrival, gate, epoch, seq, time, kind, raw) VALUES (?, 'gate-1', 'e1', ?, ?, ?, ?)",
            [(seq, seq, "2026-11-24T09:00:00.000Z", "access.granted", raw) for seq, raw in enumerate(records, 1)],
        )
        db.commit()
    store = open_store()
    assert [stored.event.raw for stored in store.events(0, 9)] == records
    assert store.orders.recent(5) == []
    assert store.orders.emergency() == (0, {})


def test_levels_are_kept_as_they_were_given(store: Store) -> None:
    store.orders.set_emergency(4, {"lobby": 1, "yard": 2})
    assert store.orders.emergency() == (4, {"lobby": 1, "yard": 2})
    assert json.dumps(store.orders.emergency()[1]) == '{"lobby": 1, "yard": 2}'
