"""The live stream: everything once, in order, to whoever keeps up; the others are told that they have to ask again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller import stream as stream_module
from controller import web
from controller.alarm_rows import AlarmChange, AlarmUpdate
from controller.stream import KEPT_S, MAX_WATCHERS, LiveStream, Watcher
from controller.timelines import row
from policy.situation import ClockQuality
from protocol.command import Operator
from protocol.events import Kind
from protocol.health import Health
from protocol.status import GateState, LaneState, LaneStatus, Online
from tests.controller.api_building import Building
from tests.controller.conftest import START, Journal

WITHIN_S = 10


def alarm(number: int, gate: str = "gate-1", **more: Any) -> AlarmUpdate:
    """One change of one alarm."""
    body = json.dumps({"alarm": number, "gate": gate, "kind": "alarm.held", **more})
    return AlarmUpdate((), [AlarmChange(number, number, "2026-11-24T09:00:00.000Z", "raised", body)])


def parse(raw: bytes) -> list[tuple[str, str, Any]]:
    """Type, id and data of each message; comments and bare ids are left out."""
    found = []
    for block in raw.decode().split("\n\n"):
        lines = dict(line.partition(": ")[::2] for line in block.split("\n") if not line.startswith(":"))
        if "data" in lines:
            found.append((lines["event"], lines["id"], json.loads(lines["data"])))
    return found


@pytest.fixture
def building(tmp_path: Path) -> Iterator[Building]:
    found = Building(tmp_path)
    yield found
    found.close()


def watch(stream: LiveStream, *arguments: Any) -> Watcher:
    found = stream.watch(*arguments)
    assert found is not None
    return found


def test_a_passage_is_told_as_it_happens_with_no_number_of_its_record(building: Building, journal: Journal) -> None:
    building.clock.at = START + timedelta(seconds=2)
    watcher = watch(building.stream)
    building.feed("gate-1", journal.write(1, kind=Kind.PASSAGE_COMPLETED))
    [(kind, _, data)] = parse(watcher.take())
    assert kind == "event"
    assert data == {
        "time": "2026-11-24T09:00:01.000Z",
        "gate": "gate-1",
        "lane": "l1",
        "dir": "in",
        "kind": "passage.completed",
        "reason": None,
        "carrier": "qr",
        "detail": {},
    }
    assert watcher.take() == b""


def test_a_passage_that_a_gate_tells_of_hours_later_is_not_told_live(building: Building, journal: Journal) -> None:
    building.clock.at = START + timedelta(hours=3)
    watcher = watch(building.stream)
    building.feed("gate-1", [*journal.write(1), *journal.write(1, kind=Kind.ACCESS_DENIED, reason="revoked")])
    assert [data["kind"] for _, _, data in parse(watcher.take())] == ["access.denied"]


def test_a_repeated_record_is_told_once(building: Building, journal: Journal) -> None:
    watcher = watch(building.stream)
    for _ in range(3):
        building.feed("gate-1", journal.records or journal.write(1, kind=Kind.DOOR_MODE))
    assert len(parse(watcher.take())) == 1


def test_a_gate_is_told_when_it_has_changed_and_not_because_time_goes_on(building: Building) -> None:
    def health(outbox: int, *degraded: str) -> bytes:
        return Health("b1", "0.1", 5, ClockQuality.SYNCED, outbox, 4, "v9", degraded).encode()

    watcher = watch(building.stream)
    building.feed("gate-1", online=Online(True, "b1").encode(), health=health(1))
    lanes = (LaneStatus("l1", "in", LaneState.SECURED),)
    building.feed("gate-1", state=GateState("b1", "e1", 1, lanes).encode())
    building.feed("gate-1", state=GateState("b1", "e1", 2, lanes).encode())
    for outbox in (2, 3):
        building.clock.at += timedelta(seconds=30)
        building.feed("gate-1", health=health(outbox))
    building.feed("gate-1", health=health(3, "camera.hall"))
    building.feed("gate-1", online=Online(False, "b1").encode())
    found = [data for kind, _, data in parse(watcher.take()) if kind == "gate"]
    assert [(each["online"], len(each["lanes"]), each["health"] and each["health"]["degraded"]) for each in found] == [
        (True, 0, []),
        (True, 1, []),
        (True, 1, ["camera.hall"]),
        (False, 1, None),
    ]


def test_changes_of_alarms_come_with_their_number(building: Building) -> None:
    watcher = watch(building.stream)
    building.stream.alarms(alarm(7))
    [(kind, _, data)] = parse(watcher.take())
    assert (kind, data["id"], data["change"], data["alarm"]["kind"]) == ("alarm", 7, "raised", "alarm.held")


def test_a_watcher_gets_only_the_types_and_gates_it_asked_for(building: Building, new_journal: type[Journal]) -> None:
    stream = building.stream
    whole, alarms, two = watch(stream), watch(stream, ["alarm"]), watch(stream, None, ["gate-2"])
    for gate in ("gate-1", "gate-2"):
        building.feed(gate, new_journal(gate).write(1, kind=Kind.DOOR_MODE))
        stream.alarms(alarm(1, gate))
    assert len(parse(whole.take())) == 4
    assert [kind for kind, _, _ in parse(alarms.take())] == ["alarm", "alarm"]
    assert [kind for kind, _, _ in parse(two.take())] == ["event", "alarm"]


def test_an_alarm_and_its_gate_are_told_with_the_event_that_raises_it(building: Building, journal: Journal) -> None:
    watcher = watch(building.stream)
    building.feed("gate-1", journal.write(1, kind=Kind.ALARM_FORCED))
    (_, _, event), (_, _, change), (_, _, gate) = parse(watcher.take())
    assert (event["kind"], gate["alarms"]) == ("alarm.forced", 1)
    assert (change["change"], change["alarm"]["kind"], change["alarm"]["state"]) == ("raised", "alarm.forced", "raised")
    update = building.store.alarm_book.acknowledge(1, Operator("Hong Gildong", "guard"), building.clock.now())[1]
    building.live.apply_alarms(update.rows)
    building.stream.alarms(update)
    raw = watcher.take()
    assert [data["change"] for kind, _, data in parse(raw) if kind == "alarm"] == ["acknowledged"]
    assert "Gildong" not in raw.decode()


def test_a_message_is_rendered_once_for_all(
    building: Building, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[object] = []

    def counted(*arguments: Any, **more: Any) -> Any:
        rendered.append(arguments)
        return row(*arguments, **more)

    monkeypatch.setattr("controller.stream.row", counted)
    watchers = [watch(building.stream) for _ in range(20)]
    building.feed("gate-1", journal.write(3, kind=Kind.DOOR_MODE))
    assert len({each.take() for each in watchers}) == 1
    assert len(rendered) == 3


def told(stream: LiveStream, how_many: int, first: int = 1) -> None:
    for number in range(first, first + how_many):
        stream.alarms(alarm(number))


def numbers(raw: bytes) -> list[int]:
    return [data["id"] for kind, _, data in parse(raw) if kind == "alarm"]


def small(building: Building, **bounds: Any) -> LiveStream:
    return LiveStream(building.live, "run1", **bounds)


def test_a_client_resumes_behind_the_last_it_has_seen(building: Building) -> None:
    told(building.stream, 5)
    first = watch(building.stream, None, None, "run1-0")
    seen = parse(first.take())
    again = watch(building.stream, None, None, seen[2][1])
    assert numbers(again.take()) == [4, 5]


@pytest.mark.parametrize("last", ["run0-3", "run1-9", "run1-", "run1--1", "-", "", "x" * 500, "run1-٣", "run1-1e0"])
def test_an_id_of_another_run_or_of_none_is_answered_with_a_resync(building: Building, last: str) -> None:
    told(building.stream, 5)
    watcher = watch(building.stream, None, None, last)
    [(kind, id_, data)] = parse(watcher.take())
    assert (kind, id_, data) == ("resync", "run1-5", {"why": "restarted"})
    told(building.stream, 1, 6)
    assert numbers(watcher.take()) == [6]


@pytest.mark.parametrize("bounds", [{"kept": 3}, {"kept_bytes": 500}])
def test_who_is_further_behind_than_is_kept_is_told_to_ask_again(building: Building, bounds: dict[str, int]) -> None:
    stream = small(building, **bounds)
    slow = watch(stream)
    told(stream, 10)
    assert [(kind, data) for kind, _, data in parse(slow.take())] == [("resync", {"why": "behind"})]
    told(stream, 1, 11)
    assert numbers(slow.take()) == [11]


def test_nothing_is_resumed_that_is_older_than_minutes(building: Building) -> None:
    """Else whoever connects with an old id in the morning would read when each passed in the night."""
    stream = building.stream
    told(stream, 2)
    building.clock.at += timedelta(seconds=KEPT_S + 1)
    told(stream, 1, 3)
    assert [kind for kind, _, _ in parse(watch(stream, None, None, "run1-0").take())] == ["resync"]
    assert numbers(watch(stream, None, None, "run1-2").take()) == [3]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.one_of(st.integers(1, 6), st.just("take"), st.just("reconnect")), max_size=40),
    kept=st.integers(1, 12),
)
def test_a_watcher_has_seen_everything_in_order_or_was_told_of_the_hole(
    building: Building, steps: list[int | str], kept: int
) -> None:
    stream = small(building, kept=kept)
    watcher, last, expected, count = watch(stream), "run1-0", 1, 0

    def take() -> None:
        nonlocal expected, last
        for kind, id_, data in parse(watcher.take()):
            last = id_
            if kind == "resync":
                expected = count + 1
            else:
                assert data["id"] == expected
                expected += 1

    for step in [*steps, "take", "take"]:
        if isinstance(step, int):
            told(stream, step, count + 1)
            count += step
        elif step == "take":
            take()
        else:
            stream.leave(watcher)
            watcher = watch(stream, None, None, last)
        assert stream.ring.end - stream.ring.first <= kept
        assert stream.ring.size == sum(len(stream.ring[at].raw) for at in range(stream.ring.first, stream.ring.end))
    assert expected == count + 1


def test_watchers_are_bounded_and_one_that_leaves_makes_room(building: Building) -> None:
    watchers = [watch(building.stream) for _ in range(MAX_WATCHERS)]
    assert building.stream.watch() is None
    building.stream.leave(watchers[0])
    watch(building.stream)


async def test_a_quiet_stream_says_that_it_lives_and_where_to_resume(building: Building) -> None:
    watcher = watch(building.stream, ["alarm"])
    chunks = watcher.chunks(idle_s=0.001)
    assert await anext(chunks) == b"retry: 2000\nid: run1-0\n\n"
    building.feed("gate-1", online=Online(True, "b1").encode())  # of a type that is not wanted
    async with asyncio.timeout(WITHIN_S):
        assert await anext(chunks) == b": idle\nid: run1-1\n\n"
    building.stream.close()
    assert [chunk async for chunk in chunks] == []


# Over HTTP


class Site:
    def __init__(self, building: Building) -> None:
        self.building = building
        self.server = web.server(building.app)
        self.sock = web.listen("127.0.0.1", 0)
        self.port = self.sock.getsockname()[1]

    async def open(self, query: str = "", **headers: str) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter]:
        """Status, and the connection behind the answer's head."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"GET /api/v1/stream{query} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        async with asyncio.timeout(WITHIN_S):
            head = await reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1]), reader, writer


