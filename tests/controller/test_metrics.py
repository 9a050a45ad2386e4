"""GET /metrics: every metric is documented and parses, and none tells when somebody walked."""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from controller.alarm_kinds import Category
from controller.ingest import Figures, StoreThread
from controller.live import Live
from controller.metric_families import FAMILIES
from controller.metric_gates import STANDING
from controller.metric_process import put_process
from controller.metric_sheet import Sheet, written
from controller.metrics import MIN_COMMITS, Metrics
from controller.pages import Condition
from controller.sorting import sort
from controller.store import Store
from controller.webhook_post import Answer, Outcome
from controller.webhook_settings import Webhook
from controller.webhooks import Sender
from policy.situation import ClockQuality
from protocol import topics
from protocol.events import TIMED, Kind
from protocol.health import EXPIRY_S, CameraHealth, Health
from protocol.status import GateState, LaneState, LaneStatus, Online
from tests.controller.conftest import SEOUL, SITE, START, Journal, Sent
from tests.controller.receiver import Held

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
QUARTER = timedelta(minutes=15)
CAMERA = CameraHealth("camera.hall", 15, 8, 6, 1, 4000, 9000, ("gain",))


class NoTroubles:
    async def trouble(self, kind: str, detail: str, *, holds: bool) -> None:
        raise AssertionError((kind, detail, holds))


class Site:
    def __init__(self, store: Store, database: Path) -> None:
        self.store, self.clock = store, Held(START + timedelta(hours=1))
        self.live = Live(self.clock, SEOUL)
        self.figures, self.busy = Figures(), None
        self.senders: list[Sender] = []
        self.metrics = Metrics(
            self.live,
            database=database,
            version="0.1",
            condition=lambda: Condition(True, True),
            figures=lambda: self.figures,
            busy_since=lambda: self.busy,
            senders=lambda: self.senders,
        )

    def feed(self, *messages: tuple[str, bytes]) -> None:
        """What ingest does with one batch."""
        done = sort([Sent(topic, payload) for topic, payload in messages], SITE, lambda _: None)
        committed = self.store.commit(done.batch, self.clock.now())
        self.live.apply(done, committed)
        self.metrics.on_commit(0.004, len(messages))
        self.metrics.on_batch(done, committed)

    def pass_(self, time: timedelta) -> None:
        self.clock.moment += time

    async def text(self, accept: str = "") -> str:
        self.clock.moment += timedelta(seconds=1)  # none is younger than a second
        return (await self.metrics.text(accept))[0].decode()

    async def lines(self) -> list[str]:
        """Without comments and without what the operating system says of this process."""
        text = await self.text()
        return [line for line in text.splitlines() if not line.startswith(("#", "process_"))]

    async def value(self, series: str) -> float | None:
        found = [line for line in await self.lines() if line.rpartition(" ")[0] == series]
        return float(found[0].rpartition(" ")[2]) if found else None


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Site:
    return Site(store, tmp_path / "controller.db")


def health(gate: str = "gate-1", **changes: Any) -> tuple[str, bytes]:
    body: dict[str, Any] = {
        "boot": "b1",
        "version": "0.1",
        "uptime_s": 77,
        "clock": ClockQuality.SYNCED,
        "outbox": 0,
        "outbox_age_s": 0,
        "trust": "v9",
        "disk_free_mb": 2048,
        "rss_mb": 64,
        "cameras": (CAMERA,),
        **changes,
    }
    return topics.health(SITE, gate), Health(**body).encode()


def state(lane: LaneState, gate: str = "gate-1", seq: int = 0) -> tuple[str, bytes]:
    return topics.state(SITE, gate), GateState("b1", "e1", seq, (LaneStatus("l1", "in", lane, ("nfc",)),)).encode()


def online(gate: str = "gate-1", *, is_online: bool = True) -> tuple[str, bytes]:
    return topics.online(SITE, gate), Online(is_online, "b1").encode()


def events(records: Iterable[bytes], gate: str = "gate-1") -> list[tuple[str, bytes]]:
    return [(topics.event(SITE, gate), record) for record in records]


def walk(journal: Journal) -> list[tuple[str, bytes]]:
    """All that the passage of one person makes a gate send."""
    attempt = {"attempt": f"a{len(journal.records)}"}
    return [
        *events(journal.write(1, Kind.ACCESS_GRANTED, lat_ms={"ours": 4.0}, **attempt)),
        state(LaneState.GRANTED, seq=len(journal.records)),
        *events(journal.write(1, Kind.LANE_OPENED, lat_ms={"ours": 9.0}, **attempt)),
        state(LaneState.PASSING, seq=len(journal.records)),
        *events(journal.write(1, Kind.PASSAGE_COMPLETED, **attempt)),
        state(LaneState.SECURED, seq=len(journal.records)),
    ]


