"""A journal that has reached its size with records that nobody has taken: who still passes, and what is still written."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate_agent import chain
from gate_agent.gaps import FULL
from gate_agent.journal import AlreadyUsedError, JournalFullError, RecordUnavailableError
from gate_agent.retention import MIB, Limits, Retention
from protocol.ack import Ack
from protocol.events import DECISIONS, Kind
from tests.conftest import NOW
from tests.gate_agent.conftest import POLICY, Bench
from tests.gate_agent.fakes import FakeClock
from tests.gate_agent.journals import PUBLIC, alarms, grant, held, journal_at, kinds

NO_ROOM = Limits(max_bytes=MIB + 1)
"""Full from the first byte, with a reserve of 1 MiB."""
CONTINUE = POLICY.replace("[zones.lobby]\n", '[zones.lobby]\njournal_full = "continue_with_gap"\n')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def use(bench: Bench, policy: str) -> None:
    (bench.folder / "policy.toml").write_text(policy.replace("version = 7", "version = 8"))
    await bench.trust.reload()


def fill(bench: Bench) -> None:
    bench.journal._writer._retention = Retention(NO_ROOM)


async def test_a_full_journal_refuses_entries_as_unrecordable(bench: Bench) -> None:
    fill(bench)
    await bench.present(bench.world.holder())
    assert bench.hardware.pulses == []
    assert bench.journal.full
    assert not [event for event in await bench.records() if event.kind in DECISIONS]


async def test_where_the_rules_say_so_entries_go_on_and_are_counted(bench: Bench) -> None:
    await use(bench, CONTINUE)
    fill(bench)
    await bench.present(bench.world.holder())
    bench.walk()
    await bench.services.background.finish(5)
    assert len(bench.hardware.pulses) == 1
    found = await bench.kinds()
    assert Kind.ACCESS_GRANTED not in found
    assert Kind.PASSAGE_COMPLETED in found, "what passes is recorded from the reserve"
    bench.journal._writer._retention = Retention(Limits())
    await bench.present(bench.world.holder())
    gap = [event for event in await bench.records() if event.kind is Kind.LOG_GAP][-1]
    assert (gap.data["why"], gap.data["granted"], gap.data["degraded"]) == (FULL, 1, [FULL])


async def test_a_pass_opens_once_though_nothing_is_recorded(bench: Bench) -> None:
    await use(bench, CONTINUE)
    fill(bench)
    card, _ = bench.world.authority.issue_pass(bench.world.person, now=NOW)
    shown = bench.qr_pass(card)
    bench.show(shown)
    await bench.done()
    assert len(bench.hardware.pulses) == 1
    bench.walk()
    bench.clock.elapsed += 5
    bench.show(shown)
    await bench.done()
    assert len(bench.hardware.pulses) == 1


async def test_other_failures_of_the_disk_refuse_whatever_the_rules_say(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await use(bench, CONTINUE)

    def broken(*_args: object) -> None:
        raise OSError("read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(bench.journal._writer, "_ready", broken)
        await bench.present(bench.world.holder())
        with pytest.raises(RecordUnavailableError):
            await bench.journal.position()
    assert bench.hardware.pulses == []
    await bench.journal.append(Kind.ALARM_FORCED, {})
    gap = [event.data for event in await bench.records() if event.kind is Kind.LOG_GAP][-1]
    assert (gap["refused"], gap.get("granted")) == (1, None)


# What the journal itself does.


async def test_that_something_is_left_out_is_durable_from_the_beginning(path: Path) -> None:
    async with journal_at(path, limits=NO_ROOM) as journal:
        with pytest.raises(JournalFullError):
            await journal.append(Kind.ACCESS_GRANTED, grant("a1"))
        assert [(event.kind, event.data["why"]) for event in held(path)] == [(Kind.LOG_GAP, FULL)]


async def test_exits_orders_passages_alarms_and_fire_are_written_from_the_reserve(path: Path) -> None:
    async with journal_at(path, limits=NO_ROOM) as journal:
        with pytest.raises(JournalFullError):
            await journal.append(Kind.ACCESS_GRANTED, grant("out", "out"))
        # As a lane does for whoever leaves: the lane opens, and the record follows.
        journal.note(Kind.ACCESS_GRANTED, grant("out", "out"))
        journal.note(Kind.PASSAGE_COMPLETED, grant("out", "out"))
        await journal.append(Kind.COMMAND_ACCEPTED, grant("order"))
        journal.note(Kind.PASSAGE_COMPLETED, grant("order"))
        journal.note(Kind.FIRE_ASSERTED, {"lane": "lane-1"})
        journal.note(Kind.ACCESS_DENIED, {"reason": "record_unavailable"})
        journal.note(Kind.DEVICE_DEGRADED, {"device": "camera"})
    leaving, ordered = ([kind, Kind.PASSAGE_COMPLETED] for kind in (Kind.ACCESS_GRANTED, Kind.COMMAND_ACCEPTED))
    assert kinds(path)[:6] == [Kind.LOG_GAP, *leaving, *ordered, Kind.FIRE_ASSERTED]
    # A clean stop writes the numbers too.
    gap = held(path)[6].data
    assert (gap["why"], gap["refused"], gap["dropped"]) == (FULL, 1, 1)
    assert chain.verify(path, PUBLIC).problems == ()


async def test_beyond_the_reserve_everything_is_counted(path: Path) -> None:
    async with journal_at(path, limits=Limits(max_bytes=1)) as journal:
        for kind, data in alarms(3):
            journal.note(kind, data)
        await journal.position()
        assert Kind.ALARM_FORCED not in kinds(path)
    gap = [event.data for event in held(path) if event.kind is Kind.LOG_GAP][-1]
    assert gap["dropped"] == 3


async def test_an_acknowledgement_makes_room_and_the_numbers_are_the_first_record_after(path: Path) -> None:
    limits = Limits(max_bytes=16 * MIB)
    clock = FakeClock()
    async with journal_at(path, clock, limits=limits) as journal:
        while not journal.full:
            for kind, data in alarms(200, 4000):
                journal.note(kind, data)
            await journal.position()
        with pytest.raises(JournalFullError):
            await journal.append(Kind.ACCESS_GRANTED, grant("a1"))
        newest = (await journal.unsent(0, 100_000))[-1]
        assert await journal.acknowledge(Ack(newest.epoch, newest.seq, newest.hash))
        while bool(journal.full):  # mypy takes it for what it was above
            await journal.append(Kind.ALARM_FORCED, {"lane": "lane-1"})
        await journal.append(Kind.ACCESS_GRANTED, grant("a2"))
    gaps = [event.data for event in held(path) if event.kind is Kind.LOG_GAP]
    assert all(gap["why"] == FULL for gap in gaps)
    assert held(path)[0].seq > 1
    assert chain.verify(path, PUBLIC).problems == ()


async def test_a_mark_is_taken_without_a_record_and_only_once(path: Path) -> None:
    clock = FakeClock()
    async with journal_at(path, clock, limits=NO_ROOM) as journal:
        await journal.pass_unrecorded((b"m" * 32, clock.now()))
        with pytest.raises(AlreadyUsedError):
            await journal.pass_unrecorded((b"m" * 32, clock.now()))
        await journal.pass_unrecorded(None)
    assert held(path)[-2].data["granted"] == 2
