"""Orders by HTTP: nothing without the token, nothing that is not JSON, and every answer says what came of the order."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from controller import web
from controller.commands import Commands, Order, Prepared, Result
from controller.commands_api import CommandsApi
from controller.emergency import EmergencyState
from controller.requests import HANDLERS, MAX_BODY, make_token
from protocol import command as wire
from protocol.command import CommandError, Operator

TOKEN = "token-of-this-test"
KEY = ec.generate_private_key(ec.SECP256R1())
BODY: dict[str, Any] = {"gate": "gate-1", "lane": "l1", "verb": "release", "operator": "Kim", "role": "guard"}
FREE = {**BODY, "verb": "free", "second": {"operator": "Lee", "role": "chief"}}
LEVELS: dict[str, Any] = {"levels": {"lobby": 2}, "operator": "Kim", "role": "chief"}


class Desk(Commands):
    """Gives what it is asked as done."""

    def __init__(self) -> None:
        self.given: list[Order] = []
        self.sent: list[tuple[Prepared, str | None]] = []
        self.waiting: dict[str, Prepared] = {}

    async def give(self, order: Order) -> Result:
        if order.needs_second:
            raise CommandError("a second operator is expected")
        self.given.append(order)
        return Result("c-1", "done", None, {order.lane: None})

    async def prepare(self, order: Order) -> Prepared | Result:
        self.given.append(order)
        found = Prepared("c-2", order.gate, b"payload", 10)
        self.waiting["c-2"] = found
        return found

    def prepared(self, order_id: str) -> Prepared | None:
        return self.waiting.pop(order_id, None)

    async def send(self, prepared: Prepared, second: str | None = None) -> Result:
        self.sent.append((prepared, second))
        return Result(prepared.id, "done")


class State(EmergencyState):
    def __init__(self) -> None:
        self.levels: list[Mapping[str, int]] = []

    async def set(self, levels: Mapping[str, int], operator: Operator) -> Result:
        self.levels.append(levels)
        return Result("c-3", "done")


class Site:
    def __init__(self, api: CommandsApi) -> None:
        self.server = web.server(web.Guard(Starlette(routes=api.routes(), exception_handlers=HANDLERS)))
        self.sock = web.listen("127.0.0.1", 0)
        self.port = self.sock.getsockname()[1]

    async def post(
        self, path: str, body: object, token: str = TOKEN, kind: str = "application/json"
    ) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()

        def work() -> tuple[int, Any]:
            headers = {"Content-Type": kind, "Authorization": f"Bearer {token}"}
            request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", raw, headers)
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  loopback
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.load(error)

        return await asyncio.to_thread(work)


class Place:
    def __init__(self, site: Site, desk: Desk, state: State) -> None:
        self.site, self.desk, self.state = site, desk, state


async def serve(api: CommandsApi) -> AsyncIterator[Site]:
    site = Site(api)
    task = asyncio.create_task(site.server.serve([site.sock]))
    yield site
    site.server.should_exit = True
    await task
    site.sock.close()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    desk, state = Desk(), State()
    async for site in serve(CommandsApi(desk, state, TOKEN)):
        yield Place(site, desk, state)


async def test_an_order_is_given_and_what_came_of_it_is_answered(place: Place) -> None:
    body = {**BODY, "args": {"level": 2}, "verb": "lockdown"}
    status, answer = await place.site.post("/api/v1/commands", body)
    assert (status, answer) == (200, {"id": "c-1", "outcome": "done", "reason": None, "results": {"l1": None}})
    (order,) = place.desk.given
    assert (order.operator, order.args, order.verb) == (Operator("Kim", "guard"), {"level": 2}, "lockdown")


async def test_an_order_of_two_waits_for_a_signature_over_the_same_bytes_and_is_sent_once(place: Place) -> None:
    status, answer = await place.site.post("/api/v1/commands", FREE)
    assert (status, answer) == (202, {"id": "c-2", "sign": wire.to_text(b"payload")})
    sealed = wire.seal(b"payload", KEY)
    assert (await place.site.post("/api/v1/commands/c-2/second", {"sealed": sealed}))[0] == 200
    assert (await place.site.post("/api/v1/commands/c-2/second", {"sealed": sealed}))[0] == 404
    assert [second for _, second in place.desk.sent] == [sealed]


async def test_a_signature_over_other_bytes_is_not_sent(place: Place) -> None:
    await place.site.post("/api/v1/commands", FREE)
    assert (await place.site.post("/api/v1/commands/c-2/second", {"sealed": wire.seal(b"other", KEY)}))[0] == 400
    assert (await place.site.post("/api/v1/commands/c-2/second", {"sealed": "x"}))[0] == 400
    assert place.desk.sent == []


async def test_the_emergency_state_is_changed(place: Place) -> None:
    assert (await place.site.post("/api/v1/emergency", LEVELS))[0] == 200
    assert place.state.levels == [{"lobby": 2}]


@pytest.mark.parametrize("path", ["/api/v1/commands", "/api/v1/commands/c-2/second", "/api/v1/emergency"])
async def test_nothing_is_done_without_the_token_or_for_a_form_of_a_page(place: Place, path: str) -> None:
    body = LEVELS if path.endswith("emergency") else BODY
    for token in ("", "wrong", TOKEN + "x", TOKEN[:-1]):
        assert (await place.site.post(path, body, token=token))[0] == 401
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert (await place.site.post(path, body, kind=kind))[0] == 415
    assert place.desk.given == []
    assert place.state.levels == []


WRONG: list[object] = [
    b"",
    b"{",
    b"[]",
    b"[" * 5000,
    b" " * (MAX_BODY + 1),
    {},
    {**BODY, "more": 1},
    {**BODY, "verb": "reset"},
    {**BODY, "verb": "free"},
    {**BODY, "verb": 5},
    {**BODY, "operator": ""},
    {**BODY, "role": "a b"},
    {**BODY, "args": [1]},
    {**BODY, "args": {"level": None}},
    {**FREE, "second": "Lee"},
    {**FREE, "second": {"operator": "Lee"}},
]


@pytest.mark.parametrize("body", WRONG)
async def test_what_is_no_order_is_one_error_that_says_what_is_expected(place: Place, body: object) -> None:
    status, answer = await place.site.post("/api/v1/commands", body)
    assert status == (413 if isinstance(body, bytes) and len(body) > MAX_BODY else 400)
    assert "expected" in answer["error"]["en"]
    assert place.desk.given == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FREE, "args", "x"]), inner),
        max_leaves=10,
    )
)
async def test_whatever_is_posted_is_an_answer_of_ours(place: Place, body: object) -> None:
    status, _ = await place.site.post("/api/v1/commands", body)
    assert status in {200, 202, 400}


async def test_a_controller_without_keys_says_so() -> None:
    async for site in serve(CommandsApi(None, None, TOKEN)):
        for path in ("/api/v1/commands", "/api/v1/commands/c-2/second", "/api/v1/emergency"):
            status, answer = await site.post(path, BODY)
            assert (status, "[commands]" in answer["error"]["en"]) == (503, True)


def test_the_token_is_made_once_and_only_its_user_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "api-token"
    token = make_token(path)
    assert len(token) >= 40
    assert make_token(path) == token
    assert path.stat().st_mode & 0o777 == 0o600