def whole(site: Site, journal: Journal, database: Path) -> None:
    """Something of everything."""
    site.feed(online(), health(), state(LaneState.SECURED))
    for _ in range(6):
        site.feed(*walk(journal))
    for _ in range(MIN_COMMITS):
        site.feed(health())
    site.feed(*events(journal.write(1, Kind.ACCESS_DENIED, reason="revoked", count=3)))
    site.feed(*events(journal.write(100, Kind.DEVICE_DEGRADED)))
    hook = Webhook("room", "https://r.example", database, frozenset(Category), "warning", None, 10, 86400)

    async def post(_message: object) -> Answer:
        return Answer(Outcome.DELIVERED, "")

    site.senders.append(
        Sender(
            hook,
            site=SITE,
            rows=site.store.webhooks,
            thread=StoreThread(),
            post=post,
            clock=site.clock,
            random=Random(1),
            troubles=NoTroubles(),
        )
    )
    site.store.webhooks.begin("room")
    with sqlite3.connect(database) as db:
        db.execute("INSERT INTO deletions VALUES (1, '2026-11-24T03:00:00.000Z', 'events', '', 1, '', '', '')")
        db.execute(
            "INSERT INTO alarm_states (gate, lane, kind, detail, severity, epoch, seq, count, raised, last, "
            "occurred, level) VALUES ('gate-1', 'l1', 'alarm.forced', '', 'critical', 'e1', 1, 1, 't', 't', 't', 0)"
        )
        db.execute("INSERT INTO alarm_changes (alarm, time, change, body) VALUES (1, 't', 'raised', '{}')")
    db.close()
    site.pass_(QUARTER)
    site.feed(online(), health(), state(LaneState.SECURED, seq=len(journal.records)))


async def test_every_metric_is_shown_and_parses_in_both_forms(site: Site, journal: Journal, tmp_path: Path) -> None:
    whole(site, journal, tmp_path / "controller.db")
    expected = {family.name: (family.type, family.help) for family in FAMILIES}
    families = parse_openmetrics(await site.text(OPENMETRICS))  # type: ignore[no-untyped-call]  # the library's own
    found = {each.name: each for each in families}
    assert {name: (each.type, each.documentation) for name, each in found.items() if name in expected} == expected
    plain = {sample.name for each in parse_text(await site.text()) for sample in each.samples}
    for family in FAMILIES:
        assert family.shown in plain, family.name
    for name, each in found.items():
        labels = {family.name: set(family.labels) for family in FAMILIES}.get(name)
        assert labels is None or all(set(sample.labels) == labels for sample in each.samples), name
        series = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in each.samples]
        assert len(series) == len(set(series)), name


def test_names_follow_prometheus_conventions() -> None:
    for family in FAMILIES:
        assert family.name.startswith(("gwanmun_", "process_"))
        assert not family.name.endswith(("_total", "_info", "_ms", "_mb", "_percent", "_count", "_sum", "_bucket")), (
            family
        )
        assert family.ko
        assert family.en
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


async def test_values_are_what_was_reported(site: Site, journal: Journal, tmp_path: Path) -> None:
    whole(site, journal, tmp_path / "controller.db")
    expected = {
        'gwanmun_build_info{version="0.1"}': 1,
        'gwanmun_gate_online{gate="gate-1"}': 1,
        'gwanmun_gate_info{gate="gate-1",trust="v9",version="0.1"}': 1,
        'gwanmun_gate_uptime_seconds{gate="gate-1"}': 77,
        'gwanmun_gate_clock{gate="gate-1",quality="synced"}': 1,
        'gwanmun_gate_disk_free_bytes{gate="gate-1"}': 2048 * 1024 * 1024,
        'gwanmun_gate_resident_memory_bytes{gate="gate-1"}': 64 * 1024 * 1024,
        'gwanmun_lane_state{dir="in",gate="gate-1",lane="l1",state="in_service"}': 1,
        'gwanmun_lane_degraded{dir="in",gate="gate-1",lane="l1"}': 1,
        'gwanmun_camera_read_ratio{camera="camera.hall",gate="gate-1"}': 0.75,
        'gwanmun_camera_decode_mean_seconds{camera="camera.hall",gate="gate-1"}': 0.004,
        'gwanmun_camera_decode_p95_seconds{camera="camera.hall",gate="gate-1"}': 0.009,
        'gwanmun_camera_frames_per_second{camera="camera.hall",gate="gate-1"}': 15,
        "gwanmun_passages_total": 6,
        'gwanmun_events_total{kind="access.denied"}': 1,
        'gwanmun_refusals_total{reason="revoked"}': 3,
        'gwanmun_decision_seconds{carrier="qr",quantile="0.99"}': 0.004,
        'gwanmun_store_commit_seconds{quantile="0.95"}': 0.004,
        'gwanmun_alarms{acknowledged="false",severity="critical"}': 1,
        'gwanmun_alarms{acknowledged="true",severity="critical"}': 0,
        'gwanmun_webhook_waiting{webhook="room"}': 1,
        "gwanmun_store_readable": 1,
    }
    lines = dict(line.rpartition(" ")[::2] for line in await site.lines())
    assert {series: float(lines[series]) for series in expected} == expected


