"""End to end with a real broker: gate, broker, ingest, store, acknowledgement; with everything that can go wrong between."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from controller import ingest as ingest_module
from controller import replays as replays_module
from controller.config import ControllerConfig
from controller.enrolled import Enrolled
from controller.main import Controller
from protocol import events, packing, topics
from protocol.replay import Replay
from protocol.statement import Purpose
from protocol.status import GateState, Online
from testbed.broker import Broker
from testbed.pki import DevicePki

WITHIN_S = 10
SITE = "hq"
RunController = Callable[[], Awaitable[Controller]]
ConnectGate = Callable[..., Awaitable[Any]]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that asks for a hole at once."""
    monkeypatch.setattr(ingest_module, "REPLAY_TICK_S", 0.01)
    monkeypatch.setattr(replays_module, "WAIT_S", 0.0)


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
    assert {row["reason"] for row in rows} == {
        "not_an_event",
        "not_a_batch",
        "too_large",
        "wrong_gate",
        "not_a_status",
    }
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


async def test_a_packed_message_is_stored_record_by_record_and_its_poison_is_not_in_the_way(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any
) -> None:
    controller, gate = await run_controller(), await connect_gate()
    records = journal.write(250)
    for start in range(0, 250, 50):
        await gate.send(packing.pack([*records[start : start + 25], b"{}", *records[start + 25 : start + 50]]))
    await gate.wait_ack(journal.ack(250))
    assert await stored(controller) == records
    assert controller.ingest is not None
    assert controller.ingest.figures.set_aside == 5


async def test_an_urgent_copy_ahead_of_the_backlog_is_stored_once_and_not_acknowledged_over_the_hole(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any
) -> None:
    controller, gate = await run_controller(), await connect_gate()
    records = journal.write(4)
    [urgent] = journal.write(1, events.Kind.ALARM_FORCED)
    await gate.send(records[0])
    await gate.wait_ack(journal.ack(1))
    assert (await gate.link.publish(topics.alarm(SITE, "gate-1"), urgent)).ok
    await until(controller, lambda: controller.ingest is not None and controller.ingest.figures.committed == 2)
    await gate.send(*records[1:], urgent)
    await gate.wait_ack(journal.ack(5))
    assert await stored(controller) == journal.records
    assert controller.ingest is not None
    assert controller.ingest.figures.duplicates == 1


async def test_a_hole_that_stays_is_asked_for_and_what_comes_closes_it(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any, impatient: None
) -> None:
    _, gate = await run_controller(), await connect_gate()
    records = journal.write(9)
    await gate.send(*records[:2], *records[6:])
    request = await gate.wait_replay()
    assert request == Replay("e1", 3, 6)
    await gate.send(packing.pack(records[request.first - 1 : request.last]))
    await gate.wait_ack(journal.ack(9))


async def test_a_database_from_an_old_backup_asks_every_gate_for_what_it_lost(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any, impatient: None, config: ControllerConfig
) -> None:
    first, gate = await run_controller(), await connect_gate()
    await gate.send(*journal.write(3))
    await gate.wait_ack(journal.ack(3))
    backup = config.database.with_name("backup.db")
    store = first._store
    assert store is not None

    def copy() -> None:
        with closing(sqlite3.connect(backup)) as there:
            store._connection.backup(there)

    await first._thread.call(copy)
    await gate.send(*journal.write(5))
    await gate.wait_ack(journal.ack(8))
    await first.stop()
    for suffix in ("-wal", "-shm"):
        config.database.with_name(config.database.name + suffix).unlink(missing_ok=True)
    backup.replace(config.database)

    # The gate has nothing new to say: only its retained state tells of the records.
    state = GateState("1-aa", "e1", 8, ())
    assert (await gate.link.publish(topics.state(SITE, "gate-1"), state.encode(), retain=True)).ok
    gate.acks.clear()
    again = await run_controller()
    request = await gate.wait_replay()
    assert request == Replay("e1", 4, 8)
    await gate.send(packing.pack(journal.records[request.first - 1 : request.last]))
    await gate.wait_ack(journal.ack(8))
    assert await stored(again) == journal.records


async def test_acknowledgements_of_an_earlier_epoch_do_not_replace_the_retained_one(
    run_controller: RunController, connect_gate: ConnectGate, new_journal: type[Any]
) -> None:
    _, gate = await run_controller(), await connect_gate()
    old, new = new_journal(epoch="e1"), new_journal(epoch="e2")
    old.write(4)
    await gate.send(*old.records[:2])
    await gate.wait_ack(old.ack(2))
    await gate.send(*new.write(1, events.Kind.LOG_GAP, epoch="e1", to=4))
    await gate.wait_ack(new.ack(1))
    await gate.send(*old.records[2:])
    await gate.wait_ack(old.ack(4))
    await gate.link.stop()
    late = await connect_gate()
    await late.wait_ack(new.ack(1))
    assert late.acks == [new.ack(1)]


async def test_a_batch_takes_no_more_bytes_than_its_bound(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, gate = await run_controller(), await connect_gate()
    assert controller.ingest is not None
    monkeypatch.setattr(ingest_module, "BATCH_BYTES", 1)
    await gate.send(*journal.write(5))
    await gate.wait_ack(journal.ack(5))
    assert controller.ingest.figures.batches >= 5


async def test_an_explanation_counts_with_the_key_of_an_enrolled_gate(
    run_controller: RunController, connect_gate: ConnectGate, journal: Any, pki: DevicePki, config: ControllerConfig
) -> None:
    identity = pki.client("gate-1")
    key = load_pem_private_key(identity.key.read_bytes(), None)
    Enrolled(config.place.gates).add(identity.certificate.read_bytes())
    controller, gate = await run_controller(), await connect_gate()
    records = journal.write(4)
    await gate.send(records[0], records[3], journal.state(Purpose.GAP, 2, 3, key=key))
    await gate.wait_ack(journal.ack(5))
    assert [row.kind for row in controller.live.alarms.values()] == ["log.gap"]  # and nothing wrong with it
