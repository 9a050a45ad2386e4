"""Webhooks against a real receiver: in order, at least once over every kill, and never stuck for good."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import logging
import sqlite3
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from controller.alarm_kinds import Category
from controller.ingest import StoreThread
from controller.store import Store
from controller.webhook_message import Message
from controller.webhook_post import Answer, CaError, Post
from controller.webhook_settings import Webhook
from controller.webhooks import CAP_S, REFUSALS, Sender
from protocol.clock import rfc3339
from testbed.pki import DevicePki
from tests.controller import receiver
from tests.controller.conftest import START, WITHIN_S
from tests.controller.receiver import Behave, Held, Received, Receiver, answer

SECRET = bytes(range(32))
ATTEMPT_S = 0.2
"""An attempt that hangs takes this long."""


class Killed(BaseException):
    """The controller ends here."""


@dataclass
class Troubles:
    told: list[bool] = field(default_factory=list)

    async def trouble(self, kind: str, detail: str, *, holds: bool) -> None:
        assert kind == "controller.webhook"
        assert detail in {"room", "other"}
        self.told.append(holds)


def change(site: Site, count: int = 1, time: datetime = START, **body: Any) -> None:
    """What the alarms' part of a commit writes."""
    for _ in range(count):
        alarm = {
            "alarm": 1,
            "gate": "gate-1",
            "lane": "l1",
            "kind": "alarm.forced",
            "detail": "",
            "severity": "critical",
            "state": "raised",
            "count": 1,
            "raised": rfc3339(time),
            "last": rfc3339(time),
            **body,
        }
        site.db.execute(
            "INSERT INTO alarm_changes (alarm, time, change, body) VALUES (1,?,'raised',?)",
            (rfc3339(time), json.dumps(alarm)),
        )


class Site:
    """A store, a receiver, and a webhook that is started again and again."""

    def __init__(self, open_store: Callable[[], Store], database: Path, url: str) -> None:
        self._open_store = open_store
        self.store = open_store()
        self.db = sqlite3.connect(database, isolation_level=None)
        """The test's own: the store's belongs to its thread."""
        self.thread = StoreThread()
        self.clock, self.troubles = Held(), Troubles()
        self.hook = Webhook("room", url, Path("s.key"), frozenset(Category), "warning", None, ATTEMPT_S, 86400)
        self.post: Callable[[Message], Awaitable[Answer]] | None = None
        self._posts: list[Post] = []
        self._tasks: list[asyncio.Task[None]] = []

    def sender(self) -> Sender:
        post = Post(self.hook, [SECRET], self.clock)
        self._posts.append(post)
        return Sender(
            self.hook,
            site="hq",
            rows=self.store.webhooks,
            thread=self.thread,
            post=self.post or post,
            clock=self.clock,
            random=Random(1),
            troubles=self.troubles,
            sleep=self.clock.sleep,
        )

    async def start(self) -> Sender:
        """Running, and at its place."""
        sender = self.sender()
        self._tasks.append(asyncio.create_task(sender.run()))
        await self.until(lambda: self.row() is not None)
        return sender

    async def restart(self) -> None:
        """The database as the next start finds it."""
        await self.thread.call(self.store.close)
        self.store = self._open_store()

    def row(self) -> tuple[Any, ...] | None:
        found = self.db.execute(
            "SELECT change, attempts, due, failing, why, disabled FROM webhooks WHERE name = 'room'"
        ).fetchone()
        return None if found is None else tuple(found)

    def given_up(self) -> list[tuple[int, str]]:
        return list(self.db.execute("SELECT change, why FROM webhooks_given_up ORDER BY number").fetchall())

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not true():
                await self.thread.call(lambda: None)  # whatever the store's thread was asked before is done

    async def at(self, position: int) -> None:
        await self.until(lambda: (self.row() or (0,))[0] == position)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for post in self._posts:
            await post.close()
        self._tasks.clear()
        self._posts.clear()
        self.thread.shutdown()


@pytest.fixture
async def target() -> AsyncIterator[Receiver]:
    target = Receiver()
    await target.start()
    yield target
    await target.stop()


