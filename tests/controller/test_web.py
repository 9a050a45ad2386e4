"""The live page over real HTTP on a loopback port."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from controller import web
from controller.alarm_kinds import Severity
from controller.alarm_rows import ACKNOWLEDGED, CLEARED, RAISED
from controller.live import Live
from controller.pages import SHOWN_ALARMS, Condition, Pages
from controller.sorting import sort
from controller.store import Store
from controller.wording import ALARM_STATES, CLOCKS, KINDS, LANGUAGES, SEVERITIES, STATES, TEXTS
from policy.reasons import WORDING, Reason
from policy.situation import ClockQuality
from protocol import topics
from protocol.command import Operator
from protocol.events import Kind
from protocol.health import Health
from protocol.status import GateState, LaneState, LaneStatus, Online
from tests.controller.conftest import OnThatDay


def nobody(_gate: str) -> None:
    """No gate is enrolled."""


WITHIN_S = 10


@dataclass(frozen=True, slots=True)
class Sent:
    topic: str
    payload: bytes


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: str


class Site:
    def __init__(self, store: Store) -> None:
        self.store, self.condition = store, Condition(True, True)
        self.live = Live(OnThatDay(), ZoneInfo("Asia/Seoul"))

        pages = Pages(self.live, "hq", lambda: self.condition)
        site = web.Web(live=self.live, pages=pages, condition=lambda: self.condition)
        self.server = web.server(site.app)
        self.sock = web.listen("127.0.0.1", 0)
        self.port = self.sock.getsockname()[1]

    def feed(self, *messages: tuple[str, bytes]) -> None:
        done = sort([Sent(topic, payload) for topic, payload in messages], "hq", nobody)
        self.live.apply(done, self.store.commit(done.batch, OnThatDay().now()))

    async def open(
        self, target: str, host: str | None = None, method: str = "GET", **headers: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host if host is not None else f'127.0.0.1:{self.port}'}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        return reader, writer

    async def get(self, target: str, host: str | None = None, method: str = "GET", **headers: str) -> Answer:
        async with asyncio.timeout(WITHIN_S):
            reader, writer = await self.open(target, host, method, Connection="close", **headers)
            raw = await reader.read()
            writer.close()
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
        return Answer(int(first.split()[1]), fields, body.decode())


@pytest.fixture
async def site(store: Store) -> AsyncIterator[Site]:
    site = Site(store)
    tasks = [asyncio.create_task(site.server.serve([site.sock])), asyncio.create_task(site.live.run())]
    yield site
    site.live.close()
    site.server.should_exit = True
    async with asyncio.timeout(WITHIN_S):
        await tasks[0]
    tasks[1].cancel()
    site.sock.close()


def messages(journal: Any) -> list[tuple[str, bytes]]:
    evt, gate = topics.event("hq", "gate-1"), "gate-1"
    records = [
        *(journal.write(1, kind=kind)[0] for kind in Kind),  # more than the page shows; what follows is the newest
        *journal.write(1, attempt="a1", lat_ms={"ours": 4.25}),
        *journal.write(1, kind=Kind.ACCESS_DENIED, lane="l2", reason="revoked", carrier="nfc"),
        *journal.write(1, kind=Kind.ACCESS_UNREADABLE, count=12),
    ]
    lanes = tuple(LaneStatus(f"l{n}", "in", state) for n, state in enumerate(LaneState, 1))
    return [
        *((evt, record) for record in records),
        (topics.state("hq", gate), GateState("b1", "e1", 1, lanes).encode()),
        (topics.online("hq", gate), Online(True, "b1").encode()),
        (
            topics.health("hq", gate),
            Health("b1", "0.1", 5, ClockQuality.HOLDOVER, 3, 4, "v9", ("camera.hall",)).encode(),
        ),
    ]


async def test_the_page_is_korean_first(site: Site, journal: Any) -> None:
    site.feed(*messages(journal))
    answer = await site.get("/")
    assert answer.status == 200
    assert '<html lang="ko">' in answer.body
    for shown in ("출입 허가", "폐지된 신분증입니다", "4.2 ms", "침입 경보", "camera.hall", "NFC", "×12", "유지 중"):
        assert shown in answer.body, shown
    assert "set-cookie" not in answer.headers


async def test_english_is_one_link_away_and_remembered(site: Site, journal: Any) -> None:
    site.feed(*messages(journal))
    assert 'href="/?lang=en"' in (await site.get("/")).body
    answer = await site.get("/?lang=en")
    assert '<html lang="en">' in answer.body
    assert "Credential has been revoked" in answer.body
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("lang=en;")
    assert '<html lang="en">' in (await site.get("/", Cookie="lang=en")).body
    assert '<html lang="ko">' in (await site.get("/?lang=ko", Cookie="lang=en")).body


@pytest.mark.parametrize("lang", ["fr", "", "en%0d%0aX: y", "../../x", "en;"])
async def test_another_language_is_korean_and_sets_nothing(site: Site, lang: str) -> None:
    answer = await site.get(f"/?lang={lang}".replace(" ", "%20"))
    assert '<html lang="ko">' in answer.body
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "host",
    ["gate.example", "127.0.0.1.example:80", "evil@127.0.0.1", "localhost.", "", "127.0.0.1:x", "10.0.0.1", "[::2]"],
)
async def test_a_foreign_host_header_is_refused(site: Site, host: str) -> None:
    """DNS rebinding: a name that resolves to 127.0.0.1 must not read the page."""
    for target in ("/", "/live", "/healthz", "/static/app.js"):
        answer = await site.get(target, host=host)
        assert answer.status == 421
        assert "gate-1" not in answer.body


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:8080", "[::1]", "[::1]:8080"])
async def test_loopback_names_are_accepted(site: Site, host: str) -> None:
    assert (await site.get("/healthz", host=host)).status == 200


@pytest.mark.parametrize("target", ["/", "/healthz", "/static/app.css", "/static/../config.py", "/nowhere"])
async def test_every_answer_carries_the_security_headers(site: Site, target: str) -> None:
    headers = (await site.get(target)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    for name in web.HEADERS:
        assert name.lower() in headers, name
    assert "server" not in headers


async def test_no_inline_script_style_or_foreign_address(site: Site, journal: Any) -> None:
    site.feed(*messages(journal))
    for path in ("/", "/static/app.css", "/static/app.js"):
        body = (await site.get(path)).body
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=|<style", body), path
        assert not re.search(r"(?:src|href|url\()\s*=?\s*[\"'(]?\s*(?:https?:)?//", body), path


async def test_files_outside_static_are_not_served(site: Site) -> None:
    for target in ("/static/../web.py", "/static/%2e%2e/web.py", "/static/..%2fweb.py"):
        assert (await site.get(target)).status == 404


async def test_only_reading_is_allowed(site: Site) -> None:
    for method in ("POST", "PUT", "DELETE"):
        for target in ("/", "/healthz", "/live"):
            assert (await site.get(target, method=method)).status == 405


async def test_everything_from_outside_is_escaped(site: Site, journal: Any) -> None:
    hostile = "<script>alert(1)</script>"
    site.feed(
        (topics.event("hq", "gate-1"), journal.write(1, kind=Kind.DEVICE_DEGRADED, device=hostile)[0]),
        (topics.event("hq", "gate-1"), journal.write(1, kind=Kind.ACCESS_DENIED, reason=hostile, carrier=hostile)[0]),
    )
    body = (await site.get("/")).body
    assert hostile not in body
    assert "&lt;script&gt;" in body


async def read_event(reader: asyncio.StreamReader, name: str) -> dict[str, Any]:
    """The data of the next server-sent event of this name."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            line = (await reader.readline()).decode().strip()
            if line == f"event: {name}":
                data = (await reader.readline()).decode().strip()
                loaded: dict[str, Any] = json.loads(data.removeprefix("data: "))
                return loaded


