"""What the controller sees by itself: silence, its broker, its disk, its store; on clocks of the test."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from controller.alarm_desk import BROKER_S, AlarmDesk
from controller.alarm_kinds import BROKER, CONTROLLER_DISK, OFFLINE, STORE, WEBHOOK, Severity
from controller.alarm_rows import AlarmUpdate
from controller.config import Alarms
from controller.sorting import sort
from controller.store import Store
from policy.situation import ClockQuality
from protocol import topics
from protocol.command import Operator
from protocol.events import Kind
from protocol.health import Health
from protocol.status import Online
from tests.controller.conftest import SITE, START, Sent, keys

SETTINGS = Alarms(120, 900, 500, {Severity.CRITICAL: 120, Severity.MAJOR: 600, Severity.MINOR: 0, Severity.WARNING: 0})
T = TypeVar("T")


@dataclass
class Clock:
    elapsed: float = 0.0
    jumped: timedelta = timedelta()

    def now(self) -> datetime:
        return START + timedelta(seconds=self.elapsed) + self.jumped

    def monotonic(self) -> float:
        return self.elapsed


class Here:
    """The store's thread is this one."""

    async def call(self, work: Callable[[], T]) -> T:
        return work()


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@dataclass
class Place:
    store: Store
    directory: Path
    clock: Clock = field(default_factory=Clock)
    connected: bool = True
    store_ok: bool = True
    revoked: set[str] = field(default_factory=set)
    updates: list[AlarmUpdate] = field(default_factory=list)
    desk: AlarmDesk = field(init=False)

    def __post_init__(self) -> None:
        self.desk = AlarmDesk(
            self.store.alarm_book,
            Here(),
            settings=SETTINGS,
            clock=self.clock,
            directory=self.directory,
            connected=lambda: self.connected,
            store_ok=lambda: self.store_ok,
            enrolled=lambda gate: gate not in self.revoked,
            on_update=self.updates.append,
        )

    def hear(self, topic: str, payload: bytes) -> None:
        done = sort([Sent(topic, payload)], SITE, keys)
        self.desk.note(done, self.store.commit(done.batch, self.clock.now()))

    def health(self, gate: str = "gate-1") -> None:
        health = Health("b1", "1", 1, ClockQuality.SYNCED, 0, 0, "1")
        self.hear(topics.health(SITE, gate), health.encode())

    def online(self, gate: str, online: bool, boot: str = "1-aa") -> None:
        self.hear(topics.online(SITE, gate), Online(online, boot).encode())

    async def after(self, seconds: float) -> list[tuple[str, str]]:
        """What is open then: kind and gate."""
        self.clock.elapsed += seconds
        await self.desk.step()
        return [(row.kind, row.gate) for row in self.store.alarm_book.open()]


@pytest.fixture
async def place(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 10**12))
    found = Place(store, tmp_path)
    await found.desk.step()
    return found


async def test_a_gate_that_is_silent_is_an_alarm_until_it_is_heard(place: Place) -> None:
    place.health()
    assert await place.after(119) == []
    assert await place.after(1) == [(OFFLINE, "gate-1")]
    assert await place.after(60) == [(OFFLINE, "gate-1")]
    place.health()
    assert await place.after(5) == []
    assert [each.changes[0].change for each in place.updates] == ["raised", "cleared"]


async def test_a_gate_whose_will_has_come_is_away_whatever_the_broker_still_has_of_it(
    place: Place, journal: Any
) -> None:
    place.online("gate-1", online=True)
    await place.after(10)
    place.online("gate-1", online=False)
    for _ in range(11):
        place.hear(topics.event(SITE, "gate-1"), journal.write(1)[0])
        assert await place.after(10) == []
    place.online("gate-1", online=False)  # retained, and told again
    assert await place.after(10) == [(OFFLINE, "gate-1")]
    place.online("gate-1", online=True, boot="2-bb")
    assert await place.after(5) == []


