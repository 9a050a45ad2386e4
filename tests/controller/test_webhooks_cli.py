"""`gwanmun controller webhooks`: what it shows, and one message to try a webhook."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from controller.store import Store
from gwanmun.controller_cli import main
from tests.controller.conftest import START
from tests.controller.receiver import Receiver, answer


@pytest.fixture
def config(tmp_path: Path) -> Path:
    secret = tmp_path / "s.key"
    secret.touch(0o600)
    secret.write_text("whsec_" + base64.b64encode(bytes(32)).decode())
    file = tmp_path / "controller.toml"
    file.write_text('site = "hq"\nstate_dir = "."\n[webhooks.room]\nurl = "https://r.example/in"\nsecret = "s.key"\n')
    return file


def test_it_shows_how_far_each_webhook_is(
    config: Path, open_store: Callable[[], Store], capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store()
    assert main(["webhooks", "--config", str(config)]) == 0
    assert "There are no webhooks" in capsys.readouterr().out
    for name in ("fine", "gone", "stuck"):
        store.webhooks.begin(name)
    with sqlite3.connect(config.parent / "controller.db") as db:
        db.executemany(
            "INSERT INTO alarm_changes (alarm, time, change, body) VALUES (1, ?, 'raised', '{}')", [("t",)] * 3
        )
    db.close()
    store.webhooks.delivered("fine", 3, START)
    store.webhooks.failed("gone", 1, None, "status 410", START, disabled=True)
    store.webhooks.failed("stuck", 9, START + timedelta(seconds=5), "timeout", START)
    store.webhooks.give_up("stuck", [1, 2], "too old", START)
    assert main(["webhooks", "--config", str(config)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "fine  대기 waiting 0  마지막 전달 last delivered 2026-11-24T09:00:00.000Z",
        "gone  대기 waiting 3  꺼짐 disabled: status 410",
        "stuck  대기 waiting 1  실패 failing since 2026-11-24T09:00:00.000Z: timeout (9)  포기 given up 2",
    ]


def test_what_is_wrong_is_told_in_two_languages(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["webhooks", "--config", str(config)]) == 1
    assert "데이터베이스" in capsys.readouterr().err
    assert main(["webhooks", "--config", str(config), "--test", "other"]) == 2
    assert "no such webhook" in capsys.readouterr().err
    (config.parent / "s.key").write_text("short")
    assert main(["webhooks", "--config", str(config), "--test", "room"]) == 2
    assert "whsec_" in capsys.readouterr().err
    config.write_text("site = 3")
    assert main(["webhooks", "--config", str(config)]) == 2
    assert "site" in capsys.readouterr().err


def _point(config: Path, url: str) -> None:
    config.write_text(config.read_text().replace("https://r.example/in", url))


async def test_a_test_message_is_signed_and_sent_once(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = Receiver()
    await target.start()
    _point(config, target.url)
    arguments = ["webhooks", "--config", str(config), "--test", "room"]
    assert await asyncio.to_thread(main, arguments) == 0
    assert "delivered (status 200)" in capsys.readouterr().out
    body = json.loads(target.received[0].body)
    assert (body["type"], body["source"], body["data"]) == ("gwanmun.webhook.test", "/hq/controller", {})
    assert target.received[0].headers["webhook-signature"].startswith("v1,")
    target.behave = lambda _: answer(503)
    assert await asyncio.to_thread(main, arguments) == 1
    assert "not delivered (status 503)" in capsys.readouterr().err
    assert len({each.id for each in target.received}) == 2
    await target.stop()