@pytest.fixture
async def site(open_store: Callable[[], Store], target: Receiver, tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(open_store, tmp_path / "controller.db", target.url)
    yield site
    await site.stop()
    site.db.close()


def numbers(received: list[Received]) -> list[int]:
    return [int(each.id.split("-")[1]) for each in received]


async def test_a_change_is_posted_and_its_signature_verifies(site: Site, target: Receiver) -> None:
    sender = await site.start()
    change(site)
    sender.wake()
    got = (await target.wait(1))[0]
    await site.at(1)
    # The few lines that a receiver needs.
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    expected = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"
    assert got.headers["webhook-timestamp"] == str(int(START.timestamp()))
    assert got.target == "POST /in HTTP/1.1"
    assert got.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert json.loads(got.body)["data"]["kind"] == "alarm.forced"


async def test_a_new_webhook_begins_at_the_newest_change(site: Site, target: Receiver) -> None:
    change(site, 3)
    sender = await site.start()
    change(site)
    sender.wake()
    assert numbers(await target.wait(1)) == [4]


async def test_a_webhook_goes_on_where_it_was(site: Site, target: Receiver) -> None:
    await site.start()
    await site.stop()
    site.thread = StoreThread()
    change(site, 3)
    await site.restart()
    await site.start()
    assert numbers(await target.wait(3)) == [1, 2, 3]


async def test_a_webhook_that_was_taken_out_of_the_configuration_begins_anew(site: Site, target: Receiver) -> None:
    await site.start()
    await site.stop()
    site.thread = StoreThread()
    change(site, 3)
    site.store.webhooks.keep({"other"})
    sender = await site.start()
    change(site)
    sender.wake()
    assert numbers(await target.wait(1)) == [4]


async def test_what_it_does_not_want_is_passed_over_for_good(site: Site, target: Receiver) -> None:
    site.hook = replace(site.hook, severity="major")
    sender = await site.start()
    change(site, 250, severity="minor")
    sender.wake()
    await site.at(250)
    change(site, kind="access.granted")
    change(site)
    sender.wake()
    await site.at(252)
    assert numbers(target.received) == [252]


POINTS = ("before the post", "while it is under way", "before the row", "after the row")


@pytest.mark.parametrize("seed", range(12))
async def test_killed_at_every_point_each_change_arrives_once_and_in_order(
    site: Site, target: Receiver, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """At least once by id; what a receiver keeps of it is exactly once."""
    random, kills = Random(seed), 0
    site.store.webhooks.begin("room")
    change(site, 8)
    while (site.row() or (0,))[0] < 8:
        sender = site.sender()
        _dies(sender, site, random.choice(POINTS), random.randrange(3), target, monkeypatch)
        run, done = asyncio.create_task(sender.run()), asyncio.create_task(site.at(8))
        await asyncio.wait([run, done], return_when=asyncio.FIRST_COMPLETED)
        kills += run.done()
        run.cancel()
        done.cancel()
        await asyncio.gather(run, done, return_exceptions=True)
        await site.restart()
    once = {each.id: each for each in target.received}
    assert numbers(list(once.values())) == list(range(1, 9))
    for each in target.received:
        assert each.body == once[each.id].body
    # A repetition is of the message that was under way, never of one before it.
    assert numbers(target.received) == sorted(numbers(target.received))
    assert kills > 1


def _dies(
    sender: Sender, site: Site, point: str, after: int, target: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    post, rows, count = sender._post, site.store.webhooks, itertools.count()
    real = rows.delivered

    def killed() -> None:
        raise Killed

    async def posting(message: Message) -> Answer:
        due = next(count) >= after
        if due and point == "before the post":
            raise Killed
        if due and point == "while it is under way":
            attempt, before = asyncio.ensure_future(post(message)), len(target.received)
            await target.wait(before + 1)
            attempt.cancel()
            await asyncio.wait([attempt])
            raise Killed
        if due:

            def writing(*args: Any) -> None:
                if point == "after the row":
                    real(*args)
                killed()

            monkeypatch.setattr(rows, "delivered", writing)
        return await post(message)

    sender._post = posting


async def test_a_receiver_that_fails_is_tried_again_with_jitter_and_a_cap(site: Site, target: Receiver) -> None:
    target.behave = lambda _: answer(500 if len(target.received) <= 20 else 204)
    sender = await site.start()
    change(site, 2)
    sender.wake()
    assert numbers(await target.wait(22)) == [1] * 21 + [2]
    assert len({each.id for each in target.received[:21]}) == 1
    slept = site.clock.slept
    assert len(slept) == 20
    assert all(1 <= each <= min(CAP_S, 2.0**n) or n == 0 for n, each in enumerate(slept))
    assert max(slept) > 100
    # Each attempt is signed for its own moment.
    times = [int(each.headers["webhook-timestamp"]) for each in target.received]
    assert times[20] - times[0] == pytest.approx(sum(slept), abs=2)
    assert sender.figures.failures == 20
    assert True not in site.troubles.told


async def test_what_failed_is_in_the_row_until_it_is_delivered(site: Site, target: Receiver) -> None:
    let_go = asyncio.Event()

    async def slow(writer: asyncio.StreamWriter) -> None:
        await let_go.wait()
        await answer(200)(writer)

    site.hook = replace(site.hook, timeout_s=WITHIN_S)
    target.behave = lambda _: answer(503) if len(target.received) == 1 else slow
    sender = await site.start()
    change(site)
    sender.wake()
    await target.wait(2)
    moved, attempts, due, failing, why, disabled = site.row() or ()
    assert (moved, attempts, failing, why, disabled) == (0, 1, rfc3339(START), "status 503", 0)
    assert due == rfc3339(site.clock.now())
    let_go.set()
    await site.at(1)
    assert site.row() == (1, 0, None, None, None, 0)


@pytest.mark.parametrize(("asked", "waited"), [("120", 120), ("100000", 3600), ("0", None)])
async def test_retry_after_is_honoured_within_bounds(
    site: Site, target: Receiver, asked: str, waited: float | None
) -> None:
    target.behave = lambda _: answer(429, Retry_After=asked) if len(target.received) == 1 else answer(200)
    sender = await site.start()
    change(site)
    sender.wake()
    await site.at(1)
    assert site.clock.slept == [waited] if waited else site.clock.slept[0] <= 1


async def test_what_the_receiver_asked_for_holds_over_a_restart(site: Site, target: Receiver) -> None:
    sender = site.sender()
    site.store.webhooks.begin("room")
    change(site)
    target.behave = lambda _: answer(503, Retry_After="60") if len(target.received) == 1 else answer(200)

    async def dies(_seconds: float) -> None:
        raise Killed

    sender._sleep = dies
    with pytest.raises(Killed):
        await sender.run()
    await site.start()
    await site.at(1)
    assert site.clock.slept == [60]


@pytest.mark.parametrize(
    ("behave", "why"),
    [
        (receiver.hang, "timeout"),
        (receiver.close, "closed"),
        (receiver.nonsense, "closed"),
        (answer(301, Location="/elsewhere"), "status 301"),
        (answer(307, Location="http://127.0.0.1:1/"), "status 307"),
        (answer(408), "status 408"),
        (answer(500, b"x" * 100), "status 500"),
        (receiver.endless_head, None),
    ],
)
async def test_whatever_a_receiver_does_the_next_attempt_comes(
    site: Site, target: Receiver, monkeypatch: pytest.MonkeyPatch, behave: Behave, why: str | None
) -> None:
    target.behave = lambda _: behave if len(target.received) == 1 else answer(200)
    sender = await site.start()
    told: list[str] = []
    failed = site.store.webhooks.failed

    def watched(*args: Any) -> None:
        told.append(args[3])
        failed(*args)

    monkeypatch.setattr(site.store.webhooks, "failed", watched)
    change(site)
    sender.wake()
    await site.at(1)
    assert len(told) == 1
    assert told == [why] if why else told[0] in {"closed", "timeout"}
    # No redirection was followed: both attempts went to the one address.
    assert [each.target for each in target.received] == ["POST /in HTTP/1.1"] * 2


async def test_an_endless_body_is_not_read(site: Site, target: Receiver) -> None:
    target.behave = lambda _: receiver.endless_body
    sender = await site.start()
    change(site, 3)
    sender.wake()
    await site.at(3)
    assert sender.figures.failures == 0


async def test_a_receiver_that_is_away_is_no_error_of_the_message(site: Site, target: Receiver) -> None:
    await target.stop()
    site.hook = replace(site.hook, give_up_s=3600)
    sender = await site.start()
    change(site)
    sender.wake()
    await site.at(1)
    assert site.given_up() == [(1, "too old: connect")]


async def test_a_receiver_that_is_gone_is_left_alone_until_the_next_start(site: Site, target: Receiver) -> None:
    target.behave = lambda _: answer(410)
    sender = await site.start()
    change(site, 3)
    sender.wake()
    await site.until(lambda: bool(site.troubles.told))
    assert site.troubles.told == [True]
    assert site.row() == (0, 1, None, rfc3339(START), "status 410", 1)
    change(site)
    sender.wake()
    target.behave = lambda _: answer(200)
    await site.start()
    await site.at(4)
    assert numbers(target.received) == [1, 1, 2, 3, 4]
    await site.until(lambda: site.troubles.told == [True, False])
    assert site.given_up() == []


async def test_a_message_that_is_refused_is_given_up_and_the_next_ones_go_out(site: Site, target: Receiver) -> None:
    target.behave = lambda got: answer(400 if numbers([got]) == [2] else 200)
    sender = await site.start()
    change(site, 3)
    sender.wake()
    await site.at(3)
    assert numbers(target.received) == [1, *[2] * REFUSALS, 3]
    assert site.given_up() == [(2, "refused: status 400")]
    # At the first delivery of this start, and once it goes on.
    await site.until(lambda: site.troubles.told == [False, True, False])
    assert sender.figures.given_up == 1


async def test_a_refusal_gives_up_no_other_message_however_old(site: Site, target: Receiver) -> None:
    site.store.webhooks.begin("room")
    change(site, 3, START - timedelta(days=3))
    target.behave = lambda got: answer(422 if numbers([got]) == [1] else 200)
    await site.start()
    await site.at(3)
    assert numbers(target.received) == [*[1] * REFUSALS, 2, 3]
    assert [number for number, _ in site.given_up()] == [1]


async def test_the_oldest_are_given_up_after_their_time_with_one_alarm(site: Site, target: Receiver) -> None:
    site.hook = replace(site.hook, give_up_s=3600)
    site.store.webhooks.begin("room")
    change(site, 230, START - timedelta(hours=30))
    change(site, 2, START + timedelta(minutes=30))
    target.behave = lambda _: answer(200 if site.given_up() else 500)
    await site.start()
    await site.at(232)
    attempts = len(target.received) - 2
    assert numbers(target.received) == [1] * attempts + [231, 232]
    assert sum(site.clock.slept[: attempts - 1]) >= 3600 > sum(site.clock.slept[: attempts - 2])
    assert len(site.given_up()) == 230
    assert {why for _, why in site.given_up()} == {"too old: status 500"}
    await site.until(lambda: site.troubles.told[-1:] == [False])
    assert site.troubles.told == [True, True, True, False]  # for each page of the table that was read


async def test_one_failure_gives_up_nothing_however_old(site: Site, target: Receiver) -> None:
    """A controller that was off for days has old changes, and a receiver may answer 503 once."""
    site.store.webhooks.begin("room")
    change(site, 3, START - timedelta(days=3))
    target.behave = lambda _: answer(503 if len(target.received) == 1 else 200)
    await site.start()
    await site.at(3)
    assert numbers(target.received) == [1, 1, 2, 3]
    assert site.given_up() == []


async def test_what_has_failed_before_a_restart_counts(site: Site, target: Receiver) -> None:
    site.hook = replace(site.hook, give_up_s=3600)
    site.store.webhooks.begin("room")
    change(site, 1, START - timedelta(hours=2))
    site.store.webhooks.failed("room", 3, None, "timeout", START - timedelta(hours=2))
    target.behave = lambda _: answer(500)
    await site.start()
    await site.at(1)
    assert numbers(target.received) == [1]


async def test_what_is_old_is_delivered_all_the_same_where_the_receiver_takes_it(site: Site, target: Receiver) -> None:
    site.store.webhooks.begin("room")
    change(site, 2, START - timedelta(days=30))
    await site.start()
    await site.at(2)
    assert numbers(target.received) == [1, 2]


async def test_a_message_about_a_webhook_that_is_given_up_raises_no_alarm(site: Site, target: Receiver) -> None:
    """Two webhooks that fail would otherwise tell of each other for ever."""
    site.store.webhooks.begin("room")
    change(site, kind="controller.webhook", detail="other", gate="", lane="")
    change(site, kind="controller.webhook", detail="room", gate="", lane="")
    target.behave = lambda _: answer(404)
    await site.start()
    await site.until(lambda: bool(site.given_up()))
    await site.at(1)
    assert True not in site.troubles.told


async def test_one_that_hangs_holds_up_no_other(site: Site, target: Receiver) -> None:
    other = Receiver()
    await other.start()
    site.hook = replace(site.hook, timeout_s=WITHIN_S)
    target.behave = lambda _: receiver.hang
    stuck = await site.start()
    site.hook = replace(site.hook, name="other", url=other.url)
    free = await site.start()
    await site.until(lambda: site.db.execute("SELECT count(*) FROM webhooks").fetchone()[0] == 2)
    change(site, 5)
    stuck.wake()
    free.wake()
    assert numbers(await other.wait(5)) == [1, 2, 3, 4, 5]
    assert numbers(await target.wait(1)) == [1]
    await other.stop()


async def test_a_store_that_cannot_write_delays_nothing_but_itself(
    site: Site, target: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message was taken; only its row is written later, and it is not sent again meanwhile."""
    real, failures = site.store.webhooks.delivered, [2]

    def full(*args: Any) -> None:
        if failures[0]:
            failures[0] -= 1
            raise OSError(28, "No space left on device")
        real(*args)

    monkeypatch.setattr(site.store.webhooks, "delivered", full)
    sender = await site.start()
    change(site, 2)
    sender.wake()
    await site.at(2)
    assert numbers(target.received) == [1, 2]
    assert len(site.clock.slept) == 2


async def test_an_alarm_that_cannot_be_written_is_written_later(site: Site, target: Receiver) -> None:
    failures = [sqlite3.OperationalError("database or disk is full"), OSError(28, "No space left on device")]
    real = site.troubles.trouble

    async def full(kind: str, detail: str, *, holds: bool) -> None:
        if failures:
            raise failures.pop()
        await real(kind, detail, holds=holds)

    site.troubles.trouble = full  # type: ignore[method-assign]
    sender = await site.start()
    change(site)
    sender.wake()
    await site.until(lambda: site.troubles.told == [False])
    assert numbers(target.received) == [1]
    assert failures == []


async def test_neither_url_nor_secret_nor_answer_is_logged(
    site: Site, target: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    site.hook = replace(site.hook, url=target.url + "?token=verysecret")
    target.behave = lambda _: answer(500 if len(target.received) == 1 else 200, b"what-it-says")
    sender = await site.start()
    change(site)
    sender.wake()
    await site.at(1)
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "webhook room: not taken: status 500" in text
    assert not any(each in text for each in ("verysecret", "127.0.0.1", "what-it-says", "v1,"))


async def test_proxies_of_the_environment_are_not_used(
    site: Site, target: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    sender = await site.start()
    change(site)
    sender.wake()
    await site.at(1)
    assert sender.figures.failures == 0


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[tuple[Receiver, DevicePki]]:
    pki = await asyncio.to_thread(DevicePki, tmp_path / "tls", datetime.now(UTC))
    identity = pki.server()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(identity.certificate, identity.key)
    target = Receiver()
    await target.start(context)
    yield target, pki
    await target.stop()


async def test_https_verifies_the_receiver_by_the_roots_that_are_configured(
    site: Site, secure: tuple[Receiver, DevicePki]
) -> None:
    target, pki = secure
    site.hook = replace(site.hook, url=target.url, ca=pki.ca, timeout_s=WITHIN_S)
    sender = await site.start()
    change(site)
    sender.wake()
    await site.at(1)
    assert numbers(target.received) == [1]


@pytest.mark.parametrize("which", ["a root of others", "another name"])
async def test_a_wrong_certificate_gets_nothing(
    site: Site, secure: tuple[Receiver, DevicePki], tmp_path: Path, which: str
) -> None:
    target, pki = secure
    ca = pki.ca
    if which == "a root of others":
        ca = (await asyncio.to_thread(DevicePki, tmp_path / "others", datetime.now(UTC))).ca
    else:
        target.url = target.url.replace("127.0.0.1", "127.0.0.2")
    site.hook = replace(site.hook, url=target.url, ca=ca, timeout_s=WITHIN_S, give_up_s=3600)
    sender = await site.start()
    if which == "another name":
        # The server listens on 127.0.0.1 alone; what answers on 127.0.0.2 is the same certificate through a relay.
        server = await asyncio.start_server(partial(_relay, target), "127.0.0.2", int(target.url.split(":")[2][:-3]))
    change(site)
    sender.wake()
    await site.at(1)
    assert site.given_up() == [(1, "too old: tls")]
    assert target.received == []
    if which == "another name":
        server.close()


async def _relay(target: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    port = int(target.url.split(":")[2].split("/")[0])
    there, here = await asyncio.open_connection("127.0.0.1", port)

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(4096):
            sink.write(data)
        sink.close()

    await asyncio.gather(pass_on(reader, here), pass_on(there, writer), return_exceptions=True)


def test_roots_that_are_none_are_told_at_start(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("no certificate")
    hook = Webhook("room", "https://r.example", Path("s.key"), frozenset(Category), "warning", ca, 10, 86400)
    with pytest.raises(CaError, match="webhook room"):
        Post(hook, [SECRET], Held())