async def test_after_a_start_every_gate_has_its_time_once_more(place: Place) -> None:
    place.health()
    place.clock.elapsed += 3600
    again = Place(place.store, place.directory, place.clock)
    again.desk.load(place.store.gates())
    assert await again.after(0) == []
    assert await again.after(119) == []
    assert await again.after(1) == [(OFFLINE, "gate-1")]


async def test_no_gate_is_judged_while_nobody_is_heard_and_each_has_its_time_when_the_broker_is_back(
    place: Place,
) -> None:
    place.health()
    place.connected = False
    assert await place.after(BROKER_S - 1) == []
    assert await place.after(500) == [(BROKER, "")]
    place.connected = True
    assert await place.after(5) == []
    assert await place.after(119) == []
    assert await place.after(1) == [(OFFLINE, "gate-1")]


async def test_a_gate_that_is_enrolled_no_more_is_missed_by_nobody(place: Place) -> None:
    place.health()
    assert await place.after(120) == [(OFFLINE, "gate-1")]
    place.revoked.add("gate-1")
    assert await place.after(5) == []


async def test_a_wall_clock_that_jumps_makes_no_gate_silent_and_escalates_nothing(place: Place, journal: Any) -> None:
    place.health()
    place.hear(topics.event(SITE, "gate-1"), journal.write(1, Kind.ALARM_TAMPER)[0])
    await place.after(5)
    place.clock.jumped = timedelta(days=3000)
    assert await place.after(5) == [("alarm.tamper", "gate-1")]
    assert place.store.alarm_book.open()[0].level == 0


async def test_an_alarm_nobody_acknowledges_is_escalated_by_the_desk(place: Place, journal: Any) -> None:
    place.hear(topics.event(SITE, "gate-1"), journal.write(1, Kind.ALARM_TAMPER)[0])
    await place.after(5)
    await place.after(60)
    place.health()
    await place.after(59)
    assert place.updates == []
    await place.after(1)
    assert [each.change for each in place.updates[-1].changes if each.alarm == 1] == ["escalated"]


async def test_a_disk_that_is_nearly_full_is_an_alarm_until_there_is_room(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, expected in ((499, [(CONTROLLER_DISK, "")]), (501, [(CONTROLLER_DISK, "")]), (700, [])):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(10**12, 0, free * 1_000_000))
        assert await place.after(5) == expected


async def test_that_the_store_could_not_write_is_written_once_it_can(place: Place) -> None:
    place.store_ok = False
    assert await place.after(5) == []
    place.store_ok = True
    assert await place.after(5) == []
    assert [(each.rows[0].kind, each.changes[0].change) for each in place.updates] == [
        (STORE, "raised"),
        (STORE, "cleared"),
    ]


async def test_a_look_that_cannot_be_written_is_made_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.health()
    place.clock.elapsed += 120

    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(place.store.alarm_book, "write", broken)
        with pytest.raises(sqlite3.OperationalError):
            await place.desk.step()
    assert await place.after(0) == [(OFFLINE, "gate-1")]


async def test_a_part_of_the_controller_tells_its_trouble_and_its_end(place: Place) -> None:
    await place.desk.trouble(WEBHOOK, "duty-room", holds=True)
    await place.desk.trouble(WEBHOOK, "duty-room", holds=True)
    assert await place.after(5) == [(WEBHOOK, "")]
    await place.desk.trouble(WEBHOOK, "duty-room", holds=False)
    assert await place.after(5) == []
    assert len(place.updates) == 2
    for kind in (OFFLINE, "controller.unheard_of"):
        with pytest.raises(ValueError, match=kind):
            await place.desk.trouble(kind, "", holds=True)


async def test_what_operators_do_is_told_to_whoever_watches(place: Place, journal: Any) -> None:
    place.hear(topics.event(SITE, "gate-1"), journal.write(1, Kind.LANE_FAULT)[0])
    kim = Operator("Kim", "guard")
    assert (await place.desk.acknowledge(1, kim)).state == "acknowledged"
    assert (await place.desk.acknowledge(1, kim)).state == "acknowledged"
    assert (await place.desk.clear(1, kim)).state == "closed"
    assert [each.changes[0].change for each in place.updates] == ["acknowledged", "cleared"]