@pytest.fixture
async def site(building: Building) -> AsyncIterator[Site]:
    site = Site(building)
    task = asyncio.create_task(site.server.serve([site.sock]))
    yield site
    building.stream.close()
    site.server.should_exit = True
    async with asyncio.timeout(WITHIN_S):
        await task
    site.sock.close()


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not check():  # noqa: ASYNC110  any condition, on either side
            await asyncio.sleep(0.005)


async def test_a_committed_event_reaches_a_connection_and_an_ended_one_gives_its_place_back(
    site: Site, journal: Journal
) -> None:
    status, reader, writer = await site.open()
    assert status == 200
    await until(lambda: site.building.stream.watching == 1)
    site.building.feed("gate-1", journal.write(1, kind=Kind.DOOR_MODE))
    async with asyncio.timeout(WITHIN_S):
        await reader.readuntil(b"event: event\nid: run1-1\ndata: ")
    writer.close()
    await until(lambda: site.building.stream.watching == 0)


async def test_a_connection_resumes_by_last_event_id(site: Site) -> None:
    told(site.building.stream, 3)
    _, reader, writer = await site.open(**{"Last-Event-ID": "run1-2"})
    async with asyncio.timeout(WITHIN_S):
        found = await reader.readuntil(b'"id": 3')
    assert b'"id": 2' not in found
    writer.close()