async def test_up_to_four_passages_change_no_line(tmp_path: Path) -> None:
    """Whoever reads the metrics of two buildings, however often, cannot say in which of them somebody has walked."""
    texts: list[list[list[str]]] = []
    for walks in (0, 1, 4):
        database = tmp_path / f"walks-{walks}.db"
        store = Store(database, SEOUL)
        site, journal = Site(store, database), Journal()
        site.feed(online(), health(), state(LaneState.SECURED))
        scrapes = [await site.lines()]
        for at in range(4):
            site.feed(health())
            for message in walk(journal):
                if at < walks:
                    site.feed(message)
                scrapes.append(await site.lines())
        for _ in range(3):  # quarters go by
            site.pass_(QUARTER)
            for _ in range(30):
                site.feed(health())
            scrapes.append(await site.lines())
        store.close()
        # What other programs leave of the disk is not of this building.
        texts.append([[line for line in each if "disk_free" not in line] for each in scrapes])
    assert texts[0] == texts[1] == texts[2]


async def test_a_passage_moves_no_quantile_of_a_busy_quarter(tmp_path: Path) -> None:
    texts: list[list[str]] = []
    for walks in (0, 1):
        database = tmp_path / f"walks-{walks}.db"
        store = Store(database, SEOUL)
        site, journal = Site(store, database), Journal()
        site.feed(online(), health(), state(LaneState.SECURED))
        for _ in range(MIN_COMMITS):
            site.feed(health())
        for _ in range(walks):
            site.feed(*walk(journal))  # in one transaction: a batch of six
        site.pass_(QUARTER)
        site.feed(health())
        texts.append([line for line in await site.lines() if "disk_free" not in line])
        store.close()
    assert texts[0] == texts[1]
    assert 'gwanmun_store_batch_messages{quantile="0.95"} 1.0' in texts[0]


async def test_passages_are_counted_in_the_end(site: Site, journal: Journal) -> None:
    series = "gwanmun_passages_total"
    for _ in range(4):
        site.feed(*walk(journal))
    site.pass_(QUARTER)
    assert await site.value(series) == 0
    site.feed(*walk(journal))
    assert await site.value(series) == 0  # five, in a quarter that is not over
    site.pass_(QUARTER)
    assert await site.value(series) == 5


async def test_no_kind_that_tells_of_a_walk_is_counted_by_name(site: Site, journal: Journal) -> None:
    for kind in Kind:
        site.feed(*events(journal.write(10, kind)))
    new = (
        record.replace(b'"gwanmun.gate.boot"', b'"gwanmun.gate.waved"')
        for record in journal.write(9, Kind.GATE_BOOT, v=3)
    )
    site.feed(*events(new))
    site.pass_(QUARTER)
    told = {line.split('"')[1] for line in await site.lines() if line.startswith("gwanmun_events_total")}
    assert told == set(map(str, Kind)) - TIMED


@pytest.mark.parametrize("lane", list(LaneState))
async def test_a_lane_that_opens_for_somebody_is_in_service(site: Site, lane: LaneState) -> None:
    site.feed(state(lane))
    opening = {LaneState.SECURED, LaneState.GRANTED, LaneState.PASSING, LaneState.EGRESS}
    shown = "in_service" if lane in opening else lane.value
    assert STANDING[lane] == shown
    assert await site.value(f'gwanmun_lane_state{{dir="in",gate="gate-1",lane="l1",state="{shown}"}}') == 1
    assert sum(line.startswith("gwanmun_lane_state{") for line in await site.lines()) == 1


@pytest.mark.parametrize(
    ("outbox", "age", "shown"), [(3, 0, (0, 0)), (3, 59, (0, 0)), (3, 60, (3, 60)), (0, 0, (0, 0))]
)
async def test_an_outbox_shows_once_it_is_a_minute_behind(
    site: Site, outbox: int, age: int, shown: tuple[int, int]
) -> None:
    site.feed(health(outbox=outbox, outbox_age_s=age))
    assert await site.value('gwanmun_gate_outbox_records{gate="gate-1"}') == shown[0]
    assert await site.value('gwanmun_gate_outbox_age_seconds{gate="gate-1"}') == shown[1]


