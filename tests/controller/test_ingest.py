"""End to end with a real broker: gate, broker, ingest, store, acknowledgement; with everything that can go wrong between."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest

from controller import ingest as ingest_module
from controller.main import Controller
from protocol import events, topics
from protocol.status import Online
from testbed.broker import Broker

WITHIN_S = 10
SITE = "hq"
RunController = Callable[[], Awaitable[Controller]]
ConnectGate = Callable[..., Awaitable[Any]]


async def stored(controller: Controller) -> list[bytes]:
    """Every record in the store, in order of sequence."""
    store = controller._store
    assert store is not None
    found = await controller._thread.call(lambda: store.events(0, 100_000))
    return [each.event.raw for each in sorted(found, key=lambda each: (each.event.epoch, each.event.seq))]


async def until(controller: Controller, holds: Callable[[], bool]) -> None:
    """Look again after each change of the live picture, and when nothing was changed for a moment."""
    watcher = controller.live.watch()
    assert watcher is not None
    async with asyncio.timeout(WITHIN_S):
        while not holds():
            await watcher.next(0.05)
    controller.live.leave(watcher)


async def test_records_are_stored_once_and_acknowledged_as_a_retained_message(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any
) -> None:
    controller, gate = await run_controller(), await connect_gate()
    await gate.send(*journal.write(30))
    await gate.wait_ack(journal.ack(30))
    assert await stored(controller) == journal.records
    await gate.link.stop()
    late = await connect_gate()
    await late.wait_ack(journal.ack(30))


async def test_duplicates_and_reordering_end_in_one_whole_chain(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any
) -> None:
    controller, gate = await run_controller(), await connect_gate()
    records = journal.write(12)
    await gate.send(*records[::-1], *records, *records[:4])
    await gate.wait_ack(journal.ack(12))
    assert await stored(controller) == records
    assert controller.ingest is not None
    await until(controller, lambda: controller.ingest is not None and controller.ingest.figures.duplicates == 16)


async def test_a_hole_is_never_acknowledged_over(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any
) -> None:
    _, gate = await run_controller(), await connect_gate()
    records = journal.write(6)
    await gate.send(*records[:2], *records[3:])
    await gate.wait_ack(journal.ack(2))
    await gate.send(records[5])  # its answer comes after everything before it was dealt with
    await gate.send(records[2])
    await gate.wait_ack(journal.ack(6))
    assert {each.seq for each in gate.acks} <= {1, 2, 6}


async def test_a_repeated_record_is_acknowledged_again(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any
) -> None:
    _, gate = await run_controller(), await connect_gate()
    await gate.send(*journal.write(2))
    await gate.wait_ack(journal.ack(2))
    gate.acks.clear()
    await gate.send(journal.records[0])
    await gate.wait_ack(journal.ack(2))


async def test_a_controller_that_dies_between_commit_and_acknowledgement_loses_and_doubles_nothing(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any
) -> None:
    doomed, gate = await run_controller(), await connect_gate()
    committed = asyncio.Event()
    call = doomed._thread.call

    async def commit_and_die(work: Callable[[], Any]) -> Any:
        await call(work)
        committed.set()
        await asyncio.Event().wait()  # what comes after the commit is never reached

    doomed._thread.call = commit_and_die  # type: ignore[method-assign]  # the moment of death
    await gate.send(*journal.write(5))
    async with asyncio.timeout(WITHIN_S):
        await committed.wait()
    assert doomed.link._connection is not None
    doomed.link._connection.abort("killed")
    doomed._thread.call = call  # type: ignore[method-assign]
    await doomed.stop()
    assert gate.acks == []

    reborn = await run_controller()
    await gate.wait_ack(journal.ack(5))
    assert await stored(reborn) == journal.records
    await until(reborn, lambda: reborn.ingest is not None and reborn.ingest.figures.duplicates > 0)


async def test_what_comes_while_the_controller_is_away_waits_on_the_broker(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any
) -> None:
    first, gate = await run_controller(), await connect_gate()
    await first.stop()
    await gate.send(*journal.write(40))
    again = await run_controller()
    await gate.wait_ack(journal.ack(40))
    assert await stored(again) == journal.records


async def test_a_killed_broker_loses_nothing_the_gate_does_not_send_again(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any, broker: Broker
) -> None:
    controller, gate = await run_controller(), await connect_gate()
    await gate.send(*journal.write(3))
    await gate.wait_ack(journal.ack(3))
    broker.kill()
    await until(controller, lambda: not controller.link.connected and not gate.link.connected)
    assert not controller.condition().broker
    broker.start()
    async with asyncio.timeout(WITHIN_S):
        await controller.link.wait_connected()
        await gate.link.wait_connected()
    await gate.wait_ack(journal.ack(3))  # said again, for the broker has forgotten it
    await gate.send(*journal.write(2))
    await gate.wait_ack(journal.ack(5))
    assert await stored(controller) == journal.records


async def test_a_store_that_cannot_write_acknowledges_nothing_until_it_can(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any
) -> None:
    controller, gate = await run_controller(), await connect_gate()
    assert controller.ingest is not None
    store, full = controller._store, True
    assert store is not None
    commit = store.commit

    def failing(*arguments: Any) -> Any:
        if full:
            raise sqlite3.OperationalError("database or disk is full")
        return commit(*arguments)

    store.commit = failing  # type: ignore[method-assign, assignment]  # a full disk
    await gate.send(*journal.write(3))
    await until(controller, lambda: not controller.condition().store)
    assert gate.acks == []
    full = False
    await gate.wait_ack(journal.ack(3))
    assert controller.condition().store
    assert await stored(controller) == journal.records


async def test_poison_is_set_aside_counted_and_not_in_the_way(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any, now: datetime
) -> None:
    controller, gate = await run_controller(), await connect_gate()
    evt = topics.event(SITE, "gate-1")
    other = events.build(
        site=SITE,
        gate="gate-2",
        epoch="e1",
        seq=1,
        kind=events.Kind.GATE_BOOT,
        time=now,
        prevhash=events.GENESIS,
        data={},
    )
    bad = [b"", b"junk", b"\xff" * 9000, b"[" * 8000, other, b'{"id": 1e999}']
    for payload in bad:
        assert (await gate.link.publish(evt, payload)).ok
    for leaf in (topics.state, topics.online, topics.health):
        assert (await gate.link.publish(leaf(SITE, "gate-1"), b"junk")).ok
    await gate.send(*journal.write(2))
    await gate.wait_ack(journal.ack(2))
    assert await stored(controller) == journal.records
    await until(
        controller, lambda: controller.ingest is not None and controller.ingest.figures.set_aside == len(bad) + 3
    )
    store = controller._store
    assert store is not None
    rows = await controller._thread.call(store.poison)
    assert {row["reason"] for row in rows} == {"not_an_event", "too_large", "wrong_gate", "not_a_status"}
    assert controller.live.set_aside == len(bad) + 3


async def test_two_gates_have_marks_of_their_own(
    run_controller: RunController, connect_gate: ConnectGate, new_journal: type[Any]
) -> None:
    controller = await run_controller()
    one, two = await connect_gate("gate-1"), await connect_gate("gate-2")
    first, second = new_journal("gate-1"), new_journal("gate-2")
    await asyncio.gather(one.send(*first.write(7)), two.send(*second.write(3)))
    await one.wait_ack(first.ack(7))
    await two.wait_ack(second.ack(3))
    assert len(await stored(controller)) == 10


async def test_a_flood_of_healths_is_dropped_and_counted_and_records_go_on(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, gate = await run_controller(), await connect_gate()
    ingest = controller.ingest
    assert ingest is not None
    monkeypatch.setattr(ingest_module, "MAX_HEALTHS", 0)
    assert (await gate.link.publish(topics.health(SITE, "gate-1"), b"{}", qos=0)).ok
    await gate.send(*journal.write(3))
    await gate.wait_ack(journal.ack(3))
    assert ingest.figures.dropped == 1


async def test_a_will_of_an_earlier_boot_does_not_put_a_gate_offline(
    run_controller: RunController, connect_gate: ConnectGate
) -> None:
    controller, gate = await run_controller(), await connect_gate()
    for online in (Online(True, "b2"), Online(False, "b1"), Online(True, "b2")):
        assert (await gate.link.publish(topics.online(SITE, "gate-1"), online.encode(), retain=True)).ok
    await until(controller, lambda: "gate-1" in controller.live.gates)
    assert controller.live.gates["gate-1"].online is True
    assert (await gate.link.publish(topics.online(SITE, "gate-1"), Online(False, "b2").encode(), retain=True)).ok
    await until(controller, lambda: controller.live.gates["gate-1"].online is False)