async def test_one_that_does_not_read_holds_up_nobody_and_is_told_of_the_hole(site: Site, journal: Journal) -> None:
    _, slow, stuck = await site.open()
    await until(lambda: site.building.stream.watching == 1)
    stream = site.building.stream
    for number in range(60):  # 20 MB: more than the ring, and than any buffer of a connection holds
        for _ in range(70):
            stream.alarms(alarm(number, text="x" * 5000))
        await asyncio.sleep(0)
    assert stream.ring.size <= stream_module.KEPT_BYTES
    _, reader, writer = await site.open("?type=event")
    await until(lambda: stream.watching == 2)
    site.building.feed("gate-1", journal.write(1, kind=Kind.DOOR_MODE))
    async with asyncio.timeout(WITHIN_S):
        await reader.readuntil(b"door.mode")
        await drain(slow)
    for each in (writer, stuck):
        each.close()


async def test_one_that_takes_nothing_for_long_loses_its_place(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.stream_api.STUCK_S", 0.05)
    _, _, stuck = await site.open()
    stream = site.building.stream
    await until(lambda: stream.watching == 1)
    (watcher,) = stream._watchers
    while stream.watching:  # until every buffer on the way is full
        for number in range(100):
            stream.alarms(alarm(number, text="x" * 5000))
        await until(lambda: watcher.at == stream.ring.end or not stream.watching)
    stuck.close()


async def drain(reader: asyncio.StreamReader) -> None:
    """Read on until the hole is told."""
    tail = b""
    while b"event: resync" not in tail:
        tail = tail[-20:] + await reader.read(1 << 20)


async def test_too_many_watchers_are_told_to_come_later(site: Site) -> None:
    for _ in range(MAX_WATCHERS):
        watch(site.building.stream)
    status, _, writer = await site.open()
    assert status == 503
    writer.close()


async def test_a_wrong_filter_is_refused(site: Site) -> None:
    for query in ("?type=door", "?gate=a%20b", "?since=x", "?type="):
        status, _, writer = await site.open(query)
        assert status == 400
        writer.close()


async def test_every_stream_ends_in_time_when_the_controller_stops(site: Site) -> None:
    connections = [await site.open() for _ in range(5)]
    await until(lambda: site.building.stream.watching == 5)
    site.building.stream.close()
    site.server.should_exit = True
    async with asyncio.timeout(web.GRACE_S + WITHIN_S):
        for _, reader, writer in connections:
            assert b"retry" in await reader.read()
            writer.close()