async def test_a_gate_that_is_silent_shows_its_age_and_no_old_health(site: Site) -> None:
    site.feed(online(), health())
    site.pass_(timedelta(seconds=EXPIRY_S + 30))
    lines = await site.lines()
    of_gate = {line.partition("{")[0] for line in lines if 'gate="gate-1"' in line}
    assert of_gate == {
        "gwanmun_gate_online",
        "gwanmun_gate_last_seen_age_seconds",
        "gwanmun_gate_record_alarms",
    }
    assert await site.value('gwanmun_gate_last_seen_age_seconds{gate="gate-1"}') == 120
    site.feed(online(is_online=False))
    assert await site.value('gwanmun_gate_online{gate="gate-1"}') == 0


async def test_a_camera_that_is_named_twice_is_one_series(site: Site) -> None:
    site.feed(health(cameras=(CAMERA, CAMERA)))
    assert sum(line.startswith("gwanmun_camera_frames_per_second{") for line in await site.lines()) == 1


async def test_labels_of_what_gates_send_cannot_break_the_text(site: Site, journal: Journal) -> None:
    nasty = 'x"} 1\ngwanmun_evil{a="'
    site.feed(*events(journal.write(1, Kind.ACCESS_DENIED, reason=nasty, carrier=nasty, lat_ms={"ours": 1.0})))
    assert await site.value('gwanmun_refusals_total{reason="other"}') == 1
    assert "evil" not in await site.text()


async def test_a_store_that_cannot_be_read_fails_no_scrape(site: Site, tmp_path: Path) -> None:
    site.metrics._database = tmp_path / "none.db"
    assert await site.value("gwanmun_store_readable") == 0
    assert await site.value("gwanmun_broker_connected") == 1
    assert not (tmp_path / "none.db").exists()


async def test_scrapes_within_a_second_share_one_text(site: Site) -> None:
    first = await site.metrics.text("")
    site.feed(online())
    assert await site.metrics.text("") == first
    assert (await site.metrics.text(OPENMETRICS))[1].startswith("application/openmetrics-text")
    site.pass_(timedelta(seconds=1))
    assert await site.metrics.text("") != first


def gate_report(gate: str) -> list[tuple[str, bytes]]:
    cameras = tuple(CameraHealth(f"camera.{side}", 15, 3, 2, 1, 4000, 9000) for side in ("in", "out"))
    lanes = tuple(LaneStatus(f"l{n}", "in" if n % 2 else "out", LaneState.SECURED) for n in (1, 2))
    return [
        online(gate),
        health(gate, cameras=cameras),
        (topics.state(SITE, gate), GateState("b1", "e1", 0, lanes).encode()),
    ]


async def test_four_hundred_gates_stay_within_bounds(site: Site) -> None:
    for n in range(400):
        site.feed(*gate_report(f"gate-{n}"))
    for _ in range(15):
        for n in range(400):
            site.feed(gate_report(f"gate-{n}")[1])
    site.pass_(QUARTER)
    site.feed(*(gate_report(f"gate-{n}")[1] for n in range(400)))
    text = await site.text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    # Eleven of a gate, two of each lane, five of each camera; and the controller's own.
    assert len(lines) == pytest.approx(400 * (11 + 2 * 2 + 2 * 5), abs=300)
    assert len(text) < 1_500_000


async def test_a_running_controller_answers(run_controller: Callable[[], Any]) -> None:
    controller = await run_controller()

    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{controller.url}metrics")
    media_type, text = answer.headers["content-type"], answer.text
    assert media_type.startswith("text/plain; version=0.0.4")
    found = {sample.name for family in parse_text(text) for sample in family.samples}
    assert {"gwanmun_broker_connected", "gwanmun_build_info", "gwanmun_store_size_bytes"} <= found


def test_the_process_tells_of_itself_where_it_sees_nothing_but_itself(tmp_path: Path) -> None:
    """As under ProcSubset=pid: there is no /proc/stat, and the program's name may hold anything."""
    (tmp_path / "fd").mkdir()
    (tmp_path / "fd" / "0").touch()
    fields = ["S", *(str(n) for n in range(4, 53))]
    (tmp_path / "stat").write_text(f"17 (python) S (x) {' '.join(fields)}\n")
    sheet = Sheet()
    put_process(sheet, START, tmp_path)
    text = written(sheet, "")[0].decode()
    values = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if not line.startswith("#")}
    assert values["process_cpu_seconds_total"] == (14 + 15) / os.sysconf("SC_CLK_TCK")
    assert values["process_virtual_memory_bytes"] == 23
    assert values["process_resident_memory_bytes"] == 24 * resource.getpagesize()
    assert values["process_open_fds"] == 1
    assert values["process_start_time_seconds"] == START.timestamp()
    empty = Sheet()
    put_process(empty, START, tmp_path / "none")
    assert len(list(empty.collect())) == 1
