from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gate_agent.journal import AckMismatchError
from gate_agent.retention import Limits, Retention
from gate_agent.store import Store
from protocol.ack import Ack
from protocol.events import Kind
from tests.gate_agent.fakes import FakeClock
from tests.gate_agent.journals import alarms, journal_at, store_at, write

DAY_S = 86400


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def waiting(store: Store) -> list[int]:
    return [record.seq for record in store.outbox.unsent(0, 10_000)]


def pruned(path: Path, clock: FakeClock, count: int = 20, kept: int = 5) -> Store:
    """`count` records, all acknowledged, all but `kept` removed by age."""
    store = store_at(path)
    records = write(store, clock, alarms(count))
    store.outbox.acknowledge(store.epoch, count - kept, records[count - kept - 1].hash)
    store.outbox.note_acknowledged(clock.now())
    clock.elapsed += 40 * DAY_S
    assert Retention(Limits()).age(store, clock.now())
    store.outbox.acknowledge(store.epoch, count, records[-1].hash)
    return store


def test_records_that_are_asked_for_again_wait_again(path: Path) -> None:
    store = store_at(path)
    records = write(store, FakeClock(), alarms(10))
    assert store.outbox.acknowledge(store.epoch, 10, records[-1].hash)
    assert store.outbox.requeue(store.epoch, 3, 5, 100) == 3
    assert waiting(store) == [3, 4, 5]
    assert store.outbox.unsent(0, 1)[0] == records[2]
    assert store.outbox.requeue(store.epoch, 3, 5, 100) == 3, "asking twice changes nothing"
    assert waiting(store) == [3, 4, 5]
    store.close()


def test_what_waits_again_is_durable(path: Path) -> None:
    store = store_at(path)
    records = write(store, FakeClock(), alarms(4))
    store.outbox.acknowledge(store.epoch, 4, records[-1].hash)
    store.outbox.requeue(store.epoch, 2, 2, 1)
    store.close()
    again = store_at(path)
    assert waiting(again) == [2]
    again.close()


def test_at_most_as_many_as_the_limit_wait_again(path: Path) -> None:
    store = store_at(path)
    records = write(store, FakeClock(), alarms(10))
    store.outbox.acknowledge(store.epoch, 10, records[-1].hash)
    assert store.outbox.requeue(store.epoch, 1, 10, 4) == 4
    assert waiting(store) == [1, 2, 3, 4]
    store.close()


def test_numbers_that_were_never_written_and_other_epochs_give_nothing(path: Path) -> None:
    store = store_at(path)
    write(store, FakeClock(), alarms(3))
    assert store.outbox.requeue(store.epoch, 4, 9, 100) == 0
    assert store.outbox.requeue("ffffffffffffffff", 1, 3, 100) == 0
    store.close()


def test_records_that_are_gone_are_answered_by_the_record_that_says_so(path: Path) -> None:
    store = pruned(path, FakeClock())
    assert store.first == 16
    assert store.outbox.requeue(store.epoch, 1, 17, 100) == 3
    found = store.outbox.unsent(0, 100)
    assert [record.seq for record in found] == [16, 17, 21]
    assert b"journal.pruned" in found[-1].raw
    store.close()


def test_an_old_acknowledgement_of_a_record_that_is_gone_is_nothing_new(path: Path) -> None:
    store = pruned(path, FakeClock())
    assert not store.outbox.acknowledge(store.epoch, 3, "0" * 64)
    store.close()


def test_an_acknowledgement_moves_a_replay_on_though_it_is_older_than_the_last(path: Path) -> None:
    store = store_at(path)
    records = write(store, FakeClock(), alarms(10))
    store.outbox.acknowledge(store.epoch, 10, records[-1].hash)
    store.outbox.requeue(store.epoch, 4, 8, 100)
    assert store.outbox.acknowledge(store.epoch, 6, records[5].hash)
    assert waiting(store) == [7, 8]
    assert store.outbox.acknowledged == 10
    store.close()


def test_acknowledging_writes_as_much_for_a_hundred_thousand_records_as_for_one(path: Path) -> None:
    store = store_at(path)
    store.begin()
    store.db.executemany("INSERT INTO outbox VALUES (?)", ((seq,) for seq in range(2, 100_001)))
    store.db.executemany(
        "INSERT INTO records VALUES (?, x'00', ?)", ((seq, f"{seq:064x}") for seq in range(2, 100_001))
    )
    store.commit()
    changed = store.db.total_changes
    assert store.outbox.acknowledge(store.epoch, 100_000, f"{100_000:064x}")
    # Rows of the outbox go, one mark moves; no record is written again.
    assert store.db.total_changes - changed == 99_999 + 1
    store.close()


async def test_a_journal_answers_a_replay(path: Path) -> None:
    async with journal_at(path) as journal:
        records = [await journal.append(Kind.ALARM_FORCED, {"lane": str(n)}) for n in range(5)]
        await journal.acknowledge(Ack(records[-1].epoch, 5, records[-1].hash))
        assert await journal.requeue(records[0].epoch, 2, 3, 10) == 2
        assert await journal.unsent(0, 10) == records[1:3]
        with pytest.raises(AckMismatchError):
            await journal.acknowledge(Ack(records[0].epoch, 6, "0" * 64))


def test_when_records_were_acknowledged_is_known_to_ten_minutes(path: Path) -> None:
    clock, store = FakeClock(), store_at(path)
    records = write(store, clock, alarms(4))
    for seq in (1, 2, 3):
        store.outbox.acknowledge(store.epoch, seq, records[seq - 1].hash)
        store.outbox.note_acknowledged(clock.now())
        clock.elapsed += 3600
    assert store.outbox.acknowledged_before(clock.now() - timedelta(hours=2, minutes=30)) == 1
    assert store.outbox.acknowledged_before(clock.now()) == 3
    store.close()


def test_a_clock_that_was_set_back_makes_no_record_old(path: Path) -> None:
    clock, store = FakeClock(), store_at(path)
    records = write(store, clock, alarms(2))
    store.outbox.acknowledge(store.epoch, 1, records[0].hash)
    store.outbox.note_acknowledged(clock.now())
    store.outbox.acknowledge(store.epoch, 2, records[1].hash)
    store.outbox.note_acknowledged(clock.now() - timedelta(days=10_000))
    assert store.outbox.acknowledged_before(clock.now() - timedelta(days=1)) == 0
    store.close()