@pytest.mark.parametrize(("language", "word"), [("ko", "출입 허가"), ("en", "Granted")])
async def test_an_event_reaches_the_page_live(site: Site, journal: Any, language: str, word: str) -> None:
    reader, writer = await site.open(f"/live?lang={language}")
    everything = await read_event(reader, "all")
    assert 'id="lanes"' in everything["main"]
    site.feed((topics.event("hq", "gate-1"), journal.write(1)[0]))
    part = await read_event(reader, "part")
    assert word in part["events"][0]
    assert word in part["lanes"]["lane:gate-1/l1"]
    assert "gate:gate-1" in part["gates"]
    assert ">1<" in part["summary"]
    writer.close()


async def test_a_viewer_who_leaves_makes_room(site: Site) -> None:
    reader, writer = await site.open("/live")
    await read_event(reader, "all")
    assert len(site.live._watchers) == 1
    writer.close()
    async with asyncio.timeout(WITHIN_S):
        while site.live._watchers:
            site.live.touch()
            await asyncio.sleep(0.01)


async def test_too_many_viewers_are_told_to_come_later(site: Site) -> None:
    while site.live.watch() is not None:
        pass
    answer = await site.get("/live")
    assert (answer.status, answer.headers["retry-after"]) == (503, "30")


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("ko", ("위급 · 훼손 감지", "진행 중, 미확인", "함체와 배선")),
        ("en", ("Critical · Tamper", "Going on", "the housing")),
    ],
)
async def test_an_alarm_reaches_the_page_live_with_what_to_do_and_goes_when_it_is_closed(
    site: Site, journal: Any, language: str, words: tuple[str, ...]
) -> None:
    reader, writer = await site.open(f"/live?lang={language}")
    assert 'id="alarms"' in (await read_event(reader, "all"))["main"]
    site.feed((topics.event("hq", "gate-1"), journal.write(1, Kind.ALARM_TAMPER)[0]))
    part = await read_event(reader, "part")
    for word in words:
        assert word in part["alarms"]
    assert words[0].split(" · ")[1] in part["gates"]["gate:gate-1"]
    assert words[0].split(" · ")[0] in part["open"]
    site.feed((topics.event("hq", "gate-1"), journal.write(1)[0]))
    assert (await read_event(reader, "part"))["alarms"] is None
    site.feed((topics.event("hq", "gate-1"), journal.write(1, Kind.ALARM_TAMPER_CLEARED)[0]))
    await read_event(reader, "part")
    site.live.apply_alarms(site.store.alarm_book.acknowledge(1, Operator("Kim", "guard"), OnThatDay().now())[1].rows)
    part = await read_event(reader, "part")
    assert part["alarms"].strip() == part["open"].strip() == ""
    writer.close()


async def test_the_page_shows_the_worst_alarms_and_says_how_many_more_there_are(site: Site, journal: Any) -> None:
    records = [journal.write(1, Kind.ALARM_LOITER, lane=f"l{n}")[0] for n in range(SHOWN_ALARMS + 2)]
    records += journal.write(1, Kind.ALARM_FORCED)
    site.feed(*((topics.event("hq", "gate-1"), record) for record in records))
    body = (await site.get("/")).body
    assert body.count('id="alarm:') == SHOWN_ALARMS
    assert "그 밖에 3건" in body
    assert body.index("강제 진입") < body.index("통로 앞 머무름")


async def test_healthz_says_what_is_missing(site: Site) -> None:
    assert (await site.get("/healthz")).status == 200
    site.condition = Condition(False, True)
    answer = await site.get("/healthz")
    assert (answer.status, json.loads(answer.body)) == (503, {"broker": False, "store": True})
    assert "브로커에 연결되지 않음" in (await site.get("/")).body


def test_every_event_and_state_has_words_and_a_sign() -> None:
    assert list(KINDS) == list(Kind)
    assert list(STATES) == list(LaneState)
    assert list(CLOCKS) == list(ClockQuality)
    assert list(SEVERITIES) == list(Severity)
    assert list(ALARM_STATES) == [RAISED, ACKNOWLEDGED, CLEARED]
    for label in (*KINDS.values(), *STATES.values(), *CLOCKS.values(), *SEVERITIES.values(), *ALARM_STATES.values()):
        assert label.sign and label.ko and label.en, label  # noqa: PT018  # one claim: the row is complete


def test_every_text_is_there_in_both_languages_and_every_reason_has_words() -> None:
    assert all(len(pair) == len(LANGUAGES) and all(pair) for pair in TEXTS.values())
    assert set(WORDING) == set(Reason)
